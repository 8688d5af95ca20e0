//! What each certificate says.

use certdir_certificate::{Certificate, Error, MailNameSource, MailNameSource::*};

use crate::{NOW, good, one, try_one};

fn addresses(certificate: &Certificate) -> Vec<(&str, MailNameSource)> {
    certificate.addresses().iter().map(|name| (name.text.as_str(), name.source)).collect()
}

#[test]
fn a_person() {
    let alice = one("p256");
    assert_eq!(addresses(&alice), [("alice@example.org", Rfc822Name)]);
    assert!(!alice.addresses()[0].legacy());
    assert!(alice.domains().is_empty());
    assert_eq!(alice.common_name(), Some("Alice Adams"));
    assert_eq!(alice.subject(), "CN=Alice Adams,O=Example");
    assert_eq!(alice.issuer(), "CN=Example Test CA,O=Example");
    assert_eq!(alice.issuer_der(), one("ca").subject_der());
    assert!(!alice.is_self_issued() && !alice.is_ca());
    // 2025-01-01T00:00:00Z as UTCTime and 2099-12-31T23:59:59Z as GeneralizedTime.
    assert_eq!((alice.not_before(), alice.not_after()), (1_735_689_600, 4_102_444_799));
    assert_eq!(alice.signature_algorithm(), "ecdsa-with-SHA256");
    assert_eq!(alice.authority_key_id(), one("ca").subject_key_id());
    assert_eq!(alice.subject_key_id().map(<[u8]>::len), Some(20));
    assert_eq!(alice.authority_key_id().map(<[u8]>::len), Some(20));
}

#[test]
fn a_lean_copy_says_the_same() {
    let alice = one("p256");
    let lean = alice.lean();
    assert_eq!(lean, alice);
    assert_eq!(addresses(&lean.clone()), addresses(&alice));
    assert_eq!(
        (lean.subject(), lean.issuer(), lean.serial_hex()),
        (alice.subject(), alice.issuer(), alice.serial_hex())
    );
    assert_eq!((lean.subject_der(), lean.not_after()), (alice.subject_der(), alice.not_after()));
    assert!(size_of::<Certificate>() <= 64, "{}", size_of::<Certificate>());
}

#[test]
fn validity_includes_both_ends() {
    let alice = one("p256");
    assert!(alice.valid_at(NOW));
    assert!(!alice.valid_at(alice.not_before() - 1));
    assert!(alice.valid_at(alice.not_before()));
    assert!(alice.valid_at(alice.not_after()));
    assert!(!alice.valid_at(alice.not_after() + 1));
    let eve = one("expired");
    assert_eq!((eve.not_before(), eve.not_after()), (1_577_836_800, 1_609_459_200));
    assert!(!eve.valid_at(NOW));
}

#[test]
fn keys_and_what_they_may_do() {
    let dotted = |last: &str| format!("2.16.840.1.101.3.4.{last}");
    for (file, kind, name, bits, encrypt, sign) in [
        ("rsa", "rsa", "RSA 2048", Some(2048), true, true),
        ("p256", "ec", "EC P-256", Some(256), true, true),
        ("p384", "ec", "EC P-384", Some(384), true, true),
        ("brainpool", "ec", "EC brainpoolP256r1", Some(256), true, true),
        ("explicit-curve", "ec", "EC", None, true, true),
        ("rsa-pss", "1.2.840.113549.1.1.10", "RSASSA-PSS 2048", Some(2048), false, true),
        ("ed25519", "ed25519", "Ed25519", Some(255), false, true),
        ("ed25519-no-usage", "ed25519", "Ed25519", Some(255), false, true),
        ("x25519", "x25519", "X25519", Some(255), true, false),
        ("no-usage", "ec", "EC P-256", Some(256), true, true),
        ("version-1", "ec", "EC P-256", Some(256), true, true),
        ("signing-only", "ec", "EC P-256", Some(256), false, true),
        ("key-agreement-only", "ec", "EC P-256", Some(256), true, false),
        ("tls-server", "ec", "EC P-256", Some(256), false, false),
        ("any-usage", "ec", "EC P-256", Some(256), true, true),
        ("ca", "ec", "EC P-256", Some(256), false, false),
        ("ml-dsa", &dotted("3.18"), "ML-DSA-65", None, false, true),
        ("slh-dsa", &dotted("3.24"), "SLH-DSA-SHA2-256s", None, false, true),
        ("ml-kem", &dotted("4.2"), "ML-KEM-768", None, true, false),
        ("unknown-algorithm", "1.3.6.1.4.1.99999.7", "1.3.6.1.4.1.99999.7", None, true, true),
    ] {
        let certificate = one(file);
        let key = certificate.key();
        assert_eq!((key.kind.as_str(), key.name.as_str(), key.bits), (kind, name, bits), "{file}");
        assert_eq!((certificate.can_encrypt(), certificate.can_sign()), (encrypt, sign), "{file}");
    }
}

#[test]
fn signature_algorithms() {
    assert_eq!(one("ml-dsa").signature_algorithm(), "ML-DSA-65");
    assert_eq!(one("slh-dsa").signature_algorithm(), "SLH-DSA-SHA2-256s");
    assert_eq!(one("unknown-algorithm").signature_algorithm(), "1.3.6.1.4.1.99999.8");
}

#[test]
fn unknown_algorithms_are_carried_with_all_other_facts() {
    let quentin = one("unknown-algorithm");
    assert_eq!(addresses(&quentin), [("quentin@example.org", Rfc822Name)]);
    assert_eq!(quentin.serial_hex(), "0123456789abcdef");
    assert!(quentin.is_self_issued() && quentin.valid_at(NOW));
}

#[test]
fn addresses_in_all_their_places() {
    let lee = one("legacy");
    assert_eq!(addresses(&lee), [("lee@example.org", SubjectEmail)]);
    assert!(lee.addresses()[0].legacy());
    assert_eq!(addresses(&one("version-1")), [("vera@example.org", SubjectEmail)]);
    assert_eq!(
        addresses(&one("dual")),
        [("dora@example.org", Rfc822Name), ("Dora.Dual@example.net", Rfc822Name), ("dora@example.org", SubjectEmail)]
    );
    let zoe = one("smtputf8");
    assert_eq!(addresses(&zoe), [("zoë@xn--bcher-kva.example", SmtpUtf8Mailbox)], "and not the UPN");
    assert_eq!(zoe.common_name(), Some("Zoë Żółć"));
    assert_eq!(zoe.subject(), "CN=Zoë Żółć,O=Bücher\\, Söhne \\+ Co");
    assert!(addresses(&one("gateway")).is_empty());
    assert_eq!(addresses(&one("huge")).len(), 901);
}

#[test]
fn domains_in_all_their_places() {
    assert_eq!(one("gateway").domains(), ["example.org", "mail.example.org"]);
    assert_eq!(one("domain-authority").domains(), ["example.org"]);
    assert_eq!(one("domain-authority-components").domains(), ["example.org"]);
    assert_eq!(one("tls-server").domains(), ["www.example.org"]);
    assert!(one("legacy").domains().is_empty(), "an address names no domain");
    assert!(one("dual").domains().is_empty());
}

#[test]
fn an_authority() {
    let ca = one("ca");
    assert!(ca.is_ca() && ca.is_self_issued());
    for name in good().iter().filter(|name| *name != "ca") {
        assert!(!one(name).is_ca(), "{name}");
    }
}

#[test]
fn what_cannot_be_decoded_and_is_not_needed_does_not_refuse_a_certificate() {
    let otto = one("odd-extensions");
    assert_eq!(addresses(&otto), [("otto@example.org", Rfc822Name)]);
    assert_eq!(otto.subject_key_id(), None, "a malformed hint is none");
}

#[test]
fn what_cannot_be_decoded_and_is_needed_does() {
    for (file, part) in [
        ("malformed-san", "subject alternative name"),
        ("malformed-key-usage", "key usage"),
        ("malformed-extended-key-usage", "extended key usage"),
        ("malformed-basic-constraints", "basic constraints"),
    ] {
        let Err(Error::InBlock { line: 1, source }) = try_one(file) else { panic!("{file} was taken") };
        assert!(matches!(*source, Error::Malformed { part: named, .. } if named == part), "{file}: {source}");
    }
}

#[test]
fn copies_and_what_they_show() {
    let alice = one("p256");
    let copy = alice.clone();
    assert_eq!(alice, copy);
    assert!(std::sync::Arc::ptr_eq(alice.der(), copy.der()), "the DER is shared");
    assert_ne!(alice, one("rsa"));
    assert!(format!("{alice:?}").starts_with("Certificate { subject: \"CN=Alice Adams,O=Example\", serial: "));
}
