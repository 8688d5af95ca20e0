//! Reads a request: header, question and what EDNS says, without copying and without allocation.

use certdir_zones::RecordType;

/// Octets of a DNS header (RFC 1035 section 4.1.1).
pub(crate) const HEADER: usize = 12;
/// Longest domain name in wire form, with its root label (RFC 1035 section 3.1).
pub(crate) const MAX_NAME: usize = 255;
/// Longest label (RFC 1035 section 2.3.4). Greater length octets are compression pointers or reserved label types.
const MAX_LABEL: u8 = 63;
/// Class IN (RFC 1035 section 3.2.4).
pub(crate) const IN: u16 = 1;
/// The QR bit in the third octet of the header: set in responses.
pub(crate) const QR: u8 = 0x80;

/// A response code, with the extended ones of EDNS (RFC 6895 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcode(pub u16);

impl Rcode {
    /// No error.
    pub const NOERROR: Rcode = Rcode(0);
    /// The request could not be understood.
    pub const FORMERR: Rcode = Rcode(1);
    /// The request was understood and cannot be answered now.
    pub const SERVFAIL: Rcode = Rcode(2);
    /// The name does not exist.
    pub const NXDOMAIN: Rcode = Rcode(3);
    /// This kind of request is not implemented.
    pub const NOTIMP: Rcode = Rcode(4);
    /// The name is not in a zone served here.
    pub const REFUSED: Rcode = Rcode(5);
    /// A name that a DNAME record makes is too long (RFC 6672 section 2.2).
    pub const YXDOMAIN: Rcode = Rcode(6);
    /// The server is not authoritative for the name (RFC 8765 section 6.2.2).
    pub const NOTAUTH: Rcode = Rcode(9);
    /// This stateful operation is not implemented (RFC 8490 section 10.2).
    pub const DSOTYPENI: Rcode = Rcode(11);
    /// The EDNS version is not implemented (RFC 6891 section 6.1.3).
    pub const BADVERS: Rcode = Rcode(16);
    /// The server cookie is not one of ours (RFC 7873 section 8).
    pub const BADCOOKIE: Rcode = Rcode(23);
}

/// What the OPT record of a request says (RFC 6891 section 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edns<'a> {
    /// The largest UDP message the client takes, in octets, as it says.
    pub(crate) payload: u16,
    /// DNSSEC records are wanted (RFC 3225).
    pub(crate) dnssec_ok: bool,
    /// The COOKIE option: a client cookie, and a server cookie behind it or not (RFC 7873 section 4).
    pub(crate) cookie: Option<&'a [u8]>,
    /// The client asks how long a connection may be idle (RFC 7828).
    pub(crate) keepalive: bool,
    /// The request was padded, so the response is to be (RFC 7830 section 4).
    pub(crate) padding: bool,
}

/// Option codes of EDNS (RFC 7873 section 4, RFC 7828 section 3.1, RFC 7830 section 3, RFC 8914 section 2).
pub(crate) const OPTION_COOKIE: u16 = 10;
pub(crate) const OPTION_KEEPALIVE: u16 = 11;
pub(crate) const OPTION_PADDING: u16 = 12;
pub(crate) const OPTION_EXTENDED_ERROR: u16 = 15;

/// A request that deserves a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// The message's identification, to be copied.
    pub(crate) id: [u8; 2],
    /// The third octet of the header: QR, opcode, AA, TC, RD.
    pub(crate) flags: u8,
    /// The question section as sent; empty when it could not be read or must not be repeated.
    pub(crate) question: &'a [u8],
    /// The name asked for, as sent (a prefix of `question`).
    pub(crate) name: &'a [u8],
    pub(crate) rtype: RecordType,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns<'a>>,
    /// The first rule the request breaks: it is answered with this code and nothing else.
    pub(crate) fault: Option<Rcode>,
}

/// Reads a message. `None` for what gets no answer at all: fewer octets than a header, and anything that says it is a
/// response (answering those would let two servers talk to each other for ever).
pub(crate) fn parse(message: &[u8]) -> Option<Request<'_>> {
    let mut rest = Octets(message);
    let &[id0, id1, flags, _, qd0, qd1, an0, an1, ns0, ns1, ar0, ar1] = rest.take(HEADER)?.first_chunk::<HEADER>()?;
    if flags & QR != 0 {
        return None;
    }
    let mut request = Request {
        id: [id0, id1],
        flags,
        question: &[],
        name: &[],
        rtype: RecordType(0),
        class: 0,
        edns: None,
        fault: None,
    };
    if flags & 0x78 != 0 {
        // RFC 8906 section 3.1.4: an unknown opcode says nothing about what follows the header, so nothing is repeated.
        request.fault = Some(Rcode::NOTIMP);
        return Some(request);
    }
    // RFC 9619 section 4: a query has exactly one question, or none when it asks for a server cookie.
    let questions = u16::from_be_bytes([qd0, qd1]);
    if questions > 1 || questions == 1 && request.read_question(&mut rest).is_none() {
        request.fault = Some(Rcode::FORMERR);
        return Some(request);
    }
    let before_additional = u32::from(u16::from_be_bytes([an0, an1])) + u32::from(u16::from_be_bytes([ns0, ns1]));
    let additional = u32::from(u16::from_be_bytes([ar0, ar1]));
    request.fault = request.read_records(&mut rest, before_additional, additional).err();
    if questions == 0 && request.fault.is_none() && request.edns.is_none_or(|edns| edns.cookie.is_none()) {
        request.fault = Some(Rcode::FORMERR);
    }
    Some(request)
}

impl<'a> Request<'a> {
    /// The question: a name without compression, type and class (RFC 1035 section 4.1.2).
    fn read_question(&mut self, rest: &mut Octets<'a>) -> Option<()> {
        let start = rest.0;
        let name_length = name_length(start)?;
        self.name = rest.take(name_length)?;
        self.rtype = RecordType(rest.u16()?);
        self.class = rest.u16()?;
        self.question = start.get(..name_length + 4)?;
        Some(())
    }

    /// Walks over all records behind the question; only the OPT record is of interest.
    fn read_records(&mut self, rest: &mut Octets<'a>, before_additional: u32, additional: u32) -> Result<(), Rcode> {
        let mut version_known = true;
        for at in 0..before_additional + additional {
            let root_owner = rest.skip_owner().ok_or(Rcode::FORMERR)?;
            let record = Record::read(rest).ok_or(Rcode::FORMERR)?;
            if record.rtype != RecordType::OPT {
                continue;
            }
            // RFC 6891 section 6.1.1: in the additional section only, at most one, owned by the root.
            if at < before_additional || self.edns.is_some() || !root_owner {
                return Err(Rcode::FORMERR);
            }
            let [_, version, flags, _] = record.ttl;
            let mut edns = Edns { payload: record.class, dnssec_ok: flags & 0x80 != 0, ..Edns::default() };
            version_known = version == 0;
            let well_formed = !version_known || edns.read_options(record.rdata).is_some();
            self.edns = Some(edns);
            if !well_formed {
                return Err(Rcode::FORMERR);
            }
        }
        if !rest.0.is_empty() {
            return Err(Rcode::FORMERR);
        }
        // RFC 6891 section 6.1.3.
        if version_known { Ok(()) } else { Err(Rcode::BADVERS) }
    }
}

impl<'a> Edns<'a> {
    /// Reads the options. `None`: the list, or one that is known here, is malformed. Unknown options are ignored (RFC 6891
    /// section 6.1.2).
    fn read_options(&mut self, rdata: &'a [u8]) -> Option<()> {
        let mut rest = Octets(rdata);
        while !rest.0.is_empty() {
            let code = rest.u16()?;
            let length = rest.u16()?;
            let value = rest.take(usize::from(length))?;
            match code {
                // RFC 7873 section 5: the first one counts.
                OPTION_COOKIE if self.cookie.is_none() => {
                    // RFC 7873 section 5.2.2: a client cookie of 8 octets, a server cookie of 8 to 32 or none.
                    if !matches!(length, 8 | 16..=40) {
                        return None;
                    }
                    self.cookie = Some(value);
                }
                // RFC 7828 section 3.2.1: empty in requests; a time that stands there all the same means nothing.
                OPTION_KEEPALIVE => self.keepalive = true,
                OPTION_PADDING => self.padding = true,
                _ => {}
            }
        }
        Some(())
    }
}

/// Octets of the uncompressed name that starts here; `None` for a pointer, a reserved label type, a name that is cut
/// off, or one that is too long.
pub(crate) fn name_length(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < MAX_NAME {
        match *octets.get(at)? {
            0 => return Some(at + 1),
            length if length <= MAX_LABEL => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    None
}

/// A resource record behind its owner name.
pub(crate) struct Record<'a> {
    pub(crate) rtype: RecordType,
    class: u16,
    pub(crate) ttl: [u8; 4],
    pub(crate) rdata: &'a [u8],
}

impl<'a> Record<'a> {
    pub(crate) fn read(rest: &mut Octets<'a>) -> Option<Record<'a>> {
        let rtype = RecordType(rest.u16()?);
        let class = rest.u16()?;
        let ttl = *rest.take(4)?.first_chunk()?;
        let length = rest.u16()?;
        Some(Record { rtype, class, ttl, rdata: rest.take(usize::from(length))? })
    }
}

/// What is left to read.
pub(crate) struct Octets<'a>(pub(crate) &'a [u8]);

impl<'a> Octets<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|&octets| u16::from_be_bytes(octets))
    }

    /// Skips a record's owner name, which may end in a compression pointer; says whether it is the root.
    pub(crate) fn skip_owner(&mut self) -> Option<bool> {
        let mut first = true;
        loop {
            match *self.take(1)?.first()? {
                0 => return Some(first),
                length if length <= MAX_LABEL => self.take(usize::from(length))?,
                length if length >= 0xC0 => {
                    self.take(1)?;
                    return Some(false);
                }
                _ => return None,
            };
            first = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x03aBc\x07example\x00\x00\x35\x00\x01";
    const OPT: &[u8] = &[0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0];

    fn message(flags: [u8; 2], counts: [u8; 4], parts: &[&[u8]]) -> Vec<u8> {
        let mut octets = vec![0x12, 0x34, flags[0], flags[1]];
        counts.iter().for_each(|&count| octets.extend([0, count]));
        parts.iter().for_each(|part| octets.extend(*part));
        octets
    }

    fn fault(octets: &[u8]) -> Option<Rcode> {
        parse(octets).expect("an answer is due").fault
    }

    #[test]
    fn reads_question_and_edns() {
        let octets = message([0x01, 0x10], [1, 0, 0, 1], &[QUESTION, OPT]);
        let request = parse(&octets).unwrap();
        assert_eq!(request.fault, None);
        assert_eq!(request.name, b"\x03aBc\x07example\x00");
        assert_eq!(request.question, QUESTION);
        assert_eq!((request.rtype, request.class), (RecordType::SMIMEA, IN));
        assert_eq!(request.edns, Some(Edns { payload: 1232, dnssec_ok: true, ..Edns::default() }));
    }

    #[test]
    fn runts_and_responses_get_no_answer() {
        let octets = message([0x80, 0], [1, 0, 0, 0], &[QUESTION]);
        assert_eq!(parse(&octets), None);
        let query = message([0, 0], [1, 0, 0, 0], &[QUESTION]);
        for length in 0..HEADER {
            assert_eq!(parse(&query[..length]), None);
        }
    }

    #[test]
    fn every_cut_is_a_format_error() {
        let octets = message([0, 0], [1, 0, 0, 1], &[QUESTION, OPT]);
        for length in HEADER..octets.len() {
            assert_eq!(fault(&octets[..length]), Some(Rcode::FORMERR), "cut at {length}");
        }
        assert_eq!(fault(&octets), None);
    }

    #[test]
    fn malformed_requests() {
        let pointer: &[u8] = &[0xC0, 0x0C, 0, 1, 0, 1];
        let reserved: &[u8] = &[0x41, 0, 0, 1, 0, 1];
        let long: Vec<u8> = [[1, b'a'].repeat(127), vec![0, 0, 1, 0, 1]].concat();
        let too_long: Vec<u8> = [[1, b'a'].repeat(126), vec![2, b'a', b'a', 0, 0, 1, 0, 1]].concat();
        assert_eq!(fault(&message([0, 0], [1, 0, 0, 0], &[&long])), None);
        for (what, octets) in [
            ("no question", message([0, 0], [0, 0, 0, 0], &[])),
            ("two questions", message([0, 0], [2, 0, 0, 0], &[QUESTION, QUESTION])),
            ("pointer in the question", message([0, 0], [1, 0, 0, 0], &[pointer])),
            ("reserved label type", message([0, 0], [1, 0, 0, 0], &[reserved])),
            ("name of 256 octets", message([0, 0], [1, 0, 0, 0], &[&too_long])),
            ("two OPT", message([0, 0], [1, 0, 0, 2], &[QUESTION, OPT, OPT])),
            ("OPT in the answer section", message([0, 0], [1, 1, 0, 0], &[QUESTION, OPT])),
            ("OPT not at the root", message([0, 0], [1, 0, 0, 1], &[QUESTION, b"\x01a", OPT])),
            ("octets behind the end", message([0, 0], [1, 0, 0, 0], &[QUESTION, b"x"])),
            (
                "option longer than its record",
                message([0, 0], [1, 0, 0, 1], &[QUESTION, &[0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 1]]),
            ),
        ] {
            assert_eq!(fault(&octets), Some(Rcode::FORMERR), "{what}");
        }
    }

    /// A request with one option of this code and length.
    fn with_option(questions: u8, code: u16, length: u16) -> Vec<u8> {
        let mut opt = vec![0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0];
        opt.extend((length + 4).to_be_bytes());
        opt.extend(code.to_be_bytes());
        opt.extend(length.to_be_bytes());
        opt.extend((0..length).map(|at| at as u8));
        message([0, 0], [questions, 0, 0, 1], &[if questions > 0 { QUESTION } else { &[] }, &opt])
    }

    #[test]
    fn rfc7873_5_2_2_lengths_of_cookies() {
        for length in 0..=64 {
            let octets = with_option(1, OPTION_COOKIE, length);
            let request = parse(&octets).unwrap();
            if length == 8 || (16..=40).contains(&length) {
                assert_eq!(request.edns.unwrap().cookie.unwrap().len(), usize::from(length));
                assert_eq!(request.fault, None);
            } else {
                assert_eq!(request.fault, Some(Rcode::FORMERR), "{length}");
            }
        }
    }

    #[test]
    fn rfc7873_5_4_a_cookie_needs_no_question() {
        assert_eq!(fault(&with_option(0, OPTION_COOKIE, 8)), None);
        assert_eq!(fault(&with_option(0, OPTION_COOKIE, 9)), Some(Rcode::FORMERR));
        assert_eq!(fault(&with_option(0, OPTION_PADDING, 8)), Some(Rcode::FORMERR));
        assert_eq!(fault(&message([0, 0], [0, 0, 0, 1], &[OPT])), Some(Rcode::FORMERR));
    }

    #[test]
    fn keepalive_and_padding_are_noticed() {
        for (code, keepalive, padding) in [(OPTION_KEEPALIVE, true, false), (OPTION_PADDING, false, true)] {
            for length in [0, 2, 100] {
                let octets = with_option(1, code, length);
                let edns = parse(&octets).unwrap().edns.unwrap();
                assert_eq!((edns.keepalive, edns.padding, edns.cookie), (keepalive, padding, None));
            }
        }
    }

    #[test]
    fn versions_options_and_opcodes() {
        let version_1 = &[0, 0, 41, 4, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(fault(&message([0, 0], [1, 0, 0, 1], &[QUESTION, version_1])), Some(Rcode::BADVERS));
        let unknown_option = &[0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 5, 0xFD, 0xE9, 0, 1, 7];
        assert_eq!(fault(&message([0, 0], [1, 0, 0, 1], &[QUESTION, unknown_option])), None);
        let other_record = &[0xC0, 0x0C, 0, 16, 0, 1, 0, 0, 0, 0, 0, 2, 1, b'x'];
        assert_eq!(fault(&message([0, 0], [1, 0, 0, 2], &[QUESTION, other_record, OPT])), None);
        for opcode in 1..16 {
            let octets = message([opcode << 3, 0], [1, 0, 0, 0], &[QUESTION]);
            let request = parse(&octets).unwrap();
            assert_eq!((request.fault, request.question.len()), (Some(Rcode::NOTIMP), 0));
        }
    }
}
