//! What a gateway acts on.

use std::sync::Arc;

use certdir_certificate::{Certificate, UnixTime};
use certdir_zones::Address;

use crate::outcome::{Failure, Match};
use crate::source::Level;
use crate::trace::{Asked, Dnssec, Examined, Question, Trace};

/// What is known about encrypting to an address. Copies are cheap: they share what they hold.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Encrypt to `certificates[0]`.
    Use {
        /// Usable certificates in the order of choice ([`Policy::choose`](crate::Policy::choose)), never empty. The first
        /// is *the* certificate; the others are there where the policy says to encrypt to all.
        certificates: Arc<[Certificate]>,
        /// Whose certificate it is.
        matched: Match,
        /// How it was found.
        told: Told,
    },
    /// There is no certificate, and no source failed to say so.
    None {
        /// True when DNSSEC proves it; false when a source does not serve the domain and so cannot be asked.
        proven: bool,
        /// How it was found.
        told: Told,
    },
    /// No usable certificate is known and at least one source failed: whether one exists is open. Try again after
    /// [`Verdict::look_again`].
    Unknown {
        /// The first failure that stands in the way.
        failure: Failure,
        /// What was tried.
        told: Told,
    },
}

impl Verdict {
    /// How the verdict came about. One that comes from the cache tells what was learned and when, without the messages
    /// that were exchanged then.
    pub fn trace(&self) -> Trace {
        match &*self.told().0 {
            Telling::Whole(trace) => trace.clone(),
            Telling::Short(short) => short.trace(self),
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

    /// Stable code of the reason, see `docs/resolver.md`.
    pub fn reason(&self) -> &'static str {
        match &*self.told().0 {
            Telling::Whole(trace) => trace.reason,
            Telling::Short(short) => short.reason,
        }
    }

    /// *The* certificate to encrypt to, when there is one.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificates().first()
    }

    /// The certificates to encrypt to, in the order of choice; none unless Use.
    pub fn certificates(&self) -> &[Certificate] {
        match self {
            Verdict::Use { certificates, .. } => certificates,
            Verdict::None { .. } | Verdict::Unknown { .. } => &[],
        }
    }

    /// The second from which asking again can give something new.
    pub fn look_again(&self) -> UnixTime {
        match &*self.told().0 {
            Telling::Whole(trace) => trace.look_again,
            Telling::Short(short) => short.look_again,
        }
    }

    /// True when this comes from the cache.
    pub fn cached(&self) -> bool {
        matches!(&*self.told().0, Telling::Short(_))
    }

    /// A look-up that could not even begin.
    pub(crate) fn not_run(address: &Address) -> Verdict {
        let failure = Failure::new("not-run", "the resolver has ended");
        let trace = Trace {
            address: address.to_string(),
            asked_at: 0,
            verdict: "unknown",
            reason: failure.code,
            questions: Vec::new(),
            candidates: Vec::new(),
            fetched: Vec::new(),
            look_again: 0,
        };
        Verdict::Unknown { failure, told: Told::whole(trace) }
    }

    /// When what it says was learned.
    pub(crate) fn learned_at(&self) -> UnixTime {
        match &*self.told().0 {
            Telling::Whole(trace) => trace.asked_at,
            Telling::Short(short) => short.asked_at,
        }
    }

    fn told(&self) -> &Told {
        match self {
            Verdict::Use { told, .. } | Verdict::None { told, .. } | Verdict::Unknown { told, .. } => told,
        }
    }

    /// The same, for the cache: of the trace only what is needed to say again what was learned.
    pub(crate) fn shortened(&self) -> Verdict {
        let trace = self.trace();
        let asked = trace.questions.iter().map(|a| ShortAsked {
            outcome: a.outcome,
            source: Arc::clone(&a.question.source),
            until: a.until,
            asked_at: a.question.asked_at,
            dnssec: a.question.dnssec,
            level: a.level,
        });
        let short = Short {
            address: trace.address.as_str().into(),
            reason: trace.reason,
            asked_at: trace.asked_at,
            look_again: trace.look_again,
            asked: asked.collect(),
        };
        let told = Told(Arc::new(Telling::Short(short)));
        match self.clone() {
            Verdict::Use { certificates, matched, .. } => {
                let certificates = certificates.iter().map(Certificate::lean).collect();
                Verdict::Use { certificates, matched, told }
            }
            Verdict::None { proven, .. } => Verdict::None { proven, told },
            Verdict::Unknown { failure, .. } => Verdict::Unknown { failure, told },
        }
    }
}

/// How a verdict came about; read it with [`Verdict::trace`].
#[derive(Clone, Debug)]
pub struct Told(Arc<Telling>);

impl Told {
    pub(crate) fn whole(trace: Trace) -> Told {
        Told(Arc::new(Telling::Whole(trace)))
    }
}

#[derive(Debug)]
enum Telling {
    Whole(Trace),
    Short(Short),
}

/// What a cached verdict remembers of its trace.
#[derive(Debug)]
struct Short {
    address: Box<str>,
    reason: &'static str,
    asked_at: UnixTime,
    look_again: UnixTime,
    asked: Box<[ShortAsked]>,
}

#[derive(Debug)]
struct ShortAsked {
    outcome: &'static str,
    source: Arc<str>,
    until: UnixTime,
    asked_at: UnixTime,
    dnssec: Option<Dnssec>,
    level: Level,
}

impl Short {
    fn trace(&self, verdict: &Verdict) -> Trace {
        let questions = self.asked.iter().map(|a| Asked {
            level: a.level,
            cached: true,
            until: a.until,
            outcome: a.outcome,
            question: Arc::new(Question {
                source: Arc::clone(&a.source),
                name: self.address.to_string(),
                kind: "cache",
                dnssec: a.dnssec,
                message: "learned before".to_owned(),
                asked_at: a.asked_at,
                aliases: Vec::new(),
                exchanges: Vec::new(),
            }),
        });
        let matched = match verdict {
            Verdict::Use { matched, .. } => *matched,
            Verdict::None { .. } | Verdict::Unknown { .. } => Match::Recipient,
        };
        let candidates = verdict
            .certificates()
            .iter()
            .enumerate()
            .map(|(place, certificate)| Examined { chosen: place == 0, ..Examined::of_cached(certificate, matched) });
        Trace {
            address: self.address.to_string(),
            asked_at: self.asked_at,
            verdict: verdict.code(),
            reason: self.reason,
            questions: questions.collect(),
            candidates: candidates.collect(),
            fetched: Vec::new(),
            look_again: self.look_again,
        }
    }
}
