//! The resolver: the cache, the sources and the judge in order.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use certdir_certificate::{Certificate, UnixTime};
use certdir_zones::{Address, DomainName};
use futures_util::future::join_all;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::Instant;

use crate::appraise::{Appraiser, Confirming, Trust};
use crate::builder::Builder;
use crate::cache::{Cache, Value};
use crate::chain::Case;
use crate::counters::{Counters, Counts, add};
use crate::dns::Dns;
use crate::error::Error;
use crate::judge::{
    Finding, Judgement, REVOKED, Ruling, Standing, domain_matters, harvest_matters, judge, recipient_matters,
};
use crate::outcome::{Candidate, Claim, Failure, Outcome};
use crate::policy::Policy;
use crate::source::{Answer, Level, Source, Subject};
use crate::trace::{Asked, Question, Trace};
use crate::verdict::{Told, Verdict};
use crate::watch::settings::Watching;
use crate::watch::{Rollovers, Upstream, Watch, WatchCounters};

/// The time, in seconds since 1970. The crate reads no other clock.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// A failure is remembered this long, in seconds: "do not retry for some time" (RFC 8162 section 6; RFC 9520 section
/// 3.2 asks for at least one second and at most five minutes). Mail waits on it, so it is short.
pub const FAILURE_LIFE: UnixTime = 5;

/// From an address to a verdict. `Send + Sync`, and cheap to copy: copies share everything. Needs a tokio runtime.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
    watch: Arc<Watch>,
}

/// What the copies of a resolver share.
pub(crate) struct Inner {
    /// For questions about servers, not about people.
    pub(crate) dns: Arc<Dns>,
    /// Sources by tier: those of one tier are asked at once, tier after tier.
    pub(crate) managed: Vec<Vec<Listed>>,
    /// Sources of harvested certificates, asked at once and last.
    pub(crate) harvested: Vec<Listed>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) appraiser: Appraiser,
    pub(crate) clock: Clock,
    /// For one look-up, from the address to the verdict.
    pub(crate) deadline: Duration,
    pub(crate) verdicts: Cache<Address, Verdict>,
    /// What sources said about domains, by the source's number.
    pub(crate) domains: Cache<(usize, DomainName), Answer>,
    pub(crate) counters: Counters,
    /// What is being asked anew ahead of its end.
    pub(crate) ahead: Mutex<HashSet<Address>>,
}

/// A source in its place.
pub(crate) struct Listed {
    /// Unique in a resolver.
    pub(crate) number: usize,
    pub(crate) label: Arc<str>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) trust: Trust,
}

/// What one look-up has learned.
struct LookUp {
    case: Case,
    asked: Vec<Asked>,
    findings: Vec<Finding>,
}

/// Candidates of one answer that are appraised; a directory that gives more is not asked to choose well.
pub(crate) const MAX_CANDIDATES: usize = 64;

impl Resolver {
    /// Begins a resolver. `clock` tells the time: signatures, certificates and the cache are judged by it.
    pub fn builder(clock: Clock) -> Builder {
        Builder::new(clock)
    }

    pub(crate) fn new(inner: Inner, watching: Watching) -> Self {
        Resolver { inner: Arc::new(inner), watch: Arc::new(Watch::new(watching)) }
    }

    /// What is known about encrypting to `address`: the recipient's own certificate, else the domain's.
    ///
    /// The address is looked up as it is written: a sender maps nothing (RFC 8162 section 4). It never fails: what goes
    /// wrong is part of the verdict. It takes at most the builder's deadline.
    ///
    /// Cancellation-safe: when the future is dropped nothing is lost, and others who wait for the same address go on.
    pub async fn resolve(&self, address: &Address) -> Verdict {
        let now = (self.inner.clock)();
        if self.watch.is_to_begin() {
            let inner: Arc<dyn Upstream> = Arc::<Inner>::clone(&self.inner);
            // Whoever polls this outside a runtime gets verdicts all the same, for as long as they last.
            let _ = self.watch.begin(Arc::downgrade(&inner));
        }
        let (verdict, cached) = self.inner.verdicts.get_or(address, now, || self.inner.look_up(address, now)).await;
        if cached && ends_soon(&verdict, now) {
            self.refresh_ahead(address);
        }
        verdict
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.inner.counters.counts(self.inner.verdicts.hits(), self.inner.verdicts.size())
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
        self.inner.forget_domain(address.domain());
        self.inner.refresh(address).await
    }

    /// The verdict about `address`, and from then on each that differs, noticed as
    /// [`Builder::watching`](crate::Builder::watching) says; dropping the stream ends it. What is noticed is also what
    /// [`Resolver::resolve`] says from then on. Many streams for one address cost one subscription.
    ///
    /// # Errors
    /// When as many addresses are watched as may be, and outside a tokio runtime.
    pub fn watch(&self, address: &Address) -> Result<Rollovers, Error> {
        let inner: Arc<dyn Upstream> = Arc::<Inner>::clone(&self.inner);
        self.watch.watch(address, Arc::downgrade(&inner))
    }

    /// What is watched, how, and what came of it.
    pub fn watch_counters(&self) -> WatchCounters {
        self.watch.counters()
    }
}

impl Resolver {
    /// Asks anew in the background, once at a time for an address.
    fn refresh_ahead(&self, address: &Address) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let mut ahead = self.inner.ahead();
        if ahead.len() >= MAX_AHEAD || !ahead.insert(address.clone()) {
            return;
        }
        drop(ahead);
        add(&self.inner.counters.refreshes);
        let (resolver, address) = (self.clone(), address.clone());
        runtime.spawn(async move {
            resolver.refresh(&address).await;
            resolver.inner.ahead().remove(&address);
        });
    }
}

/// Addresses that are asked anew ahead of their end at the same time.
const MAX_AHEAD: usize = 256;

/// What lives less long than this, in seconds, is not worth asking ahead.
const SHORT_LIFE: UnixTime = 20;

/// Whether a verdict that is in use ends so soon that it is time to ask anew: in the last tenth of its life.
fn ends_soon(verdict: &Verdict, now: UnixTime) -> bool {
    let end = verdict.look_again();
    let life = end.saturating_sub(verdict.learned_at());
    life >= SHORT_LIFE && now >= end.saturating_sub(life / 10)
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("policy", &self.inner.policy).finish_non_exhaustive()
    }
}

impl Inner {
    /// Asks anew, but for what is known about the domain.
    pub(crate) async fn refresh(&self, address: &Address) -> Verdict {
        let now = (self.clock)();
        let ticket = self.verdicts.ticket();
        let verdict = self.look_up(address, now).await;
        if !matches!(verdict, Verdict::Unknown { .. }) || self.verdicts.get(address, now).is_none() {
            self.verdicts.put(address, &verdict, ticket, now);
        }
        verdict
    }

    /// What is known about a domain is asked for anew.
    pub(crate) fn forget_domain(&self, domain: &DomainName) {
        for listed in self.managed.iter().flatten() {
            self.domains.forget(&(listed.number, domain.clone()));
        }
    }

    /// The present verdict.
    pub(crate) async fn resolve(&self, address: &Address) -> Verdict {
        let now = (self.clock)();
        self.verdicts.get_or(address, now, || self.look_up(address, now)).await.0
    }

    fn ahead(&self) -> MutexGuard<'_, HashSet<Address>> {
        // A set is consistent whatever panicked.
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_up(&self, address: &Address, now: UnixTime) -> Verdict {
        let case = Case::new(now, Instant::now() + self.deadline);
        let mut look_up = LookUp { case, asked: Vec::new(), findings: Vec::new() };
        let recipient = Subject { address: address.clone(), level: Level::Recipient };
        for tier in &self.managed {
            self.ask(tier, &recipient, false, &mut look_up).await;
            if !recipient_matters(&look_up.findings, &self.policy) {
                return self.conclude(address, look_up);
            }
        }
        // The authority of a domain is its own domain-level subject.
        let domain = Subject { address: address.clone(), level: Level::Domain };
        for tier in &self.managed {
            if !address.is_domain_authority() && domain_matters(&look_up.findings, &self.policy) {
                self.ask(tier, &domain, false, &mut look_up).await;
            }
        }
        if !self.harvested.is_empty() && harvest_matters(&look_up.findings, &self.policy) {
            self.ask(&self.harvested, &recipient, true, &mut look_up).await;
        }
        self.conclude(address, look_up)
    }

    /// Asks the sources of one tier at once, and appraises what they found.
    async fn ask(&self, tier: &[Listed], subject: &Subject, harvested: bool, look_up: &mut LookUp) {
        let level = subject.level;
        let answers = tier.iter().map(|listed| self.answer(listed, subject, &look_up.case));
        let answers = join_all(answers).await;
        let known = Confirming::among(&look_up.findings, level).len();
        let mut first = look_up.findings.len();
        for (listed, (answer, cached)) in tier.iter().zip(answers) {
            look_up.asked.push(Asked {
                level,
                cached,
                until: answer.until,
                outcome: answer.outcome.code(),
                question: Arc::clone(&answer.question),
            });
            look_up.case.offer(answer.outcome.candidates().iter().filter_map(Candidate::readable));
            let source = Arc::clone(&listed.label);
            let until = answer.until;
            let trust = listed.trust;
            look_up.findings.push(Finding { level, source, harvested, trust, answer, standings: Vec::new(), until });
        }
        let confirming = Confirming::among(&look_up.findings, level);
        if confirming.len() > known {
            // What was found before may be confirmed now.
            first = 0;
        }
        let mut appraised = Vec::new();
        for finding in look_up.findings.iter().skip(first).filter(|f| f.level == level) {
            let candidates = finding.answer.outcome.candidates().iter().take(MAX_CANDIDATES);
            let each =
                candidates.map(|c| self.appraiser.appraise(c, finding.trust, subject, &confirming, &look_up.case));
            appraised.push(join_all(each).await);
        }
        drop(confirming);
        // A doubt is remembered from when it ended.
        let doubt = (self.clock)().saturating_add(FAILURE_LIFE);
        let findings = look_up.findings.iter_mut().skip(first).filter(|f| f.level == level);
        for (finding, appraised) in findings.zip(appraised) {
            finding.until = appraised.iter().fold(finding.answer.until, |until, a| {
                let doubtful = matches!(a.standing, Standing::Doubtful(_));
                until.min(a.until).min(if doubtful { doubt } else { UnixTime::MAX })
            });
            finding.standings = appraised.into_iter().map(|a| a.standing).collect();
            let all = finding.answer.outcome.candidates().len();
            if finding.standings.len() < all {
                let message = format!("only the first {MAX_CANDIDATES} of {all} are looked at");
                finding.standings.resize(all, Standing::Doubtful(Failure::new("too-many", message)));
            }
        }
    }

    async fn answer(&self, listed: &Listed, subject: &Subject, case: &Case) -> (Answer, bool) {
        let now = case.now;
        let find = || async {
            match tokio::time::timeout_at(case.deadline, listed.source.find(subject, now)).await {
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

    /// A certificate that is known to be revoked is used for no other address either, whoever found out first.
    fn heed_revocations(&self, findings: &mut [Finding], now: UnixTime) {
        let revoked: Vec<_> = findings.iter().flat_map(Finding::revoked).cloned().collect();
        let new = revoked.iter().filter(|c| self.appraiser.learn_revoked(c, now)).count();
        if new > 0 {
            add(&self.counters.revocations);
            let known = |c: &Certificate| revoked.iter().any(|r| r.sha256() == c.sha256());
            self.verdicts.retain(|_, verdict| !verdict.certificates().iter().any(known));
        }
        for finding in findings {
            let candidates = finding.answer.outcome.candidates().iter();
            for (candidate, standing) in candidates.zip(&mut finding.standings) {
                if *standing == Standing::Usable
                    && candidate.readable().is_some_and(|c| self.appraiser.is_revoked(c, now))
                {
                    *standing = Standing::Refused { code: REVOKED, message: Some("found revoked before".to_owned()) };
                }
            }
        }
    }

    fn conclude(&self, address: &Address, look_up: LookUp) -> Verdict {
        let LookUp { case, asked, mut findings } = look_up;
        let now = case.now;
        self.heed_revocations(&mut findings, now);
        let Judgement { ruling, reason, examined } = judge(&findings, &self.policy);
        // A failure is remembered from when it came, which may be long after the look-up began.
        let failed = (self.clock)().saturating_add(FAILURE_LIFE);
        let look_again = findings.iter().map(|f| match f.answer.outcome {
            Outcome::Error(_) => f.until.max(failed),
            _ => f.until,
        });
        let look_again = look_again.min().unwrap_or(now);
        let trace = |verdict| {
            Told::whole(Trace {
                address: address.to_string(),
                asked_at: now,
                verdict,
                reason,
                questions: asked,
                candidates: examined,
                fetched: case.exchanges(),
                look_again,
            })
        };
        let verdict = match ruling {
            Ruling::Use { certificates, matched } => {
                let certificates = certificates.iter().map(|c| (**c).clone()).collect();
                Verdict::Use { certificates, matched, told: trace("use") }
            }
            Ruling::None { proven } => Verdict::None { proven, told: trace("none") },
            Ruling::Unknown { failure } => Verdict::Unknown { failure, told: trace("unknown") },
        };
        self.counters.concluded(&verdict);
        verdict
    }
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

/// What a verdict takes in the cache beside the DER of its certificates: keys, tables, what is left of its trace, and what a
/// gateway may have read of a certificate.
const VERDICT_OVERHEAD: usize = 1_200;

/// What an answer takes in the cache beside its records and the exchanges of its trace.
const ANSWER_OVERHEAD: usize = 1_024;

/// What a candidate takes beside its octets, with what was read of them.
const CANDIDATE_OVERHEAD: usize = 1_024;

/// About what one exchange takes.
const EXCHANGE_OCTETS: usize = 200;

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
        let candidates = self.outcome.candidates().iter().map(|c| {
            let data = match &c.claim {
                Claim::Association(association) => association.data.len(),
                _ => 0,
            };
            CANDIDATE_OVERHEAD + data.max(c.readable().map_or(0, |c| c.der().len()))
        });
        let exchanges = self.question.exchanges.len() * EXCHANGE_OCTETS;
        ANSWER_OVERHEAD + exchanges + candidates.sum::<usize>()
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
