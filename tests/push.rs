//! DNS Push Notifications (RFC 8765) as a client of another make has them: Python's TLS, dnspython's records.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::world::{PATIENCE, Request, Server, World, client, owner, spaced};

/// Finds the server by the SRV record, verifies its certificate, subscribes to names, and prints what it is told.
const CLIENT: &str = r#"
import socket, ssl, struct, sys, threading
import dns.message, dns.name, dns.query, dns.rdatatype
dns_port, ca, zone = int(sys.argv[1]), sys.argv[2], sys.argv[3]
names = [dns.name.from_text(name) for name in sys.stdin.read().split()]
query = dns.message.make_query("_dns-push-tls._tcp." + zone, "SRV")
srv = dns.query.tcp(query, "127.0.0.1", port=dns_port, timeout=60).answer[0][0]
host = srv.target.to_text(omit_final_dot=True)
context = ssl.create_default_context(cafile=ca)
stream = context.wrap_socket(socket.create_connection((host, srv.port)), server_hostname=host)

def say(*words):
    print(*words, flush=True)

def message(ident, kind, data):
    body = struct.pack(">HHHHHHHH", ident, 0x3000, 0, 0, 0, 0, kind, len(data)) + data
    return struct.pack(">H", len(body)) + body

requests = [message(1, 1, struct.pack(">II", 15000, 3600000))]
requests += [message(2 + at, 0x40, name.to_wire() + struct.pack(">HH", 53, 1)) for at, name in enumerate(names)]
threading.Thread(target=stream.sendall, args=(b"".join(requests),), daemon=True).start()

incoming = stream.makefile("rb")
accepted = 0
while length := incoming.read(2):
    got = incoming.read(struct.unpack(">H", length)[0])
    if got[2] & 0x80:
        assert got[3] & 0x0F == 0, got
        accepted += 1
        if accepted == len(requests):
            say("subscribed")
        continue
    kind, length = struct.unpack(">HH", got[12:16])
    if kind == 2:
        say("retry", struct.unpack(">I", got[16:20])[0])
        break
    assert kind == 0x41 and len(got) <= 16382
    at = 16
    while at < 16 + length:
        name, used = dns.name.from_wire(got, at)
        rtype, rclass, ttl, size = struct.unpack(">HHIH", got[at + used:at + used + 10])
        at += used + 10 + size
        sign = {0xFFFFFFFE: "--", 0xFFFFFFFF: "-"}.get(ttl, "+")
        say(sign, name, dns.rdatatype.to_text(rtype))
"#;

struct Gateway {
    child: Child,
    lines: Receiver<String>,
}

impl Gateway {
    fn start(world: &World, server: &Server, names: &[String]) -> Gateway {
        let script = world.write("gateway.py", CLIENT);
        let names = File::open(world.write("names", names.join("\n"))).unwrap();
        let mut python = client("/usr/bin/python3");
        python.arg(script).arg(server.dns.port().to_string()).arg(world.data.join("tls/self-signed.pem")).arg(ZONE);
        let mut child = python.stdin(names).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Gateway { child, lines }
    }

    #[track_caller]
    fn says(&self, expected: &str) {
        let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{error}, instead of {expected}"));
        assert_eq!(line, expected);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const ZONE: &str = "_smimecert.example.org.";

/// A served domain whose zone says where its changes are told.
fn served() -> (World, Server) {
    let world = World::hosting(&["example.org"]);
    let server = world.serve();
    let push = format!("localhost:{}", server.dot.port());
    let said = world.certdir(&["domain", "change", "example.org", "--push-server", &push]).ok().text();
    assert!(said.contains(&format!("push server {push}")), "{said}");
    (world, server)
}

/// The owner name of somebody's record, absolute.
fn absolute(local: &str) -> String {
    format!("{}.", owner(local, "example.org").trim_end_matches('.'))
}

#[test]
fn a_gateway_is_told_of_every_reissue() {
    let (world, mut server) = served();
    let srv = format!("0 0 {} localhost.", server.dot.port());
    assert_eq!(spaced(&server.dig(&["+short", &format!("_dns-push-tls._tcp.{ZONE}"), "SRV"])).trim(), srv);
    let export = spaced(&world.certdir(&["zone", "export", "example.org"]).ok().text());
    assert!(export.contains(&format!("SRV {srv}")), "{export}");

    let alice = absolute("alice");
    let gateway = Gateway::start(&world, &server, &[alice.clone()]);
    gateway.says("subscribed");
    let told = |signs: &[&str]| signs.iter().for_each(|sign| gateway.says(&format!("{sign} {alice} SMIMEA")));
    // The name is covered by the domain's certificate until it has its own.
    let domain = "email:domain-confidentiality-authority@example.org";
    let domain = world.ca.issue(&Request::person("Gateway", domain));
    world.certdir(&["publish", "--domain-certificate", "example.org", domain.path()]).ok();
    told(&["+"]);
    for _ in 0..2 {
        world.publish(&world.ca.issue(&Request::person("Alice", "email:alice@example.org")));
        told(&["--", "+"]);
    }
    world.certdir(&["withdraw", "alice@example.org"]).ok();
    told(&["--", "+"]);
    let metrics = String::from_utf8(server.curl(&[], "/metrics").1).unwrap();
    for line in ["certdir_dns_sessions{transport=\"dot\"} 1\n", "certdir_dns_subscriptions{transport=\"dot\"} 1\n"] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    // Told to go, and when to come again.
    assert_eq!(server.interrupt().0, Some(0));
    gateway.says("retry 1000");
    world.certdir(&["domain", "change", "example.org", "--push-server", "none"]).ok();
}

#[test]
fn a_gateway_follows_ten_thousand_names() {
    let (world, server) = served();
    let locals: Vec<String> = (0..10_000).map(|number| format!("p{number}")).collect();
    let names: Vec<String> = locals.iter().map(|local| absolute(local)).collect();
    let gateway = Gateway::start(&world, &server, &names);
    gateway.says("subscribed");
    for number in [9_999, 0, 5_000] {
        let address = format!("email:{}@example.org", locals[number]);
        world.publish(&world.ca.issue(&Request::person("Somebody", &address)));
        gateway.says(&format!("+ {} SMIMEA", names[number]));
    }
    assert!(!server.dig(&["+short", ZONE, "SOA"]).is_empty(), "others are answered, too");
}
