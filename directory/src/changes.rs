//! [`Change`]: a row of the log as a follower from outside is told it, and [`Cursor`]: where such a follower stands.
//!
//! Every log row commits to its details with a random salt, so the beginning of that commitment is a mark that no other
//! store has at that Version, nor this one after it was restored from a backup and went on differently. A Version with
//! its mark is all that a follower has to keep, and all that has to be compared when it comes back.

use std::fmt;
use std::str::FromStr;

use certdir_certificate::UnixTime;
use certdir_zones::{Address, DomainName, smimea_owner, smimea_wildcard};
use data_encoding::HEXLOWER;

use crate::error::Error;
use crate::log::Action;
use crate::published::Version;
use crate::sqlite;
use crate::store::Store;

/// The beginning of the commitment of a log row.
pub type Mark = [u8; 8];

/// Where a follower stands: after a Version, of which the mark is known if it was told one.
///
/// As text it is the Version, and after a hyphen the mark in hexadecimal. Version 0, the beginning, has no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The last Version seen.
    pub version: Version,
    /// Its mark.
    pub mark: Option<Mark>,
}

/// A row of the log, and which names it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where a follower stands that has seen it.
    pub cursor: Cursor,
    /// When, Unix seconds.
    pub at: UnixTime,
    /// The domain it belongs to.
    pub domain: String,
    /// What was done.
    pub action: Action,
    /// Whether what the world can see changed by it.
    pub public: bool,
    /// The mailbox, in lower case; none where it concerns the domain alone, or the details were erased.
    pub address: Option<String>,
    /// SHA-256 of the certificate, in hexadecimal; none where it is about no certificate, or erased.
    pub sha256: Option<String>,
    /// The SMIMEA owner names that the mailbox has or had, without a dot at the end.
    pub names: Vec<String>,
    /// Whether every name of the domain is concerned, not one mailbox alone.
    pub whole_domain: bool,
}

impl Change {
    /// Puts a change together from its row. `mailbox` has the spellings that were ever published, one a line.
    pub(crate) fn new(
        cursor: Cursor,
        at: UnixTime,
        domain: String,
        action: Action,
        public: bool,
        detail: Option<(String, String)>,
        spellings: Option<&str>,
    ) -> Change {
        let is_hosting = matches!(action, Action::DomainAdded | Action::DomainChanged | Action::DomainRemoved);
        let (address, sha256) = match detail {
            Some((address, sha256)) => (Some(address), Some(sha256).filter(|text| !text.is_empty())),
            None => (None, None),
        };
        let mailbox = address.as_deref().filter(|_| !is_hosting).and_then(|text| Address::parse(text).ok());
        let mut names = Vec::new();
        if let Some(mailbox) = &mailbox {
            let written = spellings.unwrap_or_default().lines().filter_map(|line| Address::parse(line).ok());
            names.extend(written.chain([mailbox.clone()]).map(|spelling| plain(&smimea_owner(&spelling))));
            if mailbox.is_domain_authority() {
                names.push(plain(&smimea_wildcard(mailbox.domain())));
            }
            names.sort_unstable();
            names.dedup();
        }
        let whole_domain = mailbox.as_ref().is_none_or(Address::is_domain_authority);
        let address = address.filter(|_| mailbox.is_some());
        Change { cursor, at, domain, action, public, address, sha256, names, whole_domain }
    }
}

/// A name as it is written in the feed.
fn plain(name: &certdir_zones::Name) -> String {
    name.to_string().trim_end_matches('.').to_string()
}

impl Cursor {
    /// The beginning of every log.
    pub const BEGINNING: Cursor = Cursor { version: 0, mark: None };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mark {
            None => write!(f, "{}", self.version),
            Some(mark) => write!(f, "{}-{}", self.version, HEXLOWER.encode(mark)),
        }
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is a Version such as 17, or with its mark such as 17-9f86d081884c7d65")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        let (version, mark) = match text.split_once('-') {
            None => (text, None),
            Some((version, mark)) => {
                let octets = HEXLOWER.decode(mark.as_bytes()).map_err(|_| BadCursor)?;
                (version, Some(Mark::try_from(octets).map_err(|_| BadCursor)?))
            }
        };
        // `parse` would take a plus sign.
        if version.is_empty() || !version.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(BadCursor);
        }
        Ok(Cursor { version: version.parse().map_err(|_| BadCursor)?, mark })
    }
}

impl Store {
    /// The changes after a Version, up to another one, oldest first, at most `limit`.
    pub async fn changes(&self, after: Version, until: Version, limit: u32) -> Result<Vec<Change>, Error> {
        sqlite::reading::changes(&mut *self.database.readers.acquire().await?, after, until, limit).await
    }

    /// The cursor at a Version of this store; none where there is no such Version.
    pub async fn cursor(&self, version: Version) -> Result<Option<Cursor>, Error> {
        if version == 0 {
            return Ok(Some(Cursor::BEGINNING));
        }
        let before = version.saturating_sub(1);
        Ok(self.changes(before, version, 1).await?.first().map(|change| change.cursor))
    }
}

/// Whether a name is one under which the SMIMEA record of a mailbox stands: returns its domain.
pub fn smimea_domain(name: &str) -> Option<DomainName> {
    let (label, rest) = name.split_once('.')?;
    let is_hash = label.len() == 56 && label.bytes().all(|octet| octet.is_ascii_hexdigit());
    let domain = rest
        .get(.."_smimecert.".len())
        .filter(|start| start.eq_ignore_ascii_case("_smimecert."))
        .and(rest.split_once('.'))?
        .1;
    is_hash.then(|| DomainName::parse(domain).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_written_and_read() {
        for text in ["0", "17", "17-9f86d081884c7d65", "18446744073709551615-0000000000000000"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "-",
            "+1",
            "1-",
            "1-9f",
            "1-9F86D081884C7D65",
            "1-9f86d081884c7d6500",
            "18446744073709551616",
            " 1",
            "1\n",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor), "{text:?}");
        }
    }

    #[test]
    fn a_change_of_a_domain_concerns_all_of_it() {
        let change = |action, address: Option<&str>| {
            let detail = address.map(|address| (address.to_string(), "ab".repeat(32)));
            Change::new(Cursor::BEGINNING, 0, "example.org".into(), action, true, detail, None)
        };
        let one = change(Action::Published, Some("alice@example.org"));
        assert!(!one.whole_domain && one.names.len() == 1 && one.address.is_some());
        let own = change(Action::Withdrawn, Some("domain-confidentiality-authority@example.org"));
        assert!(own.whole_domain);
        assert_eq!(own.names[0], "*._smimecert.example.org");
        let erased = change(Action::Withdrawn, None);
        assert!(erased.whole_domain && erased.names.is_empty() && erased.sha256.is_none());
        let hosted = change(Action::DomainAdded, Some("domain-confidentiality-authority@example.org"));
        assert!(hosted.whole_domain && hosted.names.is_empty() && hosted.address.is_none());
    }

    #[test]
    fn owner_names_of_smimea() {
        let hash = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db";
        assert_eq!(smimea_domain(&format!("{hash}._smimecert.example.org")).unwrap().as_str(), "example.org");
        for name in [
            "x._smimecert.example.org",
            hash,
            "alice@example.org",
            &format!("{hash}._smime.example.org"),
            &format!("{hash}.é"),
            &format!("{hash}._smimecert."),
        ] {
            assert_eq!(smimea_domain(name), None, "{name}");
        }
    }
}
