//! TLS of every server: one certificate, looked after while it is used.
//!
//! Either files that somebody else renews, or a self-signed certificate of our own in the data folder, for loopback
//! addresses. Front ends get a [`ServerConfig`] that always shows the newest.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use certdir_certificate::Certificate;
use certdir_directory::{Clock, UnixTime};
use nix::libc::O_NONBLOCK;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::error::Error;
use crate::secret_file::only_its_owner;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Seconds that a certificate of our own is valid, and how long before its end there is a new one.
const VALIDITY: i64 = 365 * 86_400;
const RENEWAL: i64 = 30 * 86_400;
/// Seconds by which its validity begins in the past, for clients whose clock is behind.
const SKEW: i64 = 3_600;
/// How long before the end of a certificate the log says every day that it has to be renewed.
const NOTICE: i64 = 14;
/// The most that is read of a file, in octets: hundreds of certificates.
const MAX_FILE: u64 = 1 << 20;
const DAY: i64 = 86_400;

/// The certificate that servers show.
pub(crate) struct Tls {
    source: Source,
    shown: Arc<Shown>,
    /// What the files were when they were read, with or without success.
    read: Vec<Stamp>,
    /// When the certificate shown ends, where that can be read.
    end: Option<UnixTime>,
    /// The days before its end that the log told last.
    told: Option<i64>,
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
struct Stamp(u64, u64, i64, i64, u64, u32);

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
        let key = source.load()?;
        let end = end(&key);
        Ok(Tls { source, shown: Arc::new(Shown(RwLock::new(key))), read, end, told: None })
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
            // Files may be slow, and so is making a key.
            let now = clock();
            let looked = tokio::task::spawn_blocking(move || {
                self.look(now);
                self
            });
            match looked.await {
                Ok(same) => self = same,
                Err(error) => return tracing::error!(%error, "the files for TLS are not looked at any more"),
            }
        }
    }

    /// Looks at the files once.
    fn look(&mut self, now: UnixTime) {
        match self.refresh(now) {
            Ok(true) => tracing::info!("TLS: {} is shown from now on", self.source.file().display()),
            Ok(false) => {}
            Err(error) => tracing::error!(code = error.code(), "{error}; the certificate before it is still shown"),
        }
        if let Some(notice) = self.notice(now) {
            tracing::warn!("TLS: {notice}");
        }
    }

    /// Shows what is in the files when they have changed; whether they have.
    fn refresh(&mut self, now: UnixTime) -> Result<bool, Error> {
        let stamps = self.source.stamps();
        let ends = matches!(self.source, Source::Own { .. }) && self.end.is_none_or(|end| end <= now + RENEWAL);
        if stamps == self.read && !ends {
            return Ok(false);
        }
        // What cannot be used is said once.
        self.read = stamps;
        self.source.renew(now)?;
        self.read = self.source.stamps();
        let key = self.source.load()?;
        (self.end, self.told) = (end(&key), None);
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(true)
    }

    /// What to say about the end of the certificate shown, once a day when it is near.
    fn notice(&mut self, now: UnixTime) -> Option<String> {
        let end = self.end.filter(|&end| end <= now + NOTICE * DAY)?;
        let days = (end - now).div_euclid(DAY);
        if self.told.replace(days) == Some(days) {
            return None;
        }
        let file = self.source.file().display();
        Some(match days {
            ..0 => format!("the certificate in {file} has ended; clients refuse it"),
            _ => format!("the certificate in {file} ends within {} days; renew it", days + 1),
        })
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
            Stamp(
                metadata.dev(),
                metadata.ino(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.len(),
                metadata.mode(),
            )
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
        let certificates = CertificateDer::pem_slice_iter(&read(chain, false)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(chain, "certificate chain", error))?;
        if certificates.is_empty() {
            return Err(self.failed(&format!("{}: there is no certificate in it", chain.display())));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(key, true)?).map_err(|error| wrong(key, "private key", error))?;
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
        match read(file, true) {
            Ok(octets) => {
                let certificate = CertificateDer::from_pem_slice(&octets).ok();
                let certificate = certificate.and_then(|der| Certificate::from_der(&der).ok());
                let unusable = || self.failed(&format!("{}: there is no certificate in it", file.display()));
                if now + RENEWAL < certificate.ok_or_else(unusable)?.not_after() {
                    return Ok(());
                }
            }
            Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            // It may be somebody's work: it is never replaced unread.
            Err(error) => return Err(error),
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

/// The octets of a file, which is `private` when a key is in it. What is no plain file is refused: a device has no end,
/// and a pipe may never begin.
fn read(path: &Path, private: bool) -> Result<Vec<u8>, Error> {
    let at = |source| Error::file(path, source);
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(at)?;
    let metadata = file.metadata().map_err(at)?;
    if !metadata.is_file() {
        return Err(at(std::io::Error::other("it is not a file")));
    }
    if private {
        only_its_owner(path, &metadata)?;
    }
    let mut octets = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut octets).map_err(at)?;
    if octets.len() as u64 > MAX_FILE {
        return Err(at(std::io::Error::other("it has more than 1 MiB")));
    }
    Ok(octets)
}

/// When a certificate ends.
fn end(key: &CertifiedKey) -> Option<UnixTime> {
    key.cert.first().and_then(|der| Certificate::from_der(der).ok()).map(|certificate| certificate.not_after())
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
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

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
        assert!(open(Some(&file), Some(&other), "127.0.0.1:1").contains("chmod 600"), "others can read it");
        std::fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
        assert_ne!(open(Some(&file), Some(&other), "127.0.0.1:1"), "", "the key of another certificate");
    }
    #[test]
    fn what_is_no_plain_file_of_reasonable_size_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let mut tls = own(data.path(), NOW);
        let file = data.path().join("tls/self-signed.pem");
        let good = std::fs::read(&file).unwrap();
        let before = shown(&tls);
        let endless = data.path().join("endless.pem");
        symlink("/dev/zero", &endless).unwrap();
        let large = data.path().join("large.pem");
        std::fs::write(&large, vec![b'\n'; (MAX_FILE + 1) as usize]).unwrap();
        let pipe = data.path().join("pipe.pem");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for (path, why) in
            [(&endless, "not a file"), (&pipe, "not a file"), (&large, "1 MiB"), (&data.path().into(), "not a file")]
        {
            let address = ["127.0.0.1:1".parse().unwrap()];
            let error = Tls::open(data.path(), Some(path), Some(&file), &address, NOW).err().unwrap();
            assert!(error.to_string().contains(why), "{error}");
        }
        // While it is served, too, and the right file put back is taken.
        std::fs::remove_file(&file).unwrap();
        symlink("/dev/zero", &file).unwrap();
        assert!(tls.refresh(NOW).is_err());
        assert!(!tls.refresh(NOW).unwrap(), "it is said once");
        assert_eq!(shown(&tls), before);
        std::fs::remove_file(&file).unwrap();
        assert!(tls.refresh(NOW).unwrap(), "a new one is made");
        assert_ne!(shown(&tls), before);
        std::fs::write(&file, good).unwrap();
        assert!(tls.refresh(NOW).unwrap());
        assert_eq!(shown(&tls), before);
    }

    #[test]
    fn our_own_is_never_replaced_unread() {
        let data = tempfile::tempdir().unwrap();
        let mut tls = own(data.path(), NOW);
        let file = data.path().join("tls/self-signed.pem");
        let good = std::fs::read(&file).unwrap();
        let error = |tls: &mut Tls| {
            let again = Tls::open(data.path(), None, None, &["127.0.0.1:1".parse().unwrap()], NOW).err().unwrap();
            assert_eq!(tls.refresh(NOW).unwrap_err().to_string(), again.to_string());
            again.to_string()
        };
        std::fs::write(&file, "damaged").unwrap();
        assert!(error(&mut tls).contains("a new one is made"));
        assert_eq!(std::fs::read(&file).unwrap(), b"damaged");
        std::fs::write(&file, &good).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(error(&mut tls).contains("chmod 600"));
        assert_eq!(std::fs::read(&file).unwrap(), good);
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert!(tls.refresh(NOW).unwrap(), "the mode was put right");
        assert!(tls.refresh(NOW + VALIDITY - RENEWAL).unwrap(), "its time was over");
        assert!(!tls.refresh(NOW + VALIDITY - RENEWAL).unwrap());
    }

    #[test]
    fn the_end_is_announced_once_a_day() {
        let data = tempfile::tempdir().unwrap();
        let mut tls = own(data.path(), NOW);
        let end = NOW + VALIDITY;
        let mut notice = |now| tls.notice(now).unwrap_or_default();
        assert_eq!(notice(end - 14 * DAY - 1), "");
        assert!(notice(end - 14 * DAY + 1).contains("within 14 days"));
        assert_eq!(notice(end - 14 * DAY + 3), "");
        assert!(notice(end - 5).contains("within 1 days"));
        assert!(notice(end + 1).contains("has ended"));
        assert_eq!(notice(end + 2), "");
        assert!(notice(end + 1 + DAY).contains("has ended"));
    }
}
