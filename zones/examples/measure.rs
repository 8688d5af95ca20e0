//! What a large zone costs: memory a name, look-ups and denials a second, time of one change.
//!
//! `cargo run --release -p certdir-zones --example measure -- 1000000`
//!
//! Linux only: memory is the resident set of /proc/self/statm. The certificate is 815 octets of nothing in particular;
//! every name has one SMIMEA record of its own and its signature's octets, as after loading from a store.
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock, and may stop where something is missing"
)]

use certdir_zones::{
    Address, Found, Name, RecordType, Rrset, SignedRrset, Soa, Usage, Zone, ZoneKey, denial, rdata, smimea_owner,
};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DER: usize = 815;
const QUESTIONS: usize = 1_000_000;

fn main() {
    let count: usize =
        std::env::args().nth(1).map_or(100_000, |count| count.parse().expect("the argument is a number of names"));
    let apex = Name::parse("_smimecert.example.org").expect("a name");
    let (key, _) = ZoneKey::generate().expect("a key");
    let mut zone = Zone::new(apex.clone(), Arc::new(key));
    let name = Name::parse("ns.certdir.example").expect("a name");
    let soa = Soa { mname: name.clone(), rname: name, serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 300 };
    let soa = Rrset::new(RecordType::SOA, 300, vec![rdata::soa(&soa)]).expect("an RRset");
    let signed = zone.key().sign(&apex, &apex, &soa, 0, 1).expect("a signature");
    zone.set(&apex, signed).expect("the apex is inside");

    let before = resident();
    let began = Instant::now();
    let mut owners = Vec::with_capacity(count);
    let mut template = None;
    for number in 0..count {
        let address = Address::parse(&format!("person{number}@example.org")).expect("an address");
        let owner = smimea_owner(&address);
        let der: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(DER).collect();
        let rrset = Rrset::new(RecordType::SMIMEA, 300, vec![rdata::smimea(Usage::DaneEe, &der)]).expect("an RRset");
        // One true signature is enough: what is measured is its size.
        let rrsig =
            template.get_or_insert_with(|| zone.key().sign(&apex, &owner, &rrset, 0, 1).expect("a signature").rrsig);
        let rrsig = Arc::from(&**rrsig);
        zone.set(&owner, SignedRrset { rrset, rrsig }).expect("the owner is inside");
        owners.push(owner);
    }
    let took = began.elapsed();
    let grown = resident() - before;
    println!(
        "{count} names: {:.1} us each to add; {} MiB resident, {} octets a name",
        micros(took) / count as f64,
        grown >> 20,
        grown / count.max(1)
    );

    // A fixed odd step visits the names in an order that caches do not like.
    let hits = owners.iter().cycle().step_by(7919).take(QUESTIONS);
    rate("hits", hits.map(Name::as_wire), |qname| matches!(zone.find(qname), Found::Exact(_)));
    let missing: Vec<Name> =
        (0..QUESTIONS / 10).map(|number| apex.prepend(format!("x{number}").as_bytes()).expect("a name")).collect();
    rate("misses", missing.iter().map(Name::as_wire), |qname| matches!(zone.find(qname), Found::Missing { .. }));
    let deep: Vec<Name> = missing
        .iter()
        .map(|name| (0..80).try_fold(name.clone(), |name, _| name.prepend(b"x")).expect("a name"))
        .collect();
    rate("misses of 80 labels", deep.iter().map(Name::as_wire), |qname| {
        matches!(zone.find(qname), Found::Missing { .. })
    });
    rate("NXDOMAIN proofs made and signed", missing.iter().take(2_000).map(Name::as_wire), |qname| {
        match zone.find(qname) {
            Found::Missing { closest_encloser, next_closer } => {
                denial::nxdomain(&zone, closest_encloser, next_closer).iter().all(|denial| {
                    let (owner, rrset) = denial.record(&zone).expect("a record");
                    zone.key().sign(&apex, &owner, &rrset, 0, 1).is_ok()
                })
            }
            _ => false,
        }
    });

    let began = Instant::now();
    const CHANGES: usize = 10_000;
    for name in missing.iter().take(CHANGES) {
        let earlier = zone.clone();
        let mut next = zone.clone();
        let node = zone.get(apex.as_wire()).and_then(|node| node.rrset(RecordType::SOA)).expect("the SOA");
        next.set(name, node.clone()).expect("the name is inside");
        zone = black_box(next);
        drop(earlier);
    }
    println!("changes of a shared zone: {:.1} us each", micros(began.elapsed()) / CHANGES as f64);
}

fn rate<'a>(what: &str, questions: impl Iterator<Item = &'a [u8]>, answer: impl Fn(&[u8]) -> bool) {
    let began = Instant::now();
    let mut asked = 0usize;
    for question in questions {
        assert!(black_box(answer(black_box(question))));
        asked += 1;
    }
    println!("{what}: {:.0} a second", asked as f64 / began.elapsed().as_secs_f64());
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Octets of memory that this process holds.
fn resident() -> usize {
    const PAGE: usize = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc/self/statm");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number of pages") * PAGE
}
