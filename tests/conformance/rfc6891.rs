//! RFC 6891: EDNS(0).

use certdir_dns::Transport;

use super::{Answer, Form, Hosted, family, query, zone};

/// A question with an OPT record of this payload, extended code, version, flags and data.
fn with_opt(payload: u16, version: u8, flags: u16, data: &[u8]) -> Vec<u8> {
    let mut message = query("www.example.test", "A", None);
    message[11] = 1;
    message.extend([0, 0, 41]);
    message.extend(payload.to_be_bytes());
    message.extend([0, version]);
    message.extend(flags.to_be_bytes());
    message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    message.extend(data);
    message
}

fn ask(request: &[u8]) -> Answer {
    family(Form::Minimal).send(request, Transport::Udp).unwrap()
}

#[test]
fn section_6_1_1_opt_is_there_if_the_request_has_one() {
    assert!(ask(&query("www.example.test", "A", None)).0.edns.is_none());
    for owner in ["www.example.test", "nothing.example.test", "outside.test"] {
        assert!(ask(&query(owner, "A", Some(false))).0.edns.is_some(), "{owner}");
    }
}

#[test]
fn section_6_1_1_two_opt_records_are_a_format_error() {
    let mut request = with_opt(1232, 0, 0, &[]);
    request[11] = 2;
    request.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ask(&request).rcode(), "FormErr");
}

#[test]
fn section_6_1_2_unknown_options_are_ignored() {
    let answer = ask(&with_opt(1232, 0, 0, &[0xFD, 0xE9, 0, 3, 1, 2, 3]));
    answer.is("NoError", true, "A", "");
    assert!(answer.0.edns.unwrap().options().as_ref().is_empty());
}

#[test]
fn section_6_1_3_another_version_is_badvers_and_ours_is_named() {
    for version in [1, 100, 255] {
        let answer = ask(&with_opt(1232, version, 0, &[]));
        assert_eq!((u16::from(answer.0.metadata.response_code), answer.answers().len()), (16, 0));
        assert_eq!(answer.0.edns.unwrap().version(), 0);
    }
}

#[test]
fn section_6_1_4_do_is_copied_and_z_is_not() {
    for (flags, dnssec) in [(0x8000, true), (0x0000, false), (0xFFFF, true), (0x7FFF, false)] {
        let edns = ask(&with_opt(1232, 0, flags, &[])).0.edns.unwrap();
        assert_eq!(edns.flags().dnssec_ok, dnssec);
        assert_eq!(edns.flags().z, 0);
    }
}

#[test]
fn section_6_2_3_sizes_below_512_count_as_512() {
    let ask = |size: u16| {
        let records: String = (0..22).map(|at| format!("www A 192.0.2.{at}\n")).collect();
        let hosted = Hosted::new([zone("example.test", &records, Form::Minimal)]);
        hosted.send(&with_opt(size, 0, 0, &[]), Transport::Udp).unwrap().truncated()
    };
    for size in [0, 100, 511, 512] {
        assert!(!ask(size), "22 addresses fit 512 octets");
    }
}

#[test]
fn section_6_2_5_the_smaller_size_counts() {
    let texts: String = (0..5).map(|at| format!("www TXT \"{at}{}\"\n", "x".repeat(180))).collect();
    let hosted = Hosted::new([zone("example.test", &texts, Form::Minimal)]);
    for (size, truncated) in [(900, true), (1232, false), (4096, false)] {
        let mut request = with_opt(size, 0, 0, &[]);
        let at = request.windows(4).position(|four| four == [0, 1, 0, 1]).unwrap();
        request[at + 1] = 16;
        assert_eq!(hosted.send(&request, Transport::Udp).unwrap().truncated(), truncated, "{size}");
    }
}
