//! Fetches what a certificate points at: its issuer (RFC 5280 section 4.2.2.1), revocation lists (section 4.2.1.13) and
//! OCSP answers (RFC 6960).
//!
//! The octets are handed on as they came; what they mean is for the certificate crate to say, which also knows how long
//! they are good for ([`Fetch::keep_until`]). One request is under way for one URL, whoever waits for it: it goes on
//! when they stop waiting, so a large list that outlasts one look-up is there for the next.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certdir_certificate::UnixTime;
use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio::sync::{Semaphore, watch};
use url::Url;

use crate::http::{Call, Http, Patience, Response, shown};
use crate::outcome::Failure;
use crate::reach::{Ports, Reach};
use crate::tls::Tls;
use crate::trace::Exchange;

/// How long a failure is remembered, in seconds.
const FAILURE_LIFE: UnixTime = 10;

/// Seconds for which an issuer's certificate is kept.
const ISSUER_LIFE: UnixTime = 3_600;

/// Seconds for which a revocation list or an OCSP answer is kept until its reader says how long it is good for.
const STATUS_LIFE: UnixTime = 300;

/// Octets of an issuer's certificate, or of a bundle of them.
const MAX_ISSUER: usize = 256 << 10;

/// Octets of an OCSP answer.
const MAX_OCSP: usize = 64 << 10;

/// Characters of a URL.
const MAX_URL: usize = 2_048;

/// Requests under way, those to one host, and those that are waiting for their turn.
const AT_ONCE: usize = 64;
const AT_ONE_HOST: usize = 16;
const UNDER_WAY: usize = 1_024;

/// The longest URL of an OCSP request by GET (RFC 6960 appendix A.1).
const MAX_OCSP_URL: usize = 255;

/// What an entry of the cache costs beside its octets.
const ENTRY_OVERHEAD: usize = 512;

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What<'a> {
    /// The certificate of the issuer, or a certs-only bundle of several.
    Issuer,
    /// A revocation list.
    Crl,
    /// The answer to this OCSP request, in DER.
    Ocsp(&'a [u8]),
}

/// Octets that were fetched.
#[derive(Clone)]
pub struct Fetched {
    /// DER. What came as PEM is decoded.
    pub octets: Arc<[u8]>,
    /// When it was asked for (seconds since 1970).
    pub fetched_at: UnixTime,
    /// The request and its result, for the trace.
    pub exchange: Arc<Exchange>,
}

/// The bounds of fetching.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Octets of one revocation list (32 MiB).
    pub crl: usize,
    /// Octets kept in memory (64 MiB).
    pub kept: usize,
    /// How long one request may take, its body included (30 seconds).
    pub total: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { crl: 32 << 20, kept: 64 << 20, total: Duration::from_secs(30) }
    }
}

/// What one look-up may still fetch. What is in the cache costs nothing.
#[derive(Debug)]
pub struct Budget {
    requests: AtomicU32,
    octets: AtomicU64,
}

impl Budget {
    /// So many requests, and so many octets: no request begins after that many came.
    pub fn new(requests: u32, octets: u64) -> Budget {
        Budget { requests: AtomicU32::new(requests), octets: AtomicU64::new(octets) }
    }

    fn begin(&self) -> Result<(), Failure> {
        let enough = |left: u32| left.checked_sub(1);
        let counted = self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough);
        if counted.is_err() || self.octets.load(Ordering::Relaxed) == 0 {
            return Err(Failure::new("too-much-work", "this look-up has fetched as much as one may"));
        }
        Ok(())
    }

    fn charge(&self, octets: usize) {
        let octets = u64::try_from(octets).unwrap_or(u64::MAX);
        // The closure always gives a value.
        let _ =
            self.octets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(octets)));
    }
}

impl Default for Budget {
    /// 16 requests, 64 MiB.
    fn default() -> Self {
        Budget::new(16, 64 << 20)
    }
}

/// Fetches and keeps. Clones share what is kept.
#[derive(Clone)]
pub struct Fetch {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    bounds: Bounds,
    kept: Mutex<Kept>,
    under_way: Mutex<HashMap<Key, Flight>>,
    turns: Semaphore,
}

/// A request that others may wait for, too.
struct Flight {
    host: String,
    landed: watch::Receiver<Option<Landed>>,
}

type Landed = Result<Fetched, Failure>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    url: String,
    request: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Issuer,
    Crl,
    Ocsp,
}

impl Key {
    fn new(what: What<'_>, url: &str) -> Key {
        let (kind, request) = match what {
            What::Issuer => (Kind::Issuer, Vec::new()),
            What::Crl => (Kind::Crl, Vec::new()),
            What::Ocsp(request) => (Kind::Ocsp, request.to_vec()),
        };
        Key { kind, url: url.to_owned(), request }
    }

    fn weight(&self) -> usize {
        ENTRY_OVERHEAD + self.url.len() + self.request.len()
    }
}

impl Fetch {
    /// Fetches over HTTP and HTTPS, only from addresses within `reach`: the URLs are a stranger's.
    pub fn new(tls: Tls, reach: Reach, bounds: Bounds) -> Fetch {
        let patience = Patience { total: bounds.total, ..Patience::default() };
        let http = Http::new(tls, reach, Ports::Web, patience);
        let inner =
            Inner { http, bounds, kept: Mutex::default(), under_way: Mutex::default(), turns: Semaphore::new(AT_ONCE) };
        Fetch { inner: Arc::new(inner) }
    }

    /// What is at a URL: from the cache, from a request that is under way, or from a new one.
    ///
    /// Cancellation-safe: a request that nobody waits for any more ends in the cache all the same.
    ///
    /// # Errors
    /// Nothing could be fetched; remembered for seconds. The codes are in `docs/resolver.md`.
    pub async fn get(&self, what: What<'_>, url: &str, budget: &Budget, now: UnixTime) -> Result<Fetched, Failure> {
        let key = Key::new(what, url);
        if let Some(landed) = locked(&self.inner.kept).get(&key, now) {
            return landed;
        }
        let parsed = parse(url)?;
        budget.begin()?;
        let mut landing = self.join(&key, parsed, now)?;
        let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
        let landed = landed.unwrap_or_else(|| Err(Failure::new("network", "the request was given up")));
        if let Ok(fetched) = &landed {
            budget.charge(fetched.octets.len());
        }
        landed
    }

    /// Keeps what is at a URL until this second, exclusive: the `nextUpdate` of a list, say. In the past: asks anew
    /// next time.
    pub fn keep_until(&self, what: What<'_>, url: &str, until: UnixTime) {
        if let Some(entry) = locked(&self.inner.kept).entries.get_mut(&Key::new(what, url)) {
            entry.until = until;
        }
    }

    /// The flight for a key: the one that is under way, or a new one.
    fn join(&self, key: &Key, url: Url, now: UnixTime) -> Result<watch::Receiver<Option<Landed>>, Failure> {
        let mut under_way = locked(&self.inner.under_way);
        if let Some(flight) = under_way.get(key) {
            return Ok(flight.landed.clone());
        }
        // One may have landed since the cache was asked: it is kept before it leaves the map.
        if let Some(landed) = locked(&self.inner.kept).get(key, now) {
            return Ok(watch::channel(Some(landed)).1);
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let at_this_host = under_way.values().filter(|flight| flight.host == host).count();
        if under_way.len() >= UNDER_WAY || at_this_host >= AT_ONE_HOST {
            return Err(Failure::new("busy", format!("too many requests are under way, {at_this_host} to {host}")));
        }
        let (sender, landed) = watch::channel(None);
        under_way.insert(key.clone(), Flight { host, landed: landed.clone() });
        let departure = Departure { inner: Arc::clone(&self.inner), key: key.clone() };
        tokio::spawn(async move {
            let result = departure.inner.fetch(&departure.key, url, now).await;
            locked(&departure.inner.kept).put(&departure.key, &result, now, departure.inner.bounds.kept);
            // The flight is gone only then: who comes in between finds it in the cache.
            sender.send_replace(Some(result));
            drop(departure);
        });
        Ok(landed)
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("bounds", &self.inner.bounds).finish_non_exhaustive()
    }
}

/// Takes a flight out of the map however its task ends.
struct Departure {
    inner: Arc<Inner>,
    key: Key,
}

impl Drop for Departure {
    fn drop(&mut self) {
        locked(&self.inner.under_way).remove(&self.key);
    }
}

impl Inner {
    async fn fetch(&self, key: &Key, url: Url, now: UnixTime) -> Landed {
        let gone = |_| Failure::new("busy", "no turn");
        let _turn = self.turns.acquire().await.map_err(gone)?;
        let name = shown(&url);
        let (what, response) = match key.kind {
            Kind::Issuer => {
                let accept = "application/pkix-cert, application/pkcs7-mime, */*;q=0.5";
                ("issuer", self.http.request(Call::get(url, accept), MAX_ISSUER).await?)
            }
            Kind::Crl => {
                let call = Call::get(url, "application/pkix-crl, */*;q=0.5");
                ("CRL", self.http.request(call, self.bounds.crl).await?)
            }
            Kind::Ocsp => ("OCSP", self.ocsp(url, &key.request).await?),
        };
        let Response { head, body } = response;
        if head.status != 200 {
            return Err(Failure::new("http-status", format!("{name}: status {}", head.status.as_u16())));
        }
        let octets =
            der(&body, key.kind).ok_or_else(|| Failure::new("malformed", format!("{name}: neither DER nor PEM")))?;
        let exchange = Exchange {
            question: format!("{what} {name}"),
            server: head.server.to_string(),
            transport: if head.secure { "https" } else { "http" },
            result: format!("{} octets", octets.len()),
            extended_errors: Vec::new(),
        };
        Ok(Fetched { octets: octets.into(), fetched_at: now, exchange: Arc::new(exchange) })
    }

    /// By POST; by GET where a responder takes no POST and the request is short (RFC 6960 appendix A.1).
    async fn ocsp(&self, url: Url, request: &[u8]) -> Result<Response, Failure> {
        let accept = "application/ocsp-response";
        let body = request.to_vec().into();
        let posted = Call::post(url.clone(), accept, "application/ocsp-request", body);
        let response = self.http.request(posted, MAX_OCSP).await?;
        if response.head.status == 200 {
            return Ok(response);
        }
        let mut asked = url;
        let encoded = BASE64.encode(request).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        asked.set_path(&format!("{}/{encoded}", asked.path().trim_end_matches('/')));
        if asked.as_str().len() > MAX_OCSP_URL {
            return Ok(response);
        }
        self.http.request(Call::get(asked, accept), MAX_OCSP).await
    }
}

fn parse(url: &str) -> Result<Url, Failure> {
    if url.len() > MAX_URL {
        return Err(Failure::new("bad-url", format!("a URL of {} characters", url.len())));
    }
    Url::parse(url).map_err(|error| Failure::new("bad-url", format!("{url:?}: {error}")))
}

/// The DER of what came as DER or as PEM; `None` when it is neither (an error page, say).
fn der(body: &[u8], kind: Kind) -> Option<Vec<u8>> {
    match (body, kind) {
        // Every structure that is fetched is a SEQUENCE.
        ([0x30, ..], _) => Some(body.to_vec()),
        (_, Kind::Issuer) => Some(CertificateDer::from_pem_slice(body).ok()?.to_vec()),
        (_, Kind::Crl) => Some(CertificateRevocationListDer::from_pem_slice(body).ok()?.to_vec()),
        (_, Kind::Ocsp) => None,
    }
}

/// What was fetched, bounded in octets; the seldom used goes first.
#[derive(Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    /// The keys in the order in which the hand of the clock comes by.
    hand: VecDeque<Key>,
    octets: usize,
}

struct Entry {
    landed: Landed,
    until: UnixTime,
    octets: usize,
    used: bool,
}

impl Kept {
    fn get(&mut self, key: &Key, now: UnixTime) -> Option<Landed> {
        let entry = self.entries.get_mut(key).filter(|entry| now < entry.until)?;
        entry.used = true;
        Some(entry.landed.clone())
    }

    fn put(&mut self, key: &Key, landed: &Landed, now: UnixTime, most: usize) {
        let (octets, life) = match (landed, key.kind) {
            // Says nothing about the server.
            (Err(failure), _) if failure.code == "busy" => return,
            (Err(failure), _) => (failure.message.len(), FAILURE_LIFE),
            (Ok(fetched), Kind::Issuer) => (fetched.octets.len(), ISSUER_LIFE),
            (Ok(fetched), Kind::Crl | Kind::Ocsp) => (fetched.octets.len(), STATUS_LIFE),
        };
        // The key is in the map and in the hand.
        let octets = octets + 2 * key.weight();
        if octets > most {
            return;
        }
        let entry = Entry { landed: landed.clone(), until: now.saturating_add(life), octets, used: false };
        self.octets += octets;
        match self.entries.insert(key.clone(), entry) {
            Some(before) => self.octets -= before.octets,
            None => self.hand.push_back(key.clone()),
        }
        while self.octets > most {
            self.evict_one(now);
        }
    }

    fn evict_one(&mut self, now: UnixTime) {
        while let Some(key) = self.hand.pop_front() {
            match self.entries.get_mut(&key) {
                Some(entry) if entry.used && entry.until > now => {
                    entry.used = false;
                    self.hand.push_back(key);
                }
                Some(entry) => {
                    self.octets -= entry.octets;
                    self.entries.remove(&key);
                    return;
                }
                None => {}
            }
        }
    }
}

/// A panic elsewhere leaves these maps consistent, so a poisoned lock is as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::http::tests::{Answer, Server, ok, status};

    fn fetch(server: &Server, bounds: Bounds) -> Fetch {
        let reach = Reach::public().network("127.0.0.1/32".parse().unwrap()).port(server.address.port());
        Fetch::new(Tls::public().unwrap(), reach, bounds)
    }

    fn asked(server: &Server) -> usize {
        server.requests.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn what_was_fetched_is_kept_until_it_ends() {
        let server = Server::start(|_, _| ok("application/pkix-crl", &[0x30, 0])).await;
        let (fetch, budget) = (fetch(&server, Bounds::default()), Budget::new(4, 1 << 20));
        let url = server.url("/a.crl");
        for now in [100, 100, 100 + STATUS_LIFE - 1] {
            let fetched = fetch.get(What::Crl, &url, &budget, now).await.unwrap();
            assert_eq!((&fetched.octets[..], fetched.fetched_at), (&[0x30, 0][..], 100));
            assert_eq!(fetched.exchange.transport, "http");
        }
        assert_eq!(asked(&server), 1);
        fetch.keep_until(What::Crl, &url, 10_000);
        fetch.get(What::Crl, &url, &budget, 9_999).await.unwrap();
        assert_eq!(asked(&server), 1);
        assert_eq!(fetch.get(What::Crl, &url, &budget, 10_000).await.unwrap().fetched_at, 10_000);
        // The reader did not like it.
        fetch.keep_until(What::Crl, &url, 0);
        fetch.get(What::Crl, &url, &budget, 10_000).await.unwrap();
        assert_eq!(asked(&server), 3);
        // The same URL as something else is another thing.
        fetch.get(What::Issuer, &url, &budget, 10_000).await.unwrap();
        assert_eq!(asked(&server), 4);
        // And now the budget is spent, except for what is kept.
        fetch.get(What::Crl, &url, &budget, 10_000).await.unwrap();
        let failure = fetch.get(What::Crl, &server.url("/b.crl"), &budget, 10_000).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.code, "too-much-work");
    }

    #[tokio::test]
    async fn a_budget_of_octets_ends_too() {
        let server = Server::start(|_, _| ok("application/pkix-crl", &[0x30; 1000])).await;
        let (fetch, budget) = (fetch(&server, Bounds::default()), Budget::new(100, 2500));
        let mut fetched = 0;
        for i in 0..10 {
            fetched += usize::from(fetch.get(What::Crl, &server.url(&format!("/{i}")), &budget, 0).await.is_ok());
        }
        assert_eq!(fetched, 3);
    }

    #[tokio::test]
    async fn failures_are_remembered_for_seconds() {
        let failures = AtomicUsize::new(1);
        let server = Server::start(move |path, _| {
            if path == "GET /page" {
                return ok("text/html", b"<html>Log in first</html>");
            }
            if failures.swap(0, Ordering::SeqCst) == 1 {
                return status(503, "", b"");
            }
            ok("application/pkix-cert", &[0x30, 0])
        })
        .await;
        let (fetch, budget) = (fetch(&server, Bounds::default()), Budget::default());
        let code = async |what, path: &str, now| {
            fetch.get(what, &server.url(path), &budget, now).await.map(|_| "fetched").unwrap_or_else(|f| f.code)
        };
        assert_eq!(code(What::Issuer, "/", 100).await, "http-status");
        assert_eq!(code(What::Issuer, "/", 100 + FAILURE_LIFE - 1).await, "http-status");
        assert_eq!(asked(&server), 1);
        assert_eq!(code(What::Issuer, "/", 100 + FAILURE_LIFE).await, "fetched");
        assert_eq!(code(What::Crl, "/page", 100).await, "malformed");
        for url in ["http://127.0.0.2/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://localhost:25/"] {
            let failure = fetch.get(What::Crl, url, &budget, 100).await.map(|_| ()).unwrap_err();
            assert_eq!(failure.code, "forbidden-address", "{url}");
        }
        for url in ["", "nonsense", "gopher://example.org/", &format!("http://127.0.0.1/{}", "a".repeat(3000))] {
            let failure = fetch.get(What::Crl, url, &budget, 100).await.map(|_| ()).unwrap_err();
            assert_eq!(failure.code, "bad-url", "{url}");
        }
    }

    #[tokio::test]
    async fn one_request_is_under_way_and_outlives_who_asked() {
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let server = Server::start(move |_, _| {
            tokio::task::block_in_place(|| gate.lock().unwrap().recv().unwrap());
            ok("application/pkix-crl", &[0x30, 0])
        });
        // block_in_place needs more than one thread.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime.spawn(server).await.unwrap();
        let fetch = fetch(&server, Bounds::default());
        let url = server.url("/");
        let ask = || {
            let (fetch, url) = (fetch.clone(), url.clone());
            tokio::spawn(async move { fetch.get(What::Crl, &url, &Budget::default(), 0).await.map(|_| ()) })
        };
        let (first, second, third) = (ask(), ask(), ask());
        while asked(&server) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        first.abort();
        second.abort();
        third.abort();
        open.send(()).unwrap();
        ask().await.unwrap().unwrap();
        assert_eq!(asked(&server), 1);
        while !locked(&fetch.inner.under_way).is_empty() {
            tokio::task::yield_now().await;
        }
        runtime.shutdown_background();
    }

    #[tokio::test]
    async fn ocsp_is_posted_and_asked_by_get_where_it_must() {
        let server = Server::start(|request, body| match request {
            "POST /post" => ok("application/ocsp-response", &[&[0x30], body].concat()),
            "POST /get" => status(405, "", b""),
            "GET /get/MPv%2F%2FA%3D%3D" => ok("application/ocsp-response", &[0x30, 1]),
            other => panic!("{other}"),
        })
        .await;
        let (fetch, budget) = (fetch(&server, Bounds::default()), Budget::default());
        let request = [0x30, 0xfb, 0xff, 0xfc];
        let posted = fetch.get(What::Ocsp(&request), &server.url("/post"), &budget, 0).await.unwrap();
        assert_eq!(posted.octets[..], [&[0x30][..], &request].concat());
        assert_eq!(
            fetch.get(What::Ocsp(&request), &server.url("/get"), &budget, 0).await.unwrap().octets[..],
            [0x30, 1]
        );
        // Too long for a GET: the refusal stands.
        let long = [0x30; 300];
        let failure = fetch.get(What::Ocsp(&long), &server.url("/get"), &budget, 0).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.code, "http-status");
    }

    #[tokio::test]
    async fn the_cache_holds_what_it_may() {
        let server = Server::start(|_, _| ok("application/pkix-crl", &[0x30; 1000])).await;
        let fetch = fetch(&server, Bounds { kept: 20_000, ..Bounds::default() });
        for i in 0..50 {
            let budget = Budget::default();
            fetch.get(What::Crl, &server.url("/0"), &budget, 0).await.unwrap();
            fetch.get(What::Crl, &server.url(&format!("/{i}")), &budget, 0).await.unwrap();
            let kept = locked(&fetch.inner.kept);
            assert!(kept.octets <= 20_000 && kept.entries.len() == kept.hand.len());
            assert_eq!(kept.octets, kept.entries.values().map(|entry| entry.octets).sum::<usize>());
        }
        assert!(asked(&server) <= 51, "what is asked for all the time stays: {}", asked(&server));
        // Larger than everything: handed on, not kept.
        let tiny = Fetch::new(
            Tls::public().unwrap(),
            Reach::public().network("127.0.0.1/32".parse().unwrap()).port(server.address.port()),
            Bounds { kept: 0, crl: 999, ..Bounds::default() },
        );
        let failure = tiny.get(What::Crl, &server.url("/0"), &Budget::default(), 0).await.map(|_| ()).unwrap_err();
        assert_eq!(failure.code, "too-large");
        assert!(matches!(ok("", b""), Answer::Keep(_)));
    }
}
