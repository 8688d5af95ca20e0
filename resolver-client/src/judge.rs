//! From findings to a ruling: a pure function.
//!
//! The rules, in the order in which they are applied:
//!
//! 1. A usable certificate of the recipient's own, from a managed source, is used.
//! 2. A failure about the recipient's own makes everything [`Ruling::Unknown`]: there may be a certificate that must
//!    be preferred to the domain's and to a harvested one.
//! 3. A record at the recipient's own name that cannot be used, or a name that its domain has blocked, forbids the
//!    domain-level certificate unless [`Policy`] says otherwise.
//! 4. Otherwise the domain-level certificate is used: the one at its own name, then the one of the wildcard.
//! 5. Otherwise a usable harvested certificate of the recipient is used: a directory beats what was harvested.
//! 6. A failure anywhere: [`Ruling::Unknown`]. Nothing failed: [`Ruling::None`].
//!
//! A certificate that was found revoked through any source is used from none.

use std::cmp::Reverse;
use std::sync::Arc;

use certdir_certificate::{Certificate, UnixTime};

use crate::appraise::Trust;
use crate::outcome::{Claim, Failure, Match, Outcome};
use crate::policy::Policy;
use crate::source::{Answer, Level};
use crate::trace::Examined;

/// What became of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be encrypted to.
    Usable,
    /// It must not be, and asking again would not help.
    Refused {
        /// Stable code, see `docs/resolver.md`.
        code: &'static str,
        /// Why, for a person, where there is more to say than the code.
        message: Option<String>,
    },
    /// Whether it may be could not be established: a revocation list that cannot be fetched, say.
    Doubtful(Failure),
}

impl Standing {
    pub(crate) fn refused(code: &'static str) -> Standing {
        Standing::Refused { code, message: None }
    }

    /// `usable`, or the stable code of why not.
    pub fn code(&self) -> &'static str {
        match self {
            Standing::Usable => "usable",
            Standing::Refused { code, .. } => code,
            Standing::Doubtful(failure) => failure.code,
        }
    }
}

/// What one source said about one subject, appraised; what the judge reads.
#[derive(Clone, Debug)]
pub struct Finding {
    /// For whom was asked.
    pub level: Level,
    /// The label of the source.
    pub source: Arc<str>,
    /// True for a source of harvested certificates, which any managed one beats.
    pub harvested: bool,
    /// How far the source is trusted.
    pub trust: Trust,
    /// What the source said.
    pub answer: Answer,
    /// What became of each candidate, in the order of the outcome's.
    pub standings: Vec<Standing>,
    /// All of this may be used until this second, exclusive.
    pub until: UnixTime,
}

impl Finding {
    fn usable(&self) -> impl Iterator<Item = (&Arc<Certificate>, Match)> {
        let judged = self.answer.outcome.candidates().iter().zip(&self.standings);
        judged.filter(|(_, s)| **s == Standing::Usable).filter_map(|(c, _)| Some((c.readable()?, c.matched)))
    }

    /// The certificates that were found revoked.
    pub(crate) fn revoked(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let judged = self.answer.outcome.candidates().iter().zip(&self.standings);
        judged.filter(|(_, s)| s.code() == REVOKED).filter_map(|(c, _)| c.readable())
    }

    /// The first thing that went wrong.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.answer.outcome {
            Outcome::Error(failure) => Some(failure),
            _ => self.standings.iter().find_map(|s| match s {
                Standing::Doubtful(failure) => Some(failure),
                _ => None,
            }),
        }
    }

    /// DNSSEC proves what it says.
    fn is_proven(&self) -> bool {
        match &self.answer.outcome {
            Outcome::ProvenNone { .. } => true,
            Outcome::Found(candidates) => {
                candidates.iter().all(|c| matches!(c.claim, Claim::Association(_) | Claim::Secure))
            }
            Outcome::NotServed { .. } | Outcome::Error(_) => false,
        }
    }

    /// The recipient's own name holds a record: the domain's certificate does not speak for it.
    fn own_record(&self) -> bool {
        self.level == Level::Recipient
            && match &self.answer.outcome {
                Outcome::Found(candidates) => candidates.iter().any(|c| c.matched == Match::Recipient),
                Outcome::ProvenNone { own_name } => *own_name,
                Outcome::NotServed { .. } | Outcome::Error(_) => false,
            }
    }
}

/// What the findings amount to.
#[derive(Clone, Debug)]
pub enum Ruling {
    /// Usable certificates in the order of choice, never empty.
    Use {
        /// In the order that [`Policy::choose`] gives.
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

/// Judges the findings about one recipient.
pub fn judge(findings: &[Finding], policy: &Policy) -> Judgement {
    let (ruling, reason) = rule(findings, policy);
    let mut examined: Vec<Examined> = findings.iter().flat_map(examine).collect();
    if let Ruling::Use { certificates, matched } = &ruling {
        let choice = certificates.first().map(|c| data_encoding::HEXLOWER.encode(c.sha256()));
        // The same certificate may have been found twice.
        let chosen = |e: &&mut Examined| e.code == "usable" && e.matched == *matched && e.sha256 == choice;
        if let Some(e) = examined.iter_mut().find(chosen) {
            e.chosen = true;
        }
    }
    Judgement { ruling, reason, examined }
}

/// True when a further answer about the recipient's own can still change the ruling.
pub(crate) fn recipient_matters(findings: &[Finding], policy: &Policy) -> bool {
    choose(findings, policy, Match::Recipient, false).is_none()
}

/// True when a further answer about the domain can still change the ruling.
pub(crate) fn domain_matters(findings: &[Finding], policy: &Policy) -> bool {
    policy.domain_certificate
        && own(findings).all(|f| f.failure().is_none())
        && choose(findings, policy, Match::Recipient, false).is_none()
        // A usable wildcard is the domain's own word already, but the canonical name comes first.
        && choose(findings, policy, Match::Domain, false).is_none()
        && (!own(findings).any(Finding::own_record) || policy.domain_certificate_despite_own_record)
}

/// True when what was harvested can still change the ruling.
pub(crate) fn harvest_matters(findings: &[Finding], policy: &Policy) -> bool {
    !matches!(rule(findings, policy).0, Ruling::Use { .. })
        && (policy.harvested_despite_failure || findings.iter().all(|f| f.failure().is_none()))
        && !own(findings).any(Finding::own_record)
        && choose(findings, policy, Match::Recipient, true).is_none()
}

/// What managed sources said about the recipient's own.
fn own(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|f| f.level == Level::Recipient && !f.harvested)
}

fn rule(findings: &[Finding], policy: &Policy) -> (Ruling, &'static str) {
    if let Some(ruling) = choose(findings, policy, Match::Recipient, false) {
        return (ruling, Match::Recipient.code());
    }
    let blocked = own(findings).any(Finding::own_record);
    let failed = own(findings).find_map(Finding::failure);
    if failed.is_none() && policy.domain_certificate && (!blocked || policy.domain_certificate_despite_own_record) {
        for matched in [Match::Domain, Match::Wildcard] {
            if let Some(ruling) = choose(findings, policy, matched, false) {
                return (ruling, matched.code());
            }
        }
    }
    let failed = failed.or_else(|| findings.iter().filter(|f| !f.harvested).find_map(Finding::failure));
    if (failed.is_none() || policy.harvested_despite_failure)
        && !blocked
        && let Some(ruling) = choose(findings, policy, Match::Recipient, true)
    {
        return (ruling, "harvested");
    }
    if let Some(failure) = failed.or_else(|| findings.iter().find_map(Finding::failure)) {
        return (Ruling::Unknown { failure: failure.clone() }, failure.code);
    }
    if findings.is_empty() {
        let failure = Failure::new("nothing-asked", "no source was asked");
        return (Ruling::Unknown { failure }, "nothing-asked");
    }
    let proven = findings.iter().all(Finding::is_proven);
    let found = |f: &Finding| matches!(f.answer.outcome, Outcome::Found(_));
    let reason = if own(findings).any(|f| found(f) && f.own_record()) {
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

fn choose(findings: &[Finding], policy: &Policy, wanted: Match, harvested: bool) -> Option<Ruling> {
    let revoked = |sha256: &[u8; 32]| findings.iter().flat_map(Finding::revoked).any(|c| c.sha256() == sha256);
    let certificates: Vec<Arc<Certificate>> = findings
        .iter()
        .filter(|f| f.harvested == harvested)
        .flat_map(Finding::usable)
        .filter(|(_, matched)| *matched == wanted)
        .map(|(certificate, _)| certificate)
        .filter(|certificate| !revoked(certificate.sha256()))
        .cloned()
        .collect();
    let certificates = policy.choose(certificates);
    (!certificates.is_empty()).then_some(Ruling::Use { certificates, matched: wanted })
}

/// The code of a certificate that its issuer has revoked.
pub(crate) const REVOKED: &str = "revoked";

fn examine(finding: &Finding) -> impl Iterator<Item = Examined> {
    let judged = finding.answer.outcome.candidates().iter().zip(&finding.standings);
    judged.map(|(candidate, standing)| {
        let message = match standing {
            Standing::Usable => None,
            Standing::Refused { message, .. } => message.clone(),
            Standing::Doubtful(failure) => Some(failure.message.clone()),
        };
        Examined::new(&finding.source, candidate, standing.code(), message)
    })
}

/// Newest notBefore first, then latest notAfter, then SHA-256.
pub(crate) fn newest_first(certificates: &mut Vec<Arc<Certificate>>) {
    certificates.sort_by_key(|c| (Reverse(c.not_before()), Reverse(c.not_after()), *c.sha256()));
    certificates.dedup_by_key(|c| *c.sha256());
}
