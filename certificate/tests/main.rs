//! The certificates of `tests/data/certificates` (made by the openssl command, see `make.sh` there), read by this room
//! and by others.
//!
//! * [`facts`]: what each of them says;
//! * [`forms`]: DER and PEM, and what is neither;
//! * [`second_opinion`]: the openssl command and x509-cert say the same;
//! * [`hostile`]: bytes that mean harm;
//! * [`paths`]: path building and its rules;
//! * [`revoked`]: revocation lists and OCSP, with `openssl ocsp` as the responder;
//! * [`pkits`]: paths of NIST's test suite;
//! * [`openssl_paths`]: `openssl verify` and we say the same of chains, or the difference has a reason;
//! * [`authority`]: authorities and certificates made for one test.

#![expect(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test that stops is a test that fails")]

mod authority;
mod facts;
mod forms;
mod hostile;
mod openssl_paths;
mod paths;
mod pkits;
mod revoked;
mod second_opinion;

use certdir_certificate::{Certificate, Error};

/// 2026-11-22T07:31:00Z.
const NOW: i64 = 1_795_332_660;

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/certificates")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The only certificate of NAME.pem.
fn try_one(name: &str) -> Result<Certificate, Error> {
    let mut all = Certificate::read_all(&file(&format!("{name}.pem")))?;
    assert_eq!(all.len(), 1, "{name}");
    Ok(all.remove(0))
}

fn one(name: &str) -> Certificate {
    try_one(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Names of the files that hold one good certificate each.
fn good() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".pem").map(str::to_owned))
        .filter(|name| !name.starts_with("malformed-") && name != "bundle" && name != "request")
        .collect();
    names.sort();
    assert!(names.len() > 25, "the folder of certificates is not complete");
    names
}
