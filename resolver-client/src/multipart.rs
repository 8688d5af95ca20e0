//! `multipart/mixed` as RFC 4387 section 2.2 answers with several certificates: a part for each, in DER.

/// Parts of one answer that are looked at.
const MAX_PARTS: usize = 64;

/// Characters of a boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The bodies of the parts, for a media type as `Content-Type` has it.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn parts<'a>(media_type: &str, body: &'a [u8]) -> Result<Vec<&'a [u8]>, &'static str> {
    let boundary = boundary(media_type).ok_or("no boundary")?;
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let mut rest = after_delimiter(body, &delimiter, true).ok_or("no part")?;
    let mut parts = Vec::new();
    // Two hyphens behind the last delimiter.
    while !rest.starts_with(b"--") {
        if parts.len() == MAX_PARTS {
            return Err("too many parts");
        }
        // White space may follow the delimiter on its line.
        let line = find(rest, b"\n").ok_or("a delimiter without an end")?;
        let (padding, inside) = rest.split_at_checked(line + 1).ok_or("a delimiter without an end")?;
        if !padding.iter().all(u8::is_ascii_whitespace) {
            return Err("something follows a delimiter");
        }
        let end = find_delimiter(inside, &delimiter).ok_or("a part without an end")?;
        let (part, from) = inside.split_at_checked(end).ok_or("a part without an end")?;
        parts.push(content(part)?);
        rest = after_delimiter(from, &delimiter, false).ok_or("a part without an end")?;
    }
    Ok(parts)
}

fn boundary(media_type: &str) -> Option<String> {
    let (kind, parameters) = media_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim())
    })?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let fits = !value.is_empty() && value.len() <= MAX_BOUNDARY && value.bytes().all(|c| (b' '..=b'~').contains(&c));
    fits.then(|| value.to_owned())
}

/// What follows the next delimiter; at the very beginning it needs no line break in front.
fn after_delimiter<'a>(octets: &'a [u8], delimiter: &[u8], beginning: bool) -> Option<&'a [u8]> {
    if beginning && octets.starts_with(delimiter) {
        return octets.get(delimiter.len()..);
    }
    let at = find_delimiter(octets, delimiter)?;
    octets.get(at..)?.strip_prefix(b"\r").or(octets.get(at..))?.get(1 + delimiter.len()..)
}

/// Where the line break in front of the next delimiter begins: it belongs to the delimiter.
fn find_delimiter(octets: &[u8], delimiter: &[u8]) -> Option<usize> {
    let lone = [b"\n", delimiter].concat();
    let at = find(octets, &lone)?;
    let before = at.checked_sub(1).filter(|before| octets.get(*before) == Some(&b'\r'));
    Some(before.unwrap_or(at))
}

/// The body behind a part's header fields, which must not say that it is encoded.
fn content(part: &[u8]) -> Result<&[u8], &'static str> {
    let mut rest = part;
    loop {
        let line = find(rest, b"\n").ok_or("a part without a body")?;
        let (field, after) = rest.split_at_checked(line + 1).ok_or("a part without a body")?;
        rest = after;
        let field = field.trim_ascii();
        if field.is_empty() {
            return Ok(rest);
        }
        let field = String::from_utf8_lossy(field).to_ascii_lowercase();
        if let Some(("content-transfer-encoding", encoding)) = field.split_once(':')
            && !matches!(encoding.trim(), "binary" | "8bit" | "7bit")
        {
            return Err("a part with a transfer encoding, which RFC 4387 forbids");
        }
    }
}

fn find(octets: &[u8], sought: &[u8]) -> Option<usize> {
    let (&first, _) = sought.split_first()?;
    let mut from = 0;
    while let Some(rest) = octets.get(from..)
        && let Some(at) = rest.iter().position(|octet| *octet == first)
    {
        if rest.get(at..)?.starts_with(sought) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/mixed; boundary=\"a b\"; charset=x";

    #[test]
    fn parts_are_taken_apart() {
        let body = b"preamble\r\n--a b\r\ncontent-type: application/pkix-cert\r\n\r\nDER\r\n1\r\n--a b  \r\n\r\n\n\r--\r\n--a b--\r\nend";
        assert_eq!(parts(TYPE, body).unwrap(), [&b"DER\r\n1"[..], b"\n\r--"]);
        assert_eq!(parts(TYPE, b"--a b\n\nDER\n--a b--").unwrap(), [&b"DER"[..]]);
        assert_eq!(parts("Multipart/Mixed;Boundary=x", b"--x\r\n\r\n\r\n--x--").unwrap(), [&b""[..]]);
        assert!(parts(TYPE, b"--a b--").unwrap().is_empty());
    }

    #[test]
    fn broken_ones_are_refused() {
        for (media_type, body) in [
            ("multipart/mixed", &b"--\r\n\r\n\r\n----"[..]),
            ("multipart/mixed; boundary=", b"--"),
            ("text/html; boundary=x", b"--x--"),
            (TYPE, b""),
            (TYPE, b"--a b"),
            (TYPE, b"--a b\r\n"),
            (TYPE, b"--a b\r\n\r\nDER"),
            (TYPE, b"--a b\r\n\r\nDER\r\n--a b"),
            (TYPE, b"--a bc\r\n\r\nDER\r\n--a b--"),
            (TYPE, b"--a b\r\nno-body\r\n--a b--"),
            (TYPE, b"--a b\r\nContent-Transfer-Encoding: base64\r\n\r\nREVS\r\n--a b--"),
            (TYPE, &b"--a b\r\n\r\n\r\n".repeat(65)),
        ] {
            assert!(parts(media_type, body).is_err(), "{media_type} {:?}", String::from_utf8_lossy(body));
        }
    }
}
