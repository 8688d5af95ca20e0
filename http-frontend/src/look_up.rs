//! Look-ups: [`find`], which decides what an address gets at one [`Published`], and the routes of programs,
//! `/v1/addresses/{address}` and `/v1/certificates/{sha256}`. The page shows the same [`Hit`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use certdir_directory::{Address, Entry, Published, UnixTime, Version, Visible};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Serialize;

use crate::json::{self, Facts, time_text};
use crate::negotiate::Format;
use crate::problem::Problem;
use crate::query::{Query, Segment};
use crate::site::{Peer, Site};

/// Seconds for which an answer may be reused: a reissue is seen after this, and a busy page costs one look-up in it.
pub(crate) const MAX_AGE: UnixTime = 60;

/// Whose certificate an answer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Match {
    /// The address's own.
    Recipient,
    /// The one of its domain (RFC 3183), because the address has none of its own.
    Domain,
}

impl Match {
    fn name(self) -> &'static str {
        match self {
            Match::Recipient => "recipient",
            Match::Domain => "domain",
        }
    }
}

/// What was found for an address: at least one certificate.
pub(crate) struct Hit {
    pub(crate) asked: Address,
    pub(crate) matched: Match,
    pub(crate) entry: Arc<Entry>,
    /// Valid now, newest first.
    pub(crate) certificates: Vec<Visible>,
    /// The CA certificates that the domain publishes for its people; only with the domain's own entry.
    pub(crate) authorities: Vec<Visible>,
}

/// The certificates to encrypt to for an address: its own, else its domain's. One pinned set, one time, no I/O.
pub(crate) fn find(published: &Published, asked: &Address, now: UnixTime) -> Result<Hit, Problem> {
    if published.domain(asked.domain()).is_none() {
        // Not 421: that status is about the authority of the request's URI (RFC 9110 section 15.5.20), and the
        // authority is right. `code` keeps "cannot say" apart from "has none".
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "domain-not-hosted",
            format!(
                "{} is not a domain of this directory; it cannot say whether there is a certificate",
                asked.domain()
            ),
        ));
    }
    let domain = Address::domain_authority(asked.domain());
    for address in [asked, &domain] {
        let Some(entry) = published.entry(address) else { continue };
        let certificates: Vec<_> = entry.visible(now).cloned().collect();
        let authorities: Vec<_> = entry.authorities(now).cloned().collect();
        // A domain that publishes only its CA is shown when it is asked for itself, not instead of a person.
        if certificates.is_empty() && (authorities.is_empty() || !asked.is_domain_authority()) {
            continue;
        }
        let matched = if entry.is_domain_authority() { Match::Domain } else { Match::Recipient };
        return Ok(Hit { asked: asked.clone(), matched, entry: entry.clone(), certificates, authorities });
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "not-published", format!("no certificate is published for {asked}")))
}

/// An address as a stranger wrote it.
pub(crate) fn parse_address(text: &str) -> Result<Address, Problem> {
    Address::parse(text)
        .map_err(|error| Problem::bad_request("bad-address", format!("this is not a mail address: {error}")))
}

#[derive(Serialize)]
struct AddressDocument {
    address: String,
    r#match: Match,
    entry: String,
    version: Version,
    changed_at: String,
    certificates: Vec<Facts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorities: Vec<Facts>,
}

/// `GET /v1/addresses/{address}`
pub(crate) async fn address(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Segment(text): Segment,
    query: Query,
) -> Result<Response, Problem> {
    let now = site.now();
    site.permit_look_up(peer, &headers, now).await?;
    let format = Format::choose(query.one("format")?, &headers)?;
    let asked = parse_address(&text)?;
    let published = site.reader.published()?;
    let hit = find(&published, &asked, now)?;
    let body = match format {
        Format::Json => json::text(&AddressDocument {
            address: hit.asked.to_string(),
            r#match: hit.matched,
            entry: hit.entry.address.to_string(),
            version: hit.entry.version,
            changed_at: time_text(hit.entry.changed_at),
            certificates: facts(&hit.certificates)?,
            authorities: facts(&hit.authorities)?,
        })
        .into_bytes(),
        Format::Pem => pem(&hit.certificates),
        // application/pkix-cert holds exactly one certificate (RFC 2585 section 4.1): the newest.
        Format::Der => newest(&hit.certificates)?.der().to_vec(),
    };
    if format == Format::Pem && body.is_empty() {
        return Err(no_recipient_certificate());
    }
    let mut response = represent(&headers, &published, &hit.entry, format, body, now);
    response.headers_mut().insert("certdir-match", HeaderValue::from_static(hit.matched.name()));
    Ok(response)
}

#[derive(Serialize)]
struct CertificateDocument {
    entry: String,
    version: Version,
    changed_at: String,
    /// A CA certificate of the domain, for trust, not for encryption.
    authority: bool,
    certificate: Facts,
}

/// `GET /v1/certificates/{sha256}`: one published certificate, by the SHA-256 of its DER in hex.
pub(crate) async fn certificate(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Segment(text): Segment,
    query: Query,
) -> Result<Response, Problem> {
    let now = site.now();
    site.permit_look_up(peer, &headers, now).await?;
    let format = Format::choose(query.one("format")?, &headers)?;
    let sha256 = parse_sha256(&text)?;
    let published = site.reader.published()?;
    // Several mailboxes may share a certificate; always the same one speaks for it.
    let shown = published.entries_of(&sha256).min_by(|a, b| a.address.cmp(&b.address)).and_then(|entry| {
        let authority = entry.authorities(now).any(|visible| visible.sha256 == sha256);
        let visible = entry.visible(now).chain(entry.authorities(now)).find(|visible| visible.sha256 == sha256);
        visible.map(|visible| (entry, visible, authority))
    });
    let Some((entry, visible, authority)) = shown else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not-published",
            "no certificate of this fingerprint is published",
        ));
    };
    let body = match format {
        Format::Json => json::text(&CertificateDocument {
            entry: entry.address.to_string(),
            version: entry.version,
            changed_at: time_text(entry.changed_at),
            authority,
            certificate: Facts::read(visible)?,
        })
        .into_bytes(),
        Format::Pem => certdir_certificate::pem_encode(visible.der()).into_bytes(),
        Format::Der => visible.der().to_vec(),
    };
    Ok(represent(&headers, &published, entry, format, body, now))
}

/// 64 hexadecimal digits of either case; colons, as `openssl x509 -fingerprint` writes them, are tolerated.
pub(crate) fn parse_sha256(text: &str) -> Result<[u8; 32], Problem> {
    let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b':').collect();
    HEXLOWER_PERMISSIVE.decode(&digits).ok().and_then(|octets| octets.try_into().ok()).ok_or_else(|| {
        Problem::bad_request("bad-fingerprint", "a fingerprint is the SHA-256 of the DER in 64 hexadecimal digits")
    })
}

pub(crate) fn facts(certificates: &[Visible]) -> Result<Vec<Facts>, Problem> {
    certificates.iter().map(Facts::read).collect()
}

fn pem(certificates: &[Visible]) -> Vec<u8> {
    certificates.iter().map(|visible| certdir_certificate::pem_encode(visible.der())).collect::<String>().into_bytes()
}

fn newest(certificates: &[Visible]) -> Result<&Visible, Problem> {
    certificates.first().ok_or_else(no_recipient_certificate)
}

fn no_recipient_certificate() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-published",
        "only CA certificates are published here, none to encrypt to; ask for JSON",
    )
}

/// The answer with its validators, or 304 where the client has it already.
fn represent(
    request: &HeaderMap,
    published: &Published,
    entry: &Entry,
    format: Format,
    body: Vec<u8>,
    now: UnixTime,
) -> Response {
    let (tag, max_age) = validators(entry, now);
    let unchanged = unchanged(request, &tag);
    let mut response = if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { body.into_response() };
    let headers = response.headers_mut();
    // Digits, dots and quotes are always a header value.
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    if let Ok(value) = HeaderValue::try_from(format!("public, max-age={max_age}")) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    headers.insert("certdir-version", HeaderValue::from(published.version()));
    if unchanged {
        headers.remove(header::CONTENT_TYPE);
        return response;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    let extension = match format {
        Format::Json => return response,
        Format::Pem => "pem",
        Format::Der => "cer",
    };
    if let Ok(value) =
        HeaderValue::try_from(format!("attachment; filename=\"{}.{extension}\"", file_name(&entry.address)))
    {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// Whether the client has what a tag stands for already.
pub(crate) fn unchanged(request: &HeaderMap, tag: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // Weak comparison (RFC 9110 section 13.1.2).
        .any(|given| given == "*" || given.trim_start_matches("W/") == tag.trim_start_matches("W/"))
}

/// The entity tag of an entry, and the seconds for which an answer may be reused.
///
/// The tag is the entry's Version; weak, because JSON, PEM and DER share it (RFC 9110 section 8.8.1). Between two
/// Versions only the beginning and the end of a validity change an answer: then the tag also holds that time.
fn validators(entry: &Entry, now: UnixTime) -> (String, UnixTime) {
    let bounds = || entry.certificates.iter().flat_map(|c| [c.not_before, c.not_after.saturating_add(1)]);
    let tag = match bounds().filter(|bound| entry.changed_at < *bound && *bound <= now).max() {
        None => format!("W/\"{}\"", entry.version),
        Some(bound) => format!("W/\"{}.{bound}\"", entry.version),
    };
    let next = bounds().filter(|bound| *bound > now).min().map_or(MAX_AGE, |bound| bound - now);
    (tag, next.min(MAX_AGE))
}

/// An address as a file name that needs no quoting anywhere.
fn file_name(address: &Address) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "@._-+".contains(c) { c } else { '_' };
    address.to_string().chars().map(safe).collect()
}
