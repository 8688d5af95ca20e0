//! The same chains through `openssl verify`: it must say what we say, or the difference stands here with its reason.

use std::path::Path;
use std::process::Command;

use certdir_certificate::{Certificate, Memory, Named, Requirements, RevocationMode, validate};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, DnValue, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyUsagePurpose, NameConstraints, OtherNameValue, SanType,
};

use crate::NOW;
use crate::authority::{Holder, anchors, authority_params, day, evidence, person_params, pool};

const ALICE: &str = "alice@example.org";

/// What openssl says, and why it may differ.
enum Openssl {
    Same,
    Differs(&'static str),
}
use Openssl::{Differs, Same};

struct Case<'a> {
    name: &'a str,
    root: &'a Holder,
    between: Vec<&'a Holder>,
    leaf: &'a Holder,
    /// DER; revocation is looked at where there is a list.
    lists: Vec<Vec<u8>>,
    address: &'a str,
    expected: &'a str,
    openssl: Openssl,
}

/// A name, an authority with the person below it, the address, and what is expected.
type Chain = (&'static str, (Holder, Holder), &'static str, &'static str, Openssl);

fn ours(case: &Case<'_>) -> &'static str {
    let lists: Vec<_> = case.lists.iter().map(|list| certdir_certificate::Crl::read(list).unwrap().into()).collect();
    let requirements = Requirements {
        named: Named::Address(case.address.to_owned()),
        revocation: if lists.is_empty() { RevocationMode::Off } else { RevocationMode::Hard },
        ..Requirements::at(NOW)
    };
    let (anchors, pool, evidence) = (anchors(&[case.root]), pool(&case.between), evidence(&lists));
    match validate(&case.leaf.certificate, &anchors, &pool, &evidence, &requirements, &Memory::default()) {
        Ok(_) => "good",
        Err(refusal) => refusal.code,
    }
}

/// Nothing if it is good, else what openssl says.
fn theirs(case: &Case<'_>, folder: &Path) -> String {
    let write = |name: &str, certificates: &[&Certificate]| {
        let path = folder.join(name);
        std::fs::write(&path, certificates.iter().map(|one| one.to_pem()).collect::<String>()).unwrap();
        path
    };
    let between: Vec<&Certificate> = case.between.iter().map(|holder| &holder.certificate).collect();
    let mut command = Command::new("openssl");
    command.args(["verify", "-attime", &NOW.to_string(), "-purpose", "smimeencrypt", "-x509_strict", "-no-CApath"]);
    command
        .args(["-verify_email", case.address, "-no-CAstore", "-CAfile"])
        .arg(write("root", &[&case.root.certificate]));
    if !between.is_empty() {
        command.arg("-untrusted").arg(write("between", &between));
    }
    if !case.lists.is_empty() {
        let path = folder.join("lists");
        let pem = |der: &Vec<u8>| {
            let base64 = data_encoding::BASE64.encode(der);
            let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
            format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", lines.join("\n"))
        };
        std::fs::write(&path, case.lists.iter().map(pem).collect::<String>()).unwrap();
        command.args(["-crl_check_all", "-extended_crl", "-CRLfile"]).arg(path);
    }
    let output = command.arg(write("leaf", &[&case.leaf.certificate])).output().expect("the openssl command");
    if output.status.success() { String::new() } else { String::from_utf8_lossy(&output.stderr).into_owned() }
}

fn with(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = person_params(ALICE, 7);
    change(&mut params);
    params
}

fn authority_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = authority_params(name);
    change(&mut params);
    params
}

fn mail(subtree: &str) -> Vec<GeneralSubtree> {
    vec![GeneralSubtree::Rfc822Name(subtree.to_owned())]
}

fn permitted(subtree: &str) -> Option<NameConstraints> {
    Some(NameConstraints { permitted_subtrees: mail(subtree), excluded_subtrees: Vec::new() })
}

fn excluded(subtree: &str) -> Option<NameConstraints> {
    Some(NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: mail(subtree) })
}

/// An emailAddress of the subject, in place of the alternative name.
fn only_in_subject(params: &mut CertificateParams, value: DnValue) {
    params.subject_alt_names.clear();
    params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]), value);
}

/// id-on-SmtpUTF8Mailbox.
fn smtp_utf8(address: &str) -> SanType {
    SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, 9], OtherNameValue::Utf8String(address.to_owned())))
}

#[test]
fn openssl_agrees_or_the_difference_has_a_reason() {
    let root = Holder::root("Root");
    let plain = root.authority("Plain");
    let person = plain.person(ALICE, 7);
    let critical = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    let unknown = {
        let mut unknown = critical;
        unknown.set_criticality(true);
        unknown
    };
    let ascii = |text: &str| DnValue::Ia5String(text.try_into().unwrap());

    // Each authority, and the person below it.
    let below = |authority: CertificateParams, leaf: CertificateParams| {
        let authority = root.issue(authority);
        let leaf = authority.issue(leaf);
        (authority, leaf)
    };
    let authority =
        |change: fn(&mut CertificateParams)| below(authority_with("Other", change), person_params(ALICE, 7));
    let leaf = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = person_params(ALICE, 7);
        change(&mut params);
        below(authority_params("Other"), params)
    };
    let org = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = person_params(ALICE, 7);
        change(&mut params);
        below(authority_with("Other", |params| params.name_constraints = permitted("example.org")), params)
    };

    let chains: Vec<Chain> = vec![
        ("the authority has expired", authority(|p| p.not_after = day(-1)), ALICE, "expired", Same),
        ("the authority is not valid yet", authority(|p| p.not_before = day(1)), ALICE, "not-yet-valid", Same),
        ("no authority", authority(|p| p.is_ca = IsCa::ExplicitNoCa), ALICE, "not-a-ca", Same),
        ("no basic constraints", authority(|p| p.is_ca = IsCa::NoCa), ALICE, "not-a-ca", Same),
        ("no keyCertSign", authority(|p| p.key_usages = vec![KeyUsagePurpose::CrlSign]), ALICE, "key-usage", Same),
        (
            "the authority is for servers",
            authority(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            ALICE,
            "wrong-purpose",
            Same,
        ),
        (
            "the authority is for mail",
            authority(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection]),
            ALICE,
            "good",
            Same,
        ),
        ("expired", leaf(&|p| p.not_after = day(-1)), ALICE, "expired", Same),
        ("not valid yet", leaf(&|p| p.not_before = day(1)), ALICE, "not-yet-valid", Same),
        ("another address", leaf(&|_| ()), "bob@example.org", "wrong-address", Same),
        ("another case of the domain", leaf(&|_| ()), "alice@EXAMPLE.org", "good", Same),
        (
            "another case of the local part",
            leaf(&|_| ()),
            "Alice@example.org",
            "good",
            Differs("RFC 8550 section 3 asks for case-insensitive comparison"),
        ),
        (
            "for servers",
            leaf(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            ALICE,
            "wrong-purpose",
            Same,
        ),
        (
            "for anything",
            leaf(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
            ALICE,
            "good",
            Differs("openssl does not know anyExtendedKeyUsage for mail; RFC 8550 section 4.4.4 does"),
        ),
        ("no extended key usage", leaf(&|p| p.extended_key_usages.clear()), ALICE, "good", Same),
        ("for signing", leaf(&|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]), ALICE, "signing-only", Same),
        (
            "an EC key for key agreement",
            leaf(&|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
            ALICE,
            "good",
            Differs("openssl wants keyEncipherment, which an EC key cannot have"),
        ),
        (
            "a critical extension that nobody knows",
            leaf(&|p| p.custom_extensions.push(unknown.clone())),
            ALICE,
            "critical-extension",
            Same,
        ),
        ("permitted", org(&|_| ()), ALICE, "good", Same),
        (
            "outside of what is permitted",
            org(&|p| p.subject_alt_names = vec![SanType::Rfc822Name("alice@example.net".try_into().unwrap())]),
            "alice@example.net",
            "name-constraints",
            Same,
        ),
        (
            "outside, beside one that is inside",
            org(&|p| p.subject_alt_names.push(SanType::Rfc822Name("alice@example.net".try_into().unwrap()))),
            ALICE,
            "name-constraints",
            Same,
        ),
        (
            "outside, in the subject",
            org(&|p| only_in_subject(p, ascii("alice@example.net"))),
            "alice@example.net",
            "name-constraints",
            Same,
        ),
        (
            "outside, in the subject as UTF8String",
            org(&|p| only_in_subject(p, DnValue::Utf8String("alice@example.net".to_owned()))),
            "alice@example.net",
            "name-constraints",
            Same,
        ),
        (
            "outside, as SmtpUTF8Mailbox",
            org(&|p| p.subject_alt_names = vec![smtp_utf8("älice@example.net")]),
            "älice@example.net",
            "name-constraints",
            Same,
        ),
        (
            "permitted, as SmtpUTF8Mailbox",
            org(&|p| p.subject_alt_names = vec![smtp_utf8("älice@example.org")]),
            "älice@example.org",
            "good",
            Same,
        ),
        (
            "excluded",
            below(authority_with("Other", |p| p.name_constraints = excluded("example.org")), person_params(ALICE, 7)),
            ALICE,
            "name-constraints",
            Same,
        ),
        (
            "excluded as SmtpUTF8Mailbox",
            below(
                authority_with("Other", |p| p.name_constraints = excluded("example.org")),
                with(|p| p.subject_alt_names = vec![smtp_utf8("älice@example.org")]),
            ),
            "älice@example.org",
            "name-constraints",
            Same,
        ),
        (
            "a host below a domain",
            below(
                authority_with("Other", |p| p.name_constraints = permitted(".example.org")),
                with(|p| p.subject_alt_names = vec![SanType::Rfc822Name("a@mail.example.org".try_into().unwrap())]),
            ),
            "a@mail.example.org",
            "good",
            Same,
        ),
        (
            "the domain is no host below itself",
            below(authority_with("Other", |p| p.name_constraints = permitted(".example.org")), person_params(ALICE, 7)),
            ALICE,
            "name-constraints",
            Same,
        ),
    ];

    let first = root.issue(authority_with("First", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))));
    let second = first.authority("Second");
    let too_deep = second.person(ALICE, 7);
    let mut cases = vec![
        Case {
            name: "plain",
            root: &root,
            between: vec![&plain],
            leaf: &person,
            lists: vec![],
            address: ALICE,
            expected: "good",
            openssl: Same,
        },
        Case {
            name: "path length",
            root: &root,
            between: vec![&first, &second],
            leaf: &too_deep,
            lists: vec![],
            address: ALICE,
            expected: "path-length",
            openssl: Same,
        },
        Case {
            name: "no authority at hand",
            root: &root,
            between: vec![],
            leaf: &person,
            lists: vec![],
            address: ALICE,
            expected: "no-path",
            openssl: Same,
        },
    ];
    for (name, (authority, leaf), address, expected, openssl) in &chains {
        let openssl = match openssl {
            Same => Same,
            Differs(why) => Differs(why),
        };
        cases.push(Case {
            name,
            root: &root,
            between: vec![authority],
            leaf,
            lists: vec![],
            address,
            expected,
            openssl,
        });
    }
    let of_root = root.crl_der(-1, &[]);
    let revocation: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("good by list", vec![of_root.clone(), plain.crl_der(-1, &[8])], "good"),
        ("revoked", vec![of_root.clone(), plain.crl_der(-1, &[6, 7])], "revoked"),
        ("the list has run out", vec![of_root.clone(), plain.crl_der(-8, &[])], "revocation-unknown"),
        ("the list is from the future", vec![of_root.clone(), plain.crl_der(1, &[])], "revocation-unknown"),
        ("no list of the root", vec![plain.crl_der(-1, &[])], "revocation-unknown"),
        ("a newer list revokes", vec![of_root.clone(), plain.crl_der(-2, &[]), plain.crl_der(-1, &[7])], "revoked"),
        ("the same, the other way round", vec![plain.crl_der(-1, &[7]), plain.crl_der(-2, &[]), of_root], "revoked"),
    ];
    for (name, lists, expected) in revocation {
        cases.push(Case {
            name,
            root: &root,
            between: vec![&plain],
            leaf: &person,
            lists,
            address: ALICE,
            expected,
            openssl: Same,
        });
    }

    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let ours = ours(case);
        let theirs = theirs(case, folder.path());
        let (same, why) = match case.openssl {
            Same => (true, "the same"),
            Differs(why) => (false, why),
        };
        if ours != case.expected || ((ours == "good") == theirs.is_empty()) != same {
            wrong.push(format!("{}: {ours}, not {}; openssl: {theirs:?} ({why})", case.name, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cases.len() > 35, "{}", cases.len());
}

/// Every algorithm that openssl can sign with: good, or refused with its code.
#[test]
fn algorithms_are_verified_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_mgf1_md:sha256 -sigopt rsa_pss_saltlen";
    let digest = format!("{pss}:digest");
    let long = format!("{pss}:64");
    run("ecparam -name prime256v1 -genkey -noout -out leaf.key");
    std::fs::write(folder.path().join("x.cnf"), "subjectAltName=email:alice@example.org\nkeyUsage=keyAgreement\n")
        .unwrap();
    for (key, options, expected) in [
        ("rsa:2048", "-sha256", "good"),
        ("rsa:2048", "-sha384", "good"),
        ("rsa:2048", "-sha512", "good"),
        ("rsa:2048", "-sha1", "unsupported-algorithm"),
        ("rsa:1024", "-sha256", "weak-key"),
        ("rsa:2048", &format!("-sha256 {digest}"), "good"),
        ("rsa:2048", &format!("-sha256 {long}"), "unsupported-algorithm"),
        ("ec:prime256v1", "-sha256", "good"),
        ("ec:prime256v1", "-sha384", "good"),
        ("ec:prime256v1", "-sha512", "good"),
        ("ec:secp384r1", "-sha384", "good"),
        ("ec:secp384r1", "-sha256", "good"),
        ("ec:secp521r1", "-sha512", "good"),
        ("ec:brainpoolP256r1", "-sha256", "unsupported-algorithm"),
        ("ec:secp256k1", "-sha256", "unsupported-algorithm"),
        ("ed25519", "-text", "good"),
        ("ed448", "-text", "unsupported-algorithm"),
    ] {
        match key.split_once(':') {
            Some(("rsa", bits)) => run(&format!("genrsa -out root.key {bits}")),
            Some((_, curve)) => run(&format!("ecparam -name {curve} -genkey -noout -out root.key")),
            None => run(&format!("genpkey -algorithm {key} -out root.key")),
        }
        run(&format!(
            "req -x509 -new -key root.key -subj /CN=Root -days 30 -out root.pem {options} -addext keyUsage=keyCertSign,cRLSign"
        ));
        run("req -new -key leaf.key -subj /CN=Alice -out leaf.csr");
        run(&format!(
            "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -days 30 -extfile x.cnf -out leaf.pem {options}"
        ));
        let read =
            |name: &str| Certificate::read_all(&std::fs::read(folder.path().join(name)).unwrap()).unwrap().remove(0);
        let (root, leaf) = (read("root.pem"), read("leaf.pem"));
        let mut anchors = certdir_certificate::Anchors::new();
        anchors.add(&root).unwrap();
        let requirements = Requirements { revocation: RevocationMode::Off, ..Requirements::at(leaf.not_before() + 60) };
        let verdict = validate(
            &leaf,
            &anchors,
            &certdir_certificate::Pool::new(),
            &certdir_certificate::Evidence::new(),
            &requirements,
            &Memory::new(0),
        );
        let code = verdict.map_or_else(|refusal| refusal.code, |_| "good");
        assert_eq!(code, expected, "{key} {options}");
    }
}
