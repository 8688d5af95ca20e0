//! HTTP as a source: a certdir's own API, certificate stores of RFC 4387 ([`Store`]), and the stores that mail domains
//! announce by `_certificates._tcp` SRV records ([`AnnouncedStores`]).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certdir_certificate::{Certificate, UnixTime};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use crate::error::Error;
use crate::http::{Call, Http, Patience, Response, shown};
use crate::multipart;
use crate::outcome::{Candidate, Claim, Failure, Match, Outcome};
use crate::reach::{Ports, Reach};
use crate::resolver::FAILURE_LIFE;
use crate::source::{Answer, Asking, Level, Source, Subject};
use crate::srv::Announcements;
use crate::tls::Tls;
use crate::trace::{Dnssec, Exchange, Question};

/// Octets of one answer.
const MAX_ANSWER: usize = 1 << 20;

/// Certificates of one answer that are looked at.
const MAX_CANDIDATES: usize = crate::resolver::MAX_CANDIDATES + 1;

/// Seconds for which an answer is believed: what it says itself, within these; the middle when it says nothing.
const LIFE: (UnixTime, UnixTime, UnixTime) = (30, 300, 3_600);

/// Answers kept for asking whether they have changed, and their octets.
const KEPT: (usize, usize) = (1_024, 8 << 20);

/// Which questions a server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `GET /v1/addresses/{address}`: a certdir.
    Certdir,
    /// `GET …?email={address}` (RFC 4387).
    Store,
}

/// What a [`Store`] is.
#[derive(Clone)]
pub struct Settings {
    /// Where: the origin of a certdir, or the whole URL of a store, to which `?email=` is added.
    pub url: String,
    /// Which questions it understands.
    pub dialect: Dialect,
    /// Whom an `https` server must prove to be.
    pub tls: Tls,
    /// A token of a certdir, so that look-ups are not limited. It is never shown.
    pub token: Option<String>,
    /// How long one look-up may take (5 seconds).
    pub timeout: Duration,
    /// Believes a server that does not prove who it is when it says that there is no certificate. Loopback is always
    /// believed.
    pub believe_absence: bool,
}

impl Settings {
    /// A server at a URL, by the public certification authorities.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(dialect: Dialect, url: &str) -> Result<Settings, Error> {
        Ok(Settings {
            url: url.to_owned(),
            dialect,
            tls: Tls::public()?,
            token: None,
            timeout: Duration::from_secs(5),
            believe_absence: false,
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Settings");
        shown.field("url", &self.url).field("dialect", &self.dialect).field("tls", &self.tls);
        shown.field("timeout", &self.timeout).field("believe_absence", &self.believe_absence).finish_non_exhaustive()
    }
}

/// A configured HTTP server.
pub struct Store {
    label: String,
    url: Url,
    settings: Settings,
    token: Option<HeaderValue>,
    http: Http,
    kept: Mutex<HashMap<Url, Kept>>,
}

/// An answer that a server may confirm.
#[derive(Clone)]
struct Kept {
    tag: HeaderValue,
    answer: Response,
}

/// What one request gave.
struct Told {
    outcome: Outcome,
    life: UnixTime,
}

fn patience(timeout: Duration) -> Patience {
    Patience { connect: timeout, idle: timeout, total: timeout }
}

impl Store {
    /// A server. Connects when it is asked.
    ///
    /// # Errors
    /// When the URL is none of http or https, or the token cannot be sent.
    pub fn new(settings: Settings) -> Result<Store, Error> {
        let bad = |why: &str| Error::BadSource(format!("{}: {why}", settings.url));
        let url = Url::parse(&settings.url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(bad("expected http:// or https:// and no user name"));
        }
        let token = match &settings.token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| bad("not a token"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let kind = if settings.dialect == Dialect::Certdir { "certdir" } else { "store" };
        let label = format!("{kind}:{}", shown(&url));
        let http = Http::new(settings.tls.clone(), Reach::everywhere(), Ports::Web, patience(settings.timeout));
        Ok(Store { label, url, settings, token, http, kept: Mutex::default() })
    }

    async fn ask(&self, url: &Url, subject: &Subject, exchanges: &mut Vec<Exchange>) -> Result<Told, Failure> {
        let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned();
        if let Some(kept) = &kept {
            fields.push((IF_NONE_MATCH, kept.tag.clone()));
        }
        if let Some(token) = &self.token {
            fields.push((AUTHORIZATION, token.clone()));
        }
        let response = self.request(url, fields, exchanges).await?;
        let response = match kept {
            // The body is that of before, who says so is the server of now.
            Some(kept) if response.head.status == 304 => {
                let mut head = response.head;
                head.status = kept.answer.head.status;
                // 304 repeats the fields that matter for caching, not the media type (RFC 9110 section 15.4.5).
                for (name, value) in &kept.answer.head.fields {
                    head.fields.entry(name).or_insert_with(|| value.clone());
                }
                Response { head, body: kept.answer.body }
            }
            _ => response,
        };
        self.keep(url, &response);
        let loopback = response.head.server.ip().to_canonical().is_loopback();
        let believed = response.head.secure || loopback || self.settings.believe_absence;
        conclude(&response, self.settings.dialect, subject.level, believed)
    }

    async fn request(
        &self,
        url: &Url,
        fields: Vec<(HeaderName, HeaderValue)>,
        exchanges: &mut Vec<Exchange>,
    ) -> Result<Response, Failure> {
        let accept = accepted(self.settings.dialect);
        let result = self.http.request(Call { fields, ..Call::get(url.clone(), accept) }, MAX_ANSWER).await;
        exchanges.push(exchange(url, &result));
        result
    }

    fn keep(&self, url: &Url, response: &Response) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match response.head.fields.get(ETAG) {
            Some(tag) if response.head.status == 200 => {
                let octets: usize = kept.values().map(|kept| weight(&kept.answer)).sum();
                if kept.len() >= KEPT.0 || octets >= KEPT.1 {
                    kept.clear();
                }
                kept.insert(url.clone(), Kept { tag: tag.clone(), answer: response.clone() });
            }
            _ => {
                kept.remove(url);
            }
        }
    }
}

/// What an answer takes in memory, about: the URL, the fields and the body.
fn weight(answer: &Response) -> usize {
    let Response { head, body } = answer;
    let fields: usize = head.fields.iter().map(|(name, value)| 64 + name.as_str().len() + value.len()).sum();
    512 + 2 * head.url.as_str().len() + fields + body.len()
}

impl Source for Store {
    fn label(&self) -> &str {
        &self.label
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        Box::pin(async move {
            let mut exchanges = Vec::new();
            let url = question(&self.url, self.settings.dialect, &subject.mailbox().to_string());
            let result = timeout(self.settings.timeout, self.ask(&url, subject, &mut exchanges)).await;
            let late = |_| Failure::new("timeout", format!("{} did not answer in time", shown(&url)));
            let told = result.map_err(late).and_then(|result| result);
            answer(&self.label, shown(&url), None, exchanges, told, now)
        })
    }
}

fn accepted(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Certdir => "application/x-pem-file",
        Dialect::Store => "application/pkix-cert, multipart/mixed",
    }
}

/// The URL that asks about a mailbox.
fn question(at: &Url, dialect: Dialect, mailbox: &str) -> Url {
    let mut url = at.clone();
    match dialect {
        Dialect::Certdir => {
            if let Ok(mut path) = url.path_segments_mut() {
                path.pop_if_empty().extend(["v1", "addresses", mailbox]);
            }
        }
        Dialect::Store => {
            url.query_pairs_mut().append_pair("email", mailbox);
        }
    }
    url
}

fn exchange(url: &Url, result: &Result<Response, Failure>) -> Exchange {
    let (server, secure, said) = match result {
        Ok(Response { head, body }) => {
            let said = format!("{}, {} octets", head.status.as_u16(), body.len());
            (head.server.to_string(), head.secure, said)
        }
        Err(failure) => {
            (url.host_str().unwrap_or_default().to_owned(), url.scheme() == "https", failure.message.clone())
        }
    };
    Exchange {
        question: format!("GET {}", shown(url)),
        server,
        transport: if secure { "https" } else { "http" },
        result: said,
        extended_errors: Vec::new(),
    }
}

fn answer(
    source: &str,
    name: String,
    dnssec: Option<Dnssec>,
    exchanges: Vec<Exchange>,
    told: Result<Told, Failure>,
    now: UnixTime,
) -> Answer {
    let (outcome, life) = match told {
        Ok(told) => (told.outcome, told.life),
        Err(failure) => (Outcome::Error(failure), FAILURE_LIFE),
    };
    let message = match &outcome {
        Outcome::Found(candidates) => format!("{} certificates", candidates.len()),
        Outcome::ProvenNone { .. } => "none".to_owned(),
        Outcome::NotServed { reason } => reason.clone(),
        Outcome::Error(failure) => failure.message.clone(),
    };
    let (aliases, kind) = (Vec::new(), "GET");
    let question = Question { source: source.into(), name, kind, dnssec, message, asked_at: now, aliases, exchanges };
    Answer { outcome, until: now.saturating_add(life), question: Arc::new(question) }
}

/// The part of a problem document (RFC 9457) that tells a certdir's 404s apart.
#[derive(Deserialize)]
struct Problem {
    code: String,
}

/// What a response means. Everything that is not a plain yes or no is an error.
fn conclude(response: &Response, dialect: Dialect, level: Level, believed: bool) -> Result<Told, Failure> {
    let Response { head, body } = response;
    let name = shown(&head.url);
    let life = head.field(CACHE_CONTROL).and_then(max_age).map_or(LIFE.1, |age| age.clamp(LIFE.0, LIFE.2));
    let absent = |reason: String| {
        if believed {
            return Ok(Told { outcome: Outcome::NotServed { reason }, life });
        }
        let message = format!("{reason}, but the server does not prove that it is the one");
        Err(Failure::new("not-authenticated", message))
    };
    match (head.status.as_u16(), dialect) {
        (200, _) => {}
        (404, Dialect::Store) => return absent(format!("{name} has no such certificate")),
        (404, Dialect::Certdir) => {
            // Any other 404 is not a certdir's answer.
            let code = serde_json::from_slice(body).map(|problem: Problem| problem.code).unwrap_or_default();
            return match code.as_str() {
                "not-published" => absent(format!("{name} publishes no certificate")),
                "domain-not-hosted" => absent(format!("{name} does not host the domain")),
                _ => Err(Failure::new("http-status", format!("{name}: 404, and not from a certdir"))),
            };
        }
        (429 | 503, _) => return Err(Failure::new("busy", format!("{name}: status {}", head.status.as_u16()))),
        (status, _) => return Err(Failure::new("http-status", format!("{name}: status {status}"))),
    }
    let malformed = |why: &str| Failure::new("malformed", format!("{name}: {why}"));
    let matched = match (level, head.field(HeaderName::from_static("certdir-match"))) {
        // The directory fell back to the domain's certificate: that is for the domain's turn, by our own policy.
        (Level::Recipient, Some("domain")) => return absent(format!("{name} publishes the domain's certificate only")),
        (Level::Recipient, _) => Match::Recipient,
        (Level::Domain, _) => Match::Domain,
    };
    let media_type = head.field(CONTENT_TYPE).unwrap_or_default();
    let candidates: Vec<Candidate> = match (dialect, media_type.split(';').next().unwrap_or_default().trim()) {
        (Dialect::Certdir, _) => {
            let all = Certificate::read_all(body).map_err(|error| malformed(&error.to_string()))?;
            let read = |certificate| {
                let certificate = Some(Ok(Arc::new(certificate)));
                Candidate { claim: Claim::Bare, matched, certificate }
            };
            all.into_iter().take(MAX_CANDIDATES).map(read).collect()
        }
        (Dialect::Store, kind) if kind.eq_ignore_ascii_case("multipart/mixed") => {
            let parts = multipart::parts(media_type, body).map_err(malformed)?;
            parts.into_iter().map(|der| Candidate::from_der(der, Claim::Bare, matched)).collect()
        }
        (Dialect::Store, _) if body.first() == Some(&0x30) => vec![Candidate::from_der(body, Claim::Bare, matched)],
        (Dialect::Store, kind) => return Err(malformed(&format!("{kind:?} is no certificate"))),
    };
    if candidates.is_empty() {
        return Err(malformed("an answer without a certificate"));
    }
    Ok(Told { outcome: Outcome::Found(candidates.into()), life })
}

/// `max-age` of a Cache-Control field (RFC 9111 section 5.2.2.1); `no-store` and `no-cache` are 0.
fn max_age(field: &str) -> Option<UnixTime> {
    let directives = || field.split(',').map(str::trim);
    if directives().any(|directive| matches!(directive, "no-store" | "no-cache")) {
        return Some(0);
    }
    directives().find_map(|directive| directive.strip_prefix("max-age=")?.parse().ok())
}

/// How [`AnnouncedStores`] are asked.
#[derive(Clone, Debug)]
pub struct AnnouncedSettings {
    /// Where connections may go.
    pub reach: Reach,
    /// Whom a server on port 443 must prove to be.
    pub tls: Tls,
    /// How long one look-up may take, SRV records included (5 seconds).
    pub timeout: Duration,
    /// Believes a server that does not prove who it is, or whom nothing proves to be the domain's, when it says that there
    /// is no certificate.
    pub believe_absence: bool,
}

impl AnnouncedSettings {
    /// Public addresses only, and nothing believed that is not proven.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<AnnouncedSettings, Error> {
        let (reach, tls) = (Reach::public(), Tls::public()?);
        Ok(AnnouncedSettings { reach, tls, timeout: Duration::from_secs(5), believe_absence: false })
    }
}

/// Stores that mail domains announce.
pub struct AnnouncedStores {
    announcements: Arc<dyn Announcements>,
    settings: AnnouncedSettings,
    http: Http,
}

impl AnnouncedStores {
    /// Stores that these announcements name.
    pub fn new(announcements: Arc<dyn Announcements>, settings: AnnouncedSettings) -> AnnouncedStores {
        let AnnouncedSettings { tls, reach, .. } = settings.clone();
        let http = Http::new(tls, reach, Ports::Announced, patience(settings.timeout));
        AnnouncedStores { announcements, settings, http }
    }

    async fn ask(
        &self,
        subject: &Subject,
        now: UnixTime,
        dnssec: &mut Option<Dnssec>,
        exchanges: &mut Vec<Exchange>,
    ) -> Result<Told, Failure> {
        let name = format!("_certificates._tcp.{}", subject.address.domain().as_str());
        let announced = self.announcements.announced(&name, now).await?;
        exchanges.extend(announced.exchanges.iter().cloned());
        *dnssec = Some(if announced.secure { Dnssec::Secure } else { Dnssec::Insecure });
        let life = announced.until.saturating_sub(now);
        let not_served = |reason| Ok(Told { outcome: Outcome::NotServed { reason }, life });
        let targets = announced.in_order();
        if targets.is_empty() {
            return not_served(format!("{name} announces no store"));
        }
        let (mut forbidden, count) = (0, targets.len());
        let share = self.settings.timeout.saturating_mul(2) / (u32::try_from(count).unwrap_or(1) + 1);
        let mut last = Failure::new("network", "no server");
        for target in targets {
            let scheme = if target.port == 443 { "https" } else { "http" };
            // The path of the well-known name (RFC 4387 section 3.3).
            let url = format!("{scheme}://{}:{}/search.cgi", target.host, target.port);
            let Ok(url) = Url::parse(&url) else {
                last = Failure::new("bad-url", url);
                continue;
            };
            let url = question(&url, Dialect::Store, &subject.mailbox().to_string());
            let call = Call::get(url.clone(), accepted(Dialect::Store));
            let late = |_| Failure::new("timeout", format!("{} did not answer in time", shown(&url)));
            let result = timeout(share, self.http.request(call, MAX_ANSWER)).await.map_err(late).and_then(|r| r);
            exchanges.push(exchange(&url, &result));
            let told = result.and_then(|response| {
                let proven = announced.secure && response.head.secure;
                conclude(&response, Dialect::Store, subject.level, proven || self.settings.believe_absence)
            });
            match told {
                Ok(told) => return Ok(Told { life: told.life.min(life), ..told }),
                Err(failure) => {
                    forbidden += usize::from(failure.code == "forbidden-address");
                    last = failure;
                }
            }
        }
        if forbidden == count && !announced.secure {
            return not_served(format!("{name} announces only servers that may not be connected to"));
        }
        Err(last)
    }
}

impl Source for AnnouncedStores {
    fn label(&self) -> &str {
        "_certificates._tcp"
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        Box::pin(async move {
            let (mut dnssec, mut exchanges) = (None, Vec::new());
            let asked = timeout(self.settings.timeout, self.ask(subject, now, &mut dnssec, &mut exchanges)).await;
            let late = |_| Failure::new("timeout", "the announced store did not answer in time");
            let told = asked.map_err(late).and_then(|told| told);
            answer(self.label(), subject.mailbox().to_string(), dnssec, exchanges, told, now)
        })
    }
}
