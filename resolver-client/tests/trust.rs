//! Whom DNS is believed from: validating here, and a validating resolver's AD bit, come to the same verdicts.

use std::net::SocketAddr;

use certdir_resolver::tls::Tls;
use certdir_resolver::trace::Asked;
use certdir_resolver::{NameServer, Resolver, Spec, Verdict};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use crate::certificates::{DAY, valid};
use crate::proxy::Proxy;
use crate::servers::*;
use crate::truth::{ZONES, world};
use crate::unbound::Unbound;

fn validating(server: SocketAddr, upstream: &Server) -> Resolver {
    resolver(server, &upstream.anchor("example."))
}

fn believing(server: NameServer) -> Resolver {
    TestClock::new().builder().name_server(server).believe_servers().build().unwrap()
}

fn zone(apex: &'static str, records: String, denial: Denial) -> ZoneText {
    ZoneText { apex, records, signed: Some(Signing::with(denial)) }
}

/// What every form of trust must agree about: the verdict, its reason, what was used, and what each question gave.
fn facts(verdict: &Verdict) -> (String, Vec<String>) {
    let used = verdict.certificate().map(|c| data_encoding::HEXLOWER.encode(c.sha256())).unwrap_or_default();
    let asked = |q: &Asked| {
        let dnssec = q.question.dnssec.map(|d| d.code()).unwrap_or_default();
        format!("{} {} {}", q.question.name, q.outcome, dnssec)
    };
    let trace = verdict.trace();
    (format!("{} {} {used}", verdict.code(), trace.reason), trace.questions.iter().map(asked).collect())
}

#[tokio::test]
async fn both_forms_come_to_the_same_verdicts() {
    const WHO: [&str; 13] = [
        "alice@signed.example",
        "big@signed.example",
        "nobody@signed.example",
        "expired@signed.example",
        "alice@no.such.domain.example",
        "alice@wild.example",
        "nobody@wild.example",
        "blocked@wild.example",
        "expired@wild.example",
        "nobody@domain.example",
        "domain-confidentiality-authority@domain.example",
        "alice@plain.example",
        "nobody@plain.example",
    ];
    for denial in DENIALS {
        let world = world(denial);
        let unbound = Unbound::start(&world.server, &ZONES, true);
        let pinned = Tls::pinned(unbound.fingerprint).unwrap();
        let named = Tls::authorities(unbound.pem.as_bytes()).unwrap();
        let resolvers = [
            ("validating", validating(world.server.address, &world.server)),
            ("validating, through unbound", validating(unbound.address, &world.server)),
            ("believing", believing(NameServer::plain(unbound.address))),
            ("believing, pinned", believing(NameServer::over_tls(unbound.tls, "127.0.0.1", pinned).unwrap())),
            ("believing, named", believing(NameServer::over_tls(unbound.tls, "localhost", named).unwrap())),
        ];
        for who in WHO {
            let first = ask(&resolvers[0].1, who).await;
            for (form, resolver) in &resolvers[1..] {
                let verdict = ask(resolver, who).await;
                assert_eq!(facts(&verdict), facts(&first), "{denial:?} {form}\n{}\n{}", first.trace(), verdict.trace());
                let over = if form.contains(',') && form.starts_with("believing") { "tls" } else { "tcp" };
                let exchanges = &verdict.trace().questions[0].question.exchanges;
                assert!(exchanges.iter().any(|x| x.transport == over), "{}", verdict.trace());
            }
        }
    }
}

#[tokio::test]
async fn both_forms_call_bogus_what_is_bogus() {
    let alice = valid("alice");
    // Unbound allows clocks that are wrong by a day.
    for (inception, expiration) in [(-20 * DAY, -3 * DAY), (3 * DAY, 20 * DAY)] {
        let signing = Signing { denial: Denial::Nsec3, inception, expiration };
        let records = published("alice@signed.example", &alice);
        let broken = ZoneText { apex: "signed.example.", records, signed: Some(signing) };
        let server = Server::start(vec![broken, zone("example.", String::new(), Denial::Nsec3)], &[]);
        let unbound = Unbound::start(&server, &["example.", "signed.example."], true);
        let resolvers = [
            validating(server.address, &server),
            validating(unbound.address, &server),
            believing(NameServer::plain(unbound.address)),
        ];
        for who in ["alice@signed.example", "nobody@signed.example"] {
            for resolver in &resolvers[..2] {
                assert_gist(&ask(resolver, who).await, "unknown", "bogus");
            }
            // The resolver that is believed says why.
            let verdict = ask(&resolvers[2], who).await;
            assert_gist(&verdict, "unknown", "bogus");
            let errors: Vec<u16> = verdict
                .trace()
                .questions
                .iter()
                .flat_map(|q| &q.question.exchanges)
                .flat_map(|x| &x.extended_errors)
                .map(|e| e.code)
                .collect();
            assert!(errors.iter().all(|e| (6..=12).contains(e)) && !errors.is_empty(), "{}", verdict.trace());
            let Verdict::Unknown { failure, .. } = &verdict else { unreachable!() };
            assert!(failure.message.contains("extended error"), "{failure}");
        }
    }
}

#[tokio::test]
async fn what_a_believed_server_does_not_vouch_for_is_not_used() {
    let world = world(Denial::Nsec3);
    let unbound = Unbound::start(&world.server, &ZONES, true);
    // Without the AD bit.
    let proxy = Proxy::lying(unbound.address, |_, _, mut message| {
        message.metadata.authentic_data = false;
        Some(message)
    })
    .await;
    let resolver = believing(NameServer::plain(proxy.address));
    for who in ["alice@signed.example", "nobody@signed.example", "nobody@wild.example"] {
        assert_gist(&ask(&resolver, who).await, "none", "not-served");
    }
    // With it, but without what shows whether a wildcard answered, or what is at the name.
    for unwanted in [&[RecordType::RRSIG][..], &[RecordType::NSEC3, RecordType::RRSIG]] {
        let proxy = Proxy::lying(unbound.address, move |_, _, mut message| {
            message.answers.retain(|r| !unwanted.contains(&r.record_type()));
            message.authorities.retain(|r| !unwanted.contains(&r.record_type()));
            Some(message)
        })
        .await;
        let resolver = believing(NameServer::plain(proxy.address));
        for who in ["alice@signed.example", "nobody@signed.example", "nobody@wild.example"] {
            assert_eq!(ask(&resolver, who).await.code(), "unknown", "{who} {unwanted:?}");
        }
    }
    // Errors say nothing about certificates, and why they came is passed on.
    let proxy = Proxy::lying(unbound.address, |_, _, mut message| {
        message.metadata.response_code = ResponseCode::ServFail;
        message.answers.clear();
        message.authorities.clear();
        let edns = message.edns.get_or_insert_default();
        let data = [&22_u16.to_be_bytes()[..], b"at delegation example."].concat();
        edns.options_mut().options.push((EdnsCode::from(15), EdnsOption::Unknown(15, data)));
        Some(message)
    })
    .await;
    let resolver = believing(NameServer::plain(proxy.address));
    let verdict = ask(&resolver, "alice@signed.example").await;
    assert_gist(&verdict, "unknown", "server-failure");
    assert!(
        verdict.trace().to_string().contains("No Reachable Authority): at delegation example."),
        "{}",
        verdict.trace()
    );
}

#[tokio::test]
async fn only_servers_that_nobody_can_speak_for_are_believed() {
    let build = |server| TestClock::new().builder().name_server(server).believe_servers().build();
    let far: SocketAddr = "192.0.2.1:53".parse().unwrap();
    let refused = build(NameServer::plain(far)).unwrap_err();
    assert_eq!(refused.code(), "unsafe-to-believe");
    assert!(refused.to_string().starts_with("192.0.2.1:53 cannot be believed"));
    assert!(build(NameServer::over_tls(far, "dns.example", Tls::public().unwrap()).unwrap()).is_ok());

    // Another server's certificate, or another name.
    let world = world(Denial::Nsec);
    let unbound = Unbound::start(&world.server, &ZONES, true);
    let wrong_pin = NameServer::over_tls(unbound.tls, "localhost", Tls::pinned([7; 32]).unwrap()).unwrap();
    let authority = Tls::authorities(unbound.pem.as_bytes()).unwrap();
    let wrong_name = NameServer::over_tls(unbound.tls, "elsewhere.example", authority).unwrap();
    let stranger = NameServer::over_tls(unbound.tls, "localhost", Tls::public().unwrap()).unwrap();
    for server in [wrong_pin, wrong_name, stranger] {
        let resolver = build(server).unwrap();
        for who in ["alice@signed.example", "nobody@signed.example", "alice@plain.example"] {
            assert_gist(&ask(&resolver, who).await, "unknown", "tls");
        }
    }
}

#[tokio::test]
async fn one_more_name_of_a_known_zone_costs_one_message() {
    let alice = valid("alice");
    for denial in [Denial::Nsec, Denial::Nsec3] {
        let names: Vec<String> = (0..300).map(|i| format!("user{i}@signed.example")).collect();
        let records = names.iter().map(|at| published(at, &alice)).collect();
        let unsigned = ZoneText { apex: "plain.example.", records: String::new(), signed: None };
        let zones = vec![zone("signed.example.", records, denial), unsigned, zone("example.", String::new(), denial)];
        let server = Server::start(zones, &[]);
        let proxy = Proxy::honest(server.address).await;
        let clock = TestClock::new();
        let resolver =
            clock.builder().server(proxy.address).trust_anchor_file(server.anchor("example.")).build().unwrap();
        for at in ["user0@signed.example", "user0@plain.example"] {
            let _ = ask(&resolver, at).await;
        }
        // All at once: more than the library's connections would take.
        let before = proxy.seen().len();
        let asking = names[1..].iter().map(|at| ask(&resolver, at));
        for verdict in futures_util::future::join_all(asking).await {
            assert_uses(&verdict, &alice, "recipient");
            assert_eq!(verdict.trace().questions[0].question.exchanges.len(), 1, "{}", verdict.trace());
        }
        assert_eq!(proxy.seen().len() - before, 299);
        // One for the recipient, one for the domain, also where nothing is.
        let nobody = ask(&resolver, "nobody@signed.example").await;
        assert_gist(&nobody, "none", "proven-none");
        for asked in &nobody.trace().questions {
            assert_eq!(asked.question.exchanges.len(), 1, "{}", nobody.trace());
        }
        // The proof that a domain is not signed is kept too.
        let unsigned = ask(&resolver, "user1@plain.example").await;
        assert_gist(&unsigned, "none", "not-served");
        assert_eq!(unsigned.trace().questions[0].question.exchanges.len(), 1, "{}", unsigned.trace());
        // Not beyond the TTL of 300 seconds.
        clock.advance(301);
        let later = ask(&resolver, "user1@signed.example").await;
        assert_uses(&later, &alice, "recipient");
        assert!(later.trace().questions[0].question.exchanges.len() > 1, "{}", later.trace());
    }
}

#[tokio::test]
async fn the_rolled_key_of_a_zone_below_the_anchor_is_noticed() {
    let alice = valid("alice");
    let records = published("alice@signed.example", &alice) + &published("bob@signed.example", &alice);
    let zones = vec![zone("signed.example.", records, Denial::Nsec), zone("example.", String::new(), Denial::Nsec)];
    let mut server = Server::start(zones, &[]);
    let proxy = Proxy::honest(server.address).await;
    let resolver = validating(proxy.address, &server);
    assert_uses(&ask(&resolver, "alice@signed.example").await, &alice, "recipient");
    server.roll_signing_key("signed.example.", Denial::Nsec);
    proxy.redirect(server.address);
    // Its old keys are kept for their TTL, and do not outlive an answer that they cannot explain.
    assert_uses(&ask(&resolver, "bob@signed.example").await, &alice, "recipient");
}

#[tokio::test]
async fn unsigned_zones_below_unsigned_zones_end_the_search() {
    let unsigned = |apex, records| ZoneText { apex, records, signed: None };
    let alice = valid("alice");
    let zones = vec![
        unsigned("a.b.plain.example.", published("alice@a.b.plain.example", &alice)),
        unsigned("plain.example.", "a.b 300 IN NS ns.a.b\nns.a.b 300 IN A 127.0.0.1\n".to_owned()),
        zone("example.", String::new(), Denial::Nsec3),
    ];
    let server = Server::start(zones, &[]);
    let resolver = validating(server.address, &server);
    for who in ["alice@a.b.plain.example", "nobody@a.b.plain.example", "nobody@x.y.a.b.plain.example"] {
        let verdict = ask(&resolver, who).await;
        assert_gist(&verdict, "none", "not-served");
        let sent = verdict.trace().questions.iter().map(|q| q.question.exchanges.len()).sum::<usize>();
        assert!(sent <= 40, "{}", verdict.trace());
    }
}

#[tokio::test]
async fn too_many_iterations_prove_nothing() {
    let zones = vec![zone("example.", published("alice@example", &valid("alice")), Denial::Costly)];
    let server = Server::start(zones, &[]);
    let resolver = validating(server.address, &server);
    // A record needs no denial; an absence is not proven by hashes that nobody should compute.
    assert_gist(&ask(&resolver, "alice@example").await, "use", "recipient");
    assert_gist(&ask(&resolver, "nobody@example").await, "unknown", "nsec3-iterations");
}

#[tokio::test]
async fn cert_records_are_found_in_both_forms_and_at_both_names() {
    let (alice, domain) = (valid("alice"), valid("domain"));
    let hex = |head: &str, der: &[u8]| {
        let octets = head.len() / 2 + der.len();
        format!("300 IN TYPE37 \\# {octets} {head}{}\n", data_encoding::HEXLOWER.encode(der))
    };
    // Type PKIX, key tag 0, algorithm 0, and the object identifier of userCertificate.
    let (bare, full) = ("0001000000", "000100000003550424");
    let records = format!("ALICE {}", hex(full, alice.der()))
        + &format!("bob {}", hex("0001123408", alice.der()))
        + &format!(r"john\.smith {}", hex(full, alice.der()))
        + &format!("jane.doe {}", hex(bare, alice.der()))
        + &format!("url {}", hex("0004000000", b"https://example.org/"))
        + "host 300 IN A 192.0.2.1\n"
        + &format!("@ {}", hex(bare, domain.der()));
    let unsigned =
        ZoneText { apex: "plain.example.", records: format!("alice {}", hex(bare, alice.der())), signed: None };
    let zones =
        vec![zone("signed.example.", records, Denial::Nsec3), unsigned, zone("example.", String::new(), Denial::Nsec3)];
    let server = Server::start(zones, &[]);
    let anchor = server.anchor("example.");
    let builder = || TestClock::new().builder().server(server.address).trust_anchor_file(&anchor);
    let build = |smimea: &str, cert: &str| {
        let builder = builder().sources([Spec::parse(smimea).unwrap()]);
        builder.sources([Spec::parse(cert).unwrap()]).build().unwrap()
    };
    let (strict, lenient) = (build("smimea", "cert"), build("or-chain:smimea", "or-chain:cert"));
    let cert = |verdict: &Verdict| -> Vec<String> {
        let trace = verdict.trace();
        let asked = trace.questions.iter().filter(|q| &*q.question.source == "cert");
        asked.map(|q| format!("{:?} {}", q.level, q.outcome)).collect()
    };
    let found = |verdict: &Verdict| -> Vec<(String, String)> {
        let trace = verdict.trace();
        let candidates = trace.candidates.iter().filter(|c| c.source == "cert");
        candidates.map(|c| (c.matched.code().to_owned(), c.subject.clone().unwrap_or_default())).collect()
    };
    let pair = |matched: &str, subject: &str| (matched.to_owned(), format!("CN={subject}"));
    for who in [
        "alice@signed.example",
        "Alice@signed.example",
        "bob@signed.example",
        "john.smith@signed.example",
        "jane.doe@signed.example",
    ] {
        let verdict = ask(&strict, who).await;
        assert_eq!(cert(&verdict)[0], "Recipient found", "{}", verdict.trace());
        assert!(found(&verdict).contains(&pair("recipient", "alice")), "{}", verdict.trace());
    }
    // A host of that name, a name with a URL, no name at all: the domain's.
    let long = format!("{}@signed.example", "x".repeat(64));
    for (who, outcome) in [
        ("host@signed.example", "Recipient proven-none"),
        ("url@signed.example", "Recipient proven-none"),
        ("nobody@signed.example", "Recipient proven-none"),
        (&long, "Recipient not-served"),
    ] {
        let verdict = ask(&strict, who).await;
        assert_eq!(cert(&verdict), [outcome, "Domain found"], "{}", verdict.trace());
        assert_eq!(found(&verdict), [pair("domain", "domain")], "{}", verdict.trace());
        let passed_over = verdict.trace().to_string().contains("passed over (other-cert-type): 4");
        assert_eq!(passed_over, who.starts_with("url@"), "{}", verdict.trace());
    }
    // Unsigned: not used, unless it is admitted; then nothing vouches for it.
    let verdict = ask(&strict, "alice@plain.example").await;
    assert_eq!(cert(&verdict)[0], "Recipient not-served", "{}", verdict.trace());
    let verdict = ask(&lenient, "alice@plain.example").await;
    assert_eq!(cert(&verdict)[0], "Recipient found", "{}", verdict.trace());
    assert!(
        verdict.trace().candidates.iter().any(|c| c.claim == "nothing" && c.source == "cert"),
        "{}",
        verdict.trace()
    );
}
