//! Changes and lists for those who hold a token: certificates, domains, tokens.
//!
//! Each route authenticates before it looks at anything else. A change that has begun is finished even when its client
//! goes away, and is answered when this process shows it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use certdir_certificate::{Certificate, Error, pem_blocks};
use certdir_directory::{
    Authority, DomainName, DomainStatus, Fragment, Item, PublishOptions, Report, Role, Settings, Submission, UnixTime,
    WithdrawTarget,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::body;
use crate::json;
use crate::look_up::{parse_address, parse_sha256};
use crate::problem::Problem;
use crate::query::{Query, Segment};
use crate::site::{Peer, Site};

/// The largest body with certificates, in octets: about 2,000 of them in PEM.
const MAX_CERTIFICATES: usize = 4 * 1024 * 1024;

/// The largest JSON body, in octets.
const MAX_JSON: usize = 64 * 1024;

/// The largest master file, in octets.
const MAX_RECORDS: usize = 2 * 1024 * 1024;

/// The largest JSON body with a master file in it: in the JSON string every line end and quotation mark takes two octets.
const MAX_NEW_DOMAIN: usize = 2 * MAX_RECORDS + MAX_JSON;

/// How long an answer waits until this process shows the change. It is durable by then; the wait is a courtesy.
const VISIBLE_TIME: Duration = Duration::from_secs(2);

/// Media types of certificates. What a body really is, its octets tell; this keeps forms and JSON out. None is fine.
const CERTIFICATE_TYPES: [&str; 6] = [
    "application/x-pem-file",
    "application/pem-certificate-chain",
    "application/pkix-cert",
    "application/x-x509-user-cert",
    "application/octet-stream",
    "text/plain",
];

/// `POST /v1/certificates`
pub(crate) async fn publish(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    query: Result<Query, Problem>,
    body: Body,
) -> Result<Response, Problem> {
    let now = site.now();
    let prepared = async {
        let authority = site.authenticate(peer, &headers, now).await?;
        let upload = site.uploads.admit(peer.0).ok_or_else(|| {
            let detail = "too many uploads are under way; send one after the other";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-uploads", detail).retry_after(1)
        })?;
        Ok((authority, publish_options(&query?)?, media_type(&headers, &CERTIFICATE_TYPES)?, upload))
    };
    let (authority, options, (), upload) = match prepared.await {
        Ok(prepared) => prepared,
        Err(problem) => {
            body::discard(&headers, body).await;
            return Err(problem);
        }
    };
    let octets = body::read(&headers, body, MAX_CERTIFICATES, "send the certificates in several requests").await?;
    let (submissions, refused) = submissions(octets)?;
    let place = place(&site).await?;
    let store = site.store.clone();
    let mut report = finish(place, async move { store.publish(submissions, options, &authority, now).await }).await?;
    drop(upload);
    report.items.extend(refused);
    report_answer(&site, report).await
}

/// `DELETE /v1/certificates/{sha256}`
pub(crate) async fn withdraw_certificate(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    segment: Result<Segment, Problem>,
    query: Result<Query, Problem>,
) -> Result<Response, Problem> {
    let now = site.now();
    let authority = site.authenticate(peer, &headers, now).await?;
    let target = WithdrawTarget::Certificate(parse_sha256(&segment?.0)?);
    withdraw(&site, target, &query?, authority, now).await
}

/// `DELETE /v1/addresses/{address}`
pub(crate) async fn withdraw_address(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    segment: Result<Segment, Problem>,
    query: Result<Query, Problem>,
) -> Result<Response, Problem> {
    let now = site.now();
    let authority = site.authenticate(peer, &headers, now).await?;
    let target = WithdrawTarget::Mailbox(parse_address(&segment?.0)?);
    withdraw(&site, target, &query?, authority, now).await
}

async fn withdraw(
    site: &Arc<Site>,
    target: WithdrawTarget,
    query: &Query,
    authority: Authority,
    now: UnixTime,
) -> Result<Response, Problem> {
    query.only(&["reason"])?;
    let reason = query.one("reason")?.map(str::to_owned);
    let place = place(site).await?;
    let store = site.store.clone();
    let report = finish(place, async move { store.withdraw(target, reason, &authority, now).await }).await?;
    report_answer(site, report).await
}

/// `GET /v1/domains`: those that the token may read, with what the parent zone of each needs.
pub(crate) async fn domains(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let authority = site.authenticate(peer, &headers, site.now()).await?;
    let domains = site.store.domains_for(&authority).await?;
    Ok(json::answer(StatusCode::OK, &serde_json::json!({ "domains": domains })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDomain {
    domain: String,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
    /// Master-file text.
    #[serde(default)]
    records: String,
}

/// `POST /v1/domains`
pub(crate) async fn add_domain(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    query: Result<Query, Problem>,
    body: Body,
) -> Result<Response, Problem> {
    let now = site.now();
    let authority = authenticated_change(&site, peer, &headers, query, now).await?;
    let new: NewDomain = read_json(&headers, body, MAX_NEW_DOMAIN).await?;
    let domain = parse_domain(&new.domain)?;
    let settings = Settings::for_domain(&domain).with(&new.settings)?;
    let place = place(&site).await?;
    let store = site.store.clone();
    let added = domain.clone();
    let work = async move { store.add_domain_with(&added, settings, &new.records, &authority, now).await };
    let status = finish(place, work).await?;
    visible(&site, || site.reader.published().is_ok_and(|published| published.domain(&domain).is_some())).await;
    Ok(json::answer(StatusCode::CREATED, &status))
}

/// `PATCH /v1/domains/{domain}`: the settings to change.
pub(crate) async fn change_domain(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    segment: Result<Segment, Problem>,
    query: Result<Query, Problem>,
    body: Body,
) -> Result<Response, Problem> {
    let now = site.now();
    let authority = authenticated_change(&site, peer, &headers, query, now).await?;
    let changes: serde_json::Map<String, serde_json::Value> = read_json(&headers, body, MAX_JSON).await?;
    let domain = parse_domain(&segment?.0)?;
    let store = site.store.clone();
    change_zone(&site, async move { store.change_domain(&domain, &changes, &authority, now).await }).await
}

/// `DELETE /v1/domains/{domain}`
pub(crate) async fn remove_domain(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    segment: Result<Segment, Problem>,
    query: Result<Query, Problem>,
) -> Result<Response, Problem> {
    let now = site.now();
    let authority = authenticated_change(&site, peer, &headers, query, now).await?;
    let domain = parse_domain(&segment?.0)?;
    let place = place(&site).await?;
    let (store, removed) = (site.store.clone(), domain.clone());
    finish(place, async move { store.remove_domain(&removed, &authority, now).await }).await?;
    visible(&site, || site.reader.published().is_ok_and(|published| published.domain(&domain).is_none())).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /v1/domains/{domain}/records`: the other records of a mail domain, as they were given.
pub(crate) async fn records(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    segment: Result<Segment, Problem>,
) -> Result<Response, Problem> {
    authenticated_admin(&site, peer, &headers, site.now()).await?;
    let text = site.store.records(&parse_domain(&segment?.0)?).await?;
    // RFC 4027
    Ok(([(header::CONTENT_TYPE, "text/dns"), (header::CACHE_CONTROL, "no-store")], text).into_response())
}

/// `PUT /v1/domains/{domain}/records`
pub(crate) async fn set_records(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    segment: Result<Segment, Problem>,
    query: Result<Query, Problem>,
    body: Body,
) -> Result<Response, Problem> {
    let now = site.now();
    let prepared = async {
        let authority = authenticated_change(&site, peer, &headers, query, now).await?;
        media_type(&headers, &["text/dns", "text/plain"])?;
        Ok((authority, parse_domain(&segment?.0)?))
    };
    let (authority, domain) = match prepared.await {
        Ok(prepared) => prepared,
        Err(problem) => {
            body::discard(&headers, body).await;
            return Err(problem);
        }
    };
    let octets = body::read(&headers, body, MAX_RECORDS, "the records of a domain have to fit").await?;
    let text = Fragment::text(octets).map_err(certdir_directory::Error::Records)?;
    let store = site.store.clone();
    change_zone(&site, async move { store.set_records(&domain, &text, &authority, now).await }).await
}

/// `DELETE /v1/domains/{domain}/records`: all of them.
pub(crate) async fn remove_records(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    segment: Result<Segment, Problem>,
    query: Result<Query, Problem>,
) -> Result<Response, Problem> {
    let now = site.now();
    let authority = authenticated_change(&site, peer, &headers, query, now).await?;
    let domain = parse_domain(&segment?.0)?;
    let store = site.store.clone();
    change_zone(&site, async move { store.set_records(&domain, "", &authority, now).await }).await
}

/// Changes a domain, and answers with it as it is now when this process shows its zone so.
async fn change_zone(
    site: &Site,
    change: impl Future<Output = Result<DomainStatus, certdir_directory::Error>> + Send + 'static,
) -> Result<Response, Problem> {
    let status = finish(place(site).await?, change).await?;
    let shown = || {
        let published = site.reader.published().ok()?;
        let hosted = published.domains().find(|hosted| hosted.name.as_str() == status.name)?;
        let serial = published.zone(&hosted.apex)?.serial();
        // RFC 1982 section 3.2: not behind.
        (serial.wrapping_sub(status.serial) < 1 << 31).then_some(())
    };
    visible(site, || shown().is_some()).await;
    Ok(json::answer(StatusCode::OK, &status))
}

/// `GET /v1/tokens`: never their secrets.
pub(crate) async fn tokens(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let authority = authenticated_admin(&site, peer, &headers, site.now()).await?;
    let tokens = site.store.tokens(&authority).await?;
    Ok(json::answer(StatusCode::OK, &serde_json::json!({ "tokens": tokens })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    role: Role,
    #[serde(default)]
    domains: Vec<String>,
}

/// `POST /v1/tokens`: the only time that the secret is shown.
pub(crate) async fn add_token(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    query: Result<Query, Problem>,
    body: Body,
) -> Result<Response, Problem> {
    let now = site.now();
    let authority = authenticated_change(&site, peer, &headers, query, now).await?;
    let new: NewToken = read_json(&headers, body, MAX_JSON).await?;
    let domains = new.domains.iter().map(|text| parse_domain(text)).collect::<Result<Vec<_>, _>>()?;
    let place = place(&site).await?;
    let store = site.store.clone();
    let added = async move { store.add_token(&new.name, new.role, &domains, &authority, now).await };
    let (row, token) = finish(place, added).await?;
    Ok(json::answer(StatusCode::CREATED, &serde_json::json!({ "token": token, "row": row })))
}

/// `DELETE /v1/tokens/{id}`
pub(crate) async fn revoke_token(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    segment: Result<Segment, Problem>,
    query: Result<Query, Problem>,
) -> Result<Response, Problem> {
    let now = site.now();
    let authority = authenticated_change(&site, peer, &headers, query, now).await?;
    let Segment(id) = segment?;
    let place = place(&site).await?;
    let store = site.store.clone();
    finish(place, async move { store.revoke_token(&id, &authority, now).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn authenticated_admin(
    site: &Site,
    peer: Peer,
    headers: &HeaderMap,
    now: UnixTime,
) -> Result<Authority, Problem> {
    let authority = site.authenticate(peer, headers, now).await?;
    if authority.may_administer() {
        return Ok(authority);
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "this needs a token with the role admin"))
}

/// The same, for a change that has no parameters: one that is not known is refused, for it may be a `dry_run`.
async fn authenticated_change(
    site: &Site,
    peer: Peer,
    headers: &HeaderMap,
    query: Result<Query, Problem>,
    now: UnixTime,
) -> Result<Authority, Problem> {
    let authority = authenticated_admin(site, peer, headers, now).await?;
    query?.only(&[])?;
    Ok(authority)
}

fn publish_options(query: &Query) -> Result<PublishOptions, Problem> {
    query.only(&["address", "domain_certificate", "authority_for", "restore", "dry_run"])?;
    let domain = |name| query.one(name)?.map(parse_domain).transpose();
    let whose = ["address", "domain_certificate", "authority_for"];
    if whose.iter().filter(|name| query.all(name).next().is_some()).count() > 1 {
        return Err(Problem::bad_request("bad-query", format!("only one of {} may be given", whose.join(", "))));
    }
    Ok(PublishOptions {
        addresses: query.all("address").map(parse_address).collect::<Result<_, _>>()?,
        domain_certificate: domain("domain_certificate")?,
        authority_for: domain("authority_for")?,
        restore: query.flag("restore")?,
        dry_run: query.flag("dry_run")?,
    })
}

/// The certificates of a body, and what among them is none. A private key among them refuses the whole: it was not
/// meant to be sent, and its owner should hear so.
fn submissions(octets: Vec<u8>) -> Result<(Vec<Submission>, Vec<Item>), Problem> {
    let unfit = |error: &Error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.code(), error.to_string());
    // DER of a certificate begins with a SEQUENCE; PEM is text.
    if octets.first() == Some(&0x30) {
        Certificate::from_der(&octets).map_err(|error| unfit(&error))?;
        return Ok((vec![Submission { der: octets, origin: "request".to_owned() }], Vec::new()));
    }
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    let blocks: Vec<_> = pem_blocks(&octets).collect();
    let origin =
        |n: usize| if blocks.len() == 1 { "request".to_owned() } else { format!("request, certificate {}", n + 1) };
    for (n, block) in blocks.iter().enumerate() {
        match block {
            Ok(block) => taken.push(Submission { der: block.der.clone(), origin: origin(n) }),
            Err(error) if error.code() == "private-key" => return Err(unfit(error)),
            Err(error) => refused.push((n, error)),
        }
    }
    match refused.first() {
        None if taken.is_empty() => Err(unfit(&Certificate::read_all(&octets).err().unwrap_or(Error::Empty))),
        Some((_, error)) if taken.is_empty() => Err(unfit(error)),
        _ => {
            let item = |(n, error): (usize, &Error)| Item::refused(origin(n), error.code(), error.to_string());
            Ok((taken, refused.into_iter().map(item).collect()))
        }
    }
}

pub(crate) fn parse_domain(text: &str) -> Result<DomainName, Problem> {
    DomainName::parse(text)
        .map_err(|error| Problem::bad_request("bad-domain", format!("this is not a domain: {error}")))
}

/// The media type of a request's body, if it says one, must be among those known.
pub(crate) fn media_type(headers: &HeaderMap, known: &[&str]) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if known.iter().any(|known| known.eq_ignore_ascii_case(essence)) {
        return Ok(());
    }
    let first = known.first().copied().unwrap_or_default();
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        format!("the body is to be {}; with curl, add: -H 'Content-Type: {first}'", known.join(" or ")),
    ))
}

async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body, limit: usize) -> Result<T, Problem> {
    if !headers.contains_key(header::CONTENT_TYPE) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "the body is to be application/json",
        ));
    }
    media_type(headers, &["application/json"])?;
    let octets = body::read(headers, body, limit, "no request of this kind needs more").await?;
    serde_json::from_slice(&octets)
        .map_err(|error| Problem::bad_request("bad-json", format!("the body cannot be read: {error}")))
}

/// A place among the changes under way; waits for one within the request's time.
async fn place(site: &Site) -> Result<OwnedSemaphorePermit, Problem> {
    site.changes.clone().acquire_owned().await.map_err(|_| Problem::unavailable("stopping"))
}

/// Runs a change to its end, in its place, even when the client goes away or the request's time is over.
async fn finish<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    change: impl Future<Output = Result<T, certdir_directory::Error>> + Send + 'static,
) -> Result<T, Problem> {
    let task = tokio::spawn(async move {
        let outcome = change.await;
        drop(place);
        outcome
    });
    match task.await {
        Ok(outcome) => Ok(outcome?),
        Err(error) => {
            tracing::error!(%error, "a change broke off");
            Err(Problem::unavailable("internal"))
        }
    }
}

/// 200 when at least one certificate was taken; else 403 when the token was the reason for all, else 422.
async fn report_answer(site: &Site, report: Report) -> Result<Response, Problem> {
    let status = if report.refused() < report.items.len() {
        StatusCode::OK
    } else if !report.items.is_empty() && report.items.iter().all(|item| item.code.as_deref() == Some("forbidden")) {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    if !report.dry_run {
        visible(site, || site.reader.published().is_ok_and(|published| published.version() >= report.version)).await;
    }
    Ok(json::answer(status, &report))
}

/// Waits until this process shows a change, but not for long.
async fn visible(site: &Site, shown: impl Fn() -> bool) {
    let mut changed = site.reader.changed();
    if tokio::time::timeout(VISIBLE_TIME, changed.wait_for(|_| shown())).await.is_err() {
        tracing::warn!("a change is durable but not shown yet");
    }
}
