//! What ends a command, with its exit code and the one line it prints.

use std::process::ExitCode;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The directory refused or failed.
    #[error(transparent)]
    Directory(#[from] certdir_directory::Error),
    /// A name or an address cannot be read, records cannot be made.
    #[error(transparent)]
    Zones(#[from] certdir_zones::Error),
    /// The DNS front end failed.
    #[error(transparent)]
    Dns(#[from] certdir_dns::Error),
    /// The LDAP front end failed.
    #[error(transparent)]
    Ldap(#[from] certdir_ldap::Error),
    /// The HTTP front end failed.
    #[error(transparent)]
    Http(#[from] certdir_http::Error),
    /// The resolver cannot be built.
    #[error(transparent)]
    Resolver(#[from] certdir_resolver::Error),
    /// A running directory answered with an error, or not at all.
    #[error("{message}")]
    Remote {
        /// The code it gave, or `unreachable`.
        code: String,
        /// What it said.
        message: String,
    },
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The command line or the configuration does not make sense.
    #[error("{0}")]
    Usage(String),
    /// Output could not be written.
    #[error("cannot write the output: {0}")]
    Output(std::io::Error),
    /// The certificate of the servers cannot be used.
    #[error("TLS: {reason}; {remedy}")]
    Tls {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Sample(#[from] rcgen::Error),
}

impl Error {
    /// The stable code of the error, for programs.
    pub(crate) fn code(&self) -> &str {
        match self {
            Error::Directory(error) => error.code(),
            Error::Zones(error) => error.code(),
            Error::Dns(error) => error.code(),
            Error::Ldap(error) => error.code(),
            Error::Http(error) => error.code(),
            Error::Resolver(error) => error.code(),
            Error::Remote { code, .. } => code,
            Error::File { .. } => "file",
            Error::Usage(_) => "usage",
            Error::Output(_) => "output",
            Error::Tls { .. } => "tls",
            Error::Sample(_) => "sample",
        }
    }

    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Error {
        Error::File { path: path.display().to_string(), source }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Output(error)
    }
}

/// How a command that did not fail ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; for `resolve`: Use.
    Done,
    /// `publish`: nothing was taken.
    Nothing,
    /// `resolve`: None.
    None,
    /// `resolve`: Unknown.
    Unknown,
    /// `publish`: something was refused, the rest was taken.
    Partly,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Nothing => 1,
            Exit::None => 2,
            Exit::Unknown => 3,
            Exit::Partly => 4,
        })
    }
}
