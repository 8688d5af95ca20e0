//! `/v1/changes`: the log for those who hold a token, and for everybody which of the names they know to ask for again; as
//! server-sent events (HTML Standard section 9.2), or as JSON with a long poll.
//!
//! Nothing is missed silently: a subscription begins at a cursor that this store knows, or the client is told to start over.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use certdir_directory::{Cursor, Place, UnixTime, Version};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::admin::{media_type, parse_domain};
use crate::body;
use crate::json;
use crate::life::Life;
use crate::look_up::parse_address;
use crate::negotiate::accepts_events;
use crate::problem::Problem;
use crate::query::Query;
use crate::site::{Peer, Site, bearer};
use crate::wanted::{Names, Told, Wanted, event};

/// The largest body with names, in octets.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// The longest wait of a long poll: less than a request may take.
const MAX_WAIT: Duration = Duration::from_secs(50);

/// Changes looked at for one answer, and the most a client may ask for.
const PAGE: usize = 500;
const MAX_PAGE: usize = 1_000;

/// Seconds that a stranger may look back: the longest TTL. What was known before has expired by itself.
const HORIZON: UnixTime = 86_400;

/// After this time of silence a stream of events shows that it is alive. Also how soon a revoked token ends a stream that has
/// nothing to tell.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream of events lives.
const STREAM_LIFE: Duration = Duration::from_secs(3_600);

/// Milliseconds after which a client whose connection was lost comes back.
const RETRY: u32 = 1_000;

/// `GET /v1/changes`: the log of what the token may read.
pub(crate) async fn log(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    life: Option<Extension<Life>>,
    headers: HeaderMap,
    query: Result<Query, Problem>,
) -> Result<Response, Problem> {
    let authority = site.authenticate(peer, &headers, site.now()).await?;
    let token = bearer(&headers)?.to_owned();
    let query = query?;
    query.only(&["since", "wait", "limit", "domain", "address"])?;
    let wanted = Wanted::Log {
        domains: query.all("domain").map(parse_domain).collect::<Result<_, _>>()?,
        addresses: query
            .all("address")
            .map(|text| Ok(parse_address(text)?.lower_case().to_string()))
            .collect::<Result<_, Problem>>()?,
        authority,
    };
    if let Wanted::Log { authority, domains, .. } = &wanted
        && let Some(domain) = domains.iter().find(|domain| !authority.may_read(domain))
    {
        let detail = format!("the token may not read {domain}");
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    let place = site.feed.places.admit(peer.0).ok_or_else(too_many)?;
    let held = Held { _place: place, _names: None };
    Subscription::begin(site, wanted, Some(token), held, &headers, &query).await?.answer(&headers, life).await
}

/// `POST /v1/changes`: which of the names in the body to ask for again.
pub(crate) async fn names(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    life: Option<Extension<Life>>,
    headers: HeaderMap,
    query: Result<Query, Problem>,
    body: Body,
) -> Result<Response, Problem> {
    let now = site.now();
    let prepared = async {
        site.permit_look_up(peer, &headers, now).await?;
        let query = query?;
        query.only(&["since", "wait", "limit"])?;
        media_type(&headers, &["application/json"])?;
        let place = site.feed.places.admit(peer.0).ok_or_else(too_many)?;
        let upload = site.feed.bodies.admit(peer.0).ok_or_else(too_many)?;
        Ok((query, place, upload))
    };
    let (query, place, upload) = match prepared.await {
        Ok(prepared) => prepared,
        Err(problem) => {
            body::discard(&headers, body).await;
            return Err(problem);
        }
    };
    let octets = body::read(&headers, body, MAX_BODY, "subscribe with several requests").await?;
    let names = Names::read(&octets).map_err(|detail| Problem::bad_request("bad-name", detail))?;
    drop((octets, upload));
    let room = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let room = site.feed.names.clone().try_acquire_many_owned(room).map_err(|_| too_many())?;
    let held = Held { _place: place, _names: Some(room) };
    Subscription::begin(site, Wanted::Names(names), None, held, &headers, &query).await?.answer(&headers, life).await
}

fn too_many() -> Problem {
    let detail = "too many subscriptions; one connection follows thousands of names";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-subscriptions", detail).retry_after(5)
}

/// What a subscription takes of the limits; given back when it ends.
struct Held {
    _place: Place,
    _names: Option<OwnedSemaphorePermit>,
}

/// A subscription, and where it stands.
struct Subscription {
    site: Arc<Site>,
    wanted: Wanted,
    /// With which it is looked up again whether it may go on.
    token: Option<String>,
    cursor: Cursor,
    /// Whether it begins with the present, for want of a cursor.
    anew: bool,
    /// Why the cursor that was given is of no use.
    reset: Option<&'static str>,
    wait: Duration,
    limit: usize,
    /// Tells of every change of the published set.
    changed: watch::Receiver<Version>,
    stopping: watch::Receiver<bool>,
    _held: Held,
}

/// What came of a look at the log.
enum Looked {
    /// Something to be told: the page of it is read.
    Page(crate::feed::Page),
    /// Nothing new.
    Nothing,
}

impl Subscription {
    async fn begin(
        site: Arc<Site>,
        wanted: Wanted,
        token: Option<String>,
        held: Held,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<Subscription, Problem> {
        let wait = wait(query.one("wait")?)?;
        let limit =
            match query.one("limit")? {
                None => PAGE,
                Some(text) => text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
                    Problem::bad_request("bad-query", format!("limit is a number from 1 to {MAX_PAGE}"))
                })?,
            };
        let limit = looked_at(limit, accepts_events(headers)?);
        let changed = site.reader.changed();
        let present = site.reader.published()?.version();
        let (mut cursor, mut reset, mut anew) = (Cursor::BEGINNING, None, true);
        if let Some(given) = since(headers, query)? {
            anew = false;
            match known(&site, given, matches!(wanted, Wanted::Names(_))).await? {
                Ok(known) => cursor = known,
                Err(reason) => reset = Some(reason),
            }
        }
        if anew || reset.is_some() {
            cursor = site.store.cursor(present).await?.ok_or_else(|| Problem::unavailable("not-ready"))?;
        }
        let stopping = site.feed.stopping.clone();
        Ok(Subscription { site, wanted, token, cursor, anew, reset, wait, limit, changed, stopping, _held: held })
    }

    async fn answer(self, headers: &HeaderMap, life: Option<Extension<Life>>) -> Result<Response, Problem> {
        let mut response = if accepts_events(headers)? {
            let opening = Some(self.opening()?);
            let stream = Events {
                subscription: self,
                opening,
                alive: Instant::now() + HEARTBEAT,
                checked: Instant::now() + HEARTBEAT,
                ends: Instant::now() + STREAM_LIFE,
                life: life.map(|Extension(life)| life),
            };
            let events = futures_util::stream::unfold(stream, async |mut stream| {
                let text = stream.next().await?;
                Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), stream))
            });
            let mut response = Body::from_stream(events).into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        } else {
            self.poll().await?
        };
        // nginx and others would gather events into large pieces.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }

    /// Looks at the log after the cursor, and moves it on.
    async fn look(&mut self) -> Result<Looked, Problem> {
        self.changed.borrow_and_update();
        let shown = self.site.reader.published()?.version();
        if shown <= self.cursor.version {
            return Ok(Looked::Nothing);
        }
        let page = self.site.feed.after(&self.site.store, self.cursor.version, shown, self.limit).await?;
        let Some(last) = page.changes.last() else { return Ok(Looked::Nothing) };
        self.cursor = last.cursor;
        Ok(Looked::Page(page))
    }

    /// A long poll: an answer when there is something, or when its time is over.
    async fn poll(mut self) -> Result<Response, Problem> {
        if let Some(reason) = self.reset {
            return Err(Problem::new(StatusCode::GONE, "reset", reason));
        }
        let until = Instant::now() + self.wait;
        let empty = crate::feed::Page { changes: Vec::new(), more: false };
        let page = loop {
            // Who begins with the present wants to know where that is.
            if self.anew {
                break empty;
            }
            if let Looked::Page(page) = self.look().await? {
                if page.more || !self.wanted.told(&page).is_empty() {
                    break page;
                }
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => break empty,
                _ = self.stopping.wait_for(|stop| *stop) => break empty,
                changed = self.changed.changed() => if changed.is_err() {
                    return Err(Problem::unavailable("not-ready"));
                },
            }
        };
        if !self.may_go_on().await {
            return Err(certdir_directory::Error::BadToken.into());
        }
        let published = self.site.reader.published()?;
        let answer = Answer {
            cursor: self.cursor.to_string(),
            version: self.cursor.version,
            more: page.more,
            told: self.wanted.told(&page),
            not_hosted: self.wanted.not_hosted(&published),
        };
        Ok(json::answer(StatusCode::OK, &answer))
    }

    /// The first events of a stream.
    fn opening(&self) -> Result<String, Problem> {
        let version = self.cursor.version;
        let mut text = format!("retry: {RETRY}\n");
        if let Some(reason) = self.reset {
            event(&mut text, "reset", self.cursor, &serde_json::json!({ "version": version, "reason": reason }));
        }
        let not_hosted = self.wanted.not_hosted(&*self.site.reader.published()?);
        event(&mut text, "begin", self.cursor, &Begin { version, not_hosted });
        Ok(text)
    }

    /// Whether the token is still one; what it may read follows the store.
    async fn may_go_on(&mut self) -> bool {
        let (Some(token), Wanted::Log { authority, .. }) = (&self.token, &mut self.wanted) else { return true };
        match self.site.store.authenticate(token).await {
            Ok(now) => {
                *authority = now;
                true
            }
            // A store that cannot be read takes nobody's rights away.
            Err(error) => !matches!(error, certdir_directory::Error::BadToken),
        }
    }
}

#[derive(Serialize)]
struct Begin {
    version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_hosted: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Answer<'a> {
    cursor: String,
    version: Version,
    more: bool,
    #[serde(flatten)]
    told: Told<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_hosted: Option<Vec<String>>,
}

/// A stream of events: pulled by the connection when the client has room for more.
struct Events {
    subscription: Subscription,
    opening: Option<String>,
    /// When silence is to be broken.
    alive: Instant,
    /// When the token is to be looked up again.
    checked: Instant,
    ends: Instant,
    life: Option<Life>,
}

impl Events {
    /// The next events; none when the stream ends. Whoever reads it comes back with the last cursor.
    async fn next(&mut self) -> Option<String> {
        if let Some(life) = &self.life {
            life.prolong();
        }
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        loop {
            if *self.subscription.stopping.borrow() || Instant::now() >= self.ends {
                return None;
            }
            if Instant::now() >= self.checked {
                if !self.subscription.may_go_on().await {
                    return None;
                }
                self.checked = Instant::now() + HEARTBEAT;
            }
            match self.subscription.look().await {
                Err(_) => return None,
                Ok(Looked::Page(page)) => {
                    let text = self.subscription.wanted.events(&page, self.subscription.cursor);
                    if text.is_empty() {
                        continue;
                    }
                    // A token that was revoked since reads no more.
                    if !self.subscription.may_go_on().await {
                        return None;
                    }
                    self.checked = Instant::now() + HEARTBEAT;
                    self.alive = Instant::now() + HEARTBEAT;
                    return Some(text);
                }
                Ok(Looked::Nothing) => {}
            }
            let silent = tokio::select! {
                changed = self.subscription.changed.changed() => changed.map(|()| false).ok()?,
                _ = self.subscription.stopping.wait_for(|stop| *stop) => return None,
                () = tokio::time::sleep_until(self.ends) => return None,
                () = tokio::time::sleep_until(self.alive) => true,
            };
            if silent {
                self.alive = Instant::now() + HEARTBEAT;
                // A comment; and an event without data, which nobody sees but of which the id is kept.
                return Some(format!(":\nid: {}\n\n", self.subscription.cursor));
            }
        }
    }
}

/// Where the client says that it stands: `Last-Event-ID` (HTML Standard section 9.2.4), which an event source sends by
/// itself when it comes back, else `since`.
fn since(headers: &HeaderMap, query: &Query) -> Result<Option<Cursor>, Problem> {
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?")).filter(|text| !text.is_empty());
    let Some(text) = last.or(query.one("since")?) else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|error: certdir_directory::changes::BadCursor| Problem::bad_request("bad-since", error.to_string()))
}

/// The cursor with its mark if this store knows it and may go on from there; else why not.
async fn known(site: &Site, given: Cursor, is_stranger: bool) -> Result<Result<Cursor, &'static str>, Problem> {
    // The store, not the published set: another process of the same store may have shown more already.
    let Some(known) = site.store.cursor(given.version).await? else {
        return Ok(Err(
            "this store has not come so far: it is another one, or was restored from a backup; ask for everything again",
        ));
    };
    if given.mark.is_some() && given.mark != known.mark {
        return Ok(Err("the cursor is of another history than this store's; ask for everything again"));
    }
    if is_stranger {
        let next = site.store.changes(given.version, Version::MAX, 1).await?;
        if next.first().is_some_and(|change| change.at < site.now().saturating_sub(HORIZON)) {
            return Ok(Err("that was more than a day ago; ask for everything again"));
        }
    }
    Ok(Ok(known))
}

/// Rows of the log that are looked at in one go. A stream has no single answer of which a client could limit the size, and
/// row by row a day of the log would be as many queries of one request.
fn looked_at(limit: usize, is_stream: bool) -> usize {
    if is_stream { limit.max(PAGE) } else { limit }
}

/// `30s`, or `30`.
fn wait(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    let seconds: Option<u64> = text.strip_suffix('s').unwrap_or(text).parse().ok();
    seconds.map(Duration::from_secs).filter(|wait| *wait <= MAX_WAIT).ok_or_else(|| {
        Problem::bad_request(
            "bad-query",
            format!("wait is a number of seconds up to {}, such as 30s", MAX_WAIT.as_secs()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_not_read_row_by_row() {
        for (limit, stream, expected) in
            [(1, true, PAGE), (MAX_PAGE, true, MAX_PAGE), (1, false, 1), (MAX_PAGE, false, MAX_PAGE)]
        {
            assert_eq!(looked_at(limit, stream), expected, "{limit} {stream}");
        }
    }
}
