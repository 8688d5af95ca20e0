//! What is put into a response: the records asked for, or the proof that there are none.
//!
//! The steps of RFC 1034 section 4.3.2, without recursion: refuse what is not ours to answer; find the zone, then the name
//! in it; put the records of the type, or the denial.

use certdir_certificate::UnixTime;
use certdir_zones::denial::{self, Denial};
use certdir_zones::{Error, Found, Node, RecordType, SignedRrset, Zone};

use crate::proofs::{Denials, Proof, Unproven};
use crate::request::{IN, MAX_NAME, Rcode, Request};
use crate::response::{Explanation, Owner, Response, Section, question};
use crate::view::Zones;

/// Puts into the response what the zones have for the question, or the proof that they have nothing.
pub(crate) fn resolve<Z: Zones>(
    zones: Option<&Z>,
    request: &Request<'_>,
    now: UnixTime,
    name: &mut [u8; MAX_NAME],
    denials: &mut Denials,
    response: &mut Response<'_>,
) -> Result<Rcode, Unproven> {
    if request.class != IN {
        return Ok(Rcode::REFUSED);
    }
    if let Some(rcode) = not_a_type(request.rtype) {
        if rcode == Rcode::REFUSED {
            response.explain(Explanation::Prohibited);
        }
        return Ok(rcode);
    }
    let Some(zones) = zones else {
        response.explain(Explanation::NotReady);
        return Ok(Rcode::SERVFAIL);
    };
    let Some(name) = name.get_mut(..request.name.len()) else {
        return Ok(Rcode::FORMERR);
    };
    name.copy_from_slice(request.name);
    // Length octets are at most 63, below every letter.
    name.make_ascii_lowercase();
    let name: &[u8] = name;
    let Some(zone) = zone_for(zones, name, request.rtype) else {
        response.explain(Explanation::NotAuthoritative);
        return Ok(Rcode::REFUSED);
    };
    response.set_authoritative();
    let apex = question(name.len().saturating_sub(zone.apex().as_wire().len()));
    let dnssec = request.edns.is_some_and(|edns| edns.dnssec_ok);
    let mut reply = Reply { response, zone, apex, dnssec, denials, now };
    reply.fill(name, request.rtype)
}

/// The answer to types that are no types of data.
fn not_a_type(rtype: RecordType) -> Option<Rcode> {
    /// Marks a name that does not exist in compact denial, and is never asked for (RFC 9824 section 3.5).
    const NXNAME: RecordType = RecordType(128);
    /// Key exchange (RFC 2930), mailbox records and mail agent records (RFC 1035 section 3.2.3).
    const UNSUPPORTED: [RecordType; 3] = [RecordType(249), RecordType(253), RecordType(254)];
    match rtype {
        // Zone transfers need permission, and nobody has it.
        RecordType::AXFR | RecordType::IXFR => Some(Rcode::REFUSED),
        RecordType::OPT | RecordType::TSIG | NXNAME => Some(Rcode::FORMERR),
        _ if UNSUPPORTED.contains(&rtype) => Some(Rcode::NOTIMP),
        _ => None,
    }
}

/// The zone that answers. DS records stand on the parent's side of a cut (RFC 4035 section 3.1.4.1): when the name is
/// an apex and its parent zone is served here too, that one answers; else the child says that it has none.
fn zone_for<'a, Z: Zones>(zones: &'a Z, name: &[u8], rtype: RecordType) -> Option<&'a Zone> {
    let zone = zones.zone_for(name)?;
    if rtype != RecordType::DS || zone.apex().as_wire() != name {
        return Some(zone);
    }
    let parent =
        name.first().and_then(|&length| name.get(usize::from(length) + 1..)).filter(|parent| !parent.is_empty());
    Some(parent.and_then(|parent| zones.zone_for(parent)).unwrap_or(zone))
}

/// Everything that decides about the records of one response.
struct Reply<'r, 'o, 'z> {
    response: &'r mut Response<'o>,
    zone: &'z Zone,
    /// Pointer to the zone's apex within the question.
    apex: [u8; 2],
    /// The client wants signatures and proofs (RFC 3225).
    dnssec: bool,
    denials: &'r mut Denials,
    now: UnixTime,
}

impl Reply<'_, '_, '_> {
    /// Puts what the zone has or has not. An error means that a proof was not made.
    fn fill(&mut self, name: &[u8], rtype: RecordType) -> Result<Rcode, Unproven> {
        match self.zone.find(name) {
            Found::Exact(node) => {
                if !self.positive(node, rtype) {
                    self.negative(|_| denial::nodata(name, node))?;
                }
                Ok(Rcode::NOERROR)
            }
            // RFC 4592 section 3.3.1: the wildcard's records under the name asked for, the RRSIG as it is.
            Found::Wildcard { node, closest_encloser, next_closer } => {
                if self.positive(node, rtype) {
                    self.prove(|_| denial::wildcard_expansion(next_closer))?;
                } else {
                    self.negative(|zone| denial::wildcard_nodata(zone, closest_encloser, next_closer, node))?;
                }
                Ok(Rcode::NOERROR)
            }
            Found::Missing { closest_encloser, next_closer } => {
                self.negative(|zone| denial::nxdomain(zone, closest_encloser, next_closer))?;
                Ok(Rcode::NXDOMAIN)
            }
            Found::Outside => Ok(Rcode::REFUSED),
        }
    }

    /// Puts what the node has of this type into the answer section; says whether that was something.
    fn positive(&mut self, node: &Node, rtype: RecordType) -> bool {
        let found = match rtype {
            // RFC 8482 section 4.1: one RRset is enough. The same for signatures, which say nothing without their records.
            RecordType::ANY | RecordType::RRSIG => node.rrsets().first(),
            // RFC 1034 section 3.6.2: an alias stands for every other type.
            _ => node.rrset(rtype).or_else(|| node.rrset(RecordType::CNAME)),
        };
        let Some(signed) = found else {
            return false;
        };
        let ttl = signed.rrset.ttl.min(time_left(signed, self.now));
        if rtype == RecordType::RRSIG {
            self.response.record(Section::Answer, Owner::QUESTION, rtype, ttl, &signed.rrsig);
        } else {
            self.rrset(Section::Answer, Owner::QUESTION, signed, ttl);
        }
        true
    }

    /// Puts the SOA record, whose TTL says how long there will be nothing (RFC 2308 section 3, RFC 9077 section 3), and
    /// the proof.
    fn negative<const N: usize>(&mut self, denials: impl FnOnce(&Zone) -> [Denial; N]) -> Result<(), Unproven> {
        let apex = self.zone.get(self.zone.apex().as_wire());
        let soa = apex.and_then(|apex| apex.rrset(RecordType::SOA)).ok_or(Error::EmptyRrset)?;
        let ttl = self.zone.denial_ttl().min(time_left(soa, self.now));
        self.rrset(Section::Authority, Owner::Pointer(self.apex), soa, ttl);
        self.prove(denials)
    }

    /// Puts the NSEC3 records of a proof, each once.
    fn prove<const N: usize>(&mut self, denials: impl FnOnce(&Zone) -> [Denial; N]) -> Result<(), Unproven> {
        if !self.dnssec || !self.response.wants_proof() {
            return Ok(());
        }
        let denials = denials(self.zone);
        for (at, denial) in denials.iter().enumerate() {
            if denials.iter().take(at).any(|earlier| earlier == denial) {
                continue;
            }
            let Proof { label, signed } = self.denials.proof(self.zone, denial, self.now)?;
            let owner = Owner::Below(label, self.apex);
            let ttl = signed.rrset.ttl.min(time_left(signed, self.now));
            put_rrset(self.response, Section::Authority, owner, signed, ttl, true);
        }
        Ok(())
    }

    fn rrset(&mut self, section: Section, owner: Owner<'_>, signed: &SignedRrset, ttl: u32) {
        put_rrset(self.response, section, owner, signed, ttl, self.dnssec);
    }
}

/// Puts the records, and their signature with the same TTL (RFC 4034 section 3) when it is wanted.
fn put_rrset(
    response: &mut Response<'_>,
    section: Section,
    owner: Owner<'_>,
    signed: &SignedRrset,
    ttl: u32,
    dnssec: bool,
) {
    let position = response.position();
    for rdata in signed.rrset.rdata() {
        response.record(section, owner, signed.rrset.rtype, ttl, rdata);
    }
    if dnssec {
        // An owner that was written in full a moment ago need not be written again.
        let owner = if let Owner::Below(..) = owner { position.unwrap_or(owner) } else { owner };
        response.record(section, owner, RecordType::RRSIG, ttl, &signed.rrsig);
    }
}

/// Seconds that the signature lasts from now on (serial number arithmetic, RFC 4034 section 3.1.5): no cache may keep
/// the records longer.
fn time_left(signed: &SignedRrset, now: UnixTime) -> u32 {
    let left = signed.expiration().wrapping_sub(now as u32);
    if left < 1 << 31 { left } else { 0 }
}
