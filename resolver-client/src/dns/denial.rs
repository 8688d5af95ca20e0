//! What NSEC and NSEC3 records say, and in which zone they say it.
//!
//! hickory checks that a denial is signed and that it fits the question. It does not always check that it comes from
//! the zone in question: an NSEC3 span of an ancestor covers the hash of about any name below (`com` says nothing about
//! `x.example.com` when `example.com` is a zone of its own). What follows from a denial is therefore checked
//! here again, with the zone that signed it.

use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC3};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, RecordTypeSet};

/// NSEC3 iterations above which nothing is hashed (RFC 9276 section 3.2).
const MAX_ITERATIONS: u16 = 100;

/// NXNAME (RFC 9824 section 2): the name does not exist.
const NXNAME: u16 = 128;

/// One validated NSEC or NSEC3 record and the zone that signed it.
#[derive(Clone, Copy)]
pub(crate) struct Denial<'a> {
    pub(crate) record: &'a Record,
    pub(crate) zone: &'a Name,
}

/// The validated denials among the records of an authority section.
pub(crate) fn denials(authorities: &[Record]) -> impl Iterator<Item = Denial<'_>> + Clone {
    let signer = |record: &Record| {
        authorities.iter().find_map(|r| match &r.data {
            RData::DNSSEC(DNSSECRData::RRSIG(signature))
                if r.name == record.name
                    && r.proof == Proof::Secure
                    && signature.input().type_covered == record.record_type() =>
            {
                Some(&signature.input().signer_name)
            }
            _ => None,
        })
    };
    authorities.iter().filter(|r| r.proof == Proof::Secure && is_denial(r)).filter_map(move |record| {
        let zone = signer(record)?;
        Some(Denial { record, zone })
    })
}

/// True for NSEC and NSEC3 records.
pub(crate) fn is_denial(record: &Record) -> bool {
    matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3)
}

impl<'a> Denial<'a> {
    /// The types at `name`, if this is the record of that very name.
    pub(crate) fn types_at(&self, name: &Name) -> Option<Types<'a>> {
        match &self.record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) if self.record.name == *name => Some(Types(nsec.type_set())),
            RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) if hash(name, nsec3)? == self.owner_hash()? => {
                Some(Types(nsec3.type_set()))
            }
            _ => None,
        }
    }

    /// True when nothing is at `name` in this denial's zone.
    pub(crate) fn covers(&self, name: &Name) -> bool {
        if !self.zone.zone_of(name) {
            return false;
        }
        match &self.record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) => {
                let (owner, next) = (&self.record.name, nsec.next_domain_name());
                // RFC 6840 section 4.1: the parent's side of a delegation says nothing about what is below.
                let above_a_cut = nsec.is_ancestor_delegation() && owner.zone_of(name);
                // A next name below `name` makes `name` an empty non-terminal: it exists.
                let empty_non_terminal = name.zone_of(next);
                !above_a_cut && !empty_non_terminal && between(owner, name, next)
            }
            RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => match (hash(name, nsec3), self.owner_hash()) {
                (Some(hash), Some(owner)) => between(&owner[..], &hash[..], nsec3.next_hashed_owner_name()),
                _ => false,
            },
            _ => false,
        }
    }

    /// RFC 5155 section 6: unsigned delegations may hide in the span of this record.
    pub(crate) fn opts_out(&self) -> bool {
        matches!(&self.record.data, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) if nsec3.opt_out())
    }

    fn owner_hash(&self) -> Option<Vec<u8>> {
        let label = self.record.name.iter().next()?.to_ascii_lowercase();
        data_encoding::BASE32_DNSSEC.decode(&label).ok()
    }
}

/// The types at a name, as a denial tells them.
pub(crate) struct Types<'a>(&'a RecordTypeSet);

impl Types<'_> {
    /// There are records beyond those that make the denial itself: the name is not an empty non-terminal, and not one
    /// that a server with compact denial (RFC 9824) pretends to have.
    pub(crate) fn holds_records(&self) -> bool {
        let of_the_denial = [RecordType::RRSIG, RecordType::NSEC, RecordType::from(NXNAME)];
        self.0.iter().any(|t| !of_the_denial.contains(&t))
    }

    /// RFC 6840 section 4.4: a delegation, seen from the parent's side, without DS.
    pub(crate) fn unsigned_delegation(&self) -> bool {
        self.0.contains(RecordType::NS) && !self.0.contains(RecordType::DS) && !self.0.contains(RecordType::SOA)
    }
}

/// Strictly between, on a circle: the last record of a zone points to the first.
fn between<T: PartialOrd + ?Sized>(from: &T, x: &T, to: &T) -> bool {
    if from < to { from < x && x < to } else { from < x || x < to }
}

fn hash(name: &Name, nsec3: &NSEC3) -> Option<Vec<u8>> {
    if nsec3.iterations() > MAX_ITERATIONS {
        return None;
    }
    let hash = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations());
    hash.ok().map(|h| h.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_open_and_wrap() {
        assert!(between(&1, &2, &3));
        assert!(!between(&1, &1, &3));
        assert!(!between(&1, &3, &3));
        assert!(between(&3, &4, &1));
        assert!(between(&3, &0, &1));
        assert!(!between(&3, &2, &1));
        // One record only: everything but itself.
        assert!(between(&3, &2, &3));
        assert!(!between(&3, &3, &3));
    }
}
