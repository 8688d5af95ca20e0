//! How fast one thread denies names that were never asked for before, beside how fast it signs: `misses COUNT`.

use std::error::Error;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use certdir_dns::{Asker, Policy, Scratch, Transport, Zones, answer};
use certdir_zones::rdata::{self, Soa};
use certdir_zones::{Name, RecordType, Rrset, Zone, ZoneKey};

struct One(Zone);

impl Zones for One {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        name.ends_with(self.0.apex().as_wire()).then_some(&self.0)
    }
}

/// Seconds for one run of `work`.
#[expect(clippy::disallowed_methods, reason = "this is a program of its own, which measures")]
fn seconds(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

fn main() -> Result<(), Box<dyn Error>> {
    let count: u32 = std::env::args().nth(1).ok_or("usage: misses COUNT")?.parse()?;
    let now = 1_700_000_000;
    let apex = Name::parse("_smimecert.bench.example")?;
    let key = Arc::new(ZoneKey::generate()?.0);
    let mut zone = Zone::new(apex.clone(), key.clone());
    let soa = Soa {
        mname: apex.clone(),
        rname: apex.clone(),
        serial: 1,
        refresh: 3600,
        retry: 600,
        expire: 86_400,
        minimum: 300,
    };
    let rrset = Rrset::new(RecordType::SOA, 3600, vec![rdata::soa(&soa)])?;
    let signed = key.sign(&apex, &apex, &rrset, now as u32, now as u32 + 86_400)?;
    zone.set(&apex, signed)?;
    let zones = One(zone);
    let signing = seconds(|| {
        for _ in 0..count {
            black_box(key.sign(&apex, &apex, &rrset, now as u32, now as u32 + 86_400)?);
        }
        Ok(())
    })?;
    let mut scratch = Scratch::new(Policy { responses_per_second: 0, signatures_per_second: 0, ..Policy::default() });
    let asker = Asker::new(Transport::Udp, Ipv4Addr::LOCALHOST.into());
    let mut out = vec![0; 4096];
    let mut signatures = 0;
    let denying = seconds(|| {
        for at in 0..count {
            let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 56];
            query.extend(format!("{at:056x}").as_bytes());
            query.extend(apex.as_wire());
            query.extend([0, 53, 0, 1, 0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 0]);
            let finished = answer(Some(&zones), &query, &asker, now, &mut scratch, &mut out).ok_or("no answer")?;
            signatures += u32::from(finished.signed);
        }
        Ok(())
    })?;
    let rate = |seconds: f64| f64::from(count) / seconds;
    println!("signatures a second {:.0}", rate(signing));
    println!("denials a second {:.0} ({signatures} signatures for {count} names)", rate(denying));
    println!("ratio {:.3}", signing / denying);
    Ok(())
}
