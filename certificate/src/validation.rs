//! Validating a certificate: what is seen at the certificate itself, and then the search for a path.

use std::sync::Arc;

use sha2::{Digest as _, Sha256, Sha512};

use crate::anchors::{Anchors, Member, Pool};
use crate::certificate::Certificate;
use crate::evidence::Evidence;
use crate::mailbox::LocalPart;
use crate::oid::{self, Ability};
use crate::parts::Parts;
use crate::purpose::{self, KeyUsage};
use crate::refusal::{Refusal, Want};
use crate::requirements::{Association, Named, Purpose, Requirements, RevocationMode};
use crate::rules;
use crate::search::{Found, Search, in_time, strong_enough};
use crate::signature::Memory;
use crate::time::UnixTime;

/// What a path says about revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationStatus {
    /// No certificate of the path is revoked.
    Good,
    /// None is known to be revoked, and of at least one it is not known. Only with [`RevocationMode::Soft`].
    Undetermined,
    /// Nobody looked, as was asked ([`RevocationMode::Off`]).
    NotChecked,
}

/// The trust anchor at which a path ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustAnchor {
    /// It was given as a certificate.
    Certificate(Certificate),
    /// It was given as a key: its `SubjectPublicKeyInfo` in DER form.
    Key(Vec<u8>),
}

/// A path from a certificate to a trust anchor that was found to be good.
#[derive(Debug, Clone)]
pub struct Path {
    certificates: Vec<Certificate>,
    anchor: TrustAnchor,
    holds_until: UnixTime,
    revocation: RevocationStatus,
    wants: Vec<Want>,
}

impl Path {
    /// The certificates, the validated one first, the one that the anchor issued last.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Where it ends.
    pub fn anchor(&self) -> &TrustAnchor {
        &self.anchor
    }

    /// The last second at which the same validation ends the same way: the earliest end of a certificate, and of the CRLs
    /// and OCSP responses that were used.
    pub fn holds_until(&self) -> UnixTime {
        self.holds_until
    }

    /// What is known about revocation.
    pub fn revocation(&self) -> RevocationStatus {
        self.revocation
    }

    /// What could be fetched to determine an [`RevocationStatus::Undetermined`] one.
    pub fn wants(&self) -> &[Want] {
        &self.wants
    }
}

/// Validates a certificate: it must be what `requirements` ask for, and there must be a path to one of the `anchors` that
/// satisfies RFC 5280 section 6 and RFC 8550, over certificates of the `pool`, none of them revoked as far as `evidence`
/// knows. Work is bounded whatever the input; see [`MAX_SIGNATURES`](crate::MAX_SIGNATURES),
/// [`MAX_SIGNED_OCTETS`](crate::MAX_SIGNED_OCTETS), [`MAX_STEPS`](crate::MAX_STEPS),
/// [`MAX_COMPARISONS`](crate::MAX_COMPARISONS) and [`MAX_PATH`](crate::MAX_PATH).
///
/// # Errors
/// Why not, and what could be fetched to change it: [`Refusal::wants`]. Whoever called fetches that, adds it, and calls again,
/// as often as it is ready to.
pub fn validate(
    leaf: &Certificate,
    anchors: &Anchors,
    pool: &Pool,
    evidence: &Evidence,
    requirements: &Requirements,
    memory: &Memory,
) -> Result<Path, Refusal> {
    fits(leaf, requirements)?;
    let member = Member::new(leaf)
        .map_err(|problem| Refusal::new("malformed", format!("{} is malformed: {problem}", leaf.subject())))?;
    // A validator that takes a certificate with an anchor's key for the anchor itself would check nothing.
    if anchors.has_key(&member.key) {
        return Err(Refusal::new("anchor-key", format!("{} carries the key of a trust anchor", leaf.subject())));
    }
    let search = Search::new(anchors, pool, evidence, requirements, memory);
    let Found { chain, anchor, until, undetermined, wants } = search.run(Arc::new(member))?;
    Ok(Path {
        certificates: chain.iter().map(|member| member.certificate.clone()).collect(),
        anchor: match &anchor.member {
            Some(member) => TrustAnchor::Certificate(member.certificate.clone()),
            None => TrustAnchor::Key(anchor.spki.clone()),
        },
        holds_until: until,
        revocation: match (requirements.revocation, undetermined) {
            (RevocationMode::Off, _) => RevocationStatus::NotChecked,
            (_, true) => RevocationStatus::Undetermined,
            (_, false) => RevocationStatus::Good,
        },
        wants,
    })
}

/// What is asked of the certificate itself, without a path: dates, key, purpose, name. Also for certificates that need none
/// (usage 3 of RFC 6698), with [`Named::Anybody`].
///
/// # Errors
/// The first thing that is wrong.
pub fn fits(leaf: &Certificate, requirements: &Requirements) -> Result<(), Refusal> {
    // 9999-12-31T23:59:59Z is the last second that X.509 can write.
    if requirements.now <= 0 || requirements.now > 253_402_300_799 {
        return Err(rules::no_clock());
    }
    in_time(leaf, requirements.now)?;
    strong_enough(leaf, requirements)?;
    if requirements.purpose == Purpose::Encryption {
        is_for_encryption(leaf, requirements)?;
    }
    let named = match &requirements.named {
        Named::Anybody => true,
        Named::Address(address) => leaf.names_address(address, LocalPart::AnyCase),
        Named::Domain(domain) => leaf.names_domain(domain),
    };
    if named {
        return Ok(());
    }
    let wanted = match &requirements.named {
        Named::Address(name) | Named::Domain(name) => name.as_str(),
        Named::Anybody => "anybody",
    };
    Err(Refusal::new("wrong-address", format!("{} does not name {wanted}", leaf.subject())))
}

/// RFC 8550 section 4.4.
fn is_for_encryption(leaf: &Certificate, requirements: &Requirements) -> Result<(), Refusal> {
    let subject = leaf.subject();
    let malformed = |problem| Refusal::new("malformed", format!("{subject} is malformed: {problem}"));
    let parts = Parts::of(leaf).map_err(malformed)?;
    match parts.extension(purpose::EXTENDED_KEY_USAGE).map(purpose::allows_mail).transpose().map_err(malformed)? {
        Some(false) => {
            return Err(Refusal::new("wrong-purpose", format!("the extended key usage of {subject} is not for mail")));
        }
        None if !requirements.admit_missing_extended_key_usage => {
            let sentence = format!("{subject} has no extended key usage");
            return Err(Refusal::new("missing-extended-key-usage", sentence));
        }
        _ => {}
    }
    let signs_only = |why: &str| Err(Refusal::new("signing-only", format!("{subject} cannot be encrypted to: {why}")));
    match parts.extension(purpose::KEY_USAGE).map(KeyUsage::read).transpose().map_err(malformed)? {
        Some(usage) if !usage.allows_encryption() => {
            return signs_only("its key usage has neither keyEncipherment nor keyAgreement");
        }
        None if !requirements.admit_missing_key_usage => {
            return Err(Refusal::new("missing-key-usage", format!("{subject} has no key usage")));
        }
        _ => {}
    }
    if oid::ability_of_key(parts.key) == Ability::Sign {
        return signs_only("its algorithm only signs");
    }
    Ok(())
}

impl Certificate {
    /// The `SubjectPublicKeyInfo` in DER form (selector 1 of RFC 6698).
    pub fn spki_der(&self) -> &[u8] {
        Parts::of(self).map(|parts| parts.key).unwrap_or_default()
    }

    /// Whether an association is of this certificate. An unknown selector or matching type is of none, and neither is
    /// empty data.
    pub fn matches(&self, association: &Association) -> bool {
        match association.selector {
            0 => association.matches_octets(self.der()),
            1 => association.matches_octets(self.spki_der()),
            _ => false,
        }
    }
}

impl Association {
    /// Whether it is of this key, a `SubjectPublicKeyInfo` in DER form.
    pub fn matches_key(&self, spki: &[u8]) -> bool {
        self.selector == 1 && self.matches_octets(spki)
    }

    fn matches_octets(&self, octets: &[u8]) -> bool {
        !octets.is_empty()
            && match self.matching {
                0 => self.data == octets,
                1 => self.data == Sha256::digest(octets)[..],
                2 => self.data == Sha512::digest(octets)[..],
                _ => false,
            }
    }
}
