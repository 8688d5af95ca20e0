//! What is asked of a certificate beside a path to a trust anchor.

use crate::time::UnixTime;

/// Whether a certificate whose revocation status cannot be learned is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevocationMode {
    /// No: every certificate below the anchor must be known to be good.
    #[default]
    Hard,
    /// Yes, and the path says that it is undetermined. What is known to be revoked is refused.
    Soft,
    /// Nothing is looked at, not even what is at hand.
    Off,
}

/// Whom the certificate must name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Named {
    /// Anybody.
    #[default]
    Anybody,
    /// This mail address, `local@domain`; see [`Certificate::names_address`](crate::Certificate::names_address).
    Address(String),
    /// This mail domain as a whole; see [`Certificate::names_domain`](crate::Certificate::names_domain).
    Domain(String),
}

/// What the certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// Mail is encrypted to it: extended key usage emailProtection or any (RFC 8550 section 4.4.4), along the whole path;
    /// key usage keyEncipherment or keyAgreement (section 4.4.2); a key that can encrypt.
    #[default]
    Encryption,
    /// Anything: only the path is looked at.
    Anything,
}

/// The policy inputs of RFC 5280 section 6.1.1. The default asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies {
    /// Acceptable policies as dotted object identifiers; empty means any.
    pub initial: Vec<String>,
    /// Whether the path must be valid for one of them.
    pub explicit: bool,
    /// Whether policy mapping is forbidden.
    pub inhibit_mapping: bool,
    /// Whether anyPolicy does not count.
    pub inhibit_any: bool,
}

/// A reference to a certificate or key by content, as in a TLSA or SMIMEA record (RFC 6698 sections 2.1.2 to 2.1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// 0: the certificate; 1: its `SubjectPublicKeyInfo`.
    pub selector: u8,
    /// 0: as it is; 1: its SHA-256; 2: its SHA-512.
    pub matching: u8,
    /// What it is compared with.
    pub data: Vec<u8>,
}

/// What is asked of a certificate. The default is what a gateway wants before it encrypts; only the time must be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements {
    /// The time of the validation; every certificate, CRL and OCSP response must hold then.
    pub now: UnixTime,
    /// Whom it must name.
    pub named: Named,
    /// What it must be for.
    pub purpose: Purpose,
    /// What happens if the revocation status is not known.
    pub revocation: RevocationMode,
    /// Certificate policies.
    pub policies: Policies,
    /// Shortest RSA modulus anywhere on the path, in bits. Signatures by keys below 2048 bits are never verified.
    pub minimum_rsa_bits: u32,
    /// Smallest curve anywhere on the path, in bits of its field.
    pub minimum_ec_bits: u32,
    /// Whether a leaf without key usage is accepted (RFC 8550 section 4.4.2: no restriction).
    pub admit_missing_key_usage: bool,
    /// Whether a leaf without extended key usage is accepted (RFC 8550 section 4.4.4: no restriction).
    pub admit_missing_extended_key_usage: bool,
    /// If not empty: an authority of the path, or the anchor, must be one of these (usage 0 of RFC 6698). A path is
    /// searched until one fits.
    pub through: Vec<Association>,
}

impl Requirements {
    /// The defaults at this time: encryption, anybody, hard revocation, RSA of 2048 bits and EC of 256, missing extensions
    /// admitted as in RFC 8550, any policy.
    pub fn at(now: UnixTime) -> Requirements {
        Requirements {
            now,
            named: Named::default(),
            purpose: Purpose::default(),
            revocation: RevocationMode::default(),
            policies: Policies::default(),
            minimum_rsa_bits: 2048,
            minimum_ec_bits: 255,
            admit_missing_key_usage: true,
            admit_missing_extended_key_usage: true,
            through: Vec::new(),
        }
    }
}
