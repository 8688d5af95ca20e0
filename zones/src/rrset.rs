//! [`Rrset`] and [`SignedRrset`]: the records of one owner and type, and their signature.

use crate::few::Few;
use crate::{Error, Rdata, RecordType};

/// Octets an RRset may take in a message, each record with [`RECORD_OVERHEAD`]. A DNS message has 65,535; 5,120 are kept for
/// header and question (271), the RRset's RRSIG (349), two NSEC3 records, as the proof of a wildcard may have, from a chain
/// whose names have up to [`crate::fragment::MAX_TYPES`] types (1,379 each) with their RRSIGs (349 each), OPT with a cookie
/// (51) and TSIG (up to 700).
pub const MAX_RRSET: usize = 65_535 - 5_120;
/// Octets of a record beside its RDATA, its owner compressed to a pointer (RFC 1035 section 4.1.3).
pub const RECORD_OVERHEAD: usize = 12;
/// The largest TTL (RFC 2181 section 8).
pub const MAX_TTL: u32 = 0x7fff_ffff;

/// The records of one owner and type: at least one, in canonical order, without duplicates (RFC 4034 section 6.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rrset {
    /// The type.
    pub rtype: RecordType,
    /// Seconds that a cache may keep it.
    pub ttl: u32,
    records: Few<Rdata>,
}

impl Rrset {
    /// Sorts the records and removes duplicates. Errors: no record, a TTL above [`MAX_TTL`], more than [`MAX_RRSET`].
    pub fn new(rtype: RecordType, ttl: u32, mut rdata: Vec<Rdata>) -> Result<Rrset, Error> {
        if ttl > MAX_TTL {
            return Err(Error::Ttl(ttl));
        }
        // RFC 4034 section 6.3: RDATA as left-justified octet strings, the absence of an octet before a zero octet.
        rdata.sort_unstable();
        rdata.dedup();
        let octets = rdata.iter().map(|one| one.len() + RECORD_OVERHEAD).sum();
        if octets > MAX_RRSET {
            return Err(Error::RrsetTooLarge { octets, limit: MAX_RRSET });
        }
        if rdata.is_empty() {
            return Err(Error::EmptyRrset);
        }
        Ok(Rrset { rtype, ttl, records: rdata.into() })
    }

    /// The RDATA of each record, in canonical order.
    #[must_use]
    pub fn rdata(&self) -> &[Rdata] {
        &self.records
    }
}

/// An RRset with its RRSIG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRrset {
    /// The records.
    pub rrset: Rrset,
    /// The RDATA of the RRSIG record (RFC 4034 section 3.1); empty where a zone does not sign: the NS of a delegation, and
    /// glue (RFC 4035 section 2.2).
    pub rrsig: Rdata,
}

impl SignedRrset {
    /// Start of the signature's validity: seconds since 1970 in serial number arithmetic (RFC 4034 section 3.1.5).
    #[must_use]
    pub fn inception(&self) -> u32 {
        self.time_at(12)
    }

    /// End of the signature's validity, inclusive: seconds since 1970 in serial number arithmetic.
    #[must_use]
    pub fn expiration(&self) -> u32 {
        self.time_at(8)
    }

    /// RDATA that is no RRSIG has the times 0: never valid.
    fn time_at(&self, at: usize) -> u32 {
        self.rrsig.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |octets| u32::from_be_bytes(*octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdata(octets: &[u8]) -> Rdata {
        Rdata::from(octets)
    }

    #[test]
    fn records_are_sorted_and_single() {
        let set =
            Rrset::new(RecordType::TXT, 60, vec![rdata(&[1, 2]), rdata(&[1]), rdata(&[0, 9]), rdata(&[1])]).unwrap();
        let order: Vec<&[u8]> = set.rdata().iter().map(|one| &**one).collect();
        assert_eq!(order, [&[0u8, 9][..], &[1], &[1, 2]]);
        let one = Rrset::new(RecordType::TXT, 60, vec![rdata(&[7]), rdata(&[7])]).unwrap();
        assert_eq!(one.rdata(), [rdata(&[7])]);
    }

    #[test]
    fn limits_hold() {
        assert_eq!(Rrset::new(RecordType::TXT, 60, vec![]), Err(Error::EmptyRrset));
        assert_eq!(Rrset::new(RecordType::TXT, MAX_TTL + 1, vec![rdata(&[0])]), Err(Error::Ttl(1 << 31)));
        assert!(Rrset::new(RecordType::TXT, MAX_TTL, vec![rdata(&vec![0; MAX_RRSET - RECORD_OVERHEAD])]).is_ok());
        let over = Rrset::new(RecordType::TXT, 60, vec![rdata(&vec![0; MAX_RRSET - RECORD_OVERHEAD + 1])]);
        assert_eq!(over, Err(Error::RrsetTooLarge { octets: MAX_RRSET + 1, limit: MAX_RRSET }));
    }
}
