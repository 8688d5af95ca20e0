//! A year of refreshes on a real directory, with a validating resolver of another make asking: not one bogus answer.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use certdir_directory::{
    Address, Authority, Clock, Denial, DomainName, Follower, Hosting, PublishOptions, Published, Settings, Store,
    Submission, WithdrawTarget,
};
use certdir_dns::{Frontend, Options};
use certdir_zones::{cert_owner, smimea_owner, smimea_wildcard};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::resolvers::{Resolver, free_port, unbound_with};
use crate::world::{NOW, generosity};

const HALF_A_DAY: i64 = 43_200;
/// Half days between two times of asking: not a multiple of what signatures last, so that their ages differ.
const ASKED_EVERY: i64 = 19;
/// The form of denial of each domain.
const DOMAINS: [(&str, Denial); 2] = [("example.org", Denial::Minimal), ("example.net", Denial::Chain)];
/// Who comes and goes. Alice, beside them, is reissued only.
const PEOPLE: [&str; 5] = ["p0", "p1", "p2", "p3", "p4"];

struct Authorities {
    ca: CertifiedIssuer<'static, KeyPair>,
    issued: u64,
}

impl Authorities {
    fn new() -> Authorities {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authorities { ca: CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap(), issued: 0 }
    }

    /// A certificate that takes the place of those issued before.
    fn issue(&mut self, name: SanType) -> Submission {
        self.issued += 1;
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2026, 1, 1) + Duration::from_secs(self.issued);
        params.not_after = date_time_ymd(2029, 1, 1);
        params.subject_alt_names = vec![name];
        let der = params.signed_by(&KeyPair::generate().unwrap(), &self.ca).unwrap().der().to_vec();
        Submission { der, origin: "test".into() }
    }

    fn person(&mut self, address: &str) -> Submission {
        self.issue(SanType::Rfc822Name(address.try_into().unwrap()))
    }
}

fn address(local: &str, domain: &str) -> Address {
    Address::parse(&format!("{local}@{domain}")).unwrap()
}

/// The records of a domain beside its certificates.
fn records(step: i64) -> String {
    format!("www A 192.0.2.1\nmail CNAME www\nold DNAME www\n*.any TXT \"x\"\nstep{} A 192.0.2.2\n", step % 3)
}

/// What is asked: owner, type, and the expected status and whether there are answers.
fn questions(domain: &str, published: &Published) -> Vec<(String, &'static str, &'static str, bool)> {
    let alice = address("alice", domain);
    let owner = smimea_owner(&alice).to_string();
    let wildcard = smimea_wildcard(&DomainName::parse(domain).unwrap()).to_string();
    let mut questions = vec![
        (domain.into(), "SOA", "NOERROR", true),
        (domain.into(), "DNSKEY", "NOERROR", true),
        (owner.clone(), "SMIMEA", "NOERROR", true),
        (cert_owner(&alice).unwrap().to_string(), "CERT", "NOERROR", true),
        (wildcard.replacen('*', "anybody", 1), "SMIMEA", "NOERROR", true),
        (wildcard.replacen('*', "anybody", 1), "TXT", "NOERROR", false),
        (owner.clone(), "TXT", "NOERROR", false),
        (format!("x.{owner}"), "SMIMEA", "NXDOMAIN", false),
        (format!("nobody.{domain}"), "CERT", "NXDOMAIN", false),
        (format!("mail.{domain}"), "A", "NOERROR", true),
        (format!("one.any.{domain}"), "TXT", "NOERROR", true),
        (format!("one.any.{domain}"), "A", "NOERROR", false),
    ];
    for local in PEOPLE {
        let person = address(local, domain);
        let owner = cert_owner(&person).unwrap().to_string();
        questions.push(match published.entry(&person) {
            Some(_) => (owner, "CERT", "NOERROR", true),
            None => (owner, "CERT", "NXDOMAIN", false),
        });
    }
    questions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_without_a_bogus_answer() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).await.unwrap();
    let time = Arc::new(AtomicI64::new(NOW));
    let clock: Clock = {
        let time = time.clone();
        Arc::new(move || time.load(Ordering::Relaxed))
    };
    let (mut follower, reader) = Follower::start(&store, clock.clone()).await.unwrap();
    // Within one time of asking the clock stands still, and so would the rates.
    let options = Options { policy: generosity(), ..Options::default() };
    let frontend = Frontend::bind(&[(Ipv4Addr::LOCALHOST, 0).into()], options).unwrap();
    let server = frontend.addresses()[0].port();
    let (shutdown, stop) = watch::channel(false);
    let running = tokio::spawn(frontend.run(reader.clone(), clock, stop));

    let operator = Authority::Operator;
    let mut authorities = Authorities::new();
    for (of, denial) in DOMAINS {
        let domain = DomainName::parse(of).unwrap();
        let name_servers = vec!["ns.example.com".into()];
        let settings = Settings { hosting: Hosting::Mail, denial, name_servers, ..Settings::for_domain(&domain) };
        store.add_domain_with(&domain, settings, &records(0), &operator, NOW).await.unwrap();
        let alice = authorities.person(&format!("alice@{of}"));
        let gateway = authorities.issue(SanType::DnsName(of.try_into().unwrap()));
        let for_all = PublishOptions { domain_certificate: Some(domain), ..PublishOptions::default() };
        for (submission, options) in [(alice, PublishOptions::default()), (gateway, for_all)] {
            let report = store.publish(vec![submission], options, &operator, NOW).await.unwrap();
            assert_eq!(report.refused(), 0, "{report:?}");
        }
    }
    let (mut secure, mut present, mut absent, mut serials) = (0, 0, 0, std::collections::BTreeSet::new());
    for step in 0..730 {
        let now = NOW + step * HALF_A_DAY;
        time.store(now, Ordering::Relaxed);
        while store.keep_up(now).await.unwrap() {}
        for (of, _) in DOMAINS {
            let local = PEOPLE[usize::try_from(step % 5).unwrap()];
            let submission = match step % 9 {
                1 | 5 => Some(authorities.person(&format!("{local}@{of}"))),
                7 => Some(authorities.person(&format!("alice@{of}"))),
                _ => None,
            };
            if let Some(submission) = submission {
                let report = store.publish(vec![submission], PublishOptions::default(), &operator, now).await.unwrap();
                assert_eq!(report.refused(), 0, "{report:?}");
            }
            if step % 9 == 3 {
                // At first nobody is there to be withdrawn.
                drop(store.withdraw(WithdrawTarget::Mailbox(address(local, of)), None, &operator, now).await);
            }
            if step % 9 == 8 {
                store.set_records(&DomainName::parse(of).unwrap(), &records(step), &operator, now).await.unwrap();
            }
        }
        if step % ASKED_EVERY != 0 {
            continue;
        }
        // Just before upkeep comes again.
        let now = now + HALF_A_DAY - 1;
        time.store(now, Ordering::Relaxed);
        follower.catch_up().await.unwrap();
        let published = reader.published().unwrap();
        let zones = DOMAINS.map(|(of, _)| published.zone(DomainName::parse(of).unwrap().name()).unwrap());
        let resolver = |at: i64| {
            let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
            let date = format!(" val-override-date: \"{at}\"\n");
            let mut command = unbound_with(&date, folder.path(), &zones, server, port);
            (Resolver::start(&mut command, port), folder)
        };
        let (unbound, _folder) = resolver(now);
        let questions: Vec<_> = DOMAINS.iter().flat_map(|(of, _)| questions(of, &published)).collect();
        let asked: Vec<&str> = questions.iter().flat_map(|(owner, rtype, ..)| [owner.as_str(), rtype]).collect();
        let said = unbound.dig(&asked);
        let answers: Vec<&str> = said.split(";; Got answer:").skip(1).collect();
        assert_eq!(answers.len(), questions.len(), "{said}");
        for ((owner, rtype, status, answered), answer) in questions.iter().zip(answers) {
            let what = format!("step {step}, {owner} {rtype}: {answer}");
            assert!(answer.contains(&format!(";{owner}")) && answer.contains(&format!("status: {status},")), "{what}");
            assert!(answer.lines().any(|line| line.starts_with(";; flags:") && line.contains(" ad")), "{what}");
            assert_ne!(answer.contains("ANSWER: 0,"), *answered, "{what}");
            secure += 1;
            if PEOPLE.iter().any(|local| owner.starts_with(local)) {
                *(if *answered { &mut present } else { &mut absent }) += 1;
            }
        }
        serials.extend(zones.map(|zone| (zone.apex().clone(), zone.serial())));
        if step == 0 {
            // The resolver does look at the date: a week later the same answers are bogus.
            let (late, _folder) = resolver(now + 7 * 86_400);
            let answer = late.dig(&["+tries=1", "SOA", "example.org"]);
            assert!(answer.contains("status: SERVFAIL"), "{answer}");
        }
    }
    assert_eq!(secure, (729 / ASKED_EVERY + 1) * 2 * 17);
    assert!(present > 50 && absent > 50, "people come and go: {present} and {absent}");
    assert!(serials.len() > 60, "zones are signed anew between two times of asking: {}", serials.len());
    shutdown.send_replace(true);
    timeout(Duration::from_secs(10), running).await.unwrap().unwrap().unwrap();
}
