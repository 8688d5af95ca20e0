//! [`Frontend`]: sockets and connections. `axum::serve` sets no limits, so hyper's connections are driven here: HTTP/1,
//! and over TLS also HTTP/2 where the client knows it (ALPN `h2`).

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router, middleware};
use certdir_directory::{Allowance, Clock, Connections, Reader, Store};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

use crate::attempts::Attempts;
use crate::feed::Feed;
use crate::life::Life;
use crate::metrics::Requests;
use crate::routes::router;
use crate::site::{ExtraMetrics, Peer, Site};

/// How long the head of a request may take, and a connection may be idle: a slow sender holds nothing for long.
const HEAD_TIME: Duration = Duration::from_secs(15);

/// The largest head (request line and header fields) in octets; beyond it the answer is 431. The longest address
/// percent-encoded is below 1 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// The most header fields of a request; beyond it the answer is 431.
const MAX_HEADERS: usize = 64;

/// How long a TLS handshake may take. While it lasts it has a place of its own kind, of which there are half as many as
/// connections: whoever only begins handshakes does not keep out those who ended theirs.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Requests at once on one HTTP/2 connection. Streams that a client opens and resets at once are bounded by hyper.
const STREAMS: u32 = 64;

/// Octets of bodies that a client may send ahead: on one HTTP/2 stream, and on all of a connection. Also what is kept of
/// an answer that the client does not take.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// After this time of silence an HTTP/2 client is asked whether it is still there, and has [`HEAD_TIME`] to say so.
const PING: Duration = Duration::from_secs(30);

/// How long requests under way may take to end at shutdown, or at the end of a connection's life.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits that an operator may want to change.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections at once, with and without TLS. HTTP/1 has one request a connection, HTTP/2 up to 64.
    pub connections: usize,
    /// Connections at once from one source: an IPv4 address or an IPv6 /56.
    pub connections_per_source: usize,
    /// Changes (publish, withdraw) at once; each may hold a body of 4 MiB. Others wait.
    pub changes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { connections: 1_024, connections_per_source: 128, changes: 8 }
    }
}

/// What this crate reports to the program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listening socket could not be opened.
    #[error("cannot listen for {protocol} on {address}: {source}; choose another address with --{flag}",
            flag = protocol.to_lowercase())]
    Bind {
        /// `HTTP` or `HTTPS`.
        protocol: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// The stable code of the error, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Bind { .. } => "http-bind",
        }
    }
}

/// An open socket.
struct Listener {
    address: SocketAddr,
    socket: std::net::TcpListener,
}

/// The HTTP front end with its sockets open, not yet answering.
pub struct Frontend {
    plain: Vec<Listener>,
    secure: Vec<Listener>,
    /// TLS of the secure ones, and what they serve beside our own routes.
    tls: Option<(TlsAcceptor, Router)>,
    options: Options,
}

impl Frontend {
    /// Opens the sockets. Port 0 takes a free port; [`Frontend::addresses`] tells which.
    pub fn bind(addresses: &[SocketAddr], options: Options) -> Result<Frontend, Error> {
        Ok(Frontend { plain: open(addresses, "HTTP")?, secure: Vec::new(), tls: None, options })
    }

    /// Opens sockets for HTTPS, too. `tls` offers `h2` and `http/1.1` (ALPN).
    pub fn with_tls(mut self, addresses: &[SocketAddr], tls: Arc<rustls::ServerConfig>) -> Result<Frontend, Error> {
        self.secure = open(addresses, "HTTPS")?;
        self.tls = Some((TlsAcceptor::from(tls), Router::new()));
        Ok(self)
    }

    /// Routes that are served over HTTPS beside our own. Whatever `source` makes of a client's address is among the
    /// extensions of their requests.
    pub fn beside<T: Clone + Send + Sync + 'static>(mut self, more: Router, source: fn(IpAddr) -> T) -> Frontend {
        let with_source =
            middleware::map_request(move |Extension(Peer(peer)): Extension<Peer>, mut request: Request<Body>| {
                request.extensions_mut().insert(source(peer));
                async move { request }
            });
        self.tls = self.tls.map(|(tls, routes)| (tls, routes.merge(more.layer(with_source))));
        self
    }

    /// The addresses listened on, in the order given to [`Frontend::bind`].
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.plain.iter().map(|listener| listener.address).collect()
    }

    /// The addresses listened on for HTTPS, in the order given to [`Frontend::with_tls`].
    pub fn secure_addresses(&self) -> Vec<SocketAddr> {
        self.secure.iter().map(|listener| listener.address).collect()
    }

    /// Whether any socket is open, so that there is something to run.
    pub fn listens(&self) -> bool {
        !self.plain.is_empty() || !self.secure.is_empty()
    }

    /// Answers until `shutdown` becomes true (or its sender is gone), then lets requests under way end.
    ///
    /// `allowance` limits look-ups of strangers; share it with LDAP. `extra_metrics` is called for each `GET /metrics`.
    pub async fn run(
        self,
        reader: Reader,
        store: Store,
        allowance: Arc<Allowance>,
        clock: Clock,
        extra_metrics: ExtraMetrics,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let site = Arc::new(Site {
            reader,
            store,
            allowance,
            clock,
            extra_metrics,
            requests: Requests::default(),
            attempts: Attempts::default(),
            feed: Feed::new(shutdown.clone()),
            uploads: Arc::new(Connections::new(self.options.changes, self.options.changes.div_ceil(2))),
            changes: Arc::new(Semaphore::new(self.options.changes)),
        });
        let router = router(site);
        let Options { connections, connections_per_source, .. } = self.options;
        let places = Arc::new(Connections::new(connections, connections_per_source));
        let handshakes = Arc::new(Connections::new(connections.div_ceil(2), connections_per_source.div_ceil(2)));
        let mut accepting = JoinSet::new();
        let both = router.clone();
        let plain = self.plain.into_iter().map(|listener| (listener, router.clone(), None));
        let secure = self.tls.map(|(tls, more)| (both.merge(more), tls));
        let secure = self.secure.into_iter().filter_map(|listener| {
            let (router, tls) = secure.clone()?;
            Some((listener, router, Some(Handshakes { tls, places: handshakes.clone() })))
        });
        for (Listener { address, socket }, router, tls) in plain.chain(secure) {
            let protocol = if tls.is_some() { "HTTPS" } else { "HTTP" };
            let listener = TcpListener::from_std(socket).map_err(|source| Error::Bind { protocol, address, source })?;
            accepting.spawn(accept(listener, tls, router, places.clone(), shutdown.clone()));
        }
        while accepting.join_next().await.is_some() {}
        Ok(())
    }
}

/// Opens sockets; port 0 takes a free one.
fn open(addresses: &[SocketAddr], protocol: &'static str) -> Result<Vec<Listener>, Error> {
    let open = |&address: &SocketAddr| {
        let bound = std::net::TcpListener::bind(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(Listener { address: socket.local_addr()?, socket })
        });
        bound.map_err(|source| Error::Bind { protocol, address, source })
    };
    addresses.iter().map(open).collect()
}

/// TLS handshakes, and how many there may be at once.
#[derive(Clone)]
struct Handshakes {
    tls: TlsAcceptor,
    places: Arc<Connections>,
}

impl Handshakes {
    /// The stream behind a handshake, and whether HTTP/2 was agreed on.
    async fn make(&self, stream: TcpStream, peer: IpAddr) -> Option<(TlsStream<TcpStream>, bool)> {
        let _place = self.places.admit(peer)?;
        let stream = tokio::time::timeout(HANDSHAKE_TIME, self.tls.accept(stream)).await.ok()?.ok()?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Some((stream, http2))
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Handshakes>,
    router: Router,
    places: Arc<Connections>,
    shutdown: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stop = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Over the limit a connection is closed at once: an answer would cost what the limit saves.
                if let Some(place) = places.admit(peer.ip()) {
                    let (tls, router, shutdown) = (tls.clone(), router.clone(), shutdown.clone());
                    connections.spawn(async move {
                        let _place = place;
                        match tls {
                            None => serve(stream, false, peer.ip(), router, shutdown).await,
                            Some(tls) => {
                                if let Some((stream, http2)) = tls.make(stream, peer.ip()).await {
                                    serve(stream, http2, peer.ip(), router, shutdown).await;
                                }
                            }
                        }
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting an HTTP connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, whatever it runs on, until it ends, its life is over, or the program stops.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    http2: bool,
    peer: IpAddr,
    router: Router,
    shutdown: watch::Receiver<bool>,
) {
    let life = Life::begin();
    let lived = life.clone();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(lived.clone());
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
    });
    if http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(HEAD_TIME)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(STREAM_WINDOW as usize)
            .serve_connection(TokioIo::new(stream), answer);
        run(connection, |connection| connection.graceful_shutdown(), &life, shutdown).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), answer);
        run(connection, |connection| connection.graceful_shutdown(), &life, shutdown).await;
    }
}

/// Drives a connection; `end` lets it end after what is under way.
async fn run<C: Future>(
    connection: C,
    end: impl FnOnce(Pin<&mut C>),
    life: &Life,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut connection = std::pin::pin!(connection);
    // A connection that ends badly has a client that knows; there is nothing to do about it here.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = shutdown.wait_for(|stop| *stop) => {}
        () = life.ended() => {}
    }
    end(connection.as_mut());
    let _ = tokio::time::timeout(GRACE, connection).await;
}
