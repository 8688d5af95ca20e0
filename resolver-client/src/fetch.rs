//! Fetches what a certificate points at: its issuer (RFC 5280 section 4.2.2.1), revocation lists (section 4.2.1.13) and
//! OCSP answers (RFC 6960).
//!
//! The octets are handed on as they came; what they mean is for the certificate crate to say. Until it has verified them
//! ([`Fetch::verified`]) they are kept for a minute only: they came over a network where anybody may have answered. One
//! request is under way for one URL, whoever waits for it: it goes on when they stop waiting, so a large list that outlasts
//! one look-up is there for the next.
//!
//! Requests share turns, and room in memory for what is on its way. No host has more than a quarter of the turns, and what
//! takes long gives way to those who wait. Who waits in vain has the failure [`BUSY`], and who has had enough
//! [`TOO_MUCH_WORK`]: bounds of our own, which say nothing about the other side and are not remembered.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certdir_certificate::UnixTime;
use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use crate::http::{Call, Http, Patience, Response, shown};
use crate::outcome::Failure;
use crate::reach::{Ports, Reach};
use crate::tls::Tls;
use crate::trace::Exchange;

/// The code of a failure for want of a turn or of room: the URL may well be reachable. Not remembered.
pub const BUSY: &str = "busy";

/// The code of a failure of a look-up that has fetched as much as one may. Not remembered.
pub const TOO_MUCH_WORK: &str = "too-much-work";

/// How long a failure is remembered from its end, in seconds.
const FAILURE_LIFE: UnixTime = 10;

/// Seconds for which something is kept before its reader has verified it.
const UNVERIFIED_LIFE: UnixTime = 60;

/// Octets of an issuer's certificate, or of a bundle of them.
const MAX_ISSUER: usize = 256 << 10;

/// Octets of an OCSP answer.
const MAX_OCSP: usize = 64 << 10;

/// Characters of a URL.
const MAX_URL: usize = 2_048;

/// Requests that have their turn, and those of one site among them. A look-up may make as many as one site ([`Budget`]).
const AT_ONCE: u32 = 64;
const AT_ONE_SITE: u32 = 16;

/// Requests that have or await their turn, and those of one site among them.
const UNDER_WAY: usize = 1_024;
const UNDER_WAY_AT_ONE_SITE: usize = 256;

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

/// Whether a failure is a bound of our own, so that nothing is known of the other side.
pub fn is_own_bound(failure: &Failure) -> bool {
    matches!(failure.code, BUSY | TOO_MUCH_WORK)
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
    /// Octets of memory for all that is on its way, each at twice its size (128 MiB).
    pub room: usize,
    /// How long one request may take, its body included (30 seconds).
    pub total: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { crl: 32 << 20, kept: 64 << 20, room: 128 << 20, total: Duration::from_secs(30) }
    }
}

/// What one look-up may still fetch. What is in the cache costs nothing.
#[derive(Debug)]
pub struct Budget {
    requests: AtomicU32,
    octets: AtomicU64,
}

impl Budget {
    /// So many requests, and so many octets. What would be more is not handed over.
    pub fn new(requests: u32, octets: u64) -> Budget {
        Budget { requests: AtomicU32::new(requests), octets: AtomicU64::new(octets) }
    }

    fn begin(&self) -> Result<(), Failure> {
        let enough = |left: u32| left.checked_sub(1);
        let counted = self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough);
        if counted.is_err() || self.octets.load(Ordering::Relaxed) == 0 {
            return Err(spent());
        }
        Ok(())
    }

    fn charge(&self, octets: usize) -> Result<(), Failure> {
        let octets = u64::try_from(octets).unwrap_or(u64::MAX);
        let charged = self.octets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(octets));
        charged.map(|_| ()).map_err(|_| spent())
    }
}

fn spent() -> Failure {
    Failure::new(TOO_MUCH_WORK, "this look-up has fetched as much as one may")
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
    turns: Scarce,
    /// In KiB.
    room: Scarce,
    pace: Pace,
}

/// A request that others may wait for, too.
struct Flight {
    site: String,
    at_site: Arc<Scarce>,
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
        Fetch::paced(tls, reach, bounds, AT_ONCE, Pace::default())
    }

    fn paced(tls: Tls, reach: Reach, bounds: Bounds, at_once: u32, pace: Pace) -> Fetch {
        let patience = Patience { total: bounds.total, ..Patience::default() };
        let http = Http::new(tls, reach, Ports::Web, patience);
        let (turns, room) = (Scarce::new(at_once, pace), Scarce::new(kib(bounds.room), pace));
        let (kept, under_way) = Default::default();
        Fetch { inner: Arc::new(Inner { http, bounds, kept, under_way, turns, room, pace }) }
    }

    /// What is at a URL: from the cache, from a request that is under way, or from a new one.
    ///
    /// Cancellation-safe: a request that nobody waits for any more ends in the cache all the same.
    ///
    /// # Errors
    /// Nothing could be fetched; remembered for seconds unless it is a bound of our own ([`is_own_bound`]). The codes are
    /// in `docs/resolver.md`.
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
            budget.charge(fetched.octets.len())?;
        }
        landed
    }

    /// Keeps what is at a URL until this second, exclusive: the `nextUpdate` of a list, say. In the past: asks anew
    /// next time. Only for who has verified it; see [`Fetch::verified`].
    pub fn keep_until(&self, what: What<'_>, url: &str, until: UnixTime) {
        locked(&self.inner.kept).keep(&Key::new(what, url), None, until);
    }

    /// What came from a URL is genuine: it is kept until this second, exclusive. Nothing happens when something else has come
    /// from there meanwhile.
    pub fn verified(&self, what: What<'_>, url: &str, fetched: &Fetched, until: UnixTime) {
        locked(&self.inner.kept).keep(&Key::new(what, url), Some(&fetched.octets), until);
    }

    /// What came from a URL is of no use: a forgery, say. It is asked for anew next time.
    pub fn forget(&self, what: What<'_>, url: &str) {
        locked(&self.inner.kept).forget(&Key::new(what, url));
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
        let site = site(&url);
        let there = || under_way.values().filter(|flight| flight.site == site);
        if under_way.len() >= UNDER_WAY || there().count() >= UNDER_WAY_AT_ONE_SITE {
            return Err(Failure::new(BUSY, format!("too many requests are under way, {} to {site}", there().count())));
        }
        let at_site = there().next().map(|flight| Arc::clone(&flight.at_site));
        let at_site = at_site.unwrap_or_else(|| Arc::new(Scarce::new(AT_ONE_SITE, self.inner.pace)));
        let (sender, landed) = watch::channel(None);
        under_way.insert(key.clone(), Flight { site, at_site: Arc::clone(&at_site), landed: landed.clone() });
        let departure = Departure { inner: Arc::clone(&self.inner), key: key.clone() };
        tokio::spawn(async move {
            let (inner, begun) = (&departure.inner, Instant::now());
            let result = at_site.share(1, inner.turns.share(1, inner.fetch(&departure.key, url, now))).await;
            // A request that ends by waiting in vain ends much later than it began.
            let ended = now.saturating_add(begun.elapsed().as_secs().try_into().unwrap_or(0));
            locked(&inner.kept).put(&departure.key, &result, (now, ended), inner.bounds.kept);
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
        let name = shown(&url);
        let (what, response) = match key.kind {
            Kind::Issuer => {
                let accept = "application/pkix-cert, application/pkcs7-mime, */*;q=0.5";
                ("issuer", self.request(Call::get(url, accept), MAX_ISSUER).await?)
            }
            Kind::Crl => {
                let call = Call::get(url, "application/pkix-crl, */*;q=0.5");
                ("CRL", self.request(call, self.bounds.crl).await?)
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
        Ok(Fetched { octets, fetched_at: now, exchange: Arc::new(exchange) })
    }

    /// One request, with room for what comes once it is known how much that may be. Waiting for room is not the other
    /// side's time.
    async fn request(&self, call: Call, limit: usize) -> Result<Response, Failure> {
        let (begun, total) = (Instant::now(), self.bounds.total);
        let late = format!("{} did not answer in time", shown(&call.url));
        let late = |_| Failure::new("timeout", late.clone());
        let reading = timeout(total, self.http.open(call)).await.map_err(late)??;
        let left = total.saturating_sub(begun.elapsed());
        // While it comes and when it is copied it is there twice.
        let room = kib(reading.most(limit)?.saturating_mul(2));
        let body = async { timeout(left, reading.whole(limit)).await.map_err(late)? };
        self.room.share(room, body).await
    }

    /// By POST; by GET where a responder takes no POST and the request is short (RFC 6960 appendix A.1).
    async fn ocsp(&self, url: Url, request: &[u8]) -> Result<Response, Failure> {
        let accept = "application/ocsp-response";
        let body = request.to_vec().into();
        let posted = Call::post(url.clone(), accept, "application/ocsp-request", body);
        let response = self.request(posted, MAX_OCSP).await?;
        if response.head.status == 200 {
            return Ok(response);
        }
        let mut asked = url;
        let encoded = BASE64.encode(request).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        asked.set_path(&format!("{}/{encoded}", asked.path().trim_end_matches('/')));
        if asked.as_str().len() > MAX_OCSP_URL {
            return Ok(response);
        }
        self.request(Call::get(asked, accept), MAX_OCSP).await
    }
}

fn parse(url: &str) -> Result<Url, Failure> {
    if url.len() > MAX_URL {
        return Err(Failure::new("bad-url", format!("a URL of {} characters", url.len())));
    }
    Url::parse(url).map_err(|error| Failure::new("bad-url", format!("{url:?}: {error}")))
}

/// The DER of what came as DER or as PEM; `None` when it is neither (an error page, say).
fn der(body: &[u8], kind: Kind) -> Option<Arc<[u8]>> {
    match (body, kind) {
        // Every structure that is fetched is a SEQUENCE.
        ([0x30, ..], _) => Some(body.into()),
        (_, Kind::Issuer) => Some(CertificateDer::from_pem_slice(body).ok()?.as_ref().into()),
        (_, Kind::Crl) => Some(CertificateRevocationListDer::from_pem_slice(body).ok()?.as_ref().into()),
        (_, Kind::Ocsp) => None,
    }
}

/// Who is asked, as far as that can be told before: the last two labels of a name, an IPv4 address, an IPv6 network of 48
/// bits. Many names below one domain are one site.
fn site(url: &Url) -> String {
    match url.host() {
        Some(Host::Ipv6(address)) => {
            let [a, b, c, ..] = address.segments();
            format!("[{a:x}:{b:x}:{c:x}::]")
        }
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Domain(name)) => {
            let mut labels = name.trim_end_matches('.').rsplitn(3, '.');
            let (last, before) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
            format!("{before}.{last}").to_ascii_lowercase()
        }
        None => String::new(),
    }
}

/// KiB for so many octets, at least one.
fn kib(octets: usize) -> u32 {
    u32::try_from(octets.div_ceil(1 << 10)).unwrap_or(u32::MAX).max(1)
}

/// How long one waits for what others have, and how long one has what others wait for.
#[derive(Clone, Copy, Debug)]
struct Pace {
    wait: Duration,
    held: Duration,
}

impl Default for Pace {
    /// A look-up takes 10 seconds: who waits in vain knows it before, and what was held too long is free before that.
    fn default() -> Pace {
        Pace { wait: Duration::from_secs(5), held: Duration::from_secs(4) }
    }
}

/// How often one that holds too long looks whether somebody waits.
const GLANCE: Duration = Duration::from_millis(250);

/// What requests share: turns, or room in memory. First come, first served, except that a small want is not kept waiting by
/// a large one.
struct Scarce {
    free: Semaphore,
    all: u32,
    pace: Pace,
    queue: Mutex<Queue>,
}

/// Those who wait, and those who gave way to them.
#[derive(Default)]
struct Queue {
    waiting: usize,
    leaving: usize,
}

impl Scarce {
    fn new(all: u32, pace: Pace) -> Scarce {
        Scarce { free: Semaphore::new(usize::try_from(all).unwrap_or(usize::MAX)), all, pace, queue: Mutex::default() }
    }

    /// Does something while it has so many of it: all of it when there are not so many at all.
    async fn share<T>(&self, wanted: u32, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let wanted = wanted.min(self.all);
        let _had = match self.free.try_acquire_many(wanted) {
            Ok(had) => had,
            Err(_) => {
                let _waiting = Waiting::new(&self.queue);
                let had = timeout(self.pace.wait, self.free.acquire_many(wanted)).await;
                had.ok()
                    .and_then(Result::ok)
                    .ok_or_else(|| Failure::new(BUSY, "other requests left no turn or room"))?
            }
        };
        let (mut work, mut patience) = (pin!(work), self.pace.held);
        loop {
            match timeout(patience, work.as_mut()).await {
                Ok(result) => return result,
                Err(_) if self.gives_way() => {
                    return Err(Failure::new(BUSY, "the answer came too slowly while others waited"));
                }
                Err(_) => patience = GLANCE,
            }
        }
    }

    /// Whether more wait than have been given way to.
    fn gives_way(&self) -> bool {
        let mut queue = locked(&self.queue);
        let gives_way = queue.waiting > queue.leaving;
        queue.leaving += usize::from(gives_way);
        gives_way
    }
}

/// One who waits.
struct Waiting<'a>(&'a Mutex<Queue>);

impl<'a> Waiting<'a> {
    fn new(queue: &'a Mutex<Queue>) -> Waiting<'a> {
        locked(queue).waiting += 1;
        Waiting(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = locked(self.0);
        queue.waiting = queue.waiting.saturating_sub(1);
        queue.leaving = queue.leaving.saturating_sub(1);
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

    /// Keeps what a request gave that was asked for and ended then.
    fn put(&mut self, key: &Key, landed: &Landed, (now, ended): (UnixTime, UnixTime), most: usize) {
        let until = match landed {
            // Says nothing about the server.
            Err(failure) if is_own_bound(failure) => return,
            Err(_) => ended.saturating_add(FAILURE_LIFE),
            Ok(_) => now.saturating_add(UNVERIFIED_LIFE),
        };
        let octets = weight(key, landed);
        if octets > most {
            return;
        }
        let entry = Entry { landed: landed.clone(), until, octets, used: false };
        self.octets += octets;
        match self.entries.insert(key.clone(), entry) {
            Some(before) => self.octets -= before.octets,
            None => self.hand.push_back(key.clone()),
        }
        while self.octets > most {
            self.evict_one(now);
        }
    }

    /// Keeps what was fetched, and only these octets when they are given, until then.
    fn keep(&mut self, key: &Key, octets: Option<&Arc<[u8]>>, until: UnixTime) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Ok(fetched) = &entry.landed else { return };
        if octets.is_none_or(|octets| Arc::ptr_eq(octets, &fetched.octets)) {
            entry.until = until;
        }
    }

    /// Its place stays until the hand comes by, its octets go.
    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.landed = Err(Failure::new("malformed", String::new()));
            entry.until = UnixTime::MIN;
            self.octets -= entry.octets;
            entry.octets = weight(key, &entry.landed);
            self.octets += entry.octets;
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

/// What an entry takes in memory, about. The key is in the map and in the hand.
fn weight(key: &Key, landed: &Landed) -> usize {
    let told = match landed {
        Err(failure) => failure.message.len(),
        Ok(Fetched { octets, exchange, .. }) => {
            octets.len() + exchange.question.len() + exchange.server.len() + exchange.result.len()
        }
    };
    told + 2 * key.weight()
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

    /// With so many turns, and a pace of its own.
    fn scarce(server: &Server, bounds: Bounds, at_once: u32, wait: u64, held: u64) -> Fetch {
        let reach = Reach::public().network("127.0.0.1/32".parse().unwrap()).port(server.address.port());
        let pace = Pace { wait: Duration::from_millis(wait), held: Duration::from_millis(held) };
        Fetch::paced(Tls::public().unwrap(), reach, bounds, at_once, pace)
    }

    /// Fetches a list in the background, and gives the code of its failure.
    fn ask(fetch: &Fetch, url: String) -> tokio::task::JoinHandle<&'static str> {
        let fetch = fetch.clone();
        tokio::spawn(async move {
            let got = fetch.get(What::Crl, &url, &Budget::default(), 0).await;
            got.map(|_| "fetched").unwrap_or_else(|failure| failure.code)
        })
    }

    async fn until_asked(server: &Server, times: usize) {
        while asked(server) < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    const LONG: u64 = 60_000;

    #[tokio::test]
    async fn what_is_slow_gives_way_to_who_waits() {
        let server = Server::start(|path, _| match path {
            "GET /slow" => Answer::Stuck(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0".to_vec()),
            _ => ok("application/pkix-crl", &[0x30, 0]),
        })
        .await;
        let one_turn = scarce(&server, Bounds::default(), 1, LONG, 50);
        let one_room = scarce(&server, Bounds { room: 2_000, ..Bounds::default() }, 8, LONG, 50);
        for (number, fetch) in [one_turn, one_room].into_iter().enumerate() {
            let slow = ask(&fetch, server.url("/slow"));
            until_asked(&server, 2 * number + 1).await;
            while number == 1 && fetch.inner.room.free.available_permits() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(ask(&fetch, server.url("/quick")).await.unwrap(), "fetched");
            assert_eq!(slow.await.unwrap(), BUSY);
            // Nothing is remembered of what was our own bound.
            assert_eq!(locked(&fetch.inner.kept).entries.len(), 1);
        }
    }

    #[tokio::test]
    async fn who_waits_in_vain_is_told_so_and_nothing_is_remembered() {
        let server = Server::start(|path, _| match path {
            "GET /slow" => Answer::Stuck(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0".to_vec()),
            _ => ok("application/pkix-crl", &[0x30, 0]),
        })
        .await;
        let one_turn = scarce(&server, Bounds::default(), 1, 50, LONG);
        let one_room = scarce(&server, Bounds { room: 2_000, ..Bounds::default() }, 8, 50, LONG);
        for fetch in [one_turn, one_room] {
            let before = asked(&server);
            let slow = ask(&fetch, server.url("/slow"));
            until_asked(&server, before + 1).await;
            while fetch.inner.turns.free.available_permits() > 0 && fetch.inner.room.free.available_permits() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(ask(&fetch, server.url("/quick")).await.unwrap(), BUSY);
            assert!(locked(&fetch.inner.kept).entries.is_empty());
            slow.abort();
        }
    }

    #[tokio::test]
    async fn one_site_has_a_quarter_of_the_turns() {
        let server = Server::start(|_, _| Answer::Stuck(Vec::new())).await;
        let fetch = scarce(&server, Bounds::default(), AT_ONCE, LONG, LONG);
        let all: Vec<_> = (0..300).map(|i| ask(&fetch, server.url(&format!("/{i}")))).collect();
        until_asked(&server, 16).await;
        while locked(&fetch.inner.under_way).len() < UNDER_WAY_AT_ONE_SITE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(ask(&fetch, server.url("/more")).await.unwrap(), BUSY);
        assert_eq!(fetch.inner.turns.free.available_permits(), 48);
        assert_eq!(asked(&server), 16);
        all.iter().for_each(tokio::task::JoinHandle::abort);
        let site = |url: &str| site(&Url::parse(url).unwrap());
        assert_eq!(site("http://a.b.Evil.org/"), site("https://evil.org.:443/x"));
        assert_ne!(site("http://evil.org/"), site("http://example.org/"));
        assert_eq!(site("http://[2001:db8:1:2::3]/"), site("http://[2001:db8:1::4]/"));
        assert_ne!(site("http://192.0.2.1/"), site("http://192.0.2.2/"));
    }

    #[test]
    fn a_failure_is_remembered_from_its_end() {
        let (mut kept, key) = (Kept::default(), Key::new(What::Crl, "http://a.example/"));
        kept.put(&key, &Err(Failure::new("timeout", "late")), (100, 130), 1 << 20);
        assert!(kept.get(&key, 130 + FAILURE_LIFE - 1).is_some());
        assert!(kept.get(&key, 130 + FAILURE_LIFE).is_none());
        // Who says that a failure is genuine is not heard.
        kept.keep(&key, None, 1_000);
        assert!(kept.get(&key, 500).is_none());
        for code in [BUSY, TOO_MUCH_WORK] {
            let key = Key::new(What::Issuer, "http://b.example/");
            kept.put(&key, &Err(Failure::new(code, "our own bound")), (100, 100), 1 << 20);
            assert!(kept.get(&key, 100).is_none(), "{code}");
        }
    }

    #[tokio::test]
    async fn a_forgery_is_not_kept() {
        let server = Server::start(|_, _| ok("application/pkix-crl", &[0x30; 1000])).await;
        let (fetch, budget) = (fetch(&server, Bounds::default()), Budget::default());
        let url = server.url("/a.crl");
        let forged = fetch.get(What::Crl, &url, &budget, 100).await.unwrap();
        fetch.forget(What::Crl, &url);
        assert!(locked(&fetch.inner.kept).octets < 3_000, "its octets are gone");
        // Too late: neither is the failure kept, nor what came later.
        fetch.verified(What::Crl, &url, &forged, 10_000);
        let other = fetch.get(What::Crl, &url, &budget, 100).await.unwrap();
        assert_eq!(asked(&server), 2);
        fetch.verified(What::Crl, &url, &forged, 10_000);
        fetch.get(What::Crl, &url, &budget, 100 + UNVERIFIED_LIFE).await.unwrap();
        assert_eq!(asked(&server), 3);
        drop(other);
        let genuine = fetch.get(What::Crl, &url, &budget, 100 + UNVERIFIED_LIFE).await.unwrap();
        fetch.verified(What::Crl, &url, &genuine, 10_000);
        fetch.get(What::Crl, &url, &budget, 9_999).await.unwrap();
        assert_eq!(asked(&server), 3);
        let kept = locked(&fetch.inner.kept);
        assert_eq!(kept.entries.len(), kept.hand.len());
        assert_eq!(kept.octets, kept.entries.values().map(|entry| entry.octets).sum::<usize>());
        assert!(kept.octets >= 1_000);
    }

    fn asked(server: &Server) -> usize {
        server.requests.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn what_was_fetched_is_kept_until_it_ends() {
        let server = Server::start(|_, _| ok("application/pkix-crl", &[0x30, 0])).await;
        let (fetch, budget) = (fetch(&server, Bounds::default()), Budget::new(4, 1 << 20));
        let url = server.url("/a.crl");
        for now in [100, 100, 100 + UNVERIFIED_LIFE - 1] {
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
        assert_eq!(fetched, 2, "a third would be more than it may");
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
