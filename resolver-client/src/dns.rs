//! The DNS source: one owner name in, one [`Outcome`] out.
//!
//! hickory's validator ([`DnssecDnsHandle`]) checks signatures and denials; this module drives it and believes no more
//! than it must: it looks at owner, type and proof of every record that it uses, checks signature times by its own
//! clock, follows aliases one question at a time, and takes "not signed" only with a delegation that it has seen
//! proven itself ([`crate::delegation`]). Everything else is a failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certdir_certificate::UnixTime;
use certdir_zones::{Name as OwnerName, smimea_owner};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::SMIMEA;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::anchor::{Primed, TrustAnchors};
use crate::delegation::{Cut, insecure_cut};
use crate::denial::{denials, is_denial};
use crate::outcome::{Candidate, Failure, Match, Outcome};
use crate::resolver::FAILURE_LIFE;
use crate::signature::Validity;
use crate::source::{Answer, Asking, Level, Source, Subject};
use crate::trace::{Dnssec, Question};
use crate::wire::{LookUp, Rooted, Wire, failure_of};

/// The longest that a found certificate is believed, in seconds, whatever its TTL (one day).
pub const MAX_POSITIVE_LIFE: UnixTime = 86_400;

/// The longest that an absence is believed, in seconds (RFC 2308 section 5: one to three hours).
pub const MAX_NEGATIVE_LIFE: UnixTime = 10_800;

/// CNAME and DNAME records followed for one question.
const MAX_ALIASES: usize = 8;

/// Keys primed longer ago than this, in seconds, are fetched again before an answer counts as bogus: the zone may have
/// changed its signing key.
const REPRIME_AFTER: UnixTime = 10;

/// Verified signatures that the validator remembers for each anchor.
const VALIDATION_CACHE: usize = 65_536;

/// The longest that a verified signature is remembered without looking at its end again; the TTL on the wire, which
/// nobody signs, would be the library's bound.
const VALIDATION_LIFE: Duration = Duration::from_secs(60);

pub(crate) type Validator = DnssecDnsHandle<Rooted>;

/// The source of SMIMEA records.
pub(crate) struct Dns {
    wire: Wire,
    anchors: TrustAnchors,
    /// Validators by the zone of their anchor.
    validators: Mutex<HashMap<Name, Arc<Anchored>>>,
    timeout: Duration,
}

/// A validator that trusts the keys of one anchored zone.
struct Anchored {
    zone: Name,
    validator: Validator,
    since: UnixTime,
    until: UnixTime,
}

/// What one validated answer says about one name.
enum Step {
    Records {
        candidates: Arc<[Candidate]>,
        wildcard: bool,
        until: UnixTime,
    },
    Alias {
        target: Name,
        /// How far the alias speaks for the name itself.
        kind: AliasKind,
        until: UnixTime,
    },
    /// NXDOMAIN or NODATA; `exists` when records of other types are at the name itself.
    Absent {
        exists: bool,
        until: UnixTime,
    },
    NotSigned {
        cut: Cut,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AliasKind {
    /// A CNAME at the name: the name has a record of its own.
    Own,
    /// A CNAME made from a wildcard.
    Wildcard,
    /// A DNAME above it.
    Subtree,
}

impl Dns {
    pub(crate) fn new(wire: Wire, anchors: TrustAnchors, timeout: Duration) -> Self {
        Dns { wire, anchors, validators: Mutex::default(), timeout }
    }

    /// Asks for the SMIMEA records of an owner name. Never takes longer than the timeout.
    async fn smimea(&self, owner: &OwnerName, matched: Match, now: UnixTime) -> Answer {
        let look_up = LookUp::new(now);
        let mut aliases = Vec::new();
        let result = match hickory_name(owner) {
            Ok(name) => {
                let asking = look_up.scope(self.chase(name, now, &mut aliases));
                match tokio::time::timeout(self.timeout, asking).await {
                    Ok(result) => result,
                    Err(_) => Err(Failure::new("timeout", "no validated answer in time")),
                }
            }
            Err(failure) => Err(failure),
        };
        let (outcome, until) = match result {
            Ok((Outcome::Found(candidates), until)) if matched == Match::Domain => {
                // At the domain's own name a wildcard's record is the wildcard's still.
                let own = |c: &Candidate| if c.matched == Match::Wildcard { c.matched } else { matched };
                let candidates = candidates.iter().map(|c| Candidate { matched: own(c), ..c.clone() });
                (Outcome::Found(candidates.collect()), until)
            }
            Ok(outcome) => outcome,
            Err(failure) => {
                // The validator calls it bogus when a key or a delegation could not be fetched; say what was.
                let failure = match (failure.code, look_up.failure()) {
                    ("bogus", Some(cause)) => cause,
                    _ => failure,
                };
                (Outcome::Error(failure), now.saturating_add(FAILURE_LIFE))
            }
        };
        let (dnssec, message) = describe(&outcome);
        let question = Question {
            source: SMIMEA_SOURCE.into(),
            name: owner.to_string(),
            kind: "SMIMEA",
            dnssec: Some(dnssec),
            message,
            asked_at: now,
            aliases,
            exchanges: look_up.exchanges(),
        };
        Answer { outcome, until, question: Arc::new(question) }
    }

    async fn chase(
        &self,
        name: Name,
        now: UnixTime,
        aliases: &mut Vec<String>,
    ) -> Result<(Outcome, UnixTime), Failure> {
        let mut name = name;
        let mut end = UnixTime::MAX;
        let (mut own, mut from_wildcard) = (false, false);
        for _ in 0..=MAX_ALIASES {
            match self.ask(&name, now).await? {
                Step::Records { candidates, wildcard, until } => {
                    let matched = if wildcard || from_wildcard { Match::Wildcard } else { Match::Recipient };
                    let candidates = candidates.iter().map(|c| Candidate { matched, ..c.clone() });
                    return Ok((Outcome::Found(candidates.collect()), end.min(until)));
                }
                Step::Absent { exists, until } => {
                    // After a wildcard's alias it is the wildcard that leads nowhere.
                    let own_name = own || (exists && !from_wildcard);
                    return Ok((Outcome::ProvenNone { own_name }, end.min(until)));
                }
                Step::NotSigned { cut } => {
                    let until = end.min(cut.until);
                    let reason = format!("{} is proven not to be signed", cut.name);
                    return Ok((Outcome::NotServed { reason }, until));
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
        Err(Failure::new("alias-loop", format!("more than {MAX_ALIASES} CNAME or DNAME records in a row")))
    }

    /// One name, no aliases followed.
    async fn ask(&self, name: &Name, now: UnixTime) -> Result<Step, Failure> {
        let anchored = self.anchored(name, now, UnixTime::MIN).await?;
        match read(&anchored, name, now).await {
            Err(failure) if failure.code == "bogus" => {
                let since = now.saturating_sub(REPRIME_AFTER);
                let again = self.anchored(name, now, since).await?;
                if Arc::ptr_eq(&again, &anchored) {
                    return Err(failure);
                }
                read(&again, name, now).await
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
        let below = Rooted::new(self.wire.clone(), zone.clone(), records);
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

/// The label of the source of SMIMEA records.
const SMIMEA_SOURCE: &str = "smimea";

impl Source for Dns {
    fn label(&self) -> &str {
        SMIMEA_SOURCE
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        let matched = match subject.level {
            Level::Recipient => Match::Recipient,
            Level::Domain => Match::Domain,
        };
        Box::pin(async move { self.smimea(&smimea_owner(&subject.mailbox()), matched, now).await })
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

async fn read(anchored: &Anchored, name: &Name, now: UnixTime) -> Result<Step, Failure> {
    let (message, denial) = match validated(&anchored.validator, name, RecordType::SMIMEA).await {
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
    match message.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        code => return Err(Failure::new("unexpected-response-code", format!("the server answered {code}"))),
    }
    let at_name = |r: &&Record| r.name == *name;
    let found: Vec<&Record> = message
        .answers
        .iter()
        .filter(at_name)
        .filter(|r| matches!(r.record_type(), RecordType::SMIMEA | RecordType::CNAME))
        .collect();
    if let Some(step) = alias(name, &message, now)? {
        return Ok(step);
    }
    if !found.is_empty() && found.iter().all(|r| r.proof == Proof::Secure) {
        return records(name, &message, now);
    }
    denial?;
    if found.is_empty() {
        return absent(anchored, name, &message, now).await;
    }
    if found.iter().all(|r| r.proof == Proof::Insecure) {
        // RFC 8162 section 6: what is not Secure is not used, even where that is as it should be.
        return not_signed(anchored, name, now, "the answer is not signed").await;
    }
    Err(Failure::new("bogus", "the signature of the answer cannot be validated"))
}

/// Secure SMIMEA records at the name.
fn records(name: &Name, message: &DnsResponse, now: UnixTime) -> Result<Step, Failure> {
    let mut candidates = Vec::new();
    let mut ttl = u32::MAX;
    for record in message.answers.iter().filter(|r| r.name == *name) {
        let RData::SMIMEA(smimea) = &record.data else {
            continue;
        };
        let candidate = Candidate::from_smimea(&octets(smimea), Match::Recipient);
        candidates.push(candidate.ok_or_else(|| Failure::new("malformed", "an SMIMEA record is too short"))?);
        ttl = ttl.min(record.ttl);
    }
    let (signature, validity) = proof_of(name, RecordType::SMIMEA, &message.answers, now)?;
    let life = UnixTime::from(ttl).min(MAX_POSITIVE_LIFE);
    let until = now.saturating_add(life).min(validity.end);
    Ok(Step::Records { candidates: candidates.into(), wildcard: from_wildcard(name, signature, message)?, until })
}

/// Whether the answer comes from a wildcard: its signature is over fewer labels than the name has. If so, the zone that
/// signed it must also deny that the name, or a closer one, exists (RFC 4035 section 5.3.4, RFC 5155 section 8.8).
fn from_wildcard(name: &Name, signature: &RRSIG, message: &DnsResponse) -> Result<bool, Failure> {
    let input = signature.input();
    if input.num_labels >= name.num_labels() {
        return Ok(false);
    }
    let next_closer = name.trim_to(usize::from(input.num_labels) + 1);
    let mut denials = denials(&message.authorities).filter(|d| *d.zone == input.signer_name);
    if denials.any(|d| d.covers(&next_closer)) {
        Ok(true)
    } else {
        let message = format!("the answer comes from a wildcard, and nothing proves that {next_closer} does not exist");
        Err(Failure::new("bogus", message))
    }
}

/// The signature by which the validator proved a RRset, checked once more by our own clock.
fn proof_of<'a>(
    name: &Name,
    covered: RecordType,
    records: &'a [Record],
    now: UnixTime,
) -> Result<(&'a RRSIG, Validity), Failure> {
    records
        .iter()
        .filter(|r| r.name == *name && r.proof == Proof::Secure)
        .find_map(|r| match &r.data {
            RData::DNSSEC(DNSSECRData::RRSIG(s)) if s.input().type_covered == covered => {
                Some((s, Validity::of(s, now)?))
            }
            _ => None,
        })
        .ok_or_else(|| Failure::new("bogus", format!("no valid signature over {covered} at {name}")))
}

/// The step that a CNAME at the name or a DNAME above it makes.
fn alias(name: &Name, message: &DnsResponse, now: UnixTime) -> Result<Option<Step>, Failure> {
    let answers = &message.answers;
    let secure = |r: &&Record| r.proof == Proof::Secure;
    let life = |ttl: u32| now.saturating_add(UnixTime::from(ttl).min(MAX_POSITIVE_LIFE));
    for record in answers.iter().filter(secure).filter(|r| r.name == *name) {
        let RData::CNAME(target) = &record.data else {
            continue;
        };
        let (signature, validity) = proof_of(name, RecordType::CNAME, answers, now)?;
        let wildcard = from_wildcard(name, signature, message)?;
        return Ok(Some(Step::Alias {
            target: target.0.clone(),
            kind: if wildcard { AliasKind::Wildcard } else { AliasKind::Own },
            until: life(record.ttl).min(validity.end),
        }));
    }
    // RFC 6672 section 5.3.1: the DNAME is signed, the CNAME made from it is not and is made again here.
    for record in answers.iter().filter(secure) {
        if record.record_type() != RecordType::from(DNAME) || record.name == *name || !record.name.zone_of(name) {
            continue;
        }
        let (signature, validity) = proof_of(&record.name, RecordType::from(DNAME), answers, now)?;
        let target = dname_target(&record.data);
        let kept = usize::from(name.num_labels().saturating_sub(record.name.num_labels()));
        let prefix = Name::from_labels(name.iter().take(kept));
        let (Some(target), Ok(prefix)) = (target, prefix) else {
            return Err(Failure::new("malformed", "a DNAME record cannot be read"));
        };
        if signature.input().num_labels < record.name.num_labels() {
            // RFC 4592 section 4.4: undefined; not followed.
            return Err(Failure::new("malformed", "a DNAME record comes from a wildcard"));
        }
        let target = prefix
            .append_domain(&target)
            .map_err(|_| Failure::new("malformed", "a DNAME record makes the name too long (RFC 6672 section 2.2)"))?;
        return Ok(Some(Step::Alias { target, kind: AliasKind::Subtree, until: life(record.ttl).min(validity.end) }));
    }
    Ok(None)
}

/// RFC 6672 section 2.1.
const DNAME: u16 = 39;

fn dname_target(data: &RData) -> Option<Name> {
    let RData::Unknown { rdata, .. } = data else {
        return None;
    };
    let name = OwnerName::from_wire(&rdata.anything).ok()?;
    hickory_name(&name).ok()
}

/// No record and no alias: proven, not signed, or a failure.
async fn absent(anchored: &Anchored, name: &Name, message: &DnsResponse, now: UnixTime) -> Result<Step, Failure> {
    if !message.answers.is_empty() {
        // The validator would take some of them for the expansion of a wildcard, and ask less of the denial.
        return Err(Failure::new("malformed", "the answer holds records that were not asked for"));
    }
    let authorities = &message.authorities;
    let broken = |r: &Record| is_denial(r) && matches!(r.proof, Proof::Bogus | Proof::Indeterminate);
    if authorities.iter().any(broken) {
        return Err(Failure::new("bogus", "a part of the denial cannot be validated"));
    }
    let denials = denials(authorities);
    if denials.clone().next().is_none() {
        return not_signed(anchored, name, now, "the denial has no proof").await;
    }
    if message.response_code == ResponseCode::NXDomain && denials.clone().any(|d| d.opts_out()) {
        // RFC 5155 section 9.2: in an opt-out span there may be unsigned delegations, so the name is not proven absent.
        return not_signed(anchored, name, now, "the denial leaves room for unsigned delegations").await;
    }
    let secure = authorities.iter().filter(|r| r.proof == Proof::Secure);
    let soa = secure.clone().find_map(|r| match &r.data {
        RData::SOA(soa) if r.name.zone_of(name) => Some((&r.name, r.ttl.min(soa.minimum))),
        _ => None,
    });
    let Some((zone, negative_ttl)) = soa else {
        return Err(Failure::new("bogus", "the denial comes without the zone's signed SOA record"));
    };
    if denials.clone().any(|d| d.zone != zone) {
        return Err(Failure::new("bogus", "the denial is made of records from different zones"));
    }
    // RFC 2308 section 5, RFC 9077 section 3: no part of the proof may outlive another.
    let ttl = denials.clone().map(|d| d.record.ttl).fold(negative_ttl, u32::min);
    let mut until = now.saturating_add(UnixTime::from(ttl).min(MAX_NEGATIVE_LIFE));
    for record in secure {
        if let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data {
            let validity = Validity::of(signature, now);
            let validity = validity.ok_or_else(|| Failure::new("bogus", "a signature of the denial has expired"))?;
            until = until.min(validity.end);
        }
    }
    let exists = denials.clone().filter_map(|d| d.types_at(name)).any(|types| types.holds_records());
    Ok(Step::Absent { exists, until })
}

/// An answer that would be right in a domain that is not signed: only a proven delegation makes it so.
async fn not_signed(anchored: &Anchored, name: &Name, now: UnixTime, what: &str) -> Result<Step, Failure> {
    match insecure_cut(&anchored.validator, &anchored.zone, name, now).await? {
        Some(cut) => Ok(Step::NotSigned { cut }),
        None => Err(Failure::new("bogus", format!("{what}, and no delegation is proven to be unsigned"))),
    }
}

fn octets(smimea: &SMIMEA) -> Vec<u8> {
    let head = [u8::from(smimea.cert_usage), u8::from(smimea.selector), u8::from(smimea.matching)];
    [&head[..], &smimea.cert_data].concat()
}

fn hickory_name(name: &OwnerName) -> Result<Name, Failure> {
    let read = Name::from_labels(name.labels());
    let mut read = read.map_err(|e| Failure::new("malformed", format!("{name} cannot be asked for: {e}")))?;
    read.set_fqdn(true);
    Ok(read)
}

fn describe(outcome: &Outcome) -> (Dnssec, String) {
    match outcome {
        Outcome::Found(candidates) => {
            let from =
                if candidates.iter().any(|c| c.matched == Match::Wildcard) { " made from a wildcard" } else { "" };
            let many = if candidates.len() == 1 { "record" } else { "records" };
            (Dnssec::Secure, format!("{} {many}{from}", candidates.len()))
        }
        Outcome::ProvenNone { own_name: true } => {
            (Dnssec::Secure, "the name holds other records and no certificate".to_owned())
        }
        Outcome::ProvenNone { own_name: false } => (Dnssec::Secure, "proven not to exist".to_owned()),
        Outcome::NotServed { reason } => (Dnssec::Insecure, reason.clone()),
        Outcome::Error(failure) => {
            let state = if failure.code == "bogus" { Dnssec::Bogus } else { Dnssec::Indeterminate };
            (state, failure.message.clone())
        }
    }
}
