//! The change feed of a directory (`/v1/changes`, `docs/http.md`), the client's side.
//!
//! [`run`] keeps one subscription: server-sent events, or long polls where a proxy in between holds the events back. It
//! goes on from the cursor of the last answer, so what happened while the connection was broken is told afterwards; where the
//! directory cannot go on from there, everything is in doubt and is asked for again. With a token every change of the
//! directory's domains is told; without one, those of the addresses listed. Either is a signal and nothing else.

mod events;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certdir_zones::{Address, DomainName};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use url::{Host, Url};

use self::events::Parser;
use crate::error::Error;
use crate::http::{Call, Head, Http, Patience, Reading};
use crate::outcome::Failure;
use crate::push::jitter;
use crate::reach::{Ports, Reach};
use crate::tls::Tls;

/// Names in one request (`docs/http.md`).
const MAX_NAMES: usize = 16_384;

/// Octets of one event or of one answer: a page of rows, or every name of the list.
const MAX_ANSWER: usize = 4 << 20;

/// How long the directory is asked to wait for a change.
const WAIT: &str = "30s";

/// Path of the feed below the directory's URL.
const PATH: &str = "/v1/changes";

/// Times of the feed client; tests have shorter ones.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// A stream without `begin` after this long is held back by something in between.
    pub(crate) begin: Duration,
    /// A stream in which nothing at all comes for this long is dead: there is a comment every 15 seconds.
    pub(crate) silence: Duration,
    /// How long long polls are made before a stream is tried again.
    pub(crate) polling: Duration,
    /// Before the first attempt to connect again; doubled after each.
    pub(crate) first_wait: Duration,
    /// The longest between two attempts.
    pub(crate) longest_wait: Duration,
    /// A connection that lasted this long begins again with `first_wait`.
    pub(crate) settled: Duration,
    /// Names that come together are listed together.
    pub(crate) gather: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            begin: Duration::from_secs(10),
            silence: Duration::from_secs(45),
            polling: Duration::from_secs(600),
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(60),
            settled: Duration::from_secs(30),
            gather: Duration::from_millis(200),
        }
    }
}

/// A directory whose change feed is followed.
#[derive(Clone)]
#[must_use]
pub struct Feed {
    url: Url,
    token: Option<HeaderValue>,
    domains: HashSet<DomainName>,
    tls: Tls,
}

impl Feed {
    /// The feed of the directory at a URL (`https://directory.example.org`). Over `https` the server must prove to be
    /// the URL's host as `tls` says.
    ///
    /// # Errors
    /// When the URL is none of `http` or `https`, or has a user name or password.
    pub fn new(url: &str, tls: Tls) -> Result<Feed, Error> {
        // What is refused is not shown: it may hold a password.
        let mut parsed = Url::parse(url).map_err(|error| Error::BadFeed(format!("no URL: {error}")))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(Error::BadFeed("a URL without user name and password is expected".to_owned()));
        }
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(Error::BadFeed(format!("{parsed}: give an http or https URL")));
        }
        let path = format!("{}{PATH}", parsed.path().trim_end_matches('/'));
        parsed.set_path(&path);
        Ok(Feed { url: parsed, token: None, domains: HashSet::new(), tls })
    }

    /// A token of the directory that may read its domains: every change is then told, and no list of names is sent.
    ///
    /// # Errors
    /// When the token has characters that none has, or would go over plain `http` to another host than this one.
    pub fn token(mut self, token: &str) -> Result<Feed, Error> {
        let here = match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            None => false,
        };
        if self.url.scheme() != "https" && !here {
            return Err(Error::BadFeed(format!("{}: a token only goes over https", self.url)));
        }
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| Error::BadFeed("the token has characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    /// The feed is for this domain; may be given several times. Without any it is for all, and the directory says which of
    /// them it does not host.
    pub fn domain(mut self, domain: DomainName) -> Feed {
        self.domains.insert(domain);
        self
    }

    /// Whether the operator gave the feed for this domain.
    pub(crate) fn is_for(&self, domain: &DomainName) -> bool {
        self.domains.is_empty() || self.domains.contains(domain)
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("url", &self.url.as_str()).field("token", &self.token.is_some()).finish()
    }
}

/// What a feed says, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The subscription holds.
    Following {
        /// Addresses that are told of from now on and were not before: what happened to them until now is not known. With
        /// a token, and at the first time, `None`: all.
        new: Option<Vec<Address>>,
    },
    /// The domains changed that the directory does not host, and of which nothing will be heard.
    NotHosted,
    /// A mailbox is to be asked for again.
    Address(Address),
    /// Every address of a domain is.
    Domain(DomainName),
    /// Everything is.
    Reset,
    /// The connection is over.
    Lost,
}

/// A feed and which addresses it is to tell of.
pub(crate) struct Client {
    pub(crate) feed: Feed,
    names: Mutex<HashSet<Address>>,
    /// What of it the directory tells now.
    told: Mutex<HashSet<Address>>,
    not_hosted: Mutex<HashSet<DomainName>>,
    changed: Notify,
    up: AtomicBool,
}

impl Client {
    pub(crate) fn new(feed: Feed) -> Client {
        Client {
            feed,
            names: Mutex::default(),
            told: Mutex::default(),
            not_hosted: Mutex::default(),
            changed: Notify::new(),
            up: AtomicBool::new(false),
        }
    }

    /// Tells of this address now or soon. `false`: the list is full.
    pub(crate) fn want(&self, address: &Address) -> bool {
        let mut names = locked(&self.names);
        if names.len() >= MAX_NAMES && self.feed.token.is_none() && !names.contains(address) {
            return false;
        }
        if names.insert(address.clone()) {
            drop(names);
            self.changed.notify_one();
        }
        true
    }

    /// Needs not tell of it any more. The list is not sent again for that.
    pub(crate) fn unwant(&self, address: &Address) {
        locked(&self.names).remove(address);
    }

    /// Whether changes of this address are told now.
    pub(crate) fn tells_of(&self, address: &Address) -> bool {
        self.is_up()
            && self.feed.is_for(address.domain())
            && (self.feed.token.is_some() || locked(&self.told).contains(address))
            && !locked(&self.not_hosted).contains(address.domain())
    }

    /// True while the subscription holds.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }
}

/// What of the feed's JSON matters here, of a page, of an event and of a row.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    cursor: Option<String>,
    more: bool,
    changes: Vec<Row>,
    names: Vec<String>,
    domains: Vec<String>,
    not_hosted: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Row {
    #[serde(default)]
    scope: String,
    #[serde(default = "yes")]
    public: bool,
    domain: Option<String>,
    address: Option<String>,
}

fn yes() -> bool {
    true
}

/// Why a subscription ended.
#[derive(Debug)]
struct End {
    failure: Failure,
    /// How long the directory wants to be left alone.
    wait: Option<Duration>,
    /// A stream did not come through: poll.
    poll: bool,
    /// Not an error: the list is sent anew, or a stream ended in its time.
    orderly: bool,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End { failure, wait: None, poll: false, orderly: false }
    }
}

impl End {
    fn orderly(message: &str) -> End {
        End { orderly: true, ..End::from(Failure::new("network", message)) }
    }

    fn deaf() -> End {
        End::from(Failure::new("network", "nobody listens any more"))
    }
}

/// Where a subscription stands from one connection to the next.
struct Following<'a> {
    client: &'a Client,
    http: &'a Http,
    pace: &'a Pace,
    events: &'a mpsc::Sender<(usize, Event)>,
    index: usize,
    cursor: Option<String>,
    /// What was listed in the last request that was answered.
    listed: HashSet<Address>,
    ever: bool,
}

/// Follows the feed for as long as somebody takes its events; `index` is told with each.
pub(crate) async fn run(client: Arc<Client>, index: usize, pace: Pace, events: mpsc::Sender<(usize, Event)>) {
    // The operator named it, so it is reached wherever it is.
    let idle = pace.silence.max(Duration::from_secs(45));
    let patience = Patience { connect: Duration::from_secs(5), idle, total: idle + Duration::from_secs(15) };
    let http = Http::new(client.feed.tls.clone(), Reach::everywhere(), Ports::Announced, patience);
    let mut following = Following {
        client: &client,
        http: &http,
        pace: &pace,
        events: &events,
        index,
        cursor: None,
        listed: HashSet::new(),
        ever: false,
    };
    let mut wait = pace.first_wait;
    let mut poll_until: Option<Instant> = None;
    while !events.is_closed() {
        if locked(&client.names).is_empty() {
            client.changed.notified().await;
            sleep(pace.gather).await;
            continue;
        }
        let began = Instant::now();
        let polls = poll_until.filter(|until| *until > began);
        let end = match polls {
            Some(until) => following.poll(until).await,
            None => following.stream().await,
        };
        if end.poll {
            poll_until = Some(Instant::now() + pace.polling);
        }
        if end.orderly || end.poll {
            wait = pace.first_wait;
            continue;
        }
        client.up.store(false, Ordering::Release);
        if events.send((index, Event::Lost)).await.is_err() {
            return;
        }
        if began.elapsed() >= pace.settled {
            wait = pace.first_wait;
        }
        sleep(end.wait.unwrap_or(wait) + jitter(wait)).await;
        wait = wait.saturating_mul(2).min(pace.longest_wait);
        let _ = end.failure;
    }
}

impl Following<'_> {
    /// Server-sent events, until the connection ends.
    async fn stream(&mut self) -> End {
        let listing = self.listing();
        let call = match self.call(&listing, "text/event-stream", None) {
            Ok(call) => call,
            Err(failure) => return failure.into(),
        };
        let opened = timeout(self.pace.begin, self.http.open(call)).await;
        let reading = match opened {
            Ok(Ok(reading)) => reading,
            Ok(Err(failure)) => return failure.into(),
            Err(_) => return End { poll: true, ..Failure::new("timeout", "the stream does not begin").into() },
        };
        if let Some(end) = self.refusal(&reading.head) {
            return end;
        }
        let media = reading.head.field(CONTENT_TYPE).unwrap_or_default();
        if !media.starts_with("text/event-stream") {
            return End { poll: true, ..Failure::new("malformed", "the directory sends no events").into() };
        }
        let began = Instant::now();
        match self.events_of(reading, listing).await {
            Err(end) => end,
            // A directory that ends every stream at once is not asked again at once.
            Ok(()) => End { orderly: began.elapsed() >= self.pace.settled, ..End::orderly("the stream ended") },
        }
    }

    async fn events_of(&mut self, mut reading: Reading, listing: HashSet<Address>) -> Result<(), End> {
        reading.set_idle(self.pace.begin);
        let mut begun = false;
        let mut listing = Some(listing);
        let mut parser = Parser::default();
        loop {
            let piece = tokio::select! {
                piece = reading.next() => piece,
                () = self.relist(), if begun => return Err(End::orderly("the list of names grew")),
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                // A stream ends in its time, and with its server.
                Ok(None) if begun => return Ok(()),
                Ok(None) => return Err(Failure::new("network", "the stream ended before it began").into()),
                Err(failure) => return Err(End { poll: !begun && failure.code == "timeout", ..failure.into() }),
            };
            for event in parser.feed(&piece).map_err(End::from)? {
                match event.kind.as_str() {
                    "begin" => {
                        begun = true;
                        reading.set_idle(self.pace.silence);
                        let told: Told = json(event.data.as_bytes())?;
                        if event.id.is_some() {
                            self.cursor = event.id;
                        }
                        self.not_hosted(told.not_hosted).await?;
                        self.begun(listing.take().unwrap_or_default()).await?;
                        continue;
                    }
                    "change" => self.row(json(event.data.as_bytes())?).await?,
                    "changed" => self.names(json(event.data.as_bytes())?).await?,
                    "reset" => self.tell(Event::Reset).await?,
                    // Comments move the cursor; kinds that are not known here say nothing.
                    _ => {}
                }
                // Only after it was told: else it could be lost with the connection.
                if event.id.is_some() {
                    self.cursor = event.id;
                }
            }
        }
    }

    /// Long polls, until it is time to try a stream again.
    async fn poll(&mut self, until: Instant) -> End {
        let mut first = true;
        while Instant::now() < until {
            let listing = self.listing();
            let wait = if self.cursor.is_some() && !first { Some(WAIT) } else { None };
            let call = match self.call(&listing, "application/json", wait) {
                Ok(call) => call,
                Err(failure) => return failure.into(),
            };
            let asking = self.http.request(call, MAX_ANSWER);
            let response = tokio::select! {
                response = asking => response,
                // What the answer would have told, the next one does.
                () = self.relist(), if !first => continue,
            };
            let response = match response {
                Ok(response) => response,
                Err(failure) => return failure.into(),
            };
            if let Some(end) = self.refusal(&response.head) {
                return End { poll: false, ..end };
            }
            if let Err(end) = self.page(&response.body, listing).await {
                return end;
            }
            first = false;
        }
        End::orderly("a stream is tried again")
    }

    async fn page(&mut self, body: &[u8], listing: HashSet<Address>) -> Result<(), End> {
        let mut told: Told = json(body)?;
        let cursor = told.cursor.take();
        self.not_hosted(std::mem::take(&mut told.not_hosted)).await?;
        for row in std::mem::take(&mut told.changes) {
            self.row(row).await?;
        }
        self.names(told).await?;
        self.cursor = cursor.or(self.cursor.take());
        self.begun(listing).await
    }

    /// What is to be listed now. With a token nothing is, but what the engine asked for is remembered all the same.
    fn listing(&self) -> HashSet<Address> {
        locked(&self.client.names).clone()
    }

    /// Ends when there are names to be listed that are not, and it is time to do so.
    async fn relist(&self) {
        loop {
            let is_new = {
                let names = locked(&self.client.names);
                self.client.feed.token.is_none() && names.iter().any(|name| !self.listed.contains(name))
            };
            if is_new {
                sleep(self.pace.gather).await;
                return;
            }
            self.client.changed.notified().await;
        }
    }

    /// The subscription holds for what was listed.
    async fn begun(&mut self, listing: HashSet<Address>) -> Result<(), End> {
        let new: Vec<Address> = listing.difference(&self.listed).cloned().collect();
        let was_up = self.client.up.swap(true, Ordering::AcqRel);
        let all = self.client.feed.token.is_some();
        let first = !std::mem::replace(&mut self.ever, true);
        locked(&self.client.told).clone_from(&listing);
        self.listed = listing;
        if was_up && (new.is_empty() || all) {
            return Ok(());
        }
        // With a token nothing is missed from one connection to the next.
        let new = match (all, first) {
            (true, true) => None,
            (true, false) => Some(Vec::new()),
            (false, _) => Some(new),
        };
        self.tell(Event::Following { new }).await
    }

    async fn row(&self, row: Row) -> Result<(), End> {
        if !row.public {
            return Ok(());
        }
        match (row.scope.as_str(), row.address.as_deref().map(Address::parse), row.domain.as_deref()) {
            ("address", Some(Ok(address)), _) => self.tell(Event::Address(address)).await,
            (_, _, Some(domain)) => self.domain(domain).await,
            // A row that says neither may be about anything.
            _ => self.tell(Event::Reset).await,
        }
    }

    async fn names(&self, told: Told) -> Result<(), End> {
        for name in told.names {
            if let Ok(address) = Address::parse(&name) {
                self.tell(Event::Address(address)).await?;
            }
        }
        for domain in told.domains {
            self.domain(&domain).await?;
        }
        Ok(())
    }

    async fn domain(&self, domain: &str) -> Result<(), End> {
        match DomainName::parse(domain) {
            Ok(domain) => self.tell(Event::Domain(domain)).await,
            Err(_) => self.tell(Event::Reset).await,
        }
    }

    async fn not_hosted(&self, domains: Vec<String>) -> Result<(), End> {
        let domains: HashSet<DomainName> = domains.iter().filter_map(|domain| DomainName::parse(domain).ok()).collect();
        let is_new = {
            let mut known = locked(&self.client.not_hosted);
            let is_new = *known != domains;
            *known = domains;
            is_new
        };
        if is_new { self.tell(Event::NotHosted).await } else { Ok(()) }
    }

    async fn tell(&self, event: Event) -> Result<(), End> {
        self.events.send((self.index, event)).await.map_err(|_| End::deaf())
    }

    fn call(&self, listing: &HashSet<Address>, accept: &'static str, wait: Option<&str>) -> Result<Call, Failure> {
        let mut url = self.client.feed.url.clone();
        if let Some(cursor) = &self.cursor {
            url.query_pairs_mut().append_pair("since", cursor);
        }
        if let Some(wait) = wait {
            url.query_pairs_mut().append_pair("wait", wait);
        }
        if let Some(token) = &self.client.feed.token {
            let mut call = Call::get(url, accept);
            call.fields.push((AUTHORIZATION, token.clone()));
            return Ok(call);
        }
        let names: Vec<String> = listing.iter().map(ToString::to_string).collect();
        let body = serde_json::to_vec(&serde_json::json!({ "names": names }));
        let body = body.map_err(|error| Failure::new("malformed", error.to_string()))?;
        Ok(Call::post(url, accept, "application/json", Bytes::from(body)))
    }

    /// What a status that is no success means.
    fn refusal(&mut self, head: &Head) -> Option<End> {
        let status = head.status.as_u16();
        if status == 200 {
            return None;
        }
        let failure = Failure::new("unexpected-response-code", format!("the directory answered {status}"));
        let mut end = End::from(failure);
        match status {
            // The cursor is of another store or too old: begin with the present, where everything is in doubt.
            410 => {
                self.cursor = None;
                self.listed.clear();
                self.ever = false;
                end.wait = Some(self.pace.first_wait);
            }
            // No events from this one.
            406 => end.poll = true,
            // It will not be different soon: no feed there, or not for us.
            400 | 401 | 403 | 404 | 405 | 413 => end.wait = Some(self.pace.longest_wait),
            _ => {
                let seconds = head.field(RETRY_AFTER).and_then(|text| text.parse().ok());
                end.wait = seconds.map(|seconds| Duration::from_secs(seconds).min(Duration::from_secs(3_600)));
            }
        }
        Some(end)
    }
}

fn json<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Result<T, End> {
    serde_json::from_slice(text).map_err(|error| Failure::new("malformed", format!("the feed: {error}")).into())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A set is whole whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
