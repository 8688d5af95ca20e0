//! Revocation lists and OCSP.

use std::process::Command;
use std::sync::Arc;

use certdir_certificate::{
    Certificate, Crl, Evidence, Memory, OcspResponse, Pool, Reason, Requirements, Standing, Want, revocation_of,
    validate,
};
use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, KeyUsagePurpose};

use crate::NOW;
use crate::authority::{Holder, anchors, evidence, list_params, person_params, pool, wanted};

const ALICE: &str = "alice@example.org";

fn standing(leaf: &Certificate, issuer: &Certificate, evidence: &Evidence) -> Standing {
    revocation_of(leaf, issuer, evidence, NOW, &Memory::default())
}

#[test]
fn the_newest_list_counts_whatever_the_order() {
    let root = Holder::root("Root");
    let leaf = root.person(ALICE, 7);
    let (old, new) = (root.crl(-3, &[]), root.crl(-1, &[7]));
    for lists in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let revoked = standing(&leaf.certificate, &root.certificate, &evidence(&lists));
        assert!(matches!(revoked, Standing::Revoked { reason: Reason::KeyCompromise, .. }), "{revoked:?}");
    }
    // Released from a hold: the older list says revoked.
    let (old, new) = (root.crl(-3, &[7]), root.crl(-1, &[]));
    let good = standing(&leaf.certificate, &root.certificate, &evidence(&[old, new]));
    assert!(matches!(good, Standing::Good { .. }), "{good:?}");
}

#[test]
fn only_the_issuers_lists_count() {
    let root = Holder::root("Root");
    let namesake = Holder::root("Root");
    let leaf = root.person(ALICE, 7);
    let forged = evidence(&[namesake.crl(-1, &[])]);
    assert_eq!(standing(&leaf.certificate, &root.certificate, &forged), Standing::Unknown { wants: vec![] });
    let both = evidence(&[namesake.crl(-1, &[]), root.crl(-2, &[7])]);
    assert!(matches!(standing(&leaf.certificate, &root.certificate, &both), Standing::Revoked { .. }));
    // Usage 3: who did not sign the certificate says nothing about it.
    let of_namesake = evidence(&[namesake.crl(-1, &[7])]);
    assert_eq!(standing(&leaf.certificate, &namesake.certificate, &of_namesake), Standing::Unknown { wants: vec![] });
    assert_eq!(standing(&root.certificate, &root.certificate, &both), Standing::Unknown { wants: vec![] }, "itself");
}

#[test]
fn a_list_is_searched_not_read_again() {
    let root = Holder::root("Root");
    let serials: Vec<u64> = (0..100_000).map(|number| 2 * number + 1).collect();
    let list = root.crl(-1, &serials);
    assert_eq!(list.len(), serials.len());
    assert!(list.memory() < 10_000_000, "{}", list.memory());
    let evidence = evidence(&[list]);
    let memory = Memory::default();
    for (serial, revoked) in [(1, true), (2, false), (99_999, true), (199_999, true), (200_001, false)] {
        let leaf = root.person(ALICE, serial);
        let standing = revocation_of(&leaf.certificate, &root.certificate, &evidence, NOW, &memory);
        assert_eq!(matches!(standing, Standing::Revoked { .. }), revoked, "{serial}");
        assert_eq!(matches!(standing, Standing::Good { .. }), !revoked, "{serial}");
    }
}

#[test]
fn a_list_with_a_name_is_for_certificates_that_point_to_it() {
    let root = Holder::root("Root");
    let uri = |name: &str| rcgen::CrlDistributionPoint { uris: vec![format!("http://ca.example/{name}")] };
    let list = |name: &str| {
        let mut params = list_params(-1, &[]);
        params.issuing_distribution_point =
            Some(rcgen::CrlIssuingDistributionPoint { distribution_point: uri(name), scope: None });
        let list = params.signed_by(&root.issuer()).unwrap();
        Arc::new(Crl::read(list.der()).unwrap())
    };
    let mut params = person_params(ALICE, 7);
    params.crl_distribution_points = vec![uri("one")];
    let leaf = root.issue(params);
    let good = |name: &str| {
        matches!(standing(&leaf.certificate, &root.certificate, &evidence(&[list(name)])), Standing::Good { .. })
    };
    assert!(good("one"));
    assert!(!good("two"), "a list for others says nothing");
}

/// The time of day, by which `openssl ocsp` dates its responses.
fn today() -> i64 {
    let output = Command::new("date").arg("+%s").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn access_to_responder() -> CustomExtension {
    let uri = b"http://ocsp.example/";
    let length = u8::try_from(uri.len()).unwrap();
    let mut contents = vec![0x30, length + 14, 0x30, length + 12, 6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, length];
    contents.extend_from_slice(uri);
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], contents)
}

#[test]
fn responders_answer_our_requests_and_are_held_to_their_certificates() {
    let now = today();
    let long = |mut params: rcgen::CertificateParams| {
        params.not_before = time::OffsetDateTime::from_unix_timestamp(now - 864_000).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(now + 864_000).unwrap();
        params
    };
    let root = Holder::root_with(long(crate::authority::authority_params("Root")));
    let person = |serial: u64| {
        let mut params = long(person_params(ALICE, serial));
        params.custom_extensions.push(access_to_responder());
        root.issue(params)
    };
    let responder = |purpose: ExtendedKeyUsagePurpose, no_check: bool| {
        let mut params = long(person_params("responder@ca.example", 99));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        if no_check {
            let content = vec![5, 0];
            params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], content));
        }
        root.issue(params)
    };
    let stranger = Holder::root_with(long(crate::authority::authority_params("Root")));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Serial 7 is good, 8 is revoked, 9 is not known.
    std::fs::write(
        path("index"),
        "V\t400101000000Z\t\t07\tunknown\t/CN=a\nR\t400101000000Z\t250101000000Z,superseded\t08\tunknown\t/CN=b\n",
    )
    .unwrap();
    std::fs::write(path("ca.pem"), root.certificate.to_pem()).unwrap();

    let ask = |leaf: &Holder, signer: &Holder| {
        let Standing::Unknown { wants } =
            revocation_of(&leaf.certificate, &root.certificate, &Evidence::new(), now, &Memory::default())
        else {
            panic!("nothing is at hand");
        };
        let [Want::Ocsp { uri, request }] = &wants[..] else { panic!("{wants:?}") };
        assert_eq!(uri, "http://ocsp.example/");
        std::fs::write(path("request"), request).unwrap();
        std::fs::write(path("signer.pem"), signer.certificate.to_pem()).unwrap();
        std::fs::write(path("signer.key"), signer.key.serialize_pem()).unwrap();
        let output = Command::new("openssl")
            .args(["ocsp", "-index", "index", "-CA", "ca.pem", "-reqin", "request", "-rsigner", "signer.pem"])
            .args(["-rkey", "signer.key", "-respout", "response", "-ndays", "2"])
            .current_dir(folder.path())
            .output()
            .expect("the openssl command");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let response = Arc::new(OcspResponse::read(&std::fs::read(path("response")).unwrap()).unwrap());
        let mut evidence = Evidence::new();
        assert!(evidence.add_ocsp(response));
        let (leaf, root) = (leaf.certificate.clone(), root.certificate.clone());
        move |now: i64, lists: &[Arc<Crl>]| {
            let mut evidence = evidence.clone();
            lists.iter().for_each(|list| assert!(evidence.add_crl(list.clone())));
            revocation_of(&leaf, &root, &evidence, now, &Memory::default())
        }
    };
    let is_good = |standing: &Standing| matches!(standing, Standing::Good { .. });
    let is_unknown = |standing: &Standing| matches!(standing, Standing::Unknown { .. });

    let known = person(7);
    let by_root = ask(&known, &root);
    assert!(is_good(&by_root(now, &[])), "the issuer itself");
    assert!(is_unknown(&by_root(now + 3 * 86_400, &[])), "run out");
    assert!(is_unknown(&by_root(now - 86_400, &[])), "from the future");
    assert!(matches!(ask(&person(8), &root)(now, &[]), Standing::Revoked { reason: Reason::Superseded, .. }));
    assert!(is_unknown(&ask(&person(9), &root)(now, &[])), "not known to the responder");

    let delegated = responder(ExtendedKeyUsagePurpose::OcspSigning, true);
    assert!(is_good(&ask(&known, &delegated)(now, &[])));
    let for_mail = responder(ExtendedKeyUsagePurpose::EmailProtection, true);
    assert!(is_unknown(&ask(&known, &for_mail)(now, &[])), "not for OCSP");
    let anything = responder(ExtendedKeyUsagePurpose::Any, true);
    assert!(is_unknown(&ask(&known, &anything)(now, &[])), "not in so many words");
    let checked = responder(ExtendedKeyUsagePurpose::OcspSigning, false);
    assert!(is_unknown(&ask(&known, &checked)(now, &[])), "nobody says that the responder is good");
    assert!(is_unknown(&ask(&known, &stranger)(now, &[])), "another key under the same name");

    // A list that revokes beats a response that does not know it yet.
    let mut list = list_params(0, &[7]);
    list.this_update = time::OffsetDateTime::from_unix_timestamp(now - 60).unwrap();
    list.next_update = time::OffsetDateTime::from_unix_timestamp(now + 86_400).unwrap();
    let list = Arc::new(Crl::read(list.signed_by(&root.issuer()).unwrap().der()).unwrap());
    assert!(matches!(by_root(now, &[list]), Standing::Revoked { .. }));
}

#[test]
fn memory_changes_nothing_but_time() {
    let root = Holder::root("Root");
    let between = root.authority("Between");
    let leaf = between.person(ALICE, 7);
    let memory = Memory::default();
    let go = |lists: &[Arc<Crl>], requirements: &Requirements| {
        let evidence = evidence(lists);
        validate(&leaf.certificate, &anchors(&[&root]), &pool(&[&between]), &evidence, requirements, &memory)
            .map_or_else(|refusal| refusal.code, |_| "good")
    };
    let requirements = wanted(ALICE);
    for _ in 0..3 {
        assert_eq!(go(&[root.crl(-1, &[]), between.crl(-1, &[])], &requirements), "good");
        assert_eq!(go(&[root.crl(-1, &[]), between.crl(-1, &[7])], &requirements), "revoked");
        assert_eq!(go(&[root.crl(-1, &[])], &requirements), "revocation-unknown");
        let later = Requirements { now: NOW + 400 * 86_400, ..requirements.clone() };
        assert_eq!(go(&[], &later), "expired");
    }
    assert_eq!(
        validate(&leaf.certificate, &anchors(&[&root]), &Pool::new(), &Evidence::new(), &requirements, &memory)
            .unwrap_err()
            .code,
        "no-path"
    );
}
