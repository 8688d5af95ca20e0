//! What was asked and answered, counted per worker without contention and summed up for `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::request::Rcode;
use crate::response::Finished;

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Udp,
    Tcp,
    /// DNS over TLS.
    Tls,
    /// DNS over HTTPS.
    Https,
    /// DNS over QUIC.
    Quic,
}

impl Channel {
    /// In the order of the fields of [`Snapshot`], with their names in the metrics.
    const ALL: [(Channel, &str); 5] = [
        (Channel::Udp, "udp"),
        (Channel::Tcp, "tcp"),
        (Channel::Tls, "dot"),
        (Channel::Https, "doh"),
        (Channel::Quic, "doq"),
    ];
}

/// Response codes that this server gives, in the order of [`Tally::rcodes`], with their mnemonics.
const RCODES: [(Rcode, &str); 8] = [
    (Rcode::NOERROR, "NOERROR"),
    (Rcode::FORMERR, "FORMERR"),
    (Rcode::SERVFAIL, "SERVFAIL"),
    (Rcode::NXDOMAIN, "NXDOMAIN"),
    (Rcode::NOTIMP, "NOTIMP"),
    (Rcode::REFUSED, "REFUSED"),
    (Rcode::BADVERS, "BADVERS"),
    (Rcode::BADCOOKIE, "BADCOOKIE"),
];

/// One worker's counts. Only that worker writes them, so a plain load and store is enough; alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Tally {
    channel: Channel,
    rcodes: [AtomicU64; RCODES.len()],
    truncated: AtomicU64,
    dropped: AtomicU64,
    send_failed: AtomicU64,
    refused_connections: AtomicU64,
}

impl Tally {
    pub(crate) fn new(channel: Channel) -> Tally {
        Tally {
            channel,
            rcodes: Default::default(),
            truncated: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            send_failed: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
        }
    }

    /// Counts a request: its response, or that it got none.
    pub(crate) fn request(&self, response: Option<Finished>) {
        let Some(Finished { rcode, truncated, .. }) = response else {
            return add(&self.dropped);
        };
        if let Some(place) = RCODES.iter().position(|&(known, _)| known == rcode).and_then(|at| self.rcodes.get(at)) {
            add(place);
        }
        if truncated.is_some() {
            add(&self.truncated);
        }
    }

    /// Counts a response that the system did not take.
    pub(crate) fn send_failed(&self) {
        add(&self.send_failed);
    }

    /// Counts a connection closed at once because of a limit.
    pub(crate) fn refused_connection(&self) {
        add(&self.refused_connections);
    }
}

fn add(count: &AtomicU64) {
    count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
}

/// The counts of a front end: a handle to keep while it runs.
#[derive(Clone, Debug, Default)]
pub struct Counters(pub(crate) Arc<[Arc<Tally>]>);

impl Counters {
    /// The counts now. Counts of one moment, but not of one instant: workers go on while they are read.
    pub fn snapshot(&self) -> Snapshot {
        let mut sums = [Sums::default(); Channel::ALL.len()];
        for tally in self.0.iter() {
            let Some(sum) = sums.get_mut(tally.channel as usize) else {
                continue;
            };
            for (into, from) in sum.rcodes.iter_mut().zip(&tally.rcodes) {
                *into += from.load(Relaxed);
            }
            sum.truncated += tally.truncated.load(Relaxed);
            sum.dropped += tally.dropped.load(Relaxed);
            sum.send_failed += tally.send_failed.load(Relaxed);
            sum.refused_connections += tally.refused_connections.load(Relaxed);
        }
        let [udp, tcp, tls, https, quic] = sums;
        Snapshot { udp, tcp, tls, https, quic }
    }

    /// Writes the counts in the text format of Prometheus, every line ending in a line feed.
    pub fn write_metrics(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let Snapshot { udp, tcp, tls, https, quic } = self.snapshot();
        let transports: Vec<_> = Channel::ALL.iter().map(|(_, name)| *name).zip([udp, tcp, tls, https, quic]).collect();
        let mut family = |name: &str, help: &str, value: fn(&Sums) -> u64| {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter")?;
            transports
                .iter()
                .try_for_each(|(transport, sums)| writeln!(out, "{name}{{transport=\"{transport}\"}} {}", value(sums)))
        };
        family("certdir_dns_queries_total", "DNS requests received.", Sums::queries)?;
        family("certdir_dns_truncated_total", "DNS responses with TC set.", |sums| sums.truncated)?;
        family("certdir_dns_dropped_total", "DNS messages that got no response.", |sums| sums.dropped)?;
        family("certdir_dns_send_failed_total", "DNS responses the system did not send.", |sums| sums.send_failed)?;
        family("certdir_dns_refused_connections_total", "DNS connections closed because of a limit.", |sums| {
            sums.refused_connections
        })?;
        let name = "certdir_dns_responses_total";
        writeln!(out, "# HELP {name} DNS responses by response code.\n# TYPE {name} counter")?;
        for (transport, sums) in transports {
            for ((_, rcode), count) in RCODES.iter().zip(sums.rcodes) {
                writeln!(out, "{name}{{transport=\"{transport}\",rcode=\"{rcode}\"}} {count}")?;
            }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    rcodes: [u64; RCODES.len()],
    /// Responses with TC set.
    pub truncated: u64,
    /// Messages that got no response: shorter than a header, or responses themselves.
    pub dropped: u64,
    /// Responses that the system did not take.
    pub send_failed: u64,
    /// Connections closed at once because of a limit.
    pub refused_connections: u64,
}

impl Sums {
    /// Messages received.
    pub fn queries(&self) -> u64 {
        self.dropped + self.rcodes.iter().sum::<u64>()
    }

    /// Responses with this code.
    pub fn responses(&self, rcode: Rcode) -> u64 {
        RCODES.iter().zip(self.rcodes).find(|((known, _), _)| *known == rcode).map_or(0, |(_, count)| count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::CookieState;
    use crate::response::Truncation;
    use certdir_zones::RecordType;

    fn finished(rcode: Rcode, truncated: Option<Truncation>) -> Finished {
        let (rtype, cookie) = (RecordType::SMIMEA, CookieState::None);
        Finished { length: 12, rcode, truncated, rtype, cookie, keepalive_asked: false, later: false }
    }

    #[test]
    fn counts_and_writes() {
        let tallies: Arc<[Arc<Tally>]> =
            [Channel::Udp, Channel::Udp, Channel::Tcp].map(|channel| Arc::new(Tally::new(channel))).into();
        let counters = Counters(tallies.clone());
        tallies[0].request(Some(finished(Rcode::NXDOMAIN, Some(Truncation::Size))));
        tallies[1].request(Some(finished(Rcode::NXDOMAIN, None)));
        tallies[1].request(None);
        tallies[2].request(Some(finished(Rcode::BADVERS, None)));
        let snapshot = counters.snapshot();
        assert_eq!((snapshot.udp.queries(), snapshot.udp.truncated, snapshot.udp.dropped), (3, 1, 1));
        assert_eq!(snapshot.udp.responses(Rcode::NXDOMAIN), 2);
        assert_eq!(snapshot.tcp.responses(Rcode::BADVERS), 1);
        let mut text = String::new();
        counters.write_metrics(&mut text).unwrap();
        assert!(text.contains("certdir_dns_queries_total{transport=\"udp\"} 3\n"), "{text}");
        assert!(text.contains("certdir_dns_responses_total{transport=\"tcp\",rcode=\"BADVERS\"} 1\n"), "{text}");
        assert!(text.ends_with('\n'));
    }
}
