//! TLS of the connections this crate makes: whom a server must prove to be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;
use crate::outcome::Failure;

/// Whom a TLS server must prove to be.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    trusted: &'static str,
}

impl Tls {
    /// The host of the URL, by a certification authority that web browsers trust.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn public() -> Result<Tls, Error> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Tls::rooted(roots, "the public authorities")
    }

    /// The host of the URL, by one of the certification authorities in a PEM text, and by no other.
    ///
    /// # Errors
    /// When there is none in it, or one cannot be read.
    pub fn authorities(pem: &[u8]) -> Result<Tls, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| Error::BadTls(format!("not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| Error::BadTls(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(Error::BadTls("no certificate in PEM form".to_owned()));
        }
        Tls::rooted(roots, "the given authorities")
    }

    /// The one certificate whose DER has this SHA-256, whatever its names and dates: a certdir's own, say.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn pinned(sha256: [u8; 32]) -> Result<Tls, Error> {
        let provider = Arc::new(ring::default_provider());
        let pin = Arc::new(Pin { sha256, provider: Arc::clone(&provider) });
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| Error::BadTls(e.to_string()))?;
        let config = builder.dangerous().with_custom_certificate_verifier(pin).with_no_client_auth();
        Ok(Tls { config: Arc::new(config), trusted: "a pinned certificate" })
    }

    fn rooted(roots: RootCertStore, trusted: &'static str) -> Result<Tls, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| Error::BadTls(e.to_string()))?;
        Ok(Tls { config: Arc::new(builder.with_root_certificates(roots).with_no_client_auth()), trusted })
    }

    /// The settings, for libraries that speak TLS themselves.
    #[allow(dead_code, reason = "for DNS over TLS")]
    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// The handshake on a connection. `host` is a DNS name or an address, in brackets or without.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
        patience: Duration,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| Failure::new("tls", format!("{host} is not a name that TLS can verify")))?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        match timeout(patience, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Failure::new("tls", format!("{host}: {error}"))),
            Err(_) => Err(Failure::new("timeout", format!("{host} did not end the TLS handshake in time"))),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({})", self.trusted)
    }
}

/// Trusts one certificate, by its fingerprint. The handshake's signature is verified as always: who presents the
/// certificate must hold its key.
#[derive(Debug)]
struct Pin {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = ::ring::digest::digest(&::ring::digest::SHA256, end_entity);
        if shown.as_ref() == self.sha256 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
