//! Questions to the DNS: one name and type in, one [`Reply`] out.
//!
//! [`Dns::look_up`] follows aliases one question at a time, within a time and a number of messages, and says what the
//! records of any type are and what they are worth. Who says so is a [`Trust`]: [`validating`] here, with a chain of
//! signatures from an [`anchor`] that [`delegation`], [`denial`] and [`signature`] check again where hickory's validator leaves
//! something open; or [`believing`] a validating resolver. Both read a message in the same way ([`answer`]). Below them
//! [`wire`] asks the servers ([`server`]) over [`connection`]s, with one form of [`query`], and hears why they fail
//! ([`extended`]).

mod anchor;
mod answer;
mod believing;
mod connection;
mod delegation;
mod denial;
mod extended;
mod query;
mod server;
mod signature;
mod validating;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use certdir_certificate::UnixTime;
use certdir_zones::{Name as OwnerName, RecordType as Type};
use hickory_resolver::proto::rr::{Name, RecordType};

pub(crate) use anchor::TrustAnchors;
pub use server::NameServer;

use answer::{AliasKind, Says, Step, hickory_name};
use believing::Believing;
use validating::Validating;
use wire::{LookUp, Wire};

use crate::error::Error;
use crate::outcome::Failure;
use crate::resolver::FAILURE_LIFE;
use crate::trace::{Dnssec, Question};

/// The longest that a found certificate is believed, in seconds, whatever its TTL (one day).
pub const MAX_POSITIVE_LIFE: UnixTime = 86_400;

/// The longest that an absence is believed, in seconds (RFC 2308 section 5: one to three hours).
pub const MAX_NEGATIVE_LIFE: UnixTime = 10_800;

/// CNAME and DNAME records followed for one question.
const MAX_ALIASES: usize = 8;

/// Who says what an answer is worth.
trait Trust: Send + Sync {
    /// Asks for one name; aliases are not followed.
    fn ask<'a>(&'a self, name: &'a Name, record_type: RecordType, now: UnixTime) -> Asking<'a>;
}

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Step, Failure>> + Send + 'a>>;

/// The DNS, as seen through the configured servers.
pub(crate) struct Dns {
    trust: Box<dyn Trust>,
    timeout: Duration,
}

/// What the DNS says about one name and type, and how that was established.
pub(crate) struct Reply {
    pub(crate) said: Said,
    /// It may be used until this second, exclusive.
    pub(crate) until: UnixTime,
    pub(crate) question: Question,
}

/// What the DNS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Secure records, as RDATA, in the order of the answer; never empty. `wildcard`: made from one.
    Records { rdata: Vec<Vec<u8>>, wildcard: bool },
    /// Proven not to be there; `own_name`: the name itself exists and holds other records.
    Absent { own_name: bool },
    /// Known not to be signed. What is said there all the same, which is nobody's word and may be nothing, is for those
    /// who need no proof.
    NotSigned { reason: String, unproven: Result<Unproven, Failure> },
    /// Nothing can be said.
    Failed(Failure),
}

/// RDATA without proof, and until when it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unproven {
    pub(crate) rdata: Vec<Vec<u8>>,
    pub(crate) until: UnixTime,
}

impl Dns {
    /// Validates here, from `anchors` on. `timeout` is for one whole look-up.
    pub(crate) fn validating(servers: &[NameServer], anchors: TrustAnchors, timeout: Duration) -> Self {
        Dns { trust: Box::new(Validating::new(Wire::new(servers, timeout).direct(), anchors)), timeout }
    }

    /// Believes the AD bit of validating resolvers.
    ///
    /// # Errors
    /// When one of them is neither on this machine nor proves by TLS who it is: everybody on the way could set the bit.
    pub(crate) fn believing(servers: &[NameServer], timeout: Duration) -> Result<Self, Error> {
        if let Some(server) = servers.iter().find(|server| !server.is_safe_to_believe()) {
            return Err(Error::UnsafeToBelieve { server: server.address() });
        }
        Ok(Dns { trust: Box::new(Believing::new(Wire::new(servers, timeout))), timeout })
    }

    /// Asks for the records of one type at a name, for a source of this label. Never takes longer than the timeout; a
    /// failure is a reply.
    ///
    /// Cancellation-safe: what was learned of keys and delegations is kept, the rest is dropped.
    pub(crate) async fn look_up(
        &self,
        source: &Arc<str>,
        owner: &OwnerName,
        record_type: Type,
        now: UnixTime,
    ) -> Reply {
        let look_up = LookUp::new(now);
        let mut aliases = Vec::new();
        let result = match hickory_name(owner) {
            Ok(name) => {
                let asking = look_up.scope(self.chase(name, RecordType::from(record_type.0), now, &mut aliases));
                match tokio::time::timeout(self.timeout, asking).await {
                    Ok(result) => result,
                    Err(_) => Err(Failure::new("timeout", "no validated answer in time")),
                }
            }
            Err(failure) => Err(failure),
        };
        let (said, until) = result.unwrap_or_else(|failure| {
            // The validator calls it bogus when a key or a delegation could not be fetched, and knows of a server's error
            // only its code; what was exchanged says more.
            let explains =
                |cause: &Failure| failure.code == cause.code || matches!(failure.code, "bogus" | "server-failure");
            let cause = look_up.failure().filter(explains);
            (Said::Failed(cause.unwrap_or(failure)), now.saturating_add(FAILURE_LIFE))
        });
        let (dnssec, message) = said.describe();
        let question = Question {
            source: Arc::clone(source),
            name: owner.to_string(),
            kind: record_type.mnemonic().unwrap_or("other"),
            dnssec: Some(dnssec),
            message,
            asked_at: now,
            aliases,
            exchanges: look_up.exchanges(),
        };
        Reply { said, until, question }
    }

    async fn chase(
        &self,
        name: Name,
        record_type: RecordType,
        now: UnixTime,
        aliases: &mut Vec<String>,
    ) -> Result<(Said, UnixTime), Failure> {
        let mut name = name;
        let mut end = UnixTime::MAX;
        let (mut own, mut from_wildcard) = (false, false);
        for _ in 0..=MAX_ALIASES {
            match self.trust.ask(&name, record_type, now).await? {
                Step::Records { rdata, wildcard, until } => {
                    let wildcard = wildcard || from_wildcard;
                    return Ok((Said::Records { rdata, wildcard }, end.min(until)));
                }
                Step::Absent { exists, until } => {
                    // After a wildcard's alias it is the wildcard that leads nowhere.
                    let own_name = own || (exists && !from_wildcard);
                    return Ok((Said::Absent { own_name }, end.min(until)));
                }
                Step::NotSigned { reason, claimed, until } => {
                    let until = end.min(until);
                    let unproven = match claimed.says {
                        Says::Records(rdata) => Ok(Unproven { rdata, until: until.min(claimed.until) }),
                        Says::Alias(target) => self.follow(target, record_type, now, claimed.until, aliases).await,
                    };
                    return Ok((Said::NotSigned { reason, unproven }, until));
                }
                Step::Alias { target, kind, until } => {
                    aliases.push(target.to_string());
                    end = end.min(until);
                    own |= kind == AliasKind::Own && !from_wildcard;
                    from_wildcard |= kind == AliasKind::Wildcard && !own;
                    name = target;
                }
            }
        }
        Err(alias_loop())
    }

    /// Where an alias without proof leads. What is proven there is not proven for the name that was asked for.
    async fn follow(
        &self,
        target: Name,
        record_type: RecordType,
        now: UnixTime,
        until: UnixTime,
        aliases: &mut Vec<String>,
    ) -> Result<Unproven, Failure> {
        let (mut name, mut end) = (target, until);
        while aliases.len() <= MAX_ALIASES {
            aliases.push(name.to_string());
            match self.trust.ask(&name, record_type, now).await? {
                Step::Records { rdata, until, .. } => return Ok(Unproven { rdata, until: end.min(until) }),
                Step::Absent { until, .. } => return Ok(Unproven { rdata: Vec::new(), until: end.min(until) }),
                Step::NotSigned { claimed, until, .. } => {
                    end = end.min(until).min(claimed.until);
                    match claimed.says {
                        Says::Records(rdata) => return Ok(Unproven { rdata, until: end }),
                        Says::Alias(target) => name = target,
                    }
                }
                Step::Alias { target, until, .. } => {
                    end = end.min(until);
                    name = target;
                }
            }
        }
        Err(alias_loop())
    }
}

fn alias_loop() -> Failure {
    Failure::new("alias-loop", format!("more than {MAX_ALIASES} CNAME or DNAME records in a row"))
}

impl Said {
    /// The DNSSEC state, and what is said, for a person.
    fn describe(&self) -> (Dnssec, String) {
        let count = |rdata: &[Vec<u8>]| match rdata.len() {
            1 => "1 record".to_owned(),
            n => format!("{n} records"),
        };
        match self {
            Said::Records { rdata, wildcard } => {
                let from = if *wildcard { " made from a wildcard" } else { "" };
                (Dnssec::Secure, format!("{}{from}", count(rdata)))
            }
            Said::Absent { own_name: true } => {
                (Dnssec::Secure, "the name holds other records and none of this type".to_owned())
            }
            Said::Absent { own_name: false } => (Dnssec::Secure, "proven not to exist".to_owned()),
            Said::NotSigned { reason, unproven: Ok(Unproven { rdata, .. }) } if !rdata.is_empty() => {
                (Dnssec::Insecure, format!("{reason}; {} without proof", count(rdata)))
            }
            Said::NotSigned { reason, .. } => (Dnssec::Insecure, reason.clone()),
            Said::Failed(failure) => {
                let state = if failure.code == "bogus" { Dnssec::Bogus } else { Dnssec::Indeterminate };
                (state, failure.message.clone())
            }
        }
    }
}
