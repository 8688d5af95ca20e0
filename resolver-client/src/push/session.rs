//! One session with a push server: DNS Stateful Operations (RFC 8490) on one TLS connection.
//!
//! A session begins with a Keepalive, which every server of DNS Stateful Operations answers. Then the wanted topics are
//! subscribed to, a bounded number at a time. A subscription's message identification stays taken for as long as
//! it lasts (RFC 8765 section 6.2.1), and queries on the same connection use the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use certdir_zones::dso::{self, Header, Keepalive, Subject, Tlv, Writer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::{Ask, End, Event, MAX_ASKS, MAX_RETRY_DELAY, Pace, Refused, Server, Topic, locked};

/// SUBSCRIBE requests without a reply at a time.
const WINDOW: usize = 256;

/// Subscriptions of one session: identifications must be left for queries.
const MAX_SUBSCRIPTIONS: usize = 60_000;

/// Nothing is taken up while this much waits to be sent.
const MAX_UNSENT: usize = 64 << 10;

/// Class IN.
const IN: u16 = 1;

/// RFC 8490 section 10.2: the response code for an operation that is not implemented.
const DSOTYPENI: u8 = 11;

/// Response codes that may pass soon: SERVFAIL and NOTAUTH (RFC 8765 section 6.2.2).
const TROUBLED: [u8; 2] = [2, 9];

/// The timeouts a client asks for are a wish (RFC 8490 section 7.1); this is for a connection that stays.
const WISH: Keepalive = Keepalive { inactivity: 60_000, interval: 60_000 };

/// What is known of a message identification that is taken.
enum Taken {
    Keepalive,
    Subscription { topic: Topic, held: bool },
    Query { original: [u8; 2], reply: oneshot::Sender<Vec<u8>> },
}

struct Session<'a> {
    server: &'a Arc<Server>,
    pace: &'a Pace,
    events: &'a mpsc::Sender<(Arc<Server>, Event)>,
    outgoing: Outgoing,
    /// What is taken, and since when.
    taken: HashMap<u16, (Instant, Taken)>,
    by_topic: HashMap<Topic, u16>,
    to_subscribe: VecDeque<Topic>,
    refused: &'a mut Refused,
    /// Requests and queries in the order in which they were sent; what was answered is skipped.
    unanswered: VecDeque<(Instant, u16)>,
    subscribing: usize,
    querying: usize,
    last_id: u16,
    established: bool,
    timeouts: Keepalive,
    last_message: Instant,
    /// Since when there is no operation that keeps the session alive.
    idle_since: Option<Instant>,
}

/// What is to be written. Both steps can be dropped half-way without losing an octet.
#[derive(Default)]
struct Outgoing {
    octets: VecDeque<u8>,
    unflushed: bool,
}

impl Outgoing {
    fn put(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        self.octets.extend(length.to_be_bytes());
        self.octets.extend(message.iter().take(usize::from(length)));
    }

    /// Writes for as long as it is not dropped; ends only with an error.
    async fn write_to<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> std::io::Error {
        loop {
            let step = if !self.octets.is_empty() {
                let written = writer.write_buf(&mut self.octets).await;
                self.unflushed |= written.is_ok();
                written.map(drop)
            } else if self.unflushed {
                let flushed = writer.flush().await;
                self.unflushed = false;
                flushed
            } else {
                std::future::pending().await
            };
            if let Err(error) = step {
                return error;
            }
        }
    }
}

/// Holds a session on a connection until it ends, and says why it did.
pub(super) async fn hold<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server: &Arc<Server>,
    pace: &Pace,
    refused: &mut Refused,
    asks: &mut mpsc::Receiver<Ask>,
    events: &mpsc::Sender<(Arc<Server>, Event)>,
) -> End {
    let now = Instant::now();
    let mut session = Session {
        server,
        pace,
        events,
        outgoing: Outgoing::default(),
        taken: HashMap::new(),
        by_topic: HashMap::new(),
        to_subscribe: VecDeque::new(),
        refused,
        unanswered: VecDeque::new(),
        subscribing: 0,
        querying: 0,
        last_id: 0,
        established: false,
        timeouts: Keepalive { inactivity: dso::DEFAULT_TIMEOUT, interval: dso::DEFAULT_TIMEOUT },
        last_message: now,
        idle_since: Some(now),
    };
    let (mut reader, mut writer) = split(stream);
    let end = session.converse(&mut reader, &mut writer, asks).await;
    // RFC 8490 section 5.3: a client closes gracefully. The server has the same patience as always, and no more.
    let _ = tokio::time::timeout(pace.reply, writer.shutdown()).await;
    end
}

impl Session<'_> {
    async fn converse<R, W>(&mut self, reader: &mut R, writer: &mut W, asks: &mut mpsc::Receiver<Ask>) -> End
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        self.keep_alive();
        let mut received = Vec::new();
        loop {
            let deadline = self.deadline();
            let room = self.established && self.outgoing.octets.len() < MAX_UNSENT && self.querying < MAX_ASKS;
            tokio::select! {
                read = reader.read_buf(&mut received) => match read {
                    Ok(0) => return End::new("network", "the server closed the connection"),
                    Err(error) => return End::new("network", error.to_string()),
                    Ok(_) => {
                        self.last_message = Instant::now();
                        if let Err(end) = self.messages(&mut received).await {
                            return end;
                        }
                    }
                },
                error = self.outgoing.write_to(writer) => return End::new("network", error.to_string()),
                () = self.server.changed.notified(), if self.established => self.news(),
                Some(ask) = asks.recv(), if room => self.query(ask),
                () = sleep_until(deadline) => if let Err(end) = self.on_time() {
                    return end;
                },
            }
            self.subscribe_more();
        }
    }

    /// Every whole message in `received`.
    async fn messages(&mut self, received: &mut Vec<u8>) -> Result<(), End> {
        let mut rest = received.as_slice();
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let Some((message, behind)) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
                break;
            };
            self.message(message).await?;
            rest = behind;
        }
        let done = received.len() - rest.len();
        received.drain(..done);
        Ok(())
    }

    async fn message(&mut self, message: &[u8]) -> Result<(), End> {
        let Some(header) = Header::read(message) else {
            return self.answer(message);
        };
        let malformed = |error: certdir_zones::Error| End::new("malformed", error.to_string());
        let read = dso::read(message).map_err(malformed)?;
        let delay = read.retry_delay.map(|ms| Duration::from_millis(ms.into()));
        match (header.response, header.id, read.primary) {
            (true, id, primary) => self.reply(id, header.rcode, primary, delay).await,
            (false, 0, Some(Tlv::Push(changes))) if self.established => {
                let mut last = None;
                for change in changes {
                    let topic = Topic { name: change.name, record_type: change.rtype };
                    // One event for a RRset; changes of one come together.
                    if last.as_ref() != Some(&topic) {
                        self.pushed(&topic).await?;
                        last = Some(topic);
                    }
                }
                Ok(())
            }
            (false, 0, Some(Tlv::Keepalive(timeouts))) if self.established => self.agree(timeouts),
            // RFC 8490 section 6.6.1: the client closes, and stays away for that long.
            (false, 0, Some(Tlv::RetryDelay(ms))) => Err(End {
                wait: Some(Duration::from_millis(ms.into())),
                ..End::new("network", "the server asks to come again later")
            }),
            // RFC 8490 section 5.4.4: padding is no operation.
            (false, 0, Some(Tlv::Padding)) => Ok(()),
            // RFC 8490 section 5.4.5: nobody could answer it, so the connection ends.
            (false, 0, _) => Err(End::new("malformed", "an unexpected unidirectional message")),
            // RFC 8765 section 6.3.1 and RFC 8490 section 7.1: neither is ever a server's request.
            (false, _, Some(Tlv::Push(_) | Tlv::Keepalive(_))) => {
                Err(End::new("malformed", "a unidirectional message that wants a reply"))
            }
            // Nobody owes answers to a server that does not take them.
            (false, ..) if self.outgoing.octets.len() >= MAX_UNSENT => {
                Err(End::new("malformed", "the server asks and does not read"))
            }
            (false, id, _) => {
                self.outgoing.put(&Writer::response(id, DSOTYPENI).finish());
                Ok(())
            }
        }
    }

    /// The response to a query.
    fn answer(&mut self, message: &[u8]) -> Result<(), End> {
        let Some((&[id0, id1], _)) = message.split_first_chunk::<2>() else {
            return Err(End::new("malformed", "a message without a header"));
        };
        let id = u16::from_be_bytes([id0, id1]);
        // What is taken for something else ends with the session.
        let Some((_, Taken::Query { original, reply })) = self.taken.remove(&id) else {
            return Err(End::new("malformed", "a response that nobody asked for"));
        };
        self.querying -= 1;
        let mut message = message.to_vec();
        if let Some(place) = message.first_chunk_mut::<2>() {
            *place = original;
        }
        // Who asked may have given up.
        let _ = reply.send(message);
        Ok(())
    }

    /// The response to a request of ours.
    async fn reply(
        &mut self,
        id: u16,
        rcode: u8,
        primary: Option<Tlv<'_>>,
        delay: Option<Duration>,
    ) -> Result<(), End> {
        match self.taken.get_mut(&id).map(|(_, taken)| taken) {
            Some(Taken::Keepalive) => {
                self.taken.remove(&id);
                match primary {
                    Some(Tlv::Keepalive(timeouts)) if rcode == 0 => self.agree(timeouts)?,
                    // RFC 8490 section 5.1.1: NOTIMP and everything else says that there is no session to be had.
                    _ if !self.established => {
                        let wait = Some(delay.unwrap_or(self.pace.refused));
                        let end = End::new("network", format!("no session: the server answered {rcode}"));
                        return Err(End { wait, ..end });
                    }
                    _ => {}
                }
                if !self.established {
                    self.established = true;
                    self.server.up.store(true, Ordering::Release);
                    self.begin();
                }
                Ok(())
            }
            Some(Taken::Subscription { topic, held: held @ false }) => {
                self.subscribing -= 1;
                let topic = topic.clone();
                if self.by_topic.get(&topic) != Some(&id) {
                    // Given up before the reply came.
                    self.taken.remove(&id);
                    return Ok(());
                }
                if rcode == 0 {
                    *held = true;
                    return self.tell(Event::Subscribed(topic)).await;
                }
                self.taken.remove(&id);
                self.by_topic.remove(&topic);
                let otherwise = if TROUBLED.contains(&rcode) { self.pace.troubled } else { self.pace.refused };
                let again = Instant::now() + delay.unwrap_or(otherwise).clamp(self.pace.first_wait, MAX_RETRY_DELAY);
                let place = self.refused.again.partition_point(|(at, _)| *at <= again);
                self.refused.again.insert(place, (again, topic.clone()));
                self.refused.topics.insert(topic.clone());
                self.idle();
                self.tell(Event::Refused(topic)).await
            }
            _ => Err(End::new("malformed", "a response that nobody asked for")),
        }
    }

    async fn pushed(&mut self, topic: &Topic) -> Result<(), End> {
        if topic.record_type.0 != dso::ANY {
            // RFC 8765 section 6.3.1: what is not subscribed to any more may still be on its way.
            if self.by_topic.contains_key(topic) {
                return self.tell(Event::Changed(topic.clone())).await;
            }
            return Ok(());
        }
        let concerned: Vec<Topic> = self.by_topic.keys().filter(|t| t.name == topic.name).cloned().collect();
        for topic in concerned {
            self.tell(Event::Changed(topic)).await?;
        }
        Ok(())
    }

    async fn tell(&self, event: Event) -> Result<(), End> {
        let told = self.events.send((Arc::clone(self.server), event)).await;
        told.map_err(|_| End::new("network", "nobody listens any more"))
    }

    /// The session is established: everything that is wanted is subscribed to.
    fn begin(&mut self) {
        let mut wanted = locked(&self.server.wanted);
        wanted.news.clear();
        let refused = &self.refused.topics;
        self.to_subscribe = wanted.all.iter().filter(|topic| !refused.contains(*topic)).cloned().collect();
    }

    /// What is wanted changed.
    fn news(&mut self) {
        let mut gone = Vec::new();
        {
            let mut wanted = locked(&self.server.wanted);
            for topic in std::mem::take(&mut wanted.news) {
                if !wanted.all.contains(&topic) {
                    gone.push(topic);
                } else if !self.by_topic.contains_key(&topic) && !self.refused.topics.contains(&topic) {
                    self.to_subscribe.push_back(topic);
                }
            }
        }
        for topic in gone {
            self.unsubscribe(&topic);
        }
    }

    fn unsubscribe(&mut self, topic: &Topic) {
        self.refused.topics.remove(topic);
        let Some(id) = self.by_topic.remove(topic) else {
            return;
        };
        // While its reply is still to come, the identification stays taken.
        if !self.taken.get(&id).is_some_and(|(sent, _)| self.awaits(*sent, id)) {
            self.taken.remove(&id);
        }
        // RFC 8765 section 6.4.1: by the identification of the SUBSCRIBE, and without a reply.
        self.send(&Writer::unidirectional().unsubscribe(id).finish());
        self.idle();
    }

    /// Subscribes to what waits, as far as the window and the buffer allow.
    fn subscribe_more(&mut self) {
        while self.subscribing < WINDOW
            && self.by_topic.len() < MAX_SUBSCRIPTIONS
            && self.outgoing.octets.len() < MAX_UNSENT
            && let Some(topic) = self.to_subscribe.pop_front()
        {
            let still = locked(&self.server.wanted).all.contains(&topic);
            if !still || self.by_topic.contains_key(&topic) {
                continue;
            }
            let subject = Subject { name: topic.name.clone(), rtype: topic.record_type, class: IN };
            let id = self.take(Taken::Subscription { topic: topic.clone(), held: false });
            self.send(&Writer::request(id).subscribe(&subject).finish());
            self.by_topic.insert(topic, id);
            self.subscribing += 1;
            self.idle_since = None;
        }
    }

    fn query(&mut self, Ask { mut message, reply }: Ask) {
        let Some(place) = message.first_chunk_mut::<2>() else {
            return;
        };
        let original = *place;
        // RFC 8490 section 6.4: so long ago was the last operation.
        self.idle_since = self.idle_since.map(|_| Instant::now());
        let id = self.take(Taken::Query { original, reply });
        *place = id.to_be_bytes();
        self.querying += 1;
        self.send(&message);
    }

    fn keep_alive(&mut self) {
        let id = self.take(Taken::Keepalive);
        self.send(&Writer::request(id).keepalive(WISH).finish());
    }

    /// A free identification, now taken. There is one: subscriptions and queries are bounded.
    fn take(&mut self, by: Taken) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            // 0 means that nobody answers (RFC 8490 section 5.4.1).
            if self.last_id != 0 && !self.taken.contains_key(&self.last_id) {
                break;
            }
        }
        let now = Instant::now();
        self.taken.insert(self.last_id, (now, by));
        self.unanswered.push_back((now, self.last_id));
        self.last_id
    }

    fn send(&mut self, message: &[u8]) {
        self.outgoing.put(message);
        self.last_message = Instant::now();
    }

    /// RFC 8490 section 7.1: what the server says holds.
    fn agree(&mut self, timeouts: Keepalive) -> Result<(), End> {
        // RFC 8490 section 6.5.2: a server that says less than ten seconds is not talked to.
        if Duration::from_millis(timeouts.interval.into()) < self.pace.least_keepalive {
            return Err(End::new("malformed", "the server wants keepalives all the time"));
        }
        self.timeouts = timeouts;
        Ok(())
    }

    /// RFC 8490 section 6.4: without a subscription the session is inactive.
    fn idle(&mut self) {
        if self.by_topic.is_empty() && self.to_subscribe.is_empty() {
            self.idle_since.get_or_insert_with(Instant::now);
        }
    }

    /// What took the identification then has no reply yet.
    fn awaits(&self, since: Instant, id: u16) -> bool {
        match self.taken.get(&id) {
            Some((sent, Taken::Keepalive | Taken::Query { .. })) => *sent == since,
            Some((sent, Taken::Subscription { held, .. })) => *sent == since && !held,
            None => false,
        }
    }

    fn keepalive_due(&self) -> Instant {
        let interval = Duration::from_millis(self.timeouts.interval.into()).max(self.pace.least_keepalive);
        // RFC 8490 section 6.5.2: before the interval is over.
        self.last_message + interval.mul_f32(0.9)
    }

    fn idle_end(&self) -> Option<Instant> {
        let timeout = (self.timeouts.inactivity != dso::NEVER).then_some(self.timeouts.inactivity)?;
        self.idle_since.map(|since| since + Duration::from_millis(timeout.into()))
    }

    /// When something is to be done although nothing comes.
    fn deadline(&mut self) -> Instant {
        while let Some(&(sent, id)) = self.unanswered.front()
            && !self.awaits(sent, id)
        {
            self.unanswered.pop_front();
        }
        let reply = self.unanswered.front().map(|(sent, _)| *sent + self.pace.reply);
        let again = self.refused.again.front().map(|(at, _)| *at);
        let due = self.keepalive_due();
        [reply, again, self.idle_end()].into_iter().flatten().fold(due, Instant::min)
    }

    fn on_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.unanswered.front().is_some_and(|(sent, id)| *sent + self.pace.reply <= now && self.awaits(*sent, *id)) {
            return Err(End::new("timeout", "the server does not reply"));
        }
        if self.idle_end().is_some_and(|end| end <= now) {
            return Err(End { idle: true, ..End::new("network", "nothing is subscribed to any more") });
        }
        while self.refused.again.front().is_some_and(|(at, _)| *at <= now) {
            let topic = self.refused.again.pop_front().map(|(_, topic)| topic);
            self.to_subscribe.extend(topic.filter(|topic| self.refused.topics.remove(topic)));
        }
        if self.keepalive_due() <= now {
            self.keep_alive();
        }
        Ok(())
    }
}
