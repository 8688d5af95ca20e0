//! The NSEC3 chain of a zone that shows it whole (RFC 5155 section 7.1): which names have a link, and which links a change
//! makes anew. Pure; the rows come from the store and go back to it.
//!
//! Types at a name come from entries, given records and the apex, one change at a time; a [`Link`] keeps what is needed to
//! know when its name ceases to exist: its types, and how many names there are one label below (an empty non-terminal has
//! none of the former and some of the latter). Names below a delegation have no link, so nobody announces changes of theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use certdir_certificate::UnixTime;
use certdir_zones::denial::{self, HASH, Hash};
use certdir_zones::{Name, RecordType, Rrset, SignedRrset, ZoneKey};

use crate::error::Error;
use crate::records::Term;

/// An RRset that a name got (true) or lost. An RRset that is only replaced is no change here.
pub(crate) type Change = (Name, RecordType, bool);

/// A link as the store keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) hash: Hash,
    /// The types of its name, without RRSIG.
    pub(crate) types: BTreeSet<RecordType>,
    /// Names one label below.
    pub(crate) below: u32,
    /// The NSEC3 RRset; none when the name is gone.
    pub(crate) signed: Option<SignedRrset>,
    pub(crate) inception: UnixTime,
    pub(crate) refresh_at: UnixTime,
}

/// How links are signed.
pub(crate) struct Signing<'a> {
    pub(crate) apex: &'a Name,
    pub(crate) key: &'a ZoneKey,
    pub(crate) ttl: u32,
    pub(crate) now: UnixTime,
}

/// Changes applied to the names they touch, before the neighbours in the ring are known.
pub(crate) struct Weave {
    apex: Name,
    /// By the hash of the name: what it has now.
    names: HashMap<Hash, Standing>,
    /// What was there before.
    before: HashMap<Hash, Link>,
}

#[derive(Clone, PartialEq, Eq)]
struct Standing {
    is_apex: bool,
    types: BTreeSet<RecordType>,
    below: u32,
}

impl Standing {
    fn exists(&self) -> bool {
        self.is_apex || self.below > 0 || !self.types.is_empty()
    }

    /// RFC 4034 section 4.1.2, RFC 5155 section 3.2.1: RRSIG is among the types where something is signed; the NS of a
    /// delegation is not.
    fn bitmap(&self) -> Vec<u8> {
        let signed = self.is_apex || self.types.iter().any(|rtype| *rtype != RecordType::NS);
        let rrsig = (signed && !self.types.is_empty()).then_some(RecordType::RRSIG);
        denial::type_bitmap(self.types.iter().copied().chain(rrsig))
    }
}

/// The hashes of the names that changes touch: their own and those of all names above, up to the apex.
pub(crate) fn touched(apex: &Name, changes: &[Change]) -> HashSet<Hash> {
    let mut seen = HashSet::new();
    for (name, ..) in changes {
        for name in std::iter::successors(Some(name.clone()), Name::parent).take_while(|name| name.is_at_or_below(apex))
        {
            // Whose ancestors were seen, too.
            if !seen.insert(denial::nsec3_hash(name.as_wire())) {
                break;
            }
        }
    }
    seen
}

impl Weave {
    /// Applies changes to the links of the names they touch.
    pub(crate) fn new(apex: &Name, changes: &[Change], rows: Vec<Link>) -> Weave {
        let before: HashMap<Hash, Link> = rows.into_iter().map(|row| (row.hash, row)).collect();
        let mut weave = Weave { apex: apex.clone(), names: HashMap::new(), before };
        for (name, rtype, there) in changes {
            let existed = weave.standing(name).exists();
            let standing = weave.standing(name);
            if *there {
                standing.types.insert(*rtype);
            } else {
                standing.types.remove(rtype);
            }
            let exists = standing.exists();
            if existed != exists {
                weave.tell_parent(name, exists);
            }
        }
        weave
    }

    /// A name came or went: the one above has one more or less below it, and may come or go with it.
    fn tell_parent(&mut self, name: &Name, came: bool) {
        let mut name = name.clone();
        while let Some(parent) = name.parent().filter(|parent| parent.is_at_or_below(&self.apex)) {
            let standing = self.standing(&parent);
            let existed = standing.exists();
            standing.below = if came { standing.below + 1 } else { standing.below.saturating_sub(1) };
            if standing.exists() == existed {
                return;
            }
            name = parent;
        }
    }

    fn standing(&mut self, name: &Name) -> &mut Standing {
        let hash = denial::nsec3_hash(name.as_wire());
        let (is_apex, before) = (*name == self.apex, &self.before);
        self.names.entry(hash).or_insert_with(|| match before.get(&hash) {
            Some(link) => Standing { is_apex, types: link.types.clone(), below: link.below },
            None => Standing { is_apex, types: BTreeSet::new(), below: 0 },
        })
    }

    /// The hashes that enter the ring or leave it: whoever stands before one of them points elsewhere afterwards.
    pub(crate) fn moved(&self) -> Vec<Hash> {
        let moved = self.names.iter().filter(|(hash, standing)| standing.exists() != self.before.contains_key(*hash));
        moved.map(|(hash, _)| *hash).collect()
    }

    /// The links to write, those of names that are gone included. `ahead` has, for each moved hash, the link that stood before
    /// it in the ring (and not itself); none at all in a zone without a chain yet.
    pub(crate) fn links(self, ahead: HashMap<Hash, Link>, signing: &Signing<'_>) -> Result<Vec<Link>, Error> {
        let gone = |hash: &Hash| self.names.get(hash).is_some_and(|standing| !standing.exists());
        // The next of a link as it was, beyond those that are gone.
        let old: HashMap<Hash, &Link> =
            self.before.values().chain(ahead.values()).map(|link| (link.hash, link)).collect();
        let follow = |link: &Link| {
            let mut next = next_of(link);
            for _ in 0..=old.len() {
                match next {
                    Some(hash) if gone(&hash) => next = old.get(&hash).and_then(|link| next_of(link)),
                    _ => break,
                }
            }
            next
        };
        let entered: BTreeSet<Hash> = self.moved().into_iter().filter(|hash| !gone(hash)).collect();
        let mut written = Vec::new();
        let mut write = |hash: Hash, standing: &Standing, surviving: Option<Hash>| -> Result<(), Error> {
            // The first of those that entered, going up and around; itself last.
            let behind = entered.range(hash..).find(|entered| **entered != hash).or_else(|| entered.first()).copied();
            let next =
                [surviving, behind].into_iter().flatten().min_by_key(|next| (*next <= hash, *next)).unwrap_or(hash);
            match old.get(&hash).filter(|link| next_of(link) == Some(next) && link.types == standing.types) {
                None => written.push(link(hash, standing, next, signing)?),
                // What it says is the same: its signature stays.
                Some(link) if link.below != standing.below => {
                    written.push(Link { below: standing.below, ..Link::clone(link) });
                }
                Some(_) => {}
            }
            Ok(())
        };
        for (hash, standing) in &self.names {
            if standing.exists() {
                let pointing = self.before.get(hash).or_else(|| ahead.get(hash));
                write(*hash, standing, pointing.and_then(follow))?;
            }
        }
        let mut others: BTreeMap<Hash, &Link> = ahead.values().map(|link| (link.hash, link)).collect();
        others.retain(|hash, _| !self.names.contains_key(hash));
        for (hash, link) in others {
            let is_apex = denial::nsec3_hash(self.apex.as_wire()) == hash;
            let standing = Standing { is_apex, types: link.types.clone(), below: link.below };
            write(hash, &standing, follow(link))?;
        }
        for (hash, standing) in &self.names {
            if !standing.exists() && self.before.contains_key(hash) {
                written.push(Link {
                    hash: *hash,
                    types: BTreeSet::new(),
                    below: 0,
                    signed: None,
                    inception: 0,
                    refresh_at: 0,
                });
            }
        }
        Ok(written)
    }
}

fn link(hash: Hash, standing: &Standing, next: Hash, signing: &Signing<'_>) -> Result<Link, Error> {
    let rdata = denial::nsec3(next, &standing.bitmap());
    let rrset = Rrset::new(RecordType::NSEC3, signing.ttl, vec![rdata])?;
    let mut link =
        Link { hash, types: standing.types.clone(), below: standing.below, signed: None, inception: 0, refresh_at: 0 };
    sign(&mut link, &rrset, signing)?;
    Ok(link)
}

/// Signs a link's RRset anew.
fn sign(link: &mut Link, rrset: &Rrset, signing: &Signing<'_>) -> Result<(), Error> {
    let spread = link.hash.first_chunk::<4>().map_or(0, |octets| i64::from(u32::from_be_bytes(*octets)));
    let term = Term::new(signing.now, None, spread);
    let owner = denial::nsec3_owner(link.hash, signing.apex)?;
    link.signed = Some(signing.key.sign(signing.apex, &owner, rrset, term.inception, term.expiration)?);
    link.inception = term.begins_at;
    link.refresh_at = term.refresh_at.unwrap_or(signing.now);
    Ok(())
}

/// Renews the signature of a link.
pub(crate) fn renew(link: &mut Link, signing: &Signing<'_>) -> Result<(), Error> {
    match &link.signed {
        Some(signed) => {
            let rrset = Rrset::new(RecordType::NSEC3, signing.ttl, signed.rrset.rdata().to_vec())?;
            sign(link, &rrset, signing)
        }
        None => Ok(()),
    }
}

/// The hash a link points to.
fn next_of(link: &Link) -> Option<Hash> {
    // RFC 5155 section 3.2: five octets of parameters, the length, the hash.
    link.signed.as_ref()?.rrset.rdata().first()?.get(6..6 + HASH)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the store does, in memory.
    #[derive(Default)]
    struct Rows(BTreeMap<Hash, Link>);

    impl Rows {
        fn weave(&mut self, apex: &Name, key: &ZoneKey, changes: &[Change]) -> usize {
            let rows = touched(apex, changes).iter().filter_map(|hash| self.0.get(hash).cloned()).collect();
            let weave = Weave::new(apex, changes, rows);
            let ahead = weave.moved().into_iter().filter_map(|hash| {
                let before = self.0.range(..hash).next_back().or_else(|| self.0.last_key_value());
                before.map(|(_, link)| (hash, link.clone()))
            });
            let ahead = ahead.collect();
            let links = weave.links(ahead, &Signing { apex, key, ttl: 300, now: 1_800_000_000 }).unwrap();
            let written = links.len();
            for link in links {
                match link.signed {
                    Some(_) => self.0.insert(link.hash, link),
                    None => self.0.remove(&link.hash),
                };
            }
            written
        }
    }

    /// The chain from scratch: hash, next, bitmap.
    fn from_scratch(apex: &Name, all: &BTreeSet<(Name, RecordType)>) -> Vec<(Hash, Hash, Vec<u8>)> {
        let mut names: BTreeMap<Name, BTreeSet<RecordType>> = BTreeMap::from([(apex.clone(), BTreeSet::new())]);
        for (name, rtype) in all {
            names.entry(name.clone()).or_default().insert(*rtype);
            let mut above = name.parent();
            while let Some(name) = above.filter(|name| name.is_at_or_below(apex)) {
                above = name.parent();
                names.entry(name).or_default();
            }
        }
        let mut hashes: BTreeMap<Hash, Vec<u8>> = BTreeMap::new();
        for (name, types) in names {
            let signed = types.iter().any(|rtype| *rtype != RecordType::NS || name == *apex);
            let bitmap = denial::type_bitmap(types.iter().copied().chain(signed.then_some(RecordType::RRSIG)));
            hashes.insert(denial::nsec3_hash(name.as_wire()), bitmap);
        }
        let next = hashes.keys().copied().cycle().skip(1);
        hashes.iter().zip(next).map(|((hash, bitmap), next)| (*hash, next, bitmap.clone())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// After any changes the chain is the one that would be computed from scratch.
        #[test]
        fn the_chain_is_that_of_all_names(
            batches in prop::collection::vec(prop::collection::vec((0usize..12, 0usize..3, any::<bool>()), 1..12), 1..12)
        ) {
            let apex = Name::parse("example.org").unwrap();
            let key = ZoneKey::generate().unwrap().0;
            let names = ["a", "b", "a.b", "x.a.b", "c.d.e.f", "d.e.f", "*", "_tcp", "_ldap._tcp", "zz", "b.zz", "*.f"];
            let names: Vec<Name> = names.iter().map(|text| Name::parse(&format!("{text}.example.org")).unwrap()).collect();
            let types = [RecordType::A, RecordType::NS, RecordType::CERT];
            let mut rows = Rows::default();
            let start = [RecordType::SOA, RecordType::NS, RecordType::DNSKEY, RecordType::NSEC3PARAM];
            let mut all: BTreeSet<(Name, RecordType)> = start.iter().map(|rtype| (apex.clone(), *rtype)).collect();
            let first: Vec<Change> = all.iter().map(|(name, rtype)| (name.clone(), *rtype, true)).collect();
            rows.weave(&apex, &key, &first);
            for batch in batches {
                let mut changes = Vec::new();
                for (name, rtype, there) in batch {
                    let one = (names[name].clone(), types[rtype]);
                    if there { all.insert(one.clone()); } else { all.remove(&one); }
                    changes.push((one.0, one.1, there));
                }
                rows.weave(&apex, &key, &changes);
                let stored: Vec<(Hash, Hash, Vec<u8>)> = rows.0.values().map(|link| {
                    let rdata = &link.signed.as_ref().unwrap().rrset.rdata()[0];
                    (link.hash, next_of(link).unwrap(), rdata[26..].to_vec())
                }).collect();
                prop_assert_eq!(stored, from_scratch(&apex, &all));
                prop_assert_eq!(rows.weave(&apex, &key, &[]), 0);
            }
        }
    }

    #[test]
    fn a_change_writes_its_neighbours_only() {
        let apex = Name::parse("example.org").unwrap();
        let key = ZoneKey::generate().unwrap().0;
        let mut rows = Rows::default();
        let name = |number: u32| Name::parse(&format!("n{number}.example.org")).unwrap();
        let all: Vec<Change> = (0..1_000).map(|number| (name(number), RecordType::A, true)).collect();
        assert_eq!(rows.weave(&apex, &key, &all), 1_001);
        // Its own link, the one before it, and the count of the name above.
        assert!(rows.weave(&apex, &key, &[(name(5_000), RecordType::A, true)]) <= 3);
        assert!(rows.weave(&apex, &key, &[(name(500), RecordType::A, false)]) <= 3);
        assert_eq!(rows.weave(&apex, &key, &[(name(1), RecordType::AAAA, true)]), 1);
    }
}
