//! Messages to the configured name servers, and what one look-up is allowed and remembers.
//!
//! hickory's validator asks through a [`DnsHandle`]. [`Wire`] is ours: it tries the servers in turn, notes every exchange
//! for the trace, bounds the work of one look-up, and tells the validator the time, which is an argument here
//! and not the system's. What belongs to one look-up travels with its task ([`LookUp`]). Keys and delegations are kept for
//! their TTL ([`Links`]), so that one more name of a known zone costs one exchange.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certdir_certificate::UnixTime;
use futures_util::stream::{self, Stream};
use hickory_resolver::net::runtime::{RuntimeProvider, Time, TokioRuntimeProvider, TokioTime};
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::connection::{Pipeline, datagram};
use super::extended;
use super::query;
use super::server::NameServer;
use crate::outcome::Failure;
use crate::push;
use crate::trace::Exchange;

/// Rounds over the servers: a lost packet or a closed connection must not decide.
const ROUNDS: usize = 2;

/// Messages that one look-up may send. A chain of ten zones needs about forty; a zone that is built to
/// cost more (RFC 9520 section 2; "KeyTrap") ends in an error.
pub(crate) const MAX_EXCHANGES: usize = 128;

/// What the answers of one look-up may cost to validate, see [`cost`]. Without this bound, what eight messages say keeps a
/// processor busy for minutes: the validator asks for the keys and the delegation above each set of records, and above
/// those again, and what it has asked for before is answered at once.
const MAX_COST: usize = 1_024;

/// Part of the whole look-up's time that one exchange may take.
const EXCHANGE_SHARE: u32 = 4;

/// Answers about keys and delegations that are kept.
const MAX_LINKS: usize = 8_192;

/// How long they are kept at most, in seconds, whatever their TTL.
const LINK_LIFE: UnixTime = 3_600;

tokio::task_local! {
    static LOOK_UP: LookUp;
}

/// What belongs to one look-up: the time it believes in, and what it exchanged.
#[derive(Clone)]
pub(crate) struct LookUp {
    now: UnixTime,
    sent: Arc<AtomicUsize>,
    /// The [`cost`] of the answers so far.
    validated: Arc<AtomicUsize>,
    /// What was learned before this look-up is not good enough for it.
    afresh: Arc<AtomicBool>,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Default)]
struct Noted {
    exchanges: Vec<Exchange>,
    failure: Option<Failure>,
    /// Keys and delegations that were asked for already: the validator asks for the same key once for each RRset.
    links: HashMap<Query, DnsResponse>,
    /// Some of what was used had been learned before.
    old_links: bool,
}

type Answer = Result<DnsResponse, NetError>;

impl LookUp {
    pub(crate) fn new(now: UnixTime) -> Self {
        LookUp { now, sent: Arc::default(), validated: Arc::default(), afresh: Arc::default(), noted: Arc::default() }
    }

    /// Runs `future` as this look-up. It must not be spawned away from its task.
    pub(crate) async fn scope<F: Future>(&self, future: F) -> F::Output {
        LOOK_UP.scope(self.clone(), future).await
    }

    /// From here on nothing that was learned earlier is believed. True when something was.
    pub(crate) fn begin_afresh() -> bool {
        let begun = LOOK_UP.try_with(|look_up| {
            look_up.afresh.store(true, Ordering::Relaxed);
            let mut noted = locked(&look_up.noted);
            noted.links.clear();
            std::mem::take(&mut noted.old_links)
        });
        begun.unwrap_or_default()
    }

    /// Every exchange so far.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        std::mem::take(&mut locked(&self.noted).exchanges)
    }

    /// The last message that got no proper answer from any server, if any.
    pub(crate) fn failure(&self) -> Option<Failure> {
        locked(&self.noted).failure.clone()
    }

    fn links(&self) -> HashMap<Query, DnsResponse> {
        std::mem::take(&mut locked(&self.noted).links)
    }

    /// One more message.
    fn may_send(&self) -> bool {
        self.sent.fetch_add(1, Ordering::Relaxed) < MAX_EXCHANGES
    }

    /// One more answer to validate.
    fn may_validate(&self, answer: &Message) -> bool {
        let cost = cost(answer);
        self.validated.fetch_add(cost, Ordering::Relaxed).saturating_add(cost) <= MAX_COST
    }

    fn note(&self, exchange: Exchange) {
        locked(&self.noted).exchanges.push(exchange);
    }

    fn failed(&self, failure: Failure) {
        locked(&self.noted).failure = Some(failure);
    }
}

/// The configured name servers.
#[derive(Clone)]
pub(crate) struct Wire {
    servers: Arc<[Server]>,
    /// The server that answered last is asked first.
    preferred: Arc<AtomicUsize>,
    links: Arc<Mutex<Links>>,
    exchange_timeout: Duration,
    /// What is learned is validated, so whoever says it may be asked.
    direct: bool,
}

struct Server {
    given: NameServer,
    /// Its address as text, for the trace.
    shown: String,
    stream: Pipeline,
}

impl Wire {
    /// Servers to ask, in order; `timeout` is for a whole look-up.
    pub(crate) fn new(servers: &[NameServer], timeout: Duration) -> Self {
        let servers = servers.iter().map(|given| Server {
            given: given.clone(),
            shown: given.to_string(),
            stream: Pipeline::new(given.clone()),
        });
        let exchange_timeout = timeout / EXCHANGE_SHARE;
        Wire {
            servers: servers.collect(),
            preferred: Arc::default(),
            links: Arc::default(),
            exchange_timeout,
            direct: false,
        }
    }

    /// The same, where a look-up because of a push goes to the server that pushed.
    pub(crate) fn direct(self) -> Self {
        Wire { direct: true, ..self }
    }

    /// Asks one question of the current look-up; a key or a delegation only if it is not known.
    pub(crate) async fn ask(&self, query: &Query) -> Answer {
        let Ok(look_up) = LOOK_UP.try_with(Clone::clone) else {
            return Err(OUTSIDE);
        };
        let answer = self.learn(query, &look_up).await?;
        // Whoever asks validates it, also when it was there already.
        if look_up.may_validate(&answer) {
            Ok(answer)
        } else {
            look_up.failed(failure_of(&TOO_MUCH_WORK));
            Err(TOO_MUCH_WORK)
        }
    }

    async fn learn(&self, query: &Query, look_up: &LookUp) -> Answer {
        if !is_link(query.query_type()) {
            return self.exchange(query, look_up).await;
        }
        if let Some(answer) = locked(&look_up.noted).links.get(query) {
            return Ok(answer.clone());
        }
        if !look_up.afresh.load(Ordering::Relaxed)
            && let Some(answer) = locked(&self.links).get(query, look_up.now)
        {
            locked(&look_up.noted).old_links = true;
            return Ok(answer);
        }
        let answer = self.exchange(query, look_up).await?;
        locked(&look_up.noted).links.insert(query.clone(), answer.clone());
        Ok(answer)
    }

    /// Asks one question of the current look-up, whatever is known.
    pub(crate) async fn ask_servers(&self, query: &Query) -> Answer {
        match LOOK_UP.try_with(Clone::clone) {
            Ok(look_up) => self.exchange(query, &look_up).await,
            Err(_) => Err(OUTSIDE),
        }
    }

    /// Keeps the keys and delegations that the current look-up asked for. Only one that ended well may keep them: what
    /// cannot be validated is asked for again next time.
    pub(crate) fn keep(&self) {
        let _ = LOOK_UP.try_with(|look_up| {
            let learned = look_up.links();
            if !learned.is_empty() {
                locked(&self.links).keep(learned, look_up.now);
            }
        });
    }

    /// Asks over the connection that a change was pushed on, if this look-up is because of one: RFC 8765 section 6.3 tells what
    /// changed, and an answer of the same server is not older. What it does not answer is for the others.
    async fn ask_pusher(&self, query: &Query, look_up: &LookUp) -> Option<DnsResponse> {
        let question = query::wire(Message::query().id, query.name(), query.query_type(), true);
        let (octets, server) = push::ask_first(&question, self.exchange_timeout).await?;
        look_up.may_send().then_some(())?;
        let message = query::answers(&question, &octets).then(|| DnsResponse::from_buffer(octets).ok()).flatten()?;
        let result = format!("{}, {} answer records", message.response_code, message.answers.len());
        let question = format!("{} {}", query.name(), query.query_type());
        look_up.note(Exchange { question, server, transport: "push", result, extended_errors: Vec::new() });
        let answers = matches!(message.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
        (answers && !message.truncation).then_some(message)
    }

    async fn exchange(&self, query: &Query, look_up: &LookUp) -> Answer {
        if self.direct
            && let Some(answer) = self.ask_pusher(query, look_up).await
        {
            return Ok(answer);
        }
        let mut last = NetError::NoConnections;
        let mut why = None;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut settled = vec![false; self.servers.len()];
        for round in 0..ROUNDS {
            let in_turn = self.servers.iter().enumerate();
            let in_turn = in_turn.cycle().skip(first).take(self.servers.len());
            for (index, server) in in_turn {
                if settled.get(index).copied().unwrap_or(true) {
                    continue;
                }
                let asking = server.ask(query, round, look_up);
                let answer = match tokio::time::timeout(self.exchange_timeout, asking).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        look_up.note(server.exchanged(query, server.transport(query, round), "no answer in time"));
                        Err(NetError::Timeout)
                    }
                };
                let answer = answer.and_then(|message| match message.response_code {
                    ResponseCode::NoError | ResponseCode::NXDomain => Ok(message),
                    code => {
                        why = extended::reason(&message);
                        Err(NetError::Dns(DnsError::ResponseCode(code)))
                    }
                });
                match answer {
                    Ok(_) => {
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
                    Err(e) if is_too_much(&e) => {
                        look_up.failed(failure_of(&e));
                        return Err(e);
                    }
                    Err(e) => last = e,
                }
            }
        }
        let mut failure = failure_of(&last);
        if let (Some(why), NetError::Dns(_)) = (why, &last) {
            failure.message = format!("{}; {}", failure.message, extended::sentence(&why));
            // RFC 8914 section 4.7: the server validates too, and has found it bogus.
            if extended::is_bogus(&why) {
                failure.code = "bogus";
            }
        }
        look_up.failed(failure);
        Err(last)
    }
}

impl Server {
    /// RFC 8162 section 7: certificates are asked for over TCP. Keys and denials fit into UDP, and where TCP is blocked
    /// the second round tries UDP for certificates too.
    fn transport(&self, query: &Query, round: usize) -> &'static str {
        let large = matches!(query.query_type(), RecordType::SMIMEA | RecordType::CERT);
        match self.given.is_over_tls() {
            true => "tls",
            false if large && round == 0 => "tcp",
            false => "udp",
        }
    }

    async fn ask(&self, query: &Query, round: usize, look_up: &LookUp) -> Answer {
        let transport = self.transport(query, round);
        let mut message = self.once(query, transport, look_up).await?;
        if message.truncation && transport == "udp" {
            // RFC 7766 section 5: what is truncated is asked for again over TCP.
            message = self.once(query, "tcp", look_up).await?;
        }
        if message.truncation { Err(NetError::Truncated) } else { Ok(message) }
    }

    async fn once(&self, query: &Query, transport: &'static str, look_up: &LookUp) -> Answer {
        if !look_up.may_send() {
            return Err(TOO_MUCH_WORK);
        }
        let id = Message::query().id;
        let question = query::wire(id, query.name(), query.query_type(), transport == "tls");
        let octets = match transport {
            "udp" => datagram(self.given.address(), &question).await,
            _ => self.stream.ask(&question).await,
        };
        let answer = octets.map_err(NetError::from).and_then(|mut octets| {
            // A stream has ids of its own.
            octets.iter_mut().zip(id.to_be_bytes()).for_each(|(octet, own)| *octet = own);
            if !query::answers(&question, &octets) {
                return Err(NetError::Message(OTHER_QUESTION));
            }
            Ok(DnsResponse::from_buffer(octets)?)
        });
        let result = match &answer {
            Ok(message) => {
                let (code, count) = (message.response_code, message.answers.len());
                let cut = if message.truncation { ", truncated" } else { "" };
                format!("{code}, {count} answer records{cut}")
            }
            Err(error) => error.to_string(),
        };
        let extended_errors = answer.as_ref().map(|message| extended::errors(message)).unwrap_or_default();
        look_up.note(Exchange { extended_errors, ..self.exchanged(query, transport, result) });
        answer
    }

    fn exchanged(&self, query: &Query, transport: &'static str, result: impl Into<String>) -> Exchange {
        let question = format!("{} {}", query.name(), query.query_type());
        let (server, result) = (self.shown.clone(), result.into());
        Exchange { question, server, transport, result, extended_errors: Vec::new() }
    }
}

/// Answers about keys and delegations, for as long as their TTL. They are as they came: every look-up validates
/// what it uses.
#[derive(Default)]
pub(crate) struct Links(HashMap<Query, (UnixTime, DnsResponse)>);

/// What a chain of trust is made of. NS records are asked for by the library, on the way to a delegation.
fn is_link(record_type: RecordType) -> bool {
    matches!(record_type, RecordType::DNSKEY | RecordType::DS | RecordType::NS)
}

impl Links {
    fn get(&self, query: &Query, now: UnixTime) -> Option<DnsResponse> {
        self.0.get(query).filter(|(until, _)| now < *until).map(|(_, answer)| answer.clone())
    }

    fn keep(&mut self, learned: HashMap<Query, DnsResponse>, now: UnixTime) {
        if self.0.len() + learned.len() > MAX_LINKS {
            self.0.retain(|_, (until, _)| now < *until);
        }
        for (query, answer) in learned {
            // RFC 2308 section 5: a denial lives as long as the SOA record's minimum says.
            let records = answer.answers.iter().chain(&answer.authorities);
            let life = records.map(|r| match &r.data {
                RData::SOA(soa) => r.ttl.min(soa.minimum),
                _ => r.ttl,
            });
            let life = UnixTime::from(life.min().unwrap_or(0)).min(LINK_LIFE);
            if life > 0 && (self.0.len() < MAX_LINKS || self.0.contains_key(&query)) {
                self.0.insert(query, (now.saturating_add(life), answer));
            }
        }
    }
}

/// An upper bound of the signatures to be verified: each by each key that it may be by, which the key tag says. Without any it
/// is still an answer to look at.
fn cost(answer: &Message) -> usize {
    let mut same_tag: HashMap<u16, usize> = HashMap::new();
    for record in &answer.answers {
        if let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = &record.data {
            let tag = key.calculate_key_tag().unwrap_or_default();
            *same_tag.entry(tag).or_default() += 1;
        }
    }
    let sections = [&answer.answers, &answer.authorities, &answer.additionals];
    let signatures = sections.into_iter().flatten().filter(|r| r.record_type() == RecordType::RRSIG).count();
    let keys = same_tag.into_values().max().unwrap_or(1);
    signatures.saturating_mul(keys).saturating_add(1)
}

/// The maps are consistent whatever panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What lies below a primed trust anchor. The anchored zone's keys are known, and nothing above it is believed, so neither
/// is asked for: the library would look for a delegation to the anchored zone from both sides in turn, without end.
#[derive(Clone)]
pub(crate) struct Rooted {
    wire: Wire,
    zone: Name,
    keys: Arc<DnsResponse>,
}

impl Rooted {
    /// `keys` are the proven DNSKEY records of `zone`.
    pub(crate) fn new(wire: Wire, zone: Name, keys: Vec<Record>) -> Result<Self, Failure> {
        let mut message = Message::response(0, OpCode::Query);
        message.add_query(Query::query(zone.clone(), RecordType::DNSKEY));
        message.add_answers(keys);
        let keys = DnsResponse::from_message(message).map_err(|e| failure_of(&e.into()))?;
        Ok(Rooted { wire, zone, keys: Arc::new(keys) })
    }

    async fn ask(self, request: DnsRequest) -> Answer {
        let Some(query) = request.queries.first() else {
            return Err(NO_QUESTION);
        };
        if *query.name() == self.zone && query.query_type() == RecordType::DNSKEY {
            return Ok(DnsResponse::clone(&self.keys));
        }
        let above = !self.zone.zone_of(query.name());
        if above || (*query.name() == self.zone && query.query_type() == RecordType::DS) {
            return Err(NetError::Message("nothing above the trust anchor is asked for"));
        }
        self.wire.ask(query).await
    }
}

impl DnsHandle for Rooted {
    type Response = Pin<Box<dyn Stream<Item = Answer> + Send>>;
    type Runtime = Clocked;

    fn send(&self, request: DnsRequest) -> Self::Response {
        Box::pin(stream::once(self.clone().ask(request)))
    }
}

const OUTSIDE: NetError = NetError::Message("asked outside a look-up");

const NO_QUESTION: NetError = NetError::Message("a request without a question");

/// An answer on a stream that is none to the question of its id.
const OTHER_QUESTION: &str = "the server answered another question";

/// The end of a look-up that asks for more than [`MAX_EXCHANGES`] or [`MAX_COST`].
const TOO_MUCH_WORK: NetError = NetError::Message("the answer takes too many messages or signatures to validate");

fn is_too_much(error: &NetError) -> bool {
    matches!((error, TOO_MUCH_WORK), (NetError::Message(m), NetError::Message(t)) if *m == t)
}

/// The stable code and sentence for an error of the DNS library.
pub(crate) fn failure_of(error: &NetError) -> Failure {
    let code = match error {
        error if is_too_much(error) => "too-much-work",
        NetError::Message(OTHER_QUESTION) => "malformed",
        NetError::Timeout => "timeout",
        NetError::Io(e) if e.kind() == io::ErrorKind::TimedOut => "timeout",
        NetError::Io(e) if e.kind() == io::ErrorKind::ResourceBusy => "busy",
        // What rustls refuses, it refuses as invalid data.
        NetError::Io(e) if e.kind() == io::ErrorKind::InvalidData => "tls",
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
