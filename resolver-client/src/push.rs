//! DNS Push Notifications (RFC 8765), the client's side: a server that is told which names matter and that says when one
//! of them changes.
//!
//! A [`Server`] stands for one push server. The engine of [`crate::watch`] puts the [`Topic`]s it wants into it and takes
//! [`Event`]s out; [`run`] keeps a session ([`session`]) alive for as long as there are any, and ordinary questions
//! travel over the same connection ([`Server::ask`]), so that an answer is never older than the push before it. Which
//! server a zone has, [`discovery`] finds out. What is pushed is a signal and nothing else: it is neither kept nor believed.

pub(crate) mod discovery;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certdir_zones::{Name, RecordType};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::outcome::Failure;
use crate::reach::{self, Ports, Reach};
use crate::tls::Tls;
use crate::watch::Over;

/// Questions that wait for one connection.
const MAX_ASKS: usize = 256;

/// Times of the push client; tests have shorter ones.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// For the connection and the TLS handshake.
    pub(crate) connect: Duration,
    /// For the reply to a request. RFC 8490 leaves it to the client how long it waits; a server that is silent for this
    /// long is taken for dead.
    pub(crate) reply: Duration,
    /// Before the first attempt to connect again; doubled after each.
    pub(crate) first_wait: Duration,
    /// The longest between two attempts.
    pub(crate) longest_wait: Duration,
    /// A session that lasted this long begins again with `first_wait`.
    pub(crate) settled: Duration,
    /// The shortest keepalive interval that a server can make us use (RFC 8490 section 6.5.2: ten seconds at least).
    pub(crate) least_keepalive: Duration,
    /// How long a refused name, or a server without DNS Push, is left alone, unless it says itself.
    pub(crate) refused: Duration,
    /// The same where the reason may pass soon: SERVFAIL and NOTAUTH.
    pub(crate) troubled: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            connect: Duration::from_secs(5),
            reply: Duration::from_secs(5),
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(60),
            settled: Duration::from_secs(30),
            least_keepalive: Duration::from_secs(10),
            refused: Duration::from_secs(3_600),
            troubled: Duration::from_secs(300),
        }
    }
}

/// Records whose change matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Topic {
    pub(crate) name: Name,
    pub(crate) record_type: RecordType,
}

/// What a push server says, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The subscription holds: from now on changes are pushed.
    Subscribed(Topic),
    /// The server does not take the subscription now; it is tried again later.
    Refused(Topic),
    /// The records changed, or these are the ones at the beginning of the subscription.
    Changed(Topic),
    /// The session is over, and with it every subscription.
    Lost,
}

/// One host that may serve: a target of the SRV record, or what the operator named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// Where to connect: a host name or an address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The name that its certificate must have (RFC 8765 section 7.1: the target's).
    pub(crate) tls_name: String,
}

/// A push server: what is wanted of it, and the way to ask it.
pub(crate) struct Server {
    targets: Vec<Target>,
    wanted: Mutex<Wanted>,
    changed: Notify,
    up: AtomicBool,
    asks: mpsc::Sender<Ask>,
    answering: Mutex<Option<mpsc::Receiver<Ask>>>,
}

/// What is to be subscribed to, and what of it changed since the session last looked.
#[derive(Default)]
struct Wanted {
    all: HashSet<Topic>,
    news: HashSet<Topic>,
}

/// A question for the connection; the identification is the session's to choose.
struct Ask {
    message: Vec<u8>,
    reply: oneshot::Sender<Vec<u8>>,
}

/// How to reach servers.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) tls: Tls,
    pub(crate) reach: Reach,
    pub(crate) pace: Pace,
}

impl Server {
    pub(crate) fn new(targets: Vec<Target>) -> Server {
        let (asks, answering) = mpsc::channel(MAX_ASKS);
        Server {
            targets,
            wanted: Mutex::default(),
            changed: Notify::new(),
            up: AtomicBool::new(false),
            asks,
            answering: Mutex::new(Some(answering)),
        }
    }

    /// Subscribes now or as soon as there is a session.
    pub(crate) fn want(&self, topic: Topic) {
        let mut wanted = locked(&self.wanted);
        if wanted.all.insert(topic.clone()) {
            wanted.news.insert(topic);
            drop(wanted);
            self.changed.notify_one();
        }
    }

    /// Ends a subscription.
    pub(crate) fn unwant(&self, topic: &Topic) {
        let mut wanted = locked(&self.wanted);
        if wanted.all.remove(topic) {
            if self.is_up() {
                wanted.news.insert(topic.clone());
            } else {
                // Nobody reads the news between two sessions: it must not grow.
                wanted.news.remove(topic);
            }
            drop(wanted);
            self.changed.notify_one();
        }
    }

    /// True while there is a session.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Sends an ordinary query over the session's connection (RFC 8490 section 3: both share it) and gives the response.
    /// `None` when there is no session, or it ends first. The caller limits the time.
    pub(crate) async fn ask(&self, message: Vec<u8>) -> Option<Vec<u8>> {
        if !self.is_up() {
            return None;
        }
        let (reply, response) = oneshot::channel();
        self.asks.send(Ask { message, reply }).await.ok()?;
        response.await.ok()
    }

    fn is_idle(&self) -> bool {
        locked(&self.wanted).all.is_empty()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.targets.first();
        target.map_or(Ok(()), |target| write!(f, "{} (push)", target.tls_name))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("targets", &self.targets).field("up", &self.is_up()).finish_non_exhaustive()
    }
}

/// Why a session ended and what follows from it.
#[derive(Debug)]
struct End {
    failure: Failure,
    /// How long the server wants to be left alone.
    wait: Option<Duration>,
    /// There was nothing to be subscribed to.
    idle: bool,
}

/// What the server does not take now. It outlasts an idle session: RFC 8765 section 6.2.2 has nothing asked for sooner
/// because of another connection.
#[derive(Default)]
struct Refused {
    topics: HashSet<Topic>,
    /// When they are tried again; one that is not in `topics` any more is skipped.
    again: VecDeque<(Instant, Topic)>,
}

impl Refused {
    /// Until when there is nothing to be subscribed to, if everything that is wanted was refused.
    fn rest(&self, server: &Server) -> Option<Instant> {
        let wanted = locked(&server.wanted);
        let all = !wanted.all.is_empty() && wanted.all.iter().all(|topic| self.topics.contains(topic));
        self.again.front().filter(|_| all).map(|(at, _)| *at)
    }
}

impl End {
    fn new(code: &'static str, message: impl Into<String>) -> End {
        End { failure: Failure::new(code, message), wait: None, idle: false }
    }
}

/// Keeps a session with `server` for as long as anything is wanted of it. Ends when nobody takes its events.
pub(crate) async fn run(server: Arc<Server>, dialer: Dialer, events: mpsc::Sender<(Arc<Server>, Event)>) {
    // One runner for each server: the second would find nothing here.
    let Some(mut asks) = locked(&server.answering).take() else {
        return;
    };
    let mut wait = dialer.pace.first_wait;
    let mut turn = 0_usize;
    let mut refused = Refused::default();
    while !events.is_closed() {
        if server.is_idle() {
            server.changed.notified().await;
            continue;
        }
        let began = Instant::now();
        let end = match connect(&server, &dialer, turn).await {
            Ok(stream) => session::hold(stream, &server, &dialer.pace, &mut refused, &mut asks, &events).await,
            Err(failure) => End { failure, wait: None, idle: false },
        };
        server.up.store(false, Ordering::Release);
        // Who asked gets no answer: their `oneshot` ends.
        while asks.try_recv().is_ok() {}
        if events.send((Arc::clone(&server), Event::Lost)).await.is_err() {
            return;
        }
        turn = turn.wrapping_add(1);
        if began.elapsed() >= dialer.pace.settled {
            wait = dialer.pace.first_wait;
        }
        // RFC 8490 section 6.6.1: no sooner than the server said; and not all clients at once.
        match end.wait {
            Some(asked) => sleep(asked.min(MAX_RETRY_DELAY) + jitter(dialer.pace.first_wait)).await,
            None => sleep(wait + jitter(wait)).await,
        }
        wait = wait.saturating_mul(2).min(dialer.pace.longest_wait);
        if !end.idle {
            refused = Refused::default();
        }
        while let Some(until) = refused.rest(&server) {
            tokio::select! {
                () = sleep_until(until) => break,
                () = server.changed.notified() => {}
            }
        }
        let _ = end.failure;
    }
}

/// The longest that a server's Retry Delay is obeyed: a day. Afterwards it may be another server.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(86_400);

async fn connect(
    server: &Server,
    dialer: &Dialer,
    turn: usize,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, Failure> {
    let target = turn.checked_rem(server.targets.len()).and_then(|index| server.targets.get(index));
    let Some(target) = target else {
        return Err(Failure::new("network", "the push server has no host"));
    };
    let patience = dialer.pace.connect;
    let stream = reach::connect(&target.host, target.port, &dialer.reach, Ports::Announced, patience).await?;
    match timeout(patience, dialer.tls.handshake(stream, &target.tls_name, patience)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new("timeout", format!("{} did not end the TLS handshake in time", target.host))),
    }
}

tokio::task_local! {
    static OVER: Path;
}

/// Where the questions of one look-up go first.
#[derive(Clone)]
struct Path {
    servers: Over,
    answered: Arc<AtomicBool>,
    missed: Arc<AtomicBool>,
}

/// Runs a look-up whose questions go to these push servers first, each below its zone: RFC 8490 section 3 has them on the
/// same connection. With the result, whether every certificate's record was asked for there: then none can be older than
/// what was pushed before. The look-up must not be spawned away from its task.
pub(crate) async fn over<F: Future>(servers: Over, look_up: F) -> (F::Output, bool) {
    if servers.is_empty() {
        return (look_up.await, false);
    }
    let path = Path { servers, answered: Arc::default(), missed: Arc::default() };
    let output = OVER.scope(path.clone(), look_up).await;
    (output, path.answered.load(Ordering::Relaxed) && !path.missed.load(Ordering::Relaxed))
}

/// Asks the push server of the look-up that this task runs, if it has one for the question's name and that answers in time.
/// With the response, the server for the trace.
pub(crate) async fn ask_first(question: &[u8], patience: Duration) -> Option<(Vec<u8>, String)> {
    let path = OVER.try_with(Clone::clone).ok()?;
    let (name, rest) = Name::split_from(question.get(HEADER..)?).ok()?;
    let below = |(zone, server): &&(Name, Arc<Server>)| name.is_at_or_below(zone) && server.is_up();
    let place = path.servers.iter().filter(below).max_by_key(|(zone, _)| zone.label_count());
    let answer = match place {
        Some((_, server)) => timeout(patience, server.ask(question.to_vec())).await.ok().flatten(),
        None => None,
    };
    let record_type = rest.first_chunk::<2>().map(|octets| RecordType(u16::from_be_bytes(*octets)));
    if matches!(record_type, Some(RecordType::SMIMEA | RecordType::CERT)) {
        let outcome = if answer.is_some() { &path.answered } else { &path.missed };
        outcome.store(true, Ordering::Relaxed);
    }
    let (_, server) = place?;
    Some((answer?, server.to_string()))
}

/// Octets of a DNS header.
const HEADER: usize = 12;

/// Up to `most`, at random. Not for secrets.
pub(crate) fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1_024;
    most.saturating_mul(u32::try_from(random).unwrap_or(0)) / 1_024
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value behind these locks is whole between two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
