//! The stream loop: DNS over TCP (RFC 7766) and over TLS (RFC 7858), and over anything else that carries octets in order.
//!
//! Reading, answering and writing go through buffers of the thread, so an idle connection costs next to nothing; what
//! is left over (half a request, what the client does not take) is kept by the connection, within bounds. All answers
//! to what arrived together leave in one write, and so in as few TLS records and segments as can be.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use certdir_certificate::UnixTime;
use certdir_directory::{Clock, Connections, Place, Version};
use certdir_zones::dso;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::answer::{Asker, Scratch, Transport};
use crate::counters::{Tally, stopwatch};
use crate::page::{LENGTH, Page, Put, WAITING_RESPONSES};
use crate::policy::Policy;
use crate::response::Finished;
use crate::seats::{Seat, Seats, Waits};
use crate::session::{Limits, Line, Session, Sessions, Then};
use crate::view::{Latest, Zones};

/// Pause after a failed accept, which most often means that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest request with its length; a connection that announces a longer one is closed. It bounds what half a
/// request costs; queries have about a hundred octets.
pub(crate) const MAX_REQUEST: usize = 16 * 1024;
/// Longest message (RFC 1035 section 4.2.2).
pub(crate) const MAX_MESSAGE: usize = 65_535;
/// How often the clock is looked at while queries wait for a signature: there are none before its next second.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// How long a query may wait for a signature; then the answer is SERVFAIL.
pub(crate) const SIGNING: Duration = Duration::from_secs(2);
/// Queries that may wait for a signature: of one connection, of one source, and of one thread. The next ones get SERVFAIL
/// at once, and so do long ones.
const POSTPONED_HERE: usize = 32;
pub(crate) const POSTPONED_OF_SOURCE: usize = POSTPONED / 4;
pub(crate) const POSTPONED: usize = 1024;
pub(crate) const LONGEST_POSTPONED: usize = 512;
/// How long clients of stateful sessions have to close them when the server stops (RFC 8490 section 6.6.1).
const FAREWELL: Duration = Duration::from_secs(5);

/// What all connections of one thread share; borrowed only between two waits.
pub(crate) struct Worker<L> {
    desk: RefCell<Desk<L>>,
    clock: Clock,
    pub(crate) seats: Rc<Seats>,
    /// Places of queries that wait for a signature.
    postponed: Arc<Connections>,
    /// The first query waits.
    waiting: Notify,
    /// There may be signatures again. Wakes in the order in which the waiting began.
    signatures: Notify,
    sessions: Sessions,
    /// There are other zones, or the thread is to stop.
    changed: Notify,
}

struct Desk<L> {
    latest: L,
    scratch: Scratch,
    requests: Box<[u8]>,
    responses: Box<[u8]>,
}

impl<L: Latest> Worker<L> {
    pub(crate) fn new(latest: L, clock: Clock, policy: Policy, seats: Seats, limits: Limits) -> Worker<L> {
        let requests = vec![0; MAX_REQUEST].into_boxed_slice();
        let responses = vec![0; WAITING_RESPONSES + LENGTH + MAX_MESSAGE].into_boxed_slice();
        let desk = RefCell::new(Desk { latest, scratch: Scratch::new(policy), requests, responses });
        let postponed = Arc::new(Connections::new(POSTPONED, POSTPONED_OF_SOURCE));
        let (waiting, signatures, changed) = (Notify::new(), Notify::new(), Notify::new());
        let sessions = Sessions::new(limits);
        Worker { desk, clock, seats: Rc::new(seats), postponed, waiting, signatures, sessions, changed }
    }

    /// Answers one message, framed, for transports that bring them one by one; in one of the places for answers that
    /// are being written. `None` for what gets no answer.
    pub(crate) async fn answer<'p>(
        &self,
        asker: &Asker,
        request: &[u8],
        tally: &Tally,
        writing: &'p Semaphore,
    ) -> Option<(Box<[u8]>, Finished, SemaphorePermit<'p>)> {
        let arrived = Instant::now();
        let until = arrived + SIGNING;
        let mut place = None;
        loop {
            {
                let permit = match timeout_at(until, writing.acquire()).await {
                    Ok(permit) => permit,
                    Err(_) => {
                        // A client that does not read keeps nobody from waiting.
                        place = None;
                        writing.acquire().await
                    }
                }
                .ok()?;
                let desk = &mut *self.desk.borrow_mut();
                let (_, mut page) = desk.open((self.clock)(), tally);
                let waits = || match Instant::now() < until {
                    true => place.take().or_else(|| self.postpone(asker.source, request, tally)),
                    false => None,
                };
                match page.put(asker, request, waits) {
                    Put::Added(finished) => {
                        tally.latency(arrived.elapsed(), 1);
                        return Some((page.out.get(..page.written)?.into(), finished, permit));
                    }
                    Put::Nothing => return None,
                    Put::Later(kept) => place = Some(kept),
                }
            }
            while timeout_at(until, self.signatures.notified()).await.is_ok()
                && !self.desk.borrow_mut().scratch.may_sign(asker.source, (self.clock)())
            {}
        }
    }

    /// A place among the queries that wait for a signature.
    fn postpone(&self, source: IpAddr, request: &[u8], tally: &Tally) -> Option<Place> {
        let place = self.postponed.admit(source).filter(|_| request.len() <= LONGEST_POSTPONED)?;
        tally.deferred();
        self.waiting.notify_one();
        Some(place)
    }

    /// Wakes those who wait for a signature when there may be one, for ever.
    pub(crate) async fn wake_waiting(self: Rc<Worker<L>>) {
        let mut second = UnixTime::MIN;
        loop {
            self.waiting.notified().await;
            while self.postponed.open() > 0 {
                let now = (self.clock)();
                if now != second {
                    second = now;
                    self.signatures.notify_waiters();
                }
                sleep(LOOK).await;
            }
        }
    }
}

impl<L> Worker<L> {
    /// Wakes those who follow records whenever there are other zones, for ever.
    pub(crate) async fn wake_followers(self: Rc<Worker<L>>, mut zones: watch::Receiver<Version>) {
        while zones.changed().await.is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// Tells the clients of stateful sessions to go, and waits until they have gone, or had the time for it.
    pub(crate) async fn say_farewell(&self) {
        self.sessions.stop();
        let until = Instant::now() + FAREWELL;
        while self.sessions.open() > 0 && Instant::now() < until {
            self.changed.notify_waiters();
            sleep(LOOK).await;
        }
    }
}

impl<L: Latest> Desk<L> {
    /// The buffer for requests, and an empty page for responses from the zones of one version.
    fn open<'d>(&'d mut self, now: UnixTime, tally: &'d Tally) -> (&'d mut [u8], Page<'d, L::Zones>) {
        let Desk { latest, scratch, requests, responses } = self;
        (requests, Page { zones: latest.load(), now, scratch, tally, out: responses, written: 0, responses: 0 })
    }
}

/// A query that waits for a signature.
struct Postponed {
    request: Box<[u8]>,
    arrived: Instant,
    _place: Place,
}

/// The first message and what is behind it; `None` when it is not complete.
pub(crate) fn split(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = octets.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(length)))
}

/// Whether the message that begins here can ever be complete.
fn acceptable(octets: &[u8]) -> bool {
    octets.first_chunk::<LENGTH>().is_none_or(|&length| LENGTH + usize::from(u16::from_be_bytes(length)) <= MAX_REQUEST)
}

/// Accepts connections for ever.
pub(crate) async fn accept<L: Latest>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    worker: Rc<Worker<L>>,
    tally: Arc<Tally>,
) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = worker.seats.admit(peer.ip()).await else {
            tally.refused_connection();
            continue;
        };
        // Without it the end of a long response would wait for an acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let tls = match &tls {
            None => None,
            // Keys cost time: one source has no more handshakes under way than half of its connections.
            Some(tls) => match worker.seats.admit_handshake(peer.ip()) {
                Some(place) => Some((tls.clone(), place)),
                None => {
                    tally.refused_connection();
                    continue;
                }
            },
        };
        let waits = if tls.is_some() { Waits::Handshake } else { Waits::Idle };
        let (inner, tally) = (worker.clone(), tally.clone());
        // A connection that breaks concerns nobody else.
        worker.seats.run(place, waits, |seat| async move {
            let _ = match tls {
                None => converse(stream, Transport::Tcp, peer.ip(), &inner, &tally, &seat).await,
                Some((tls, handshaking)) => match tls.accept(stream).await {
                    Ok(stream) => {
                        drop(handshaking);
                        converse(stream, Transport::Tls, peer.ip(), &inner, &tally, &seat).await
                    }
                    Err(error) => Err(error),
                },
            };
        });
    }
}

/// Answers the requests of one connection until its client has no more of them and has taken all responses.
async fn converse<S: Line, L: Latest>(
    stream: S,
    transport: Transport,
    source: IpAddr,
    worker: &Worker<L>,
    tally: &Tally,
    seat: &Seat,
) -> io::Result<()> {
    let mut conversation = Conversation {
        stream,
        asker: Asker::new(transport, source),
        worker,
        tally,
        seat,
        request: Vec::new(),
        responses: Vec::new(),
        sent: 0,
        unflushed: false,
        ended: false,
        later: Vec::new(),
        retry: None,
        answered: false,
        session: None,
        changed: None,
        aborted: false,
    };
    seat.waits(Waits::Idle, true);
    poll_fn(|context| {
        let end = conversation.turn(context);
        if end.is_pending() {
            conversation.note();
        }
        end
    })
    .await
}

/// One connection.
struct Conversation<'w, S, L> {
    stream: S,
    asker: Asker,
    worker: &'w Worker<L>,
    tally: &'w Tally,
    seat: &'w Seat,
    /// Requests read and not yet answered, up to [`MAX_REQUEST`] octets.
    request: Vec<u8>,
    /// Responses of which the client has taken the first `sent` octets.
    responses: Vec<u8>,
    sent: usize,
    unflushed: bool,
    /// Nothing more is to be read: the client has closed its side (its responses are still due), or sent nonsense.
    ended: bool,
    /// Queries that wait for a signature, the oldest first.
    later: Vec<Postponed>,
    /// Wakes the connection when there may be a signature, or the oldest has waited long enough.
    retry: Option<Pin<Box<dyn Future<Output = ()> + 'w>>>,
    /// A request was answered since the connection last waited.
    answered: bool,
    /// From the first stateful message on (RFC 8490).
    session: Option<Session<'w>>,
    /// Wakes the connection when there is something to say in its session.
    changed: Option<Pin<Box<Notified<'w>>>>,
    /// The client broke a rule that ends the connection.
    aborted: bool,
}

impl<'w, S: Line, L: Latest> Conversation<'w, S, L> {
    /// As much as can be done without waiting.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut served = false;
        loop {
            ready!(self.write_rest(context))?;
            self.listen(context);
            if self.ended && self.request.is_empty() && self.later.is_empty() {
                return Pin::new(&mut self.stream).poll_shutdown(context);
            }
            // However much one client asks, the others have their turn after every page.
            if served {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let worker = self.worker;
            let desk = &mut *worker.desk.borrow_mut();
            let began = stopwatch();
            let (requests, mut page) = desk.open((worker.clock)(), self.tally);
            self.gather(requests, &mut page, context)?;
            let Page { out, written, responses: count, .. } = page;
            let responses = out.get(..written).unwrap_or_default();
            if responses.is_empty() {
                if self.ended && self.later.is_empty() {
                    continue;
                }
                return Poll::Pending;
            }
            self.tally.latency(began.elapsed(), count);
            self.unflushed = true;
            served = true;
            let mut sent = 0;
            while let Some(rest) = responses.get(sent..).filter(|rest| !rest.is_empty()) {
                match Pin::new(&mut self.stream).poll_write(context, rest)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(count) => sent += count,
                    Poll::Pending => {
                        self.responses = rest.to_vec();
                        self.sent = 0;
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Writes what the client did not take so far.
    fn write_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.responses.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.responses = Vec::new();
        self.sent = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and answers until nothing more is there, or the page is full.
    fn gather<Z: Zones>(
        &mut self,
        requests: &mut [u8],
        page: &mut Page<'_, Z>,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        self.asker.keepalive = Some(self.worker.seats.keepalive());
        self.answer_postponed(page);
        self.say(page);
        let mut used = 0;
        let mut filled = self.request.len();
        if let Some(room) = requests.get_mut(..filled) {
            room.copy_from_slice(&self.request);
        }
        loop {
            while !page.is_full()
                && let Some((request, _)) = split(requests.get(used..filled).unwrap_or_default())
            {
                used += LENGTH + request.len();
                self.answer(request, page);
                if self.aborted {
                    self.stream.cut_off();
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            if page.is_full() {
                break;
            }
            let rest = requests.get(used..filled).unwrap_or_default();
            if self.ended || !acceptable(rest) {
                self.ended = true;
                used = filled;
                break;
            }
            requests.copy_within(used..filled, 0);
            filled -= used;
            used = 0;
            let mut room = ReadBuf::new(requests.get_mut(filled..).unwrap_or_default());
            match Pin::new(&mut self.stream).poll_read(context, &mut room) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !room.filled().is_empty() => filled += room.filled().len(),
                // The client has no more requests: half a connection is left for the responses. Over TLS it may have
                // gone without saying so.
                Poll::Ready(Ok(())) => self.ended = true,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.ended = true,
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        self.say(page);
        self.request = requests.get(used..filled).unwrap_or_default().to_vec();
        self.wait_for_signatures(context);
        Ok(())
    }

    fn answer<Z: Zones>(&mut self, request: &[u8], page: &mut Page<'_, Z>) {
        let worker = self.worker;
        if self.session.as_ref().is_some_and(Session::has_left) {
            return;
        }
        if dso::Header::read(request).is_some() {
            let seats = &worker.seats;
            let encrypted = self.asker.transport == Transport::Tls;
            let new = || Session::new(&worker.sessions, self.tally, self.asker.source, encrypted);
            let most = u32::from(seats.keepalive()) * 100;
            match self.session.get_or_insert_with(new).take(request, page.zones, most, self.seat) {
                Then::Answer(response) => page.put_message(&response),
                Then::Nothing => {}
                Then::Abort => self.aborted = true,
            }
            return;
        }
        let place = || match self.later.len() {
            0..POSTPONED_HERE => worker.postpone(self.asker.source, request, self.tally),
            _ => None,
        };
        match page.put(&self.asker, request, place) {
            Put::Added(finished) => {
                self.answered = true;
                if finished.keepalive_asked {
                    self.seat.keep_alive();
                    // RFC 8490 section 5.4.6: the option has no place in a session, which is told otherwise.
                    self.aborted = self.session.as_ref().is_some_and(Session::is_established);
                }
            }
            Put::Later(place) => {
                self.later.push(Postponed { request: request.into(), arrived: Instant::now(), _place: place });
            }
            // What is no query does not prolong the connection.
            Put::Nothing => {}
        }
    }

    /// Says what is to be said in the session, as far as the page has room.
    fn say<Z: Zones>(&mut self, page: &mut Page<'_, Z>) {
        let Some(session) = &mut self.session else {
            return;
        };
        while !page.is_full()
            && let Some(message) = session.due(page.zones, self.seat)
        {
            page.put_message(&message);
        }
        if session.has_left() {
            self.later.clear();
        }
    }

    /// Sees to it that the connection is woken when there is something to say in its session: from before the zones are
    /// looked at, so that nothing is missed.
    fn listen(&mut self, context: &mut Context<'_>) {
        if !self.session.as_ref().is_some_and(Session::is_established) {
            return;
        }
        let worker = self.worker;
        let new = || Box::pin(worker.changed.notified());
        while self.changed.get_or_insert_with(new).as_mut().poll(context).is_ready() {
            self.changed = None;
        }
    }

    /// Answers the queries that waited for a signature, once there is one; those that waited long enough get SERVFAIL.
    fn answer_postponed<Z: Zones>(&mut self, page: &mut Page<'_, Z>) {
        let Some(source) = self.later.first().map(|_| self.asker.source) else {
            return;
        };
        self.later.retain(|Postponed { request, arrived, .. }| {
            let waits = arrived.elapsed() < SIGNING;
            if page.is_full() || waits && !page.scratch.may_sign(source, page.now) {
                return true;
            }
            match page.put(&self.asker, request, || waits.then_some(())) {
                Put::Later(()) => return true,
                Put::Added(_) => {
                    page.responses -= 1;
                    self.tally.latency(arrived.elapsed(), 1);
                }
                Put::Nothing => {}
            }
            false
        });
    }

    /// Sees to it that the connection is woken when its postponed queries can be answered.
    fn wait_for_signatures(&mut self, context: &mut Context<'_>) {
        let worker = self.worker;
        let Some(until) = self.later.first().map(|oldest| oldest.arrived + SIGNING) else {
            self.retry = None;
            return;
        };
        let retry = self.retry.get_or_insert_with(|| {
            Box::pin(async move {
                let _ = timeout_at(until, worker.signatures.notified()).await;
            })
        });
        if retry.as_mut().poll(context).is_ready() {
            self.retry = None;
            context.waker().wake_by_ref();
        }
    }

    /// Says what the connection waits for from now on.
    fn note(&mut self) {
        let waits = match () {
            () if self.unflushed || !self.responses.is_empty() => Waits::Reader,
            () if !self.later.is_empty() => Waits::Signature,
            () if !self.request.is_empty() => Waits::Request,
            () => Waits::Idle,
        };
        self.seat.waits(waits, mem::take(&mut self.answered));
    }
}
