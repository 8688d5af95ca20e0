//! RDATA from its text: the other direction of [`crate::text::presentation`].

use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use super::scan::Word;
use super::{Fault, octets_only};
use crate::{Name, Rdata, RecordType, presentation};

/// The words of one record, read from the left.
pub(super) struct Words<'w, 'a> {
    rest: &'w [Word<'a>],
    /// The line of the word read last.
    line: usize,
    origin: &'w Name,
}

impl<'w, 'a> Words<'w, 'a> {
    pub(super) fn new(line: usize, words: &'w [Word<'a>], origin: &'w Name) -> Self {
        Words { rest: words, line, origin }
    }

    /// The record's data in wire form: names uncompressed and in lower case.
    pub(super) fn rdata(&mut self, rtype: RecordType) -> Result<Rdata, Fault> {
        if self.rest.first().is_some_and(|word| !word.quoted && word.text == "\\#") {
            self.next("")?;
            let octets = self.generic()?;
            return self.known(rtype, octets);
        }
        let mut out = Vec::new();
        self.typed(rtype, &mut out)?;
        self.end()?;
        Ok(out.into())
    }

    /// RFC 3597 section 5: the generic form is good for every type; of one that is known it has to have the form of the type.
    /// A server that knows the type would refuse the whole zone for it.
    fn known(&mut self, rtype: RecordType, octets: Vec<u8>) -> Result<Rdata, Fault> {
        if !has_text(rtype) {
            let taken = octets_only::form(rtype).and_then(|form| form(&octets));
            return taken.map(Rdata::from).ok_or_else(|| self.fault(format!("these octets are no {rtype} record")));
        }
        let text = presentation(rtype, &octets);
        if text.starts_with("\\#") {
            return Err(self.fault(format!("these octets are no {rtype} record")));
        }
        // By way of the text, so that names get into lower case.
        let mut scanner = super::scan::Scanner::new(&text);
        match scanner.entry() {
            Some(Ok(entry)) => {
                let read = Words::new(self.line, &entry.words, self.origin).rdata(rtype);
                // The words were made here: their lines are not those of the text.
                read.map_err(|fault| self.fault(fault.reason))
            }
            _ => Err(self.fault(format!("these octets are no {rtype} record"))),
        }
    }

    fn typed(&mut self, rtype: RecordType, out: &mut Vec<u8>) -> Result<(), Fault> {
        match rtype {
            // RFC 1035 section 3.4.1
            RecordType::A => out.extend(self.parsed::<Ipv4Addr>("an IPv4 address")?.octets()),
            // RFC 3596 section 2.4
            RecordType::AAAA => out.extend(self.parsed::<Ipv6Addr>("an IPv6 address")?.octets()),
            // RFC 1035 section 3.3, RFC 6672 section 2.1
            RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => self.name(out)?,
            // RFC 1035 section 3.3.9
            RecordType::MX => {
                self.number::<u16>("a preference", out)?;
                self.name(out)?;
            }
            // RFC 1035 section 3.3.14
            RecordType::TXT => {
                self.string("a text", out)?;
                while !self.rest.is_empty() {
                    self.string("a text", out)?;
                }
            }
            // RFC 2782
            RecordType::SRV => {
                self.number::<u16>("a priority", out)?;
                self.number::<u16>("a weight", out)?;
                self.number::<u16>("a port", out)?;
                self.name(out)?;
            }
            // RFC 3403 section 4.1
            RecordType::NAPTR => {
                self.number::<u16>("an order", out)?;
                self.number::<u16>("a preference", out)?;
                for what in ["flags", "services", "a regular expression"] {
                    self.string(what, out)?;
                }
                self.name(out)?;
            }
            // RFC 8659 section 4.1.1
            RecordType::CAA => {
                self.number::<u8>("flags", out)?;
                let tag = self.next("a tag")?;
                let plain = |text: &str| text.bytes().all(|octet| octet.is_ascii_alphanumeric());
                if tag.text.is_empty() || tag.text.len() > 255 || !plain(tag.text) {
                    return Err(self.fault("a CAA tag is letters and digits, such as issue".into()));
                }
                out.push(u8::try_from(tag.text.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(tag.text.as_bytes());
                let value = self.next("a value in quotes")?;
                out.extend(self.unescaped(value.text)?);
            }
            // RFC 6698 section 2.2
            RecordType::TLSA => {
                for what in ["a usage", "a selector", "a matching type"] {
                    self.number::<u8>(what, out)?;
                }
                self.hex(out)?;
            }
            // RFC 4255 section 3.2
            RecordType::SSHFP => {
                self.number::<u8>("an algorithm", out)?;
                self.digest("a fingerprint type", &[(1, 20), (2, 32)], out)?;
            }
            // RFC 4034 section 5.3
            RecordType::DS => {
                self.number::<u16>("a key tag", out)?;
                self.number::<u8>("an algorithm", out)?;
                self.digest("a digest type", &[(1, 20), (2, 32), (3, 32), (4, 48), (5, 32), (6, 32)], out)?;
            }
            // RFC 7929 section 2.3
            RecordType::OPENPGPKEY => {
                let text = self.joined("a key in base64")?;
                let key = BASE64.decode(text.as_bytes());
                out.extend(key.map_err(|_| self.fault("the key is not base64".into()))?);
            }
            _ => {
                let hint = "give its data in the generic form of RFC 3597, such as \\# 4 C0000201";
                return Err(self.fault(format!("{rtype} is not a type whose text is known here: {hint}")));
            }
        }
        Ok(())
    }

    /// `\# <octets> <hexadecimal>`.
    fn generic(&mut self) -> Result<Vec<u8>, Fault> {
        let length = self.parsed::<u16>("the number of octets")?;
        let mut octets = Vec::new();
        if length > 0 {
            self.hex(&mut octets)?;
        }
        self.end()?;
        if octets.len() != usize::from(length) {
            return Err(self.fault(format!("there are {} octets, not {length}", octets.len())));
        }
        Ok(octets)
    }

    pub(super) fn next(&mut self, what: &str) -> Result<Word<'a>, Fault> {
        let Some((word, rest)) = self.rest.split_first() else {
            return Err(self.fault(format!("{what} is missing")));
        };
        (self.rest, self.line) = (rest, word.line);
        Ok(*word)
    }

    pub(super) fn peek(&self) -> Option<Word<'a>> {
        self.rest.first().copied()
    }

    /// The line of the word read last.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn end(&self) -> Result<(), Fault> {
        match self.rest.first() {
            Some(word) => {
                Err(Fault { line: word.line, reason: format!("there is something too much: {:?}", word.text) })
            }
            None => Ok(()),
        }
    }

    fn parsed<T: FromStr>(&mut self, what: &str) -> Result<T, Fault> {
        let word = self.next(what)?;
        // What from_str takes beyond digits: a sign.
        let parsed = if word.text.starts_with('+') { None } else { word.text.parse().ok() };
        parsed.ok_or_else(|| self.fault(format!("{:?} is not {what}", word.text)))
    }

    fn number<T: FromStr + Into<u64>>(&mut self, what: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
        let number: u64 = self.parsed::<T>(what)?.into();
        out.extend_from_slice(number.to_be_bytes().get(8 - size_of::<T>()..).unwrap_or_default());
        Ok(())
    }

    fn name(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let word = self.next("a name")?;
        let name = name(word, self.origin)?;
        out.extend_from_slice(name.as_wire());
        Ok(())
    }

    fn string(&mut self, what: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
        let word = self.next(what)?;
        let octets = self.unescaped(word.text)?;
        let Ok(length) = u8::try_from(octets.len()) else {
            return Err(self.fault("a string is longer than 255 octets: split it into several, each in quotes".into()));
        };
        out.push(length);
        out.extend(octets);
        Ok(())
    }

    /// The octets of a `<character-string>` (RFC 1035 section 5.1).
    fn unescaped(&self, text: &str) -> Result<Vec<u8>, Fault> {
        let mut octets = text.bytes();
        let mut out = Vec::with_capacity(text.len());
        while let Some(octet) = octets.next() {
            out.push(match octet {
                b'\\' => crate::name::escaped(&mut octets).map_err(|error| self.fault(error.to_string()))?,
                other => other,
            });
        }
        Ok(out)
    }

    fn hex(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let text = self.joined("hexadecimal data")?;
        let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        out.extend(octets.map_err(|_| self.fault("this is not hexadecimal data of whole octets".into()))?);
        Ok(())
    }

    /// The number of a kind of digest and a digest, which has to be as long as its kind says, where that is known: other
    /// servers do not load a zone with a digest that was cut off.
    fn digest(&mut self, what: &str, lengths: &[(u8, usize)], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.number::<u8>(what, out)?;
        let (kind, before) = (out.last().copied(), out.len());
        self.hex(out)?;
        let found = out.len() - before;
        match lengths.iter().find(|(known, _)| Some(*known) == kind) {
            Some((kind, length)) if found != *length => {
                Err(self.fault(format!("{what} of {kind} has a digest of {length} octets; these are {found}")))
            }
            _ => Ok(()),
        }
    }

    /// The rest, which may be written in several pieces.
    fn joined(&mut self, what: &str) -> Result<String, Fault> {
        let mut text = self.next(what)?.text.to_owned();
        while !self.rest.is_empty() {
            text += self.next(what)?.text;
        }
        Ok(text)
    }

    pub(super) fn fault(&self, reason: String) -> Fault {
        Fault { line: self.line, reason }
    }
}

/// Whether the text of a type is read above.
pub(super) fn has_text(rtype: RecordType) -> bool {
    use RecordType as T;
    [
        T::A,
        T::AAAA,
        T::NS,
        T::CNAME,
        T::PTR,
        T::DNAME,
        T::MX,
        T::TXT,
        T::SRV,
        T::NAPTR,
        T::CAA,
        T::TLSA,
        T::SSHFP,
        T::DS,
        T::OPENPGPKEY,
    ]
    .contains(&rtype)
}

/// A name as a master file writes it: `@` is the origin, one without a dot at its end continues with it.
pub(super) fn name(word: Word<'_>, origin: &Name) -> Result<Name, Fault> {
    let fault = |reason| Fault { line: word.line, reason };
    if word.quoted {
        return Err(fault(format!("{:?}: a name stands without quotes", word.text)));
    }
    if word.text == "@" {
        return Ok(origin.clone());
    }
    let stem = word.text.strip_suffix('.');
    let escaped = stem.is_some_and(|stem| (stem.len() - stem.trim_end_matches('\\').len()) % 2 == 1);
    let parsed = if stem.is_some() && !escaped {
        Name::parse(word.text)
    } else if *origin == Name::root() {
        Name::parse(&format!("{}.", word.text))
    } else {
        Name::parse(&format!("{}.{origin}", word.text))
    };
    parsed.map_err(|error| fault(format!("{:?}: {error}", word.text)))
}
