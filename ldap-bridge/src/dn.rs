//! Distinguished names as text (RFC 4514): read leniently, compared without regard to case and space, written strictly.

use crate::schema::{self, Attribute};

/// The most components a name may have; a domain name has at most 127 labels.
const MAX_COMPONENTS: usize = 128;

/// A distinguished name, the entry's own component first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Dn {
    components: Vec<Component>,
}

/// One component (RDN): a type and a value each, several of them in the rare multi-valued case.
pub(crate) type Component = Vec<(String, String)>;

impl Dn {
    /// Reads a name, or `None` when the octets are none. Accepts what RFC 4514 says, and of LDAPv2 (RFC 4514
    /// section 3 with RFC 2253 section 4) space around separators, `;` for `,`, quoted values and `OID.`.
    pub(crate) fn parse(octets: &[u8]) -> Option<Dn> {
        // The dirmngr of GnuPG 2.2 sends the base with the line end of its configuration file. A line end that is meant
        // is escaped.
        let text = std::str::from_utf8(octets).ok()?.trim_end_matches(['\r', '\n']);
        let mut components = Vec::new();
        if text.trim().is_empty() {
            return Some(Dn { components });
        }
        let mut component = Component::new();
        let mut rest = text;
        loop {
            let (attribute, value) = rest.split_once('=')?;
            let attribute = canonical_type(attribute.trim())?;
            let (value, separator, behind) = read_value(value.trim_start_matches(' '))?;
            component.push((attribute, value));
            if separator != Some('+') {
                // Types compare without order within a component.
                component.sort();
                components.push(std::mem::take(&mut component));
            }
            if components.len() > MAX_COMPONENTS || component.len() > MAX_COMPONENTS {
                return None;
            }
            if separator.is_none() {
                return Some(Dn { components });
            }
            rest = behind;
        }
    }

    /// Its components, the entry's own first.
    pub(crate) fn components(&self) -> &[Component] {
        &self.components
    }

    /// A form that two names share exactly when they are the same name.
    pub(crate) fn key(&self) -> String {
        let mut key = String::new();
        for component in &self.components {
            for (attribute, value) in component {
                key.extend([attribute, "=", &escape(&schema::prepare(value)), "+"]);
            }
            key.push(',');
        }
        key
    }
}

/// The type by its short name in lower case, however it was named (RFC 4514 section 3).
fn canonical_type(text: &str) -> Option<String> {
    let name = match text.split_at_checked(4) {
        Some((prefix, number)) if prefix.eq_ignore_ascii_case("oid.") => number,
        _ => text,
    };
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    let known = Attribute::parse(name.as_bytes()).map_or(name, |attribute| attribute.transfer_name());
    well_formed.then(|| known.to_ascii_lowercase())
}

/// Reads a value up to its separator: the value, the separator and what is behind it.
fn read_value(text: &str) -> Option<(String, Option<char>, &str)> {
    if text.starts_with('#') {
        return read_hexadecimal(text);
    }
    let quoted = text.starts_with('"');
    let mut value = Vec::new();
    // The length up to the last octet that is not unescaped space.
    let mut significant = 0;
    let mut closed = !quoted;
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => {
                let (_, escaped) = characters.next()?;
                match escaped.to_digit(16) {
                    Some(high) => {
                        let low = characters.next()?.1.to_digit(16)?;
                        value.push(u8::try_from(high << 4 | low).ok()?);
                    }
                    None => push(&mut value, escaped),
                }
                significant = value.len();
            }
            '"' if quoted && !closed => closed = true,
            ',' | ';' | '+' if closed => {
                value.truncate(significant);
                return Some((String::from_utf8(value).ok()?, Some(c), text.get(at + 1..)?));
            }
            ' ' if closed => push(&mut value, ' '),
            // Behind the closing quote there is only space.
            _ if quoted && closed => return None,
            // RFC 4514 section 2.4: these must be escaped.
            '"' | '<' | '>' | '\0' if !quoted => return None,
            c => {
                push(&mut value, c);
                significant = value.len();
            }
        }
    }
    value.truncate(significant);
    closed.then_some(())?;
    Some((String::from_utf8(value).ok()?, None, ""))
}

/// `#` and the BER of the value in hexadecimal (RFC 4514 section 2.4); strings are understood.
fn read_hexadecimal(text: &str) -> Option<(String, Option<char>, &str)> {
    let end = text.find([',', ';', '+']).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let digits = digits.get(1..)?.trim_end();
    let mut octets = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks(2) {
        let &[high, low] = pair else { return None };
        let high = char::from(high).to_digit(16)?;
        octets.push(u8::try_from(high << 4 | char::from(low).to_digit(16)?).ok()?);
    }
    let (_, content) = crate::ber::Reader::new(&octets).element().ok()?;
    let value = String::from_utf8(content.to_vec()).ok()?;
    let mut behind = rest.chars();
    let separator = behind.next();
    Some((value, separator, behind.as_str()))
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes a value as RFC 4514 section 2.4 wants it.
pub(crate) fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            '#' if at == 0 => out.push_str("\\#"),
            '\0' => out.push_str("\\00"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Option<Vec<String>> {
        let dn = Dn::parse(text.as_bytes())?;
        Some(dn.components().iter().flatten().map(|(t, v)| format!("{t}={v}")).collect())
    }

    #[test]
    fn names_are_read_in_every_spelling() {
        let want = Some(vec!["mail=alice@example.org".to_owned(), "dc=example".to_owned(), "dc=org".to_owned()]);
        for text in [
            "mail=alice@example.org,dc=example,dc=org",
            "MAIL = alice@example.org , DC=example ;dc= org ",
            "rfc822Mailbox=alice@example.org,domainComponent=example,0.9.2342.19200300.100.1.25=org",
            "OID.0.9.2342.19200300.100.1.3=\\61lice@example\\.org,dc=\"example\",dc=#16036f7267",
            "mail=\"alice@example.org\" ,dc=example,dc=org",
            "mail=alice@example.org,dc=example,dc=org\n",
        ] {
            assert_eq!(pairs(text), want, "{text}");
        }
        assert_eq!(pairs(""), Some(vec![]));
        assert_eq!(pairs("cn=a\\,b\\+c\\ ,o=\\C3\\BC"), Some(vec!["cn=a,b+c ".to_owned(), "o=ü".to_owned()]));
        assert_eq!(pairs("uid=a+cn=b,dc=org"), pairs("cn=b + uid=a,dc=org"));
        assert_eq!(pairs("cn=a\\0A"), Some(vec!["cn=a\n".to_owned()]));
        assert_eq!(pairs("cn="), Some(vec!["cn=".to_owned()]));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "dc",
            "=x",
            "dc=a,",
            ",dc=a",
            "dc=a,,dc=b",
            "d c=a",
            "dc=\\",
            "dc=\\4",
            "dc=\\c3",
            "dc=\"a",
            "dc=\"a\"b",
            "dc=a<b",
            "dc=#0",
            "dc=#zz",
            "dc=#16ff61",
        ] {
            assert_eq!(pairs(text), None, "{text}");
        }
        assert_eq!(Dn::parse(&[b'd', b'c', b'=', 0xff]), None);
        assert!(Dn::parse(vec!["dc=a"; MAX_COMPONENTS].join(",").as_bytes()).is_some());
        assert!(Dn::parse(vec!["dc=a"; MAX_COMPONENTS + 1].join(",").as_bytes()).is_none());
        assert!(Dn::parse(vec!["dc=a"; 200].join("+").as_bytes()).is_none());
    }

    #[test]
    fn keys_ignore_case_and_space_but_not_borders() {
        let key = |text: &str| Dn::parse(text.as_bytes()).unwrap().key();
        assert_eq!(key("CN=Alice  Example, DC=Org"), key("cn=alice example,dc=org"));
        assert_ne!(key("dc=a,dc=b"), key("dc=a\\,dc\\=b"));
        assert_ne!(key("dc=a+dc=b"), key("dc=a,dc=b"));
    }

    proptest! {
        #[test]
        fn what_escape_writes_parse_reads(value in "\\PC{0,20}") {
            let dn = Dn::parse(format!("mail={},dc=org", escape(&value)).as_bytes()).unwrap();
            prop_assert_eq!(&dn.components()[0][0].1, &value);
        }

        #[test]
        fn parse_returns_for_any_octets(octets in proptest::collection::vec(any::<u8>(), 0..100), text in ".{0,60}") {
            let _ = Dn::parse(&octets);
            let _ = Dn::parse(text.as_bytes());
        }
    }
}
