//! Types that a text gives as octets only (RFC 3597 section 5): which of them are taken, and what form they have.
//!
//! Other servers know these types, and one malformed record makes them refuse a whole zone; and names in the types of RFC 4034
//! section 6.2 have to be in lower case, or no validator accepts the signature. So a type is taken when its form is known here
//! or when it is known to nobody.

use crate::{Name, RecordType};

/// Reads the data of a type: its canonical octets, if they have the form of the type.
pub(super) type Form = fn(&[u8]) -> Option<Vec<u8>>;

/// The numbers that IANA has given to types of data ("Resource Record (RR) TYPEs"), as far as no text of them is read here.
const ASSIGNED: [std::ops::RangeInclusive<u16>; 5] = [1..=68, 99..=109, 249..=264, 32_768..=32_769, 65_535..=65_535];

/// The form of a type; none for those that are not taken.
pub(super) fn form(rtype: RecordType) -> Option<Form> {
    Some(match rtype {
        // RFC 1035 section 3.3.2: CPU and OS
        RecordType(13) => |data| strings(data).filter(|found| *found == 2).map(|_| data.to_vec()),
        // RFC 1183 section 2.2: RP, a mailbox and a name
        RecordType(17) => |data| with_names(data, 0, 2),
        // RFC 1183 section 1: AFSDB, a subtype and a host; RFC 2230: KX, a preference and a host
        RecordType(18 | 36) => |data| with_names(data, 2, 1),
        RecordType::SVCB | RecordType::HTTPS => |data| service(data).then(|| data.to_vec()),
        // RFC 7208 section 3.1
        RecordType(99) => |data| strings(data).filter(|found| *found > 0).map(|_| data.to_vec()),
        // RFC 7043: EUI48 and EUI64
        RecordType(108) => |data| (data.len() == 6).then(|| data.to_vec()),
        RecordType(109) => |data| (data.len() == 8).then(|| data.to_vec()),
        // RFC 7553 section 4.5: priority, weight, a target that is not empty
        RecordType(256) => |data| (data.len() > 4).then(|| data.to_vec()),
        RecordType(number) if ASSIGNED.iter().any(|range| range.contains(&number)) => return None,
        _ => |data| Some(data.to_vec()),
    })
}

/// Some octets, then names to the end, put into lower case (RFC 4034 section 6.2).
fn with_names(data: &[u8], before: usize, names: usize) -> Option<Vec<u8>> {
    let (numbers, mut rest) = data.split_at_checked(before)?;
    let mut out = numbers.to_vec();
    for _ in 0..names {
        let (name, behind) = Name::split_from(rest).ok()?;
        out.extend_from_slice(name.as_wire());
        rest = behind;
    }
    rest.is_empty().then_some(out)
}

/// How many strings with a length in front there are.
fn strings(mut data: &[u8]) -> Option<usize> {
    let mut found = 0;
    while let Some((length, rest)) = data.split_first() {
        data = rest.get(usize::from(*length)..)?;
        found += 1;
    }
    Some(found)
}

/// Whether this is an SVCB or HTTPS record: RFC 9460 section 2.2 and, for the keys, sections 7 and 8.
fn service(data: &[u8]) -> bool {
    let Some(([high, low], rest)) = data.split_first_chunk() else { return false };
    let alias = u16::from_be_bytes([*high, *low]) == 0;
    let Ok((_, mut rest)) = Name::split_from(rest) else { return false };
    // Section 2.4.2: parameters of an alias say nothing.
    if alias {
        return rest.is_empty();
    }
    let mut parameters: Vec<(u16, &[u8])> = Vec::new();
    while let Some(([key, more, length, short], behind)) = rest.split_first_chunk() {
        let (key, length) = (u16::from_be_bytes([*key, *more]), u16::from_be_bytes([*length, *short]));
        let Some((value, behind)) = behind.split_at_checked(usize::from(length)) else { return false };
        if key == u16::MAX || parameters.last().is_some_and(|(last, _)| *last >= key) {
            return false;
        }
        parameters.push((key, value));
        rest = behind;
    }
    let has = |wanted: u16| parameters.iter().any(|(key, _)| *key == wanted);
    rest.is_empty()
        && parameters.iter().all(|(key, value)| match key {
            // mandatory: keys in order, all there, itself not among them
            0 => {
                let keys: Vec<u16> =
                    value.as_chunks::<2>().0.iter().map(|octets| u16::from_be_bytes(*octets)).collect();
                !value.is_empty()
                    && value.len().is_multiple_of(2)
                    && keys.is_sorted_by(|one, next| one < next)
                    && keys.iter().all(|key| *key != 0 && has(*key))
            }
            // alpn
            1 => !value.is_empty() && strings(value).is_some() && !empty_string(value),
            // no-default-alpn
            2 => value.is_empty() && has(1),
            // port
            3 => value.len() == 2,
            // ipv4hint, ipv6hint
            4 => !value.is_empty() && value.len().is_multiple_of(4),
            6 => !value.is_empty() && value.len().is_multiple_of(16),
            // ech
            5 => !value.is_empty(),
            // dohpath (RFC 9461 section 5): a template with the variable dns
            7 => std::str::from_utf8(value).is_ok_and(|path| path.starts_with('/') && path.contains("{?dns}")),
            // ohttp (RFC 9540 section 4)
            8 => value.is_empty(),
            _ => true,
        })
}

/// Whether one of a row of strings is empty.
fn empty_string(mut data: &[u8]) -> bool {
    while let Some((length, rest)) = data.split_first() {
        if *length == 0 {
            return true;
        }
        data = rest.get(usize::from(*length)..).unwrap_or_default();
    }
    false
}
