//! The clients people use: dig asks, delv validates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use certdir_dns::{CookieSecret, Options, Policy};
use certdir_zones::Zone;

use crate::sockets::Running;
use crate::world::World;

/// The world, signed for the time that delv goes by.
pub(crate) fn world_now() -> (World, i64) {
    #[expect(clippy::disallowed_methods, reason = "delv validates by the system's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let (from, to) = ((now - 3600) as u32, (now + 86_400) as u32);
    let World(zones) = World::new();
    let resigned = zones.iter().map(|(apex, zone)| {
        let mut copy = Zone::new(apex.clone(), zone.key().clone());
        for (owner, node) in zone.names() {
            for signed in node.rrsets() {
                copy.set(owner, zone.key().sign(apex, owner, &signed.rrset, from, to).unwrap()).unwrap();
            }
        }
        (apex.clone(), copy)
    });
    (World(std::sync::Arc::new(resigned.collect())), now)
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn dig() {
    let (world, now) = world_now();
    let running = Running::start(&world, IpAddr::V4(Ipv4Addr::LOCALHOST), Options::default(), now);
    let port = running.address.port().to_string();
    let dig = |arguments: &[&str]| run("dig", &[&["@127.0.0.1", "-p", &port, "+tries=1"], arguments].concat());
    let hit = dig(&["+dnssec", "SMIMEA", "alice._smimecert.example.org"]);
    assert!(hit.contains("status: NOERROR") && hit.contains("flags: qr aa rd;") && hit.contains("ANSWER: 2,"), "{hit}");
    assert!(!hit.contains("Warning"), "{hit}");
    // 1,500 octets do not fit: dig asks again over TCP.
    let large = dig(&["SMIMEA", "bob._smimecert.example.org"]);
    assert!(large.contains(";; Truncated, retrying in TCP mode.") && large.contains("ANSWER: 1,"), "{large}");
    let tcp = dig(&["+tcp", "+dnssec", "SMIMEA", "pq._smimecert.example.org"]);
    assert!(tcp.contains("ANSWER: 2,") && tcp.contains("MSG SIZE  rcvd: 50"), "{tcp}");
    let missing = dig(&["+dnssec", "CERT", "nobody.direct.example.net"]);
    assert!(missing.contains("status: NXDOMAIN") && missing.contains("AUTHORITY: 8,"), "{missing}");
    assert!(dig(&["A", "example.com"]).contains("status: REFUSED"));
    assert!(dig(&["+edns=1", "+noednsneg", "SOA", "direct.example.net"]).contains("status: BADVERS"));
    assert!(dig(&["+opcode=notify", "SOA", "direct.example.net"]).contains("status: NOTIMP"));
    assert!(
        dig(&["+noedns", "SOA", "direct.example.net"]).contains("\t42 3600 600 604800 300")
            || dig(&["+noedns", "SOA", "direct.example.net"]).contains(" 42 3600 600 604800 300")
    );
    assert!(dig(&["AXFR", "direct.example.net"]).contains("Transfer failed"));
}

/// A cookie learned by one query brings the certificate over UDP in the next.
#[test]
fn rfc7873_dig_and_kdig_send_cookies_back() {
    let (world, now) = world_now();
    let policy = Policy { cookies: Some(CookieSecret::new([7; 16])), ..Policy::default() };
    let options = Options { policy, ..Options::default() };
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let running = Running::start(&world, ip, options.clone(), now);
        let (at, port) = (format!("@{ip}"), running.address.port().to_string());
        let ask = |client: &str, cookie: &str| {
            let name = "alice._smimecert.example.org";
            run(client, &[&at, "-p", &port, "+dnssec", "+bufsize=1232", &format!("+cookie{cookie}"), name, "SMIMEA"])
        };
        let first = ask("dig", "=0123456789abcdef");
        assert!(first.contains(";; Truncated, retrying in TCP mode.") && first.contains("ANSWER: 2,"), "{first}");
        let cookie = first.lines().find_map(|line| line.strip_prefix("; COOKIE: ")).unwrap().split(' ').next().unwrap();
        assert!(cookie.starts_with("0123456789abcdef") && cookie.len() == 48 && first.contains("(good)"), "{first}");
        for client in ["dig", "kdig"] {
            let queries = running.counters.snapshot().tcp.queries();
            let second = ask(client, &format!("={cookie}"));
            assert!(second.contains("ANSWER: 2") && second.contains("RRSIG"), "{client}: {second}");
            assert_eq!(running.counters.snapshot().tcp.queries(), queries, "{client} stays on UDP: {second}");
        }
        // kdig by itself: it sends a client cookie, and comes again over TCP.
        let other = ask("kdig", "");
        assert!(other.contains("ANSWER: 2") && other.contains("(TCP)"), "{other}");
        assert_eq!(running.counters.snapshot().udp.verified(), 2);
    }
}

#[test]
fn delv_validates_every_kind_of_answer() {
    let (world, now) = world_now();
    let running = Running::start(&world, IpAddr::V4(Ipv4Addr::LOCALHOST), Options::default(), now);
    let port = running.address.port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let delv = |anchor: &Path, zone: &str, owner: &str, rtype: &str| {
        let anchor = format!("{}", anchor.display());
        let root = format!("+root={zone}");
        run("delv", &["@127.0.0.1", "-p", &port, "-a", &anchor, &root, "+vtrace", "+multiline", rtype, owner])
    };
    for (zone, cases) in [
        (
            "_smimecert.example.org",
            &[
                ("alice", "SMIMEA", "; fully validated"),
                ("bob", "SMIMEA", "; fully validated"),
                ("pq", "SMIMEA", "; fully validated"),
                ("dave", "SMIMEA", "; fully validated"),
                ("a.b.dave", "SMIMEA", "; fully validated"),
                ("alice", "A", "; negative response, fully validated"),
                ("dave", "A", "; negative response, fully validated"),
                ("x.alice", "SMIMEA", "; negative response, fully validated"),
            ][..],
        ),
        (
            "direct.example.net",
            &[
                ("alice", "CERT", "; fully validated"),
                ("_ldap._tcp", "SRV", "; fully validated"),
                ("_tcp", "SRV", "; negative response, fully validated"),
                ("nobody", "CERT", "; negative response, fully validated"),
                ("a.b.c", "CERT", "; negative response, fully validated"),
                ("alice", "SMIMEA", "; negative response, fully validated"),
            ][..],
        ),
        (
            "_smimecert.plain.example",
            &[("carol", "SMIMEA", "; fully validated"), ("dave", "SMIMEA", "; negative response, fully validated")][..],
        ),
    ] {
        let anchor = folder.path().join(zone);
        std::fs::write(&anchor, anchor_file(zone, world.zone(zone))).unwrap();
        for (owner, rtype, expected) in cases {
            let output = delv(&anchor, zone, &format!("{owner}.{zone}"), rtype);
            assert!(output.lines().any(|line| line == *expected), "{owner}.{zone} {rtype}: {output}");
        }
        // The test can fail: with another zone's key nothing validates.
        let wrong = World::new();
        std::fs::write(&anchor, anchor_file(zone, wrong.zone(zone))).unwrap();
        let (owner, rtype, _) = cases[0];
        assert!(!delv(&anchor, zone, &format!("{owner}.{zone}"), rtype).contains("; fully validated"));
    }
}

/// The zone's key as a trust anchor in BIND's form.
pub(crate) fn anchor_file(apex: &str, zone: &Zone) -> String {
    let dnskey = zone.key().dnskey();
    let ds = zone.key().ds(zone.apex());
    assert_eq!(dnskey[..4], [1, 1, 3, 13]);
    let hex: String = ds[4..].iter().map(|octet| format!("{octet:02X}")).collect();
    format!("trust-anchors {{ {apex}. static-ds {} 13 2 \"{hex}\"; }};\n", zone.key().key_tag())
}
