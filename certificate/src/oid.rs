//! Object identifiers: as contents octets, as dotted text, and the names of known algorithms.
//!
//! They are compared as octets, so that one with an arc of any size is carried (`2.25.<UUID>` has 128 bits).

use std::fmt::Write as _;

use crate::der::{self, tag};

/// What a public key of some algorithm can do at all, whatever the certificate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ability {
    /// Encrypt (or agree on keys) and sign; also what is assumed of an unknown algorithm.
    Both,
    Encrypt,
    Sign,
}

/// A known algorithm of public keys or signatures.
#[derive(Debug)]
pub(crate) struct Algorithm {
    oid: &'static [u8],
    pub(crate) name: &'static str,
    pub(crate) ability: Ability,
}

/// The known algorithm with this identifier.
pub(crate) fn algorithm(oid: &[u8]) -> Option<&'static Algorithm> {
    ALGORITHMS.iter().find(|algorithm| algorithm.oid == oid)
}

/// What the key in a `SubjectPublicKeyInfo` can do; [`Ability::Both`] where that cannot be read.
pub(crate) fn ability_of_key(spki: &[u8]) -> Ability {
    let read = || {
        let algorithm = der::only(spki, tag::SEQUENCE)?.open().expect(tag::SEQUENCE)?;
        algorithm.open().expect(tag::OID)
    };
    read().ok().and_then(|oid| algorithm(oid.value)).map_or(Ability::Both, |known| known.ability)
}

/// Dotted text (`1.2.840.113549.1.1.1`). An identifier that is malformed or has an arc above 128 bits is carried as its
/// contents octets in hex, behind a `#`.
pub(crate) fn dotted(oid: &[u8]) -> String {
    parse_dotted(oid).unwrap_or_else(|| format!("#{}", data_encoding::HEXLOWER.encode(oid)))
}

/// X.690 section 8.19.
fn parse_dotted(oid: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(4 * oid.len());
    let mut arc: Option<u128> = None;
    for octet in oid {
        let so_far = match arc {
            None if *octet == 0x80 => return None,
            so_far => so_far.unwrap_or_default(),
        };
        if so_far.leading_zeros() < 7 {
            return None;
        }
        let value = so_far << 7 | u128::from(octet & 0x7f);
        if octet & 0x80 != 0 {
            arc = Some(value);
            continue;
        }
        arc = None;
        if text.is_empty() {
            // X.690 section 8.19.4: the first two arcs share one subidentifier.
            let root = (value / 40).min(2);
            let _ = write!(text, "{root}.{}", value - 40 * root);
        } else {
            let _ = write!(text, ".{value}");
        }
    }
    (arc.is_none() && !text.is_empty()).then_some(text)
}

/// rsaEncryption, RFC 8017.
pub(crate) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-RSAES-OAEP, RFC 4055.
pub(crate) const RSA_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
/// id-RSASSA-PSS, RFC 4055.
pub(crate) const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// id-ecPublicKey, RFC 5480.
pub(crate) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// id-X25519, RFC 8410.
pub(crate) const X25519: &[u8] = &[0x2b, 0x65, 0x6e];
/// id-Ed25519, RFC 8410.
pub(crate) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

macro_rules! algorithms {
    ($($oid:expr, $name:literal, $ability:ident;)*) => {
        &[$(Algorithm { oid: $oid, name: $name, ability: Ability::$ability }),*]
    };
}

/// In the order of their frequency, for the linear search. The NIST identifiers are from the CSOR arcs
/// `2.16.840.1.101.3.4.3` (signatures) and `.4` (key encapsulation); RFC 9881 (ML-DSA), RFC 9909 (SLH-DSA) and RFC 9935
/// (ML-KEM) use them in certificates.
const ALGORITHMS: &[Algorithm] = algorithms! {
    RSA, "RSA", Both;
    EC, "EC", Both;
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], "sha256WithRSAEncryption", Sign;
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], "ecdsa-with-SHA256", Sign;
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], "ecdsa-with-SHA384", Sign;
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], "ecdsa-with-SHA512", Sign;
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], "sha384WithRSAEncryption", Sign;
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], "sha512WithRSAEncryption", Sign;
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "sha1WithRSAEncryption", Sign;
    RSA_PSS, "RSASSA-PSS", Sign;
    RSA_OAEP, "RSAES-OAEP", Encrypt;
    X25519, "X25519", Encrypt;
    &[0x2b, 0x65, 0x6f], "X448", Encrypt;
    ED25519, "Ed25519", Sign;
    &[0x2b, 0x65, 0x71], "Ed448", Sign;
    &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01], "DSA", Sign;
    &[0x2a, 0x86, 0x48, 0xce, 0x3e, 0x02, 0x01], "DH", Encrypt;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 17], "ML-DSA-44", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 18], "ML-DSA-65", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 19], "ML-DSA-87", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 20], "SLH-DSA-SHA2-128s", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 21], "SLH-DSA-SHA2-128f", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 22], "SLH-DSA-SHA2-192s", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 23], "SLH-DSA-SHA2-192f", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 24], "SLH-DSA-SHA2-256s", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 25], "SLH-DSA-SHA2-256f", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 26], "SLH-DSA-SHAKE-128s", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 27], "SLH-DSA-SHAKE-128f", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 28], "SLH-DSA-SHAKE-192s", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 29], "SLH-DSA-SHAKE-192f", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 30], "SLH-DSA-SHAKE-256s", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 31], "SLH-DSA-SHAKE-256f", Sign;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 1], "ML-KEM-512", Encrypt;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 2], "ML-KEM-768", Encrypt;
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 3], "ML-KEM-1024", Encrypt;
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_algorithms_have_the_registered_numbers() {
        let numbers = |name: &str| ALGORITHMS.iter().find(|a| a.name == name).map(|a| dotted(a.oid)).unwrap();
        for (name, number) in [
            ("RSA", "1.2.840.113549.1.1.1"),
            ("RSAES-OAEP", "1.2.840.113549.1.1.7"),
            ("RSASSA-PSS", "1.2.840.113549.1.1.10"),
            ("sha1WithRSAEncryption", "1.2.840.113549.1.1.5"),
            ("sha256WithRSAEncryption", "1.2.840.113549.1.1.11"),
            ("sha384WithRSAEncryption", "1.2.840.113549.1.1.12"),
            ("sha512WithRSAEncryption", "1.2.840.113549.1.1.13"),
            ("EC", "1.2.840.10045.2.1"),
            ("ecdsa-with-SHA256", "1.2.840.10045.4.3.2"),
            ("ecdsa-with-SHA384", "1.2.840.10045.4.3.3"),
            ("ecdsa-with-SHA512", "1.2.840.10045.4.3.4"),
            ("X25519", "1.3.101.110"),
            ("X448", "1.3.101.111"),
            ("Ed25519", "1.3.101.112"),
            ("Ed448", "1.3.101.113"),
            ("DSA", "1.2.840.10040.4.1"),
            ("DH", "1.2.840.10046.2.1"),
            ("ML-DSA-44", "2.16.840.1.101.3.4.3.17"),
            ("ML-DSA-87", "2.16.840.1.101.3.4.3.19"),
            ("SLH-DSA-SHA2-128s", "2.16.840.1.101.3.4.3.20"),
            ("SLH-DSA-SHAKE-256f", "2.16.840.1.101.3.4.3.31"),
            ("ML-KEM-512", "2.16.840.1.101.3.4.4.1"),
            ("ML-KEM-1024", "2.16.840.1.101.3.4.4.3"),
        ] {
            assert_eq!(numbers(name), number, "{name}");
        }
    }

    #[test]
    fn arcs_of_any_size_are_carried() {
        // 2.25 with the UUID of X.667, example: f81d4fae-7dec-11d0-a765-00a0c91e6bf6.
        let uuid = 0xf81d_4fae_7dec_11d0_a765_00a0_c91e_6bf6_u128;
        let mut oid = vec![2 * 40 + 25];
        oid.extend((0..19).rev().map(|i| ((uuid >> (7 * i)) & 0x7f) as u8 | if i > 0 { 0x80 } else { 0 }));
        assert_eq!(dotted(&oid), format!("2.25.{uuid}"));
        oid.insert(1, 0x81);
        assert_eq!(dotted(&oid), format!("#{}", data_encoding::HEXLOWER.encode(&oid)));
        assert_eq!(dotted(&[0x88, 0x37, 0x03]), "2.999.3");
        assert_eq!(dotted(&[0x27]), "0.39");
        assert_eq!(dotted(&[0x28]), "1.0");
    }

    #[test]
    fn malformed_ones_are_hex() {
        for (oid, text) in
            [(&[][..], "#"), (&[0x2a, 0x80], "#2a80"), (&[0x2a, 0x80, 0x01], "#2a8001"), (&[0x81], "#81")]
        {
            assert_eq!(dotted(oid), text);
        }
    }
}
