//! Bytes that mean harm: nothing panics, nothing takes long, and what is taken is what others see.

use certdir_certificate::{Certificate, Error, MAX_CERTIFICATE, MAX_NAMES, pem_blocks};
use proptest::prelude::*;

use crate::{file, good, one, second_opinion};

/// Opens everything there is to open.
fn touch(certificate: &Certificate) {
    assert!(certificate.subject_der().len() >= 2 && certificate.issuer_der().len() >= 2);
    assert!(certificate.addresses().len() + certificate.domains().len() <= MAX_NAMES);
    assert!(certificate.addresses().iter().all(|name| !name.text.is_empty() && !name.text.contains('\0')));
    assert!(!certificate.serial_hex().is_empty() && !certificate.key().name.is_empty());
    assert!(!certificate.subject().contains(['\n', '\0']) && !certificate.issuer().contains(['\n', '\0']));
    assert_eq!(
        Certificate::read_all(certificate.to_pem().as_bytes()).as_deref(),
        Ok(std::slice::from_ref(certificate))
    );
}

#[test]
fn every_change_of_one_octet_is_read_as_others_read_it() {
    let der = file("p256.der");
    let (mut taken, mut compared) = (0, 0);
    for place in 0..der.len() {
        for flip in 1..=255 {
            let mut changed = der.clone();
            changed[place] ^= flip;
            if let Ok(certificate) = Certificate::from_der(&changed) {
                taken += 1;
                match second_opinion::compare(&certificate) {
                    Ok(read) => compared += usize::from(read),
                    Err(difference) => panic!("octet {place} changed by {flip:02x}: another {difference}"),
                }
            }
        }
    }
    assert!(taken > 10_000 && compared > taken / 2, "{compared} of {taken} could be compared");
}

#[test]
fn every_beginning_is_refused() {
    for name in good().iter().filter(|name| *name != "huge") {
        let certificate = one(name);
        for end in 0..certificate.der().len() {
            let error = Certificate::from_der(&certificate.der()[..end]).expect_err("half a certificate was taken");
            assert!(["truncated", "empty", "not-a-certificate"].contains(&error.code()), "{name} {end}: {error}");
        }
    }
}

/// An element with the shortest length.
fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let header = match (contents.len(), u16::try_from(contents.len()).unwrap().to_be_bytes()) {
        (0..0x80, [_, low]) => vec![tag, low],
        (0x80..0x100, [_, low]) => vec![tag, 0x81, low],
        (_, [high, low]) => vec![tag, 0x82, high, low],
    };
    [header, contents.to_vec()].concat()
}

/// A deep nest in every place that takes any element is passed over and not followed.
#[test]
fn depth_is_not_followed() {
    let mut nest = vec![5, 0];
    while nest.len() < 30_000 {
        nest = tlv(0x30, &nest);
    }
    assert_eq!(Certificate::from_der(&nest).unwrap_err().code(), "malformed-certificate");
}

/// The largest names, extension lists and object identifiers that fit: one pass each.
#[test]
fn size_is_not_squared() {
    let attribute = [0x31, 11, 0x30, 9, 6, 3, 0x55, 4, 3, 0x0c, 2, b'a', 0];
    let name = tlv(0x30, &attribute.repeat(4_500));
    let certificate = Certificate::from_der(&outline(&name, &[0x30, 3, 6, 1, 0x2a])).unwrap();
    touch(&certificate);
    assert_eq!(certificate.subject(), ["CN=a\\00"; 4_500].join(","));

    let oid = tlv(6, &[0x7f; 60_000]);
    let certificate = Certificate::from_der(&outline(&[0x30, 0], &tlv(0x30, &oid))).unwrap();
    assert_eq!(certificate.key().kind, format!("2.47{}", ".127".repeat(59_999)));

    let blocks = "-----BEGIN CERTIFICATE-----\n".repeat(200_000);
    assert_eq!(pem_blocks(blocks.as_bytes()).count(), 200_000);
    assert_eq!(pem_blocks("\n".repeat(5_000_000).as_bytes()).count(), 0);
    let endless = format!("-----BEGIN CERTIFICATE-----\n{}", "AAAA\n".repeat(1_000_000));
    let found: Vec<_> = pem_blocks(endless.as_bytes()).collect();
    assert!(matches!(&found[..], [Err(Error::InBlock { line: 1, .. })]), "{found:?}");
}

/// A certificate of version 1 with this subject, and this algorithm in its public key.
fn outline(subject: &[u8], key_algorithm: &[u8]) -> Vec<u8> {
    let algorithm = [0x30, 3, 6, 1, 0x2a];
    let time = [&[0x17, 13][..], b"250101000000Z"].concat();
    let key = tlv(0x30, &[key_algorithm, &[3, 1, 0]].concat());
    let tbs =
        [&[2, 1, 1], &algorithm[..], &[0x30, 0], &tlv(0x30, &[&time[..], &time].concat()), subject, &key].concat();
    let der = tlv(0x30, &[&tlv(0x30, &tbs)[..], &algorithm, &[3, 1, 0]].concat());
    assert!(der.len() <= MAX_CERTIFICATE);
    der
}

#[test]
fn an_algorithm_that_is_not_the_same_inside_and_outside_is_refused() {
    let mut der = outline(&[0x30, 0], &[0x30, 3, 6, 1, 0x2a]);
    assert!(Certificate::from_der(&der).is_ok());
    let place = der.len() - 4;
    assert_eq!(der[place], 0x2a);
    der[place] = 0x2b;
    assert!(matches!(Certificate::from_der(&der), Err(Error::Malformed { part: "signature algorithm", .. })));
}

/// Of two alternative names, two readers could see two different ones.
#[test]
fn an_extension_that_is_there_twice_is_refused() {
    let der = file("p256.der");
    // The lists of extensions: [3] 81 xx 30 81 xx …, and behind it the signature.
    let list = der.windows(2).position(|octets| octets == [0xa3, 0x81]).unwrap();
    let (start, end) = (list + 6, list + 3 + usize::from(der[list + 2]));
    let oid = der.windows(5).position(|octets| octets == [6, 3, 0x55, 0x1d, 0x11]).unwrap();
    let alternative = &der[oid - 2..oid + usize::from(der[oid - 1])];
    // name constraints, CRL distribution points, policies, policy constraints, authority information access.
    let others = [&[0x55, 0x1d, 30][..], &[0x55, 0x1d, 31], &[0x55, 0x1d, 32], &[0x55, 0x1d, 36]]
        .into_iter()
        .chain([&[0x2b, 6, 1, 5, 5, 7, 1, 1][..]]);
    let with = |extensions: &[u8]| {
        // Two headers of four octets stand before the version.
        let body = [&der[8..list], &tlv(0xa3, &tlv(0x30, extensions))].concat();
        Certificate::from_der(&tlv(0x30, &[&tlv(0x30, &body)[..], &der[end..]].concat()))
    };
    assert_eq!(with(&der[start..end]), Certificate::from_der(&der));
    let twice = with(&[&der[start..end], alternative].concat());
    assert!(matches!(twice, Err(Error::Malformed { part: "list of extensions", .. })), "{twice:?}");
    for oid in others {
        let one = tlv(0x30, &[tlv(6, oid), tlv(4, &[0x30, 0])].concat());
        assert!(with(&[&der[start..end], &one].concat()).is_ok(), "{oid:?}");
        let twice = with(&[&der[start..end], &one, &one].concat());
        assert!(matches!(twice, Err(Error::Malformed { part: "list of extensions", .. })), "{twice:?}");
    }
}

/// A reader that stops at the flag, and one that goes on, would see two different certificates.
#[test]
fn a_flag_that_is_no_der_hides_nothing() {
    let der = file("p256.der");
    let flag = der.windows(3).position(|octets| octets == [1, 1, 0xff]).unwrap();
    for octet in 0..=0xff {
        let mut changed = der.clone();
        changed[flag + 2] = octet;
        let read = Certificate::from_der(&changed);
        if [0, 0xff].contains(&octet) {
            assert!(read.unwrap().can_encrypt());
        } else {
            assert!(matches!(read, Err(Error::Malformed { part: "list of extensions", .. })), "{octet:02x}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Certificate::from_der(&bytes);
        let _ = Certificate::read_all(&bytes);
        let _ = Certificate::from_der(&[&[0x30, 0x82, (bytes.len() >> 8) as u8, bytes.len() as u8], &bytes[..]].concat());
    }

    #[test]
    fn arbitrary_text_between_markers(parts in proptest::collection::vec(
        prop_oneof![
            Just("-----BEGIN CERTIFICATE-----\n".to_owned()), Just("-----END CERTIFICATE-----\n".to_owned()),
            Just("-----BEGIN PRIVATE KEY-----\n".to_owned()), Just("-----BEGIN CERT".to_owned()),
            Just("MIIBxzCC\n".to_owned()), Just("\r\n".to_owned()), ".{0,20}"
        ], 0..12)) {
        let text = parts.concat();
        let _ = Certificate::read_all(text.as_bytes());
        let begun = text.matches("-----BEGIN ").count();
        prop_assert!(pem_blocks(text.as_bytes()).count() <= begun);
    }

    #[test]
    fn mutated_certificates(
        which in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let names = good();
        let mut der = one(&names[which.index(names.len())]).der().to_vec();
        for (place, octet, edit) in edits {
            let place = place.index(der.len());
            match edit {
                0 => der[place] = octet,
                1 => der.insert(place, octet),
                _ if der.len() > 1 => { der.remove(place); }
                _ => {}
            }
        }
        // The outermost length is put right, so that what is inside is reached.
        if let Some(body) = der.len().checked_sub(4).and_then(|length| u16::try_from(length).ok()) {
            der[..2].copy_from_slice(&[0x30, 0x82]);
            der[2..4].copy_from_slice(&body.to_be_bytes());
        }
        if let Ok(certificate) = Certificate::from_der(&der) {
            touch(&certificate);
            if let Err(difference) = second_opinion::compare(&certificate) {
                return Err(TestCaseError::fail(format!("another {difference}")));
            }
        }
    }
}

/// One octet of a certificate, of its issuer or of a list is another: nothing of that kind is accepted.
#[test]
fn every_change_of_one_octet_is_refused_by_validation() {
    use crate::authority::{Holder, anchors, wanted};
    use certdir_certificate::{Crl, Evidence, Memory, Pool, validate};

    let root = Holder::root("Root");
    let between = root.authority("Between");
    let leaf = between.person("alice@example.org", 7);
    let objects = [
        leaf.certificate.der().to_vec(),
        between.certificate.der().to_vec(),
        root.crl_der(-1, &[]),
        between.crl_der(-1, &[8]),
    ];
    let (anchors, requirements, memory) = (anchors(&[&root]), wanted("alice@example.org"), Memory::default());
    let accepted = |objects: &[Vec<u8>; 4]| {
        let (Ok(leaf), mut pool, mut evidence) = (Certificate::from_der(&objects[0]), Pool::new(), Evidence::new())
        else {
            return false;
        };
        if let Ok(between) = Certificate::from_der(&objects[1]) {
            let _ = pool.add(&between);
        }
        for list in &objects[2..] {
            if let Ok(list) = Crl::read(list) {
                evidence.add_crl(list.into());
            }
        }
        validate(&leaf, &anchors, &pool, &evidence, &requirements, &memory).is_ok()
    };
    assert!(accepted(&objects));
    for object in 0..objects.len() {
        for place in 0..objects[object].len() {
            for flip in [1, 0x20, 0x80, 0xff] {
                let mut changed = objects.clone();
                changed[object][place] ^= flip;
                assert!(!accepted(&changed), "object {object}, octet {place} changed by {flip:02x}");
            }
        }
    }
}
