//! `/healthz` and `/metrics` (Prometheus text, version 0.0.4), and [`Requests`], the counts of requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use certdir_directory::Version;
use serde::Serialize;

use crate::json;
use crate::problem::Problem;
use crate::site::Site;

/// Requests answered, by route, method and status. All three are of small fixed sets, so memory is bounded.
#[derive(Default)]
pub(crate) struct Requests {
    counts: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
}

impl Requests {
    pub(crate) fn count(&self, route: &str, method: &Method, status: StatusCode) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        // A poisoned lock only means that another thread died while counting.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((route.to_owned(), method, status.as_u16())).or_default() += 1;
    }

    fn write(&self, text: &mut String) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, method, status), count) in &*counts {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "certdir_http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}"
            );
        }
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    store: &'static str,
    version: Version,
    changed_at: String,
}

/// Seconds without a look at the store after which this server is not healthy: it goes on answering from the last set for a
/// while, but somebody should see to it.
const MAX_AGE: i64 = 10;

/// `GET /healthz`: 200 while the published set is there and follows the store, else 503.
pub(crate) async fn health(State(site): State<Arc<Site>>) -> Result<Response, Problem> {
    let published = site.reader.published()?;
    if site.reader.age() > MAX_AGE {
        return Err(Problem::unavailable("store-lost"));
    }
    let health = Health {
        status: "ok",
        store: "followed",
        version: published.version(),
        changed_at: json::time_text(published.changed_at()),
    };
    Ok(json::answer(StatusCode::OK, &health))
}

/// `GET /metrics`. It answers also while the published set is not available: that is when it is wanted.
pub(crate) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let mut text = String::from("# HELP certdir_up Whether the published set is available.\n# TYPE certdir_up gauge\n");
    // Writing to a String cannot fail.
    match site.reader.published() {
        Err(_) => text.push_str("certdir_up 0\n"),
        Ok(published) => {
            text.push_str("certdir_up 1\n");
            for (name, help, value) in [
                ("certdir_published_version", "Version that every view answers from.", published.version()),
                ("certdir_published_revision", "Revision of the store that every view shows.", published.revision()),
                ("certdir_domains", "Hosted domains.", count(published.domains().count())),
                ("certdir_entries", "Addresses with a published certificate.", count(published.len())),
            ] {
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
            }
        }
    }
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "# HELP certdir_http_subscriptions Subscriptions to changes that are open.\n\
         # TYPE certdir_http_subscriptions gauge\ncertdir_http_subscriptions {}\n",
        site.feed.places.open()
    );
    text.push_str(
        "# HELP certdir_http_requests_total HTTP requests answered.\n# TYPE certdir_http_requests_total counter\n",
    );
    site.requests.write(&mut text);
    text.push_str(&(site.extra_metrics)());
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
