//! The source of SMIMEA records (RFC 8162).
//!
//! A Secure record is an association, whatever its parameters. A record of a domain that is not signed associates nothing;
//! where the gateway admits it, the certificate in it is handed on as found and vouched for by nobody.

use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::{RecordType, smimea_owner};

use crate::dns::{Dns, Reply, Said, Unproven};
use crate::outcome::{Candidate, Claim, Failure, Match, Outcome};
use crate::source::{Answer, Asking, Level, Source, Subject};

/// The source of SMIMEA records.
pub(crate) struct Smimea {
    dns: Arc<Dns>,
    label: Arc<str>,
    /// What is not signed is handed on too.
    unsigned: bool,
}

impl Smimea {
    pub(crate) fn new(dns: Arc<Dns>, unsigned: bool) -> Self {
        Smimea { dns, label: "smimea".into(), unsigned }
    }

    async fn answer(&self, subject: &Subject, now: UnixTime) -> Answer {
        let owner = smimea_owner(&subject.mailbox());
        let Reply { said, mut until, question } = self.dns.look_up(&self.label, &owner, RecordType::SMIMEA, now).await;
        let outcome = match said {
            Said::Records { rdata, wildcard } => {
                let matched = matched(subject.level, wildcard);
                let candidates: Option<_> = rdata.iter().map(|r| Candidate::from_smimea(r, matched)).collect();
                match candidates {
                    Some(candidates) => Outcome::Found(candidates),
                    None => Outcome::Error(Failure::new("malformed", "an SMIMEA record is too short")),
                }
            }
            Said::Absent { own_name } => Outcome::ProvenNone { own_name },
            Said::NotSigned { reason, unproven } if self.unsigned => {
                let of = |rdata: &[u8]| bare(rdata, matched(subject.level, false));
                unsigned(reason, unproven, &mut until, |rdata| rdata.iter().filter_map(|r| of(r)).collect())
            }
            Said::NotSigned { reason, .. } => Outcome::NotServed { reason },
            Said::Failed(failure) => Outcome::Error(failure),
        };
        Answer { outcome, until, question: Arc::new(question) }
    }
}

impl Source for Smimea {
    fn label(&self) -> &str {
        &self.label
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        Box::pin(self.answer(subject, now))
    }
}

/// Whose a certificate is. At the domain's own name too, what a wildcard gave is the wildcard's.
pub(crate) fn matched(level: Level, wildcard: bool) -> Match {
    match level {
        _ if wildcard => Match::Wildcard,
        Level::Recipient => Match::Recipient,
        Level::Domain => Match::Domain,
    }
}

/// What a domain that is not signed says, where that is admitted: certificates that need a chain, or nothing.
pub(crate) fn unsigned(
    reason: String,
    unproven: Result<Unproven, Failure>,
    until: &mut UnixTime,
    read: impl FnOnce(&[Vec<u8>]) -> Vec<Candidate>,
) -> Outcome {
    match unproven {
        Ok(found) => {
            *until = (*until).min(found.until);
            match read(&found.rdata) {
                candidates if candidates.is_empty() => Outcome::NotServed { reason },
                candidates => Outcome::Found(candidates.into()),
            }
        }
        Err(failure) => Outcome::Error(failure),
    }
}

/// Only `x 0 0` delivers a certificate.
fn bare(rdata: &[u8], matched: Match) -> Option<Candidate> {
    match rdata {
        [_, 0, 0, der @ ..] => Some(Candidate::from_der(der, Claim::Bare, matched)),
        _ => None,
    }
}
