//! Search filters (RFC 4515): from text to what goes over the wire, with the address put in.

use certdir_zones::Address;

use crate::ber::{tag, write};

/// Filters inside one another.
const MAX_DEPTH: usize = 8;

/// Puts an address into a template: `{address}`, `{local}` and `{domain}`, each escaped (RFC 4515 section 3), so that no
/// address changes the filter's shape.
pub(super) fn fill(template: &str, address: &Address) -> String {
    let (local, domain) = (escape(address.local()), escape(address.domain().as_str()));
    let whole = escape(&address.to_string());
    let mut out = String::with_capacity(template.len() + whole.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let places = [("{address}", &whole), ("{local}", &local), ("{domain}", &domain)];
        match places.into_iter().find_map(|(name, value)| Some((from.strip_prefix(name)?, value))) {
            Some((after, value)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '*' => out.push_str("\\2a"),
            '(' => out.push_str("\\28"),
            ')' => out.push_str("\\29"),
            '\\' => out.push_str("\\5c"),
            '\0' => out.push_str("\\00"),
            c => out.push(c),
        }
    }
    out
}

/// The wire form of a filter (RFC 4511 section 4.5.1.7).
///
/// # Errors
/// What is wrong with it, for whoever configured it. Extensible matches are not supported.
pub(super) fn encode(text: &str) -> Result<Vec<u8>, String> {
    let mut rest = text.trim();
    let filter = one(&mut rest, 0)?;
    if rest.is_empty() { Ok(filter) } else { Err(format!("{rest:?} follows the filter")) }
}

fn one(rest: &mut &str, depth: usize) -> Result<Vec<u8>, String> {
    if depth > MAX_DEPTH {
        return Err(format!("more than {MAX_DEPTH} filters inside one another"));
    }
    *rest = rest.strip_prefix('(').ok_or_else(|| format!("expected ( at {rest:?}"))?;
    let filter = match rest.chars().next() {
        Some('&') => set(0xa0, rest, depth)?,
        Some('|') => set(0xa1, rest, depth)?,
        Some('!') => {
            *rest = rest.get(1..).unwrap_or_default();
            write(0xa2, &[&one(rest, depth + 1)?])
        }
        _ => {
            let end = rest.find(')').ok_or_else(|| format!("no ) behind {rest:?}"))?;
            let (item, after) = rest.split_at(end);
            *rest = after;
            simple(item)?
        }
    };
    *rest = rest.strip_prefix(')').ok_or_else(|| format!("expected ) at {rest:?}"))?;
    Ok(filter)
}

fn set(tag: u8, rest: &mut &str, depth: usize) -> Result<Vec<u8>, String> {
    *rest = rest.get(1..).unwrap_or_default();
    let mut all = Vec::new();
    // None at all is absolute true or false (RFC 4526).
    while rest.starts_with('(') {
        all.extend(one(rest, depth + 1)?);
    }
    Ok(write(tag, &[&all]))
}

fn simple(item: &str) -> Result<Vec<u8>, String> {
    let (left, value) = item.split_once('=').ok_or_else(|| format!("no = in {item:?}"))?;
    let (name, kind) = match left.char_indices().next_back() {
        Some((at, '>')) => (left.get(..at).unwrap_or_default(), 0xa5),
        Some((at, '<')) => (left.get(..at).unwrap_or_default(), 0xa6),
        Some((at, '~')) => (left.get(..at).unwrap_or_default(), 0xa8),
        _ => (left, 0xa3),
    };
    let named = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.;".contains(&c));
    if !named {
        return Err(format!("{name:?} is not an attribute; extensible matches are not supported"));
    }
    if kind != 0xa3 || !value.contains('*') {
        let value = octets(value)?;
        return Ok(write(kind, &[&string(name.as_bytes()), &string(&value)]));
    }
    if value == "*" {
        return Ok(write(0x87, &[name.as_bytes()]));
    }
    let mut parts = Vec::new();
    let last = value.matches('*').count();
    for (i, part) in value.split('*').enumerate() {
        let part = octets(part)?;
        let place = if i == 0 {
            0x80
        } else if i == last {
            0x82
        } else {
            0x81
        };
        if !part.is_empty() {
            parts.extend(write(place, &[&part]));
        }
    }
    Ok(write(0xa4, &[&string(name.as_bytes()), &write(tag::SEQUENCE, &[&parts])]))
}

fn string(octets: &[u8]) -> Vec<u8> {
    write(tag::OCTET_STRING, &[octets])
}

fn octets(value: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        let digits = after.split_at_checked(2).ok_or_else(|| format!("a cut-off escape in {value:?}"))?;
        let octet = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.0).ok();
        let [octet] = octet.as_deref().unwrap_or_default() else {
            return Err(format!("an escape that is not two hexadecimal digits in {value:?}"));
        };
        out.push(*octet);
        rest = digits.1;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_changes_the_shape_of_a_filter() {
        let alice = Address::parse("alice@example.org").unwrap();
        let template = "(&(mail={address})(uid={local})(dc={domain})(cn={other}{))";
        assert_eq!(fill(template, &alice), "(&(mail=alice@example.org)(uid=alice)(dc=example.org)(cn={other}{))");
        let evil = Address::parse("\"*)(uid=\\\\{domain}\"@example.org").unwrap();
        let filled = fill("(uid={local})", &evil);
        assert_eq!(filled, "(uid=\\2a\\29\\28uid=\\5c{domain})");
        let encoded = encode(&filled).unwrap();
        assert!(encoded.ends_with(b"*)(uid=\\{domain}"), "{encoded:?}");
        assert_eq!(encoded[0], 0xa3);
    }

    #[test]
    fn filters_are_encoded_as_the_rfc_says() {
        assert_eq!(encode("(a=b)").unwrap(), [0xa3, 6, 4, 1, b'a', 4, 1, b'b']);
        assert_eq!(encode("(a=*)").unwrap(), [0x87, 1, b'a']);
        assert_eq!(encode("(a>=b)").unwrap(), [0xa5, 6, 4, 1, b'a', 4, 1, b'b']);
        assert_eq!(encode("(!(a=\\2A))").unwrap(), [0xa2, 8, 0xa3, 6, 4, 1, b'a', 4, 1, b'*']);
        let three = [0xa4, 14, 4, 1, b'a', 0x30, 9, 0x80, 1, b'b', 0x81, 1, b'c', 0x82, 1, b'd'];
        assert_eq!(encode("(a=b*c*d)").unwrap(), three);
        assert_eq!(encode("(&)").unwrap(), [0xa0, 0]);
        assert_eq!(encode("(|(a=*)(b=*))").unwrap(), [0xa1, 6, 0x87, 1, b'a', 0x87, 1, b'b']);
        let deep = format!("{}(a=b){}", "(!".repeat(20), ")".repeat(20));
        for wrong in ["", "a=b", "(a=b", "(a=b))", "(a)", "(=b)", "(a=\\2)", "(a=\\zz)", "(a:dn:=b)", "(&(a=b)", &deep]
        {
            assert!(encode(wrong).is_err(), "{wrong}");
        }
    }
}
