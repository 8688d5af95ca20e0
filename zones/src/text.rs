//! Master-file text (RFC 1035 section 5.1): records as a person reads them, the whole zone as a signed file, and the
//! texts that tie a zone to its parent or to a validator.

use crate::denial::{self, Hash};
use crate::{Error, Name, Node, Rdata, RecordType, Rrset, SignedRrset, Zone, ZoneKey};
use certdir_certificate::Calendar;
use data_encoding::{BASE32_DNSSEC, BASE64, HEXUPPER};
use std::fmt::Write as _;
use std::io::Write;

/// TTL in the texts for a parent zone and for validators, where the reader's own policy counts, not ours.
const ANCHOR_TTL: u32 = 3600;

/// When a signature holds: seconds since 1970 in serial number arithmetic, both ends inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub inception: u32,
    /// The last second.
    pub expiration: u32,
}

/// Writes the zone as a signed master file that any name server can load: SOA first, names in canonical order, then the
/// full NSEC3 chain (RFC 5155 section 7.1; parameters of RFC 9276 section 3.1).
///
/// Signatures of stored RRsets are the stored ones, as the zone's answers show them; so is the chain of a zone that has one.
/// Otherwise NSEC3PARAM and the chain exist only in the file and are signed here for `validity`. Errors: no SOA or no DNSKEY at the apex; `out` refuses.
pub fn write_zone(zone: &Zone, validity: Validity, out: &mut dyn Write) -> Result<(), Error> {
    let key = zone.key();
    let sign =
        |owner: &Name, rrset: &Rrset| key.sign(zone.apex(), owner, rrset, validity.inception, validity.expiration);
    let mut names: Vec<(&Name, &Node)> = zone.names().collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    let missing = |rtype: &'static str| Error::IncompleteZone { apex: zone.apex().to_string(), missing: rtype };
    let apex = zone.get(zone.apex().as_wire()).ok_or(missing("SOA"))?;
    let soa = apex.rrset(RecordType::SOA).ok_or(missing("SOA"))?;
    apex.rrset(RecordType::DNSKEY).ok_or(missing("DNSKEY"))?;
    write_signed(zone.apex(), soa, out)?;
    if zone.chain().is_none() {
        let nsec3param = Rrset::new(RecordType::NSEC3PARAM, zone.denial_ttl(), vec![denial::nsec3param()])?;
        write_signed(zone.apex(), &sign(zone.apex(), &nsec3param)?, out)?;
    }
    for (name, node) in &names {
        for signed in node.rrsets() {
            if signed.rrset.rtype != RecordType::SOA || *name != zone.apex() {
                write_signed(name, signed, out)?;
            }
        }
    }

    if let Some(chain) = zone.chain() {
        return chain
            .links()
            .try_for_each(|link| write_signed(&denial::nsec3_owner(link.hash, zone.apex())?, link.signed, out));
    }
    let linked = names.into_iter().filter(|(name, _)| !zone.occludes(name.as_wire()));
    let mut chain: Vec<(Hash, &Name, &Node)> =
        linked.map(|(name, node)| (denial::nsec3_hash(name.as_wire()), name, node)).collect();
    chain.sort_unstable_by_key(|(hash, _, _)| *hash);
    let next = chain.iter().cycle().skip(1).map(|(hash, _, _)| *hash);
    for ((hash, name, node), next) in chain.iter().zip(next) {
        let shown_only_here = (*name == zone.apex()).then_some(RecordType::NSEC3PARAM);
        let bitmap = denial::type_bitmap(denial::node_types(node).chain(shown_only_here));
        let rrset = Rrset::new(RecordType::NSEC3, zone.denial_ttl(), vec![denial::nsec3(next, &bitmap)])?;
        let owner = denial::nsec3_owner(*hash, zone.apex())?;
        write_signed(&owner, &sign(&owner, &rrset)?, out)?;
    }
    Ok(())
}

/// Writes the DS record that the parent zone needs.
pub fn write_ds(apex: &Name, key: &ZoneKey, out: &mut dyn Write) -> Result<(), Error> {
    write_record(apex, ANCHOR_TTL, RecordType::DS, &key.ds(apex), out)
}

/// Writes the DNSKEY record: what a validator that reads master-file form takes as a trust anchor.
pub fn write_dnskey(apex: &Name, key: &ZoneKey, out: &mut dyn Write) -> Result<(), Error> {
    write_record(apex, ANCHOR_TTL, RecordType::DNSKEY, &key.dnskey(), out)
}

/// Writes the key as a `trust-anchors` statement, the form that `delv -a` and `named` read.
pub fn write_trust_anchors(apex: &Name, key: &ZoneKey, out: &mut dyn Write) -> Result<(), Error> {
    let dnskey = presentation(RecordType::DNSKEY, &key.dnskey());
    let (numbers, public) = dnskey.rsplit_once(' ').unwrap_or_default();
    writeln!(out, "trust-anchors {{\n\t\"{apex}\" static-key {numbers} \"{public}\";\n}};").map_err(refused)
}

fn write_signed(owner: &Name, signed: &SignedRrset, out: &mut dyn Write) -> Result<(), Error> {
    for rdata in signed.rrset.rdata() {
        write_record(owner, signed.rrset.ttl, signed.rrset.rtype, rdata, out)?;
    }
    if signed.rrsig.is_empty() {
        Ok(())
    } else {
        write_record(owner, signed.rrset.ttl, RecordType::RRSIG, &signed.rrsig, out)
    }
}

fn write_record(owner: &Name, ttl: u32, rtype: RecordType, rdata: &Rdata, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(out, "{owner} {ttl} IN {rtype} {}", presentation(rtype, rdata)).map_err(refused)
}

fn refused(error: std::io::Error) -> Error {
    Error::Write(error.to_string())
}

/// RDATA in the presentation form of its type; in the generic form of RFC 3597 section 5 where certdir has no other for the
/// type, or the RDATA is malformed for it.
#[must_use]
pub fn presentation(rtype: RecordType, rdata: &[u8]) -> String {
    let mut fields = Fields { rest: rdata };
    match typed(rtype, &mut fields) {
        Some(text) if fields.rest.is_empty() => text,
        _ if rdata.is_empty() => "\\# 0".to_owned(),
        _ => format!("\\# {} {}", rdata.len(), HEXUPPER.encode(rdata)),
    }
}

fn typed(rtype: RecordType, fields: &mut Fields<'_>) -> Option<String> {
    Some(match rtype {
        // RFC 1035 section 3.4.1
        RecordType::A => {
            let [a, b, c, d] = fields.octets()?;
            format!("{a}.{b}.{c}.{d}")
        }
        // RFC 3596 section 2.4, RFC 4291 section 2.2 form 1
        RecordType::AAAA => {
            let octets: [u8; 16] = fields.octets()?;
            let groups: Vec<String> = octets
                .chunks(2)
                .map(|pair| format!("{:x}", pair.iter().fold(0u16, |group, octet| group << 8 | u16::from(*octet))))
                .collect();
            groups.join(":")
        }
        // RFC 1035 section 3.3, RFC 6672 section 2.1
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => fields.name()?.to_string(),
        // RFC 1035 section 3.3.13
        RecordType::SOA => {
            let (mname, rname) = (fields.name()?, fields.name()?);
            let [serial, refresh, retry, expire, minimum] =
                [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
            format!("{mname} {rname} {serial} {refresh} {retry} {expire} {minimum}")
        }
        // RFC 1035 section 3.3.9
        RecordType::MX => format!("{} {}", fields.u16()?, fields.name()?),
        // RFC 1035 section 3.3.14
        RecordType::TXT => {
            let mut text = fields.character_string()?;
            while !fields.rest.is_empty() {
                text.push(' ');
                text += &fields.character_string()?;
            }
            text
        }
        // RFC 2782
        RecordType::SRV => format!("{} {} {} {}", fields.u16()?, fields.u16()?, fields.u16()?, fields.name()?),
        // RFC 3403 section 4.1
        RecordType::NAPTR => {
            let (order, preference) = (fields.u16()?, fields.u16()?);
            let (flags, services, expression) =
                (fields.character_string()?, fields.character_string()?, fields.character_string()?);
            format!("{order} {preference} {flags} {services} {expression} {}", fields.name()?)
        }
        // RFC 8659 section 4.1.1
        RecordType::CAA => {
            let (flags, length) = (fields.u8()?, fields.u8()?);
            let tag = fields.take(length.into())?;
            if tag.is_empty() || !tag.iter().all(u8::is_ascii_alphanumeric) {
                return None;
            }
            let value = quoted(std::mem::take(&mut fields.rest))?;
            format!("{flags} {} {value}", String::from_utf8_lossy(tag))
        }
        // RFC 4255 section 3.2
        RecordType::SSHFP => format!("{} {} {}", fields.u8()?, fields.u8()?, HEXUPPER.encode(fields.some()?)),
        // RFC 7929 section 2.3
        RecordType::OPENPGPKEY => BASE64.encode(fields.some()?),
        // RFC 6698 section 2.2, RFC 8162 section 2
        RecordType::TLSA | RecordType::SMIMEA => {
            format!("{} {} {} {}", fields.u8()?, fields.u8()?, fields.u8()?, HEXUPPER.encode(fields.some()?))
        }
        // RFC 4398 section 2.2; numbers, which every reader takes
        RecordType::CERT => {
            format!("{} {} {} {}", fields.u16()?, fields.u16()?, fields.u8()?, BASE64.encode(fields.some()?))
        }
        // RFC 4034 section 5.3, RFC 7344 section 3.1
        RecordType::DS | RecordType::CDS => {
            format!("{} {} {} {}", fields.u16()?, fields.u8()?, fields.u8()?, HEXUPPER.encode(fields.some()?))
        }
        // RFC 4034 section 2.2, RFC 7344 section 3.2
        RecordType::DNSKEY | RecordType::CDNSKEY => {
            format!("{} {} {} {}", fields.u16()?, fields.u8()?, fields.u8()?, BASE64.encode(fields.some()?))
        }
        // RFC 4034 section 3.2
        RecordType::RRSIG => {
            let (covered, algorithm, labels, ttl) =
                (RecordType(fields.u16()?), fields.u8()?, fields.u8()?, fields.u32()?);
            let (expiration, inception, tag, signer) =
                (digits(fields.u32()?), digits(fields.u32()?), fields.u16()?, fields.name()?);
            format!(
                "{covered} {algorithm} {labels} {ttl} {expiration} {inception} {tag} {signer} {}",
                BASE64.encode(fields.some()?)
            )
        }
        // RFC 4034 section 4.2
        RecordType::NSEC => format!("{}{}", fields.name()?, fields.bitmap()?),
        // RFC 5155 section 3.3
        RecordType::NSEC3 => {
            let (algorithm, flags, iterations, salt) = (fields.u8()?, fields.u8()?, fields.u16()?, fields.salt()?);
            let len = fields.u8()?;
            let next = BASE32_DNSSEC.encode(fields.take(len.into())?);
            format!("{algorithm} {flags} {iterations} {salt} {next}{}", fields.bitmap()?)
        }
        // RFC 5155 section 4.3
        RecordType::NSEC3PARAM => format!("{} {} {} {}", fields.u8()?, fields.u8()?, fields.u16()?, fields.salt()?),
        _ => return None,
    })
}

/// Reads RDATA from the left; none where it is too short.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn octets<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn u8(&mut self) -> Option<u8> {
        self.octets().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.octets().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.octets().map(u32::from_be_bytes)
    }

    /// Everything that is left, at least one octet.
    fn some(&mut self) -> Option<&'a [u8]> {
        let taken = std::mem::take(&mut self.rest);
        (!taken.is_empty()).then_some(taken)
    }

    fn name(&mut self) -> Option<Name> {
        let (name, rest) = Name::split_from(self.rest).ok()?;
        self.rest = rest;
        Some(name)
    }

    /// A `<character-string>` in quotes (RFC 1035 section 5.1).
    fn character_string(&mut self) -> Option<String> {
        let len = self.u8()?;
        quoted(self.take(len.into())?)
    }

    /// A salt with its length before it; `-` is none (RFC 5155 section 3.3).
    fn salt(&mut self) -> Option<String> {
        match self.u8()? {
            0 => Some("-".to_owned()),
            len => Some(HEXUPPER.encode(self.take(len.into())?)),
        }
    }

    /// A type bitmap (RFC 4034 section 4.1.2), a space before each type.
    fn bitmap(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut previous = None;
        while !self.rest.is_empty() {
            let (window, len) = (self.u8()?, self.u8()?);
            if previous >= Some(window) || !(1..=32).contains(&len) {
                return None;
            }
            previous = Some(window);
            for (octet, place) in self.take(len.into())?.iter().zip((0u16..).step_by(8)) {
                for bit in (0..8).filter(|bit| octet & (0x80 >> bit) != 0) {
                    write!(text, " {}", RecordType(u16::from(window) << 8 | (place + bit))).ok()?;
                }
            }
        }
        Some(text)
    }
}

/// Octets in quotes, with the escapes of RFC 1035 section 5.1.
fn quoted(octets: &[u8]) -> Option<String> {
    let mut text = "\"".to_owned();
    for &octet in octets {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(octet)]),
            b' '..=b'~' => text.push(char::from(octet)),
            _ => write!(text, "\\{octet:03}").ok()?,
        }
    }
    text.push('"');
    Some(text)
}

/// A time in RRSIG text: `YYYYMMDDHHmmSS` in UTC (RFC 4034 section 3.2).
fn digits(seconds: u32) -> String {
    Calendar::of(seconds.into()).digits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form() {
        let name = b"\x01a\x00";
        for (rtype, rdata, expected) in [
            (RecordType::A, &[192, 0, 2, 1][..], "192.0.2.1"),
            (
                RecordType::AAAA,
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd],
                "2001:db8:0:0:0:0:0:abcd",
            ),
            (RecordType::NS, name, "a."),
            (RecordType::DNAME, name, "a."),
            (RecordType::MX, &[0, 10, 1, b'a', 0], "10 a."),
            (RecordType::SRV, &[0, 1, 0, 2, 1, 133, 1, b'a', 0], "1 2 389 a."),
            (RecordType::TXT, b"\x04a\"\\\x7f\x00", r#""a\"\\\127" """#),
            (RecordType::SMIMEA, &[3, 0, 0, 0x30, 0xab], "3 0 0 30AB"),
            (RecordType::CERT, &[0, 1, 0, 0, 0, 0x30, 0], "1 0 0 MAA="),
            (RecordType::DS, &[1, 2, 13, 2, 0xff], "258 13 2 FF"),
            (RecordType::NSEC, &[1, b'a', 0, 0, 1, 0x40], "a. A"),
            (RecordType::NSEC3, &[1, 0, 0, 5, 2, 0xaa, 0xbb, 1, 0], "1 0 5 AABB 00"),
            (RecordType::NSEC3, &[1, 1, 0, 0, 0, 1, 0, 0, 1, 0x40, 1, 1, 0x80], "1 1 0 - 00 A TYPE256"),
            (RecordType::NSEC3PARAM, &[1, 0, 0, 0, 0], "1 0 0 -"),
            (RecordType(65_280), &[1, 2], r"\# 2 0102"),
            (RecordType(65_280), &[], r"\# 0"),
        ] {
            assert_eq!(presentation(rtype, rdata), expected, "{rtype}");
        }
    }

    /// RFC 3597 section 5: the generic form is good for every type; it is taken for what is malformed.
    #[test]
    fn malformed_rdata_is_shown_as_octets() {
        for (rtype, rdata) in [
            (RecordType::A, &[1, 2, 3][..]),
            (RecordType::A, &[1, 2, 3, 4, 5]),
            (RecordType::NS, &[1, b'a']),
            (RecordType::NS, &[0xc0, 0]),
            (RecordType::TXT, &[2, b'a']),
            (RecordType::SMIMEA, &[3, 0, 0]),
            (RecordType::CERT, &[0, 1, 0, 0, 0]),
            (RecordType::SOA, &[0, 0, 1]),
            // Bitmaps: windows out of order, empty, too long.
            (RecordType::NSEC, &[0, 1, 1, 0x80, 0, 1, 0x80]),
            (RecordType::NSEC, &[0, 0, 0]),
            (RecordType::NSEC, &[0, 0, 33, 0]),
        ] {
            let text = presentation(rtype, rdata);
            assert_eq!(text, format!("\\# {} {}", rdata.len(), HEXUPPER.encode(rdata)), "{rtype}");
        }
        assert_eq!(presentation(RecordType::A, &[]), "\\# 0");
    }

    proptest! {
        #[test]
        fn any_octets_have_a_text(rtype in 0u16..70, rdata in prop::collection::vec(any::<u8>(), 0..80)) {
            let text = presentation(RecordType(rtype), &rdata);
            prop_assert!(text.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{text:?}");
        }
    }
}
