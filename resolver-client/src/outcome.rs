//! What a source says about one owner name.
//!
//! An [`Outcome`] is a definite answer or an error, never a mixture, and an error can never be read as an absence: the
//! verdict is drawn from outcomes only (see [`crate::judge`]).

use std::sync::Arc;

use certdir_certificate::{Certificate, UnixTime};
use serde::Serialize;

use crate::trace::Question;

/// Whose owner name was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The recipient's own name (RFC 8162 section 3).
    Recipient,
    /// The name of `domain-confidentiality-authority@<domain>` (RFC 3183 section 4.1).
    Domain,
}

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

/// What one source says about one owner name.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Records that DNSSEC proves. They may all turn out to be unusable; that is for the judge to say.
    Found {
        /// Every record of the answer, in the order of the answer.
        candidates: Arc<[Candidate]>,
        /// True when the answer was synthesised from a wildcard.
        wildcard: bool,
    },
    /// DNSSEC proves that there is no such record (Secure NXDOMAIN or NODATA).
    ProvenNone {
        /// True when the name itself exists and holds other records: the wildcard does not reach it, and neither
        /// does the domain-level certificate (a name that its domain has blocked).
        own_name: bool,
    },
    /// A delegation that is *proven* insecure: the domain is not signed, so this source does not serve it.
    NotServed {
        /// The zone cut that has no DS record, as text.
        cut: String,
    },
    /// Anything else. Says nothing about whether a certificate exists.
    Error(Failure),
}

impl Outcome {
    /// Stable code: `found`, `proven-none`, `not-served` or the code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Outcome::Found { .. } => "found",
            Outcome::ProvenNone { .. } => "proven-none",
            Outcome::NotServed { .. } => "not-served",
            Outcome::Error(failure) => failure.code,
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

/// An outcome and where it came from; what the cache holds and the judge reads.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Whose name was asked.
    pub level: Level,
    /// What was learned.
    pub outcome: Outcome,
    /// The finding may be used until this second, exclusive.
    pub until: UnixTime,
    /// How it was learned.
    pub question: Arc<Question>,
}

impl Finding {
    /// What a certificate of this finding would be a match for.
    pub fn matched(&self) -> Match {
        match (&self.outcome, self.level) {
            (Outcome::Found { wildcard: true, .. }, _) => Match::Wildcard,
            (_, Level::Recipient) => Match::Recipient,
            (_, Level::Domain) => Match::Domain,
        }
    }
}

/// One SMIMEA record, read once.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Certificate usage (RFC 6698 section 2.1.1).
    pub usage: u8,
    /// Selector (RFC 6698 section 2.1.2).
    pub selector: u8,
    /// Matching type (RFC 6698 section 2.1.3).
    pub matching: u8,
    /// The certificate, when the record carries one (`x 0 0`); the reader's complaint when it is none.
    pub certificate: Option<Result<Arc<Certificate>, String>>,
}

impl Candidate {
    /// Reads SMIMEA RDATA in wire form (RFC 8162 section 2: the form of TLSA).
    ///
    /// # Errors
    /// `None` when there are fewer than three octets: that is no SMIMEA record but a malformed answer.
    pub fn from_rdata(rdata: &[u8]) -> Option<Candidate> {
        let (&[usage, selector, matching], data) = rdata.split_first_chunk::<3>()?;
        let certificate = (selector == 0 && matching == 0)
            .then(|| Certificate::from_der(data).map(Arc::new).map_err(|e| e.to_string()));
        Some(Candidate { usage, selector, matching, certificate })
    }

    /// The certificate that may be used at `now`, or the stable code of why there is none.
    ///
    /// Usage 3 vouches for the certificate itself: neither its names nor its chain are looked at (RFC 7671 section
    /// 5.1), but its dates are: RFC 8162 section 9 forbids an expired certificate even where that means plaintext.
    ///
    /// # Errors
    /// The stable code of the first reason against it, see `docs/resolver.md`.
    pub fn usable(&self, now: UnixTime) -> Result<&Arc<Certificate>, &'static str> {
        match self.usage {
            3 => {}
            0 => return Err("needs-pkix-ta"),
            1 => return Err("needs-pkix-ee"),
            2 => return Err("needs-dane-ta"),
            _ => return Err("unknown-usage"),
        }
        // Only `3 0 0` delivers a certificate; a hash can confirm one found elsewhere (RFC 8162 section 5).
        match (self.selector, self.matching) {
            (0 | 1, 1 | 2) => return Err("hash-only"),
            (1, 0) => return Err("key-only"),
            (0, 0) => {}
            (0 | 1, _) => return Err("unknown-matching"),
            (_, _) => return Err("unknown-selector"),
        }
        let Some(Ok(certificate)) = &self.certificate else {
            return Err("malformed");
        };
        if now < certificate.not_before() {
            return Err("not-yet-valid");
        }
        if !certificate.valid_at(now) {
            return Err("expired");
        }
        if !certificate.can_encrypt() {
            return Err("signing-only");
        }
        Ok(certificate)
    }

    /// The next second after `now` at which this record's usability changes by itself.
    pub fn next_change(&self, now: UnixTime) -> Option<UnixTime> {
        let Some(Ok(certificate)) = &self.certificate else {
            return None;
        };
        // notAfter is inclusive (RFC 5280 section 4.1.2.5).
        [certificate.not_before(), certificate.not_after().saturating_add(1)].into_iter().filter(|t| *t > now).min()
    }
}
