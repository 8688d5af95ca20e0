//! The proof that a domain is not signed.
//!
//! "Not signed" is the one answer that asks for no signature, so it is the one that a lying network would give. Here
//! the chain is walked downwards from the trust anchor: at each name either there is a DS record, or an NSEC or NSEC3
//! record *of the zone that the walk has reached* says that a delegation without one is there (RFC 4035 section 5.2,
//! RFC 6840 section 4.4). hickory's own finding of "insecure" is not enough: it accepts an opt-out span of an ancestor
//! (`com`, say) as proof that any name below any signed zone is an unsigned delegation.

use certdir_certificate::UnixTime;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::MAX_NEGATIVE_LIFE;
use super::denial::denials;
use super::validating::{Validator, validated};
use super::wire::failure_of;
use crate::outcome::Failure;

/// Names looked at on the way down. A mail domain has a handful of labels; one with more is made to cost time.
const MAX_DEPTH: u8 = 24;

/// A zone cut that is proven to have no usable DS record.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) name: Name,
    /// The proof may be used until this second, exclusive.
    pub(crate) until: UnixTime,
}

/// The highest cut at or above `name`, and below the anchored zone, that is proven to be unsigned. `None`: there is none,
/// the name is in a signed zone or below a name that does not exist there.
pub(crate) async fn insecure_cut(
    validator: &Validator,
    anchor: &Name,
    name: &Name,
    now: UnixTime,
) -> Result<Option<Cut>, Failure> {
    let labels = name.num_labels();
    if labels > MAX_DEPTH {
        return Err(Failure::new("too-much-work", format!("{name} has more than {MAX_DEPTH} labels")));
    }
    let mut zone = anchor.clone();
    for depth in anchor.num_labels().saturating_add(1)..=labels {
        let child = name.trim_to(depth.into());
        match below(validator, &zone, &child, now).await? {
            Below::Unsigned { until } => return Ok(Some(Cut { name: child, until })),
            Below::Signed => zone = child,
            Below::SameZone => {}
            Below::Nothing => return Ok(None),
        }
    }
    Ok(None)
}

/// What the parent says about a name.
enum Below {
    /// A DS record that can be checked.
    Signed,
    /// No delegation there.
    SameZone,
    /// The name does not exist, nor anything below it.
    Nothing,
    /// A delegation without a DS record that can be checked.
    Unsigned { until: UnixTime },
}

/// `zone` is the deepest signed zone on the way so far, `child` a name below it.
async fn below(validator: &Validator, zone: &Name, child: &Name, now: UnixTime) -> Result<Below, Failure> {
    let message = match validated(validator, child, RecordType::DS).await {
        Ok(message) => message,
        Err(NetError::Dns(DnsError::Nsec { response, .. })) => {
            // An alias is no delegation, and what is denied is its target.
            let alias =
                |r: &Record| r.name == *child && r.proof == Proof::Secure && r.record_type() == RecordType::CNAME;
            if response.answers.iter().any(alias) {
                return Ok(Below::SameZone);
            }
            return Err(Failure::new("bogus", format!("whether {child} is signed cannot be proven")));
        }
        Err(error) => return Err(failure_of(&error)),
    };
    let until = |ttl: u32| now.saturating_add(UnixTime::from(ttl).min(MAX_NEGATIVE_LIFE));
    let at_child = |r: &&Record| r.name == *child && r.proof == Proof::Secure;
    if message.answers.iter().filter(at_child).any(|r| r.record_type() == RecordType::CNAME) {
        return Ok(Below::SameZone);
    }
    let digests: Vec<_> = message
        .answers
        .iter()
        .filter(at_child)
        .filter_map(|r| match &r.data {
            RData::DNSSEC(DNSSECRData::DS(ds)) => Some((r.ttl, ds)),
            _ => None,
        })
        .collect();
    if let Some(ttl) = digests.iter().map(|(ttl, _)| *ttl).min() {
        // RFC 4035 section 5.2: a zone that is signed only in ways that nobody here understands is like an unsigned one.
        let known = |algorithm: bool, digest: bool| algorithm && digest;
        let checkable =
            digests.iter().any(|(_, ds)| known(ds.algorithm().is_supported(), ds.digest_type().is_supported()));
        return Ok(if checkable { Below::Signed } else { Below::Unsigned { until: until(ttl) } });
    }
    // A denial of a zone further up says nothing about names in this one.
    let denials = denials(&message.authorities).filter(|d| zone.zone_of(d.zone) && d.zone != child);
    let Some(ttl) = denials.clone().map(|d| d.record.ttl).min() else {
        return Err(Failure::new("bogus", format!("the absence of a DS record at {child} is not proven")));
    };
    if let Some(types) = denials.clone().find_map(|d| d.types_at(child)) {
        return Ok(if types.unsigned_delegation() { Below::Unsigned { until: until(ttl) } } else { Below::SameZone });
    }
    if denials.clone().any(|d| d.opts_out() && d.covers(child)) {
        return Ok(Below::Unsigned { until: until(ttl) });
    }
    Ok(match message.response_code {
        ResponseCode::NXDomain => Below::Nothing,
        // An empty non-terminal, or a wildcard's answer.
        _ => Below::SameZone,
    })
}
