//! What a source gets: cookies, certificates over UDP, rates, the budget of signatures, options.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use certdir_dns::{
    Asker, CookieSecret, CookieState, Finished, Options, Policy, Scratch, Transport, Truncation, UdpCertificates,
    answer,
};
use certdir_zones::{Rdata, RecordType as T, Rrset, SignedRrset, rdata};
use proptest::prelude::*;

use crate::message::Message;
use crate::sockets::Running;
use crate::world::{NOW, TTL, World, name, opt, question, zone};

const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;
const EXTENDED_ERROR: u16 = 15;
const CLIENT: &[u8] = b"8 octets";

fn policy() -> Policy {
    Policy { cookies: Some(CookieSecret::new([7; 16])), ..Policy::default() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An OPT record with options.
fn opt_with(payload: u16, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut octets = opt(payload, true);
    let mut rdata = Vec::new();
    for (code, value) in options {
        rdata.extend(code.to_be_bytes());
        rdata.extend((value.len() as u16).to_be_bytes());
        rdata.extend(*value);
    }
    let end = octets.len() - 2;
    octets[end..].copy_from_slice(&(rdata.len() as u16).to_be_bytes());
    octets.extend(rdata);
    octets
}

/// A worker, and what it was asked.
struct Asking<'w> {
    world: &'w World,
    scratch: Scratch,
    asker: Asker,
    now: i64,
}

impl<'w> Asking<'w> {
    fn new(world: &'w World, policy: Policy) -> Asking<'w> {
        let asker = Asker::new(Transport::Udp, ip("192.0.2.1"));
        Asking { world, scratch: Scratch::new(policy), asker, now: NOW }
    }

    fn ask(&mut self, request: &[u8]) -> Option<(Finished, Message)> {
        let mut out = vec![0xEE; 65_535];
        let finished = answer(Some(self.world), request, &self.asker, self.now, &mut self.scratch, &mut out)?;
        Some((finished, Message::read(&out[..finished.length])))
    }

    /// A question with a cookie.
    fn with_cookie(&mut self, owner: &str, rtype: T, cookie: &[u8]) -> (Finished, Message) {
        self.ask(&question(owner, rtype, Some(opt_with(4096, &[(COOKIE, cookie)])))).unwrap()
    }
}

/// The value of an option in a response.
fn option(message: &Message, code: u16) -> Option<Vec<u8>> {
    let mut rest = &message.opt()?.rdata[..];
    while let [code0, code1, length0, length1, after @ ..] = rest {
        let (value, behind) = after.split_at(usize::from(u16::from_be_bytes([*length0, *length1])));
        if u16::from_be_bytes([*code0, *code1]) == code {
            return Some(value.to_vec());
        }
        rest = behind;
    }
    None
}

fn empty(message: &Message) -> bool {
    message.answers.is_empty() && message.authorities.is_empty() && message.additionals.len() <= 1
}

const ALICE: &str = "alice._smimecert.example.org";
/// Every way to a certificate: by name, by wildcard, by an alias, at an apex, by any type.
const CERTIFICATES: &[(&str, T)] = &[
    (ALICE, T::SMIMEA),
    ("nobody._smimecert.example.org", T::SMIMEA),
    (ALICE, T::ANY),
    ("alice.direct.example.net", T::CERT),
    ("www.direct.example.net", T::CERT),
    ("direct.example.net", T::CERT),
];

#[test]
fn rfc8162_9_1_unverified_sources_get_certificates_over_tcp_only() {
    let world = World::new();
    let mut asking = Asking::new(&world, policy());
    for (owner, rtype) in CERTIFICATES {
        for opt in [None, Some(opt(4096, true)), Some(opt(1232, false)), Some(opt_with(4096, &[(COOKIE, CLIENT)]))] {
            let cookie = opt.as_ref().is_some_and(|opt| opt.len() > 11);
            let request = question(owner, *rtype, opt);
            asking.asker.transport = Transport::Udp;
            let (finished, message) = asking.ask(&request).unwrap();
            assert_eq!(finished.truncated, Some(Truncation::Unverified), "{owner} {rtype}");
            assert_eq!((finished.signed, message.rcode(), message.truncated(), empty(&message)), (0, 0, true, true));
            // Bytes out per byte in: at most 1.0, plus the cookie.
            let server_cookie = if cookie { 16 } else { 0 };
            assert_eq!(message.octets.len(), request.len() + server_cookie, "{owner} {rtype}");
            for transport in [Transport::Tcp, Transport::Tls, Transport::Https, Transport::Quic] {
                asking.asker.transport = transport;
                let (finished, message) = asking.ask(&request).unwrap();
                assert_eq!((finished.truncated, message.answers.is_empty()), (None, false), "{owner} {rtype}");
            }
        }
    }
}

#[test]
fn unverified_sources_get_long_answers_over_tcp_only() {
    let strings = |count| Rdata::from([&[100][..], &[b'x'; 100]].concat().repeat(count));
    let zone = zone(
        "long.example",
        &[
            ("txt.long.example", T::TXT, strings(6)),
            ("short.long.example", T::TXT, strings(1)),
            ("alias.long.example", T::CNAME, Rdata::from(name("txt.long.example").as_wire())),
        ],
    );
    let world = World(Arc::new([(zone.apex().clone(), zone)].into()));
    let mut asking = Asking::new(&world, policy());
    let mut always = Asking::new(&world, Policy { udp_certificates: UdpCertificates::Always, ..policy() });
    let cookie = option(&asking.with_cookie("long.example", T::SOA, CLIENT).1, COOKIE).unwrap();
    for (owner, rtype, long) in [
        ("txt.long.example", T::TXT, true),
        ("txt.long.example", T::ANY, true),
        ("alias.long.example", T::TXT, true),
        ("alias.long.example", T::CNAME, false),
        ("txt.long.example", T::RRSIG, false),
        ("short.long.example", T::TXT, false),
        ("long.example", T::SOA, false),
        ("long.example", T::NS, false),
        ("long.example", T::DNSKEY, false),
    ] {
        let request = question(owner, rtype, Some(opt(4096, true)));
        let (finished, message) = asking.ask(&request).unwrap();
        assert_eq!(finished.truncated == Some(Truncation::Unverified), long, "{owner} {rtype}");
        assert_eq!((empty(&message), message.truncated()), (long, long), "{owner} {rtype}");
        assert!(message.octets.len() <= if long { request.len() } else { 512 }, "{owner} {rtype}");
        assert_eq!(asking.with_cookie(owner, rtype, &cookie).0.truncated, None);
        assert_eq!(always.ask(&request).unwrap().0.truncated, None);
    }
    // Denials are answered, whatever their length.
    let (finished, message) = asking.ask(&question("nobody.long.example", T::TXT, Some(opt(4096, true)))).unwrap();
    assert!(finished.truncated.is_none() && message.octets.len() > 512);
}

#[test]
fn rfc7873_a_valid_cookie_brings_certificates_over_udp() {
    let world = World::new();
    let mut asking = Asking::new(&world, policy());
    let (finished, message) = asking.with_cookie(ALICE, T::SMIMEA, CLIENT);
    assert_eq!(finished.cookie, CookieState::ClientOnly);
    let cookie = option(&message, COOKIE).unwrap();
    assert_eq!((cookie.len(), &cookie[..8]), (24, CLIENT));
    // Up to the client's size, and our own.
    let (finished, message) = asking.with_cookie(ALICE, T::SMIMEA, &cookie);
    assert_eq!((finished.cookie, finished.truncated), (CookieState::Valid, None));
    assert_eq!(message.types().0, [T::SMIMEA, T::RRSIG]);
    assert_eq!(option(&message, COOKIE).unwrap(), cookie);
    let (finished, _) = asking.with_cookie("bob._smimecert.example.org", T::SMIMEA, &cookie);
    assert_eq!(finished.truncated, Some(Truncation::Size));
    // RFC 7873 section 5.2.4: an invalid one counts as none, and is answered with a fresh one.
    for other in [&b"8 octets"[..], &cookie[8..16]] {
        let wrong = [CLIENT, other, &cookie[8..16]].concat();
        let (finished, message) = asking.with_cookie(ALICE, T::SMIMEA, &wrong);
        assert_eq!((finished.cookie, finished.truncated), (CookieState::Invalid, Some(Truncation::Unverified)));
        assert_eq!((message.rcode(), option(&message, COOKIE).unwrap()), (0, cookie.clone()));
    }
    // Another source with the same cookie.
    asking.asker.source = ip("192.0.2.2");
    assert_eq!(asking.with_cookie(ALICE, T::SMIMEA, &cookie).0.cookie, CookieState::Invalid);
    asking.asker.source = ip("192.0.2.1");
    // RFC 9018 section 4.3: after an hour it is too old.
    asking.now += 3_601;
    let (finished, message) = asking.with_cookie(ALICE, T::SMIMEA, &cookie);
    assert_eq!((finished.cookie, finished.truncated), (CookieState::Invalid, Some(Truncation::Unverified)));
    let renewed = option(&message, COOKIE).unwrap();
    assert_eq!(asking.with_cookie(ALICE, T::SMIMEA, &renewed).0.cookie, CookieState::Valid);
}

#[test]
fn rfc7873_5_2_2_a_malformed_cookie_is_a_format_error() {
    let world = World::new();
    let mut asking = Asking::new(&world, policy());
    for length in [0, 1, 7, 9, 15, 41, 100] {
        let (_, message) = asking.with_cookie(ALICE, T::SMIMEA, &vec![1; length]);
        assert_eq!((message.rcode(), option(&message, COOKIE)), (1, None), "{length}");
    }
}

#[test]
fn rfc7873_5_4_a_cookie_without_a_question() {
    let world = World::new();
    let mut asking = Asking::new(&world, policy());
    let mut ask = |cookie: &[u8]| {
        let mut request = vec![0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        request.extend(opt_with(4096, &[(COOKIE, cookie)]));
        let (_, message) = asking.ask(&request).unwrap();
        assert!(message.question.is_none() && empty(&message));
        (
            message.rcode() | u16::from(message.opt().unwrap().ttl.to_be_bytes()[0]) << 4,
            option(&message, COOKIE).unwrap(),
        )
    };
    let (rcode, cookie) = ask(CLIENT);
    assert_eq!((rcode, cookie.len()), (0, 24));
    assert_eq!(ask(&cookie), (0, cookie.clone()));
    let wrong = [CLIENT, &[0; 16]].concat();
    assert_eq!(ask(&wrong), (23, cookie), "BADCOOKIE, with a good one");
}

#[test]
fn without_a_secret_there_are_no_cookies() {
    let world = World::new();
    let mut asking = Asking::new(&world, Policy::default());
    let (finished, message) = asking.with_cookie(ALICE, T::SMIMEA, CLIENT);
    assert_eq!((finished.cookie, option(&message, COOKIE)), (CookieState::None, None));
}

#[test]
fn rfc7828_and_rfc7830_keepalive_and_padding() {
    let world = World::new();
    let mut asking = Asking::new(&world, policy());
    let request = question(ALICE, T::SMIMEA, Some(opt_with(1232, &[(KEEPALIVE, &[]), (PADDING, &[0; 30])])));
    let plain = question(ALICE, T::SMIMEA, Some(opt(1232, true)));
    for (transport, keepalive, padded) in [
        (Transport::Tcp, Some(100), false),
        (Transport::Tls, Some(100), true),
        (Transport::Https, None, true),
        (Transport::Quic, None, true),
    ] {
        asking.asker = Asker { keepalive, ..Asker::new(transport, ip("2001:db8::1")) };
        let (finished, message) = asking.ask(&request).unwrap();
        assert!(finished.keepalive_asked);
        assert_eq!(option(&message, KEEPALIVE), keepalive.map(|value| value.to_be_bytes().to_vec()));
        assert_eq!(option(&message, PADDING).is_some(), padded, "{transport:?}");
        // RFC 8467 section 4.1.
        assert_eq!(message.octets.len() % 468 == 0, padded, "{transport:?}");
        // Neither where the client did not ask.
        let (_, message) = asking.ask(&plain).unwrap();
        assert_eq!((option(&message, KEEPALIVE), option(&message, PADDING)), (None, None));
    }
    // The longest answers: padding ends where the message does.
    asking.asker = Asker::new(Transport::Tls, ip("2001:db8::1"));
    let request = question("pq._smimecert.example.org", T::SMIMEA, Some(opt_with(1232, &[(PADDING, &[])])));
    let (_, message) = asking.ask(&request).unwrap();
    assert_eq!((message.answers.len(), message.octets.len() % 468), (2, 0));
}

#[test]
fn rfc8914_errors_are_explained() {
    let world = World::new();
    let mut asking = Asking::new(&world, policy());
    for (owner, rtype, rcode, code) in
        [("example.com", T::SMIMEA, 5, Some(20)), (ALICE, T::AXFR, 5, Some(18)), (ALICE, T::A, 0, None)]
    {
        let (_, message) = asking.ask(&question(owner, rtype, Some(opt(1232, true)))).unwrap();
        let explained = option(&message, EXTENDED_ERROR).map(|value| u16::from_be_bytes(value.try_into().unwrap()));
        assert_eq!((message.rcode(), explained), (rcode, code), "{owner} {rtype}");
    }
    let mut out = [0; 1232];
    let request = question(ALICE, T::SMIMEA, Some(opt(1232, true)));
    let finished = answer(None::<&World>, &request, &asking.asker, NOW, &mut asking.scratch, &mut out).unwrap();
    let message = Message::read(&out[..finished.length]);
    assert_eq!((message.rcode(), option(&message, EXTENDED_ERROR)), (2, Some(vec![0, 14])));
}

#[test]
fn above_its_rate_a_network_is_sent_to_tcp() {
    let world = World::new();
    let soa = question("direct.example.net", T::SOA, Some(opt(1232, true)));
    let miss = |at: usize| question(&format!("n{at}.direct.example.net"), T::CERT, Some(opt(1232, true)));
    let mut asking = Asking::new(&world, Policy { responses_per_second: 5, ..policy() });
    for second in 0..3 {
        asking.now = NOW + second;
        for at in 0..20 {
            // One count for each kind of answer, whatever the names.
            for request in [&soa, &miss(at + 100 * second as usize)] {
                let (finished, message) = asking.ask(request).unwrap();
                let limited = at >= 5;
                assert_eq!(finished.truncated == Some(Truncation::Rate), limited);
                assert_eq!((empty(&message), message.truncated()), (limited, limited));
                assert!(!limited || message.octets.len() == request.len() && finished.signed == 0);
            }
        }
    }
    // Another network, a source with a cookie, and TCP are not concerned.
    asking.asker.source = ip("198.51.100.1");
    assert_eq!(asking.ask(&soa).unwrap().0.truncated, None);
    asking.asker.source = ip("192.0.2.1");
    let (_, message) = asking.with_cookie("direct.example.net", T::SOA, CLIENT);
    let cookie = option(&message, COOKIE).unwrap();
    assert!(message.truncated(), "the cookie comes with the truncated answer");
    assert_eq!(asking.with_cookie("direct.example.net", T::SOA, &cookie).0.truncated, None);
    asking.asker.transport = Transport::Tcp;
    assert_eq!(asking.ask(&soa).unwrap().0.truncated, None);
    // With slip 2 every second one gets no answer.
    let mut asking = Asking::new(&world, Policy { responses_per_second: 5, slip: 2, ..policy() });
    let answered = (0..25).filter(|_| asking.ask(&soa).is_some()).count();
    assert_eq!(answered, 5 + 10);
}

#[test]
fn past_the_budget_udp_is_truncated_and_streams_wait() {
    let world = World::new();
    let key = world.zone("direct.example.net").key().dnskey();
    let miss = |at: i64| question(&format!("n{at}.direct.example.net"), T::CERT, Some(opt(4096, true)));
    let limits = Policy { responses_per_second: 0, signatures_per_second: 20, ..policy() };
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut asking = Asking::new(&world, limits.clone());
        asking.asker.transport = transport;
        // One network has half of the signatures. The first costs three of them, every other one: 3 + 7, then none is left.
        for at in 0..20 {
            let (finished, message) = asking.ask(&miss(at)).unwrap();
            match (at < 8, transport) {
                (true, _) => {
                    assert_eq!((finished.truncated, message.rcode()), (None, 3));
                    message.verify(&key, NOW);
                }
                (false, Transport::Udp) => {
                    assert_eq!((finished.truncated, finished.later), (Some(Truncation::Budget), false));
                    assert!(message.truncated() && empty(&message));
                }
                (false, _) => {
                    assert!(finished.later, "{at}");
                    assert_eq!((message.rcode(), message.truncated(), message.answers.len()), (2, false, 0));
                }
            }
        }
        // Another network has the other half.
        asking.asker.source = ip("198.51.100.1");
        let (finished, message) = asking.ask(&miss(20)).unwrap();
        assert_eq!((finished.later, finished.truncated, message.rcode()), (false, None, 3));
        asking.asker.source = ip("192.0.2.1");
        // What is signed already, and what needs no signature, is answered all the same.
        assert_eq!(asking.ask(&miss(3)).unwrap().1.rcode(), 3);
        assert_eq!(asking.ask(&question("direct.example.net", T::SOA, Some(opt(1232, true)))).unwrap().1.rcode(), 0);
        // The next second has its own.
        asking.now += 1;
        let (finished, message) = asking.ask(&miss(15)).unwrap();
        assert_eq!((finished.later, finished.truncated, message.rcode()), (false, None, 3));
    }
}

/// A flood of names nobody has, from many forged sources, and malformed messages: whoever asks for what is there is
/// answered, and memory does not grow with the flood.
#[test]
fn a_flood_of_random_names_leaves_the_others_alone() {
    let world = World::new();
    let mut asking = Asking::new(&world, Policy { signatures_per_second: 50, ..policy() });
    let soa = question("_smimecert.example.org", T::SOA, Some(opt(1232, true)));
    let (mut truncated, mut signed) = (0, 0);
    for at in 0..5_000u32 {
        asking.asker.source = IpAddr::from((at.wrapping_mul(2_654_435_761) | 1).to_be_bytes());
        let owner = format!("x{at}.{}", ["direct.example.net", ALICE][at as usize % 2]);
        let mut request = question(&owner, T::CERT, Some(opt(1232, true)));
        if at % 3 == 0 {
            request.truncate(at as usize % request.len());
        }
        if let Some((finished, _)) = asking.ask(&request) {
            signed += u32::from(finished.signed);
            truncated += u32::from(finished.truncated == Some(Truncation::Budget));
        }
        asking.asker.source = ip("203.0.113.9");
        asking.asker.transport = Transport::Tcp;
        let (finished, message) = asking.ask(&question(ALICE, T::SMIMEA, Some(opt(1232, true)))).unwrap();
        assert_eq!((finished.later, message.answers.len()), (false, 2));
        asking.asker.transport = Transport::Udp;
        if at < 200 {
            assert_eq!(asking.ask(&soa).unwrap().0.truncated, None);
        }
    }
    assert_eq!(signed, 50, "one second, one budget");
    assert!(truncated > 2_000, "{truncated}");
}

/// The same on sockets: four sources flood with random names and runts, as fast as they are answered; a fifth asks for
/// what is there, and every single query of it is answered.
#[test]
fn whoever_asks_during_a_flood_is_answered() {
    let world = World::new();
    let options = Options { workers: 1, policy: policy(), ..Options::default() };
    let running = Running::start(&world, IpAddr::V4(Ipv4Addr::LOCALHOST), options, NOW);
    let from = |ip: [u8; 4]| {
        let socket = UdpSocket::bind((Ipv4Addr::from(ip), 0)).unwrap();
        socket.connect(running.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    };
    let (stop, mut floods) = (Arc::new(AtomicBool::new(false)), Vec::new());
    for network in 1..5u8 {
        let (socket, stop) = (from([127, 0, network, 1]), stop.clone());
        floods.push(std::thread::spawn(move || {
            let mut out = [0; 4096];
            for round in 0u64.. {
                for at in 0..16 {
                    let owner = format!("x{network}-{round}-{at}.direct.example.net");
                    let mut request = question(&owner, T::CERT, Some(opt(1232, true)));
                    socket.send(&request[..11]).unwrap();
                    // Every fourth is malformed.
                    request.truncate(request.len() - usize::from(at % 4 == 0));
                    socket.send(&request).unwrap();
                }
                for _ in 0..16 {
                    socket.recv(&mut out).unwrap();
                }
                if stop.load(Ordering::Relaxed) {
                    return 16 * (round + 1);
                }
            }
            0
        }));
    }
    let (socket, mut out) = (from([127, 0, 9, 1]), [0; 4096]);
    let mut ask = |owner: &str, rtype, cookie: &[u8]| {
        socket.send(&question(owner, rtype, Some(opt_with(1232, &[(COOKIE, cookie)])))).unwrap();
        let length = socket.recv(&mut out).unwrap();
        Message::read(&out[..length])
    };
    let cookie = option(&ask(ALICE, T::SMIMEA, CLIENT), COOKIE).unwrap();
    for _ in 0..500 {
        assert_eq!(ask(ALICE, T::SMIMEA, &cookie).types().0, [T::SMIMEA, T::RRSIG]);
        assert_eq!(ask("_smimecert.example.org", T::SOA, &cookie).types().0, [T::SOA, T::RRSIG]);
    }
    stop.store(true, Ordering::Relaxed);
    let flooded: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    let udp = running.counters.snapshot().udp;
    // Each query of the flood had a runt before it.
    assert_eq!((udp.dropped(), udp.queries()), (flooded, 2 * flooded + 1_001));
    assert!(udp.signatures() <= 4 * 200 + 3, "one second of the clock: every network has its rate");
}

/// `example.test`: what a customer's records can be beside certificates.
fn fragments() -> World {
    let txt = [&[200], &[b'x'; 200][..]].concat();
    let target = |text| Rdata::from(crate::world::name(text).as_wire());
    let records = [
        ("txt.example.test", T::TXT, Rdata::from(&txt[..])),
        ("large.example.test", T::TXT, Rdata::from(&txt.repeat(5)[..])),
        ("alias.example.test", T::CNAME, target("txt.example.test")),
        ("chain.example.test", T::CNAME, target("alias.example.test")),
        ("gone.example.test", T::CNAME, target("nobody.example.test")),
        ("dname.example.test", T::DNAME, target("target.example.test")),
        ("www.target.example.test", T::A, Rdata::from(&[192, 0, 2, 1][..])),
        (
            "signed.example.test",
            T::DS,
            zone("signed.example.test", &[]).key().ds(&crate::world::name("signed.example.test")),
        ),
    ];
    let mut zone = zone("example.test", &records);
    let mut unsigned = |owner: &str, rtype, rdata| {
        let rrset = Rrset::new(rtype, TTL, vec![rdata]).unwrap();
        zone.set(&crate::world::name(owner), SignedRrset { rrset, rrsig: Rdata::from(&[][..]) }).unwrap();
    };
    for cut in ["signed.example.test", "unsigned.example.test"] {
        unsigned(cut, T::NS, rdata::ns(&crate::world::name(&format!("ns.{cut}"))));
        unsigned(&format!("ns.{cut}"), T::A, Rdata::from(&[192, 0, 2, 53][..]));
        unsigned(&format!("ns.{cut}"), T::AAAA, Rdata::from(&[0x20; 16][..]));
    }
    World(Arc::new([(zone.apex().clone(), zone)].into()))
}

/// The octets that a source gets for every octet sent in its name, for every kind of answer, of a single answer and in a flood
/// of 2,000 queries a second for ten seconds. The bounds of the single answer are those of docs/dns.md, and the numbers there
/// are those printed (`--nocapture`).
#[test]
fn amplification_of_every_kind_of_answer() {
    const PER_SECOND: i64 = 2_000;
    const SECONDS: i64 = 10;
    let (certificates, fragments) = (World::new(), fragments());
    type Name = fn(i64) -> String;
    let flooded = |single: f64| if single <= 1.2 { single } else { single / 10.0 + 1.0 };
    let kinds: &[(&str, T, Name, f64)] = &[
        ("certificate (SMIMEA)", T::SMIMEA, |_| ALICE.into(), 1.0),
        ("certificate (wildcard)", T::SMIMEA, |at| format!("n{at}._smimecert.example.org"), 1.0),
        ("certificate (CERT)", T::CERT, |_| "alice.direct.example.net".into(), 1.0),
        ("certificate (ANY)", T::ANY, |_| ALICE.into(), 1.0),
        ("SOA", T::SOA, |_| "_smimecert.example.org".into(), 5.0),
        ("NS", T::NS, |_| "_smimecert.example.org".into(), 5.0),
        ("DNSKEY", T::DNSKEY, |_| "_smimecert.example.org".into(), 5.0),
        ("DS", T::DS, |_| "direct.example.net".into(), 5.0),
        ("SRV", T::SRV, |_| "_ldap._tcp.direct.example.net".into(), 5.0),
        ("RRSIG", T::RRSIG, |_| ALICE.into(), 5.0),
        ("ANY (no certificate)", T::ANY, |_| "_ldap._tcp.direct.example.net".into(), 5.0),
        ("TXT of 200 octets", T::TXT, |_| "txt.example.test".into(), 9.0),
        ("TXT of 1,000 octets", T::TXT, |_| "large.example.test".into(), 1.0),
        ("alias", T::TXT, |_| "alias.example.test".into(), 12.0),
        ("two aliases", T::TXT, |_| "chain.example.test".into(), 1.0),
        ("DNAME", T::A, |_| "www.dname.example.test".into(), 8.0),
        ("alias to nothing", T::TXT, |_| "gone.example.test".into(), 1.0),
        ("referral, signed", T::A, |at| format!("n{at}.signed.example.test"), 6.0),
        ("referral, unsigned", T::A, |at| format!("n{at}.unsigned.example.test"), 6.0),
        ("NODATA", T::A, |_| ALICE.into(), 8.0),
        ("NODATA (wildcard)", T::A, |at| format!("n{at}._smimecert.example.org"), 16.0),
        ("NXDOMAIN", T::CERT, |at| format!("n{at}.direct.example.net"), 16.5),
        ("NXDOMAIN (one name)", T::CERT, |_| "nobody.direct.example.net".into(), 16.0),
        ("REFUSED", T::A, |_| "www.example.com".into(), 1.2),
    ];
    println!("{:<24} {:>5} {:>5} {:>8} {:>8}", "kind", "in", "out", "factor", "limited");
    for (kind, rtype, name, most) in kinds {
        let world = if name(0).ends_with("example.test") { &fragments } else { &certificates };
        let single = Asking::new(world, Policy { responses_per_second: 0, ..policy() })
            .ask(&question(&name(0), *rtype, Some(opt(1232, true))))
            .unwrap();
        let mut asking = Asking::new(world, policy());
        let (mut octets_in, mut octets_out, mut last) = (0, 0, 0);
        for at in 0..PER_SECOND * SECONDS {
            asking.now = NOW + at / PER_SECOND;
            asking.asker.source = IpAddr::from([192, 0, 2, at as u8]);
            let request = question(&name(at), *rtype, Some(opt(1232, true)));
            last = request.len();
            octets_in += request.len();
            octets_out += asking.ask(&request).map_or(0, |(_, message)| message.octets.len());
        }
        let out = single.1.octets.len();
        let alone = out as f64 / question(&name(0), *rtype, Some(opt(1232, true))).len() as f64;
        let factor = octets_out as f64 / octets_in as f64;
        println!("{kind:<24} {last:>5} {out:>5} {alone:>8.2} {factor:>8.2}");
        assert!(alone <= *most, "{kind}: a single answer is {alone} times its query");
        assert!(factor <= flooded(*most), "{kind}: {factor} times in a flood");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_000, ..ProptestConfig::default() })]

    /// Whatever is asked without a cookie, over UDP no certificate comes back; and nothing is ever longer than it may be.
    #[test]
    fn no_certificate_for_unverified_sources(
        owner in "(([a-z0-9*_-]{1,8}\\.){0,3}|alice\\.|www\\.)(_smimecert\\.example\\.org|direct\\.example\\.net)",
        rtype in 0u16..300,
        size: u16,
        dnssec: bool,
    ) {
        let world = &crate::random::WORLD;
        let mut asking = Asking::new(world, policy());
        let mut scratch = Scratch::new(Policy { udp_certificates: UdpCertificates::Always, ..policy() });
        let request = question(&owner, T(rtype), Some(opt(size, dnssec)));
        let (finished, message) = asking.ask(&request).unwrap();
        prop_assert!(message.answers.iter().all(|record| ![T::SMIMEA, T::CERT].contains(&record.rtype)));
        prop_assert!(finished.truncated != Some(Truncation::Unverified) || message.octets.len() <= request.len());
        // The policy decides nothing else.
        let mut out = vec![0; 65_535];
        let other = answer(Some(&**world), &request, &asking.asker, NOW, &mut scratch, &mut out).unwrap();
        prop_assert!(finished.truncated == Some(Truncation::Unverified) || other.rcode == finished.rcode);
    }
}
