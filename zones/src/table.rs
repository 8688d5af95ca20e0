//! [`Table`]: a hash table that is cheap to copy and to change, for millions of elements.
//!
//! Linear hashing over a persistent vector of buckets: the table grows by one bucket at a time, so that each has about
//! [`LOAD`] elements, and a look-up reads the vector's few upper nodes (which stay in the processor's cache) and one
//! bucket. A copy is one reference; a change copies one bucket and the way to it, and shares the rest with every earlier
//! copy. The caller hashes, with a key that strangers do not know, and compares.

use std::sync::Arc;

/// Elements of a bucket, on average: a bucket is a few cache lines, a change copies little, and its own overhead is small.
const LOAD: usize = 4;

/// A multiset of elements, found by hash. `clone` is O(1), a change O(log n).
#[derive(Clone)]
pub struct Table<T: Clone> {
    buckets: imbl::Vector<Arc<[Slot<T>]>>,
    len: usize,
}

/// An element and the hash it stands under.
type Slot<T> = (u64, T);

impl<T: Clone> Default for Table<T> {
    fn default() -> Table<T> {
        Table { buckets: imbl::Vector::unit(Arc::default()), len: 0 }
    }
}

impl<T: Clone> Table<T> {
    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements put under a hash, in no order. Different things may have one hash: compare what is found.
    pub fn under(&self, hash: u64) -> impl Iterator<Item = &T> {
        let bucket = self.buckets.get(place(hash, self.buckets.len()));
        bucket.into_iter().flat_map(|bucket| bucket.iter()).filter(move |slot| slot.0 == hash).map(|slot| &slot.1)
    }

    /// The first element under a hash that is wanted, to be changed.
    pub fn get_mut(&mut self, hash: u64, wanted: impl Fn(&T) -> bool) -> Option<&mut T> {
        let bucket = self.buckets.get_mut(place(hash, self.buckets.len()))?;
        // Found before it is copied: asking for what is not there changes nothing.
        let at = position(bucket, hash, wanted)?;
        Arc::make_mut(bucket).get_mut(at).map(|slot| &mut slot.1)
    }

    /// Puts an element under a hash, beside what is there.
    pub fn insert(&mut self, hash: u64, element: T) {
        if let Some(bucket) = self.buckets.get_mut(place(hash, self.buckets.len())) {
            *bucket = bucket.iter().cloned().chain([(hash, element)]).collect();
            self.len += 1;
        }
        if self.len > self.buckets.len() * LOAD {
            self.grow();
        }
    }

    /// Takes away the first element under a hash that is wanted.
    pub fn remove(&mut self, hash: u64, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let bucket = self.buckets.get_mut(place(hash, self.buckets.len()))?;
        let at = position(bucket, hash, wanted)?;
        let (_, removed) = bucket.get(at).cloned()?;
        let (before, rest) = bucket.split_at_checked(at)?;
        *bucket = before.iter().chain(rest.iter().skip(1)).cloned().collect();
        self.len -= 1;
        Some(removed)
    }

    /// Every element, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.buckets.iter().flat_map(|bucket| bucket.iter()).map(|slot| &slot.1)
    }

    /// Adds a bucket, which takes its elements from the one that has spoken for it so far.
    fn grow(&mut self) {
        let count = self.buckets.len() + 1;
        let Some(bucket) = self.buckets.get_mut(place(count as u64 - 1, count - 1)) else { return };
        let (moved, kept): (Vec<Slot<T>>, Vec<Slot<T>>) =
            bucket.iter().cloned().partition(|slot| place(slot.0, count) == count - 1);
        *bucket = kept.into();
        self.buckets.push_back(moved.into());
    }
}

/// The bucket of a hash among `count`: as many of its low bits as name a bucket that is there already.
fn place(hash: u64, count: usize) -> usize {
    let mask = count.next_power_of_two() - 1;
    let place = hash as usize & mask;
    if place < count { place } else { place & (mask >> 1) }
}

fn position<T>(bucket: &[Slot<T>], hash: u64, wanted: impl Fn(&T) -> bool) -> Option<usize> {
    bucket.iter().position(|slot| slot.0 == hash && wanted(&slot.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Against a set, with hashes that collide often; copies made on the way keep what they had.
        #[test]
        fn is_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..200), 0..600)) {
            let hash = |element: u64| (element % 64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut table = Table::default();
            let mut model = BTreeSet::new();
            let mut earlier = Vec::new();
            for (put, element) in steps {
                if put && model.insert(element) {
                    table.insert(hash(element), element);
                } else if !put {
                    let removed = table.remove(hash(element), |one| *one == element);
                    prop_assert_eq!(removed.is_some(), model.remove(&element));
                }
                if model.len() % 50 == 0 {
                    earlier.push((table.clone(), model.clone()));
                }
            }
            earlier.push((table, model));
            for (mut table, model) in earlier {
                prop_assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(&table.iter().copied().collect::<BTreeSet<_>>(), &model);
                for element in 0..200 {
                    let found = table.under(hash(element)).any(|one| *one == element);
                    prop_assert_eq!(found, model.contains(&element));
                    prop_assert_eq!(table.get_mut(hash(element), |one| *one == element).is_some(), found);
                }
            }
        }
    }

    #[test]
    fn every_count_has_a_place_for_every_hash() {
        for count in 1..300 {
            for hash in 0..2_000 {
                assert!(place(hash, count) < count);
            }
            assert_eq!(place(count as u64 - 1, count), count - 1);
        }
    }
}
