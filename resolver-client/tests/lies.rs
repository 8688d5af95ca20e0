//! Lying and broken networks: whatever they do, an error never becomes "no certificate".

use std::sync::Arc;
use std::time::Duration;

use certdir_resolver::Verdict;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::NS;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::certificates::{DAY, now, valid};
use crate::proxy::{Proxy, Via, query};
use crate::servers::*;
use crate::truth::{World, ZONES, world};
use crate::unbound::Unbound;

/// Everybody about whom the world has something to say.
const EVERYBODY: [&str; 7] = [
    "alice@signed.example",
    "nobody@signed.example",
    "expired@signed.example",
    "nobody@wild.example",
    "blocked@wild.example",
    "alice@plain.example",
    "nobody@plain.example",
];

fn strip(message: &mut Message, unwanted: &[RecordType]) {
    let keep = |r: &Record| !unwanted.contains(&r.record_type());
    message.answers.retain(keep);
    message.authorities.retain(keep);
    message.additionals.retain(keep);
}

#[tokio::test]
async fn stripped_proofs_are_no_answer() {
    use RecordType::{DNSKEY, DS, NSEC, NSEC3, RRSIG, SOA};
    let strippings: [&[RecordType]; 6] = [
        &[RRSIG],
        &[NSEC, NSEC3],
        &[RRSIG, NSEC, NSEC3],
        &[RRSIG, NSEC, NSEC3, DS, DNSKEY],
        &[RRSIG, NSEC, NSEC3, SOA],
        &[DS],
    ];
    for denial in [Denial::Nsec, Denial::Nsec3] {
        let world = world(denial);
        for unwanted in strippings {
            let proxy = Proxy::lying(world.server.address, move |_, _, mut message| {
                strip(&mut message, unwanted);
                Some(message)
            })
            .await;
            let resolver = resolver(proxy.address, &world.server.anchor("example."));
            for who in EVERYBODY {
                let verdict = ask(&resolver, who).await;
                match (unwanted, who) {
                    // Without DS records the signed domains are out of reach; that others are not signed is still proven.
                    ([DS], "alice@plain.example" | "nobody@plain.example") => {
                        assert_gist(&verdict, "none", "not-served")
                    }
                    // What is there needs no proof of absence.
                    ([NSEC, NSEC3], "alice@signed.example") => assert_uses(&verdict, &world.alice, "recipient"),
                    ([NSEC, NSEC3], "expired@signed.example") => assert_gist(&verdict, "none", "own-record-unusable"),
                    _ => assert_eq!(verdict.code(), "unknown", "{unwanted:?} {}", verdict.trace()),
                }
            }
        }
    }
}

#[tokio::test]
async fn forged_absences_are_no_answer() {
    // A signed NXDOMAIN of another zone, an unsigned one of a made-up zone, one with no records, and an empty NOERROR.
    let world = world(Denial::Nsec3);
    let other = query(world.server.address, "x.wild.example.", "SMIMEA").await;
    let plain = query(world.server.address, "x.plain.example.", "SMIMEA").await;
    let mut soa = plain.authorities.iter().find(|r| r.record_type() == RecordType::SOA).unwrap().clone();
    soa.name = Name::from_ascii("_smimecert.signed.example.").unwrap();
    let forgeries: Vec<Vec<Record>> = vec![other.authorities.clone(), plain.authorities.clone(), vec![soa], vec![]];
    for authorities in forgeries {
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            let authorities = authorities.clone();
            let proxy = Proxy::lying(world.server.address, move |_, query, mut message| {
                if query.query_type() == RecordType::SMIMEA {
                    message.answers.clear();
                    message.authorities = authorities.clone();
                    message.metadata.response_code = code;
                }
                Some(message)
            })
            .await;
            let resolver = resolver(proxy.address, &world.server.anchor("example."));
            for who in ["alice@signed.example", "nobody@signed.example"] {
                let verdict = ask(&resolver, who).await;
                assert_gist(&verdict, "unknown", "bogus");
            }
        }
    }
}

/// Every NSEC3 record of the parent with its signature, as anyone can collect them.
async fn spans_of_the_parent(world: &World) -> Vec<Record> {
    let mut spans: Vec<Record> = Vec::new();
    for i in 0..64 {
        let message = query(world.server.address, &format!("x{i}.example."), "SMIMEA").await;
        for record in message.authorities {
            if record.record_type() != RecordType::SOA && !spans.contains(&record) {
                spans.push(record);
            }
        }
    }
    spans
}

#[tokio::test]
async fn an_opt_out_span_of_the_parent_does_not_unsign_a_signed_domain() {
    let world = world(Denial::OptOut);
    let spans = spans_of_the_parent(&world).await;
    let soa = query(world.server.address, "x.example.", "SMIMEA").await.authorities;
    let parent: Vec<Record> =
        soa.iter().filter(|r| r.name == Name::from_ascii("example.").unwrap()).cloned().chain(spans).collect();
    let cut = Name::from_ascii("_smimecert.signed.example.").unwrap();
    let proxy = Proxy::lying(world.server.address, move |_, query, mut message| {
        if cut.zone_of(query.name()) {
            let apex = *query.name() == cut;
            message.metadata.response_code = ResponseCode::NoError;
            message.answers.clear();
            message.authorities.clear();
            match query.query_type() {
                RecordType::DS => message.authorities = parent.clone(),
                RecordType::NS if apex => {
                    let ns = RData::NS(NS(Name::from_ascii("ns.evil.").unwrap()));
                    message.answers = vec![Record::from_rdata(cut.clone(), 300, ns)];
                }
                _ => {}
            }
        }
        Some(message)
    })
    .await;
    let resolver = resolver(proxy.address, &world.server.anchor("example."));
    let verdict = ask(&resolver, "alice@signed.example").await;
    assert_gist(&verdict, "unknown", "bogus");
}

#[tokio::test]
async fn a_wildcards_answer_does_not_replace_a_persons_own() {
    for denial in [Denial::Nsec3, Denial::OptOut] {
        let world = world(denial);
        let spans = spans_of_the_parent(&world).await;
        let own = certdir_zones::smimea_owner(&address("alice@wild.example")).to_string();
        let own = Name::from_ascii(&own).unwrap();
        let nobody = certdir_zones::smimea_owner(&address("nobody@wild.example")).to_string();
        let expanded = query(world.server.address, &nobody, "SMIMEA").await;
        let proxy = Proxy::lying(world.server.address, move |_, query, mut message| {
            if *query.name() == own && query.query_type() == RecordType::SMIMEA {
                message.answers = expanded.answers.clone();
                message.answers.iter_mut().for_each(|r| r.name = own.clone());
                message.authorities = spans.clone();
            }
            Some(message)
        })
        .await;
        let resolver = resolver(proxy.address, &world.server.anchor("example."));
        assert_gist(&ask(&resolver, "alice@wild.example").await, "unknown", "bogus");
        // An opt-out span leaves room for an unsigned delegation of that name (RFC 5155 section 9.2).
        let nobody = ask(&resolver, "nobody@wild.example").await;
        match denial {
            Denial::OptOut => assert_gist(&nobody, "none", "not-served"),
            _ => assert_uses(&nobody, &world.wildcard, "wildcard"),
        }
    }
}

#[tokio::test]
async fn swapped_and_altered_answers_are_no_answer() {
    let world = world(Denial::Nsec3);
    let bob = certdir_zones::smimea_owner(&address("big@signed.example")).to_string();
    let other = query(world.server.address, &bob, "SMIMEA").await.answers;
    let twists: [fn(&mut Message, &[Record]); 4] = [
        // Another person's answer, as it is and renamed.
        |m, other| m.answers = other.to_vec(),
        |m, other| {
            let name = m.queries[0].name().clone();
            m.answers = other.to_vec();
            m.answers.iter_mut().for_each(|r| r.name = name.clone());
        },
        // The certificate of somebody else under the old signature.
        |m, other| {
            let data = other.iter().find(|r| r.record_type() == RecordType::SMIMEA).unwrap().data.clone();
            m.answers.iter_mut().filter(|r| r.record_type() == RecordType::SMIMEA).for_each(|r| r.data = data.clone());
        },
        // Nothing but what was not asked for.
        |m, other| {
            m.answers = other.to_vec();
            m.authorities.clear();
        },
    ];
    for twist in twists {
        let other = other.clone();
        let proxy = Proxy::lying(world.server.address, move |_, query, mut message| {
            if query.query_type() == RecordType::SMIMEA {
                twist(&mut message, &other);
            }
            Some(message)
        })
        .await;
        let resolver = resolver(proxy.address, &world.server.anchor("example."));
        assert_eq!(ask(&resolver, "alice@signed.example").await.code(), "unknown");
    }
    // Records that were not asked for make no denial of a wildcard that is there.
    let beside = other.clone();
    let proxy = Proxy::lying(world.server.address, move |_, query, mut message| {
        if query.query_type() == RecordType::SMIMEA {
            message.answers = beside.clone();
        }
        Some(message)
    })
    .await;
    let resolver = resolver(proxy.address, &world.server.anchor("example."));
    for who in ["nobody@signed.example", "nobody@wild.example"] {
        assert_eq!(ask(&resolver, who).await.code(), "unknown");
    }
}

#[tokio::test]
async fn signatures_out_of_their_time_are_no_answer() {
    let alice = valid("alice");
    let zone = |apex, records, signed| ZoneText { apex, records, signed };
    for (inception, expiration) in [(-20 * DAY, -DAY), (DAY, 20 * DAY)] {
        let signing = Signing { denial: Denial::Nsec3, inception, expiration };
        let zones = vec![
            zone("signed.example.", published("alice@signed.example", &alice), Some(signing)),
            zone("example.", String::new(), Some(Signing::with(Denial::Nsec3))),
        ];
        let server = Server::start(zones, &[]);
        for anchor in ["example.", "signed.example."] {
            let resolver = resolver(server.address, &server.anchor(anchor));
            for who in ["alice@signed.example", "nobody@signed.example"] {
                assert_gist(&ask(&resolver, who).await, "unknown", "bogus");
            }
        }
    }
}

#[tokio::test]
async fn the_clock_is_the_callers() {
    let world = world(Denial::Nsec);
    let clock = TestClock::new();
    let build = || {
        let builder = clock.builder().server(world.server.address);
        builder.trust_anchor_file(world.server.anchor("example.")).build().unwrap()
    };
    let resolver = build();
    assert_uses(&ask(&resolver, "alice@signed.example").await, &world.alice, "recipient");
    assert_gist(&ask(&resolver, "nobody@signed.example").await, "none", "proven-none");
    // After the signatures' end: neither the cache nor the keys learned before may answer.
    clock.advance(8 * DAY);
    for resolver in [&resolver, &build()] {
        for who in EVERYBODY {
            assert_eq!(ask(resolver, who).await.code(), "unknown");
        }
    }
    // Before their beginning.
    clock.advance(-12 * DAY);
    for who in EVERYBODY {
        assert_eq!(ask(&build(), who).await.code(), "unknown");
    }
}

#[tokio::test]
async fn trust_must_begin_somewhere() {
    let (world, stranger) = (world(Denial::Nsec), world(Denial::Nsec));
    let wrong = resolver(world.server.address, &stranger.server.anchor("example."));
    let elsewhere = resolver(world.server.address, &world.server.anchor("wild.example."));
    let root = TestClock::new().builder().server(world.server.address).build().unwrap();
    for who in EVERYBODY {
        assert_gist(&ask(&wrong, who).await, "unknown", "bogus");
        assert_eq!(ask(&root, who).await.code(), "unknown");
        if !who.ends_with("wild.example") {
            assert_gist(&ask(&elsewhere, who).await, "unknown", "no-trust-anchor");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_down_says_nothing() {
    let world = world(Denial::Nsec);
    let anchor = world.server.anchor("example.");
    let down = free_port();
    for who in ["alice@signed.example", "nobody@signed.example", "alice@plain.example"] {
        let verdict = ask(&resolver(down, &anchor), who).await;
        assert_eq!(verdict.code(), "unknown");
        assert!(["network", "timeout"].contains(&verdict.trace().reason), "{}", verdict.trace());
        assert!(verdict.look_again() <= now() + 5);
    }
    // A second server steps in.
    let two = TestClock::new()
        .builder()
        .server(down)
        .server(world.server.address)
        .trust_anchor_file(&anchor)
        .build()
        .unwrap();
    assert_uses(&ask(&two, "alice@signed.example").await, &world.alice, "recipient");
}

#[tokio::test]
async fn a_lame_delegation_says_nothing() {
    let zone = |apex, records, signed| ZoneText { apex, records, signed };
    let signing = Some(Signing::with(Denial::Nsec3));
    let zones = vec![
        zone("signed.example.", String::new(), signing.clone()),
        zone("plain.example.", String::new(), None),
        zone("example.", String::new(), signing),
    ];
    // The server is asked for everything, and gives a referral to itself for what it does not serve.
    let server = Server::start(zones, &["signed.example.", "plain.example."]);
    let resolver = resolver(server.address, &server.anchor("example."));
    for who in ["alice@signed.example", "alice@plain.example"] {
        assert_eq!(ask(&resolver, who).await.code(), "unknown");
    }
    // Refused outright.
    let world = world(Denial::Nsec);
    for code in [ResponseCode::Refused, ResponseCode::ServFail, ResponseCode::FormErr, ResponseCode::NotImp] {
        let proxy = Proxy::lying(world.server.address, move |_, query, mut message| {
            if query.query_type() == RecordType::SMIMEA {
                message.answers.clear();
                message.authorities.clear();
                message.metadata.response_code = code;
            }
            Some(message)
        })
        .await;
        let resolver = crate::servers::resolver(proxy.address, &world.server.anchor("example."));
        let expected = match code {
            ResponseCode::Refused => "refused",
            ResponseCode::ServFail => "server-failure",
            _ => "unexpected-response-code",
        };
        for who in EVERYBODY {
            assert_gist(&ask(&resolver, who).await, "unknown", expected);
        }
    }
}

#[tokio::test]
async fn missing_keys_and_delegations_are_a_network_failure() {
    // What hickory calls bogus when only a key or a DS record does not come.
    let world = world(Denial::Nsec);
    for silent in [RecordType::DNSKEY, RecordType::DS, RecordType::NS] {
        let proxy = Proxy::lying(world.server.address, move |_, query, message| {
            let child = query.name().num_labels() > 1;
            (query.query_type() != silent || !child).then_some(message)
        })
        .await;
        let anchor = world.server.anchor("example.");
        let builder = TestClock::new().builder().timeout(Duration::from_millis(1_600));
        let resolver = builder.server(proxy.address).trust_anchor_file(anchor).build().unwrap();
        let (signed, plain) =
            tokio::join!(ask(&resolver, "alice@signed.example"), ask(&resolver, "alice@plain.example"));
        match silent {
            // Nobody needs the NS records of a signed domain, nor the keys of one that has none.
            RecordType::NS => assert_uses(&signed, &world.alice, "recipient"),
            _ => assert_gist(&signed, "unknown", "timeout"),
        }
        match silent {
            RecordType::DNSKEY => assert_gist(&plain, "none", "not-served"),
            _ => assert_gist(&plain, "unknown", "timeout"),
        }
    }
}

#[tokio::test]
async fn truncation_leads_to_tcp_or_to_no_answer() {
    let world = world(Denial::Nsec3);
    let anchor = world.server.anchor("example.");
    let cut = |via: Via, mut message: Message| {
        if via == Via::Udp {
            message.metadata.truncation = true;
            message.answers.clear();
            message.authorities.clear();
        }
        Some(message)
    };
    // Every answer over UDP is truncated: all goes over TCP.
    let proxy = Proxy::lying(world.server.address, move |via, _, message| cut(via, message)).await;
    let resolver = crate::servers::resolver(proxy.address, &anchor);
    assert_uses(&ask(&resolver, "alice@signed.example").await, &world.alice, "recipient");
    assert_gist(&ask(&resolver, "nobody@signed.example").await, "none", "proven-none");
    assert_gist(&ask(&resolver, "alice@plain.example").await, "none", "not-served");
    // Only UDP: what fits is found, what does not is not taken for absent.
    let proxy = Proxy::with_tcp(world.server.address, Arc::new(|_, _, message| Some(message)), false).await;
    let resolver = crate::servers::resolver(proxy.address, &anchor);
    assert_uses(&ask(&resolver, "alice@signed.example").await, &world.alice, "recipient");
    let big = ask(&resolver, "big@signed.example").await;
    assert_eq!(big.code(), "unknown", "{}", big.trace());
}

#[tokio::test]
async fn one_request_is_in_flight_and_giving_up_harms_nobody() {
    let world = world(Denial::Nsec);
    let proxy = Proxy::honest(world.server.address).await;
    let resolver = Arc::new(crate::servers::resolver(proxy.address, &world.server.anchor("example.")));
    let asking = |_| {
        let resolver = Arc::clone(&resolver);
        tokio::spawn(async move { ask(&resolver, "alice@signed.example").await })
    };
    let mut many: Vec<_> = (0..50).map(asking).collect();
    tokio::task::yield_now().await;
    // The first ones give up, whoever of them was asking.
    many.drain(..10).for_each(|task| task.abort());
    for task in many {
        assert_uses(&task.await.unwrap(), &world.alice, "recipient");
    }
    let asked = proxy.seen().iter().filter(|q| q.ends_with("SMIMEA")).count();
    assert!((1..=2).contains(&asked), "{asked} questions");
    let before = proxy.seen().len();
    assert!(ask(&resolver, "alice@signed.example").await.trace().questions[0].cached);
    assert_eq!(proxy.seen().len(), before);
}

#[tokio::test]
async fn failures_and_absences_are_remembered_for_their_time() {
    let world = world(Denial::Nsec);
    let failing = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let broken = Arc::clone(&failing);
    let proxy = Proxy::lying(world.server.address, move |_, query, mut message| {
        if query.query_type() == RecordType::SMIMEA && broken.load(std::sync::atomic::Ordering::SeqCst) {
            message.answers.clear();
            message.metadata.response_code = ResponseCode::Refused;
        }
        Some(message)
    })
    .await;
    let clock = TestClock::new();
    let anchor = world.server.anchor("example.");
    let resolver = clock.builder().server(proxy.address).trust_anchor_file(anchor).build().unwrap();
    let verdict = ask(&resolver, "alice@signed.example").await;
    assert_gist(&verdict, "unknown", "refused");
    assert_eq!(verdict.look_again(), verdict.trace().asked_at + 5);
    failing.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_gist(&ask(&resolver, "alice@signed.example").await, "unknown", "refused");
    clock.advance(5);
    assert_uses(&ask(&resolver, "alice@signed.example").await, &world.alice, "recipient");
    // The denial lives for the SOA's minimum of 60 seconds, and the answer for its TTL of 300.
    assert_gist(&ask(&resolver, "nobody@signed.example").await, "none", "proven-none");
    let count = || proxy.seen().iter().filter(|q| q.ends_with("SMIMEA")).count();
    let before = count();
    // Before the last tenth of its life, in which it would be asked for anew ahead of its end.
    clock.advance(50);
    let _ = ask(&resolver, "nobody@signed.example").await;
    assert_eq!(count(), before);
    clock.advance(10);
    let _ = ask(&resolver, "nobody@signed.example").await;
    assert_eq!(count(), before + 2);
    let _ = ask(&resolver, "alice@signed.example").await;
    assert_eq!(count(), before + 2);
    clock.advance(240);
    let _ = ask(&resolver, "alice@signed.example").await;
    assert_eq!(count(), before + 3);
}

#[tokio::test]
async fn through_unbound_it_is_the_same() {
    let world = world(Denial::Nsec3);
    for validating in [false, true] {
        let recursive = Unbound::start(&world.server, &ZONES, validating);
        let resolver = resolver(recursive.address, &world.server.anchor("example."));
        assert_uses(&ask(&resolver, "alice@signed.example").await, &world.alice, "recipient");
        assert_uses(&ask(&resolver, "big@signed.example").await, &world.big, "recipient");
        assert_uses(&ask(&resolver, "nobody@wild.example").await, &world.wildcard, "wildcard");
        assert_uses(&ask(&resolver, "nobody@domain.example").await, &world.domain, "domain");
        assert_gist(&ask(&resolver, "nobody@signed.example").await, "none", "proven-none");
        assert_gist(&ask(&resolver, "blocked@wild.example").await, "none", "blocked");
        let plain = ask(&resolver, "alice@plain.example").await;
        assert_gist(&plain, "none", "not-served");
        assert!(matches!(plain, Verdict::None { proven: false, .. }));
    }
}
