//! Certificates from files, folders and standard input, one after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use certdir_certificate::{Certificate, pem_blocks};
use certdir_directory::Submission;

use crate::error::Error;

/// The largest file: a bundle of some 400,000 certificates. Larger ones are to be split.
const MAX_FILE: u64 = 512 << 20;
/// A lone DER certificate is never larger; what is, is something else.
const MAX_DER: usize = 1 << 20;
/// Folders below folders, so that a link that leads back ends.
const MAX_DEPTH: usize = 16;

/// A certificate, or something among the input that is none.
pub(crate) enum Found {
    /// To be published.
    Certificate(Submission),
    /// Not readable as certificates, with its code.
    Bad { origin: String, code: &'static str, message: String },
}

/// All certificates of a list of paths. One file is in memory at a time.
pub(crate) struct Certificates {
    files: VecDeque<PathBuf>,
    ready: VecDeque<Found>,
}

impl Certificates {
    /// Looks at what the paths are. Errors: one of them does not exist.
    pub(crate) fn of(paths: &[PathBuf]) -> Result<Certificates, Error> {
        let mut files = VecDeque::new();
        for path in paths {
            if path.as_os_str() == "-" {
                files.push_back(path.clone());
            } else {
                collect(path, 0, &mut files)?;
            }
        }
        Ok(Certificates { files, ready: VecDeque::new() })
    }
}

impl Iterator for Certificates {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Some(found);
            }
            let file = self.files.pop_front()?;
            self.ready = read(&file);
        }
    }
}

/// Files of a folder and of those below it, by name; hidden ones are left out.
fn collect(path: &Path, depth: usize, files: &mut VecDeque<PathBuf>) -> Result<(), Error> {
    let at = |source| Error::file(path, source);
    if !std::fs::metadata(path).map_err(at)?.is_dir() {
        files.push_back(path.to_path_buf());
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Err(Error::Usage(format!("{}: folders are nested too deeply", path.display())));
    }
    let mut entries = std::fs::read_dir(path).map_err(at)?.collect::<Result<Vec<_>, _>>().map_err(at)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            collect(&entry.path(), depth + 1, files)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> VecDeque<Found> {
    let origin = if path.as_os_str() == "-" { "standard input".to_string() } else { path.display().to_string() };
    let bad = |code, message: String| Found::Bad { origin: origin.clone(), code, message };
    let mut octets = Vec::new();
    let taken = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut octets)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut octets))
    };
    match taken {
        Err(error) => return VecDeque::from([bad("file", error.to_string())]),
        Ok(length) if length as u64 > MAX_FILE => {
            let limit = MAX_FILE >> 20;
            return VecDeque::from([bad("too-large", format!("it is larger than {limit} MiB; split it"))]);
        }
        Ok(_) => {}
    }
    // DER of a certificate begins with a SEQUENCE; PEM is text.
    if octets.first() == Some(&0x30) && octets.len() <= MAX_DER {
        return VecDeque::from([Found::Certificate(Submission { der: octets, origin })]);
    }
    let mut found: VecDeque<Found> = pem_blocks(&octets)
        .map(|block| match block {
            Ok(block) => Found::Certificate(Submission { der: block.der, origin: origin.clone() }),
            Err(error) => bad(error.code(), error.to_string()),
        })
        .collect();
    if found.is_empty() {
        let error = Certificate::read_all(&octets).err().unwrap_or(certdir_certificate::Error::Empty);
        found.push_back(bad(error.code(), error.to_string()));
    }
    found
}
