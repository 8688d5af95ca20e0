//! [`Connections`]: how many stream connections a front end has, in all and per source, and what counts as one source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Open connections of all workers of a front end.
#[derive(Debug)]
pub struct Connections {
    total: usize,
    per_source: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

impl Connections {
    /// Limits: all connections, and those of one source.
    pub fn new(total: usize, per_source: usize) -> Connections {
        Connections { total, per_source, open: Mutex::default() }
    }

    /// Takes a place for a connection from `peer`; it is given back when dropped. `None` when a limit is reached.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let source = network(peer);
        // A poisoned lock only means that another thread died while counting; the counts stay usable.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = open.by_source.get(&source).copied().unwrap_or(0);
        if open.total >= self.total || of_source >= self.per_source {
            return None;
        }
        open.total += 1;
        open.by_source.insert(source, of_source + 1);
        Some(Place { connections: self.clone(), source })
    }

    /// Places that are taken.
    pub fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

/// What counts as one source: an IPv4 address; of an IPv6 address the /56, which is what one customer's line usually has
/// (RFC 6177 section 2).
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 72 << 72).into(),
        v4 => v4,
    }
}

/// The place of one open connection, given back when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    source: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        match open.by_source.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.by_source.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_all_and_per_source() {
        let connections = Arc::new(Connections::new(3, 2));
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|text| text.parse().unwrap());
        let first = connections.admit(a).unwrap();
        let _second = connections.admit(a).unwrap();
        assert!(connections.admit(a).is_none(), "per source");
        let _third = connections.admit(b).unwrap();
        assert!(connections.admit(c).is_none(), "in all");
        drop(first);
        let _fourth = connections.admit(a).unwrap();
        assert!(connections.admit(c).is_none());
    }

    #[test]
    fn an_ipv6_source_is_a_56_and_leaves_nothing_behind() {
        let connections = Arc::new(Connections::new(9, 1));
        let place = connections.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(connections.admit("2001:db8:0:ff::2:3".parse().unwrap()).is_none());
        assert!(connections.admit("2001:db8:0:100::1".parse().unwrap()).is_some());
        drop(place);
        assert!(connections.open.lock().unwrap().by_source.is_empty());
    }
}
