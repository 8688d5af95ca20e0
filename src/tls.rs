//! TLS of every server: one certificate, looked after while it is used.
//!
//! Either files that somebody else renews, or a self-signed certificate of our own in the data folder, for loopback
//! addresses. Front ends get a [`ServerConfig`] that always shows the newest.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use certdir_certificate::Certificate;
use certdir_directory::{Clock, UnixTime};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::error::Error;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Seconds that a certificate of our own is valid, and how long before its end there is a new one.
const VALIDITY: i64 = 365 * 86_400;
const RENEWAL: i64 = 30 * 86_400;
/// Seconds by which its validity begins in the past, for clients whose clock is behind.
const SKEW: i64 = 3_600;

/// The certificate that servers show.
pub(crate) struct Tls {
    source: Source,
    shown: Arc<Shown>,
    /// What the files were when they were read, with or without success.
    read: Vec<Stamp>,
}

/// Where the certificate comes from.
enum Source {
    /// Files of the operator: the chain and the key, in PEM.
    Given { chain: PathBuf, key: PathBuf },
    /// One file of ours, with both.
    Own { file: PathBuf },
}

/// What tells that a file is another one, or was written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64, u64);

#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Tls {
    /// Takes the files given; without them the certificate in the data folder, which is made when there is none. That one
    /// is for loopback addresses: nobody else could tell it from a forged one.
    pub(crate) fn open(
        data: &Path,
        chain: Option<&Path>,
        key: Option<&Path>,
        addresses: &[SocketAddr],
        now: UnixTime,
    ) -> Result<Tls, Error> {
        let source = match (chain, key) {
            (Some(chain), Some(key)) => Source::Given { chain: chain.into(), key: key.into() },
            (None, None) => {
                if let Some(open) = addresses.iter().find(|address| !address.ip().is_loopback()) {
                    return Err(Error::Usage(format!(
                        "TLS on {open} needs a certificate that others can verify: give --tls-cert and --tls-key, or \
                         listen on a loopback address, where a self-signed one will do"
                    )));
                }
                Source::Own { file: data.join("tls").join("self-signed.pem") }
            }
            (Some(_), None) => return Err(Error::Usage("--tls-cert needs --tls-key, the file of its key".into())),
            (None, Some(_)) => return Err(Error::Usage("--tls-key needs --tls-cert, the file of its chain".into())),
        };
        source.renew(now)?;
        let read = source.stamps();
        let shown = Arc::new(Shown(RwLock::new(source.load()?)));
        Ok(Tls { source, shown, read })
    }

    /// TLS 1.2 and 1.3 with session tickets and without early data, for a server that speaks these protocols (ALPN).
    pub(crate) fn config(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>, Error> {
        let failed = |error: rustls::Error| self.source.failed(&error.to_string());
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.ticketer = ring::Ticketer::new().map_err(failed)?;
        Ok(config.into())
    }

    /// Shows the files anew when they change, and renews the certificate when it is ours. What cannot be used is logged,
    /// and the one before it stays.
    pub(crate) async fn watch(mut self, clock: Clock, mut stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            tokio::select! {
                _ = stopped.changed() => continue,
                () = tokio::time::sleep(LOOK) => {}
            }
            if let Err(error) = self.source.renew(clock()) {
                tracing::error!(code = error.code(), "TLS: {error}");
            }
            let stamps = self.source.stamps();
            if stamps == self.read {
                continue;
            }
            self.read = stamps;
            match self.source.load() {
                Ok(key) => {
                    *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = key;
                    tracing::info!("TLS: {} is shown from now on", self.source.file().display());
                }
                Err(error) => tracing::error!(code = error.code(), "{error}; the certificate before it is still shown"),
            }
        }
    }
}

impl Source {
    /// The file that has the certificate.
    fn file(&self) -> &Path {
        match self {
            Source::Given { chain: file, .. } | Source::Own { file } => file,
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |metadata: Metadata| {
            Stamp(metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
        };
        let files: &[&PathBuf] = match self {
            Source::Given { chain, key } => &[chain, key],
            Source::Own { file } => &[file],
        };
        // A file that is missing changes the list, too.
        files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(stamp).collect()
    }

    /// The certificate and its key, which belong together.
    fn load(&self) -> Result<Arc<CertifiedKey>, Error> {
        let (chain, key) = match self {
            Source::Given { chain, key } => (chain, key),
            Source::Own { file } => (file, file),
        };
        let wrong = |file: &Path, what: &str, error: rustls::pki_types::pem::Error| {
            self.failed(&format!("{}: no {what} in PEM: {error}", file.display()))
        };
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(chain, "certificate chain", error))?;
        if certificates.is_empty() {
            return Err(self.failed(&format!("{}: there is no certificate in it", chain.display())));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, "private key", error))?;
        let certified = CertifiedKey::from_der(certificates, key, &ring::default_provider());
        certified.map(Arc::new).map_err(|error| self.failed(&error.to_string()))
    }

    fn failed(&self, reason: &str) -> Error {
        let remedy = match self {
            Source::Given { .. } => "put a chain and its key there, both in PEM".into(),
            Source::Own { file } => format!("remove {}, and a new one is made", file.display()),
        };
        Error::Tls { reason: reason.into(), remedy }
    }

    /// Makes a certificate of our own when there is none, or it ends soon.
    fn renew(&self, now: UnixTime) -> Result<(), Error> {
        let Source::Own { file } = self else {
            return Ok(());
        };
        // One that cannot be read is for `load` to complain about.
        let lasts = CertificateDer::from_pem_file(file).is_ok_and(|der| {
            Certificate::from_der(&der).is_ok_and(|certificate| now + RENEWAL < certificate.not_after())
        });
        if lasts {
            return Ok(());
        }
        let at = |source| Error::file(file, source);
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at)?;
        }
        // Written aside and put into place: at any time there is one whole file, which only its owner can read.
        let aside = file.with_extension(format!("{}.new", std::process::id()));
        let mut open =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside).map_err(at)?;
        open.write_all(self_signed(now)?.as_bytes()).and_then(|()| open.sync_all()).map_err(at)?;
        std::fs::rename(&aside, file).map_err(at)?;
        file.parent().map_or(Ok(()), |folder| File::open(folder).and_then(|folder| folder.sync_all())).map_err(at)
    }
}

/// A certificate for this host alone, and its key, in PEM.
fn self_signed(now: UnixTime) -> Result<String, Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "certdir on this host");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = crate::clock::date(now - SKEW)?;
    params.not_after = crate::clock::date(now + VALIDITY)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(params.self_signed(&key)?.pem() + &key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: UnixTime = 1_795_000_000;

    fn own(data: &Path, now: UnixTime) -> Tls {
        Tls::open(data, None, None, &["127.0.0.1:1".parse().unwrap()], now).unwrap()
    }

    fn shown(tls: &Tls) -> Vec<u8> {
        tls.shown.0.read().unwrap().cert[0].to_vec()
    }

    #[test]
    fn our_own_is_made_once_and_renewed_before_its_end() {
        let data = tempfile::tempdir().unwrap();
        let first = shown(&own(data.path(), NOW));
        let file = data.path().join("tls/self-signed.pem");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(shown(&own(data.path(), NOW + VALIDITY - RENEWAL - 1)), first);
        let last = shown(&own(data.path(), NOW + VALIDITY - RENEWAL));
        assert_ne!(last, first);
        let certificate = Certificate::from_der(&last).unwrap();
        assert_eq!(certificate.not_after(), NOW + VALIDITY - RENEWAL + VALIDITY);
        assert_eq!(std::fs::read_dir(data.path().join("tls")).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn our_own_is_for_loopback_and_halves_are_errors() {
        let data = tempfile::tempdir().unwrap();
        let open = |chain, key, address: &str| {
            let error = Tls::open(data.path(), chain, key, &[address.parse().unwrap()], NOW).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        for address in ["192.0.2.1:853", "0.0.0.0:853", "[::]:853"] {
            assert!(open(None, None, address).contains("--tls-cert"), "{address}");
        }
        assert_eq!(open(None, None, "[::1]:853"), "");
        assert!(open(Some(Path::new("a")), None, "127.0.0.1:1").contains("--tls-key"));
        assert!(open(None, Some(Path::new("a")), "127.0.0.1:1").contains("--tls-cert"));
        let file = data.path().join("tls/self-signed.pem");
        let missing = data.path().join("missing.pem");
        assert!(open(Some(&missing), Some(&file), "192.0.2.1:853").contains("missing.pem"));
        assert_eq!(open(Some(&file), Some(&file), "192.0.2.1:853"), "");
        let other = data.path().join("other.pem");
        std::fs::write(&other, self_signed(NOW).unwrap()).unwrap();
        assert_ne!(open(Some(&file), Some(&other), "127.0.0.1:1"), "", "the key of another certificate");
    }
}
