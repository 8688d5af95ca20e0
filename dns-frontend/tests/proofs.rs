//! Denial of existence read the way a validator does (RFC 5155 section 8), independently of how the crate makes it.

use certdir_zones::{Name, RecordType};
use hickory_proto::dnssec::Nsec3HashAlgorithm;

use crate::message::Message;
use crate::world::{NOW, SIGNED_FOR, UDP, World, generous, name, opt, question};

/// An NSEC3 record, read.
struct Nsec3 {
    hash: Vec<u8>,
    next: Vec<u8>,
    types: Vec<u16>,
}

struct Proof {
    apex: Name,
    records: Vec<Nsec3>,
}

impl Proof {
    fn read(message: &Message, apex: &str) -> Proof {
        let apex = name(apex);
        let nsec3 = message.authorities.iter().filter(|record| record.rtype == RecordType::NSEC3);
        let records = nsec3
            .map(|record| {
                let owner = record.name();
                assert_eq!(owner.parent().as_ref(), Some(&apex), "RFC 5155 section 3: one label below the apex");
                let hash = base32hex(owner.labels().next().unwrap());
                // RFC 9276 section 3.1: SHA-1, no opt-out, no iterations, no salt.
                assert_eq!(record.rdata[..6], [1, 0, 0, 0, 0, 20]);
                Nsec3 { hash, next: record.rdata[6..26].to_vec(), types: types(&record.rdata[26..]) }
            })
            .collect();
        Proof { apex, records }
    }

    fn matching(&self, owner: &Name) -> Option<&[u16]> {
        let hash = hash(owner);
        self.records.iter().find(|record| record.hash == hash).map(|record| &record.types[..])
    }

    fn covers(&self, owner: &Name) -> bool {
        let hash = hash(owner);
        self.records.iter().any(|Nsec3 { hash: from, next: to, .. }| {
            // The last record of the ring spans the end of the hash space.
            if from < to { *from < hash && hash < *to } else { hash > *from || hash < *to }
        })
    }

    /// RFC 5155 section 8.3: the closest provable encloser, and the name one label longer.
    fn closest_encloser(&self, owner: &Name) -> (Name, Name) {
        let mut next_closer = owner.clone();
        loop {
            let encloser =
                next_closer.parent().filter(|parent| parent.is_at_or_below(&self.apex)).expect("an encloser");
            if let Some(types) = self.matching(&encloser) {
                assert!(!types.contains(&RecordType::DNAME.0));
                assert!(types.contains(&RecordType::SOA.0) || !types.contains(&RecordType::NS.0), "no cut above");
                assert!(self.covers(&next_closer), "the next closer name is covered");
                return (encloser, next_closer);
            }
            next_closer = encloser;
        }
    }

    /// RFC 5155 section 8.4.
    fn denies_name(&self, owner: &Name) {
        let (encloser, _) = self.closest_encloser(owner);
        assert!(self.covers(&encloser.prepend(b"*").unwrap()), "the wildcard is covered");
        assert!(self.matching(owner).is_none());
    }

    /// RFC 5155 sections 8.5 and 8.6.
    fn denies_type(&self, owner: &Name, rtype: RecordType) {
        lacks(self.matching(owner).expect("the name matches"), rtype);
    }

    /// RFC 5155 section 8.7.
    fn denies_type_at_wildcard(&self, owner: &Name, rtype: RecordType) {
        let (encloser, _) = self.closest_encloser(owner);
        lacks(self.matching(&encloser.prepend(b"*").unwrap()).expect("the wildcard matches"), rtype);
    }

    /// RFC 7129 appendix B: nobody learns a name, or how many there are.
    fn is_minimal(&self) {
        for record in &self.records {
            let gap = tail(&record.next).wrapping_sub(tail(&record.hash));
            assert!(gap == 1 || gap == 2, "from hash to next hash: {gap}");
        }
    }
}

fn lacks(types: &[u16], rtype: RecordType) {
    assert!(!types.contains(&rtype.0) && !types.contains(&RecordType::CNAME.0), "{types:?}");
}

fn tail(hash: &[u8]) -> u64 {
    u64::from_be_bytes(hash[12..].try_into().unwrap())
}

fn hash(owner: &Name) -> Vec<u8> {
    let owner = hickory_proto::rr::Name::from_ascii(owner.to_string()).unwrap();
    Nsec3HashAlgorithm::SHA1.hash(&[], &owner, 0).unwrap().as_ref().to_vec()
}

fn base32hex(label: &[u8]) -> Vec<u8> {
    let value = |octet: &u8| u128::from((*octet as char).to_digit(32).unwrap());
    label
        .chunks(8)
        .flat_map(|eight| eight.iter().fold(0, |sum, octet| sum << 5 | value(octet)).to_be_bytes()[11..].to_vec())
        .collect()
}

fn types(mut bitmap: &[u8]) -> Vec<u16> {
    let mut types = Vec::new();
    while let [window, length, rest @ ..] = bitmap {
        let (bits, rest) = rest.split_at(usize::from(*length));
        assert!((1..=32).contains(&bits.len()) && *bits.last().unwrap() != 0, "RFC 4034 section 4.1.2");
        types.extend(
            (0..bits.len() as u16 * 8)
                .filter(|at| bits[usize::from(at / 8)] & 0x80 >> (at % 8) != 0)
                .map(|at| u16::from(*window) << 8 | at),
        );
        bitmap = rest;
    }
    types
}

#[test]
fn rfc5155_8_4_name_errors() {
    let world = World::new();
    for owner in [
        "nobody.direct.example.net",
        "x.alice.direct.example.net",
        "a.b.c._tcp.direct.example.net",
        "*.direct.example.net",
    ] {
        let proof = Proof::read(&world.ask(owner, RecordType::CERT, true), "direct.example.net");
        proof.denies_name(&name(owner));
        proof.is_minimal();
    }
    let owner = "x.alice._smimecert.example.org";
    Proof::read(&world.ask(owner, RecordType::SMIMEA, true), "_smimecert.example.org").denies_name(&name(owner));
}

#[test]
fn rfc5155_8_5_and_8_6_no_data() {
    let world = World::new();
    for (owner, rtype) in [
        ("alice.direct.example.net", RecordType::SMIMEA),
        ("_tcp.direct.example.net", RecordType::SRV),
        ("direct.example.net", RecordType::MX),
    ] {
        let proof = Proof::read(&world.ask(owner, rtype, true), "direct.example.net");
        proof.denies_type(&name(owner), rtype);
        proof.is_minimal();
    }
    let message = world.ask("alice.direct.example.net", RecordType::A, true);
    let proof = Proof::read(&message, "direct.example.net");
    let types = [RecordType::TXT, RecordType::CERT, RecordType::RRSIG].map(|rtype| rtype.0);
    assert_eq!(proof.matching(&name("alice.direct.example.net")), Some(&types[..]));
    let proof = Proof::read(&world.ask("_tcp.direct.example.net", RecordType::A, true), "direct.example.net");
    assert_eq!(proof.matching(&name("_tcp.direct.example.net")), Some(&[][..]), "an empty non-terminal");
    // Section 8.6: DS at the apex, asked of the child.
    let proof = Proof::read(&world.ask("_smimecert.example.org", RecordType::DS, true), "_smimecert.example.org");
    proof.denies_type(&name("_smimecert.example.org"), RecordType::DS);
}

#[test]
fn rfc5155_8_7_and_8_8_wildcards() {
    let world = World::new();
    for owner in ["dave._smimecert.example.org", "a.b.dave._smimecert.example.org"] {
        let proof = Proof::read(&world.ask(owner, RecordType::A, true), "_smimecert.example.org");
        proof.denies_type_at_wildcard(&name(owner), RecordType::A);
        proof.is_minimal();
        // Section 8.8: expansion. The next closer name follows from the label count of the RRSIG as it was stored.
        let message = world.ask(owner, RecordType::SMIMEA, true);
        let labels = usize::from(message.answers[1].rdata[3]);
        assert_eq!(labels, 3);
        let mut next_closer = name(owner);
        while next_closer.label_count() > labels + 1 {
            next_closer = next_closer.parent().unwrap();
        }
        let proof = Proof::read(&message, "_smimecert.example.org");
        assert!(proof.covers(&next_closer));
        assert_eq!(proof.records.len(), 1);
        proof.is_minimal();
    }
}

#[test]
fn proofs_are_signed_once_and_again_before_half_their_validity() {
    let world = World::new();
    let key = world.zone("direct.example.net").key().dnskey();
    let request = question("nobody.direct.example.net", RecordType::CERT, Some(opt(1232, true)));
    let mut scratch = generous();
    // The stored SOA signature lasts as long as the test.
    const { assert!(SIGNED_FOR >= 2 * 86_400) };
    let mut at = |seconds: i64| {
        let message = world.send_at(&request, UDP, NOW + seconds, &mut scratch).unwrap();
        message.verify(&key, NOW + seconds);
        let rrsigs = message.authorities.iter().filter(|r| r.rtype == RecordType::RRSIG && r.rdata[..2] == [0, 50]);
        rrsigs.map(|record| record.rdata.clone()).collect::<Vec<_>>()
    };
    let first = at(0);
    let times =
        |rrsig: &[u8]| [8, 12].map(|from| i64::from(u32::from_be_bytes(rrsig[from..from + 4].try_into().unwrap())));
    assert_eq!(times(&first[0]), [NOW + 3 * 86_400, NOW - 3600], "expiration, inception");
    assert_eq!(at(60), first);
    assert_eq!(at(36 * 3600 - 1), first);
    let second = at(36 * 3600);
    assert!(first.iter().zip(&second).all(|(a, b)| a != b));
    // A clock that was set back beyond the inception.
    assert_ne!(at(-3601 + 36 * 3600), second);
}

#[test]
fn a_proof_follows_the_zone() {
    let World(zones) = World::new();
    let mut zones = (*zones).clone();
    let mut scratch = generous();
    let request = question("alice.direct.example.net", RecordType::A, Some(opt(1232, true)));
    let apex = name("direct.example.net");
    let mut types = |zones: &std::collections::HashMap<Name, certdir_zones::Zone>| {
        let world = World(zones.clone().into());
        let message = world.send_at(&request, UDP, NOW, &mut scratch).unwrap();
        message.verify(&world.0[&apex].key().dnskey(), NOW);
        let proof = Proof::read(&message, "direct.example.net");
        proof.matching(&name("alice.direct.example.net")).map(<[u16]>::to_vec)
    };
    assert_eq!(types(&zones).unwrap(), [16, 37, 46]);
    zones.get_mut(&apex).unwrap().remove(&name("alice.direct.example.net"), RecordType::TXT);
    assert_eq!(types(&zones).unwrap(), [37, 46]);
    // The same zone with another key.
    let again = crate::world::World::new();
    zones.insert(apex.clone(), again.0[&apex].clone());
    assert_eq!(types(&zones).unwrap(), [16, 37, 46]);
}
