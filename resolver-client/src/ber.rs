//! BER as LDAP and CMS use it (RFC 4511 section 5.1): reading without recursion, and writing.
//!
//! Definite lengths only, in any number of octets up to four: Active Directory writes all of them long. Nothing is read
//! deeper than its reader asks, so nesting costs nothing.

/// The octets are not BER, or not what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Tags, each with its class and the bit of constructed types.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[0]`, constructed.
    pub(crate) const CONTEXT_0: u8 = 0xa0;
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    /// With tag and length.
    pub(crate) whole: &'a [u8],
}

/// Elements, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Reader<'a> {
        Reader { rest: octets }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Malformed> {
        let Some((header, length)) = header(self.rest)? else { return Err(Malformed) };
        let (whole, rest) = self.rest.split_at_checked(header.saturating_add(length)).ok_or(Malformed)?;
        let (&tag, value) = (whole.first().ok_or(Malformed)?, whole.get(header..).ok_or(Malformed)?);
        self.rest = rest;
        Ok(Element { tag, value, whole })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        self.next().and_then(|element| if element.tag == tag { Ok(element) } else { Err(Malformed) })
    }

    /// The next element when it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Malformed> {
        if self.rest.first() == Some(&tag) { self.next().map(Some) } else { Ok(None) }
    }
}

impl<'a> Element<'a> {
    /// What is inside.
    pub(crate) fn open(&self) -> Reader<'a> {
        Reader::new(self.value)
    }

    /// An INTEGER or ENUMERATED that fits.
    pub(crate) fn integer(&self) -> Result<i32, Malformed> {
        let (&first, _) = self.value.split_first().ok_or(Malformed)?;
        if self.value.len() > 4 {
            return Err(Malformed);
        }
        let sign = if first & 0x80 == 0 { 0 } else { -1 };
        Ok(self.value.iter().fold(sign, |sum: i32, octet| sum << 8 | i32::from(*octet)))
    }

    /// The octets as text; what is no UTF-8 is replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.value).into_owned()
    }
}

/// The octets of tag and length, and the length; `None` when more octets are needed to tell.
fn header(octets: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let Some((tag, rest)) = octets.split_first() else { return Ok(None) };
    // Tag numbers above 30 occur in neither LDAP nor CMS.
    if tag & 0x1f == 0x1f {
        return Err(Malformed);
    }
    let Some((&first, rest)) = rest.split_first() else { return Ok(None) };
    if first < 0x80 {
        return Ok(Some((2, usize::from(first))));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return Err(Malformed);
    }
    let Some((length, _)) = rest.split_at_checked(count) else { return Ok(None) };
    let length = length.iter().fold(0, |sum: usize, octet| sum << 8 | usize::from(*octet));
    Ok(Some((2 + count, length)))
}

/// How many octets the SEQUENCE takes that begins here; `None` when it is not all there to tell. At most `most`.
pub(crate) fn frame(octets: &[u8], most: usize) -> Result<Option<usize>, Malformed> {
    if octets.first().is_some_and(|first| *first != tag::SEQUENCE) {
        return Err(Malformed);
    }
    match header(octets)? {
        Some((header, length)) if length <= most => Ok(Some(header + length)),
        Some(_) => Err(Malformed),
        None => Ok(None),
    }
}

/// Writes an element from the parts of its value.
pub(crate) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let octets = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            out.push(0x84);
            out.extend_from_slice(&octets);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Writes an INTEGER or ENUMERATED that is not negative, in the fewest octets.
pub(crate) fn write_integer(tag: u8, value: u32) -> Vec<u8> {
    let octets = u64::from(value).to_be_bytes();
    let needless = octets.windows(2).take_while(|pair| matches!(pair, [0, next] if next & 0x80 == 0)).count();
    write(tag, &[octets.get(needless..).unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_all_sizes_are_read() {
        for octets in [&[4, 1, 7][..], &[4, 0x81, 1, 7], &[4, 0x84, 0, 0, 0, 1, 7]] {
            let mut reader = Reader::new(octets);
            assert_eq!(reader.expect(tag::OCTET_STRING).unwrap().value, [7]);
            assert!(reader.is_empty());
        }
        for octets in [&[][..], &[4], &[4, 2, 7], &[4, 0x80, 7, 0, 0], &[4, 0x85, 0, 0, 0, 0, 1, 7], &[0x1f, 1, 7]] {
            assert!(Reader::new(octets).next().is_err(), "{octets:?}");
        }
    }

    #[test]
    fn frames_are_bounded() {
        assert_eq!(frame(&[], 10), Ok(None));
        assert_eq!(frame(&[0x30], 10), Ok(None));
        assert_eq!(frame(&[0x30, 0x84, 0, 0], 10), Ok(None));
        assert_eq!(frame(&[0x30, 0x84, 0, 0, 0, 10], 10), Ok(Some(16)));
        assert_eq!(frame(&[0x30, 0x84, 0, 0, 0, 11], 10), Err(Malformed));
        assert_eq!(frame(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], 10), Err(Malformed));
        assert_eq!(frame(b"HTTP/1.1 400", 10), Err(Malformed));
    }

    #[test]
    fn integers_are_written_in_the_fewest_octets() {
        for (value, octets) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0, 128]),
            (0x7fff_ffff, &[0x7f, 0xff, 0xff, 0xff]),
            (0xffff_ffff, &[0, 0xff, 0xff, 0xff, 0xff]),
        ] {
            let written = write_integer(tag::INTEGER, value);
            assert_eq!(written[2..], *octets);
            if value <= 0x7fff_ffff {
                let element = Reader::new(&written).next().unwrap();
                assert_eq!(element.integer(), Ok(i32::try_from(value).unwrap()));
            }
        }
        assert_eq!(Reader::new(&[2, 1, 0xff]).next().unwrap().integer(), Ok(-1));
        assert_eq!(write(tag::OCTET_STRING, &[&[1; 100], &[2; 100]])[..7], [4, 0x84, 0, 0, 0, 200, 1]);
    }
}
