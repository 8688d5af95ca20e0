//! Bodies of requests, read against a limit in octets and a limit in time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::{HeaderMap, StatusCode, header};

use crate::problem::Problem;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How much of a refused body is read and thrown away. A client that is still sending when the connection closes would
/// see a reset instead of the refusal (RFC 9112 section 9.6).
const MAX_DISCARD: usize = 16 * 1024 * 1024;

/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The whole body, if it has at most `limit` octets.
pub(crate) async fn read(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let announced = body.size_hint().lower();
    let mut octets = Vec::new();
    if usize::try_from(announced).is_ok_and(|announced| announced <= limit) {
        let all = async {
            while let Some(chunk) = next(&mut body).await {
                let chunk =
                    chunk.map_err(|_| Problem::bad_request("bad-body", "the body of the request ended early"))?;
                if octets.len() + chunk.len() > limit {
                    return Ok(false);
                }
                octets.extend_from_slice(&chunk);
            }
            Ok(true)
        };
        match tokio::time::timeout(BODY_TIME, all).await {
            Ok(Ok(true)) => return Ok(octets),
            Ok(Ok(false)) => {}
            Ok(Err(problem)) => return Err(problem),
            Err(_) => {
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "time-limit",
                    "the body of the request took too long",
                ));
            }
        }
    }
    discard(headers, body).await;
    Err(Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        format!("the body may have {limit} octets; send the certificates in several requests"),
    ))
}

/// Reads a body that was refused, within limits; not where the client waits for leave to send it (RFC 9110 section
/// 10.1.1): reading would give that.
pub(crate) async fn discard(headers: &HeaderMap, mut body: Body) {
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let mut read = 0;
    let all = async {
        while let Some(Ok(chunk)) = next(&mut body).await {
            read += chunk.len();
            if read > MAX_DISCARD {
                break;
            }
        }
    };
    // Past the limit the connection is closed on the sender.
    let _ = tokio::time::timeout(DISCARD_TIME, all).await;
}

async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Err(error) => return Some(Err(error)),
            // Trailers are not used.
            Ok(frame) => {
                if let Ok(chunk) = frame.into_data() {
                    return Some(Ok(chunk));
                }
            }
        }
    }
}
