//! The routes, and what surrounds every one of them: a time limit, a count, the security header fields.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};

use crate::problem::Problem;
use crate::site::Site;
use crate::{admin, changes, look_up, metrics, page, search};

/// The most time that a request may take, its body and its place in the queue of changes included.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// For answers that are no pages: should a browser show one as a page, it may do nothing.
const INERT: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

pub(crate) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(page::home))
        .route("/lookup", get(page::look_up))
        .route("/v1/addresses/{address}", get(look_up::address).delete(admin::withdraw_address))
        .route("/v1/changes", get(changes::log).post(changes::names))
        .route("/search.cgi", get(search::search))
        .route("/v1/certificates", axum::routing::post(admin::publish))
        .route("/v1/certificates/{sha256}", get(look_up::certificate).delete(admin::withdraw_certificate))
        .route("/v1/domains", get(admin::domains).post(admin::add_domain))
        .route("/v1/domains/{domain}", delete(admin::remove_domain).patch(admin::change_domain))
        .route(
            "/v1/domains/{domain}/records",
            get(admin::records).put(admin::set_records).delete(admin::remove_records),
        )
        .route("/v1/tokens", get(admin::tokens).post(admin::add_token))
        .route("/v1/tokens/{id}", delete(admin::revoke_token))
        .route("/healthz", get(metrics::health))
        .route("/metrics", get(metrics::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_path)
        // Bodies are read in `admin` and `changes` only, against limits of their own.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(site.clone(), surround))
        .with_state(site)
}

async fn surround(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "time-limit",
            "the request took too long; a change may have been made, look before you send it again",
        )
        .into_response(),
    };
    site.requests.count(route.as_ref().map_or("none", MatchedPath::as_str), &method, response.status());
    add_security_headers(response.headers_mut());
    response
}

fn add_security_headers(headers: &mut HeaderMap) {
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(INERT));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An address is in the URL: it goes to no other site.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // For browsers older than frame-ancestors.
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
}

async fn no_such_path() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-path",
        "there is nothing at this path; docs/http.md lists what there is",
    )
}

/// The router adds `Allow` (RFC 9110 section 15.5.6).
async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "this path does not take this method; see the Allow header field",
    )
}
