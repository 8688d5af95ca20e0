//! A stateful session (RFC 8490) on a connection: what its client says, what is answered, and when it has gone too far.
//!
//! Who breaks a rule that the RFCs call fatal is cut off without a word; everything else gets a response code. The records
//! that are followed are in [`crate::push`].

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use certdir_directory::{Connections, Place};
use certdir_zones::dso::{self, DEFAULT_TIMEOUT, Header, Keepalive, MIN_KEEPALIVE, Subject, Tlv, Writer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::counters::Tally;
use crate::push::{Subscriptions, is_data, is_ours};
use crate::request::Rcode;
use crate::response::PADDING_BLOCK;
use crate::seats::Seat;
use crate::view::Zones;

/// The longest keepalive interval that is granted, in milliseconds: what RFC 8490 section 6.5.2 recommends.
const MAX_KEEPALIVE: u32 = 3_600_000;
/// How long a client that does not close an inactive session is borne with at least (RFC 8490 section 6.4.1).
const GRACE: Duration = Duration::from_secs(5);
/// How long a client is not to try again, in milliseconds (RFC 8765 section 6.2.2): what will not change soon, and what may.
const RETRY_LATER: u32 = 300_000;
const RETRY_SOON: u32 = 60_000;
/// After a restart: the first client comes again after so long, every further one a tenth of a second later, up to a
/// minute (RFC 8490 section 6.6.1.1).
const RESTART: u32 = 1_000;
const RESTART_STEP: u32 = 100;
const RESTART_STEPS: u32 = 590;

/// What a connection goes over.
pub(crate) trait Line: AsyncRead + AsyncWrite + Unpin {
    /// Has the system cut it off, not close it, once it is dropped (RFC 8490 section 3: a TCP RST).
    fn cut_off(&self);
}

impl Line for TcpStream {
    fn cut_off(&self) {
        // Without it the client learns the same, and may get a little more before.
        let _ = self.set_zero_linger();
    }
}

impl Line for TlsStream<TcpStream> {
    fn cut_off(&self) {
        self.get_ref().0.cut_off();
    }
}

/// What all sessions of a front end share.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Places of subscriptions.
    pub(crate) subscriptions: Arc<Connections>,
    /// Subscriptions of one session.
    pub(crate) per_session: usize,
    /// Places of sessions with subscriptions.
    pub(crate) subscribers: Arc<Connections>,
}

/// The sessions of one worker thread.
#[derive(Debug)]
pub(crate) struct Sessions {
    limits: Limits,
    open: Cell<usize>,
    /// Set once the thread is told to stop; the sessions that were told so far.
    stopping: Cell<bool>,
    farewells: Cell<u32>,
}

impl Sessions {
    pub(crate) fn new(limits: Limits) -> Sessions {
        Sessions { limits, open: Cell::new(0), stopping: Cell::new(false), farewells: Cell::new(0) }
    }

    /// From now on clients are told to go.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    /// Sessions that are established and open.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is answered.
    Answer(Vec<u8>),
    /// It needs no answer.
    Nothing,
    /// The connection is cut off (RFC 8490 section 3: forcibly abort).
    Abort,
}

/// One session, from the first stateful message on.
pub(crate) struct Session<'w> {
    sessions: &'w Sessions,
    tally: &'w Tally,
    source: IpAddr,
    /// Notifications need encryption (RFC 8765 section 7), and padding is of use (RFC 8490 section 7.3).
    encrypted: bool,
    /// A request was answered without an error (RFC 8490 section 5.1).
    established: bool,
    /// The client pads, so what it is sent is padded.
    padded: bool,
    timeouts: Keepalive,
    subscriptions: Subscriptions,
    /// Held while there are subscriptions.
    place: Option<Place>,
    /// The last message was sent: nothing follows, and nothing is read (RFC 8490 section 6.6.1).
    left: bool,
}

impl<'w> Session<'w> {
    pub(crate) fn new(sessions: &'w Sessions, tally: &'w Tally, source: IpAddr, encrypted: bool) -> Session<'w> {
        let timeouts = Keepalive { inactivity: DEFAULT_TIMEOUT, interval: DEFAULT_TIMEOUT };
        Session {
            sessions,
            tally,
            source,
            encrypted,
            established: false,
            padded: false,
            timeouts,
            subscriptions: Subscriptions::default(),
            place: None,
            left: false,
        }
    }

    /// Whether there is a session yet.
    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the client was told to go.
    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    /// Takes a stateful message. `most`: how long a session may be inactive, in milliseconds.
    pub(crate) fn take<Z: Zones>(&mut self, octets: &[u8], zones: Option<&Z>, most: u32, seat: &Seat) -> Then {
        let Some(Header { id, response, .. }) = Header::read(octets) else { return Then::Abort };
        // RFC 8490 section 5.4.1: no request was sent, so nothing can be a response; section 5.4.2: what nobody answers is
        // sent in a session only.
        if response || id == 0 && !self.established {
            return self.abort();
        }
        let message = match dso::read(octets) {
            Ok(message) => message,
            // RFC 8490 section 5.5.1: a message without an answer cannot be refused in another way.
            Err(_) if id == 0 => return self.abort(),
            Err(_) => return self.answer(Writer::response(id, code(Rcode::FORMERR)), false),
        };
        let padded = message.padded && self.encrypted;
        let Some(primary) = message.primary else { return self.abort() };
        let maintenance = matches!(primary, Tlv::Keepalive(_));
        let then = match (primary, id) {
            (Tlv::Keepalive(wanted), 1..) => {
                self.established();
                self.timeouts = Keepalive {
                    inactivity: wanted.inactivity.min(most),
                    interval: wanted.interval.clamp(MIN_KEEPALIVE, MAX_KEEPALIVE),
                };
                let response = Writer::response(id, code(Rcode::NOERROR)).keepalive(self.timeouts);
                self.answer(response, padded)
            }
            (Tlv::Subscribe(subject), 1..) => match self.subscribe(id, subject, zones) {
                Ok((rcode, retry)) => {
                    self.tally.subscribe(rcode);
                    let response = Writer::response(id, code(rcode));
                    let response = retry.map_or(response.clone(), |delay| response.retry_delay(delay));
                    self.answer(response, padded)
                }
                Err(Fatal) => self.abort(),
            },
            (Tlv::Unsubscribe(ended), 0) => {
                let before = self.subscriptions.len();
                self.subscriptions.remove(ended);
                self.tally.unsubscribed(before - self.subscriptions.len());
                self.place.take_if(|_| self.subscriptions.len() == 0);
                Then::Nothing
            }
            // RFC 8765 section 6.5: a server whose data are its own has nothing to look at again.
            (Tlv::Reconfirm(..), 0) => Then::Nothing,
            (Tlv::Unknown(_), 1..) => self.answer(Writer::response(id, code(Rcode::DSOTYPENI)), padded),
            // RFC 8490 section 7.3: padding is about nothing.
            (Tlv::Padding, 1..) => self.answer(Writer::response(id, code(Rcode::FORMERR)), padded),
            // RFC 8490 sections 5.4.1, 5.4.5 and 7.2.1, RFC 8765 section 6.3: an identification where none may be or none
            // where one must be, what is unknown and cannot be answered, what only servers say.
            _ => self.abort(),
        };
        self.padded |= padded;
        // RFC 8490 section 6.3: a Keepalive message keeps operations alive, and is none.
        self.sit(seat, !maintenance || self.place.is_some());
        then
    }

    /// Whether records are followed.
    pub(crate) fn follows(&self) -> bool {
        self.place.is_some()
    }

    /// The next message that is due: changes, or the farewell. `seat` notices that something was said.
    pub(crate) fn due<Z: Zones>(&mut self, zones: Option<&Z>, seat: &Seat) -> Option<Vec<u8>> {
        if self.left || !self.established {
            return None;
        }
        let Sessions { stopping, farewells, .. } = self.sessions;
        if stopping.get() {
            self.left = true;
            let delay = RESTART + RESTART_STEP * farewells.get().min(RESTART_STEPS);
            farewells.set(farewells.get() + 1);
            return Some(Writer::farewell(code(Rcode::NOERROR), delay).finish());
        }
        if !self.follows() {
            return None;
        }
        let zones = zones?;
        self.subscriptions.look(zones);
        let (message, changes) = self.subscriptions.next(zones, self.padded.then_some(PADDING_BLOCK))?;
        self.tally.pushed(changes);
        self.sit(seat, true);
        Some(message)
    }

    /// Adds a subscription: its response code, and when to try again where that is an error.
    fn subscribe<Z: Zones>(
        &mut self,
        id: u16,
        subject: Subject,
        zones: Option<&Z>,
    ) -> Result<(Rcode, Option<u32>), Fatal> {
        if self.subscriptions.clash(id, &subject).is_some() {
            return Err(Fatal);
        }
        let Some(zones) = zones else {
            return Ok((Rcode::SERVFAIL, Some(RETRY_SOON)));
        };
        // RFC 8765 section 7: cleartext is not permitted.
        if !self.encrypted || !is_data(subject.rtype) {
            return Ok((Rcode::REFUSED, Some(RETRY_LATER)));
        }
        if !is_ours(zones, &subject) {
            return Ok((Rcode::NOTAUTH, Some(RETRY_LATER)));
        }
        let limits = &self.sessions.limits;
        if self.place.is_none() {
            self.place = limits.subscribers.admit(self.source);
        }
        let room = self.place.is_some() && self.subscriptions.len() < limits.per_session;
        let Some(place) = limits.subscriptions.admit(self.source).filter(|_| room) else {
            self.place.take_if(|_| self.subscriptions.len() == 0);
            return Ok((Rcode::REFUSED, Some(RETRY_LATER)));
        };
        self.established();
        self.subscriptions.look(zones);
        self.subscriptions.add(id, subject, place, zones);
        Ok((Rcode::NOERROR, None))
    }

    fn established(&mut self) {
        if !std::mem::replace(&mut self.established, true) {
            self.sessions.open.set(self.sessions.open.get() + 1);
            self.tally.session_opened();
        }
    }

    /// Says how long the client may be silent from now on (RFC 8490 sections 6.4.1 and 6.5.1); `active`: it begins now.
    fn sit(&self, seat: &Seat, active: bool) {
        if !self.established {
            return;
        }
        let twice = |milliseconds: u32| Duration::from_millis(u64::from(milliseconds) * 2);
        match self.follows() {
            true => seat.session(twice(self.timeouts.interval), true, active),
            false => seat.session(twice(self.timeouts.inactivity).max(GRACE), false, active),
        }
    }

    /// RFC 8490 section 7.3: padding is answered with padding.
    fn answer(&self, response: Writer, padded: bool) -> Then {
        let response = if padded { response.padded_to(PADDING_BLOCK) } else { response };
        Then::Answer(response.finish())
    }

    fn abort(&self) -> Then {
        self.tally.session_aborted();
        Then::Abort
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.established {
            self.sessions.open.set(self.sessions.open.get().saturating_sub(1));
            self.tally.session_closed();
        }
        self.tally.unsubscribed(self.subscriptions.len());
    }
}

/// The client broke a rule that ends the connection.
struct Fatal;

/// A code that fits the header.
fn code(rcode: Rcode) -> u8 {
    rcode.0 as u8
}
