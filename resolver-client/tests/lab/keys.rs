//! Zone keys, and the signatures and DS records made with them.

use std::process::Command;
use std::sync::Arc;

use certdir_resolver::UnixTime;
use hickory_resolver::proto::rr::Name;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair, RsaPublicKeyComponents,
};

use super::{DNSKEY, DS, RRSIG, Rr, canonical, labels};
use crate::certificates::{DAY, now};

/// A key of a zone. It may pretend to be of another algorithm, or have any flags.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) algorithm: u8,
    pub(crate) flags: u16,
    pub(crate) public: Vec<u8>,
    pair: Arc<Pair>,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// When signatures are valid.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) inception: u32,
    pub(crate) expiration: u32,
}

impl Terms {
    /// Seconds from now.
    pub(crate) fn around(from: UnixTime, to: UnixTime) -> Terms {
        let at = |offset| u32::try_from(now() + offset).unwrap();
        Terms { inception: at(from), expiration: at(to) }
    }

    pub(crate) fn valid() -> Terms {
        Terms::around(-3_600, 7 * DAY)
    }
}

impl Key {
    /// 8, 10, 13, 14 or 15 (RFC 8624).
    pub(crate) fn new(algorithm: u8) -> Key {
        let random = SystemRandom::new();
        let pair = match algorithm {
            8 | 10 => Pair::Rsa(RsaKeyPair::from_der(&rsa()).unwrap()),
            13 | 14 => {
                let kind =
                    if algorithm == 13 { &ECDSA_P256_SHA256_FIXED_SIGNING } else { &ECDSA_P384_SHA384_FIXED_SIGNING };
                let secret = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
                Pair::Ec(EcdsaKeyPair::from_pkcs8(kind, secret.as_ref(), &random).unwrap())
            }
            15 => {
                let secret = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Pair::Ed(Ed25519KeyPair::from_pkcs8(secret.as_ref()).unwrap())
            }
            other => panic!("algorithm {other}"),
        };
        let public = match &pair {
            // RFC 6605 section 4: without the octet that says "uncompressed".
            Pair::Ec(pair) => pair.public_key().as_ref()[1..].to_vec(),
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => {
                // RFC 3110 section 2.
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                [&[u8::try_from(e.len()).unwrap()][..], &e, &n].concat()
            }
        };
        Key { algorithm, flags: 257, public, pair: Arc::new(pair) }
    }

    pub(crate) fn with_flags(&self, flags: u16) -> Key {
        Key { flags, ..self.clone() }
    }

    /// The same key with other flags, such that its tag is `tag`: the flags without a meaning are part of the sum. `None`
    /// when no flags do.
    pub(crate) fn with_tag(&self, tag: u16) -> Option<Key> {
        let candidates = (0..=u16::MAX).filter(|f| f & 0x0181 == 0x0101);
        candidates.map(|f| self.with_flags(f)).find(|k| k.tag() == tag)
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        [&self.flags.to_be_bytes()[..], &[3, self.algorithm], &self.public].concat()
    }

    pub(crate) fn record(&self, zone: &Name) -> Rr {
        Rr::new(zone, DNSKEY, self.data())
    }

    /// RFC 4034 appendix B.
    pub(crate) fn tag(&self) -> u16 {
        let data = self.data();
        let sum: u32 = data.iter().enumerate().map(|(i, o)| u32::from(*o) << (8 * (1 - i % 2))).sum();
        #[expect(clippy::cast_possible_truncation, reason = "that is how the tag is defined")]
        let tag = (sum + (sum >> 16)) as u16;
        tag
    }

    /// The DS record with a SHA-256 digest.
    pub(crate) fn ds(&self, zone: &Name) -> Rr {
        let octets = [canonical(zone), self.data()].concat();
        let digest = ring::digest::digest(&ring::digest::SHA256, &octets);
        let data = [&self.tag().to_be_bytes()[..], &[self.algorithm, 2], digest.as_ref()].concat();
        Rr::new(zone, DS, data)
    }

    /// The key as a trust anchor in master-file form.
    pub(crate) fn anchor(&self, zone: &Name) -> String {
        let key = data_encoding::BASE64.encode(&self.public);
        format!("{zone} IN DNSKEY {} 3 {} {key}\n", self.flags, self.algorithm)
    }

    /// The signature over a set, as the zone `signer` makes it.
    pub(crate) fn sign(&self, signer: &Name, set: &[Rr], terms: Terms) -> Rr {
        self.sign_as(signer, set, terms, self.tag(), labels(&set[0].name))
    }

    /// A signature that says any key tag and number of labels.
    pub(crate) fn sign_as(&self, signer: &Name, set: &[Rr], terms: Terms, tag: u16, labels: u8) -> Rr {
        let first = &set[0];
        let mut head = first.kind.to_be_bytes().to_vec();
        head.extend([self.algorithm, labels]);
        for number in [first.ttl, terms.expiration, terms.inception] {
            head.extend(number.to_be_bytes());
        }
        head.extend(tag.to_be_bytes());
        head.extend(canonical(signer));
        let mut signed = head.clone();
        let mut data: Vec<&[u8]> = set.iter().map(|r| &r.data[..]).collect();
        data.sort_unstable();
        data.dedup();
        for data in data {
            signed.extend(canonical(&first.name));
            signed.extend([&first.kind.to_be_bytes()[..], &[0, 1], &first.ttl.to_be_bytes()].concat());
            signed.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            signed.extend(data);
        }
        head.extend(self.raw_signature(&signed));
        Rr { name: first.name.clone(), kind: RRSIG, ttl: first.ttl, data: head }
    }

    fn raw_signature(&self, octets: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.pair {
            Pair::Ec(pair) => pair.sign(&random, octets).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(octets).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding = if self.algorithm == 10 { &RSA_PKCS1_SHA512 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, octets, &mut signature).unwrap();
                signature
            }
        }
    }
}

/// ring makes no RSA keys.
fn rsa() -> Vec<u8> {
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"]);
    let output = openssl.output().unwrap_or_else(|e| panic!("openssl is needed for this test: {e}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
