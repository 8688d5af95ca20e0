//! This crate against everything else that knows the rules.
//!
//! [`vectors`]: addresses and owner names from a neutral file. [`second_opinion`]: hickory-proto reads our RDATA, orders our
//! names and verifies our signatures. [`export`]: the zone file, as a golden file and under the checking tools of BIND, Knot
//! and ldns. [`model`]: random zones against a naive model, and the denials of what they have not.
//!
//! A missing tool fails its test: `./check.sh clients` installs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: a panic is how they fail"
)]

mod export;
mod model;
mod second_opinion;
mod vectors;

use certdir_zones::{Name, RecordType, Rrset, Soa, Zone, ZoneKey, rdata};
use std::path::PathBuf;
use std::sync::Arc;

/// 2020-01-01 and 2037-12-31: signatures that hold whenever the tests run, for tools that read the clock. ldns takes times
/// from 2038-01-19 on (2^31 seconds) for negative ones.
const INCEPTION: u32 = 1_577_836_800;
const EXPIRATION: u32 = 2_145_830_400;
const TTL: u32 = 300;

/// A file of tests/data.
fn data(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data")).join(file)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The key of the golden files.
fn key() -> Arc<ZoneKey> {
    Arc::new(ZoneKey::from_pkcs8(&std::fs::read(data("zones/key.p8")).unwrap()).unwrap())
}

/// SOA, NS and DNSKEY, and nothing else.
fn empty_zone(apex: &str) -> Zone {
    let apex = name(apex);
    let mut zone = Zone::new(apex.clone(), key());
    let soa = Soa {
        mname: name("ns1.certdir.example"),
        rname: name("hostmaster.certdir.example"),
        serial: 7,
        refresh: 3600,
        retry: 900,
        expire: 604_800,
        minimum: 120,
    };
    put(&mut zone, &apex, RecordType::SOA, &[rdata::soa(&soa)]);
    put(
        &mut zone,
        &apex,
        RecordType::NS,
        &[rdata::ns(&name("ns1.certdir.example")), rdata::ns(&name("ns2.certdir.example"))],
    );
    let dnskey = zone.key().dnskey();
    put(&mut zone, &apex, RecordType::DNSKEY, &[dnskey]);
    zone
}

/// Signs and sets.
fn put(zone: &mut Zone, owner: &Name, rtype: RecordType, rdata: &[rdata::Rdata]) {
    let rrset = Rrset::new(rtype, TTL, rdata.to_vec()).unwrap();
    let signed = zone.key().sign(zone.apex(), owner, &rrset, INCEPTION, EXPIRATION).unwrap();
    zone.set(owner, signed).unwrap();
}
