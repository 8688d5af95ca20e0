//! Messages to the configured name servers, and what one look-up is allowed and remembers.
//!
//! hickory's validator asks through a [`DnsHandle`]. [`Wire`] is ours: it tries the servers in turn, notes every exchange
//! for the trace, bounds the work of one look-up, and tells the validator the time, which is an argument here
//! and not the system's. What belongs to one look-up travels with its task ([`LookUp`]).

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certdir_certificate::UnixTime;
use futures_util::stream::{self, Stream};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::{RuntimeProvider, Time, TokioRuntimeProvider, TokioTime};
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

use crate::outcome::Failure;
use crate::trace::Exchange;

/// Rounds over the servers: a lost packet or a closed connection must not decide.
const ROUNDS: usize = 2;

/// Messages that one look-up may send. A chain of ten zones needs about forty; a zone that is built to
/// cost more (RFC 9520 section 2; "KeyTrap") ends in an error.
pub(crate) const MAX_EXCHANGES: usize = 128;

/// Requests that one connection may have in flight; the library's 32 makes a busy gateway fail with "busy".
const MAX_ACTIVE_REQUESTS: usize = 4_096;

/// Advertised UDP payload (RFC 9715 section 3.1; DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1_232;

/// Part of the whole look-up's time that one exchange may take.
const EXCHANGE_SHARE: u32 = 4;

type Pool = NameServerPool<TokioRuntimeProvider>;

tokio::task_local! {
    static LOOK_UP: LookUp;
}

/// What belongs to one look-up: the time it believes in, and what it exchanged.
#[derive(Clone)]
pub(crate) struct LookUp {
    now: UnixTime,
    sent: Arc<AtomicUsize>,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Default)]
struct Noted {
    exchanges: Vec<Exchange>,
    failure: Option<Failure>,
    /// What was answered already: the validator asks for the same key once for each RRset.
    answers: HashMap<Query, Answer>,
}

type Answer = Result<DnsResponse, NetError>;

impl LookUp {
    pub(crate) fn new(now: UnixTime) -> Self {
        LookUp { now, sent: Arc::default(), noted: Arc::default() }
    }

    /// Runs `future` as this look-up. It must not be spawned away from its task.
    pub(crate) async fn scope<F: Future>(&self, future: F) -> F::Output {
        LOOK_UP.scope(self.clone(), future).await
    }

    /// Every exchange so far.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.with_noted(|n| n.exchanges.clone())
    }

    /// The last message that got no proper answer from any server, if any.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.with_noted(|n| n.failure.clone())
    }

    fn with_noted<T>(&self, f: impl FnOnce(&mut Noted) -> T) -> T {
        // A vector and an option are consistent whatever panicked.
        f(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The configured name servers.
#[derive(Clone)]
pub(crate) struct Wire {
    servers: Arc<[Server]>,
    /// The server that answered last is asked first.
    preferred: Arc<AtomicUsize>,
    exchange_timeout: Duration,
}

struct Server {
    address: SocketAddr,
    /// TCP only.
    stream: Pool,
    /// UDP, and TCP when the answer is truncated.
    datagram: Pool,
}

impl Wire {
    /// Servers to ask, in order; `timeout` is for a whole look-up.
    pub(crate) fn new(addresses: &[SocketAddr], timeout: Duration) -> Result<Self, NetError> {
        let exchange_timeout = timeout / EXCHANGE_SHARE;
        let mut options = ResolverOpts::default();
        options.timeout = exchange_timeout;
        options.attempts = 0;
        options.max_active_requests = MAX_ACTIVE_REQUESTS;
        options.edns_payload_len = UDP_PAYLOAD;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let pool = |address: &SocketAddr, connections: Vec<ConnectionConfig>| {
            let server = NameServerConfig::new(address.ip(), true, connections);
            Pool::from_config([server], Arc::clone(&context), TokioRuntimeProvider::new())
        };
        let servers = addresses.iter().map(|address| {
            let on_port = |mut connection: ConnectionConfig| {
                connection.port = address.port();
                connection
            };
            let (udp, tcp) = (on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp()));
            Server {
                address: *address,
                stream: pool(address, vec![tcp.clone()]),
                datagram: pool(address, vec![udp, tcp]),
            }
        });
        Ok(Wire { servers: servers.collect(), preferred: Arc::default(), exchange_timeout })
    }

    /// Asks once in a look-up.
    async fn ask(&self, request: DnsRequest) -> Answer {
        let look_up = LOOK_UP.try_with(Clone::clone).ok();
        let Some((look_up, query)) = look_up.zip(request.queries.first().cloned()) else {
            return Err(NetError::Message("asked outside a look-up"));
        };
        if let Some(answer) = look_up.with_noted(|n| n.answers.get(&query).cloned()) {
            return answer;
        }
        let answer = self.exchange(request, &look_up).await;
        if matches!(answer, Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_)))) {
            look_up.with_noted(|n| n.answers.insert(query, answer.clone()));
        }
        answer
    }

    async fn exchange(&self, request: DnsRequest, look_up: &LookUp) -> Answer {
        let mut last = NetError::NoConnections;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut settled = vec![false; self.servers.len()];
        for round in 0..ROUNDS {
            let in_turn = self.servers.iter().enumerate();
            let in_turn = in_turn.cycle().skip(first).take(self.servers.len());
            for (index, server) in in_turn {
                if settled.get(index).copied().unwrap_or(true) {
                    continue;
                }
                if look_up.sent.fetch_add(1, Ordering::Relaxed) >= MAX_EXCHANGES {
                    last = TOO_MUCH_WORK;
                    look_up.with_noted(|n| n.failure = Some(failure_of(&last)));
                    return Err(last);
                }
                let (transport, pool) = server.pool_for(&request, round);
                let answer = pool.send(request.clone()).first_answer();
                let answer = match tokio::time::timeout(self.exchange_timeout, answer).await {
                    Ok(answer) => answer,
                    Err(_) => Err(NetError::Timeout),
                };
                let exchange = note(&request, server.address, transport, &answer);
                look_up.with_noted(|n| n.exchanges.push(exchange));
                match answer {
                    Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_))) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return answer;
                    }
                    // A server that answers with an error would do so again.
                    Err(e @ NetError::Dns(_)) => {
                        if let Some(settled) = settled.get_mut(index) {
                            *settled = true;
                        }
                        last = e;
                    }
                    Err(e) => last = e,
                }
            }
        }
        look_up.with_noted(|n| n.failure = Some(failure_of(&last)));
        Err(last)
    }
}

impl Server {
    /// RFC 8162 section 7: certificates are asked for over TCP. Keys and denials fit into UDP, and where TCP is blocked
    /// the second round tries UDP for certificates too.
    fn pool_for(&self, request: &DnsRequest, round: usize) -> (&'static str, &Pool) {
        let large =
            request.queries.first().is_some_and(|q| matches!(q.query_type(), RecordType::SMIMEA | RecordType::CERT));
        if large && round == 0 { ("tcp", &self.stream) } else { ("udp", &self.datagram) }
    }
}

impl DnsHandle for Wire {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = Clocked;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let wire = self.clone();
        Box::pin(stream::once(async move { wire.ask(request).await }))
    }
}

/// What lies below a primed trust anchor. The anchored zone's keys are known, and nothing above it is believed, so neither
/// is asked for: the library would look for a delegation to the anchored zone from both sides in turn, without end.
#[derive(Clone)]
pub(crate) struct Rooted {
    wire: Wire,
    zone: Name,
    keys: Arc<Message>,
}

impl Rooted {
    /// `keys` are the proven DNSKEY records of `zone`.
    pub(crate) fn new(wire: Wire, zone: Name, keys: Vec<Record>) -> Self {
        let mut message = Message::response(0, OpCode::Query);
        message.add_query(Query::query(zone.clone(), RecordType::DNSKEY));
        message.add_answers(keys);
        Rooted { wire, zone, keys: Arc::new(message) }
    }

    async fn ask(self, request: DnsRequest) -> Answer {
        let Some(query) = request.queries.first() else {
            return Err(NetError::Message("a request without a question"));
        };
        if *query.name() == self.zone && query.query_type() == RecordType::DNSKEY {
            return Ok(DnsResponse::from_message(Message::clone(&self.keys))?);
        }
        let above = !self.zone.zone_of(query.name());
        if above || (*query.name() == self.zone && query.query_type() == RecordType::DS) {
            return Err(NetError::Message("nothing above the trust anchor is asked for"));
        }
        self.wire.ask(request).await
    }
}

impl DnsHandle for Rooted {
    type Response = Pin<Box<dyn Stream<Item = Answer> + Send>>;
    type Runtime = Clocked;

    fn send(&self, request: DnsRequest) -> Self::Response {
        Box::pin(stream::once(self.clone().ask(request)))
    }
}

/// The end of a look-up that asks for more than [`MAX_EXCHANGES`].
const TOO_MUCH_WORK: NetError = NetError::Message("the answer takes too many messages to validate");

/// The stable code and sentence for an error of the DNS library.
pub(crate) fn failure_of(error: &NetError) -> Failure {
    let code = match error {
        NetError::Message(m) if matches!(TOO_MUCH_WORK, NetError::Message(t) if t == *m) => "too-much-work",
        NetError::Timeout => "timeout",
        NetError::Io(e) if e.kind() == io::ErrorKind::TimedOut => "timeout",
        NetError::Io(_) | NetError::NoConnections => "network",
        NetError::Busy => "busy",
        NetError::Truncated => "truncated",
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => "refused",
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => "server-failure",
        NetError::Dns(DnsError::ResponseCode(_)) => "unexpected-response-code",
        NetError::Dns(DnsError::Nsec { .. } | DnsError::DnssecBogus) => "bogus",
        // Negative answers are read where their proofs are; one that ends here has none.
        NetError::Dns(_) => "bogus",
        NetError::Proto(_) | NetError::QueryCaseMismatch | NetError::ForeignClassRecord { .. } => "malformed",
        _ => "network",
    };
    Failure::new(code, error.to_string())
}

fn note(
    request: &DnsRequest,
    server: SocketAddr,
    transport: &'static str,
    answer: &Result<DnsResponse, NetError>,
) -> Exchange {
    let question = match request.queries.first() {
        Some(q) => format!("{} {}", q.name(), q.query_type()),
        None => String::new(),
    };
    let result = match answer {
        Ok(m) => format!("{}, {} answer records", m.response_code, m.answers.len()),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => format!("{}, no answer records", none.response_code),
        Err(e) => e.to_string(),
    };
    Exchange { question, server: server.to_string(), transport, result, extended_errors: Vec::new() }
}

/// The runtime whose clock is the look-up's: the validator reads the time from its type.
#[derive(Clone)]
pub(crate) struct Clocked(TokioRuntimeProvider);

impl RuntimeProvider for Clocked {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = LookUpTime;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = Result<Self::Tcp, io::Error>>>> {
        self.0.connect_tcp(server, local, timeout)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = Result<Self::Udp, io::Error>>>> {
        self.0.bind_udp(local, server)
    }
}

/// tokio's timers and the look-up's time.
pub(crate) struct LookUpTime;

impl Time for LookUpTime {
    fn delay_for<'a>(duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        TokioTime::delay_for(duration)
    }

    fn timeout<'a, F>(
        duration: Duration,
        future: F,
    ) -> Pin<Box<dyn Future<Output = Result<F::Output, io::Error>> + Send + 'a>>
    where
        F: 'static + Future + Send + 'a,
    {
        TokioTime::timeout(duration, future)
    }

    /// Outside a look-up the time is 1970: no signature is valid then, so a mistake here shows as bogus.
    fn current_time() -> u64 {
        LOOK_UP.try_with(|l| u64::try_from(l.now).unwrap_or_default()).unwrap_or_default()
    }
}
