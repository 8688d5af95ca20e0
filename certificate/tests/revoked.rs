//! Revocation lists and OCSP.

use std::process::Command;
use std::sync::Arc;

use certdir_certificate::{
    Certificate, Crl, Evidence, MAX_ISSUERS, Memory, OcspResponse, Pool, Reason, Requirements, Standing, Want,
    revocation_of, revocation_within, validate,
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

#[test]
fn names_of_distribution_points_are_compared_within_bounds() {
    let root = Holder::root("Root");
    let point =
        |letter: char| rcgen::CrlDistributionPoint { uris: (10..74).map(|n| format!("{letter}:{n}")).collect() };
    let list = |made: i64, serials: &[u64]| {
        let mut params = list_params(made, serials);
        params.issuing_distribution_point =
            Some(rcgen::CrlIssuingDistributionPoint { distribution_point: point('b'), scope: None });
        Arc::new(Crl::read(params.signed_by(&root.issuer()).unwrap().der()).unwrap())
    };
    for (points, code) in [(3, None), (64, Some("too-much-work"))] {
        let mut params = person_params(ALICE, 7);
        params.crl_distribution_points = vec![point('a'); points];
        let leaf = root.issue(params).certificate;
        let lists: Vec<_> = (0..5).map(|made| list(made - 6, &[])).collect();
        let standing = revocation_within(&leaf, &pool(&[&root]), &evidence(&lists), NOW, &Memory::default());
        assert_eq!(standing.err().map(|refusal| refusal.code), code);
    }
}

/// Of many certificates of one name the signer's is found by its key identifier, and without one there is an end.
#[test]
fn the_issuer_is_searched_within_bounds() {
    let root = Holder::root("Root");
    let namesakes: Vec<Holder> = (0..MAX_ISSUERS).map(|_| Holder::root("Root")).collect();
    let mut pool = pool(&namesakes.iter().collect::<Vec<_>>());
    // A certificate of the same key that nobody signed, and that takes the right to sign lists from it.
    let mut params = root.params.clone();
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let lesser = namesakes[0].certify(rcgen::KeyPair::from_pem(&root.key.serialize_pem()).unwrap(), params);
    pool.add(&lesser.certificate).unwrap();
    let with_id = root.person(ALICE, 7);
    let mut params = person_params(ALICE, 7);
    params.use_authority_key_identifier_extension = false;
    let without_id = root.issue(params);
    let lists = [root.crl(-1, &[7])];
    let go = |leaf: &Holder, pool: &Pool, lists: &[Arc<Crl>]| {
        revocation_within(&leaf.certificate, pool, &evidence(lists), NOW, &Memory::default())
    };
    let missing = go(&with_id, &pool, &lists).unwrap();
    assert_eq!(missing, Standing::Unknown { wants: vec![] }, "who may not sign lists");
    pool.add(&root.certificate).unwrap();
    assert!(matches!(go(&with_id, &pool, &lists), Ok(Standing::Revoked { .. })));
    assert!(matches!(go(&with_id, &pool, &[root.crl(-1, &[])]), Ok(Standing::Good { .. })));
    let refusal = go(&without_id, &pool, &lists).unwrap_err();
    assert!(refusal.is_exhausted(), "{refusal}");
    assert!(matches!(go(&without_id, &crate::authority::pool(&[&root]), &lists), Ok(Standing::Revoked { .. })));
    // Where nobody fits, the issuer is wanted.
    let mut params = person_params(ALICE, 7);
    params.custom_extensions.push(access(2, b"http://ca.example/"));
    let pointing = root.issue(params);
    let wants = vec![Want::Issuer { uri: "http://ca.example/".to_owned() }];
    assert_eq!(go(&pointing, &Pool::new(), &lists), Ok(Standing::Unknown { wants: wants.clone() }));
    assert_eq!(go(&pointing, &crate::authority::pool(&[&namesakes[0]]), &lists), Ok(Standing::Unknown { wants }));
    assert_eq!(go(&root, &crate::authority::pool(&[&root]), &lists), Ok(Standing::Unknown { wants: vec![] }), "itself");
}

/// The authority writes its name as a PrintableString in its own certificate, and as a UTF8String elsewhere.
#[test]
fn an_issuer_is_the_same_in_another_kind_of_string() {
    let mut params = crate::authority::authority_params("Root");
    params.distinguished_name = rcgen::DistinguishedName::new();
    let printable = rcgen::DnValue::PrintableString("ROOT".try_into().unwrap());
    params.distinguished_name.push(rcgen::DnType::CommonName, printable);
    let mut root = Holder::root_with(params);
    root.params.distinguished_name = crate::authority::authority_params("Root").distinguished_name;
    let leaf = root.person(ALICE, 7);
    assert_ne!(leaf.certificate.issuer_der(), root.certificate.subject_der());
    let lists = evidence(&[root.crl(-1, &[7])]);
    let standing = revocation_within(&leaf.certificate, &pool(&[&root]), &lists, NOW, &Memory::default());
    assert!(matches!(standing, Ok(Standing::Revoked { .. })), "{standing:?}");
}

/// The time of day, by which `openssl ocsp` dates its responses.
fn today() -> i64 {
    let output = Command::new("date").arg("+%s").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn access_to_responder() -> CustomExtension {
    access(1, b"http://ocsp.example/")
}

/// Authority information access: OCSP (1) or caIssuers (2).
fn access(method: u8, uri: &[u8]) -> CustomExtension {
    let length = u8::try_from(uri.len()).unwrap();
    let mut contents =
        vec![0x30, length + 14, 0x30, length + 12, 6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, method, 0x86, length];
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

    let respond = |leaf: &Holder, signer: &Holder| {
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
        Arc::new(OcspResponse::read(&std::fs::read(path("response")).unwrap()).unwrap())
    };
    let ask = |leaf: &Holder, signer: &Holder| {
        let mut evidence = Evidence::new();
        assert!(evidence.add_ocsp(respond(leaf, signer)));
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

    // The responder forgets the certificate: what it said before counts no longer, unless it was that it is revoked.
    let (good, revoked) = (respond(&known, &root), person(8));
    let of_revoked = respond(&revoked, &root);
    std::fs::write(path("index"), "").unwrap();
    for (leaf, earlier, is_revoked) in [(&known, good, false), (&revoked, of_revoked, true)] {
        let mut evidence = Evidence::new();
        assert!(evidence.add_ocsp(earlier) && evidence.add_ocsp(respond(leaf, &root)));
        let standing = revocation_of(&leaf.certificate, &root.certificate, &evidence, now, &Memory::default());
        assert_eq!(matches!(standing, Standing::Revoked { .. }), is_revoked, "{standing:?}");
        assert_eq!(is_unknown(&standing), !is_revoked, "{standing:?}");
    }
}

/// Points "one" and "two", each with a list of its own.
#[test]
fn the_newest_list_counts_whatever_the_point() {
    let root = Holder::root("Root");
    let uri = |name: &str| rcgen::CrlDistributionPoint { uris: vec![format!("http://ca.example/{name}")] };
    let list = |name: &str, made: i64, serials: &[u64]| {
        let mut params = list_params(made, serials);
        params.issuing_distribution_point =
            Some(rcgen::CrlIssuingDistributionPoint { distribution_point: uri(name), scope: None });
        Arc::new(Crl::read(params.signed_by(&root.issuer()).unwrap().der()).unwrap())
    };
    let mut params = person_params(ALICE, 7);
    params.crl_distribution_points = vec![uri("one"), uri("two")];
    let leaf = root.issue(params);
    for (newer, older, revoked) in [
        (list("two", -1, &[7]), list("one", -2, &[]), true),
        (list("one", -1, &[7]), list("two", -2, &[]), true),
        (list("two", -1, &[]), list("one", -2, &[7]), false),
        (list("two", -1, &[7]), list("one", -1, &[]), true),
        (list("one", -1, &[7]), list("two", -1, &[]), true),
        (list("one", -1, &[7]), list("one", -1, &[]), true),
    ] {
        for lists in [[newer.clone(), older.clone()], [older, newer]] {
            let standing = standing(&leaf.certificate, &root.certificate, &evidence(&lists));
            assert_eq!(matches!(standing, Standing::Revoked { .. }), revoked, "{standing:?}");
            assert_eq!(matches!(standing, Standing::Good { .. }), !revoked, "{standing:?}");
        }
    }
}

#[test]
fn what_is_listed_twice_is_revoked_if_one_of_them_says_so() {
    use rcgen::RevocationReason::{KeyCompromise, RemoveFromCrl, Superseded};
    let root = Holder::root("Root");
    let leaf = root.person(ALICE, 7);
    for (reasons, expected) in [
        (vec![KeyCompromise, RemoveFromCrl], Some(Reason::KeyCompromise)),
        (vec![RemoveFromCrl, KeyCompromise], Some(Reason::KeyCompromise)),
        (vec![KeyCompromise, RemoveFromCrl, Superseded, RemoveFromCrl], Some(Reason::Superseded)),
        (vec![RemoveFromCrl, RemoveFromCrl], None),
        // Walked for each look-up, this would take long.
        (vec![KeyCompromise; 50_000], Some(Reason::KeyCompromise)),
    ] {
        let mut params = list_params(-1, &[6, 8]);
        let entry = |reason| {
            let mut entry = list_params(-1, &[7]).revoked_certs.remove(0);
            entry.reason_code = Some(reason);
            entry
        };
        params.revoked_certs.extend(reasons.into_iter().map(entry));
        let list = Arc::new(Crl::read(params.signed_by(&root.issuer()).unwrap().der()).unwrap());
        assert_eq!(list.len(), 3);
        let found = match standing(&leaf.certificate, &root.certificate, &evidence(&[list])) {
            Standing::Revoked { reason, .. } => Some(reason),
            Standing::Good { .. } => None,
            unknown @ Standing::Unknown { .. } => panic!("{unknown:?}"),
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn a_revoked_authority_is_told_from_a_revoked_certificate() {
    let root = Holder::root("Root");
    let mut params = crate::authority::authority_params("Between");
    params.serial_number = Some(20.into());
    params.crl_distribution_points =
        vec![rcgen::CrlDistributionPoint { uris: vec!["http://ca.example/root.crl".to_owned()] }];
    let between = root.issue(params.clone());
    let mut leaf = person_params(ALICE, 7);
    leaf.custom_extensions.push(access_to_responder());
    let leaf = between.issue(leaf);
    let go = |pool: &Pool, lists: &[Arc<Crl>]| {
        let (evidence, memory) = (evidence(lists), Memory::default());
        validate(&leaf.certificate, &anchors(&[&root]), pool, &evidence, &wanted(ALICE), &memory)
    };
    let one = pool(&[&between]);
    let refusal = go(&one, &[root.crl(-1, &[20]), between.crl(-1, &[])]).unwrap_err();
    assert_eq!(refusal.code, "issuer-revoked");
    assert!(refusal.sentence.starts_with("CN=Between is revoked"), "{refusal}");
    assert_eq!(go(&one, &[root.crl(-1, &[20]), between.crl(-1, &[7])]).unwrap_err().code, "issuer-revoked");
    // The authority was certified anew, and nothing says whether that one is revoked by another list.
    params.serial_number = Some(21.into());
    let again = root.certify(rcgen::KeyPair::from_pem(&between.key.serialize_pem()).unwrap(), params);
    let both = pool(&[&between, &again]);
    assert!(go(&both, &[root.crl(-1, &[20]), between.crl(-1, &[])]).is_ok(), "another way");
    let revoked = go(&both, &[root.crl(-1, &[20]), between.crl(-1, &[7])]).unwrap_err();
    assert_eq!((revoked.code, revoked.is_final()), ("revoked", true), "nothing to fetch can change it");
    // As long as the list of the root is not at hand, there is something to fetch.
    let revoked = go(&both, &[between.crl(-1, &[7])]).unwrap_err();
    assert_eq!((revoked.code, revoked.is_final()), ("revoked", true));
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
