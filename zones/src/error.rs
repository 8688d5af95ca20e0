//! The one error type of this crate.

/// What went wrong, in words that say what to do. [`Error::code`] is stable; the text may change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no e-mail address (RFC 5322 section 3.4.1, RFC 6531 section 3.3).
    #[error("{text:?} is not an e-mail address: {reason}")]
    Address {
        /// What was given, shortened.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The text is no mail domain.
    #[error("{text:?} is not a mail domain: {reason}")]
    Domain {
        /// What was given, shortened.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The text or the octets are no domain name (RFC 1035 section 3.1).
    #[error("not a domain name: {reason}")]
    Name {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The address has no place in a zone as an owner of CERT records.
    #[error("{address} cannot own a CERT record: {reason}; publish it as SMIMEA only")]
    CertOwner {
        /// The address.
        address: String,
        /// Why not.
        reason: &'static str,
    },
    /// Not a mnemonic that certdir knows, and not `TYPEnnn` (RFC 3597 section 5).
    #[error("{0:?} is not a record type: give a mnemonic such as SMIMEA, or TYPE and a number")]
    RecordType(String),
    /// RDATA that does not have the form of its type.
    #[error("malformed {rtype} record: {reason}")]
    Rdata {
        /// The type's mnemonic.
        rtype: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An RRset has at least one record.
    #[error("an RRset needs at least one record")]
    EmptyRrset,
    /// More than fits a DNS message together with its signature and proofs.
    #[error(
        "the records of one name and type take {octets} octets; {limit} fit a DNS message: publish fewer or smaller certificates"
    )]
    RrsetTooLarge {
        /// What the RRset takes.
        octets: usize,
        /// The limit: [`crate::rrset::MAX_RRSET`].
        limit: usize,
    },
    /// A TTL has 31 bits (RFC 2181 section 8).
    #[error("a TTL of {0} seconds is above 2147483647: give a smaller one")]
    Ttl(u32),
    /// The owner is not at or below the zone's apex.
    #[error("{owner} is outside the zone {apex}")]
    OutOfZone {
        /// The owner.
        owner: String,
        /// The zone.
        apex: String,
    },
    /// Not a PKCS#8 key for ECDSA P-256.
    #[error("the zone key cannot be read: it must be an ECDSA P-256 key in PKCS#8 form; restore it from a backup")]
    Key,
    /// The operating system gave no random octets, or the key refused.
    #[error("making a key or a signature failed: the system's random source gave nothing")]
    Random,
    /// A signature that does not hold (RFC 4035 section 5.3).
    #[error("the signature does not hold: {reason}")]
    Signature {
        /// Which check failed.
        reason: &'static str,
    },
    /// The zone lacks what every zone has.
    #[error("the zone {apex} has no {missing} record at its apex yet: sign the zone before exporting it")]
    IncompleteZone {
        /// The zone.
        apex: String,
        /// The missing type's mnemonic.
        missing: &'static str,
    },
    /// A master-file fragment with faults: all of them, each with its line.
    #[error("{}", crate::fragment::faults(.0))]
    Fragment(Vec<crate::Fault>),
    /// A message of DNS Stateful Operations that breaks a rule of RFC 8490 or RFC 8765.
    #[error("malformed stateful DNS message: {reason}")]
    Stateful {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The text could not be written.
    #[error("writing the zone failed: {0}")]
    Write(String),
}

impl Error {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::Address { .. } => "bad-address",
            Error::Domain { .. } => "bad-domain",
            Error::Name { .. } => "bad-name",
            Error::CertOwner { .. } => "no-cert-owner",
            Error::RecordType(_) => "bad-record-type",
            Error::Rdata { .. } => "bad-rdata",
            Error::EmptyRrset => "empty-rrset",
            Error::RrsetTooLarge { .. } => "rrset-too-large",
            Error::Ttl(_) => "bad-ttl",
            Error::OutOfZone { .. } => "out-of-zone",
            Error::Key => "bad-zone-key",
            Error::Random => "no-random",
            Error::Signature { .. } => "bad-signature",
            Error::IncompleteZone { .. } => "incomplete-zone",
            Error::Fragment(_) => "bad-records",
            Error::Stateful { .. } => "bad-stateful-message",
            Error::Write(_) => "write-failed",
        }
    }
}

/// Text for a message: at most 80 characters of what was given.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
        None => text.to_owned(),
    }
}
