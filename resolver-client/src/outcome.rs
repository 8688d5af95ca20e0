//! What a source says about one subject.
//!
//! An [`Outcome`] is a definite answer or an error, never a mixture, and an error can never be read as an absence: the
//! verdict is drawn from outcomes only (see [`crate::judge`]). What was found is a list of [`Candidate`]s; each says what
//! vouches for it ([`Claim`]).

use std::sync::Arc;

use certdir_certificate::Certificate;
use serde::Serialize;

/// What an answer was given for: how far a certificate reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// A record at the recipient's own name.
    Recipient,
    /// The domain-level certificate at its own name.
    Domain,
    /// A record synthesised from a wildcard (the RRSIG has fewer labels than the name, RFC 4035 section 5.3.4).
    Wildcard,
}

impl Match {
    /// Stable code: `recipient`, `domain` or `wildcard`.
    pub fn code(self) -> &'static str {
        match self {
            Match::Recipient => "recipient",
            Match::Domain => "domain",
            Match::Wildcard => "wildcard",
        }
    }
}

/// What one source says about one subject.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Records or certificates. They may all turn out to be unusable; that is decided later.
    Found(Arc<[Candidate]>),
    /// DNSSEC proves that there is no such record (Secure NXDOMAIN or NODATA).
    ProvenNone {
        /// True when the name itself exists and holds other records: the wildcard does not reach it, and neither
        /// does the domain-level certificate (a name that its domain has blocked).
        own_name: bool,
    },
    /// The source does not serve this subject: a delegation that is *proven* insecure, an authenticated directory that
    /// has no such entry, no server of that kind announced.
    NotServed {
        /// Why, for a person.
        reason: String,
    },
    /// Anything else. Says nothing about whether a certificate exists.
    Error(Failure),
}

impl Outcome {
    /// Stable code: `found`, `proven-none`, `not-served` or the code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Outcome::Found(_) => "found",
            Outcome::ProvenNone { .. } => "proven-none",
            Outcome::NotServed { .. } => "not-served",
            Outcome::Error(failure) => failure.code,
        }
    }

    /// The candidates; none unless found.
    pub fn candidates(&self) -> &[Candidate] {
        match self {
            Outcome::Found(candidates) => candidates,
            _ => &[],
        }
    }
}

/// Why a source could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable code, listed in `docs/resolver.md`.
    pub code: &'static str,
    /// What happened, for a person.
    pub message: String,
}

impl Failure {
    /// A failure with its stable code and a sentence.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }
}

/// What vouches for a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A DNSSEC Secure SMIMEA record.
    Association(Association),
    /// A DNSSEC Secure CERT record at the subject's name (RFC 4398).
    Secure,
    /// Nothing: LDAP, HTTP, DNS that is not Secure. Needs a chain to the gateway's own anchors.
    Bare,
    /// The operator, who put it where it was found.
    Local,
}

/// What an SMIMEA record says (RFC 8162 section 2: the form of TLSA, RFC 6698 section 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// Certificate usage (RFC 6698 section 2.1.1).
    pub usage: u8,
    /// Selector (RFC 6698 section 2.1.2).
    pub selector: u8,
    /// Matching type (RFC 6698 section 2.1.3).
    pub matching: u8,
    /// The certificate association data.
    pub data: Arc<[u8]>,
}

/// One record or certificate that a source found, read once.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What vouches for it.
    pub claim: Claim,
    /// Whose it would be.
    pub matched: Match,
    /// The certificate, when there is one; the reader's complaint when what was given is none. An SMIMEA record carries one
    /// only as `x 0 0`.
    pub certificate: Option<Result<Arc<Certificate>, Failure>>,
}

impl Candidate {
    /// Reads a Secure SMIMEA record's RDATA in wire form.
    ///
    /// # Errors
    /// `None` when there are fewer than three octets: that is no SMIMEA record but a malformed answer.
    pub fn from_smimea(rdata: &[u8], matched: Match) -> Option<Candidate> {
        let (&[usage, selector, matching], data) = rdata.split_first_chunk::<3>()?;
        let certificate = (selector == 0 && matching == 0).then(|| read(data));
        // What can be read needs no second copy.
        let data = match &certificate {
            Some(Ok(certificate)) => Arc::clone(certificate.der()),
            _ => Arc::from(data),
        };
        let association = Association { usage, selector, matching, data };
        Some(Candidate { claim: Claim::Association(association), matched, certificate })
    }

    /// Reads a certificate in DER form.
    pub fn from_der(der: &[u8], claim: Claim, matched: Match) -> Candidate {
        Candidate { claim, matched, certificate: Some(read(der)) }
    }

    /// The certificate, when there is one that can be read.
    pub fn readable(&self) -> Option<&Arc<Certificate>> {
        self.certificate.as_ref()?.as_ref().ok()
    }
}

/// Reads a certificate. One that is only larger than may be read is `too-large`, whatever else it is.
fn read(der: &[u8]) -> Result<Arc<Certificate>, Failure> {
    Certificate::from_der(der).map(Arc::new).map_err(|error| {
        let code = match error {
            certdir_certificate::Error::TooLarge { .. } => TOO_LARGE,
            _ => "malformed",
        };
        Failure::new(code, error.to_string())
    })
}

/// The code of what may be a certificate and is larger than may be read: a bound of our own, and so a doubt.
pub(crate) const TOO_LARGE: &str = "too-large";
