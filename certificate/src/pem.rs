//! PEM (RFC 7468) in and out, and telling the forms of input apart.

use data_encoding::BASE64;

use crate::certificate::{Certificate, MAX_CERTIFICATE};
use crate::der::tag;
use crate::error::Error;

/// Largest PEM input, in octets: some 40,000 certificates.
pub const MAX_INPUT: usize = 64 * 1024 * 1024;

/// Largest base64 text of one block, a third above the DER and a little for padding.
const MAX_BASE64: usize = MAX_CERTIFICATE / 3 * 4 + 8;
/// Characters of base64 on a line (RFC 7468 section 2).
const LINE: usize = 64;
/// Longest part of a foreign block's label that is repeated in an error.
const MAX_LABEL: usize = 40;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// One certificate of a PEM file, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemBlock {
    /// Line of its `-----BEGIN`, from 1.
    pub line: usize,
    /// What the base64 says.
    pub der: Vec<u8>,
}

/// The certificates of a PEM file, one after the other. See [`pem_blocks`].
#[derive(Debug, Clone)]
pub struct PemBlocks<'a> {
    rest: &'a [u8],
    /// Lines read.
    line: usize,
    /// The label of the first block that was passed over.
    other: Option<&'a [u8]>,
}

/// Goes through the CERTIFICATE blocks of a PEM file. After an error it goes on with the next block, so that a caller
/// may take the good ones; a block with a private key is an [`Error::PrivateKey`]. Text between the blocks and blocks of
/// other kinds are passed over. The input's size is the caller's to limit: the time is linear in it.
pub fn pem_blocks(input: &[u8]) -> PemBlocks<'_> {
    PemBlocks { rest: input, line: 0, other: None }
}

/// The text of one CERTIFICATE block, lines of 64 characters with a line feed behind each.
pub fn pem_encode(der: &[u8]) -> String {
    let base64 = BASE64.encode(der);
    let mut pem = String::with_capacity(base64.len() + base64.len() / LINE + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// See [`Certificate::read_all`].
pub(crate) fn read_all(input: &[u8]) -> Result<Vec<Certificate>, Error> {
    if input.trim_ascii().is_empty() {
        return Err(Error::Empty);
    }
    // A length above 127 octets has a second octet that no text has behind a "0".
    if matches!(input, [tag::SEQUENCE, 0x80..=0xff, ..]) {
        return Certificate::from_der(input).map(|certificate| vec![certificate]);
    }
    if input.len() > MAX_INPUT {
        return Err(Error::TooLarge { octets: input.len(), limit: MAX_INPUT });
    }
    let mut certificates = Vec::new();
    let mut blocks = pem_blocks(input);
    for block in &mut blocks {
        let PemBlock { line, der } = block?;
        let certificate =
            Certificate::from_der(&der).map_err(|source| Error::InBlock { line, source: Box::new(source) })?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(match blocks.other {
            Some(label) => {
                let label = String::from_utf8_lossy(label.get(..MAX_LABEL).unwrap_or(label));
                Error::not_a_certificate(&format!("a PEM file with {}", label.escape_debug()))
            }
            None => Error::not_a_certificate(describe(input)),
        });
    }
    Ok(certificates)
}

/// What an input without a certificate looks like, with its article.
pub(crate) fn describe(input: &[u8]) -> &'static str {
    let beginning = input.get(..512).unwrap_or(input);
    let text = |octet: &u8| *octet >= 0x80 || octet.is_ascii_graphic() || octet.is_ascii_whitespace();
    if input.trim_ascii_start().starts_with(BEGIN) {
        "PEM text where DER is wanted"
    } else if beginning.iter().all(text) && std::str::from_utf8(input).is_ok() {
        "some text"
    } else {
        "other binary data"
    }
}

/// The contents of the first block with this label.
pub(crate) fn one_block(input: &[u8], wanted: &str) -> Result<Vec<u8>, Error> {
    let mut lines = PemBlocks { rest: input, line: 0, other: None };
    let mut base64 = None;
    while let Some(line) = lines.next_line() {
        match &mut base64 {
            None if label(line, BEGIN) == Some(wanted.as_bytes()) => base64 = Some((lines.line, Vec::new())),
            None => {}
            Some((begin, text)) if label(line, END) == Some(wanted.as_bytes()) => {
                let problem = "the block that begins here is not base64: fetch the file again";
                return BASE64.decode(text).map_err(|_| Error::BadPem { line: *begin, problem });
            }
            Some((_, text)) => text.extend(line.iter().filter(|octet| !octet.is_ascii_whitespace())),
        }
    }
    Err(Error::BadPem { line: lines.line, problem: "there is no whole block of the kind that is wanted" })
}

impl Iterator for PemBlocks<'_> {
    type Item = Result<PemBlock, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.next_line()?;
            let Some(label) = label(line, BEGIN) else {
                continue;
            };
            if label.ends_with(b"PRIVATE KEY") {
                return Some(Err(Error::PrivateKey));
            }
            // RFC 7468 section 5.1: the older label is still met.
            if label == b"CERTIFICATE" || label == b"X509 CERTIFICATE" {
                return Some(self.read_block(label));
            }
            self.other.get_or_insert(label);
        }
    }
}

impl<'a> PemBlocks<'a> {
    /// The rest of a block whose first line was just read.
    fn read_block(&mut self, opened: &[u8]) -> Result<PemBlock, Error> {
        let line = self.line;
        let mut base64 = Vec::with_capacity(2048);
        let bad = |line, problem| Err(Error::BadPem { line, problem });
        loop {
            let before = self.clone();
            let Some(text) = self.next_line() else {
                return bad(line, "the certificate that begins here has no end: the file is cut off, fetch it again");
            };
            if let Some(closed) = label(text, END) {
                if closed != opened {
                    return bad(self.line, "the end does not fit the beginning of the block: repair the file");
                }
                break;
            }
            if label(text, BEGIN).is_some() {
                // The block that begins here is read next.
                *self = before;
                return bad(line, "the certificate that begins here has no end: the file is cut off, fetch it again");
            }
            if base64.len() + text.len() > MAX_BASE64 {
                return Err(Error::InBlock {
                    line,
                    source: Box::new(Error::TooLarge { octets: base64.len() + text.len(), limit: MAX_BASE64 }),
                });
            }
            base64.extend(text.iter().filter(|octet| !octet.is_ascii_whitespace()));
        }
        match BASE64.decode(&base64) {
            Ok(der) => Ok(PemBlock { line, der }),
            Err(_) => bad(line, "the certificate that begins here is not base64: fetch the file again"),
        }
    }

    /// The next line, without white space around it.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|octet| *octet == b'\n').unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.get(1..).unwrap_or_default();
        self.line += 1;
        Some(line.trim_ascii())
    }
}

/// The label of a `-----BEGIN …-----` or `-----END …-----` line.
fn label<'a>(line: &'a [u8], marker: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(marker)?.strip_suffix(b"-----")
}
