//! NSEC3 records that prove what a zone has not (RFC 5155), made for the question that asks.
//!
//! A denial here says the least it can (RFC 7129 appendix B, "minimally covering"): one that *matches* a hash spans from
//! the hash to the next possible one, one that *covers* a hash spans from the one before to the one behind. Nobody learns
//! another name of the zone from it. A zone that shows its chain answers with [`Denial::link`] instead. Parameters are those of RFC 9276 section 3.1: no extra iterations, no salt, no opt-out.
//!
//! Which [`Denial`]s an answer needs is said by [`nxdomain`], [`nodata`], [`wildcard_nodata`] and [`wildcard_expansion`];
//! [`Denial::record`] makes the record, which the zone's key signs. A `Denial` can be the key of a cache: within one zone,
//! denials that are equal have equal records.

use crate::{Chain, Error, Link, Name, Node, Rdata, RecordType, Rrset, SignedRrset, Zone};

/// Octets of a hash: SHA-1.
pub const HASH: usize = 20;
/// A hash of a name in NSEC3.
pub type Hash = [u8; HASH];
/// Octets of a hash in base32hex.
const LABEL: usize = 32;
/// Hash algorithm SHA-1 (RFC 5155 section 11), flags, iterations, length of the salt.
const PARAMETERS: [u8; 5] = [1, 0, 0, 0, 0];

/// One NSEC3 record that an answer needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    hash: Hash,
    /// The type bitmap of the name where the record matches it; none where the record covers a name.
    types: Option<Box<[u8]>>,
}

impl Denial {
    /// Matches an existing name: it says which types the name has.
    #[must_use]
    pub fn matching(name_wire: &[u8], node: &Node) -> Denial {
        Denial { hash: nsec3_hash(name_wire), types: Some(type_bitmap(node_types(node)).into()) }
    }

    /// Covers a name: it says that the name does not exist.
    #[must_use]
    pub fn covering(name_wire: &[u8]) -> Denial {
        Denial { hash: nsec3_hash(name_wire), types: None }
    }

    /// The hash of the name that it is about.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The stored record that says the same, in a zone that shows its chain. None where the chain has a hole.
    #[must_use]
    pub fn link<'c>(&self, chain: &'c Chain) -> Option<Link<'c>> {
        match self.types {
            Some(_) => chain.matching(&self.hash),
            None => chain.covering(&self.hash),
        }
    }

    /// The record: its owner below the zone's apex, its RRset with the zone's TTL for denials. Errors: an apex so long that
    /// a hash before it does not fit a name.
    pub fn record(&self, zone: &Zone) -> Result<(Name, Rrset), Error> {
        let (owner, types) = match &self.types {
            Some(types) => (self.hash, &**types),
            None => (predecessor(self.hash), &[][..]),
        };
        let rdata = nsec3(successor(self.hash), types);
        Ok((nsec3_owner(owner, zone.apex())?, Rrset::new(RecordType::NSEC3, zone.denial_ttl(), vec![rdata])?))
    }
}

/// The name does not exist, nor does a wildcard for it (RFC 5155 section 7.2.2): the closest encloser matches, the next
/// closer name and the wildcard at the closest encloser are covered. The names are those of [`crate::Found::Missing`].
#[must_use]
pub fn nxdomain(zone: &Zone, closest_encloser: &[u8], next_closer: &[u8]) -> [Denial; 3] {
    let wildcard = [b"\x01*", closest_encloser].concat();
    [encloser(zone, closest_encloser), Denial::covering(next_closer), Denial::covering(&wildcard)]
}

/// The name exists without the type (RFC 5155 sections 7.2.3 and 7.2.4), also an empty non-terminal, also a cut without DS
/// (section 7.2.7).
#[must_use]
pub fn nodata(qname: &[u8], node: &Node) -> [Denial; 1] {
    [Denial::matching(qname, node)]
}

/// The name does not exist, and the wildcard for it lacks the type (RFC 5155 section 7.2.5). The names and the node are
/// those of [`crate::Found::Wildcard`].
#[must_use]
pub fn wildcard_nodata(zone: &Zone, closest_encloser: &[u8], next_closer: &[u8], wildcard: &Node) -> [Denial; 3] {
    let name = [b"\x01*", closest_encloser].concat();
    [encloser(zone, closest_encloser), Denial::covering(next_closer), Denial::matching(&name, wildcard)]
}

/// The answer was expanded from a wildcard (RFC 5155 section 7.2.6): that nothing is nearer. The closest encloser follows
/// from the label count in the answer's RRSIG.
#[must_use]
pub fn wildcard_expansion(next_closer: &[u8]) -> [Denial; 1] {
    [Denial::covering(next_closer)]
}

fn encloser(zone: &Zone, name: &[u8]) -> Denial {
    let types = zone.get(name).map(|node| type_bitmap(node_types(node))).unwrap_or_default();
    Denial { hash: nsec3_hash(name), types: Some(types.into()) }
}

/// The hash of a lower-case wire-form name (RFC 5155 section 5), without salt and extra iterations.
#[must_use]
pub fn nsec3_hash(name_wire: &[u8]) -> Hash {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, name_wire);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The owner of an NSEC3 record (RFC 5155 section 3): the hash in base32hex as a label before the apex.
pub fn nsec3_owner(hash: Hash, apex: &Name) -> Result<Name, Error> {
    apex.prepend(&nsec3_label(&hash))
}

/// The first label of an NSEC3 record's owner: the hash in base32hex (RFC 5155 section 3).
#[must_use]
pub fn nsec3_label(hash: &Hash) -> [u8; LABEL] {
    let mut label = [0; LABEL];
    // 160 bits are exactly 32 digits of 5.
    data_encoding::BASE32_DNSSEC.encode_mut(hash, &mut label);
    label
}

/// The RDATA of an NSEC3 record (RFC 5155 section 3.2).
#[must_use]
pub fn nsec3(next: Hash, bitmap: &[u8]) -> Rdata {
    // The length of the next hash stands before it.
    [&PARAMETERS[..], &[HASH as u8], &next, bitmap].concat().into()
}

/// The RDATA of the NSEC3PARAM record (RFC 5155 section 4.2) of a zone that shows its NSEC3 chain.
#[must_use]
pub fn nsec3param() -> Rdata {
    PARAMETERS.as_slice().into()
}

/// A type bitmap (RFC 4034 section 4.1.2): windows of 256 types, each as short as it can be.
#[must_use]
pub fn type_bitmap(types: impl IntoIterator<Item = RecordType>) -> Vec<u8> {
    let mut types: Vec<u16> = types.into_iter().map(|rtype| rtype.0).collect();
    types.sort_unstable();
    let mut bitmap = Vec::new();
    for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut bits = [0u8; 32];
        let mut head = [0u8; 2];
        for &rtype in window {
            let [number, low] = rtype.to_be_bytes();
            if let Some(octet) = bits.get_mut(usize::from(low >> 3)) {
                *octet |= 0x80 >> (low & 7);
            }
            // Types ascend: the last one has the length.
            head = [number, (low >> 3) + 1];
        }
        bitmap.extend_from_slice(&head);
        bitmap.extend_from_slice(bits.get(..usize::from(head[1])).unwrap_or_default());
    }
    bitmap
}

/// The types a node has: its RRsets, and RRSIG where one of them is signed. An empty non-terminal has none. A cut has NS,
/// and DS where there is one; what else is stored there is the child's (RFC 4035 section 2.3, RFC 5155 section 7.1).
pub fn node_types(node: &Node) -> impl Iterator<Item = RecordType> {
    let cut = node.is_cut();
    let shown = move |one: &&SignedRrset| !cut || [RecordType::NS, RecordType::DS].contains(&one.rrset.rtype);
    let signed = node.rrsets().iter().filter(shown).any(|one| !one.rrsig.is_empty());
    node.rrsets().iter().filter(shown).map(|one| one.rrset.rtype).chain(signed.then_some(RecordType::RRSIG))
}

/// The next hash; the hash space is a ring (RFC 5155 section 3.1.7).
fn successor(mut hash: Hash) -> Hash {
    for octet in hash.iter_mut().rev() {
        *octet = octet.wrapping_add(1);
        if *octet != 0 {
            break;
        }
    }
    hash
}

/// The hash before; the hash space is a ring.
fn predecessor(mut hash: Hash) -> Hash {
    for octet in hash.iter_mut().rev() {
        *octet = octet.wrapping_sub(1);
        if *octet != 0xff {
            break;
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_space_is_a_ring() {
        let low = [0; HASH];
        let high = [0xff; HASH];
        let mut one = low;
        one[HASH - 1] = 1;
        assert_eq!((successor(low), predecessor(one)), (one, low));
        assert_eq!((successor(high), predecessor(low)), (low, high));
        let mut carried = low;
        carried[HASH - 2] = 1;
        let mut full = low;
        full[HASH - 1] = 0xff;
        assert_eq!((successor(full), predecessor(carried)), (carried, full));
    }

    /// The bitmap of RFC 4034 section 4.3: A MX RRSIG NSEC TYPE1234.
    #[test]
    fn rfc_4034_bitmap() {
        let types = [RecordType(1234), RecordType::NSEC, RecordType::A, RecordType::RRSIG, RecordType::MX];
        let expected = [&[0, 6, 0x40, 1, 0, 0, 0, 3, 4, 27][..], &[0; 26], &[0x20]].concat();
        assert_eq!(type_bitmap(types), expected);
        assert_eq!(type_bitmap([]), [0; 0]);
        assert_eq!(
            type_bitmap([RecordType(255), RecordType(256), RecordType::A]),
            [&[0, 32, 0x40][..], &[0; 30], &[1], &[1, 1, 0x80]].concat()
        );
    }

    #[test]
    fn records_have_the_parameters_of_rfc_9276() {
        // printf '\007example\000' | sha1sum
        let hash = nsec3_hash(b"\x07example\x00");
        assert_eq!(data_encoding::HEXLOWER.encode(&hash), "1db8efa7dcb348bda7893fca1d8badfdb6996b01");
        assert_eq!(&nsec3(hash, &[0, 1, 0x40])[..6], [1, 0, 0, 0, 0, 20]);
        assert_eq!(*nsec3param(), [1, 0, 0, 0, 0]);
    }

    #[test]
    fn an_apex_too_long_for_hashes_is_an_error() {
        let label = [b'x'; 63];
        let apex = [&label[..], &label, &label]
            .iter()
            .try_fold(Name::root(), |name, label| name.prepend(label))
            .and_then(|name| name.prepend(&label[..40]))
            .unwrap();
        let zone = Zone::new(apex.clone(), std::sync::Arc::new(crate::ZoneKey::generate().unwrap().0));
        assert_eq!(Denial::covering(apex.as_wire()).record(&zone).unwrap_err().code(), "bad-name");
    }
}
