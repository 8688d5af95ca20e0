//! [`Site`]: what every request sees, and whether a request may go on: look-ups by strangers within their allowance,
//! changes with a token.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header;
use certdir_directory::{Allowance, Authority, Clock, Connections, Reader, Store, UnixTime};
use tokio::sync::Semaphore;

use crate::attempts::Attempts;
use crate::feed::Feed;
use crate::metrics::Requests;
use crate::problem::Problem;

/// Longer tokens are not looked at.
const MAX_TOKEN: usize = 256;

/// Text that the program adds to `/metrics` for its other front ends.
pub type ExtraMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What every request sees.
pub(crate) struct Site {
    pub(crate) reader: Reader,
    pub(crate) store: Store,
    pub(crate) allowance: Arc<Allowance>,
    pub(crate) clock: Clock,
    pub(crate) extra_metrics: ExtraMetrics,
    pub(crate) requests: Requests,
    pub(crate) attempts: Attempts,
    pub(crate) feed: Feed,
    /// Bodies on their way, by source: nobody takes all places by sending slowly.
    pub(crate) uploads: Arc<Connections>,
    /// Bodies held in memory and changes under way at once.
    pub(crate) changes: Arc<Semaphore>,
}

impl Site {
    pub(crate) fn now(&self) -> UnixTime {
        (self.clock)()
    }

    /// Look-ups of strangers are limited per source, on LDAP and HTTP together; those with a token are not.
    pub(crate) async fn permit_look_up(&self, peer: Peer, headers: &HeaderMap, now: UnixTime) -> Result<(), Problem> {
        if headers.contains_key(header::AUTHORIZATION) {
            return self.authenticate(peer, headers, now).await.map(drop);
        }
        if self.allowance.take(peer.0, now) { Ok(()) } else { Err(Problem::too_many_look_ups()) }
    }

    /// Who acts, by `Authorization: Bearer` (RFC 6750 section 2.1). The token goes to the store and nowhere else.
    pub(crate) async fn authenticate(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<Authority, Problem> {
        let token = bearer(headers)?;
        let outcome = match token.len() {
            0..=MAX_TOKEN => self.store.authenticate(token).await,
            _ => Err(certdir_directory::Error::BadToken),
        };
        if matches!(outcome, Err(certdir_directory::Error::BadToken)) {
            // Behind a proxy or a NAT the one who guesses must not lock out the one who knows: only wrong tokens count, and
            // only they are refused for it.
            self.attempts.check(peer.0, now)?;
            self.attempts.failed(peer.0, now);
        }
        Ok(outcome?)
    }
}

/// The token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || {
        Problem::new(
            axum::http::StatusCode::UNAUTHORIZED,
            "no-token",
            "this needs a token: Authorization: Bearer TOKEN (the operator makes one with: certdir token add)",
        )
    };
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(missing()) };
    let text = value.to_str().map_err(|_| missing())?;
    // The scheme is case-insensitive (RFC 9110 section 11.1).
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(missing()),
    }
}
