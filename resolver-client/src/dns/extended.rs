//! Extended DNS errors: why a server could not answer, in its own words (RFC 8914).

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::opt::EdnsOption;

use crate::trace::ExtendedError;

/// The EDNS option (RFC 8914 section 2).
const OPTION: u16 = 15;

/// Text of a server that is passed on, in characters.
const MAX_TEXT: usize = 200;

/// Every extended error of a message.
pub(crate) fn errors(message: &Message) -> Vec<ExtendedError> {
    let options = message.edns.iter().flat_map(|edns| &edns.options().options);
    let data = options.filter_map(|(code, option)| match option {
        EdnsOption::Unknown(_, data) if u16::from(*code) == OPTION => Some(data),
        _ => None,
    });
    data.filter_map(|data| read(data)).collect()
}

fn read(data: &[u8]) -> Option<ExtendedError> {
    let (code, text) = data.split_first_chunk::<2>()?;
    let text = String::from_utf8_lossy(text);
    let text = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    Some(ExtendedError { code: u16::from_be_bytes(*code), text })
}

/// The error of a message that says that data is bogus, else the first one.
pub(crate) fn reason(message: &Message) -> Option<ExtendedError> {
    let mut errors = errors(message);
    let first = errors.iter().position(is_bogus).unwrap_or_default();
    (!errors.is_empty()).then(|| errors.swap_remove(first))
}

/// The server has validated and found data bogus: from "DNSSEC Bogus" to "NSEC Missing" (RFC 8914 sections 4.7 to
/// 4.13).
pub(crate) fn is_bogus(error: &ExtendedError) -> bool {
    (6..=12).contains(&error.code)
}

/// What an extended error says, with the name of its code.
pub(crate) fn sentence(error: &ExtendedError) -> String {
    let colon = if error.text.is_empty() { "" } else { ": " };
    format!("extended error {} ({}){colon}{}", error.code, name(error.code), error.text)
}

/// The name of a code in IANA's registry.
fn name(code: u16) -> &'static str {
    match code {
        0 => "Other",
        1 => "Unsupported DNSKEY Algorithm",
        2 => "Unsupported DS Digest Type",
        3 => "Stale Answer",
        4 => "Forged Answer",
        5 => "DNSSEC Indeterminate",
        6 => "DNSSEC Bogus",
        7 => "Signature Expired",
        8 => "Signature Not Yet Valid",
        9 => "DNSKEY Missing",
        10 => "RRSIGs Missing",
        11 => "No Zone Key Bit Set",
        12 => "NSEC Missing",
        13 => "Cached Error",
        14 => "Not Ready",
        15 => "Blocked",
        16 => "Censored",
        17 => "Filtered",
        18 => "Prohibited",
        19 => "Stale NXDOMAIN Answer",
        20 => "Not Authoritative",
        21 => "Not Supported",
        22 => "No Reachable Authority",
        23 => "Network Error",
        24 => "Invalid Data",
        27 => "Unsupported NSEC3 Iterations Value",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::op::Edns;

    fn told(options: &[&[u8]]) -> Option<String> {
        let mut edns = Edns::new();
        for option in options {
            edns.options_mut().options.push((OPTION.into(), EdnsOption::Unknown(OPTION, option.to_vec())));
        }
        let mut message = Message::query();
        message.edns = Some(edns);
        reason(&message).map(|e| sentence(&e))
    }

    #[test]
    fn the_reason_for_bogus_comes_first() {
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[&[0]]), None);
        assert_eq!(told(&[&[0, 22]]).unwrap(), "extended error 22 (No Reachable Authority)");
        assert_eq!(told(&[&[0, 22], b"\0\x07too\nold"]).unwrap(), "extended error 7 (Signature Expired): tooold");
        assert_eq!(told(&[&[2, 0]]).unwrap(), "extended error 512 (unknown)");
        assert_eq!(
            told(&[&[&[0, 0][..], &[b'x'; 900]].concat()]).unwrap().len(),
            "extended error 0 (Other): ".len() + 200
        );
    }
}
