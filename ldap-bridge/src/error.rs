//! What can go wrong with the server itself or with a peer's octets. What goes wrong with a request that could be
//! read is a [`crate::refusal::Refusal`], which the peer is told.

use std::net::SocketAddr;

/// Why the front end cannot start or run, or a message cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listening address cannot be had.
    #[error("cannot listen for LDAP on {address}: {source}; free the port or choose another address with --ldap")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A listening socket failed after it was bound.
    #[error("an LDAP listener failed: {0}; start the directory again")]
    Listener(#[source] std::io::Error),
    /// The octets are no LDAP message (RFC 4511 sections 4.1.1 and 5.1).
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The message claims more octets than a request may have.
    #[error("message of more than {limit} octets")]
    TooLarge {
        /// The most octets a message may have.
        limit: usize,
    },
}

impl Error {
    /// A stable name for this error, for programs and translations.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Bind { .. } => "ldap-bind",
            Error::Listener(_) => "ldap-listener",
            Error::Malformed(_) => "ldap-malformed",
            Error::TooLarge { .. } => "ldap-too-large",
        }
    }
}
