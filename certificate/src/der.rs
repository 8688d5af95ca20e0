//! The TLV reader: DER elements (X.690) as borrowed slices.
//!
//! The reader goes through the elements of one level; a caller opens the next level itself, so that there is no
//! recursion and the depth is that of the caller's code. Every step consumes at least two octets of a bounded input.
//!
//! The `der` crate is not used for this because it refuses what a directory has to carry: object identifiers with arcs
//! above 32 bits (`2.25.<UUID>`), `UniversalString` in a name, times before 1970. The tests compare both.

use std::ops::Range;

/// Identifier octets (X.690 section 8.1.2) of the types that certificates use.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const NUMERIC_STRING: u8 = 0x12;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const TELETEX_STRING: u8 = 0x14;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const VISIBLE_STRING: u8 = 0x1a;
    pub(crate) const UNIVERSAL_STRING: u8 = 0x1c;
    pub(crate) const BMP_STRING: u8 = 0x1e;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// `[n]`, primitive (IMPLICIT of a primitive type).
    pub(crate) const fn context(n: u8) -> u8 {
        0x80 | n
    }

    /// `[n]`, constructed (EXPLICIT, or IMPLICIT of a constructed type).
    pub(crate) const fn context_constructed(n: u8) -> u8 {
        0xa0 | n
    }
}

/// What is wrong with an element. A caller turns it into [`Error::Malformed`](crate::Error::Malformed), which names the
/// part of the certificate.
pub(crate) type Problem = &'static str;

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    /// The identifier octet. Tag numbers above 30 need more octets than one and do not occur in certificates; the
    /// reader refuses them.
    pub(crate) tag: u8,
    /// The contents octets.
    pub(crate) value: &'a [u8],
    /// The whole element, identifier and length included.
    pub(crate) raw: &'a [u8],
    /// Where `raw` begins in the input that the outermost reader was made for.
    start: usize,
}

impl<'a> Element<'a> {
    /// A reader for what is inside.
    pub(crate) fn open(&self) -> Reader<'a> {
        Reader { rest: self.value, position: self.start + (self.raw.len() - self.value.len()) }
    }

    /// Place of the whole element in the outermost input.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.start + self.raw.len()
    }

    /// Place of the contents in the outermost input.
    pub(crate) fn value_range(&self) -> Range<usize> {
        self.start + (self.raw.len() - self.value.len())..self.start + self.raw.len()
    }
}

/// Goes through the elements of one level.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Reader<'a> {
        Reader { rest: input, position: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, Problem> {
        let Header { tag, header, length } = Header::read(self.rest)?;
        let (raw, rest) = header
            .checked_add(length)
            .and_then(|whole| self.rest.split_at_checked(whole))
            .ok_or("an element is longer than what holds it")?;
        let value = raw.get(header..).unwrap_or_default();
        let element = Element { tag, value, raw, start: self.position };
        self.position += raw.len();
        self.rest = rest;
        Ok(element)
    }

    /// The next element, which has to have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, Problem> {
        if self.peek() != Some(tag) {
            return Err(if self.is_empty() { "an element is missing" } else { "an element has the wrong type" });
        }
        self.next()
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Problem> {
        if self.peek() == Some(tag) { self.next().map(Some) } else { Ok(None) }
    }

    /// Nothing may follow.
    pub(crate) fn finish(&self) -> Result<(), Problem> {
        if self.is_empty() { Ok(()) } else { Err("an element too many") }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }
}

/// The only element of an input, with nothing behind it.
pub(crate) fn only(input: &[u8], tag: u8) -> Result<Element<'_>, Problem> {
    let mut reader = Reader::new(input);
    let element = reader.expect(tag)?;
    reader.finish()?;
    Ok(element)
}

/// Identifier and length octets, before it is known whether the contents are there.
pub(crate) struct Header {
    pub(crate) tag: u8,
    /// Octets of the header itself.
    pub(crate) header: usize,
    /// Octets of the contents.
    pub(crate) length: usize,
}

impl Header {
    /// Reads the definite, minimal length that DER demands (X.690 sections 8.1.3 and 10.1).
    pub(crate) fn read(input: &[u8]) -> Result<Header, Problem> {
        let (tag, first, more) = match input {
            [tag, first, more @ ..] => (*tag, *first, more),
            _ => return Err("an element ends within its header"),
        };
        if tag & 0x1f == 0x1f {
            return Err("an element has a tag number above 30");
        }
        if first < 0x80 {
            return Ok(Header { tag, header: 2, length: usize::from(first) });
        }
        // Four length octets hold 4 GiB, which is more than any input here.
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return Err("an element has an indefinite or oversized length");
        }
        let octets = more.get(..count).ok_or("an element ends within its header")?;
        let length = octets.iter().fold(0u64, |length, octet| length << 8 | u64::from(*octet));
        if octets.first() == Some(&0) || length < 0x80 {
            return Err("an element has a length that is not minimal");
        }
        let length = usize::try_from(length).map_err(|_| "an element has an indefinite or oversized length")?;
        Ok(Header { tag, header: 2 + count, length })
    }
}

/// The contents of a BOOLEAN (X.690 section 11.1).
pub(crate) fn boolean(value: &[u8]) -> Result<bool, Problem> {
    match value {
        [0x00] => Ok(false),
        [0xff] => Ok(true),
        _ => Err("a BOOLEAN is neither 00 nor FF"),
    }
}

/// The contents of a BIT STRING: the count of unused bits, at most 7, and the octets (X.690 section 8.6).
pub(crate) fn bit_string(value: &[u8]) -> Result<(u8, &[u8]), Problem> {
    match value {
        [0, octets @ ..] => Ok((0, octets)),
        [unused @ 1..=7, octets @ ..] if !octets.is_empty() => Ok((*unused, octets)),
        _ => Err("a BIT STRING has a wrong count of unused bits"),
    }
}

/// One element with these contents, its length in the shortest form.
pub(crate) fn write(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => out.push(short),
        _ => {
            let octets = length.to_be_bytes();
            let octets = octets.get(length.leading_zeros() as usize / 8..).unwrap_or_default();
            out.push(0x80 | u8::try_from(octets.len()).unwrap_or_default());
            out.extend_from_slice(octets);
        }
    }
    contents.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let contents = vec![7; length];
            let written = write(tag::OCTET_STRING, &[&contents, &[]]);
            assert_eq!(only(&written, tag::OCTET_STRING).unwrap().value, contents);
        }
    }

    #[test]
    fn lengths_are_definite_and_minimal() {
        for (input, why) in [
            (&[0x30][..], "an element ends within its header"),
            (&[0x30, 0x80, 0, 0], "an element has an indefinite or oversized length"),
            (&[0x30, 0x85, 1, 0, 0, 0, 0], "an element has an indefinite or oversized length"),
            (&[0x30, 0x81, 0x7f], "an element has a length that is not minimal"),
            (&[0x30, 0x82, 0x00, 0x80], "an element has a length that is not minimal"),
            (&[0x30, 0x82, 0x01], "an element ends within its header"),
            (&[0x30, 0x01], "an element is longer than what holds it"),
            (&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], "an element is longer than what holds it"),
            (&[0x3f, 0x21, 0x00], "an element has a tag number above 30"),
        ] {
            assert_eq!(Reader::new(input).next().unwrap_err(), why, "{input:02x?}");
        }
    }

    #[test]
    fn places_are_those_of_the_outermost_input() {
        let input = [0x30, 0x05, 0x02, 0x01, 0x07, 0x05, 0x00, 0x04, 0x00];
        let mut reader = Reader::new(&input);
        let outer = reader.expect(tag::SEQUENCE).unwrap();
        let mut inside = outer.open();
        let integer = inside.expect(tag::INTEGER).unwrap();
        assert_eq!(input[integer.range()], *integer.raw);
        assert_eq!(input[integer.value_range()], [7]);
        let null = inside.expect(0x05).unwrap();
        assert_eq!((null.range(), inside.finish()), (5..7, Ok(())));
        assert_eq!(reader.next().unwrap().range(), 7..9);
        assert_eq!(reader.expect(tag::SET).unwrap_err(), "an element is missing");
    }
}
