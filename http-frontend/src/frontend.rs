//! [`Frontend`]: sockets and connections. `axum::serve` sets no limits, so hyper's HTTP/1 connection is driven here.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use certdir_directory::{Allowance, Clock, Connections, Reader, Store};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::attempts::Attempts;
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

/// How long a connection may live; then it ends after the request it is in. A reader that never reads ends with it.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// How long requests under way may take to end at shutdown, or at the end of a connection's life.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits that an operator may want to change.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections at once. HTTP/1 has one request a connection, so this also bounds requests at once.
    pub connections: usize,
    /// Connections at once from one source: an IPv4 address or an IPv6 /64.
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
    #[error("cannot listen for HTTP on {address}: {source}; choose another address with --http")]
    Bind {
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

/// The HTTP front end with its sockets open, not yet answering.
pub struct Frontend {
    listeners: Vec<(SocketAddr, std::net::TcpListener)>,
    options: Options,
}

impl Frontend {
    /// Opens the sockets. Port 0 takes a free port; [`Frontend::addresses`] tells which.
    pub fn bind(addresses: &[SocketAddr], options: Options) -> Result<Frontend, Error> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for &address in addresses {
            let bound = std::net::TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok((listener.local_addr()?, listener))
            });
            listeners.push(bound.map_err(|source| Error::Bind { address, source })?);
        }
        Ok(Frontend { listeners, options })
    }

    /// The addresses listened on, in the order given to [`Frontend::bind`].
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(address, _)| *address).collect()
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
            uploads: Arc::new(Connections::new(self.options.changes, self.options.changes.div_ceil(2))),
            changes: Arc::new(Semaphore::new(self.options.changes)),
        });
        let router = router(site);
        let Options { connections, connections_per_source, .. } = self.options;
        let places = Arc::new(Connections::new(connections, connections_per_source));
        let mut accepting = JoinSet::new();
        for (address, listener) in self.listeners {
            let listener = TcpListener::from_std(listener).map_err(|source| Error::Bind { address, source })?;
            accepting.spawn(accept(listener, router.clone(), places.clone(), shutdown.clone()));
        }
        while accepting.join_next().await.is_some() {}
        Ok(())
    }
}

async fn accept(listener: TcpListener, router: Router, places: Arc<Connections>, shutdown: watch::Receiver<bool>) {
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
                    let (router, shutdown) = (router.clone(), shutdown.clone());
                    connections.spawn(async move {
                        serve(stream, peer.ip(), router, shutdown).await;
                        drop(place);
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
    peer: IpAddr,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    // A connection that ends badly has a client that knows; there is nothing to do about it here.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = shutdown.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}
