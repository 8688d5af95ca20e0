//! The open connections of one worker thread: who gets a place, and whose patience is over.
//!
//! A connection has no timer of its own. It notes what it waits for and since when, and the thread looks over all of
//! them a few times a second. The fuller the house, the shorter the idle time (RFC 7766 section 6.2.3, RFC 9210
//! section 4.4): connections that only wait never keep others out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use certdir_directory::{Connections, Place};
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::{Instant, sleep};

/// How often the thread looks for connections to close.
const LOOK: Duration = Duration::from_millis(200);

/// How long connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Without a request.
    pub(crate) idle: Duration,
    /// Without a request, for clients that asked how long (RFC 7828), and over QUIC.
    pub(crate) keepalive: Duration,
    /// From the beginning to the end of a handshake, of a request, or of taking what was answered.
    pub(crate) slow: Duration,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The end of the TLS or QUIC handshake.
    Handshake,
    /// A request.
    Idle,
    /// The rest of a request.
    Request,
    /// That the client takes its responses.
    Reader,
    /// Us: signing.
    Signature,
}

/// One connection, as the others see it.
#[derive(Debug)]
pub(crate) struct Seat {
    waits: Cell<Waits>,
    since: Cell<Instant>,
    keepalive: Cell<bool>,
    /// How long the client of a stateful session may be silent, and whether it is so because it follows records.
    session: Cell<Option<(Duration, bool)>>,
}

impl Seat {
    /// Something was completed, or a wait of another kind begins.
    pub(crate) fn waits(&self, waits: Waits, progress: bool) {
        if progress || waits != self.waits.get() {
            self.since.set(Instant::now());
        }
        self.waits.set(waits);
    }

    /// The client wants to know how long it may be idle, and so relies on it (RFC 7828 section 3.3.2).
    pub(crate) fn keep_alive(&self) {
        self.keepalive.set(true);
    }

    /// The connection has a stateful session, whose client may be silent for so long (RFC 8490 section 6.2). One that
    /// `follows` records does not wait to ask: it is neither hurried nor among the first to make room. `active`: the time begins now.
    pub(crate) fn session(&self, silence: Duration, follows: bool, active: bool) {
        self.session.set(Some((silence, follows)));
        if active {
            self.since.set(Instant::now());
        }
    }

    fn follows(&self) -> bool {
        self.session.get().is_some_and(|(_, follows)| follows)
    }
}

/// The connections of one worker thread.
pub(crate) struct Seats {
    places: Arc<Connections>,
    /// Places of TLS handshakes under way.
    handshaking: Arc<Connections>,
    total: usize,
    patience: Patience,
    taken: RefCell<HashMap<u64, (Rc<Seat>, AbortHandle)>>,
    next: Cell<u64>,
    /// What is left of the idle times for now: 1 of this many parts.
    haste: Cell<u32>,
}

/// Under this haste clients are asked to go, and handshakes and requests have less time, too.
const HURRY: u32 = 20;

impl Seats {
    /// `total` is what `places` has in all. A connection in a TLS handshake has one of `handshaking`, too.
    pub(crate) fn new(
        places: Arc<Connections>,
        handshaking: Arc<Connections>,
        total: usize,
        patience: Patience,
    ) -> Seats {
        Seats {
            places,
            handshaking,
            total,
            patience,
            taken: RefCell::default(),
            next: Cell::new(0),
            haste: Cell::new(1),
        }
    }

    /// A place for a connection from `peer`. When all are taken, the connection that has waited longest makes room.
    /// `None` when nothing can be had, or the source has as many as one may have.
    pub(crate) async fn admit(&self, peer: IpAddr) -> Option<Place> {
        if let Some(place) = self.places.admit(peer) {
            return Some(place);
        }
        if self.places.open() < self.total || !self.evict() {
            return None;
        }
        // Its task gives the place back when it is dropped, which is its next turn.
        yield_now().await;
        self.places.admit(peer)
    }

    /// A place for a TLS handshake with `peer`. `None` when the source has as many as one may have.
    pub(crate) fn admit_handshake(&self, peer: IpAddr) -> Option<Place> {
        self.handshaking.admit(peer)
    }

    /// Runs a connection until it ends by itself or is ended.
    pub(crate) fn run<F: Future<Output = ()> + 'static>(
        self: &Rc<Seats>,
        place: Place,
        waits: Waits,
        connection: impl FnOnce(Rc<Seat>) -> F,
    ) {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let seat = Rc::new(Seat {
            waits: Cell::new(waits),
            since: Cell::new(Instant::now()),
            keepalive: Cell::new(false),
            session: Cell::new(None),
        });
        let conversation = connection(seat.clone());
        let leaving = Leaving { seats: self.clone(), id, _place: place };
        let task = spawn_local(async move {
            let _leaving = leaving;
            conversation.await;
        });
        self.taken.borrow_mut().insert(id, (seat, task.abort_handle()));
    }

    /// Connections of this thread whose handshake goes on.
    pub(crate) fn handshakes(&self) -> usize {
        self.taken.borrow().values().filter(|(seat, _)| seat.waits.get() == Waits::Handshake).count()
    }

    /// How long connections may take.
    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    /// How long a client that asked may be idle, in units of 100 ms; 0 asks it to go (RFC 7828 section 3.1).
    pub(crate) fn keepalive(&self) -> u16 {
        if self.haste.get() >= HURRY {
            return 0;
        }
        let idle = self.patience.keepalive / self.haste.get();
        u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX)
    }

    /// Closes whatever takes too long, for ever.
    pub(crate) async fn watch(self: Rc<Seats>) {
        loop {
            sleep(LOOK).await;
            self.haste.set(haste(self.places.open(), self.total));
            let now = Instant::now();
            for (seat, task) in self.taken.borrow().values() {
                if now.duration_since(seat.since.get()) > self.limit(seat) {
                    task.abort();
                }
            }
        }
    }

    fn limit(&self, seat: &Seat) -> Duration {
        let Patience { idle, keepalive, slow } = self.patience;
        let haste = self.haste.get();
        match seat.waits.get() {
            Waits::Idle if let Some((silence, follows)) = seat.session.get() => {
                if follows {
                    silence
                } else {
                    silence / haste
                }
            }
            Waits::Idle if seat.keepalive.get() => keepalive / haste,
            Waits::Idle => idle / haste,
            // A handshake or a request takes some round trips at most.
            Waits::Handshake | Waits::Request if haste >= HURRY => slow / 4,
            // For a signature every query waits less than that.
            Waits::Handshake | Waits::Request | Waits::Reader | Waits::Signature => slow,
        }
    }

    /// Ends the connection that has waited longest for its client to say something; without one, the one that has waited
    /// longest for anything else; without one, the one that has followed records in silence for longest.
    fn evict(&self) -> bool {
        let taken = self.taken.borrow();
        let waiting = taken.values().filter(|(_, task)| !task.is_finished()).min_by_key(|(seat, _)| {
            let busy = matches!(seat.waits.get(), Waits::Reader | Waits::Signature);
            (seat.follows(), busy, seat.since.get())
        });
        if let Some((_, task)) = waiting {
            task.abort();
        }
        waiting.is_some()
    }
}

/// By how much idle times are divided when this many of the places are taken.
fn haste(open: usize, total: usize) -> u32 {
    match open.saturating_mul(100) / total.max(1) {
        0..50 => 1,
        50..75 => 2,
        75..90 => 4,
        _ => HURRY,
    }
}

/// Gives back what a connection had, however it ended.
struct Leaving {
    seats: Rc<Seats>,
    id: u64,
    _place: Place,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.seats.taken.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_shorter() {
        assert_eq!([0, 511, 512, 767, 768, 921, 922, 1024].map(|open| haste(open, 1024)), [1, 1, 2, 2, 4, 4, 20, 20]);
        assert_eq!(haste(0, 0), 1);
    }

    fn seats(total: usize) -> Rc<Seats> {
        let second = Duration::from_secs(1);
        let patience = Patience { idle: 100 * second, keepalive: 100 * second, slow: 10 * second };
        let places = || Arc::new(Connections::new(total, total));
        Rc::new(Seats::new(places(), places(), total, patience))
    }

    fn peer(at: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, at])
    }

    /// A connection that waits and never ends.
    async fn take(seats: &Rc<Seats>, waits: Waits) -> Rc<Seat> {
        let place = seats.admit(peer(1)).await.unwrap();
        let mut taken = None;
        seats.run(place, waits, |seat| {
            taken = Some(seat);
            std::future::pending()
        });
        tokio::time::advance(Duration::from_millis(1)).await;
        taken.unwrap()
    }

    #[tokio::test(start_paused = true, flavor = "local")]
    async fn whatever_a_connection_waits_for_it_makes_room() {
        let seats = seats(4);
        let waiting = [Waits::Reader, Waits::Signature, Waits::Request, Waits::Idle];
        let mut here = Vec::new();
        for waits in waiting {
            here.push(Rc::downgrade(&take(&seats, waits).await));
        }
        // Those whose client is silent first, then those that have waited longest.
        let mut newcomers = Vec::new();
        for gone in [2, 3, 0, 1] {
            let place = seats.admit(peer(2)).await;
            newcomers.push(place.unwrap());
            yield_now().await;
            assert!(here[gone].upgrade().is_none(), "{gone}");
            assert_eq!(here.iter().filter(|seat| seat.upgrade().is_some()).count(), 4 - newcomers.len());
        }
    }

    #[tokio::test(start_paused = true, flavor = "local")]
    async fn every_wait_comes_to_an_end() {
        let seats = seats(100);
        tokio::task::spawn_local(seats.clone().watch());
        for waits in [Waits::Handshake, Waits::Idle, Waits::Request, Waits::Reader, Waits::Signature] {
            let seat = Rc::downgrade(&take(&seats, waits).await);
            sleep(Duration::from_secs(9)).await;
            assert!(seat.upgrade().is_some(), "{waits:?}");
            sleep(Duration::from_secs(92)).await;
            assert!(seat.upgrade().is_none(), "{waits:?}");
        }
    }
}
