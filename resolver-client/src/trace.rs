//! Why a verdict is what it is: as text for people, as JSON for logs.

use std::fmt;
use std::sync::Arc;

use certdir_certificate::{Calendar, Certificate, UnixTime};
use serde::Serialize;

use crate::outcome::{Candidate, Claim, Match};
use crate::source::Level;

/// Everything that led to a verdict. Serialises to JSON; `Display` is for people.
#[derive(Clone, Debug, Serialize)]
pub struct Trace {
    /// The address that was asked about.
    pub address: String,
    /// When it was asked (seconds since 1970).
    pub asked_at: UnixTime,
    /// `use`, `none` or `unknown`.
    pub verdict: &'static str,
    /// Stable code of the reason, see `docs/resolver.md`.
    pub reason: &'static str,
    /// Each question that was asked of a source, in order.
    pub questions: Vec<Asked>,
    /// Each record or certificate that was found, in order.
    pub candidates: Vec<Examined>,
    /// What was fetched to appraise them: issuers, revocation lists, OCSP answers.
    pub fetched: Vec<Exchange>,
    /// From this second on, asking again can give something new.
    pub look_again: UnixTime,
}

/// A question as one verdict used it.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// For whom it was.
    pub level: Level,
    /// True when the answer came from the cache.
    pub cached: bool,
    /// The answer may be used until this second, exclusive.
    pub until: UnixTime,
    /// `found`, `proven-none`, `not-served`, or the stable code of an error.
    pub outcome: &'static str,
    /// The question itself.
    #[serde(flatten)]
    pub question: Arc<Question>,
}

/// One question to one source and how its answer was established.
#[derive(Clone, Debug, Serialize)]
pub struct Question {
    /// The label of the source.
    pub source: Arc<str>,
    /// What was asked for: an owner name, an LDAP filter, a URL.
    pub name: String,
    /// The kind of question: a record type, `search`, `GET`, `file`.
    pub kind: &'static str,
    /// The DNSSEC state of the answer, where DNS was asked.
    pub dnssec: Option<Dnssec>,
    /// What the answer says, for a person.
    pub message: String,
    /// When it was asked (seconds since 1970).
    pub asked_at: UnixTime,
    /// Names that CNAME and DNAME records led to.
    pub aliases: Vec<String>,
    /// Every message exchanged for it, also for keys and delegations.
    pub exchanges: Vec<Exchange>,
}

/// The DNSSEC state of an answer (RFC 4035 section 4.3); `Indeterminate` also where no answer came at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dnssec {
    /// A chain of signatures leads to the answer.
    Secure,
    /// A signed proof says that the zone is not signed.
    Insecure,
    /// A chain is promised and missing or broken.
    Bogus,
    /// Nothing can be said.
    Indeterminate,
}

impl Dnssec {
    /// Stable code: `secure`, `insecure`, `bogus` or `indeterminate`.
    pub fn code(self) -> &'static str {
        match self {
            Dnssec::Secure => "secure",
            Dnssec::Insecure => "insecure",
            Dnssec::Bogus => "bogus",
            Dnssec::Indeterminate => "indeterminate",
        }
    }
}

/// One message to a server and what came back.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// Name and type asked.
    pub question: String,
    /// Address and port of the server.
    pub server: String,
    /// `tcp`, `udp` (with TCP after a truncated answer), `tls`, `push` (the connection of DNS Push), `ldap`, `ldaps`, `http`,
    /// `https`.
    pub transport: &'static str,
    /// The response code and the number of records, or the error.
    pub result: String,
    /// Extended DNS errors of the answer (RFC 8914).
    pub extended_errors: Vec<ExtendedError>,
}

/// An extended DNS error (RFC 8914 section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExtendedError {
    /// The INFO-CODE.
    pub code: u16,
    /// The EXTRA-TEXT, as the server wrote it.
    pub text: String,
}

/// One record or certificate and what was said of it.
#[derive(Clone, Debug, Serialize)]
pub struct Examined {
    /// The label of the source.
    pub source: String,
    /// What it would be a match for.
    #[serde(rename = "match")]
    pub matched: Match,
    /// What vouches for it: `SMIMEA 3 0 0` (usage, selector, matching type), `CERT`, `nothing` or `operator`.
    pub claim: String,
    /// SHA-256 of the certificate in hex, when there is one.
    pub sha256: Option<String>,
    /// Its subject (RFC 4514).
    pub subject: Option<String>,
    /// Its issuer (RFC 4514).
    pub issuer: Option<String>,
    /// Its serial number in hex.
    pub serial: Option<String>,
    /// First second of validity.
    pub not_before: Option<UnixTime>,
    /// Last second of validity.
    pub not_after: Option<UnixTime>,
    /// `usable`, or the stable code of why it was refused.
    pub code: &'static str,
    /// Why, for a person, where there is more to say than the code.
    pub message: Option<String>,
    /// True for *the* certificate of the verdict.
    pub chosen: bool,
}

impl Examined {
    pub(crate) fn new(source: &str, candidate: &Candidate, code: &'static str, message: Option<String>) -> Self {
        let claim = match &candidate.claim {
            Claim::Association(a) => format!("SMIMEA {} {} {}", a.usage, a.selector, a.matching),
            Claim::Secure => "CERT".to_owned(),
            Claim::Bare => "nothing".to_owned(),
            Claim::Local => "operator".to_owned(),
        };
        let examined = Examined::blank(source, candidate.matched, claim, code, message);
        match candidate.readable() {
            Some(certificate) => examined.with(certificate),
            None => examined,
        }
    }

    /// A certificate that a cached verdict uses.
    pub(crate) fn of_cached(certificate: &Certificate, matched: Match) -> Self {
        Examined::blank("cache", matched, "cache".to_owned(), "usable", None).with(certificate)
    }

    fn blank(source: &str, matched: Match, claim: String, code: &'static str, message: Option<String>) -> Self {
        Examined {
            source: source.to_owned(),
            matched,
            claim,
            sha256: None,
            subject: None,
            issuer: None,
            serial: None,
            not_before: None,
            not_after: None,
            code,
            message,
            chosen: false,
        }
    }

    fn with(self, certificate: &Certificate) -> Self {
        Examined {
            sha256: Some(data_encoding::HEXLOWER.encode(certificate.sha256())),
            subject: Some(certificate.subject().to_owned()),
            issuer: Some(certificate.issuer().to_owned()),
            serial: Some(certificate.serial_hex().to_owned()),
            not_before: Some(certificate.not_before()),
            not_after: Some(certificate.not_after()),
            ..self
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} ({})", self.address, self.verdict, self.reason)?;
        for a in &self.questions {
            let q = &a.question;
            let level = match a.level {
                Level::Recipient => "recipient",
                Level::Domain => "domain",
            };
            writeln!(f, "asked {} for the {level}: {} {}", q.source, q.name, q.kind)?;
            match q.dnssec {
                Some(dnssec) => writeln!(f, "  {}, {}: {}", a.outcome, dnssec.code(), q.message)?,
                None => writeln!(f, "  {}: {}", a.outcome, q.message)?,
            }
            let from = if a.cached { "from the cache, learned" } else { "learned" };
            writeln!(f, "  {from} {}, good until {}", Calendar::of(q.asked_at), Calendar::of(a.until))?;
            for alias in &q.aliases {
                writeln!(f, "  led to {alias}")?;
            }
            for x in &q.exchanges {
                writeln!(f, "  {} ({}) {}: {}", x.server, x.transport, x.question, x.result)?;
                for e in &x.extended_errors {
                    writeln!(f, "    extended error {} {}", e.code, e.text)?;
                }
            }
        }
        for c in &self.candidates {
            let chosen = if c.chosen { ", chosen" } else { "" };
            write!(f, "{} of the {} from {}: {}{chosen}", c.claim, c.matched.code(), c.source, c.code)?;
            if let Some(message) = &c.message {
                write!(f, " ({message})")?;
            }
            writeln!(f)?;
            if let (Some(subject), Some(issuer), Some(serial)) = (&c.subject, &c.issuer, &c.serial) {
                writeln!(f, "  subject {subject}; issuer {issuer}; serial {serial}")?;
            }
            if let (Some(from), Some(to)) = (c.not_before, c.not_after) {
                writeln!(f, "  valid from {} to {}", Calendar::of(from), Calendar::of(to))?;
            }
            if let Some(sha256) = &c.sha256 {
                writeln!(f, "  sha256 {sha256}")?;
            }
        }
        for x in &self.fetched {
            writeln!(f, "fetched {} from {} ({}): {}", x.question, x.server, x.transport, x.result)?;
        }
        writeln!(f, "look again at {}", Calendar::of(self.look_again))
    }
}
