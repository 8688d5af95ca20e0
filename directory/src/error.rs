//! What can go wrong in the directory, with a stable code each.

use certdir_zones::DomainName;

/// An error of the directory. The message tells a person what to do; [`Error::code`] is stable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not be read or written.
    #[error("{}", store(.0))]
    Store(#[from] sqlx::Error),
    /// The store was written by a newer certdir, or its migrations do not match.
    #[error("the store's schema does not fit this version of certdir: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// A row of the store does not make sense.
    #[error("the store holds a row that cannot be read ({0}); restore a backup, or report this")]
    Corrupt(String),
    /// The database is another file than the one that was opened.
    #[error("{0} was deleted or replaced while it was in use; stop this process and start it again")]
    Replaced(String),
    /// A file or folder of the data folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A zone key file cannot be used.
    #[error("the zone key of {apex} cannot be used: {reason}; restore it from the backup of the data folder")]
    ZoneKey {
        /// The zone.
        apex: String,
        /// Why.
        reason: String,
    },
    /// Making records or signatures failed.
    #[error(transparent)]
    Zones(#[from] certdir_zones::Error),
    /// Nothing has been loaded yet.
    #[error("the directory is still loading; try again in a moment")]
    NotReady,
    /// The published set could not be brought up to date for too long.
    #[error("the directory has lost its store since {seconds} seconds; check the data folder and its disk")]
    Stale {
        /// Seconds since the last good look.
        seconds: i64,
    },
    /// The domain is not hosted here.
    #[error("the domain {0} is not hosted here; add it with: certdir domain add {0} --name-server HOST")]
    UnknownDomain(DomainName),
    /// The domain is there already.
    #[error("the domain {0} is hosted here already; see: certdir domain show {0}")]
    DomainExists(DomainName),
    /// A setting of a domain cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The other records of a domain cannot be taken: every fault, each with its line.
    #[error("{0}")]
    Records(certdir_zones::Error),
    /// There is nothing by that name; the text says what, and where to look.
    #[error("{0}")]
    NotFound(String),
    /// The token is wrong, unknown or revoked.
    #[error("the token is not valid; ask the directory's operator for a new one (certdir token add)")]
    BadToken,
    /// The token may not do that.
    #[error("this token may not {0}")]
    Forbidden(String),
    /// The operating system gave no random octets.
    #[error("the system gave no random numbers")]
    Random,
}

impl Error {
    /// The stable code of the error, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Store(_) => "store",
            Error::Schema(_) => "schema",
            Error::Corrupt(_) => "corrupt",
            Error::Replaced(_) => "replaced",
            Error::File { .. } => "file",
            Error::ZoneKey { .. } => "zone-key",
            Error::Zones(_) => "zones",
            Error::NotReady => "not-ready",
            Error::Stale { .. } => "stale",
            Error::UnknownDomain(_) => "unknown-domain",
            Error::DomainExists(_) => "domain-exists",
            Error::Setting(_) => "setting",
            Error::Records(_) => "bad-records",
            Error::NotFound(_) => "not-found",
            Error::BadToken => "bad-token",
            Error::Forbidden(_) => "forbidden",
            Error::Random => "random",
        }
    }

    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Error {
        Error::File { path: path.display().to_string(), source }
    }
}

/// What to do about an error of the store. One that is locked is in good health.
fn store(error: &sqlx::Error) -> String {
    // SQLITE_BUSY; what lies above the lowest octet says more about it (https://www.sqlite.org/rescode.html).
    let busy = |code: &str| code.parse::<u32>().is_ok_and(|code| code & 0xff == 5);
    if error.as_database_error().and_then(|error| error.code()).is_some_and(|code| busy(&code)) {
        return "another process is changing the directory, and this waited for it in vain; nothing was changed, try again".into();
    }
    format!("the store cannot be used: {error}; check that the data folder is writable and its disk is not full")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;

    #[tokio::test]
    async fn a_locked_store_is_told_from_one_that_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("db")).busy_timeout(Default::default());
        let made = options.clone().create_if_missing(true);
        let (mut one, mut other) = (made.connect().await.unwrap(), made.connect().await.unwrap());
        sqlx::query("BEGIN IMMEDIATE").execute(&mut one).await.unwrap();
        let busy = Error::from(sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap_err());
        assert!(busy.to_string().contains("another process is changing the directory"), "{busy}");
        assert_eq!(busy.code(), "store");
        let broken = Error::from(sqlx::query("SELECT * FROM nothing").execute(&mut other).await.unwrap_err());
        assert!(broken.to_string().contains("its disk is not full"), "{broken}");
    }
}
