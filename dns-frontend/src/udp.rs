//! The UDP loop: one thread and one socket per worker, requests and responses in batches of one system call each.

use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use certdir_directory::Clock;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6, SockaddrLike,
    recvmmsg, sendmmsg,
};

use crate::answer::{Asker, Scratch, Transport, answer};
use crate::counters::{Tally, stopwatch};
use crate::policy::Policy;
use crate::view::Latest;
use crate::warm::{BATCH, warm};

/// Octets kept of a request. What is longer is cut and so malformed; queries have about a hundred.
const MAX_REQUEST: usize = 4096;

/// Pause after a failed receive, which most often means that the system is out of memory.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// What a worker needs besides its socket.
pub(crate) struct Worker<L> {
    pub(crate) latest: L,
    pub(crate) clock: Clock,
    pub(crate) tally: Arc<Tally>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) policy: Policy,
}

/// Answers until `stop` is set. The socket has a receive timeout, which is how soon `stop` is noticed. With `any` the
/// socket is bound to the unspecified address: responses then leave from the address that each request was sent to.
pub(crate) fn serve<S: Family, L: Latest>(socket: &UdpSocket, any: bool, worker: Worker<L>) {
    let Worker { mut latest, clock, tally, stop, policy } = worker;
    let fd = socket.as_raw_fd();
    // Two sets of headers: each keeps pointers to the addresses of its last call.
    let mut receiving = MultiHeaders::<S>::preallocate(BATCH, any.then(S::control_room));
    let mut sending = MultiHeaders::<S>::preallocate(BATCH, any.then(S::control_room));
    let mut requests = Box::new([[0; MAX_REQUEST]; BATCH]);
    let longest = usize::from(policy.udp_payload);
    let mut responses = vec![0; BATCH * longest];
    let mut scratch = Scratch::new(policy);
    while !stop.load(Ordering::Relaxed) {
        let mut buffers = requests.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let mut messages = match recvmmsg(fd, &mut receiving, &mut buffers, MsgFlags::MSG_WAITFORONE, None) {
            Ok(messages) => messages,
            // The receive timeout, or a signal.
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(_) => {
                thread::sleep(ERROR_PAUSE);
                continue;
            }
        };
        let began = stopwatch();
        let now = clock();
        let zones = latest.load();
        let messages: [_; BATCH] = array::from_fn(|_| messages.next());
        let messages = || messages.iter().map_while(Option::as_ref);
        if let Some(zones) = zones {
            warm(zones, messages().filter_map(|message| message.iovs().next()));
        }
        let mut batch = Batch::<S>::new();
        for (message, out) in messages().zip(responses.chunks_exact_mut(longest)) {
            let request = message.iovs().next().unwrap_or_default();
            // The system gives every datagram its source.
            let source = message.address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
            let asker = Asker::new(Transport::Udp, source);
            let finished = answer(zones, request, &asker, now, &mut scratch, out);
            match finished {
                Some(finished) => tally.request(finished),
                None if scratch.take_dropped() => tally.rate_dropped(),
                None => tally.ignored(),
            }
            if let Some(response) = finished.and_then(|finished| out.get(..finished.length)) {
                batch.push(response, message.address, if any { asked_at(message) } else { None });
            }
        }
        batch.send(fd, &mut sending, &tally);
        tally.latency(began.elapsed(), batch.count);
    }
}

/// The responses to one batch of requests.
struct Batch<'a, S: Family> {
    responses: [[IoSlice<'a>; 1]; BATCH],
    to: [Option<S>; BATCH],
    from: [Option<S::Local>; BATCH],
    count: usize,
}

impl<'a, S: Family> Batch<'a, S> {
    fn new() -> Self {
        Batch { responses: array::from_fn(|_| [IoSlice::new(&[])]), to: [None; BATCH], from: [None; BATCH], count: 0 }
    }

    fn push(&mut self, response: &'a [u8], to: Option<S>, from: Option<S::Local>) {
        let at = self.count;
        let places = (self.responses.get_mut(at), self.to.get_mut(at), self.from.get_mut(at));
        if let (Some(response_place), Some(to_place), Some(from_place)) = places {
            *response_place = [IoSlice::new(response)];
            *to_place = to;
            *from_place = from;
            self.count += 1;
        }
    }

    /// Sends everything: one system call for each run of responses that leave from the same address. A response that
    /// the system refuses (no route, a firewall, a forged broadcast source) is counted and skipped.
    fn send(&self, fd: RawFd, headers: &mut MultiHeaders<S>, tally: &Tally) {
        let mut at = 0;
        while at < self.count {
            let from = self.from.get(at).copied().flatten();
            let same = self.from.iter().take(self.count).skip(at).take_while(|&&other| other == from).count();
            let (Some(responses), Some(to)) = (self.responses.get(at..at + same), self.to.get(at..at + same)) else {
                return;
            };
            let sent = match &from {
                None => sendmmsg(fd, headers, responses, to, [], MsgFlags::empty()),
                Some(local) => sendmmsg(fd, headers, responses, to, [S::control(local)], MsgFlags::empty()),
            };
            match sent.map(Iterator::count) {
                Err(Errno::EINTR) => {}
                // Nothing was sent: the first response is at fault.
                Ok(0) | Err(_) => {
                    tally.send_failed();
                    at += 1;
                }
                Ok(count) => at += count,
            }
        }
    }
}

/// The local address that a request was sent to.
fn asked_at<S: Family>(message: &RecvMsg<'_, '_, S>) -> Option<S::Local> {
    message.cmsgs().ok()?.find_map(|control| S::local(&control))
}

/// What differs between IPv4 and IPv6 sockets.
pub(crate) trait Family: SockaddrLike + Copy {
    /// A local address, as packet information.
    type Local: Copy + PartialEq;
    /// The address without its port.
    fn ip(&self) -> IpAddr;
    /// Room for the packet information of one message.
    fn control_room() -> Vec<u8>;
    /// The local address in a received control message.
    fn local(control: &ControlMessageOwned) -> Option<Self::Local>;
    /// The control message that makes a response leave from there.
    fn control(local: &Self::Local) -> ControlMessage<'_>;
}

impl Family for SockaddrIn {
    type Local = libc::in_pktinfo;

    fn ip(&self) -> IpAddr {
        IpAddr::V4(SockaddrIn::ip(self))
    }

    fn control_room() -> Vec<u8> {
        cmsg_space!(libc::in_pktinfo)
    }

    fn local(control: &ControlMessageOwned) -> Option<libc::in_pktinfo> {
        match control {
            // Interface 0: routing chooses the way, only the source address is given.
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(libc::in_pktinfo { ipi_ifindex: 0, ..*info }),
            _ => None,
        }
    }

    fn control(local: &libc::in_pktinfo) -> ControlMessage<'_> {
        ControlMessage::Ipv4PacketInfo(local)
    }
}

impl Family for SockaddrIn6 {
    type Local = libc::in6_pktinfo;

    fn ip(&self) -> IpAddr {
        IpAddr::V6(SockaddrIn6::ip(self))
    }

    fn control_room() -> Vec<u8> {
        cmsg_space!(libc::in6_pktinfo)
    }

    fn local(control: &ControlMessageOwned) -> Option<libc::in6_pktinfo> {
        match control {
            // A link-local address means something only together with its interface.
            ControlMessageOwned::Ipv6PacketInfo(info) => match info.ipi6_addr.s6_addr {
                [0xFE, 0x80, ..] => Some(*info),
                _ => Some(libc::in6_pktinfo { ipi6_ifindex: 0, ..*info }),
            },
            _ => None,
        }
    }

    fn control(local: &libc::in6_pktinfo) -> ControlMessage<'_> {
        ControlMessage::Ipv6PacketInfo(local)
    }
}
