//! A name server in the test itself: it signs its zones with its own keys, and lies as it is told.
//!
//! Records are octets here and nothing is parsed, so that everything wrong can be said as well.

pub(crate) mod keys;
pub(crate) mod server;
pub(crate) mod zone;

use hickory_resolver::proto::rr::Name;

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const TXT: u16 = 16;
pub(crate) const DNAME: u16 = 39;
pub(crate) const DS: u16 = 43;
pub(crate) const RRSIG: u16 = 46;
pub(crate) const NSEC: u16 = 47;
pub(crate) const DNSKEY: u16 = 48;
pub(crate) const NSEC3: u16 = 50;
pub(crate) const NSEC3PARAM: u16 = 51;
pub(crate) const SMIMEA: u16 = 53;

pub(crate) const NOERROR: u8 = 0;
pub(crate) const NXDOMAIN: u8 = 3;
pub(crate) const REFUSED: u8 = 5;

/// A record of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rr {
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

impl Rr {
    pub(crate) fn new(name: &Name, kind: u16, data: Vec<u8>) -> Rr {
        Rr { name: name.clone(), kind, ttl: 300, data }
    }

    /// The type that a signature covers.
    pub(crate) fn covers(&self, kind: u16) -> bool {
        self.kind == RRSIG && self.data[..2] == kind.to_be_bytes()
    }
}

/// A name from its text, absolute.
pub(crate) fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

/// Where the SMIMEA records of an address are.
pub(crate) fn owner(at: &str) -> Name {
    name(&certdir_zones::smimea_owner(&crate::servers::address(at)).to_string())
}

/// A label in front of a name.
pub(crate) fn under(label: &str, name: &Name) -> Name {
    name.prepend_label(label).unwrap()
}

/// The name in wire form, as it is written.
pub(crate) fn wire(name: &Name) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.iter() {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend_from_slice(label);
    }
    octets.push(0);
    octets
}

/// The name in canonical wire form (RFC 4034 section 6.2).
pub(crate) fn canonical(name: &Name) -> Vec<u8> {
    wire(&name.to_lowercase())
}

/// Labels without the root and without a leading asterisk (RFC 4034 section 3.1.3).
pub(crate) fn labels(name: &Name) -> u8 {
    let wildcard = name.iter().next() == Some(b"*");
    u8::try_from(name.iter().count()).unwrap() - u8::from(wildcard)
}
