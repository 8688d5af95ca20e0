//! Serves made-up certificate records on 127.0.0.1, to measure the front end alone:
//! `line-rate PORT COUNT WORKERS QUERIES MISSES`. Half of the records have the size of an ECDSA certificate, half that
//! of an RSA one. Queries for all of them in random order go to the file QUERIES (a name and a type a line, as dnsperf
//! and similar generators read them), as many for names that do not exist to MISSES, and the records' owners and sizes
//! to QUERIES.tsv. Stop it with Ctrl-C.

use std::error::Error;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use certdir_dns::{Frontend, Latest, Options, Policy, UdpCertificates, View, Zones};
use certdir_zones::rdata::{self, Soa};
use certdir_zones::{Name, RecordType, Rrset, Usage, Zone, ZoneKey};

#[derive(Clone)]
struct One(Arc<Zone>);

impl Zones for One {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        name.ends_with(self.0.apex().as_wire()).then_some(&self.0)
    }
}

impl Latest for One {
    type Zones = One;
    fn load(&mut self) -> Option<&One> {
        Some(self)
    }
}

impl View for One {
    type Latest = One;
    fn latest(&self) -> One {
        self.clone()
    }
}

/// Octets of the certificates, ECDSA P-256 and RSA-2048.
const SIZES: [usize; 2] = [815, 1483];

fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is a program of its own, which hands the time on")]
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, count, workers, queries, misses] = &arguments[..] else {
        return Err("usage: line-rate PORT COUNT WORKERS QUERIES MISSES".into());
    };
    let (port, count, workers): (u16, u64, usize) = (port.parse()?, count.parse()?, workers.parse()?);
    let apex = Name::parse("_smimecert.bench.example")?;
    let key = Arc::new(ZoneKey::generate()?.0);
    let mut zone = Zone::new(apex.clone(), key.clone());
    let (from, to) = ((now() - 3600) as u32, (now() + 86_400) as u32);
    let ns = Name::parse("ns.bench.example")?;
    let soa = rdata::soa(&Soa {
        mname: ns.clone(),
        rname: ns.clone(),
        serial: 1,
        refresh: 3600,
        retry: 600,
        expire: 86_400,
        minimum: 300,
    });
    let mut set = |owner: &Name, rtype, data| -> Result<(), certdir_zones::Error> {
        let rrset = Rrset::new(rtype, 3600, vec![data])?;
        zone.set(owner, key.sign(&apex, owner, &rrset, from, to)?)
    };
    set(&apex, RecordType::SOA, soa)?;
    set(&apex, RecordType::NS, rdata::ns(&ns))?;
    set(&apex, RecordType::DNSKEY, key.dnskey())?;
    let (mut hit_lines, mut miss_lines, mut sizes) = (String::new(), String::new(), String::new());
    for at in 0..count {
        // An odd multiplier runs through all of 2^64: names without order, sizes without pattern.
        let mixed = (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let label = format!("{mixed:016x}{:040x}", at);
        let size = SIZES.get((mixed >> 40 & 1) as usize).copied().unwrap_or_default();
        let owner = Name::parse(&format!("{label}.{apex}"))?;
        let filler: Vec<u8> = (0..size).map(|i| (mixed as usize + i) as u8).collect();
        set(&owner, RecordType::SMIMEA, rdata::smimea(Usage::DaneEe, &filler))?;
        writeln!(sizes, "user\t{label}.{apex}\te\t{size}\t-")?;
        let other = at.wrapping_mul(0x5851_F42D_4C95_7F2D) % count;
        let asked = (other + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        writeln!(hit_lines, "{asked:016x}{other:040x}.{apex} SMIMEA")?;
        writeln!(miss_lines, "{at:056x}.{apex} SMIMEA")?;
    }
    std::fs::write(queries, hit_lines)?;
    std::fs::write(misses, miss_lines)?;
    std::fs::write(format!("{queries}.tsv"), sizes)?;
    let policy = Policy {
        udp_payload: 4096,
        udp_certificates: UdpCertificates::Always,
        responses_per_second: 100_000_000,
        signatures_per_second: 0,
        ..Policy::default()
    };
    let options = Options { workers, policy, ..Options::default() };
    let frontend = Frontend::bind(&[SocketAddr::from((Ipv4Addr::LOCALHOST, port))], options)?;
    println!("serving {count} names on {:?}", frontend.addresses());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    runtime.block_on(async {
        tokio::spawn(async move {
            // Without signals it can still be killed.
            let _ = tokio::signal::ctrl_c().await;
            stop.send_replace(true);
        });
        frontend.run(One(Arc::new(zone)), Arc::new(now), stopped).await
    })?;
    Ok(())
}
