//! A zone: its records, its signatures and denials, and what an honest server answers from it.

use std::collections::{BTreeMap, BTreeSet};

use hickory_resolver::proto::rr::Name;

use super::keys::{Key, Terms};
use super::server::Reply;
use super::*;

/// How a zone denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proofs {
    Nsec,
    Nsec3 { opt_out: bool, iterations: u16, salt: Vec<u8> },
}

impl Proofs {
    pub(crate) fn nsec3() -> Proofs {
        Proofs::Nsec3 { opt_out: false, iterations: 0, salt: Vec::new() }
    }

    pub(crate) fn opt_out() -> Proofs {
        Proofs::Nsec3 { opt_out: true, iterations: 0, salt: Vec::new() }
    }
}

/// Everything may be altered after signing.
#[derive(Clone)]
pub(crate) struct Zone {
    pub(crate) apex: Name,
    pub(crate) proofs: Proofs,
    pub(crate) sets: BTreeMap<Name, BTreeMap<u16, Vec<Rr>>>,
    pub(crate) signatures: BTreeMap<(Name, u16), Vec<Rr>>,
    /// NSEC or NSEC3 records in order.
    pub(crate) chain: Vec<Rr>,
    /// Each signs everything; none: the zone is not signed.
    pub(crate) keys: Vec<Key>,
    pub(crate) terms: Terms,
}

impl Zone {
    pub(crate) fn new(apex: &str, proofs: Proofs, keys: Vec<Key>) -> Zone {
        let apex = name(apex);
        let ns = under("ns", &apex);
        let mut soa = [wire(&ns), wire(&under("hostmaster", &apex))].concat();
        for number in [1_u32, 3_600, 900, 86_400, 60] {
            soa.extend(number.to_be_bytes());
        }
        let (sets, signatures, chain) = Default::default();
        let mut zone = Zone { apex: apex.clone(), proofs, sets, signatures, chain, keys, terms: Terms::valid() };
        zone.add(Rr::new(&apex, SOA, soa));
        zone.add(Rr::new(&apex, NS, wire(&ns)));
        zone.add(Rr::new(&ns, A, vec![127, 0, 0, 1]));
        zone
    }

    pub(crate) fn add(&mut self, record: Rr) {
        let set = self.sets.entry(record.name.clone()).or_default().entry(record.kind).or_default();
        set.push(record);
    }

    pub(crate) fn with(mut self, record: Rr) -> Zone {
        self.add(record);
        self
    }

    /// A delegation to `child`, with a DS record for each of its keys.
    pub(crate) fn delegate(&mut self, child: &Zone) {
        self.add(Rr::new(&child.apex, NS, wire(&under("ns", &child.apex))));
        for key in &child.keys {
            self.add(key.ds(&child.apex));
        }
    }

    /// Adds keys, denials and signatures.
    pub(crate) fn signed(mut self) -> Zone {
        if self.keys.is_empty() {
            return self;
        }
        for key in self.keys.clone() {
            self.add(key.record(&self.apex.clone()));
        }
        if let Proofs::Nsec3 { iterations, salt, .. } = self.proofs.clone() {
            let head = [&[1, 0][..], &iterations.to_be_bytes(), &[u8::try_from(salt.len()).unwrap()], &salt];
            self.add(Rr::new(&self.apex.clone(), NSEC3PARAM, head.concat()));
        }
        self.chain = self.denials();
        self.sign_sets();
        self
    }

    /// Signs everything again as it is now.
    pub(crate) fn sign_sets(&mut self) {
        let mut signatures = BTreeMap::new();
        let of_chain = self.chain.iter().map(|r| vec![r.clone()]);
        let of_names = self.sets.values().flat_map(BTreeMap::values).cloned();
        for set in of_names.chain(of_chain) {
            let (owner, kind) = (set[0].name.clone(), set[0].kind);
            let authoritative = match self.cut(&owner) {
                Some(cut) => cut == owner && (kind == DS || kind == NSEC),
                None => true,
            };
            if authoritative {
                let made = self.keys.iter().map(|k| k.sign(&self.apex, &set, self.terms)).collect();
                signatures.insert((owner, kind), made);
            }
        }
        self.signatures = signatures;
    }

    /// Signs one set of the zone again as it is now.
    pub(crate) fn sign_again(&mut self, owner: &Name, kind: u16, terms: Terms) {
        let set = match kind {
            NSEC | NSEC3 => self.chain.iter().filter(|r| r.name == *owner).cloned().collect(),
            _ => self.sets[owner][&kind].clone(),
        };
        let made = self.keys.iter().map(|k| k.sign(&self.apex, &set, terms)).collect();
        self.signatures.insert((owner.clone(), kind), made);
    }

    /// The highest delegation at or above a name.
    fn cut(&self, at: &Name) -> Option<Name> {
        let depths = self.apex.iter().count() + 1..=at.iter().count();
        depths.map(|d| at.trim_to(d)).find(|n| self.sets.get(n).is_some_and(|s| s.contains_key(&NS)))
    }

    fn denials(&self) -> Vec<Rr> {
        // Names that belong to the zone, with their types; empty ones between are added for NSEC3.
        let mut owners: BTreeMap<Name, BTreeSet<u16>> = BTreeMap::new();
        for (owner, sets) in &self.sets {
            match self.cut(owner) {
                Some(cut) if cut != *owner => continue,
                Some(_) => {
                    let shown = sets.keys().copied().filter(|k| [NS, DS].contains(k)).collect();
                    owners.insert(owner.clone(), shown);
                }
                None => drop(owners.insert(owner.clone(), sets.keys().copied().collect())),
            }
        }
        let Proofs::Nsec3 { opt_out, iterations, salt } = &self.proofs else {
            let names: Vec<Name> = owners.keys().cloned().collect();
            let pairs = owners.iter().enumerate().map(|(i, (owner, types))| {
                let types = types.iter().copied().chain([NSEC, RRSIG]).collect();
                let next = &names[(i + 1) % names.len()];
                Rr { ttl: 60, ..Rr::new(owner, NSEC, [canonical(next), bitmap(&types)].concat()) }
            });
            return pairs.collect();
        };
        if *opt_out {
            owners.retain(|_, types| !types.contains(&NS) || types.contains(&DS) || types.contains(&SOA));
        }
        for owner in owners.keys().cloned().collect::<Vec<_>>() {
            for depth in self.apex.iter().count()..owner.iter().count() {
                owners.entry(owner.trim_to(depth)).or_default();
            }
        }
        let mut hashed: Vec<(Vec<u8>, BTreeSet<u16>)> = owners
            .into_iter()
            .map(|(owner, mut types)| {
                let insecure_cut = types.len() == 1 && types.contains(&NS);
                if !types.is_empty() && !insecure_cut {
                    types.insert(RRSIG);
                }
                (hash(&owner, *iterations, salt), types)
            })
            .collect();
        hashed.sort();
        let nexts: Vec<Vec<u8>> = hashed.iter().cycle().skip(1).take(hashed.len()).map(|(h, _)| h.clone()).collect();
        let records = hashed
            .iter()
            .zip(nexts)
            .map(|((hash, types), next)| nsec3(&self.apex, hash, &next, types, *opt_out, *iterations, salt));
        records.collect()
    }

    /// What an honest server says.
    pub(crate) fn answer(&self, asked: &Name, kind: u16) -> Reply {
        let mut reply = Reply::new(NOERROR);
        if let Some(cut) = self.cut(asked)
            && !(cut == *asked && kind == DS)
        {
            reply.aa = false;
            reply.authorities.extend(self.sets[&cut][&NS].clone());
            match self.sets[&cut].contains_key(&DS) {
                true => self.put(&mut reply.authorities, &cut, DS),
                false => self.prove_no_type(&mut reply.authorities, &cut),
            }
            return reply;
        }
        for depth in self.apex.iter().count()..asked.iter().count() {
            let above = asked.trim_to(depth);
            if let Some(dname) = self.sets.get(&above).and_then(|s| s.get(&DNAME)) {
                self.put(&mut reply.answers, &above, DNAME);
                let kept = asked.iter().count() - depth;
                let prefix: Vec<&[u8]> = asked.iter().take(kept).collect();
                let target = [wire(&Name::from_labels(prefix).unwrap()), dname[0].data.clone()];
                let target = [&target[0][..target[0].len() - 1], &target[1]].concat();
                reply.answers.push(Rr::new(asked, CNAME, target));
                return reply;
            }
        }
        if let Some(sets) = self.sets.get(asked) {
            match [kind, CNAME].into_iter().find(|k| sets.contains_key(k)) {
                Some(kind) => self.put(&mut reply.answers, asked, kind),
                None => {
                    self.put(&mut reply.authorities, &self.apex, SOA);
                    self.prove_no_type(&mut reply.authorities, asked);
                }
            }
            return reply;
        }
        if self.exists(asked) {
            self.put(&mut reply.authorities, &self.apex, SOA);
            self.prove_no_type(&mut reply.authorities, asked);
            return reply;
        }
        let encloser = self.encloser(asked);
        let wildcard = under("*", &encloser);
        let Some(sets) = self.sets.get(&wildcard) else {
            reply.rcode = NXDOMAIN;
            self.put(&mut reply.authorities, &self.apex, SOA);
            self.prove_no_name(&mut reply.authorities, asked);
            self.prove_absent(&mut reply.authorities, &wildcard);
            return reply;
        };
        match [kind, CNAME].into_iter().find(|k| sets.contains_key(k)) {
            Some(kind) => {
                self.put(&mut reply.answers, &wildcard, kind);
                reply.answers.iter_mut().for_each(|r| r.name = asked.clone());
                // RFC 5155 section 7.2.6: the closest encloser follows from the signature.
                let next_closer = asked.trim_to(encloser.iter().count() + 1);
                self.prove_absent(&mut reply.authorities, &next_closer);
            }
            None => {
                self.put(&mut reply.authorities, &self.apex, SOA);
                self.prove_no_name(&mut reply.authorities, asked);
                self.prove_no_type(&mut reply.authorities, &wildcard);
            }
        }
        reply
    }

    /// A set with its signatures.
    pub(crate) fn put(&self, section: &mut Vec<Rr>, owner: &Name, kind: u16) {
        section.extend(self.sets[owner][&kind].clone());
        section.extend(self.signatures.get(&(owner.clone(), kind)).cloned().unwrap_or_default());
    }

    fn exists(&self, at: &Name) -> bool {
        self.sets.keys().any(|n| at.zone_of(n))
    }

    fn encloser(&self, at: &Name) -> Name {
        let depths = (self.apex.iter().count()..at.iter().count()).rev();
        depths.map(|d| at.trim_to(d)).find(|n| self.exists(n)).unwrap_or(self.apex.clone())
    }

    /// A record of the chain with its signatures, once.
    fn put_denial(&self, section: &mut Vec<Rr>, record: Option<&Rr>) {
        let Some(record) = record.filter(|r| !section.contains(r)) else {
            return;
        };
        section.push(record.clone());
        section.extend(self.signatures.get(&(record.name.clone(), record.kind)).cloned().unwrap_or_default());
    }

    /// The name is there, and this says what is not.
    pub(crate) fn prove_no_type(&self, section: &mut Vec<Rr>, at: &Name) {
        let before = section.len();
        self.put_denial(section, self.matching(at));
        if section.len() == before {
            // An empty non-terminal in an NSEC zone, or a delegation that opted out (RFC 5155 section 7.2.4).
            self.prove_no_name(section, at);
        }
    }

    /// The closest encloser, and that nothing is between it and the name.
    fn prove_no_name(&self, section: &mut Vec<Rr>, at: &Name) {
        if matches!(self.proofs, Proofs::Nsec) {
            return self.prove_absent(section, at);
        }
        let depths = (self.apex.iter().count()..at.iter().count()).rev();
        let provable = depths.map(|d| at.trim_to(d)).find(|n| self.matching(n).is_some());
        let encloser = provable.unwrap_or(self.apex.clone());
        self.put_denial(section, self.matching(&encloser));
        self.prove_absent(section, &at.trim_to(encloser.iter().count() + 1));
    }

    fn prove_absent(&self, section: &mut Vec<Rr>, at: &Name) {
        self.put_denial(section, self.covering(at));
    }

    fn matching(&self, at: &Name) -> Option<&Rr> {
        let owner = match &self.proofs {
            Proofs::Nsec => at.clone(),
            Proofs::Nsec3 { iterations, salt, .. } => hashed(&self.apex, &hash(at, *iterations, salt)),
        };
        self.chain.iter().find(|r| r.name == owner)
    }

    pub(crate) fn covering(&self, at: &Name) -> Option<&Rr> {
        let owner = match &self.proofs {
            Proofs::Nsec => at.clone(),
            Proofs::Nsec3 { iterations, salt, .. } => hashed(&self.apex, &hash(at, *iterations, salt)),
        };
        let before = self.chain.iter().rfind(|r| r.name < owner);
        before.or(self.chain.last()).filter(|r| r.name != owner)
    }
}

/// RFC 5155 section 5.
pub(crate) fn hash(at: &Name, iterations: u16, salt: &[u8]) -> Vec<u8> {
    let mut octets = canonical(at);
    for _ in 0..=iterations {
        octets.extend_from_slice(salt);
        octets = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &octets).as_ref().to_vec();
    }
    octets
}

pub(crate) fn hashed(apex: &Name, hash: &[u8]) -> Name {
    under(&data_encoding::BASE32_DNSSEC.encode(hash), apex)
}

pub(crate) fn nsec3(
    apex: &Name,
    hash: &[u8],
    next: &[u8],
    types: &BTreeSet<u16>,
    opt_out: bool,
    iterations: u16,
    salt: &[u8],
) -> Rr {
    let salt_length = u8::try_from(salt.len()).unwrap();
    let head = [&[1, u8::from(opt_out)][..], &iterations.to_be_bytes(), &[salt_length], salt, &[20], next];
    Rr { ttl: 60, ..Rr::new(&hashed(apex, hash), NSEC3, [&head.concat()[..], &bitmap(types)].concat()) }
}

/// RFC 4034 section 4.1.2.
pub(crate) fn bitmap(types: &BTreeSet<u16>) -> Vec<u8> {
    let mut windows: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for kind in types {
        let [window, low] = kind.to_be_bytes();
        let octets = windows.entry(window).or_default();
        octets.resize(octets.len().max(usize::from(low / 8) + 1), 0);
        octets[usize::from(low / 8)] |= 0x80 >> (low % 8);
    }
    let each = windows.into_iter().map(|(w, o)| [&[w, u8::try_from(o.len()).unwrap()][..], &o].concat());
    each.collect::<Vec<_>>().concat()
}
