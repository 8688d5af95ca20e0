//! The answer algorithm, one test for each rule, named by the section that makes it.

use std::sync::Arc;

use certdir_zones::{Rdata, RecordType, Rrset, rdata};

use crate::world::{
    DENIAL_TTL, NOW, SIGNED_FOR, STREAM, TTL, UDP, World, asker, generous, generous_up_to, name, opt, question,
    question_of_class, zone,
};

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const BADVERS: u16 = 16;

use RecordType as T;

/// Owner, type, DO; then response code, AA, types in the answer and the authority section.
type Case = (&'static str, T, bool, u16, bool, &'static [T], &'static [T]);

#[test]
fn sections_of_every_kind_of_answer() {
    const PROOF_1: &[T] = &[T::SOA, T::RRSIG, T::NSEC3, T::RRSIG];
    const PROOF_3: &[T] = &[T::SOA, T::RRSIG, T::NSEC3, T::RRSIG, T::NSEC3, T::RRSIG, T::NSEC3, T::RRSIG];
    const SIGNED: &[T] = &[T::SMIMEA, T::RRSIG];
    let cases: &[Case] = &[
        // RFC 1034 section 4.3.2, RFC 4035 section 3.1.1
        ("alice._smimecert.example.org", T::SMIMEA, false, NOERROR, true, &[T::SMIMEA], &[]),
        ("alice._smimecert.example.org", T::SMIMEA, true, NOERROR, true, SIGNED, &[]),
        ("_smimecert.example.org", T::SOA, true, NOERROR, true, &[T::SOA, T::RRSIG], &[]),
        ("_smimecert.example.org", T::NS, true, NOERROR, true, &[T::NS, T::RRSIG], &[]),
        ("_smimecert.example.org", T::DNSKEY, true, NOERROR, true, &[T::DNSKEY, T::RRSIG], &[]),
        ("direct.example.net", T::CERT, true, NOERROR, true, &[T::CERT, T::RRSIG], &[]),
        ("alice.direct.example.net", T::CERT, false, NOERROR, true, &[T::CERT], &[]),
        // RFC 1034 section 3.6.2
        ("www.direct.example.net", T::CERT, true, NOERROR, true, &[T::CNAME, T::RRSIG, T::CERT, T::RRSIG], &[]),
        ("www.direct.example.net", T::CNAME, false, NOERROR, true, &[T::CNAME], &[]),
        // RFC 2308 section 2.2, RFC 5155 section 7.2.3: NODATA
        ("alice._smimecert.example.org", T::A, false, NOERROR, true, &[], &[T::SOA]),
        ("alice._smimecert.example.org", T::A, true, NOERROR, true, &[], PROOF_1),
        ("alice._smimecert.example.org", T(65_280), true, NOERROR, true, &[], PROOF_1),
        // RFC 4592 section 2.2.2, RFC 5155 section 7.2.3: empty non-terminal
        ("_tcp.direct.example.net", T::SRV, true, NOERROR, true, &[], PROOF_1),
        // RFC 2308 section 2.1, RFC 5155 section 7.2.2: NXDOMAIN
        ("nobody.direct.example.net", T::CERT, false, NXDOMAIN, true, &[], &[T::SOA]),
        ("nobody.direct.example.net", T::CERT, true, NXDOMAIN, true, &[], PROOF_3),
        ("a.b.c._tcp.direct.example.net", T::SRV, true, NXDOMAIN, true, &[], PROOF_3),
        // The next closer name is the wildcard: two records say it all.
        (
            "*.direct.example.net",
            T::CERT,
            true,
            NXDOMAIN,
            true,
            &[],
            &[T::SOA, T::RRSIG, T::NSEC3, T::RRSIG, T::NSEC3, T::RRSIG],
        ),
        // RFC 5155 section 7.2.8: an owner of NSEC3 records is no name of the zone
        ("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.direct.example.net", T::NSEC3, true, NXDOMAIN, true, &[], PROOF_3),
        // RFC 4592 section 3.3.1, RFC 5155 section 7.2.6: wildcard
        ("dave._smimecert.example.org", T::SMIMEA, false, NOERROR, true, &[T::SMIMEA], &[]),
        ("dave._smimecert.example.org", T::SMIMEA, true, NOERROR, true, SIGNED, &[T::NSEC3, T::RRSIG]),
        ("a.b.dave._smimecert.example.org", T::SMIMEA, true, NOERROR, true, SIGNED, &[T::NSEC3, T::RRSIG]),
        ("*._smimecert.example.org", T::SMIMEA, true, NOERROR, true, SIGNED, &[]),
        // RFC 5155 section 7.2.5: wildcard NODATA
        ("dave._smimecert.example.org", T::A, false, NOERROR, true, &[], &[T::SOA]),
        ("dave._smimecert.example.org", T::A, true, NOERROR, true, &[], PROOF_3),
        // RFC 4592 section 2.2.1: a wildcard does not reach below an existing name
        ("x.alice._smimecert.example.org", T::SMIMEA, false, NXDOMAIN, true, &[], &[T::SOA]),
        // RFC 4035 section 3.1.4.1: DS from the parent when it is here, else NODATA from the child
        ("direct.example.net", T::DS, true, NOERROR, true, &[T::DS, T::RRSIG], &[]),
        ("_smimecert.example.org", T::DS, true, NOERROR, true, &[], PROOF_1),
        // RFC 8482 section 4.1
        ("alice.direct.example.net", T::ANY, true, NOERROR, true, &[T::TXT, T::RRSIG], &[]),
        ("alice.direct.example.net", T::ANY, false, NOERROR, true, &[T::TXT], &[]),
        ("_tcp.direct.example.net", T::ANY, false, NOERROR, true, &[], &[T::SOA]),
        ("nobody.direct.example.net", T::ANY, false, NXDOMAIN, true, &[], &[T::SOA]),
        ("alice.direct.example.net", T::RRSIG, true, NOERROR, true, &[T::RRSIG], &[]),
        ("alice.direct.example.net", T::RRSIG, false, NOERROR, true, &[T::RRSIG], &[]),
        ("nobody.direct.example.net", T::RRSIG, true, NXDOMAIN, true, &[], PROOF_3),
        ("alice.direct.example.net", T::NSEC3, true, NOERROR, true, &[], PROOF_1),
        // RFC 1035 section 4.1.1: outside the hosted zones
        ("example.org", T::SOA, true, REFUSED, false, &[], &[]),
        ("alice._smimecert.example.com", T::SMIMEA, true, REFUSED, false, &[], &[]),
        (".", T::NS, true, REFUSED, false, &[], &[]),
        // RFC 5936 section 2.2.1, RFC 1995 section 3: not permitted
        ("_smimecert.example.org", T::AXFR, false, REFUSED, false, &[], &[]),
        ("_smimecert.example.org", T::IXFR, false, REFUSED, false, &[], &[]),
        // RFC 6895 section 3.1: no types of data; RFC 9824 section 3.5: NXNAME
        ("_smimecert.example.org", T::OPT, false, FORMERR, false, &[], &[]),
        ("_smimecert.example.org", T::TSIG, false, FORMERR, false, &[], &[]),
        ("_smimecert.example.org", T(128), false, FORMERR, false, &[], &[]),
        ("_smimecert.example.org", T(249), false, NOTIMP, false, &[], &[]),
        ("_smimecert.example.org", T(254), false, NOTIMP, false, &[], &[]),
    ];
    let world = World::new();
    for &(owner, rtype, dnssec, rcode, authoritative, answers, authorities) in cases {
        let message = world.ask(owner, rtype, dnssec);
        let what = format!("{owner} {rtype} DO={dnssec}");
        assert_eq!(message.rcode(), rcode, "{what}");
        assert_eq!(message.authoritative(), authoritative, "{what}");
        assert_eq!(message.types(), (answers.to_vec(), authorities.to_vec()), "{what}");
        assert!(!message.truncated(), "{what}");
        let sets = answers.iter().chain(authorities).any(|t| *t != T::RRSIG);
        if dnssec && sets {
            let signer = if rtype == T::DS && owner == "direct.example.net" { "example.net" } else { owner };
            let apex =
                world.0.keys().filter(|apex| name(signer).is_at_or_below(apex)).max_by_key(|apex| apex.as_wire().len());
            message.verify(&world.0[apex.unwrap()].key().dnskey(), NOW);
        }
    }
}

#[test]
fn rfc1035_4_1_1_header_and_question_are_repeated() {
    let world = World::new();
    let mut request = question("aLiCe._SMIMEcert.Example.ORG", T::SMIMEA, Some(opt(1232, true)));
    for (flags, expected) in
        [([0x01, 0x00], 0x8500), ([0x00, 0x00], 0x8400), ([0x01, 0x70], 0x8500), ([0x07, 0xB0], 0x8500)]
    {
        request[2..4].copy_from_slice(&flags);
        let message = world.send(&request, UDP).unwrap();
        assert_eq!(message.id, 0x1234);
        assert_eq!(message.flags, expected, "QR, opcode, AA, RD; never TC, RA, Z, AD, CD for {flags:?}");
    }
    let message = world.send(&request, UDP).unwrap();
    let (asked, rtype, class) = message.question.clone().unwrap();
    assert_eq!((&asked[..], rtype, class), (&b"\x05aLiCe\x0a_SMIMEcert\x07Example\x03ORG\0"[..], T::SMIMEA, 1));
    assert_eq!(message.answers[0].owner, asked, "RFC 1034 section 3.1: the case of the question is kept");
    message.verify(&world.zone("_smimecert.example.org").key().dnskey(), NOW);
}

#[test]
fn rfc1035_4_1_1_messages_that_get_no_answer() {
    let world = World::new();
    let mut response = question("alice._smimecert.example.org", T::SMIMEA, None);
    response[2] |= 0x80;
    assert!(world.send(&response, UDP).is_none());
    assert!(world.send(&[], UDP).is_none());
    assert!(world.send(&response[..11], UDP).is_none());
}

#[test]
fn rfc8906_3_1_requests_out_of_the_ordinary() {
    let world = World::new();
    let owner = "alice._smimecert.example.org";
    // Section 3.1.4: header only.
    for opcode in 1..=15u8 {
        let mut request = question(owner, T::SMIMEA, Some(opt(1232, true)));
        request[2] |= opcode << 3;
        let message = world.send(&request, UDP).unwrap();
        assert_eq!((message.octets.len(), message.rcode()), (12, NOTIMP));
        assert_eq!(message.flags >> 11 & 15, u16::from(opcode));
    }
    // Section 3.1.2: classes.
    for class in [3, 4, 254, 255] {
        let message = world.send(&question_of_class(owner, T::SMIMEA, class, None), UDP).unwrap();
        assert_eq!((message.rcode(), message.authoritative()), (REFUSED, false));
        assert_eq!(message.question.unwrap().2, class);
    }
    // RFC 9619 section 4.
    let mut two = question(owner, T::SMIMEA, None);
    two[5] = 2;
    two.extend_from_within(12..);
    assert_eq!(world.send(&two, UDP).unwrap().rcode(), FORMERR);
    assert_eq!(world.send(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], UDP).unwrap().rcode(), FORMERR);
    // RFC 9619 and RFC 1035 section 4.1.4: nothing to point to in a question.
    let pointer = [&question(owner, T::SMIMEA, None)[..12], &[0xC0, 0x0C, 0, 53, 0, 1]].concat();
    let message = world.send(&pointer, UDP).unwrap();
    assert_eq!((message.rcode(), message.octets.len()), (FORMERR, 12));
}

#[test]
fn rfc6891_edns() {
    let world = World::new();
    let owner = "alice._smimecert.example.org";
    let with = |opt: Vec<u8>| world.send(&question(owner, T::SMIMEA, Some(opt)), UDP).unwrap();
    // Section 6.1.1: OPT is answered with OPT, and only then; our own size, version 0, DO repeated (RFC 3225 section 3).
    assert!(world.send(&question(owner, T::A, None), UDP).unwrap().opt().is_none());
    for dnssec in [true, false] {
        let message = with(opt(4096, dnssec));
        let found = message.opt().unwrap();
        assert_eq!((found.class, found.ttl), (1232, if dnssec { 0x8000 } else { 0 }));
        assert_eq!((found.owner.as_slice(), found.rdata.len()), (&[0u8][..], 0));
    }
    // Section 6.1.2: unknown options and flags are ignored.
    let message = with(vec![0, 0, 41, 4, 208, 0, 0, 0xC0, 1, 0, 6, 0xFD, 0xE9, 0, 2, 1, 2]);
    assert_eq!((message.rcode(), message.opt().unwrap().ttl), (NOERROR, 0x8000));
    // Section 6.1.3.
    let message = with(vec![0, 0, 41, 4, 208, 0, 1, 0x80, 0, 0, 0]);
    assert_eq!((message.rcode(), message.answers.len(), message.flags & 15), (BADVERS, 0, 0));
    assert_eq!(message.opt().unwrap().ttl, 0x0100_8000, "extended code 1, version 0");
    // Section 6.1.1: two.
    let mut twice = question(owner, T::SMIMEA, Some([opt(1232, true), opt(1232, true)].concat()));
    twice[11] = 2;
    let message = world.send(&twice, UDP).unwrap();
    assert_eq!((message.rcode(), message.answers.len()), (FORMERR, 0));
    assert!(message.opt().is_some());
}

#[test]
fn rfc2181_9_and_rfc6891_6_2_3_truncation() {
    let world = World::new();
    // Owner, EDNS size, transport, our own limit, whether it is cut. Alice's answer has about 900 octets, Bob's 1,700, pq's 50,200.
    for (owner, size, transport, limit, truncated) in [
        ("alice._smimecert.example.org", None, UDP, 1232, true),
        ("alice._smimecert.example.org", Some(0), UDP, 1232, true),
        ("alice._smimecert.example.org", Some(511), UDP, 1232, true),
        ("alice._smimecert.example.org", Some(1232), UDP, 1232, false),
        ("bob._smimecert.example.org", Some(1232), UDP, 1232, true),
        ("bob._smimecert.example.org", Some(4096), UDP, 1232, true),
        ("bob._smimecert.example.org", Some(65_535), UDP, 4096, false),
        ("bob._smimecert.example.org", Some(1400), UDP, 4096, true),
        ("bob._smimecert.example.org", Some(512), STREAM, 1232, false),
        ("pq._smimecert.example.org", Some(65_535), UDP, 4096, true),
        ("pq._smimecert.example.org", None, STREAM, 1232, false),
        ("pq._smimecert.example.org", Some(0), STREAM, 1232, false),
    ] {
        let what = format!("{owner} {size:?} {transport:?}");
        let request = question(owner, T::SMIMEA, size.map(|size| opt(size, true)));
        let message = world.send_at(&request, transport, NOW, &mut generous_up_to(limit)).unwrap();
        assert_eq!(message.truncated(), truncated, "{what}");
        assert_eq!(message.rcode(), NOERROR, "{what}");
        assert!(message.authoritative() && message.question.is_some(), "{what}");
        assert_eq!(message.answers.is_empty(), truncated, "{what}");
        assert_eq!(message.opt().is_some(), size.is_some(), "{what}");
        if truncated {
            assert!(message.authorities.is_empty() && message.additionals.len() == usize::from(size.is_some()));
        }
        if transport == UDP {
            assert!(message.octets.len() <= usize::from(size.unwrap_or(512).min(limit).max(512)), "{what}");
        }
    }
}

/// Every size from 512 on: either the whole answer or the truncated one, never longer than allowed.
#[test]
fn rfc6891_6_2_3_the_limit_is_exact() {
    let world = World::new();
    let whole = world.ask("alice._smimecert.example.org", T::SMIMEA, true).octets.len();
    for size in 512..1232u16 {
        let message =
            world.send(&question("alice._smimecert.example.org", T::SMIMEA, Some(opt(size, true))), UDP).unwrap();
        assert_eq!(message.truncated(), usize::from(size) < whole, "{size} of {whole}");
        assert!(message.octets.len() <= usize::from(size));
    }
}

#[test]
fn ttl_never_outlives_the_signature() {
    let world = World::new();
    let key = world.zone("_smimecert.example.org").key().dnskey();
    let mut scratch = generous();
    let request = question("dave._smimecert.example.org", T::SMIMEA, Some(opt(1232, true)));
    let miss = question("dave._smimecert.example.org", T::A, Some(opt(1232, true)));
    for (left, expected) in [(SIGNED_FOR, TTL), (i64::from(TTL) + 1, TTL), (100, 100), (1, 1), (0, 0)] {
        let now = NOW + SIGNED_FOR - left;
        let message = world.send_at(&request, UDP, now, &mut scratch).unwrap();
        assert_eq!(message.answers[0].ttl, expected, "{left} s left");
        message.verify(&key, now);
        let message = world.send_at(&miss, UDP, now, &mut scratch).unwrap();
        assert_eq!(message.authorities[0].ttl, expected.min(DENIAL_TTL), "{left} s left");
        message.verify(&key, now);
    }
    // DO=0 answers are kept no longer.
    let plain = question("alice._smimecert.example.org", T::SMIMEA, Some(opt(1232, false)));
    assert_eq!(world.send_at(&plain, UDP, NOW + SIGNED_FOR - 7, &mut scratch).unwrap().answers[0].ttl, 7);
    assert_eq!(world.send_at(&plain, UDP, NOW + SIGNED_FOR + 7, &mut scratch).unwrap().answers[0].ttl, 0);
}

#[test]
fn rfc2308_5_and_rfc9077_3_denial_ttl() {
    let message = World::new().ask("nobody.direct.example.net", T::CERT, true);
    assert!(message.authorities.iter().all(|record| record.ttl == DENIAL_TTL), "min(SOA TTL, minimum)");
    let serial = &message.authorities[0].rdata[message.authorities[0].rdata.len() - 20..][..4];
    assert_eq!(serial, 42u32.to_be_bytes());
}

#[test]
fn without_zones_the_answer_is_servfail() {
    let mut out = [0; 512];
    let request = question("alice._smimecert.example.org", T::SMIMEA, None);
    let finished = certdir_dns::answer(None::<&World>, &request, &asker(UDP), NOW, &mut generous(), &mut out).unwrap();
    let message = crate::message::Message::read(&out[..finished.length]);
    assert_eq!((message.rcode(), message.authoritative(), message.answers.len()), (2, false, 0));
}

#[test]
fn rfc1035_3_1_a_name_of_nearly_255_octets() {
    let world = World::new();
    let long = [["a"; 115].join(".").as_str(), "._smimecert.example.org"].concat();
    let request = question(&long, T::SMIMEA, Some(opt(1232, true)));
    assert!(request.len() > 12 + 250);
    let message = world.send(&request, UDP).unwrap();
    assert_eq!(message.types().0, [T::SMIMEA, T::RRSIG]);
    message.verify(&world.zone("_smimecert.example.org").key().dnskey(), NOW);
}

/// RFC 9471 section 3.1, where the names of servers stand farther away than a compression pointer reaches.
#[test]
fn rfc9471_glue_of_servers_far_into_the_response() {
    let server = |at: usize| name(&format!("ns{at:03}-{}.cut.long.example", "x".repeat(50)));
    let far = server(299);
    let mut zone = zone("long.example", &[(&far.to_string(), T::A, Rdata::from(&[192, 0, 2, 1][..]))]);
    let servers = Rrset::new(T::NS, TTL, (0..300).map(|at| rdata::ns(&server(at))).collect()).unwrap();
    let (from, to) = ((NOW - 3600) as u32, (NOW + SIGNED_FOR) as u32);
    let signed = zone.key().clone().sign(zone.apex(), &name("cut.long.example"), &servers, from, to).unwrap();
    zone.set(&name("cut.long.example"), signed).unwrap();
    let world = World(Arc::new([(zone.apex().clone(), zone)].into()));
    let request = question("www.cut.long.example", T::A, Some(opt(1232, true)));
    let message = world.send(&request, STREAM).unwrap();
    assert!(message.octets.len() > 0x4000);
    let glue: Vec<_> = message.additionals.iter().filter(|record| record.rtype == T::A).collect();
    assert_eq!((glue.len(), &*glue[0].owner), (1, far.as_wire()));
}
