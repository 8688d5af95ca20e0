//! [`Chain`]: the NSEC3 records of a zone that shows all of them, already signed, in the order of their hashes.
//!
//! A link for each name that has one (RFC 5155 section 7.1): every authoritative name, every cut, and the empty non-terminals
//! between them and the apex; without opt-out (RFC 9276 section 3.1). Whoever stores the zone computes and signs the links;
//! here they are kept and found. A persistent map, as the zone itself: a copy is one reference.

use crate::SignedRrset;
use crate::denial::{HASH, Hash};

/// The links of a zone. `clone` is O(1).
#[derive(Clone, Default)]
pub struct Chain {
    links: imbl::OrdMap<Hash, SignedRrset>,
}

/// One NSEC3 record, owned by its hash before the apex.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The hash that its owner name is made from.
    pub hash: Hash,
    /// The RRset, of one record, and its signature.
    pub signed: &'a SignedRrset,
}

impl Chain {
    /// The link of an existing name.
    #[must_use]
    pub fn matching(&self, hash: &Hash) -> Option<Link<'_>> {
        self.links.get_key_value(hash).map(|(hash, signed)| Link { hash: *hash, signed })
    }

    /// The link that proves that no name has this hash. None where one has, and where the chain has a hole: what the link
    /// itself says decides, as it does for whoever checks the proof.
    #[must_use]
    pub fn covering(&self, hash: &Hash) -> Option<Link<'_>> {
        self.before(hash).filter(|link| link.covers(hash))
    }

    /// The link with the next smaller hash; the hash space is a ring (RFC 5155 section 3.1.7), so before the first link
    /// stands the last one. None without links.
    #[must_use]
    pub fn before(&self, hash: &Hash) -> Option<Link<'_>> {
        let mut smaller = self.links.range(..*hash);
        let (hash, signed) =
            smaller.next_back().or_else(|| self.links.get_max().map(|(hash, signed)| (hash, signed)))?;
        Some(Link { hash: *hash, signed })
    }

    /// Every link in the order of the hashes.
    pub fn links(&self) -> impl Iterator<Item = Link<'_>> {
        self.links.iter().map(|(hash, signed)| Link { hash: *hash, signed })
    }

    /// How many links there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is no link.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(crate) fn set(&mut self, hash: Hash, signed: SignedRrset) {
        self.links.insert(hash, signed);
    }

    pub(crate) fn remove(&mut self, hash: &Hash) {
        self.links.remove(hash);
    }
}

impl Link<'_> {
    /// The hash that comes next in the chain; none where the RDATA is no NSEC3 of the parameters used here.
    #[must_use]
    pub fn next(&self) -> Option<Hash> {
        // RFC 5155 section 3.2: algorithm, flags, iterations, salt length (0), hash length, next hash.
        let rdata = self.signed.rrset.rdata().first()?;
        match rdata.get(4..6)? {
            [0, length] if usize::from(*length) == HASH => rdata.get(6..)?.first_chunk().copied(),
            _ => None,
        }
    }

    /// Whether the hash lies strictly between this link and the next (RFC 5155 section 1.3, "cover").
    #[must_use]
    pub fn covers(&self, hash: &Hash) -> bool {
        self.next().is_some_and(|next| {
            if self.hash < next { self.hash < *hash && *hash < next } else { *hash > self.hash || *hash < next }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RecordType, Rrset, denial};

    fn link(next: u8) -> SignedRrset {
        let rrset = Rrset::new(RecordType::NSEC3, 300, vec![denial::nsec3([next; HASH], &[])]).unwrap();
        SignedRrset { rrset, rrsig: [0; 20].as_slice().into() }
    }

    fn chain(links: &[(u8, u8)]) -> Chain {
        let mut chain = Chain::default();
        for (hash, next) in links {
            chain.set([*hash; HASH], link(*next));
        }
        chain
    }

    #[test]
    fn the_ring_closes() {
        let chain = chain(&[(10, 20), (20, 30), (30, 10)]);
        for (hash, covering) in [(5, 30), (15, 10), (25, 20), (31, 30), (0, 30), (255, 30)] {
            assert_eq!(chain.covering(&[hash; HASH]).unwrap().hash, [covering; HASH], "{hash}");
            assert!(chain.matching(&[hash; HASH]).is_none());
        }
        for hash in [10, 20, 30] {
            assert_eq!(chain.matching(&[hash; HASH]).unwrap().hash, [hash; HASH]);
            assert!(chain.covering(&[hash; HASH]).is_none(), "what exists is not covered");
        }
        assert_eq!(chain.before(&[10; HASH]).unwrap().hash, [30; HASH]);
        assert_eq!(chain.links().map(|link| link.hash[0]).collect::<Vec<_>>(), [10, 20, 30]);
    }

    /// RFC 5155 section 7.1: the only link points to itself and covers everything else.
    #[test]
    fn a_single_link() {
        let chain = chain(&[(10, 10)]);
        assert_eq!(chain.covering(&[9; HASH]).unwrap().hash, [10; HASH]);
        assert_eq!(chain.covering(&[11; HASH]).unwrap().hash, [10; HASH]);
        assert!(chain.covering(&[10; HASH]).is_none());
    }

    #[test]
    fn a_hole_proves_nothing() {
        let mut chain = chain(&[(10, 20), (20, 30), (30, 10)]);
        chain.remove(&[20; HASH]);
        assert_eq!(chain.covering(&[15; HASH]).unwrap().hash, [10; HASH]);
        assert!(chain.covering(&[25; HASH]).is_none());
        assert!(Chain::default().covering(&[1; HASH]).is_none());
    }
}
