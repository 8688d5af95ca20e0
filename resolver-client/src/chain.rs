//! Chains and revocation, with what has to be fetched for them.
//!
//! The certificate crate validates with what is at hand and says what it lacks. [`Chains`] fetches that and validates again,
//! within bounds: rounds, requests, octets, time. Revocation lists are read once for as long as they are current.

use std::sync::{Arc, Mutex, PoisonError};

use certdir_certificate::{
    Anchors, Certificate, Crl, Evidence, Memory, OcspResponse, Pool, Refusal, Requirements, Standing as Status,
    UnixTime, Want, issuer_wants, revocation_of, validate,
};
use tokio::time::{Instant, timeout_at};

use crate::cache::{Bounds, Cache, Value};
use crate::fetch::{Budget, Fetch, Fetched, What};
use crate::outcome::Failure;
use crate::trace::Exchange;

/// Validations of one certificate, each with more at hand than the one before: a chain of issuers is fetched one by one.
const ROUNDS: usize = 8;

/// Verified signatures that are remembered.
const SIGNATURES: usize = 65_536;

/// Revocation lists that are kept in read form, and their octets.
const LISTS: Bounds = Bounds { entries: 1_000, octets: 256 << 20 };

/// The longest that a list or an OCSP answer is used without fetching it again, in seconds, whatever it says of itself.
const MAX_STATUS_LIFE: UnixTime = 86_400;

/// Validates, and fetches what is lacking.
pub(crate) struct Chains {
    anchors: Anchors,
    intermediates: Pool,
    fetch: Option<Fetch>,
    memory: Memory,
    lists: Cache<String, List>,
}

/// A revocation list in read form.
#[derive(Clone)]
struct List {
    octets: Arc<[u8]>,
    crl: Arc<Crl>,
}

impl Value for List {
    fn until(&self) -> UnixTime {
        // It is compared with what is fetched before it is used.
        UnixTime::MAX
    }

    fn octets(&self) -> usize {
        self.crl.memory()
    }
}

/// What belongs to the appraisal of one look-up's candidates.
pub(crate) struct Case {
    pub(crate) now: UnixTime,
    pub(crate) deadline: Instant,
    budget: Budget,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    pool: Pool,
    evidence: Evidence,
    /// What was fetched already, or failed to be.
    tried: Vec<Want>,
    failure: Option<Failure>,
    exchanges: Vec<Exchange>,
}

impl Case {
    pub(crate) fn new(now: UnixTime, deadline: Instant) -> Self {
        Case { now, deadline, budget: Budget::default(), noted: Mutex::default() }
    }

    /// Offers certificates for the building of chains.
    pub(crate) fn offer<'a>(&self, certificates: impl Iterator<Item = &'a Arc<Certificate>>) {
        self.with(|noted| {
            for certificate in certificates.filter(|c| c.is_ca()) {
                // A full pool is a bound, not a fault.
                let _ = noted.pool.add(certificate);
            }
        });
    }

    /// Every fetch so far.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.with(|noted| noted.exchanges.clone())
    }

    fn failure(&self) -> Option<Failure> {
        self.with(|noted| noted.failure.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Noted) -> T) -> T {
        // Collections are consistent whatever panicked.
        f(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why there is no chain.
pub(crate) enum Unchained {
    /// It is so, whatever is fetched.
    Refused(Refusal),
    /// Something could not be fetched.
    Doubtful(Failure),
}

/// What is known of the revocation of a certificate that needs no chain.
pub(crate) enum Known {
    Revoked(String),
    /// Not revoked as far as is known, until this second, exclusive.
    Not(UnixTime),
}

impl Chains {
    pub(crate) fn new(anchors: Anchors, intermediates: Pool, fetch: Option<Fetch>) -> Self {
        Chains { anchors, intermediates, fetch, memory: Memory::new(SIGNATURES), lists: Cache::new(LISTS) }
    }

    /// Until when, exclusive, there is a chain to the gateway's own anchors.
    pub(crate) async fn validate(
        &self,
        leaf: &Certificate,
        requirements: &Requirements,
        case: &Case,
    ) -> Result<UnixTime, Unchained> {
        self.validate_to(|_| self.anchors.clone(), leaf, requirements, case).await
    }

    /// Until when, exclusive, there is a chain to the anchors that are chosen among what is at hand.
    pub(crate) async fn validate_to(
        &self,
        anchors: impl Fn(&Pool) -> Anchors,
        leaf: &Certificate,
        requirements: &Requirements,
        case: &Case,
    ) -> Result<UnixTime, Unchained> {
        for round in 0..ROUNDS {
            let pool = self.pool(case);
            let evidence = case.with(|noted| noted.evidence.clone());
            let result = validate(leaf, &anchors(&pool), &pool, &evidence, requirements, &self.memory);
            let wants = match &result {
                Ok(path) => path.wants(),
                Err(refusal) => refusal.wants(),
            };
            let fetched = !wants.is_empty() && round + 1 < ROUNDS && self.fetch_all(wants, case).await;
            if fetched {
                continue;
            }
            let refusal = match result {
                Ok(path) => return Ok(path.holds_until().saturating_add(1)),
                Err(refusal) => refusal,
            };
            if refusal.is_final() {
                return Err(Unchained::Refused(refusal));
            }
            // What is lacking could not be had: it may be there another time.
            return Err(Unchained::Doubtful(match (refusal.code, case.failure()) {
                ("revocation-unknown", failure) => {
                    let why = failure.map_or_else(String::new, |f| format!(": {f}"));
                    Failure::new("revocation-unknown", format!("{}{why}", refusal.sentence))
                }
                (_, Some(failure)) => failure,
                (code, None) => Failure::new(code, refusal.sentence),
            }));
        }
        Err(Unchained::Doubtful(Failure::new("too-much-work", "a chain needs too many certificates to be fetched")))
    }

    /// Whether a certificate that needs no chain is known to be revoked: the issuer that it points at must have signed it,
    /// and the issuer's list or OCSP answer is verified with the issuer's key. What cannot be fetched is not known.
    pub(crate) async fn revocation(&self, leaf: &Certificate, case: &Case) -> Known {
        if leaf.is_self_issued() {
            return Known::Not(UnixTime::MAX);
        }
        let mut until = UnixTime::MAX;
        let mut asked_for_issuer = false;
        for _ in 0..ROUNDS {
            let pool = self.pool(case);
            let evidence = case.with(|noted| noted.evidence.clone());
            let mut wants = Vec::new();
            let mut signed = false;
            for issuer in pool.certificates().filter(|c| c.subject_der() == leaf.issuer_der()) {
                match revocation_of(leaf, issuer, &evidence, case.now, &self.memory) {
                    Status::Revoked { since, reason } => {
                        let since = certdir_certificate::Calendar::of(since);
                        return Known::Revoked(format!("revoked since {since} ({reason:?})"));
                    }
                    Status::Good { until: good } => {
                        signed = true;
                        until = until.min(good.saturating_add(1));
                    }
                    Status::Unknown { wants: more } => {
                        signed |= !more.is_empty();
                        wants.extend(more);
                    }
                }
            }
            if !signed && !asked_for_issuer {
                asked_for_issuer = true;
                wants = issuer_wants(leaf);
            }
            if wants.is_empty() || !self.fetch_all(&wants, case).await {
                break;
            }
        }
        Known::Not(until)
    }

    fn pool(&self, case: &Case) -> Pool {
        let mut pool = case.with(|noted| noted.pool.clone());
        for certificate in self.intermediates.certificates() {
            let _ = pool.add(certificate);
        }
        pool
    }

    /// Fetches what was not tried yet; true when something came.
    async fn fetch_all(&self, wants: &[Want], case: &Case) -> bool {
        let Some(fetch) = &self.fetch else {
            case.with(|noted| {
                noted.failure = Some(Failure::new("not-fetched", "nothing is fetched, as the settings say"));
            });
            return false;
        };
        let new: Vec<&Want> = case.with(|noted| {
            let new: Vec<_> = wants.iter().filter(|want| !noted.tried.contains(want)).collect();
            noted.tried.extend(new.iter().map(|want| (*want).clone()));
            new
        });
        let results = futures_util::future::join_all(new.into_iter().map(|want| self.fetch_one(fetch, want, case)));
        results.await.contains(&true)
    }

    async fn fetch_one(&self, fetch: &Fetch, want: &Want, case: &Case) -> bool {
        let (what, uris) = match want {
            Want::Issuer { uri } => (What::Issuer, std::slice::from_ref(uri)),
            Want::Crl { uris } => (What::Crl, uris.as_slice()),
            Want::Ocsp { uri, request } => (What::Ocsp(request), std::slice::from_ref(uri)),
        };
        for uri in uris {
            let got = match timeout_at(case.deadline, fetch.get(what, uri, &case.budget, case.now)).await {
                Ok(got) => got,
                Err(_) => Err(Failure::new("timeout", format!("{uri} did not answer in time"))),
            };
            let taken = got.and_then(|fetched| {
                case.with(|noted| noted.exchanges.push((*fetched.exchange).clone()));
                self.take(what, uri, &fetched, fetch, case)
            });
            match taken {
                Ok(()) => return true,
                Err(failure) => case.with(|noted| noted.failure = Some(failure)),
            }
        }
        false
    }

    /// Reads what came.
    fn take(&self, what: What<'_>, uri: &str, fetched: &Fetched, fetch: &Fetch, case: &Case) -> Result<(), Failure> {
        let malformed = |problem: String| Failure::new("malformed", format!("{uri}: {problem}"));
        let longest = case.now.saturating_add(MAX_STATUS_LIFE);
        match what {
            What::Issuer => case.with(|noted| match noted.pool.read(&fetched.octets) {
                Ok(_) => Ok(()),
                Err(unfit) => Err(malformed(unfit.to_string())),
            }),
            What::Crl => {
                let crl = self.list(uri, &fetched.octets, case.now).map_err(malformed)?;
                fetch.keep_until(what, uri, crl.next_update().map_or(longest, |t| t.min(longest)));
                case.with(|noted| noted.evidence.add_crl(crl));
                Ok(())
            }
            What::Ocsp(_) => {
                let response = OcspResponse::read(&fetched.octets).map_err(|e| malformed(e.to_string()))?;
                fetch.keep_until(what, uri, response.next_update().map_or(case.now, |t| t.min(longest)));
                case.with(|noted| noted.evidence.add_ocsp(Arc::new(response)));
                Ok(())
            }
        }
    }

    fn list(&self, uri: &str, octets: &Arc<[u8]>, now: UnixTime) -> Result<Arc<Crl>, String> {
        let key = uri.to_owned();
        if let Some(list) = self.lists.get(&key, now).filter(|list| Arc::ptr_eq(&list.octets, octets)) {
            return Ok(list.crl);
        }
        let ticket = self.lists.ticket();
        let crl = Arc::new(Crl::read(octets).map_err(|e| e.to_string())?);
        self.lists.put(&key, &List { octets: Arc::clone(octets), crl: Arc::clone(&crl) }, ticket, now);
        Ok(crl)
    }
}
