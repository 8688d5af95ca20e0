//! The public key: which algorithm, and how large.

use serde::Serialize;

use crate::der::{self, Element, Problem, tag};
use crate::oid::{self, Ability};

/// Which kind of public key a certificate holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct KeyInfo {
    /// `rsa`, `ec`, `x25519` or `ed25519`; for every other algorithm its dotted object identifier. Stable: two keys that
    /// serve the same mail programs have the same kind.
    pub kind: String,
    /// For people: `RSA 2048`, `EC P-256`, `ML-KEM-768`, or the dotted object identifier of an unknown algorithm.
    pub name: String,
    /// The size in bits: of the modulus (RSA) or the curve's field (EC, X25519, Ed25519). `None` where it is unknown or
    /// says nothing.
    pub bits: Option<u32>,
}

/// `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7). An unknown algorithm, and an unknown curve, are not problems.
pub(crate) fn read(element: &Element<'_>) -> Result<(KeyInfo, Ability), Problem> {
    let mut reader = element.open();
    let algorithm = reader.expect(tag::SEQUENCE)?;
    let key = reader.expect(tag::BIT_STRING)?;
    reader.finish()?;
    let (_, key) = der::bit_string(key.value)?;
    let mut algorithm = algorithm.open();
    let oid = algorithm.expect(tag::OID)?.value;

    let known = oid::algorithm(oid);
    let ability = known.map_or(Ability::Both, |known| known.ability);
    let name = known.map(|known| known.name);
    let info = match oid {
        oid::RSA => {
            let bits = rsa_bits(key)?;
            KeyInfo { kind: "rsa".to_owned(), name: format!("RSA {bits}"), bits: Some(bits) }
        }
        oid::RSA_PSS | oid::RSA_OAEP => {
            let bits = rsa_bits(key)?;
            KeyInfo { kind: oid::dotted(oid), name: format!("{} {bits}", name.unwrap_or("RSA")), bits: Some(bits) }
        }
        oid::EC => {
            // RFC 5480 section 2.1.1 wants a named curve; a curve given by its numbers is carried without a name.
            let curve = if algorithm.is_empty() { None } else { algorithm.optional(tag::OID)? };
            let (name, bits) = match curve.and_then(|curve| named_curve(curve.value)) {
                Some((name, bits)) => (format!("EC {name}"), Some(bits)),
                None => {
                    (curve.map_or_else(|| "EC".to_owned(), |curve| format!("EC {}", oid::dotted(curve.value))), None)
                }
            };
            KeyInfo { kind: "ec".to_owned(), name, bits }
        }
        oid::X25519 => KeyInfo { kind: "x25519".to_owned(), name: "X25519".to_owned(), bits: Some(255) },
        oid::ED25519 => KeyInfo { kind: "ed25519".to_owned(), name: "Ed25519".to_owned(), bits: Some(255) },
        _ => {
            let kind = oid::dotted(oid);
            KeyInfo { name: name.map_or_else(|| kind.clone(), str::to_owned), kind, bits: None }
        }
    };
    Ok((info, ability))
}

/// The length of the modulus in an `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn rsa_bits(key: &[u8]) -> Result<u32, Problem> {
    let mut reader = der::only(key, tag::SEQUENCE)?.open();
    let modulus = reader.expect(tag::INTEGER)?.value;
    reader.expect(tag::INTEGER)?;
    reader.finish()?;
    let octets = match modulus {
        [0, octets @ ..] => octets,
        octets => octets,
    };
    let Some(first) = octets.first().filter(|first| **first != 0) else {
        return Err("an RSA modulus is empty or zero");
    };
    u32::try_from(8 * octets.len()).map(|bits| bits - first.leading_zeros()).map_err(|_| "an RSA modulus is too long")
}

/// The curves of RFC 5480, RFC 5639 and SEC 2 that mail programs know.
fn named_curve(oid: &[u8]) -> Option<(&'static str, u32)> {
    Some(match oid {
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07] => ("P-256", 256),
        [0x2b, 0x81, 0x04, 0x00, 0x22] => ("P-384", 384),
        [0x2b, 0x81, 0x04, 0x00, 0x23] => ("P-521", 521),
        [0x2b, 0x81, 0x04, 0x00, 0x0a] => ("secp256k1", 256),
        [0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07] => ("brainpoolP256r1", 256),
        [0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x09] => ("brainpoolP320r1", 320),
        [0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0b] => ("brainpoolP384r1", 384),
        [0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0d] => ("brainpoolP512r1", 512),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_that_of_the_modulus_without_its_sign_octet() {
        let key = |modulus: &[u8]| {
            let mut integers = vec![2, u8::try_from(modulus.len()).unwrap()];
            integers.extend_from_slice(modulus);
            integers.extend_from_slice(&[2, 1, 3]);
            let mut key = vec![0x30, u8::try_from(integers.len()).unwrap()];
            key.extend(integers);
            key
        };
        assert_eq!(rsa_bits(&key(&[0, 0x80, 0])), Ok(16));
        assert_eq!(rsa_bits(&key(&[0x7f, 0])), Ok(15));
        assert_eq!(rsa_bits(&key(&[1])), Ok(1));
        assert!(rsa_bits(&key(&[0])).is_err());
        assert!(rsa_bits(&key(&[])).is_err());
        assert!(rsa_bits(&[]).is_err());
    }
}
