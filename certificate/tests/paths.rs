//! Path building and its rules, beyond what openssl can be asked.

use certdir_certificate::{
    Anchors, Association, Certificate, Evidence, MAX_PATH, Memory, Named, Policies, Pool, Purpose, Requirements,
    RevocationMode, RevocationStatus, TrustAnchor, Want, fits, validate,
};
use rcgen::{CustomExtension, DnType, DnValue, KeyPair, SanType};
use sha2::{Digest as _, Sha256, Sha512};

use crate::NOW;
use crate::authority::{Holder, anchors, authority_params, day, evidence, person_params, pool, wanted};

const ALICE: &str = "alice@example.org";

fn code(leaf: &Holder, anchors: &Anchors, pool: &Pool, requirements: &Requirements) -> &'static str {
    match validate(&leaf.certificate, anchors, pool, &Evidence::new(), requirements, &Memory::default()) {
        Ok(_) => "good",
        Err(refusal) => refusal.code,
    }
}

fn without_revocation() -> Requirements {
    Requirements { revocation: RevocationMode::Off, ..wanted(ALICE) }
}

/// DER of an extension's `GeneralName` URIs in authority information access.
fn access(method: u8, uri: &str) -> CustomExtension {
    let uri = [&[0x86, u8::try_from(uri.len()).unwrap()], uri.as_bytes()].concat();
    let oid = [0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, method];
    let wrap = |tag: u8, inside: &[u8]| [&[tag, u8::try_from(inside.len()).unwrap()], inside].concat();
    let contents = wrap(0x30, &wrap(0x30, &[&oid[..], &uri].concat()));
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], contents)
}

#[test]
fn a_time_of_zero_disables_nothing() {
    let root = Holder::root("Root");
    let leaf = root.person(ALICE, 7);
    for now in [0, -1, i64::MIN, i64::MAX, 253_402_300_800] {
        let requirements = Requirements { now, ..without_revocation() };
        assert_eq!(code(&leaf, &anchors(&[&root]), &Pool::new(), &requirements), "no-clock", "{now}");
    }
}

#[test]
fn a_leaf_with_an_anchors_key_is_refused() {
    let root = Holder::root("Root");
    let key = KeyPair::from_pem(&root.key.serialize_pem()).unwrap();
    let leaf = root.certify(key, person_params(ALICE, 7));
    assert_eq!(code(&leaf, &anchors(&[&root]), &Pool::new(), &without_revocation()), "anchor-key");
    let itself = Holder::root_with(person_params(ALICE, 7));
    assert!(Anchors::new().add(&itself.certificate).is_err(), "a person is no trust anchor");
}

#[test]
fn a_path_says_what_it_is() {
    let root = Holder::root("Root");
    let between = root.authority("Between");
    let leaf = between.person(ALICE, 7);
    let evidence = evidence(&[root.crl(-1, &[]), between.crl(-2, &[])]);
    let path = validate(
        &leaf.certificate,
        &anchors(&[&root]),
        &pool(&[&between]),
        &evidence,
        &wanted(ALICE),
        &Memory::default(),
    )
    .unwrap();
    assert_eq!(path.certificates(), &[leaf.certificate.clone(), between.certificate.clone()]);
    assert_eq!(path.anchor(), &TrustAnchor::Certificate(root.certificate.clone()));
    assert_eq!(path.holds_until(), day(5).unix_timestamp(), "until the next list");
    assert_eq!(path.revocation(), RevocationStatus::Good);
    assert!(path.wants().is_empty());
}

#[test]
fn what_is_missing_is_asked_for() {
    let root = Holder::root("Root");
    let between = root.authority("Between");
    let mut params = person_params(ALICE, 7);
    params.custom_extensions.push(access(2, "http://ca.example/between.cer"));
    params.crl_distribution_points =
        vec![rcgen::CrlDistributionPoint { uris: vec!["http://ca.example/between.crl".to_owned()] }];
    let leaf = between.issue(params);
    let go = |pool: &Pool, requirements: &Requirements| {
        validate(&leaf.certificate, &anchors(&[&root]), pool, &Evidence::new(), requirements, &Memory::default())
    };
    let refusal = go(&Pool::new(), &wanted(ALICE)).unwrap_err();
    assert_eq!(refusal.code, "no-path");
    assert_eq!(refusal.wants(), [Want::Issuer { uri: "http://ca.example/between.cer".to_owned() }]);
    assert!(!refusal.is_final());
    let refusal = go(&pool(&[&between]), &wanted(ALICE)).unwrap_err();
    assert_eq!(refusal.code, "revocation-unknown");
    assert_eq!(refusal.wants(), [Want::Crl { uris: vec!["http://ca.example/between.crl".to_owned()] }]);
    let soft = Requirements { revocation: RevocationMode::Soft, ..wanted(ALICE) };
    let path = go(&pool(&[&between]), &soft).unwrap();
    assert_eq!((path.revocation(), path.wants().len()), (RevocationStatus::Undetermined, 1));
}

#[test]
fn an_authority_with_two_keys_is_searched_with_both() {
    let root = Holder::root("Root");
    let (old, new) = (root.authority("Same"), root.authority("Same"));
    let both = pool(&[&old, &new]);
    for holder in [&old, &new] {
        let mut params = person_params(ALICE, 7);
        params.use_authority_key_identifier_extension = false;
        let leaf = holder.issue(params);
        assert_eq!(code(&leaf, &anchors(&[&root]), &both, &without_revocation()), "good");
    }
}

#[test]
fn pools_are_joined_and_copies_stay_as_they_were() {
    let root = Holder::root("Root");
    let (one, other) = (root.authority("One"), root.authority("Other"));
    let (first, second) = (pool(&[&one]), pool(&[&other, &one]));
    let mut both = first.clone();
    both.join(&second).unwrap();
    both.join(&second).unwrap();
    both.add(&one.certificate).unwrap();
    assert_eq!((first.len(), second.len(), both.len()), (1, 2, 2));
    assert!(both.certificates().eq([&one.certificate, &other.certificate]));
    let mut empty = Pool::new();
    empty.join(&first).unwrap();
    empty.add(&other.certificate).unwrap();
    assert_eq!((first.len(), empty.len()), (1, 2), "the copy only");
    for holder in [&one, &other] {
        let leaf = holder.person(ALICE, 7);
        assert_eq!(code(&leaf, &anchors(&[&root]), &both, &without_revocation()), "good");
        assert_eq!(code(&leaf, &anchors(&[&root]), &empty, &without_revocation()), "good");
    }
    // The room is that of one pool, and what is there takes none.
    let mut full = Pool::new();
    let people: Vec<Holder> = (0..3).map(|number| root.person(ALICE, number)).collect();
    let room = certdir_certificate::MAX_POOL;
    let key = KeyPair::generate().unwrap();
    for serial in 0..u64::try_from(room).unwrap() - 1 {
        let params = person_params(ALICE, serial);
        let certificate = params.signed_by(&key, &root.issuer()).unwrap();
        full.add(&Certificate::from_der(certificate.der()).unwrap()).unwrap();
    }
    assert!(full.join(&pool(&people.iter().collect::<Vec<_>>())).is_err());
    assert_eq!(full.len(), room);
    full.add(full.clone().certificates().next().unwrap()).unwrap();
}

#[test]
fn meshed_authorities_take_bounded_work() {
    let root = Holder::root("Root");
    let others = Holder::root("Others");
    let authorities: Vec<Holder> = (0..7).map(|number| others.authority(&format!("CA {number}"))).collect();
    let mut meshed = Pool::new();
    for one in &authorities {
        meshed.add(&one.certificate).unwrap();
        for other in &authorities {
            let key = KeyPair::from_pem(&other.key.serialize_pem()).unwrap();
            let crossed = one.certify(key, other.params.clone());
            meshed.add(&crossed.certificate).unwrap();
        }
    }
    let leaf = authorities[0].person(ALICE, 7);
    // No anchor: every way is a dead end, and there are more than a thousand.
    let refused = code(&leaf, &anchors(&[&root]), &meshed, &without_revocation());
    assert!(["too-much-work", "no-path"].contains(&refused), "{refused}");
    assert_eq!(code(&leaf, &anchors(&[&others]), &meshed, &without_revocation()), "good");
}

/// Every way through a mesh, and one that is whole and bad: what was not looked at could be good.
#[test]
fn exhaustion_is_told_from_a_refusal() {
    let root = Holder::root("Root");
    let mut params = authority_params("CA 0");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let others = Holder::root("Others");
    let authorities: Vec<Holder> = (0..9).map(|number| others.authority(&format!("CA {number}"))).collect();
    let mut meshed = Pool::new();
    for one in &authorities {
        for other in &authorities {
            let key = KeyPair::from_pem(&other.key.serialize_pem()).unwrap();
            meshed.add(&one.certify(key, other.params.clone()).certificate).unwrap();
        }
    }
    let key = || KeyPair::from_pem(&authorities[0].key.serialize_pem()).unwrap();
    let for_servers = root.certify(key(), params);
    let for_mail = root.certify(key(), authorities[0].params.clone());
    let leaf = authorities[0].person(ALICE, 7);
    let go = |above: &Holder, requirements: &Requirements, evidence: &Evidence| {
        let mut pool = meshed.clone();
        pool.add(&above.certificate).unwrap();
        validate(&leaf.certificate, &anchors(&[&root]), &pool, evidence, requirements, &Memory::default())
    };
    let refusal = go(&for_servers, &without_revocation(), &Evidence::new()).unwrap_err();
    assert_eq!((refusal.code, refusal.is_exhausted()), ("too-much-work", true), "{refusal}");
    assert!(go(&for_mail, &without_revocation(), &Evidence::new()).is_ok(), "found before");
    let refusal = go(&for_mail, &wanted(ALICE), &Evidence::new()).unwrap_err();
    assert_eq!(refusal.code, "too-much-work", "{refusal}");
    let lists = evidence(&[root.crl(-1, &[]), authorities[0].crl(-1, &[7])]);
    assert_eq!(go(&for_mail, &wanted(ALICE), &lists).unwrap_err().code, "revoked", "nothing makes it good");
    let refusal = validate(
        &leaf.certificate,
        &anchors(&[&root]),
        &pool(&[&for_servers]),
        &Evidence::new(),
        &without_revocation(),
        &Memory::default(),
    );
    assert_eq!(refusal.unwrap_err().code, "wrong-purpose", "where all was looked at");
}

#[test]
fn names_and_constraints_are_compared_within_bounds() {
    let mut params = authority_params("Root");
    let excluded = |number: u32| rcgen::GeneralSubtree::Rfc822Name(format!("no{number}.example"));
    let root_with = |most: u32, mut params: rcgen::CertificateParams| {
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![],
            excluded_subtrees: (0..most).map(excluded).collect(),
        });
        Holder::root_with(params)
    };
    let few = root_with(100, params.clone());
    params.serial_number = Some(2.into());
    let many = root_with(1_500, params);
    for (root, expected) in [(few, "good"), (many, "too-much-work")] {
        let mut params = person_params(ALICE, 7);
        let name = |number: u32| SanType::Rfc822Name(format!("alice{number}@example.org").try_into().unwrap());
        params.subject_alt_names.extend((0..900).map(name));
        let leaf = root.issue(params);
        assert_eq!(code(&leaf, &anchors(&[&root]), &Pool::new(), &without_revocation()), expected);
    }
}

#[test]
fn a_path_has_an_end() {
    let root = Holder::root("Root");
    let mut above = vec![root.authority("CA 0")];
    for number in 1..MAX_PATH {
        above.push(above[number - 1].authority(&format!("CA {number}")));
    }
    let all = pool(&above.iter().collect::<Vec<_>>());
    let allowed = above[MAX_PATH - 2].person(ALICE, 7);
    assert_eq!(code(&allowed, &anchors(&[&root]), &all, &without_revocation()), "good");
    let longer = above[MAX_PATH - 1].person(ALICE, 7);
    assert_eq!(code(&longer, &anchors(&[&root]), &all, &without_revocation()), "path-length");
}

#[test]
fn keys_are_anchors_with_and_without_a_name() {
    let root = Holder::root("Root");
    let other = Holder::root("Root");
    let between = root.authority("Between");
    let leaf = between.person(ALICE, 7);
    let requirements = without_revocation();
    for (holder, expected) in [(&root, "good"), (&other, "bad-signature")] {
        let mut named = Anchors::new();
        named.add_named_key(holder.certificate.subject_der(), holder.certificate.spki_der()).unwrap();
        assert_eq!(code(&leaf, &named, &pool(&[&between]), &requirements), expected);
    }
    let mut renamed = Anchors::new();
    renamed.add_named_key(leaf.certificate.subject_der(), root.certificate.spki_der()).unwrap();
    assert_eq!(code(&leaf, &renamed, &pool(&[&between]), &requirements), "no-path");
    // Usage 2 with selector 1: of the root, of the one between, of a stranger.
    for (holder, expected) in [(&root, "good"), (&between, "good"), (&other, "no-path")] {
        let mut bare = Anchors::new();
        bare.add_key(holder.certificate.spki_der()).unwrap();
        assert_eq!(code(&leaf, &bare, &pool(&[&between]), &requirements), expected);
    }
    // Usage 2 with selector 0: an authority in the middle.
    assert_eq!(code(&leaf, &anchors(&[&between]), &Pool::new(), &requirements), "good");
    assert!(Anchors::new().add_key(b"no key").is_err());
}

#[test]
fn a_path_leads_through_what_usage_0_names() {
    let root = Holder::root("Root");
    let between = root.authority("Between");
    let leaf = between.person(ALICE, 7);
    let through = |certificate: &Certificate, selector: u8, matching: u8| {
        let octets = if selector == 0 { certificate.der() } else { certificate.spki_der() };
        let data = match matching {
            0 => octets.to_vec(),
            1 => Sha256::digest(octets).to_vec(),
            _ => Sha512::digest(octets).to_vec(),
        };
        let association = Association { selector, matching, data };
        assert!(certificate.matches(&association));
        let requirements = Requirements { through: vec![association], ..without_revocation() };
        code(&leaf, &anchors(&[&root]), &pool(&[&between]), &requirements)
    };
    for selector in 0..=1 {
        for matching in 0..=2 {
            assert_eq!(through(&root.certificate, selector, matching), "good");
            assert_eq!(through(&between.certificate, selector, matching), "good");
            assert_eq!(through(&leaf.certificate, selector, matching), "association", "not the leaf itself");
            assert_eq!(through(&Holder::root("Root").certificate, selector, matching), "association");
        }
    }
    for (selector, matching) in [(2, 0), (0, 3), (255, 255)] {
        let nothing = Association { selector, matching, data: leaf.certificate.der().to_vec() };
        assert!(!leaf.certificate.matches(&nothing));
    }
}

#[test]
fn an_expired_or_constrained_root_is_one() {
    let mut params = authority_params("Root");
    params.not_after = day(-1);
    let root = Holder::root_with(params);
    let leaf = root.person(ALICE, 7);
    assert_eq!(code(&leaf, &anchors(&[&root]), &Pool::new(), &without_revocation()), "expired");
    let mut params = authority_params("Root");
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::Rfc822Name("example.net".to_owned())],
        excluded_subtrees: vec![],
    });
    let root = Holder::root_with(params);
    let leaf = root.person(ALICE, 7);
    assert_eq!(code(&leaf, &anchors(&[&root]), &Pool::new(), &without_revocation()), "name-constraints");
}

#[test]
fn missing_extensions_by_policy_and_key_sizes() {
    let root = Holder::root("Root");
    let mut params = person_params(ALICE, 7);
    params.key_usages.clear();
    params.extended_key_usages.clear();
    let leaf = root.issue(params);
    let requirements = without_revocation();
    assert_eq!(fits(&leaf.certificate, &requirements), Ok(()));
    let strict = Requirements { admit_missing_key_usage: false, ..requirements.clone() };
    assert_eq!(fits(&leaf.certificate, &strict).unwrap_err().code, "missing-key-usage");
    let strict = Requirements { admit_missing_extended_key_usage: false, ..requirements.clone() };
    assert_eq!(fits(&leaf.certificate, &strict).unwrap_err().code, "missing-extended-key-usage");
    let large = Requirements { minimum_ec_bits: 384, ..requirements.clone() };
    assert_eq!(fits(&leaf.certificate, &large).unwrap_err().code, "weak-key");
    let anybody = Requirements { named: Named::Anybody, ..requirements.clone() };
    assert_eq!(fits(&crate::one("explicit-curve"), &anybody).unwrap_err().code, "weak-key");
    let anything = Requirements { purpose: Purpose::Anything, ..requirements };
    assert_eq!(
        fits(&crate::one("signing-only"), &Requirements { now: NOW, named: Named::Anybody, ..anything }),
        Ok(())
    );
}

#[test]
fn policies_that_are_no_identifiers_are_refused() {
    let root = Holder::root("Root");
    let leaf = root.person(ALICE, 7);
    let policies = Policies { initial: vec!["mail".to_owned()], ..Policies::default() };
    let requirements = Requirements { policies, ..without_revocation() };
    assert_eq!(code(&leaf, &anchors(&[&root]), &Pool::new(), &requirements), "policy");
}

#[test]
fn addresses_and_domains_are_compared_as_rfc_8550_and_rfc_9598_say() {
    use certdir_certificate::LocalPart::{AnyCase, Exact};
    let root = Holder::root("Root");
    let other = |oid: &[u64], text: &str| {
        SanType::OtherName((oid.to_vec(), rcgen::OtherNameValue::Utf8String(text.to_owned())))
    };
    let utf8 = [1, 3, 6, 1, 5, 5, 7, 8, 9];
    let mut params = person_params("Alice@Example.ORG", 7);
    params.subject_alt_names.extend([
        other(&utf8, "älice@xn--bcher-kva.example"),
        other(&utf8, "bärbel@bücher.example"),
        other(&utf8, "\u{212a}im@example.net"),
        SanType::Rfc822Name("KATE@example.org".try_into().unwrap()),
        SanType::DnsName("example.com".try_into().unwrap()),
        SanType::DnsName("*.example.com".try_into().unwrap()),
        SanType::Rfc822Name("domain-confidentiality-authority@example.net".try_into().unwrap()),
    ]);
    params.distinguished_name.push(
        DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]),
        DnValue::Utf8String("carol@example.org".to_owned()),
    );
    let leaf = root.issue(params).certificate;
    for (address, any, exact) in [
        ("alice@example.org", true, false),
        ("Alice@EXAMPLE.org", true, true),
        ("älice@bücher.example", true, true),
        ("äLICE@xn--bcher-kva.example", true, false),
        ("ÄLICE@xn--bcher-kva.example", false, false),
        ("kate@example.org", true, false),
        ("KATE@example.org", true, true),
        ("\u{212a}ate@example.org", false, false),
        ("kim@example.net", false, false),
        ("\u{212a}im@example.net", true, true),
        ("bärbel@xn--bcher-kva.example", true, true),
        ("carol@example.org", true, true),
        ("bob@example.org", false, false),
        ("alice@example.com", false, false),
        ("alice", false, false),
        ("@example.org", false, false),
        ("", false, false),
    ] {
        assert_eq!(leaf.names_address(address, AnyCase), any, "{address}");
        assert_eq!(leaf.names_address(address, Exact), exact, "{address}");
    }
    for (domain, expected) in [
        ("example.com", true),
        ("EXAMPLE.com", true),
        ("sub.example.com", false),
        ("example.net", true),
        ("example.org", false),
        ("*.example.com", false),
        ("", false),
    ] {
        assert_eq!(leaf.names_domain(domain), expected, "{domain}");
    }
}

#[test]
fn capabilities_are_handed_on() {
    let root = Holder::root("Root");
    let mut params = person_params(ALICE, 7);
    // AES-256-GCM, AES-128-CBC, RC2 with 128 bits, one that nobody knows.
    let contents = data_encoding::HEXLOWER
        .decode(b"3038300b060960864801650304012e300b0609608648016503040102300e06082a864886f70d030202020080300c060a2b0601040186ed1f0101")
        .unwrap();
    params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 2, 840, 113_549, 1, 9, 15], contents));
    let capabilities = root.issue(params).certificate.capabilities();
    let names: Vec<_> = capabilities.iter().map(|one| one.name).collect();
    assert_eq!(names, [Some("AES-256-GCM"), Some("AES-128-CBC"), Some("RC2-CBC"), None]);
    assert_eq!(capabilities[2].parameters, [2, 2, 0, 0x80]);
    assert!(root.certificate.capabilities().is_empty());
}
