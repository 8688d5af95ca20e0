//! The validating resolvers that people run, as their packages come: what they get without a cookie, or with one, costs
//! them nothing but a round trip. Every answer is secure.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use certdir_dns::{CookieSecret, Options, Policy};
use certdir_zones::{RecordType, Zone, presentation};

use crate::clients::{anchor_file, run, world_now};
use crate::sockets::Running;
use crate::world::World;

/// A resolver of its own; killed when dropped.
pub(crate) struct Resolver {
    child: Child,
    port: u16,
}

impl Resolver {
    pub(crate) fn start(command: &mut Command, port: u16) -> Resolver {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let resolver = Resolver { child: command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")), port };
        for _ in 0..600 {
            // Anything but silence: it is there.
            if resolver.dig(&["+tries=1", "+timeout=1", "CH", "TXT", "version.server"]).contains("->>HEADER<<-") {
                return resolver;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("{command:?} does not answer");
    }

    pub(crate) fn dig(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        run("dig", &[&["@127.0.0.1", "-p", &port, "+dnssec"], arguments].concat())
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free for UDP and TCP.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn unbound(folder: &Path, zones: &[&Zone], server: u16, port: u16) -> Command {
    unbound_with("", folder, zones, server, port)
}

/// With more settings of its `server:`.
pub(crate) fn unbound_with(settings: &str, folder: &Path, zones: &[&Zone], server: u16, port: u16) -> Command {
    let mut text = format!(
        "server:\n{settings} directory: \"{0}\"\n chroot: \"\"\n username: \"\"\n pidfile: \"{0}/pid\"\n use-syslog: no\n \
         interface: 127.0.0.1\n port: {port}\n do-not-query-localhost: no\n",
        folder.display()
    );
    for zone in zones {
        let apex = zone.apex();
        let ds = presentation(RecordType::DS, &zone.key().ds(apex));
        text.push_str(&format!(" trust-anchor: \"{apex} DS {ds}\"\n"));
    }
    text.push_str("remote-control:\n control-enable: no\n");
    for zone in zones {
        text.push_str(&format!("stub-zone:\n name: \"{}\"\n stub-addr: 127.0.0.1@{server}\n", zone.apex()));
    }
    let file = folder.join("conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("unbound");
    command.arg("-d").arg("-c").arg(file);
    command
}

fn bind(folder: &Path, zones: &[&Zone], server: u16, port: u16) -> Command {
    let mut text = format!(
        "options {{ directory \"{0}\"; pid-file none; session-keyfile none; listen-on port {port} {{ 127.0.0.1; }}; \
         listen-on-v6 {{ none; }}; recursion yes; dnssec-validation yes; }};\ncontrols {{ }};\n",
        folder.display()
    );
    for zone in zones {
        let apex = zone.apex().to_string();
        text.push_str(&anchor_file(apex.trim_end_matches('.'), zone));
        text.push_str(&format!(
            "zone \"{apex}\" {{ type forward; forward only; forwarders {{ 127.0.0.1 port {server}; }}; }};\n"
        ));
    }
    let file = folder.join("conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("named");
    command.arg("-g").arg("-n1").arg("-c").arg(file);
    command
}

fn knot_resolver(folder: &Path, zones: &[&Zone], server: u16, port: u16) -> Command {
    let mut text = format!(
        "modules.unload('ta_update')\nmodules.unload('ta_signal_query')\nmodules.unload('priming')\n\
         modules.unload('detect_time_skew')\nmodules.unload('detect_time_jump')\n\
         net.listen('127.0.0.1', {port}, {{ kind = 'dns' }})\ncache.size = 10 * MB\n"
    );
    for zone in zones {
        let apex = zone.apex();
        let ds = presentation(RecordType::DS, &zone.key().ds(apex));
        text.push_str(&format!(
            "trust_anchors.add('{apex} 3600 DS {ds}')\n\
             policy.add(policy.suffix(policy.FORWARD('127.0.0.1@{server}'), policy.todnames({{'{apex}'}})))\n"
        ));
    }
    let file = folder.join("conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("kresd");
    command.arg("-n").arg("-c").arg(file).arg(folder);
    command
}

type Configure = fn(&Path, &[&Zone], u16, u16) -> Command;

#[test]
fn unbound_bind_and_knot_resolver_lose_nothing() {
    let (world, now) = world_now();
    let resolvers: [(&str, Configure); 3] = [("unbound", unbound), ("named", bind), ("kresd", knot_resolver)];
    for (what, configure) in resolvers {
        let policy = Policy { cookies: Some(CookieSecret::new([7; 16])), ..Policy::default() };
        let options = Options { policy, ..Options::default() };
        let running = Running::start(&world, IpAddr::V4(Ipv4Addr::LOCALHOST), options, now);
        let folder = tempfile::tempdir().unwrap();
        let zones = ["_smimecert.example.org", "direct.example.net", "_smimecert.plain.example"];
        let zones = zones.map(|apex| world.zone(apex));
        let port = free_port();
        let resolver = Resolver::start(&mut configure(folder.path(), &zones, running.address.port(), port), port);
        for (owner, rtype, status, answers) in [
            ("alice._smimecert.example.org", "SMIMEA", "NOERROR", 2),
            ("bob._smimecert.example.org", "SMIMEA", "NOERROR", 2),
            ("pq._smimecert.example.org", "SMIMEA", "NOERROR", 2),
            ("dave._smimecert.example.org", "SMIMEA", "NOERROR", 2),
            ("erin._smimecert.example.org", "SMIMEA", "NOERROR", 2),
            ("alice._smimecert.example.org", "A", "NOERROR", 0),
            ("x.alice._smimecert.example.org", "SMIMEA", "NXDOMAIN", 0),
            ("alice.direct.example.net", "CERT", "NOERROR", 2),
            ("www.direct.example.net", "CERT", "NOERROR", 4),
            ("_ldap._tcp.direct.example.net", "SRV", "NOERROR", 2),
            ("_tcp.direct.example.net", "SRV", "NOERROR", 0),
            ("nobody.direct.example.net", "CERT", "NXDOMAIN", 0),
            ("carol._smimecert.plain.example", "SMIMEA", "NOERROR", 2),
            ("nobody._smimecert.plain.example", "SMIMEA", "NXDOMAIN", 0),
        ] {
            let answer = resolver.dig(&[rtype, owner]);
            let secure = answer.lines().any(|line| line.starts_with(";; flags:") && line.contains(" ad"));
            assert!(secure, "{what}: {owner} {rtype} is not secure: {answer}");
            assert!(answer.contains(&format!("status: {status},")), "{what}: {owner} {rtype}: {answer}");
            assert!(answer.contains(&format!("ANSWER: {answers},")), "{what}: {owner} {rtype}: {answer}");
        }
        // The test can fail: with the keys of other zones nothing is secure.
        let other = World::new();
        let wrong = ["_smimecert.example.org"].map(|apex| other.zone(apex));
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let misled = Resolver::start(&mut configure(folder.path(), &wrong, running.address.port(), port), port);
        let answer = misled.dig(&["+tries=1", "SMIMEA", "alice._smimecert.example.org"]);
        assert!(answer.contains("status: SERVFAIL"), "{what}: {answer}");
        let counted = running.counters.snapshot();
        assert!(counted.udp.truncated() > 0 && counted.tcp.queries() > 0, "{what} came again over TCP: {counted:?}");
        // BIND sends cookies as it comes: it is verified from its second query on.
        assert_eq!(counted.udp.verified() > 0, what == "named", "{what}: {counted:?}");
    }
}
