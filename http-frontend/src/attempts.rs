//! [`Attempts`]: failed authentications, limited per source. Tokens cannot be guessed; this saves the store the work
//! and makes the trying visible.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use certdir_directory::{UnixTime, network};

use crate::problem::Problem;

/// Failures that a source may have within a [`WINDOW`].
const MAX_FAILURES: u32 = 10;

/// Seconds after which a source starts anew.
const WINDOW: UnixTime = 60;

/// Sources remembered at once. When full, the finished windows are forgotten; when still full, new sources are not
/// counted: memory stays bounded and nobody is locked out.
const MAX_SOURCES: usize = 50_000;

/// Failed authentications of each source.
#[derive(Default)]
pub(crate) struct Attempts {
    sources: Mutex<HashMap<IpAddr, Window>>,
}

struct Window {
    failures: u32,
    until: UnixTime,
}

impl Attempts {
    /// Refuses a source that has failed too often. Attempts under way side by side are not counted yet: a source has
    /// at most as many as it may have connections.
    pub(crate) fn check(&self, source: IpAddr, now: UnixTime) -> Result<(), Problem> {
        match self.lock().get(&network(source)) {
            Some(window) if window.failures >= MAX_FAILURES && now < window.until => {
                let wait = u32::try_from(window.until - now).unwrap_or(1);
                let detail = format!("too many wrong tokens from your network; try again in {wait} seconds");
                Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", detail).retry_after(wait))
            }
            _ => Ok(()),
        }
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, source: IpAddr, now: UnixTime) {
        let mut sources = self.lock();
        let source = network(source);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, window| now < window.until);
            if sources.len() >= MAX_SOURCES {
                return;
            }
        }
        let window = sources.entry(source).or_insert(Window { failures: 0, until: now + WINDOW });
        if now >= window.until {
            *window = Window { failures: 0, until: now + WINDOW };
        }
        window.failures = window.failures.saturating_add(1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Window>> {
        // A poisoned lock only means that another thread died while counting.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_a_minute_and_no_more() {
        let attempts = Attempts::default();
        let source: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        for _ in 0..MAX_FAILURES {
            attempts.check(source, 1_000).unwrap();
            attempts.failed(source, 1_000);
        }
        let refusal = attempts.check(neighbour, 1_020).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), ("too-many-attempts", Some(40)));
        attempts.check("2001:db8:0:100::1".parse().unwrap(), 1_020).unwrap();
        attempts.check(source, 1_000 + WINDOW).unwrap();
        attempts.failed(source, 1_000 + WINDOW);
        attempts.check(source, 1_000 + WINDOW).unwrap();
    }

    #[test]
    fn memory_is_bounded_and_nobody_is_locked_out() {
        let attempts = Attempts::default();
        for n in 0..=u32::try_from(MAX_SOURCES).unwrap() {
            attempts.failed(IpAddr::V4(n.into()), 5);
        }
        assert_eq!(attempts.lock().len(), MAX_SOURCES);
        attempts.check("203.0.113.9".parse().unwrap(), 5).unwrap();
        attempts.failed("203.0.113.9".parse().unwrap(), 5 + WINDOW);
        assert_eq!(attempts.lock().len(), 1);
    }
}
