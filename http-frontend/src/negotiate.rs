//! [`Format`]: in which form a certificate is wanted, by `?format=` or `Accept` (RFC 9110 section 12.5.1).

use axum::http::{HeaderMap, StatusCode, header};

use crate::problem::Problem;

/// A form of a certificate, or of the list of an address's certificates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Json,
    Pem,
    Der,
}

/// Media types by which a form may be asked for; the first of each form is the one it is sent with.
const MEDIA_TYPES: [(&str, Format); 4] = [
    ("application/json", Format::Json),
    ("application/x-pem-file", Format::Pem),
    // RFC 2585 section 4.1
    ("application/pkix-cert", Format::Der),
    // RFC 8555 section 9.1
    ("application/pem-certificate-chain", Format::Pem),
];

impl Format {
    /// `?format=` decides before `Accept`; without either it is JSON.
    pub(crate) fn choose(query: Option<&str>, headers: &HeaderMap) -> Result<Format, Problem> {
        match query {
            Some("json") => Ok(Format::Json),
            Some("pem") => Ok(Format::Pem),
            Some("der") => Ok(Format::Der),
            Some(_) => Err(Problem::bad_request("bad-format", "format is one of json, pem, der")),
            None => Format::accepted(headers),
        }
    }

    fn accepted(headers: &HeaderMap) -> Result<Format, Problem> {
        let values = headers.get_all(header::ACCEPT).iter().map(|value| value.to_str().unwrap_or_default());
        let ranges: Vec<&str> =
            values.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()).collect();
        if ranges.is_empty() {
            return Ok(Format::Json);
        }
        let mut best = (0, None);
        for (media_type, format) in MEDIA_TYPES {
            let quality = quality(&ranges, media_type);
            if quality > best.0 {
                best = (quality, Some(format));
            }
        }
        best.1.ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                "not-acceptable",
                "certificates come as application/json, application/x-pem-file or application/pkix-cert",
            )
        })
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Pem => "application/x-pem-file",
            Format::Der => "application/pkix-cert",
        }
    }
}

/// Whether a subscriber wants a stream of events, rather than JSON.
pub(crate) fn accepts_events(headers: &HeaderMap) -> Result<bool, Problem> {
    let values = headers.get_all(header::ACCEPT).iter().map(|value| value.to_str().unwrap_or_default());
    let ranges: Vec<&str> =
        values.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()).collect();
    if ranges.is_empty() {
        return Ok(false);
    }
    match (quality(&ranges, "application/json"), quality(&ranges, "text/event-stream")) {
        (0, 0) => Err(Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            "changes come as text/event-stream or application/json",
        )),
        (json, events) => Ok(events > json),
    }
}

/// The quality, in thousandths, that the most specific matching range gives a media type (RFC 9110 section 12.5.1).
fn quality(ranges: &[&str], media_type: &str) -> u16 {
    let mut found = (0, 0);
    for range in ranges {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let specific = if name.eq_ignore_ascii_case(media_type) {
            3
        } else if name.strip_suffix('*').is_some_and(|kind| {
            kind.ends_with('/') && media_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
        }) {
            2
        } else if name == "*/*" {
            1
        } else {
            continue;
        };
        let weight =
            parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q="))).map_or(1_000, thousandths);
        if specific > found.0 {
            found = (specific, weight);
        }
    }
    found.1
}

/// A qvalue (RFC 9110 section 12.4.2); one that is malformed counts as zero.
fn thousandths(text: &str) -> u16 {
    match text.parse::<f32>() {
        // The cast is exact enough: three decimals at most, and saturating.
        Ok(value) if (0.0..=1.0).contains(&value) => (value * 1_000.0).round() as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> Result<Format, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        Format::choose(None, &headers).map_err(|p| p.status.as_u16())
    }

    #[test]
    fn accept_by_quality_and_specificity() {
        assert_eq!(Format::choose(None, &HeaderMap::new()).unwrap(), Format::Json);
        for (value, expected) in [
            ("*/*", Ok(Format::Json)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Ok(Format::Json)),
            ("application/x-pem-file", Ok(Format::Pem)),
            ("Application/PKIX-Cert", Ok(Format::Der)),
            ("application/pem-certificate-chain", Ok(Format::Pem)),
            ("application/json;q=0.5, application/pkix-cert;q=0.9", Ok(Format::Der)),
            ("application/*;q=0.2, application/x-pem-file", Ok(Format::Pem)),
            ("application/json;q=0, */*", Ok(Format::Pem)),
            ("text/html", Err(406)),
            ("application/json;q=0", Err(406)),
            ("application/json;q=nonsense", Err(406)),
            (" ,", Ok(Format::Json)),
        ] {
            assert_eq!(accept(value), expected, "{value}");
        }
    }

    #[test]
    fn the_query_decides_before_accept() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, "application/json".parse().unwrap());
        assert_eq!(Format::choose(Some("der"), &headers).unwrap(), Format::Der);
        assert_eq!(Format::choose(Some("DER"), &headers).unwrap_err().code, "bad-format");
    }
}
