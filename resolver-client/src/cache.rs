//! What was learned, for as long as it may be believed.
//!
//! A [`Cache`] holds values by key: verdicts by address, and what sources said about a domain by source and domain, so
//! that a domain-level certificate is asked for once and not once for each recipient. It is bounded in entries and in
//! octets; entries that were not used since the hand last came by go first (the clock algorithm). One request per key is in
//! flight: who comes while it runs waits for it, and when the one who asked gives up, the next one who waits asks in its
//! place. It is cut into parts with a lock each, so that threads seldom wait for one another.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certdir_certificate::UnixTime;
use foldhash::quality::RandomState;

/// How much a cache may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) octets: usize,
}

/// What a cache can hold.
pub(crate) trait Value: Clone {
    /// It may be used until this second, exclusive.
    fn until(&self) -> UnixTime;

    /// About how many octets it takes.
    fn octets(&self) -> usize;

    /// The form in which it is kept.
    fn kept(&self) -> Self {
        self.clone()
    }
}

/// Parts of a cache. A cache for few entries has one, so that its bounds mean what they say.
const PARTS: usize = 16;

/// Entries below which a cache has one part.
const SMALL: usize = 1_024;

/// When a request began, among all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

pub(crate) struct Cache<K, V> {
    /// Counts requests, so that one that began earlier cannot overwrite what a later one learned.
    tickets: AtomicU64,
    hasher: RandomState,
    first: Part<K, V>,
    others: Box<[Part<K, V>]>,
}

struct Part<K, V> {
    bounds: Bounds,
    entries: Mutex<Entries<K, V>>,
    /// The flights and how many take part in each; counted here, under the lock, not by the `Arc`.
    in_flight: Mutex<Flights<K, V>>,
}

type Flights<K, V> = HashMap<K, (usize, Arc<Flight<V>>), RandomState>;

/// One request in flight. Whoever holds the lock asks; the result is left for those who wait.
type Flight<V> = tokio::sync::Mutex<Option<V>>;

struct Entries<K, V> {
    /// The keys are shared with `hand`.
    map: HashMap<Arc<K>, Entry<V>, RandomState>,
    /// Every key of `map` once, in the order in which the hand passes.
    hand: VecDeque<Arc<K>>,
    octets: usize,
    /// Values that were given.
    hits: u64,
}

struct Entry<V> {
    value: V,
    ticket: Ticket,
    octets: usize,
    used: bool,
    /// It waits for the hand, or for a new value.
    forgotten: bool,
}

impl<V: Value> Entry<V> {
    fn stale(&self, now: UnixTime) -> bool {
        self.forgotten || now >= self.value.until()
    }
}

impl<K: Hash + Eq + Clone, V: Value> Cache<K, V> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let hasher = RandomState::default();
        let parts = if bounds.entries < SMALL { 1 } else { PARTS };
        let bounds = Bounds { entries: bounds.entries / parts, octets: bounds.octets / parts };
        let part = || Part::new(bounds);
        Cache { tickets: AtomicU64::new(0), hasher, first: part(), others: (1..parts).map(|_| part()).collect() }
    }

    /// The value for `key`, and whether it was there already; else asks for it once.
    pub(crate) async fn get_or<F>(&self, key: &K, now: UnixTime, ask: impl FnOnce() -> F) -> (V, bool)
    where
        F: Future<Output = V>,
    {
        let part = self.part(key);
        if let Some(value) = part.get(key, now) {
            return (value, true);
        }
        let landing = Landing::new(part, key);
        let mut flight = landing.flight.lock().await;
        if let Some(value) = &*flight {
            return (value.clone(), false);
        }
        // Another flight may have landed between the first look and joining this one.
        if let Some(value) = part.get(key, now) {
            return (value, true);
        }
        let ticket = self.ticket();
        let value = ask().await;
        *flight = Some(value.clone());
        if landing.is_current() {
            part.put(key, &value, ticket, now);
        }
        (value, false)
    }

    /// Taken before a request whose answer goes to [`Cache::put`].
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn get(&self, key: &K, now: UnixTime) -> Option<V> {
        self.part(key).get(key, now)
    }

    /// Keeps a value, unless it has ended, is larger than the cache, or was asked for before the one that is kept.
    pub(crate) fn put(&self, key: &K, value: &V, ticket: Ticket, now: UnixTime) {
        self.part(key).put(key, value, ticket, now);
    }

    /// Gives one value to nobody any more, also one that is being asked for.
    pub(crate) fn forget(&self, key: &K) {
        let ticket = self.ticket();
        let part = self.part(key);
        // Who asked before is not joined any more, and what that brings is not kept.
        locked(&part.in_flight).remove(key);
        if let Some(entry) = locked(&part.entries).map.get_mut(key) {
            entry.ticket = ticket;
            entry.forgotten = true;
        }
    }

    /// Forgets every value that `keep` says no to.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        for part in self.parts() {
            let mut entries = locked(&part.entries);
            let Entries { map, hand, octets, .. } = &mut *entries;
            map.retain(|key, entry| {
                let kept = keep(key, &entry.value);
                if !kept {
                    *octets -= entry.octets;
                }
                kept
            });
            hand.retain(|key| map.contains_key(key));
        }
    }

    /// The keys of everything that may be used.
    pub(crate) fn keys(&self, now: UnixTime) -> Vec<K> {
        let mut keys = Vec::new();
        for part in self.parts() {
            let entries = locked(&part.entries);
            let usable = entries.map.iter().filter(|(_, entry)| !entry.stale(now));
            keys.extend(usable.map(|(key, _)| K::clone(key)));
        }
        keys
    }

    /// Entries and their octets.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.parts().fold((0, 0), |(count, octets), part| {
            let entries = locked(&part.entries);
            (count + entries.map.len(), octets + entries.octets)
        })
    }

    /// Values that were given so far.
    pub(crate) fn hits(&self) -> u64 {
        self.parts().map(|part| locked(&part.entries).hits).sum()
    }

    fn parts(&self) -> impl Iterator<Item = &Part<K, V>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn part(&self, key: &K) -> &Part<K, V> {
        if self.others.is_empty() {
            return &self.first;
        }
        // Other bits than those by which the part's own table chooses.
        let place = (self.hasher.hash_one(key) >> 40) as usize % (self.others.len() + 1);
        self.others.get(place).unwrap_or(&self.first)
    }
}

impl<K: Hash + Eq + Clone, V: Value> Part<K, V> {
    fn new(bounds: Bounds) -> Self {
        let entries = Entries { map: HashMap::default(), hand: VecDeque::new(), octets: 0, hits: 0 };
        Part { bounds, entries: Mutex::new(entries), in_flight: Mutex::default() }
    }

    fn get(&self, key: &K, now: UnixTime) -> Option<V> {
        let mut entries = locked(&self.entries);
        let entry = entries.map.get_mut(key)?;
        if entry.stale(now) {
            return None;
        }
        entry.used = true;
        let value = entry.value.clone();
        entries.hits += 1;
        Some(value)
    }

    fn put(&self, key: &K, value: &V, ticket: Ticket, now: UnixTime) {
        let value = value.kept();
        let octets = value.octets();
        if value.until() <= now || self.bounds.entries == 0 || octets > self.bounds.octets {
            // It cannot be kept, and what was known before is not true any more.
            if let Some(entry) = locked(&self.entries).map.get_mut(key).filter(|entry| entry.ticket <= ticket) {
                entry.ticket = ticket;
                entry.forgotten = true;
            }
            return;
        }
        let mut entries = locked(&self.entries);
        if let Some(entry) = entries.map.get_mut(key) {
            if entry.ticket > ticket {
                return;
            }
            entry.ticket = ticket;
            // Its place in front of the hand stays.
            let before = std::mem::replace(&mut entry.octets, octets);
            entry.value = value;
            entry.forgotten = false;
            entry.used = true;
            entries.octets = entries.octets - before + octets;
        } else {
            let key = Arc::new(key.clone());
            entries.map.insert(Arc::clone(&key), Entry { value, ticket, octets, used: false, forgotten: false });
            entries.hand.push_back(key);
            entries.octets += octets;
        }
        while entries.map.len() > self.bounds.entries || entries.octets > self.bounds.octets {
            entries.evict_one(now);
        }
    }
}

impl<K: Hash + Eq, V: Value> Entries<K, V> {
    /// Removes the first entry that is stale or was not used since the hand last came by: two rounds at most, as the
    /// first clears every mark.
    fn evict_one(&mut self, now: UnixTime) {
        while let Some(key) = self.hand.pop_front() {
            match self.map.get_mut(&key) {
                Some(entry) if entry.used && !entry.stale(now) => {
                    entry.used = false;
                    self.hand.push_back(key);
                }
                Some(entry) => {
                    self.octets -= entry.octets;
                    self.map.remove(&key);
                    return;
                }
                None => {}
            }
        }
    }
}

/// A place in the flight for a key; the last one to leave closes it.
struct Landing<'a, K: Hash + Eq, V> {
    part: &'a Part<K, V>,
    key: &'a K,
    flight: Arc<Flight<V>>,
}

impl<'a, K: Hash + Eq + Clone, V> Landing<'a, K, V> {
    fn new(part: &'a Part<K, V>, key: &'a K) -> Self {
        let mut in_flight = locked(&part.in_flight);
        let (guests, flight) =
            in_flight.entry(key.clone()).or_insert_with(|| (0, Arc::new(tokio::sync::Mutex::new(None))));
        *guests += 1;
        let flight = Arc::clone(flight);
        Landing { part, key, flight }
    }
}

impl<K: Hash + Eq, V> Landing<'_, K, V> {
    /// Whether what was asked for is still wanted: nobody has [`Cache::forget`]-ten it meanwhile.
    fn is_current(&self) -> bool {
        let in_flight = locked(&self.part.in_flight);
        in_flight.get(self.key).is_some_and(|(_, flight)| Arc::ptr_eq(flight, &self.flight))
    }
}

impl<K: Hash + Eq, V> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        let mut in_flight = locked(&self.part.in_flight);
        let own = in_flight.get_mut(self.key).filter(|(_, flight)| Arc::ptr_eq(flight, &self.flight));
        if let Some((guests, _)) = own {
            *guests -= 1;
            if *guests == 0 {
                in_flight.remove(self.key);
            }
        }
    }
}

/// A panic elsewhere leaves these maps consistent, so a poisoned lock is as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets of a value of the tests.
    const WEIGHT: usize = 1_000;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Until(UnixTime);

    impl Value for Until {
        fn until(&self) -> UnixTime {
            self.0
        }

        fn octets(&self) -> usize {
            WEIGHT
        }
    }

    fn cache(entries: usize, octets: usize) -> Cache<usize, Until> {
        Cache::new(Bounds { entries, octets })
    }

    fn flights(cache: &Cache<usize, Until>) -> usize {
        cache.parts().map(|part| locked(&part.in_flight).len()).sum()
    }

    #[tokio::test]
    async fn an_entry_ends_when_it_says() {
        let cache = cache(10, 1 << 20);
        let ask = || async { Until(100) };
        assert!(!cache.get_or(&1, 99, ask).await.1);
        assert!(cache.get_or(&1, 99, ask).await.1);
        assert!(!cache.get_or(&1, 100, ask).await.1);
        assert_eq!(flights(&cache), 0);
    }

    #[tokio::test]
    async fn both_bounds_hold_and_the_used_stay() {
        let cache = cache(10, 1 << 20);
        let ask = || async { Until(100) };
        for i in 0..100 {
            let _ = cache.get_or(&0, 0, ask).await;
            let _ = cache.get_or(&i, 0, ask).await;
            assert!(cache.size().0 <= 10);
        }
        assert!(cache.get(&0, 0).is_some(), "asked for all the time");
        assert!(cache.get(&1, 0).is_none());

        let cache = super::tests::cache(1_000, 10 * WEIGHT);
        for i in 0..100 {
            let _ = cache.get_or(&i, 0, ask).await;
            let (entries, octets) = cache.size();
            assert!(octets <= 10 * WEIGHT && octets == entries * WEIGHT);
        }
        let off = super::tests::cache(0, 0);
        assert!(!off.get_or(&1, 0, ask).await.1);
        assert!(!off.get_or(&1, 0, ask).await.1);
    }

    #[tokio::test]
    async fn a_large_cache_keeps_within_its_bounds_and_forgets_on_demand() {
        let cache = cache(10_000, 5_000 * WEIGHT);
        for i in 0..20_000 {
            cache.put(&i, &Until(100), cache.ticket(), 0);
        }
        let (entries, octets) = cache.size();
        assert!(entries <= 5_000 && octets == entries * WEIGHT, "{entries} {octets}");
        assert!(entries > 4_000, "the parts are filled alike: {entries}");
        cache.retain(|key, _| key % 2 == 0);
        let (left, octets) = cache.size();
        assert!(left < entries && octets == left * WEIGHT);
        assert!((0..20_000).filter(|i| i % 2 == 1).all(|i| cache.get(&i, 0).is_none()));
    }

    #[test]
    fn what_was_asked_earlier_does_not_overwrite() {
        let cache = cache(10, 1 << 20);
        let (early, late) = (cache.ticket(), cache.ticket());
        cache.put(&1, &Until(200), late, 0);
        cache.put(&1, &Until(100), early, 0);
        assert_eq!(cache.get(&1, 0), Some(Until(200)));
        cache.put(&1, &Until(300), cache.ticket(), 0);
        assert_eq!(cache.get(&1, 0), Some(Until(300)));
        cache.forget(&1);
        assert_eq!(cache.get(&1, 0), None);
        cache.put(&1, &Until(400), cache.ticket(), 0);
        assert_eq!(cache.get(&1, 0), Some(Until(400)));
    }

    #[test]
    fn what_cannot_be_kept_ends_what_was_kept() {
        let cache = cache(10, 1 << 20);
        cache.put(&1, &Until(200), cache.ticket(), 50);
        cache.put(&1, &Until(50), cache.ticket(), 50);
        assert_eq!(cache.get(&1, 50), None);
    }

    #[tokio::test]
    async fn what_is_forgotten_while_it_is_asked_for_is_not_kept() {
        let cache = cache(10, 1 << 20);
        let ask = || async {
            cache.forget(&1);
            let (later, _) = cache.get_or(&1, 0, || async { Until(300) }).await;
            assert_eq!(later, Until(300), "nobody waits for what is forgotten");
            Until(200)
        };
        assert_eq!(cache.get_or(&1, 0, ask).await.0, Until(200));
        assert_eq!(cache.get(&1, 0), Some(Until(300)));
        assert_eq!(flights(&cache), 0);
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
                    Until(0)
                };
                cache.get_or(&1, 50, ask).await
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
        assert_eq!(flights(&cache), 0);
    }
}
