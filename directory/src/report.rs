//! [`Report`]: what became of each certificate that was submitted or withdrawn.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::published::Version;

/// What became of a batch; serialised for `--json` and HTTP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The newest Version after the batch.
    pub version: Version,
    /// Nothing was written: it only shows what would happen.
    pub dry_run: bool,
    /// One for each certificate.
    pub items: Vec<Item>,
}

/// What became of one certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    /// The file it came from, or `request`.
    pub origin: String,
    /// SHA-256 of the DER in hexadecimal; none when it was no certificate.
    pub sha256: Option<String>,
    /// The subject, as RFC 4514 writes it.
    pub subject: Option<String>,
    /// What was done.
    pub outcome: Outcome,
    /// A stable code of why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    /// One line for a person.
    pub message: String,
    /// The mailboxes it is published for now (or was, when withdrawn).
    pub addresses: Vec<String>,
    /// What a person should know besides.
    pub warnings: Vec<String>,
    /// The Version of the change; none when nothing changed.
    pub version: Option<Version>,
}

impl Item {
    /// Something that is no certificate, or not one to look at further.
    pub fn refused(origin: impl Into<String>, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Item {
        Item {
            origin: origin.into(),
            sha256: None,
            subject: None,
            outcome: Outcome::Refused,
            code: Some(code.into()),
            message: message.into(),
            addresses: Vec::new(),
            warnings: Vec::new(),
            version: None,
        }
    }
}

/// What was done with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The world sees it now.
    Published,
    /// Its validity begins later; it is published then.
    Staged,
    /// A newer certificate is known: kept in the history only.
    Superseded,
    /// It can only sign: kept, not published.
    Kept,
    /// Known already, nothing changed.
    Unchanged,
    /// Not taken; `code` says why.
    Refused,
    /// Taken back.
    Withdrawn,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Published => "published",
            Outcome::Staged => "staged",
            Outcome::Superseded => "superseded",
            Outcome::Kept => "kept",
            Outcome::Unchanged => "unchanged",
            Outcome::Refused => "refused",
            Outcome::Withdrawn => "withdrawn",
        }
    }
}

impl Report {
    /// How many certificates were refused.
    pub fn refused(&self) -> usize {
        self.items.iter().filter(|item| item.outcome == Outcome::Refused).count()
    }
}

/// Why a certificate is not taken.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}
