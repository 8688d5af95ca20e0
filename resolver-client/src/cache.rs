//! What was learned, for as long as it may be believed.
//!
//! The cache holds findings by owner name, so that a domain-level certificate is asked for once and not once for each
//! recipient. It is bounded in entries and in octets; entries that were not used since the hand last came by go first
//! (the clock algorithm). One request per name is in flight: who comes while it runs waits for it, and when the one
//! who asked gives up, the next one who waits asks in its place.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certdir_certificate::UnixTime;
use certdir_zones::Name;

use crate::outcome::{Finding, Outcome};

/// What an entry costs beside the certificates in it: name, records, question and the exchanges of its trace.
const ENTRY_OVERHEAD: usize = 1_024;

/// How much the cache may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) octets: usize,
}

pub(crate) struct Cache {
    bounds: Bounds,
    kept: Mutex<Kept>,
    /// The flights and how many take part in each; counted here, under the lock, not by the `Arc`.
    in_flight: Mutex<HashMap<Name, (usize, Arc<Flight>)>>,
}

/// One request in flight. Whoever holds the lock asks; the result is left for those who wait.
type Flight = tokio::sync::Mutex<Option<Finding>>;

#[derive(Default)]
struct Kept {
    entries: HashMap<Name, Entry>,
    /// Every key of `entries` once, in the order in which the hand passes.
    hand: VecDeque<Name>,
    octets: usize,
}

struct Entry {
    finding: Finding,
    octets: usize,
    used: bool,
}

impl Cache {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Cache { bounds, kept: Mutex::default(), in_flight: Mutex::default() }
    }

    /// The finding for `name`, and whether it was there already; else asks for it once.
    pub(crate) async fn get_or<F>(&self, name: &Name, now: UnixTime, ask: impl FnOnce() -> F) -> (Finding, bool)
    where
        F: Future<Output = Finding>,
    {
        if let Some(finding) = self.get(name, now) {
            return (finding, true);
        }
        let landing = Landing::new(self, name);
        let mut flight = landing.flight.lock().await;
        if let Some(finding) = &*flight {
            return (finding.clone(), false);
        }
        // Another flight may have landed between the first look and joining this one.
        if let Some(finding) = self.get(name, now) {
            return (finding, true);
        }
        let finding = ask().await;
        *flight = Some(finding.clone());
        self.put(name, finding.clone(), now);
        (finding, false)
    }

    fn get(&self, name: &Name, now: UnixTime) -> Option<Finding> {
        let mut kept = locked(&self.kept);
        let entry = kept.entries.get_mut(name)?;
        if now >= entry.finding.until {
            return None;
        }
        entry.used = true;
        Some(entry.finding.clone())
    }

    fn put(&self, name: &Name, finding: Finding, now: UnixTime) {
        let octets = weight(name, &finding);
        if finding.until <= now || octets > self.bounds.octets || self.bounds.entries == 0 {
            return;
        }
        let mut kept = locked(&self.kept);
        if let Some(entry) = kept.entries.get_mut(name) {
            // Its place in front of the hand stays.
            let before = std::mem::replace(&mut entry.octets, octets);
            entry.finding = finding;
            entry.used = true;
            kept.octets = kept.octets - before + octets;
        } else {
            let used = false;
            kept.entries.insert(name.clone(), Entry { finding, octets, used });
            kept.hand.push_back(name.clone());
            kept.octets += octets;
        }
        while kept.entries.len() > self.bounds.entries || kept.octets > self.bounds.octets {
            kept.evict_one(now);
        }
    }

    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let kept = locked(&self.kept);
        assert_eq!(kept.entries.len(), kept.hand.len());
        (kept.entries.len(), kept.octets)
    }
}

impl Kept {
    /// Removes the first entry that is stale or was not used since the hand last came by: two rounds at most, as the
    /// first clears every mark.
    fn evict_one(&mut self, now: UnixTime) {
        while let Some(name) = self.hand.pop_front() {
            match self.entries.get_mut(&name) {
                Some(entry) if entry.used && entry.finding.until > now => {
                    entry.used = false;
                    self.hand.push_back(name);
                }
                Some(entry) => {
                    self.octets -= entry.octets;
                    self.entries.remove(&name);
                    return;
                }
                None => {}
            }
        }
    }
}

/// A place in the flight for a name; the last one to leave closes it.
struct Landing<'a> {
    cache: &'a Cache,
    name: &'a Name,
    flight: Arc<Flight>,
}

impl<'a> Landing<'a> {
    fn new(cache: &'a Cache, name: &'a Name) -> Self {
        let mut in_flight = locked(&cache.in_flight);
        let (guests, flight) = in_flight.entry(name.clone()).or_default();
        *guests += 1;
        let flight = Arc::clone(flight);
        Landing { cache, name, flight }
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut in_flight = locked(&self.cache.in_flight);
        if let Some((guests, _)) = in_flight.get_mut(self.name) {
            *guests -= 1;
            if *guests == 0 {
                in_flight.remove(self.name);
            }
        }
    }
}

fn weight(name: &Name, finding: &Finding) -> usize {
    let certificates: usize = match &finding.outcome {
        Outcome::Found { candidates, .. } => {
            candidates.iter().filter_map(|c| c.certificate.as_ref()?.as_ref().ok()).map(|c| c.der().len()).sum()
        }
        _ => 0,
    };
    ENTRY_OVERHEAD + name.as_wire().len() + certificates
}

/// A panic elsewhere leaves these maps consistent, so a poisoned lock is as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Failure, Level};
    use crate::trace::{Dnssec, Question};

    fn name(i: usize) -> Name {
        Name::parse(&format!("n{i}.example.")).unwrap()
    }

    fn finding(until: UnixTime) -> Finding {
        let question = Question {
            source: "dns",
            name: String::new(),
            record_type: "SMIMEA",
            dnssec: Dnssec::Secure,
            message: String::new(),
            asked_at: 0,
            aliases: Vec::new(),
            exchanges: Vec::new(),
        };
        let outcome = Outcome::Error(Failure::new("timeout", "no answer"));
        Finding { level: Level::Recipient, outcome, until, question: Arc::new(question) }
    }

    fn cache(entries: usize, octets: usize) -> Cache {
        Cache::new(Bounds { entries, octets })
    }

    #[tokio::test]
    async fn an_entry_ends_when_it_says() {
        let cache = cache(10, 1 << 20);
        let ask = || async { finding(100) };
        assert!(!cache.get_or(&name(1), 99, ask).await.1);
        assert!(cache.get_or(&name(1), 99, ask).await.1);
        assert!(!cache.get_or(&name(1), 100, ask).await.1);
        assert!(locked(&cache.in_flight).is_empty());
    }

    #[tokio::test]
    async fn both_bounds_hold_and_the_used_stay() {
        let cache = cache(10, 1 << 20);
        let ask = || async { finding(100) };
        for i in 0..100 {
            let _ = cache.get_or(&name(0), 0, ask).await;
            let _ = cache.get_or(&name(i), 0, ask).await;
            assert!(cache.size().0 <= 10);
        }
        assert!(cache.get(&name(0), 0).is_some(), "asked for all the time");
        assert!(cache.get(&name(1), 0).is_none());

        let cache = super::tests::cache(1_000, 10 * ENTRY_OVERHEAD);
        for i in 0..100 {
            let _ = cache.get_or(&name(i), 0, ask).await;
            let (entries, octets) = cache.size();
            assert!(octets <= 10 * ENTRY_OVERHEAD && octets >= entries * ENTRY_OVERHEAD);
        }
        let off = super::tests::cache(0, 0);
        assert!(!off.get_or(&name(1), 0, ask).await.1);
        assert!(!off.get_or(&name(1), 0, ask).await.1);
    }

    #[tokio::test]
    async fn one_asks_and_the_next_one_steps_in() {
        let cache = Arc::new(cache(10, 1 << 20));
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (release, gate) = tokio::sync::watch::channel(false);
        let start = || {
            let (cache, asked, mut gate) = (Arc::clone(&cache), Arc::clone(&asked), gate.clone());
            tokio::spawn(async move {
                let ask = || async move {
                    asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    gate.wait_for(|open| *open).await.unwrap();
                    // Not cached: who waits shares it all the same.
                    finding(0)
                };
                cache.get_or(&name(1), 50, ask).await
            })
        };
        let first = start();
        tokio::task::yield_now().await;
        let others = [start(), start(), start()];
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        tokio::task::yield_now().await;
        release.send(true).unwrap();
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2);
        assert!(locked(&cache.in_flight).is_empty());
    }
}
