//! Every SQL statement of certdir's embedded store (SQLite in WAL mode). Nobody outside this crate sees it: callers know
//! [`crate::Store`], so that another database can join beside this module.
//! Here is what a transaction loads and saves; [`following`] has what a follower reads, [`reading`] the look-ups of people,
//! [`search`] finds certificates by
//! their hashes, [`token`] has the tokens, [`zone`] what a zone holds beside its entries.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use certdir_certificate::UnixTime;
use certdir_zones::rdata::smimea;
use certdir_zones::{Address, DomainName};
use sqlx::query_builder::QueryBuilder;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Row, Sqlite};

use crate::batch::Batch;
use crate::error::Error;
use crate::lifecycle::Purposes;
use crate::records;
use crate::rows::{Binding, CertificateRow, DomainRow, EntryRow, State, usage};

pub(crate) mod following;
pub(crate) mod reading;
pub(crate) mod search;
pub(crate) mod token;
pub(crate) mod zone;

/// Rows in one statement; SQLite takes 32,766 parameters, the widest row here has 13.
const ROWS: usize = 500;
/// Pages of the log (WAL) at which a commit moves them into the database itself, with two waits for the disk. Upkeep does
/// so long before, while nobody waits ([`Sqlite3::checkpoint`]); this is for programs without upkeep.
const WAL_PAGES: u32 = 16_384;
/// Rows that SQLite's thread may read ahead of a follower: about a megabyte.
const ROWS_AHEAD: usize = 1_024;
/// How long a writer waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(30);

/// The database's pools: one writer, several readers.
#[derive(Clone)]
pub(crate) struct Sqlite3 {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
    /// For checkpoints alone: they neither wait for the writer nor keep it waiting.
    checkpointer: SqlitePool,
    options: SqliteConnectOptions,
}

impl Sqlite3 {
    pub(crate) async fn open(file: &Path) -> Result<Sqlite3, Error> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: what was acknowledged survives the loss of power, not only of the process.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            // A slow disk is seen in the metrics; a log line with a whole statement helps nobody.
            .disable_statement_logging();
        // Made by hand first: the files that SQLite puts beside it take over its mode.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(Error::file(file, error)),
            _ => {}
        }
        // A connection to a file does not break by itself: no look at it before each use.
        let pool = SqlitePoolOptions::new().test_before_acquire(false);
        let writing = options.clone().pragma("wal_autocheckpoint", WAL_PAGES.to_string());
        let writer = pool.clone().max_connections(1).connect_with(writing).await?;
        sqlx::migrate!("migrations/sqlite").run(&writer).await?;
        search::fill(&writer).await?;
        let checkpointer = pool.clone().max_connections(1).connect_lazy_with(options.clone());
        let reading = options.clone().read_only(true).create_if_missing(false);
        let readers = pool.max_connections(4).connect_lazy_with(reading.clone());
        Ok(Sqlite3 { writer, readers, checkpointer, options: reading })
    }

    /// Moves what is in the log (WAL) into the database, as far as no reader needs it where it is. Nobody waits for it.
    pub(crate) async fn checkpoint(&self) -> Result<(), Error> {
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *self.checkpointer.acquire().await?).await?;
        Ok(())
    }

    /// A connection of its own for a follower: `data_version` counts the commits of others.
    pub(crate) async fn follower(&self) -> Result<SqliteConnection, Error> {
        Ok(self.options.clone().row_buffer_size(ROWS_AHEAD).connect().await?)
    }
}

/// The store's counters.
pub(crate) struct Meta {
    pub(crate) version: u64,
    /// When the newest publication was made; 0 when there is none.
    pub(crate) changed_at: UnixTime,
    pub(crate) revision: u64,
    /// The newest revision of a record or a link that no entry owns; most publications touch none.
    pub(crate) zones_revision: u64,
    /// Up to this revision the rows of records and links that are gone are deleted.
    pub(crate) purged: u64,
    pub(crate) next_id: i64,
}

pub(crate) async fn data_version(connection: &mut SqliteConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await?)
}

pub(crate) async fn meta(connection: &mut SqliteConnection) -> Result<Meta, Error> {
    let sql = "SELECT version, changed_at, revision, next_id, \
         max((SELECT coalesce(max(revision), 0) FROM rrset), (SELECT coalesce(max(revision), 0) FROM link)), purged FROM meta";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    Ok(Meta {
        version: unsigned(&row, 0)?,
        changed_at: row.try_get(1)?,
        revision: unsigned(&row, 2)?,
        zones_revision: unsigned(&row, 4)?,
        purged: unsigned(&row, 5)?,
        next_id: row.try_get(3)?,
    })
}

/// The domains of a list that are hosted.
pub(crate) async fn domains(connection: &mut SqliteConnection, names: &[DomainName]) -> Result<Vec<DomainRow>, Error> {
    let mut rows = Vec::new();
    for chunk in names.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(format!("{SELECT_DOMAIN} WHERE removed_at IS NULL AND name IN ("));
        list(&mut query, chunk.iter().map(|name| name.as_str()));
        rows.extend(query.build().fetch_all(&mut *connection).await?);
    }
    rows.iter().map(domain).collect()
}

/// Every hosted domain, in order.
pub(crate) async fn all_domains(connection: &mut SqliteConnection) -> Result<Vec<DomainRow>, Error> {
    let sql = QueryBuilder::<Sqlite>::new(format!("{SELECT_DOMAIN} WHERE removed_at IS NULL ORDER BY name")).into_sql();
    sqlx::query(sql).fetch_all(connection).await?.iter().map(domain).collect()
}

/// The domains changed since a revision, also those that were removed.
pub(crate) async fn changed_domains(connection: &mut SqliteConnection, since: u64) -> Result<Vec<DomainRow>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(format!("{SELECT_DOMAIN} WHERE revision > "));
    query.push_bind(signed(since)?);
    query.build().fetch_all(connection).await?.iter().map(domain).collect()
}

const SELECT_DOMAIN: &str =
    "SELECT id, name, settings, serial, apex, refresh_at, added_at, inception, removed_at IS NOT NULL FROM domain";

fn domain(row: &SqliteRow) -> Result<DomainRow, Error> {
    let settings: &str = row.try_get(2)?;
    Ok(DomainRow {
        id: row.try_get(0)?,
        name: DomainName::parse(row.try_get(1)?)?,
        settings: serde_json::from_str(settings).map_err(|error| Error::Corrupt(format!("settings: {error}")))?,
        serial: u32::try_from(row.try_get::<i64, _>(3)?).map_err(|_| Error::Corrupt("a serial".into()))?,
        apex: records::decode_rrsets(row.try_get(4)?)?,
        refresh_at: row.try_get(5)?,
        added_at: row.try_get(6)?,
        inception: row.try_get(7)?,
        removed: row.try_get(8)?,
    })
}

/// The entries of a list of mailboxes, each with all its certificates.
pub(crate) async fn entries(connection: &mut SqliteConnection, mailboxes: &[Address]) -> Result<Vec<EntryRow>, Error> {
    let mut entries = Vec::new();
    for chunk in mailboxes.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT_ENTRY);
        query.push(JOIN_CERTIFICATE).push(" WHERE e.address IN (");
        list(&mut query, chunk.iter().map(ToString::to_string));
        query.push(ORDER_ENTRY);
        let mut joined = Joined::default();
        for row in query.build().fetch_all(&mut *connection).await? {
            entries.extend(joined.add(&row)?);
        }
        entries.extend(joined.finish());
    }
    Ok(entries)
}

const SELECT_ENTRY: &str = "SELECT e.id, e.domain_id, e.address, e.version, e.changed_at, e.records, e.refresh_at, e.due_at, e.spellings, \
     e.inception, b.certificate_id, b.spellings, b.asserted, b.purposes, b.slot, b.restored, b.state, b.visible, b.added_at, \
     b.added_version, b.ended_at, b.reason, \
     c.sha256, c.usage, c.der, c.not_before, c.not_after, c.common_name, c.subject, c.issuer, c.serial_hex, c.key_name \
     FROM entry e LEFT JOIN binding b ON b.entry_id = e.id";
const JOIN_CERTIFICATE: &str = " LEFT JOIN certificate c ON c.id = b.certificate_id";
const ORDER_ENTRY: &str = " ORDER BY e.id, b.restored DESC, c.not_before DESC, c.not_after DESC, c.id DESC";

/// Puts the rows of the join together again: those of one entry follow each other. A certificate is kept once, however
/// many mailboxes it serves.
#[derive(Default)]
struct Joined {
    open: Option<EntryRow>,
    certificates: HashMap<i64, Weak<CertificateRow>>,
}

impl Joined {
    fn add(&mut self, row: &SqliteRow) -> Result<Option<EntryRow>, Error> {
        let id: i64 = row.try_get(0)?;
        let mut done = None;
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            let (cert_form, records) = records::decode(row.try_get(5)?)?;
            done = self.open.replace(EntryRow {
                id,
                domain_id: row.try_get(1)?,
                address: Address::parse(row.try_get(2)?)?,
                version: unsigned(row, 3)?,
                changed_at: row.try_get(4)?,
                records,
                cert_form,
                inception: row.try_get(9)?,
                refresh_at: row.try_get(6)?,
                due_at: row.try_get(7)?,
                spellings: spellings(row, 8)?,
                bindings: Vec::new(),
            });
        }
        if let Some(certificate_id) = row.try_get::<Option<i64>, _>(10)? {
            let binding = self.binding(row, certificate_id)?;
            if let Some(open) = &mut self.open {
                open.bindings.push(binding);
            }
        }
        Ok(done)
    }

    fn binding(&mut self, row: &SqliteRow, certificate_id: i64) -> Result<Binding, Error> {
        let certificate = match self.certificates.get(&certificate_id).and_then(Weak::upgrade) {
            Some(known) => known,
            None => {
                let read = Arc::new(certificate(row, certificate_id, 22)?);
                self.certificates.insert(certificate_id, Arc::downgrade(&read));
                read
            }
        };
        let state: &str = row.try_get(16)?;
        Ok(Binding {
            certificate,
            spellings: spellings(row, 11)?,
            asserted: row.try_get(12)?,
            purposes: Purposes(row.try_get(13)?),
            slot: row.try_get(14)?,
            restored: row.try_get(15)?,
            state: State::parse(state).ok_or_else(|| Error::Corrupt(format!("state {state}")))?,
            visible: row.try_get(17)?,
            added_at: row.try_get(18)?,
            added_version: unsigned(row, 19)?,
            ended_at: row.try_get(20)?,
            reason: row.try_get(21)?,
        })
    }

    fn finish(self) -> Option<EntryRow> {
        self.open
    }
}

fn spellings(row: &SqliteRow, column: usize) -> Result<Vec<Address>, Error> {
    let text: &str = row.try_get(column)?;
    Ok(text.lines().map(Address::parse).collect::<Result<_, _>>()?)
}

fn lines(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn certificate(row: &SqliteRow, id: i64, first: usize) -> Result<CertificateRow, Error> {
    let sha256: &[u8] = row.try_get(first)?;
    let usage = usage(row.try_get(first + 1)?);
    Ok(CertificateRow {
        id,
        sha256: sha256.try_into().map_err(|_| Error::Corrupt("a certificate's digest".into()))?,
        usage,
        rdata: smimea(usage, row.try_get(first + 2)?),
        not_before: row.try_get(first + 3)?,
        not_after: row.try_get(first + 4)?,
        common_name: row.try_get(first + 5)?,
        subject: row.try_get(first + 6)?,
        issuer: row.try_get(first + 7)?,
        serial_hex: row.try_get(first + 8)?,
        key_name: row.try_get(first + 9)?,
    })
}

/// The certificates of a list of digests that are known.
pub(crate) async fn certificates(
    connection: &mut SqliteConnection,
    digests: &[[u8; 32]],
) -> Result<HashMap<[u8; 32], Arc<CertificateRow>>, Error> {
    let mut found = HashMap::new();
    for chunk in digests.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT id, sha256, usage, der, not_before, not_after, common_name, subject, issuer, serial_hex, key_name \
             FROM certificate WHERE sha256 IN (",
        );
        list(&mut query, chunk.iter().map(|digest| digest.to_vec()));
        for row in query.build().fetch_all(&mut *connection).await? {
            let known = certificate(&row, row.try_get(0)?, 1)?;
            found.insert(known.sha256, Arc::new(known));
        }
    }
    Ok(found)
}

/// The mailboxes that show one of a list of certificates only on the publisher's word, with that certificate.
pub(crate) async fn aliases(connection: &mut SqliteConnection, certificates: &[i64]) -> Result<Vec<Address>, Error> {
    let mut found = Vec::new();
    for chunk in certificates.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT DISTINCT e.address FROM binding b JOIN entry e ON e.id = b.entry_id \
             WHERE b.asserted = 1 AND b.visible = 1 AND b.certificate_id IN (",
        );
        list(&mut query, chunk.iter().copied());
        found.extend(addresses(query.build().fetch_all(&mut *connection).await?)?);
    }
    Ok(found)
}

/// The mailboxes of hosted domains that a certificate was ever taken for.
pub(crate) async fn mailboxes_of(connection: &mut SqliteConnection, sha256: &[u8; 32]) -> Result<Vec<Address>, Error> {
    addresses(
        sqlx::query(
            "SELECT e.address FROM certificate c JOIN binding b ON b.certificate_id = c.id \
             JOIN entry e ON e.id = b.entry_id JOIN domain d ON d.id = e.domain_id \
             WHERE c.sha256 = ? AND d.removed_at IS NULL ORDER BY e.id",
        )
        .bind(sha256.to_vec())
        .fetch_all(connection)
        .await?,
    )
}

/// Mailboxes with something to do, the most urgent first: a certificate begins or ends; a signature begins in the future,
/// because the clock was set back; one has ended; one is to be renewed.
pub(crate) async fn due(connection: &mut SqliteConnection, now: UnixTime, limit: u32) -> Result<Vec<Address>, Error> {
    let mut found = due_certificates(connection, now, limit).await?;
    let ended = now - records::SIGNATURE_LIFETIME - records::INCEPTION_SKEW;
    for (sql, at) in [
        ("SELECT address FROM entry WHERE inception > ? AND ? >= 0 LIMIT ?", now),
        // `+` keeps SQLite at the index of inceptions: the oldest signatures are the ones that ended first.
        ("SELECT address FROM entry WHERE inception < ? AND +refresh_at <= ? ORDER BY inception LIMIT ?", ended),
        ("SELECT address FROM entry WHERE refresh_at <= ? AND ? >= 0 ORDER BY refresh_at LIMIT ?", now),
    ] {
        let rest = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
        if rest > 0 {
            found.extend(addresses(sqlx::query(sql).bind(at).bind(now).bind(rest).fetch_all(&mut *connection).await?)?);
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Mailboxes of which a certificate begins or ends.
pub(crate) async fn due_certificates(
    connection: &mut SqliteConnection,
    now: UnixTime,
    limit: u32,
) -> Result<Vec<Address>, Error> {
    let sql = "SELECT address FROM entry WHERE due_at <= ? ORDER BY due_at LIMIT ?";
    addresses(sqlx::query(sql).bind(now).bind(limit).fetch_all(connection).await?)
}

/// Domains whose apex signatures are to be made anew.
pub(crate) async fn due_domains(
    connection: &mut SqliteConnection,
    now: UnixTime,
    limit: u32,
) -> Result<Vec<DomainName>, Error> {
    sqlx::query(
        "SELECT name FROM domain WHERE removed_at IS NULL AND (refresh_at <= ?1 OR inception > ?1) \
         ORDER BY refresh_at LIMIT ?2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| Ok(DomainName::parse(row.try_get(0)?)?))
    .collect()
}

fn addresses(rows: Vec<SqliteRow>) -> Result<Vec<Address>, Error> {
    rows.iter().map(|row| Ok(Address::parse(row.try_get(0)?)?)).collect()
}

/// The number and the serial of a domain that was hosted and removed.
pub(crate) async fn removed_domain(
    connection: &mut SqliteConnection,
    name: &DomainName,
) -> Result<Option<(i64, u32)>, Error> {
    let found =
        sqlx::query("SELECT id, serial FROM domain WHERE name = ? AND removed_at IS NOT NULL").bind(name.as_str());
    found.fetch_optional(connection).await?.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// Adds a domain's row, or brings a removed one back; its other columns are written with the batch.
pub(crate) async fn insert_domain(connection: &mut SqliteConnection, row: &DomainRow) -> Result<(), Error> {
    let settings = serde_json::to_string(&row.settings).map_err(|error| Error::Corrupt(error.to_string()))?;
    sqlx::query(
        "INSERT INTO domain (id, name, settings, serial, apex, inception, refresh_at, revision, added_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?) \
         ON CONFLICT (id) DO UPDATE SET added_at = excluded.added_at, removed_at = NULL",
    )
    .bind(row.id)
    .bind(row.name.as_str())
    .bind(settings)
    .bind(row.serial)
    .bind(records::encode_rrsets(&row.apex))
    .bind(row.inception)
    .bind(row.refresh_at)
    .bind(row.added_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what a batch changed.
pub(crate) async fn save(connection: &mut SqliteConnection, batch: &Batch, revision: u64) -> Result<(), Error> {
    let revision = signed(revision)?;
    for chunk in batch.new_certificates.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO certificate (id, sha256, usage, der, not_before, not_after, common_name, subject, issuer, serial_hex, key_name) ",
        );
        query.push_values(chunk, |mut row, (certificate, _)| {
            let der = certificate.rdata.get(certdir_zones::rdata::SMIMEA_PREFIX..).unwrap_or_default();
            row.push_bind(certificate.id)
                .push_bind(certificate.sha256.to_vec())
                .push_bind(certificate.usage as u8)
                .push_bind(der.to_vec())
                .push_bind(certificate.not_before)
                .push_bind(certificate.not_after)
                .push_bind(certificate.common_name.clone())
                .push_bind(certificate.subject.clone())
                .push_bind(certificate.issuer.clone())
                .push_bind(certificate.serial_hex.clone())
                .push_bind(certificate.key_name.clone());
        });
        query.build().execute(&mut *connection).await?;
    }
    let keys = batch.new_certificates.iter().map(|(certificate, keys)| (certificate.id, keys.as_slice()));
    search::insert(connection, keys).await?;
    let entries: Vec<&EntryRow> =
        batch.entries.values().filter(|loaded| loaded.dirty).map(|loaded| &loaded.row).collect();
    for chunk in entries.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO entry (id, domain_id, address, version, changed_at, records, inception, refresh_at, due_at, spellings, revision) ",
        );
        query.push_values(chunk, |mut row, entry| {
            row.push_bind(entry.id)
                .push_bind(entry.domain_id)
                .push_bind(entry.address.to_string())
                .push_bind(i64::try_from(entry.version).unwrap_or(i64::MAX))
                .push_bind(entry.changed_at)
                .push_bind(records::encode(entry.cert_form, &entry.records))
                .push_bind(entry.inception)
                .push_bind(entry.refresh_at)
                .push_bind(entry.due_at)
                .push_bind(lines(&entry.spellings))
                .push_bind(revision);
        });
        query.push(
            " ON CONFLICT (id) DO UPDATE SET version = excluded.version, changed_at = excluded.changed_at, \
             records = excluded.records, inception = excluded.inception, refresh_at = excluded.refresh_at, due_at = excluded.due_at, \
             spellings = excluded.spellings, revision = excluded.revision",
        );
        query.build().execute(&mut *connection).await?;
    }
    let bindings: Vec<(i64, &Binding)> =
        entries.iter().flat_map(|entry| entry.bindings.iter().map(|binding| (entry.id, binding))).collect();
    for chunk in bindings.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO binding (entry_id, certificate_id, spellings, asserted, purposes, slot, restored, state, visible, \
             added_at, added_version, ended_at, reason) ",
        );
        query.push_values(chunk, |mut row, (entry_id, binding)| {
            row.push_bind(*entry_id)
                .push_bind(binding.certificate.id)
                .push_bind(lines(&binding.spellings))
                .push_bind(binding.asserted)
                .push_bind(binding.purposes.0)
                .push_bind(binding.slot.clone())
                .push_bind(binding.restored)
                .push_bind(binding.state.as_str())
                .push_bind(binding.visible)
                .push_bind(binding.added_at)
                .push_bind(i64::try_from(binding.added_version).unwrap_or(i64::MAX))
                .push_bind(binding.ended_at)
                .push_bind(binding.reason.clone());
        });
        query.push(
            " ON CONFLICT (entry_id, certificate_id) DO UPDATE SET spellings = excluded.spellings, asserted = excluded.asserted, \
             purposes = excluded.purposes, slot = excluded.slot, restored = excluded.restored, state = excluded.state, \
             visible = excluded.visible, added_at = excluded.added_at, added_version = excluded.added_version, \
             ended_at = excluded.ended_at, reason = excluded.reason",
        );
        query.build().execute(&mut *connection).await?;
    }
    for hosted in batch.domains.values().filter(|hosted| hosted.dirty) {
        zone::save_rrsets(connection, hosted.row.id, &hosted.rrsets, revision).await?;
        zone::save_links(connection, hosted.row.id, &hosted.links, revision).await?;
        let settings =
            serde_json::to_string(&hosted.row.settings).map_err(|error| Error::Corrupt(error.to_string()))?;
        sqlx::query("UPDATE domain SET settings = ?, serial = ?, apex = ?, inception = ?, refresh_at = ?, revision = ? WHERE id = ?")
            .bind(settings)
            .bind(hosted.row.serial)
            .bind(records::encode_rrsets(&hosted.row.apex))
            .bind(hosted.row.inception)
            .bind(hosted.row.refresh_at)
            .bind(revision)
            .bind(hosted.row.id)
            .execute(&mut *connection)
            .await?;
    }
    for chunk in batch.publications.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO publication (version, at, domain_id, action, commitment, public) ",
        );
        query.push_values(chunk, |mut row, publication| {
            row.push_bind(i64::try_from(publication.version).unwrap_or(i64::MAX))
                .push_bind(batch.now)
                .push_bind(publication.domain_id)
                .push_bind(publication.action.as_str())
                .push_bind(publication.detail.commitment(publication.version, publication.action).to_vec())
                .push_bind(publication.public);
        });
        query.build().execute(&mut *connection).await?;
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO publication_detail (version, address, sha256, actor, reason, salt) ",
        );
        query.push_values(chunk, |mut row, publication| {
            row.push_bind(i64::try_from(publication.version).unwrap_or(i64::MAX))
                .push_bind(publication.detail.address.clone())
                .push_bind(publication.detail.sha256.clone())
                .push_bind(publication.detail.actor.clone())
                .push_bind(publication.detail.reason.clone())
                .push_bind(publication.detail.salt.clone());
        });
        query.build().execute(&mut *connection).await?;
    }
    let changed_at = (!batch.publications.is_empty()).then_some(batch.now);
    sqlx::query("UPDATE meta SET version = ?, changed_at = coalesce(?, changed_at), revision = ?, next_id = ?")
        .bind(signed(batch.version)?)
        .bind(changed_at)
        .bind(revision)
        .bind(batch.next_id)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) fn unsigned(row: &SqliteRow, column: usize) -> Result<u64, Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| Error::Corrupt("a negative number".into()))
}

pub(crate) fn signed(number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::Corrupt("a number beyond 2^63".into()))
}

/// Finishes `… IN (` with a bound list.
fn list<'a, T>(query: &mut QueryBuilder<Sqlite>, values: impl Iterator<Item = T>)
where
    T: sqlx::Encode<'a, Sqlite> + sqlx::Type<Sqlite> + 'a,
{
    let mut separated = query.separated(", ");
    for value in values {
        separated.push_bind(value);
    }
    separated.push_unseparated(")");
}
