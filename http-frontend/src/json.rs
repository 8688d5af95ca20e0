//! JSON bodies: how they are written, and the facts of an entry and its certificates in them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use certdir_certificate::{Calendar, Certificate};
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
    Calendar::of(time).to_string()
}
