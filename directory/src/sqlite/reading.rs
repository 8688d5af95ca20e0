//! What people look up beside the published set: the history, lists, the log.

use certdir_zones::{Address, DomainName};
use data_encoding::HEXLOWER;
use sqlx::query_builder::QueryBuilder;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, Sqlite};

use super::{signed, unsigned};
use crate::changes::{Change, Cursor};
use crate::error::Error;
use crate::log::{Action, Detail, Publication};
use crate::published::Version;
use crate::rows::State;
use crate::shown::{HistoryRow, ListFilter};

const SELECT_HISTORY: &str = "SELECT e.address, b.spellings, b.asserted, b.state, b.visible, b.added_at, b.added_version, \
     b.ended_at, b.reason, c.sha256, c.subject, c.issuer, c.serial_hex, c.key_name, c.not_before, c.not_after, c.der \
     FROM entry e JOIN binding b ON b.entry_id = e.id JOIN certificate c ON c.id = b.certificate_id";

/// Every certificate a mailbox ever had, newest first.
pub(crate) async fn history(connection: &mut SqliteConnection, mailbox: &Address) -> Result<Vec<HistoryRow>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(SELECT_HISTORY);
    query.push(" WHERE e.address = ").push_bind(mailbox.to_string());
    query.push(" ORDER BY b.restored DESC, c.not_before DESC, c.not_after DESC, c.id DESC");
    query.build().fetch_all(connection).await?.iter().map(history_row).collect()
}

/// The certificates that a filter lets through, by domain and address.
pub(crate) async fn list(
    connection: &mut SqliteConnection,
    filter: &ListFilter,
    limit: u32,
) -> Result<Vec<HistoryRow>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(SELECT_HISTORY);
    query.push(" JOIN domain d ON d.id = e.domain_id WHERE 1 = 1");
    if let Some(domain) = &filter.domain {
        query.push(" AND d.name = ").push_bind(domain.as_str().to_string());
    }
    match filter.state {
        Some(state) => query.push(" AND b.state = ").push_bind(state.as_str()),
        None => query.push(" AND b.state IN ('current', 'staged')"),
    };
    if let Some(before) = filter.ends_before {
        query.push(" AND b.visible = 1 AND c.not_after < ").push_bind(before);
    }
    if let Some((domain, address)) = &filter.after {
        query
            .push(" AND (d.name, e.address) > (")
            .push_bind(domain.clone())
            .push(", ")
            .push_bind(address.clone())
            .push(")");
    }
    query.push(" ORDER BY d.name, e.address, c.not_before DESC LIMIT ").push_bind(limit);
    query.build().fetch_all(connection).await?.iter().map(history_row).collect()
}

fn history_row(row: &SqliteRow) -> Result<HistoryRow, Error> {
    let spellings: &str = row.try_get(1)?;
    let state: &str = row.try_get(3)?;
    let sha256: &[u8] = row.try_get(9)?;
    Ok(HistoryRow {
        address: row.try_get(0)?,
        spellings: spellings.lines().map(str::to_string).collect(),
        asserted: row.try_get(2)?,
        state: State::parse(state).ok_or_else(|| Error::Corrupt(format!("state {state}")))?,
        visible: row.try_get(4)?,
        added_at: row.try_get(5)?,
        added_version: unsigned(row, 6)?,
        ended_at: row.try_get(7)?,
        reason: row.try_get(8)?,
        sha256: HEXLOWER.encode(sha256),
        subject: row.try_get(10)?,
        issuer: row.try_get(11)?,
        serial: row.try_get(12)?,
        key: row.try_get(13)?,
        not_before: row.try_get(14)?,
        not_after: row.try_get(15)?,
        der: row.try_get(16)?,
    })
}

/// The log after a Version, oldest first.
pub(crate) async fn publications(
    connection: &mut SqliteConnection,
    since: Version,
    limit: u32,
) -> Result<Vec<Publication>, Error> {
    let rows = sqlx::query(
        "SELECT p.version, p.at, d.name, p.action, p.commitment, x.address, x.sha256, x.actor, x.reason, x.salt \
         FROM publication p JOIN domain d ON d.id = p.domain_id LEFT JOIN publication_detail x ON x.version = p.version \
         WHERE p.version > ? ORDER BY p.version LIMIT ?",
    )
    .bind(signed(since)?)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(publication).collect()
}

/// The log after a Version, up to another one, as a follower from outside is told it.
pub(crate) async fn changes(
    connection: &mut SqliteConnection,
    after: Version,
    until: Version,
    limit: u32,
) -> Result<Vec<Change>, Error> {
    let rows = sqlx::query(
        "SELECT p.version, p.at, d.name, p.action, p.public, p.commitment, x.address, x.sha256, \
         (SELECT group_concat(b.spellings, char(10)) FROM entry e JOIN binding b ON b.entry_id = e.id WHERE e.address = x.address) \
         FROM publication p JOIN domain d ON d.id = p.domain_id LEFT JOIN publication_detail x ON x.version = p.version \
         WHERE p.version > ? AND p.version <= ? ORDER BY p.version LIMIT ?",
    )
    // Beyond what SQLite counts there is nothing.
    .bind(i64::try_from(after).unwrap_or(i64::MAX))
    .bind(i64::try_from(until).unwrap_or(i64::MAX))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(change).collect()
}

fn change(row: &SqliteRow) -> Result<Change, Error> {
    let action: &str = row.try_get(3)?;
    let commitment: &[u8] = row.try_get(5)?;
    let mark = commitment.first_chunk().ok_or_else(|| Error::Corrupt("a commitment".into()))?;
    let detail = match row.try_get::<Option<String>, _>(6)? {
        None => None,
        Some(address) => Some((address, row.try_get(7)?)),
    };
    Ok(Change::new(
        Cursor { version: unsigned(row, 0)?, mark: Some(*mark) },
        row.try_get(1)?,
        row.try_get(2)?,
        Action::parse(action).ok_or_else(|| Error::Corrupt(format!("action {action}")))?,
        row.try_get(4)?,
        detail,
        row.try_get(8)?,
    ))
}

fn publication(row: &SqliteRow) -> Result<Publication, Error> {
    let action: &str = row.try_get(3)?;
    let commitment: &[u8] = row.try_get(4)?;
    let detail = match row.try_get::<Option<String>, _>(5)? {
        None => None,
        Some(address) => Some(Detail {
            address,
            sha256: row.try_get(6)?,
            actor: row.try_get(7)?,
            reason: row.try_get(8)?,
            salt: row.try_get(9)?,
        }),
    };
    Ok(Publication {
        version: unsigned(row, 0)?,
        at: row.try_get(1)?,
        domain: row.try_get(2)?,
        action: Action::parse(action).ok_or_else(|| Error::Corrupt(format!("action {action}")))?,
        commitment: HEXLOWER.encode(commitment),
        detail,
    })
}

/// How many certificates of a domain are in each state.
pub(crate) async fn states(connection: &mut SqliteConnection, domain: &DomainName) -> Result<Vec<(State, u64)>, Error> {
    let rows = sqlx::query(
        "SELECT b.state, count(*) FROM domain d JOIN entry e ON e.domain_id = d.id JOIN binding b ON b.entry_id = e.id \
         WHERE d.name = ? GROUP BY b.state ORDER BY b.state",
    )
    .bind(domain.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let state: &str = row.try_get(0)?;
            Ok((State::parse(state).ok_or_else(|| Error::Corrupt(format!("state {state}")))?, unsigned(row, 1)?))
        })
        .collect()
}
