//! Whom a certificate names: mail addresses and domains, from the subject alternative name and the subject.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::der::{self, Element, Problem, tag};
use crate::distinguished_name::{self, DistinguishedName};
use crate::error::Error;

/// Most addresses and domains of one certificate. A certificate is published under each of its names, so that this
/// also bounds what one publication can cause. Real ones have fewer than ten.
pub const MAX_NAMES: usize = 1_000;

/// One mail address of a certificate, exactly as it is written there: not normalised, not checked to be an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MailName {
    /// The address. Never empty and without control characters.
    pub text: String,
    /// Where it is written.
    pub source: MailNameSource,
}

impl MailName {
    /// Whether only the subject has it, which RFC 8550 section 3 keeps for old certificates.
    pub fn legacy(&self) -> bool {
        self.source == MailNameSource::SubjectEmail
    }
}

/// Where in a certificate an address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailNameSource {
    /// `rfc822Name` of the subject alternative name (RFC 5280 section 4.2.1.6).
    Rfc822Name,
    /// `SmtpUTF8Mailbox`, an `otherName` (RFC 9598 section 3).
    SmtpUtf8Mailbox,
    /// `emailAddress` of the subject (RFC 2985 section 5.2.1).
    SubjectEmail,
}

/// All names of one certificate.
#[derive(Clone, Default)]
pub(crate) struct Names {
    pub(crate) addresses: Vec<MailName>,
    pub(crate) domains: Vec<String>,
    pub(crate) common_name: Option<String>,
    /// There is an address, or a dNSName of whatever form.
    pub(crate) somebody: bool,
}

impl Names {
    /// `alternative` is the contents of the subject alternative name extension.
    pub(crate) fn read(subject: &DistinguishedName<'_>, alternative: Option<&[u8]>) -> Result<Names, Error> {
        let mut found = Found { addresses: Vec::new(), domains: BTreeSet::new(), dns_names: 0 };
        if let Some(alternative) = alternative {
            found
                .read_alternative(alternative)
                .map_err(|problem| Error::Malformed { part: "subject alternative name", problem })?;
        }
        let common_name =
            found.read_subject(subject).map_err(|problem| Error::Malformed { part: "subject", problem })?;
        found.read_domain_authorities();
        if found.addresses.len() + found.domains.len() > MAX_NAMES {
            return Err(Error::TooManyNames { limit: MAX_NAMES });
        }
        let somebody = !found.addresses.is_empty() || !found.domains.is_empty() || found.dns_names > 0;
        Ok(Names { addresses: found.addresses, domains: found.domains.into_iter().collect(), common_name, somebody })
    }
}

/// The name of a domain's confidentiality authority (RFC 3183 section 3.1): the local part of its address, or its common
/// name.
const DOMAIN_AUTHORITY: &str = "domain-confidentiality-authority";

struct Found {
    addresses: Vec<MailName>,
    /// In ASCII lower case, so that each domain is there once.
    domains: BTreeSet<String>,
    /// How many dNSNames there are, with those that are left out of `domains`.
    dns_names: usize,
}

impl Found {
    /// `GeneralNames` (RFC 5280 section 4.2.1.6): at least one. A name of a known form that cannot be read is a problem;
    /// the forms that say nothing about mail are passed over.
    fn read_alternative(&mut self, extension: &[u8]) -> Result<(), Problem> {
        const OTHER_NAME: u8 = tag::context_constructed(0);
        const RFC822_NAME: u8 = tag::context(1);
        const DNS_NAME: u8 = tag::context(2);
        const X400_ADDRESS: u8 = tag::context_constructed(3);
        const DIRECTORY_NAME: u8 = tag::context_constructed(4);
        const EDI_PARTY_NAME: u8 = tag::context_constructed(5);
        const URI: u8 = tag::context(6);
        const IP_ADDRESS: u8 = tag::context(7);
        const REGISTERED_ID: u8 = tag::context(8);

        let mut names = der::only(extension, tag::SEQUENCE)?.open();
        loop {
            let name = names.next()?;
            match name.tag {
                RFC822_NAME => self.add_address(ia5(name.value)?, MailNameSource::Rfc822Name)?,
                DNS_NAME => {
                    self.dns_names += 1;
                    self.add_domain(ia5(name.value)?);
                }
                OTHER_NAME => {
                    if let Some(text) = smtp_utf8_mailbox(&name)? {
                        self.add_address(text, MailNameSource::SmtpUtf8Mailbox)?;
                    }
                }
                X400_ADDRESS | DIRECTORY_NAME | EDI_PARTY_NAME | URI | IP_ADDRESS | REGISTERED_ID => {}
                _ => return Err("a name has a form that is not defined"),
            }
            if names.is_empty() {
                return Ok(());
            }
        }
    }

    /// The addresses and domains of the subject; gives the common name, the most specific one where there are several.
    fn read_subject(&mut self, subject: &DistinguishedName<'_>) -> Result<Option<String>, Problem> {
        let mut common_name = None;
        let mut components = Vec::new();
        for attribute in subject.attributes() {
            match attribute.oid {
                distinguished_name::EMAIL_ADDRESS => {
                    // RFC 2985 has an IA5String here; UTF8String is as common (RFC 8550 section 3).
                    let text = attribute.text().ok_or("an emailAddress is not text")?;
                    if !text.is_empty() {
                        self.add_address(&text, MailNameSource::SubjectEmail)?;
                    }
                }
                distinguished_name::COMMON_NAME => {
                    let Some(text) = attribute.text() else {
                        continue;
                    };
                    self.add_domain(&text);
                    if let Some((DOMAIN_AUTHORITY, domain)) = text.to_ascii_lowercase().split_once('@') {
                        self.add_domain(domain);
                    }
                    common_name = Some(text.into_owned());
                }
                distinguished_name::DOMAIN_COMPONENT => components.extend(attribute.text()),
                _ => {}
            }
        }
        // A domain written as components (RFC 2247), the top one first, under the common name of RFC 3183.
        if common_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(DOMAIN_AUTHORITY)) {
            components.reverse();
            self.add_domain(&components.join("."));
        }
        Ok(common_name)
    }

    /// The domains of the addresses `domain-confidentiality-authority@<domain>`.
    fn read_domain_authorities(&mut self) {
        for address in &self.addresses {
            if let Some((local, domain)) = address.text.rsplit_once('@')
                && local.eq_ignore_ascii_case(DOMAIN_AUTHORITY)
                && !domain.is_empty()
            {
                // Whatever its letters: an internationalised domain may be written in U-labels here.
                self.domains.insert(domain.to_ascii_lowercase());
            }
        }
    }

    fn add_address(&mut self, text: &str, source: MailNameSource) -> Result<(), Problem> {
        if text.is_empty() {
            return Err("an address is empty");
        }
        // A NUL or a line break in a name has fooled others (CVE-2009-2408 and after).
        if text.chars().any(char::is_control) {
            return Err("an address has a control character in it");
        }
        self.addresses.push(MailName { text: text.to_owned(), source });
        Ok(())
    }

    fn add_domain(&mut self, text: &str) {
        if looks_like_a_domain(text) {
            self.domains.insert(text.to_ascii_lowercase());
        }
    }
}

/// The `SmtpUTF8Mailbox` in an `otherName` (RFC 9598 section 3), `None` if the name is of another type.
fn smtp_utf8_mailbox<'a>(name: &Element<'a>) -> Result<Option<&'a str>, Problem> {
    /// id-on-SmtpUTF8Mailbox, 1.3.6.1.5.5.7.8.9.
    const SMTP_UTF8_MAILBOX: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x09];

    let mut other = name.open();
    let kind = other.expect(tag::OID)?.value;
    let value = other.expect(tag::context_constructed(0))?;
    other.finish()?;
    if kind != SMTP_UTF8_MAILBOX {
        return Ok(None);
    }
    let text = der::only(value.value, tag::UTF8_STRING)?.value;
    let text = std::str::from_utf8(text).map_err(|_| "an SmtpUTF8Mailbox is not UTF-8")?;
    // RFC 9598 section 3: no byte order mark.
    if text.starts_with('\u{feff}') {
        return Err("an SmtpUTF8Mailbox begins with a byte order mark");
    }
    Ok(Some(text))
}

fn ia5(value: &[u8]) -> Result<&str, Problem> {
    if !value.is_ascii() {
        return Err("a name is not ASCII");
    }
    std::str::from_utf8(value).map_err(|_| "a name is not ASCII")
}

/// At least two labels of letters, digits and hyphens (RFC 5890 section 2.3.1), the last one not a number. Wildcards do
/// not name a mail domain.
fn looks_like_a_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253
        && text.split('.').all(label)
        && text.rsplit_once('.').is_some_and(|(_, last)| !last.bytes().all(|octet| octet.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extension: &[u8]) -> Result<Names, Error> {
        let subject = der::only(&[0x30, 0], tag::SEQUENCE).and_then(|e| DistinguishedName::read(&e)).unwrap();
        Names::read(&subject, Some(extension))
    }

    fn one(tag: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).unwrap();
        [&[0x30, length + 2, tag, length], value].concat()
    }

    /// The names of a subject, its attributes with the most general first.
    fn subject(attributes: &[(&[u8], u8, &[u8])]) -> Result<Names, Error> {
        let tlv = |tag: u8, contents: &[u8]| [&[tag, u8::try_from(contents.len()).unwrap()], contents].concat();
        let relative_names = attributes.iter().map(|(oid, tag, value)| {
            tlv(tag::SET, &tlv(tag::SEQUENCE, &[tlv(tag::OID, oid), tlv(*tag, value)].concat()))
        });
        let name = tlv(tag::SEQUENCE, &relative_names.collect::<Vec<_>>().concat());
        let name = der::only(&name, tag::SEQUENCE).unwrap();
        Names::read(&DistinguishedName::read(&name).unwrap(), None)
    }

    #[test]
    fn the_subject_has_addresses_in_both_kinds_of_string() {
        use crate::distinguished_name::EMAIL_ADDRESS;
        for (tag, text) in [
            (tag::IA5_STRING, "lee@example.org"),
            (tag::UTF8_STRING, "lee@example.org"),
            (tag::UTF8_STRING, "zoë@example.org"),
        ] {
            let names = subject(&[(EMAIL_ADDRESS, tag, text.as_bytes())]).unwrap();
            assert_eq!(names.addresses, [MailName { text: text.to_owned(), source: MailNameSource::SubjectEmail }]);
            assert!(names.addresses.iter().all(MailName::legacy));
        }
        assert!(subject(&[(EMAIL_ADDRESS, tag::IA5_STRING, b"")]).unwrap().addresses.is_empty());
        for (tag, value) in
            [(tag::OCTET_STRING, &b"a@b.c"[..]), (tag::UTF8_STRING, b"\xff@b.c"), (tag::IA5_STRING, b"a\0@b.c")]
        {
            let error = subject(&[(EMAIL_ADDRESS, tag, value)]).map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::Malformed { part: "subject", .. }), "{error}");
        }
    }

    #[test]
    fn the_subject_has_domains() {
        use crate::distinguished_name::{COMMON_NAME, DOMAIN_COMPONENT};
        let common_name = |text: &'static str| (COMMON_NAME, tag::UTF8_STRING, text.as_bytes());
        let component = |text: &'static str| (DOMAIN_COMPONENT, tag::IA5_STRING, text.as_bytes());
        for (attributes, name, domains) in [
            (vec![common_name("Mail.Example.ORG")], "Mail.Example.ORG", vec!["mail.example.org"]),
            (vec![common_name("example.org"), common_name("Gateway 1")], "Gateway 1", vec!["example.org"]),
            (vec![common_name("Alice Adams")], "Alice Adams", vec![]),
            (vec![common_name("alice@example.org")], "alice@example.org", vec![]),
            (
                vec![common_name("domain-confidentiality-authority@example.org")],
                "domain-confidentiality-authority@example.org",
                vec!["example.org"],
            ),
            (
                vec![component("org"), component("example"), common_name("Domain-Confidentiality-Authority")],
                "Domain-Confidentiality-Authority",
                vec!["example.org"],
            ),
            (vec![component("org"), component("example"), common_name("Alice")], "Alice", vec![]),
        ] {
            let names = subject(&attributes).unwrap();
            assert_eq!(
                (names.common_name.as_deref(), names.domains),
                (Some(name), domains.iter().map(|d| d.to_string()).collect())
            );
        }
        assert_eq!(subject(&[]).unwrap().common_name, None);
    }

    #[test]
    fn malformed_alternative_names_are_errors() {
        for (why, extension) in [
            ("nothing", vec![]),
            ("no name", vec![0x30, 0]),
            ("not a sequence", vec![0x31, 3, 0x81, 1, b'a']),
            ("two values", vec![0x30, 3, 0x81, 1, b'a', 0x30, 0]),
            ("cut off", vec![0x30, 3, 0x81, 2, b'a']),
            ("undefined form", one(0x89, b"a")),
            ("constructed rfc822Name", one(0xa1, &[0x16, 1, b'a'])),
            ("empty address", one(0x81, b"")),
            ("address not ASCII", one(0x81, "ü@example.org".as_bytes())),
            ("NUL in address", one(0x81, b"a@example.org\0.example.com")),
            ("domain not ASCII", one(0x82, "ü.example.org".as_bytes())),
            ("other name without value", one(0xa0, &[6, 1, 0x2b])),
            ("mailbox not UTF8String", one(0xa0, &[6, 8, 0x2b, 6, 1, 5, 5, 7, 8, 9, 0xa0, 3, 0x16, 1, b'a'])),
            ("mailbox not UTF-8", one(0xa0, &[6, 8, 0x2b, 6, 1, 5, 5, 7, 8, 9, 0xa0, 3, 0x0c, 1, 0xff])),
            (
                "mailbox with BOM",
                one(0xa0, &[6, 8, 0x2b, 6, 1, 5, 5, 7, 8, 9, 0xa0, 6, 0x0c, 4, 0xef, 0xbb, 0xbf, b'a']),
            ),
        ] {
            let error = read(&extension).map(|_| ()).unwrap_err();
            assert_eq!(error.code(), "malformed-certificate", "{why}");
        }
    }

    #[test]
    fn other_forms_are_passed_over() {
        for extension in [
            one(0x86, b"urn:x"),
            one(0x87, &[127, 0, 0, 1]),
            one(0xa0, &[6, 1, 0x2b, 0xa0, 2, 5, 0]),
            one(0xa4, &[0x30, 0]),
        ] {
            let names = read(&extension).unwrap();
            assert!(names.addresses.is_empty() && names.domains.is_empty());
        }
    }

    #[test]
    fn there_is_a_limit() {
        let names = |count: usize| {
            let names: Vec<u8> = (0..count)
                .flat_map(|i| [&[0x81, 13][..], format!("{i:05}@a.test").as_bytes(), b"x"].concat())
                .collect();
            let length = u16::try_from(names.len()).unwrap().to_be_bytes();
            read(&[&[0x30, 0x82], &length[..], &names].concat()).map(|names| names.addresses.len())
        };
        assert_eq!(names(MAX_NAMES), Ok(MAX_NAMES));
        assert_eq!(names(MAX_NAMES + 1), Err(Error::TooManyNames { limit: MAX_NAMES }));
    }

    #[test]
    fn domains_look_like_domains() {
        for yes in ["example.org", "EXAMPLE.org", "xn--bcher-kva.example", "a.b.c", "1.example", "a-b.example"] {
            assert!(looks_like_a_domain(yes), "{yes}");
        }
        for no in [
            "",
            ".",
            "example",
            "example.org.",
            "*.example.org",
            "192.0.2.1",
            "Dr. Who",
            "a@b.c",
            "-a.b",
            "a-.b",
            "a..b",
            "ü.example",
        ] {
            assert!(!looks_like_a_domain(no), "{no}");
        }
        assert!(!looks_like_a_domain(&format!("{}.example", "a".repeat(64))));
    }

    #[test]
    fn a_domain_authority_names_its_domain() {
        let names = read(&one(0x81, b"Domain-Confidentiality-Authority@Example.ORG")).unwrap();
        assert_eq!(names.domains, ["example.org"]);
        assert_eq!(names.addresses.len(), 1);
        assert!(read(&one(0x81, b"x-domain-confidentiality-authority@example.org")).unwrap().domains.is_empty());
    }
}
