//! What each fuzzer does with its input. Every function takes any octets and must return; what it asserts beyond that are
//! the round trips on which the rest of the program relies.
//!
//! tests/corpora.rs replays every file of `corpus/<name>/` through these on the stable compiler.

use std::sync::{Arc, OnceLock};

use certdir_certificate::Certificate;
use certdir_dns::{Asker, CookieSecret, Policy, Scratch, Transport, Truncation, UdpCertificates, Zones, answer};
use certdir_resolver::outcome::Candidate;
use certdir_zones::rdata::{read_cert, read_smimea, read_soa, smimea, soa};
use certdir_zones::{
    Address, DomainName, Fragment, Name, RecordType, Rrset, Soa, Usage, Zone, ZoneKey, cert_owners, presentation,
    smimea_owner, smimea_wildcard, smimecert_name,
};

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: &[Target] = &[
    ("certificate", certificate),
    ("certificate_input", certificate_input),
    ("address", address),
    ("name_wire", name_wire),
    ("name_text", name_text),
    ("rdata", rdata),
    ("fragment", fragment),
    ("dns_answer", dns_answer),
    ("ldap_message", ldap_message),
    ("candidate", candidate),
];

/// One certificate in DER: what is read can be written as PEM and read again.
pub fn certificate(data: &[u8]) {
    let Ok(read) = Certificate::from_der(data) else {
        return;
    };
    assert_eq!(&read.der()[..], data);
    assert_eq!(read.is_self_issued(), read.subject_der() == read.issuer_der());
    let again = Certificate::read_all(read.to_pem().as_bytes()).expect("our own PEM");
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].sha256(), read.sha256());
}

/// A file or a request body: DER, or PEM with anything between.
pub fn certificate_input(data: &[u8]) {
    if let Ok(all) = Certificate::read_all(data) {
        assert!(!all.is_empty(), "no certificate is an error");
    }
}

/// A mail address: what is read is written so that it reads the same, and it has its owner names.
pub fn address(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(domain) = DomainName::parse(text) {
        let again = DomainName::parse(domain.as_str()).expect("an A-label domain");
        assert_eq!(domain, again);
    }
    let Ok(read) = Address::parse(text) else {
        return;
    };
    let again = Address::parse(&read.to_string()).expect("our own writing");
    assert_eq!(read, again, "{text:?}");
    let lower = read.lower_case();
    assert_eq!(lower.lower_case(), lower, "{text:?}");
    let owner = smimea_owner(&read);
    assert!(owner.is_at_or_below(&smimecert_name(read.domain())));
    assert_eq!(owner.labels().next().map(<[u8]>::len), Some(56));
    let _ = cert_owners(&read);
}

/// A domain name in wire form: its text reads back as the same name.
pub fn name_wire(data: &[u8]) {
    let Ok(name) = Name::from_wire(data) else {
        return;
    };
    let again = Name::parse(&name.to_string()).expect("our own writing");
    assert_eq!(name, again);
    assert!(name.as_wire().len() <= 255);
}

/// A domain name in master-file form.
pub fn name_text(data: &[u8]) {
    let Some(name) = str::from_utf8(data).ok().and_then(|text| Name::parse(text).ok()) else {
        return;
    };
    assert_eq!(Name::from_wire(name.as_wire()).as_ref(), Ok(&name));
}

/// Record data of any type (the first two octets), as somebody else's server may send it.
pub fn rdata(data: &[u8]) {
    let Some((rtype, data)) = data.split_first_chunk() else {
        return;
    };
    let _ = read_smimea(data);
    let _ = read_cert(data);
    if let Ok(read) = read_soa(data) {
        assert_eq!(read_soa(&soa(&read)).as_ref(), Ok(&read));
    }
    let text = presentation(RecordType(u16::from_be_bytes(*rtype)), data);
    assert!(!text.contains('\n'), "a record is one line");
}

struct OneZone(Zone);

impl Zones for OneZone {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        let name = Name::from_wire(name).ok()?;
        name.is_at_or_below(self.0.apex()).then_some(&self.0)
    }
}

/// A zone with an SOA, one person and a wildcard.
fn zones() -> &'static OneZone {
    static ZONES: OnceLock<OneZone> = OnceLock::new();
    ZONES.get_or_init(|| {
        let (key, _) = ZoneKey::generate().expect("random octets");
        let domain = DomainName::parse("example.org").expect("a domain");
        let apex = smimecert_name(&domain);
        let mut zone = Zone::new(apex.clone(), Arc::new(key));
        let start = Soa {
            mname: apex.clone(),
            rname: apex.clone(),
            serial: 1,
            refresh: 3600,
            retry: 600,
            expire: 86_400,
            minimum: 300,
        };
        let person = Address::parse("alice@example.org").expect("an address");
        for (owner, rtype, rdata) in [
            (apex.clone(), RecordType::SOA, soa(&start)),
            (smimea_owner(&person), RecordType::SMIMEA, smimea(Usage::DaneEe, &[0x30; 700])),
            (smimea_wildcard(&domain), RecordType::SMIMEA, smimea(Usage::DaneEe, &[0x30; 1500])),
        ] {
            let rrset = Rrset::new(rtype, 300, vec![rdata]).expect("one record");
            let signed = zone.key().sign(&apex, &owner, &rrset, 0, 2_000_000_000).expect("a signature");
            zone.set(&owner, signed).expect("in the zone");
        }
        OneZone(zone)
    })
}

/// A DNS message: no answer, or one that is a response to it and fits the transport.
pub fn dns_answer(data: &[u8]) {
    let mut out = vec![0; 65_535];
    let cookies = Some(CookieSecret::new([7; 16]));
    let verified = Policy { cookies: cookies.clone(), ..Policy::default() };
    let always = Policy { udp_payload: 4096, udp_certificates: UdpCertificates::Always, cookies, ..Policy::default() };
    for (transport, policy) in Transport::ALL.into_iter().flat_map(|one| [(one, &verified), (one, &always)]) {
        let most = if transport == Transport::Udp { usize::from(policy.udp_payload) } else { out.len() };
        let asker = Asker { keepalive: Some(100), ..Asker::new(transport, [192, 0, 2, 1].into()) };
        let mut scratch = Scratch::new(policy.clone());
        let finished = answer(Some(zones()), data, &asker, 1_000_000_000, &mut scratch, &mut out);
        let Some(finished) = finished else { continue };
        assert!((12..=most).contains(&finished.length), "{}", finished.length);
        assert_eq!(out[..2], data[..2], "the message's own id");
        assert_eq!(out[2] & 0x80, 0x80, "a response");
        assert_eq!(out[2] & 2 != 0, finished.truncated.is_some(), "TC");
        let unverified = finished.truncated == Some(Truncation::Unverified);
        assert!(!unverified || finished.length <= data.len() + 16, "as long as the query, and a cookie");
    }
}

/// The records of a hosted domain as a master-file fragment: what is taken is written and read again as the same.
pub fn fragment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let apex = Name::parse("example.org").expect("a name");
    if let Ok(read) = Fragment::parse(text, &apex) {
        let written = read.to_text();
        let again = Fragment::parse(&written, &apex).expect("our own text");
        assert_eq!(again.to_text(), written);
        assert_eq!(again.given.len(), read.given.len());
    }
}

/// An LDAP message, with its filter and its controls.
pub fn ldap_message(data: &[u8]) {
    let _ = certdir_ldap::decode(data);
}

/// Record data that a resolver found.
pub fn candidate(data: &[u8]) {
    if let Some(candidate) = Candidate::from_rdata(data) {
        let _ = candidate.usable(1_000_000_000);
        let _ = candidate.next_change(1_000_000_000);
    }
}
