//! Rollover without asking: a stream of what changes for an address.
//!
//! [`Resolver::watch`](crate::Resolver::watch) gives [`Rollovers`]. Behind it one task for the whole resolver
//! ([`engine`]) keeps the [`board`]: which addresses are watched, which names decide about them, and in which way changes are
//! noticed. There are three, and the best that is there at the moment is used by itself: DNS Push from the zone's own server
//! ([`crate::push`]), the change feed of a directory ([`crate::feed`]), and the end of the verdict's life. A signal is
//! never believed: the address is asked for again, as always, and what is learned goes to the cache and, when it differs, to
//! the streams. Signals come first, what is only asked for to be sure comes after them, and never more than a bounded number
//! at once.

pub(crate) mod board;
mod engine;
pub mod settings;
#[cfg(test)]
mod tests;
mod upstream;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use certdir_certificate::UnixTime;
use certdir_zones::{Address, DomainName, Name, RecordType};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::error::Error;
use crate::push::Server;
use crate::verdict::Verdict;
use crate::watch::board::Board;
use crate::watch::settings::Watching;

/// How a change was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// DNS Push Notifications (RFC 8765).
    Push,
    /// The change feed of a directory.
    Feed,
    /// What was known before had to be asked for again.
    Ttl,
}

impl Way {
    /// Stable code: `push`, `feed` or `ttl`.
    pub fn code(self) -> &'static str {
        match self {
            Way::Push => "push",
            Way::Feed => "feed",
            Way::Ttl => "ttl",
        }
    }
}

/// A change of the verdict about an address.
#[derive(Clone, Debug)]
pub struct Rollover {
    /// The address that is watched.
    pub address: Address,
    /// What this stream said last; `None` in its first item.
    pub old: Option<Verdict>,
    /// The verdict from now on.
    pub new: Verdict,
    /// How it was noticed; `None` in the first item.
    pub via: Option<Way>,
    /// When it was learned, by the resolver's clock.
    pub at: UnixTime,
}

/// The changes for one address: first the present verdict, then each that differs. Who reads slowly gets the newest
/// verdict and misses those between. It ends with the resolver; dropping it ends the subscription.
pub struct Rollovers {
    items: Pin<Box<dyn Stream<Item = Rollover> + Send>>,
    /// Leaves the board when it is dropped.
    _place: Place,
}

impl Rollovers {
    /// The next change. `None` when the resolver is gone. Cancellation-safe.
    pub async fn next(&mut self) -> Option<Rollover> {
        self.items.next().await
    }
}

impl Stream for Rollovers {
    type Item = Rollover;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Rollover>> {
        self.items.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Rollovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rollovers").field("address", &self._place.address).finish_non_exhaustive()
    }
}

/// What is watched, and what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WatchCounters {
    /// Addresses that are watched.
    pub watched: u64,
    /// Of these, those whose changes DNS Push tells.
    pub by_push: u64,
    /// Of the others, those whose changes a feed tells.
    pub by_feed: u64,
    /// The rest: asked for again at the end of their verdict's life.
    pub by_ttl: u64,
    /// Changes that DNS Push told.
    pub push_signals: u64,
    /// Changes that a feed told.
    pub feed_signals: u64,
    /// Addresses asked for again.
    pub refreshes: u64,
    /// Of these, those that ended in another verdict.
    pub rollovers: u64,
    /// Sessions with push servers that were lost or did not come about.
    pub push_losses: u64,
    /// Connections to feeds that were lost or did not come about.
    pub feed_losses: u64,
    /// Subscriptions that a push server refused.
    pub refused: u64,
}

/// What happened, counted by the engine.
#[derive(Default)]
pub(crate) struct Tally {
    push_signals: AtomicU64,
    feed_signals: AtomicU64,
    refreshes: AtomicU64,
    rollovers: AtomicU64,
    push_losses: AtomicU64,
    feed_losses: AtomicU64,
    refused: AtomicU64,
}

/// An answer of the resolver, on its way.
pub(crate) type Awaited<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the engine needs of a resolver.
pub(crate) trait Upstream: Send + Sync {
    /// The resolver's clock.
    fn now(&self) -> UnixTime;
    /// The present verdict, from the cache if it is there.
    fn resolve<'a>(&'a self, address: &'a Address) -> Awaited<'a, Verdict>;
    /// Asks anew for what concerns the address alone, and puts it into the cache.
    fn refresh<'a>(&'a self, address: &'a Address) -> Awaited<'a, Verdict>;
    /// The addresses in the cache.
    fn held(&self) -> Vec<Address>;
    /// What is known about the domain is in doubt.
    fn forget_domain(&self, domain: &DomainName);
    /// RDATA of the records at a name, whatever vouches for them; empty when there are none, `None` when it is not known.
    fn rdata<'a>(&'a self, name: &'a Name, record_type: RecordType) -> Awaited<'a, Option<Vec<Vec<u8>>>>;
}

/// What the streams, the engine and the resolver share.
pub(crate) struct Shared {
    pub(crate) settings: Watching,
    board: Mutex<Board>,
    wake: Notify,
    tally: Tally,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        // Nothing on the board panics half-way through a change.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resolver's side: what is watched, and the task that does it. Dropped with the resolver: the task ends, and the
/// streams with it.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    engine: Mutex<Option<AbortHandle>>,
    begun: AtomicBool,
}

impl Watch {
    pub(crate) fn new(settings: Watching) -> Watch {
        let board = Mutex::new(Board::new(&settings));
        Watch {
            shared: Arc::new(Shared { settings, board, wake: Notify::new(), tally: Tally::default() }),
            engine: Mutex::default(),
            begun: AtomicBool::new(false),
        }
    }

    /// Watches an address. Starts the task with the first one.
    ///
    /// # Errors
    /// When as many addresses are watched as may be, or outside a tokio runtime.
    pub(crate) fn watch(&self, address: &Address, upstream: Weak<dyn Upstream>) -> Result<Rollovers, Error> {
        self.begin(upstream)?;
        let seen = self.shared.board().add(address)?;
        self.shared.wake.notify_one();
        let place = Place { address: address.clone(), shared: Arc::downgrade(&self.shared) };
        let items = Box::pin(rollovers(address.clone(), seen));
        Ok(Rollovers { items, _place: place })
    }

    /// Whether what is in the cache is watched, and the task not yet begun.
    pub(crate) fn is_to_begin(&self) -> bool {
        self.shared.settings.cached && !self.begun.load(Ordering::Relaxed)
    }

    /// Starts the task, if it does not run.
    ///
    /// # Errors
    /// Outside a tokio runtime.
    pub(crate) fn begin(&self, upstream: Weak<dyn Upstream>) -> Result<(), Error> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if engine.as_ref().is_none_or(AbortHandle::is_finished) {
            let task = runtime.spawn(engine::run(Arc::clone(&self.shared), upstream));
            *engine = Some(task.abort_handle());
        }
        self.begun.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn counters(&self) -> WatchCounters {
        let [watched, by_push, by_feed, by_ttl] = self.shared.board().census();
        let tally = &self.shared.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchCounters {
            watched,
            by_push,
            by_feed,
            by_ttl,
            push_signals: read(&tally.push_signals),
            feed_signals: read(&tally.feed_signals),
            refreshes: read(&tally.refreshes),
            rollovers: read(&tally.rollovers),
            push_losses: read(&tally.push_losses),
            feed_losses: read(&tally.feed_losses),
            refused: read(&tally.refused),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            engine.abort();
        }
        self.shared.board().clear();
    }
}

/// A watcher's place on the board.
struct Place {
    address: Address,
    shared: Weak<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.board().leave(&self.address);
            shared.wake.notify_one();
        }
    }
}

/// The last that was learned about an address.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) verdict: Verdict,
    pub(crate) via: Way,
    pub(crate) at: UnixTime,
}

fn rollovers(address: Address, seen: watch::Receiver<Option<Seen>>) -> impl Stream<Item = Rollover> + Send {
    stream::unfold((seen, None::<Verdict>), move |(mut seen, old)| {
        let address = address.clone();
        async move {
            loop {
                let latest = seen.borrow_and_update().clone();
                match latest {
                    Some(Seen { verdict, via, at }) if old.as_ref().is_none_or(|old| differ(old, &verdict)) => {
                        let via = old.is_some().then_some(via);
                        let rollover = Rollover { address, old, new: verdict.clone(), via, at };
                        return Some((rollover, (seen, Some(verdict))));
                    }
                    _ => seen.changed().await.ok()?,
                }
            }
        }
    })
}

/// Whether a gateway would act differently.
pub(crate) fn differ(old: &Verdict, new: &Verdict) -> bool {
    match (old, new) {
        (Verdict::Use { certificates: a, matched: m, .. }, Verdict::Use { certificates: b, matched: n, .. }) => {
            m != n || !a.iter().map(|c| c.sha256()).eq(b.iter().map(|c| c.sha256()))
        }
        (Verdict::None { proven: a, .. }, Verdict::None { proven: b, .. }) => a != b,
        (Verdict::Unknown { failure: a, .. }, Verdict::Unknown { failure: b, .. }) => a.code != b.code,
        _ => true,
    }
}

/// The push servers of an address, with the zones they speak for; ordinary questions go there first while it is asked
/// for again.
pub(crate) type Over = Arc<[(Name, Arc<Server>)]>;
