//! Chains and revocation, with what has to be fetched for them.
//!
//! The certificate crate validates with what is at hand and says what it lacks. [`Chains`] fetches that and validates again,
//! within bounds: rounds, requests, octets, time. Revocation lists are read once for as long as they are current.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use certdir_certificate::{
    Anchors, Certificate, Crl, Evidence, Memory, OcspResponse, Pool, Refusal, Requirements, RevocationStatus,
    Standing as Status, UnixTime, Want, revocation_within, validate,
};
use tokio::time::{Instant, timeout_at};

use crate::cache::{Bounds, Cache, Value};
use crate::fetch::{Budget, Fetch, Fetched, What, is_own_bound};
use crate::judge::REVOKED;
use crate::outcome::Failure;
use crate::trace::Exchange;

/// Validations of one certificate, each with more fetched than the one before: a chain of issuers is fetched one by one.
const ROUNDS: usize = 8;

/// Validations of one certificate, those included that came after another candidate's fetches.
const MAX_VALIDATIONS: usize = 64;

/// Verified signatures that are remembered.
const SIGNATURES: usize = 65_536;

/// Revocation lists that are kept in read form, and their octets.
const LISTS: Bounds = Bounds { entries: 1_000, octets: 256 << 20 };

/// The longest that a list or an OCSP answer is kept without fetching it again, in seconds, whatever it says of itself.
const MAX_KEPT: UnixTime = 3_600;

/// The longest that revocation is believed not to have happened, in seconds.
const MAX_STATUS_LIFE: UnixTime = 86_400;

/// The same where it could not be established, in seconds: the server of the list may be back soon.
const MISSED_LIFE: UnixTime = 300;

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
        self.octets.len() + self.crl.memory()
    }
}

/// What belongs to the appraisal of one look-up's candidates.
pub(crate) struct Case {
    pub(crate) now: UnixTime,
    pub(crate) deadline: Instant,
    began: Instant,
    budget: Budget,
    noted: Mutex<Noted>,
    /// Who fetches: the candidates of a look-up take turns, so that each sees what the others' fetches brought.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Noted {
    pool: Pool,
    evidence: Evidence,
    /// What was fetched already, or failed to be.
    tried: Vec<Want>,
    /// How many fetches brought something.
    came: usize,
    failure: Option<Failure>,
    exchanges: Vec<Exchange>,
}

/// What is at hand for a validation.
struct AtHand {
    pool: Pool,
    evidence: Evidence,
    came: usize,
}

/// How an attempt to fetch ended.
#[derive(PartialEq, Eq)]
enum Fetching {
    Came,
    /// Another candidate's fetches brought something meanwhile.
    Waited,
    Nothing,
}

/// A list or an OCSP answer that may be kept once it has proven true.
struct Provisional {
    want: Want,
    uri: String,
    fetched: Fetched,
    until: UnixTime,
}

impl Case {
    pub(crate) fn new(now: UnixTime, deadline: Instant) -> Self {
        let began = Instant::now();
        Case {
            now,
            deadline,
            began,
            budget: Budget::default(),
            noted: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
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

    /// The time, as it has gone on since the look-up began: what is remembered from now on is remembered from now on.
    fn now_by_the_clock(&self) -> UnixTime {
        let elapsed = i64::try_from(self.began.elapsed().as_secs()).unwrap_or(i64::MAX);
        self.now.saturating_add(elapsed)
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
    /// Something could not be fetched, or not be established within the bounds.
    Doubtful(Failure),
}

impl Unchained {
    /// A refusal that says nothing of the certificate is a doubt: a bound was met, or what would decide cannot be known.
    pub(crate) fn of(refusal: Refusal) -> Unchained {
        match refusal.code {
            "too-much-work" | "revocation-unknown" | "no-clock" => {
                Unchained::Doubtful(Failure::new(refusal.code, refusal.sentence))
            }
            _ => Unchained::Refused(refusal),
        }
    }
}

/// What is known of the revocation of a certificate that needs no chain.
pub(crate) enum Known {
    Revoked(String),
    /// Not revoked as far as is known, until this second, exclusive.
    Not(UnixTime),
    /// It was not established because of a bound of our own.
    Unsure(Failure),
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
        self.validate_to(|_| Cow::Borrowed(&self.anchors), leaf, requirements, case).await
    }

    /// Until when, exclusive, there is a chain to the anchors that are chosen among what is at hand.
    pub(crate) async fn validate_to<'a>(
        &self,
        anchors: impl Fn(&Pool) -> Cow<'a, Anchors>,
        leaf: &Certificate,
        requirements: &Requirements,
        case: &Case,
    ) -> Result<UnixTime, Unchained> {
        let mut provisional = Vec::new();
        let mut rounds = 0;
        for _ in 0..MAX_VALIDATIONS {
            let at_hand = self.at_hand(case);
            let AtHand { pool, evidence, .. } = &at_hand;
            let result = validate(leaf, &anchors(pool), pool, evidence, requirements, &self.memory);
            let wants = match &result {
                Ok(path) => path.wants(),
                Err(refusal) => refusal.wants(),
            };
            if !wants.is_empty() && rounds < ROUNDS {
                match self.fetch_all(wants, case, at_hand.came, &mut provisional).await {
                    Fetching::Came => {
                        rounds += 1;
                        continue;
                    }
                    Fetching::Waited => continue,
                    Fetching::Nothing => {}
                }
            }
            return match result {
                Ok(path) => {
                    let mut until = path.holds_until().saturating_add(1);
                    match path.revocation() {
                        RevocationStatus::Good => {
                            self.keep(provisional);
                            until = until.min(case.now.saturating_add(MAX_STATUS_LIFE));
                        }
                        RevocationStatus::Undetermined => until = until.min(case.now.saturating_add(MISSED_LIFE)),
                        RevocationStatus::NotChecked => {}
                    }
                    Ok(until)
                }
                Err(refusal) if refusal.is_final() => {
                    if matches!(refusal.code, REVOKED | "issuer-revoked") {
                        self.keep(provisional);
                    }
                    Err(Unchained::of(refusal))
                }
                // What is lacking could not be had: it may be there another time.
                Err(refusal) => Err(Unchained::Doubtful(match (refusal.code, case.failure()) {
                    ("revocation-unknown", Some(failure)) => {
                        Failure::new("revocation-unknown", format!("{}: {failure}", refusal.sentence))
                    }
                    (REVOKED, _) | (_, None) => Failure::new("revocation-unknown", refusal.sentence),
                    (_, Some(failure)) => failure,
                })),
            };
        }
        Err(Unchained::Doubtful(Failure::new("too-much-work", "a chain needs too many certificates to be fetched")))
    }

    /// Whether a certificate that needs no chain is known to be revoked: the issuer that it points at must have signed it,
    /// and the issuer's list or OCSP answer is verified with the issuer's key. What cannot be fetched is not known.
    pub(crate) async fn revocation(&self, leaf: &Certificate, case: &Case) -> Known {
        if leaf.is_self_issued() {
            return Known::Not(UnixTime::MAX);
        }
        let mut provisional = Vec::new();
        let mut rounds = 0;
        for _ in 0..MAX_VALIDATIONS {
            let at_hand = self.at_hand(case);
            let known = revocation_within(leaf, &at_hand.pool, &at_hand.evidence, case.now, &self.memory);
            let wants = match known {
                Ok(Status::Revoked { since, reason }) => {
                    self.keep(provisional);
                    let since = certdir_certificate::Calendar::of(since);
                    return Known::Revoked(format!("revoked since {since} ({reason:?})"));
                }
                Ok(Status::Good { until }) => {
                    self.keep(provisional);
                    let longest = case.now.saturating_add(MAX_STATUS_LIFE);
                    return Known::Not(until.saturating_add(1).min(longest));
                }
                // Nothing says where it could be learned.
                Ok(Status::Unknown { wants }) if wants.is_empty() => return Known::Not(UnixTime::MAX),
                Ok(Status::Unknown { wants }) => wants,
                Err(exhausted) => return Known::Unsure(Failure::new(exhausted.code, exhausted.sentence)),
            };
            if rounds >= ROUNDS || Instant::now() >= case.deadline {
                break;
            }
            match self.fetch_all(&wants, case, at_hand.came, &mut provisional).await {
                Fetching::Came => rounds += 1,
                Fetching::Waited => {}
                Fetching::Nothing => break,
            }
        }
        match case.failure() {
            Some(failure) if is_own_bound(&failure) => Known::Unsure(failure),
            _ => Known::Not(case.now.saturating_add(MISSED_LIFE)),
        }
    }

    fn at_hand(&self, case: &Case) -> AtHand {
        let mut pool = self.intermediates.clone();
        case.with(|noted| {
            // A full pool is a bound, not a fault.
            let _ = pool.join(&noted.pool);
            AtHand { pool, evidence: noted.evidence.clone(), came: noted.came }
        })
    }

    /// Keeps what has proven true for longer than what nobody has looked at.
    fn keep(&self, provisional: Vec<Provisional>) {
        if let Some(fetch) = &self.fetch {
            for Provisional { want, uri, fetched, until } in provisional {
                fetch.verified(what(&want), &uri, &fetched, until);
            }
        }
    }

    /// Fetches what was not tried yet. `came` is what was at hand when it was found lacking.
    async fn fetch_all(
        &self,
        wants: &[Want],
        case: &Case,
        came: usize,
        provisional: &mut Vec<Provisional>,
    ) -> Fetching {
        let Some(fetch) = &self.fetch else {
            case.with(|noted| {
                noted.failure = Some(Failure::new("not-fetched", "nothing is fetched, as the settings say"));
            });
            return Fetching::Nothing;
        };
        let Ok(_turn) = timeout_at(case.deadline, case.turn.lock()).await else {
            return Fetching::Nothing;
        };
        let new: Vec<Want> = case.with(|noted| {
            let mut new = Vec::new();
            if noted.came == came {
                for want in wants {
                    if !noted.tried.contains(want) {
                        noted.tried.push(want.clone());
                        new.push(want.clone());
                    }
                }
            }
            new
        });
        if case.with(|noted| noted.came) != came {
            return Fetching::Waited;
        }
        let fetched = futures_util::future::join_all(new.iter().map(|want| self.fetch_one(fetch, want, case))).await;
        let mut fetching = Fetching::Nothing;
        for (want, taken) in new.into_iter().zip(fetched) {
            if let Some(kept) = taken {
                fetching = Fetching::Came;
                if let Some((uri, fetched, until)) = kept {
                    provisional.push(Provisional { want, uri, fetched, until });
                }
            }
        }
        fetching
    }

    /// One fetch: whether something came, and, if it may be kept when it has proven true, from where and until when.
    async fn fetch_one(&self, fetch: &Fetch, want: &Want, case: &Case) -> Option<Option<(String, Fetched, UnixTime)>> {
        let uris = match want {
            Want::Issuer { uri } | Want::Ocsp { uri, .. } => std::slice::from_ref(uri),
            Want::Crl { uris } => uris.as_slice(),
        };
        for uri in uris {
            let got = match timeout_at(case.deadline, fetch.get(what(want), uri, &case.budget, case.now_by_the_clock()))
                .await
            {
                Ok(got) => got,
                Err(_) => Err(Failure::new("timeout", format!("{uri} did not answer in time"))),
            };
            let taken = got.and_then(|fetched| {
                case.with(|noted| noted.exchanges.push((*fetched.exchange).clone()));
                let taken = self.take(want, uri, &fetched, case);
                if taken.is_err() {
                    fetch.forget(what(want), uri);
                }
                taken.map(|until| until.map(|until| (uri.clone(), fetched, until)))
            });
            match taken {
                Ok(kept) => {
                    case.with(|noted| noted.came += 1);
                    return Some(kept);
                }
                // What was a bound of our own must not be forgotten over what others failed at.
                Err(failure) => case.with(|noted| {
                    if !noted.failure.as_ref().is_some_and(is_own_bound) {
                        noted.failure = Some(failure);
                    }
                }),
            }
        }
        None
    }

    /// Reads what came; gives until when it may be kept once it has proven true.
    fn take(&self, want: &Want, uri: &str, fetched: &Fetched, case: &Case) -> Result<Option<UnixTime>, Failure> {
        let malformed = |problem: String| Failure::new("malformed", format!("{uri}: {problem}"));
        let longest = case.now.saturating_add(MAX_KEPT);
        let until = |next: Option<UnixTime>| Some(next.map_or(longest, |next| next.min(longest)));
        match want {
            Want::Issuer { .. } => case.with(|noted| match noted.pool.read(&fetched.octets) {
                Ok(_) => Ok(Some(longest)),
                Err(unfit) => Err(malformed(unfit.to_string())),
            }),
            Want::Crl { .. } => {
                let crl = self.list(uri, &fetched.octets, case.now).map_err(malformed)?;
                let until = until(crl.next_update());
                case.with(|noted| noted.evidence.add_crl(crl));
                Ok(until)
            }
            Want::Ocsp { .. } => {
                let response = OcspResponse::read(&fetched.octets).map_err(|e| malformed(e.to_string()))?;
                let until = response.next_update().and_then(|next| until(Some(next)));
                case.with(|noted| noted.evidence.add_ocsp(Arc::new(response)));
                Ok(until)
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

fn what(want: &Want) -> What<'_> {
    match want {
        Want::Issuer { .. } => What::Issuer,
        Want::Crl { .. } => What::Crl,
        Want::Ocsp { request, .. } => What::Ocsp(request),
    }
}
