//! What vouches for a certificate, and what is fetched to see whether it still holds: against a small HTTP server with an
//! authority's certificate and list.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certdir_resolver::outcome::{Candidate, Claim};
use certdir_resolver::policy::Revocation;
use certdir_resolver::reach::Reach;
use certdir_resolver::source::Asking;
use certdir_resolver::trace::Question;
use certdir_resolver::{
    Answer, Certificate, Level, Match, Outcome, Policy, Resolver, Source, Spec, Subject, Trust, UnixTime, Verdict,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, CustomExtension,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::certificates::{DAY, now, time};
use crate::servers::{address, ask, gist};

/// A web server: octets by path, each after a pause.
#[derive(Clone)]
struct Web {
    at: SocketAddr,
    pages: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl Web {
    async fn start(pause: Duration) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = Web { at: listener.local_addr().unwrap(), pages: Arc::default() };
        let pages = Arc::clone(&web.pages);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned();
                    tokio::time::sleep(pause).await;
                    let page = pages.lock().unwrap().get(&path).cloned();
                    let (status, body) = page.map_or(("404 Not Found", Vec::new()), |page| ("200 OK", page));
                    let head =
                        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
                });
            }
        });
        web
    }

    fn put(&self, path: &str, octets: &[u8]) {
        self.pages.lock().unwrap().insert(path.to_owned(), octets.to_vec());
    }
}

/// A certification authority.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (time!(now() - 9 * DAY), time!(now() + 900 * DAY));
        let key = KeyPair::generate().unwrap();
        let certificate = Certificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
        Authority { params, key, certificate }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A certificate for a mail address; with a server, it says where issuer and list are.
    fn issue(&self, mailbox: &str, serial: u64, web: Option<&Web>) -> Certificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("{mailbox} {serial}"));
        params.subject_alt_names = vec![SanType::Rfc822Name(mailbox.try_into().unwrap())];
        params.serial_number = Some(SerialNumber::from(serial));
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        // The later the number, the newer.
        let from = now() - 5 * DAY + i64::try_from(serial).unwrap();
        (params.not_before, params.not_after) = (time!(from), time!(now() + 90 * DAY));
        if let Some(web) = web {
            let uris = vec![format!("http://{}/ca.crl", web.at)];
            params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
            params.custom_extensions.push(ca_issuers(&format!("http://{}/ca.cer", web.at)));
        }
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &self.issuer()).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }

    fn list(&self, revoked: &[u64]) -> Vec<u8> {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: time!(now() - DAY),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: time!(now() - DAY),
            next_update: time!(now() + 30 * DAY),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().der().to_vec()
    }
}

/// Authority information access with one caIssuers address (RFC 5280 section 4.2.2.1).
fn ca_issuers(uri: &str) -> CustomExtension {
    let tagged = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let method = tagged(0x06, &[0x2b, 6, 1, 5, 5, 7, 48, 2]);
    let description = tagged(0x30, &[method, tagged(0x86, uri.as_bytes())].concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], tagged(0x30, &description))
}

/// A source that has these candidates for whoever is asked for at the recipient's level.
struct Fixed(&'static str, Mutex<Vec<Candidate>>);

impl Source for Fixed {
    fn label(&self) -> &str {
        self.0
    }

    fn find<'a>(&'a self, subject: &'a Subject, now: UnixTime) -> Asking<'a> {
        let candidates = match subject.level {
            Level::Recipient => self.1.lock().unwrap().clone(),
            Level::Domain => Vec::new(),
        };
        let outcome = match candidates.is_empty() {
            true => Outcome::ProvenNone { own_name: false },
            false => Outcome::Found(candidates.into()),
        };
        let question = Question {
            source: self.0.into(),
            name: subject.mailbox().to_string(),
            kind: "fixed",
            dnssec: None,
            message: String::new(),
            asked_at: now,
            aliases: Vec::new(),
            exchanges: Vec::new(),
        };
        let answer = Answer { outcome, until: now + DAY, question: Arc::new(question) };
        Box::pin(async move { answer })
    }
}

fn record(parameters: [u8; 3], data: &[u8]) -> Candidate {
    Candidate::from_smimea(&[&parameters[..], data].concat(), Match::Recipient).unwrap()
}

fn bare(certificate: &Certificate) -> Candidate {
    Candidate::from_der(certificate.der(), Claim::Bare, Match::Recipient)
}

/// A resolver with tiers of fixed sources, the authority of chains, and a clock that can be moved.
struct Gateway {
    resolver: Resolver,
    clock: Arc<AtomicI64>,
}

fn gateway(tiers: Vec<(Vec<Candidate>, Trust)>, web: &Web, authority: Option<&Authority>, how: Revocation) -> Gateway {
    let clock = Arc::new(AtomicI64::new(now()));
    let time = Arc::clone(&clock);
    let mut policy = Policy::default();
    policy.revocation = how;
    let reach = Reach::public().network("127.0.0.0/8".parse().unwrap()).port(web.at.port());
    let mut builder = Resolver::builder(Arc::new(move || time.load(Ordering::SeqCst)))
        .server("127.0.0.1:9".parse().unwrap())
        .policy(policy)
        .fetching(reach, Default::default());
    if let Some(authority) = authority {
        builder = builder.authorities(authority.certificate.der()).unwrap();
    }
    for ((candidates, trust), label) in tiers.into_iter().zip(["first", "second", "third"]) {
        builder = builder.sources([Spec::own(Arc::new(Fixed(label, Mutex::new(candidates)))).trust(trust)]);
    }
    Gateway { resolver: builder.build().unwrap(), clock }
}

#[track_caller]
fn codes(verdict: &Verdict) -> Vec<&'static str> {
    verdict.trace().candidates.iter().map(|c| c.code).collect()
}

const ALICE: &str = "alice@example.org";

#[tokio::test]
async fn each_of_several_candidates_is_checked_whoever_fetches_first() {
    let web = Web::start(Duration::from_millis(200)).await;
    let authority = Authority::new("CA");
    web.put("/ca.cer", authority.certificate.der());
    web.put("/ca.crl", &authority.list(&[2]));
    let (good, revoked) = (authority.issue(ALICE, 1, Some(&web)), authority.issue(ALICE, 2, Some(&web)));
    for order in [[&good, &revoked], [&revoked, &good]] {
        for claim in ["record", "bare", "local"] {
            let candidate = |c: &&Certificate| match claim {
                "record" => record([3, 0, 0], c.der()),
                "bare" => bare(c),
                _ => Candidate::from_der(c.der(), Claim::Local, Match::Recipient),
            };
            let candidates = order.iter().map(candidate).collect();
            let tiers = vec![(candidates, Trust::Vouched)];
            let gateway = gateway(tiers, &web, Some(&authority), Revocation::Hard);
            let verdict = ask(&gateway.resolver, ALICE).await;
            assert_eq!(gist(&verdict), ("use", "recipient"), "{claim} {}", verdict.trace());
            assert_eq!(verdict.certificate(), Some(&good), "{claim} {}", verdict.trace());
            assert!(codes(&verdict).contains(&"revoked"), "{claim} {}", verdict.trace());
            assert!(!verdict.trace().fetched.is_empty());
        }
    }
    let tiers = vec![(vec![record([3, 0, 0], revoked.der())], Trust::Vouched)];
    let verdict = ask(&gateway(tiers, &web, None, Revocation::Hard).resolver, ALICE).await;
    assert_eq!(gist(&verdict), ("none", "own-record-unusable"), "{}", verdict.trace());
}

#[tokio::test]
async fn what_cannot_be_fetched_is_soft_for_a_record_and_hard_for_a_chain() {
    let web = Web::start(Duration::ZERO).await;
    let authority = Authority::new("CA");
    let certificate = authority.issue(ALICE, 1, Some(&web));
    let tier = |candidate| vec![(vec![candidate], Trust::Vouched)];
    for (how, chain) in [
        (Revocation::Hard, ("unknown", "revocation-unknown")),
        (Revocation::Soft, ("use", "recipient")),
        (Revocation::Off, ("use", "recipient")),
    ] {
        let by_record = gateway(tier(record([3, 0, 0], certificate.der())), &web, Some(&authority), how);
        assert_eq!(gist(&ask(&by_record.resolver, ALICE).await), ("use", "recipient"), "{how:?}");
        let by_chain = gateway(tier(bare(&certificate)), &web, Some(&authority), how);
        let verdict = ask(&by_chain.resolver, ALICE).await;
        assert_eq!(gist(&verdict), chain, "{how:?} {}", verdict.trace());
    }
    // What was not known is looked at again soon, not after the day that the answer may be kept.
    let gateway = gateway(tier(record([3, 0, 0], certificate.der())), &web, None, Revocation::Hard);
    let verdict = ask(&gateway.resolver, ALICE).await;
    assert!(verdict.look_again() <= now() + 301, "{}", verdict.trace());
    web.put("/ca.cer", authority.certificate.der());
    web.put("/ca.crl", &authority.list(&[1]));
    gateway.clock.fetch_add(301, Ordering::SeqCst);
    assert_eq!(gist(&ask(&gateway.resolver, ALICE).await), ("none", "own-record-unusable"));
}

#[tokio::test]
async fn a_forged_list_is_not_kept() {
    let web = Web::start(Duration::ZERO).await;
    let (authority, forger) = (Authority::new("CA"), Authority::new("CA"));
    let certificate = authority.issue(ALICE, 1, Some(&web));
    web.put("/ca.cer", authority.certificate.der());
    web.put("/ca.crl", &forger.list(&[]));
    let tiers = vec![(vec![bare(&certificate)], Trust::Vouched)];
    let gateway = gateway(tiers, &web, Some(&authority), Revocation::Hard);
    let verdict = ask(&gateway.resolver, ALICE).await;
    assert_eq!(gist(&verdict), ("unknown", "revocation-unknown"), "{}", verdict.trace());
    web.put("/ca.crl", &authority.list(&[]));
    gateway.clock.fetch_add(120, Ordering::SeqCst);
    let verdict = ask(&gateway.resolver, ALICE).await;
    assert_eq!(gist(&verdict), ("use", "recipient"), "{}", verdict.trace());
}

#[tokio::test]
async fn a_revocation_is_heeded_for_every_address() {
    let web = Web::start(Duration::ZERO).await;
    let authority = Authority::new("CA");
    let certificate = authority.issue(ALICE, 1, Some(&web));
    let tiers = vec![(vec![record([3, 0, 0], certificate.der())], Trust::Vouched)];
    let gateway = gateway(tiers, &web, None, Revocation::Hard);
    // The list cannot be had, and the certificate is used.
    assert_eq!(gist(&ask(&gateway.resolver, ALICE).await), ("use", "recipient"));
    assert!(gateway.resolver.cached(&address(ALICE)).is_some());
    // Another address with the same certificate, when it can.
    web.put("/ca.cer", authority.certificate.der());
    web.put("/ca.crl", &authority.list(&[1]));
    gateway.clock.fetch_add(60, Ordering::SeqCst);
    assert_eq!(gist(&ask(&gateway.resolver, "al@example.org").await), ("none", "own-record-unusable"));
    assert!(gateway.resolver.cached(&address(ALICE)).is_none(), "known to be revoked");
    assert_eq!(gist(&ask(&gateway.resolver, ALICE).await), ("none", "own-record-unusable"));
    assert_eq!(gateway.resolver.counts().revocations, 1);
}

#[tokio::test]
async fn records_confirm_what_other_sources_find() {
    let web = Web::start(Duration::ZERO).await;
    let (authority, other) = (Authority::new("CA"), Authority::new("Other CA"));
    let certificate = authority.issue(ALICE, 1, None);
    let stranger = authority.issue("mallory@example.org", 2, None);
    let hash = |octets: &[u8]| ring::digest::digest(&ring::digest::SHA256, octets).as_ref().to_vec();
    let ca = &authority.certificate;
    let spki = ca.spki_der();
    // What DNS says, the gateway's own authority, what the directory has, how the directory is trusted, and the outcome.
    type Row<'a> = (Candidate, Option<&'a Authority>, &'a Certificate, Trust, &'a str);
    let both = |c: &Certificate| vec![bare(c), bare(ca)];
    let table: Vec<Row<'_>> = vec![
        (record([3, 0, 1], &hash(certificate.der())), None, &certificate, Trust::Vouched, "use"),
        (record([3, 1, 1], &hash(certificate.spki_der())), None, &certificate, Trust::Vouched, "use"),
        (record([3, 1, 0], certificate.spki_der()), None, &certificate, Trust::Vouched, "use"),
        (record([3, 0, 1], &[7; 32]), Some(&authority), &certificate, Trust::Vouched, "not-associated"),
        (record([3, 0, 1], &hash(stranger.der())), None, &stranger, Trust::Vouched, "use"),
        // The directory's own trust asks for more than the record gives.
        (record([3, 0, 1], &hash(certificate.der())), None, &certificate, Trust::Chain, "no-path"),
        (record([3, 0, 1], &hash(certificate.der())), Some(&authority), &certificate, Trust::Chain, "use"),
        (record([1, 0, 1], &hash(certificate.der())), None, &certificate, Trust::Vouched, "no-path"),
        (record([1, 0, 1], &hash(certificate.der())), Some(&authority), &certificate, Trust::Vouched, "use"),
        (record([1, 0, 1], &hash(stranger.der())), Some(&authority), &stranger, Trust::Vouched, "wrong-address"),
        (record([2, 0, 0], ca.der()), None, &certificate, Trust::Vouched, "use"),
        (record([2, 1, 0], spki), None, &certificate, Trust::Vouched, "use"),
        (record([2, 0, 1], &hash(ca.der())), None, &certificate, Trust::Vouched, "use"),
        (record([2, 1, 1], &hash(spki)), None, &certificate, Trust::Vouched, "use"),
        (record([2, 0, 0], ca.der()), None, &stranger, Trust::Vouched, "wrong-address"),
        (record([2, 0, 0], other.certificate.der()), Some(&authority), &certificate, Trust::Vouched, "no-path"),
        (record([0, 0, 0], ca.der()), Some(&authority), &certificate, Trust::Vouched, "use"),
        (record([0, 1, 1], &hash(spki)), Some(&authority), &certificate, Trust::Vouched, "use"),
        (record([0, 0, 0], ca.der()), None, &certificate, Trust::Vouched, "no-path"),
        (record([0, 0, 0], other.certificate.der()), Some(&authority), &certificate, Trust::Vouched, "association"),
    ];
    for (said, own, found, trust, expected) in table {
        let what = format!("{:?} for {}", said.claim, found.subject()).chars().take(60).collect::<String>();
        let tiers = vec![(vec![said.clone()], Trust::Vouched), (both(found), trust)];
        let verdict = ask(&gateway(tiers, &web, own, Revocation::Soft).resolver, ALICE).await;
        match expected {
            "use" => {
                assert_eq!(gist(&verdict), ("use", "recipient"), "{what} {}", verdict.trace());
                assert_eq!(verdict.certificate(), Some(found), "{what}");
            }
            code => {
                assert_ne!(verdict.code(), "use", "{what} {}", verdict.trace());
                assert!(codes(&verdict).contains(&code), "{what}: {code}? {}", verdict.trace());
            }
        }
    }
    // A record confirms no further than its own source is trusted.
    let confirmed = record([3, 0, 1], &hash(certificate.der()));
    let tiers = vec![(vec![confirmed], Trust::Chain), (vec![bare(&certificate)], Trust::Vouched)];
    let verdict = ask(&gateway(tiers, &web, None, Revocation::Soft).resolver, ALICE).await;
    assert_ne!(verdict.code(), "use", "{}", verdict.trace());
}
