//! The listening side: sockets, the limits on connections, and the end of all of them.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use certdir_directory::{Allowance, Clock, Connections, Place, Reader};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::message;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::session::{self, Shared};

/// How long sessions have to finish what they do when the front end stops.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a failed accept, which usually means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of an LDAP front end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The most connections open at once.
    pub connections: usize,
    /// The most connections open at once from one source: an IPv4 address or an IPv6 /56.
    pub connections_per_source: usize,
    /// How long a connection may take from one complete request to the next.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { connections: 4096, connections_per_source: 64, idle: Duration::from_secs(120) }
    }
}

/// An LDAP server with its sockets bound, not yet answering.
pub struct Frontend {
    listeners: Vec<(SocketAddr, TcpListener)>,
    options: Options,
    metrics: Metrics,
}

impl Frontend {
    /// Binds TCP sockets; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] names the address that cannot be had; then none is bound.
    pub fn bind(addresses: &[SocketAddr], options: Options) -> Result<Frontend, Error> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let bound = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok((listener.local_addr()?, listener))
            });
            listeners.push(bound.map_err(|source| Error::Bind { address: *address, source })?);
        }
        Ok(Frontend { listeners, options, metrics: Metrics::default() })
    }

    /// The addresses bound, in the order they were given.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(address, _)| *address).collect()
    }

    /// The counters of this front end.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Answers until `shutdown` holds true (or its sender is gone), then ends the connections and returns. Must be called
    /// within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Listener`] when a socket cannot be handed to the runtime.
    pub async fn run(
        self,
        reader: Reader,
        allowance: Arc<Allowance>,
        clock: Clock,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let Options { connections, connections_per_source, idle } = self.options;
        let connections = Arc::new(Connections::new(connections, connections_per_source));
        let service = Arc::new(Shared {
            published: Box::new(move || reader.published()),
            allowance,
            clock,
            metrics: self.metrics,
            idle,
        });
        let mut accepting = JoinSet::new();
        for (_, listener) in self.listeners {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Listener)?;
            accepting.spawn(accept(listener, Arc::clone(&service), Arc::clone(&connections), shutdown.clone()));
        }
        accepting.join_all().await;
        Ok(())
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    service: Arc<Shared>,
    connections: Arc<Connections>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = session::stopped(&mut shutdown) => break,
            Some(_) = sessions.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, source) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                tracing::warn!("LDAP: cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(pass) = Pass::new(&connections, &service.metrics, source) else {
            let mut notice = Vec::new();
            message::put_notice(&mut notice, &Refusal::TooManyConnections);
            // A fresh socket takes these few octets at once; if not, the peer just sees the end.
            let _ = stream.try_write(&notice);
            continue;
        };
        // Small answers leave at once; larger ones are gathered by the session. Failing to set it only costs time.
        let _ = stream.set_nodelay(true);
        let (service, shutdown) = (Arc::clone(&service), shutdown.clone());
        sessions.spawn(async move {
            let _pass = pass;
            if let Err(error) = session::serve(stream, source, &service, shutdown).await {
                tracing::debug!(%source, "LDAP: connection lost: {error}");
            }
        });
    }
    drop(listener);
    let finished = async { while sessions.join_next().await.is_some() {} };
    // Whoever is still reading after the grace period is cut off when the set is dropped.
    let _ = tokio::time::timeout(GRACE, finished).await;
}

/// A place for a session, counted in the metrics until it is dropped.
struct Pass {
    metrics: Metrics,
    _place: Place,
}

impl Pass {
    fn new(connections: &Arc<Connections>, metrics: &Metrics, source: IpAddr) -> Option<Pass> {
        let Some(place) = connections.admit(source) else {
            metrics.refused();
            return None;
        };
        metrics.opened();
        Some(Pass { metrics: metrics.clone(), _place: place })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.metrics.closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_named() {
        let first = Frontend::bind(&[SocketAddr::from(([127, 0, 0, 1], 0))], Options::default()).unwrap();
        let error = Frontend::bind(&first.addresses(), Options::default()).err().unwrap();
        assert_eq!(error.code(), "ldap-bind");
        assert!(error.to_string().contains(&first.addresses()[0].to_string()), "{error}");
    }
}
