//! What followers read: every entry that changed, with what views show of it and nothing else. At the start this is every
//! entry there is, so each column and each copy counts.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use certdir_certificate::UnixTime;
use certdir_zones::rdata::smimea;
use certdir_zones::{Address, CertForm, Rdata};
use futures_util::{FutureExt, TryStreamExt};
use sqlx::query_builder::QueryBuilder;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, Sqlite};

use super::{signed, spellings, unsigned};
use crate::error::Error;
use crate::published::{ChangedEntry, Entry, Published, Visible};
use crate::records;
use crate::rows::{SignedRecord, usage};

const COLUMNS: &str = "SELECT e.id, e.address, e.version, e.changed_at, e.spellings, e.records, \
     c.id, c.der, c.sha256, c.usage, c.not_before, c.not_after, c.common_name, b.asserted, b.restored FROM ";
/// In the order of entries only: sorting certificates in SQLite would copy each of them once more.
const JOINED: &str = " e LEFT JOIN binding b ON b.entry_id = e.id AND b.visible = 1 \
     LEFT JOIN certificate c ON c.id = b.certificate_id ORDER BY e.id";
/// Entries read at a time when all are read. SQLite runs in a thread of its own: as long as the rows of a piece find room
/// between the threads ([`super::ROWS_AHEAD`]), neither waits for the other row by row, which costs more than the row.
const PIECE: i64 = 512;
/// How long the rows of a piece gather.
const GATHER: Duration = Duration::from_millis(1);

/// Applies every entry changed since a revision to a published set that has its domain already.
pub(crate) async fn changed_entries(
    connection: &mut SqliteConnection,
    since: u64,
    next: &mut Published,
) -> Result<(), Error> {
    let mut shared = HashMap::new();
    if since > 0 {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        // Said by name: without statistics SQLite would rather walk all entries in their order than sort the few.
        query
            .push("(SELECT * FROM entry INDEXED BY entry_revision WHERE revision > ")
            .push_bind(signed(since)?)
            .push(")")
            .push(JOINED);
        apply(connection, query, next, &mut shared, false).await?;
        return Ok(());
    }
    let mut last = Some(0);
    while let Some(id) = last {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("(SELECT * FROM entry WHERE id > ").push_bind(id);
        query.push(" ORDER BY id LIMIT ").push_bind(PIECE).push(")").push(JOINED);
        last = apply(connection, query, next, &mut shared, true).await?;
    }
    Ok(())
}

/// Applies the entries that a query gives; returns the last one's number. `gather`: there will be many.
async fn apply(
    connection: &mut SqliteConnection,
    mut query: QueryBuilder<Sqlite>,
    next: &mut Published,
    shared: &mut HashMap<i64, Rdata>,
    gather: bool,
) -> Result<Option<i64>, Error> {
    let mut rows = query.build().fetch(connection);
    let mut open: Option<Open> = None;
    let mut last = None;
    loop {
        let row = match rows.try_next().now_or_never() {
            Some(row) => row?,
            None if gather => {
                tokio::time::sleep(GATHER).await;
                continue;
            }
            None => rows.try_next().await?,
        };
        let Some(row) = row else { break };
        let id: i64 = row.try_get(0)?;
        if last.replace(id) != Some(id)
            && let Some(done) = std::mem::replace(&mut open, Open::read(&row, next)?)
        {
            next.apply_entry(done.close()?)?;
        }
        if let Some(open) = &mut open {
            open.add(&row, shared)?;
        }
    }
    if let Some(done) = open {
        next.apply_entry(done.close()?)?;
    }
    Ok(last)
}

/// An entry of which rows are still to come.
struct Open {
    address: Address,
    version: u64,
    changed_at: UnixTime,
    spellings: Vec<Address>,
    cert_form: CertForm,
    records: Vec<SignedRecord>,
    /// With what decides about their order.
    visible: Vec<(Rank, Visible)>,
}

/// The last brought back first, then the newest.
type Rank = Reverse<(i64, UnixTime, UnixTime, i64)>;

impl Open {
    /// None for what is left of a domain that was removed: its history.
    fn read(row: &SqliteRow, published: &Published) -> Result<Option<Open>, Error> {
        let text: &str = row.try_get(1)?;
        let address = match published.domain_of(text) {
            Some(domain) => Address::parse_within(&domain.name, text)?,
            None if row.try_get::<Option<i64>, _>(6)?.is_none() => return Ok(None),
            None => return Err(Error::Corrupt(format!("{text} belongs to no domain"))),
        };
        let spelled: &str = row.try_get(4)?;
        let (cert_form, records) = records::decode(row.try_get(5)?)?;
        Ok(Some(Open {
            address,
            version: unsigned(row, 2)?,
            changed_at: row.try_get(3)?,
            spellings: if spelled == text { Vec::new() } else { spellings(row, 4)? },
            cert_form,
            records,
            visible: Vec::with_capacity(1),
        }))
    }

    /// Adds the certificate of a row. The octets of one that serves several mailboxes are kept once.
    fn add(&mut self, row: &SqliteRow, shared: &mut HashMap<i64, Rdata>) -> Result<(), Error> {
        let Some(id) = row.try_get::<Option<i64>, _>(6)? else {
            return Ok(());
        };
        let usage = usage(row.try_get(9)?);
        let rdata = match shared.get(&id) {
            Some(known) => known.clone(),
            None => {
                let read = smimea(usage, row.try_get(7)?);
                shared.insert(id, read.clone());
                read
            }
        };
        let sha256: &[u8] = row.try_get(8)?;
        let (not_before, not_after) = (row.try_get(10)?, row.try_get(11)?);
        let visible = Visible {
            sha256: sha256.try_into().map_err(|_| Error::Corrupt("a certificate's digest".into()))?,
            not_before,
            not_after,
            common_name: row.try_get::<Option<&str>, _>(12)?.map(Box::from),
            asserted: row.try_get(13)?,
            usage,
            rdata,
        };
        self.visible.push((Reverse((row.try_get(14)?, not_before, not_after, id)), visible));
        Ok(())
    }

    fn close(mut self) -> Result<ChangedEntry, Error> {
        self.visible.sort_by_key(|(rank, _)| *rank);
        let certificates: Box<[Visible]> = self.visible.into_iter().map(|(_, visible)| visible).collect();
        Ok(ChangedEntry {
            rrsets: records::attach(self.cert_form, &certificates, self.records)?,
            entry: Entry {
                address: self.address,
                version: self.version,
                changed_at: self.changed_at,
                certificates,
                spellings: self.spellings.into(),
            },
        })
    }
}
