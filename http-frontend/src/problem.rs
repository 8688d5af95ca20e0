//! [`Problem`]: every refusal of this front end, as a problem document (RFC 9457) with a stable `code`, and the one
//! function that gives a [`certdir_directory::Error`] its status.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use certdir_directory::Error as DirectoryError;
use serde::Serialize;

/// Seconds after which a client may try again when this server, not the client, has the problem.
const RETRY_UNAVAILABLE: u32 = 2;

/// A refusal. `detail` is a sentence for a person; `code` is for programs and never changes its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    /// Seconds for `Retry-After` (RFC 9110 section 10.2.3).
    pub(crate) retry_after: Option<u32>,
}

/// RFC 9457 section 3.1. The type is `about:blank` (section 4.2.1), so the title is the status phrase; `code` is the
/// extension member (section 3.2) that tells problems of one status apart.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, code, detail: detail.into(), retry_after: None }
    }

    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Problem {
        self.retry_after = Some(seconds);
        self
    }

    /// The directory cannot say anything now. Never to be read as "no certificate".
    pub(crate) fn unavailable(code: &'static str) -> Problem {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            "the directory cannot answer now; this does not mean that there is no certificate, try again in a moment",
        )
        .retry_after(RETRY_UNAVAILABLE)
    }

    pub(crate) fn too_many_look_ups() -> Problem {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-look-ups",
            "too many look-ups from your network; try again in a second",
        )
        .retry_after(1)
    }
}

/// Status and code of an error of the directory. The texts of errors within the store go to the log, not to a client.
impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Problem {
        let code = error.code();
        let status = match &error {
            DirectoryError::NotReady | DirectoryError::Stale { .. } => return Problem::unavailable(code),
            DirectoryError::Store(_)
            | DirectoryError::Schema(_)
            | DirectoryError::Corrupt(_)
            | DirectoryError::File { .. }
            | DirectoryError::ZoneKey { .. }
            | DirectoryError::Zones(_)
            | DirectoryError::Random => {
                tracing::error!(code, %error, "the store failed a request");
                return Problem::unavailable(code);
            }
            DirectoryError::BadToken => StatusCode::UNAUTHORIZED,
            DirectoryError::Forbidden(_) => StatusCode::FORBIDDEN,
            DirectoryError::UnknownDomain(_) | DirectoryError::NotFound(_) => StatusCode::NOT_FOUND,
            DirectoryError::DomainExists(_) => StatusCode::CONFLICT,
            DirectoryError::Setting(_) | DirectoryError::Records(_) => StatusCode::UNPROCESSABLE_ENTITY,
            // `Error` is non-exhaustive: an error this function does not know is the server's.
            _ => {
                tracing::error!(code, %error, "a request failed");
                return Problem::unavailable(code);
            }
        };
        Problem::new(status, code, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        let mut response = (self.status, crate::json::text(&document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // A certificate published a moment later is found at once: no refusal is ever cached.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        add_refusal_headers(&self, headers);
        response
    }
}

/// The header fields that a status asks for, whatever the form of the body.
pub(crate) fn add_refusal_headers(problem: &Problem, headers: &mut axum::http::HeaderMap) {
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.status == StatusCode::UNAUTHORIZED {
        // RFC 6750 section 3: the error code only where credentials were given.
        let challenge = if problem.code == "bad-token" {
            r#"Bearer realm="certdir", error="invalid_token""#
        } else {
            r#"Bearer realm="certdir""#
        };
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_directory_has_its_status() {
        let domain = || certdir_directory::DomainName::parse("example.org").unwrap();
        for (error, status, code) in [
            (DirectoryError::NotReady, 503, "not-ready"),
            (DirectoryError::Stale { seconds: 9 }, 503, "stale"),
            (DirectoryError::Corrupt("row 7 of table secrets".into()), 503, "corrupt"),
            (DirectoryError::Random, 503, "random"),
            (DirectoryError::BadToken, 401, "bad-token"),
            (DirectoryError::Forbidden("publish".into()), 403, "forbidden"),
            (DirectoryError::UnknownDomain(domain()), 404, "unknown-domain"),
            (DirectoryError::NotFound("x".into()), 404, "not-found"),
            (DirectoryError::DomainExists(domain()), 409, "domain-exists"),
            (DirectoryError::Setting("no".into()), 422, "setting"),
        ] {
            let problem = Problem::from(error);
            assert_eq!((problem.status.as_u16(), problem.code), (status, code));
            assert_eq!(problem.retry_after.is_some(), status == 503, "{code}");
            assert!(!problem.detail.contains("secrets"), "what is in the store stays in the log");
        }
    }
}
