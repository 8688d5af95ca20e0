//! Writes a response into a buffer of the caller: header, question, records, OPT; or, when that is too long, the
//! truncated form.

use certdir_zones::RecordType;

use crate::request::{Edns, HEADER, IN, MAX_NAME, QR, Rcode, Request};

/// The smallest room for a response: what every client takes over UDP (RFC 1035 section 2.3.4). Header, the longest
/// question and OPT always fit.
pub(crate) const MIN_RESPONSE: usize = 512;
const _: () = assert!(HEADER + MAX_NAME + 4 + OPT <= MIN_RESPONSE);
/// Authoritative answer (RFC 1035 section 4.1.1).
const AA: u8 = 0x04;
/// Truncated.
const TC: u8 = 0x02;
/// Opcode and RD: the bits of the request's third octet that a response repeats. RA, AD and CD are never set
/// (RFC 4035 section 3.1.6).
const REPEATED: u8 = 0x79;
/// Octets of an OPT record without options.
const OPT: usize = 11;
/// Offsets that a compression pointer can express (RFC 1035 section 4.1.4).
const POINTER_RANGE: usize = 0x4000;

/// The owner name of a record to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'a> {
    /// It stands in the message already: a compression pointer.
    Pointer([u8; 2]),
    /// One label in front of a name that stands in the message already.
    Below(&'a [u8], [u8; 2]),
}

impl Owner<'_> {
    /// The name asked for.
    pub(crate) const QUESTION: Owner<'static> = Owner::Pointer(question(0));
}

/// Pointer to the name that begins `skip` octets into the name asked for.
pub(crate) const fn question(skip: usize) -> [u8; 2] {
    // A name has at most 255 octets: no carry into the pointer's marker bits.
    ((HEADER + skip) as u16 | 0xC000).to_be_bytes()
}

/// The section that a record is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer,
    Authority,
}

/// A response in the making. Writing past the end is remembered and acted on by [`Response::finish`].
pub(crate) struct Response<'a> {
    out: &'a mut [u8],
    length: usize,
    question_end: usize,
    overflow: bool,
    authoritative: bool,
    answers: u16,
    authorities: u16,
}

impl<'a> Response<'a> {
    /// Begins with room for the header, and the question. `out` is as long as the response may become, at least
    /// [`MIN_RESPONSE`].
    pub(crate) fn new(out: &'a mut [u8], request: &Request<'_>) -> Response<'a> {
        let mut response = Response {
            out,
            length: 0,
            question_end: 0,
            overflow: false,
            authoritative: false,
            answers: 0,
            authorities: 0,
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

    /// Adds one record of class IN; `ttl` in seconds.
    pub(crate) fn record(&mut self, section: Section, owner: Owner<'_>, rtype: RecordType, ttl: u32, rdata: &[u8]) {
        let pointer = match owner {
            Owner::Pointer(pointer) => pointer,
            Owner::Below(label, parent) => {
                self.put(&[label.len() as u8]);
                self.put(label);
                parent
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
        }
    }

    fn put(&mut self, octets: &[u8]) {
        let end = self.length + octets.len();
        match self.out.get_mut(self.length..end) {
            Some(room) => {
                room.copy_from_slice(octets);
                self.length = end;
            }
            None => self.overflow = true,
        }
    }

    /// Forgets all records: what is left says only the response code.
    pub(crate) fn clear(&mut self) {
        self.length = self.question_end;
        self.overflow = false;
        self.answers = 0;
        self.authorities = 0;
    }

    /// Whether the records and the OPT record fit.
    pub(crate) fn fits(&self, edns: Option<Edns>) -> bool {
        !self.overflow && self.length + if edns.is_some() { OPT } else { 0 } <= self.out.len()
    }

    /// Writes OPT (when the request had one, RFC 6891 section 6.1.1) and header; gives back the length in octets.
    /// `payload` is what we take over UDP ourselves. Records that do not fit are left out, all of them, and TC is set
    /// (RFC 2181 section 9).
    pub(crate) fn finish(mut self, request: &Request<'_>, rcode: Rcode, payload: u16) -> Finished {
        let truncated = !self.fits(request.edns);
        if truncated {
            self.clear();
        }
        if let Some(edns) = request.edns {
            let [payload0, payload1] = payload.to_be_bytes();
            let extended = (rcode.0 >> 4) as u8;
            let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
            self.put(&[0, 0, RecordType::OPT.0 as u8, payload0, payload1, extended, 0, dnssec_ok, 0, 0, 0]);
        }
        let [id0, id1] = request.id;
        let mut flags = QR | request.flags & REPEATED;
        flags |= if self.authoritative { AA } else { 0 } | if truncated { TC } else { 0 };
        let [answers0, answers1] = self.answers.to_be_bytes();
        let [authorities0, authorities1] = self.authorities.to_be_bytes();
        let questions = u8::from(!request.question.is_empty());
        let additional = u8::from(request.edns.is_some());
        let code = (rcode.0 & 15) as u8;
        let header =
            [id0, id1, flags, code, 0, questions, answers0, answers1, authorities0, authorities1, 0, additional];
        if let Some(room) = self.out.first_chunk_mut::<HEADER>() {
            *room = header;
        }
        Finished { length: self.length, rcode, truncated }
    }
}

/// A finished response: the first `length` octets of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Octets of the response.
    pub length: usize,
    /// Its response code.
    pub rcode: Rcode,
    /// TC is set: the client has to ask again over TCP.
    pub truncated: bool,
}
