//! Verifying signatures, and remembering which ones were good.
//!
//! ring verifies what nearly all certificates use; what ring does not know (P-521, the post-quantum algorithms) goes to
//! certval's. SHA-1 and MD5, DSA, RSA below 2048 bits and brainpool curves are not verified.

use std::collections::HashSet;
use std::sync::Mutex;

use certval::{PkiEnvironment, verify_signature_message_rust_crypto, verify_signature_message_rustcrypto};
use ring::signature::{self as algorithms, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::der::{Decode as _, asn1::BitString};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::der::{self, Problem, tag};
use crate::oid;
use crate::parts::whole_octets;

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not by this key over this content.
    Wrong,
    /// Its algorithm is not verified here.
    Unsupported,
}

/// Verifies `signature`, made with `algorithm` (an `AlgorithmIdentifier`), over `message` by `key` (a
/// `SubjectPublicKeyInfo`).
pub(crate) fn verify(key: &[u8], algorithm: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Fault> {
    let (key_algorithm, bits) = open_key(key).map_err(|_| Fault::Wrong)?;
    let algorithm_parts = open_algorithm(algorithm).map_err(|_| Fault::Wrong)?;
    match choose(&key_algorithm, &algorithm_parts)? {
        Choice::Ring(chosen) => {
            UnparsedPublicKey::new(chosen, bits).verify(message, signature).map_err(|_| Fault::Wrong)
        }
        Choice::Certval => verify_by_certval(key, algorithm, message, signature),
    }
}

enum Choice {
    Ring(&'static dyn VerificationAlgorithm),
    Certval,
}

/// An `AlgorithmIdentifier`: the identifier, and the parameters with their header.
struct Algorithm<'a> {
    oid: &'a [u8],
    parameters: &'a [u8],
}

fn open_algorithm(algorithm: &[u8]) -> Result<Algorithm<'_>, Problem> {
    let mut reader = der::only(algorithm, tag::SEQUENCE)?.open();
    let oid = reader.expect(tag::OID)?.value;
    let parameters = if reader.is_empty() { &[] } else { reader.next()?.raw };
    reader.finish()?;
    Ok(Algorithm { oid, parameters })
}

fn open_key(key: &[u8]) -> Result<(Algorithm<'_>, &[u8]), Problem> {
    let mut reader = der::only(key, tag::SEQUENCE)?.open();
    let algorithm = open_algorithm(reader.expect(tag::SEQUENCE)?.raw)?;
    let bits = whole_octets(reader.expect(tag::BIT_STRING)?.value)?;
    reader.finish()?;
    Ok((algorithm, bits))
}

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// The verifier for a key and a signature algorithm; the two must belong together.
fn choose(key: &Algorithm<'_>, algorithm: &Algorithm<'_>) -> Result<Choice, Fault> {
    let ring = |chosen| Ok(Choice::Ring(chosen));
    match (key.oid, algorithm.oid) {
        // RFC 4055 section 5.
        (oid::RSA, [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, hash @ 11..=13]) => match hash {
            11 => ring(&algorithms::RSA_PKCS1_2048_8192_SHA256),
            12 => ring(&algorithms::RSA_PKCS1_2048_8192_SHA384),
            _ => ring(&algorithms::RSA_PKCS1_2048_8192_SHA512),
        },
        (oid::RSA | oid::RSA_PSS, oid::RSA_PSS) => {
            // RFC 4055 section 3.3: a key with parameters is for these only.
            if key.oid == oid::RSA_PSS && !key.parameters.is_empty() && key.parameters != algorithm.parameters {
                return Err(Fault::Unsupported);
            }
            match pss_hash(algorithm.parameters) {
                Ok(Some(1)) => ring(&algorithms::RSA_PSS_2048_8192_SHA256),
                Ok(Some(2)) => ring(&algorithms::RSA_PSS_2048_8192_SHA384),
                Ok(Some(3)) => ring(&algorithms::RSA_PSS_2048_8192_SHA512),
                _ => Err(Fault::Unsupported),
            }
        }
        // RFC 5758 section 3.2.
        (oid::EC, [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, hash @ 2..=4]) => match (key.parameters, hash) {
            (P256, 2) => ring(&algorithms::ECDSA_P256_SHA256_ASN1),
            (P256, 3) => ring(&algorithms::ECDSA_P256_SHA384_ASN1),
            (P384, 2) => ring(&algorithms::ECDSA_P384_SHA256_ASN1),
            (P384, 3) => ring(&algorithms::ECDSA_P384_SHA384_ASN1),
            (P256 | P384 | P521, _) => Ok(Choice::Certval),
            _ => Err(Fault::Unsupported),
        },
        (oid::ED25519, oid::ED25519) => ring(&algorithms::ED25519),
        // ML-DSA (RFC 9881) and SLH-DSA (RFC 9909): key and signature have the same identifier.
        (
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 17..=31],
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 17..=31],
        ) if key.oid == algorithm.oid => Ok(Choice::Certval),
        _ => Err(Fault::Unsupported),
    }
}

/// `RSASSA-PSS-params` (RFC 4055 section 3.1): the last arc of the SHA-2 that is used for everything, with a salt as long
/// as it is, which is what RFC 8551 and the CA/Browser Forum ask for; `None` for other parameters.
fn pss_hash(parameters: &[u8]) -> Result<Option<u8>, Problem> {
    const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    fn sha2(algorithm: &[u8]) -> Result<Option<u8>, Problem> {
        Ok(match open_algorithm(algorithm)?.oid {
            [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc @ 1..=3] => Some(*arc),
            _ => None,
        })
    }
    let mut reader = der::only(parameters, tag::SEQUENCE)?.open();
    let hash = reader.optional(tag::context_constructed(0))?;
    let mask = reader.optional(tag::context_constructed(1))?;
    let salt = reader.optional(tag::context_constructed(2))?;
    let trailer = reader.optional(tag::context_constructed(3))?;
    reader.finish()?;
    let (Some(hash), Some(mask), Some(salt)) = (hash, mask, salt) else {
        // The defaults are SHA-1.
        return Ok(None);
    };
    if let Some(trailer) = trailer
        && der::only(trailer.value, tag::INTEGER)?.value != [1]
    {
        return Ok(None);
    }
    let hash = sha2(hash.value)?;
    let mask = open_algorithm(mask.value)?;
    if mask.oid != MGF1 || sha2(mask.parameters)? != hash {
        return Ok(None);
    }
    let length = match hash {
        Some(1) => 32,
        Some(2) => 48,
        _ => 64,
    };
    Ok(if der::only(salt.value, tag::INTEGER)?.value == [length] { hash } else { None })
}

fn verify_by_certval(key: &[u8], algorithm: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Fault> {
    let key = SubjectPublicKeyInfoOwned::from_der(key).map_err(|_| Fault::Unsupported)?;
    let algorithm = AlgorithmIdentifierOwned::from_der(algorithm).map_err(|_| Fault::Unsupported)?;
    let signature = BitString::from_bytes(signature).map_err(|_| Fault::Wrong)?;
    let nobody = PkiEnvironment::default();
    let verified = if key.algorithm.oid == algorithm.oid {
        verify_signature_message_rustcrypto(&nobody, message, &signature, &algorithm, &key)
    } else {
        verify_signature_message_rust_crypto(&nobody, message, &signature, &algorithm, &key)
    };
    verified.map_err(|error| match error {
        certval::Error::Unrecognized => Fault::Unsupported,
        _ => Fault::Wrong,
    })
}

/// What was signed and by whom, as SHA-256 of the signed object (a certificate, a CRL, an OCSP response) and of the key.
pub(crate) type Signed = ([u8; 32], [u8; 32]);

const SHARDS: usize = 16;

/// Signatures that were good, so that the next validation need not verify them again. Shared by any number of
/// validations; bounded: the half that was not added to lately is forgotten when it is full. Holds no verdicts: dates,
/// names and revocation are looked at each time.
#[derive(Debug)]
pub struct Memory {
    shards: [Mutex<Shard>; SHARDS],
    /// Most signatures in one generation of one shard.
    room: usize,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashSet<Signed>,
    old: HashSet<Signed>,
}

impl Memory {
    /// Room for about `signatures`, of some 100 octets each. With 0 nothing is remembered.
    pub fn new(signatures: usize) -> Memory {
        Memory { shards: std::array::from_fn(|_| Mutex::default()), room: signatures.div_ceil(2 * SHARDS) }
    }

    fn shard(&self, signed: &Signed) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(signed.0.first().copied().unwrap_or_default()) % SHARDS)
    }

    pub(crate) fn knows(&self, object: &[u8; 32], key: &[u8; 32]) -> bool {
        let signed = (*object, *key);
        let Some(Ok(shard)) = self.shard(&signed).map(Mutex::lock) else {
            return false;
        };
        shard.young.contains(&signed) || shard.old.contains(&signed)
    }

    pub(crate) fn keep(&self, object: &[u8; 32], key: &[u8; 32]) {
        let signed = (*object, *key);
        if self.room == 0 {
            return;
        }
        if let Some(Ok(mut shard)) = self.shard(&signed).map(Mutex::lock) {
            if shard.young.len() >= self.room {
                shard.old = std::mem::take(&mut shard.young);
            }
            shard.young.insert(signed);
        }
    }
}

/// Room for 10,000 signatures.
impl Default for Memory {
    fn default() -> Memory {
        Memory::new(10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let memory = Memory::new(320);
        for number in 0u32..100_000 {
            let mut object = [0; 32];
            object[..4].copy_from_slice(&number.to_le_bytes());
            memory.keep(&object, &[1; 32]);
            assert!(memory.knows(&object, &[1; 32]));
            assert!(!memory.knows(&object, &[2; 32]));
        }
        let held = |shard: &Mutex<Shard>| shard.lock().map(|shard| shard.young.len() + shard.old.len()).unwrap();
        assert!(memory.shards.iter().map(held).sum::<usize>() <= 320);
        let none = Memory::new(0);
        none.keep(&[1; 32], &[1; 32]);
        assert!(!none.knows(&[1; 32], &[1; 32]));
    }
}
