//! From outcomes to a ruling: a pure function.
//!
//! The rules, in the order in which they are applied:
//!
//! 1. A usable certificate at the recipient's own name is used.
//! 2. A failure at the recipient's own name makes everything [`Ruling::Unknown`]: there may be a certificate that must
//!    be preferred to the domain's.
//! 3. A record at the recipient's own name that cannot be used, or a name that its domain has blocked, forbids the
//!    domain-level certificate unless [`Policy`] says otherwise.
//! 4. Otherwise the domain-level certificate is used: the one at its own name, then the one of the wildcard.
//! 5. A failure anywhere: [`Ruling::Unknown`]. Nothing failed: [`Ruling::None`].

use std::cmp::Reverse;
use std::sync::Arc;

use certdir_certificate::{Certificate, UnixTime};

use crate::outcome::{Failure, Finding, Level, Match, Outcome};
use crate::trace::Examined;

/// What a gateway accepts beyond the recipient's own certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Use the domain-level certificate where the recipient's own name has no record. Default: true.
    pub domain_certificate: bool,
    /// Use it also where the recipient's own record is unusable (expired, say) or blocked. Default: false.
    pub domain_certificate_despite_own_record: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { domain_certificate: true, domain_certificate_despite_own_record: false }
    }
}

/// What the outcomes amount to.
#[derive(Clone, Debug)]
pub enum Ruling {
    /// Usable certificates in the order of choice, never empty.
    Use {
        /// Newest notBefore first, then latest notAfter, then SHA-256.
        certificates: Vec<Arc<Certificate>>,
        /// Whose certificate it is.
        matched: Match,
    },
    /// No certificate and no failure.
    None {
        /// Every outcome is proven by DNSSEC.
        proven: bool,
    },
    /// No usable certificate and at least one failure.
    Unknown {
        /// The first one.
        failure: Failure,
    },
}

/// A ruling with its reasons.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The ruling.
    pub ruling: Ruling,
    /// Stable code of why, see `docs/resolver.md`.
    pub reason: &'static str,
    /// Every record that was looked at, and what was said of it.
    pub examined: Vec<Examined>,
}

/// Judges the findings about one recipient at `now`.
pub fn judge(findings: &[Finding], policy: &Policy, now: UnixTime) -> Judgement {
    let mut examined: Vec<Examined> = findings.iter().flat_map(|f| examine(f, now)).collect();
    let (ruling, reason) = rule(findings, policy, now);
    if let Ruling::Use { certificates, matched } = &ruling {
        let choice = certificates.first().map(|c| *c.sha256());
        // The same certificate may have been found twice.
        let chosen = |e: &&mut Examined| e.code == "usable" && e.matched == *matched && e.sha256_octets == choice;
        if let Some(e) = examined.iter_mut().find(chosen) {
            e.chosen = true;
        }
    }
    Judgement { ruling, reason, examined }
}

/// True when the answer at the domain's own name can still change the ruling.
pub(crate) fn domain_matters(recipient: &Finding, policy: &Policy, now: UnixTime) -> bool {
    if !policy.domain_certificate || matches!(recipient.outcome, Outcome::Error(_)) {
        return false;
    }
    if usable(recipient, now).next().is_some() {
        // A usable wildcard is the domain's own word already, but the canonical name comes first.
        return recipient.matched() == Match::Wildcard;
    }
    !own_record(recipient) || policy.domain_certificate_despite_own_record
}

fn rule(findings: &[Finding], policy: &Policy, now: UnixTime) -> (Ruling, &'static str) {
    let own = || findings.iter().filter(|f| f.level == Level::Recipient);
    if let Some(ruling) = choose(findings, Match::Recipient, now) {
        return (ruling, Match::Recipient.code());
    }
    if let Some(failure) = own().find_map(failure) {
        return (Ruling::Unknown { failure: failure.clone() }, failure.code);
    }
    let blocked = own().any(own_record);
    if policy.domain_certificate && (!blocked || policy.domain_certificate_despite_own_record) {
        for matched in [Match::Domain, Match::Wildcard] {
            if let Some(ruling) = choose(findings, matched, now) {
                return (ruling, matched.code());
            }
        }
    }
    if let Some(failure) = findings.iter().find_map(failure) {
        return (Ruling::Unknown { failure: failure.clone() }, failure.code);
    }
    if findings.is_empty() {
        let failure = Failure::new("nothing-asked", "no source was asked");
        return (Ruling::Unknown { failure }, "nothing-asked");
    }
    let proven = !findings.iter().any(|f| matches!(f.outcome, Outcome::NotServed { .. }));
    let found = |f: &Finding| matches!(f.outcome, Outcome::Found { .. });
    let reason = if own().any(|f| found(f) && own_record(f)) {
        "own-record-unusable"
    } else if blocked {
        "blocked"
    } else if findings.iter().any(found) {
        "nothing-usable"
    } else if proven {
        "proven-none"
    } else {
        "not-served"
    };
    (Ruling::None { proven }, reason)
}

/// The recipient's own name holds a record: the domain's certificate does not speak for it.
fn own_record(recipient: &Finding) -> bool {
    match &recipient.outcome {
        Outcome::Found { wildcard, .. } => !wildcard,
        Outcome::ProvenNone { own_name } => *own_name,
        Outcome::NotServed { .. } | Outcome::Error(_) => false,
    }
}

fn failure(finding: &Finding) -> Option<&Failure> {
    match &finding.outcome {
        Outcome::Error(failure) => Some(failure),
        _ => None,
    }
}

fn choose(findings: &[Finding], matched: Match, now: UnixTime) -> Option<Ruling> {
    let mut certificates: Vec<Arc<Certificate>> =
        findings.iter().filter(|f| f.matched() == matched).flat_map(|f| usable(f, now)).cloned().collect();
    certificates.sort_by_key(|c| (Reverse(c.not_before()), Reverse(c.not_after()), *c.sha256()));
    certificates.dedup_by_key(|c| *c.sha256());
    (!certificates.is_empty()).then_some(Ruling::Use { certificates, matched })
}

fn usable(finding: &Finding, now: UnixTime) -> impl Iterator<Item = &Arc<Certificate>> {
    let candidates = match &finding.outcome {
        Outcome::Found { candidates, .. } => &candidates[..],
        _ => &[],
    };
    candidates.iter().filter_map(move |c| c.usable(now).ok())
}

fn examine(finding: &Finding, now: UnixTime) -> Vec<Examined> {
    let Outcome::Found { candidates, .. } = &finding.outcome else {
        return Vec::new();
    };
    candidates.iter().map(|c| Examined::new(c, finding.matched(), c.usable(now).err().unwrap_or("usable"))).collect()
}
