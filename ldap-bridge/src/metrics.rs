//! What the front end counts, for `/metrics`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::refusal::ResultCode;

/// Counters of one front end. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    searches: AtomicU64,
    entries: AtomicU64,
    results: [AtomicU64; ResultCode::ALL.len()],
    connections: AtomicU64,
    open: AtomicU64,
    refused: AtomicU64,
}

impl Metrics {
    /// The counters now, as lines of the Prometheus text format.
    pub fn prometheus(&self) -> String {
        let Counters { searches, entries, results, connections, open, refused } = &*self.0;
        let mut out = String::new();
        let mut line = |name: &str, kind: &str, help: &str, samples: &[(&str, &AtomicU64)]| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP certdir_ldap_{name} {help}\n# TYPE certdir_ldap_{name} {kind}");
            for (label, value) in samples {
                let label = if label.is_empty() { String::new() } else { format!("{{code=\"{label}\"}}") };
                let _ = writeln!(out, "certdir_ldap_{name}{label} {}", value.load(Ordering::Relaxed));
            }
        };
        line("searches_total", "counter", "Search requests read.", &[("", searches)]);
        line("entries_total", "counter", "Entries sent.", &[("", entries)]);
        let results: Vec<_> = ResultCode::ALL.iter().zip(results).map(|((_, name), value)| (*name, value)).collect();
        line("results_total", "counter", "Operations answered, by LDAP result code.", &results);
        line("connections_total", "counter", "Connections accepted.", &[("", connections)]);
        line("connections_refused_total", "counter", "Connections over a limit.", &[("", refused)]);
        line("connections", "gauge", "Connections open.", &[("", open)]);
        out
    }

    pub(crate) fn search(&self) {
        self.0.searches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn entry(&self) {
        self.0.entries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn result(&self, code: ResultCode) {
        for ((known, _), count) in ResultCode::ALL.iter().zip(&self.0.results) {
            if *known == code {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn opened(&self) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }
}
