//! Which push server a zone has (RFC 8765 section 6.1).
//!
//! The zone of a name is found by its SOA record, the server by the SRV record `_dns-push-tls._tcp.<zone>`. Neither needs to
//! be proven: what a push server says is only a reason to ask again. The server's certificate must have the name of the
//! SRV record's target all the same, and its address must be one that strangers may have us connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use certdir_zones::{Name, RecordType};

use super::Target;
use crate::watch::Upstream;

/// Names above the first that are asked for a SOA record.
const MAX_STEPS: usize = 8;

/// SRV records that are used.
const MAX_TARGETS: usize = 4;

/// Addresses of one target that are used.
const MAX_ADDRESSES: usize = 2;

/// What is known of a zone's push server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// These, in the order in which they are to be tried.
    At(Vec<Target>),
    /// The zone has none.
    Nowhere,
    /// It could not be asked.
    Unknown,
}

/// Finds the push server for the names below `name`.
pub(crate) async fn find(upstream: &dyn Upstream, name: &Name) -> Found {
    let mut zone = name.clone();
    for _ in 0..MAX_STEPS {
        match upstream.rdata(&zone, RecordType::SOA).await {
            None => return Found::Unknown,
            Some(records) if !records.is_empty() => return of_zone(upstream, &zone).await,
            Some(_) => match zone.parent() {
                Some(parent) => zone = parent,
                None => break,
            },
        }
    }
    Found::Nowhere
}

async fn of_zone(upstream: &dyn Upstream, zone: &Name) -> Found {
    let owner = zone.prepend(b"_tcp").and_then(|name| name.prepend(b"_dns-push-tls"));
    let Ok(owner) = owner else {
        return Found::Nowhere;
    };
    let Some(records) = upstream.rdata(&owner, RecordType::SRV).await else {
        return Found::Unknown;
    };
    let mut announced: Vec<Announced> = records.iter().filter_map(|rdata| Announced::read(rdata)).collect();
    // RFC 2782: lowest priority first. The weight is not drawn: one gateway has one session, and targets are tried in turn.
    announced.sort_by_key(|a| (a.priority, std::cmp::Reverse(a.weight)));
    let mut targets = Vec::new();
    for announced in announced.into_iter().take(MAX_TARGETS) {
        targets.extend(announced.targets(upstream).await);
    }
    if targets.is_empty() { Found::Nowhere } else { Found::At(targets) }
}

/// An SRV record (RFC 2782).
struct Announced {
    priority: u16,
    weight: u16,
    port: u16,
    target: Name,
}

impl Announced {
    fn read(rdata: &[u8]) -> Option<Announced> {
        let (&[p0, p1, w0, w1, port0, port1], target) = rdata.split_first_chunk::<6>()?;
        let target = Name::from_wire(target).ok().filter(|target| *target != Name::root())?;
        Some(Announced {
            priority: u16::from_be_bytes([p0, p1]),
            weight: u16::from_be_bytes([w0, w1]),
            port: u16::from_be_bytes([port0, port1]),
            target,
        })
    }

    /// The target's addresses, as DNS has them; else its name, for the system to look up.
    async fn targets(self, upstream: &dyn Upstream) -> Vec<Target> {
        let name = self.target.to_string();
        let tls_name = name.trim_end_matches('.').to_owned();
        let at = |host: String| Target { host, port: self.port, tls_name: tls_name.clone() };
        let v6 = upstream.rdata(&self.target, RecordType::AAAA).await.unwrap_or_default();
        let v4 = upstream.rdata(&self.target, RecordType::A).await.unwrap_or_default();
        let v6 = v6.iter().filter_map(|octets| <[u8; 16]>::try_from(octets.as_slice()).ok());
        let v4 = v4.iter().filter_map(|octets| <[u8; 4]>::try_from(octets.as_slice()).ok());
        let addresses: Vec<IpAddr> = v6
            .take(MAX_ADDRESSES)
            .map(|octets| IpAddr::from(Ipv6Addr::from(octets)))
            .chain(v4.take(MAX_ADDRESSES).map(|octets| IpAddr::from(Ipv4Addr::from(octets))))
            .collect();
        if addresses.is_empty() {
            return vec![at(tls_name.clone())];
        }
        addresses.into_iter().map(|address| at(address.to_string())).collect()
    }
}
