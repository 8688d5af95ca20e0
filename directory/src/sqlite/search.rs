//! Certificates by the hashes of RFC 4387.

use certdir_certificate::Certificate;
use sqlx::Row;
use sqlx::query_builder::QueryBuilder;
use sqlx::sqlite::{Sqlite, SqliteConnection, SqlitePool};

use super::{ROWS, signed};
use crate::error::Error;
use crate::search;

/// Rows looked at for one hash: an issuer has as many as there were ever certificates of it.
const CONSIDERED: u32 = 1_000;

/// Writes the keys of certificates.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    certificates: impl Iterator<Item = (i64, &[i64])>,
) -> Result<(), Error> {
    let mut rows: Vec<(i64, i64)> =
        certificates.flat_map(|(id, keys)| keys.iter().map(move |key| (*key, id))).collect();
    // In the order of the index.
    rows.sort_unstable();
    for chunk in rows.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT OR IGNORE INTO certificate_key (key, certificate_id) ");
        query.push_values(chunk, |mut row, (key, id)| {
            row.push_bind(*key).push_bind(*id);
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Gives the certificates of a store that is older than the keys theirs.
pub(crate) async fn fill(writer: &SqlitePool) -> Result<(), Error> {
    let keyed = "SELECT keyed FROM meta";
    if sqlx::query_scalar::<_, i64>(keyed).fetch_one(writer).await? != 0 {
        return Ok(());
    }
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut last = 0_i64;
    loop {
        let sql = "SELECT id, der FROM certificate WHERE id > ? ORDER BY id LIMIT ?";
        let limit = signed(ROWS as u64)?;
        let rows = sqlx::query(sql).bind(last).bind(limit).fetch_all(&mut *transaction).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            last = row.try_get(0)?;
            // What cannot be read any more is not found; the views say so where they show it.
            let read = Certificate::from_der(row.try_get(1)?);
            keys.push((last, read.map(|certificate| search::keys(&certificate)).unwrap_or_default()));
        }
        insert(&mut transaction, keys.iter().map(|(id, keys)| (*id, keys.as_slice()))).await?;
        if rows.len() < ROWS {
            break;
        }
    }
    sqlx::query("UPDATE meta SET keyed = 1").execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

/// The digests of visible certificates under a key; none when there are too many, visible or not, to look at.
pub(crate) async fn find(connection: &mut SqliteConnection, key: i64) -> Result<Option<Vec<[u8; 32]>>, Error> {
    let rows = sqlx::query(
        "SELECT c.sha256, EXISTS (SELECT 1 FROM binding b WHERE b.certificate_id = c.id AND b.visible = 1) \
         FROM (SELECT certificate_id FROM certificate_key WHERE key = ? LIMIT ?) k JOIN certificate c ON c.id = k.certificate_id",
    )
    .bind(key)
    .bind(CONSIDERED + 1)
    .fetch_all(connection)
    .await?;
    if rows.len() > usize::try_from(CONSIDERED).unwrap_or(usize::MAX) {
        return Ok(None);
    }
    let mut found = Vec::new();
    for row in rows {
        if row.try_get(1)? {
            let sha256: &[u8] = row.try_get(0)?;
            found.push(sha256.try_into().map_err(|_| Error::Corrupt("a certificate's digest".into()))?);
        }
    }
    Ok(Some(found))
}
