//! [`Reader`] and [`Follower`]: how views see the published set, and how it follows the store.
//!
//! A follower notices commits of its own process at once and those of other processes by SQLite's `data_version` (3
//! microseconds a look), pulls what changed, and swaps in the next [`Published`]. Views only hold a [`Reader`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use certdir_certificate::UnixTime;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Sqlite, Transaction};
use tokio::sync::watch;

use crate::error::Error;
use crate::published::{ChangedDomain, Domain, Published, Version};
use crate::rows::DomainRow;
use crate::sqlite;
use crate::store::Store;

/// What time it is, for those who may not look at the clock themselves.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// How often commits of other processes are looked for.
const POLL: Duration = Duration::from_millis(20);
/// How long the last set may be shown when the store cannot be read: then views say that they are unavailable, since a
/// certificate may have been withdrawn meanwhile.
const STALE_AFTER: i64 = 600;

/// What a view holds: the way to the newest published set. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
    changed: watch::Receiver<Version>,
}

struct Shared {
    published: Arc<ArcSwap<Published>>,
    /// When the store was last seen to hold nothing newer.
    fresh_at: AtomicI64,
    clock: Clock,
}

/// A reader with a place of its own for the set: for hot loops.
pub struct PublishedCache {
    shared: Arc<Shared>,
    cache: Cache<Arc<ArcSwap<Published>>, Arc<Published>>,
}

/// Keeps a published set up to date with its store.
pub struct Follower {
    store: Store,
    connection: SqliteConnection,
    shared: Arc<Shared>,
    changed: watch::Sender<Version>,
}

impl Reader {
    /// The newest set. Errors: [`Error::Stale`] when the store could not be read for ten minutes; a view then says that it
    /// is unavailable, never that there is nothing.
    pub fn published(&self) -> Result<Arc<Published>, Error> {
        self.shared.fresh()?;
        Ok(self.shared.published.load_full())
    }

    /// Seconds since the store was last seen to hold nothing newer: normally 0. Monitoring wants to know long before the set
    /// is too old to be shown.
    pub fn age(&self) -> i64 {
        self.shared.age()
    }

    /// A cache for one thread of a hot loop.
    pub fn cache(&self) -> PublishedCache {
        PublishedCache { shared: self.shared.clone(), cache: Cache::new(self.shared.published.clone()) }
    }

    /// Tells of every swap, by the Version that is visible since.
    pub fn changed(&self) -> watch::Receiver<Version> {
        self.changed.clone()
    }
}

impl PublishedCache {
    /// The newest set; one atomic load where it has not changed. Errors as [`Reader::published`].
    pub fn load(&mut self) -> Result<&Arc<Published>, Error> {
        self.shared.fresh()?;
        Ok(self.cache.load())
    }
}

impl Shared {
    fn age(&self) -> i64 {
        (self.clock)() - self.fresh_at.load(Ordering::Relaxed)
    }

    fn fresh(&self) -> Result<(), Error> {
        let seconds = self.age();
        if seconds > STALE_AFTER { Err(Error::Stale { seconds }) } else { Ok(()) }
    }
}

impl Follower {
    /// Loads all that is published. The reader answers from the moment this returns.
    pub async fn start(store: &Store, clock: Clock) -> Result<(Follower, Reader), Error> {
        let connection = store.database.follower().await?;
        let shared = Arc::new(Shared {
            published: Arc::new(ArcSwap::from_pointee(Published::empty())),
            fresh_at: AtomicI64::new(clock()),
            clock,
        });
        let (changed, receiver) = watch::channel(0);
        let mut follower = Follower { store: store.clone(), connection, shared: shared.clone(), changed };
        follower.catch_up().await?;
        Ok((follower, Reader { shared, changed: receiver }))
    }

    /// Follows until told to stop. An error of the store is logged and tried again: the last set stays.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut commits = self.store.commits();
        let mut seen = None;
        let mut failing = false;
        while !*shutdown.borrow() {
            // A pull may be long; whoever stops the program does not wait for it.
            let looked = tokio::select! {
                looked = self.look(&mut seen) => looked,
                _ = shutdown.changed() => break,
            };
            match looked {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the store can be read again");
                    }
                }
                Err(error) => {
                    seen = None;
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(code = error.code(), "cannot follow the store: {error}");
                    }
                    if let Ok(connection) = self.store.database.follower().await {
                        self.connection = connection;
                    }
                }
            }
            tokio::select! {
                _ = commits.changed() => {}
                _ = shutdown.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    async fn look(&mut self, seen: &mut Option<i64>) -> Result<(), Error> {
        // Read before catching up: a commit in between is seen at the next look.
        let now = (self.shared.clock)();
        self.store.in_place()?;
        let version = sqlite::data_version(&mut self.connection).await?;
        if *seen != Some(version) {
            self.catch_up().await?;
            *seen = Some(version);
        }
        self.shared.fresh_at.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Pulls what changed and swaps in the next set.
    pub async fn catch_up(&mut self) -> Result<Version, Error> {
        let now = (self.shared.clock)();
        let old = self.shared.published.load_full();
        // One read transaction: the rows of one moment.
        let mut transaction = self.connection.begin().await?;
        let meta = sqlite::meta(&mut transaction).await?;
        if meta.revision != old.revision() {
            // Of a set that is older than what was purged nobody knows any more what has gone since.
            let anew = old.revision() < meta.purged;
            let mut next = if anew { Published::empty() } else { Published::clone(&old) };
            let since = next.revision();
            pull(&self.store, &mut transaction, &mut next, since, meta.zones_revision).await?;
            next.stamp(meta.version, meta.changed_at, meta.revision);
            self.shared.published.store(Arc::new(next));
            self.changed.send_replace(meta.version);
        }
        transaction.rollback().await?;
        self.shared.fresh_at.store(now, Ordering::Relaxed);
        Ok(meta.version)
    }
}

async fn pull(
    store: &Store,
    transaction: &mut Transaction<'_, Sqlite>,
    next: &mut Published,
    since: u64,
    zones_revision: u64,
) -> Result<(), Error> {
    for row in sqlite::changed_domains(transaction, since).await? {
        match row.removed {
            true => next.remove_domain(&row.name),
            false => next.apply_domain(changed_domain(store, row)?)?,
        }
    }
    if zones_revision > since {
        for (domain, row) in sqlite::zone::changed_rrsets(transaction, since).await? {
            next.apply_rrset(domain, &row.owner, row.rtype, row.signed)?;
        }
        sqlite::zone::changed_links(transaction, since, |domain, link| {
            next.apply_link(domain, link.hash, link.signed);
            Ok(())
        })
        .await?;
    }
    sqlite::following::changed_entries(transaction, since, next).await
}

fn changed_domain(store: &Store, row: DomainRow) -> Result<ChangedDomain, Error> {
    let apex = row.settings.apex(&row.name);
    Ok(ChangedDomain {
        key: store.key(&row)?,
        apex_rrsets: row.apex,
        domain: Domain { id: row.id, name: row.name, apex, settings: row.settings },
    })
}
