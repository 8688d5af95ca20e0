//! What becomes of what was found: whether each candidate may be encrypted to.

use certdir_certificate::{Certificate, UnixTime};

use crate::judge::Standing;
use crate::outcome::{Association, Candidate, Claim};

/// Appraises one candidate.
pub(crate) fn appraise(candidate: &Candidate, now: UnixTime) -> Standing {
    let claim = match &candidate.claim {
        Claim::Association(association) => claimed(association),
        Claim::Secure | Claim::Local => Ok(()),
        Claim::Bare => Err("needs-chain"),
    };
    if let Err(code) = claim {
        return Standing::refused(code);
    }
    match &candidate.certificate {
        Some(Ok(certificate)) => match fit(certificate, now) {
            Ok(()) => Standing::Usable,
            Err(code) => Standing::refused(code),
        },
        Some(Err(complaint)) => Standing::Refused { code: "malformed", message: Some(complaint.clone()) },
        None => Standing::refused("malformed"),
    }
}

fn claimed(association: &Association) -> Result<(), &'static str> {
    match association.usage {
        3 => {}
        0 => return Err("needs-pkix-ta"),
        1 => return Err("needs-pkix-ee"),
        2 => return Err("needs-dane-ta"),
        _ => return Err("unknown-usage"),
    }
    // Only `3 0 0` delivers a certificate; a hash can confirm one found elsewhere (RFC 8162 section 5).
    match (association.selector, association.matching) {
        (0 | 1, 1 | 2) => Err("hash-only"),
        (1, 0) => Err("key-only"),
        (0, 0) => Ok(()),
        (0 | 1, _) => Err("unknown-matching"),
        (_, _) => Err("unknown-selector"),
    }
}

/// Dates and purpose, which no claim makes good: RFC 8162 section 9 forbids an expired certificate even where that means
/// plaintext.
fn fit(certificate: &Certificate, now: UnixTime) -> Result<(), &'static str> {
    if now < certificate.not_before() {
        return Err("not-yet-valid");
    }
    if !certificate.valid_at(now) {
        return Err("expired");
    }
    if !certificate.can_encrypt() {
        return Err("signing-only");
    }
    Ok(())
}

/// The next second after `now` at which a candidate's standing changes by itself.
pub(crate) fn next_change(candidate: &Candidate, now: UnixTime) -> Option<UnixTime> {
    let certificate = candidate.readable()?;
    // notAfter is inclusive (RFC 5280 section 4.1.2.5).
    [certificate.not_before(), certificate.not_after().saturating_add(1)].into_iter().filter(|t| *t > now).min()
}
