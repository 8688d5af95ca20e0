//! hickory-proto, another implementation, on the same octets.

use crate::{EXPIRATION, INCEPTION, TTL, data, empty_zone, key, name};
use certdir_zones::{CertForm, Name, Rdata, RecordType, Rrset, Usage, denial, rdata, text};
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_proto::dnssec::{DigestType, Nsec3HashAlgorithm, PublicKey, TrustAnchors, Verifier};
use hickory_proto::rr::rdata::cert::CertType;
use hickory_proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_proto::rr::{self, DNSClass, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder, NameEncoding, Restrict};
use proptest::prelude::*;

fn theirs(name: &Name) -> rr::Name {
    rr::Name::from_bytes(name.as_wire()).unwrap()
}

fn read(rtype: RecordType, rdata: &[u8]) -> RData {
    let mut decoder = BinDecoder::new(rdata);
    let read =
        RData::read(&mut decoder, rr::RecordType::from(rtype.0), Restrict::new(u16::try_from(rdata.len()).unwrap()))
            .unwrap();
    assert!(decoder.is_empty());
    // Nothing is lost on their way back.
    let mut back = Vec::new();
    let mut encoder = BinEncoder::new(&mut back);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    read.emit(&mut encoder).unwrap();
    assert_eq!(back, rdata);
    read
}

fn dnskey() -> DNSKEY {
    match read(RecordType::DNSKEY, &key().dnskey()) {
        RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)) => dnskey,
        other => panic!("{other:?}"),
    }
}

#[test]
fn smimea_and_cert_say_the_same() {
    let der = std::fs::read(data("certificates/p256.der")).unwrap();
    for (usage, theirs) in [
        (Usage::PkixTa, CertUsage::PkixTa),
        (Usage::PkixEe, CertUsage::PkixEe),
        (Usage::DaneTa, CertUsage::DaneTa),
        (Usage::DaneEe, CertUsage::DaneEe),
    ] {
        let RData::SMIMEA(smimea) = read(RecordType::SMIMEA, &rdata::smimea(usage, &der)) else { panic!() };
        assert_eq!((smimea.cert_usage, smimea.selector, smimea.matching), (theirs, Selector::Full, Matching::Raw));
        assert_eq!(smimea.cert_data, der);
    }
    for (form, before) in [(CertForm::Rfc4398, &[3, 0x55, 4, 0x24][..]), (CertForm::BareDer, &[])] {
        let RData::CERT(cert) = read(RecordType::CERT, &rdata::cert(form, &der)) else { panic!() };
        assert_eq!((cert.cert_type, cert.key_tag, u8::from(cert.algorithm)), (CertType::PKIX, 0, 0));
        assert_eq!(cert.cert_data, [before, &der].concat());
    }
}

#[test]
fn soa_says_the_same() {
    let zone = empty_zone("_smimecert.example.org");
    let soa = zone.get(zone.apex().as_wire()).unwrap().rrset(RecordType::SOA).unwrap();
    let RData::SOA(soa) = read(RecordType::SOA, &soa.rrset.rdata()[0]) else { panic!() };
    assert_eq!(soa.mname.to_string(), "ns1.certdir.example.");
    assert_eq!(soa.rname.to_string(), "hostmaster.certdir.example.");
    assert_eq!((soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum), (7, 3600, 900, 604_800, 120));
}

#[test]
fn the_key_is_a_combined_signing_key_with_the_same_tag_and_digest() {
    let dnskey = dnskey();
    assert!(dnskey.zone_key() && dnskey.secure_entry_point() && !dnskey.revoke());
    assert_eq!(dnskey.calculate_key_tag().unwrap(), key().key_tag());
    let apex = name("_smimecert.example.org");
    let RData::DNSSEC(DNSSECRData::DS(ds)) = read(RecordType::DS, &key().ds(&apex)) else { panic!() };
    assert_eq!((ds.key_tag(), ds.digest_type()), (key().key_tag(), DigestType::SHA256));
    assert!(ds.covers(&theirs(&apex), &dnskey).unwrap());
    assert!(!ds.covers(&theirs(&name("example.org")), &dnskey).unwrap());
}

#[test]
fn the_key_file_is_their_trust_anchor() {
    let mut file = Vec::new();
    let apex = name("_smimecert.example.org");
    text::write_dnskey(&apex, &key(), &mut file).unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), &file).unwrap();
    let anchors = TrustAnchors::from_file(path.path()).unwrap();
    assert!(anchors.contains_with_name(dnskey().public_key(), &theirs(&apex).into()));
    assert_eq!(dnskey().public_key().public_bytes(), &key().dnskey()[4..]);
}

/// Their verifier on our signature, for records seen at `seen`.
fn they_verify(seen: &Name, rrset: &Rrset, rrsig: &Rdata) -> bool {
    let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = read(RecordType::RRSIG, rrsig) else { panic!() };
    let record = |rdata: &Rdata| {
        let mut record = Record::from_rdata(theirs(seen), rrset.ttl, read(rrset.rtype, rdata));
        record.dns_class = DNSClass::IN;
        record
    };
    let records: Vec<Record> = rrset.rdata().iter().map(record).collect();
    let rrsig: &RRSIG = &rrsig;
    dnskey().verify_rrsig(&theirs(seen), DNSClass::IN, rrsig, records.iter()).is_ok()
}

#[test]
fn signatures_hold_for_both() {
    let apex = name("_smimecert.example.org");
    let rrset = Rrset::new(
        RecordType::SMIMEA,
        TTL,
        vec![rdata::smimea(Usage::DaneEe, b"\x30\x01b"), rdata::smimea(Usage::DaneEe, b"\x30\x01a")],
    )
    .unwrap();
    for (owner, seen, holds) in [
        ("x._smimecert.example.org", "x._smimecert.example.org", true),
        ("x._smimecert.example.org", "y._smimecert.example.org", false),
        ("*._smimecert.example.org", "y._smimecert.example.org", true),
        ("*._smimecert.example.org", "a.b.c._smimecert.example.org", true),
        ("*._smimecert.example.org", "*._smimecert.example.org", true),
        ("*.a._smimecert.example.org", "x.b._smimecert.example.org", false),
        ("*.a._smimecert.example.org", "x.y.a._smimecert.example.org", true),
        ("*.a._smimecert.example.org", "a._smimecert.example.org", false),
    ] {
        let signed = key().sign(&apex, &name(owner), &rrset, INCEPTION, EXPIRATION).unwrap();
        let ours = certdir_zones::verify(&key().dnskey(), &name(seen), &signed, INCEPTION);
        assert_eq!(ours.is_ok(), holds, "{owner} seen at {seen}: {ours:?}");
        assert_eq!(they_verify(&name(seen), &rrset, &signed.rrsig), holds, "{owner} seen at {seen}");
    }
}

#[test]
fn nsec3_says_the_same() {
    let zone = empty_zone("_smimecert.example.org");
    let apex = zone.apex();
    let node = zone.get(apex.as_wire()).unwrap();
    let (owner, rrset) = denial::Denial::matching(apex.as_wire(), node).record(&zone).unwrap();
    let RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) = read(RecordType::NSEC3, &rrset.rdata()[0]) else { panic!() };
    assert_eq!(
        (nsec3.hash_algorithm(), nsec3.iterations(), nsec3.opt_out(), nsec3.salt()),
        (Nsec3HashAlgorithm::SHA1, 0, false, &[][..])
    );
    let mut types: Vec<u16> = nsec3.type_bit_maps().map(u16::from).collect();
    types.sort_unstable();
    assert_eq!(types, [RecordType::NS, RecordType::SOA, RecordType::RRSIG, RecordType::DNSKEY].map(|rtype| rtype.0));
    let hash = Nsec3HashAlgorithm::SHA1.hash(&[], &theirs(apex), 0).unwrap();
    assert_eq!(owner, apex.prepend(data_encoding::BASE32_DNSSEC.encode(hash.as_ref()).as_bytes()).unwrap());
    let RData::DNSSEC(DNSSECRData::NSEC3PARAM(parameters)) = read(RecordType::NSEC3PARAM, &denial::nsec3param()) else {
        panic!()
    };
    assert_eq!(
        (parameters.hash_algorithm(), parameters.iterations(), parameters.opt_out(), parameters.salt()),
        (Nsec3HashAlgorithm::SHA1, 0, false, &[][..])
    );
}

/// A name of any octets.
fn any_name() -> impl Strategy<Value = Name> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..12), 0..8)
        .prop_map(|labels| labels.iter().try_fold(Name::root(), |name, label| name.prepend(label)).unwrap())
}

/// Names over few octets, so that comparisons are close.
fn close_name() -> impl Strategy<Value = Name> {
    let octet = prop::sample::select(b"\x00\x01*aAbz\x80\xff".as_slice());
    prop::collection::vec(prop::collection::vec(octet, 1..3), 0..4)
        .prop_map(|labels| labels.iter().try_fold(Name::root(), |name, label| name.prepend(label)).unwrap())
}

proptest! {
    #[test]
    fn names_read_back(name in any_name()) {
        prop_assert_eq!(&Name::parse(&name.to_string()).unwrap(), &name);
        prop_assert_eq!(&Name::from_wire(name.as_wire()).unwrap(), &name);
        prop_assert_eq!(theirs(&name).iter().count(), name.labels().count());
        prop_assert!(theirs(&name).iter().eq(name.labels()));
        prop_assert_eq!(usize::from(theirs(&name).num_labels()), name.label_count());
    }

    #[test]
    fn the_canonical_order_is_the_same(a in close_name(), b in close_name()) {
        prop_assert_eq!(a.cmp(&b), theirs(&a).cmp(&theirs(&b)));
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        prop_assert_eq!(a.is_at_or_below(&b), theirs(&b).zone_of(&theirs(&a)));
    }

    #[test]
    fn hashes_are_the_same(name in any_name()) {
        let hash = Nsec3HashAlgorithm::SHA1.hash(&[], &theirs(&name), 0).unwrap();
        prop_assert_eq!(hash.as_ref(), denial::nsec3_hash(name.as_wire()));
    }

    #[test]
    fn any_signed_rrset_verifies_for_both(owner in close_name(), ttl in 0..=0x7fff_ffffu32, data in prop::collection::vec(prop::collection::vec(any::<u8>(), 4..40), 1..4)) {
        let rrset = Rrset::new(RecordType::SMIMEA, ttl, data.iter().map(|one| Rdata::from(one.as_slice())).collect()).unwrap();
        let signed = key().sign(&Name::root(), &owner, &rrset, INCEPTION, EXPIRATION).unwrap();
        prop_assert_eq!(certdir_zones::verify(&key().dnskey(), &owner, &signed, EXPIRATION), Ok(()));
        prop_assert!(they_verify(&owner, &rrset, &signed.rrsig));
    }
}
