//! The front end as a whole: binds its sockets, runs its workers, stops them.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use certdir_directory::{Clock, Connections};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{SockaddrIn, SockaddrIn6, setsockopt};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::{mpsc, watch};

use crate::answer::Transport;
use crate::counters::{Counters, Tally};
use crate::policy::Policy;
use crate::view::View;
use crate::{stream, udp};

/// How soon a UDP worker without requests notices that it has to stop; also how long it waits for room to send.
const NOTICE: Duration = Duration::from_millis(100);
/// Octets of each UDP socket's queues (the system may allow less): at 1.4 KB an answer, some thousand datagrams.
const UDP_QUEUE: usize = 8 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Attempts to find a port that is free for UDP and TCP when port 0 was asked for.
const PORT_ATTEMPTS: usize = 16;
/// Bounds of [`Policy::udp_payload`]: what every client takes, and what a fragmented datagram may reasonably have.
const UDP_PAYLOAD: std::ops::RangeInclusive<u16> = 512..=4096;

/// How the front end works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads for UDP, and as many for TCP; per address. At least 1.
    pub workers: usize,
    /// What one source may get, and what all may get together. Rates are divided among the workers of an address; the
    /// signatures are those of each worker.
    pub policy: Policy,
    /// Open TCP connections in all. One costs up to 150 KB while its client does not read.
    pub tcp_connections: usize,
    /// Open TCP connections of one source: an IPv4 address or an IPv6 /64.
    pub tcp_connections_per_source: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            workers: thread::available_parallelism().map_or(1, |count| count.get()),
            policy: Policy::default(),
            tcp_connections: 1024,
            tcp_connections_per_source: 128,
        }
    }
}

/// What can go wrong; after a successful bind nothing but a lack of threads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be used.
    #[error(
        "DNS cannot listen on {address} ({transport}): {source}; choose another address with --dns, or stop what uses it"
    )]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no thread or no event queue.
    #[error("DNS cannot start its workers: {0}; allow more threads and open files, or set fewer workers")]
    Worker(#[from] io::Error),
    /// A worker ended before it was told to.
    #[error("a DNS worker stopped unexpectedly; this is a defect, please report it")]
    WorkerLost,
}

impl Error {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Bind { .. } => "dns-bind",
            Error::Worker(_) => "dns-worker",
            Error::WorkerLost => "dns-worker-lost",
        }
    }
}

/// The sockets of one address, one pair per worker.
#[derive(Debug)]
struct Bound {
    address: SocketAddr,
    sockets: Vec<(UdpSocket, TcpListener)>,
}

/// The DNS front end: bound, and ready to run.
#[derive(Debug)]
pub struct Frontend {
    bound: Vec<Bound>,
    options: Options,
    /// Of every pair of sockets, in order: UDP and TCP.
    tallies: Vec<(Arc<Tally>, Arc<Tally>)>,
}

impl Frontend {
    /// Binds UDP and TCP on every address. Port 0 takes any port that is free for both. Options out of their bounds are
    /// brought within them.
    pub fn bind(addresses: &[SocketAddr], options: Options) -> Result<Frontend, Error> {
        let workers = options.workers.max(1);
        let mut policy = options.policy;
        policy.udp_payload = policy.udp_payload.clamp(*UDP_PAYLOAD.start(), *UDP_PAYLOAD.end());
        // The system spreads the datagrams of a network, by address and port, over the workers.
        policy.responses_per_second = policy.responses_per_second.div_ceil(u32::try_from(workers).unwrap_or(u32::MAX));
        let options = Options { workers, policy, ..options };
        let bound = addresses.iter().map(|&address| Bound::new(address, workers)).collect::<Result<Vec<_>, Error>>()?;
        let tally = |transport| Arc::new(Tally::new(transport));
        let tallies = (0..workers * bound.len()).map(|_| (tally(Transport::Udp), tally(Transport::Tcp))).collect();
        Ok(Frontend { bound, options, tallies })
    }

    /// The addresses that are bound, in the order they were asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|bound| bound.address).collect()
    }

    /// The counts of this front end, to be kept while it runs.
    pub fn counters(&self) -> Counters {
        Counters(self.tallies.iter().flat_map(|(udp, tcp)| [udp.clone(), tcp.clone()]).collect())
    }

    /// Answers until `shutdown` turns true or its sender is gone; returns when every worker has ended, within about 100
    /// milliseconds. Dropping the future stops the workers, too.
    pub async fn run<V: View>(self, view: V, clock: Clock, mut shutdown: watch::Receiver<bool>) -> Result<(), Error> {
        let Options { policy, tcp_connections, tcp_connections_per_source, .. } = self.options;
        let connections = Arc::new(Connections::new(tcp_connections, tcp_connections_per_source));
        let stop = Stop::default();
        let (ending, mut ended) = mpsc::unbounded_channel();
        let mut threads = Vec::new();
        let mut tallies = self.tallies.into_iter();
        for bound in self.bound {
            let any = bound.address.ip().is_unspecified();
            let serve =
                if bound.address.is_ipv4() { udp::serve::<SockaddrIn, _> } else { udp::serve::<SockaddrIn6, _> };
            for ((socket, listener), (udp_tally, tcp_tally)) in bound.sockets.into_iter().zip(&mut tallies) {
                let stop_udp = stop.flag.clone();
                let worker = udp::Worker {
                    latest: view.latest(),
                    clock: clock.clone(),
                    tally: udp_tally,
                    stop: stop_udp,
                    policy: policy.clone(),
                };
                threads.push(spawn("dns-udp", &ending, move || {
                    serve(&socket, any, worker);
                    Ok(())
                })?);
                let parts = (
                    view.latest(),
                    clock.clone(),
                    tcp_tally,
                    policy.clone(),
                    stop.signal.subscribe(),
                    connections.clone(),
                );
                threads.push(spawn("dns-tcp", &ending, move || {
                    let (latest, clock, tally, policy, stop, connections) = parts;
                    stream::serve(listener, stream::Worker::new(latest, clock, tally, policy), &connections, stop)
                })?);
            }
        }
        drop(ending);
        let early = tokio::select! {
            _ = shutdown.wait_for(|&stop| stop) => false,
            // Without any worker (no address) there is nothing to wait for but the shutdown.
            Some(()) = ended.recv() => true,
        };
        drop(stop);
        while ended.recv().await.is_some() {}
        for thread in threads {
            // The thread has ended or is about to.
            thread.join().map_err(|_| Error::WorkerLost)??;
        }
        if early { Err(Error::WorkerLost) } else { Ok(()) }
    }
}

impl Bound {
    /// Binds `workers` pairs of sockets that share one address.
    fn new(address: SocketAddr, workers: usize) -> Result<Bound, Error> {
        let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Bound::with_one_port(address, workers) {
                Err(_) if attempts > 0 => {}
                result => return result,
            }
        }
    }

    fn with_one_port(asked: SocketAddr, workers: usize) -> Result<Bound, Error> {
        let failed = |transport| move |source| Error::Bind { address: asked, transport, source };
        let mut address = asked;
        // SO_REUSEPORT would let a second server of the same user take half of the queries without a word.
        drop(open(address, Type::DGRAM, false).map_err(failed("UDP"))?);
        drop(open(address, Type::STREAM, false).map_err(failed("TCP"))?);
        let mut sockets = Vec::with_capacity(workers);
        for _ in 0..workers {
            let udp = UdpSocket::from(open(address, Type::DGRAM, true).map_err(failed("UDP"))?);
            address = udp.local_addr().map_err(failed("UDP"))?;
            let tcp = open(address, Type::STREAM, true).map_err(failed("TCP"))?;
            tcp.listen(BACKLOG).map_err(failed("TCP"))?;
            sockets.push((udp, TcpListener::from(tcp)));
        }
        Ok(Bound { address, sockets })
    }
}

/// A bound socket. `shared`: one of several on the same address, among which the system distributes what comes in.
fn open(address: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` can be bound side by side, and an IPv4 client keeps an IPv4 address.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    if kind == Type::STREAM {
        // Connections of an earlier run that are still winding up do not block a restart.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
    } else {
        socket.set_read_timeout(Some(NOTICE))?;
        socket.set_write_timeout(Some(NOTICE))?;
        // Less than asked for is all right: the system has its own limit.
        socket.set_recv_buffer_size(UDP_QUEUE)?;
        socket.set_send_buffer_size(UDP_QUEUE)?;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(&socket, Ipv4PacketInfo, &true)?,
            IpAddr::V6(ip) if ip.is_unspecified() => setsockopt(&socket, Ipv6RecvPacketInfo, &true)?,
            _ => {}
        }
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Tells every worker to stop when it is dropped.
#[derive(Default)]
struct Stop {
    flag: Arc<AtomicBool>,
    signal: watch::Sender<bool>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Relaxed);
        self.signal.send_replace(true);
    }
}

/// Starts a worker whose end, however it comes, is told to `ending`.
fn spawn<F>(name: &str, ending: &mpsc::UnboundedSender<()>, work: F) -> io::Result<JoinHandle<io::Result<()>>>
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    struct Ending(mpsc::UnboundedSender<()>);
    impl Drop for Ending {
        fn drop(&mut self) {
            // Nobody listens any more when `run` was dropped.
            let _ = self.0.send(());
        }
    }
    let ending = Ending(ending.clone());
    thread::Builder::new().name(name.into()).spawn(move || {
        let _ending = ending;
        work()
    })
}
