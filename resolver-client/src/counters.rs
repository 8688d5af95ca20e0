//! What a resolver has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::verdict::Verdict;

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) used: AtomicU64,
    pub(crate) none: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    pub(crate) revocations: AtomicU64,
}

/// What a resolver has done since it was built. The numbers are read one by one and may be a look-up apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Verdicts that came from the cache.
    pub cached: u64,
    /// Look-ups that asked sources.
    pub look_ups: u64,
    /// Look-ups that ended in Use.
    pub used: u64,
    /// Look-ups that ended in None.
    pub none: u64,
    /// Look-ups that ended in Unknown.
    pub unknown: u64,
    /// Look-ups that were made ahead, before what the cache held ended.
    pub refreshes: u64,
    /// Certificates that were found revoked.
    pub revocations: u64,
    /// Verdicts in the cache.
    pub cache_entries: u64,
    /// About how many octets they take.
    pub cache_octets: u64,
}

impl Counters {
    pub(crate) fn concluded(&self, verdict: &Verdict) {
        let counter = match verdict {
            Verdict::Use { .. } => &self.used,
            Verdict::None { .. } => &self.none,
            Verdict::Unknown { .. } => &self.unknown,
        };
        add(counter);
    }

    pub(crate) fn counts(&self, cached: u64, (entries, octets): (usize, usize)) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (used, none, unknown) = (read(&self.used), read(&self.none), read(&self.unknown));
        Counts {
            cached,
            look_ups: used + none + unknown,
            used,
            none,
            unknown,
            refreshes: read(&self.refreshes),
            revocations: read(&self.revocations),
            cache_entries: u64::try_from(entries).unwrap_or(u64::MAX),
            cache_octets: u64::try_from(octets).unwrap_or(u64::MAX),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
