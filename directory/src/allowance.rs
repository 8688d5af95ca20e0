//! [`Allowance`]: how many look-ups one source may make. One instance serves LDAP and HTTP, so that a harvester gains
//! nothing by switching protocols.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use certdir_certificate::UnixTime;

use crate::connections::network;

/// Sources remembered at once; when full, those that have their whole burst back are forgotten, else everyone is.
const MAX_SOURCES: usize = 100_000;

/// A token bucket for each source: an IPv4 address or an IPv6 /56.
pub struct Allowance {
    per_second: u64,
    burst: u64,
    sources: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    left: u64,
    at: UnixTime,
}

impl Allowance {
    /// Allows `per_second` look-ups a second to each source in the long run and `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> Allowance {
        Allowance { per_second: per_second.into(), burst: burst.max(1).into(), sources: Mutex::default() }
    }

    /// Takes one look-up from a source's allowance; false when it has none left.
    pub fn take(&self, source: IpAddr, now: UnixTime) -> bool {
        // A poisoned lock only means that another thread died while counting; the counts stay usable.
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MAX_SOURCES {
            let (rate, burst) = (self.per_second, self.burst);
            sources.retain(|_, bucket| refilled(bucket, rate, burst, now) < burst);
            if sources.len() >= MAX_SOURCES {
                sources.clear();
            }
        }
        let bucket = sources.entry(network(source)).or_insert(Bucket { left: self.burst, at: now });
        bucket.left = refilled(bucket, self.per_second, self.burst, now);
        bucket.at = now;
        if bucket.left == 0 {
            return false;
        }
        bucket.left -= 1;
        true
    }
}

fn refilled(bucket: &Bucket, per_second: u64, burst: u64, now: UnixTime) -> u64 {
    let elapsed = u64::try_from(now.saturating_sub(bucket.at)).unwrap_or(0);
    bucket.left.saturating_add(elapsed.saturating_mul(per_second)).min(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let allowance = Allowance::new(2, 5);
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!((0..9).filter(|_| allowance.take(source, 100)).count(), 5);
        assert!(allowance.take(source, 101) && allowance.take(source, 101));
        assert!(!allowance.take(source, 101));
        assert!(allowance.take("192.0.2.2".parse().unwrap(), 101), "another source has its own");
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_time_running_backwards_gives_nothing() {
        let allowance = Allowance::new(1, 1);
        assert!(allowance.take("2001:db8::1".parse().unwrap(), 50));
        assert!(!allowance.take("2001:db8::2".parse().unwrap(), 50));
        assert!(!allowance.take("2001:db8::2".parse().unwrap(), 40));
        assert!(allowance.take("2001:db8:0:100::1".parse().unwrap(), 50));
    }

    #[test]
    fn memory_is_bounded() {
        let allowance = Allowance::new(1, 1);
        for n in 0..(MAX_SOURCES as u32 + 10) {
            allowance.take(IpAddr::V4(n.into()), 1);
        }
        assert!(allowance.sources.lock().unwrap().len() <= MAX_SOURCES);
    }
}
