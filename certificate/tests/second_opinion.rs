//! The openssl command and the x509-cert crate say the same.

use std::process::Command;

use certdir_certificate::{Certificate, MailNameSource};
use x509_cert::TbsCertificate;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{self, Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier,
};

use crate::{folder, good, one};

fn openssl(name: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-nameopt", "RFC2253,utf8,-esc_msb", "-in"])
        .arg(folder().join(format!("{name}.pem")))
        .args(arguments)
        .output()
        .expect("this test needs the openssl command");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_openssl_command_agrees() {
    for name in good() {
        let ours = one(&name);
        let said = openssl(&name, &["-subject", "-issuer", "-serial", "-fingerprint", "-sha256"]);
        let fingerprint: Vec<String> = ours.sha256().iter().map(|octet| format!("{octet:02X}")).collect();
        let expected = [
            format!("subject={}", ours.subject()),
            format!("issuer={}", ours.issuer()),
            format!("serial={}", ours.serial_hex().to_uppercase()),
            format!("sha256 Fingerprint={}", fingerprint.join(":")),
        ];
        assert_eq!(said, expected, "{name}");

        // It lists each address once, and none of RFC 9598.
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names.dedup();
            names
        };
        let addresses = ours.addresses().iter().filter(|name| name.source != MailNameSource::SmtpUtf8Mailbox);
        assert_eq!(
            sorted(openssl(&name, &["-email"])),
            sorted(addresses.map(|name| name.text.clone()).collect()),
            "{name}"
        );
    }
}

#[test]
fn x509_cert_agrees() {
    let mut compared = 0;
    for name in good() {
        let ours = one(&name);
        compared += usize::from(compare(&ours).unwrap_or_else(|e| panic!("{name}: {e}")));
    }
    // All but the one with object identifiers and a key identifier that x509-cert does not take.
    assert_eq!(compared, good().len() - 1);
}

/// Compares all facts with those that x509-cert finds. `Ok(false)` if it does not read the certificate, `Err` names the
/// first fact that differs.
pub(crate) fn compare(ours: &Certificate) -> Result<bool, String> {
    let Ok(theirs) = x509_cert::Certificate::from_der(ours.der()) else { return Ok(false) };
    let theirs = theirs.tbs_certificate();
    let same = |what: &str, same: bool| if same { Ok(()) } else { Err(what.to_owned()) };

    same("subject", theirs.subject().to_der().is_ok_and(|der| der == ours.subject_der()))?;
    same("issuer", theirs.issuer().to_der().is_ok_and(|der| der == ours.issuer_der()))?;
    let serial: String = theirs.serial_number().as_bytes().iter().map(|octet| format!("{octet:02x}")).collect();
    same("serial", serial.trim_start_matches("00") == ours.serial_hex().trim_start_matches("00"))?;
    let time = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap();
    same("notBefore", time(theirs.validity().not_before) == ours.not_before())?;
    same("notAfter", time(theirs.validity().not_after) == ours.not_after())?;
    // const-oid takes arcs with leading zeros, which X.690 section 8.19.2 forbids; ours shows the octets of those.
    let oid = theirs.subject_public_key_info().algorithm.oid;
    let octets = format!("#{}", oid.as_bytes().iter().map(|octet| format!("{octet:02x}")).collect::<String>());
    same("key", [oid.to_string().as_str(), &octets].contains(&known_kind(&ours.key().kind)))?;

    // What they cannot decode, they cannot compare.
    let Ok(theirs) = Extensions::read(theirs) else { return Ok(false) };
    let addresses = theirs.alternative.iter().filter_map(|name| match name {
        GeneralName::Rfc822Name(text) => Some(text.as_str()),
        _ => None,
    });
    let our_addresses = ours.addresses().iter().filter(|name| name.source == MailNameSource::Rfc822Name);
    same("addresses", addresses.eq(our_addresses.map(|name| name.text.as_str())))?;
    for name in &theirs.alternative {
        if let GeneralName::DnsName(text) = name
            && text.as_str().ends_with(".example.org")
            && text.as_str().split('.').all(|label| {
                !label.is_empty() && label.len() < 64 && label.bytes().all(|octet| octet.is_ascii_alphanumeric())
            })
        {
            same("domains", ours.domains().contains(&text.as_str().to_ascii_lowercase()))?;
        }
    }

    let mail = theirs.extended_usage.is_none_or(|usage| {
        usage.0.iter().any(|oid| ["1.3.6.1.5.5.7.3.4", "2.5.29.37.0"].contains(&oid.to_string().as_str()))
    });
    // What x509-cert does not know is that some algorithms can only do one of the two.
    if ["rsa", "ec"].contains(&ours.key().kind.as_str()) {
        let encrypt = mail && theirs.usage.is_none_or(|usage| usage.key_encipherment() || usage.key_agreement());
        let sign = mail && theirs.usage.is_none_or(|usage| usage.digital_signature() || usage.non_repudiation());
        same("encryption", encrypt == ours.can_encrypt())?;
        same("signing", sign == ours.can_sign())?;
    }
    same("cA", theirs.basic.is_some_and(|basic| basic.ca) == ours.is_ca())?;
    let subject_key = theirs.subject_key.as_ref().map(|id| id.0.as_bytes());
    same("subject key identifier", subject_key == ours.subject_key_id())?;
    let authority_key = theirs.authority_key.as_ref().and_then(|id| id.key_identifier.as_ref());
    same("authority key identifier", authority_key.map(|id| id.as_bytes()) == ours.authority_key_id())?;
    Ok(true)
}

struct Extensions {
    alternative: Vec<GeneralName>,
    usage: Option<KeyUsage>,
    extended_usage: Option<ExtendedKeyUsage>,
    basic: Option<BasicConstraints>,
    subject_key: Option<SubjectKeyIdentifier>,
    authority_key: Option<AuthorityKeyIdentifier>,
}

impl Extensions {
    fn read(tbs: &TbsCertificate) -> Result<Extensions, der::Error> {
        fn one<T: for<'a> Decode<'a, Error = der::Error> + AssociatedOid>(
            tbs: &TbsCertificate,
        ) -> Result<Option<T>, der::Error> {
            let extension = tbs.extensions().and_then(|list| list.iter().find(|e| e.extn_id == T::OID));
            extension.map(|e| T::from_der(e.extn_value.as_bytes())).transpose()
        }
        Ok(Extensions {
            alternative: one::<SubjectAltName>(tbs)?.map(|names| names.0).unwrap_or_default(),
            usage: one(tbs)?,
            extended_usage: one(tbs)?,
            basic: one(tbs)?,
            subject_key: one(tbs)?,
            authority_key: one(tbs)?,
        })
    }
}

fn known_kind(kind: &str) -> &str {
    match kind {
        "rsa" => "1.2.840.113549.1.1.1",
        "ec" => "1.2.840.10045.2.1",
        "x25519" => "1.3.101.110",
        "ed25519" => "1.3.101.112",
        dotted => dotted,
    }
}
