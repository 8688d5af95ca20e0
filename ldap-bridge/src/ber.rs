//! The octets under LDAP: the part of BER that RFC 4511 section 5.1 leaves over (definite lengths, primitive strings,
//! one-octet tags), read from a borrowed slice and written to a growing one. Nothing here recurses or allocates by a
//! length that a peer claims.

use crate::error::Error;

/// BOOLEAN.
pub(crate) const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// OCTET STRING, and every string type made of it.
pub(crate) const OCTETS: u8 = 0x04;
/// ENUMERATED.
pub(crate) const ENUMERATED: u8 = 0x0a;
/// SEQUENCE and SEQUENCE OF.
pub(crate) const SEQUENCE: u8 = 0x30;
/// SET and SET OF.
pub(crate) const SET: u8 = 0x31;

/// The longest INTEGER content read; LDAP's own integers end at 2³¹ - 1 (RFC 4511 section 4.1.1, `maxInt`).
const MAX_INTEGER: usize = 8;

/// Reads elements one after the other from the content of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(content: &'a [u8]) -> Reader<'a> {
        Reader { rest: content }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element, when there is one.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element: its tag and its content.
    pub(crate) fn element(&mut self) -> Result<(u8, &'a [u8]), Error> {
        let Header { tag, start, length } =
            header(self.rest)?.ok_or(Error::Malformed("an element ends before its length"))?;
        let body = self.rest.get(start..).ok_or(Error::Malformed("an element ends before its content"))?;
        if body.len() < length {
            return Err(Error::Malformed("an element is longer than what holds it"));
        }
        let (content, rest) = body.split_at(length);
        self.rest = rest;
        Ok((tag, content))
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Error> {
        match self.element()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(Error::Malformed("an element has another tag than expected")),
        }
    }

    pub(crate) fn octets(&mut self) -> Result<&'a [u8], Error> {
        self.expect(OCTETS)
    }

    pub(crate) fn integer(&mut self, tag: u8) -> Result<i64, Error> {
        integer(self.expect(tag)?)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Error> {
        boolean(self.expect(BOOLEAN)?)
    }

    /// Reads over components that a later revision of the protocol added (RFC 4511 section 4: trailing components
    /// whose tags are not recognised are ignored). They must still be elements.
    pub(crate) fn ignore_rest(&mut self) -> Result<(), Error> {
        while !self.is_empty() {
            self.element()?;
        }
        Ok(())
    }
}

/// A signed integer from its content.
pub(crate) fn integer(content: &[u8]) -> Result<i64, Error> {
    let first = content.first().ok_or(Error::Malformed("an INTEGER is empty"))?;
    if content.len() > MAX_INTEGER {
        return Err(Error::Malformed("an INTEGER is out of range"));
    }
    let sign = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(content.iter().fold(sign, |value, octet| (value << 8) | i64::from(*octet)))
}

/// A truth value from its content. RFC 4511 section 5.1 wants FF for TRUE; BER lets any octet but zero mean it, and
/// there are clients that send 01.
pub(crate) fn boolean(content: &[u8]) -> Result<bool, Error> {
    match content {
        [octet] => Ok(*octet != 0),
        _ => Err(Error::Malformed("a BOOLEAN is not one octet")),
    }
}

/// Where the first message in `input` ends, or `None` while more octets are needed. Fails as early as the octets show
/// that no message can come of them: a tag other than SEQUENCE, an indefinite length, more than `max` octets in all.
pub(crate) fn frame(input: &[u8], max: usize) -> Result<Option<usize>, Error> {
    if input.first().is_some_and(|tag| *tag != SEQUENCE) {
        return Err(Error::Malformed("this is no LDAPMessage"));
    }
    let Some(Header { start, length, .. }) = header(input)? else { return Ok(None) };
    let end = start.saturating_add(length);
    if end > max {
        return Err(Error::TooLarge { limit: max });
    }
    Ok((input.len() >= end).then_some(end))
}

struct Header {
    tag: u8,
    start: usize,
    length: usize,
}

/// Tag and length at the start of `input`; `None` when it ends inside them.
fn header(input: &[u8]) -> Result<Option<Header>, Error> {
    let [tag, rest @ ..] = input else { return Ok(None) };
    if tag & 0x1f == 0x1f {
        return Err(Error::Malformed("LDAP has no tags of several octets"));
    }
    let [first, rest @ ..] = rest else { return Ok(None) };
    let count = match first {
        0..0x80 => return Ok(Some(Header { tag: *tag, start: 2, length: usize::from(*first) })),
        // RFC 4511 section 5.1 (1): only the definite form.
        0x80 => return Err(Error::Malformed("an indefinite length")),
        // Four octets of length describe more than any message here may hold.
        0x81..=0x84 => usize::from(first & 0x7f),
        _ => return Err(Error::Malformed("a length of more than four octets")),
    };
    let Some(octets) = rest.get(..count) else { return Ok(None) };
    let length = octets.iter().fold(0usize, |length, octet| (length << 8) | usize::from(*octet));
    Ok(Some(Header { tag: *tag, start: 2 + count, length }))
}

/// An element that was opened and waits for its length.
#[must_use]
pub(crate) struct Open(usize);

/// Begins a constructed element. Its length takes four octets whatever it comes to, which BER allows and which lets
/// the content be written behind it at once, without counting first or moving it afterwards.
pub(crate) fn open(out: &mut Vec<u8>, tag: u8) -> Open {
    out.extend_from_slice(&[tag, 0x84, 0, 0, 0, 0]);
    Open(out.len())
}

/// Ends the element that `open` began.
pub(crate) fn close(out: &mut [u8], Open(start): Open) {
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start - 4..start) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}

/// Writes a primitive element.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    match length.to_be_bytes() {
        [0, 0, 0, low @ 0..0x80] => out.extend_from_slice(&[tag, low]),
        [0, 0, 0, low] => out.extend_from_slice(&[tag, 0x81, low]),
        [0, 0, high, low] => out.extend_from_slice(&[tag, 0x82, high, low]),
        [a, b, c, d] => out.extend_from_slice(&[tag, 0x84, a, b, c, d]),
    }
    out.extend_from_slice(content);
}

/// Writes an INTEGER or ENUMERATED in its shortest form.
pub(crate) fn put_integer(out: &mut Vec<u8>, tag: u8, value: i32) {
    let octets = value.to_be_bytes();
    let mut content: &[u8] = &octets;
    while let [first, rest @ ..] = content {
        match rest.first() {
            Some(next) if (*first == 0 && next & 0x80 == 0) || (*first == 0xff && next & 0x80 != 0) => content = rest,
            _ => break,
        }
    }
    put(out, tag, content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_read_in_every_definite_form_and_no_other() {
        for (input, want) in [
            (&[0x04, 0x01, 0xaa][..], Some(&[0xaa][..])),
            (&[0x04, 0x81, 0x01, 0xaa], Some(&[0xaa])),
            (&[0x04, 0x84, 0, 0, 0, 1, 0xaa], Some(&[0xaa])),
            (&[0x04, 0x00], Some(&[])),
            (&[0x04, 0x80, 0, 0], None),
            (&[0x04, 0x85, 0, 0, 0, 0, 1, 0xaa], None),
            (&[0x04, 0x02, 0xaa], None),
            (&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff, 0xaa], None),
            (&[0x1f, 0x01, 0x00], None),
            (&[0x04], None),
            (&[], None),
        ] {
            assert_eq!(Reader::new(input).octets().ok(), want, "{input:02x?}");
        }
    }

    #[test]
    fn integers_keep_their_sign_and_their_bounds() {
        for (content, want) in [
            (&[0x00][..], Some(0)),
            (&[0x7f], Some(127)),
            (&[0xff], Some(-1)),
            (&[0x00, 0xff], Some(255)),
            (&[0x7f, 0xff, 0xff, 0xff], Some(i64::from(i32::MAX))),
            (&[], None),
            (&[1; 9], None),
        ] {
            assert_eq!(integer(content).ok(), want, "{content:02x?}");
        }
    }

    #[test]
    fn a_frame_is_refused_as_soon_as_it_cannot_become_a_message() {
        assert!(matches!(frame(&[], 100), Ok(None)));
        assert!(matches!(frame(&[0x30], 100), Ok(None)));
        assert!(matches!(frame(&[0x30, 0x82, 0x01], 100), Ok(None)));
        assert!(matches!(frame(&[0x30, 0x02, 0x05], 100), Ok(None)));
        assert!(matches!(frame(&[0x30, 0x02, 0x05, 0x00, 0x77], 100), Ok(Some(4))));
        assert!(matches!(frame(b"GET / HTTP/1.1", 100), Err(Error::Malformed(_))));
        assert!(matches!(frame(&[0x30, 0x80], 100), Err(Error::Malformed(_))));
        assert!(matches!(frame(&[0x30, 0x62], 100), Ok(None)));
        assert!(matches!(frame(&[0x30, 0x63], 100), Err(Error::TooLarge { limit: 100 })));
        assert!(matches!(frame(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], 100), Err(Error::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: i32, content in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let mut out = Vec::new();
            let outer = open(&mut out, SEQUENCE);
            put_integer(&mut out, INTEGER, value);
            put(&mut out, OCTETS, &content);
            close(&mut out, outer);
            prop_assert_eq!(frame(&out, usize::MAX).unwrap(), Some(out.len()));
            let mut inner = Reader::new(Reader::new(&out).expect(SEQUENCE).unwrap());
            prop_assert_eq!(inner.integer(INTEGER).unwrap(), i64::from(value));
            prop_assert_eq!(inner.octets().unwrap(), &content[..]);
            prop_assert!(inner.is_empty());
        }
    }
}
