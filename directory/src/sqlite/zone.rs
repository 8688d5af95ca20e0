//! Rows of zones beside their entries: given records, delegations, and the links of NSEC3 chains.

use std::collections::{BTreeSet, HashMap, HashSet};

use certdir_certificate::UnixTime;
use certdir_zones::denial::Hash;
use certdir_zones::{DomainName, Name, RecordType, SignedRrset, Standing};
use sqlx::query_builder::QueryBuilder;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, Sqlite};

use super::{ROWS, list, signed};
use crate::chain::Link;
use crate::error::Error;
use crate::given::{Blocks, ZoneRow};
use crate::records;
use crate::rows::DOMAIN_REMOVED;

/// The text of a domain's other records; empty where none were given.
pub(crate) async fn fragment(connection: &mut SqliteConnection, domain_id: i64) -> Result<String, Error> {
    let text = sqlx::query_scalar("SELECT text FROM fragment WHERE domain_id = ?").bind(domain_id);
    Ok(text.fetch_optional(connection).await?.unwrap_or_default())
}

/// Replaces that text.
pub(crate) async fn set_fragment(connection: &mut SqliteConnection, domain_id: i64, text: &str) -> Result<(), Error> {
    sqlx::query("INSERT INTO fragment (domain_id, text) VALUES (?, ?) ON CONFLICT (domain_id) DO UPDATE SET text = excluded.text")
        .bind(domain_id)
        .bind(text)
        .execute(connection)
        .await?;
    Ok(())
}

const SELECT_RRSET: &str = "SELECT domain_id, owner, rtype, standing, records, inception, refresh_at FROM rrset";

/// The RRsets that a zone has now.
pub(crate) async fn rrsets(connection: &mut SqliteConnection, domain_id: i64) -> Result<Vec<ZoneRow>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(SELECT_RRSET);
    query.push(" WHERE records IS NOT NULL AND domain_id = ").push_bind(domain_id);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(|row| Ok(rrset(row)?.1)).collect()
}

/// The RRsets changed since a revision, by domain; from the beginning only those that are there.
pub(crate) async fn changed_rrsets(
    connection: &mut SqliteConnection,
    since: u64,
) -> Result<Vec<(i64, ZoneRow)>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(SELECT_RRSET);
    match since {
        0 => query.push(" WHERE records IS NOT NULL"),
        _ => query.push(" WHERE revision > ").push_bind(signed(since)?),
    };
    query.build().fetch_all(connection).await?.iter().map(rrset).collect()
}

/// RRsets whose signature is to be made anew.
pub(crate) async fn due_rrsets(
    connection: &mut SqliteConnection,
    now: UnixTime,
    limit: u32,
) -> Result<Vec<(i64, ZoneRow)>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new("");
    due(&mut query, SELECT_RRSET, now, limit);
    query.build().fetch_all(connection).await?.iter().map(rrset).collect()
}

/// Rows that are due: those whose signature begins in the future first, since the clock was set back, then by urgency.
fn due(query: &mut QueryBuilder<Sqlite>, select: &str, now: UnixTime, limit: u32) {
    query.push("SELECT * FROM (").push(select).push(" WHERE inception > ").push_bind(now);
    query.push(" LIMIT ").push_bind(limit).push(") UNION SELECT * FROM (").push(select);
    query.push(" WHERE refresh_at <= ").push_bind(now).push(" ORDER BY refresh_at LIMIT ").push_bind(limit).push(")");
}

fn rrset(row: &SqliteRow) -> Result<(i64, ZoneRow), Error> {
    let rtype = row.try_get::<u16, _>(2)?;
    let standing = match row.try_get::<i64, _>(3)? {
        0 => Standing::Data,
        1 => Standing::Cut,
        _ => Standing::Glue,
    };
    let row = (
        row.try_get(0)?,
        ZoneRow {
            owner: Name::from_wire(row.try_get(1)?)?,
            rtype: RecordType(rtype),
            standing,
            signed: one(row.try_get(4)?)?,
            inception: row.try_get(5)?,
            refresh_at: row.try_get(6)?,
        },
    );
    Ok(row)
}

fn one(records: Option<&[u8]>) -> Result<Option<SignedRrset>, Error> {
    match records {
        Some(blob) => Ok(records::decode_rrsets(blob)?.into_iter().next()),
        None => Ok(None),
    }
}

/// Names of a mail zone that leave no room for CERT records.
pub(crate) async fn blocks(connection: &mut SqliteConnection, domain_id: i64, apex: &Name) -> Result<Blocks, Error> {
    let rows = sqlx::query(
        "SELECT owner, rtype FROM rrset WHERE domain_id = ? AND records IS NOT NULL AND rtype IN (2, 5, 39)",
    )
    .bind(domain_id)
    .fetch_all(connection)
    .await?;
    let names: Vec<(Name, RecordType)> = rows.iter().map(owner_and_type).collect::<Result<_, _>>()?;
    Ok(Blocks::of(names.iter().map(|(name, rtype)| (name, *rtype)), apex))
}

/// Owners and types of what a zone holds beside apex and entries, by name; delegations and glue left out.
pub(crate) async fn given(connection: &mut SqliteConnection, domain_id: i64) -> Result<Vec<(Name, RecordType)>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new(SELECT_GIVEN);
    query.push_bind(domain_id);
    query.build().fetch_all(connection).await?.iter().map(owner_and_type).collect()
}

const SELECT_GIVEN: &str = "SELECT owner, rtype FROM rrset WHERE records IS NOT NULL AND standing = 0 AND domain_id = ";

/// The types among those at each of a list of names.
pub(crate) async fn given_at(
    connection: &mut SqliteConnection,
    domain_id: i64,
    owners: &[&Name],
) -> Result<HashMap<Name, Vec<RecordType>>, Error> {
    let mut found: HashMap<Name, Vec<RecordType>> = HashMap::new();
    for chunk in owners.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT_GIVEN);
        query.push_bind(domain_id).push(" AND owner IN (");
        list(&mut query, chunk.iter().map(|owner| owner.as_wire().to_vec()));
        for row in query.build().fetch_all(&mut *connection).await? {
            let (owner, rtype) = owner_and_type(&row)?;
            let types = found.entry(owner).or_default();
            // A name may be in two chunks.
            if !types.contains(&rtype) {
                types.push(rtype);
            }
        }
    }
    Ok(found)
}

fn owner_and_type(row: &SqliteRow) -> Result<(Name, RecordType), Error> {
    Ok((Name::from_wire(row.try_get(0)?)?, RecordType(row.try_get(1)?)))
}

/// Writes RRsets of a zone.
pub(crate) async fn save_rrsets(
    connection: &mut SqliteConnection,
    domain_id: i64,
    rows: &[ZoneRow],
    revision: i64,
) -> Result<(), Error> {
    for chunk in rows.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO rrset (domain_id, owner, rtype, standing, records, inception, refresh_at, revision) ",
        );
        query.push_values(chunk, |mut values, row| {
            values
                .push_bind(domain_id)
                .push_bind(row.owner.as_wire().to_vec())
                .push_bind(row.rtype.0)
                .push_bind(match row.standing {
                    Standing::Data => 0,
                    Standing::Cut => 1,
                    Standing::Glue => 2,
                })
                .push_bind(row.signed.as_ref().map(|signed| records::encode_rrsets(std::slice::from_ref(signed))))
                .push_bind(row.inception)
                .push_bind(row.refresh_at)
                .push_bind(revision);
        });
        query.push(
            " ON CONFLICT (domain_id, owner, rtype) DO UPDATE SET standing = excluded.standing, records = excluded.records, \
             inception = excluded.inception, refresh_at = excluded.refresh_at, revision = excluded.revision",
        );
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

const SELECT_LINK: &str = "SELECT domain_id, hash, types, below, records, inception, refresh_at FROM link";

fn link(row: &SqliteRow) -> Result<(i64, Link), Error> {
    let types: &[u8] = row.try_get(2)?;
    let types = types.as_chunks::<2>().0.iter().map(|octets| RecordType(u16::from_be_bytes(*octets)));
    let link = Link {
        hash: hash(row.try_get(1)?)?,
        types: types.collect(),
        below: row.try_get(3)?,
        signed: one(row.try_get(4)?)?,
        inception: row.try_get::<Option<i64>, _>(5)?.unwrap_or_default(),
        refresh_at: row.try_get::<Option<i64>, _>(6)?.unwrap_or_default(),
    };
    Ok((row.try_get(0)?, link))
}

fn hash(octets: &[u8]) -> Result<Hash, Error> {
    octets.try_into().map_err(|_| Error::Corrupt("a hash of a name".into()))
}

/// The links changed since a revision, by domain; from the beginning only those that are there.
pub(crate) async fn changed_links(
    connection: &mut SqliteConnection,
    since: u64,
    mut each: impl FnMut(i64, Link) -> Result<(), Error>,
) -> Result<(), Error> {
    use futures_util::TryStreamExt;
    let mut query = QueryBuilder::<Sqlite>::new(SELECT_LINK);
    match since {
        0 => query.push(" WHERE records IS NOT NULL"),
        _ => query.push(" WHERE revision > ").push_bind(signed(since)?),
    };
    let mut rows = query.build().fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let (domain_id, link) = link(&row)?;
        each(domain_id, link)?;
    }
    Ok(())
}

/// Links whose signature is to be made anew.
pub(crate) async fn due_links(
    connection: &mut SqliteConnection,
    now: UnixTime,
    limit: u32,
) -> Result<Vec<(i64, Link)>, Error> {
    let mut query = QueryBuilder::<Sqlite>::new("");
    due(&mut query, SELECT_LINK, now, limit);
    query.build().fetch_all(connection).await?.iter().map(link).collect()
}

/// The links of a list of hashes that are there.
pub(crate) async fn links(
    connection: &mut SqliteConnection,
    domain_id: i64,
    hashes: &HashSet<Hash>,
) -> Result<Vec<Link>, Error> {
    let hashes: Vec<&Hash> = hashes.iter().collect();
    let mut found = Vec::new();
    for chunk in hashes.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT_LINK);
        query.push(" WHERE records IS NOT NULL AND domain_id = ").push_bind(domain_id).push(" AND hash IN (");
        list(&mut query, chunk.iter().map(|hash| hash.to_vec()));
        for row in query.build().fetch_all(&mut *connection).await? {
            found.push(link(&row)?.1);
        }
    }
    Ok(found)
}

/// For each of a list of hashes the link that stands before it in the ring.
pub(crate) async fn links_before(
    connection: &mut SqliteConnection,
    domain_id: i64,
    hashes: &[Hash],
) -> Result<HashMap<Hash, Link>, Error> {
    let last: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT MAX(hash) FROM link INDEXED BY link_ring WHERE domain_id = ? AND records IS NOT NULL",
    )
    .bind(domain_id)
    .fetch_one(&mut *connection)
    .await?;
    let Some(last) = last.as_deref().map(hash).transpose()? else { return Ok(HashMap::new()) };
    let mut before: HashMap<Hash, Hash> = HashMap::new();
    for chunk in hashes.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("WITH moved (hash) AS (");
        query.push_values(chunk, |mut values, hash| {
            values.push_bind(hash.to_vec());
        });
        query.push(
            ") SELECT hash, (SELECT link.hash FROM link INDEXED BY link_ring \
             WHERE link.hash < moved.hash AND records IS NOT NULL AND domain_id = ",
        );
        query.push_bind(domain_id).push(" ORDER BY link.hash DESC LIMIT 1) FROM moved");
        for row in query.build().fetch_all(&mut *connection).await? {
            let found: Option<&[u8]> = row.try_get(1)?;
            before.insert(hash(row.try_get(0)?)?, found.map(hash).transpose()?.unwrap_or(last));
        }
    }
    let rows = links(connection, domain_id, &before.values().copied().collect()).await?;
    let rows: HashMap<Hash, Link> = rows.into_iter().map(|link| (link.hash, link)).collect();
    Ok(before.into_iter().filter_map(|(moved, hash)| Some((moved, rows.get(&hash)?.clone()))).collect())
}

/// Writes links of a zone.
pub(crate) async fn save_links(
    connection: &mut SqliteConnection,
    domain_id: i64,
    links: &[Link],
    revision: i64,
) -> Result<(), Error> {
    for chunk in links.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO link (domain_id, hash, types, below, records, inception, refresh_at, revision) ",
        );
        query.push_values(chunk, |mut values, link| {
            let there = link.signed.is_some();
            values
                .push_bind(domain_id)
                .push_bind(link.hash.to_vec())
                .push_bind(link.types.iter().flat_map(|rtype| rtype.0.to_be_bytes()).collect::<Vec<u8>>())
                .push_bind(link.below)
                .push_bind(link.signed.as_ref().map(|signed| records::encode_rrsets(std::slice::from_ref(signed))))
                .push_bind(there.then_some(link.inception))
                .push_bind(there.then_some(link.refresh_at))
                .push_bind(revision);
        });
        query.push(
            " ON CONFLICT (domain_id, hash) DO UPDATE SET types = excluded.types, below = excluded.below, \
             records = excluded.records, inception = excluded.inception, refresh_at = excluded.refresh_at, \
             revision = excluded.revision",
        );
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// How long the rows of records and links that are gone stay, at least; twice as long at most. Followers look every 20 ms.
const TOMBSTONES: i64 = 86_400;

/// Whether [`purge`] has something to do.
pub(crate) async fn has_tombstones(connection: &mut SqliteConnection, now: UnixTime) -> Result<bool, Error> {
    let sql = "SELECT ?1 < marked_at OR ?1 >= marked_at + ?2 \
         OR EXISTS (SELECT 1 FROM rrset WHERE records IS NULL AND revision <= purged) \
         OR EXISTS (SELECT 1 FROM link WHERE records IS NULL AND revision <= purged) FROM meta";
    Ok(sqlx::query_scalar(sql).bind(now).bind(TOMBSTONES).fetch_one(connection).await?)
}

/// Deletes rows of records and links that were gone a day ago, at most `limit` of each. Returns whether there may be more.
pub(crate) async fn purge(connection: &mut SqliteConnection, now: UnixTime, limit: u32) -> Result<bool, Error> {
    // What was the newest revision a day ago is old now. A clock that was set back only begins another day.
    sqlx::query(
        "UPDATE meta SET purged = CASE WHEN ?1 >= marked_at THEN marked ELSE purged END, marked = revision, marked_at = ?1 \
         WHERE ?1 < marked_at OR ?1 >= marked_at + ?2",
    )
    .bind(now)
    .bind(TOMBSTONES)
    .execute(&mut *connection)
    .await?;
    let mut more = false;
    for sql in [
        "DELETE FROM rrset WHERE (domain_id, owner, rtype) IN (SELECT domain_id, owner, rtype FROM rrset \
         WHERE records IS NULL AND revision <= (SELECT purged FROM meta) LIMIT ?)",
        "DELETE FROM link WHERE (domain_id, hash) IN (SELECT domain_id, hash FROM link \
         WHERE records IS NULL AND revision <= (SELECT purged FROM meta) LIMIT ?)",
    ] {
        more |= sqlx::query(sql).bind(limit).execute(&mut *connection).await?.rows_affected() >= u64::from(limit);
    }
    Ok(more)
}

/// Takes the whole chain of a zone away.
pub(crate) async fn drop_links(connection: &mut SqliteConnection, domain_id: i64, revision: i64) -> Result<(), Error> {
    sqlx::query(
        "UPDATE link SET types = x'', below = 0, records = NULL, inception = NULL, refresh_at = NULL, revision = ? \
         WHERE domain_id = ? AND records IS NOT NULL",
    )
    .bind(revision)
    .bind(domain_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Has the signatures of a domain made anew by upkeep: with changed settings.
pub(crate) async fn renew(connection: &mut SqliteConnection, domain_id: i64, now: UnixTime) -> Result<(), Error> {
    sqlx::query("UPDATE entry SET refresh_at = ? WHERE domain_id = ? AND inception IS NOT NULL")
        .bind(now)
        .bind(domain_id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE link SET refresh_at = ? WHERE domain_id = ? AND records IS NOT NULL")
        .bind(now)
        .bind(domain_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// The signed records of every entry of a domain.
pub(crate) async fn entry_names(
    connection: &mut SqliteConnection,
    domain_id: i64,
) -> Result<Vec<(Name, RecordType)>, Error> {
    let blobs = sqlx::query("SELECT records FROM entry WHERE domain_id = ? AND inception IS NOT NULL")
        .bind(domain_id)
        .fetch_all(connection)
        .await?;
    let mut names = Vec::with_capacity(blobs.len());
    for row in &blobs {
        names.extend(records::decode(row.try_get(0)?)?.1.into_iter().map(|record| (record.owner, record.rtype)));
    }
    Ok(names)
}

/// The visible mailboxes of a domain with their spellings, one text each: the mailbox, then a line for each spelling.
pub(crate) async fn spelled(connection: &mut SqliteConnection, domain_id: i64) -> Result<Vec<(String, String)>, Error> {
    sqlx::query("SELECT address, spellings FROM entry WHERE domain_id = ? AND inception IS NOT NULL")
        .bind(domain_id)
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Visible mailboxes of a domain, with their spellings as [`spelled`] has them, whose local part may make no owner name of CERT
/// records: longer than a label, or beginning like a wildcard or a reserved name ([`certdir_zones::cert_owner`]).
pub(crate) async fn nameless(
    connection: &mut SqliteConnection,
    domain_id: i64,
    domain: &DomainName,
) -> Result<Vec<(String, String)>, Error> {
    let limit = i64::try_from(MAX_LABEL + 1 + domain.as_str().len()).unwrap_or(i64::MAX);
    sqlx::query(
        "SELECT address, spellings FROM entry WHERE domain_id = ? AND inception IS NOT NULL \
         AND (length(CAST(address AS BLOB)) > ? OR address GLOB '[*_]*' OR address GLOB '\"_*') ORDER BY address",
    )
    .bind(domain_id)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
    .collect()
}

/// Octets of a label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// The CERT records of those mailboxes of a list that there are: mailbox and owner name.
pub(crate) async fn certs_of(
    connection: &mut SqliteConnection,
    mailboxes: &[String],
) -> Result<Vec<(String, Name)>, Error> {
    let mut found = Vec::new();
    for chunk in mailboxes.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT address, records FROM entry WHERE inception IS NOT NULL AND address IN (",
        );
        list(&mut query, chunk.iter().map(String::as_str));
        query.push(" ORDER BY address");
        for row in query.build().fetch_all(&mut *connection).await? {
            let address: String = row.try_get(0)?;
            let certs = records::decode(row.try_get(1)?)?.1.into_iter().filter(|one| one.rtype == RecordType::CERT);
            found.extend(certs.map(|one| (address.clone(), one.owner)));
        }
    }
    Ok(found)
}

/// The names of domains by their row numbers.
pub(crate) async fn domain_names(
    connection: &mut SqliteConnection,
    ids: &BTreeSet<i64>,
) -> Result<Vec<DomainName>, Error> {
    let ids: Vec<i64> = ids.iter().copied().collect();
    let mut names = Vec::new();
    for chunk in ids.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT name FROM domain WHERE id IN (");
        list(&mut query, chunk.iter().copied());
        for row in query.build().fetch_all(&mut *connection).await? {
            names.push(DomainName::parse(row.try_get(0)?)?);
        }
    }
    Ok(names)
}

/// Ends a domain: nothing of it is visible any more, its history stays.
pub(crate) async fn remove(
    connection: &mut SqliteConnection,
    domain_id: i64,
    now: UnixTime,
    revision: i64,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE binding SET state = 'withdrawn', visible = 0, ended_at = coalesce(ended_at, ?), reason = ? \
         WHERE state IN ('current', 'staged', 'superseded') AND entry_id IN (SELECT id FROM entry WHERE domain_id = ?)",
    )
    .bind(now)
    .bind(DOMAIN_REMOVED)
    .bind(domain_id)
    .execute(&mut *connection)
    .await?;
    for (sql, times) in [
        (
            "UPDATE entry SET records = x'', inception = NULL, refresh_at = NULL, due_at = NULL, spellings = '', revision = ?1 \
          WHERE domain_id = ?2 AND (inception IS NOT NULL OR due_at IS NOT NULL)",
            false,
        ),
        (
            "UPDATE rrset SET records = NULL, inception = NULL, refresh_at = NULL, revision = ?1 \
          WHERE domain_id = ?2 AND records IS NOT NULL",
            false,
        ),
        ("UPDATE domain SET removed_at = ?1 WHERE id = ?2", true),
    ] {
        sqlx::query(sql).bind(if times { now } else { revision }).bind(domain_id).execute(&mut *connection).await?;
    }
    sqlx::query("DELETE FROM fragment WHERE domain_id = ?").bind(domain_id).execute(&mut *connection).await?;
    drop_links(connection, domain_id, revision).await
}
