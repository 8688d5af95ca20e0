//! Which addresses this resolver connects to on somebody else's word.
//!
//! URLs in certificates and servers named in DNS are chosen by strangers. Without a bound, a stranger could make the
//! gateway speak to machines that only the gateway reaches (server-side request forgery). The bound is on the address
//! that is connected to, after the name was resolved, so a name that changes its address between two look-ups gains
//! nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::outcome::Failure;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// The IPv4 networks of the special-purpose registry (RFC 6890) that no public server is in, with multicast.
const RESERVED_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    // Shared between a provider and its customers (RFC 6598).
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    // 6to4 relays (RFC 7526).
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Which ports belong to a kind of server that strangers may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// 80 and 443: URLs in certificates.
    Web,
    /// 389 and 636: LDAP URLs in certificates.
    Directory,
    /// 80, 389, 443, 636 and all from 1024: an SRV record exists to name a port, but not another protocol's.
    Announced,
}

impl Ports {
    fn permit(self, port: u16) -> bool {
        match self {
            Ports::Web => matches!(port, 80 | 443),
            Ports::Directory => matches!(port, 389 | 636),
            Ports::Announced => matches!(port, 80 | 389 | 443 | 636 | 1024..),
        }
    }
}

/// Where connections may go that a stranger asks for: public addresses, and the networks and ports that the operator
/// adds. What the operator configured by name is not bounded.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    networks: Vec<IpNet>,
    ports: Vec<u16>,
    everywhere: bool,
}

impl Reach {
    /// Public unicast addresses only.
    pub fn public() -> Reach {
        Reach::default()
    }

    /// No bound: for servers that the operator named.
    pub(crate) fn everywhere() -> Reach {
        Reach { everywhere: true, ..Reach::default() }
    }

    /// Also the addresses of a network, for example `10.1.0.0/16` of an intranet's own certification authority.
    #[must_use]
    pub fn network(mut self, network: IpNet) -> Reach {
        self.networks.push(network);
        self
    }

    /// Also a port, for URLs in certificates; else only 80 and 443, and 389 and 636 for LDAP.
    #[must_use]
    pub fn port(mut self, port: u16) -> Reach {
        self.ports.push(port);
        self
    }

    pub(crate) fn permits(&self, to: SocketAddr, ports: Ports) -> bool {
        self.everywhere
            || (self.permits_address(to.ip()) && (ports.permit(to.port()) || self.ports.contains(&to.port())))
    }

    fn permits_address(&self, address: IpAddr) -> bool {
        // The octets count, not the spelling: ::ffff:10.0.0.1 is 10.0.0.1.
        let address = address.to_canonical();
        is_public(address) || self.networks.iter().any(|network| network.contains(&address))
    }
}

/// Whether an address is a public unicast one, by the special-purpose registries of IANA.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !RESERVED_V4.iter().any(|(network, length)| {
        let differ = bits ^ Ipv4Addr::from(*network).to_bits();
        differ.checked_shr(32 - u32::from(*length)).unwrap_or(0) == 0
    })
}

/// Only 2000::/3 is given out (RFC 4291 section 2.4); in it, the tunnels that carry an IPv4 address lead where that does.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, high, low] = address.segments();
    match (a, b) {
        // IETF protocol assignments (RFC 2928), with Teredo, benchmarking and ORCHID.
        (0x2001, 0x0000..=0x01ff) => false,
        // Documentation (RFC 3849, RFC 9637).
        (0x2001, 0x0db8) | (0x3fff, 0x0000..=0x0fff) => false,
        // 6to4 (RFC 3056).
        (0x2002, _) => is_public_v4(Ipv4Addr::from_bits(u32::from(b) << 16 | u32::from(c))),
        // A gateway's IPv4 of an IPv6-only network (RFC 6052).
        (0x0064, 0xff9b) => {
            [c, d, e, f] == [0; 4] && is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        (0x2000..=0x3fff, _) => true,
        _ => false,
    }
}

/// Connects to a host within the reach, trying its addresses in the system's order (RFC 6724).
pub(crate) async fn connect(
    host: &str,
    port: u16,
    reach: &Reach,
    ports: Ports,
    patience: Duration,
) -> Result<TcpStream, Failure> {
    let late = || Failure::new("timeout", format!("{host} port {port} did not take the connection in time"));
    timeout(patience, connect_to_one(host, port, reach, ports, patience)).await.map_err(|_| late())?
}

async fn connect_to_one(
    host: &str,
    port: u16,
    reach: &Reach,
    ports: Ports,
    patience: Duration,
) -> Result<TcpStream, Failure> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let found: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => tokio::net::lookup_host((bare, port))
            .await
            .map_err(|error| Failure::new("network", format!("no address of {host}: {error}")))?
            .collect(),
    };
    let permitted: Vec<SocketAddr> =
        found.iter().copied().filter(|to| reach.permits(*to, ports)).take(MAX_ADDRESSES).collect();
    if permitted.is_empty() {
        return Err(match found.first() {
            None => Failure::new("network", format!("{host} has no address")),
            Some(to) => Failure::new("forbidden-address", format!("{host} is {to}, which may not be connected to")),
        });
    }
    // One that swallows packets leaves time for the next.
    let share = patience / u32::try_from(permitted.len()).unwrap_or(1);
    let mut last = Failure::new("timeout", format!("{host} port {port} did not take the connection in time"));
    for to in permitted {
        match timeout(share, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => {
                // Small messages; a failure to set it costs a little time only.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = Failure::new("network", format!("{to}: {error}")),
            Err(_) => {}
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reached() {
        let reach = Reach::public();
        for (address, public) in [
            ("192.0.2.1", false),
            ("198.51.100.7", false),
            ("203.0.113.255", false),
            ("0.0.0.0", false),
            ("10.255.255.255", false),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("128.0.0.1", true),
            ("169.254.169.254", false),
            ("172.15.255.255", true),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.0.0.8", false),
            ("192.168.1.1", false),
            ("198.17.255.255", true),
            ("198.19.255.255", false),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("8.8.8.8", true),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("64:ff9b:1::808:808", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("3fff:fff::1", false),
            ("2002:7f00:1::", false),
            ("2002:808:808::", true),
            ("2606:4700::1111", true),
            ("fc00::1", false),
            ("fd12::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(reach.permits_address(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn the_operator_adds_networks_and_ports() {
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        let reach = Reach::public().network("10.1.0.0/16".parse().unwrap()).port(8080);
        assert!(reach.permits(to("10.1.2.3:80"), Ports::Web));
        assert!(reach.permits(to("[::ffff:10.1.2.3]:80"), Ports::Web));
        assert!(!reach.permits(to("10.2.2.3:80"), Ports::Web));
        assert!(reach.permits(to("8.8.8.8:8080"), Ports::Web));
        assert!(!reach.permits(to("8.8.8.8:25"), Ports::Web));
        assert!(!reach.permits(to("8.8.8.8:25"), Ports::Announced));
        assert!(reach.permits(to("8.8.8.8:10389"), Ports::Announced));
        assert!(!reach.permits(to("8.8.8.8:80"), Ports::Directory));
        assert!(Reach::everywhere().permits(to("127.0.0.1:25"), Ports::Web));
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_address() {
        let patience = Duration::from_secs(30);
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let failure = connect(host, 80, &Reach::public(), Ports::Web, patience).await.unwrap_err();
            assert_eq!(failure.code, "forbidden-address", "{host}: {failure}");
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let reach = Reach::public().network("127.0.0.0/8".parse().unwrap()).port(port);
        assert!(connect("localhost", port, &reach, Ports::Web, patience).await.is_ok());
    }
}
