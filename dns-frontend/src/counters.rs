//! What was asked and answered, counted per worker without contention and summed up for `/metrics`.
//!
//! [`FAMILIES`] says what is counted; a worker's [`Tally`] has one row of counts for all of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use certdir_zones::RecordType;

use crate::answer::Transport;
use crate::cookie::CookieState;
use crate::request::Rcode;
use crate::response::{Finished, Truncation};

/// Counts that belong together: a metric, told apart by the values of one label.
struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: &'static [&'static str],
}

/// Everything that is counted, in the order in which it stands in a row of counts.
const FAMILIES: [Family; 13] = [
    Family {
        name: "certdir_dns_responses_total",
        help: "DNS responses by response code.",
        label: "rcode",
        values: &[
            "NOERROR",
            "FORMERR",
            "SERVFAIL",
            "NXDOMAIN",
            "NOTIMP",
            "REFUSED",
            "YXDOMAIN",
            "BADVERS",
            "BADCOOKIE",
            "other",
        ],
    },
    Family {
        name: "certdir_dns_queries_by_type_total",
        help: "DNS requests answered, by the type asked for.",
        label: "type",
        values: &["A", "NS", "SOA", "SRV", "DS", "DNSKEY", "SMIMEA", "CERT", "ANY", "other"],
    },
    Family {
        name: "certdir_dns_truncated_total",
        help: "DNS responses with TC set, by reason: too long, source not verified, signatures used up, rate limited.",
        label: "reason",
        values: &["size", "unverified", "budget", "rate"],
    },
    Family {
        name: "certdir_dns_cookies_total",
        help: "DNS requests answered, by what their cookie says.",
        label: "state",
        values: &["none", "client_only", "valid", "invalid"],
    },
    Family {
        name: "certdir_dns_dropped_total",
        help: "DNS messages that got no response: malformed beyond an answer, or rate limited.",
        label: "reason",
        values: &["ignored", "rate"],
    },
    Family {
        name: "certdir_dns_proofs_total",
        help: "DNS denials given out: signed for the question, or signed for one before it.",
        label: "from",
        values: &["signature", "cache"],
    },
    Family {
        name: "certdir_dns_deferred_total",
        help: "DNS requests on streams whose answer had to wait because the signatures of the second were used up.",
        label: "",
        values: &[""],
    },
    Family {
        name: "certdir_dns_send_failed_total",
        help: "DNS responses the system did not send.",
        label: "",
        values: &[""],
    },
    Family {
        name: "certdir_dns_refused_connections_total",
        help: "DNS connections closed because of a limit.",
        label: "",
        values: &[""],
    },
    Family {
        name: "certdir_dns_sessions_total",
        help: "Stateful DNS sessions begun and ended, and connections cut off because their client broke a rule.",
        label: "event",
        values: &["begun", "ended", "aborted"],
    },
    Family {
        name: "certdir_dns_subscriptions_total",
        help: "Subscriptions to DNS records: taken, ended, and refused by response code.",
        label: "event",
        values: &["taken", "ended", "SERVFAIL", "REFUSED", "NOTAUTH"],
    },
    Family {
        name: "certdir_dns_pushes_total",
        help: "Messages that told of changes of DNS records.",
        label: "",
        values: &[""],
    },
    Family {
        name: "certdir_dns_pushed_changes_total",
        help: "Changes of DNS records that were told, each record for itself.",
        label: "",
        values: &[""],
    },
];
const RCODES: usize = 0;
const TYPES: usize = 1;
const TRUNCATED: usize = 2;
const COOKIES: usize = 3;
const DROPPED: usize = 4;
const PROOFS: usize = 5;
const DEFERRED: usize = 6;
const SEND_FAILED: usize = 7;
const REFUSED_CONNECTIONS: usize = 8;
const SESSIONS: usize = 9;
const SUBSCRIPTIONS: usize = 10;
const PUSHES: usize = 11;
const CHANGES: usize = 12;

/// The response codes in the order of their family, which has one more place for all others.
const RCODE_VALUES: [Rcode; 9] = [
    Rcode::NOERROR,
    Rcode::FORMERR,
    Rcode::SERVFAIL,
    Rcode::NXDOMAIN,
    Rcode::NOTIMP,
    Rcode::REFUSED,
    Rcode::YXDOMAIN,
    Rcode::BADVERS,
    Rcode::BADCOOKIE,
];

/// Upper bounds of the latency buckets, in microseconds; one more bucket has no bound.
const LATENCIES: [u64; 12] = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_000];

/// Where the counts of a family begin.
const fn start(family: usize) -> usize {
    let mut at = 0;
    let mut sum = 0;
    while at < family {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        let values = FAMILIES[at].values;
        sum += values.len();
        at += 1;
    }
    sum
}

/// Counts of all families; the latency buckets follow, then the sum of all latencies in microseconds.
const LATENCY: usize = start(FAMILIES.len());
const LATENCY_SUM: usize = LATENCY + LATENCIES.len() + 1;
const COUNTS: usize = LATENCY_SUM + 1;

/// One worker's counts. Only that worker writes them, so a plain load and store is enough; alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Tally {
    transport: Transport,
    counts: [AtomicU64; COUNTS],
}

impl Tally {
    pub(crate) fn new(transport: Transport) -> Tally {
        Tally { transport, counts: [const { AtomicU64::new(0) }; COUNTS] }
    }

    /// Counts a request and its response.
    pub(crate) fn request(&self, finished: Finished) {
        let Finished { rcode, truncated, rtype, cookie, signed, reused, .. } = finished;
        let code = RCODE_VALUES.iter().position(|&known| known == rcode).unwrap_or(RCODE_VALUES.len());
        self.add(const { start(RCODES) } + code, 1);
        self.add(const { start(TYPES) } + place_of_type(rtype), 1);
        let cookie = match cookie {
            CookieState::None => 0,
            CookieState::ClientOnly => 1,
            CookieState::Valid => 2,
            CookieState::Invalid => 3,
        };
        self.add(const { start(COOKIES) } + cookie, 1);
        if let Some(reason) = truncated {
            let reason = match reason {
                Truncation::Size => 0,
                Truncation::Unverified => 1,
                Truncation::Budget => 2,
                Truncation::Rate => 3,
            };
            self.add(const { start(TRUNCATED) } + reason, 1);
        }
        if signed > 0 || reused > 0 {
            self.add(const { start(PROOFS) }, signed.into());
            self.add(const { start(PROOFS) } + 1, reused.into());
        }
    }

    /// Counts a request whose answer has to wait; it is counted as a request once it is answered.
    pub(crate) fn deferred(&self) {
        self.add(const { start(DEFERRED) }, 1);
    }

    /// Counts a message that gets no response: it is too short, or a response itself.
    pub(crate) fn ignored(&self) {
        self.add(const { start(DROPPED) }, 1);
    }

    /// Counts a request whose response is dropped by rate limiting.
    pub(crate) fn rate_dropped(&self) {
        self.add(const { start(DROPPED) + 1 }, 1);
    }

    /// Counts a response that the system did not take.
    pub(crate) fn send_failed(&self) {
        self.add(const { start(SEND_FAILED) }, 1);
    }

    /// Counts a connection closed at once because of a limit.
    pub(crate) fn refused_connection(&self) {
        self.add(const { start(REFUSED_CONNECTIONS) }, 1);
    }

    /// Counts a stateful session that begins.
    pub(crate) fn session_opened(&self) {
        self.add(const { start(SESSIONS) }, 1);
    }

    /// Counts a stateful session that has ended.
    pub(crate) fn session_closed(&self) {
        self.add(const { start(SESSIONS) + 1 }, 1);
    }

    /// Counts a connection that is cut off for a broken rule of stateful operations.
    pub(crate) fn session_aborted(&self) {
        self.add(const { start(SESSIONS) + 2 }, 1);
    }

    /// Counts a subscription taken or refused.
    pub(crate) fn subscribe(&self, rcode: Rcode) {
        let event = match rcode {
            Rcode::NOERROR => 0,
            Rcode::SERVFAIL => 2,
            Rcode::REFUSED => 3,
            _ => 4,
        };
        self.add(const { start(SUBSCRIPTIONS) } + event, 1);
    }

    /// Counts subscriptions that have ended.
    pub(crate) fn unsubscribed(&self, count: usize) {
        self.add(const { start(SUBSCRIPTIONS) + 1 }, count as u64);
    }

    /// Counts a message that tells of so many changes.
    pub(crate) fn pushed(&self, changes: usize) {
        self.add(const { start(PUSHES) }, 1);
        self.add(const { start(CHANGES) }, changes as u64);
    }

    /// Counts how long so many responses took, from the request in hand to the response handed over; what waited for a
    /// signature, with the waiting.
    pub(crate) fn latency(&self, took: Duration, count: usize) {
        let (took, count) = (u64::try_from(took.as_micros()).unwrap_or(u64::MAX), count as u64);
        let bucket = LATENCIES.iter().take_while(|&&bound| took > bound).count();
        self.add(LATENCY + bucket, count);
        self.add(LATENCY_SUM, took.saturating_mul(count));
    }

    fn add(&self, at: usize, count: u64) {
        if let Some(place) = self.counts.get(at) {
            place.store(place.load(Relaxed).wrapping_add(count), Relaxed);
        }
    }
}

fn place_of_type(rtype: RecordType) -> usize {
    match rtype {
        RecordType::A => 0,
        RecordType::NS => 1,
        RecordType::SOA => 2,
        RecordType::SRV => 3,
        RecordType::DS => 4,
        RecordType::DNSKEY => 5,
        RecordType::SMIMEA => 6,
        RecordType::CERT => 7,
        RecordType::ANY => 8,
        _ => 9,
    }
}

/// A stop-watch for [`Tally::latency`].
pub(crate) fn stopwatch() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long something took does not depend on the time of day")]
    Instant::now()
}

/// The counts of a front end: a handle to keep while it runs.
#[derive(Clone, Debug, Default)]
pub struct Counters(pub(crate) Arc<[Arc<Tally>]>);

impl Counters {
    /// The counts now. Counts of one moment, but not of one instant: workers go on while they are read.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for tally in self.0.iter() {
            let Snapshot { udp, tcp, tls, https, quic } = &mut snapshot;
            let sums = match tally.transport {
                Transport::Udp => udp,
                Transport::Tcp => tcp,
                Transport::Tls => tls,
                Transport::Https => https,
                Transport::Quic => quic,
            };
            for (into, from) in sums.0.iter_mut().zip(&tally.counts) {
                *into = into.wrapping_add(from.load(Relaxed));
            }
        }
        snapshot
    }

    /// Writes the counts in the text format of Prometheus, every line ending in a line feed.
    pub fn write_metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let Snapshot { udp, tcp, tls, https, quic } = self.snapshot();
        let transports: Vec<_> =
            Transport::ALL.iter().map(|transport| transport.name()).zip([udp, tcp, tls, https, quic]).collect();
        let name = "certdir_dns_queries_total";
        writeln!(out, "# HELP {name} DNS messages received.\n# TYPE {name} counter")?;
        for (transport, sums) in &transports {
            writeln!(out, "{name}{{transport=\"{transport}\"}} {}", sums.queries())?;
        }
        for (family, Family { name, help, label, values }) in FAMILIES.iter().enumerate() {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter")?;
            for (transport, sums) in &transports {
                for (value, count) in values.iter().zip(sums.family(family)) {
                    let label = if label.is_empty() { String::new() } else { format!(",{label}=\"{value}\"") };
                    writeln!(out, "{name}{{transport=\"{transport}\"{label}}} {count}")?;
                }
            }
        }
        let held = [
            ("certdir_dns_sessions", "Stateful DNS sessions now.", SESSIONS),
            ("certdir_dns_subscriptions", "Subscriptions to DNS records now.", SUBSCRIPTIONS),
        ];
        for (name, help, family) in held {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge")?;
            for (transport, sums) in &transports {
                writeln!(out, "{name}{{transport=\"{transport}\"}} {}", sums.held(family))?;
            }
        }
        let name = "certdir_dns_latency_seconds";
        let help = "Time from a request in hand to its response handed over; those of one batch together.";
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram")?;
        for (transport, sums) in &transports {
            let mut buckets = sums.0.iter().skip(LATENCY);
            let mut sum = 0u64;
            let bounds = LATENCIES.iter().map(|&bound| (bound as f64 / 1e6).to_string()).chain(["+Inf".into()]);
            for (bound, count) in bounds.zip(&mut buckets) {
                sum = sum.wrapping_add(*count);
                writeln!(out, "{name}_bucket{{transport=\"{transport}\",le=\"{bound}\"}} {sum}")?;
            }
            let microseconds = buckets.next().copied().unwrap_or_default();
            writeln!(out, "{name}_sum{{transport=\"{transport}\"}} {}", microseconds as f64 / 1e6)?;
            writeln!(out, "{name}_count{{transport=\"{transport}\"}} {sum}")?;
        }
        Ok(())
    }
}

/// The counts of all transports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Over UDP.
    pub udp: Sums,
    /// Over TCP.
    pub tcp: Sums,
    /// Over TLS (RFC 7858).
    pub tls: Sums,
    /// Over HTTPS (RFC 8484).
    pub https: Sums,
    /// Over QUIC (RFC 9250).
    pub quic: Sums,
}

/// The counts of one transport since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums([u64; COUNTS]);

impl Default for Sums {
    fn default() -> Sums {
        Sums([0; COUNTS])
    }
}

impl Sums {
    /// Messages received.
    pub fn queries(&self) -> u64 {
        self.total(RCODES) + self.total(DROPPED)
    }

    /// Responses with this code.
    pub fn responses(&self, rcode: Rcode) -> u64 {
        let counts = RCODE_VALUES.iter().zip(self.family(RCODES));
        counts.filter(|(known, _)| **known == rcode).map(|(_, count)| *count).sum()
    }

    /// Responses with TC set.
    pub fn truncated(&self) -> u64 {
        self.total(TRUNCATED)
    }

    /// Messages that got no response: shorter than a header, responses themselves, or above the rate of their source.
    pub fn dropped(&self) -> u64 {
        self.total(DROPPED)
    }

    /// Requests with a valid server cookie.
    pub fn verified(&self) -> u64 {
        self.family(COOKIES).get(2).copied().unwrap_or_default()
    }

    /// Denials signed for their question.
    pub fn signatures(&self) -> u64 {
        self.family(PROOFS).first().copied().unwrap_or_default()
    }

    /// Requests whose answer had to wait for a signature.
    pub fn deferred(&self) -> u64 {
        self.total(DEFERRED)
    }

    /// Responses that the system did not take.
    pub fn send_failed(&self) -> u64 {
        self.total(SEND_FAILED)
    }

    /// Connections closed at once because of a limit.
    pub fn refused_connections(&self) -> u64 {
        self.total(REFUSED_CONNECTIONS)
    }

    /// Stateful sessions that are open (RFC 8490).
    pub fn sessions(&self) -> u64 {
        self.held(SESSIONS)
    }

    /// Subscriptions that are held (RFC 8765).
    pub fn subscriptions(&self) -> u64 {
        self.held(SUBSCRIPTIONS)
    }

    /// Subscriptions that were refused.
    pub fn refused_subscriptions(&self) -> u64 {
        self.family(SUBSCRIPTIONS).iter().skip(2).sum()
    }

    /// Messages that told of changes.
    pub fn pushes(&self) -> u64 {
        self.total(PUSHES)
    }

    /// Changes that were told.
    pub fn pushed_changes(&self) -> u64 {
        self.total(CHANGES)
    }

    /// Connections cut off because their client broke a rule of stateful operations.
    pub fn aborted_sessions(&self) -> u64 {
        self.family(SESSIONS).get(2).copied().unwrap_or_default()
    }

    /// Of a family whose first two values are what came and what went, what is there. Workers go on while they are read, so
    /// more may have gone than came.
    fn held(&self, family: usize) -> u64 {
        let count = |at| self.family(family).get(at).copied().unwrap_or_default();
        count(0).saturating_sub(count(1))
    }

    fn family(&self, family: usize) -> &[u64] {
        self.0.get(start(family)..start(family + 1)).unwrap_or_default()
    }

    fn total(&self, family: usize) -> u64 {
        self.family(family).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(rcode: Rcode, truncated: Option<Truncation>) -> Finished {
        Finished {
            length: 12,
            rcode,
            truncated,
            rtype: RecordType::SMIMEA,
            cookie: CookieState::Valid,
            keepalive_asked: false,
            later: false,
            signed: 1,
            reused: 2,
        }
    }

    #[test]
    fn counts_and_writes() {
        let tallies: Arc<[Arc<Tally>]> =
            [Transport::Udp, Transport::Udp, Transport::Quic].map(|transport| Arc::new(Tally::new(transport))).into();
        let counters = Counters(tallies.clone());
        tallies[0].request(finished(Rcode::NXDOMAIN, Some(Truncation::Unverified)));
        tallies[1].request(finished(Rcode::NXDOMAIN, None));
        tallies[1].ignored();
        tallies[1].rate_dropped();
        tallies[1].latency(Duration::from_micros(20), 3);
        tallies[1].latency(Duration::from_micros(21), 1);
        tallies[1].latency(Duration::from_secs(2), 1);
        for rcode in [Rcode::BADVERS, Rcode::YXDOMAIN, Rcode(11)] {
            tallies[2].request(finished(rcode, None));
        }
        let snapshot = counters.snapshot();
        assert_eq!((snapshot.udp.queries(), snapshot.udp.truncated(), snapshot.udp.dropped()), (4, 1, 2));
        assert_eq!((snapshot.udp.responses(Rcode::NXDOMAIN), snapshot.udp.signatures()), (2, 2));
        assert_eq!((snapshot.quic.responses(Rcode::BADVERS), snapshot.quic.responses(Rcode::YXDOMAIN)), (1, 1));
        assert_eq!(snapshot.quic.queries(), 3, "whatever the code");
        let mut text = String::new();
        counters.write_metrics(&mut text).unwrap();
        for line in [
            "certdir_dns_queries_total{transport=\"udp\"} 4",
            "certdir_dns_responses_total{transport=\"doq\",rcode=\"BADVERS\"} 1",
            "certdir_dns_responses_total{transport=\"doq\",rcode=\"other\"} 1",
            "certdir_dns_queries_by_type_total{transport=\"udp\",type=\"SMIMEA\"} 2",
            "certdir_dns_truncated_total{transport=\"udp\",reason=\"unverified\"} 1",
            "certdir_dns_cookies_total{transport=\"udp\",state=\"valid\"} 2",
            "certdir_dns_dropped_total{transport=\"udp\",reason=\"ignored\"} 1",
            "certdir_dns_dropped_total{transport=\"udp\",reason=\"rate\"} 1",
            "certdir_dns_proofs_total{transport=\"udp\",from=\"cache\"} 4",
            "certdir_dns_refused_connections_total{transport=\"tcp\"} 0",
            "certdir_dns_latency_seconds_bucket{transport=\"udp\",le=\"0.00001\"} 0",
            "certdir_dns_latency_seconds_bucket{transport=\"udp\",le=\"0.00002\"} 3",
            "certdir_dns_latency_seconds_bucket{transport=\"udp\",le=\"1\"} 4",
            "certdir_dns_latency_seconds_bucket{transport=\"udp\",le=\"+Inf\"} 5",
            "certdir_dns_latency_seconds_sum{transport=\"udp\"} 2.000081",
            "certdir_dns_latency_seconds_count{transport=\"udp\"} 5",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        assert!(text.ends_with('\n'));
    }
}
