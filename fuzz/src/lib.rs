//! What each fuzzer does with its input. Every function takes any octets and must return; what it asserts beyond that are
//! the round trips on which the rest of the program relies.
//!
//! tests/corpora.rs replays every file of `corpus/<name>/` through these on the stable compiler.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use certdir_certificate::{
    Anchors, Certificate, Crl, Evidence, Memory, OcspResponse, Pool, Purpose, Requirements, RevocationMode,
    revocation_of, validate,
};
use certdir_directory::Cursor;
use certdir_dns::{Asker, CookieSecret, Policy, Scratch, Transport, Truncation, UdpCertificates, Zones, answer};
use certdir_http::{Names, Search};
use certdir_resolver::Match;
use certdir_resolver::outcome::Candidate;
use certdir_zones::dso::{self, Header, MAX_PUSH, Push, Tlv, Writer};
use certdir_zones::rdata::{read_cert, read_smimea, read_soa, smimea, soa};
use certdir_zones::{
    Address, DomainName, Fragment, Name, Rdata, RecordType, Rrset, Soa, Standing, Usage, Zone, ZoneKey, cert_owners,
    denial, presentation, smimea_owner, smimea_wildcard, smimecert_name,
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
    ("stateful", stateful),
    ("ldap_message", ldap_message),
    ("candidate", candidate),
    ("bundle", bundle),
    ("multipart", multipart),
    ("ldap_response", ldap_response),
    ("search_query", search_query),
    ("feed_body", feed_body),
    ("revocation_list", revocation_list),
    ("ocsp_response", ocsp_response),
    ("validation", validation),
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

/// The query of a look-up in the certificate store.
pub fn search_query(data: &[u8]) {
    let Ok(query) = str::from_utf8(data) else { return };
    if let Ok(Search::Hash(_, hash)) = Search::read(query) {
        // Exactly one text means it: its 27 characters stand in the query, or percent-encoded.
        assert_eq!(hash.len(), 20);
    }
}

/// The body of a subscription; and a cursor, which can be written as it was read.
pub fn feed_body(data: &[u8]) {
    if let Ok(names) = Names::read(data) {
        assert!(!names.is_empty() && names.len() <= 16_384);
    }
    if let Some(cursor) = str::from_utf8(data).ok().and_then(|text| text.parse::<Cursor>().ok()) {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
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

/// A stateful DNS message, as either end may get it from the other: what is read can be written and read again.
pub fn stateful(data: &[u8]) {
    let Ok(message) = dso::read(data) else {
        return;
    };
    let Header { id, rcode, .. } = message.header;
    let again = match message.primary.clone() {
        Some(Tlv::Keepalive(timeouts)) => Writer::request(id).keepalive(timeouts).finish(),
        Some(Tlv::RetryDelay(delay)) => Writer::farewell(rcode, delay).finish(),
        Some(Tlv::Subscribe(subject)) => Writer::request(id).subscribe(&subject).padded_to(468).finish(),
        Some(Tlv::Unsubscribe(ended)) => Writer::unidirectional().unsubscribe(ended).finish(),
        Some(Tlv::Reconfirm(subject, rdata)) => Writer::unidirectional().reconfirm(&subject, rdata).finish(),
        Some(Tlv::Push(changes)) => {
            assert!(data.len() <= MAX_PUSH && !changes.is_empty());
            let mut push = Push::new();
            let written: Vec<_> = changes.into_iter().take_while(|change| push.put(change)).collect();
            if push.is_empty() {
                return;
            }
            let again = push.finish(None);
            assert!(again.len() <= MAX_PUSH);
            assert_eq!(dso::read(&again).expect("our own writing").primary, Some(Tlv::Push(written)));
            return;
        }
        Some(Tlv::Padding | Tlv::Unknown(_)) | None => return,
    };
    assert_eq!(dso::read(&again).expect("our own writing").primary, message.primary);
}

struct Hosted(Vec<Zone>);

impl Zones for Hosted {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        let name = Name::from_wire(name).ok()?;
        let zones = self.0.iter().filter(|zone| name.is_at_or_below(zone.apex()));
        zones.max_by_key(|zone| zone.apex().as_wire().len())
    }
}

fn sign(zone: &mut Zone, owner: &Name, rrset: Rrset) {
    let signed = zone.key().sign(zone.apex(), owner, &rrset, 0, 2_000_000_000).expect("a signature");
    zone.set(owner, signed).expect("in the zone");
}

fn one(rtype: RecordType, rdata: Rdata) -> Rrset {
    Rrset::new(rtype, 300, vec![rdata]).expect("one record")
}

/// A zone with an SOA.
fn begun(apex: Name) -> Zone {
    let (key, _) = ZoneKey::generate().expect("random octets");
    let start = Soa {
        mname: apex.clone(),
        rname: apex.clone(),
        serial: 1,
        refresh: 3600,
        retry: 600,
        expire: 86_400,
        minimum: 300,
    };
    let mut zone = Zone::new(apex.clone(), Arc::new(key));
    sign(&mut zone, &apex, one(RecordType::SOA, soa(&start)));
    zone
}

/// A zone with one person and a wildcard.
fn certificates() -> Zone {
    let domain = DomainName::parse("example.org").expect("a domain");
    let mut zone = begun(smimecert_name(&domain));
    let person = smimea_owner(&Address::parse("alice@example.org").expect("an address"));
    sign(&mut zone, &person, one(RecordType::SMIMEA, smimea(Usage::DaneEe, &[0x30; 700])));
    sign(&mut zone, &smimea_wildcard(&domain), one(RecordType::SMIMEA, smimea(Usage::DaneEe, &[0x30; 1500])));
    zone
}

/// What a customer's records can be beside certificates: aliases (one to nothing, one in a circle, one into another zone),
/// a DNAME, delegations with glue, wildcards.
const RECORDS: &str = "\
txt             TXT \"hi\"
alias           CNAME txt
chain           CNAME alias
circle          CNAME circle
gone            CNAME nobody
below           CNAME www.unsigned
dname           DNAME deep.target
www.deep.target A 192.0.2.1
*.wild          TXT \"hi\"
*.aliases       CNAME txt
signed          NS ns.signed
                DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000
ns.signed       A 192.0.2.53
                AAAA 2001:db8::53
unsigned        NS ns.unsigned
ns.unsigned     A 192.0.2.53
                AAAA 2001:db8::53
";

/// A zone with these records.
fn customer(apex: &str) -> Zone {
    let mut zone = begun(Name::parse(apex).expect("a name"));
    for given in Fragment::parse(RECORDS, &zone.apex().clone()).expect("records").given {
        match given.standing {
            Standing::Data => sign(&mut zone, &given.owner, given.rrset),
            Standing::Cut | Standing::Glue => zone.set(&given.owner, given.unsigned()).expect("in the zone"),
        }
    }
    zone
}

/// The same with a stored NSEC3 chain (RFC 5155 section 7.1).
fn chained(mut zone: Zone) -> Zone {
    let apex = zone.apex().clone();
    sign(&mut zone, &apex, one(RecordType::NSEC3PARAM, denial::nsec3param()));
    let names: BTreeMap<_, _> = zone
        .names()
        .filter(|(owner, _)| !zone.occludes(owner.as_wire()))
        .map(|(owner, node)| (denial::nsec3_hash(owner.as_wire()), denial::type_bitmap(denial::node_types(node))))
        .collect();
    let nexts: Vec<_> = names.keys().copied().cycle().skip(1).take(names.len()).collect();
    for ((hash, bitmap), next) in names.iter().zip(nexts) {
        let rrset = one(RecordType::NSEC3, denial::nsec3(next, bitmap));
        let owner = denial::nsec3_owner(*hash, &apex).expect("a name");
        let signed = zone.key().sign(&apex, &owner, &rrset, 0, 2_000_000_000).expect("a signature");
        zone.set_link(*hash, signed);
    }
    zone
}

/// Certificates, and customers' zones with either form of denial.
fn zones() -> &'static Hosted {
    static ZONES: OnceLock<Hosted> = OnceLock::new();
    ZONES.get_or_init(|| Hosted(vec![certificates(), customer("minimal.test"), chained(customer("chain.test"))]))
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
    if let Some(candidate) = Candidate::from_smimea(data, Match::Recipient) {
        let _ = candidate.readable();
    }
}

/// A PKCS #7 bundle: what is taken out of it is part of it.
pub fn bundle(data: &[u8]) {
    if let Ok(certificates) = certdir_resolver::bundle::certificates(data) {
        assert!(certificates.len() <= certdir_resolver::bundle::MAX_CERTIFICATES);
        assert!(certificates.iter().map(|der| der.len()).sum::<usize>() <= data.len());
    }
}

/// A multipart answer: the media type up to the first line feed, then the body.
pub fn multipart(data: &[u8]) {
    let mut halves = data.splitn(2, |octet| *octet == b'\n');
    let (Some(media_type), Some(body)) = (halves.next(), halves.next()) else {
        return;
    };
    if let Ok(parts) = certdir_resolver::multipart::parts(&String::from_utf8_lossy(media_type), body) {
        assert!(parts.iter().map(|part| part.len()).sum::<usize>() <= body.len());
    }
}

/// A message as an LDAP server sends it to us.
pub fn ldap_response(data: &[u8]) {
    certdir_resolver::ldap::is_response(data);
}

/// A revocation list.
pub fn revocation_list(data: &[u8]) {
    if let Ok(list) = Crl::read(data) {
        assert!(list.len() <= list.der().len() / 5, "an entry has some octets");
    }
}

/// An OCSP response.
pub fn ocsp_response(data: &[u8]) {
    if let Ok(response) = OcspResponse::read(data) {
        let _ = response.next_update();
        let mut evidence = Evidence::new();
        evidence.add_ocsp(Arc::new(response));
    }
}

/// A validation: objects one behind the other, each with its kind (0: an anchor, 1: a certificate of the pool, 2: a list,
/// 3: an OCSP response, others: the certificate in question) and its length in two octets. A path that is found holds.
pub fn validation(mut data: &[u8]) {
    let (mut anchors, mut pool, mut evidence, mut leaf) = (Anchors::new(), Pool::new(), Evidence::new(), None);
    while let Some(([kind, high, low], rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (object, rest) = rest.split_at(length);
        data = rest;
        match (kind, Certificate::from_der(object)) {
            (2, _) => drop(Crl::read(object).map(|list| evidence.add_crl(Arc::new(list)))),
            (3, _) => drop(OcspResponse::read(object).map(|response| evidence.add_ocsp(Arc::new(response)))),
            (0, Ok(certificate)) => drop(anchors.add(&certificate)),
            (1, Ok(certificate)) => drop(pool.add(&certificate)),
            (_, Ok(certificate)) => leaf = Some(certificate),
            _ => {}
        }
    }
    let Some(leaf) = leaf else {
        return;
    };
    let memory = Memory::default();
    for purpose in [Purpose::Anything, Purpose::Encryption] {
        for revocation in [RevocationMode::Hard, RevocationMode::Soft] {
            let requirements = Requirements { purpose, revocation, ..Requirements::at(1_796_000_000) };
            if let Ok(path) = validate(&leaf, &anchors, &pool, &evidence, &requirements, &memory) {
                assert!(path.holds_until() >= requirements.now);
                assert_eq!(path.certificates().first(), Some(&leaf));
            }
        }
    }
    for issuer in pool.certificates() {
        let standing = revocation_of(&leaf, issuer, &evidence, 1_796_000_000, &memory);
        if let certdir_certificate::Standing::Good { until } = standing {
            assert!(until >= 1_796_000_000);
        }
    }
}
