//! Why a verdict is what it is: as text for people, as JSON for logs.

use std::fmt;
use std::sync::Arc;

use certdir_certificate::{Calendar, UnixTime};
use serde::{Serialize, Serializer};

use crate::outcome::{Candidate, Level, Match};

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
    /// Each owner name that was asked, in order.
    pub questions: Vec<Asked>,
    /// Each record that was found, in order.
    pub candidates: Vec<Examined>,
    /// From this second on, asking again can give something new.
    pub look_again: UnixTime,
}

/// A question as one verdict used it.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Whose name it was.
    pub level: Level,
    /// True when the answer came from the cache.
    pub cached: bool,
    /// The answer may be used until this second, exclusive.
    pub until: UnixTime,
    /// `found`, `proven-none`, `not-served`, or the stable code of an error.
    pub outcome: &'static str,
    /// The question itself.
    #[serde(flatten, serialize_with = "inner")]
    pub question: Arc<Question>,
}

fn inner<S: Serializer>(question: &Arc<Question>, serializer: S) -> Result<S::Ok, S::Error> {
    (**question).serialize(serializer)
}

/// One question to one source and how its answer was established.
#[derive(Clone, Debug, Serialize)]
pub struct Question {
    /// The source: `dns`.
    pub source: &'static str,
    /// The owner name.
    pub name: String,
    /// The record type.
    pub record_type: &'static str,
    /// The DNSSEC state of the answer.
    pub dnssec: Dnssec,
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
    /// `tcp`, or `udp` (with TCP after a truncated answer).
    pub transport: &'static str,
    /// The response code and the number of records, or the error.
    pub result: String,
}

/// One record and what was said of it.
#[derive(Clone, Debug, Serialize)]
pub struct Examined {
    /// What it would be a match for.
    #[serde(rename = "match")]
    pub matched: Match,
    /// Certificate usage.
    pub usage: u8,
    /// Selector.
    pub selector: u8,
    /// Matching type.
    pub matching: u8,
    /// SHA-256 of the certificate in hex, when the record carries one.
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
    /// The reader's complaint about something that is no certificate.
    pub complaint: Option<String>,
    /// True for *the* certificate of the verdict.
    pub chosen: bool,
    #[serde(skip)]
    pub(crate) sha256_octets: Option<[u8; 32]>,
}

impl Examined {
    pub(crate) fn new(candidate: &Candidate, matched: Match, code: &'static str) -> Self {
        let read = candidate.certificate.as_ref();
        let certificate = read.and_then(|r| r.as_ref().ok());
        Examined {
            matched,
            usage: candidate.usage,
            selector: candidate.selector,
            matching: candidate.matching,
            sha256: certificate.map(|c| data_encoding::HEXLOWER.encode(c.sha256())),
            subject: certificate.map(|c| c.subject().to_owned()),
            issuer: certificate.map(|c| c.issuer().to_owned()),
            serial: certificate.map(|c| c.serial_hex().to_owned()),
            not_before: certificate.map(|c| c.not_before()),
            not_after: certificate.map(|c| c.not_after()),
            code,
            complaint: read.and_then(|r| r.as_ref().err().cloned()),
            chosen: false,
            sha256_octets: certificate.map(|c| *c.sha256()),
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
            writeln!(f, "asked for the {level}: {} {}", q.name, q.record_type)?;
            let (dnssec, outcome) = (q.dnssec.code(), a.outcome);
            writeln!(f, "  {outcome}, {dnssec}: {}", q.message)?;
            let from = if a.cached { "from the cache, learned" } else { "learned" };
            writeln!(f, "  {from} {}, good until {}", Calendar::of(q.asked_at), Calendar::of(a.until))?;
            for alias in &q.aliases {
                writeln!(f, "  led to {alias}")?;
            }
            for x in &q.exchanges {
                writeln!(f, "  {} ({}) {}: {}", x.server, x.transport, x.question, x.result)?;
            }
        }
        for c in &self.candidates {
            let chosen = if c.chosen { ", chosen" } else { "" };
            let (u, s, m, of) = (c.usage, c.selector, c.matching, c.matched.code());
            write!(f, "record {u} {s} {m} of the {of}: {}{chosen}", c.code)?;
            if let Some(complaint) = &c.complaint {
                write!(f, " ({complaint})")?;
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
        writeln!(f, "look again at {}", Calendar::of(self.look_again))
    }
}
