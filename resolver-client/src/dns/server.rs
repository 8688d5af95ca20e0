//! A name server and how it is spoken to.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;
use crate::tls::Tls;

/// A name server to ask: over UDP and TCP, or over TLS (RFC 7858).
#[derive(Clone, Debug)]
pub struct NameServer {
    address: SocketAddr,
    tls: Option<(Tls, ServerName<'static>)>,
}

impl NameServer {
    /// A server that is asked over TCP for certificates (RFC 8162 section 7) and over UDP for what is short.
    pub fn plain(address: SocketAddr) -> NameServer {
        NameServer { address, tls: None }
    }

    /// A server that is asked over TLS, and not at all when it does not prove to be `host`, a DNS name or an IP address
    /// (RFC 8310 section 5, the strict profile). Port 853 is the usual one.
    ///
    /// # Errors
    /// When `host` is no name that TLS can verify.
    pub fn over_tls(address: SocketAddr, host: &str, tls: Tls) -> Result<NameServer, Error> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::BadTls(format!("{host} is not a name that TLS can verify")))?;
        Ok(NameServer { address, tls: Some((tls, name)) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_over_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Nobody on the way can change what it says: it is this machine, or TLS proves who speaks.
    pub(crate) fn is_safe_to_believe(&self) -> bool {
        let loopback = match self.address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        };
        loopback || self.is_over_tls()
    }

    /// The handshake on a connection to this server, or the connection as it is where there is none.
    pub(crate) fn secured(
        &self,
        stream: TcpStream,
    ) -> Result<impl Future<Output = io::Result<TlsStream<TcpStream>>> + Send + use<>, TcpStream> {
        match &self.tls {
            Some((tls, name)) => Ok(TlsConnector::from(Arc::clone(tls.config())).connect(name.clone(), stream)),
            None => Err(stream),
        }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_tls_are_believed() {
        let plain = |text: &str| NameServer::plain(text.parse().unwrap()).is_safe_to_believe();
        assert!(plain("127.0.0.1:53") && plain("127.9.9.9:53") && plain("[::1]:53") && plain("[::ffff:127.0.0.1]:53"));
        assert!(!plain("192.0.2.1:53") && !plain("10.0.0.1:53") && !plain("[fd00::1]:53") && !plain("0.0.0.0:53"));
        let tls = Tls::pinned([0; 32]).unwrap();
        let address = "192.0.2.1:853".parse().unwrap();
        assert!(NameServer::over_tls(address, "dns.example", tls.clone()).unwrap().is_safe_to_believe());
        assert!(NameServer::over_tls(address, "not a name", tls).is_err());
    }
}
