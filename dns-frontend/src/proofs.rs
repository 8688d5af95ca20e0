//! Denials signed when they are asked for, and kept for a while.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_directory::{INCEPTION_SKEW, SIGNATURE_LIFETIME};
use certdir_zones::denial::Denial;
use certdir_zones::{Error, SignedRrset, Zone, ZoneKey};

use crate::rate::network;

/// How long a proof is given out, in seconds: until half of its validity, so that caches get enough of the rest.
const KEEP: i64 = SIGNATURE_LIFETIME / 2;
/// The fewest proofs in one of the two generations.
const SMALLEST_GENERATION: usize = 64;

/// The proofs that one worker has signed.
///
/// Two generations: what is asked for again moves to the young one, and when that is full the old one is forgotten. The
/// proofs that every answer needs (closest encloser, wildcard) stay while a flood of random names passes through.
pub(crate) struct Denials {
    young: HashMap<Denial, Kept>,
    old: HashMap<Denial, Kept>,
    /// Proofs in one generation.
    generation: usize,
    budget: Budget,
    /// Who asks for what is signed now.
    source: IpAddr,
    /// Denials signed since somebody looked, and those signed earlier and given out again.
    signed: u8,
    reused: u8,
}

/// Why there is no proof.
#[derive(Debug)]
pub(crate) enum Unproven {
    /// The signatures of this second are used up, or those of one network are.
    Budget,
    /// The record cannot be made or signed: a defect, or no random octets.
    Failed,
}

impl From<Error> for Unproven {
    fn from(_: Error) -> Unproven {
        Unproven::Failed
    }
}

/// Signatures that may be made in one second of the clock. One network gets at most half of them, so that a source that
/// asks for random names leaves some to all others.
struct Budget {
    /// 0 for no limit.
    per_second: u32,
    second: UnixTime,
    used: u32,
    /// By network; no more of them than signatures.
    used_by: HashMap<u64, u32>,
}

impl Budget {
    /// Whether there is a signature left for this source.
    fn has(&mut self, source: IpAddr, now: UnixTime) -> bool {
        if self.per_second == 0 {
            return true;
        }
        if self.second != now {
            self.second = now;
            self.used = 0;
            self.used_by.clear();
        }
        let used_by_it = || self.used_by.get(&network(source)).copied().unwrap_or(0);
        self.used < self.per_second && used_by_it() < self.per_second.div_ceil(2)
    }

    fn take(&mut self, source: IpAddr, now: UnixTime) -> Result<(), Unproven> {
        if !self.has(source, now) {
            return Err(Unproven::Budget);
        }
        if self.per_second > 0 {
            self.used = self.used.saturating_add(1);
            *self.used_by.entry(network(source)).or_default() += 1;
        }
        Ok(())
    }
}

/// A signed NSEC3 record.
#[derive(Debug)]
pub(crate) struct Proof {
    /// The first label of its owner name, the apex follows: the hash in base32hex.
    pub(crate) label: Box<[u8]>,
    pub(crate) signed: SignedRrset,
}

struct Kept {
    proof: Proof,
    /// The key that signed: hashes are of full names, so this tells apart whatever could share a `Denial`.
    key: Arc<ZoneKey>,
    signed_at: UnixTime,
}

impl Kept {
    /// Whether a fresh signature would say the same.
    fn serves(&self, zone: &Zone, now: UnixTime) -> bool {
        Arc::ptr_eq(&self.key, zone.key())
            && self.proof.signed.rrset.ttl == zone.denial_ttl()
            && (self.signed_at - INCEPTION_SKEW..self.signed_at + KEEP).contains(&now)
    }
}

impl Denials {
    /// With so many signatures in a second, 0 for no limit, and room for so many proofs.
    pub(crate) fn new(per_second: u32, proofs: usize) -> Denials {
        let generation = (proofs / 2).max(SMALLEST_GENERATION);
        let budget = Budget { per_second, second: UnixTime::MIN, used: 0, used_by: HashMap::new() };
        let source = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Denials { young: HashMap::new(), old: HashMap::new(), generation, budget, source, signed: 0, reused: 0 }
    }

    /// What is signed from now on is signed for this source.
    pub(crate) fn asked_by(&mut self, source: IpAddr) {
        self.source = source;
    }

    /// Whether a denial could be signed for this source now.
    pub(crate) fn may_sign(&mut self, source: IpAddr, now: UnixTime) -> bool {
        self.budget.has(source, now)
    }

    /// How many denials were signed, and how many were given out again, since this was asked last.
    pub(crate) fn take_counts(&mut self) -> (u8, u8) {
        (std::mem::take(&mut self.signed), std::mem::take(&mut self.reused))
    }

    /// The record of a denial in a zone, signed now or earlier.
    pub(crate) fn proof(&mut self, zone: &Zone, denial: &Denial, now: UnixTime) -> Result<&Proof, Unproven> {
        let fresh = self.young.get(denial).is_some_and(|kept| kept.serves(zone, now));
        if fresh {
            self.reused = self.reused.saturating_add(1);
        } else {
            let kept = match self.old.remove(denial) {
                Some(kept) if kept.serves(zone, now) => {
                    self.reused = self.reused.saturating_add(1);
                    kept
                }
                _ => {
                    self.budget.take(self.source, now)?;
                    self.signed = self.signed.saturating_add(1);
                    sign(zone, denial, now)?
                }
            };
            if self.young.len() >= self.generation {
                // Both keep their room.
                std::mem::swap(&mut self.young, &mut self.old);
                self.young.clear();
            }
            self.young.insert(denial.clone(), kept);
        }
        self.young.get(denial).map(|kept| &kept.proof).ok_or(Unproven::Failed)
    }
}

impl fmt::Debug for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denials").field("young", &self.young.len()).field("old", &self.old.len()).finish()
    }
}

fn sign(zone: &Zone, denial: &Denial, now: UnixTime) -> Result<Kept, Error> {
    let (owner, rrset) = denial.record(zone)?;
    // RFC 4034 section 3.1.5: seconds modulo 2^32.
    let signed = zone.key().sign(
        zone.apex(),
        &owner,
        &rrset,
        (now - INCEPTION_SKEW) as u32,
        (now + SIGNATURE_LIFETIME) as u32,
    )?;
    let label = owner.labels().next().unwrap_or_default().into();
    Ok(Kept { proof: Proof { label, signed }, key: zone.key().clone(), signed_at: now })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_gets_half_of_the_signatures() {
        let [first, neighbour, other, third] =
            ["192.0.2.1", "192.0.2.255", "198.51.100.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let mut denials = Denials::new(10, 0);
        let mut take = |source, now| {
            let may = denials.may_sign(source, now);
            assert_eq!(denials.budget.take(source, now).is_ok(), may);
            may
        };
        let mut taken = |source, now| (0..20).filter(|_| take(source, now)).count();
        assert_eq!([first, neighbour, other, third].map(|source| taken(source, 7)), [5, 0, 5, 0]);
        assert_eq!([third, first].map(|source| taken(source, 8)), [5, 5], "the next second");
        assert!(denials.budget.used_by.len() <= 10);
        let mut unbounded = Denials::new(0, 0);
        assert!((0..100).all(|_| unbounded.budget.take(first, 7).is_ok()));
    }
}
