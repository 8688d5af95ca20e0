//! RFC 7873: DNS cookies, as dig uses them, with RFC 8162 section 9.1.

use std::sync::Arc;

use certdir_dns::{CookieSecret, Policy, UdpCertificates};
use certdir_zones::{RecordType, Rrset, Usage, rdata};

use super::{Form, Hosted, Served, family, generosity, name};
use crate::world::{DAY, client, now, run, spaced};

/// The family with a certificate, for sources that are verified.
fn served() -> Served {
    let mut zones = family(Form::Minimal).0.to_vec();
    let owner = name("alice.example.test");
    let rrset = Rrset::new(RecordType::SMIMEA, 300, vec![rdata::smimea(Usage::DaneEe, &[7; 500])]).unwrap();
    let key = zones[0].key().clone();
    let signed = key.sign(&name("example.test"), &owner, &rrset, (now() - 3600) as u32, (now() + DAY) as u32).unwrap();
    zones[0].set(&owner, signed).unwrap();
    let policy = Policy {
        cookies: Some(CookieSecret::new([7; 16])),
        udp_certificates: UdpCertificates::Verified,
        ..generosity()
    };
    Served::start_with(&Hosted(Arc::new(zones)), policy)
}

fn dig(served: &Served, arguments: &str) -> String {
    let port = served.address.port().to_string();
    let mut dig = client("dig");
    dig.args(["@127.0.0.1", "-p", &port, "+notcp", "+ignore", "+tries=1", "+time=10"]);
    spaced(&run(dig.args(arguments.split(' '))).ok().text())
}

const CLIENT: &str = "0102030405060708";

/// The cookie in what dig printed.
fn cookie(said: &str) -> Option<String> {
    let rest = said.split("COOKIE: ").nth(1)?;
    Some(rest.split_whitespace().next().unwrap().to_string())
}

#[test]
fn section_5_2_1_without_a_cookie_there_is_none_in_the_answer() {
    let said = dig(&served(), "+nocookie www.example.test A");
    assert!(said.contains("status: NOERROR"), "{said}");
    assert_eq!(cookie(&said), None);
}

#[test]
fn section_5_2_2_a_malformed_cookie_is_a_format_error() {
    let said = dig(&served(), "+nocookie +ednsopt=10:010203 www.example.test A");
    assert!(said.contains("status: FORMERR"), "{said}");
}

/// Section 5.2.3; RFC 8162 section 9.1: an unverified source gets no certificate, but TC, never REFUSED.
#[test]
fn section_5_2_3_a_client_cookie_alone_is_answered_with_a_server_cookie() {
    let said = dig(&served(), &format!("+cookie={CLIENT} alice.example.test SMIMEA"));
    assert!(
        said.contains("status: NOERROR") && said.contains("flags: qr aa tc") && said.contains("ANSWER: 0"),
        "{said}"
    );
    let cookie = cookie(&said).unwrap();
    assert!(cookie.starts_with(CLIENT) && cookie.len() == 48, "{cookie}");
}

#[test]
fn section_5_2_4_a_wrong_server_cookie_counts_as_none() {
    let said = dig(&served(), &format!("+cookie={CLIENT}{} +nobadcookie alice.example.test SMIMEA", "00".repeat(16)));
    assert!(said.contains("flags: qr aa tc") && said.contains("ANSWER: 0"), "{said}");
    assert_ne!(&cookie(&said).unwrap()[16..], "00".repeat(16));
}

#[test]
fn section_5_2_5_a_correct_server_cookie_verifies_the_source() {
    let served = served();
    let first = dig(&served, &format!("+cookie={CLIENT} alice.example.test SMIMEA"));
    let said = dig(&served, &format!("+cookie={} alice.example.test SMIMEA", cookie(&first).unwrap()));
    assert!(!said.contains(" tc") && said.contains("ANSWER: 1"), "{said}");
    // Of another client it is not correct.
    let stolen = cookie(&first).unwrap().replace(CLIENT, "1112131415161718");
    assert!(dig(&served, &format!("+cookie={stolen} alice.example.test SMIMEA")).contains("ANSWER: 0"));
}

/// Denials and the records that resolvers need stay on UDP for everybody.
#[test]
fn section_5_2_3_what_is_no_certificate_is_answered_at_once() {
    let served = served();
    for (owner, rtype) in [("example.test", "SOA"), ("example.test", "DNSKEY"), ("nothing.example.test", "SMIMEA")] {
        let said = dig(&served, &format!("+cookie={CLIENT} +dnssec {owner} {rtype}"));
        assert!(!said.contains("ANSWER: 0, AUTHORITY: 0"), "{said}");
    }
}
