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
    /// Looks at what the paths are. Errors: one of them does not exist. What cannot be used below a folder is only named.
    pub(crate) fn of(paths: &[PathBuf]) -> Result<Certificates, Error> {
        let mut all = Certificates { files: VecDeque::new(), ready: VecDeque::new() };
        for path in paths {
            if path.as_os_str() != "-" && std::fs::metadata(path).map_err(|source| Error::file(path, source))?.is_dir()
            {
                all.walk(path, 0);
            } else {
                all.files.push_back(path.clone());
            }
        }
        Ok(all)
    }

    /// Files of a folder and of those below it, by name; hidden ones are left out.
    fn walk(&mut self, folder: &Path, depth: usize) {
        if depth == MAX_DEPTH {
            return self.bad(folder, "folders are nested too deeply");
        }
        let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.bad(folder, &error.to_string()),
        };
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            match std::fs::metadata(&path) {
                Ok(found) if found.is_dir() => self.walk(&path, depth + 1),
                Ok(found) if found.is_file() => self.files.push_back(path),
                // Reading a pipe or a device might never end.
                Ok(_) => self.bad(&path, "it is not a file"),
                Err(error) => self.bad(&path, &error.to_string()),
            }
        }
    }

    fn bad(&mut self, path: &Path, message: &str) {
        self.ready.push_back(Found::Bad { origin: path.display().to_string(), code: "file", message: message.into() });
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
