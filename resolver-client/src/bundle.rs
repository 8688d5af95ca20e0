//! The certificates of a PKCS #7 or CMS SignedData: `userSMIMECertificate` (RFC 2798 section 2.8), and bundles of issuers'
//! certificates (RFC 5280 section 4.2.2.1).
//!
//! The certificates are all that is read. A signature over them is not looked at: nothing is believed because of it.

use crate::ber::{Malformed, Reader, tag};

/// Certificates of one bundle that are looked at.
pub const MAX_CERTIFICATES: usize = 32;

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// The certificates in a SignedData, in its order, each in DER; at most [`MAX_CERTIFICATES`].
///
/// # Errors
/// What it is instead, for a person.
pub fn certificates(octets: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    read(octets).map_err(|Malformed| "not a PKCS #7 SignedData of definite lengths")
}

/// ContentInfo and SignedData (RFC 5652 sections 3 and 5.1).
fn read(octets: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut outer = Reader::new(octets);
    let mut info = outer.expect(tag::SEQUENCE)?.open();
    if info.expect(tag::OID)?.value != SIGNED_DATA || !outer.is_empty() {
        return Err(Malformed);
    }
    let mut signed = info.expect(tag::CONTEXT_0)?.open().expect(tag::SEQUENCE)?.open();
    signed.expect(tag::INTEGER)?;
    signed.expect(tag::SET)?;
    // What was signed: ignored (RFC 2798).
    signed.expect(tag::SEQUENCE)?;
    let Some(set) = signed.optional(tag::CONTEXT_0)? else { return Ok(Vec::new()) };
    let mut set = set.open();
    let mut found = Vec::new();
    while !set.is_empty() && found.len() < MAX_CERTIFICATES {
        let choice = set.next()?;
        // Other forms (attribute certificates, PKCS #6) have other tags (RFC 5652 section 10.2.2).
        if choice.tag == tag::SEQUENCE {
            found.push(choice.whole);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ber::write;

    fn signed_data(certificates: &[&[u8]]) -> Vec<u8> {
        let certificates = write(tag::CONTEXT_0, certificates);
        let signed = write(
            tag::SEQUENCE,
            &[
                &[2, 1, 1],
                &[0x31, 0],
                &write(tag::SEQUENCE, &[&write(tag::OID, &[&SIGNED_DATA[..8], &[1]])]),
                &certificates,
            ],
        );
        let content = write(tag::CONTEXT_0, &[&signed]);
        write(tag::SEQUENCE, &[&write(tag::OID, &[SIGNED_DATA]), &content])
    }

    #[test]
    fn certificates_are_taken_out_and_other_choices_left() {
        let octets = signed_data(&[&[0x30, 1, 7], &[0xa1, 0], &[0x30, 2, 8, 9]]);
        assert_eq!(certificates(&octets).unwrap(), [&[0x30, 1, 7][..], &[0x30, 2, 8, 9]]);
        assert!(certificates(&signed_data(&[])).unwrap().is_empty());
        assert_eq!(certificates(&signed_data(&[&[0x30, 0][..]; 100])).unwrap().len(), MAX_CERTIFICATES);
        for cut in 0..octets.len() {
            assert!(certificates(&octets[..cut]).is_err(), "{cut}");
        }
        assert!(certificates(&[&octets[..], &[0]].concat()).is_err());
        assert!(certificates(&[0x30, 0x80, 0, 0]).is_err());
    }

    #[test]
    fn a_bundle_of_openssl_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let alice = include_bytes!("../tests/data/alice.der");
        let domain = include_bytes!("../tests/data/domain.der");
        std::fs::write(path("a.pem"), certdir_certificate::pem_encode(alice)).unwrap();
        std::fs::write(path("b.pem"), certdir_certificate::pem_encode(domain)).unwrap();
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["crl2pkcs7", "-nocrl", "-outform", "DER", "-out"]).arg(path("bundle.p7c"));
        openssl.arg("-certfile").arg(path("a.pem")).arg("-certfile").arg(path("b.pem"));
        assert!(openssl.status().unwrap().success());
        let bundle = std::fs::read(path("bundle.p7c")).unwrap();
        let mut found = certificates(&bundle).unwrap();
        found.sort();
        let mut expected = [&alice[..], &domain[..]];
        expected.sort();
        assert_eq!(found, expected);
    }
}
