//! The judge alone: tables, a property, and the trace in its two forms.

use std::sync::Arc;

use certdir_resolver::judge::{Finding, Ruling, Standing, judge};
use certdir_resolver::outcome::{Candidate, Claim};
use certdir_resolver::trace::{Asked, Dnssec, Exchange, ExtendedError, Question};
use certdir_resolver::{Answer, Failure, Level, Match, Outcome, Policy, Trace, Trust, UnixTime};
use proptest::prelude::*;

/// Within the validity of the certificates in `tests/data`.
const NOW: UnixTime = 1_797_000_000;

fn der(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}.der", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn record(parameters: [u8; 3], data: &[u8], matched: Match) -> Candidate {
    Candidate::from_smimea(&[&parameters[..], data].concat(), matched).unwrap()
}

fn finding(level: Level, outcome: Outcome, standings: Vec<Standing>) -> Finding {
    let question = Question {
        source: "smimea".into(),
        name: "c93f1e40._smimecert.example.org.".to_owned(),
        kind: "SMIMEA",
        dnssec: Some(Dnssec::Secure),
        message: "1 record".to_owned(),
        asked_at: NOW - 10,
        aliases: vec!["alias.example.org.".to_owned()],
        exchanges: vec![Exchange {
            question: "c93f1e40._smimecert.example.org. SMIMEA".to_owned(),
            server: "127.0.0.1:53".to_owned(),
            transport: "tcp",
            result: "No Error, 2 answer records".to_owned(),
            extended_errors: vec![ExtendedError { code: 7, text: "signature expired".to_owned() }],
        }],
    };
    let answer = Answer { outcome, until: NOW + 290, question: Arc::new(question) };
    let until = answer.until;
    Finding { level, source: "smimea".into(), harvested: false, trust: Trust::Vouched, answer, standings, until }
}

fn refused() -> Standing {
    Standing::Refused { code: "expired", message: None }
}

/// One of each thing that can be said about a subject.
const KINDS: [&str; 10] = [
    "usable",
    "unusable",
    "doubtful",
    "wildcard usable",
    "wildcard unusable",
    "proven",
    "blocked",
    "not served",
    "error",
    "harvested",
];

fn kind(level: Level, name: &str) -> Option<Finding> {
    let own = match level {
        Level::Recipient => Match::Recipient,
        Level::Domain => Match::Domain,
    };
    let found = |matched, standing| {
        let candidate = record([3, 0, 0], &der("alice"), matched);
        finding(level, Outcome::Found([candidate].into()), vec![standing])
    };
    let plain = |outcome| finding(level, outcome, Vec::new());
    let failure = Failure::new("timeout", "no answer");
    Some(match name {
        "usable" => found(own, Standing::Usable),
        "unusable" => found(own, refused()),
        "doubtful" => found(own, Standing::Doubtful(failure)),
        "wildcard usable" => found(Match::Wildcard, Standing::Usable),
        "wildcard unusable" => found(Match::Wildcard, refused()),
        "proven" => plain(Outcome::ProvenNone { own_name: false }),
        "blocked" => plain(Outcome::ProvenNone { own_name: true }),
        "not served" => plain(Outcome::NotServed { reason: "example.org. is proven not to be signed".to_owned() }),
        "error" => plain(Outcome::Error(failure)),
        "harvested" => Finding { harvested: true, ..found(own, Standing::Usable) },
        _ => return None,
    })
}

#[test]
fn the_table_of_verdicts() {
    // Recipient's own name, domain's own name, ruling and reason.
    let table = [
        ("usable", "", "use recipient"),
        ("usable", "error", "use recipient"),
        ("usable", "usable", "use recipient"),
        ("unusable", "", "none own-record-unusable"),
        ("unusable", "usable", "none own-record-unusable"),
        ("unusable", "error", "unknown timeout"),
        ("wildcard usable", "", "use wildcard"),
        ("wildcard usable", "usable", "use domain"),
        ("wildcard usable", "error", "use wildcard"),
        ("wildcard usable", "wildcard usable", "use wildcard"),
        ("wildcard usable", "unusable", "use wildcard"),
        ("wildcard unusable", "", "none nothing-usable"),
        ("wildcard unusable", "usable", "use domain"),
        ("wildcard unusable", "proven", "none nothing-usable"),
        ("wildcard unusable", "error", "unknown timeout"),
        ("proven", "", "none proven-none"),
        ("proven", "usable", "use domain"),
        ("proven", "unusable", "none nothing-usable"),
        ("proven", "proven", "none proven-none"),
        ("proven", "not served", "none not-served"),
        ("proven", "error", "unknown timeout"),
        ("blocked", "", "none blocked"),
        ("blocked", "usable", "none blocked"),
        ("blocked", "error", "unknown timeout"),
        ("not served", "", "none not-served"),
        ("not served", "usable", "use domain"),
        ("not served", "error", "unknown timeout"),
        ("error", "", "unknown timeout"),
        ("error", "usable", "unknown timeout"),
        ("error", "proven", "unknown timeout"),
        ("doubtful", "", "unknown timeout"),
        ("doubtful", "usable", "unknown timeout"),
        ("proven", "doubtful", "unknown timeout"),
        ("", "", "unknown nothing-asked"),
    ];
    for (recipient, domain, expected) in table {
        let asked = [(Level::Recipient, recipient), (Level::Domain, domain)];
        let findings: Vec<_> = asked.into_iter().filter_map(|(level, name)| kind(level, name)).collect();
        assert_eq!(said(&findings, &Policy::default()), expected, "{recipient} / {domain}");
    }
}

fn said(findings: &[Finding], policy: &Policy) -> String {
    let judgement = judge(findings, policy);
    let verdict = match judgement.ruling {
        Ruling::Use { .. } => "use",
        Ruling::None { .. } => "none",
        Ruling::Unknown { .. } => "unknown",
    };
    format!("{verdict} {}", judgement.reason)
}

#[test]
fn managed_beats_harvested() {
    let table = [
        (&["usable", "harvested"][..], "use recipient", "use recipient"),
        (&["proven", "harvested"], "use harvested", "use harvested"),
        (&["not served", "harvested"], "use harvested", "use harvested"),
        (&["wildcard usable", "harvested"], "use wildcard", "use wildcard"),
        (&["error", "harvested"], "unknown timeout", "use harvested"),
        (&["doubtful", "harvested"], "unknown timeout", "unknown timeout"),
        (&["unusable", "harvested"], "none own-record-unusable", "none own-record-unusable"),
        (&["blocked", "harvested"], "none blocked", "none blocked"),
        // A second managed source makes up for one that fails: its certificate is the recipient's own.
        (&["error", "usable"], "use recipient", "use recipient"),
        (&["unusable", "usable"], "use recipient", "use recipient"),
        (&["proven", "error"], "unknown timeout", "unknown timeout"),
    ];
    let mut despite = Policy::default();
    despite.harvested_despite_failure = true;
    for (names, strict, lenient) in table {
        let findings: Vec<_> = names.iter().filter_map(|name| kind(Level::Recipient, name)).collect();
        assert_eq!(said(&findings, &Policy::default()), strict, "{names:?}");
        assert_eq!(said(&findings, &despite), lenient, "{names:?}");
    }
}

#[test]
fn revoked_in_one_source_is_revoked_in_all() {
    let revoked = Standing::Refused { code: "revoked", message: None };
    let mut findings = vec![
        kind(Level::Recipient, "usable").unwrap(),
        Finding { standings: vec![revoked], ..kind(Level::Recipient, "usable").unwrap() },
    ];
    assert_eq!(said(&findings, &Policy::default()), "none own-record-unusable");
    findings.pop();
    assert_eq!(said(&findings, &Policy::default()), "use recipient");
}

proptest! {
    #[test]
    fn an_error_is_never_an_absence(
        picks in proptest::collection::vec((any::<bool>(), 0..KINDS.len()), 0..6),
        domain_certificate: bool,
        despite: bool,
        harvested_despite_failure: bool,
    ) {
        let findings: Vec<_> = picks
            .iter()
            .filter_map(|(recipient, pick)| {
                kind(if *recipient { Level::Recipient } else { Level::Domain }, KINDS[*pick])
            })
            .collect();
        let mut policy = Policy::default();
        policy.domain_certificate = domain_certificate;
        policy.domain_certificate_despite_own_record = despite;
        policy.harvested_despite_failure = harvested_despite_failure;
        let failed = findings.iter().any(|f| f.failure().is_some());
        let judgement = judge(&findings, &policy);
        match judgement.ruling {
            Ruling::None { proven } => {
                prop_assert!(!failed && !findings.is_empty());
                let unsigned = findings.iter().any(|f| matches!(f.answer.outcome, Outcome::NotServed { .. }));
                prop_assert_eq!(proven, !unsigned);
            }
            Ruling::Unknown { .. } => prop_assert!(failed || findings.is_empty()),
            Ruling::Use { certificates, .. } => {
                prop_assert!(!certificates.is_empty());
                prop_assert!(findings.iter().flat_map(|f| &f.standings).any(|s| *s == Standing::Usable));
                prop_assert_eq!(judgement.examined.iter().filter(|e| e.chosen).count(), 1);
            }
        }
    }
}

/// A trace with one of everything.
fn trace() -> Trace {
    let wildcard = [record([3, 0, 0], b"nothing", Match::Wildcard), record([3, 0, 1], &[7; 32], Match::Wildcard)];
    let domain = [
        record([3, 0, 0], &der("domain"), Match::Domain),
        Candidate::from_der(&der("alice"), Claim::Bare, Match::Domain),
    ];
    // The reader's words are not ours.
    let malformed = Standing::Refused { code: "malformed", message: Some("not a certificate".to_owned()) };
    let hash = Standing::Refused { code: "hash-only", message: None };
    let findings = [
        finding(Level::Recipient, Outcome::Found(wildcard.into()), vec![malformed, hash]),
        finding(Level::Domain, Outcome::Found(domain.into()), vec![Standing::Usable, refused()]),
    ];
    let judgement = judge(&findings, &Policy::default());
    Trace {
        address: "alice@example.org".to_owned(),
        asked_at: NOW,
        verdict: "use",
        reason: judgement.reason,
        questions: findings
            .iter()
            .map(|f| Asked {
                level: f.level,
                cached: f.level == Level::Domain,
                until: f.answer.until,
                outcome: f.answer.outcome.code(),
                question: Arc::clone(&f.answer.question),
            })
            .collect(),
        candidates: judgement.examined,
        fetched: vec![Exchange {
            question: "CRL http://crl.example.org/ca.crl".to_owned(),
            server: "192.0.2.1:80".to_owned(),
            transport: "http",
            result: "712 octets".to_owned(),
            extended_errors: Vec::new(),
        }],
        look_again: NOW + 290,
    }
}

/// Compares with a file in `tests/golden`; `UPDATE_GOLDEN=1` writes it.
fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "UPDATE_GOLDEN=1 writes {path}");
}

#[test]
fn a_trace_is_text_and_json() {
    let trace = trace();
    golden("trace.txt", &trace.to_string());
    golden("trace.json", &(serde_json::to_string_pretty(&trace).unwrap() + "\n"));
}
