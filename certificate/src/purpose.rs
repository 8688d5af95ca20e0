//! What the key may be used for: key usage, extended key usage, basic constraints.

use crate::der::{self, Problem, tag};
use crate::oid::Ability;

/// What a certificate's key may do, by the extensions and by what its algorithm can do at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Purposes {
    pub(crate) encrypt: bool,
    pub(crate) sign: bool,
}

impl Purposes {
    /// `mail_allowed` is what the extended key usage says. An absent extension restricts nothing (RFC 8550 sections
    /// 4.4.2 and 4.4.4).
    pub(crate) fn new(key_usage: Option<KeyUsage>, mail_allowed: Option<bool>, ability: Ability) -> Purposes {
        let mail = mail_allowed.unwrap_or(true);
        Purposes {
            encrypt: mail && ability != Ability::Sign && key_usage.is_none_or(KeyUsage::allows_encryption),
            sign: mail && ability != Ability::Encrypt && key_usage.is_none_or(KeyUsage::allows_signing),
        }
    }
}

/// The first octet of a `KeyUsage` (RFC 5280 section 4.2.1.3); bit 0 is its highest. The second octet holds decipherOnly
/// alone, which decides nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyUsage(u8);

impl KeyUsage {
    const DIGITAL_SIGNATURE: u8 = 0x80;
    const NON_REPUDIATION: u8 = 0x40;
    const KEY_ENCIPHERMENT: u8 = 0x20;
    const KEY_AGREEMENT: u8 = 0x08;
    const CRL_SIGN: u8 = 0x02;

    /// A `KeyUsage` without a single bit allows nothing, as it says. Zero bits at the end, which DER forbids, are common
    /// and change nothing.
    pub(crate) fn read(extension: &[u8]) -> Result<KeyUsage, Problem> {
        let (unused, octets) = der::bit_string(der::only(extension, tag::BIT_STRING)?.value)?;
        match octets {
            [] => Ok(KeyUsage(0)),
            // Unused bits must not count as set ones.
            [only] => Ok(KeyUsage(only & (0xff << unused))),
            [first, _] => Ok(KeyUsage(*first)),
            _ => Err("it has more bits than are defined"),
        }
    }

    pub(crate) fn allows_encryption(self) -> bool {
        self.0 & (KeyUsage::KEY_ENCIPHERMENT | KeyUsage::KEY_AGREEMENT) != 0
    }

    pub(crate) fn allows_signing_crls(self) -> bool {
        self.0 & KeyUsage::CRL_SIGN != 0
    }

    pub(crate) fn allows_signing(self) -> bool {
        self.0 & (KeyUsage::DIGITAL_SIGNATURE | KeyUsage::NON_REPUDIATION) != 0
    }
}

/// The identifiers of the extensions.
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];

/// id-kp-emailProtection (RFC 5280 section 4.2.1.12).
const EMAIL_PROTECTION: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x04];
/// anyExtendedKeyUsage.
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// Whether an extended key usage allows mail: emailProtection or any (RFC 8550 section 4.4.4).
pub(crate) fn allows_mail(extension: &[u8]) -> Result<bool, Problem> {
    let mut reader = der::only(extension, tag::SEQUENCE)?.open();
    let mut allows = false;
    loop {
        let purpose = reader.expect(tag::OID)?.value;
        allows |= purpose == EMAIL_PROTECTION || purpose == ANY_EXTENDED_KEY_USAGE;
        if reader.is_empty() {
            return Ok(allows);
        }
    }
}

/// The `cA` of a basic constraints extension (RFC 5280 section 4.2.1.9).
pub(crate) fn is_ca(extension: &[u8]) -> Result<bool, Problem> {
    let mut reader = der::only(extension, tag::SEQUENCE)?.open();
    let ca = reader.optional(tag::BOOLEAN)?;
    reader.optional(tag::INTEGER)?;
    reader.finish()?;
    ca.map_or(Ok(false), |ca| der::boolean(ca.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purposes(key_usage: &[u8]) -> (bool, bool) {
        let purposes = Purposes::new(Some(KeyUsage::read(key_usage).unwrap()), None, Ability::Both);
        (purposes.encrypt, purposes.sign)
    }

    #[test]
    fn key_usage_bits() {
        assert_eq!(purposes(&[3, 2, 7, 0x80]), (false, true), "digitalSignature");
        assert_eq!(purposes(&[3, 2, 6, 0x40]), (false, true), "nonRepudiation");
        assert_eq!(purposes(&[3, 2, 5, 0x20]), (true, false), "keyEncipherment");
        assert_eq!(purposes(&[3, 2, 4, 0x10]), (false, false), "dataEncipherment");
        assert_eq!(purposes(&[3, 2, 3, 0x08]), (true, false), "keyAgreement");
        assert_eq!(purposes(&[3, 2, 1, 0x06]), (false, false), "keyCertSign, cRLSign");
        assert_eq!(purposes(&[3, 3, 7, 0x08, 0x80]), (true, false), "keyAgreement, decipherOnly");
        assert_eq!(purposes(&[3, 2, 0, 0xa0]), (true, true), "zero bits at the end");
        assert_eq!(purposes(&[3, 1, 0]), (false, false), "no bit");
        assert_eq!(purposes(&[3, 2, 7, 0xff]), (false, true), "unused bits are not set bits");
        for malformed in
            [&[][..], &[3, 0], &[3, 1, 7], &[3, 2, 8, 0x80], &[4, 2, 0, 0x80], &[3, 4, 0, 1, 2, 3], &[3, 2, 0, 1, 0]]
        {
            assert!(KeyUsage::read(malformed).is_err(), "{malformed:02x?}");
        }
    }

    #[test]
    fn the_algorithm_limits_what_the_extensions_allow() {
        let of = |ability| Purposes::new(None, None, ability);
        assert_eq!(of(Ability::Both), Purposes { encrypt: true, sign: true });
        assert_eq!(of(Ability::Sign), Purposes { encrypt: false, sign: true });
        assert_eq!(of(Ability::Encrypt), Purposes { encrypt: true, sign: false });
        assert_eq!(Purposes::new(None, Some(false), Ability::Both), Purposes { encrypt: false, sign: false });
    }

    #[test]
    fn extended_key_usage() {
        assert_eq!(allows_mail(&[0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 4]), Ok(true));
        assert_eq!(allows_mail(&[0x30, 6, 6, 4, 0x55, 0x1d, 0x25, 0]), Ok(true));
        assert_eq!(allows_mail(&[0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1]), Ok(false), "serverAuth");
        for malformed in [&[0x30, 0][..], &[], &[0x30, 3, 2, 1, 0], &[0x30, 3, 6, 2, 0x2b], &[0x30, 3, 6, 1, 0x2b, 0]] {
            assert!(allows_mail(malformed).is_err(), "{malformed:02x?}");
        }
    }

    #[test]
    fn basic_constraints() {
        assert_eq!(is_ca(&[0x30, 0]), Ok(false));
        assert_eq!(is_ca(&[0x30, 3, 1, 1, 0xff]), Ok(true));
        assert_eq!(is_ca(&[0x30, 3, 1, 1, 0]), Ok(false));
        assert_eq!(is_ca(&[0x30, 6, 1, 1, 0xff, 2, 1, 0]), Ok(true));
        for malformed in [&[0x30, 3, 1, 1, 1][..], &[0x30, 3, 4, 1, 0], &[0x30, 2, 1, 0], &[0x30, 0, 0], &[]] {
            assert!(is_ca(malformed).is_err(), "{malformed:02x?}");
        }
    }
}
