//! What can be wrong with something that was handed over as a certificate.

/// Why there is no [`Certificate`](crate::Certificate). The text tells a person what to do; [`code`](Error::code) is for
/// programs and stays the same across versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing was handed over, or only white space.
    #[error("there is nothing in it: give a certificate in PEM or DER form")]
    Empty,
    /// It is something else; `found` names it as far as it can be told.
    #[error("this is not a certificate but {found}: give an X.509 certificate in PEM or DER form")]
    NotACertificate {
        /// What it looks like, a noun with its article.
        found: String,
    },
    /// It starts as a certificate and ends before the length it announces.
    #[error("the certificate is cut off after {present} of {announced} octets: fetch the file again")]
    Truncated {
        /// Octets that are there.
        present: usize,
        /// Octets that its own length field announces.
        announced: usize,
    },
    /// A whole certificate is followed by something else.
    #[error(
        "the certificate is followed by {octets} octets that do not belong to it: give one DER certificate a file, or PEM"
    )]
    TrailingData {
        /// How many octets follow.
        octets: usize,
    },
    /// It is larger than anything this directory carries.
    #[error("{octets} octets are too many: the limit is {limit}")]
    TooLarge {
        /// Size of what was handed over, in octets.
        octets: usize,
        /// The limit, in octets.
        limit: usize,
    },
    /// It holds a private key. The directory never wants one, and whoever sent it should know that it left the house.
    #[error(
        "this holds a private key: remove it and give the certificate only (if this went over a network, replace the key)"
    )]
    PrivateKey,
    /// It has the form of a certificate, and one part of it breaks the rules of X.509.
    #[error("the certificate's {part} is malformed ({problem}): ask its issuer for a correct one")]
    Malformed {
        /// The part of the certificate, in the words of RFC 5280.
        part: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It names more addresses and domains than [`MAX_NAMES`](crate::MAX_NAMES).
    #[error("the certificate has more than {limit} names: use one certificate a person or domain")]
    TooManyNames {
        /// The limit.
        limit: usize,
    },
    /// The PEM text itself is broken.
    #[error("line {line}: {problem}")]
    BadPem {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// One certificate among several in a PEM file is wrong.
    #[error("the certificate at line {line}: {source}")]
    InBlock {
        /// Line of its `-----BEGIN`, from 1.
        line: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },
}

impl Error {
    /// A stable name for programs, in kebab case. An error inside a PEM block has the code of its cause.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Empty => "empty",
            Error::NotACertificate { .. } => "not-a-certificate",
            Error::Truncated { .. } => "truncated",
            Error::TrailingData { .. } => "trailing-data",
            Error::TooLarge { .. } => "too-large",
            Error::PrivateKey => "private-key",
            Error::Malformed { .. } => "malformed-certificate",
            Error::TooManyNames { .. } => "too-many-names",
            Error::BadPem { .. } => "bad-pem",
            Error::InBlock { source, .. } => source.code(),
        }
    }

    pub(crate) fn not_a_certificate(found: &str) -> Error {
        Error::NotACertificate { found: found.to_owned() }
    }
}
