//! [`Feed`]: the log as subscribers read it, from the store once for all of them; and how many subscribers there may be.
//!
//! A subscriber has no queue. It keeps where it stands, and asks for what comes after that when the published set changed
//! and it has sent all it had: whoever reads slowly costs no memory and misses nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use certdir_directory::{Change, Connections, Error, Store, Version};
use tokio::sync::{Mutex, Semaphore, watch};

/// The newest changes kept in memory. Who stands further back reads the store itself.
const KEPT: usize = 4_096;

/// Subscriptions at once, and those of one source.
const SUBSCRIPTIONS: usize = 512;
const SUBSCRIPTIONS_PER_SOURCE: usize = 32;

/// Names in all subscriptions at once: about 200 MiB, should all of them be as long as they can be usefully.
const NAMES: usize = 1 << 20;

/// Bodies with names on their way at once, each up to 2 MiB, and those of one source.
const BODIES: usize = 32;
const BODIES_PER_SOURCE: usize = 4;

/// What subscribers share.
pub(crate) struct Feed {
    tail: Mutex<Tail>,
    /// Places of subscriptions.
    pub(crate) places: Arc<Connections>,
    /// Room for names.
    pub(crate) names: Arc<Semaphore>,
    /// Places of bodies with names.
    pub(crate) bodies: Arc<Connections>,
    /// True when the program is about to end: then subscriptions end, too.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The changes after one Version up to another one, all of them.
#[derive(Default)]
struct Tail {
    from: Version,
    to: Version,
    changes: VecDeque<Arc<Change>>,
}

/// Some changes in their order.
pub(crate) struct Page {
    pub(crate) changes: Vec<Arc<Change>>,
    /// Whether there are others after these.
    pub(crate) more: bool,
}

impl Feed {
    pub(crate) fn new(stopping: watch::Receiver<bool>) -> Feed {
        Feed {
            tail: Mutex::default(),
            places: Arc::new(Connections::new(SUBSCRIPTIONS, SUBSCRIPTIONS_PER_SOURCE)),
            names: Arc::new(Semaphore::new(NAMES)),
            bodies: Arc::new(Connections::new(BODIES, BODIES_PER_SOURCE)),
            stopping,
        }
    }

    /// The changes after a Version up to another one that is shown already, at most `limit`.
    pub(crate) async fn after(
        &self,
        store: &Store,
        after: Version,
        until: Version,
        limit: usize,
    ) -> Result<Page, Error> {
        // Of all who are woken by one change the first reads it, the others find it.
        let mut tail = self.tail.lock().await;
        if let Some(page) = tail.page(store, after, until, limit).await? {
            return Ok(page);
        }
        drop(tail);
        let rows = u32::try_from(limit.saturating_add(1)).unwrap_or(u32::MAX);
        let mut changes: Vec<Arc<Change>> =
            store.changes(after, until, rows).await?.into_iter().map(Arc::new).collect();
        let more = changes.len() > limit;
        changes.truncate(limit);
        Ok(Page { changes, more })
    }
}

impl Tail {
    /// None where it begins too late, or too much has happened since.
    async fn page(
        &mut self,
        store: &Store,
        after: Version,
        until: Version,
        limit: usize,
    ) -> Result<Option<Page>, Error> {
        let kept = u64::try_from(KEPT).unwrap_or(u64::MAX);
        if after < self.from || until.saturating_sub(after) > kept {
            return Ok(None);
        }
        if after > self.to {
            // Nobody asked for a while.
            *self = Tail { from: after, to: after, changes: VecDeque::new() };
        }
        if until > self.to {
            let rows = u32::try_from(KEPT + 1).unwrap_or(u32::MAX);
            self.changes.extend(store.changes(self.to, until, rows).await?.into_iter().map(Arc::new));
            self.to = self.changes.back().map_or(until, |change| change.cursor.version);
            while self.changes.len() > KEPT {
                self.from = self.changes.pop_front().map_or(self.from, |change| change.cursor.version);
            }
            if after < self.from {
                return Ok(None);
            }
        }
        let first = self.changes.partition_point(|change| change.cursor.version <= after);
        let last = self.changes.partition_point(|change| change.cursor.version <= until);
        let changes: Vec<_> =
            self.changes.iter().skip(first).take(limit.min(last.saturating_sub(first))).cloned().collect();
        Ok(Some(Page { more: changes.len() < last.saturating_sub(first), changes }))
    }
}
