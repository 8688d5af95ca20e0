//! Servers that a mail domain announces: SRV records (RFC 2782) of `_ldap._tcp`, as the Direct Project does, and of
//! `_certificates._tcp` (RFC 4387 section 3.2).

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::{Name, RecordType};

use crate::dns::{Dns, Reply, Said};
use crate::outcome::Failure;
use crate::trace::Exchange;

/// Targets of one name that are tried.
pub(crate) const MAX_TARGETS: usize = 4;

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Lower is tried first.
    pub priority: u16,
    /// Among the same priority, the share of requests.
    pub weight: u16,
    /// The port of the service.
    pub port: u16,
    /// The host, without a final dot; empty means that there is decidedly no such service.
    pub host: String,
}

/// The SRV records of a name.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The records; none when it is certain, or proven that nobody can be certain, that there are none.
    pub targets: Vec<Target>,
    /// Whether DNSSEC proves them.
    pub secure: bool,
    /// They may be used until this second, exclusive.
    pub until: UnixTime,
    /// The messages exchanged for them, for the trace.
    pub exchanges: Vec<Exchange>,
}

/// The SRV records of a name, on their way.
pub type Announcing<'a> = Pin<Box<dyn Future<Output = Result<Announced, Failure>> + Send + 'a>>;

/// Who knows the SRV records of DNS.
pub trait Announcements: Send + Sync {
    /// The SRV records of a name, for example `_ldap._tcp.example.org`. An answer that could not be had is a failure, never
    /// an empty list.
    fn announced<'a>(&'a self, name: &'a str, now: UnixTime) -> Announcing<'a>;
}

impl Announcements for Dns {
    fn announced<'a>(&'a self, name: &'a str, now: UnixTime) -> Announcing<'a> {
        Box::pin(async move {
            let owner = Name::parse(name).map_err(|error| Failure::new("malformed", format!("{name}: {error}")))?;
            let reply = self.look_up(&Arc::from(name), &owner, RecordType::SRV, now).await;
            let Reply { said, mut until, question } = reply;
            let (rdata, secure) = match said {
                Said::Records { rdata, .. } => (rdata, true),
                Said::Absent { .. } => (Vec::new(), true),
                Said::NotSigned { unproven, .. } => {
                    let unproven = unproven?;
                    until = until.min(unproven.until);
                    (unproven.rdata, false)
                }
                Said::Failed(failure) => return Err(failure),
            };
            let read = |octets: &Vec<u8>| target(octets).ok_or_else(|| Failure::new("malformed", "an SRV record"));
            let targets = rdata.iter().map(read).collect::<Result<_, _>>()?;
            Ok(Announced { targets, secure, until, exchanges: question.exchanges })
        })
    }
}

/// Reads SRV RDATA. The host must be one that can be looked up.
fn target(rdata: &[u8]) -> Option<Target> {
    let (&[p0, p1, w0, w1, q0, q1], name) = rdata.split_first_chunk::<6>()?;
    let host = Name::from_wire(name).ok()?.to_string();
    let host = host.trim_end_matches('.').to_owned();
    let plain = host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    let (priority, weight, port) =
        (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([w0, w1]), u16::from_be_bytes([q0, q1]));
    plain.then_some(Target { priority, weight, port, host })
}

impl Announced {
    /// The targets in the order in which they are to be tried: by priority, and by chance according to weight among the
    /// same priority (RFC 2782). None when the service is decidedly not there.
    pub(crate) fn in_order(&self) -> Vec<Target> {
        order(self.targets.clone(), chance)
    }
}

/// A number below `bound`, which must not be 0; the seed of every new hasher is random.
fn chance(bound: u64) -> u64 {
    RandomState::new().hash_one(bound) % bound
}

fn order(mut targets: Vec<Target>, mut chance: impl FnMut(u64) -> u64) -> Vec<Target> {
    targets.retain(|target| !target.host.is_empty());
    targets.truncate(64);
    // Those without weight in front, so that they have a small chance beside the others.
    targets.sort_by_key(|target| (target.priority, target.weight != 0));
    let mut ordered: Vec<Target> = Vec::new();
    while let Some(first) = targets.first() {
        let priority = first.priority;
        let same = || targets.iter().take_while(|target| target.priority == priority);
        let sum: u64 = same().map(|target| u64::from(target.weight)).sum();
        let drawn = chance(sum + 1);
        let mut running = 0;
        let chosen = same().position(|target| {
            running += u64::from(target.weight);
            running >= drawn
        });
        ordered.push(targets.remove(chosen.unwrap_or_default()));
    }
    ordered.truncate(MAX_TARGETS);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, host: &str) -> Target {
        Target { priority, weight, port: 389, host: host.to_owned() }
    }

    #[test]
    fn records_are_read() {
        let host = [&[0, 1, 0, 2, 0x28, 0x95][..], b"\x04ldap\x07example\x00"].concat();
        let expected = Target { priority: 1, weight: 2, port: 10389, host: "ldap.example".to_owned() };
        assert_eq!(target(&host), Some(expected));
        assert_eq!(target(&[0, 0, 0, 0, 0, 0, 0]).unwrap().host, "", "decidedly not there");
        for cut in 0..host.len() {
            assert_eq!(target(&host[..cut]), None, "{cut}");
        }
        for name in [&b"\x02a/\x00"[..], b"\x02a@\x00", b"\x02a:\x00", b"\x01a\x00\x00"] {
            assert_eq!(target(&[&[0; 6], name].concat()), None, "{name:?}");
        }
    }

    #[test]
    fn priorities_come_first_and_weights_are_shares() {
        let hosts = |targets: Vec<Target>| targets.into_iter().map(|target| target.host).collect::<Vec<_>>();
        let all = vec![record(2, 0, "d"), record(1, 10, "b"), record(1, 0, "a"), record(1, 30, "c")];
        assert_eq!(hosts(order(all.clone(), |_| 0)), ["a", "b", "c", "d"]);
        assert_eq!(hosts(order(all.clone(), |bound| bound - 1)), ["c", "b", "a", "d"]);
        assert_eq!(hosts(order(all, |bound| 10.min(bound - 1))), ["b", "c", "a", "d"]);
        // Decidedly not there.
        assert!(order(vec![record(0, 0, "")], |_| 0).is_empty());
        assert_eq!(order(vec![record(0, 0, "x"); 100], |_| 0).len(), MAX_TARGETS);
        let drawn: u64 = (0..100).map(|_| chance(10)).sum();
        assert!(drawn > 0 && drawn < 900, "{drawn}");
    }
}
