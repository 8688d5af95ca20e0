//! Finding a path from a certificate to a trust anchor, with bounded work.
//!
//! The search goes from the certificate upwards, over the names of issuers, with the key identifier as the first hint. A
//! step is taken only where the signature is good, so that it never leaves the certificates that belong together; each
//! signature is verified once, and what meshed cross-certificates multiply is steps, which are counted. Every path that
//! reaches an anchor is held against the rules, and the search goes on until one passes.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::anchors::{Anchor, Anchors, Member, Pool};
use crate::certificate::Certificate;
use crate::crl::Crl;
use crate::evidence::Evidence;
use crate::mail_constraints;
use crate::refusal::{REVOKED, Refusal, TOO_MUCH_WORK, Want, add_wants};
use crate::requirements::{Policies, Purpose, Requirements, RevocationMode};
use crate::revocation::{self, Standing, issuer_wants};
use crate::rules::{self, Rules};
use crate::signature::{self, Fault, Memory, Signed};
use crate::time::{Calendar, UnixTime};

/// Longest path, with the leaf and without the anchor.
pub const MAX_PATH: usize = 10;
/// Most signatures that are verified for one validation; those that [`Memory`] knows cost nothing.
pub const MAX_SIGNATURES: usize = 200;
/// Most certificates that are tried as issuers for one validation.
pub const MAX_STEPS: usize = 2_000;
/// Most paths that are held against the rules for one validation.
pub const MAX_PATHS: usize = 50;
/// Most octets whose signatures are verified for one validation: two of the largest revocation lists.
pub const MAX_SIGNED_OCTETS: usize = 2 * crate::crl::MAX_CRL;
/// Most comparisons of names with name constraints, and of names of distribution points, for one validation.
pub const MAX_COMPARISONS: usize = 1_000_000;
/// So many certificates of one name cost as much to sort as one step.
const SORTED_PER_STEP: usize = 16;
/// How deep signers of CRLs may need each other's CRLs.
const MAX_DEPTH: u32 = 2;

/// Why a signature was not good, or not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    Fault(Fault),
    /// See [`Search::is_exhausted`].
    OutOfWork,
}

/// Who issued a certificate: the one above it on a path, or the anchor.
pub(crate) struct Issuer<'a> {
    /// Canonical.
    pub(crate) name: &'a [u8],
    pub(crate) spki: &'a [u8],
    pub(crate) key: &'a [u8; 32],
    pub(crate) may_sign_crls: bool,
    /// The anchor of the path; none where nothing is asked about trust.
    anchor: Option<&'a Arc<Anchor>>,
}

impl<'a> Issuer<'a> {
    pub(crate) fn member(member: &'a Member) -> Option<Issuer<'a>> {
        let spki = member.parts().ok()?.key;
        let may_sign_crls = member.may_sign_crls();
        Some(Issuer { name: &member.subject, spki, key: &member.key, may_sign_crls, anchor: None })
    }

    /// An anchor, for a certificate that it issued: a bare key goes by the name that stands there.
    fn anchor(anchor: &'a Arc<Anchor>, issued: &'a Member) -> Issuer<'a> {
        let may_sign_crls = anchor.member.as_ref().is_none_or(|member| member.may_sign_crls());
        Issuer { name: &issued.issuer, spki: &anchor.spki, key: &anchor.key, may_sign_crls, anchor: Some(anchor) }
    }
}

/// One validation.
pub(crate) struct Search<'a> {
    anchors: &'a Anchors,
    pool: &'a Pool,
    pub(crate) evidence: &'a Evidence,
    pub(crate) requirements: &'a Requirements,
    memory: &'a Memory,
    signatures: Cell<usize>,
    steps: Cell<usize>,
    paths: Cell<usize>,
    octets: Cell<usize>,
    comparisons: Cell<usize>,
    exhausted: Cell<bool>,
    /// Whether a signature was good: the wrong ones, and those that Memory may have forgotten again.
    seen: RefCell<HashMap<Signed, bool>>,
    /// Signers of CRLs whose own paths are being looked at.
    signers: RefCell<Vec<[u8; 32]>>,
}

/// A path that passed.
pub(crate) struct Found {
    pub(crate) chain: Vec<Arc<Member>>,
    pub(crate) anchor: Arc<Anchor>,
    pub(crate) until: UnixTime,
    pub(crate) undetermined: bool,
    pub(crate) wants: Vec<Want>,
}

/// What a search is for.
struct Aim<'a> {
    rules: Rules<'a>,
    /// The only anchor that will do, for the signer of a CRL: that of the certificate in question.
    only: Option<&'a Arc<Anchor>>,
    depth: u32,
}

/// What went wrong so far.
struct Misses {
    best: Option<(u8, Refusal)>,
    wants: Vec<Want>,
}

impl Misses {
    fn add(&mut self, rank: u8, mut refusal: Refusal) {
        add_wants(&mut self.wants, std::mem::take(&mut refusal.wants));
        if self.best.as_ref().is_none_or(|(there, _)| rank > *there) {
            self.best = Some((rank, refusal));
        }
    }

    fn add_unsigned(&mut self, failed: Failed, issued: &Member) {
        let subject = issued.certificate.subject();
        let refusal = match failed {
            // Noted in the search.
            Failed::OutOfWork => return,
            Failed::Fault(Fault::Wrong) => {
                Refusal::new("bad-signature", format!("{subject} is not signed by {}", issued.certificate.issuer()))
            }
            Failed::Fault(Fault::Unsupported) => {
                let algorithm = issued.certificate.signature_algorithm();
                let sentence = format!("{subject} is signed with {algorithm} by a key that is not verified here");
                Refusal::new("unsupported-algorithm", sentence)
            }
        };
        self.add(rank::STEP, refusal);
    }
}

/// How much a refusal says: a path that was whole says more than one that was not.
mod rank {
    pub(super) const STEP: u8 = 1;
    pub(super) const RULES: u8 = 2;
    pub(super) const UNKNOWN: u8 = 3;
    pub(super) const REVOKED: u8 = 4;
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        anchors: &'a Anchors,
        pool: &'a Pool,
        evidence: &'a Evidence,
        requirements: &'a Requirements,
        memory: &'a Memory,
    ) -> Search<'a> {
        Search {
            anchors,
            pool,
            evidence,
            requirements,
            memory,
            signatures: Cell::new(0),
            steps: Cell::new(0),
            paths: Cell::new(0),
            octets: Cell::new(0),
            comparisons: Cell::new(0),
            exhausted: Cell::new(false),
            seen: RefCell::default(),
            signers: RefCell::default(),
        }
    }

    /// The first path of the leaf that passes.
    pub(crate) fn run(&self, leaf: Arc<Member>) -> Result<Found, Refusal> {
        let rules = Rules {
            now: self.requirements.now,
            policies: &self.requirements.policies,
            mail: self.requirements.purpose == Purpose::Encryption,
        };
        self.path_of(leaf.clone(), &Aim { rules, only: None, depth: 0 }).map_err(|refusal| {
            // What was not looked at could have been good, whatever is wrong with the rest; but nothing makes a revoked
            // certificate good.
            let unclear = self.exhausted.get() && refusal.code != REVOKED;
            if unclear { Refusal { wants: refusal.wants, ..out_of_work(&leaf) } } else { refusal }
        })
    }

    /// Whether something was not looked at because it was too much work.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// Notes that something is not looked at.
    pub(crate) fn exhaust(&self) {
        self.exhausted.set(true);
    }

    /// Adds to one of the counts, unless that would be more than its bound.
    fn afford(&self, count: &Cell<usize>, more: usize, most: usize) -> bool {
        let sum = count.get().saturating_add(more);
        if sum > most {
            self.exhaust();
            return false;
        }
        count.set(sum);
        true
    }

    /// Whether so many comparisons of names are within the bound.
    pub(crate) fn may_compare(&self, names: usize) -> bool {
        self.afford(&self.comparisons, names, MAX_COMPARISONS)
    }

    fn path_of(&self, leaf: Arc<Member>, aim: &Aim<'_>) -> Result<Found, Refusal> {
        let subject = leaf.certificate.subject().to_owned();
        let mut misses = Misses { best: None, wants: Vec::new() };
        let mut chain = vec![leaf];
        if let ControlFlow::Break(ended) = self.extend(&mut chain, aim, &mut misses) {
            return ended;
        }
        let none =
            || Refusal::new("no-path", format!("no chain of certificates leads from {subject} to a trust anchor"));
        let mut refusal = misses.best.map_or_else(none, |(_, refusal)| refusal);
        refusal.wants = misses.wants;
        Err(refusal)
    }

    /// Goes on from the last certificate of the chain. Breaks with a path that passed, or a refusal that nothing changes.
    fn extend(
        &self,
        chain: &mut Vec<Arc<Member>>,
        aim: &Aim<'_>,
        misses: &mut Misses,
    ) -> ControlFlow<Result<Found, Refusal>> {
        let Some(last) = chain.last().cloned() else {
            return ControlFlow::Continue(());
        };
        let mut dead_end = true;
        for anchor in self.anchors.named(&last.issuer) {
            if aim.only.is_some_and(|only| !Arc::ptr_eq(only, anchor)) {
                continue;
            }
            if let Some(Err(refusal)) =
                anchor.member.as_ref().map(|member| strong_enough(&member.certificate, self.requirements))
            {
                misses.add(rank::STEP, refusal);
                continue;
            }
            if let Err(failed) = self.verify_certificate(&last, &Issuer::anchor(anchor, &last)) {
                // A bare key that did not sign it is no more than another anchor.
                if anchor.name.is_some() {
                    misses.add_unsigned(failed, &last);
                }
                continue;
            }
            dead_end = false;
            match self.hold(chain, anchor, aim) {
                Ok(found) => return ControlFlow::Break(Ok(found)),
                Err((rank::REVOKED, refusal)) if refusal.is_final() => {
                    // The leaf itself: no other path makes it good.
                    return ControlFlow::Break(Err(refusal));
                }
                Err((rank, refusal)) => misses.add(rank, refusal),
            }
        }

        for candidate in self.candidates(&last) {
            if chain.iter().any(|there| there.subject == candidate.subject && there.key == candidate.key) {
                continue;
            }
            if chain.len() >= MAX_PATH {
                let sentence = format!("more than {MAX_PATH} certificates stand above {}", first_subject(chain));
                misses.add(rank::STEP, Refusal::new("path-length", sentence));
                break;
            }
            if self.paths.get() >= MAX_PATHS || !self.afford(&self.steps, 1, MAX_STEPS) {
                self.exhaust();
                return ControlFlow::Continue(());
            }
            if let Err(refusal) = self.may_issue(&candidate) {
                misses.add(rank::STEP, refusal);
                continue;
            }
            let Some(issuer) = Issuer::member(&candidate) else {
                continue;
            };
            if let Err(failed) = self.verify_certificate(&last, &issuer) {
                misses.add_unsigned(failed, &last);
                continue;
            }
            dead_end = false;
            chain.push(candidate.clone());
            let ended = self.extend(chain, aim, misses);
            chain.pop();
            ended?;
        }
        if dead_end {
            add_wants(&mut misses.wants, issuer_wants(&last.certificate));
        }
        ControlFlow::Continue(())
    }

    /// Certificates of the pool that go by the issuer's name, the likeliest first: those with the key identifier, then
    /// those right below an anchor, then the newest.
    fn candidates(&self, issued: &Member) -> Vec<Arc<Member>> {
        let mut candidates: Vec<_> = self.pool.named(&issued.issuer).cloned().collect();
        let wanted = issued.certificate.authority_key_id();
        if !self.afford(&self.steps, candidates.len() / SORTED_PER_STEP, MAX_STEPS) {
            return Vec::new();
        }
        candidates.sort_by_cached_key(|candidate| {
            let by_key = wanted.is_some() && candidate.certificate.subject_key_id() == wanted;
            let by_anchor = self.anchors.named(&candidate.issuer).next().is_some();
            (Reverse(by_key), Reverse(by_anchor), Reverse(candidate.certificate.not_before()))
        });
        candidates
    }

    /// What can be seen at one certificate of the pool without a path.
    fn may_issue(&self, candidate: &Member) -> Result<(), Refusal> {
        if !candidate.certificate.is_ca() {
            let subject = candidate.certificate.subject();
            return Err(Refusal::new("not-a-ca", format!("{subject} is no certification authority")));
        }
        in_time(&candidate.certificate, self.requirements.now)?;
        strong_enough(&candidate.certificate, self.requirements)
    }

    /// Holds a whole path against the rules.
    fn hold(&self, chain: &[Arc<Member>], anchor: &Arc<Anchor>, aim: &Aim<'_>) -> Result<Found, (u8, Refusal)> {
        let Some(leaf) = chain.first() else {
            return Err((rank::STEP, Refusal::new("no-path", "there is no certificate")));
        };
        if !self.afford(&self.paths, 1, MAX_PATHS) {
            return Err((rank::STEP, out_of_work(leaf)));
        }
        let against = |refusal: Refusal| {
            if refusal.is_exhausted() {
                self.exhaust();
            }
            (rank::RULES, refusal)
        };
        let certificates: Vec<&Certificate> = chain.iter().map(|member| &member.certificate).collect();
        let of_anchor = anchor.member.as_deref();
        if let Some(member) = of_anchor {
            in_time(&member.certificate, aim.rules.now).map_err(against)?;
        }
        let comparisons = mail_constraints::comparisons(&certificates, of_anchor);
        if !self.may_compare(comparisons) {
            return Err((rank::STEP, out_of_work(leaf)));
        }
        rules::check(chain, anchor, &aim.rules).map_err(against)?;
        mail_constraints::check(&certificates, of_anchor).map_err(|problem| {
            against(Refusal::new("name-constraints", format!("on the path of {}: {problem}", first_subject(chain))))
        })?;
        if aim.only.is_none() && !self.leads_through(&certificates, anchor) {
            let sentence =
                format!("the path of {} does not lead through the authority asked for", first_subject(chain));
            return Err(against(Refusal::new("association", sentence)));
        }
        let ends = certificates.iter().copied().chain(of_anchor.map(|member| &member.certificate));
        let mut found = Found {
            chain: chain.to_vec(),
            anchor: anchor.clone(),
            until: ends.map(Certificate::not_after).min().unwrap_or(UnixTime::MAX),
            undetermined: false,
            wants: Vec::new(),
        };
        self.revocation(&mut found, aim)?;
        Ok(found)
    }

    /// The revocation of every certificate of a path, from the anchor downwards.
    fn revocation(&self, found: &mut Found, aim: &Aim<'_>) -> Result<(), (u8, Refusal)> {
        if self.requirements.revocation == RevocationMode::Off {
            return Ok(());
        }
        let mut unknown: Option<Refusal> = None;
        for (place, member) in found.chain.iter().enumerate().rev() {
            let subject = member.certificate.subject();
            let issuer = match found.chain.get(place + 1) {
                Some(above) => Issuer::member(above).map(|issuer| Issuer { anchor: Some(&found.anchor), ..issuer }),
                None => Some(Issuer::anchor(&found.anchor, member)),
            };
            let Some(issuer) = issuer else {
                return Err((rank::RULES, Refusal::new("malformed", format!("the issuer of {subject} is malformed"))));
            };
            match revocation::standing(self, member, &issuer, aim.depth) {
                Standing::Good { until } => found.until = found.until.min(until),
                Standing::Revoked { since, reason } => {
                    let since = Calendar::of(since);
                    let sentence = format!("{subject} is revoked since {since} ({reason:?})");
                    // Above the certificate itself there may be another way; see `Misses`.
                    return Err(match place {
                        0 => (rank::REVOKED, Refusal::new(REVOKED, sentence)),
                        _ => (rank::RULES, Refusal::new("issuer-revoked", sentence)),
                    });
                }
                Standing::Unknown { wants } => {
                    found.undetermined = true;
                    add_wants(&mut found.wants, wants);
                    let sentence = || format!("nothing at hand says whether {subject} is revoked");
                    unknown.get_or_insert_with(|| Refusal::new("revocation-unknown", sentence()));
                }
            }
        }
        match unknown {
            Some(mut refusal) if self.requirements.revocation == RevocationMode::Hard => {
                refusal.wants = std::mem::take(&mut found.wants);
                Err((rank::UNKNOWN, refusal))
            }
            _ => Ok(()),
        }
    }

    fn leads_through(&self, certificates: &[&Certificate], anchor: &Anchor) -> bool {
        let wanted = &self.requirements.through;
        wanted.is_empty()
            || certificates.iter().skip(1).any(|certificate| wanted.iter().any(|one| certificate.matches(one)))
            || anchor.member.as_ref().is_some_and(|member| wanted.iter().any(|one| member.certificate.matches(one)))
            || anchor.member.is_none() && wanted.iter().any(|one| one.matches_key(&anchor.spki))
    }

    /// Whether a list is signed by the certificate's issuer, or by somebody else who has a path to the same anchor and the
    /// right to (RFC 5280 section 6.3.3 (f) and (g)).
    pub(crate) fn crl_is_signed(&self, crl: &Crl, issuer: &Issuer<'_>, depth: u32) -> bool {
        let signed_by = |spki: &[u8], key: &[u8; 32]| {
            self.verify(crl.sha256(), spki, key, crl.algorithm(), crl.tbs(), crl.signature()).is_ok()
        };
        if crl.issuer == issuer.name && issuer.may_sign_crls && signed_by(issuer.spki, issuer.key) {
            return true;
        }
        let Some(anchor) = issuer.anchor else {
            return false;
        };
        // The anchor itself, for a certificate further down.
        if anchor.name.as_ref() == Some(&crl.issuer)
            && anchor.member.as_ref().is_none_or(|member| member.may_sign_crls())
            && signed_by(&anchor.spki, &anchor.key)
        {
            return true;
        }
        if depth >= MAX_DEPTH {
            return false;
        }
        let named = self.pool.named(&crl.issuer).filter(|member| member.may_sign_crls());
        let signers: Vec<_> = named.filter(|member| member.key != *issuer.key).cloned().collect();
        signers.into_iter().any(|signer| {
            let id = *signer.certificate.sha256();
            if self.signers.borrow().contains(&id) || in_time(&signer.certificate, self.requirements.now).is_err() {
                return false;
            }
            let Some(Issuer { spki, key, .. }) = Issuer::member(&signer) else {
                return false;
            };
            if !signed_by(spki, key) {
                return false;
            }
            self.signers.borrow_mut().push(id);
            let policies = Policies::default();
            let rules = Rules { now: self.requirements.now, policies: &policies, mail: false };
            let path = self.path_of(signer.clone(), &Aim { rules, only: Some(anchor), depth: depth + 1 });
            self.signers.borrow_mut().pop();
            path.is_ok_and(|found| !found.undetermined)
        })
    }

    pub(crate) fn verify_certificate(&self, issued: &Member, issuer: &Issuer<'_>) -> Result<(), Failed> {
        let Ok(parts) = issued.parts() else {
            return Err(Failed::Fault(Fault::Wrong));
        };
        let object = issued.certificate.sha256();
        self.verify(object, issuer.spki, issuer.key, parts.algorithm, parts.tbs, parts.signature)
    }

    /// Verifies a signature, at most once for each object and key. `object` is the SHA-256 of what holds `message` and
    /// `signature`, `key` that of `spki`.
    pub(crate) fn verify(
        &self,
        object: &[u8; 32],
        spki: &[u8],
        key: &[u8; 32],
        algorithm: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Failed> {
        if self.memory.knows(object, key) {
            return Ok(());
        }
        if let Some(good) = self.seen.borrow().get(&(*object, *key)) {
            return if *good { Ok(()) } else { Err(Failed::Fault(Fault::Wrong)) };
        }
        if !self.afford(&self.signatures, 1, MAX_SIGNATURES)
            || !self.afford(&self.octets, message.len(), MAX_SIGNED_OCTETS)
        {
            return Err(Failed::OutOfWork);
        }
        let verified = signature::verify(spki, algorithm, message, signature);
        if verified != Err(Fault::Unsupported) {
            self.seen.borrow_mut().insert((*object, *key), verified.is_ok());
        }
        if verified.is_ok() {
            self.memory.keep(object, key);
        }
        verified.map_err(Failed::Fault)
    }
}

fn first_subject(chain: &[Arc<Member>]) -> &str {
    chain.first().map_or("", |leaf| leaf.certificate.subject())
}

pub(crate) fn out_of_work(member: &Member) -> Refusal {
    let subject = member.certificate.subject();
    Refusal::new(TOO_MUCH_WORK, format!("it takes more work than is allowed to find out about {subject}"))
}

/// The dates of one certificate.
pub(crate) fn in_time(certificate: &Certificate, now: UnixTime) -> Result<(), Refusal> {
    let subject = certificate.subject();
    if now < certificate.not_before() {
        let from = Calendar::of(certificate.not_before());
        return Err(Refusal::new("not-yet-valid", format!("{subject} is valid from {from} on")));
    }
    if now > certificate.not_after() {
        let until = Calendar::of(certificate.not_after());
        return Err(Refusal::new("expired", format!("{subject} was valid until {until}")));
    }
    Ok(())
}

/// The key size of one certificate. Algorithms other than RSA and EC whose size says nothing are not measured.
pub(crate) fn strong_enough(certificate: &Certificate, requirements: &Requirements) -> Result<(), Refusal> {
    let key = certificate.key();
    let least = if key.name.starts_with("RSA") { requirements.minimum_rsa_bits } else { requirements.minimum_ec_bits };
    match key.bits {
        Some(bits) if bits < least => {
            let (subject, name) = (certificate.subject(), &key.name);
            Err(Refusal::new("weak-key", format!("the key of {subject} is {name}, and {least} bits are the least")))
        }
        // RFC 5480 section 2.1.1 forbids curves that have no name, and one that is not known may be a small one.
        None if key.kind == "ec" => {
            let subject = certificate.subject();
            Err(Refusal::new("weak-key", format!("the key of {subject} is on a curve that is not known: {}", key.name)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three lists that nobody signed: the third is not hashed any more.
    #[test]
    fn octets_are_counted() {
        let (anchors, pool, evidence, memory) = (Anchors::new(), Pool::new(), Evidence::new(), Memory::default());
        let requirements = Requirements::at(1_795_332_660);
        let search = Search::new(&anchors, &pool, &evidence, &requirements, &memory);
        // An Ed25519 key that signed none of it.
        let spki = [&[0x30, 42, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 33, 0][..], &[9; 32]].concat();
        let algorithm = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
        let list = vec![0; MAX_SIGNED_OCTETS / 5 * 2];
        let go = |object| search.verify(&[object; 32], &spki, &[9; 32], &algorithm, &list, &[9; 64]);
        assert_eq!([go(1), go(2), go(1)], [Err(Failed::Fault(Fault::Wrong)); 3]);
        assert!(!search.is_exhausted());
        assert_eq!(go(3), Err(Failed::OutOfWork));
        assert!(search.is_exhausted());
    }
}
