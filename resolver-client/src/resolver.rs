//! The resolver: the cache, the sources and the judge in order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use certdir_certificate::UnixTime;
use certdir_zones::{Address, DomainName};
use futures_util::future::join_all;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::Instant;

use crate::appraise::{appraise, next_change};
use crate::builder::Builder;
use crate::cache::{Cache, Value};
use crate::judge::{Finding, Judgement, Ruling, Standing, domain_matters, harvest_matters, judge, recipient_matters};
use crate::outcome::{Failure, Outcome};
use crate::policy::Policy;
use crate::source::{Answer, Level, Source, Subject};
use crate::trace::{Asked, Question, Trace};
use crate::verdict::{Told, Verdict};

/// The time, in seconds since 1970. The crate reads no other clock.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// A failure is remembered this long, in seconds: "do not retry for some time" (RFC 8162 section 6; RFC 9520 section
/// 3.2 asks for at least one second and at most five minutes). Mail waits on it, so it is short.
pub const FAILURE_LIFE: UnixTime = 5;

/// From an address to a verdict. `Send + Sync`, and cheap to copy: copies share everything. Needs a tokio runtime.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
}

/// What the copies of a resolver share.
pub(crate) struct Inner {
    /// Sources by tier: those of one tier are asked at once, tier after tier.
    pub(crate) managed: Vec<Vec<Listed>>,
    /// Sources of harvested certificates, asked at once and last.
    pub(crate) harvested: Vec<Listed>,
    pub(crate) policy: Policy,
    pub(crate) clock: Clock,
    /// For one look-up, from the address to the verdict.
    pub(crate) deadline: Duration,
    pub(crate) verdicts: Cache<Address, Verdict>,
    /// What sources said about domains, by the source's number.
    pub(crate) domains: Cache<(usize, DomainName), Answer>,
}

/// A source in its place.
pub(crate) struct Listed {
    /// Unique in a resolver.
    pub(crate) number: usize,
    pub(crate) label: Arc<str>,
    pub(crate) source: Arc<dyn Source>,
}

impl Resolver {
    /// Begins a resolver. `clock` tells the time: signatures, certificates and the cache are judged by it.
    pub fn builder(clock: Clock) -> Builder {
        Builder::new(clock)
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Resolver { inner: Arc::new(inner) }
    }

    /// What is known about encrypting to `address`: the recipient's own certificate, else the domain's.
    ///
    /// The address is looked up as it is written: a sender maps nothing (RFC 8162 section 4). It never fails: what goes
    /// wrong is part of the verdict. It takes at most the builder's deadline.
    ///
    /// Cancellation-safe: when the future is dropped nothing is lost, and others who wait for the same address go on.
    pub async fn resolve(&self, address: &Address) -> Verdict {
        let now = (self.inner.clock)();
        let (verdict, _) = self.inner.verdicts.get_or(address, now, || self.inner.look_up(address, now)).await;
        verdict
    }

    /// What the cache knows, without asking anybody.
    pub fn cached(&self, address: &Address) -> Option<Verdict> {
        self.inner.verdicts.get(address, (self.inner.clock)())
    }

    /// Looks many addresses up, up to `at_once` at the same time. The verdicts come as they are ready.
    pub fn resolve_all<I>(&self, addresses: I, at_once: usize) -> impl Stream<Item = (Address, Verdict)>
    where
        I: IntoIterator<Item = Address>,
    {
        let look_ups = addresses.into_iter().map(|address| {
            let resolver = self.clone();
            async move {
                let verdict = resolver.resolve(&address).await;
                (address, verdict)
            }
        });
        stream::iter(look_ups).buffer_unordered(at_once.max(1))
    }

    /// Asks anew, whatever the cache holds, and keeps what is learned. A failure does not replace a verdict that may still be
    /// used.
    pub async fn refresh(&self, address: &Address) -> Verdict {
        let now = (self.inner.clock)();
        for listed in self.inner.managed.iter().flatten() {
            self.inner.domains.forget(&(listed.number, address.domain().clone()));
        }
        let ticket = self.inner.verdicts.ticket();
        let verdict = self.inner.look_up(address, now).await;
        if !matches!(verdict, Verdict::Unknown { .. }) || self.cached(address).is_none() {
            self.inner.verdicts.put(address, &verdict, ticket, now);
        }
        verdict
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("policy", &self.inner.policy).finish_non_exhaustive()
    }
}

impl Inner {
    async fn look_up(&self, address: &Address, now: UnixTime) -> Verdict {
        let deadline = Instant::now() + self.deadline;
        let mut asked = Vec::new();
        let mut findings = Vec::new();
        let recipient = Subject { address: address.clone(), level: Level::Recipient };
        for tier in &self.managed {
            self.ask(tier, &recipient, false, now, deadline, &mut asked, &mut findings).await;
            if !recipient_matters(&findings, &self.policy) {
                return self.conclude(address, now, asked, &findings);
            }
        }
        // The authority of a domain is its own domain-level subject.
        let domain = Subject { address: address.clone(), level: Level::Domain };
        for tier in &self.managed {
            if !address.is_domain_authority() && domain_matters(&findings, &self.policy) {
                self.ask(tier, &domain, false, now, deadline, &mut asked, &mut findings).await;
            }
        }
        if !self.harvested.is_empty() && harvest_matters(&findings, &self.policy) {
            self.ask(&self.harvested, &recipient, true, now, deadline, &mut asked, &mut findings).await;
        }
        self.conclude(address, now, asked, &findings)
    }

    /// Asks the sources of one tier at once.
    #[expect(clippy::too_many_arguments, reason = "one step of `look_up`, with what it works on")]
    async fn ask(
        &self,
        tier: &[Listed],
        subject: &Subject,
        harvested: bool,
        now: UnixTime,
        deadline: Instant,
        asked: &mut Vec<Asked>,
        findings: &mut Vec<Finding>,
    ) {
        let answers = join_all(tier.iter().map(|listed| self.answer(listed, subject, now, deadline))).await;
        for (listed, (answer, cached)) in tier.iter().zip(answers) {
            asked.push(Asked {
                level: subject.level,
                cached,
                until: answer.until,
                outcome: answer.outcome.code(),
                question: Arc::clone(&answer.question),
            });
            let standings = answer.outcome.candidates().iter().map(|c| appraise(c, now)).collect();
            let source = Arc::clone(&listed.label);
            findings.push(Finding { level: subject.level, source, harvested, answer, standings });
        }
    }

    async fn answer(&self, listed: &Listed, subject: &Subject, now: UnixTime, deadline: Instant) -> (Answer, bool) {
        let find = || async {
            match tokio::time::timeout_at(deadline, listed.source.find(subject, now)).await {
                Ok(answer) => answer,
                Err(_) => overdue(listed, subject, now),
            }
        };
        match subject.level {
            Level::Recipient => (find().await, false),
            Level::Domain => {
                let key = (listed.number, subject.address.domain().clone());
                self.domains.get_or(&key, now, find).await
            }
        }
    }

    fn conclude(&self, address: &Address, now: UnixTime, asked: Vec<Asked>, findings: &[Finding]) -> Verdict {
        let Judgement { ruling, reason, examined } = judge(findings, &self.policy);
        let look_again = findings.iter().map(|f| good_until(f, now)).min().unwrap_or(now);
        let trace = |verdict| {
            Told::whole(Trace {
                address: address.to_string(),
                asked_at: now,
                verdict,
                reason,
                questions: asked,
                candidates: examined,
                look_again,
            })
        };
        match ruling {
            Ruling::Use { certificates, matched } => {
                let certificates = certificates.iter().map(|c| (**c).clone()).collect();
                Verdict::Use { certificates, matched, told: trace("use") }
            }
            Ruling::None { proven } => Verdict::None { proven, told: trace("none") },
            Ruling::Unknown { failure } => Verdict::Unknown { failure, told: trace("unknown") },
        }
    }
}

/// When a finding has to be looked at again.
fn good_until(finding: &Finding, now: UnixTime) -> UnixTime {
    let changes = finding.answer.outcome.candidates().iter().filter_map(|c| next_change(c, now));
    let doubt = finding.standings.iter().any(|s| matches!(s, Standing::Doubtful(_)));
    let doubt = doubt.then(|| now.saturating_add(FAILURE_LIFE));
    changes.chain(doubt).fold(finding.answer.until, UnixTime::min)
}

/// A source that had not answered when the look-up had to end.
fn overdue(listed: &Listed, subject: &Subject, now: UnixTime) -> Answer {
    let failure = Failure::new("timeout", format!("{} did not answer in time", listed.label));
    let question = Question {
        source: Arc::clone(&listed.label),
        name: subject.mailbox().to_string(),
        kind: "deadline",
        dnssec: None,
        message: failure.message.clone(),
        asked_at: now,
        aliases: Vec::new(),
        exchanges: Vec::new(),
    };
    let until = now.saturating_add(FAILURE_LIFE);
    Answer { outcome: Outcome::Error(failure), until, question: Arc::new(question) }
}

/// What a verdict takes in the cache beside its certificates: keys, tables and what is left of its trace.
const VERDICT_OVERHEAD: usize = 400;

/// What an answer takes in the cache beside its certificates: key, records, question and the exchanges of its trace.
const ANSWER_OVERHEAD: usize = 1_024;

impl Value for Verdict {
    fn until(&self) -> UnixTime {
        self.look_again()
    }

    fn octets(&self) -> usize {
        VERDICT_OVERHEAD + self.certificates().iter().map(|c| c.der().len()).sum::<usize>()
    }

    fn kept(&self) -> Self {
        self.shortened()
    }
}

impl Value for Answer {
    fn until(&self) -> UnixTime {
        self.until
    }

    fn octets(&self) -> usize {
        let candidates = self.outcome.candidates().iter().filter_map(|c| c.readable());
        ANSWER_OVERHEAD + candidates.map(|c| c.der().len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_and_its_future_cross_threads() {
        fn crosses<T: Send + Sync>() {}
        fn sends<T: Send>(_: &T) {}
        crosses::<Resolver>();
        crosses::<Verdict>();
        let server = "127.0.0.1:9".parse().unwrap();
        let resolver = Resolver::builder(Arc::new(|| 0)).server(server).build().unwrap();
        let address = Address::parse("alice@example.org").unwrap();
        sends(&resolver.resolve(&address));
    }
}
