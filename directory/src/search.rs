//! [`Hashed`]: what of a certificate RFC 4387 hashes, so that it is found by that hash.
//!
//! The index over these hashes is in the store, not in memory: such look-ups are rare, and what they find is shown only if the
//! published set shows it. The hash is SHA-1, as the RFC says; it finds, it proves nothing.

use certdir_certificate::Certificate;
use ring::digest::{Digest, SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What of a certificate is hashed (RFC 4387 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashed {
    /// `certHash`: all of it.
    Certificate,
    /// `sHash`: the subject's name.
    Subject,
    /// `iHash`: the issuer's name.
    Issuer,
    /// `iAndSHash`: IssuerAndSerialNumber (RFC 5652 section 10.2.4).
    IssuerAndSerial,
    /// `sKIDHash`: the octets of the subject key identifier.
    SubjectKeyId,
}

/// A SHA-1 hash.
pub type Sha1 = [u8; 20];

impl Hashed {
    const ALL: [Hashed; 5] =
        [Hashed::Certificate, Hashed::Subject, Hashed::Issuer, Hashed::IssuerAndSerial, Hashed::SubjectKeyId];

    /// The hash of this part of a certificate; none where it has no such part.
    pub fn of(self, certificate: &Certificate) -> Option<Sha1> {
        match self {
            Hashed::Certificate => sha1(certificate.der()),
            Hashed::Subject => sha1(certificate.subject_der()),
            Hashed::Issuer => sha1(certificate.issuer_der()),
            Hashed::IssuerAndSerial => sha1(&issuer_and_serial(certificate)?),
            Hashed::SubjectKeyId => sha1(certificate.subject_key_id()?),
        }
    }

    /// The key of the index: the first octets of the hash, their last three bits replaced by what is hashed.
    pub(crate) fn key(self, hash: &Sha1) -> i64 {
        let [a, b, c, d, e, f, g, h, ..] = *hash;
        i64::from_be_bytes([a, b, c, d, e, f, g, (h & !7) | self as u8])
    }
}

/// The keys under which a certificate is found.
pub(crate) fn keys(certificate: &Certificate) -> Vec<i64> {
    Hashed::ALL.into_iter().filter_map(|hashed| Some(hashed.key(&hashed.of(certificate)?))).collect()
}

fn sha1(octets: &[u8]) -> Option<Sha1> {
    let hash: Digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, octets);
    hash.as_ref().try_into().ok()
}

/// IssuerAndSerialNumber in DER form. None for a serial number that cannot be written again.
fn issuer_and_serial(certificate: &Certificate) -> Option<Vec<u8>> {
    let mut serial = data_encoding::HEXLOWER.decode(certificate.serial_hex().as_bytes()).ok()?;
    // INTEGER is signed: a first bit that is set would make it negative (X.690 section 8.3).
    if serial.first().is_none_or(|octet| *octet >= 0x80) {
        serial.insert(0, 0);
    }
    let serial = [&[0x02], length(serial.len())?.as_slice(), &serial].concat();
    let issuer = certificate.issuer_der();
    let content = length(issuer.len() + serial.len())?;
    Some([&[0x30], content.as_slice(), issuer, &serial].concat())
}

/// A length in DER (X.690 section 10.1).
fn length(octets: usize) -> Option<Vec<u8>> {
    if octets < 0x80 {
        return Some(vec![u8::try_from(octets).ok()?]);
    }
    let all = u32::try_from(octets).ok()?.to_be_bytes();
    let rest: Vec<u8> = all.into_iter().skip_while(|octet| *octet == 0).collect();
    Some([&[0x80 | u8::try_from(rest.len()).ok()?], rest.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_der() {
        assert_eq!(length(0x7f).unwrap(), [0x7f]);
        assert_eq!(length(0x80).unwrap(), [0x81, 0x80]);
        assert_eq!(length(0x1234).unwrap(), [0x82, 0x12, 0x34]);
    }

    #[test]
    fn keys_tell_what_is_hashed() {
        let hash = [0xff; 20];
        let keys: std::collections::BTreeSet<i64> = Hashed::ALL.iter().map(|hashed| hashed.key(&hash)).collect();
        assert_eq!(keys.len(), Hashed::ALL.len());
    }
}
