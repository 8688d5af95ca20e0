//! Tokens in the store: only the hash of the secret part is kept.

use certdir_certificate::UnixTime;
use certdir_zones::DomainName;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::authority::{Role, TokenRow};
use crate::error::Error;

/// Keeps a new token.
pub(crate) async fn insert(connection: &mut SqliteConnection, token: &TokenRow, hash: &[u8; 32]) -> Result<(), Error> {
    sqlx::query("INSERT INTO token (id, name, hash, role, domains, added_at) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(&token.id)
        .bind(&token.name)
        .bind(hash.to_vec())
        .bind(token.role.as_str())
        .bind(token.domains.join("\n"))
        .bind(token.added_at)
        .execute(connection)
        .await?;
    Ok(())
}

/// A token that is not revoked: its hash, role and domains.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<(Vec<u8>, Role, Vec<DomainName>)>, Error> {
    let found = sqlx::query(
        "SELECT id, name, role, domains, added_at, revoked_at, hash FROM token WHERE id = ? AND revoked_at IS NULL",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    let Some(row) = found else { return Ok(None) };
    let token = token(&row)?;
    let domains = token.domains.iter().map(|name| DomainName::parse(name)).collect::<Result<_, _>>()?;
    Ok(Some((row.try_get(6)?, token.role, domains)))
}

/// Every token there ever was, oldest first.
pub(crate) async fn all(connection: &mut SqliteConnection) -> Result<Vec<TokenRow>, Error> {
    sqlx::query("SELECT id, name, role, domains, added_at, revoked_at FROM token ORDER BY added_at, id")
        .fetch_all(connection)
        .await?
        .iter()
        .map(token)
        .collect()
}

/// Revokes a token; false when there is none that is valid.
pub(crate) async fn revoke(connection: &mut SqliteConnection, id: &str, now: UnixTime) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE token SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL")
        .bind(now)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes a domain that is hosted no longer out of all tokens, and revokes those that are left with none: who has it hosted
/// again later may be somebody else.
pub(crate) async fn leave(connection: &mut SqliteConnection, domain: &DomainName, now: UnixTime) -> Result<(), Error> {
    for mut token in all(connection).await?.into_iter().filter(|token| token.revoked_at.is_none()) {
        let before = token.domains.len();
        token.domains.retain(|name| name != domain.as_str());
        match (before == token.domains.len(), token.domains.is_empty() && token.role != Role::Admin) {
            (true, _) => {}
            // What it was for stays in the list of tokens.
            (false, true) => drop(revoke(connection, &token.id, now).await?),
            (false, false) => {
                sqlx::query("UPDATE token SET domains = ? WHERE id = ?")
                    .bind(token.domains.join("\n"))
                    .bind(&token.id)
                    .execute(&mut *connection)
                    .await?;
            }
        }
    }
    Ok(())
}

fn token(row: &SqliteRow) -> Result<TokenRow, Error> {
    let role: &str = row.try_get(2)?;
    let domains: &str = row.try_get(3)?;
    Ok(TokenRow {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        role: Role::parse(role).ok_or_else(|| Error::Corrupt(format!("role {role}")))?,
        domains: domains.lines().map(str::to_string).collect(),
        added_at: row.try_get(4)?,
        revoked_at: row.try_get(5)?,
    })
}
