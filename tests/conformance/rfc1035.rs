//! RFC 1035: domain names, implementation and specification.

use certdir_dns::Transport;

use super::{Form, Hosted, family, query, zone};

#[test]
fn section_4_1_1_the_header_repeats_what_the_request_says() {
    let hosted = family(Form::Minimal);
    for (flags, expected) in [([0x01, 0x00], 0x85), ([0x00, 0x00], 0x84), ([0x07, 0x00], 0x85)] {
        let mut request = query("www.example.test", "A", None);
        request[2..4].copy_from_slice(&flags);
        let message = hosted.send(&request, Transport::Tcp).unwrap().0;
        assert_eq!(message.metadata.id, 0x1234);
        // QR, opcode 0, AA; RD as it was; never TC.
        assert_eq!(message.to_vec().unwrap()[2], expected, "{flags:?}");
        assert!(!message.metadata.recursion_available);
    }
}

#[test]
fn section_4_1_1_aa_says_that_the_zone_is_here() {
    let hosted = family(Form::Minimal);
    for (owner, authoritative) in [
        ("www.example.test", true),
        ("nothing.example.test", true),
        ("unsigned.example.test", false),
        ("www.child.example.test", true),
        ("outside.test", false),
    ] {
        assert_eq!(hosted.ask_plainly(owner, "A").authoritative(), authoritative, "{owner}");
    }
}

/// Section 4.1.1 and section 2.3.4: 512 octets without EDNS, truncated beyond.
#[test]
fn section_2_3_4_udp_has_512_octets() {
    let records: String = (0..40).map(|at| format!("many A 192.0.2.{at}\n")).collect();
    let hosted = Hosted::new([zone("example.test", &records, Form::Minimal)]);
    let request = query("many.example.test", "A", None);
    let answer = hosted.send(&request, Transport::Udp).unwrap();
    assert!(answer.truncated() && answer.answers().is_empty());
    let answer = hosted.send(&request, Transport::Tcp).unwrap();
    assert!(!answer.truncated());
    assert_eq!(answer.answers().len(), 40);
}

#[test]
fn section_3_2_4_other_classes_are_refused() {
    let hosted = family(Form::Minimal);
    // CH, HS, NONE, ANY, and one that nobody knows (RFC 3597 section 2).
    for class in [3u16, 4, 254, 255, 4242] {
        let mut request = query("www.example.test", "A", None);
        let end = request.len();
        request[end - 2..].copy_from_slice(&class.to_be_bytes());
        hosted.send(&request, Transport::Tcp).unwrap().is("Refused", false, "", "");
    }
}

#[test]
fn section_3_2_3_question_types_that_are_no_data() {
    let hosted = family(Form::Minimal);
    for (rtype, rcode) in [("AXFR", "Refused"), ("IXFR", "Refused"), ("TYPE253", "NotImp"), ("TYPE254", "NotImp")] {
        hosted.ask_plainly("example.test", rtype).is(rcode, false, "", "");
    }
}

/// RFC 3597 section 2: what nobody knows is treated as any other type.
#[test]
fn section_3_2_2_unknown_types() {
    let hosted = Hosted::new([zone("example.test", "x TYPE65280 \\# 3 010203\n", Form::Minimal)]);
    hosted.ask("x.example.test", "TYPE65281").is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
    let answer = hosted.ask("x.example.test", "TYPE65280");
    assert_eq!(answer.0.answers.len(), 2);
    assert_eq!(u16::from(answer.0.answers[0].record_type()), 65_280);
}
