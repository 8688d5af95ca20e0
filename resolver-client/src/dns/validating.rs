//! Validating here: hickory's validator, and what it leaves to us.
//!
//! [`DnssecDnsHandle`] checks signatures and denials; this module drives it and believes no more than it must: it looks at
//! owner, type and proof of every record that it uses, checks signature times by its own clock, and takes "not signed"
//! only with a delegation that it has seen proven itself ([`super::delegation`]). Everything else is a failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certdir_certificate::UnixTime;
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::proto::rr::{Name, Record, RecordType};

use super::anchor::{Primed, TrustAnchors};
use super::answer::{self, Absence, Step, absent, alias, leaves_room, records};
use super::delegation::insecure_cut;
use super::wire::{LookUp, Rooted, Wire, failure_of};
use super::{Asking, Trust};
use crate::outcome::Failure;

/// Keys primed longer ago than this, in seconds, are fetched again before an answer counts as bogus: the zone may have
/// changed its signing key.
const REPRIME_AFTER: UnixTime = 10;

/// Verified signatures that the validator remembers for each anchor.
const VALIDATION_CACHE: usize = 65_536;

/// The longest that a verified signature is remembered without looking at its end again; the TTL on the wire, which
/// nobody signs, would be the library's bound.
const VALIDATION_LIFE: Duration = Duration::from_secs(60);

pub(crate) type Validator = DnssecDnsHandle<Rooted>;

/// Believes what a chain of signatures from a trust anchor proves.
pub(crate) struct Validating {
    wire: Wire,
    anchors: TrustAnchors,
    /// Validators by the zone of their anchor.
    validators: Mutex<HashMap<Name, Arc<Anchored>>>,
}

/// A validator that trusts the keys of one anchored zone.
struct Anchored {
    zone: Name,
    validator: Validator,
    since: UnixTime,
    until: UnixTime,
}

impl Trust for Validating {
    fn ask<'a>(&'a self, name: &'a Name, record_type: RecordType, now: UnixTime) -> Asking<'a> {
        Box::pin(async move {
            let step = self.validate(name, record_type, now).await?;
            self.wire.keep();
            Ok(step)
        })
    }
}

impl Validating {
    pub(crate) fn new(wire: Wire, anchors: TrustAnchors) -> Self {
        Validating { wire, anchors, validators: Mutex::default() }
    }

    async fn validate(&self, name: &Name, record_type: RecordType, now: UnixTime) -> Result<Step, Failure> {
        let anchored = self.anchored(name, now, UnixTime::MIN).await?;
        match read(&anchored, name, record_type, now).await {
            Err(failure) if failure.code == "bogus" => {
                // What was known of the chain may be of yesterday.
                let had_old_links = LookUp::begin_afresh();
                let since = now.saturating_sub(REPRIME_AFTER);
                let again = self.anchored(name, now, since).await?;
                if !had_old_links && Arc::ptr_eq(&again, &anchored) {
                    return Err(failure);
                }
                read(&again, name, record_type, now).await
            }
            result => result,
        }
    }

    /// The validator for a name, primed not before `since`.
    async fn anchored(&self, name: &Name, now: UnixTime, since: UnixTime) -> Result<Arc<Anchored>, Failure> {
        let Some(zone) = self.anchors.zone_for(name) else {
            let message = format!("no trust anchor at or above {name}: the answer could not be validated");
            return Err(Failure::new("no-trust-anchor", message));
        };
        let known = self.validators().get(zone).cloned();
        if let Some(known) = known.filter(|v| now < v.until && v.since >= since) {
            return Ok(known);
        }
        let Primed { keys, records, until } = self.anchors.prime(zone, &self.wire, now).await?;
        let below = Rooted::new(self.wire.clone(), zone.clone(), records)?;
        let validator = DnssecDnsHandle::with_trust_anchor(below, Arc::new(keys))
            .validation_cache_size(VALIDATION_CACHE)
            .positive_validation_ttl(Duration::ZERO..=VALIDATION_LIFE)
            .negative_validation_ttl(Duration::ZERO..=Duration::ZERO);
        let since = now;
        let zone = zone.clone();
        let anchored = Arc::new(Anchored { zone: zone.clone(), validator, since, until });
        self.validators().insert(zone, Arc::clone(&anchored));
        Ok(anchored)
    }

    fn validators(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Arc<Anchored>>> {
        // Every value is whole, whatever panicked.
        self.validators.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One validated question.
pub(crate) async fn validated(
    validator: &Validator,
    name: &Name,
    record_type: RecordType,
) -> Result<DnsResponse, NetError> {
    let query = Query::query(name.clone(), record_type);
    validator.lookup(query, DnsRequestOptions::default()).first_answer().await
}

async fn read(anchored: &Anchored, name: &Name, record_type: RecordType, now: UnixTime) -> Result<Step, Failure> {
    let (message, denial) = match validated(&anchored.validator, name, record_type).await {
        Ok(message) => (message, Ok(())),
        // The library has an objection to the denial. An alias and a record stand by their own signatures: the denial
        // beside an alias speaks of its target, which is asked for anew, and what proves a wildcard is checked here
        // (the library wants NSEC records to deny the wildcard that the answer comes from).
        Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => {
            let failure = match proof {
                // RFC 9276 section 3.2: above 100 iterations nothing is proven.
                Proof::Insecure => Failure::new("nsec3-iterations", "the denial uses too many NSEC3 iterations"),
                _ => Failure::new("bogus", "the answer lacks a valid proof"),
            };
            (*response, Err(failure))
        }
        Err(error) => return Err(failure_of(&error)),
    };
    let is_found =
        |r: &&Record| r.name == *name && (r.record_type() == record_type || r.record_type() == RecordType::CNAME);
    let proofs = || message.answers.iter().filter(is_found).map(|r| r.proof);
    if leaves_room(name, &message) {
        let what = "the proof of the wildcard leaves room for unsigned delegations";
        return not_signed(anchored, name, record_type, &message, now, what).await;
    }
    if let Some(step) = alias(name, &message, now)? {
        return Ok(step);
    }
    let found = proofs().next().is_some();
    if found
        && proofs().all(|p| p == Proof::Secure)
        && let Some(step) = records(name, record_type, &message, now)?
    {
        return Ok(step);
    }
    denial?;
    if !found {
        return match absent(name, &message, now)? {
            Absence::Proven { exists, until } => Ok(Step::Absent { exists, until }),
            Absence::Unproven { opted_out: false } => {
                not_signed(anchored, name, record_type, &message, now, "the denial has no proof").await
            }
            Absence::Unproven { opted_out: true } => {
                let what = "the denial leaves room for unsigned delegations";
                not_signed(anchored, name, record_type, &message, now, what).await
            }
        };
    }
    if proofs().all(|p| p == Proof::Insecure) {
        return not_signed(anchored, name, record_type, &message, now, "the answer is not signed").await;
    }
    Err(Failure::new("bogus", "the signature of the answer cannot be validated"))
}

/// An answer that would be right in a domain that is not signed: only a proven delegation makes it so.
async fn not_signed(
    anchored: &Anchored,
    name: &Name,
    record_type: RecordType,
    message: &DnsResponse,
    now: UnixTime,
    what: &str,
) -> Result<Step, Failure> {
    match insecure_cut(&anchored.validator, &anchored.zone, name, now).await? {
        Some(cut) => {
            let claimed = answer::claimed(name, record_type, message, now)?;
            let reason = format!("{} is proven not to be signed", cut.name);
            Ok(Step::NotSigned { reason, claimed, until: cut.until })
        }
        None => Err(Failure::new("bogus", format!("{what}, and no delegation is proven to be unsigned"))),
    }
}
