//! [`RecordType`]: the number of an RR type, and its name.

use crate::Error;
use std::fmt;
use std::str::FromStr;

/// An RR TYPE (IANA registry "Resource Record (RR) TYPEs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(
    /// The number.
    pub u16,
);

macro_rules! record_types {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl RecordType {
            $(#[doc = $doc] pub const $name: RecordType = RecordType($number);)*

            /// The mnemonic of a type that certdir names.
            #[must_use]
            pub fn mnemonic(self) -> Option<&'static str> {
                match self.0 { $($number => Some(stringify!($name)),)* _ => None }
            }

            fn from_mnemonic(text: &str) -> Option<RecordType> {
                $(if text.eq_ignore_ascii_case(stringify!($name)) { return Some(RecordType::$name); })*
                None
            }
        }
    };
}

record_types! {
    A = 1, "IPv4 address (RFC 1035).";
    NS = 2, "Name server (RFC 1035).";
    CNAME = 5, "Alias (RFC 1035).";
    SOA = 6, "Start of a zone (RFC 1035).";
    PTR = 12, "Pointer (RFC 1035).";
    MX = 15, "Mail exchange (RFC 1035).";
    TXT = 16, "Text (RFC 1035).";
    AAAA = 28, "IPv6 address (RFC 3596).";
    SRV = 33, "Service (RFC 2782).";
    NAPTR = 35, "Rules for rewriting names (RFC 3403).";
    CERT = 37, "Certificate (RFC 4398).";
    DNAME = 39, "Alias of a subtree (RFC 6672).";
    OPT = 41, "EDNS(0) (RFC 6891).";
    DS = 43, "Delegation signer (RFC 4034).";
    SSHFP = 44, "SSH key fingerprint (RFC 4255).";
    RRSIG = 46, "Signature (RFC 4034).";
    NSEC = 47, "Denial (RFC 4034).";
    DNSKEY = 48, "Zone key (RFC 4034).";
    NSEC3 = 50, "Hashed denial (RFC 5155).";
    NSEC3PARAM = 51, "Parameters of hashed denial (RFC 5155).";
    TLSA = 52, "TLS association (RFC 6698).";
    SMIMEA = 53, "S/MIME association (RFC 8162).";
    CDS = 59, "Child's DS (RFC 7344).";
    CDNSKEY = 60, "Child's DNSKEY (RFC 7344).";
    OPENPGPKEY = 61, "OpenPGP key (RFC 7929).";
    SVCB = 64, "Service binding (RFC 9460).";
    HTTPS = 65, "Service binding of the web (RFC 9460).";
    TSIG = 250, "Transaction signature (RFC 8945).";
    IXFR = 251, "Incremental transfer (RFC 1995).";
    AXFR = 252, "Transfer (RFC 5936).";
    ANY = 255, "Any type; only in questions (RFC 8482).";
    CAA = 257, "Which CAs may issue (RFC 8659).";
}

impl fmt::Display for RecordType {
    /// The mnemonic, or `TYPEnnn` (RFC 3597 section 5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(name) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl FromStr for RecordType {
    type Err = Error;

    /// A mnemonic or `TYPEnnn`, in any case.
    fn from_str(text: &str) -> Result<RecordType, Error> {
        if let Some(known) = RecordType::from_mnemonic(text) {
            return Ok(known);
        }
        let number = match text.split_at_checked(4) {
            Some((prefix, digits))
                if prefix.eq_ignore_ascii_case("TYPE") && digits.bytes().all(|d| d.is_ascii_digit()) =>
            {
                digits.parse().ok()
            }
            _ => None,
        };
        number.map(RecordType).ok_or_else(|| Error::RecordType(crate::error::shortened(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_back() {
        for number in 0..=u16::MAX {
            assert_eq!(RecordType(number).to_string().parse(), Ok(RecordType(number)));
        }
        for (text, rtype) in [
            ("smimea", RecordType::SMIMEA),
            ("TYPE53", RecordType::SMIMEA),
            ("type65280", RecordType(65_280)),
            ("NSEC3PARAM", RecordType::NSEC3PARAM),
        ] {
            assert_eq!(text.parse(), Ok(rtype));
        }
        for text in ["", "TYPE", "TYPE-1", "TYPE+1", "TYPE65536", "SMIME", "TYP", "ÄÄÄ1"] {
            assert_eq!(text.parse::<RecordType>().unwrap_err().code(), "bad-record-type", "{text}");
        }
    }
}
