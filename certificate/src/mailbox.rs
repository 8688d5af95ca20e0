//! Comparing mail addresses and domains with those of a certificate (RFC 8550 section 3, RFC 9598 section 5).

use std::borrow::Cow;

use crate::certificate::Certificate;
use crate::der::{self, tag};
use crate::names::MailName;

/// The local part that RFC 3183 section 3.1 reserves for a domain's own key.
const DOMAIN_AUTHORITY: &str = "domain-confidentiality-authority";

/// How two local parts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalPart {
    /// Letters of ASCII are equal whatever their case, as RFC 8550 section 3 asks for (SHOULD): CAs write addresses as they
    /// please, and mail systems that tell `Alice@` from `alice@` hardly exist. All others are compared octet for octet (RFC
    /// 9598 section 5): Unicode's mappings make a Kelvin sign a `k`, and whose mailbox that is nobody knows.
    #[default]
    AnyCase,
    /// Octet for octet, for a mail system that tells them apart.
    Exact,
}

impl Certificate {
    /// Whether it is for this mail address: an rfc822Name, an SmtpUTF8Mailbox, or an emailAddress of the subject has the same
    /// domain, without case and whether in A-labels or U-labels, and the same local part. Nothing is normalised beyond
    /// that (RFC 9598 section 5).
    pub fn names_address(&self, address: &str, local_part: LocalPart) -> bool {
        let Some((local, domain)) = split(address) else {
            return false;
        };
        let Some(domain) = domain_in_ascii(domain) else {
            return false;
        };
        self.addresses().iter().filter_map(|name| split(&name.text)).any(|(there, its_domain)| {
            let same = match local_part {
                LocalPart::Exact => there == local,
                LocalPart::AnyCase => there.eq_ignore_ascii_case(local),
            };
            same && domain_in_ascii(its_domain).is_some_and(|its_domain| its_domain == domain)
        })
    }

    /// Whether it is for a mail domain as a whole: a dNSName that is the domain, or the address of the domain's
    /// confidentiality authority (RFC 3183 section 3.1). A wildcard is not.
    ///
    /// A common name does not count, neither the domain nor that of RFC 3183: it is no name that an authority is held to.
    pub fn names_domain(&self, domain: &str) -> bool {
        let Some(domain) = domain_in_ascii(domain).filter(|domain| !domain.contains('*')) else {
            return false;
        };
        let same = |name: &str| domain_in_ascii(name).is_some_and(|name| name == domain);
        let of_authority = |name: &MailName| {
            split(&name.text).is_some_and(|(local, its)| local.eq_ignore_ascii_case(DOMAIN_AUTHORITY) && same(its))
        };
        self.addresses().iter().any(of_authority) || self.dns_names().iter().any(|name| same(name))
    }

    /// The dNSNames of the subject alternative name, as they are written.
    fn dns_names(&self) -> Vec<&str> {
        const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
        let mut names = Vec::new();
        let Ok(parts) = crate::parts::Parts::of(self) else {
            return names;
        };
        let extension = parts.extension(SUBJECT_ALTERNATIVE_NAME);
        let Some(Ok(list)) = extension.map(|extension| der::only(extension, tag::SEQUENCE)) else {
            return names;
        };
        let mut reader = list.open();
        while let Ok(name) = reader.next() {
            if name.tag == tag::context(2) {
                names.extend(std::str::from_utf8(name.value));
            }
        }
        names
    }
}

/// Local part and domain; `None` if one of them is empty.
pub(crate) fn split(address: &str) -> Option<(&str, &str)> {
    address.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty())
}

/// A domain in A-labels and lower case; `None` if it is none.
pub(crate) fn domain_in_ascii(domain: &str) -> Option<Cow<'_, str>> {
    if domain.is_ascii() {
        return Some(match domain.bytes().any(|octet| octet.is_ascii_uppercase()) {
            true => Cow::Owned(domain.to_ascii_lowercase()),
            false => Cow::Borrowed(domain),
        });
    }
    idna::domain_to_ascii(domain).ok().map(Cow::Owned)
}
