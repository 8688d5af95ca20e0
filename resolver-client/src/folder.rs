//! A folder of certificates as a source: what the operator put there.
//!
//! Files named `.pem`, `.crt`, `.cer`, `.der`, `.p7b` or `.p7c` in the folder itself, each with any number of certificates.
//! A certificate is found by the addresses and domains that it names. The folder is looked at again when it is asked,
//! every few seconds at most; only files that changed are read.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certdir_certificate::{Certificate, UnixTime};
use certdir_zones::Address;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::bundle;
use crate::outcome::{Candidate, Claim, Failure, Match, Outcome};
use crate::resolver::FAILURE_LIFE;
use crate::source::{Answer, Asking, Level, Source, Subject};
use crate::trace::{Exchange, Question};

/// Files of the folder.
const MAX_FILES: usize = 20_000;

/// Octets of one file.
const MAX_FILE: u64 = 16 << 20;

/// Certificates of the folder.
const MAX_CERTIFICATES: usize = 200_000;

/// How often the folder is looked at.
const REFRESH: Duration = Duration::from_secs(2);

/// Seconds for which an answer is believed.
const LIFE: UnixTime = 10;

/// Complaints about files that are shown in one trace.
const MAX_SHOWN: usize = 8;

/// Certificates of one answer: one more than are looked at, so that too many are seen to be too many.
const MAX_CANDIDATES: usize = crate::resolver::MAX_CANDIDATES + 1;

/// A folder of certificates.
pub struct Folder {
    label: String,
    path: PathBuf,
    seen: Arc<Mutex<Option<Seen>>>,
}

/// The folder as it was when it was looked at last.
struct Seen {
    at: Instant,
    shelf: Result<Arc<Shelf>, Failure>,
}

/// What is in the folder.
#[derive(Default)]
struct Shelf {
    files: BTreeMap<OsString, File>,
    /// Certificates by address and by domain, in lower case.
    by_name: HashMap<String, Vec<Arc<Certificate>>>,
}

#[derive(Clone)]
struct File {
    stamp: (u64, Option<SystemTime>),
    certificates: Vec<Arc<Certificate>>,
    complaint: Option<Complaint>,
}

#[derive(Clone)]
struct Complaint {
    message: String,
    /// Whether the file could not be read, so that nobody knows what is in it.
    unread: bool,
}

impl Folder {
    /// A folder. It is read when it is asked.
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        let path = path.into();
        Folder { label: format!("folder:{}", path.display()), path, seen: Arc::default() }
    }

    /// What is in the folder now, or was a moment ago.
    async fn shelf(&self) -> Result<Arc<Shelf>, Failure> {
        let mut seen = Arc::clone(&self.seen).lock_owned().await;
        if let Some(seen) = &*seen
            && seen.at.elapsed() < REFRESH
        {
            return seen.shelf.clone();
        }
        let path = self.path.clone();
        // Goes on when nobody waits any more, so that a large folder is read once.
        let reading = tokio::task::spawn_blocking(move || {
            let before = seen.take().and_then(|seen| seen.shelf.ok());
            let shelf = read(&path, before);
            *seen = Some(Seen { at: Instant::now(), shelf: shelf.clone() });
            shelf
        });
        reading.await.unwrap_or_else(|error| Err(Failure::new("folder", error.to_string())))
    }

    fn look(&self, shelf: &Shelf, subject: &Subject) -> Result<Outcome, Failure> {
        let mailbox = subject.mailbox();
        let (matched, keys) = match subject.level {
            Level::Recipient => (Match::Recipient, vec![key(&mailbox)]),
            // A domain's certificate names the domain, or its confidentiality authority (RFC 3183 section 4.1).
            Level::Domain => (Match::Domain, vec![key(&mailbox), subject.address.domain().as_str().to_lowercase()]),
        };
        let mut found: Vec<Arc<Certificate>> = Vec::new();
        for certificate in keys.iter().filter_map(|key| shelf.by_name.get(key)).flatten() {
            if !found.iter().any(|known| known.sha256() == certificate.sha256()) && found.len() < MAX_CANDIDATES {
                found.push(Arc::clone(certificate));
            }
        }
        if !found.is_empty() {
            let candidate =
                |certificate| Candidate { claim: Claim::Local, matched, certificate: Some(Ok(certificate)) };
            return Ok(Outcome::Found(found.into_iter().map(candidate).collect()));
        }
        // What could not be read may hold it.
        let unread = shelf.files.iter().find_map(|(name, file)| {
            let complaint = file.complaint.as_ref().filter(|complaint| complaint.unread)?;
            Some(format!("{}: {}", self.path.join(name).display(), complaint.message))
        });
        match unread {
            Some(message) => Err(Failure::new("folder", message)),
            None => Ok(Outcome::NotServed { reason: format!("no certificate in {} names it", self.path.display()) }),
        }
    }
}

impl Source for Folder {
    fn label(&self) -> &str {
        &self.label
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        Box::pin(async move {
            let shelf = self.shelf().await;
            let exchanges = shelf.as_ref().map(|shelf| complaints(shelf)).unwrap_or_default();
            let (outcome, life) = match shelf.and_then(|shelf| self.look(&shelf, subject)) {
                Ok(outcome) => (outcome, LIFE),
                Err(failure) => (Outcome::Error(failure), FAILURE_LIFE),
            };
            let message = match &outcome {
                Outcome::Found(candidates) => format!("{} certificates", candidates.len()),
                Outcome::ProvenNone { .. } => "none".to_owned(),
                Outcome::NotServed { reason } => reason.clone(),
                Outcome::Error(failure) => failure.message.clone(),
            };
            let question = Question {
                source: self.label.as_str().into(),
                name: subject.mailbox().to_string(),
                kind: "file",
                dnssec: None,
                message,
                asked_at: now,
                aliases: Vec::new(),
                exchanges,
            };
            Answer { outcome, until: now.saturating_add(life), question: Arc::new(question) }
        })
    }
}

/// Files that are not what their names say.
fn complaints(shelf: &Shelf) -> Vec<Exchange> {
    let all = shelf.files.iter().filter_map(|(name, file)| Some((name, file.complaint.as_ref()?)));
    let shown = all.take(MAX_SHOWN).map(|(name, complaint)| Exchange {
        question: name.to_string_lossy().into_owned(),
        server: "folder".to_owned(),
        transport: "file",
        result: complaint.message.clone(),
        extended_errors: Vec::new(),
    });
    shown.collect()
}

/// How an address is found (RFC 8550 section 3): the case does not matter.
fn key(address: &Address) -> String {
    address.to_string().to_lowercase()
}

/// Reads the folder, and of its files those that changed.
fn read(path: &Path, before: Option<Arc<Shelf>>) -> Result<Arc<Shelf>, Failure> {
    let broken = |error: io::Error| Failure::new("folder", format!("{}: {error}", path.display()));
    let mut files = BTreeMap::new();
    let mut changed = false;
    for entry in fs::read_dir(path).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        if !is_named_like_one(Path::new(&entry.file_name())) {
            continue;
        }
        let known = before.as_ref().and_then(|shelf| shelf.files.get(&entry.file_name()));
        let file = match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => continue,
            Ok(metadata) if !metadata.is_file() => {
                changed = true;
                File { stamp: (0, None), certificates: Vec::new(), complaint: Some(unread("it is no file")) }
            }
            Ok(metadata) => {
                let stamp = (metadata.len(), metadata.modified().ok());
                match known {
                    // What could not be read may be readable now: that changes no time.
                    Some(known) if known.stamp == stamp && !known.complaint.as_ref().is_some_and(|c| c.unread) => {
                        known.clone()
                    }
                    _ => {
                        changed = true;
                        read_file(&entry.path(), stamp)
                    }
                }
            }
            // It went between the list and the look; what leads nowhere is still there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(entry.path()).is_err() => {
                continue;
            }
            Err(error) => {
                changed = true;
                File { stamp: (0, None), certificates: Vec::new(), complaint: Some(unread(&error.to_string())) }
            }
        };
        files.insert(entry.file_name(), file);
        if files.len() > MAX_FILES {
            return Err(Failure::new("folder", format!("{}: more than {MAX_FILES} files", path.display())));
        }
    }
    match before {
        Some(shelf) if !changed && shelf.files.len() == files.len() => return Ok(shelf),
        _ => {}
    }
    let certificates = || files.values().flat_map(|file| &file.certificates);
    if certificates().count() > MAX_CERTIFICATES {
        return Err(Failure::new("folder", format!("{}: more than {MAX_CERTIFICATES} certificates", path.display())));
    }
    let mut by_name: HashMap<String, Vec<Arc<Certificate>>> = HashMap::new();
    for certificate in certificates() {
        // An address as a mailbox is written, so that its quoting and its A-labels do not matter.
        let addresses = certificate.addresses().iter().filter_map(|name| Address::parse(&name.text).ok());
        let names = addresses.map(|address| key(&address)).chain(certificate.domains().iter().cloned());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            by_name.entry(name).or_default().push(Arc::clone(certificate));
        }
    }
    Ok(Arc::new(Shelf { files, by_name }))
}

fn is_named_like_one(name: &Path) -> bool {
    let hidden = name.to_string_lossy().starts_with('.');
    let extension = name.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    !hidden && matches!(extension.as_deref(), Some("pem" | "crt" | "cer" | "der" | "p7b" | "p7c"))
}

fn unread(message: &str) -> Complaint {
    Complaint { message: message.to_owned(), unread: true }
}

fn read_file(path: &Path, stamp: (u64, Option<SystemTime>)) -> File {
    let (certificates, complaint) = if stamp.0 > MAX_FILE {
        (Vec::new(), Some(unread(&format!("more than {MAX_FILE} octets"))))
    } else {
        match fs::read(path) {
            Ok(octets) => read_certificates(&octets),
            Err(error) => (Vec::new(), Some(unread(&error.to_string()))),
        }
    };
    File { stamp, certificates, complaint }
}

/// The certificates in a file, and what is wrong with the rest of it.
fn read_certificates(octets: &[u8]) -> (Vec<Arc<Certificate>>, Option<Complaint>) {
    if let Ok(bundle) = bundle::certificates(octets) {
        return collect(bundle.into_iter().map(Certificate::from_der));
    }
    if octets.first() == Some(&0x30) {
        return collect([Certificate::from_der(octets)].into_iter());
    }
    // A good certificate is taken although a bad one stands beside it.
    collect(
        certdir_certificate::pem_blocks(octets).map(|block| block.and_then(|block| Certificate::from_der(&block.der))),
    )
}

fn collect(
    all: impl Iterator<Item = Result<Certificate, certdir_certificate::Error>>,
) -> (Vec<Arc<Certificate>>, Option<Complaint>) {
    let (mut certificates, mut complaint) = (Vec::new(), None);
    for result in all {
        match result {
            Ok(certificate) => certificates.push(Arc::new(certificate)),
            Err(error) => complaint = complaint.or(Some(error.to_string())),
        }
    }
    if certificates.is_empty() && complaint.is_none() {
        complaint = Some("no certificate in it".to_owned());
    }
    (certificates, complaint.map(|message| Complaint { message, unread: false }))
}
