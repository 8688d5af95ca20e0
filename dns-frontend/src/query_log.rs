//! A log of some queries. By default it names zones and networks only: owner names of certificates are people.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use certdir_certificate::UnixTime;
use certdir_zones::Name;

use crate::answer::Asker;
use crate::rate::network;
use crate::response::Finished;

/// What is logged of the queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLog {
    /// Which queries.
    pub sample: Sample,
    /// Whole names and addresses. Otherwise the zone, and the network: IPv4 /24 or IPv6 /56.
    pub full: bool,
}

/// Which queries a worker logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Each so many-th.
    OneIn(u32),
    /// The first so many of each second.
    PerSecond(u32),
}

/// The queries that one worker has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampler {
    second: UnixTime,
    seen: u32,
}

impl Sampler {
    /// Counts a query; whether it is one of the sample.
    pub(crate) fn takes(&mut self, sample: Sample, now: UnixTime) -> bool {
        match sample {
            Sample::OneIn(every) => {
                self.seen = if self.seen + 1 >= every { 0 } else { self.seen + 1 };
                self.seen == 0
            }
            Sample::PerSecond(most) => {
                if self.second != now {
                    *self = Sampler { second: now, seen: 0 };
                }
                self.seen = self.seen.saturating_add(1);
                self.seen <= most
            }
        }
    }
}

/// Writes the line of a query. `name` is the one asked for, `apex` that of the zone that answered, both in wire form;
/// `None`: there is no such zone.
pub(crate) fn write(full: bool, asker: &Asker, name: &[u8], apex: Option<&Name>, finished: &Finished) {
    let name = if full { Name::from_wire(name).ok() } else { apex.cloned() };
    tracing::info!(
        target: "certdir::queries",
        transport = asker.transport.name(),
        source = %Source { ip: asker.source, full },
        name = %name.as_ref().map_or(&"-" as &dyn fmt::Display, |name| name),
        rtype = %finished.rtype,
        rcode = finished.rcode.0,
        truncated = ?finished.truncated,
        cookie = ?finished.cookie,
        octets = finished.length,
    );
}

/// An address as it is logged.
struct Source {
    ip: IpAddr,
    full: bool,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            ip if self.full => write!(f, "{ip}"),
            IpAddr::V4(ip) => write!(f, "{}/24", Ipv4Addr::from_bits(ip.to_bits() & !0xFF)),
            IpAddr::V6(ip) => write!(f, "{}/56", Ipv6Addr::from_bits(u128::from(network(ip.into())) << 72)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let mut sampler = Sampler::default();
        let taken: Vec<bool> = (0..7).map(|_| sampler.takes(Sample::OneIn(3), 0)).collect();
        assert_eq!(taken, [false, false, true, false, false, true, false]);
        let mut sampler = Sampler::default();
        assert!((0..5).all(|_| sampler.takes(Sample::OneIn(1), 0)));
        let mut sampler = Sampler::default();
        let taken: Vec<bool> = [1, 1, 1, 2, 2, 2].map(|now| sampler.takes(Sample::PerSecond(2), now)).into();
        assert_eq!(taken, [true, true, false, true, true, false]);
    }

    #[test]
    fn sources_are_shortened() {
        for (ip, short) in [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2345::1", "2001:db8:1:2300::/56")] {
            let ip = ip.parse().unwrap();
            assert_eq!(Source { ip, full: false }.to_string(), short);
            assert_eq!(Source { ip, full: true }.to_string(), ip.to_string());
        }
    }
}
