//! The LDAP messages that a searching client needs (RFC 4511 section 4).

use crate::ber::{Malformed, Reader, tag, write, write_integer};

/// Extended operation StartTLS (RFC 4511 section 4.14.1).
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// Attributes of one entry, of which two are asked for, and values of all of them together: a value of no octets takes two on
/// the wire, and many times that when it is read.
const MAX_ATTRIBUTES: usize = 64;
const MAX_VALUES: usize = 1_024;

/// Where a search looks (RFC 4511 section 4.5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Base = 0,
    Subtree = 2,
}

/// A search. Aliases are not followed.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    pub(crate) base: String,
    pub(crate) scope: Scope,
    /// In wire form.
    pub(crate) filter: Vec<u8>,
    pub(crate) attributes: Vec<String>,
    /// Entries.
    pub(crate) size_limit: u32,
    /// Seconds.
    pub(crate) time_limit: u32,
}

/// One entry of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) dn: String,
    /// Attribute descriptions and their values.
    pub(crate) attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// The values of an attribute, with whatever options it came: `userCertificate` is also `userCertificate;binary`.
    pub(crate) fn values<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |description: &str| {
            let name = description.split(';').next().unwrap_or_default();
            name.eq_ignore_ascii_case(attribute)
        };
        let named = self.attributes.iter().filter(move |(description, _)| named(description));
        named.flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }
}

/// The end of a search (RFC 4511 section 4.5.2).
pub(crate) const SEARCH_DONE: u8 = 0x65;

/// How an operation ended (RFC 4511 section 4.1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// The tag of the response: which kind of operation has ended.
    pub(crate) operation: u8,
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Entry(Entry),
    /// A part of the tree that another server has (section 4.5.3).
    Reference,
    /// The end of a bind, a search or an extended operation.
    Done(Done),
    /// Anything else.
    Other,
}

fn message(id: i32, operation: &[u8]) -> Vec<u8> {
    let id = write_integer(tag::INTEGER, u32::try_from(id).unwrap_or_default());
    write(tag::SEQUENCE, &[&id, operation])
}

fn string(octets: &[u8]) -> Vec<u8> {
    write(tag::OCTET_STRING, &[octets])
}

pub(crate) fn bind(id: i32, dn: &str, password: &str) -> Vec<u8> {
    let simple = write(0x80, &[password.as_bytes()]);
    message(id, &write(0x60, &[&[2, 1, 3], &string(dn.as_bytes()), &simple]))
}

pub(crate) fn unbind(id: i32) -> Vec<u8> {
    message(id, &[0x42, 0])
}

pub(crate) fn abandon(id: i32, abandoned: i32) -> Vec<u8> {
    message(id, &write_integer(0x50, u32::try_from(abandoned).unwrap_or_default()))
}

pub(crate) fn start_tls(id: i32) -> Vec<u8> {
    message(id, &write(0x77, &[&write(0x80, &[START_TLS])]))
}

pub(crate) fn search(id: i32, search: &Search) -> Vec<u8> {
    let attributes: Vec<u8> = search.attributes.iter().flat_map(|name| string(name.as_bytes())).collect();
    let parts: [&[u8]; 8] = [
        &string(search.base.as_bytes()),
        &write_integer(tag::ENUMERATED, search.scope as u32),
        // neverDerefAliases
        &write_integer(tag::ENUMERATED, 0),
        &write_integer(tag::INTEGER, search.size_limit),
        &write_integer(tag::INTEGER, search.time_limit),
        // typesOnly: false
        &write(tag::BOOLEAN, &[&[0]]),
        &search.filter,
        &write(tag::SEQUENCE, &[&attributes]),
    ];
    message(id, &write(0x63, &parts))
}

/// Reads one message: its id, and what it says. Controls are passed over.
pub(crate) fn read(octets: &[u8]) -> Result<(i32, Response), Malformed> {
    let mut envelope = Reader::new(octets).expect(tag::SEQUENCE)?.open();
    let id = envelope.expect(tag::INTEGER)?.integer()?;
    let operation = envelope.next()?;
    let mut inside = operation.open();
    let response = match operation.tag {
        0x64 => {
            let dn = inside.expect(tag::OCTET_STRING)?.text();
            let mut list = inside.expect(tag::SEQUENCE)?.open();
            let mut attributes = Vec::new();
            let mut count = 0;
            while !list.is_empty() {
                if attributes.len() >= MAX_ATTRIBUTES {
                    return Err(Malformed);
                }
                let mut attribute = list.expect(tag::SEQUENCE)?.open();
                let name = attribute.expect(tag::OCTET_STRING)?.text();
                let mut set = attribute.expect(tag::SET)?.open();
                let mut values = Vec::new();
                while !set.is_empty() {
                    count += 1;
                    if count > MAX_VALUES {
                        return Err(Malformed);
                    }
                    values.push(set.expect(tag::OCTET_STRING)?.value.to_vec());
                }
                attributes.push((name, values));
            }
            Response::Entry(Entry { dn, attributes })
        }
        0x73 => Response::Reference,
        // Bind, search, extended (sections 4.2.2, 4.5.2, 4.12).
        0x61 | SEARCH_DONE | 0x78 => {
            let code = inside.expect(tag::ENUMERATED)?.integer()?;
            inside.expect(tag::OCTET_STRING)?;
            let message = inside.expect(tag::OCTET_STRING)?.text();
            Response::Done(Done { operation: operation.tag, code, message })
        }
        _ => Response::Other,
    };
    Ok((id, response))
}

/// The name of a result code (RFC 4511 appendix A.2).
pub(crate) fn code_name(code: i32) -> &'static str {
    match code {
        0 => "success",
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        13 => "confidentialityRequired",
        16 => "noSuchAttribute",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        80 => "other",
        _ => "another code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_lengths_of_any_size() {
        let value = write(tag::SET, &[&string(b"der"), &string(&[0xff; 300])]);
        let attribute = write(tag::SEQUENCE, &[&string(b"userCertificate;binary"), &value]);
        let entry = write(0x64, &[&string(b"cn=a"), &write(tag::SEQUENCE, &[&attribute])]);
        let octets = message(7, &entry);
        let (id, Response::Entry(entry)) = read(&octets).unwrap() else { panic!() };
        assert_eq!((id, entry.dn.as_str()), (7, "cn=a"));
        assert_eq!(entry.values("USERcertificate").count(), 2);
        assert_eq!(entry.values("userCert").count(), 0);
        for cut in 0..octets.len() {
            assert!(read(&octets[..cut]).is_err(), "{cut}");
        }
        let done = message(8, &write(0x65, &[&[0x0a, 1, 32], &string(b""), &string("für alle".as_bytes())]));
        let expected = Done { operation: SEARCH_DONE, code: 32, message: "für alle".to_owned() };
        assert_eq!(read(&done).unwrap(), (8, Response::Done(expected)));
    }

    #[test]
    fn an_entry_has_few_attributes_and_values() {
        let entry = |attributes: usize, values: usize| {
            let set = write(tag::SET, &[&string(b"").repeat(values)]);
            let attribute = write(tag::SEQUENCE, &[&string(b"a"), &set]);
            let list = write(tag::SEQUENCE, &[&attribute.repeat(attributes)]);
            message(7, &write(0x64, &[&string(b"cn=a"), &list]))
        };
        for (attributes, values, reads) in [
            (1, MAX_VALUES, true),
            (1, MAX_VALUES + 1, false),
            (2, MAX_VALUES / 2 + 1, false),
            (MAX_ATTRIBUTES, 1, true),
            (MAX_ATTRIBUTES + 1, 0, false),
        ] {
            assert_eq!(read(&entry(attributes, values)).is_ok(), reads, "{attributes} {values}");
        }
    }
}
