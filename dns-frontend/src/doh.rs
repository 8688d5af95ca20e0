//! DNS over HTTPS (RFC 8484): a route for whoever serves HTTPS.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use certdir_directory::{Clock, Connections, Place};
use certdir_zones::RecordType;
use data_encoding::BASE64URL_NOPAD;
use tokio::time::{Instant, sleep, timeout};

use crate::answer::{Asker, Scratch, Transport, answer};
use crate::counters::Tally;
use crate::policy::Policy;
use crate::request::{HEADER, Octets, Record};
use crate::stream::{LONGEST_POSTPONED, LOOK, MAX_MESSAGE, MAX_REQUEST, POSTPONED, POSTPONED_OF_SOURCE, SIGNING};
use crate::view::Latest;

/// The media type of requests and responses (RFC 8484 section 6).
const MESSAGE: &str = "application/dns-message";
/// How long the body of a request may take.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Where a request came from. Whoever serves HTTPS puts it among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Source(pub IpAddr);

/// What answers; as many at once as there are desks, whatever the number of requests.
pub(crate) struct Desks<L> {
    desks: Box<[Mutex<Desk<L>>]>,
    clock: Clock,
    /// Places of queries that wait for a signature.
    postponed: Arc<Connections>,
}

struct Desk<L> {
    latest: L,
    scratch: Scratch,
    out: Box<[u8]>,
    tally: Arc<Tally>,
}

impl<L: Latest> Desks<L> {
    pub(crate) fn new(desks: impl Iterator<Item = (L, Arc<Tally>)>, clock: Clock, policy: &Policy) -> Desks<L> {
        let desks = desks.map(|(latest, tally)| {
            let out = vec![0; MAX_MESSAGE].into_boxed_slice();
            Mutex::new(Desk { latest, scratch: Scratch::new(policy.clone()), out, tally })
        });
        Desks { desks: desks.collect(), clock, postponed: Arc::new(Connections::new(POSTPONED, POSTPONED_OF_SOURCE)) }
    }

    /// A desk that is free, or else the first one; the wait for it is as short as one answer.
    fn free(&self) -> Option<MutexGuard<'_, Desk<L>>> {
        let free = self.desks.iter().find_map(|desk| desk.try_lock().ok());
        free.or_else(|| self.desks.first().map(|desk| desk.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Answers one message; `None` for what gets no answer. The error is a place to wait in for a signature: `place` if
    /// there is one. A message that `arrived` long ago does not wait any longer.
    fn answer(
        &self,
        asker: &Asker,
        request: &[u8],
        place: Option<Place>,
        arrived: Instant,
    ) -> Result<Option<Vec<u8>>, Place> {
        let Some(mut desk) = self.free() else {
            return Ok(None);
        };
        let Desk { latest, scratch, out, tally } = &mut *desk;
        let finished = answer(latest.load(), request, asker, (self.clock)(), scratch, out);
        if arrived.elapsed() < SIGNING && finished.is_some_and(|finished| finished.later) {
            let new = place.is_none();
            let admit = || self.postponed.admit(asker.source).filter(|_| request.len() <= LONGEST_POSTPONED);
            if let Some(place) = place.or_else(admit) {
                if new {
                    tally.deferred();
                }
                return Err(place);
            }
        }
        let Some(finished) = finished else {
            tally.ignored();
            return Ok(None);
        };
        tally.request(finished);
        tally.latency(arrived.elapsed(), 1);
        Ok(out.get(..finished.length).map(<[u8]>::to_vec))
    }
}

/// The route `path`.
pub(crate) fn router<L: Latest>(path: &str, desks: Desks<L>) -> Router {
    Router::new().route(path, get(by_get::<L>).post(by_post::<L>)).with_state(Arc::new(desks))
}

/// RFC 8484 section 4.1: the message as the variable `dns`, in base64url without padding.
async fn by_get<L: Latest>(
    State(desks): State<Arc<Desks<L>>>,
    Extension(Source(source)): Extension<Source>,
    RawQuery(query): RawQuery,
) -> Response {
    match message_in(query.as_deref().unwrap_or_default()) {
        Some(message) => respond(&desks, source, &message).await,
        None => refuse(StatusCode::BAD_REQUEST, "give one parameter dns: the message in base64url without padding"),
    }
}

/// RFC 8484 section 4.1: the message as the body.
async fn by_post<L: Latest>(
    State(desks): State<Arc<Desks<L>>>,
    Extension(Source(source)): Extension<Source>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // Read in any case: a response in the middle of a body ends an HTTP/2 stream in a way that not all clients like.
    let message = match timeout(BODY_TIME, axum::body::to_bytes(body, MAX_REQUEST)).await {
        Ok(Ok(message)) => message,
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "a query has at most 16,384 octets"),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body took longer than 10 seconds"),
    };
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case(MESSAGE) {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is a DNS message: application/dns-message");
    }
    respond(&desks, source, &message).await
}

/// The message in a query component: the value of the one parameter `dns`.
pub(crate) fn message_in(query: &str) -> Option<Vec<u8>> {
    let mut values = query.split('&').filter_map(|parameter| parameter.strip_prefix("dns="));
    let value = values.next().filter(|_| values.next().is_none())?;
    let message = BASE64URL_NOPAD.decode(value.as_bytes()).ok()?;
    (message.len() <= MAX_REQUEST).then_some(message)
}

async fn respond<L: Latest>(desks: &Desks<L>, source: IpAddr, request: &[u8]) -> Response {
    let asker = Asker::new(Transport::Https, source);
    let arrived = Instant::now();
    let mut place = None;
    let message = loop {
        let second = (desks.clock)();
        match desks.answer(&asker, request, place.take(), arrived) {
            Ok(message) => break message,
            Err(kept) => place = Some(kept),
        }
        // There are no signatures before the clock's next second.
        while (desks.clock)() == second && arrived.elapsed() < SIGNING {
            sleep(LOOK).await;
        }
    };
    let Some(message) = message else {
        return refuse(StatusCode::BAD_REQUEST, "this is no DNS query");
    };
    // RFC 8484 section 5.1: no cache keeps an answer longer than its records.
    let keep = match lifetime(&message) {
        Some(seconds) => HeaderValue::try_from(format!("max-age={seconds}")),
        None => Ok(HeaderValue::from_static("no-store")),
    };
    let mut response = Response::new(Body::from(message));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MESSAGE));
    response.headers_mut().insert(header::CACHE_CONTROL, keep.unwrap_or(HeaderValue::from_static("no-store")));
    response
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, headers, format!("{why}\n")).into_response()
}

/// Seconds that a response stays true: the smallest TTL in the answer section; for a negative response what its SOA
/// record says (RFC 2308 section 5). `None` where nothing says so.
fn lifetime(response: &[u8]) -> Option<u32> {
    let mut rest = Octets(response);
    let &[_, _, _, flags, qd0, qd1, an0, an1, ns0, ns1, _, _] = rest.take(HEADER)?.first_chunk::<HEADER>()?;
    let (questions, answers, authorities) =
        (u16::from_be_bytes([qd0, qd1]), u16::from_be_bytes([an0, an1]), u16::from_be_bytes([ns0, ns1]));
    // NOERROR and NXDOMAIN: anything else may be over in a moment.
    if !matches!(flags & 15, 0 | 3) {
        return None;
    }
    for _ in 0..questions {
        rest.skip_owner()?;
        rest.take(4)?;
    }
    let mut smallest = None;
    for at in 0..u32::from(answers) + u32::from(authorities) {
        rest.skip_owner()?;
        let record = Record::read(&mut rest)?;
        let ttl = u32::from_be_bytes(record.ttl);
        let ttl = match record.rtype {
            _ if at < u32::from(answers) => ttl,
            RecordType::SOA if answers == 0 => {
                ttl.min(record.rdata.last_chunk().map_or(0, |&minimum| u32::from_be_bytes(minimum)))
            }
            _ => continue,
        };
        smallest = Some(smallest.map_or(ttl, |smallest: u32| smallest.min(ttl)));
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_strict_base64url() {
        assert_eq!(message_in("dns=AAABAAAB"), Some(vec![0, 0, 1, 0, 0, 1]));
        assert_eq!(message_in("a=b&dns=-_8&c"), Some(vec![0xFB, 0xFF]));
        for wrong in
            ["", "dns", "DNS=AAAA", "dns=AAA=", "dns=AB", "dns=A", "dns=A+A/", "dns=AA%41A", "dns=AAAA&dns=AAAA"]
        {
            assert_eq!(message_in(wrong), None, "{wrong}");
        }
        assert_eq!(message_in(&format!("dns={}", "AAAA".repeat(MAX_REQUEST / 3 + 1))), None);
    }

    #[test]
    fn rfc8484_5_1_the_smallest_ttl_is_the_lifetime() {
        let record = |rtype: u8, ttl: u8, rdata: &[u8]| {
            [&[0, 0, rtype, 0, 1, 0, 0, 0, ttl, 0, rdata.len() as u8][..], rdata].concat()
        };
        let message = |rcode: u8, counts: [u8; 2], records: &[Vec<u8>]| {
            let mut octets = vec![0, 0, 0x84, rcode, 0, 1, 0, counts[0], 0, counts[1], 0, 0, 0, 0, 53, 0, 1];
            octets.extend(records.concat());
            octets
        };
        let soa = record(6, 90, &[0, 0, 0, 0, 0, 60]);
        let (long, short) = (record(53, 200, &[1]), record(46, 100, &[2]));
        assert_eq!(lifetime(&message(0, [2, 0], &[long.clone(), short.clone()])), Some(100));
        assert_eq!(lifetime(&message(0, [1, 1], &[long.clone(), soa.clone()])), Some(200));
        assert_eq!(lifetime(&message(3, [0, 2], &[soa.clone(), record(50, 30, &[])])), Some(60));
        assert_eq!(lifetime(&message(2, [0, 1], &[soa])), None);
        assert_eq!(lifetime(&message(0, [0, 0], &[])), None);
        assert_eq!(lifetime(&message(0, [2, 0], &[long])), None, "cut off");
    }
}
