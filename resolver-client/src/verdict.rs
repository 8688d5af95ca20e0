//! What a gateway acts on.

use std::sync::Arc;

use certdir_certificate::{Certificate, UnixTime};

use crate::outcome::{Failure, Match};
use crate::trace::Trace;

/// What is known about encrypting to an address.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Encrypt to `certificates[0]`.
    Use {
        /// Usable certificates, never empty: newest notBefore first, then latest notAfter, then SHA-256. The first
        /// is *the* certificate; a gateway whose policy says so encrypts to all of them.
        certificates: Vec<Arc<Certificate>>,
        /// Whose certificate it is.
        matched: Match,
        /// How it was found.
        trace: Box<Trace>,
    },
    /// There is no certificate, and no source failed to say so.
    None {
        /// True when DNSSEC proves it; false when a domain is not signed and so cannot be asked.
        proven: bool,
        /// How it was found.
        trace: Box<Trace>,
    },
    /// No usable certificate is known and at least one source failed: whether one exists is open. Try again after
    /// `trace.look_again`.
    Unknown {
        /// The first failure that stands in the way.
        failure: Failure,
        /// What was tried.
        trace: Box<Trace>,
    },
}

impl Verdict {
    /// How the verdict came about.
    pub fn trace(&self) -> &Trace {
        match self {
            Verdict::Use { trace, .. } | Verdict::None { trace, .. } | Verdict::Unknown { trace, .. } => trace,
        }
    }

    /// Stable code: `use`, `none` or `unknown`.
    pub fn code(&self) -> &'static str {
        match self {
            Verdict::Use { .. } => "use",
            Verdict::None { .. } => "none",
            Verdict::Unknown { .. } => "unknown",
        }
    }

    /// *The* certificate to encrypt to, when there is one.
    pub fn certificate(&self) -> Option<&Arc<Certificate>> {
        match self {
            Verdict::Use { certificates, .. } => certificates.first(),
            Verdict::None { .. } | Verdict::Unknown { .. } => None,
        }
    }

    /// The second from which asking again can give something new.
    pub fn look_again(&self) -> UnixTime {
        self.trace().look_again
    }
}
