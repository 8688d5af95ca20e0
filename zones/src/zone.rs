//! [`Zone`]: what is served under one apex, as a value that is cheap to copy and to change.
//!
//! A persistent hash table from names to nodes. A copy is one reference; a change copies the O(log n) inner nodes on its
//! way and shares the rest with every earlier copy, so a reader keeps the zone it began with. Every name between the
//! apex and a name with records has a node, too (an empty non-terminal, RFC 4592 section 2.2.2), which counts its
//! children: existence is one look-up, and a missing name's closest encloser is found from the apex downwards in as many
//! look-ups as the zone is deep, however long the name is that was asked for.

use crate::chain::Chain;
use crate::denial::Hash;
use crate::few::Few;
use crate::name::LabelStarts;
use crate::names::Names;
use crate::{Error, Name, RecordType, SignedRrset, ZoneKey, name, rdata};
use std::sync::Arc;

/// One signed zone. `clone` is O(1).
#[derive(Clone)]
pub struct Zone {
    apex: Name,
    key: Arc<ZoneKey>,
    names: Names,
    serial: u32,
    denial_ttl: u32,
    /// How many names have others below them that are not this zone's to answer: cuts and DNAMEs. A zone without any, as nearly
    /// all are, pays nothing for them.
    diversions: u32,
    /// The stored denials; without them denials are made for the question.
    chain: Option<Chain>,
}

/// A name that exists: its RRsets, and how many names there are one label below.
#[derive(Clone)]
pub struct Node {
    /// Sorted by type.
    rrsets: Few<SignedRrset>,
    children: u32,
}

/// What a zone has for a name (RFC 1034 section 4.3.2, RFC 4592 section 3.3.1).
#[derive(Clone, Copy)]
pub enum Found<'a> {
    /// The name exists; its node may have no RRset at all (an empty non-terminal).
    Exact(&'a Node),
    /// The name does not exist, a wildcard next to it does and speaks for it.
    Wildcard {
        /// The node of `*.<closest encloser>`; it may lack the type that was asked for.
        node: &'a Node,
        /// The longest existing ancestor, in wire form.
        closest_encloser: &'a [u8],
        /// The ancestor (or the name itself) one label longer, which does not exist.
        next_closer: &'a [u8],
    },
    /// Neither the name nor a wildcard for it exists.
    Missing {
        /// The longest existing ancestor, in wire form.
        closest_encloser: &'a [u8],
        /// The ancestor (or the name itself) one label longer, which does not exist.
        next_closer: &'a [u8],
    },
    /// The name is at or below a zone cut: another zone's, but for the DS records at the cut (RFC 4035 section 3.1.4.1).
    Delegation {
        /// The name of the cut, in wire form.
        cut: &'a [u8],
        /// Its NS records, and its DS records where the child is signed.
        node: &'a Node,
    },
    /// The name is below one with a DNAME record, which takes it elsewhere (RFC 6672 section 3.2).
    Dname {
        /// The owner of the DNAME record, in wire form.
        owner: &'a [u8],
        /// The node with the DNAME record.
        node: &'a Node,
    },
    /// The name is not at or below the apex: a question for another zone.
    Outside,
}

impl Zone {
    /// A zone with nothing in it yet.
    #[must_use]
    pub fn new(apex: Name, key: Arc<ZoneKey>) -> Zone {
        let mut names = Names::default();
        names.insert(apex.clone(), Node::empty());
        Zone { apex, key, names, serial: 0, denial_ttl: 0, diversions: 0, chain: None }
    }

    /// What there is for a name, given as a lower-case uncompressed wire form. Nothing is allocated; a hit costs one hash
    /// look-up, in a zone with cuts one for each label.
    #[must_use]
    pub fn find<'a>(&'a self, qname: &'a [u8]) -> Found<'a> {
        let plain = self.diversions == 0;
        if plain && let Some(node) = self.get(qname) {
            return Found::Exact(node);
        }
        let apex = self.apex.as_wire();
        if !name::is_at_or_below(qname, apex) {
            return Found::Outside;
        }
        let (mut closest_encloser, mut next_closer) = (apex, qname);
        // In a plain zone it is known that the apex exists, and that the name itself does not.
        let shortest = apex.len() + usize::from(plain);
        for start in LabelStarts::of(qname).iter().skip(usize::from(plain)).rev() {
            let name = qname.get(start..).unwrap_or_default();
            if name.len() < shortest {
                continue;
            }
            let Some(node) = self.get(name) else {
                next_closer = name;
                break;
            };
            if !plain {
                // RFC 1034 section 4.3.2 step 3b: what lies below a cut is glue at most. The apex itself is none.
                if node.is_cut() && name.len() > apex.len() {
                    return Found::Delegation { cut: name, node };
                }
                if node.rrset(RecordType::DNAME).is_some() && name.len() < qname.len() {
                    return Found::Dname { owner: name, node };
                }
            }
            if name.len() == qname.len() {
                return Found::Exact(node);
            }
            closest_encloser = name;
        }
        match self.wildcard_below(closest_encloser) {
            Some(node) => Found::Wildcard { node, closest_encloser, next_closer },
            None => Found::Missing { closest_encloser, next_closer },
        }
    }

    /// Whether a name, given as a lower-case uncompressed wire form, lies below a cut or a DNAME record. What is stored there
    /// is glue at most: not signed, without a place in the NSEC3 chain (RFC 4035 section 2.2, RFC 5155 section 7.1).
    #[must_use]
    pub fn occludes(&self, name: &[u8]) -> bool {
        self.diversions > 0
            && match self.find(name) {
                Found::Delegation { cut, .. } => cut.len() < name.len(),
                Found::Dname { .. } => true,
                _ => false,
            }
    }

    /// The node of a name, given as a lower-case uncompressed wire form.
    #[must_use]
    pub fn get(&self, owner_wire: &[u8]) -> Option<&Node> {
        self.names.get(owner_wire).map(|node| &**node)
    }

    /// The hash under which a name would stand, for [`Zone::likely`].
    #[must_use]
    pub fn hash(&self, owner_wire: &[u8]) -> u64 {
        self.names.hash(owner_wire)
    }

    /// A name that stands under a hash, with its node: nearly always the one that was hashed. Only good for getting what a
    /// look-up will read out of the memory early.
    #[must_use]
    pub fn likely(&self, hash: u64) -> Option<(&Name, &Arc<Node>)> {
        self.names.likely(hash)
    }

    /// The node of `*.<encloser>`.
    fn wildcard_below(&self, encloser: &[u8]) -> Option<&Node> {
        const LABEL: &[u8] = b"\x01*";
        let mut buffer = [0u8; name::MAX_NAME];
        let (label, rest) = buffer.split_at_mut_checked(LABEL.len())?;
        label.copy_from_slice(LABEL);
        rest.get_mut(..encloser.len())?.copy_from_slice(encloser);
        self.get(buffer.get(..LABEL.len() + encloser.len())?)
    }

    /// The name of the zone.
    #[must_use]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The key that signs the zone and, at query time, its denials.
    #[must_use]
    pub fn key(&self) -> &Arc<ZoneKey> {
        &self.key
    }

    /// Seconds that a denial may be cached: the smaller one of the SOA's TTL and its minimum field (RFC 2308 section 5, RFC
    /// 9077 section 3). 0 without SOA.
    #[must_use]
    pub fn denial_ttl(&self) -> u32 {
        self.denial_ttl
    }

    /// The SOA's serial; 0 without SOA.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// The full NSEC3 chain of a zone that has one: its answers then prove with it and with nothing else. None where denials
    /// are made for the question ([`crate::denial`]).
    #[must_use]
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// Puts a signed NSEC3 RRset into the chain, where the one of its hash was; the first one makes this a zone with a chain.
    /// The chain has to be whole when the zone is shown, with NSEC3PARAM at the apex (RFC 5155 section 7.1): an answer whose
    /// proof falls into a hole is an error.
    pub fn set_link(&mut self, hash: Hash, signed: SignedRrset) {
        self.chain.get_or_insert_default().set(hash, signed);
    }

    /// Takes a link out of the chain. Nothing happens where there is none.
    pub fn remove_link(&mut self, hash: &Hash) {
        if let Some(chain) = &mut self.chain {
            chain.remove(hash);
        }
    }

    /// Gives the chain up: denials are made for the question again.
    pub fn drop_chain(&mut self) {
        self.chain = None;
    }

    /// Every existing name, empty non-terminals included, in no order.
    pub fn names(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.names.iter()
    }

    /// How many names exist, the apex and empty non-terminals included; at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a zone is never empty: its apex exists")]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Puts an RRset where the one of its owner and type was. Errors: an owner outside the zone; an SOA that is none. The
    /// zone is then unchanged.
    pub fn set(&mut self, owner: &Name, signed: SignedRrset) -> Result<(), Error> {
        if !owner.is_at_or_below(&self.apex) {
            return Err(Error::OutOfZone { owner: owner.to_string(), apex: self.apex.to_string() });
        }
        if signed.rrset.rtype == RecordType::SOA && *owner == self.apex {
            let soa = rdata::read_soa(signed.rrset.rdata().first().map_or(&[], |first| first))?;
            self.serial = soa.serial;
            self.denial_ttl = soa.minimum.min(signed.rrset.ttl);
        }
        if let Some(node) = self.names.get_mut(owner) {
            let node = Arc::make_mut(node);
            let diverted = node.diverts();
            node.put(signed);
            self.diversions = self.diversions + u32::from(node.diverts()) - u32::from(diverted);
            return Ok(());
        }
        let mut node = Node::empty();
        node.put(signed);
        self.diversions += u32::from(node.diverts());
        self.names.insert(owner.clone(), node);
        // The ancestors exist from here on; the first one that did already ends the way, at the latest the apex.
        let mut ancestor = owner.parent();
        while let Some(name) = ancestor {
            if let Some(node) = self.names.get_mut(&name) {
                Arc::make_mut(node).children += 1;
                break;
            }
            ancestor = name.parent();
            self.names.insert(name, Node { children: 1, ..Node::empty() });
        }
        Ok(())
    }

    /// Takes an RRset away; the name, and empty non-terminals above it, disappear with the last one. Nothing happens where
    /// there is none.
    pub fn remove(&mut self, owner: &Name, rtype: RecordType) {
        match self.get(owner.as_wire()) {
            Some(node) if node.rrset(rtype).is_some() => {}
            _ => return,
        }
        if rtype == RecordType::SOA && *owner == self.apex {
            (self.serial, self.denial_ttl) = (0, 0);
        }
        let diverted = self.get(owner.as_wire()).is_some_and(Node::diverts);
        self.take(owner, rtype);
        let diverts = self.get(owner.as_wire()).is_some_and(Node::diverts);
        self.diversions = self.diversions + u32::from(diverts) - u32::from(diverted);
    }

    /// [`Zone::remove`] for the names alone.
    fn take(&mut self, owner: &Name, rtype: RecordType) {
        let mut name = owner.clone();
        let mut change: fn(&mut Node, RecordType) = |node, rtype| node.take(rtype);
        while let Some(node) = self.names.get_mut(&name) {
            let node = Arc::make_mut(node);
            change(node, rtype);
            if !node.rrsets.is_empty() || node.children > 0 || name == self.apex {
                return;
            }
            self.names.remove(&name);
            let Some(parent) = name.parent() else { return };
            name = parent;
            change = |node, _| node.children = node.children.saturating_sub(1);
        }
    }
}

impl Node {
    fn empty() -> Node {
        Node { rrsets: Vec::new().into(), children: 0 }
    }

    /// The RRset of a type.
    #[must_use]
    pub fn rrset(&self, rtype: RecordType) -> Option<&SignedRrset> {
        self.rrsets.iter().find(|signed| signed.rrset.rtype == rtype)
    }

    /// Every RRset, sorted by type.
    #[must_use]
    pub fn rrsets(&self) -> &[SignedRrset] {
        &self.rrsets
    }

    /// Whether the name is a zone cut: NS records without SOA. What else is stored here, but for DS, is glue.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.rrset(RecordType::NS).is_some() && self.rrset(RecordType::SOA).is_none()
    }

    /// Whether names below are not this zone's to answer.
    fn diverts(&self) -> bool {
        self.is_cut() || self.rrset(RecordType::DNAME).is_some()
    }

    /// How many existing names there are one label below.
    #[must_use]
    pub fn children(&self) -> u32 {
        self.children
    }

    fn put(&mut self, signed: SignedRrset) {
        let mut rrsets = self.rrsets.to_vec();
        match rrsets.binary_search_by_key(&signed.rrset.rtype, |one| one.rrset.rtype) {
            Ok(at) => {
                if let Some(slot) = rrsets.get_mut(at) {
                    *slot = signed;
                }
            }
            Err(at) => rrsets.insert(at, signed),
        }
        self.rrsets = rrsets.into();
    }

    fn take(&mut self, rtype: RecordType) {
        let mut rrsets = self.rrsets.to_vec();
        rrsets.retain(|one| one.rrset.rtype != rtype);
        self.rrsets = rrsets.into();
    }
}

#[cfg(test)]
mod tests {
    // Random zones against a naive model are in tests/model.rs.
    use super::*;
    use crate::{Rdata, Rrset, Soa};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn zone() -> Zone {
        Zone::new(name("example.org"), Arc::new(ZoneKey::generate().unwrap().0))
    }

    fn signed(rtype: RecordType, ttl: u32, rdata: Rdata) -> SignedRrset {
        SignedRrset { rrset: Rrset::new(rtype, ttl, vec![rdata]).unwrap(), rrsig: [0; 20].as_slice().into() }
    }

    fn soa(serial: u32, minimum: u32) -> Rdata {
        rdata::soa(&Soa { mname: Name::root(), rname: Name::root(), serial, refresh: 1, retry: 1, expire: 1, minimum })
    }

    #[test]
    fn serial_and_denial_ttl_follow_the_soa() {
        let mut zone = zone();
        let apex = zone.apex().clone();
        assert_eq!((zone.serial(), zone.denial_ttl()), (0, 0));
        for (ttl, serial, minimum, denial_ttl) in [(300, 7, 120, 120), (60, u32::MAX, 120, 60), (300, 0, u32::MAX, 300)]
        {
            zone.set(&apex, signed(RecordType::SOA, ttl, soa(serial, minimum))).unwrap();
            assert_eq!((zone.serial(), zone.denial_ttl()), (serial, denial_ttl));
        }
        let before = zone.get(apex.as_wire()).unwrap().rrsets().to_vec();
        assert_eq!(
            zone.set(&apex, signed(RecordType::SOA, 1, [0; 9].as_slice().into())).unwrap_err().code(),
            "bad-rdata"
        );
        assert_eq!(zone.get(apex.as_wire()).unwrap().rrsets(), before);
        // An SOA below the apex is none of this zone.
        zone.set(&name("a.example.org"), signed(RecordType::SOA, 1, soa(99, 9))).unwrap();
        assert_eq!((zone.serial(), zone.denial_ttl()), (0, 300));
        zone.set(&apex, signed(RecordType::SOA, 300, soa(5, 5))).unwrap();
        zone.remove(&apex, RecordType::SOA);
        assert_eq!((zone.serial(), zone.denial_ttl()), (0, 0));
        assert!(zone.get(apex.as_wire()).is_some(), "the apex stays");
    }

    #[test]
    fn a_name_outside_is_refused() {
        let mut zone = zone();
        for owner in ["example.com", "org", "badexample.org"] {
            let error = zone.set(&name(owner), signed(RecordType::TXT, 1, [0].as_slice().into())).unwrap_err();
            assert_eq!(error, Error::OutOfZone { owner: format!("{owner}."), apex: "example.org.".into() });
            assert!(matches!(zone.find(name(owner).as_wire()), Found::Outside));
        }
        assert_eq!(zone.len(), 1);
    }

    /// A wildcard owner may itself be an empty non-terminal; it matches all the same (RFC 4592 section 2.2.2).
    #[test]
    fn an_empty_wildcard_matches() {
        let mut zone = zone();
        zone.set(&name("a.*.example.org"), signed(RecordType::TXT, 1, [0].as_slice().into())).unwrap();
        let qname = name("x.y.example.org");
        let Found::Wildcard { node, closest_encloser, next_closer } = zone.find(qname.as_wire()) else { panic!() };
        assert!(node.rrsets().is_empty());
        assert_eq!((closest_encloser, next_closer), (name("example.org").as_wire(), name("y.example.org").as_wire()));
    }

    #[test]
    fn cuts_and_dnames_divert() {
        let mut zone = zone();
        let rdata = || -> Rdata { [0].as_slice().into() };
        let apex = zone.apex().clone();
        zone.set(&apex, signed(RecordType::SOA, 300, soa(1, 1))).unwrap();
        zone.set(&apex, signed(RecordType::NS, 1, rdata())).unwrap();
        for owner in
            ["cut.example.org", "a.cut.example.org", "deep.ns.cut.example.org", "to.example.org", "plain.example.org"]
        {
            zone.set(&name(owner), signed(RecordType::A, 1, rdata())).unwrap();
        }
        assert!(matches!(zone.find(name("a.cut.example.org").as_wire()), Found::Exact(_)));
        zone.set(&name("cut.example.org"), signed(RecordType::NS, 1, rdata())).unwrap();
        zone.set(&name("a.cut.example.org"), signed(RecordType::NS, 1, rdata())).unwrap();
        zone.set(&name("to.example.org"), signed(RecordType::DNAME, 1, rdata())).unwrap();
        zone.set(&name("x.to.example.org"), signed(RecordType::TXT, 1, rdata())).unwrap();
        for (owner, occluded) in
            [("cut.example.org", false), ("a.cut.example.org", true), ("b.c.cut.example.org", true)]
        {
            let owner = name(owner);
            let Found::Delegation { cut, node } = zone.find(owner.as_wire()) else { panic!("{owner}") };
            assert_eq!(cut, name("cut.example.org").as_wire());
            assert!(node.is_cut());
            assert_eq!(zone.occludes(owner.as_wire()), occluded, "{owner}");
        }
        for owner in ["x.to.example.org", "a.b.to.example.org"] {
            let owner = name(owner);
            assert!(
                matches!(zone.find(owner.as_wire()), Found::Dname { owner, .. } if owner == name("to.example.org").as_wire())
            );
            assert!(zone.occludes(owner.as_wire()));
        }
        for owner in ["example.org", "to.example.org", "plain.example.org"] {
            let owner = name(owner);
            assert!(matches!(zone.find(owner.as_wire()), Found::Exact(_)), "{owner}");
            assert!(!zone.occludes(owner.as_wire()));
        }
        assert!(matches!(zone.find(name("x.plain.example.org").as_wire()), Found::Missing { .. }));
        // Removed in any order, nothing diverts any more.
        zone.remove(&name("cut.example.org"), RecordType::NS);
        assert!(matches!(zone.find(name("b.a.cut.example.org").as_wire()), Found::Delegation { .. }));
        zone.remove(&name("a.cut.example.org"), RecordType::NS);
        zone.remove(&name("a.cut.example.org"), RecordType::A);
        zone.remove(&name("to.example.org"), RecordType::DNAME);
        assert_eq!(zone.diversions, 0);
        // A DNAME at the apex diverts everything below it (RFC 6672 section 2.3).
        zone.set(&apex, signed(RecordType::DNAME, 1, rdata())).unwrap();
        assert!(matches!(zone.find(apex.as_wire()), Found::Exact(_)));
        assert!(matches!(zone.find(name("plain.example.org").as_wire()), Found::Dname { .. }));
        zone.remove(&apex, RecordType::DNAME);
        zone.remove(&apex, RecordType::SOA);
        assert_eq!(zone.diversions, 1, "an apex that is not one yet counts, and does no harm");
        assert!(matches!(zone.find(name("plain.example.org").as_wire()), Found::Exact(_)));
    }

    /// Octets that are no name, in the length of one, are outside: nothing panics.
    #[test]
    fn octets_that_are_no_name() {
        let zone = zone();
        for octets in [&[][..], &[0], &[63], &[255; 300], &[1; 14], b"\x05a\x07example\x03org\x00"] {
            assert!(matches!(zone.find(octets), Found::Outside), "{octets:?}");
        }
        let long: Vec<u8> = [1, b'x'].repeat(300).into_iter().chain(zone.apex().as_wire().iter().copied()).collect();
        assert!(matches!(zone.find(&long), Found::Missing { .. }));
    }

    #[test]
    fn rrsets_are_sorted_and_replaced() {
        let mut zone = zone();
        let owner = name("a.example.org");
        for (rtype, octet) in [(RecordType::TXT, 1), (RecordType::A, 2), (RecordType::SMIMEA, 3), (RecordType::A, 4)] {
            zone.set(&owner, signed(rtype, 1, [octet].as_slice().into())).unwrap();
        }
        let node = zone.get(owner.as_wire()).unwrap();
        let all: Vec<(RecordType, u8)> =
            node.rrsets().iter().map(|one| (one.rrset.rtype, one.rrset.rdata()[0][0])).collect();
        assert_eq!(all, [(RecordType::A, 4), (RecordType::TXT, 1), (RecordType::SMIMEA, 3)]);
        assert!(node.rrset(RecordType::MX).is_none());
    }
}
