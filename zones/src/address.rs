//! [`Address`] and [`DomainName`]: an e-mail address in the form whose hash RFC 8162 section 3 defines.

use crate::error::shortened;
use crate::{Error, Name};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use unicode_normalization::UnicodeNormalization;

/// Octets of UTF-8 in a local part. RFC 5321 section 4.5.3.1.1 lets a server refuse more than 64 octets and asks
/// software not to impose that limit where it can do without (section 4.5.3.1); certificates carry longer ones, up to the
/// upper bound ub-emailaddress-length of RFC 5280 appendix A.1, which is taken here. CERT owner names still need 63.
pub const MAX_LOCAL_PART: usize = 255;
/// Characters of a mail domain in A-labels. A domain name has 255 octets on the wire; the owner name of RFC 8162 puts 57
/// (hash) and 11 (`_smimecert`) before the domain, whose own wire form takes two octets more than its text.
pub const MAX_DOMAIN: usize = crate::name::MAX_NAME - 57 - 11 - 2;
/// Octets of the text given to [`Address::parse`], with comments and quoting.
pub const MAX_ADDRESS_TEXT: usize = 4096;
/// The local part that RFC 3183 section 4.1 gives the domain's own encryption certificate.
const DOMAIN_AUTHORITY: &str = "domain-confidentiality-authority";

/// An e-mail address, exactly: the local part without quoting, comments and folding white space, in NFC, its case kept;
/// the domain in lower-case A-labels.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    domain: DomainName,
    local: Box<str>,
}

impl Address {
    /// Reads an addr-spec (RFC 5322 section 3.4.1 with its obsolete forms, UTF-8 by RFC 6531 section 3.3) and applies RFC
    /// 8162 section 3: comments and white space around dots are removed, quotes are stripped, quoted pairs are unescaped,
    /// the result is normalised to NFC.
    ///
    /// Refused: control characters, empty atoms, an empty local part or one of more than [`MAX_LOCAL_PART`] octets, domain
    /// literals.
    pub fn parse(text: &str) -> Result<Address, Error> {
        let refuse = |reason| Error::Address { text: shortened(text), reason };
        if text.len() > MAX_ADDRESS_TEXT {
            return Err(refuse("it is longer than 4096 octets"));
        }
        let mut scanner = Scanner { rest: text };
        let local = scanner.local_part().map_err(refuse)?;
        if !scanner.take('@') {
            return Err(refuse(if scanner.rest.is_empty() {
                "there is no @"
            } else {
                "there is a character before the @ that needs quotes"
            }));
        }
        let domain = scanner.domain().map_err(refuse)?;
        let local: String = local.nfc().collect();
        if local.is_empty() {
            return Err(refuse("there is nothing before the @"));
        }
        if local.len() > MAX_LOCAL_PART {
            return Err(refuse("the part before the @ is longer than 255 octets"));
        }
        let address = Address { domain: DomainName::parse(&domain)?, local: local.into() };
        // Lower case may be longer (U+023A has two octets, its lower case three), and every variant must be an address.
        if address.lower_case().local.len() > MAX_LOCAL_PART {
            return Err(refuse("the part before the @ is longer than 255 octets in lower case"));
        }
        Ok(address)
    }

    /// [`Address::parse`] for many addresses of one domain: the domain is shared, and what an ASCII dot-atom needs none of
    /// is left out.
    pub fn parse_within(domain: &DomainName, text: &str) -> Result<Address, Error> {
        let plain = |local: &str| {
            local.len() <= MAX_LOCAL_PART
                && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(|c| c.is_ascii() && is_atext(c)))
        };
        match text.rsplit_once('@') {
            Some((local, host)) if host == domain.as_str() && plain(local) => {
                Ok(Address { domain: domain.clone(), local: local.into() })
            }
            _ => Address::parse(text),
        }
    }

    /// What comes before every address of a domain in the order of addresses; itself none.
    #[must_use]
    pub fn before_all(domain: &DomainName) -> Address {
        Address { domain: domain.clone(), local: "".into() }
    }

    /// The local part as it is hashed.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        &self.domain
    }

    /// The address with a lower-case local part (all of Unicode, NFC again). For publishers (RFC 8162 section 4) and for
    /// comparing mailboxes (RFC 8550 section 3); a sender never maps an address before it looks it up. A few letters are longer
    /// in lower case, so this may exceed [`MAX_LOCAL_PART`].
    #[must_use]
    pub fn lower_case(&self) -> Address {
        Address { domain: self.domain.clone(), local: self.local.to_lowercase().nfc().collect::<String>().into() }
    }

    /// `domain-confidentiality-authority@<domain>`: the address of the domain-level certificate (RFC 3183 section 4.1).
    #[must_use]
    pub fn domain_authority(domain: &DomainName) -> Address {
        Address { domain: domain.clone(), local: DOMAIN_AUTHORITY.into() }
    }

    /// Whether this is the address of a domain-level certificate, in any case.
    #[must_use]
    pub fn is_domain_authority(&self) -> bool {
        self.local.eq_ignore_ascii_case(DOMAIN_AUTHORITY)
    }
}

impl fmt::Display for Address {
    /// `local@domain`, the local part quoted where RFC 5322 wants it; [`Address::parse`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        if self.local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext)) {
            f.write_str(&self.local)?;
        } else {
            f.write_char('"')?;
            for c in self.local.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
            f.write_char('"')?;
        }
        write!(f, "@{}", self.domain)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A mail domain: `example.org`. A-labels, lower case, no trailing dot, at most [`MAX_DOMAIN`] characters.
#[derive(Clone)]
pub struct DomainName {
    text: Arc<str>,
    name: Name,
}

impl DomainName {
    /// Reads a host name (letters, digits, hyphens), also with U-labels (UTS 46, RFC 5891) and with a trailing dot.
    pub fn parse(text: &str) -> Result<DomainName, Error> {
        let refuse = |reason| Error::Domain { text: shortened(text), reason };
        // Mapping is not cheap: bound its work before, generously (a character has up to four octets).
        if text.len() > MAX_DOMAIN * 4 {
            return Err(refuse("it is too long"));
        }
        let relative = text.strip_suffix('.').unwrap_or(text);
        // CheckFirstLast: hyphens in the third and fourth place occur in real host names.
        let ascii = Uts46::new()
            .to_ascii(relative.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| refuse("it must be a host name: letters, digits and hyphens between dots"))?;
        if ascii.len() > MAX_DOMAIN {
            return Err(refuse("it is longer than 185 characters, so that the names of RFC 8162 below it do not fit"));
        }
        // RFC 1123 section 2.1: a host name never looks like an IPv4 address.
        if ascii.rsplit('.').next().is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit())) {
            return Err(refuse("it is a number, not a host name"));
        }
        let name = Name::parse(&ascii).map_err(|_| refuse("it is not a domain name"))?;
        Ok(DomainName { text: ascii.as_ref().into(), name })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The DNS name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl PartialEq for DomainName {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DomainName {}

impl std::hash::Hash for DomainName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for DomainName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DomainName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Borrow<str> for DomainName {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What may stand in an atom without quotes: RFC 5322 section 3.2.3, with UTF-8 of RFC 6532 section 3.2.
fn is_atext(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) } else { !c.is_control() }
}

/// Reads an addr-spec from the left.
struct Scanner<'a> {
    rest: &'a str,
}

type Refused = &'static str;

impl<'a> Scanner<'a> {
    /// `local-part = dot-atom / quoted-string / obs-local-part` (RFC 5322 section 3.4.1): words with dots between, and
    /// CFWS, which is dropped, around each.
    fn local_part(&mut self) -> Result<String, Refused> {
        let mut local = String::new();
        loop {
            self.comments_and_space()?;
            if self.take('"') {
                self.quoted_string(&mut local)?
            } else {
                local.push_str(self.atom()?)
            }
            self.comments_and_space()?;
            if !self.take('.') {
                return Ok(local);
            }
            local.push('.');
        }
    }

    /// `domain = dot-atom / domain-literal / obs-domain`, up to the end of the text.
    fn domain(&mut self) -> Result<String, Refused> {
        let mut domain = String::new();
        loop {
            self.comments_and_space()?;
            if self.rest.starts_with('[') {
                return Err("an address literal in brackets has no place in DNS: give a domain");
            }
            if self.rest.is_empty() && !domain.is_empty() {
                // The trailing dot of an absolute name.
                return Ok(domain);
            }
            domain.push_str(self.atom()?);
            self.comments_and_space()?;
            if self.rest.is_empty() {
                return Ok(domain);
            }
            if !self.take('.') {
                return Err("there is something behind the domain");
            }
            domain.push('.');
        }
    }

    fn atom(&mut self) -> Result<&'a str, Refused> {
        let end = self.rest.find(|c| !is_atext(c)).unwrap_or(self.rest.len());
        let (atom, rest) = self.rest.split_at(end);
        if atom.is_empty() {
            return Err(match rest.chars().next() {
                Some('@') => "there is nothing before an @",
                Some('.') => "there is nothing between two dots, or before the first",
                Some(c) if c.is_control() => "there is a control character",
                Some(_) => "there is a character that needs quotes",
                None => "it ends too early",
            });
        }
        self.rest = rest;
        Ok(atom)
    }

    /// The content behind the opening quote up to the closing one, unescaped (RFC 8162 section 3: literal quoting is
    /// removed).
    fn quoted_string(&mut self, into: &mut String) -> Result<(), Refused> {
        let mut characters = self.rest.chars();
        while let Some(mut c) = characters.next() {
            if c == '"' {
                self.rest = characters.as_str();
                return Ok(());
            }
            if c == '\\' {
                c = characters.next().ok_or("a quote is not closed")?;
            }
            if c.is_control() {
                return Err("there is a control character");
            }
            into.push(c);
        }
        Err("a quote is not closed")
    }

    /// Skips CFWS: white space, line ends and nested comments (RFC 5322 section 3.2.2).
    fn comments_and_space(&mut self) -> Result<(), Refused> {
        let mut depth = 0usize;
        let mut characters = self.rest.chars();
        loop {
            let here = characters.as_str();
            match characters.next() {
                Some('(') => depth += 1,
                Some(')') if depth > 0 => depth -= 1,
                Some('\\') if depth > 0 => {
                    characters.next();
                }
                Some(' ' | '\t' | '\r' | '\n') => {}
                Some(c) if depth > 0 && c.is_control() => {
                    return Err("there is a control character");
                }
                Some(_) if depth > 0 => {}
                None if depth > 0 => return Err("a comment is not closed"),
                _ => {
                    self.rest = here;
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, c: char) -> bool {
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    // What is taken and what is refused, and the owners, stand in tests/data/vectors/owner-names.txt.

    #[test]
    fn quotes_come_back_where_they_are_needed() {
        for (given, shown) in [
            (r#""john.smith"@Example.ORG."#, "john.smith@example.org"),
            (r#""john smith"@example.org"#, r#""john smith"@example.org"#),
            (r#""a\\b\"c"@example.org"#, r#""a\\b\"c"@example.org"#),
            (r#""a..b"@example.org"#, r#""a..b"@example.org"#),
            ("josé@bücher.example", "josé@xn--bcher-kva.example"),
        ] {
            assert_eq!(address(given).to_string(), shown);
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (text, message) in [
            ("hugh", r#""hugh" is not an e-mail address: there is no @"#),
            (
                "hugh jones@example.org",
                r#""hugh jones@example.org" is not an e-mail address: there is a character before the @ that needs quotes"#,
            ),
            (
                "hugh@exa_mple.org",
                r#""exa_mple.org" is not a mail domain: it must be a host name: letters, digits and hyphens between dots"#,
            ),
        ] {
            assert_eq!(Address::parse(text).unwrap_err().to_string(), message);
        }
        // Neither a long text nor a control character reaches a terminal as it is.
        let long = Address::parse(&"\u{1b}".repeat(MAX_ADDRESS_TEXT + 1)).unwrap_err().to_string();
        assert!(long.len() < 1_000 && !long.contains('\u{1b}'), "{long}");
    }

    #[test]
    fn mailboxes() {
        assert_eq!(address("Hugh.JONES@example.org").lower_case(), address("hugh.jones@example.org"));
        assert_ne!(address("Hugh@example.org"), address("hugh@example.org"));
        assert_eq!(address("ÉMILE@example.org").lower_case(), address("émile@example.org"));
        let domain = DomainName::parse("example.org").unwrap();
        let authority = Address::domain_authority(&domain);
        assert_eq!(authority, address("domain-confidentiality-authority@example.org"));
        assert!(
            authority.is_domain_authority()
                && address("Domain-Confidentiality-Authority@example.org").is_domain_authority()
        );
        assert!(!address("hugh@example.org").is_domain_authority());
    }

    proptest! {
        /// Nothing from outside makes the parser panic, and what it takes reads back from how it is shown.
        #[test]
        fn what_is_taken_reads_back(text in r#"([a-zÀ-ÿ."\\ ()@\u{300}-\u{303}]|\PC){0,20}(@[a-zà-ÿA-Z.-]{1,10})?"#) {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(&Address::parse(&address.to_string()).unwrap(), &address);
                prop_assert_eq!(address.lower_case().lower_case(), address.lower_case());
                prop_assert!(unicode_normalization::is_nfc(address.local()));
                prop_assert_eq!(crate::smimea_owner(&address).label_count(), address.domain().name().label_count() + 2);
            }
        }

        /// Any local part survives being quoted.
        #[test]
        fn any_local_part_can_be_written(local in r"\PC{1,30}") {
            let quoted: String = local.chars().flat_map(|c| ['\\', c]).collect();
            let address = Address::parse(&format!("\"{quoted}\"@example.org")).unwrap();
            prop_assert_eq!(address.local(), local.nfc().collect::<String>());
            prop_assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
    }
}
