//! How fast addresses are resolved that nobody asked for before: each line of a file, so many at once.
//!
//!     cold SERVER ANCHOR-FILE ADDRESSES CONCURRENCY [FIRST [COUNT]]
//!
//! The addresses before the batch warm the keys and delegations of the zones; the batch itself is in no cache. One line of
//! numbers goes to standard output.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement is printed, by the system's clock")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use certdir_resolver::{Address, Resolver};
use futures_util::stream::{self, StreamExt};

/// Looked up before the clock starts.
const WARMING: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [server, anchor, file, concurrency, rest @ ..] = &given[..] else {
        return Err("expected: SERVER ANCHOR-FILE ADDRESSES CONCURRENCY [FIRST [COUNT]]".into());
    };
    let number = |i: usize, default: usize| rest.get(i).map_or(Ok(default), |text| text.parse());
    let (first, count) = (number(0, 0)?, number(1, 10_000)?);
    let concurrency: usize = concurrency.parse()?;
    let addresses: Result<Vec<Address>, _> =
        fs::read_to_string(file)?.lines().skip(first).take(WARMING + count).map(Address::parse).collect();
    let addresses = addresses?;
    let (warming, batch) = addresses.split_at_checked(WARMING).ok_or("too few addresses")?;
    let clock = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
    };
    let resolver =
        Resolver::builder(Arc::new(clock)).server(server.parse()?).trust_anchor_file(anchor).cache(1 << 20, 1 << 30);
    let resolver = resolver.build()?;
    // One thread, as a gateway's and as the peer's in the comparison.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for address in warming {
            resolver.resolve(address).await;
        }
        let start = tokio::time::Instant::now();
        let verdicts = stream::iter(batch).map(|a| resolver.resolve(a)).buffer_unordered(concurrency);
        let mut reasons: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut verdicts = std::pin::pin!(verdicts);
        while let Some(verdict) = verdicts.next().await {
            *reasons.entry(verdict.trace().reason).or_default() += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{} in {seconds:.3} s, {:.0} a second, {reasons:?}", batch.len(), batch.len() as f64 / seconds);
    });
    Ok(())
}
