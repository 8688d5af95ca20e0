//! What becomes of what was found: whether each candidate may be encrypted to.
//!
//! What vouches for a candidate decides what is asked of it:
//!
//! | claim | dates, purpose | names | chain | revocation |
//! |---|---|---|---|---|
//! | SMIMEA usage 3, found elsewhere and confirmed by one, or the operator's | yes | no | no | where it can be known |
//! | SMIMEA usage 2: the record names the authority | yes | yes | to that authority | as the policy says |
//! | SMIMEA usage 1 | yes | yes | to the gateway's anchors | as the policy says |
//! | SMIMEA usage 0 | yes | yes | to the gateway's anchors, through that authority | as the policy says |
//! | CERT, Secure | yes | yes | no | where it can be known |
//! | nothing | yes | yes | to the gateway's anchors | as the policy says |
//!
//! A source that is trusted with [`Trust::Chain`] only needs a chain to the gateway's anchors beside all of that.

use std::borrow::Cow;
use std::sync::Arc;

use certdir_certificate::{
    Anchors, Association as Reference, Certificate, Named, Pool, Requirements, RevocationMode, UnixTime, fits,
};

use crate::cache::{Bounds, Cache, Value};
use crate::chain::{Case, Chains, Known, Unchained};
use crate::judge::{Finding, REVOKED, Standing};
use crate::outcome::{Association, Candidate, Claim, Failure, Match, TOO_LARGE};
use crate::policy::{Policy, Revocation};
use crate::source::{Level, Subject};

/// How far a source is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// As far as DNSSEC says or the operator put it there. What nothing vouches for needs a chain all the same; DNS
    /// that is not Secure is not looked at (RFC 8162 section 6).
    Vouched,
    /// Like [`Trust::Vouched`], and DNS that is not Secure is looked at and needs a chain.
    VouchedOrChain,
    /// Whatever vouches for it, a chain to the gateway's own anchors is needed too. DNS that is not Secure is looked at.
    Chain,
}

/// What became of one candidate, and for how long.
pub(crate) struct Appraised {
    pub(crate) standing: Standing,
    /// Exclusive.
    pub(crate) until: UnixTime,
}

/// SMIMEA records that say which certificates from elsewhere are good: hashes and authorities at the subject's name.
#[derive(Default)]
pub(crate) struct Confirming<'a> {
    /// With the trust in the source that each came from.
    associations: Vec<(&'a Association, Trust)>,
    /// True when none of the records delivers a certificate of its own, so that what is found elsewhere must fit one.
    binding: bool,
}

impl<'a> Confirming<'a> {
    /// The confirming records among what was found for a level.
    pub(crate) fn among(findings: &'a [Finding], level: Level) -> Self {
        let at_level = findings.iter().filter(|f| f.level == level);
        let candidates = at_level.flat_map(|f| f.answer.outcome.candidates().iter().map(|c| (c, f.trust)));
        let associations: Vec<_> = candidates
            .filter_map(|(c, trust)| match &c.claim {
                // The wildcard's records are about certificates of the domain.
                Claim::Association(a) if c.matched != Match::Wildcard => Some((a, c, trust)),
                _ => None,
            })
            .collect();
        let delivers = |a: &Association, c: &Candidate| {
            matches!(a.usage, 1 | 3) && c.readable().is_some_and(|certificate| !certificate.is_ca())
        };
        let binding = !associations.is_empty() && !associations.iter().any(|(a, c, _)| delivers(a, c));
        Confirming { associations: associations.into_iter().map(|(a, _, trust)| (a, trust)).collect(), binding }
    }

    pub(crate) fn len(&self) -> usize {
        self.associations.len()
    }
}

/// Confirming records of one name that are compared; more are a fault.
const MAX_ASSOCIATIONS: usize = 32;

/// One way to trust a certificate.
enum Demand<'a> {
    /// It is vouched for; where the binding to the name is not part of that, it must name the subject.
    Vouched { named: bool },
    /// A chain to the gateway's anchors, through one of these authorities if there are any.
    Chain(Vec<&'a Association>),
    /// A chain to one of these authorities.
    To(Vec<&'a Association>),
}

pub(crate) struct Appraiser {
    chains: Chains,
    policy: Arc<Policy>,
    /// Certificates that are known to be revoked, by SHA-256.
    revoked: Cache<[u8; 32], Revoked>,
}

/// How long a revocation is remembered, exclusive. It is forgotten in time since a hold may be lifted (RFC 5280 section
/// 5.3.1).
#[derive(Clone)]
struct Revoked(UnixTime);

impl Value for Revoked {
    fn until(&self) -> UnixTime {
        self.0
    }

    fn octets(&self) -> usize {
        128
    }
}

/// Seconds for which a revocation is remembered beside what proved it.
const REVOKED_LIFE: UnixTime = 3_600;

/// How many are remembered.
const REVOKED_BOUNDS: Bounds = Bounds { entries: 65_536, octets: 16 << 20 };

impl Appraiser {
    pub(crate) fn new(chains: Chains, policy: Arc<Policy>) -> Self {
        Appraiser { chains, policy, revoked: Cache::new(REVOKED_BOUNDS) }
    }

    /// Remembers that a certificate is revoked; true when it was not known.
    pub(crate) fn learn_revoked(&self, certificate: &Certificate, now: UnixTime) -> bool {
        let new = !self.is_revoked(certificate, now);
        let until = Revoked(now.saturating_add(REVOKED_LIFE));
        self.revoked.put(certificate.sha256(), &until, self.revoked.ticket(), now);
        new
    }

    /// Whether it was found revoked lately.
    pub(crate) fn is_revoked(&self, certificate: &Certificate, now: UnixTime) -> bool {
        self.revoked.get(certificate.sha256(), now).is_some()
    }

    /// Appraises one candidate.
    pub(crate) async fn appraise(
        &self,
        candidate: &Candidate,
        trust: Trust,
        subject: &Subject,
        confirming: &Confirming<'_>,
        case: &Case,
    ) -> Appraised {
        let until = next_change(candidate, case.now).unwrap_or(UnixTime::MAX);
        match self.stand(candidate, trust, subject, confirming, case).await {
            Ok(holds) => Appraised { standing: Standing::Usable, until: until.min(holds) },
            Err(standing) => Appraised { standing, until },
        }
    }

    async fn stand(
        &self,
        candidate: &Candidate,
        trust: Trust,
        subject: &Subject,
        confirming: &Confirming<'_>,
        case: &Case,
    ) -> Result<UnixTime, Standing> {
        let demands = demands(candidate, confirming)?;
        let certificate = match &candidate.certificate {
            Some(Ok(certificate)) => certificate,
            Some(Err(failure)) if failure.code == TOO_LARGE => return Err(Standing::Doubtful(failure.clone())),
            Some(Err(failure)) => {
                return Err(Standing::Refused { code: failure.code, message: Some(failure.message.clone()) });
            }
            None => return Err(Standing::refused("malformed")),
        };
        let named = match candidate.matched {
            Match::Recipient => Named::Address(subject.address.to_string()),
            Match::Domain | Match::Wildcard => Named::Domain(subject.address.domain().as_str().to_owned()),
        };
        // RFC 8162 section 9: an expired certificate is not used, even where that means plaintext.
        fits(certificate, &self.requirements(Named::Anybody, case.now)).map_err(refused)?;

        let mut last = Standing::refused("not-associated");
        for (demand, its_trust) in demands {
            // A record confirms no further than its own source is trusted.
            let trust = if its_trust == Some(Trust::Chain) { Trust::Chain } else { trust };
            match self.meet(&demand, certificate, trust, &named, case).await {
                Ok(holds) => return Ok(holds),
                Err(standing) if standing.code() == REVOKED => return Err(standing),
                // A doubt weighs more than a refusal: the other way might have been open.
                Err(standing) if !matches!(last, Standing::Doubtful(_)) => last = standing,
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// Until when, exclusive, the certificate meets a demand.
    async fn meet(
        &self,
        demand: &Demand<'_>,
        certificate: &Certificate,
        trust: Trust,
        named: &Named,
        case: &Case,
    ) -> Result<UnixTime, Standing> {
        let requirements = self.requirements(named.clone(), case.now);
        let mut holds = UnixTime::MAX;
        match demand {
            Demand::Chain(through) => {
                let through = through.iter().map(|a| reference(a)).collect();
                let requirements = Requirements { through, ..requirements };
                return self.chains.validate(certificate, &requirements, case).await.map_err(unchained);
            }
            Demand::To(authorities) => {
                let anchors = |at_hand: &Pool| Cow::Owned(anchors(authorities, at_hand));
                holds = self.chains.validate_to(anchors, certificate, &requirements, case).await.map_err(unchained)?;
            }
            Demand::Vouched { named: true } => fits(certificate, &requirements).map_err(refused)?,
            // RFC 7671 section 5.1: the record is the binding of name and certificate.
            Demand::Vouched { named: false } => {}
        }
        if trust == Trust::Chain {
            let chain = self.chains.validate(certificate, &requirements, case).await.map_err(unchained)?;
            return Ok(holds.min(chain));
        }
        if matches!(demand, Demand::Vouched { .. }) && self.policy.revocation != Revocation::Off {
            match self.chains.revocation(certificate, case).await {
                Known::Revoked(message) => return Err(Standing::Refused { code: REVOKED, message: Some(message) }),
                Known::Not(until) => holds = holds.min(until),
                Known::Unsure(failure) => return Err(Standing::Doubtful(failure)),
            }
        }
        Ok(holds)
    }

    fn requirements(&self, named: Named, now: UnixTime) -> Requirements {
        let mut requirements = Requirements::at(now);
        requirements.named = named;
        requirements.revocation = match self.policy.revocation {
            Revocation::Hard => RevocationMode::Hard,
            Revocation::Soft => RevocationMode::Soft,
            Revocation::Off => RevocationMode::Off,
        };
        requirements
    }
}

/// A way to trust a candidate, with the trust in the source of the record that opens it.
type Way<'a> = (Demand<'a>, Option<Trust>);

/// The ways in which a candidate may be trusted, in the order in which they are tried.
fn demands<'a>(candidate: &'a Candidate, confirming: &Confirming<'a>) -> Result<Vec<Way<'a>>, Standing> {
    match &candidate.claim {
        Claim::Association(association) => {
            claimed(association).map(|demand| vec![(demand, None)]).map_err(Standing::refused)
        }
        // A CERT record says whose certificate it is meant to be, not that it is theirs (RFC 4398 section 3).
        Claim::Secure => Ok(vec![(Demand::Vouched { named: true }, None)]),
        Claim::Local => Ok(vec![(Demand::Vouched { named: false }, None)]),
        Claim::Bare => {
            let Some(certificate) = candidate.readable() else {
                return Ok(vec![(Demand::Chain(Vec::new()), None)]);
            };
            if confirming.associations.len() > MAX_ASSOCIATIONS {
                let message = format!("more than {MAX_ASSOCIATIONS} SMIMEA records confirm certificates of this name");
                return Err(Standing::Doubtful(Failure::new("too-much-work", message)));
            }
            let of = |usage: u8| confirming.associations.iter().copied().filter(move |(a, _)| a.usage == usage);
            let fitting = |usage: u8| of(usage).find(|(a, _)| certificate.matches(&reference(a)));
            let mut demands: Vec<Way<'a>> = Vec::new();
            if let Some((_, trust)) = fitting(3) {
                demands.push((Demand::Vouched { named: false }, Some(trust)));
            }
            if fitting(1).is_some() {
                demands.push((Demand::Chain(Vec::new()), None));
            }
            for trust in [Trust::Vouched, Trust::VouchedOrChain, Trust::Chain] {
                let authorities: Vec<_> = of(2).filter(|(_, t)| *t == trust).map(|(a, _)| a).collect();
                if !authorities.is_empty() {
                    demands.push((Demand::To(authorities), Some(trust)));
                }
            }
            let through: Vec<_> = of(0).map(|(a, _)| a).collect();
            if !through.is_empty() {
                demands.push((Demand::Chain(through), None));
            }
            if demands.is_empty() && !confirming.binding {
                demands.push((Demand::Chain(Vec::new()), None));
            }
            if demands.is_empty() {
                return Err(Standing::refused("not-associated"));
            }
            Ok(demands)
        }
    }
}

/// What an SMIMEA record itself delivers.
fn claimed(association: &Association) -> Result<Demand<'_>, &'static str> {
    if association.usage > 3 {
        return Err("unknown-usage");
    }
    match (association.selector, association.matching) {
        // A hash confirms a certificate found elsewhere (RFC 8162 section 5); a bare key has no name to encrypt to.
        (0 | 1, 1 | 2) => return Err("hash-only"),
        (1, 0) => return Err("key-only"),
        (0, 0) => {}
        (0 | 1, _) => return Err("unknown-matching"),
        (_, _) => return Err("unknown-selector"),
    }
    match association.usage {
        3 => Ok(Demand::Vouched { named: false }),
        1 => Ok(Demand::Chain(Vec::new())),
        // Usages 0 and 2 name an authority, which confirms certificates found elsewhere.
        _ => Err("authority-only"),
    }
}

fn reference(association: &Association) -> Reference {
    Reference { selector: association.selector, matching: association.matching, data: association.data.to_vec() }
}

/// The trust anchors that usage 2 names: certificates and keys as they are; hashes among the certificates at hand.
fn anchors(authorities: &[&Association], at_hand: &Pool) -> Anchors {
    let mut anchors = Anchors::new();
    for authority in authorities {
        // A full or unfit list leaves fewer anchors: less is trusted, never more.
        match (authority.selector, authority.matching) {
            (0, 0) => {
                if let Ok(certificate) = Certificate::from_der(&authority.data) {
                    let _ = anchors.add(&certificate);
                }
            }
            (1, 0) => {
                let _ = anchors.add_key(&authority.data);
            }
            (0 | 1, 1 | 2) => {
                let wanted = reference(authority);
                for certificate in at_hand.certificates().filter(|c| c.matches(&wanted)) {
                    let _ = anchors.add(certificate);
                }
            }
            _ => {}
        }
    }
    anchors
}

fn refused(refusal: certdir_certificate::Refusal) -> Standing {
    unchained(Unchained::of(refusal))
}

fn unchained(unchained: Unchained) -> Standing {
    match unchained {
        Unchained::Refused(refusal) => Standing::Refused { code: refusal.code, message: Some(refusal.sentence) },
        Unchained::Doubtful(failure) => Standing::Doubtful(failure),
    }
}

/// The next second after `now` at which a candidate's standing changes by itself.
fn next_change(candidate: &Candidate, now: UnixTime) -> Option<UnixTime> {
    let certificate = candidate.readable()?;
    // notAfter is inclusive (RFC 5280 section 4.1.2.5).
    [certificate.not_before(), certificate.not_after().saturating_add(1)].into_iter().filter(|t| *t > now).min()
}
