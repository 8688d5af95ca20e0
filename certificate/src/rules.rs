//! The rules of RFC 5280 section 6.1 for one path, by certval, behind this one file.
//!
//! certval gets a finished path. What it does not do, or not as it is wanted here, is done around it: signatures
//! (`signature`), dates before 1970, the path itself (`search`), constraints on mail addresses in all their forms
//! (`mail_constraints`), extended key usage along the path, and revocation (`revocation`).

use std::borrow::Cow;
use std::sync::Arc;

use certval::{
    CertificationPath, CertificationPathResults, CertificationPathSettings, ObjectIdentifierSet, PDVCertificate,
    PathValidationStatus, PkiEnvironment, TimeOfInterest, check_basic_constraints, check_critical_extensions,
    check_extended_key_usage, check_key_usage, check_names, check_validity, enforce_trust_anchor_constraints,
    policy_graph::check_certificate_policies_graph,
};
use x509_cert::der::oid::ObjectIdentifier;

use crate::anchors::{Anchor, Member};
use crate::certificate::Certificate;
use crate::der::{self, Problem, tag};
use crate::purpose;
use crate::refusal::{Refusal, TOO_MUCH_WORK};
use crate::requirements::Policies;
use crate::time::UnixTime;

/// cRLDistributionPoints, which `revocation` processes.
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
/// subjectAltName, which is read in any case.
const SUBJECT_ALTERNATIVE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// What the rules are to be applied with.
pub(crate) struct Rules<'a> {
    pub(crate) now: UnixTime,
    pub(crate) policies: &'a Policies,
    /// Whether the extended key usages along the path must leave emailProtection.
    pub(crate) mail: bool,
}

/// A certificate in certval's form.
pub(crate) fn parse(certificate: &Certificate) -> Result<PDVCertificate, Problem> {
    let der = without_old_dates(certificate)?;
    PDVCertificate::try_from(&*der).map_err(|_| "it is not encoded as RFC 5280 demands")
}

/// certval cannot read times before 1970. A notBefore of that kind becomes 1970 in the copy that certval gets: it is in
/// the past in either case, the real date has been looked at before, and signatures are not verified on the copy.
fn without_old_dates(certificate: &Certificate) -> Result<Cow<'_, [u8]>, Problem> {
    let der: &[u8] = certificate.der();
    if certificate.not_before() >= 0 {
        return Ok(Cow::Borrowed(der));
    }
    let mut tbs = der::only(der, tag::SEQUENCE)?.open().expect(tag::SEQUENCE)?.open();
    tbs.optional(tag::context_constructed(0))?;
    tbs.expect(tag::INTEGER)?;
    tbs.expect(tag::SEQUENCE)?;
    tbs.expect(tag::SEQUENCE)?;
    let not_before = tbs.expect(tag::SEQUENCE)?.open().next()?;
    let epoch: &[u8] = if not_before.tag == tag::UTC_TIME { b"700101000000Z" } else { b"19700101000000Z" };
    // The places of `open()` on the outermost element are those in `der`.
    let mut copy = der.to_vec();
    match copy.get_mut(not_before.value_range()) {
        Some(place) if place.len() == epoch.len() => place.copy_from_slice(epoch),
        _ => return Err("a time is malformed"),
    }
    Ok(Cow::Owned(copy))
}

/// Applies the rules to a path: `chain` has the leaf first, and its last certificate was issued by `anchor`.
pub(crate) fn check(chain: &[Arc<Member>], anchor: &Anchor, rules: &Rules<'_>) -> Result<(), Refusal> {
    let (Some((leaf, issuers)), Some(last)) = (chain.split_first(), chain.last()) else {
        return Err(Refusal::new("no-path", "there is no certificate"));
    };
    let refused = |status| refusal(status, leaf);
    let malformed = |problem: Problem| Refusal::new("malformed", format!("the trust anchor cannot be used: {problem}"));
    let trust = anchor.named(last.certificate.issuer_der()).map_err(malformed)?;
    if rules.mail {
        check_purposes(chain.iter().chain(&anchor.member))?;
    }
    let settings = settings(rules)?;
    let settings = enforce_trust_anchor_constraints(&settings, &trust).map_err(refused)?;
    // certval wants the one below the anchor first.
    let intermediates = issuers.iter().rev().map(|member| member.parsed.clone()).collect();
    let path = CertificationPath::new(trust, intermediates, leaf.parsed.clone());
    let mut results = CertificationPathResults::new();
    results.set_processed_extensions(ObjectIdentifierSet::from([CRL_DISTRIBUTION_POINTS, SUBJECT_ALTERNATIVE_NAME]));
    let nobody = PkiEnvironment::default();
    // The order of certval's own validate_path_rfc5280. Each check notes the extensions that it processed, and the last
    // one refuses any other that is critical.
    for check in [
        check_validity,
        check_basic_constraints,
        check_names,
        check_certificate_policies_graph,
        check_key_usage,
        check_extended_key_usage,
        check_critical_extensions,
    ] {
        check(&nobody, &settings, &path, &mut results).map_err(refused)?;
    }
    Ok(())
}

/// An authority whose own extended key usage leaves out mail cannot give it (the CA/Browser Forum's rule; RFC 5280 says
/// nothing). By hand, because certval takes anyExtendedKeyUsage further down for another purpose than mail.
fn check_purposes<'a>(path: impl Iterator<Item = &'a Arc<Member>>) -> Result<(), Refusal> {
    for member in path {
        let subject = member.certificate.subject();
        let malformed = |problem| Refusal::new("malformed", format!("{subject} is malformed: {problem}"));
        let parts = member.parts().map_err(malformed)?;
        let usage = parts.extension(purpose::EXTENDED_KEY_USAGE).map(purpose::allows_mail);
        if usage.transpose().map_err(malformed)? == Some(false) {
            let sentence = format!("the extended key usage of {subject} is not for mail");
            return Err(Refusal::new("wrong-purpose", sentence));
        }
    }
    Ok(())
}

fn settings(rules: &Rules<'_>) -> Result<CertificationPathSettings, Refusal> {
    let mut settings = CertificationPathSettings::new();
    // A time of 0 would disable the checks of dates.
    let now = u64::try_from(rules.now).ok().filter(|now| *now > 0);
    let now = now.and_then(|now| TimeOfInterest::from_unix_secs(now).ok()).filter(|now| !now.is_disabled());
    settings.set_time_of_interest(now.ok_or_else(no_clock)?);
    settings.set_enforce_trust_anchor_constraints(true);
    settings.set_enforce_trust_anchor_validity(true);
    settings.set_initial_explicit_policy_indicator(rules.policies.explicit);
    settings.set_initial_policy_mapping_inhibit_indicator(rules.policies.inhibit_mapping);
    settings.set_initial_inhibit_any_policy_indicator(rules.policies.inhibit_any);
    if !rules.policies.initial.is_empty() {
        let mut initial = ObjectIdentifierSet::new();
        for policy in &rules.policies.initial {
            let unreadable = || Refusal::new("policy", format!("{policy:?} is no object identifier"));
            initial.insert(ObjectIdentifier::new(policy).map_err(|_| unreadable())?);
        }
        settings.set_initial_policy_set_from_oid_set(initial);
    }
    Ok(settings)
}

pub(crate) fn no_clock() -> Refusal {
    Refusal::new("no-clock", "the time of the validation must be after 1970 and before 9999: set the clock")
}

fn refusal(error: certval::Error, leaf: &Member) -> Refusal {
    use PathValidationStatus as Found;
    let certval::Error::PathValidation(status) = error else {
        return Refusal::new("malformed", format!("a certificate above {} is malformed", leaf.certificate.subject()));
    };
    let (code, what) = match status {
        Found::NameChainingFailure => ("name-chaining", "an issuer's name is not that of the authority above"),
        Found::InvalidNotBeforeDate => ("not-yet-valid", "a certificate is not valid yet"),
        Found::InvalidNotAfterDate => ("expired", "a certificate or the trust anchor has expired"),
        Found::MissingBasicConstraints | Found::InvalidBasicConstraints => {
            ("not-a-ca", "an issuer is no certification authority")
        }
        Found::InvalidPathLength => ("path-length", "there are more authorities than one of them allows"),
        Found::InvalidKeyUsage => ("key-usage", "an authority's key usage does not allow it"),
        Found::NullPolicySet | Found::InvalidPolicyMapping => ("policy", "the certificate policies do not fit"),
        Found::NameConstraintsViolation => ("name-constraints", "a name is not one that an authority may certify"),
        Found::UnprocessedCriticalExtension => ("critical-extension", "a critical extension is not known"),
        Found::ProcessingLimitExceeded => (TOO_MUCH_WORK, "the certificate policies are too many"),
        _ => ("malformed", "a certificate is malformed"),
    };
    Refusal::new(code, format!("on the path of {}: {what}", leaf.certificate.subject()))
}
