//! Writes a response into a buffer of the caller: header, question, records, OPT; or, when that is too long, the
//! truncated form.

use std::net::IpAddr;

use certdir_certificate::UnixTime;
use certdir_zones::RecordType;

use crate::cookie::{COOKIE, CookieState};
use crate::rate::{Kind, Rates, Verdict};
use crate::request::{
    HEADER, IN, MAX_NAME, OPTION_COOKIE, OPTION_EXTENDED_ERROR, OPTION_KEEPALIVE, OPTION_PADDING, QR, Rcode, Request,
};

/// The smallest room for a response: what every client takes over UDP (RFC 1035 section 2.3.4). Header, the longest
/// question and OPT always fit.
pub(crate) const MIN_RESPONSE: usize = 512;
const _: () = assert!(HEADER + MAX_NAME + 4 + OPT + 4 * OPTION + COOKIE + 2 + 2 <= MIN_RESPONSE);
/// Authoritative answer (RFC 1035 section 4.1.1).
const AA: u8 = 0x04;
/// Truncated.
const TC: u8 = 0x02;
/// Opcode and RD: the bits of the request's third octet that a response repeats. RA, AD and CD are never set
/// (RFC 4035 section 3.1.6).
const REPEATED: u8 = 0x79;
/// Octets of an OPT record without options.
const OPT: usize = 11;
/// Octets of an option's code and length.
const OPTION: usize = 4;
/// A padded response has a multiple of so many octets (RFC 8467 section 4.1).
pub(crate) const PADDING_BLOCK: usize = 468;
/// Octets of a record whose owner is a pointer, without its RDATA.
pub(crate) const RECORD: usize = 12;
/// Offsets that a compression pointer can express (RFC 1035 section 4.1.4).
pub(crate) const POINTER_RANGE: usize = 0x4000;

/// The owner name of a record to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'a> {
    /// It stands in the message already: a compression pointer.
    Pointer([u8; 2]),
    /// One label in front of a name that stands in the message already.
    Below(&'a [u8], [u8; 2]),
    /// A name in full; not the root.
    Name(&'a [u8]),
}

/// Pointer to the name at this offset, which is below [`POINTER_RANGE`] (RFC 1035 section 4.1.4).
pub(crate) const fn pointer(offset: usize) -> [u8; 2] {
    (offset as u16 | 0xC000).to_be_bytes()
}

/// The section that a record is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// What the OPT record says (RFC 6891 section 6.1); its response code is said by [`Response::finish`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// What we take over UDP ourselves, in octets.
    pub(crate) payload: u16,
    pub(crate) dnssec_ok: bool,
    pub(crate) cookie: Option<[u8; COOKIE]>,
    /// How long the connection may be idle, in units of 100 milliseconds.
    pub(crate) keepalive: Option<u16>,
    /// The response is brought to a length that says little about what is in it.
    pub(crate) padded: bool,
}

impl Opt {
    /// Octets of the options without padding.
    fn options(&self, explanation: Option<Explanation>) -> usize {
        self.cookie.map_or(0, |_| OPTION + COOKIE)
            + self.keepalive.map_or(0, |_| OPTION + 2)
            + explanation.map_or(0, |_| OPTION + 2)
    }
}

/// Why an answer is an error: the extended error codes of RFC 8914 section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Explanation {
    /// More denials are asked for than may be signed.
    Other = 0,
    /// There are no zones yet, or they are too old.
    NotReady = 14,
    /// What is asked for is not allowed to anybody, such as a zone transfer.
    Prohibited = 18,
    /// The name is not in a zone hosted here.
    NotAuthoritative = 20,
}

/// What the source may have.
pub(crate) struct Gate<'a> {
    large: bool,
    rates: Option<&'a mut Rates>,
    source: IpAddr,
    now: UnixTime,
    /// What was decided, once it was asked.
    verdict: Option<Verdict>,
}

impl<'a> Gate<'a> {
    /// `large`: the source may have certificates, and long answers of other types. `rates`: it may have no more than that.
    pub(crate) fn new(large: bool, rates: Option<&'a mut Rates>, source: IpAddr, now: UnixTime) -> Gate<'a> {
        Gate { large, rates, source, now, verdict: None }
    }

    /// What becomes of a response of this kind. It counts once.
    fn verdict(&mut self, kind: Kind) -> Verdict {
        let Gate { rates, source, now, verdict, .. } = self;
        match rates {
            None => Verdict::Pass,
            Some(rates) => *verdict.get_or_insert_with(|| rates.take(*source, kind, *now)),
        }
    }
}

/// Why a response is empty and has TC set: the client has to ask again over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// It is longer than the client or this server takes in one datagram.
    Size,
    /// It has certificates, or other records in more than 512 octets, and the source is not verified (RFC 8162 section
    /// 9.1).
    Unverified,
    /// It needs a signature, and those of this second are used up.
    Budget,
    /// Its source got many like it in this second.
    Rate,
}

/// A response in the making. A reason to truncate it is remembered, further records are then ignored, and
/// [`Response::finish`] acts on it.
pub(crate) struct Response<'a> {
    out: &'a mut [u8],
    length: usize,
    question_end: usize,
    cut: Option<Truncation>,
    authoritative: bool,
    answers: u16,
    authorities: u16,
    additionals: u16,
    opt: Option<Opt>,
    explanation: Option<Explanation>,
    gate: Gate<'a>,
    /// There are answers that the source gets only when the response is short.
    only_short: bool,
}

/// A place in a response that it can go back to.
pub(crate) struct Mark {
    length: usize,
    additionals: u16,
}

impl<'a> Response<'a> {
    /// Begins with room for the header, and the question. `out` is as long as the response may become, at least
    /// [`MIN_RESPONSE`]. `opt` is there when the request had one (RFC 6891 section 6.1.1).
    pub(crate) fn new(out: &'a mut [u8], request: &Request<'_>, opt: Option<Opt>, gate: Gate<'a>) -> Response<'a> {
        let mut response = Response {
            out,
            length: 0,
            question_end: 0,
            cut: None,
            authoritative: false,
            answers: 0,
            authorities: 0,
            additionals: 0,
            opt,
            explanation: None,
            gate,
            only_short: false,
        };
        response.put(&[0; HEADER]);
        response.put(request.question);
        response.question_end = response.length;
        response
    }

    /// The answer comes from a zone hosted here: AA.
    pub(crate) fn set_authoritative(&mut self) {
        self.authoritative = true;
    }

    /// Where the next record's owner name will stand, when a pointer can reach it.
    pub(crate) fn position(&self) -> Option<Owner<'static>> {
        let offset = u16::try_from(self.length).ok().filter(|_| self.length < POINTER_RANGE)?;
        Some(Owner::Pointer((offset | 0xC000).to_be_bytes()))
    }

    /// Where the next record will begin, in octets; with an [`Owner::Pointer`] its RDATA begin [`RECORD`] octets later.
    pub(crate) fn offset(&self) -> usize {
        self.length
    }

    /// The end of what was put so far, in a response that [fits](Response::fits).
    pub(crate) fn mark(&self) -> Mark {
        Mark { length: self.length, additionals: self.additionals }
    }

    /// Forgets the additional records that were put since, also that they did not fit.
    pub(crate) fn rewind(&mut self, mark: &Mark) {
        self.length = mark.length;
        self.additionals = mark.additionals;
        self.cut = None;
    }

    /// Says why the answer is an error, to clients with EDNS.
    pub(crate) fn explain(&mut self, explanation: Explanation) {
        self.explanation = Some(explanation);
    }

    /// The response will be empty, with TC set. The first reason counts.
    pub(crate) fn cut(&mut self, reason: Truncation) {
        self.cut.get_or_insert(reason);
    }

    /// Whether a proof is worth its signatures: everything fits so far, and the source may have it.
    pub(crate) fn wants_proof(&mut self) -> bool {
        let kind = if self.answers > 0 { Kind::Positive } else { Kind::Denial };
        self.cut.is_none() && self.gate.verdict(kind) == Verdict::Pass
    }

    /// What rate limiting says, once the records are there.
    pub(crate) fn verdict(&mut self, rcode: Rcode) -> Verdict {
        if self.only_short && self.length_with_opt() > MIN_RESPONSE {
            self.cut(Truncation::Unverified);
        }
        let kind = match rcode {
            _ if self.cut == Some(Truncation::Unverified) => Kind::Withheld,
            Rcode::NOERROR if self.answers > 0 => Kind::Positive,
            Rcode::NOERROR | Rcode::NXDOMAIN => Kind::Denial,
            _ => Kind::Error,
        };
        let verdict = self.gate.verdict(kind);
        if verdict == Verdict::Slip {
            self.cut(Truncation::Rate);
        }
        verdict
    }

    /// Adds one record of class IN; `ttl` in seconds.
    pub(crate) fn record(&mut self, section: Section, owner: Owner<'_>, rtype: RecordType, ttl: u32, rdata: &[u8]) {
        if !self.gate.large && section == Section::Answer {
            match rtype {
                RecordType::SMIMEA | RecordType::CERT => self.cut(Truncation::Unverified),
                // Resolvers and checkers need these, and their owner cannot make them long.
                RecordType::SOA | RecordType::NS | RecordType::DNSKEY | RecordType::DS | RecordType::NSEC3PARAM => {}
                // The signature of one of them.
                RecordType::RRSIG if self.answers > 0 => {}
                _ => self.only_short = true,
            }
        }
        if self.cut.is_some() {
            return;
        }
        let pointer = match owner {
            Owner::Pointer(pointer) => pointer,
            Owner::Below(label, parent) => {
                self.put(&[label.len() as u8]);
                self.put(label);
                parent
            }
            Owner::Name(name) => {
                let Some((front, &end)) = name.split_last_chunk() else {
                    return self.cut(Truncation::Size);
                };
                self.put(front);
                end
            }
        };
        let [type0, type1] = rtype.0.to_be_bytes();
        let [class0, class1] = IN.to_be_bytes();
        let [ttl0, ttl1, ttl2, ttl3] = ttl.to_be_bytes();
        let [length0, length1] = (rdata.len() as u16).to_be_bytes();
        let [owner0, owner1] = pointer;
        self.put(&[owner0, owner1, type0, type1, class0, class1, ttl0, ttl1, ttl2, ttl3, length0, length1]);
        self.put(rdata);
        match section {
            Section::Answer => self.answers = self.answers.wrapping_add(1),
            Section::Authority => self.authorities = self.authorities.wrapping_add(1),
            Section::Additional => self.additionals = self.additionals.wrapping_add(1),
        }
    }

    fn put(&mut self, octets: &[u8]) {
        let end = self.length + octets.len();
        match self.out.get_mut(self.length..end) {
            Some(room) => {
                room.copy_from_slice(octets);
                self.length = end;
            }
            None => self.cut(Truncation::Size),
        }
    }

    /// Forgets all records: what is left says only the response code.
    pub(crate) fn clear(&mut self) {
        self.length = self.question_end;
        self.cut = None;
        self.only_short = false;
        self.answers = 0;
        self.authorities = 0;
        self.additionals = 0;
    }

    /// Whether the records and the OPT record fit.
    pub(crate) fn fits(&self) -> bool {
        self.cut.is_none() && self.length_with_opt() <= self.out.len()
    }

    fn length_with_opt(&self) -> usize {
        self.length + self.opt.map_or(0, |opt| OPT + opt.options(self.explanation))
    }

    /// Writes OPT and header; gives back the length in octets. A response that is cut, or does not fit, loses all its
    /// records and has TC set (RFC 2181 section 9).
    pub(crate) fn finish(mut self, request: &Request<'_>, rcode: Rcode) -> Finished {
        let truncated = if self.fits() { None } else { Some(self.cut.unwrap_or(Truncation::Size)) };
        if truncated.is_some() {
            self.clear();
            self.explanation = None;
        }
        if let Some(opt) = self.opt {
            self.put_opt(&opt, rcode);
        }
        let [id0, id1] = request.id;
        let mut flags = QR | request.flags & REPEATED;
        flags |= if self.authoritative { AA } else { 0 } | if truncated.is_some() { TC } else { 0 };
        let [answers0, answers1] = self.answers.to_be_bytes();
        let [authorities0, authorities1] = self.authorities.to_be_bytes();
        let [additionals0, additionals1] = self.additionals.wrapping_add(u16::from(self.opt.is_some())).to_be_bytes();
        let questions = u8::from(!request.question.is_empty());
        let header = [
            id0,
            id1,
            flags,
            (rcode.0 & 15) as u8,
            0,
            questions,
            answers0,
            answers1,
            authorities0,
            authorities1,
            additionals0,
            additionals1,
        ];
        if let Some(room) = self.out.first_chunk_mut::<HEADER>() {
            *room = header;
        }
        Finished {
            length: self.length,
            rcode,
            truncated,
            rtype: request.rtype,
            cookie: CookieState::None,
            keepalive_asked: request.edns.is_some_and(|edns| edns.keepalive),
            later: false,
            signed: 0,
            reused: 0,
        }
    }

    fn put_opt(&mut self, opt: &Opt, rcode: Rcode) {
        let mut options = opt.options(self.explanation);
        let mut padding = None;
        if opt.padded {
            let unpadded = self.length + OPT + options + OPTION;
            let padded = unpadded.next_multiple_of(PADDING_BLOCK).min(self.out.len());
            padding = padded.checked_sub(unpadded);
            options += padding.map_or(0, |padding| OPTION + padding);
        }
        let [payload0, payload1] = opt.payload.to_be_bytes();
        let extended = (rcode.0 >> 4) as u8;
        let dnssec_ok = if opt.dnssec_ok { 0x80 } else { 0 };
        // The message has at most 65,535 octets.
        let [length0, length1] = (options as u16).to_be_bytes();
        let rtype = RecordType::OPT.0 as u8;
        self.put(&[0, 0, rtype, payload0, payload1, extended, 0, dnssec_ok, 0, length0, length1]);
        if let Some(cookie) = opt.cookie {
            self.put_option(OPTION_COOKIE, &cookie);
        }
        if let Some(keepalive) = opt.keepalive {
            self.put_option(OPTION_KEEPALIVE, &keepalive.to_be_bytes());
        }
        if let Some(explanation) = self.explanation {
            self.put_option(OPTION_EXTENDED_ERROR, &(explanation as u16).to_be_bytes());
        }
        if let Some(padding) = padding {
            let zeros = [0; PADDING_BLOCK];
            self.put_option(OPTION_PADDING, zeros.get(..padding).unwrap_or_default());
        }
    }

    fn put_option(&mut self, code: u16, value: &[u8]) {
        let [code0, code1] = code.to_be_bytes();
        let [length0, length1] = (value.len() as u16).to_be_bytes();
        self.put(&[code0, code1, length0, length1]);
        self.put(value);
    }
}

/// A finished response: the first `length` octets of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Octets of the response.
    pub length: usize,
    /// Its response code.
    pub rcode: Rcode,
    /// TC is set, and the response is empty: why.
    pub truncated: Option<Truncation>,
    /// The type asked for; 0 where no question could be read.
    pub rtype: RecordType,
    /// What the request's cookie says.
    pub cookie: CookieState,
    /// The client asked how long its connection may be idle (RFC 7828).
    pub keepalive_asked: bool,
    /// The answer needs a signature, and those of this second are used up: wait a while and answer the same message
    /// again. The response that is there says SERVFAIL, for when the waiting has to end. Over UDP never set.
    pub later: bool,
    /// Denials that were signed for this response.
    pub signed: u8,
    /// Denials that were signed earlier and are in it again.
    pub reused: u8,
}
