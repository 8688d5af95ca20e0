//! Distinguished names: their attributes, and their text by RFC 4514.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::der::{self, Element, Problem, tag};
use crate::oid;

/// commonName, X.520.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// domainComponent, RFC 4519 section 2.4.
pub(crate) const DOMAIN_COMPONENT: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19];
/// emailAddress, RFC 2985 section 5.2.1.
pub(crate) const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];

/// A `Name` (RFC 5280 section 4.1.2.4), taken apart and not copied.
pub(crate) struct DistinguishedName<'a> {
    attributes: Vec<Attribute<'a>>,
}

/// One attribute of a name.
pub(crate) struct Attribute<'a> {
    pub(crate) oid: &'a [u8],
    value: Element<'a>,
    /// Whether it stands in the same relative name as the attribute before it.
    joined: bool,
}

impl<'a> DistinguishedName<'a> {
    pub(crate) fn read(element: &Element<'a>) -> Result<DistinguishedName<'a>, Problem> {
        let mut attributes = Vec::with_capacity(8);
        let mut relative_names = element.open();
        while !relative_names.is_empty() {
            let mut relative_name = relative_names.expect(tag::SET)?.open();
            let mut joined = false;
            loop {
                let mut attribute = relative_name.expect(tag::SEQUENCE)?.open();
                let oid = attribute.expect(tag::OID)?.value;
                let value = attribute.next()?;
                attribute.finish()?;
                attributes.push(Attribute { oid, value, joined });
                joined = true;
                if relative_name.is_empty() {
                    break;
                }
            }
        }
        Ok(DistinguishedName { attributes })
    }

    /// In the order of the encoding: the most general first.
    pub(crate) fn attributes(&self) -> &[Attribute<'a>] {
        &self.attributes
    }

    /// RFC 4514 section 2.1: the last relative name first.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(128);
        for relative_name in self.attributes.chunk_by(|_, next| next.joined).rev() {
            for attribute in relative_name {
                if !text.is_empty() {
                    text.push(if attribute.joined { '+' } else { ',' });
                }
                attribute.write(&mut text);
            }
        }
        text
    }
}

/// A name in a form that is equal for names that RFC 5280 section 7.1 calls equal: strings of any kind by their text,
/// without case, with white space at the ends removed and within made one blank; every other value by its octets. Made
/// of one part for each relative name, so that a name below another begins with it.
pub(crate) fn canonical(name: &DistinguishedName<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    for relative_name in name.attributes.chunk_by(|_, next| next.joined) {
        canonical_relative(relative_name, &mut out);
    }
    out
}

/// The same from DER: a `Name`.
pub(crate) fn canonical_name(element: &Element<'_>) -> Result<Vec<u8>, Problem> {
    DistinguishedName::read(element).map(|name| canonical(&name))
}

/// One `RelativeDistinguishedName` (its contents) below a canonical name.
pub(crate) fn canonical_below(above: &[u8], relative_name: &[u8]) -> Result<Vec<u8>, Problem> {
    let set = der::write(tag::SET, &[relative_name]);
    let name = der::write(tag::SEQUENCE, &[&set]);
    let name = canonical_name(&der::only(&name, tag::SEQUENCE)?)?;
    Ok([above, &name].concat())
}

fn canonical_relative(attributes: &[Attribute<'_>], out: &mut Vec<u8>) {
    let mut parts: Vec<Vec<u8>> = attributes
        .iter()
        .map(|attribute| {
            let text = attribute.text().map(|text| text.to_lowercase());
            let words: Option<Vec<&str>> = text.as_ref().map(|text| text.split_whitespace().collect());
            match words {
                Some(words) => {
                    let text = words.join(" ");
                    der::write(tag::SEQUENCE, &[&der::write(tag::OID, &[attribute.oid]), text.as_bytes()])
                }
                None => der::write(tag::SET, &[&der::write(tag::OID, &[attribute.oid]), attribute.value.raw]),
            }
        })
        .collect();
    // A SET has no order of its own, and that of DER is one of the encodings.
    parts.sort_unstable();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    out.extend_from_slice(&der::write(tag::SET, &parts));
}

impl<'a> Attribute<'a> {
    /// The value as text; `None` if it is no string, or none of its declared kind.
    pub(crate) fn text(&self) -> Option<Cow<'a, str>> {
        let octets = self.value.value;
        match self.value.tag {
            tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING | tag::NUMERIC_STRING | tag::VISIBLE_STRING => {
                std::str::from_utf8(octets).ok().map(Cow::Borrowed)
            }
            // T.61 in the letter, ISO 8859-1 in practice.
            tag::TELETEX_STRING => Some(octets.iter().map(|octet| char::from(*octet)).collect()),
            tag::BMP_STRING => {
                let (pairs, rest) = octets.as_chunks::<2>();
                let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
                rest.is_empty().then(|| char::decode_utf16(units).collect::<Result<_, _>>().ok())?
            }
            tag::UNIVERSAL_STRING => {
                let (quads, rest) = octets.as_chunks::<4>();
                rest.is_empty().then(|| quads.iter().map(|quad| char::from_u32(u32::from_be_bytes(*quad))).collect())?
            }
            _ => None,
        }
    }

    /// RFC 4514 section 2.3: a short name with the value as text, else the dotted type with the value's DER in hex.
    fn write(&self, out: &mut String) {
        match (short_name(self.oid), self.text()) {
            (Some(name), Some(text)) => {
                out.push_str(name);
                out.push('=');
                write_escaped(&text, out);
            }
            (name, _) => {
                match name {
                    Some(name) => out.push_str(name),
                    None => out.push_str(&oid::dotted(self.oid)),
                }
                out.push_str("=#");
                data_encoding::HEXLOWER.encode_append(self.value.raw, out);
            }
        }
    }
}

/// RFC 4514 section 2.4. Control characters are escaped as well, so that the text stays on its line.
fn write_escaped(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (place, character) in text.char_indices() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            ' ' if place == 0 || place == last => out.push_str("\\ "),
            '#' if place == 0 => out.push_str("\\#"),
            control if control.is_control() => {
                for octet in control.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\{octet:02x}");
                }
            }
            other => out.push(other),
        }
    }
}

/// The short names of RFC 4514 section 3, and those of RFC 4519 and RFC 2985 that certificates use.
fn short_name(oid: &[u8]) -> Option<&'static str> {
    Some(match oid {
        COMMON_NAME => "CN",
        DOMAIN_COMPONENT => "DC",
        EMAIL_ADDRESS => "emailAddress",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x55, 0x04, attribute] => match attribute {
            4 => "SN",
            5 => "serialNumber",
            6 => "C",
            7 => "L",
            8 => "ST",
            9 => "STREET",
            10 => "O",
            11 => "OU",
            12 => "title",
            17 => "postalCode",
            42 => "givenName",
            43 => "initials",
            44 => "generationQualifier",
            46 => "dnQualifier",
            65 => "pseudonym",
            97 => "organizationIdentifier",
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut tlv = vec![tag, u8::try_from(value.len()).unwrap()];
        tlv.extend_from_slice(value);
        tlv
    }

    fn attribute(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(tag::SEQUENCE, &[tlv(tag::OID, oid), tlv(tag, value)].concat())
    }

    fn text(relative_names: &[Vec<u8>]) -> Result<String, &'static str> {
        let name = tlv(tag::SEQUENCE, &relative_names.concat());
        DistinguishedName::read(&der::only(&name, tag::SEQUENCE)?).map(|name| name.text())
    }

    fn one(tag: u8, value: &[u8]) -> String {
        text(&[tlv(tag::SET, &attribute(COMMON_NAME, tag, value))]).unwrap()
    }

    /// The examples of RFC 4514 section 4, and its escapes.
    #[test]
    fn text_is_that_of_rfc_4514() {
        let rdn = |oid: &[u8], value: &str| tlv(tag::SET, &attribute(oid, tag::UTF8_STRING, value.as_bytes()));
        let uid = [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01];
        let (dc, ou) = (DOMAIN_COMPONENT, &[0x55, 4, 11][..]);
        assert_eq!(
            text(&[rdn(dc, "net"), rdn(dc, "example"), rdn(&uid, "jsmith")]).unwrap(),
            "UID=jsmith,DC=example,DC=net"
        );
        let joined = tlv(
            tag::SET,
            &[attribute(ou, tag::UTF8_STRING, b"Sales"), attribute(COMMON_NAME, tag::UTF8_STRING, b"J.  Smith")]
                .concat(),
        );
        assert_eq!(
            text(&[rdn(dc, "net"), rdn(dc, "example"), joined]).unwrap(),
            "OU=Sales+CN=J.  Smith,DC=example,DC=net"
        );
        assert_eq!(
            text(&[rdn(dc, "net"), rdn(COMMON_NAME, "James \"Jim\" Smith, III")]).unwrap(),
            "CN=James \\\"Jim\\\" Smith\\, III,DC=net"
        );
        assert_eq!(text(&[rdn(COMMON_NAME, "Before\rAfter")]).unwrap(), "CN=Before\\0dAfter");
        assert_eq!(text(&[rdn(COMMON_NAME, "Lučić")]).unwrap(), "CN=Lučić");
        assert_eq!(text(&[rdn(COMMON_NAME, " #x ")]).unwrap(), "CN=\\ #x\\ ");
        assert_eq!(text(&[rdn(COMMON_NAME, "#x")]).unwrap(), "CN=\\#x");
        assert_eq!(text(&[rdn(COMMON_NAME, " ")]).unwrap(), "CN=\\ ");
        let octets = tlv(tag::SET, &attribute(&[0x2b, 6, 1, 4, 1, 0x8b, 0x3a, 0], tag::OCTET_STRING, b"Hi"));
        assert_eq!(text(&[octets]).unwrap(), "1.3.6.1.4.1.1466.0=#04024869");
        assert_eq!(text(&[]).unwrap(), "");
    }

    #[test]
    fn every_directory_string_is_read() {
        assert_eq!(one(tag::TELETEX_STRING, b"M\xfcller"), "CN=Müller");
        assert_eq!(one(tag::BMP_STRING, &[0, b'M', 0, 0xfc, 0xd8, 0x3d, 0xde, 0x00]), "CN=Mü😀");
        assert_eq!(one(tag::UNIVERSAL_STRING, &[0, 0, 0, b'M', 0, 1, 0xf6, 0]), "CN=M😀");
        assert_eq!(one(tag::BMP_STRING, &[0xd8, 0]), "CN=#1e02d800", "half a surrogate pair");
        assert_eq!(one(tag::BMP_STRING, &[0]), "CN=#1e0100");
        assert_eq!(one(tag::UTF8_STRING, &[0xff]), "CN=#0c01ff");
    }

    #[test]
    fn malformed_names_are_problems() {
        assert!(text(&[tlv(tag::SET, &[])]).is_err());
        assert!(text(&[tlv(tag::SEQUENCE, &[])]).is_err());
        assert!(text(&[tlv(tag::SET, &tlv(tag::SEQUENCE, &tlv(tag::OID, COMMON_NAME)))]).is_err());
    }
}
