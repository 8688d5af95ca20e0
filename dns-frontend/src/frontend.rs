//! The front end as a whole: binds its sockets, runs its workers, stops them.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use certdir_directory::{Clock, Connections, Version};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{SockaddrIn, SockaddrIn6, setsockopt};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use crate::answer::Transport;
use crate::counters::{Counters, Tally};
use crate::doh::{self, Desks};
use crate::policy::Policy;
use crate::seats::{Patience, Seats};
use crate::session::Limits;
use crate::view::{Latest, View};
use crate::{quic, stream, udp};

/// How soon a UDP worker without requests notices that it has to stop; also how long it waits for room to send.
const NOTICE: Duration = Duration::from_millis(100);
/// Octets that the system keeps of a connection's responses until its client takes them (it counts twice as many, for
/// what it needs itself): the longest response fits.
const STREAM_QUEUE: usize = 64 << 10;
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
    /// Threads for each UDP address, and as many for all streams. At least 1.
    pub workers: usize,
    /// What one source may get, and what all may get together. Rates are divided among the workers of an address, proofs
    /// among all; the signatures are those of each worker.
    pub policy: Policy,
    /// Open connections in all (TCP, TLS, QUIC). One costs up to 150 KB while its client does not read, over QUIC 300 KB.
    pub connections: usize,
    /// Open connections of one source: an IPv4 address or an IPv6 /56.
    pub connections_per_source: usize,
    /// How long a connection may be without a request; less when more than half of the connections are open
    /// (RFC 7766 section 6.2.3).
    pub idle: Duration,
    /// The same for clients that ask how long they may (RFC 7828), and for QUIC.
    pub keepalive: Duration,
    /// How long a handshake, the sending of one request and the taking of responses may last.
    pub slow: Duration,
    /// Subscriptions of all clients together (RFC 8765), of which one source may have half; 0 for none. One costs about
    /// 300 octets, and up to 1 KB for a long name.
    pub subscriptions: usize,
    /// Subscriptions of one connection, at most 65,535. Half of the connections, and of those of one source, may have some.
    pub subscriptions_per_connection: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            workers: thread::available_parallelism().map_or(1, |count| count.get()),
            policy: Policy::default(),
            connections: 1024,
            connections_per_source: 128,
            idle: Duration::from_secs(10),
            keepalive: Duration::from_secs(30),
            slow: Duration::from_secs(10),
            subscriptions: 262_144,
            subscriptions_per_connection: 16_384,
        }
    }
}

/// What can go wrong; after a successful bind nothing but a lack of threads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be used.
    #[error(
        "DNS cannot listen on {address} ({transport}): {source}; choose another address with --{flag}, or stop what \
         uses it"
    )]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// `UDP`, `TCP`, `TLS` or `QUIC`.
        transport: &'static str,
        /// The flag that names the address.
        flag: &'static str,
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
    tls: Vec<(SocketAddr, Vec<TcpListener>)>,
    tls_config: Option<Arc<rustls::ServerConfig>>,
    quic: Vec<(SocketAddr, UdpSocket)>,
    quic_config: Option<Arc<rustls::ServerConfig>>,
    options: Options,
    /// Of every UDP socket, in the order of `bound`.
    udp_tallies: Vec<Arc<Tally>>,
    /// Of every worker.
    stream_tallies: Vec<StreamTallies>,
    https_tallies: Vec<Arc<Tally>>,
}

/// The counts of a thread for streams.
#[derive(Clone, Debug)]
struct StreamTallies {
    tcp: Arc<Tally>,
    tls: Arc<Tally>,
    quic: Arc<Tally>,
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
        // Each of these threads keeps its own, and so does each desk of HTTPS.
        policy.proofs /= workers * (addresses.len() + 2);
        let options = Options { workers, policy, ..options };
        let bound = addresses.iter().map(|&address| Bound::new(address, workers)).collect::<Result<Vec<_>, Error>>()?;
        let tally = |transport| Arc::new(Tally::new(transport));
        let stream_tallies =
            || StreamTallies { tcp: tally(Transport::Tcp), tls: tally(Transport::Tls), quic: tally(Transport::Quic) };
        Ok(Frontend {
            tls: Vec::new(),
            tls_config: None,
            quic: Vec::new(),
            quic_config: None,
            udp_tallies: (0..workers * bound.len()).map(|_| tally(Transport::Udp)).collect(),
            stream_tallies: (0..workers).map(|_| stream_tallies()).collect(),
            https_tallies: (0..workers).map(|_| tally(Transport::Https)).collect(),
            bound,
            options,
        })
    }

    /// Binds addresses for DNS over TLS, too (RFC 7858). `config` offers `dot` (ALPN).
    pub fn with_tls(mut self, addresses: &[SocketAddr], config: Arc<rustls::ServerConfig>) -> Result<Frontend, Error> {
        let workers = self.options.workers;
        self.tls = addresses.iter().map(|&address| bind_tls(address, workers)).collect::<Result<_, Error>>()?;
        self.tls_config = Some(config);
        Ok(self)
    }

    /// Binds addresses for DNS over QUIC, too (RFC 9250). `config` offers `doq` (ALPN), TLS 1.3, and no early data.
    pub fn with_quic(mut self, addresses: &[SocketAddr], config: Arc<rustls::ServerConfig>) -> Result<Frontend, Error> {
        let bind = |&address: &SocketAddr| {
            let socket = open(address, Type::DGRAM, false).map(UdpSocket::from);
            let bound = socket.and_then(|socket| Ok((socket.local_addr()?, socket)));
            bound.map_err(|source| Error::Bind { address, transport: "QUIC", flag: "doq", source })
        };
        self.quic = addresses.iter().map(bind).collect::<Result<_, Error>>()?;
        self.quic_config = Some(config);
        Ok(self)
    }

    /// The route `path` that answers DNS over HTTPS (RFC 8484), for whoever serves HTTPS; it finds the [`crate::Source`] of each
    /// request among its extensions.
    pub fn over_https<V: View>(&self, path: &str, view: &V, clock: Clock) -> Router {
        let desks = self.https_tallies.iter().map(|tally| (view.latest(), tally.clone()));
        doh::router(path, Desks::new(desks, clock, &self.options.policy))
    }

    /// The addresses that are bound, in the order they were asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|bound| bound.address).collect()
    }

    /// The addresses bound for TLS, in the order they were asked for.
    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.tls.iter().map(|(address, _)| *address).collect()
    }

    /// The addresses bound for QUIC, in the order they were asked for.
    pub fn quic_addresses(&self) -> Vec<SocketAddr> {
        self.quic.iter().map(|(address, _)| *address).collect()
    }

    /// Whether anything is bound, so that there is something to run.
    pub fn listens(&self) -> bool {
        !self.bound.is_empty() || !self.tls.is_empty() || !self.quic.is_empty()
    }

    /// The counts of this front end, to be kept while it runs.
    pub fn counters(&self) -> Counters {
        let streams = self.stream_tallies.iter().flat_map(|tallies| [&tallies.tcp, &tallies.tls, &tallies.quic]);
        Counters(self.udp_tallies.iter().chain(streams).chain(&self.https_tallies).cloned().collect())
    }

    /// Answers until `shutdown` turns true or its sender is gone; returns when every worker has ended, within about 100
    /// milliseconds, or when the clients of stateful sessions have closed them, within five seconds. Dropping the future stops the workers, too.
    pub async fn run<V: View>(self, view: V, clock: Clock, mut shutdown: watch::Receiver<bool>) -> Result<(), Error> {
        let Options { workers, policy, connections: total, connections_per_source, idle, keepalive, slow, .. } =
            self.options;
        let Options { subscriptions, subscriptions_per_connection: per_session, .. } = self.options;
        let half = |total: usize, per_source: usize| Arc::new(Connections::new(total, per_source.div_ceil(2)));
        let limits = Limits {
            subscriptions: half(subscriptions, subscriptions),
            per_session,
            subscribers: half(total.div_ceil(2), connections_per_source),
        };
        let places = Arc::new(Connections::new(total, connections_per_source));
        let handshaking = Arc::new(Connections::new(total, connections_per_source.div_ceil(2)));
        let stop = Stop::default();
        let (ending, mut ended) = mpsc::unbounded_channel();
        let mut threads = Vec::new();
        let mut listening: Vec<Listening> = (0..workers).map(|_| Listening::default()).collect();
        let mut tallies = self.udp_tallies.into_iter();
        for bound in self.bound {
            let any = bound.address.ip().is_unspecified();
            let serve =
                if bound.address.is_ipv4() { udp::serve::<SockaddrIn, _> } else { udp::serve::<SockaddrIn6, _> };
            for (((socket, listener), tally), listening) in
                bound.sockets.into_iter().zip(&mut tallies).zip(&mut listening)
            {
                let worker = udp::Worker {
                    latest: view.latest(),
                    clock: clock.clone(),
                    tally,
                    stop: stop.flag.clone(),
                    policy: policy.clone(),
                };
                threads.push(spawn("dns-udp", &ending, move || {
                    serve(&socket, any, worker);
                    Ok(())
                })?);
                listening.tcp.push(listener);
            }
        }
        if let Some(config) = self.tls_config {
            let acceptor = TlsAcceptor::from(config);
            for (_, listeners) in self.tls {
                for (listener, listening) in listeners.into_iter().zip(&mut listening) {
                    listening.tls.push((listener, acceptor.clone()));
                }
            }
        }
        let patience = Patience { idle, keepalive, slow };
        if let Some(config) = self.quic_config {
            // One socket an address: a connection that moves to another address of its client stays with its thread.
            for (at, (_, socket)) in self.quic.into_iter().enumerate() {
                if let Some(listening) = listening.get_mut(at % workers) {
                    listening.quic.push((socket, config.clone()));
                }
            }
        }
        for (listening, tallies) in listening.into_iter().zip(self.stream_tallies) {
            if listening.is_empty() {
                continue;
            }
            let (latest, clock, policy, places) = (view.latest(), clock.clone(), policy.clone(), places.clone());
            let (handshaking, limits, changed) = (handshaking.clone(), limits.clone(), view.changed());
            let stop = stop.signal.subscribe();
            threads.push(spawn("dns-stream", &ending, move || {
                let seats = Seats::new(places, handshaking, total, patience);
                listening.serve(stream::Worker::new(latest, clock, policy, seats, limits), tallies, changed, stop)
            })?);
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

/// The sockets of one thread for streams.
#[derive(Default)]
struct Listening {
    tcp: Vec<TcpListener>,
    tls: Vec<(TcpListener, TlsAcceptor)>,
    quic: Vec<(UdpSocket, Arc<rustls::ServerConfig>)>,
}

impl Listening {
    fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.tls.is_empty() && self.quic.is_empty()
    }

    /// Accepts connections until `stop` turns true, or whoever could say so is gone.
    fn serve<L: Latest>(
        self,
        worker: stream::Worker<L>,
        tallies: StreamTallies,
        changed: watch::Receiver<Version>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        LocalSet::new().block_on(&runtime, async {
            let worker = Rc::new(worker);
            let mut endpoints = Vec::new();
            let mut accepting = JoinSet::new();
            for listener in self.tcp {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                accepting.spawn_local(stream::accept(listener, None, worker.clone(), tallies.tcp.clone()));
            }
            for (listener, tls) in self.tls {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                accepting.spawn_local(stream::accept(listener, Some(tls), worker.clone(), tallies.tls.clone()));
            }
            for (socket, tls) in self.quic {
                let endpoint = quic::endpoint(socket, tls, worker.seats.patience())?;
                spawn_local(quic::accept(endpoint.clone(), worker.clone(), tallies.quic.clone()));
                endpoints.push(endpoint);
            }
            spawn_local(worker.seats.clone().watch());
            spawn_local(worker.clone().wake_waiting());
            spawn_local(worker.clone().wake_followers(changed));
            let _ = stop.wait_for(|&stop| stop).await;
            drop(accepting);
            worker.say_farewell().await;
            for endpoint in endpoints {
                quic::close(&endpoint).await;
            }
            Ok(())
        })
    }
}

/// One listener for each worker.
fn bind_tls(asked: SocketAddr, workers: usize) -> Result<(SocketAddr, Vec<TcpListener>), Error> {
    let bind = || {
        let mut address = asked;
        // As in `Bound`.
        drop(open(address, Type::STREAM, false)?);
        let mut listeners = Vec::with_capacity(workers);
        for _ in 0..workers {
            let listener = open(address, Type::STREAM, true)?;
            listener.listen(BACKLOG)?;
            let listener = TcpListener::from(listener);
            address = listener.local_addr()?;
            listeners.push(listener);
        }
        Ok((address, listeners))
    };
    bind().map_err(|source| Error::Bind { address: asked, transport: "TLS", flag: "dot", source })
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
        let failed = |transport| move |source| Error::Bind { address: asked, transport, flag: "dns", source };
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
        // Accepted connections inherit it. Left to itself the system keeps megabytes for each client that does not read.
        socket.set_send_buffer_size(STREAM_QUEUE)?;
    } else {
        socket.set_read_timeout(Some(NOTICE))?;
        socket.set_write_timeout(Some(NOTICE))?;
        // Less than asked for is all right: the system has its own limit.
        socket.set_recv_buffer_size(UDP_QUEUE)?;
        socket.set_send_buffer_size(UDP_QUEUE)?;
        // RFC 9715 section 3.1: forged news of a narrow path do not make us send fragments.
        match address {
            SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::OMIT)?,
            SocketAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::OMIT)?,
        }
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

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{ip_mtu_discover, ipv6_mtu_discover};

    use super::*;

    #[test]
    fn rfc9715_3_1_the_path_mtu_is_not_what_others_say() {
        let [v4, v6] = ["127.0.0.1:0", "[::1]:0"].map(|address| open(address.parse().unwrap(), Type::DGRAM, true));
        assert_eq!(ip_mtu_discover(v4.unwrap()).unwrap(), Ipv4PathMtuDiscovery::OMIT);
        assert_eq!(ipv6_mtu_discover(v6.unwrap()).unwrap(), Ipv6PathMtuDiscovery::OMIT);
    }

    #[test]
    fn the_system_keeps_little_for_a_client_that_does_not_read() {
        let listener = open("127.0.0.1:0".parse().unwrap(), Type::STREAM, true).unwrap();
        listener.listen(1).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap().as_socket().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.send_buffer_size().unwrap() <= 2 * STREAM_QUEUE);
    }

    #[test]
    fn proofs_do_not_grow_with_threads() {
        let addresses = ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse().unwrap());
        for workers in [1, 8] {
            let frontend = Frontend::bind(&addresses, Options { workers, ..Options::default() }).unwrap();
            assert_eq!(frontend.options.policy.proofs * workers * 4, Policy::default().proofs);
        }
    }
}
