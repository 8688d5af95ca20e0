//! The source of CERT records in the mail domain (RFC 4398), as the agents of the Direct Project look for certificates.
//!
//! A recipient's certificate is at the address's own name: the local part as one label, and, where it has dots, also in the
//! form in which they separate labels, which is what agents of the Direct Project ask for. The domain's is at the domain. Names are without regard to
//! case, so `Alice@` and `alice@` share one; that a certificate names the address or the domain is checked when it is
//! appraised. That such a name holds other records says nothing: hosts and people share it.

use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::rdata::read_cert;
use certdir_zones::{Name, RecordType, cert_owners};

use crate::dns::{Dns, Reply, Said};
use crate::outcome::{Candidate, Claim, Failure, Match, Outcome};
use crate::smimea::{matched, unsigned};
use crate::source::{Answer, Asking, Level, Source, Subject};
use crate::trace::Question;

/// Type PKIX (RFC 4398 section 2.1).
const PKIX: u16 = 1;

/// How long an answer holds that needed no question, in seconds.
const UNASKED_LIFE: UnixTime = 3_600;

/// The source of CERT records.
pub(crate) struct Cert {
    dns: Arc<Dns>,
    label: Arc<str>,
    /// What is not signed is handed on too.
    unsigned: bool,
}

impl Cert {
    pub(crate) fn new(dns: Arc<Dns>, unsigned: bool) -> Self {
        Cert { dns, label: "cert".into(), unsigned }
    }

    async fn answer(&self, subject: &Subject, now: UnixTime) -> Answer {
        let owners = match subject.level {
            Level::Recipient => cert_owners(&subject.address),
            Level::Domain => vec![subject.address.domain().name().clone()],
        };
        let mut answer: Option<(Outcome, UnixTime, Question)> = None;
        for owner in owners {
            let (outcome, mut until, mut question) = self.at(&owner, subject.level, now).await;
            if let Some((_, before, earlier)) = answer {
                until = until.min(before);
                question.name = format!("{}, {}", earlier.name, question.name);
                question.exchanges.splice(..0, earlier.exchanges);
                question.aliases.splice(..0, earlier.aliases);
            }
            let decided = !matches!(outcome, Outcome::ProvenNone { .. });
            answer = Some((outcome, until, question));
            if decided {
                break;
            }
        }
        let (outcome, until, question) = answer.unwrap_or_else(|| self.nameless(subject, now));
        Answer { outcome, until, question: Arc::new(question) }
    }

    async fn at(&self, owner: &Name, level: Level, now: UnixTime) -> (Outcome, UnixTime, Question) {
        let reply = self.dns.look_up(&self.label, owner, RecordType::CERT, now).await;
        let Reply { said, mut until, mut question } = reply;
        let outcome = match said {
            Said::Records { rdata, wildcard } => {
                let candidates = read(&rdata, &Claim::Secure, matched(level, wildcard), &mut question);
                match candidates.is_empty() {
                    true => Outcome::ProvenNone { own_name: false },
                    false => Outcome::Found(candidates.into()),
                }
            }
            Said::Absent { .. } => Outcome::ProvenNone { own_name: false },
            Said::NotSigned { reason, unproven } if self.unsigned => unsigned(reason, unproven, &mut until, |rdata| {
                read(rdata, &Claim::Bare, matched(level, false), &mut question)
            }),
            Said::NotSigned { reason, .. } => Outcome::NotServed { reason },
            Said::Failed(failure) => Outcome::Error(failure),
        };
        (outcome, until, question)
    }

    /// A local part that makes no owner name: too long for a label, a wildcard, or reserved.
    fn nameless(&self, subject: &Subject, now: UnixTime) -> (Outcome, UnixTime, Question) {
        let reason = "the local part cannot be the owner name of a CERT record".to_owned();
        let question = Question {
            source: Arc::clone(&self.label),
            name: subject.address.to_string(),
            kind: "CERT",
            dnssec: None,
            message: reason.clone(),
            asked_at: now,
            aliases: Vec::new(),
            exchanges: Vec::new(),
        };
        (Outcome::NotServed { reason }, now.saturating_add(UNASKED_LIFE), question)
    }
}

impl Source for Cert {
    fn label(&self) -> &str {
        &self.label
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        Box::pin(self.answer(subject, now))
    }
}

/// The certificates in records of type PKIX. Other types hold none: a URL, a key of another kind, a fingerprint; they are
/// passed over, with a word in the trace.
fn read(rdata: &[Vec<u8>], claim: &Claim, matched: Match, question: &mut Question) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let mut others = Vec::new();
    for record in rdata {
        match record.first_chunk::<2>().map(|head| u16::from_be_bytes(*head)) {
            Some(PKIX) => candidates.push(match read_cert(record) {
                Ok(der) => Candidate::from_der(der, claim.clone(), matched),
                Err(error) => {
                    let certificate = Some(Err(Failure::new("malformed", error.to_string())));
                    Candidate { claim: claim.clone(), matched, certificate }
                }
            }),
            other => others.push(other.unwrap_or_default().to_string()),
        }
    }
    if !others.is_empty() {
        question.message += &format!("; passed over (other-cert-type): {}", others.join(", "));
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Dnssec;

    fn question() -> Question {
        Question {
            source: "cert".into(),
            name: String::new(),
            kind: "CERT",
            dnssec: Some(Dnssec::Secure),
            message: "records".to_owned(),
            asked_at: 0,
            aliases: Vec::new(),
            exchanges: Vec::new(),
        }
    }

    #[test]
    fn only_type_pkix_is_read() {
        let signed = rcgen::generate_simple_self_signed(vec!["example.org".to_owned()]).unwrap();
        let der = signed.cert.der();
        let record = |head: &[u8], data: &[u8]| [head, data].concat();
        let rdata = [
            // Both forms, with whatever numbers.
            record(&[0, 1, 0, 0, 0, 3, 0x55, 4, 0x24], der),
            record(&[0, 1, 0x12, 0x34, 8], der),
            record(&[0, 1, 0, 0, 0], b"no certificate"),
            record(&[0, 1, 0, 0, 0, 0x30], b"no certificate"),
            record(&[0, 1], b""),
            record(&[0, 4, 0, 0, 0], b"https://example.org/alice.der"),
            record(&[0, 3, 0, 0, 0], b"a key of OpenPGP"),
            record(&[0], b""),
        ];
        let mut question = question();
        let found = read(&rdata, &Claim::Secure, Match::Recipient, &mut question);
        let readable: Vec<bool> = found.iter().map(|c| c.readable().is_some()).collect();
        assert_eq!(readable, [true, true, false, false, false]);
        assert!(found.iter().all(|c| c.claim == Claim::Secure && c.matched == Match::Recipient));
        assert_eq!(question.message, "records; passed over (other-cert-type): 4, 3, 0");
    }
}
