//! Verdicts from what sources say, through the whole resolver: every kind of record by every date and place as a golden table
//! whose rows are checked by rules of their own, and the property that an error never becomes "no certificate".

use std::sync::Arc;

use certdir_resolver::outcome::{Association, Candidate, Claim};
use certdir_resolver::policy::Revocation;
use certdir_resolver::source::Asking;
use certdir_resolver::spec::Spec;
use certdir_resolver::trace::Question;
use certdir_resolver::{
    Address, Answer, Certificate, Failure, Level, Match, Outcome, Policy, Resolver, Source, Subject, UnixTime, Verdict,
};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};

use crate::certificates::{DAY, time};

const NOW: UnixTime = 1_797_000_000;
const WHO: &str = "alice@example.org";

/// A source that says what it was made to say.
struct Said {
    label: String,
    recipient: Outcome,
    domain: Outcome,
}

impl Source for Said {
    fn label(&self) -> &str {
        &self.label
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        let question = Question {
            source: self.label.as_str().into(),
            name: subject.address.to_string(),
            kind: "test",
            dnssec: None,
            message: String::new(),
            asked_at: now,
            aliases: Vec::new(),
            exchanges: Vec::new(),
        };
        let outcome = match subject.level {
            Level::Recipient => self.recipient.clone(),
            Level::Domain => self.domain.clone(),
        };
        Box::pin(std::future::ready(Answer { outcome, until: now + 300, question: Arc::new(question) }))
    }
}

/// An authority, and certificates that it issued to the recipient.
struct People {
    authority: Vec<u8>,
    /// The authority's key, as a record with selector 1 has it.
    authority_key: Vec<u8>,
    /// Valid, expired, not yet valid, and for signing only.
    own: [(Vec<u8>, Vec<u8>); 4],
}

const STATES: [&str; 4] = ["valid", "expired", "future", "signing-only"];

fn people() -> People {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    (params.not_before, params.not_after) = (time!(NOW - 400 * DAY), time!(NOW + 400 * DAY));
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let own = STATES.map(|state| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, state);
        params.subject_alt_names = vec![SanType::Rfc822Name(WHO.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        params.key_usages = vec![if state == "signing-only" {
            KeyUsagePurpose::DigitalSignature
        } else {
            KeyUsagePurpose::KeyAgreement
        }];
        let (from, to) = match state {
            "expired" => (NOW - 9 * DAY, NOW - DAY),
            "future" => (NOW + DAY, NOW + 9 * DAY),
            _ => (NOW - DAY, NOW + 9 * DAY),
        };
        (params.not_before, params.not_after) = (time!(from), time!(to));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &issuer).unwrap().der().to_vec(), key.subject_public_key_info())
    });
    let authority_key = issuer.key().subject_public_key_info();
    People { authority: issuer.der().to_vec(), authority_key, own }
}

/// The association data of a record about a certificate (RFC 6698 section 2.1).
fn data(selector: u8, matching: u8, der: &[u8], key: &[u8]) -> Vec<u8> {
    let selected = if selector == 1 { key } else { der };
    match matching {
        1 => ring::digest::digest(&ring::digest::SHA256, selected).as_ref().to_vec(),
        2 => ring::digest::digest(&ring::digest::SHA512, selected).as_ref().to_vec(),
        _ => selected.to_vec(),
    }
}

fn resolver(people: &People, policy: Policy, tiers: Vec<Vec<Spec>>) -> Resolver {
    let builder = Resolver::builder(Arc::new(|| NOW)).server("127.0.0.1:9".parse().unwrap()).policy(policy).cache(0, 0);
    let builder = builder.no_fetching().authorities(&people.authority).unwrap();
    tiers.into_iter().fold(builder, |b, tier| b.sources(tier)).build().unwrap()
}

fn absent() -> Outcome {
    Outcome::ProvenNone { own_name: false }
}

fn said(label: &str, recipient: Outcome, domain: Outcome) -> Spec {
    Spec::own(Arc::new(Said { label: label.to_owned(), recipient, domain }))
}

async fn verdict(resolver: &Resolver) -> Verdict {
    resolver.resolve(&Address::parse(WHO).unwrap()).await
}

/// Verdict, reason, and what was said of each candidate.
fn row(verdict: &Verdict) -> String {
    let trace = verdict.trace();
    let codes: Vec<&str> = trace.candidates.iter().map(|c| c.code).collect();
    format!("{} {} [{}]", verdict.code(), trace.reason, codes.join(" "))
}

#[tokio::test]
async fn the_table_of_claims() {
    let people = people();
    let mut table = String::from(
        "# What becomes of a certificate: by what vouches for it, its state, whose record it is, whether a directory has it too,\n\
         # and how strict the policy is about revocation that cannot be known. UPDATE_GOLDEN=1 writes this file.\n",
    );
    let mut claims: Vec<(String, Option<[u8; 3]>)> =
        ["cert", "bare", "local"].into_iter().map(|c| (c.to_owned(), None)).collect();
    for usage in 0..=4 {
        for selector in 0..=2 {
            for matching in 0..=3 {
                claims.push((format!("smimea {usage} {selector} {matching}"), Some([usage, selector, matching])));
            }
        }
    }
    for (claim, parameters) in &claims {
        for (state, (der, key)) in STATES.iter().zip(&people.own) {
            for matched in [Match::Recipient, Match::Wildcard] {
                for elsewhere in [false, true] {
                    let candidate = match parameters {
                        Some([usage, selector, matching]) => {
                            // Usages 0 and 2 are about the authority.
                            let (der, key) = match usage {
                                0 | 2 => (&people.authority, &people.authority_key),
                                _ => (der, key),
                            };
                            let data = data(*selector, *matching, der, key);
                            let rdata = [&[*usage, *selector, *matching][..], &data].concat();
                            Candidate::from_smimea(&rdata, matched).unwrap()
                        }
                        None => {
                            let claim = match claim.as_str() {
                                "cert" => Claim::Secure,
                                "bare" => Claim::Bare,
                                _ => Claim::Local,
                            };
                            Candidate::from_der(der, claim, matched)
                        }
                    };
                    let other = match elsewhere {
                        true => Outcome::Found([Candidate::from_der(der, Claim::Bare, Match::Recipient)].into()),
                        false => absent(),
                    };
                    let mut line = format!(
                        "{claim} | {state} | {} | {}",
                        matched.code(),
                        if elsewhere { "also bare" } else { "alone" }
                    );
                    for revocation in [Revocation::Hard, Revocation::Soft, Revocation::Off] {
                        let mut policy = Policy::default();
                        policy.revocation = revocation;
                        let first = said("first", Outcome::Found([candidate.clone()].into()), absent());
                        let second = said("second", other.clone(), absent());
                        let verdict = verdict(&resolver(&people, policy, vec![vec![first, second]])).await;
                        let row = row(&verdict);
                        // Rules of their own, whatever the table says.
                        let used = verdict.certificate().map(|c| c.der().to_vec());
                        assert!(used.is_none() || *state == "valid", "{line}: {row}");
                        assert!(used.is_none_or(|u| u == *der), "{line}: {row}");
                        let vouched = match parameters {
                            Some([1 | 3, 0, 0]) => true,
                            Some(_) => elsewhere,
                            None => true,
                        };
                        assert!(verdict.code() != "use" || vouched, "{line}: {row}");
                        line += &format!(" | {row}");
                    }
                    table += &(line + "\n");
                }
            }
        }
    }
    let path = format!("{}/tests/golden/verdicts.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = table.lines().zip(expected.lines()).find(|(is, was)| is != was);
    assert!(table == expected, "UPDATE_GOLDEN=1 writes {path}; the first difference: {differs:?}");
}

/// What a source may say, with a usable certificate in it or not.
fn outcomes(people: &People) -> Vec<(bool, Outcome)> {
    let found = |claim, der: &[u8], matched| Outcome::Found([Candidate::from_der(der, claim, matched)].into());
    let record = |parameters: [u8; 3], der: &[u8]| {
        let rdata = [&parameters[..], der].concat();
        Outcome::Found([Candidate::from_smimea(&rdata, Match::Recipient).unwrap()].into())
    };
    let hash = Association { usage: 3, selector: 0, matching: 1, data: [0; 32].into() };
    let hash = Candidate { claim: Claim::Association(hash), matched: Match::Recipient, certificate: None };
    let [valid, expired, ..] = &people.own;
    vec![
        (true, found(Claim::Local, &valid.0, Match::Recipient)),
        (true, found(Claim::Secure, &valid.0, Match::Wildcard)),
        (true, record([3, 0, 0], &valid.0)),
        (true, found(Claim::Bare, &valid.0, Match::Recipient)),
        (false, found(Claim::Bare, b"no certificate", Match::Recipient)),
        (false, found(Claim::Local, &expired.0, Match::Recipient)),
        (false, found(Claim::Secure, &expired.0, Match::Wildcard)),
        (false, record([3, 0, 0], &expired.0)),
        (false, record([9, 0, 0], &valid.0)),
        (false, Outcome::Found([hash].into())),
        (false, Outcome::Found([].into())),
        (false, Outcome::ProvenNone { own_name: false }),
        (false, Outcome::ProvenNone { own_name: true }),
        (false, Outcome::NotServed { reason: "not signed".to_owned() }),
        (false, Outcome::Error(Failure::new("timeout", "no answer"))),
        (false, Outcome::Error(Failure::new("bogus", "no proof"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_sources_turn_an_error_into_an_absence(
        // Of each tier each source: what it says about the recipient, and about the domain; and whether it is harvested.
        tiers in proptest::collection::vec(proptest::collection::vec((0_usize..16, 0_usize..16, any::<bool>()), 1..4), 1..4),
        switches in any::<[bool; 4]>(),
        mode in 0_usize..3,
    ) {
        static PEOPLE: std::sync::LazyLock<People> = std::sync::LazyLock::new(people);
        let outcomes = outcomes(&PEOPLE);
        let mut policy = Policy::default();
        policy.domain_certificate = switches[0];
        policy.domain_certificate_despite_own_record = switches[1];
        policy.harvested_despite_failure = switches[2];
        policy.encrypt_to_all = switches[3];
        policy.revocation = [Revocation::Hard, Revocation::Soft, Revocation::Off][mode];
        let specs = tiers.iter().enumerate().map(|(t, tier)| {
            let specs = tier.iter().enumerate().map(|(s, (recipient, domain, harvested))| {
                let spec = said(&format!("{t}.{s}"), outcomes[*recipient].1.clone(), outcomes[*domain].1.clone());
                if *harvested { spec.harvested() } else { spec }
            });
            specs.collect()
        });
        let resolver = resolver(&PEOPLE, policy, specs.collect());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let verdict = runtime.block_on(verdict(&resolver));
        let trace = verdict.trace();
        let failed = |i: usize| matches!(outcomes[i].1, Outcome::Error(_));
        let said: Vec<_> = tiers.iter().flatten().collect();
        match &verdict {
            Verdict::None { proven, .. } => {
                // A managed source whose own record forbids the rest ends the look-up; short of that every source is asked.
                let ended = trace.reason == "own-record-unusable" || trace.reason == "blocked";
                prop_assert!(ended || !said.iter().any(|(recipient, ..)| failed(*recipient)), "{trace}");
                let first = &tiers[0];
                let of_first = first.iter().any(|(recipient, _, harvested)| !harvested && failed(*recipient));
                prop_assert!(!of_first, "{trace}");
                prop_assert!(!trace.questions.iter().any(|q| ["timeout", "bogus"].contains(&q.outcome)), "{trace}");
                let unproven = trace.questions.iter().any(|q| q.outcome == "not-served");
                prop_assert!(!(*proven && unproven), "{trace}");
            }
            Verdict::Use { certificates, .. } => {
                let there = said.iter().any(|(r, d, _)| outcomes[*r].0 || outcomes[*d].0);
                prop_assert!(there, "{trace}");
                let valid = Certificate::from_der(&PEOPLE.own[0].0).unwrap();
                prop_assert!(certificates.iter().all(|c| c.sha256() == valid.sha256()), "{trace}");
            }
            Verdict::Unknown { .. } => {
                // Something failed, or a revocation state could not be known.
                let failure = said.iter().any(|(r, d, _)| failed(*r) || failed(*d));
                let doubt = said.iter().any(|(r, d, _)| outcomes[*r].0 || outcomes[*d].0);
                prop_assert!(failure || doubt, "{trace}");
            }
        }
    }
}
