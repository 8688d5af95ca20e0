//! Search filters: read once into a tree with prepared values, then evaluated with three truth values
//! (RFC 4511 section 4.5.1.7). Nothing in a filter is an error here: what is not known is Undefined.

use crate::ber::{self, Reader};
use crate::error::Error;
use crate::refusal::Refusal;
use crate::schema::{self, Attribute};

/// How deep filters may nest. Reading, evaluating and dropping recurse no deeper than this.
const MAX_DEPTH: usize = 32;
/// How many elements (assertions, and, or, not) a filter may have.
const MAX_ELEMENTS: usize = 256;

/// A filter.
#[derive(Debug, PartialEq)]
pub(crate) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Present(Attribute),
    /// The value in the form of [`schema::Rule::key`].
    Equal(Attribute, String),
    Substrings(Attribute, Substrings),
    AtLeast(Attribute, String),
    AtMost(Attribute, String),
    /// Undefined for every entry.
    Undefined,
}

/// Parts of a value in their order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Substrings {
    initial: Option<String>,
    any: Vec<String>,
    last: Option<String>,
}

/// What a filter says of an entry; ordered so that `and` is the least of its parts and `or` the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Truth {
    False,
    Undefined,
    True,
}

/// Something with attribute values to hold a filter against.
pub(crate) trait Values {
    /// Hands the values of an attribute to `each`, until that returns false.
    fn values(&self, attribute: Attribute, each: &mut dyn FnMut(&[u8]) -> bool);
}

/// An equality by which the directory finds entries without looking at all of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Pin<'f> {
    pub(crate) attribute: Attribute,
    pub(crate) value: &'f str,
}

/// Reads a filter. The outer error is for octets that are none; the inner one for a filter over the limits.
pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Result<Filter, Refusal>, Error> {
    let mut decoding = Decoding { elements: 0, refusal: None };
    let filter = decoding.filter(from, 1)?;
    Ok(match decoding.refusal {
        Some(refusal) => Err(refusal),
        None => Ok(filter),
    })
}

struct Decoding {
    elements: usize,
    refusal: Option<Refusal>,
}

impl Decoding {
    fn filter(&mut self, from: &mut Reader<'_>, depth: usize) -> Result<Filter, Error> {
        let (tag, content) = from.element()?;
        self.elements += 1;
        if self.elements > MAX_ELEMENTS || depth > MAX_DEPTH {
            self.refusal = Some(Refusal::FilterTooLarge { elements: MAX_ELEMENTS, depth: MAX_DEPTH });
            return Ok(Filter::Undefined);
        }
        let mut body = Reader::new(content);
        Ok(match tag {
            // An empty set is RFC 4526's absolute true or false: the least or greatest of nothing.
            0xa0 => Filter::And(self.set(body, depth)?),
            0xa1 => Filter::Or(self.set(body, depth)?),
            0xa2 => {
                let inner = self.filter(&mut body, depth + 1)?;
                if !body.is_empty() {
                    return Err(Error::Malformed("a not-filter has more than one part"));
                }
                Filter::Not(Box::new(inner))
            }
            // RFC 4511 section 4.5.1.7.6: approximate matching may be equality.
            0xa3 | 0xa8 => assertion(body, equal)?,
            0xa4 => self.substrings(body)?,
            0xa5 => assertion(body, |attribute, value| ordered(attribute, value, Filter::AtLeast))?,
            0xa6 => assertion(body, |attribute, value| ordered(attribute, value, Filter::AtMost))?,
            0x87 => Attribute::parse(content).map_or(Filter::Undefined, Filter::Present),
            0xa9 => extensible(body)?,
            // "The type of filtering requested is not implemented."
            _ => Filter::Undefined,
        })
    }

    fn set(&mut self, mut body: Reader<'_>, depth: usize) -> Result<Vec<Filter>, Error> {
        let mut parts = Vec::new();
        while !body.is_empty() && self.refusal.is_none() {
            parts.push(self.filter(&mut body, depth + 1)?);
        }
        Ok(parts)
    }

    /// RFC 4511 section 4.5.1.7.2.
    fn substrings(&mut self, mut body: Reader<'_>) -> Result<Filter, Error> {
        let attribute = Attribute::parse(body.octets()?);
        let mut list = Reader::new(body.expect(ber::SEQUENCE)?);
        body.ignore_rest()?;
        if list.is_empty() {
            return Err(Error::Malformed("a substring filter without a substring"));
        }
        let mut parts = Substrings::default();
        let mut is_text = true;
        while !list.is_empty() {
            self.elements += 1;
            if self.elements > MAX_ELEMENTS {
                self.refusal = Some(Refusal::FilterTooLarge { elements: MAX_ELEMENTS, depth: MAX_DEPTH });
                return Ok(Filter::Undefined);
            }
            let (tag, octets) = list.element()?;
            let text = std::str::from_utf8(octets).map(schema::prepare_part);
            is_text &= text.is_ok();
            let text = text.unwrap_or_default();
            let first = parts == Substrings::default();
            match tag {
                0x80 if first => parts.initial = Some(text.trim_start().to_owned()),
                0x81 if parts.last.is_none() => parts.any.push(text),
                0x82 if parts.last.is_none() => parts.last = Some(text.trim_end().to_owned()),
                _ => return Err(Error::Malformed("substrings out of order")),
            }
        }
        Ok(match attribute {
            Some(attribute) if is_text && attribute.rule().has_substrings() => Filter::Substrings(attribute, parts),
            _ => Filter::Undefined,
        })
    }
}

/// An attribute description and a value (RFC 4511 section 4.1.6).
fn assertion(mut body: Reader<'_>, make: impl FnOnce(Attribute, &[u8]) -> Filter) -> Result<Filter, Error> {
    let (description, value) = (body.octets()?, body.octets()?);
    body.ignore_rest()?;
    Ok(Attribute::parse(description).map_or(Filter::Undefined, |attribute| make(attribute, value)))
}

/// The filter of an equality; also what Compare asks.
pub(crate) fn equal(attribute: Attribute, value: &[u8]) -> Filter {
    attribute.rule().key(value).map_or(Filter::Undefined, |key| Filter::Equal(attribute, key))
}

fn ordered(attribute: Attribute, value: &[u8], make: fn(Attribute, String) -> Filter) -> Filter {
    match std::str::from_utf8(value) {
        Ok(text) if attribute.rule().has_order() => make(attribute, schema::prepare(text)),
        _ => Filter::Undefined,
    }
}

/// RFC 4511 section 4.5.1.7.7. Understood as far as it says no more than an equality.
fn extensible(mut body: Reader<'_>) -> Result<Filter, Error> {
    let (mut rule, mut description, mut value, mut in_names) = (None, None, None, false);
    while !body.is_empty() {
        match body.element()? {
            (0x81, octets) => rule = Some(octets),
            (0x82, octets) => description = Some(octets),
            (0x83, octets) => value = Some(octets),
            (0x84, octets) => in_names = ber::boolean(octets)?,
            _ => {}
        }
    }
    let value = value.ok_or(Error::Malformed("an extensible filter without a value"))?;
    Ok(match description.and_then(Attribute::parse) {
        Some(attribute) if !in_names && rule.is_none_or(|rule| attribute.rule().is_named(rule)) => {
            equal(attribute, value)
        }
        _ => Filter::Undefined,
    })
}

impl Filter {
    /// What it says of an entry.
    pub(crate) fn evaluate(&self, entry: &dyn Values) -> Truth {
        match self {
            Filter::And(parts) => parts.iter().map(|part| part.evaluate(entry)).min().unwrap_or(Truth::True),
            Filter::Or(parts) => parts.iter().map(|part| part.evaluate(entry)).max().unwrap_or(Truth::False),
            Filter::Not(part) => match part.evaluate(entry) {
                Truth::True => Truth::False,
                Truth::Undefined => Truth::Undefined,
                Truth::False => Truth::True,
            },
            Filter::Present(attribute) => any(entry, *attribute, |_, _| true),
            Filter::Equal(attribute, key) => {
                any(entry, *attribute, |found, value| found.rule().key(value).is_some_and(|found| found == *key))
            }
            Filter::Substrings(attribute, parts) => {
                any(entry, *attribute, |_, value| text(value, |v| parts.match_in(v)))
            }
            Filter::AtLeast(attribute, bound) => {
                any(entry, *attribute, |_, value| text(value, |v| v >= bound.as_str()))
            }
            Filter::AtMost(attribute, bound) => any(entry, *attribute, |_, value| text(value, |v| v <= bound.as_str())),
            Filter::Undefined => Truth::Undefined,
        }
    }

    /// Equalities of which every entry that the filter matches satisfies at least one, or `None` when there are no such:
    /// then every entry would have to be looked at.
    pub(crate) fn pins(&self) -> Option<Vec<Pin<'_>>> {
        match self {
            Filter::Equal(attribute @ (Attribute::Mail | Attribute::Uid | Attribute::Cn), value) => {
                Some(vec![Pin { attribute: *attribute, value }])
            }
            // Never true, so no entry has to be looked at.
            Filter::Undefined => Some(Vec::new()),
            Filter::And(parts) => parts.iter().filter_map(Filter::pins).min_by_key(Vec::len),
            Filter::Or(parts) => {
                let pins: Option<Vec<Vec<Pin<'_>>>> = parts.iter().map(Filter::pins).collect();
                pins.map(|pins| pins.concat())
            }
            _ => None,
        }
    }

    /// How many elements it has; what evaluating it once may cost.
    pub(crate) fn elements(&self) -> usize {
        1 + match self {
            Filter::And(parts) | Filter::Or(parts) => parts.iter().map(Filter::elements).sum(),
            Filter::Not(part) => part.elements(),
            Filter::Substrings(_, parts) => parts.any.len(),
            _ => 0,
        }
    }
}

/// Whether a value of the attribute, or of one of its subtypes, satisfies `test`.
fn any(entry: &dyn Values, attribute: Attribute, test: impl Fn(Attribute, &[u8]) -> bool) -> Truth {
    let mut found = false;
    for attribute in attribute.with_subtypes() {
        entry.values(*attribute, &mut |value| {
            found = test(*attribute, value);
            !found
        });
        if found {
            return Truth::True;
        }
    }
    Truth::False
}

fn text(value: &[u8], test: impl FnOnce(&str) -> bool) -> bool {
    std::str::from_utf8(value).is_ok_and(|value| test(&schema::prepare(value)))
}

impl Substrings {
    fn match_in(&self, value: &str) -> bool {
        let mut rest = value;
        if let Some(initial) = &self.initial {
            let Some(behind) = rest.strip_prefix(initial.as_str()) else { return false };
            rest = behind;
        }
        if let Some(last) = &self.last {
            let Some(before) = rest.strip_suffix(last.as_str()) else { return false };
            rest = before;
        }
        // The leftmost place for each part leaves the most room for the next.
        self.any.iter().all(|part| match rest.split_once(part.as_str()) {
            Some((_, behind)) => {
                rest = behind;
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads the string form of a filter (RFC 4515) into BER, with `\xx` escapes; the tests' own second reading.
    pub(crate) fn ber_of(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let rest = put(text.as_bytes(), &mut out);
        assert!(rest.is_empty(), "{text}: {rest:?} left");
        out
    }

    fn put<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let text = text.strip_prefix(b"(").expect("a filter in brackets");
        let tag = match text[0] {
            b'&' => 0xa0,
            b'|' => 0xa1,
            b'!' => 0xa2,
            _ => {
                let end = text.iter().position(|c| *c == b')').unwrap();
                item(std::str::from_utf8(&text[..end]).unwrap(), out);
                return &text[end + 1..];
            }
        };
        let mut rest = &text[1..];
        let set = ber::open(out, tag);
        while rest[0] == b'(' {
            rest = put(rest, out);
        }
        ber::close(out, set);
        &rest[1..]
    }

    fn item(text: &str, out: &mut Vec<u8>) {
        let (name, value) = text.split_once('=').unwrap();
        let pair = |out: &mut Vec<u8>, tag, name: &str| {
            let element = ber::open(out, tag);
            ber::put(out, ber::OCTETS, name.as_bytes());
            ber::put(out, ber::OCTETS, &unescape(value));
            ber::close(out, element);
        };
        if let Some(name) = name.strip_suffix('~') {
            pair(out, 0xa8, name);
        } else if let Some(name) = name.strip_suffix('>') {
            pair(out, 0xa5, name);
        } else if let Some(name) = name.strip_suffix('<') {
            pair(out, 0xa6, name);
        } else if let Some(name) = name.strip_suffix(':') {
            let element = ber::open(out, 0xa9);
            let mut parts = name.split(':');
            ber::put(out, 0x82, parts.next().unwrap().as_bytes());
            for part in parts {
                if part == "dn" { ber::put(out, 0x84, &[0xff]) } else { ber::put(out, 0x81, part.as_bytes()) }
            }
            ber::put(out, 0x83, &unescape(value));
            ber::close(out, element);
        } else if value == "*" {
            ber::put(out, 0x87, name.as_bytes());
        } else if value.contains('*') {
            let element = ber::open(out, 0xa4);
            ber::put(out, ber::OCTETS, name.as_bytes());
            let list = ber::open(out, ber::SEQUENCE);
            let parts: Vec<&str> = value.split('*').collect();
            for (at, part) in parts.iter().enumerate() {
                let tag = if at == 0 {
                    0x80
                } else if at + 1 == parts.len() {
                    0x82
                } else {
                    0x81
                };
                if !part.is_empty() {
                    ber::put(out, tag, &unescape(part));
                }
            }
            ber::close(out, list);
            ber::close(out, element);
        } else {
            pair(out, 0xa3, name);
        }
    }

    fn unescape(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text.as_bytes();
        while let [c, behind @ ..] = rest {
            rest = behind;
            if *c == b'\\' {
                out.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
                rest = &rest[2..];
            } else {
                out.push(*c);
            }
        }
        out
    }

    pub(crate) fn parse(text: &str) -> Filter {
        let octets = ber_of(text);
        decode(&mut Reader::new(&octets)).unwrap().unwrap()
    }

    struct Alice;

    impl Values for Alice {
        fn values(&self, attribute: Attribute, each: &mut dyn FnMut(&[u8]) -> bool) {
            let values: &[&[u8]] = match attribute {
                Attribute::ObjectClass => &[b"top", b"person", b"inetOrgPerson", b"pkiUser"],
                Attribute::Mail => &[b"alice@example.org"],
                Attribute::Cn => &["Alice  Müller".as_bytes(), b"Alice Example"],
                Attribute::Sn => &["Müller".as_bytes()],
                Attribute::Uid => &[b"alice"],
                Attribute::UserCertificate => &[&[0x30, 0x82, 0xff, 0x00]],
                Attribute::EntryDn => &[b"mail=alice@example.org,dc=example,dc=org"],
                Attribute::EntryCsn => &[b"20261122073831.000000Z#000000#000#00002a"],
                _ => &[],
            };
            let _ = values.iter().all(|value| each(value));
        }
    }

    #[test]
    fn three_valued_table() {
        use Truth::{False, True, Undefined};
        for (filter, want) in [
            // Equality: case, space, quoting, names of the attribute.
            ("(mail=alice@example.org)", True),
            ("(MAIL=Alice@EXAMPLE.Org)", True),
            ("(rfc822mailbox=alice@example.org)", True),
            ("(0.9.2342.19200300.100.1.3=alice@example.org)", True),
            ("(mail=\"alice\"@example.org)", True),
            ("(mail=bob@example.org)", False),
            ("(mail=alice)", False),
            ("(cn=alice mu\u{308}ller)", True),
            ("(cn= ALICE   EXAMPLE )", True),
            ("(cn=alice)", False),
            ("(uid=ALICE)", True),
            ("(o=example)", False),
            ("(mail=alice\\ff)", Undefined),
            ("(mail~=ALICE@example.org)", True),
            // Presence.
            ("(objectClass=*)", True),
            ("(userCertificate=*)", True),
            ("(usercertificate;binary=*)", True),
            ("(cACertificate;binary=*)", False),
            ("(givenName=*)", Undefined),
            ("(mail;lang-de=*)", Undefined),
            // Object classes by name and number.
            ("(objectclass=PKIUSER)", True),
            ("(objectClass=2.5.6.21)", True),
            ("(objectClass=pkiCA)", False),
            ("(objectClass=groupOfNames)", Undefined),
            // Certificates: a binary value ends nothing, and no rule compares it here.
            ("(userCertificate;binary=\\30\\82\\ff\\00)", Undefined),
            ("(!(userCertificate;binary=\\30\\82\\ff\\00))", Undefined),
            // Substrings.
            ("(mail=ali*)", True),
            ("(mail=*@example.org)", True),
            ("(mail=*lice*exa*org)", True),
            ("(mail=*org*exa*)", False),
            ("(mail=alice@*@example.org)", False),
            ("(cn=*MÜLL*)", True),
            ("(cn=alice ex*)", True),
            ("(cn=*aliceex*)", False),
            ("(sn=*\\ff*)", Undefined),
            ("(objectClass=inet*)", Undefined),
            ("(userCertificate=*a*)", Undefined),
            ("(givenName=*x*)", Undefined),
            // Order.
            ("(mail>=alice@)", True),
            ("(mail>=b)", False),
            ("(uid<=ALICE)", True),
            ("(uid<=al)", False),
            ("(entryCSN>=20261122073831.000000Z#000000#000#000029)", True),
            ("(entryCSN>=20261122073831.000000Z#000000#000#00002b)", False),
            ("(objectClass>=a)", Undefined),
            ("(givenName>=a)", Undefined),
            // Names.
            ("(entryDN=MAIL=alice@example.org, DC=Example, DC=Org)", True),
            ("(entryDN=nonsense)", Undefined),
            // Subtypes (RFC 4512 section 2.5.1).
            ("(name=müller)", True),
            ("(name=bob)", False),
            // Extensible.
            ("(cn:caseIgnoreMatch:=alice example)", True),
            ("(cn:2.5.13.2:=alice example)", True),
            ("(cn:=alice example)", True),
            ("(cn:caseExactMatch:=Alice Example)", Undefined),
            ("(cn:dn:=alice example)", Undefined),
            // Absolute true and false (RFC 4526).
            ("(&)", True),
            ("(|)", False),
            // The three values combined.
            ("(&(uid=alice)(cn=alice example))", True),
            ("(&(uid=alice)(uid=bob))", False),
            ("(&(uid=alice)(foo=x))", Undefined),
            ("(&(uid=bob)(foo=x))", False),
            ("(|(uid=alice)(foo=x))", True),
            ("(|(uid=bob)(foo=x))", Undefined),
            ("(!(uid=bob))", True),
            ("(!(uid=alice))", False),
            ("(!(foo=x))", Undefined),
            ("(!(|(foo=x)(uid=alice)))", False),
        ] {
            assert_eq!(parse(filter).evaluate(&Alice), want, "{filter}");
        }
    }

    #[test]
    fn only_equalities_that_must_hold_pin_a_search() {
        let pins = |text: &str| -> Option<Vec<String>> {
            parse(text).pins().map(|pins| pins.iter().map(|pin| format!("{:?}={}", pin.attribute, pin.value)).collect())
        };
        let some = |values: &[&str]| Some(values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        assert_eq!(pins("(mail=A@example.org)"), some(&["Mail=a@example.org"]));
        assert_eq!(pins("(&(objectClass=*)(uid=a))"), some(&["Uid=a"]));
        assert_eq!(pins("(&(|(uid=a)(uid=b))(cn=c))"), some(&["Cn=c"]));
        assert_eq!(pins("(|(mail=a@b)(cn=c))"), some(&["Mail=a@b", "Cn=c"]));
        assert_eq!(pins("(|(mail=a@b)(foo=c))"), some(&["Mail=a@b"]));
        assert_eq!(pins("(|(mail=a@b)(cn=*c))"), None);
        assert_eq!(pins("(!(mail=a@b))"), None);
        assert_eq!(pins("(&(!(mail=a@b))(objectClass=*))"), None);
        assert_eq!(pins("(mail=*)"), None);
        assert_eq!(pins("(mail=a*)"), None);
        assert_eq!(pins("(sn=a)"), None);
        assert_eq!(pins("(&)"), None);
        assert_eq!(pins("(|)"), some(&[]));
    }

    #[test]
    fn limits_refuse_the_request_and_not_the_connection() {
        let nested = |depth: usize| format!("{}(uid=a){}", "(!".repeat(depth), ")".repeat(depth));
        let read = |text: &str| decode(&mut Reader::new(&ber_of(text))).unwrap();
        assert!(read(&nested(MAX_DEPTH - 1)).is_ok());
        assert!(matches!(read(&nested(MAX_DEPTH)), Err(Refusal::FilterTooLarge { .. })));
        assert!(matches!(read(&nested(5_000)), Err(Refusal::FilterTooLarge { .. })));
        let wide = |count: usize| format!("(|{})", "(uid=a)".repeat(count));
        assert!(read(&wide(MAX_ELEMENTS - 1)).is_ok());
        assert!(matches!(read(&wide(MAX_ELEMENTS)), Err(Refusal::FilterTooLarge { .. })));
        assert!(matches!(read(&format!("(uid=a{}*)", "*b".repeat(300))), Err(Refusal::FilterTooLarge { .. })));
    }

    #[test]
    fn broken_filters_are_malformed() {
        for octets in [
            &[][..],
            &[0xa3, 0x02, 0x04, 0x00],
            &[0xa2, 0x00],
            &[0xa2, 0x06, 0x87, 0x01, b'a', 0x87, 0x01, b'b'],
            &[0xa4, 0x05, 0x04, 0x01, b'a', 0x30, 0x00],
            &[0xa4, 0x0b, 0x04, 0x01, b'a', 0x30, 0x06, 0x82, 0x01, b'x', 0x80, 0x01, b'y'],
            &[0xa9, 0x03, 0x82, 0x01, b'a'],
        ] {
            assert!(decode(&mut Reader::new(octets)).is_err(), "{octets:02x?}");
        }
    }

    fn filters() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "(uid=alice)",
            "(uid=bob)",
            "(mail=alice@example.org)",
            "(cn=nobody)",
            "(foo=x)",
            "(objectClass=*)",
            "(cn=*x*)",
            "(sn>=a)",
        ])
        .prop_map(str::to_owned);
        leaf.prop_recursive(4, 24, 4, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                list.clone().prop_map(|parts| format!("(&{})", parts.concat())),
                list.prop_map(|parts| format!("(|{})", parts.concat())),
                inner.prop_map(|part| format!("(!{part})")),
            ]
        })
    }

    proptest! {
        /// A pinned filter that matches an entry has a pin that matches it: nothing is missed by looking only there.
        #[test]
        fn pins_cover_every_match(text in filters()) {
            let filter = parse(&text);
            if filter.evaluate(&Alice) == Truth::True && let Some(pins) = filter.pins() {
                prop_assert!(pins.iter().any(|pin| equal(pin.attribute, pin.value.as_bytes()).evaluate(&Alice) == Truth::True));
            }
        }

        /// De Morgan holds with three values.
        #[test]
        fn not_and_is_or_not(a in filters(), b in filters()) {
            let left = parse(&format!("(!(&{a}{b}))")).evaluate(&Alice);
            prop_assert_eq!(left, parse(&format!("(|(!{a})(!{b}))")).evaluate(&Alice));
        }
    }
}
