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

/// The whole body, if it has at most `limit` octets; `advice` says what to do about a longer one.
pub(crate) async fn read(headers: &HeaderMap, mut body: Body, limit: usize, advice: &str) -> Result<Vec<u8>, Problem> {
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
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("the body may have {limit} octets; {advice}")))
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use axum::body::HttpBody;
    use hyper::body::Frame;

    use super::*;

    /// A body of unknown length: some chunks, then nothing for ever, or an error.
    struct Sent {
        chunks: Vec<Vec<u8>>,
        then: Option<std::io::ErrorKind>,
    }

    impl HttpBody for Sent {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            match (self.chunks.pop(), self.then) {
                (Some(chunk), _) => Poll::Ready(Some(Ok(Frame::data(chunk.into())))),
                (None, Some(kind)) => Poll::Ready(Some(Err(kind.into()))),
                (None, None) => Poll::Pending,
            }
        }
    }

    async fn refusal(chunks: Vec<Vec<u8>>, then: Option<std::io::ErrorKind>) -> (u16, &'static str) {
        let problem = read(&HeaderMap::new(), Body::new(Sent { chunks, then }), 10, "send less").await.unwrap_err();
        (problem.status.as_u16(), problem.code)
    }

    #[tokio::test(start_paused = true)]
    async fn limits_hold_without_an_announced_length() {
        let start = tokio::time::Instant::now();
        assert_eq!(refusal(vec![vec![0; 6]], None).await, (408, "time-limit"));
        assert_eq!(start.elapsed().as_secs(), BODY_TIME.as_secs());
        assert_eq!(refusal(vec![vec![0; 6], vec![0; 5]], None).await, (413, "too-large"));
        assert_eq!(start.elapsed().as_secs(), (BODY_TIME + DISCARD_TIME).as_secs());
        let broken = Some(std::io::ErrorKind::UnexpectedEof);
        assert_eq!(refusal(vec![vec![0; 6]], broken).await, (400, "bad-body"));
        assert_eq!(read(&HeaderMap::new(), Body::from(vec![7; 10]), 10, "send less").await.unwrap(), vec![7; 10]);
        assert_eq!(start.elapsed().as_secs(), (BODY_TIME + DISCARD_TIME).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_announced_length_is_refused_before_it_is_sent() {
        let mut headers = HeaderMap::new();
        headers.insert(header::EXPECT, "100-continue".parse().unwrap());
        let problem = read(&headers, Body::from(vec![0; 11]), 10, "send less").await.unwrap_err();
        assert_eq!(problem.code, "too-large");
        let start = tokio::time::Instant::now();
        discard(&headers, Body::new(Sent { chunks: Vec::new(), then: None })).await;
        assert_eq!(start.elapsed().as_secs(), 0, "nothing is waited for that was not asked for");
    }
}
