//! Owner names: where the records of an [`Address`] are found.

use crate::{Address, DomainName, Error, Name};
use sha2::{Digest, Sha256};

/// Octets of SHA-256 that RFC 8162 section 3 keeps.
const HASH: usize = 28;
const SMIMECERT: &[u8] = b"_smimecert";
/// The most labels that a local part makes in the form with dots. Each but the first is a name of its own in the zone, with a
/// place in its chain of denials: without a limit one mailbox makes more than a hundred.
const MAX_DOTTED: usize = 8;

/// `_smimecert.<domain>`: the apex of the zone that a domain delegates.
#[must_use]
pub fn smimecert_name(domain: &DomainName) -> Name {
    Name::from_labels_and_suffix(&[SMIMECERT], domain.name().as_wire())
}

/// The SMIMEA owner of an address (RFC 8162 section 3): SHA-256 of the local part, 28 octets of it in hex, then
/// `_smimecert` and the domain. The local part is hashed as it is: no lower-casing, no mapping (section 4).
#[must_use]
pub fn smimea_owner(address: &Address) -> Name {
    let digest = Sha256::digest(address.local().as_bytes());
    let hex = data_encoding::HEXLOWER.encode(digest.get(..HASH).unwrap_or_default());
    Name::from_labels_and_suffix(&[hex.as_bytes(), SMIMECERT], address.domain().name().as_wire())
}

/// `*._smimecert.<domain>`: where the domain-level certificate serves every address without one of its own.
#[must_use]
pub fn smimea_wildcard(domain: &DomainName) -> Name {
    Name::from_labels_and_suffix(&[b"*", SMIMECERT], domain.name().as_wire())
}

/// The CERT owner of an address: the local part as *one* label before the domain (RFC 4398 section 3.1, RFC 1035 section
/// 8), whatever dots it has.
///
/// Errors: a local part over 63 octets does not fit a label; `*` would be a wildcard; a name that begins with an underscore
/// is reserved (RFC 8552).
pub fn cert_owner(address: &Address) -> Result<Name, Error> {
    let refuse = |reason| Error::CertOwner { address: address.to_string(), reason };
    let local = address.local().as_bytes();
    if local == b"*" {
        return Err(refuse("its name would be a wildcard"));
    }
    if local.starts_with(b"_") {
        return Err(refuse("names that begin with an underscore are reserved"));
    }
    address.domain().name().prepend(local).map_err(|_| refuse("its local part is longer than the 63 octets of a label"))
}

/// Every CERT owner of an address: [`cert_owner`], and for a local part with dots also the name in which each dot
/// separates labels, where software of the Direct Project looks; that one only up to eight labels, none of them a wildcard or
/// reserved. May be empty: see [`cert_owner`] for what is left out.
#[must_use]
pub fn cert_owners(address: &Address) -> Vec<Name> {
    let mut owners: Vec<Name> = cert_owner(address).into_iter().collect();
    let labels: Vec<&[u8]> = address.local().as_bytes().split(|octet| *octet == b'.').collect();
    // RFC 4592 section 2.2.2: also an empty `*.<domain>`, above another name, speaks for every name that is absent.
    let reserved = labels.iter().any(|label| *label == b"*" || label.starts_with(b"_"));
    if (2..=MAX_DOTTED).contains(&labels.len()) && !reserved {
        let dotted = labels.iter().rev().try_fold(address.domain().name().clone(), |name, label| name.prepend(label));
        owners.extend(dotted);
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn owners(text: &str) -> Vec<String> {
        cert_owners(&address(text)).iter().map(Name::to_string).collect()
    }

    #[test]
    fn names_of_a_domain() {
        let domain = DomainName::parse("bücher.example").unwrap();
        assert_eq!(smimecert_name(&domain).to_string(), "_smimecert.xn--bcher-kva.example.");
        assert_eq!(smimea_wildcard(&domain).to_string(), "*._smimecert.xn--bcher-kva.example.");
        assert!(smimea_owner(&address("hugh@bücher.example")).is_at_or_below(&smimecert_name(&domain)));
    }

    #[test]
    fn cert_names() {
        assert_eq!(owners("Alice@example.org"), ["alice.example.org."]);
        assert_eq!(owners("john.smith@example.org"), [r"john\.smith.example.org.", "john.smith.example.org."]);
        assert_eq!(owners(r#""a b"@example.org"#), [r"a\032b.example.org."]);
        // Empty labels cannot be written with dots.
        assert_eq!(owners(r#""a..b"@example.org"#), [r"a\.\.b.example.org."]);
        assert_eq!(cert_owner(&address("john.smith@example.org")).unwrap().label_count(), 3);
    }

    #[test]
    fn names_that_cert_records_must_not_take() {
        // A wildcard, a name of the protocol's own, a label that is too long.
        let long = format!("{}@example.org", "x".repeat(64));
        for text in ["*@example.org", "_smimecert@example.org", "_dmarc@example.org", &long] {
            assert_eq!(cert_owner(&address(text)).unwrap_err().code(), "no-cert-owner", "{text}");
            assert_eq!(owners(text), [""; 0], "{text}");
        }
        // Harmless as one label, not with dots.
        assert_eq!(owners("*.a@example.org"), [r"*\.a.example.org."]);
        assert_eq!(owners("a._tcp@example.org"), [r"a\._tcp.example.org."]);
        assert_eq!(owners("a.*@example.org"), [r"a\.*.example.org."]);
        assert_eq!(owners("a.*.b@example.org"), [r"a\.*\.b.example.org."]);
        assert_eq!(owners("a._tcp.b@example.org"), [r"a\._tcp\.b.example.org."]);
        // Each label of the form with dots is a name in the zone.
        assert_eq!(owners("a.b.c.d.e.f.g.h@example.org").len(), 2);
        assert_eq!(owners("a.b.c.d.e.f.g.h.i@example.org").len(), 1);
        // Too long for one label, not with dots.
        let long = format!("{0}.{0}@example.org", "x".repeat(40));
        assert_eq!(owners(&long), [format!("{0}.{0}.example.org.", "x".repeat(40))]);
        assert!(cert_owner(&address(&format!("{}@example.org", "x".repeat(63)))).is_ok());
    }
}
