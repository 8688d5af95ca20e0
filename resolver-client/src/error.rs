//! Why a resolver could not be built, or an address not be watched. Looking up never fails with an error: it ends in a
//! verdict.

use std::path::PathBuf;

/// Why a resolver could not be built, or an address not be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}; give a readable file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The trust anchors are not DNSKEY or DS records in master-file form.
    #[error("{origin}, line {line}: {message}")]
    BadAnchor {
        /// The file, or `trust anchor` for text that was given directly.
        origin: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what is expected.
        message: String,
    },
    /// No name server was given and the system's configuration names none.
    #[error("no name server: give one with its port, or name one in /etc/resolv.conf")]
    NoServer,
    /// The AD bit of a server was to be believed, and anybody on the way to it could set it.
    #[error("{server} cannot be believed: ask a resolver on this machine, or one over TLS, or validate here")]
    UnsafeToBelieve {
        /// The server.
        server: std::net::SocketAddr,
    },
    /// What TLS servers must prove cannot be read.
    #[error("the settings of TLS: {0}")]
    BadTls(String),
    /// The settings of a source cannot be used.
    #[error("the settings of a source: {0}")]
    BadSource(String),
    /// A certification authority's certificate cannot be used.
    #[error("the certification authority's certificate: {0}")]
    BadAuthority(String),
    /// The settings of a change feed.
    #[error("the change feed: {0}")]
    BadFeed(String),
    /// An address was to be watched outside a tokio runtime.
    #[error("addresses are watched inside a tokio runtime only")]
    NoRuntime,
    /// As many addresses are watched as may be.
    #[error("{0} addresses are watched; raise the limit or watch fewer")]
    TooManyWatched(usize),
    /// The DNS library refused its settings.
    #[error("the DNS client cannot be set up: {0}")]
    Setup(String),
}

impl Error {
    /// Stable code of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Unreadable { .. } => "unreadable-file",
            Error::BadAnchor { .. } => "bad-trust-anchor",
            Error::NoServer => "no-server",
            Error::UnsafeToBelieve { .. } => "unsafe-to-believe",
            Error::BadTls(_) => "bad-tls",
            Error::BadSource(_) => "bad-source",
            Error::BadAuthority(_) => "bad-authority",
            Error::BadFeed(_) => "bad-feed",
            Error::NoRuntime => "no-runtime",
            Error::TooManyWatched(_) => "too-many-watched",
            Error::Setup(_) => "dns-setup",
        }
    }
}
