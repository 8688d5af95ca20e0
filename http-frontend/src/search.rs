//! `/search.cgi`: the certificate store of RFC 4387. [`Search`] is what a query asks for.
//!
//! The hashes find certificates and prove nothing; what is visible the published set decides.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use certdir_directory::search::{Hashed, Sha1};
use certdir_directory::{Address, DomainName, Entry, Published, UnixTime, Visible};
use data_encoding::{BASE64_NOPAD, HEXLOWER};

use crate::look_up::{MAX_AGE, unchanged};
use crate::problem::Problem;
use crate::site::{Peer, Site};

/// The most certificates of one answer; an issuer's hash must not list the directory.
const MAX_MATCHES: usize = 64;

/// Characters of a SHA-1 hash in base64 without padding (RFC 4387 section 2.1).
const HASH_CHARACTERS: usize = 27;

/// What a query asks for (RFC 4387 section 2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// `uri`, `email`: a mail address, or a domain.
    Uri(String),
    /// `name`: the subject's common name.
    Name(String),
    /// The hash of something.
    Hash(Hashed, Sha1),
}

/// The attributes; `email` is what clients use for `uri`.
const ATTRIBUTES: [(&str, Option<Hashed>); 8] = [
    ("certHash", Some(Hashed::Certificate)),
    ("uri", None),
    ("email", None),
    ("iHash", Some(Hashed::Issuer)),
    ("iAndSHash", Some(Hashed::IssuerAndSerial)),
    ("name", None),
    ("sHash", Some(Hashed::Subject)),
    ("sKIDHash", Some(Hashed::SubjectKeyId)),
];

impl Search {
    /// Reads the query of a URI. Errors: a sentence that says what is wrong, for whoever wrote it.
    pub fn read(query: &str) -> Result<Search, String> {
        let mut found = None;
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decoded(key, false).unwrap_or_default();
            // Unknown ones are ignored: there may be attributes of other kinds of store, or of extensions.
            let Some((attribute, hashed)) = ATTRIBUTES.into_iter().find(|(name, _)| *name == key) else { continue };
            if found.replace((attribute, hashed, value)).is_some() {
                return Err("more than one attribute to search by is given".into());
            }
        }
        let Some((attribute, hashed, value)) = found else {
            return Err(format!("give one of {}", ATTRIBUTES.map(|(name, _)| name).join(", ")));
        };
        // In base64 and in mail addresses a plus sign is one, however it came into the URI; else it is a space.
        let value = decoded(value, attribute == "name")
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("the value of {attribute} is empty, or not percent-encoded UTF-8"))?;
        let Some(hashed) = hashed else {
            return Ok(if attribute == "name" { Search::Name(value) } else { Search::Uri(value) });
        };
        // Section 2.1: anything but the alphabet is rejected, padding too.
        let octets = Some(&value).filter(|value| value.len() == HASH_CHARACTERS);
        let octets = octets.and_then(|value| BASE64_NOPAD.decode(value.as_bytes()).ok());
        match octets.map(Sha1::try_from) {
            Some(Ok(hash)) => Ok(Search::Hash(hashed, hash)),
            _ => Err(format!(
                "{attribute} is a SHA-1 hash in base64 without padding: {HASH_CHARACTERS} of a-z, A-Z, 0-9, + and /"
            )),
        }
    }
}

/// Percent-decoded text.
fn decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? << 4 | digit(rest.next()?)?
            }
            b'+' if plus_is_space => b' ',
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

/// `GET /search.cgi`
pub(crate) async fn search(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let now = site.now();
    site.permit_look_up(peer, &headers, now).await?;
    let search =
        Search::read(uri.query().unwrap_or_default()).map_err(|detail| Problem::bad_request("bad-search", detail))?;
    let candidates = match &search {
        Search::Hash(hashed, hash) => Some(site.store.find_by_hash(*hashed, hash).await?.ok_or_else(too_many_matches)?),
        Search::Uri(_) | Search::Name(_) => None,
    };
    let published = site.reader.published()?;
    let mut found = match (&search, candidates) {
        (Search::Hash(hashed, hash), Some(digests)) => by_digest(&published, &digests, *hashed, hash, now),
        (Search::Name(name), _) => by_name(&published, name, now),
        (Search::Uri(text), _) => by_uri(&published, text, now),
        (Search::Hash(..), None) => Vec::new(),
    };
    found.sort_by_key(|visible| (Reverse(visible.not_before), visible.sha256));
    found.dedup_by_key(|visible| visible.sha256);
    if found.len() > MAX_MATCHES {
        return Err(too_many_matches());
    }
    if found.is_empty() {
        let detail = "no certificate is published that matches; values match exactly, with their case";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not-published", detail));
    }
    Ok(represent(&headers, &published, &found, now))
}

fn too_many_matches() -> Problem {
    let detail = format!("more than {MAX_MATCHES} certificates match; search by something that is rarer");
    Problem::new(StatusCode::FORBIDDEN, "too-many-matches", detail)
}

/// What an entry shows now, also the CA certificates of a domain: whoever builds a chain looks for them here.
fn shown(entry: &Entry, now: UnixTime) -> impl Iterator<Item = &Visible> {
    entry.visible(now).chain(entry.authorities(now))
}

fn by_digest(published: &Published, digests: &[[u8; 32]], hashed: Hashed, hash: &Sha1, now: UnixTime) -> Vec<Visible> {
    let visible = |digest| {
        let mut all = published.entries_of(digest).flat_map(|entry| shown(entry, now));
        all.find(|visible| visible.sha256 == *digest)
    };
    // The index has only the beginning of each hash.
    let matches = |visible: &&Visible| {
        visible.certificate().is_ok_and(|certificate| hashed.of(&certificate).as_ref() == Some(hash))
    };
    digests.iter().filter_map(visible).filter(matches).cloned().collect()
}

fn by_name(published: &Published, name: &str, now: UnixTime) -> Vec<Visible> {
    let entries = published.entries_by(certdir_directory::Attribute::Cn, name);
    // One more than are answered suffices to say that there are too many.
    let certificates = entries.flat_map(|entry| entry.visible(now).cloned().collect::<Vec<_>>());
    certificates.filter(|visible| visible.common_name.as_deref() == Some(name)).take(MAX_MATCHES * 2).collect()
}

/// The certificates of a mailbox as it is written, or of a domain.
fn by_uri(published: &Published, text: &str, now: UnixTime) -> Vec<Visible> {
    let entry = match Address::parse(text) {
        Ok(address) => {
            let exact = |entry: &&Arc<Entry>| {
                let lower = published.domain(address.domain()).is_some_and(|domain| domain.settings.lower_case);
                entry.spellings().contains(&address) || (lower && entry.address == address)
            };
            published.entry(&address).filter(exact)
        }
        Err(_) => {
            let domain = DomainName::parse(text).ok();
            domain.and_then(|domain| published.entry(&Address::domain_authority(&domain)))
        }
    };
    entry.into_iter().flat_map(|entry| entry.visible(now)).cloned().collect()
}

/// One certificate as it is, several as multipart/mixed (RFC 4387 section 2.4). No coding of any kind, and a length.
fn represent(request: &HeaderMap, published: &Published, found: &[Visible], now: UnixTime) -> Response {
    // No certificate can hold what depends on its own digest: this is a boundary, and a strong entity tag.
    let mut identity = [0_u8; 16];
    for visible in found {
        for (octet, of_digest) in identity.iter_mut().zip(visible.sha256) {
            *octet ^= of_digest;
        }
    }
    let identity = HEXLOWER.encode(&identity);
    let tag = format!("\"{identity}\"");
    let unchanged = unchanged(request, &tag);
    let (media_type, body) = match found {
        [one] => ("application/pkix-cert".to_owned(), one.der().to_vec()),
        several => {
            let mut body = Vec::new();
            for visible in several {
                body.extend_from_slice(
                    format!("--{identity}\r\nContent-Type: application/pkix-cert\r\n\r\n").as_bytes(),
                );
                body.extend_from_slice(visible.der());
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(format!("--{identity}--\r\n").as_bytes());
            (format!("multipart/mixed; boundary={identity}"), body)
        }
    };
    let mut response = if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { body.into_response() };
    let headers = response.headers_mut();
    let age = found.iter().map(|visible| visible.not_after.saturating_add(1) - now).min().unwrap_or(0).min(MAX_AGE);
    let fields = [(header::ETAG, tag), (header::CACHE_CONTROL, format!("public, max-age={age}"))];
    for (name, value) in fields.into_iter().chain((!unchanged).then_some((header::CONTENT_TYPE, media_type))) {
        // Digits, letters and punctuation are always a header value.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers.insert("certdir-version", HeaderValue::from(published.version()));
    if unchanged {
        headers.remove(header::CONTENT_LENGTH);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(Search::read(&format!("certHash={hash}")), Ok(Search::Hash(Hashed::Certificate, [0; 20])));
        let plus = Search::Hash(Hashed::SubjectKeyId, [0xfb; 20]);
        assert!(Search::read("sKIDHash=%2b%2Fv7+/v7%2Bvv7+/v7+/v7+/v7+/s").is_ok());
        assert_ne!(Search::read(&format!("sKIDHash={hash}")), Ok(plus));
        assert_eq!(Search::read("email=a+b@example.org"), Ok(Search::Uri("a+b@example.org".into())));
        assert_eq!(Search::read("x=1&uri=a%2Bb@example.org&y"), Ok(Search::Uri("a+b@example.org".into())));
        assert_eq!(Search::read("name=Alice+Example%20X"), Ok(Search::Name("Alice Example X".into())));
        for (query, says) in [
            ("", "give one of certHash"),
            ("x=1", "give one of"),
            ("CertHash=x", "give one of"),
            ("email=a@example.org&email=b@example.org", "more than one"),
            ("email=a@example.org&name=x", "more than one"),
            ("email=", "is empty"),
            ("email", "is empty"),
            ("email=%zz", "percent-encoded"),
            ("email=%e", "percent-encoded"),
            ("name=%ff", "percent-encoded"),
            ("certHash=AAAAAAAAAAAAAAAAAAAAAAAAAAA%3D", "without padding"),
            ("certHash=AAAAAAAAAAAAAAAAAAAAAAAAAA", "without padding"),
            ("certHash=AAAAAAAAAAAAAAAAAAAAAAAAAAB", "without padding"),
            ("certHash=AAAAAAAAAAAAAAAAAAAAAAAA%20AA", "without padding"),
            ("certHash=AAAAAAAAAAAAAAAAAAAAAAAAA-A", "without padding"),
            ("certHash=AAAAAAAAAAAAAAAAAAAAAAAAA_A", "without padding"),
        ] {
            let refusal = Search::read(query).unwrap_err();
            assert!(refusal.contains(says), "{query}: {refusal}");
        }
    }
}
