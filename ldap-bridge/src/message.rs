//! The messages: what a client may send, read from its octets without copying them, and what is written back.
//!
//! RFC 4511 section 4.1.1 separates two kinds of bad message. Octets that cannot be taken apart end the connection
//! with a Notice of Disconnection: those are [`Error`]s. Everything else is answered in kind: a request that was
//! understood as far as its number and operation but makes no sense carries a [`Refusal`].

use crate::ber::{self, BOOLEAN, ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE};
use crate::error::Error;
use crate::filter::{self, Filter};
use crate::refusal::{Refusal, ResultCode};

/// The largest request read, in octets. A search for 256 addresses is about 20 KiB.
pub(crate) const MAX_REQUEST: usize = 64 * 1024;

/// The most controls a request may carry; nobody sends more than a handful.
const MAX_CONTROLS: usize = 32;

/// Application tags of requests (RFC 4511 appendix B).
mod tag {
    pub(super) const BIND: u8 = 0x60;
    pub(super) const UNBIND: u8 = 0x42;
    pub(super) const SEARCH: u8 = 0x63;
    pub(super) const MODIFY: u8 = 0x66;
    pub(super) const ADD: u8 = 0x68;
    pub(super) const DELETE: u8 = 0x4a;
    pub(super) const MODIFY_DN: u8 = 0x6c;
    pub(super) const COMPARE: u8 = 0x6e;
    pub(super) const ABANDON: u8 = 0x50;
    pub(super) const EXTENDED: u8 = 0x77;
    pub(super) const CONTROLS: u8 = 0xa0;
}

/// Application tags of responses (RFC 4511 appendix B).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum ResponseTag {
    Bind = 0x61,
    SearchEntry = 0x64,
    SearchDone = 0x65,
    Modify = 0x67,
    Add = 0x69,
    Delete = 0x6b,
    ModifyDn = 0x6d,
    Compare = 0x6f,
    Extended = 0x78,
}

/// One request of a client, borrowed from the octets it came in.
#[derive(Debug)]
pub struct Message<'a> {
    pub(crate) id: i32,
    pub(crate) request: Request<'a>,
    /// The first control that is critical; none is supported (RFC 4511 section 4.1.11).
    pub(crate) critical_control: Option<&'a [u8]>,
}

#[derive(Debug)]
pub(crate) enum Request<'a> {
    Bind(Bind<'a>),
    Unbind,
    Search(Result<Search<'a>, Refusal>),
    Compare(Compare<'a>),
    /// Modify, add, delete or modify DN; what it would change is not read.
    Write(ResponseTag),
    Abandon,
    Extended {
        name: &'a [u8],
        value: Option<&'a [u8]>,
    },
}

#[derive(Debug)]
pub(crate) struct Bind<'a> {
    pub(crate) version: i64,
    pub(crate) name: &'a [u8],
    /// The password of a simple bind; `None` for SASL and whatever comes later.
    pub(crate) password: Option<&'a [u8]>,
}

#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub(crate) base: &'a [u8],
    pub(crate) scope: Scope,
    /// The most entries the client wants; 0 when it sets no limit.
    pub(crate) size_limit: usize,
    pub(crate) types_only: bool,
    pub(crate) filter: Filter,
    pub(crate) attributes: Attributes<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    Base,
    OneLevel,
    Subtree,
}

#[derive(Debug)]
pub(crate) struct Compare<'a> {
    pub(crate) entry: &'a [u8],
    pub(crate) attribute: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// The names in an attribute selection, already known to be well formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(Reader<'a>);

impl<'a> Iterator for Attributes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() { None } else { self.0.octets().ok() }
    }
}

/// Reads one whole LDAPMessage (RFC 4511 section 4.1.1), never more than 64 KiB.
///
/// Every octet string may come from a stranger, so this is the function to fuzz: it must return for any input.
pub fn decode(octets: &[u8]) -> Result<Message<'_>, Error> {
    if octets.len() > MAX_REQUEST {
        return Err(Error::TooLarge { limit: MAX_REQUEST });
    }
    let mut outer = Reader::new(octets);
    let mut message = Reader::new(outer.expect(SEQUENCE)?);
    if !outer.is_empty() {
        return Err(Error::Malformed("there are octets after the message"));
    }
    // RFC 4511 section 4.1.1.1: requests are numbered from 1 to maxInt.
    let id = i32::try_from(message.integer(INTEGER)?)
        .ok()
        .filter(|id| *id > 0)
        .ok_or(Error::Malformed("a messageID out of range"))?;
    let (operation, content) = message.element()?;
    let request = request(operation, content)?;
    let mut critical_control = None;
    while !message.is_empty() {
        if let (tag::CONTROLS, controls) = message.element()? {
            critical_control = first_critical(controls)?;
        }
    }
    Ok(Message { id, request, critical_control })
}

fn request(operation: u8, content: &[u8]) -> Result<Request<'_>, Error> {
    let mut body = Reader::new(content);
    Ok(match operation {
        tag::BIND => {
            let (version, name) = (body.integer(INTEGER)?, body.octets()?);
            let (choice, credentials) = body.element()?;
            body.ignore_rest()?;
            Request::Bind(Bind { version, name, password: (choice == 0x80).then_some(credentials) })
        }
        tag::UNBIND => Request::Unbind,
        tag::SEARCH => search(body)?,
        tag::COMPARE => {
            let entry = body.octets()?;
            let mut assertion = Reader::new(body.expect(SEQUENCE)?);
            let (attribute, value) = (assertion.octets()?, assertion.octets()?);
            assertion.ignore_rest()?;
            body.ignore_rest()?;
            Request::Compare(Compare { entry, attribute, value })
        }
        tag::MODIFY => Request::Write(ResponseTag::Modify),
        tag::ADD => Request::Write(ResponseTag::Add),
        tag::DELETE => Request::Write(ResponseTag::Delete),
        tag::MODIFY_DN => Request::Write(ResponseTag::ModifyDn),
        tag::ABANDON => {
            ber::integer(content)?;
            Request::Abandon
        }
        tag::EXTENDED => {
            let name = body.expect(0x80)?;
            let value = if body.peek() == Some(0x81) { Some(body.expect(0x81)?) } else { None };
            body.ignore_rest()?;
            Request::Extended { name, value }
        }
        // RFC 4511 section 4.1.1: "the tag of the protocolOp is not recognized as a request".
        _ => return Err(Error::Malformed("the operation is no request")),
    })
}

/// RFC 4511 section 4.5.1.
fn search(mut body: Reader<'_>) -> Result<Request<'_>, Error> {
    let base = body.octets()?;
    let scope = body.integer(ENUMERATED)?;
    let aliases = body.integer(ENUMERATED)?;
    let size_limit = body.integer(INTEGER)?;
    let time_limit = body.integer(INTEGER)?;
    let types_only = body.boolean()?;
    let filter = filter::decode(&mut body)?;
    let attributes = Reader::new(body.expect(SEQUENCE)?);
    let mut names = attributes;
    while !names.is_empty() {
        names.octets()?;
    }
    body.ignore_rest()?;
    let scope = match scope {
        0 => Scope::Base,
        1 => Scope::OneLevel,
        2 => Scope::Subtree,
        _ => return Ok(Request::Search(Err(Refusal::BadRequest("the scope is none of base, one and sub")))),
    };
    if !(0..=3).contains(&aliases) {
        return Ok(Request::Search(Err(Refusal::BadRequest("derefAliases is out of range"))));
    }
    // There are no aliases to follow, and the work of a search is bounded below any time limit that can be asked for.
    let (Ok(size_limit), Ok(_)) = (u32::try_from(size_limit), u32::try_from(time_limit)) else {
        return Ok(Request::Search(Err(Refusal::BadRequest("a limit is out of range"))));
    };
    Ok(Request::Search(filter.map(|filter| Search {
        base,
        scope,
        size_limit: usize::try_from(size_limit).unwrap_or(usize::MAX),
        types_only,
        filter,
        attributes: Attributes(attributes),
    })))
}

/// The object identifier of the first control that the client insists on.
fn first_critical(content: &[u8]) -> Result<Option<&[u8]>, Error> {
    let mut controls = Reader::new(content);
    let mut critical = None;
    let mut count = 0;
    while !controls.is_empty() {
        count += 1;
        if count > MAX_CONTROLS {
            return Err(Error::Malformed("too many controls"));
        }
        let mut control = Reader::new(controls.expect(SEQUENCE)?);
        let oid = control.octets()?;
        let is_critical = control.peek() == Some(BOOLEAN) && control.boolean()?;
        control.ignore_rest()?;
        if is_critical && critical.is_none() {
            critical = Some(oid);
        }
    }
    Ok(critical)
}

/// Writes a response that carries an LDAPResult (RFC 4511 section 4.1.9) and, behind it, `extra` components.
pub(crate) fn put_result(
    out: &mut Vec<u8>,
    id: i32,
    tag: ResponseTag,
    code: ResultCode,
    matched: &str,
    diagnostic: &str,
    extra: impl FnOnce(&mut Vec<u8>),
) {
    let message = ber::open(out, SEQUENCE);
    ber::put_integer(out, INTEGER, id);
    let operation = ber::open(out, tag as u8);
    ber::put_integer(out, ENUMERATED, code as i32);
    ber::put(out, OCTETS, matched.as_bytes());
    ber::put(out, OCTETS, diagnostic.as_bytes());
    extra(out);
    ber::close(out, operation);
    ber::close(out, message);
}

/// Writes the response of a request that was refused.
pub(crate) fn put_refusal(out: &mut Vec<u8>, id: i32, tag: ResponseTag, refusal: &Refusal) {
    put_result(out, id, tag, refusal.code(), refusal.matched(), &refusal.to_string(), |_| {});
}

/// Writes the Notice of Disconnection, the last thing a client hears (RFC 4511 section 4.4.1).
pub(crate) fn put_notice(out: &mut Vec<u8>, refusal: &Refusal) {
    put_result(out, 0, ResponseTag::Extended, refusal.code(), "", &refusal.to_string(), |out| {
        ber::put(out, 0x8a, b"1.3.6.1.4.1.1466.20036");
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(id: i32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        let outer = ber::open(&mut out, SEQUENCE);
        ber::put_integer(&mut out, INTEGER, id);
        body(&mut out);
        ber::close(&mut out, outer);
        out
    }

    #[test]
    fn malformed_messages_are_told_from_requests_that_make_no_sense() {
        let unbind = |out: &mut Vec<u8>| ber::put(out, tag::UNBIND, b"");
        assert!(matches!(decode(&message(7, unbind)).unwrap(), Message { id: 7, request: Request::Unbind, .. }));
        for (why, octets) in [
            ("number 0", message(0, unbind)),
            ("a negative number", message(-1, unbind)),
            ("a response", message(1, |out| ber::put(out, 0x65, b""))),
            ("an unknown operation", message(1, |out| ber::put(out, 0x7e, b""))),
            ("no operation", message(1, |_| {})),
            ("a truncated bind", message(1, |out| ber::put(out, tag::BIND, &[2, 1, 3, 4]))),
            ("octets behind it", [message(1, unbind), vec![0]].concat()),
            (
                "garbage for controls",
                message(1, |out| {
                    unbind(out);
                    ber::put(out, tag::CONTROLS, &[0x30]);
                }),
            ),
            ("nothing", Vec::new()),
        ] {
            assert!(matches!(decode(&octets), Err(Error::Malformed(_))), "{why}");
        }
        assert!(matches!(decode(&vec![0x30; MAX_REQUEST + 1]), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn critical_controls_are_seen_and_later_components_ignored() {
        let octets = message(3, |out| {
            ber::put(out, tag::UNBIND, b"");
            let controls = ber::open(out, tag::CONTROLS);
            for (oid, critical) in [("1.2.3", None), ("1.2.4", Some(false)), ("1.2.5", Some(true))] {
                let control = ber::open(out, SEQUENCE);
                ber::put(out, OCTETS, oid.as_bytes());
                if let Some(critical) = critical {
                    ber::put(out, BOOLEAN, &[if critical { 0xff } else { 0 }]);
                }
                ber::put(out, OCTETS, b"value");
                ber::close(out, control);
            }
            ber::close(out, controls);
            ber::put(out, 0x8b, b"of a later revision");
        });
        assert_eq!(decode(&octets).unwrap().critical_control, Some(&b"1.2.5"[..]));
    }

    proptest! {
        #[test]
        fn decode_returns_for_any_octets(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&octets);
            // The same again behind a header that fits, so that the inner parts are reached.
            let _ = decode(&message(1, |out| ber::put(out, tag::SEARCH, &octets)));
            let _ = decode(&message(1, |out| ber::put(out, tag::BIND, &octets)));
        }
    }
}
