//! What one message says about the name it was asked for, once it is known which of its records to believe.

use certdir_certificate::UnixTime;
use certdir_zones::Name as OwnerName;
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinEncodable, BinEncoder};

use super::denial::{denials, is_denial};
use super::signature::Validity;
use super::{MAX_NEGATIVE_LIFE, MAX_POSITIVE_LIFE};
use crate::outcome::Failure;

/// What one answer says about one name, aliases not followed.
pub(crate) enum Step {
    /// Secure records of the type that was asked for, as RDATA.
    Records {
        rdata: Vec<Vec<u8>>,
        wildcard: bool,
        until: UnixTime,
    },
    Alias {
        target: Name,
        kind: AliasKind,
        until: UnixTime,
    },
    /// NXDOMAIN or NODATA; `exists` when records of other types are at the name itself.
    Absent {
        exists: bool,
        until: UnixTime,
    },
    /// Known not to be signed, and what the answer says all the same.
    NotSigned {
        reason: String,
        claimed: Claimed,
        until: UnixTime,
    },
}

/// How far an alias speaks for the name itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AliasKind {
    /// A CNAME at the name: the name has a record of its own.
    Own,
    /// A CNAME made from a wildcard.
    Wildcard,
    /// A DNAME above it.
    Subtree,
}

/// What an answer without signatures says, and until when.
pub(crate) struct Claimed {
    pub(crate) says: Says,
    pub(crate) until: UnixTime,
}

/// RDATA of the type that was asked for, which may be none, or an alias.
pub(crate) enum Says {
    Records(Vec<Vec<u8>>),
    Alias(Name),
}

/// An absence and what it is worth.
pub(crate) enum Absence {
    /// Denied by signed records of one zone.
    Proven { exists: bool, until: UnixTime },
    /// Nothing in the answer proves it; unsigned delegations may hide in an opt-out span.
    Unproven { opted_out: bool },
}

/// The Secure records at the name, if there are any of this type.
pub(crate) fn records(
    name: &Name,
    record_type: RecordType,
    message: &Message,
    now: UnixTime,
) -> Result<Option<Step>, Failure> {
    let (rdata, ttl) = rdata_at(name, record_type, message)?;
    if rdata.is_empty() {
        return Ok(None);
    }
    let (signature, validity) = proof_of(name, record_type, &message.answers, now)?;
    let until = now.saturating_add(UnixTime::from(ttl).min(MAX_POSITIVE_LIFE)).min(validity.end);
    Ok(Some(Step::Records { rdata, wildcard: from_wildcard(name, signature, message)?, until }))
}

/// The RDATA of the records of a type at the name, whatever they are worth, and their smallest TTL.
fn rdata_at(name: &Name, record_type: RecordType, message: &Message) -> Result<(Vec<Vec<u8>>, u32), Failure> {
    let mut found = Vec::new();
    let mut ttl = u32::MAX;
    for record in message.answers.iter().filter(|r| r.record_type() == record_type && r.name == *name) {
        let mut octets = Vec::new();
        let written = record.data.emit(&mut BinEncoder::new(&mut octets));
        written.map_err(|e| Failure::new("malformed", format!("a {record_type} record cannot be read: {e}")))?;
        found.push(octets);
        ttl = ttl.min(record.ttl);
    }
    Ok((found, ttl))
}

/// What an answer says, signed or not.
pub(crate) fn claimed(
    name: &Name,
    record_type: RecordType,
    message: &Message,
    now: UnixTime,
) -> Result<Claimed, Failure> {
    let (rdata, ttl) = rdata_at(name, record_type, message)?;
    let alias = message.answers.iter().filter(|r| r.name == *name).find_map(|r| match &r.data {
        RData::CNAME(target) => Some((target.0.clone(), r.ttl)),
        _ => None,
    });
    let (says, ttl) = match alias {
        _ if !rdata.is_empty() => (Says::Records(rdata), ttl),
        Some((target, ttl)) => (Says::Alias(target), ttl),
        None => (Says::Records(rdata), soa_of(name, message).map_or(0, |(_, ttl)| ttl)),
    };
    Ok(Claimed { says, until: now.saturating_add(UnixTime::from(ttl).min(MAX_NEGATIVE_LIFE)) })
}

/// The zone that an authority section speaks for, and how long its denials live (RFC 2308 section 5).
fn soa_of<'a>(name: &Name, message: &'a Message) -> Option<(&'a Record, u32)> {
    message.authorities.iter().find_map(|r| match &r.data {
        RData::SOA(soa) if r.name.zone_of(name) => Some((r, r.ttl.min(soa.minimum))),
        _ => None,
    })
}

/// Whether the answer comes from a wildcard: its signature is over fewer labels than the name has. If so, the zone that
/// signed it must also deny that the name, or a closer one, exists (RFC 4035 section 5.3.4, RFC 5155 section 8.8).
fn from_wildcard(name: &Name, signature: &RRSIG, message: &Message) -> Result<bool, Failure> {
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

/// True when the answer comes from a wildcard and its proof leaves room for an unsigned delegation at the name: then it is
/// not Secure (RFC 5155 section 9.2).
pub(crate) fn leaves_room(name: &Name, message: &Message) -> bool {
    let made = message.answers.iter().filter(|r| r.name == *name && r.proof == Proof::Secure).any(|r| match &r.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => signature.input().num_labels < name.num_labels(),
        _ => false,
    });
    made && denials(&message.authorities).any(|d| d.opts_out())
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
pub(crate) fn alias(name: &Name, message: &Message, now: UnixTime) -> Result<Option<Step>, Failure> {
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

/// No record and no alias: what that absence is worth.
pub(crate) fn absent(name: &Name, message: &Message, now: UnixTime) -> Result<Absence, Failure> {
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
        return Ok(Absence::Unproven { opted_out: false });
    }
    if message.response_code == ResponseCode::NXDomain && denials.clone().any(|d| d.opts_out()) {
        // RFC 5155 section 9.2: in an opt-out span there may be unsigned delegations, so the name is not proven absent.
        return Ok(Absence::Unproven { opted_out: true });
    }
    let soa = soa_of(name, message).filter(|(soa, _)| soa.proof == Proof::Secure);
    let Some((Record { name: zone, .. }, negative_ttl)) = soa else {
        return Err(Failure::new("bogus", "the denial comes without the zone's signed SOA record"));
    };
    if denials.clone().any(|d| d.zone != zone) {
        return Err(Failure::new("bogus", "the denial is made of records from different zones"));
    }
    // RFC 2308 section 5, RFC 9077 section 3: no part of the proof may outlive another.
    let ttl = denials.clone().map(|d| d.record.ttl).fold(negative_ttl, u32::min);
    let mut until = now.saturating_add(UnixTime::from(ttl).min(MAX_NEGATIVE_LIFE));
    for record in authorities.iter().filter(|r| r.proof == Proof::Secure) {
        if let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data {
            let validity = Validity::of(signature, now);
            let validity = validity.ok_or_else(|| Failure::new("bogus", "a signature of the denial has expired"))?;
            until = until.min(validity.end);
        }
    }
    let exists = denials.clone().filter_map(|d| d.types_at(name)).any(|types| types.holds_records());
    Ok(Absence::Proven { exists, until })
}

/// The name in hickory's form.
pub(crate) fn hickory_name(name: &OwnerName) -> Result<Name, Failure> {
    let read = Name::from_labels(name.labels());
    let mut read = read.map_err(|e| Failure::new("malformed", format!("{name} cannot be asked for: {e}")))?;
    read.set_fqdn(true);
    Ok(read)
}
