//! The stream loop: DNS over TCP (RFC 7766), and over anything else that carries octets in order.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use certdir_directory::{Clock, Connections};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answer::{Asker, Scratch, Transport, answer};
use crate::counters::Tally;
use crate::policy::Policy;
use crate::view::Latest;

/// A connection with no complete request for this long is closed (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// A client that has not taken the waiting responses after this long is cut off.
const WRITE: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which most often means that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Octets kept of requests waiting on one connection; one that announces a longer request is closed. It bounds what
/// an idle connection costs; queries have about a hundred octets.
const WAITING_REQUESTS: usize = 16 * 1024;
/// Responses are written as soon as this many octets are waiting, or no complete request is left. With the longest
/// message on top it bounds what a slow reader costs.
const WAITING_RESPONSES: usize = 64 * 1024;
/// Octets of the length in front of every message (RFC 1035 section 4.2.2).
const LENGTH: usize = 2;
/// Longest message (RFC 1035 section 4.2.2).
const MAX_MESSAGE: usize = 65_535;

/// What all connections of one worker thread share; borrowed only between two waits.
pub(crate) struct Worker<L> {
    answering: RefCell<Answering<L>>,
    clock: Clock,
    tally: Arc<Tally>,
}

struct Answering<L> {
    latest: L,
    scratch: Scratch,
    out: Box<[u8]>,
}

impl<L: Latest> Worker<L> {
    pub(crate) fn new(latest: L, clock: Clock, tally: Arc<Tally>, policy: Policy) -> Worker<L> {
        let out = vec![0; MAX_MESSAGE].into_boxed_slice();
        let answering = RefCell::new(Answering { latest, scratch: Scratch::new(policy), out });
        Worker { answering, clock, tally }
    }

    /// Answers complete requests at the front of `requests` until there is enough to write; gives back the octets
    /// used up.
    fn answer(&self, asker: &Asker, requests: &[u8], responses: &mut Vec<u8>) -> usize {
        let now = (self.clock)();
        let Answering { latest, scratch, out } = &mut *self.answering.borrow_mut();
        let zones = latest.load();
        let mut rest = requests;
        while responses.len() < WAITING_RESPONSES
            && let Some((request, behind)) = split(rest)
        {
            rest = behind;
            let finished = answer(zones, request, asker, now, scratch, out);
            self.tally.request(finished);
            if let Some(response) = finished.and_then(|finished| out.get(..finished.length)) {
                // At most MAX_MESSAGE, the length of `out`.
                responses.extend((response.len() as u16).to_be_bytes());
                responses.extend_from_slice(response);
            }
        }
        requests.len() - rest.len()
    }
}

/// The first message and what is behind it; `None` when it is not complete.
fn split(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = octets.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(length)))
}

/// Whether the message that begins here can ever be complete.
fn acceptable(octets: &[u8]) -> bool {
    octets
        .first_chunk::<LENGTH>()
        .is_none_or(|&length| LENGTH + usize::from(u16::from_be_bytes(length)) <= WAITING_REQUESTS)
}

/// Accepts connections until `stop` turns true.
pub(crate) fn serve<L: Latest>(
    listener: TcpListener,
    worker: Worker<L>,
    connections: &Arc<Connections>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let worker = Rc::new(worker);
        loop {
            let accepted = tokio::select! {
                // An error means that whoever could say stop is gone.
                _ = stop.wait_for(|&stop| stop) => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Some(place) = connections.admit(peer.ip()) else {
                worker.tally.refused_connection();
                continue;
            };
            let worker = worker.clone();
            spawn_local(async move {
                // Without it the end of a long response would wait for an acknowledgement.
                if stream.set_nodelay(true).is_ok() {
                    // A connection that breaks concerns nobody else.
                    let asker = Asker::new(Transport::Tcp, peer.ip());
                    let _ = converse(stream, &asker, &worker).await;
                }
                drop(place);
            });
        }
    })
}

/// Answers the requests of one connection until it is closed, idle for too long or does not read. Responses to
/// requests that arrive together leave together.
async fn converse<S: AsyncRead + AsyncWrite + Unpin, L: Latest>(
    mut stream: S,
    asker: &Asker,
    worker: &Worker<L>,
) -> io::Result<()> {
    let mut requests = vec![0; WAITING_REQUESTS];
    let mut filled = 0;
    let mut responses = Vec::new();
    let mut deadline = Instant::now() + IDLE;
    loop {
        let used = worker.answer(asker, requests.get(..filled).unwrap_or_default(), &mut responses);
        if used > 0 {
            requests.copy_within(used..filled, 0);
            filled -= used;
            timeout(WRITE, stream.write_all(&responses)).await??;
            responses.clear();
            deadline = Instant::now() + IDLE;
            continue;
        }
        if !acceptable(requests.get(..filled).unwrap_or_default()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let room = requests.get_mut(filled..).unwrap_or_default();
        match timeout_at(deadline, stream.read(room)).await?? {
            0 => return Ok(()),
            count => filled += count,
        }
    }
}
