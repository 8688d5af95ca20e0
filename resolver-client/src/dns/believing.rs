//! Believing a validating resolver: its AD bit (RFC 4035 section 3.2.3) stands for a validation done there.
//!
//! Only a server that nobody can speak for is believed: one on this machine, or one that TLS proves
//! ([`NameServer::is_safe_to_believe`](super::NameServer)). DO is asked all the same, for what the bit does not say: whether a wildcard
//! made the answer, and whether the name exists; and CD is not, so that bogus data ends in an error there.

use certdir_certificate::UnixTime;
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RecordType};

use super::answer::{Absence, Step, absent, alias, claimed, leaves_room, records};
use super::wire::{Wire, failure_of};
use super::{Asking, MAX_NEGATIVE_LIFE, Trust};
use crate::outcome::Failure;

/// Believes what a validating resolver vouches for.
pub(crate) struct Believing {
    wire: Wire,
}

impl Trust for Believing {
    fn ask<'a>(&'a self, name: &'a Name, record_type: RecordType, now: UnixTime) -> Asking<'a> {
        Box::pin(self.read(name, record_type, now))
    }
}

impl Believing {
    /// Every server of `wire` must be safe to believe.
    pub(crate) fn new(wire: Wire) -> Self {
        Believing { wire }
    }

    async fn read(&self, name: &Name, record_type: RecordType, now: UnixTime) -> Result<Step, Failure> {
        let query = Query::query(name.clone(), record_type);
        let mut message = self.wire.ask(&query).await.map_err(|e| failure_of(&e))?;
        if !message.authentic_data {
            // RFC 4035 section 3.2.3, RFC 6840 section 5.9: it validated, and what is bogus it would not have told.
            return not_vouched(name, record_type, &message, now);
        }
        let parts = &mut *message;
        for record in parts.answers.iter_mut().chain(&mut parts.authorities) {
            record.proof = Proof::Secure;
        }
        if leaves_room(name, &message) {
            return not_vouched(name, record_type, &message, now);
        }
        if let Some(step) = alias(name, &message, now)? {
            return Ok(step);
        }
        if let Some(step) = records(name, record_type, &message, now)? {
            return Ok(step);
        }
        match absent(name, &message, now)? {
            Absence::Proven { exists, until } => Ok(Step::Absent { exists, until }),
            // RFC 5155 section 9.2 forbids the AD bit here.
            Absence::Unproven { opted_out: true } => not_vouched(name, record_type, &message, now),
            Absence::Unproven { opted_out: false } => {
                Err(Failure::new("malformed", "the server vouches for an absence and does not show its proof"))
            }
        }
    }
}

fn not_vouched(name: &Name, record_type: RecordType, message: &Message, now: UnixTime) -> Result<Step, Failure> {
    let claimed = claimed(name, record_type, message, now)?;
    let reason = format!("the validating resolver found {name} not to be signed");
    let until = claimed.until.min(now.saturating_add(MAX_NEGATIVE_LIFE));
    Ok(Step::NotSigned { reason, claimed, until })
}
