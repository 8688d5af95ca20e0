//! Upkeep: certificates begin and end, signatures are made anew before they end, and what nobody needs any more goes. In small
//! steps, so that publishers hardly wait.

use std::collections::BTreeSet;

use certdir_certificate::UnixTime;
use certdir_zones::{Address, DomainName};
use sqlx::sqlite::SqliteConnection;

use crate::batch::{Batch, Loaded};
use crate::chain::{self, Link, Signing};
use crate::error::Error;
use crate::given::ZoneRow;
use crate::records;
use crate::sqlite;
use crate::store::Store;

/// Mailboxes in one transaction of upkeep: short, so that publishers hardly wait.
const UPKEEP_BATCH: u32 = 250;
/// Rows of each kind that one transaction takes away.
const PURGE_BATCH: u32 = 2_000;
/// Seconds after which upkeep of a mailbox that failed is tried again.
const UPKEEP_RETRY: i64 = 600;

/// What upkeep has to do, at most [`UPKEEP_BATCH`] of each kind.
struct Due {
    mailboxes: Vec<Address>,
    domains: Vec<DomainName>,
    rrsets: Vec<(i64, ZoneRow)>,
    links: Vec<(i64, Link)>,
}

impl Due {
    async fn read(connection: &mut SqliteConnection, now: UnixTime) -> Result<Due, Error> {
        Ok(Due {
            mailboxes: sqlite::due(connection, now, UPKEEP_BATCH).await?,
            domains: sqlite::due_domains(connection, now, UPKEEP_BATCH).await?,
            rrsets: sqlite::zone::due_rrsets(connection, now, UPKEEP_BATCH).await?,
            links: sqlite::zone::due_links(connection, now, UPKEEP_BATCH).await?,
        })
    }

    fn lengths(&self) -> [usize; 4] {
        [self.mailboxes.len(), self.domains.len(), self.rrsets.len(), self.links.len()]
    }

    fn is_empty(&self) -> bool {
        self.lengths().iter().all(|length| *length == 0)
    }

    /// Whether a query was full, or nearly: duplicates are left out.
    fn is_much(&self) -> bool {
        let full = usize::try_from(UPKEEP_BATCH).unwrap_or(usize::MAX);
        self.lengths().iter().any(|length| *length >= full / 2)
    }
}

impl Store {
    /// One step of upkeep: certificates that begin or end, signatures to be made anew. Returns whether more is waiting.
    pub async fn keep_up(&self, now: UnixTime) -> Result<bool, Error> {
        // Look before taking the write lock: nearly always there is nothing to do.
        if Due::read(&mut *self.database.readers.acquire().await?, now).await?.is_empty() {
            return self.tidy(now).await;
        }
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let due = Due::read(&mut transaction, now).await?;
        let mut domains: BTreeSet<DomainName> = due.mailboxes.iter().map(|mailbox| mailbox.domain().clone()).collect();
        domains.extend(due.domains.iter().cloned());
        let zones = due.rrsets.iter().map(|(id, _)| *id).chain(due.links.iter().map(|(id, _)| *id)).collect();
        domains.extend(sqlite::zone::domain_names(&mut transaction, &zones).await?);
        let mut batch = self.load(&mut transaction, domains, "upkeep".into(), now).await?;
        self.load_entries(&mut transaction, &mut batch, due.mailboxes.iter().cloned().collect()).await?;
        let more = due.is_much();
        for mailbox in &due.mailboxes {
            batch.keep_up(mailbox)?;
        }
        batch.renew(due.rrsets, due.links)?;
        self.commit(transaction, batch).await?;
        if more { Ok(true) } else { self.tidy(now).await }
    }

    /// When no signature waits: takes away rows that only told followers what is gone, and moves the log (WAL) into the
    /// database, so that no publication has to. Returns whether there are more such rows.
    async fn tidy(&self, now: UnixTime) -> Result<bool, Error> {
        let mut more = false;
        if sqlite::zone::has_tombstones(&mut *self.database.readers.acquire().await?, now).await? {
            let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
            more = sqlite::zone::purge(&mut transaction, now, PURGE_BATCH).await?;
            transaction.commit().await?;
        }
        self.database.checkpoint().await?;
        Ok(more)
    }

    /// One step of upkeep of certificates only: those that begin or end. Returns whether more is waiting.
    pub async fn begin_and_end(&self, now: UnixTime) -> Result<bool, Error> {
        if sqlite::due_certificates(&mut *self.database.readers.acquire().await?, now, 1).await?.is_empty() {
            return Ok(false);
        }
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let due = sqlite::due_certificates(&mut transaction, now, UPKEEP_BATCH).await?;
        let domains = due.iter().map(|mailbox| mailbox.domain().clone()).collect();
        let mut batch = self.load(&mut transaction, domains, "upkeep".into(), now).await?;
        self.load_entries(&mut transaction, &mut batch, due.iter().cloned().collect()).await?;
        for mailbox in &due {
            batch.keep_up(mailbox)?;
        }
        self.commit(transaction, batch).await?;
        Ok(due.len() >= usize::try_from(UPKEEP_BATCH).unwrap_or(usize::MAX))
    }
}

impl Batch {
    /// Upkeep of one mailbox: certificates begin and end, signatures are renewed.
    pub(crate) fn keep_up(&mut self, mailbox: &Address) -> Result<(), Error> {
        let now = self.now;
        let Some(loaded) = self.entries.get_mut(mailbox) else { return Ok(()) };
        loaded.renew = records::is_due(now, loaded.row.refresh_at, loaded.row.inception);
        let before = loaded.clone();
        let (version, logged) = (self.version, self.publications.len());
        let Err(error) = self.settle(mailbox, &[]).map(drop) else { return Ok(()) };
        // One mailbox must not keep all others from being kept up: it stays as it is, and is tried again later.
        tracing::error!(code = error.code(), %mailbox, "upkeep: {error}");
        self.version = version;
        self.publications.truncate(logged);
        let mut row = before.row;
        row.due_at = row.due_at.map(|at| at.max(now + UPKEEP_RETRY));
        row.refresh_at = row.refresh_at.map(|at| at.max(now + UPKEEP_RETRY));
        row.inception = row.inception.map(|at| at.min(now));
        self.entries.insert(mailbox.clone(), Loaded { row, dirty: true, renew: false, before: before.before });
        Ok(())
    }

    /// Renews signatures of what zones hold beside their entries.
    pub(crate) fn renew(&mut self, rrsets: Vec<(i64, ZoneRow)>, links: Vec<(i64, Link)>) -> Result<(), Error> {
        let now = self.now;
        for hosted in self.domains.values_mut() {
            let (id, apex, ttl) = (hosted.row.id, hosted.apex(), hosted.row.settings.denial_ttl());
            for (spread, (_, row)) in (id..).zip(rrsets.iter().filter(|(of, _)| *of == id)) {
                let mut row = row.clone();
                row.sign(&hosted.key, &apex, now, spread)?;
                hosted.rrsets.push(row);
            }
            for (_, link) in links.iter().filter(|(of, _)| *of == id) {
                let mut link = link.clone();
                chain::renew(&mut link, &Signing { apex: &apex, key: &hosted.key, ttl, now })?;
                hosted.links.push(link);
            }
            hosted.dirty |= !hosted.rrsets.is_empty() || !hosted.links.is_empty();
        }
        Ok(())
    }
}
