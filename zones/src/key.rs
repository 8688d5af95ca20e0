//! [`ZoneKey`]: one ECDSA P-256 key that signs a zone (RFC 6605), and [`verify`], the other side.
//!
//! One combined signing key per zone: DNSKEY flags 257 (zone key and secure entry point, RFC 4034 section 2.1.1), so a
//! parent's DS points at it and it signs every RRset.

use crate::{Error, Name, Rdata, Rrset, SignedRrset};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};
use std::fmt;

/// ECDSAP256SHA256 (RFC 6605 section 4).
pub const ALGORITHM: u8 = 13;
/// Zone key and secure entry point.
const FLAGS: u16 = 257;
/// Flags (2), protocol (1) and algorithm (1) of a DNSKEY.
const DNSKEY_PREFIX: usize = 4;
/// The protocol octet of every DNSKEY (RFC 4034 section 2.1.2).
const PROTOCOL: u8 = 3;
/// SHA-256 as the digest of a DS record (RFC 4509 section 2.1).
const DIGEST_SHA256: u8 = 2;
/// Octets of RRSIG RDATA before the signer's name.
pub(crate) const RRSIG_PREFIX: usize = 18;
/// Octets of a signature, r and s (RFC 6605 section 4).
const SIGNATURE: usize = 64;
/// Class IN.
const CLASS_IN: u16 = 1;

/// The private key of a zone.
pub struct ZoneKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    dnskey: Rdata,
    tag: u16,
}

impl ZoneKey {
    /// Makes a key; also gives its PKCS#8 form, which must be kept secret and from which [`ZoneKey::from_pkcs8`] reads it.
    pub fn generate() -> Result<(ZoneKey, Vec<u8>), Error> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| Error::Random)?;
        Ok((ZoneKey::from_pkcs8(pkcs8.as_ref())?, pkcs8.as_ref().to_vec()))
    }

    /// Reads a key from its PKCS#8 form.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<ZoneKey, Error> {
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).map_err(|_| Error::Key)?;
        // RFC 6605 section 4: Q as x and y, without the octet 4 of the uncompressed form.
        let point = pair.public_key().as_ref().strip_prefix(&[4]).ok_or(Error::Key)?;
        let mut dnskey = Vec::with_capacity(DNSKEY_PREFIX + point.len());
        dnskey.extend_from_slice(&FLAGS.to_be_bytes());
        dnskey.extend_from_slice(&[PROTOCOL, ALGORITHM]);
        dnskey.extend_from_slice(point);
        let tag = key_tag(&dnskey);
        Ok(ZoneKey { pair, random, dnskey: dnskey.into(), tag })
    }

    /// The RDATA of the DNSKEY record.
    #[must_use]
    pub fn dnskey(&self) -> Rdata {
        self.dnskey.clone()
    }

    /// The key's number in RRSIG and DS.
    #[must_use]
    pub fn key_tag(&self) -> u16 {
        self.tag
    }

    /// The RDATA of the DS record that the parent zone needs, SHA-256 (RFC 4034 section 5.1.4, RFC 4509).
    #[must_use]
    pub fn ds(&self, apex: &Name) -> Rdata {
        let digest = Sha256::new().chain_update(apex.as_wire()).chain_update(&self.dnskey).finalize();
        let mut ds = Vec::with_capacity(4 + digest.len());
        ds.extend_from_slice(&self.tag.to_be_bytes());
        ds.extend_from_slice(&[ALGORITHM, DIGEST_SHA256]);
        ds.extend_from_slice(&digest);
        ds.into()
    }

    /// Signs an RRset (RFC 4034 section 3.1). `signer` is the apex of the zone; the times are seconds since 1970 in serial
    /// number arithmetic, so `expiration` may be up to 68 years after `inception`. ECDSA signatures are randomised: two
    /// calls give two signatures.
    pub fn sign(
        &self,
        signer: &Name,
        owner: &Name,
        rrset: &Rrset,
        inception: u32,
        expiration: u32,
    ) -> Result<SignedRrset, Error> {
        let mut rrsig = Vec::with_capacity(RRSIG_PREFIX + signer.as_wire().len() + SIGNATURE);
        rrsig.extend_from_slice(&rrset.rtype.0.to_be_bytes());
        rrsig.push(ALGORITHM);
        // A name of 255 octets has at most 127 labels.
        rrsig.push(u8::try_from(owner.label_count()).unwrap_or(u8::MAX));
        rrsig.extend_from_slice(&rrset.ttl.to_be_bytes());
        rrsig.extend_from_slice(&expiration.to_be_bytes());
        rrsig.extend_from_slice(&inception.to_be_bytes());
        rrsig.extend_from_slice(&self.tag.to_be_bytes());
        rrsig.extend_from_slice(signer.as_wire());
        let message = signed_data(&rrsig, owner, rrset.ttl, rrset)?;
        let signature = self.pair.sign(&self.random, &message).map_err(|_| Error::Random)?;
        rrsig.extend_from_slice(signature.as_ref());
        Ok(SignedRrset { rrset: rrset.clone(), rrsig: rrsig.into() })
    }
}

impl fmt::Debug for ZoneKey {
    /// Nothing of the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZoneKey").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// Checks a signature by a DNSKEY of this algorithm (RFC 4035 section 5.3), at `now`, seconds since 1970. An RRset that
/// was expanded from a wildcard verifies under its expanded owner, as a resolver sees it.
pub fn verify(dnskey: &[u8], owner: &Name, signed: &SignedRrset, now: u32) -> Result<(), Error> {
    let bad = |reason| Error::Signature { reason };
    let (flags, point) = match dnskey {
        [high, low, PROTOCOL, ALGORITHM, point @ ..] => (u16::from_be_bytes([*high, *low]), point),
        _ => return Err(bad("the key is not an ECDSA P-256 DNSKEY")),
    };
    if flags & 0x0100 == 0 {
        return Err(bad("the key is not a zone key"));
    }
    let (&[t0, t1, algorithm, labels, l0, l1, l2, l3, _, _, _, _, _, _, _, _, k0, k1], rest) =
        signed.rrsig.split_first_chunk::<RRSIG_PREFIX>().ok_or(bad("the RRSIG is cut off"))?;
    let (signer, signature) = Name::split_from(rest).map_err(|_| bad("the RRSIG has no signer's name"))?;
    let original_ttl = u32::from_be_bytes([l0, l1, l2, l3]);
    if u16::from_be_bytes([t0, t1]) != signed.rrset.rtype.0 {
        return Err(bad("it covers another type"));
    }
    if algorithm != ALGORITHM || u16::from_be_bytes([k0, k1]) != key_tag(dnskey) {
        return Err(bad("it was made with another key"));
    }
    if !owner.is_at_or_below(&signer) {
        return Err(bad("the signer is not the owner's zone"));
    }
    if signed.rrset.ttl > original_ttl {
        return Err(bad("the TTL is above the signed one"));
    }
    // RFC 4034 section 3.1.5: serial number arithmetic; both ends are inside.
    if serial_before(now, signed.inception()) {
        return Err(bad("it is not valid yet"));
    }
    if serial_before(signed.expiration(), now) {
        return Err(bad("it has expired"));
    }
    let surplus =
        owner.label_count().checked_sub(usize::from(labels)).ok_or(bad("it counts more labels than the owner has"))?;
    // RFC 4035 section 5.3.2: fewer labels than the owner has means that a wildcard was expanded.
    let expanded_from = (surplus > 0).then(|| {
        let encloser = (0..owner.labels().count() - usize::from(labels))
            .try_fold(owner.as_wire(), |name, _| crate::name::parent(name));
        Name::from_labels_and_suffix(&[b"*"], encloser.unwrap_or(&[0]))
    });
    let header = signed.rrsig.get(..signed.rrsig.len() - signature.len()).unwrap_or_default();
    let message = signed_data(header, expanded_from.as_ref().unwrap_or(owner), original_ttl, &signed.rrset)?;
    let mut public = Vec::with_capacity(1 + point.len());
    public.push(4);
    public.extend_from_slice(point);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public)
        .verify(&message, signature)
        .map_err(|_| bad("it does not fit records and key"))
}

/// Whether `a` is before `b` in serial number arithmetic (RFC 1982 section 3.2).
#[must_use]
pub fn serial_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

/// What is signed: the RRSIG without its signature, then the records in canonical form (RFC 4034 section 3.1.8.1).
fn signed_data(rrsig_header: &[u8], owner: &Name, ttl: u32, rrset: &Rrset) -> Result<Vec<u8>, Error> {
    let records = rrset.rdata();
    let record_octets: usize = records.iter().map(|rdata| owner.as_wire().len() + 10 + rdata.len()).sum();
    let mut message = Vec::with_capacity(rrsig_header.len() + record_octets);
    message.extend_from_slice(rrsig_header);
    for rdata in records {
        let len = u16::try_from(rdata.len())
            .map_err(|_| Error::RrsetTooLarge { octets: rdata.len(), limit: usize::from(u16::MAX) })?;
        message.extend_from_slice(owner.as_wire());
        message.extend_from_slice(&rrset.rtype.0.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        message.extend_from_slice(&ttl.to_be_bytes());
        message.extend_from_slice(&len.to_be_bytes());
        message.extend_from_slice(rdata);
    }
    Ok(message)
}

/// The key tag of DNSKEY RDATA (RFC 4034 appendix B).
#[must_use]
pub fn key_tag(dnskey: &[u8]) -> u16 {
    let sum: u32 = dnskey
        .chunks(2)
        .map(|pair| pair.iter().zip([8, 0]).map(|(octet, shift)| u32::from(*octet) << shift).sum::<u32>())
        .sum();
    (sum.wrapping_add(sum >> 16) & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordType;
    use data_encoding::{BASE64, HEXLOWER};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// The example of RFC 6605 section 6.1: a key, its tag, and a signature that others made.
    #[test]
    fn rfc_6605_example() {
        let point = BASE64
            .decode(b"GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==")
            .unwrap();
        let dnskey = [&[1, 1, 3, 13][..], &point].concat();
        assert_eq!(key_tag(&dnskey), 55_648);
        let signature = BASE64
            .decode(b"qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==")
            .unwrap();
        // 20100909100439 and 20100812100439
        let (expiration, inception) = (1_284_026_679u32, 1_281_607_479u32);
        let header = [
            &[0, 1, 13, 3][..],
            &3600u32.to_be_bytes(),
            &expiration.to_be_bytes(),
            &inception.to_be_bytes(),
            &55_648u16.to_be_bytes(),
            name("example.net").as_wire(),
        ]
        .concat();
        let rrset = Rrset::new(RecordType::A, 3600, vec![[192, 0, 2, 1].as_slice().into()]).unwrap();
        let signed = SignedRrset { rrset, rrsig: [header, signature].concat().into() };
        assert_eq!((signed.inception(), signed.expiration()), (inception, expiration));
        assert_eq!(verify(&dnskey, &name("www.example.net"), &signed, inception), Ok(()));
        assert_eq!(verify(&dnskey, &name("www.example.net"), &signed, expiration), Ok(()));
    }

    fn signed(key: &ZoneKey, inception: u32, expiration: u32) -> SignedRrset {
        let rrset = Rrset::new(RecordType::TXT, 300, vec![[1, b'a'].as_slice().into()]).unwrap();
        key.sign(&name("example.org"), &name("www.example.org"), &rrset, inception, expiration).unwrap()
    }

    fn refusal(key: &ZoneKey, owner: &str, signed: &SignedRrset, now: u32) -> &'static str {
        match verify(&key.dnskey(), &name(owner), signed, now) {
            Err(Error::Signature { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// RFC 4034 section 3.1.5 and RFC 1982: the clock of RRSIG wraps in 2106.
    #[test]
    fn validity_is_serial_arithmetic() {
        let (key, _) = ZoneKey::generate().unwrap();
        for inception in [1_000, 0x7fff_fff0, u32::MAX - 10] {
            let expiration = inception.wrapping_add(100);
            let signed = signed(&key, inception, expiration);
            for (now, holds) in [
                (inception.wrapping_sub(1), false),
                (inception, true),
                (inception.wrapping_add(50), true),
                (expiration, true),
                (expiration.wrapping_add(1), false),
            ] {
                assert_eq!(
                    verify(&key.dnskey(), &name("www.example.org"), &signed, now).is_ok(),
                    holds,
                    "{inception} {now}"
                );
            }
        }
        assert!(serial_before(1, 2) && !serial_before(2, 1) && !serial_before(1, 1) && serial_before(u32::MAX, 0));
    }

    #[test]
    fn every_check_refuses() {
        let (key, _) = ZoneKey::generate().unwrap();
        let (other, _) = ZoneKey::generate().unwrap();
        let good = signed(&key, 0, 100);
        let owner = "www.example.org";
        assert_eq!(verify(&key.dnskey(), &name(owner), &good, 50), Ok(()));
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut rrsig = good.rrsig.to_vec();
            change(&mut rrsig);
            SignedRrset { rrset: good.rrset.clone(), rrsig: rrsig.into() }
        };
        assert_eq!(refusal(&key, owner, &good, 101), "it has expired");
        assert_eq!(refusal(&key, owner, &good, u32::MAX), "it is not valid yet");
        assert_eq!(refusal(&key, "www.example.com", &good, 50), "the signer is not the owner's zone");
        assert_eq!(refusal(&key, "example.org", &good, 50), "it counts more labels than the owner has");
        assert_eq!(refusal(&key, "wwx.example.org", &good, 50), "it does not fit records and key");
        assert_eq!(refusal(&key, owner, &with(&|rrsig| rrsig[1] = 1), 50), "it covers another type");
        assert_eq!(refusal(&key, owner, &with(&|rrsig| rrsig[2] = 8), 50), "it was made with another key");
        assert_eq!(refusal(&key, owner, &with(&|rrsig| rrsig[17] ^= 1), 50), "it was made with another key");
        assert_eq!(refusal(&key, owner, &with(&|rrsig| rrsig.truncate(17)), 50), "the RRSIG is cut off");
        assert_eq!(refusal(&key, owner, &with(&|rrsig| rrsig.truncate(20)), 50), "the RRSIG has no signer's name");
        assert_eq!(refusal(&key, owner, &with(&|rrsig| rrsig.truncate(60)), 50), "it does not fit records and key");
        assert_eq!(refusal(&key, owner, &with(&|rrsig| rrsig[11] += 1), 50), "it does not fit records and key");
        let mut raised = good.clone();
        raised.rrset.ttl += 1;
        assert_eq!(refusal(&key, owner, &raised, 50), "the TTL is above the signed one");
        // A cache counts the TTL down.
        raised.rrset.ttl = 1;
        assert_eq!(verify(&key.dnskey(), &name(owner), &raised, 50), Ok(()));
        assert_eq!(refusal(&other, owner, &good, 50), "it was made with another key");
        let mut no_zone_key = key.dnskey().to_vec();
        no_zone_key[0] = 0;
        assert!(matches!(
            verify(&no_zone_key, &name(owner), &good, 50),
            Err(Error::Signature { reason: "the key is not a zone key" })
        ));
    }

    #[test]
    fn keys_are_kept_as_pkcs8() {
        let (key, pkcs8) = ZoneKey::generate().unwrap();
        let again = ZoneKey::from_pkcs8(&pkcs8).unwrap();
        assert_eq!((again.dnskey(), again.key_tag()), (key.dnskey(), key.key_tag()));
        assert_eq!(verify(&key.dnskey(), &name("www.example.org"), &signed(&again, 0, 9), 5), Ok(()));
        for bad in [&[][..], &pkcs8[1..], &pkcs8[..pkcs8.len() - 1], b"-----BEGIN PRIVATE KEY-----"] {
            assert_eq!(ZoneKey::from_pkcs8(bad).unwrap_err(), Error::Key);
        }
        // A key never ends up in a log.
        let secret = HEXLOWER.encode(&pkcs8[36..68]);
        let shown = format!("{key:?}");
        assert!(!shown.contains(&secret) && shown.starts_with("ZoneKey { tag: "), "{shown}");
        assert!(shown.len() < 40, "{shown}");
    }
}
