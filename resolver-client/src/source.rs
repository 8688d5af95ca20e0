//! One place where certificates are looked for, and what it says.
//!
//! A [`Source`] is asked about a [`Subject`]: a recipient, or the recipient's domain. Its [`Answer`] is an [`Outcome`],
//! how long that may be believed, and how it came about. Failures are outcomes: nothing is thrown, and nothing that went
//! wrong can look like "there is no certificate".

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::Address;
use serde::Serialize;

use crate::outcome::Outcome;
use crate::trace::Question;

/// For whom a certificate would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The recipient's own (RFC 8162 section 3).
    Recipient,
    /// The domain's (RFC 3183 section 4.1).
    Domain,
}

/// Whom a certificate is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The recipient.
    pub address: Address,
    /// The recipient, or the recipient's domain.
    pub level: Level,
}

impl Subject {
    /// The mailbox that the certificate is for: the recipient's address, or `domain-confidentiality-authority` in its
    /// domain (RFC 3183 section 4.1).
    pub fn mailbox(&self) -> Address {
        match self.level {
            Level::Recipient => self.address.clone(),
            Level::Domain => Address::domain_authority(self.address.domain()),
        }
    }
}

/// What a source says.
#[derive(Clone, Debug)]
pub struct Answer {
    /// A definite answer, or an error.
    pub outcome: Outcome,
    /// The answer may be used until this second, exclusive.
    pub until: UnixTime,
    /// How it was learned.
    pub question: Arc<Question>,
}

/// The answer of a source, on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// One place where certificates are looked for: DNS, an LDAP directory, an HTTP store, a folder, or a gateway's own.
pub trait Source: Send + Sync {
    /// What it is called in traces and counters: `smimea`, `cert`, `ldap://directory.example.org`. Unique in a resolver.
    fn label(&self) -> &str;

    /// Looks a subject up. Takes no longer than the source's own timeout, and may be dropped at any time.
    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a>;
}
