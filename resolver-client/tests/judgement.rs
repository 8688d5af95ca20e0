//! The judge alone: tables, a property, and the trace in its two forms.

use std::sync::Arc;

use certdir_resolver::judge::{Ruling, judge};
use certdir_resolver::outcome::{Candidate, Finding, Level};
use certdir_resolver::trace::{Asked, Dnssec, Exchange, Question};
use certdir_resolver::{Certificate, Failure, Outcome, Policy, Trace, UnixTime};
use proptest::prelude::*;

/// Within the validity of the certificates in `tests/data`.
const NOW: UnixTime = 1_797_000_000;

fn der(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}.der", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn record(parameters: [u8; 3], data: &[u8]) -> Candidate {
    Candidate::from_rdata(&[&parameters[..], data].concat()).unwrap()
}

fn finding(level: Level, outcome: Outcome) -> Finding {
    let question = Question {
        source: "dns",
        name: "c93f1e40._smimecert.example.org.".to_owned(),
        record_type: "SMIMEA",
        dnssec: Dnssec::Secure,
        message: "1 record".to_owned(),
        asked_at: NOW - 10,
        aliases: vec!["alias.example.org.".to_owned()],
        exchanges: vec![Exchange {
            question: "c93f1e40._smimecert.example.org. SMIMEA".to_owned(),
            server: "127.0.0.1:53".to_owned(),
            transport: "tcp",
            result: "No Error, 2 answer records".to_owned(),
        }],
    };
    Finding { level, outcome, until: NOW + 290, question: Arc::new(question) }
}

fn found(wildcard: bool, candidates: Vec<Candidate>) -> Outcome {
    Outcome::Found { candidates: candidates.into(), wildcard }
}

/// One of each thing that can be said about a name.
fn outcomes() -> Vec<(&'static str, Outcome)> {
    let (good, stale) = (record([3, 0, 0], &der("alice")), record([2, 0, 0], &der("alice")));
    vec![
        ("usable", found(false, vec![good.clone()])),
        ("unusable", found(false, vec![stale.clone()])),
        ("wildcard usable", found(true, vec![good])),
        ("wildcard unusable", found(true, vec![stale])),
        ("proven", Outcome::ProvenNone { own_name: false }),
        ("blocked", Outcome::ProvenNone { own_name: true }),
        ("not served", Outcome::NotServed { cut: "example.org.".to_owned() }),
        ("error", Outcome::Error(Failure::new("timeout", "no answer"))),
    ]
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
        ("", "", "unknown nothing-asked"),
    ];
    for (recipient, domain, expected) in table {
        let find = |name| outcomes().into_iter().find(|(n, _)| *n == name).map(|(_, o)| o);
        let asked = [(Level::Recipient, recipient), (Level::Domain, domain)];
        let findings: Vec<_> = asked.into_iter().filter_map(|(l, n)| Some(finding(l, find(n)?))).collect();
        let judgement = judge(&findings, &Policy::default(), NOW);
        let verdict = match judgement.ruling {
            Ruling::Use { .. } => "use",
            Ruling::None { .. } => "none",
            Ruling::Unknown { .. } => "unknown",
        };
        assert_eq!(format!("{verdict} {}", judgement.reason), expected, "{recipient} / {domain}");
    }
}

/// Parameters, data, time, and what is to be said.
type Row<'a> = ([u8; 3], &'a [u8], UnixTime, Result<(), &'a str>);

#[test]
fn the_table_of_records() {
    let alice = der("alice");
    let certificate = Certificate::from_der(&alice).unwrap();
    let table: [Row; 17] = [
        ([3, 0, 0], &alice, NOW, Ok(())),
        ([3, 0, 0], &alice, certificate.not_before(), Ok(())),
        ([3, 0, 0], &alice, certificate.not_before() - 1, Err("not-yet-valid")),
        ([3, 0, 0], &alice, certificate.not_after(), Ok(())),
        ([3, 0, 0], &alice, certificate.not_after() + 1, Err("expired")),
        ([0, 0, 0], &alice, NOW, Err("needs-pkix-ta")),
        ([1, 0, 0], &alice, NOW, Err("needs-pkix-ee")),
        ([2, 0, 0], &alice, NOW, Err("needs-dane-ta")),
        ([4, 0, 0], &alice, NOW, Err("unknown-usage")),
        ([3, 0, 1], &[0; 32], NOW, Err("hash-only")),
        ([3, 0, 2], &[0; 64], NOW, Err("hash-only")),
        ([3, 1, 1], &[0; 32], NOW, Err("hash-only")),
        ([3, 1, 0], &[0; 91], NOW, Err("key-only")),
        ([3, 0, 3], &[0; 32], NOW, Err("unknown-matching")),
        ([3, 2, 0], &[0; 32], NOW, Err("unknown-selector")),
        ([3, 0, 0], &alice[..alice.len() - 1], NOW, Err("malformed")),
        ([3, 0, 0], b"", NOW, Err("malformed")),
    ];
    for (parameters, data, now, expected) in table {
        let candidate = record(parameters, data);
        assert_eq!(candidate.usable(now).map(|_| ()), expected, "{parameters:?} at {now}");
    }
    assert!(Candidate::from_rdata(&[3, 0]).is_none());
}

proptest! {
    #[test]
    fn an_error_is_never_an_absence(
        picks in proptest::collection::vec((any::<bool>(), 0_usize..8), 0..6),
        domain_certificate: bool,
        despite: bool,
        late: bool,
    ) {
        let outcomes = outcomes();
        let findings: Vec<_> = picks
            .iter()
            .map(|(recipient, pick)| {
                let level = if *recipient { Level::Recipient } else { Level::Domain };
                finding(level, outcomes[*pick].1.clone())
            })
            .collect();
        let mut policy = Policy::default();
        policy.domain_certificate = domain_certificate;
        policy.domain_certificate_despite_own_record = despite;
        // Late: every certificate has expired.
        let now = if late { NOW * 2 } else { NOW };
        let failed = findings.iter().any(|f| matches!(f.outcome, Outcome::Error(_)));
        let judgement = judge(&findings, &policy, now);
        match judgement.ruling {
            Ruling::None { proven } => {
                prop_assert!(!failed && !findings.is_empty());
                let unsigned = findings.iter().any(|f| matches!(f.outcome, Outcome::NotServed { .. }));
                prop_assert_eq!(proven, !unsigned);
            }
            Ruling::Unknown { .. } => prop_assert!(failed || findings.is_empty()),
            Ruling::Use { certificates, .. } => {
                prop_assert!(!late && !certificates.is_empty());
                prop_assert!(certificates.iter().all(|c| c.valid_at(now)));
                prop_assert_eq!(judgement.examined.iter().filter(|e| e.chosen).count(), 1);
            }
        }
    }
}

/// A trace with one of everything.
fn trace() -> Trace {
    let findings = [
        finding(Level::Recipient, found(true, vec![record([3, 0, 0], b"nothing"), record([3, 0, 1], &[7; 32])])),
        finding(Level::Domain, found(false, vec![record([3, 0, 0], &der("domain")), record([2, 0, 0], &der("alice"))])),
    ];
    let mut judgement = judge(&findings, &Policy::default(), NOW);
    // The reader's words are not ours.
    judgement.examined[0].complaint = Some("not a certificate".to_owned());
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
                until: f.until,
                outcome: f.outcome.code(),
                question: Arc::clone(&f.question),
            })
            .collect(),
        candidates: judgement.examined,
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
