//! DNS Stateful Operations (RFC 8490) and DNS Push Notifications (RFC 8765) on the wire, for either end of a connection.
//!
//! [`Header::read`] says whether a message is one of these at all, and to whom an error is due; [`read`] takes it apart;
//! [`Writer`] and [`Push`] make messages. What a message is allowed to be in the state of a session is for its ends to
//! decide: nothing here knows of sessions. Times are milliseconds, as they are on the wire.

use crate::name::{LabelStarts, MAX_NAME};
use crate::{Error, Name, RecordType};

/// The opcode of every message here (RFC 8490 section 5.4.1).
pub const OPCODE: u8 = 6;
/// Octets of the longest PUSH message, without the length in front of it (RFC 8765 section 6.3.1).
pub const MAX_PUSH: usize = 16_382;
/// Class and type 255: all of them (RFC 8765 section 6.2.1).
pub const ANY: u16 = 255;
/// A timeout that never comes, and the longest delay (RFC 8490 sections 6.4.2, 6.5.2 and 6.6.1.2).
pub const NEVER: u32 = u32::MAX;
/// The shortest keepalive interval that a server may say (RFC 8490 section 6.5.2).
pub const MIN_KEEPALIVE: u32 = 10_000;
/// Both timeouts of a session in which nobody has said anything about them (RFC 8490 section 6.2).
pub const DEFAULT_TIMEOUT: u32 = 15_000;

/// Octets of a DNS header (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
/// Pointers in one name. More are no name's (127 labels at most), and a message full of them would be a long walk.
const MAX_POINTERS: usize = 128;
/// Octets of a TLV before its data (RFC 8490 section 5.4.4).
const TLV: usize = 4;
/// The TTLs that are none (RFC 8765 section 6.3.1).
const REMOVED: u32 = 0xFFFF_FFFF;
const ALL_REMOVED: u32 = 0xFFFF_FFFE;
const MAX_TTL: u32 = 0x7FFF_FFFF;

/// The types of TLVs (RFC 8490 section 10.3, RFC 8765 section 8.2).
mod kind {
    pub(super) const KEEPALIVE: u16 = 0x01;
    pub(super) const RETRY_DELAY: u16 = 0x02;
    pub(super) const PADDING: u16 = 0x03;
    pub(super) const SUBSCRIBE: u16 = 0x40;
    pub(super) const PUSH: u16 = 0x41;
    pub(super) const UNSUBSCRIBE: u16 = 0x42;
    pub(super) const RECONFIRM: u16 = 0x43;
}

const fn bad(reason: &'static str) -> Error {
    Error::Stateful { reason }
}

/// What the header of a stateful message says (RFC 8490 section 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The identification. Of a request it is not 0; a message with 0 is unidirectional, and nobody answers it.
    pub id: u16,
    /// QR: it answers a request.
    pub response: bool,
    /// The response code; in a Retry Delay message the reason.
    pub rcode: u8,
}

impl Header {
    /// Reads the header. None: too short for one, or another opcode.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Header> {
        let &[id0, id1, flags, codes, ..] = message.first_chunk::<HEADER>()?;
        (flags >> 3 & 0x0F == OPCODE).then(|| Header {
            id: u16::from_be_bytes([id0, id1]),
            response: flags & 0x80 != 0,
            rcode: codes & 0x0F,
        })
    }
}

/// A stateful message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its header.
    pub header: Header,
    /// The first TLV: what the message is about. Only a response may do without.
    pub primary: Option<Tlv<'a>>,
    /// What a Retry Delay TLV behind the first says, or in a response any: how long not to try again.
    pub retry_delay: Option<u32>,
    /// There is an Encryption Padding TLV: the response has to have one, too (RFC 8490 section 7.3).
    pub padded: bool,
}

/// The first TLV of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tlv<'a> {
    /// Session timeouts: wanted by a client, said by a server (RFC 8490 section 7.1).
    Keepalive(Keepalive),
    /// Go away and come again after so many milliseconds (RFC 8490 section 7.2).
    RetryDelay(u32),
    /// Padding, which is no operation (RFC 8490 section 7.3).
    Padding,
    /// Records wanted from now on (RFC 8765 section 6.2).
    Subscribe(Subject),
    /// Changes of records, in the order in which they are to be made; at least one (RFC 8765 section 6.3).
    Push(Vec<Change<'a>>),
    /// The identification of the request whose records are not wanted any more (RFC 8765 section 6.4).
    Unsubscribe(u16),
    /// A record that may not be true any more, and its RDATA (RFC 8765 section 6.5).
    Reconfirm(Subject, &'a [u8]),
    /// A type that is not known here.
    Unknown(u16),
}

/// The timeouts of a session (RFC 8490 section 6.2), in milliseconds; [`NEVER`] for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How long a session may be without any operation.
    pub inactivity: u32,
    /// How long a session with operations may be without any message.
    pub interval: u32,
}

/// What a subscription is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The owner, in lower case. An asterisk in it is an asterisk (RFC 8765 section 6.2.1).
    pub name: Name,
    /// The type, or [`ANY`].
    pub rtype: RecordType,
    /// The class, or [`ANY`].
    pub class: u16,
}

/// A change of the records of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// The owner, in lower case.
    pub name: Name,
    /// The type; [`ANY`] where all are removed.
    pub rtype: RecordType,
    /// The class; [`ANY`] where all are removed.
    pub class: u16,
    /// What becomes of them.
    pub what: What<'a>,
}

/// What becomes of records (RFC 8765 section 6.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// A record is there, with this TTL.
    Added {
        /// Seconds, at most 2^31 - 1.
        ttl: u32,
        /// As it stands in the message: names in it may be compressed.
        rdata: &'a [u8],
    },
    /// A record is gone.
    Removed {
        /// As it stands in the message: names in it may be compressed.
        rdata: &'a [u8],
    },
    /// All records of the type and class are gone.
    AllRemoved,
    /// The TTL means nothing; the change is to be ignored.
    Unknown,
}

/// Takes a message apart. Errors: it is no stateful message; a count in the header is not zero (FORMERR is due, RFC
/// 8490 section 5.4); a TLV is cut off, or a known one that stands first has not its form; nothing stands first where
/// something must; a PUSH that its receiver must not bear with. TLVs behind the first are skipped (section 5.4.5).
pub fn read(message: &[u8]) -> Result<Message<'_>, Error> {
    let header = Header::read(message).ok_or(bad("it is none: too short, or another opcode"))?;
    let (counts, mut rest) =
        message.get(4..).and_then(<[u8]>::split_first_chunk::<8>).ok_or(bad("its header is cut off"))?;
    if counts != &[0; 8] {
        return Err(bad("it has records"));
    }
    let mut read = Message { header, primary: None, retry_delay: None, padded: false };
    while !rest.is_empty() {
        let (kind, data, behind) = split(rest).ok_or(bad("a TLV is cut off"))?;
        let at = message.len() - behind.len() - data.len();
        match kind {
            kind::PADDING => read.padded = true,
            kind::RETRY_DELAY if header.response || read.primary.is_some() => {
                read.retry_delay.get_or_insert(number(data)?);
            }
            _ => {}
        }
        if read.primary.is_none() {
            read.primary = Some(primary(kind, data, message, at)?);
        }
        rest = behind;
    }
    if read.primary.is_none() && !header.response {
        return Err(bad("it is about nothing"));
    }
    Ok(read)
}

/// The type and the data of the first TLV, and what is behind it.
fn split(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[kind0, kind1, length0, length1], rest) = octets.split_first_chunk::<TLV>()?;
    let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([length0, length1])))?;
    Some((u16::from_be_bytes([kind0, kind1]), data, rest))
}

/// The TLV that stands first; its data begin at `at` in the message.
fn primary<'a>(kind: u16, data: &'a [u8], message: &'a [u8], at: usize) -> Result<Tlv<'a>, Error> {
    Ok(match kind {
        kind::KEEPALIVE => {
            let (inactivity, interval) = data.split_at_checked(4).ok_or(bad("a Keepalive TLV has eight octets"))?;
            Tlv::Keepalive(Keepalive { inactivity: number(inactivity)?, interval: number(interval)? })
        }
        kind::RETRY_DELAY => Tlv::RetryDelay(number(data)?),
        kind::PADDING => Tlv::Padding,
        kind::SUBSCRIBE => match subject(data)? {
            (subject, []) => Tlv::Subscribe(subject),
            _ => return Err(bad("a SUBSCRIBE TLV has one name, one type and one class")),
        },
        kind::PUSH => Tlv::Push(changes(message, at, data.len())?),
        kind::UNSUBSCRIBE => match *data {
            [id0, id1] => Tlv::Unsubscribe(u16::from_be_bytes([id0, id1])),
            _ => return Err(bad("an UNSUBSCRIBE TLV has two octets")),
        },
        kind::RECONFIRM => {
            let (subject, rdata) = subject(data)?;
            if subject.rtype.0 == ANY || subject.class == ANY {
                return Err(bad("a RECONFIRM TLV has one record"));
            }
            Tlv::Reconfirm(subject, rdata)
        }
        unknown => Tlv::Unknown(unknown),
    })
}

fn number(data: &[u8]) -> Result<u32, Error> {
    let octets = data.first_chunk::<4>().filter(|_| data.len() == 4).ok_or(bad("a time has four octets"))?;
    Ok(u32::from_be_bytes(*octets))
}

/// An uncompressed name, a type and a class, and what is behind them.
fn subject(data: &[u8]) -> Result<(Subject, &[u8]), Error> {
    let (name, rest) = Name::split_from(data).map_err(|_| bad("a name is none, or compressed"))?;
    let (&[type0, type1, class0, class1], rest) =
        rest.split_first_chunk::<4>().ok_or(bad("a type or a class is cut off"))?;
    let rtype = RecordType(u16::from_be_bytes([type0, type1]));
    Ok((Subject { name, rtype, class: u16::from_be_bytes([class0, class1]) }, rest))
}

/// The changes of a PUSH message, whose data begin at `at` and have `length` octets (RFC 8765 section 6.3.1).
fn changes(message: &[u8], mut at: usize, length: usize) -> Result<Vec<Change<'_>>, Error> {
    const CUT: Error = bad("a change is cut off");
    if message.len() > MAX_PUSH {
        return Err(bad("a PUSH message has at most 16,382 octets"));
    }
    let end = at + length;
    let mut changes = Vec::new();
    while at < end {
        let name = expand(message, &mut at)?;
        let fixed = message.get(at..end).and_then(<[u8]>::first_chunk::<10>).ok_or(CUT)?;
        let &[type0, type1, class0, class1, ttl0, ttl1, ttl2, ttl3, length0, length1] = fixed;
        let rtype = RecordType(u16::from_be_bytes([type0, type1]));
        let class = u16::from_be_bytes([class0, class1]);
        let ttl = u32::from_be_bytes([ttl0, ttl1, ttl2, ttl3]);
        at += fixed.len();
        let behind = at + usize::from(u16::from_be_bytes([length0, length1]));
        let rdata = message.get(at..end).and_then(|rest| rest.get(..behind - at)).ok_or(CUT)?;
        at = behind;
        let any = rtype.0 == ANY || class == ANY;
        let what = match ttl {
            0..=MAX_TTL | REMOVED if any => return Err(bad("one record has one type and one class")),
            0..=MAX_TTL => What::Added { ttl, rdata },
            REMOVED => What::Removed { rdata },
            ALL_REMOVED if !rdata.is_empty() => return Err(bad("all records have no RDATA")),
            ALL_REMOVED => What::AllRemoved,
            _ => What::Unknown,
        };
        changes.push(Change { name, rtype, class, what });
    }
    if changes.is_empty() { Err(bad("a PUSH message has a change")) } else { Ok(changes) }
}

/// The name at `at`, which may be compressed (RFC 1035 section 4.1.4); `at` is then behind it. Every pointer points in
/// front of where the reading began, so the reading ends; how many there may be keeps it short.
fn expand(message: &[u8], at: &mut usize) -> Result<Name, Error> {
    const BAD: Error = bad("a name is cut off, or points nowhere");
    let mut wire = Vec::new();
    let (mut from, mut begun, mut behind) = (*at, *at, None);
    let mut pointers = 0;
    loop {
        let length = *message.get(from).ok_or(BAD)?;
        if length >= 0xC0 {
            let low = *message.get(from + 1).ok_or(BAD)?;
            behind.get_or_insert(from + 2);
            from = usize::from(u16::from_be_bytes([length & 0x3F, low]));
            pointers += 1;
            if from < HEADER || from >= begun || pointers > MAX_POINTERS {
                return Err(BAD);
            }
            begun = from;
            continue;
        }
        let next = from + 1 + usize::from(length);
        wire.extend_from_slice(message.get(from..next).ok_or(BAD)?);
        if wire.len() > MAX_NAME {
            return Err(BAD);
        }
        from = next;
        if length == 0 {
            *at = behind.unwrap_or(from);
            return Name::from_wire(&wire).map_err(|_| BAD);
        }
    }
}

/// Makes every message but PUSH.
#[derive(Debug, Clone)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A request; `id` is not 0.
    #[must_use]
    pub fn request(id: u16) -> Writer {
        Writer(header(id, 0, 0))
    }

    /// A message that nobody answers.
    #[must_use]
    pub fn unidirectional() -> Writer {
        Writer(header(0, 0, 0))
    }

    /// The response to the request `id`.
    #[must_use]
    pub fn response(id: u16, rcode: u8) -> Writer {
        Writer(header(id, 0x80, rcode))
    }

    /// A server's last message, and its reason (RFC 8490 section 6.6.1).
    #[must_use]
    pub fn farewell(rcode: u8, delay: u32) -> Writer {
        Writer(header(0, 0, rcode)).retry_delay(delay)
    }

    /// Timeouts (RFC 8490 section 7.1).
    #[must_use]
    pub fn keepalive(self, Keepalive { inactivity, interval }: Keepalive) -> Writer {
        self.tlv(kind::KEEPALIVE, &[inactivity.to_be_bytes(), interval.to_be_bytes()].concat())
    }

    /// When to try again, in milliseconds (RFC 8490 section 7.2).
    #[must_use]
    pub fn retry_delay(self, delay: u32) -> Writer {
        self.tlv(kind::RETRY_DELAY, &delay.to_be_bytes())
    }

    /// Records wanted (RFC 8765 section 6.2.1).
    #[must_use]
    pub fn subscribe(self, subject: &Subject) -> Writer {
        self.tlv(kind::SUBSCRIBE, &subject.to_wire())
    }

    /// Records not wanted any more, by the identification of the request for them (RFC 8765 section 6.4.1).
    #[must_use]
    pub fn unsubscribe(self, id: u16) -> Writer {
        self.tlv(kind::UNSUBSCRIBE, &id.to_be_bytes())
    }

    /// A record to be looked at again (RFC 8765 section 6.5.1).
    #[must_use]
    pub fn reconfirm(self, subject: &Subject, rdata: &[u8]) -> Writer {
        self.tlv(kind::RECONFIRM, &[&subject.to_wire(), rdata].concat())
    }

    /// Padding to a multiple of so many octets; 0 for the shortest (RFC 8490 section 7.3, RFC 8467 section 4.1).
    #[must_use]
    pub fn padded_to(mut self, block: usize) -> Writer {
        pad(&mut self.0, block, usize::from(u16::MAX));
        self
    }

    /// The message.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn tlv(mut self, kind: u16, data: &[u8]) -> Writer {
        let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
        self.0.extend([kind.to_be_bytes(), length.to_be_bytes()].as_flattened());
        self.0.extend(data.iter().take(usize::from(length)));
        self
    }
}

impl Subject {
    fn to_wire(&self) -> Vec<u8> {
        [self.name.as_wire(), &self.rtype.0.to_be_bytes(), &self.class.to_be_bytes()].concat()
    }
}

fn header(id: u16, qr: u8, rcode: u8) -> Vec<u8> {
    let [id0, id1] = id.to_be_bytes();
    vec![id0, id1, qr | OPCODE << 3, rcode & 0x0F, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Appends padding up to a multiple of `block` octets, or up to `most` of them; none where not even an empty TLV fits.
fn pad(message: &mut Vec<u8>, block: usize, most: usize) {
    let least = message.len() + TLV;
    let target = least.next_multiple_of(block.max(1)).min(most);
    if let Some(length) = target.checked_sub(least) {
        let [length0, length1] = u16::try_from(length).unwrap_or_default().to_be_bytes();
        let [kind0, kind1] = kind::PADDING.to_be_bytes();
        message.extend([kind0, kind1, length0, length1]);
        message.resize(target, 0);
    }
}

/// Makes a PUSH message, change by change, until it is full. Owners are compressed, names in RDATA are not.
#[derive(Debug, Clone)]
pub struct Push {
    message: Vec<u8>,
    /// The owner of the last change, and where each of its labels stands in the message.
    owner: Option<(Name, Vec<u16>)>,
}

impl Default for Push {
    fn default() -> Push {
        Push::new()
    }
}

impl Push {
    /// One without changes.
    #[must_use]
    pub fn new() -> Push {
        let [kind0, kind1] = kind::PUSH.to_be_bytes();
        let mut message = header(0, 0, 0);
        message.extend([kind0, kind1, 0, 0]);
        Push { message, owner: None }
    }

    /// Whether there is no change in it yet: then it is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owner.is_none()
    }

    /// Octets of the message so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.message.len()
    }

    /// Adds a change. `false`, and nothing is added: the message would have more than [`MAX_PUSH`] octets.
    /// [`What::Unknown`] is never added.
    pub fn put(&mut self, change: &Change<'_>) -> bool {
        let (ttl, rdata) = match change.what {
            What::Added { ttl, rdata } => (ttl.min(MAX_TTL), rdata),
            What::Removed { rdata } => (REMOVED, rdata),
            What::AllRemoved => (ALL_REMOVED, &[][..]),
            What::Unknown => return false,
        };
        let Ok(length) = u16::try_from(rdata.len()) else { return false };
        let before = self.message.len();
        let places = self.write_owner(&change.name);
        self.message.extend(change.rtype.0.to_be_bytes());
        self.message.extend(change.class.to_be_bytes());
        self.message.extend(ttl.to_be_bytes());
        self.message.extend(length.to_be_bytes());
        self.message.extend(rdata);
        if self.message.len() > MAX_PUSH {
            self.message.truncate(before);
            return false;
        }
        self.owner = Some((change.name.clone(), places));
        true
    }

    /// Writes a name with a pointer to what it has in common with the one before (RFC 1035 section 4.1.4), and says where
    /// its labels stand.
    fn write_owner(&mut self, name: &Name) -> Vec<u16> {
        let wire = name.as_wire();
        let starts: Vec<usize> = LabelStarts::of(wire).iter().collect();
        let (last, known) = match &self.owner {
            Some((last, places)) => (last.as_wire(), places.as_slice()),
            None => (&[][..], &[][..]),
        };
        let last_starts: Vec<usize> = LabelStarts::of(last).iter().collect();
        let common = starts
            .iter()
            .rev()
            .zip(last_starts.iter().rev())
            .take_while(|(start, last_start)| wire.get(**start..) == last.get(**last_start..))
            .count();
        let own = starts.len() - common;
        let shared = known.get(known.len() - common.min(known.len())..).unwrap_or_default();
        let at = u16::try_from(self.message.len()).unwrap_or_default();
        let own_places = starts.iter().take(own).map(|start| at + u16::try_from(*start).unwrap_or_default());
        let places: Vec<u16> = own_places.chain(shared.iter().copied()).collect();
        match shared.first() {
            Some(pointer) => {
                let written = starts.get(own).and_then(|end| wire.get(..*end)).unwrap_or_default();
                self.message.extend(written);
                self.message.extend((0xC000 | pointer).to_be_bytes());
            }
            None => self.message.extend(wire),
        }
        places
    }

    /// The message, padded to a multiple of `block` octets where one is given, as far as [`MAX_PUSH`] allows.
    #[must_use]
    pub fn finish(mut self, block: Option<usize>) -> Vec<u8> {
        let length = self.message.len().saturating_sub(HEADER + TLV);
        if let Some(place) = self.message.get_mut(HEADER + 2..HEADER + TLV) {
            place.copy_from_slice(&u16::try_from(length).unwrap_or_default().to_be_bytes());
        }
        if let Some(block) = block {
            pad(&mut self.message, block, MAX_PUSH);
        }
        self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn subject(text: &str) -> Subject {
        Subject { name: name(text), rtype: RecordType::SMIMEA, class: 1 }
    }

    #[test]
    fn what_is_written_reads_back() {
        let timeouts = Keepalive { inactivity: 15_000, interval: NEVER };
        let cases = [
            (Writer::request(7).keepalive(timeouts), Tlv::Keepalive(timeouts)),
            (Writer::farewell(2, 1_000), Tlv::RetryDelay(1_000)),
            (Writer::request(0xFFFF).subscribe(&subject("a.example.org")), Tlv::Subscribe(subject("a.example.org"))),
            (Writer::unidirectional().unsubscribe(9), Tlv::Unsubscribe(9)),
            (
                Writer::unidirectional().reconfirm(&subject("example.org"), b"rdata"),
                Tlv::Reconfirm(subject("example.org"), b"rdata"),
            ),
        ];
        for (writer, primary) in cases {
            for block in [None, Some(0), Some(128)] {
                let message = block.map_or(writer.clone(), |block| writer.clone().padded_to(block)).finish();
                let read = read(&message).unwrap();
                assert_eq!((read.primary.as_ref(), read.padded), (Some(&primary), block.is_some()));
                assert_eq!(message.len() % block.unwrap_or(1).max(1), 0);
                for cut in 0..message.len() {
                    if let Ok(less) = super::read(&message[..cut]) {
                        assert_eq!(less.primary, read.primary, "only the padding may go");
                    }
                }
            }
        }
    }

    #[test]
    fn rfc8490_5_4_1_the_octets_of_a_request() {
        let message = Writer::request(0x1234).subscribe(&subject("a.b")).finish();
        let expected = b"\x12\x34\x30\x00\0\0\0\0\0\0\0\0\x00\x40\x00\x09\x01a\x01b\x00\x00\x35\x00\x01";
        assert_eq!(message, expected);
        let header = Header::read(&message).unwrap();
        assert_eq!(header, Header { id: 0x1234, response: false, rcode: 0 });
        assert_eq!(Header::read(&message[..11]), None);
        assert_eq!(Header::read(b"\x12\x34\x01\x00\0\0\0\0\0\0\0\0"), None, "a query");
    }

    #[test]
    fn responses() {
        let ok = Writer::response(7, 0).finish();
        let ok = read(&ok).unwrap();
        assert_eq!((ok.header.response, ok.primary, ok.retry_delay), (true, None, None));
        let refused = Writer::response(7, 5).retry_delay(300_000).padded_to(468).finish();
        let refused = read(&refused).unwrap();
        assert_eq!((refused.header.rcode, refused.retry_delay, refused.padded), (5, Some(300_000), true));
    }

    #[test]
    fn malformed_messages() {
        let with = |kind: u16, data: &[u8]| Writer::request(1).tlv(kind, data).finish();
        let mut counted = Writer::request(1).unsubscribe(1).finish();
        counted[11] = 1;
        for (what, message) in [
            ("a count", counted),
            ("nothing", Writer::request(1).finish()),
            ("a short Keepalive", with(kind::KEEPALIVE, &[0; 7])),
            ("a long Keepalive", with(kind::KEEPALIVE, &[0; 9])),
            ("a short delay", with(kind::RETRY_DELAY, &[0; 3])),
            ("no class", with(kind::SUBSCRIBE, b"\x01a\x00\x00\x01\x00")),
            ("two subjects", with(kind::SUBSCRIBE, b"\x00\x00\x01\x00\x01\x00\x00\x01\x00\x01")),
            ("a pointer", with(kind::SUBSCRIBE, b"\xC0\x0C\x00\x01\x00\x01")),
            ("a long id", with(kind::UNSUBSCRIBE, &[0; 3])),
            ("ANY to reconfirm", with(kind::RECONFIRM, b"\x00\x00\xFF\x00\x01")),
            ("no change", with(kind::PUSH, b"")),
            ("half a change", with(kind::PUSH, b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00")),
            ("a pointer to itself", with(kind::PUSH, b"\xC0\x10\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00")),
            ("ANY added", with(kind::PUSH, b"\x00\x00\xFF\x00\x01\x00\x00\x00\x00\x00\x00")),
            ("all with RDATA", with(kind::PUSH, b"\x00\x00\x01\x00\x01\xFF\xFF\xFF\xFE\x00\x01x")),
        ] {
            assert_eq!(read(&message).unwrap_err().code(), "bad-stateful-message", "{what}");
        }
        assert_eq!(read(&with(0xF900, b"x")).unwrap().primary, Some(Tlv::Unknown(0xF900)));
        let mut long = with(kind::PUSH, b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00");
        long.extend(Writer::request(1).tlv(0xF900, &vec![0; MAX_PUSH]).0.split_off(HEADER));
        assert!(read(&long).is_err(), "too long");
    }

    #[test]
    fn pointers_to_pointers_are_followed_for_a_while_only() {
        let with = |pointers: usize| {
            // A label that ends, and pointers, each to the one before, in the RDATA of the first change.
            let mut octets = b"\x01a\x00".to_vec();
            let mut target = HEADER + 4 + 11;
            for number in 0..pointers {
                octets.extend((0xC000 + target as u16).to_be_bytes());
                target = HEADER + 4 + 11 + 3 + 2 * number;
            }
            let mut data = b"\x00\x00\x01\x00\x01\x00\x00\x00\x00".to_vec();
            data.extend((octets.len() as u16).to_be_bytes());
            data.extend(octets);
            data.extend((0xC000 + target as u16).to_be_bytes());
            data.extend(b"\x00\x01\x00\x01\xFF\xFF\xFF\xFE\x00\x00");
            Writer(header(0, 0, 0)).tlv(kind::PUSH, &data).finish()
        };
        for (pointers, reads) in [(0, true), (MAX_POINTERS - 1, true), (MAX_POINTERS, false), (4_000, false)] {
            let message = with(pointers);
            match read(&message) {
                Ok(read) => assert!(
                    reads && matches!(read.primary, Some(Tlv::Push(changes)) if changes[1].name == name("a")),
                    "{pointers}"
                ),
                Err(_) => assert!(!reads, "{pointers}"),
            }
        }
    }

    #[test]
    fn rfc8765_6_3_1_changes_read_back_and_owners_are_compressed() {
        let rdata = [7; 100];
        let change = |owner: &str, what| Change { name: name(owner), rtype: RecordType::SMIMEA, class: 1, what };
        let changes = [
            change("alice._smimecert.example.org", What::AllRemoved),
            change("alice._smimecert.example.org", What::Added { ttl: 300, rdata: &rdata }),
            change("bob._smimecert.example.org", What::Removed { rdata: &rdata }),
            change("_smimecert.example.org", What::Added { ttl: 0, rdata: b"" }),
            change("carol._smimecert.example.org", What::AllRemoved),
            change("example.net", What::AllRemoved),
            change(".", What::AllRemoved),
            change("a.net", What::AllRemoved),
            Change { name: name("a.net"), rtype: RecordType(ANY), class: 1, what: What::AllRemoved },
        ];
        let mut push = Push::new();
        assert!(push.is_empty());
        assert!(changes.iter().all(|change| push.put(change)));
        assert!(!push.put(&change("a.net", What::Unknown)));
        for block in [None, Some(468)] {
            let message = push.clone().finish(block);
            let read = read(&message).unwrap();
            assert_eq!(read.header.id, 0);
            assert_eq!(read.primary, Some(Tlv::Push(changes.to_vec())));
        }
        let once = push.clone().finish(None).windows(10).filter(|octets| octets == b"_smimecert").count();
        assert_eq!(once, 1);
    }

    #[test]
    fn rfc8765_6_3_1_a_message_has_at_most_16382_octets() {
        let mut push = Push::new();
        let rdata = [0; 1_000];
        let added = Change {
            name: name("alice.example.org"),
            rtype: RecordType::SMIMEA,
            class: 1,
            what: What::Added { ttl: 1, rdata: &rdata },
        };
        let count = (0..100).take_while(|_| push.put(&added)).count();
        assert_eq!(count, 16);
        let small = What::Added { ttl: 1, rdata: &rdata[..MAX_PUSH - push.len() - 12] };
        assert!(push.put(&Change { what: small, ..added.clone() }), "up to the last octet");
        assert_eq!(push.len(), MAX_PUSH);
        let message = push.finish(Some(468));
        assert_eq!(message.len(), MAX_PUSH);
        assert!(matches!(read(&message).unwrap().primary, Some(Tlv::Push(changes)) if changes.len() == 17));
        assert!(!Push::new().put(&Change { what: What::Removed { rdata: &[0; MAX_PUSH] }, ..added }));
    }
}
