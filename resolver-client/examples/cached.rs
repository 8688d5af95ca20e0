//! How fast addresses are resolved that are in the cache, and what one of them takes there.
//!
//!     cached [ADDRESSES [SECONDS]]
//!
//! Each address has a certificate of its own. What is learned comes from a source in this process, which keeps nothing.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement is printed, and takes time")]

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use certdir_resolver::outcome::{Candidate, Claim};
use certdir_resolver::source::Asking;
use certdir_resolver::spec::Spec;
use certdir_resolver::trace::Question;
use certdir_resolver::{Address, Answer, Failure, Match, Outcome, Resolver, Source, Subject, UnixTime};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};

/// Within the validity of what rcgen makes.
const NOW: UnixTime = 1_797_000_000;

/// Makes a certificate for whoever is asked about.
struct Maker {
    key: KeyPair,
    octets: Arc<AtomicUsize>,
}

impl Maker {
    fn make(&self, address: &Address) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, address.to_string());
        params.subject_alt_names = vec![SanType::Rfc822Name(address.to_string().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        Ok(params.self_signed(&self.key)?.der().to_vec())
    }
}

impl Source for Maker {
    fn label(&self) -> &str {
        "maker"
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        let outcome = match self.make(&subject.address) {
            Ok(der) => {
                self.octets.fetch_add(der.len(), Ordering::Relaxed);
                Outcome::Found([Candidate::from_der(&der, Claim::Local, Match::Recipient)].into())
            }
            Err(error) => Outcome::Error(Failure::new("malformed", error.to_string())),
        };
        let question = Question {
            source: "maker".into(),
            name: subject.address.to_string(),
            kind: "made",
            dnssec: None,
            message: "1 certificate".to_owned(),
            asked_at: now,
            aliases: Vec::new(),
            exchanges: Vec::new(),
        };
        Box::pin(std::future::ready(Answer { outcome, until: now + 86_400, question: Arc::new(question) }))
    }
}

/// Octets of memory that this process holds.
fn resident() -> Result<usize, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<usize>()? * 1_024)
}

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| given.get(i).map_or(Ok(default), |text| text.parse());
    let (count, seconds) = (number(0, 100_000)?, number(1, 3)?);
    let octets = Arc::new(AtomicUsize::new(0));
    let maker = Maker { key: KeyPair::generate()?, octets: Arc::clone(&octets) };
    let resolver = Resolver::builder(Arc::new(|| NOW))
        .server("127.0.0.1:9".parse()?)
        .sources([Spec::own(Arc::new(maker))])
        .no_fetching()
        .cache(2 * count, 1 << 34)
        .build()?;
    let addresses: Result<Vec<Address>, _> =
        (0..count).map(|n| Address::parse(&format!("user{n}@bench.example"))).collect();
    let addresses = addresses?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // What the first look-ups need stays out of the account.
        let warming = addresses.len().min(1_000);
        for address in addresses.iter().take(warming) {
            resolver.resolve(address).await;
        }
        let (before, der_before) = (resident()?, octets.load(Ordering::Relaxed));
        for address in addresses.iter().skip(warming) {
            resolver.resolve(address).await;
        }
        let added = addresses.len().saturating_sub(warming).max(1);
        let each = resident()?.saturating_sub(before) / added;
        let der = (octets.load(Ordering::Relaxed) - der_before) / added;
        println!("memory: {each} octets a cached certificate of {der}; the bar is {}", der * 13 / 10 + 300);

        for (what, busy) in [("all", addresses.len()), ("the same 1,000", warming)] {
            // A stride visits them in an order that no prefetcher knows.
            let pick = |n: usize| addresses.get(n.wrapping_mul(7_919) % busy);
            let limit = Duration::from_secs(seconds.try_into()?);
            let (start, mut done, mut used) = (Instant::now(), 0_usize, 0_usize);
            while start.elapsed() < limit {
                for _ in 0..1_024 {
                    if let Some(address) = pick(done) {
                        used += usize::from(resolver.resolve(address).await.code() == "use");
                    }
                    done += 1;
                }
            }
            let rate = done as f64 / start.elapsed().as_secs_f64();
            let mut times = Vec::with_capacity(1 << 20);
            for n in 0..1 << 20 {
                if let Some(address) = pick(n) {
                    let start = Instant::now();
                    let verdict = resolver.resolve(address).await;
                    times.push(start.elapsed());
                    drop(verdict);
                }
            }
            times.sort_unstable();
            let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
            let (p50, p99) = (at(50), at(99));
            println!("cached, {what}: {rate:.0} a second on one core, p50 {p50:?}, p99 {p99:?}, {used} of {done} used");
        }
        Ok::<(), Box<dyn Error>>(())
    })
}
