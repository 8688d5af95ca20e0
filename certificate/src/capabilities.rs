//! What the owner's mail program can decrypt, where the certificate says it (RFC 4262).

use serde::Serialize;

use crate::certificate::Certificate;
use crate::der::{self, Problem, tag};
use crate::oid;
use crate::parts::Parts;

/// id-smime-capabilities, 1.2.840.113549.1.9.15.
const SMIME_CAPABILITIES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0f];
/// Most capabilities that are read.
const MOST: usize = 64;

/// One capability (RFC 8551 section 2.5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// The dotted object identifier.
    pub oid: String,
    /// Its usual name: `AES-256-CBC`, `AES-128-GCM`; `None` for one that is not known here.
    pub name: Option<&'static str>,
    /// The parameters in DER form, empty if there are none.
    pub parameters: Vec<u8>,
}

impl Certificate {
    /// The capabilities in the order of its owner's preference, the best first; empty if the certificate says nothing, or
    /// nothing that can be read. They are the authority's word at the time of issue, a hint for the choice of algorithm.
    pub fn capabilities(&self) -> Vec<Capability> {
        read(self).unwrap_or_default()
    }
}

fn read(certificate: &Certificate) -> Result<Vec<Capability>, Problem> {
    let parts = Parts::of(certificate)?;
    let Some(extension) = parts.extension(SMIME_CAPABILITIES) else {
        return Ok(Vec::new());
    };
    let mut reader = der::only(extension, tag::SEQUENCE)?.open();
    let mut all = Vec::new();
    while !reader.is_empty() && all.len() < MOST {
        let mut one = reader.expect(tag::SEQUENCE)?.open();
        let oid = one.expect(tag::OID)?.value;
        let parameters = if one.is_empty() { Vec::new() } else { one.next()?.raw.to_vec() };
        one.finish()?;
        all.push(Capability { oid: oid::dotted(oid), name: name(oid), parameters });
    }
    Ok(all)
}

/// The algorithms of RFC 8551 section 2.7 and those before it.
fn name(oid: &[u8]) -> Option<&'static str> {
    Some(match oid {
        // 2.16.840.1.101.3.4.1
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, arc] => match arc {
            2 => "AES-128-CBC",
            5 => "AES-128-WRAP",
            6 => "AES-128-GCM",
            22 => "AES-192-CBC",
            25 => "AES-192-WRAP",
            26 => "AES-192-GCM",
            42 => "AES-256-CBC",
            45 => "AES-256-WRAP",
            46 => "AES-256-GCM",
            _ => return None,
        },
        // 1.2.840.113549.3
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 7] => "DES-EDE3-CBC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 2] => "RC2-CBC",
        // 1.2.840.113549.1.9.16.3
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x03, 18] => "ChaCha20-Poly1305",
        oid => return oid::algorithm(oid).map(|known| known.name),
    })
}
