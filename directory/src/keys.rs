//! Zone keys on disk: `keys/<zone>.pem` in the data folder, each a PKCS#8 private key readable by its owner only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use certdir_zones::{Name, ZoneKey};
use data_encoding::BASE64;

use crate::error::Error;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// A P-256 key takes about 250 octets of PEM; anything much larger is another file.
const MAX_KEY_FILE: u64 = 8_192;

/// Makes a folder that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| Error::file(path, source))
}

/// The key of a zone; made on first use, durable before it is returned.
pub(crate) fn load_or_create(data: &Path, apex: &Name) -> Result<ZoneKey, Error> {
    let path = path_of(data, apex)?;
    match load(&path, apex) {
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => create(&path, apex),
        other => other,
    }
}

/// The key of a zone that has one.
pub(crate) fn load_existing(data: &Path, apex: &Name) -> Result<ZoneKey, Error> {
    let path = path_of(data, apex)?;
    load(&path, apex).map_err(|error| match error {
        Error::File { source, .. } if source.kind() == ErrorKind::NotFound => {
            Error::ZoneKey { apex: apex.to_string(), reason: format!("{} is missing", path.display()) }
        }
        other => other,
    })
}

fn path_of(data: &Path, apex: &Name) -> Result<PathBuf, Error> {
    let text = apex.to_string();
    let stem = text.trim_end_matches('.');
    // A zone's name is a mail domain's, perhaps below `_smimecert`; nothing in it may lead out of the folder.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if stem.is_empty() || stem.starts_with('.') || !stem.chars().all(plain) {
        return Err(Error::ZoneKey { apex: text, reason: "its name cannot be a file's".into() });
    }
    Ok(data.join("keys").join(format!("{stem}.pem")))
}

fn load(path: &Path, apex: &Name) -> Result<ZoneKey, Error> {
    let bad =
        |reason: String| Error::ZoneKey { apex: apex.to_string(), reason: format!("{}: {reason}", path.display()) };
    let file = File::open(path).map_err(|source| Error::file(path, source))?;
    let mode = file.metadata().map_err(|source| Error::file(path, source))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(bad(format!("others can read it (mode {:o}); run: chmod 600 {}", mode & 0o777, path.display())));
    }
    let mut text = String::new();
    file.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(|source| Error::file(path, source))?;
    let body: String = text
        .lines()
        .skip_while(|line| line.trim() != BEGIN)
        .skip(1)
        .take_while(|line| line.trim() != END)
        .map(str::trim)
        .collect();
    let pkcs8 = BASE64.decode(body.as_bytes()).map_err(|_| bad("it is not a PEM private key".into()))?;
    ZoneKey::from_pkcs8(&pkcs8).map_err(|error| bad(error.to_string()))
}

fn create(path: &Path, apex: &Name) -> Result<ZoneKey, Error> {
    let at = |source| Error::file(path, source);
    let (key, pkcs8) = ZoneKey::generate()?;
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
        sync_parent(folder)?;
    }
    let encoded = BASE64.encode(&pkcs8);
    let mut text = format!("{BEGIN}\n");
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    // Written aside and linked into place: a crash leaves either no key or a whole one, and two processes agree on one.
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside).map_err(at)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at)?;
    let linked = std::fs::hard_link(&aside, path);
    std::fs::remove_file(&aside).map_err(at)?;
    sync_parent(path)?;
    match linked {
        Ok(()) => Ok(key),
        // Another process was first: its key is the zone's.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => load(path, apex),
        Err(error) => Err(at(error)),
    }
}

/// Makes durable that a file or folder is there.
fn sync_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(folder) => {
            File::open(folder).and_then(|open| open.sync_all()).map_err(|source| Error::file(folder, source))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let data = tempfile::tempdir().unwrap();
        let apex = Name::parse("_smimecert.example.org").unwrap();
        let made = load_or_create(data.path(), &apex).unwrap();
        let path = data.path().join("keys/_smimecert.example.org.pem");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(data.path(), &apex).unwrap().dnskey(), made.dnskey());
        assert_eq!(std::fs::read_dir(data.path().join("keys")).unwrap().count(), 1, "nothing is left beside it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = load_or_create(data.path(), &apex).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let data = tempfile::tempdir().unwrap();
        let apex = Name::parse("_smimecert.example.org").unwrap();
        load_or_create(data.path(), &apex).unwrap();
        let path = data.path().join("keys/_smimecert.example.org.pem");
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(matches!(load_or_create(data.path(), &apex), Err(Error::ZoneKey { .. })));
        assert!(load_or_create(data.path(), &Name::parse("..\\/.org").unwrap_or(Name::root())).is_err());
    }
}
