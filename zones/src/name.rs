//! [`Name`]: an absolute domain name in canonical wire form.

use crate::Error;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Octets of a name with all length octets and the root (RFC 1035 section 2.3.4).
pub const MAX_NAME: usize = 255;
/// Octets of one label (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;
/// Labels that fit [`MAX_NAME`], without the root.
const MAX_LABELS: usize = 127;

/// An absolute domain name: uncompressed wire form, US-ASCII letters in lower case (RFC 4034 section 6.2).
///
/// `Ord` is the canonical order of RFC 4034 section 6.1. `Hash` and `Eq` are those of [`Name::as_wire`], so that a hash
/// map keyed by `Name` can be asked with octets; the *order* is not that of the octets, so an ordered map must be asked
/// with a `Name`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Reads the master-file form (RFC 1035 section 5.1): `\.` and `\DDD` escapes, with or without the trailing dot;
    /// always absolute.
    pub fn parse(text: &str) -> Result<Name, Error> {
        if text == "." {
            return Ok(Name::root());
        }
        let text = text.as_bytes();
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label = Vec::new();
        let mut octets = text.iter().copied();
        let mut closed = false;
        while let Some(octet) = octets.next() {
            closed = octet == b'.';
            match octet {
                b'.' => {
                    push_label(&mut wire, &label)?;
                    label.clear();
                }
                b'\\' => label.push(escaped(&mut octets)?),
                _ => label.push(octet),
            }
        }
        if !closed {
            push_label(&mut wire, &label)?;
        }
        wire.push(0);
        Name::from_wire(&wire)
    }

    /// Takes one uncompressed name with nothing behind it; letters are lowered.
    pub fn from_wire(wire: &[u8]) -> Result<Name, Error> {
        match wire_len(wire)? {
            len if len == wire.len() && !wire.iter().any(u8::is_ascii_uppercase) => Ok(Name(wire.into())),
            len if len == wire.len() => Ok(Name(wire.to_ascii_lowercase().into())),
            _ => Err(Error::Name { reason: "there are octets behind the root label" }),
        }
    }

    /// Takes the uncompressed name that `octets` begin with; the rest is returned.
    pub fn split_from(octets: &[u8]) -> Result<(Name, &[u8]), Error> {
        let len = wire_len(octets)?;
        match octets.split_at_checked(len) {
            Some((name, rest)) => Ok((Name(name.to_ascii_lowercase().into()), rest)),
            None => Err(Error::Name { reason: "it is cut off" }),
        }
    }

    /// `.`, the root.
    #[must_use]
    pub fn root() -> Name {
        Name(Arc::from([0].as_slice()))
    }

    /// The wire form with the root label. Length octets are below 64, so lower-casing wire octets never changes one.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, left to right, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.0)
    }

    /// The number of labels as RRSIG counts them: without the root and without a leading `*` (RFC 4034 section 3.1.3).
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.labels().count() - usize::from(self.is_wildcard())
    }

    /// Whether the left-most label is `*` (RFC 4592 section 2.1.1).
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// The name without its left-most label; none of the root.
    #[must_use]
    pub fn parent(&self) -> Option<Name> {
        parent(&self.0).map(|wire| Name(wire.into()))
    }

    /// One more label on the left. Errors: an empty or too long label, a name that gets too long.
    pub fn prepend(&self, label: &[u8]) -> Result<Name, Error> {
        let mut wire = Vec::with_capacity(label.len() + 1 + self.0.len());
        push_label(&mut wire, label)?;
        wire.extend_from_slice(&self.0);
        Name::from_wire(&wire)
    }

    /// Whether this is `other` or below it.
    #[must_use]
    pub fn is_at_or_below(&self, other: &Name) -> bool {
        is_at_or_below(&self.0, &other.0)
    }

    /// Puts labels in front of a name where the caller's limits rule out that it gets too long
    /// ([`crate::address::MAX_DOMAIN`]); nothing is checked.
    pub(crate) fn from_labels_and_suffix(labels: &[&[u8]], suffix: &[u8]) -> Name {
        let mut wire = Vec::with_capacity(MAX_NAME);
        for label in labels {
            debug_assert!(!label.is_empty() && label.len() <= MAX_LABEL);
            wire.push(u8::try_from(label.len()).unwrap_or_default());
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.extend_from_slice(suffix);
        debug_assert_eq!(wire_len(&wire), Ok(wire.len()));
        Name(wire.into())
    }
}

/// The labels of a wire-form name, left to right, without the root.
pub(crate) fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (&len, tail) = rest.split_first()?;
        let (label, tail) = tail.split_at_checked(usize::from(len))?;
        rest = tail;
        (!label.is_empty()).then_some(label)
    })
}

/// Where the labels of a name begin, left to right, without the root.
pub(crate) struct LabelStarts {
    at: [u8; MAX_LABELS],
    count: usize,
}

impl LabelStarts {
    pub(crate) fn of(wire: &[u8]) -> LabelStarts {
        let mut starts = LabelStarts { at: [0; MAX_LABELS], count: 0 };
        let mut start = 0u8;
        for (slot, label) in starts.at.iter_mut().zip(labels(wire)) {
            *slot = start;
            starts.count += 1;
            start = start.saturating_add(1).saturating_add(u8::try_from(label.len()).unwrap_or(u8::MAX));
        }
        starts
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        self.at.iter().take(self.count).map(|start| usize::from(*start))
    }
}

/// A wire-form name without its left-most label; none of the root.
pub(crate) fn parent(wire: &[u8]) -> Option<&[u8]> {
    let len = usize::from(*wire.first()?);
    if len == 0 { None } else { wire.get(len + 1..) }
}

/// Whether `wire` is `other` or below it; both lower-case wire forms.
#[must_use]
pub fn is_at_or_below(wire: &[u8], other: &[u8]) -> bool {
    let mut suffix = Some(wire);
    while let Some(name) = suffix {
        match name.len().cmp(&other.len()) {
            Ordering::Less => return false,
            Ordering::Equal => return name == other,
            Ordering::Greater => suffix = parent(name),
        }
    }
    false
}

/// Length of the uncompressed name that `octets` begin with.
fn wire_len(octets: &[u8]) -> Result<usize, Error> {
    let mut at = 0;
    loop {
        let len = match octets.get(at) {
            None => {
                return Err(Error::Name { reason: "it is cut off" });
            }
            Some(&len) => usize::from(len),
        };
        if len > MAX_LABEL {
            return Err(Error::Name { reason: "a label is longer than 63 octets, or compressed" });
        }
        at += len + 1;
        if at > MAX_NAME {
            return Err(Error::Name { reason: "it is longer than 255 octets" });
        }
        if len == 0 {
            return Ok(at);
        }
    }
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), Error> {
    match u8::try_from(label.len()) {
        Ok(0) => Err(Error::Name { reason: "a label is empty" }),
        Ok(len) if label.len() <= MAX_LABEL => {
            wire.push(len);
            wire.extend_from_slice(label);
            Ok(())
        }
        _ => Err(Error::Name { reason: "a label is longer than 63 octets" }),
    }
}

/// What stands behind a backslash (RFC 1035 section 5.1): three digits, or any other octet as itself.
pub(crate) fn escaped(octets: &mut impl Iterator<Item = u8>) -> Result<u8, Error> {
    const BAD: Error =
        Error::Name { reason: "a backslash is followed by neither three digits up to 255 nor a character" };
    let digit = |octet: u8| octet.is_ascii_digit().then(|| u16::from(octet - b'0'));
    let first = octets.next().ok_or(BAD)?;
    let Some(hundreds) = digit(first) else {
        return Ok(first);
    };
    let tens = octets.next().and_then(digit).ok_or(BAD)?;
    let ones = octets.next().and_then(digit).ok_or(BAD)?;
    u8::try_from(hundreds * 100 + tens * 10 + ones).map_err(|_| BAD)
}

impl Ord for Name {
    /// RFC 4034 section 6.1: by labels from the right, each as an octet string, an absent one first.
    fn cmp(&self, other: &Self) -> Ordering {
        right_to_left(&self.0, &LabelStarts::of(&self.0)).cmp(right_to_left(&other.0, &LabelStarts::of(&other.0)))
    }
}

fn right_to_left<'a>(wire: &'a [u8], starts: &'a LabelStarts) -> impl Iterator<Item = &'a [u8]> {
    starts.iter().rev().filter_map(|start| labels(wire.get(start..)?).next())
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    /// The master-file form with the trailing dot; what a zone file gives a meaning to is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        if self.0.len() == 1 {
            return f.write_char('.');
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => write!(f, "\\{}", char::from(octet))?,
                    0x21..=0x7e => f.write_char(char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_char('.')?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn text_and_wire() {
        assert_eq!(name("WWW.Example.ORG").as_wire(), b"\x03www\x07example\x03org\x00");
        assert_eq!(name("www.example.org."), name("www.example.org"));
        assert_eq!(name(r"a\.b.c\046d\\.\032").as_wire(), b"\x03a.b\x04c.d\\\x01 \x00");
        assert_eq!(name(r"a\.b.c\046d\\.\032").to_string(), r"a\.b.c\.d\\.\032.");
        assert_eq!(Name::root().to_string(), ".");
        assert_eq!(name("."), Name::root());
    }

    #[test]
    fn what_is_no_name() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "x".repeat(61));
        assert_eq!(name(&longest).as_wire().len(), MAX_NAME);
        for text in
            ["", "..", ".a", "a..b", "a\\", "a\\25", "a\\256", "a\\2x5", &"x".repeat(64), &format!("{longest}x")]
        {
            assert_eq!(Name::parse(text).unwrap_err().code(), "bad-name", "{text}");
        }
        for wire in [&b""[..], b"\x01", b"\x01a", b"\x01a\x00\x00", b"\xc0\x00", b"\x40aaaa\x00"] {
            assert_eq!(Name::from_wire(wire).unwrap_err().code(), "bad-name", "{wire:?}");
        }
        assert!(name("a").prepend(b"").is_err());
        assert!(name("a").prepend(&[b'x'; 64]).is_err());
        assert!(name(&longest).prepend(b"x").is_err());
    }

    /// The list of RFC 4034 section 6.1.
    #[test]
    fn canonical_order() {
        let sorted = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            r"\001.z.example.",
            "*.z.example.",
            r"\200.z.example.",
        ]
        .map(name);
        assert!(sorted.is_sorted());
        assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn relations() {
        let wildcard = name("*.example.org");
        assert_eq!((wildcard.label_count(), name("a.*.org").label_count(), Name::root().label_count()), (2, 3, 0));
        assert_eq!(wildcard.parent(), Some(name("example.org")));
        assert_eq!(Name::root().parent(), None);
        assert_eq!(name("example.org").prepend(b"A.b").unwrap(), name(r"a\.b.example.org"));
        for (below, above, expected) in [
            ("a.example.org", "example.org", true),
            ("example.org", "example.org", true),
            ("example.org", ".", true),
            ("org", "example.org", false),
            ("badexample.org", "example.org", false),
        ] {
            assert_eq!(name(below).is_at_or_below(&name(above)), expected, "{below} {above}");
        }
        let map = HashMap::from([(name("example.org"), 1)]);
        assert_eq!(map.get(b"\x07example\x03org\x00".as_slice()), Some(&1));
    }
}
