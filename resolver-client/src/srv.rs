//! Servers that a mail domain announces: SRV records (RFC 2782) of `_ldap._tcp`, as the Direct Project does, and of
//! `_certificates._tcp` (RFC 4387 section 3.2).

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;

use certdir_certificate::UnixTime;

use crate::outcome::Failure;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The records; none when it is certain, or proven that nobody can be certain, that there are none.
    pub targets: Vec<Target>,
    /// Whether DNSSEC proves them.
    pub secure: bool,
    /// They may be used until this second, exclusive.
    pub until: UnixTime,
}

/// The SRV records of a name, on their way.
pub type Announcing<'a> = Pin<Box<dyn Future<Output = Result<Announced, Failure>> + Send + 'a>>;

/// Who knows the SRV records of DNS.
pub trait Announcements: Send + Sync {
    /// The SRV records of a name, for example `_ldap._tcp.example.org`. An answer that could not be had is a failure, never
    /// an empty list.
    fn announced<'a>(&'a self, name: &'a str, now: UnixTime) -> Announcing<'a>;
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
pub(crate) mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;

    fn target(priority: u16, weight: u16, host: &str) -> Target {
        Target { priority, weight, port: 389, host: host.to_owned() }
    }

    /// What DNS is told to say; names that are not in it are failures.
    #[derive(Default)]
    pub(crate) struct Told(pub(crate) Mutex<HashMap<String, Announced>>);

    impl Told {
        pub(crate) fn with(self, name: &str, secure: bool, targets: &[(u16, &str)]) -> Told {
            let targets = targets.iter().map(|(port, host)| Target { port: *port, ..target(1, 1, host) }).collect();
            self.0.lock().unwrap().insert(name.to_owned(), Announced { targets, secure, until: 5_000 });
            self
        }
    }

    impl Announcements for Told {
        fn announced<'a>(&'a self, name: &'a str, _now: UnixTime) -> Announcing<'a> {
            let told = self.0.lock().unwrap().get(name).cloned();
            Box::pin(async move { told.ok_or_else(|| Failure::new("timeout", "no answer")) })
        }
    }

    #[test]
    fn priorities_come_first_and_weights_are_shares() {
        let hosts = |targets: Vec<Target>| targets.into_iter().map(|target| target.host).collect::<Vec<_>>();
        let all = vec![target(2, 0, "d"), target(1, 10, "b"), target(1, 0, "a"), target(1, 30, "c")];
        assert_eq!(hosts(order(all.clone(), |_| 0)), ["a", "b", "c", "d"]);
        assert_eq!(hosts(order(all.clone(), |bound| bound - 1)), ["c", "b", "a", "d"]);
        assert_eq!(hosts(order(all, |bound| 10.min(bound - 1))), ["b", "c", "a", "d"]);
        // Decidedly not there.
        assert!(order(vec![target(0, 0, "")], |_| 0).is_empty());
        assert_eq!(order(vec![target(0, 0, "x"); 100], |_| 0).len(), MAX_TARGETS);
        let drawn: u64 = (0..100).map(|_| chance(10)).sum();
        assert!(drawn > 0 && drawn < 900, "{drawn}");
    }
}
