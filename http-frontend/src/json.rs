//! JSON bodies: how they are written, and the facts of an entry and its certificates in them.

use std::fmt::Write as _;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use certdir_certificate::Certificate;
use certdir_directory::{UnixTime, Visible};
use data_encoding::HEXLOWER;
use serde::Serialize;

use crate::problem::Problem;

/// What is said about one published certificate. Times are RFC 3339, in UTC.
#[derive(Serialize)]
pub(crate) struct Facts {
    pub(crate) sha256: String,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) serial: String,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) key: String,
    /// The addresses written in the certificate itself.
    pub(crate) addresses: Vec<String>,
    /// The publisher, not the certificate, says that it belongs to this address.
    pub(crate) asserted: bool,
    pub(crate) pem: String,
}

impl Facts {
    pub(crate) fn read(visible: &Visible) -> Result<Facts, Problem> {
        let certificate: Certificate = visible.certificate().map_err(|error| {
            tracing::error!(sha256 = %HEXLOWER.encode(&visible.sha256), %error, "a published certificate cannot be read");
            Problem::unavailable("corrupt")
        })?;
        Ok(Facts {
            sha256: HEXLOWER.encode(&visible.sha256),
            subject: certificate.subject().to_owned(),
            issuer: certificate.issuer().to_owned(),
            serial: certificate.serial_hex().to_owned(),
            not_before: time_text(visible.not_before),
            not_after: time_text(visible.not_after),
            key: certificate.key().name.clone(),
            addresses: certificate.addresses().iter().map(|name| name.text.clone()).collect(),
            asserted: visible.asserted,
            pem: certificate.to_pem(),
        })
    }
}

/// A JSON answer. Indented: people read these with curl.
pub(crate) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = (status, text(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The text of a document made of strings, numbers and lists, for which serialisation cannot fail.
pub(crate) fn text(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

/// RFC 3339 in UTC, for example `2026-11-22T08:30:00Z`.
pub(crate) fn time_text(time: UnixTime) -> String {
    let (days, seconds) = (time.div_euclid(86_400), time.rem_euclid(86_400));
    // Days to a date of the Gregorian calendar, counting years from March, in eras of 400 years.
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_date_does() {
        // `date -u -d @N +%FT%TZ`
        for (time, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_334_400, "2026-11-22T08:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(time_text(time), expected);
        }
        let _ = (time_text(UnixTime::MIN), time_text(UnixTime::MAX));
    }
}
