//! DNS as its users ask it: dig, delv and unbound; the exported zone in the checkers of four other servers.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::world::{Issued, PATIENCE, Request, Server, World, client, free_port, now, owner, run, spaced, until};

/// Two organisations: example.org has people only, example.net a domain certificate, too.
struct Two {
    world: World,
    alice: Issued,
    bob: Issued,
    carol: Issued,
    gateway: Issued,
}

fn two() -> Two {
    let world = World::hosting(&["example.org", "example.net"]);
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org").rsa());
    let bob = world.ca.issue(&Request::person("Bob", "email:Bob@example.org"));
    let carol = world.ca.issue(&Request::person("Carol", "email:carol@example.net"));
    let gateway = world.ca.issue(&Request::person("Gateway", "DNS:example.net"));
    for issued in [&alice, &bob, &carol] {
        world.publish(issued);
    }
    let domain = ["publish", "--domain-certificate", "example.net", gateway.path()];
    world.certdir(&domain).ok();
    Two { world, alice, bob, carol, gateway }
}

/// The apex of the zone that a domain's certificates live in by default.
fn apex(domain: &str) -> String {
    format!("_smimecert.{domain}")
}

#[test]
fn dig_over_udp_tcp_and_with_signatures() {
    let Two { world, alice, bob, .. } = two();
    let server = world.serve();
    let name = owner("alice", "example.org");

    // An RSA certificate does not fit 1232 octets: truncated, no half an answer, and dig comes again over TCP.
    let udp = server.dig(&["+notcp", "+ignore", "+bufsize=4096", &name, "SMIMEA"]);
    assert!(udp.contains(" tc"), "{udp}");
    assert!(udp.contains("ANSWER: 0"), "{udp}");
    let fallback = server.dig(&["+bufsize=1232", &name, "SMIMEA"]);
    assert!(fallback.contains("retrying in TCP mode"), "{fallback}");
    assert!(fallback.contains("ANSWER: 1"), "{fallback}");
    assert_eq!(server.smimea(&name), [alice.der.clone()]);

    // An EC certificate fits, for a source that a server cookie has verified (RFC 8162 section 9.1, RFC 7873).
    let bob_name = owner("bob", "example.org");
    let udp = server.dig(&["+notcp", "+ignore", "+cookie=0123456789abcdef", &bob_name, "SMIMEA"]);
    assert!(udp.contains("flags: qr aa tc"), "{udp}");
    let cookie = udp.lines().find_map(|line| line.strip_prefix("; COOKIE: ")?.split(' ').next()).unwrap();
    let udp = server.dig(&["+notcp", "+ignore", &format!("+cookie={cookie}"), &bob_name, "SMIMEA"]);
    assert!(udp.contains("flags: qr aa"), "{udp}");
    assert!(udp.contains("ANSWER: 1"), "{udp}");
    assert!(!udp.contains("RRSIG"), "not asked for: {udp}");
    // RFC 8162 section 4: the publisher may publish variants; the exact spelling and the lower-case one are there.
    assert_eq!(server.smimea(&owner("Bob", "example.org")), [bob.der.clone()]);
    assert_eq!(server.smimea(&owner("bob", "example.org")), [bob.der]);

    let signed = server.dig(&["+tcp", "+dnssec", &name, "SMIMEA"]);
    assert!(signed.contains("RRSIG SMIMEA 13 4 "), "{signed}");
    assert!(signed.contains("flags: do"), "{signed}");

    // Names are compared without case, and the answer keeps the question's spelling.
    let upper = server.dig(&["+tcp", &name.to_uppercase(), "SMIMEA"]);
    assert!(upper.contains("ANSWER: 1"), "{upper}");
    assert!(upper.contains(&name.to_uppercase()), "{upper}");
}

#[test]
fn misses_are_proven_and_foreign_names_refused() {
    let Two { world, .. } = two();
    let server = world.serve();
    let missing = server.dig(&["+dnssec", &owner("nobody", "example.org"), "SMIMEA"]);
    assert!(missing.contains("status: NXDOMAIN"), "{missing}");
    assert!(missing.contains("NSEC3 1 0 0 - "), "RFC 9276: no iterations, no salt: {missing}");
    assert!(missing.contains("SOA"), "{missing}");

    let nodata = server.dig(&["+dnssec", &owner("alice", "example.org"), "TXT"]);
    assert!(nodata.contains("status: NOERROR"), "{nodata}");
    assert!(nodata.contains("ANSWER: 0"), "{nodata}");
    assert!(nodata.contains("NSEC3"), "{nodata}");

    let soa = server.dig(&["+short", &apex("example.org"), "SOA"]);
    assert_eq!(soa.split_whitespace().count(), 7, "{soa}");
    for foreign in ["example.com", "org", "."] {
        let refused = server.dig(&[foreign, "SMIMEA"]);
        assert!(refused.contains("status: REFUSED"), "{foreign}: {refused}");
        assert!(!refused.contains(" aa"), "{refused}");
        assert!(!refused.contains(" ra"), "no recursion: {refused}");
    }
    // RFC 8482: one RRset of our choice for ANY.
    let any = server.dig(&["+tcp", &owner("alice", "example.org"), "ANY"]);
    assert!(any.contains("ANSWER: 1"), "{any}");
}

#[test]
fn delv_validates_hits_misses_and_wildcard_expansion() {
    let Two { world, alice, carol, gateway, .. } = two();
    let server = world.serve();
    let ask = |domain: &str, name: &str, rtype: &str| world.delv(&server, domain, [name, rtype]);

    for (domain, local, issued) in [
        ("example.org", "alice", &alice),
        ("example.net", "carol", &carol),
        ("example.net", "domain-confidentiality-authority", &gateway),
        // The wildcard serves the domain's certificate to whoever knows nothing of RFC 3183.
        ("example.net", "nobody-of-that-name", &gateway),
    ] {
        let name = owner(local, domain);
        let hit = ask(domain, &name, "SMIMEA");
        assert!(hit.contains("; fully validated"), "{local}@{domain}: {hit}");
        assert_eq!(server.smimea(&name), [issued.der.clone()], "{local}@{domain}");
    }
    for (domain, local, rtype) in [
        ("example.org", "nobody", "SMIMEA"),
        ("example.org", "domain-confidentiality-authority", "SMIMEA"),
        ("example.org", "alice", "TXT"),
        ("example.net", "carol", "TXT"),
        ("example.net", "nobody-of-that-name", "TXT"),
    ] {
        let miss = ask(domain, &owner(local, domain), rtype);
        let proven = miss.contains("; negative response, fully validated");
        assert!(proven, "{local}@{domain} {rtype}: {miss}");
    }
    // The key of another zone proves nothing: the test above can fail.
    let other = world.certdir(&["zone", "keys", "--bind", "example.net"]).ok().text();
    let other = other.replace("_smimecert.example.net.", "_smimecert.example.org.");
    let anchor = world.write("wrong.anchors", other);
    let mut delv = client("delv");
    delv.arg(format!("@{}", server.dns.ip())).args(["-p", &server.dns.port().to_string()]);
    delv.arg("-a").arg(anchor).arg("+root=_smimecert.example.org");
    let said = run(delv.args([&owner("alice", "example.org"), "SMIMEA"]));
    let wrong = said.text() + &said.err;
    assert!(!wrong.contains("fully validated"), "{wrong}");
}

#[test]
fn wire_names_of_rfc_8162() {
    // The example of RFC 8162 section 3, and RFC 3183's name; both computed outside of the program.
    let hugh = "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._smimecert.example.com";
    assert_eq!(owner("hugh", "example.com"), hugh);
    let world = World::hosting(&["example.com"]);
    let issued = world.ca.issue(&Request::person("Hugh", "email:hugh@example.com"));
    world.publish(&issued);
    let server = world.serve();
    assert_eq!(server.smimea(hugh), [issued.der]);
}

#[test]
fn exported_zones_pass_the_checkers_of_four_servers() {
    let Two { world, .. } = two();
    for domain in ["example.org", "example.net"] {
        let zone = world.certdir(&["zone", "export", domain]).ok().out;
        let file = world.write(&format!("{domain}.zone"), &zone);
        let anchor = world.anchor(domain);
        let origin = apex(domain);

        let mut checkzone = client("named-checkzone");
        checkzone.args(["-i", "local", &origin]);
        let said = run(checkzone.arg(&file));
        assert!(said.code == 0 && said.text().contains("DNSSEC signed"), "{}", said.all());

        let mut verify = client("dnssec-verify");
        // -z: one key signs keys and records alike.
        verify.args(["-q", "-z", "-o", &origin]);
        let said = run(verify.arg(&file));
        assert_eq!(said.code, 0, "{}", said.all());

        let mut ldns = client("ldns-verify-zone");
        let said = run(ldns.arg("-k").arg(&anchor).arg(&file));
        assert_eq!(said.code, 0, "{}", said.all());
        assert!(said.text().contains("verified and complete"), "{}", said.all());

        let mut knot = client("kzonecheck");
        knot.args(["--dnssec", "on", "-o", &origin]);
        let said = run(knot.arg(&file));
        assert_eq!(said.code, 0, "{}", said.all());

        // They would have seen a broken one: a changed octet in the middle of a certificate.
        let mut text = String::from_utf8(zone).unwrap();
        let at = text.find("SMIMEA").unwrap();
        let digit = text[at..].find("3082").unwrap() + at + 40;
        let other = if text.as_bytes()[digit] == b'0' { "1" } else { "0" };
        text.replace_range(digit..=digit, other);
        let broken = world.write("broken.zone", text);
        let said = run(client("ldns-verify-zone").arg("-k").arg(&anchor).arg(&broken));
        assert_ne!(said.code, 0, "{}", said.all());
    }
    let foreign = world.certdir(&["zone", "export", "example.com"]).exits(1);
    assert_eq!(foreign.err.lines().count(), 1, "{}", foreign.all());
}

/// RFC 4398: CERT records live in the mail domain, so a domain that is hosted as a whole has them; Direct software reads
/// bare DER.
#[test]
fn a_mail_domain_hosted_as_a_whole_has_cert_records() {
    let world = World::new();
    for (domain, form) in [("direct.example.org", "der"), ("example.net", "rfc4398")] {
        let add =
            ["domain", "add", "--hosting", "mail", "--cert-data", form, "--name-server", "ns.example.com", domain];
        world.certdir(&add).ok();
    }
    let server = world.serve();
    // RFC 4398 section 2.1: a length, and the object identifier 2.5.4.36.
    let identifier: &[u8] = &[0x03, 0x55, 0x04, 0x24];
    for (domain, prefix) in [("direct.example.org", &[][..]), ("example.net", identifier)] {
        let names = format!("email:Al.Ice@{domain}");
        let alice = world.ca.issue(&Request::person("Alice", &names));
        let gateway = world.ca.issue(&Request::person("Gateway", &format!("DNS:{domain}")));
        world.publish(&alice);
        world.certdir(&["publish", "--domain-certificate", domain, gateway.path()]).ok();
        for (name, issued) in [(format!("al\\.ice.{domain}"), &alice), (domain.to_owned(), &gateway)] {
            let record = server.dig(&["+tcp", "+short", "+nosplit", &name, "CERT"]);
            let data = record.trim().strip_prefix("PKIX 0 0 ").unwrap_or_else(|| panic!("{name}: {record}"));
            let data = data_encoding::BASE64.decode(data.as_bytes()).unwrap();
            assert_eq!(data, [prefix, &issued.der].concat(), "{name}");
        }
        let smimea = server.smimea(&owner("Al.Ice", domain));
        assert_eq!(smimea, [alice.der], "SMIMEA is there as well");
        let zone = world.certdir(&["zone", "export", domain]).ok().out;
        let file = world.write("mail.zone", zone);
        let said = run(client("ldns-verify-zone").arg("-k").arg(world.anchor(domain)).arg(&file));
        assert_eq!(said.code, 0, "{}", said.all());
    }
}

#[test]
fn what_the_parent_zone_needs() {
    let Two { world, .. } = two();
    let ds = world.certdir(&["zone", "ds", "example.org"]).ok().text();
    let line = ds.lines().find(|line| line.contains("DS")).unwrap();
    // An independent computation of the DS from the DNSKEY.
    let key = world.anchor("example.org");
    let mut convert = client("dnssec-dsfromkey");
    let said = run(convert.args(["-2", "-f"]).arg(&key).arg(apex("example.org"))).ok();
    let expected: Vec<String> = said.text().split_whitespace().map(str::to_uppercase).collect();
    let digest = expected.last().unwrap();
    let found: String = line.to_uppercase().split_whitespace().collect();
    assert!(found.ends_with(digest.as_str()), "{line}\n{}", said.text());
    let show = world.certdir(&["domain", "show", "example.org"]).ok().text();
    let joined: String = show.to_uppercase().split_whitespace().collect();
    assert!(joined.contains(digest.as_str()), "{show}");
    assert!(show.contains("NS"), "{show}");
}

/// A validating resolver of another make, with our zones' keys as anchors.
pub(crate) struct Unbound {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Unbound {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- unbound: {}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Unbound {
    /// `today` is the time at which it checks signatures, unix seconds: unbound can be told, and needs no faked clock.
    pub(crate) fn start(world: &World, server: &Server, domains: &[&str], today: i64) -> Unbound {
        let zones: Vec<String> = domains.iter().map(|domain| apex(domain)).collect();
        let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
        let date = format!("  val-override-date: \"{today}\"\n");
        Unbound::run(client("unbound"), world, server, domains, &zones, &date)
    }

    /// With the keys of these domains as its anchors, told where these zones are, and with these settings of the server.
    pub(crate) fn run(
        mut command: Command,
        world: &World,
        server: &Server,
        anchored: &[&str],
        zones: &[&str],
        settings: &str,
    ) -> Unbound {
        let port = free_port();
        let log = world.path("unbound.log");
        let folder = world.folder.path().display();
        let mut text = format!(
            "server:\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  \
             directory: \"{folder}\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"{log}\"\n  \
             do-not-query-localhost: no\n  module-config: \"validator iterator\"\n  val-log-level: 2\n  \
             num-threads: 1\n  do-ip6: no\n{settings}",
            log = log.display()
        );
        for domain in anchored {
            let anchor = world.anchor(domain);
            text += &format!("  trust-anchor-file: \"{}\"\n", anchor.display());
        }
        text += "remote-control:\n  control-enable: no\n";
        let at = format!("{}@{}", server.dns.ip(), server.dns.port());
        for zone in zones {
            text += &format!("stub-zone:\n  name: \"{zone}\"\n  stub-addr: {at}\n");
        }
        let file = world.write("unbound.conf", text);
        let child = command
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let unbound = Unbound { child, port, log };
        until("unbound answers", PATIENCE, || {
            let port = unbound.port.to_string();
            let mut dig = client("dig");
            let said = run(dig.args(["@127.0.0.1", "-p", &port, "+time=1", "+tries=1", "localhost", "A"]));
            (said.code == 0).then_some(())
        });
        unbound
    }

    pub(crate) fn ask(&self, name: &str, rtype: &str) -> String {
        let port = self.port.to_string();
        let mut dig = client("dig");
        dig.args(["@127.0.0.1", "-p", &port, "+dnssec", "+time=20", "+noidnout"]);
        spaced(&run(dig.args([name, rtype])).ok().text())
    }
}

#[test]
fn unbound_finds_the_answers_secure() {
    let Two { world, .. } = two();
    let server = world.serve();
    let unbound = Unbound::start(&world, &server, &["example.org", "example.net"], now());
    for (local, domain, rtype, status, answers) in [
        ("alice", "example.org", "SMIMEA", "NOERROR", true),
        ("nobody", "example.org", "SMIMEA", "NXDOMAIN", false),
        ("alice", "example.org", "TXT", "NOERROR", false),
        ("carol", "example.net", "SMIMEA", "NOERROR", true),
        ("anybody", "example.net", "SMIMEA", "NOERROR", true),
        ("anybody", "example.net", "TXT", "NOERROR", false),
    ] {
        let answer = unbound.ask(&owner(local, domain), rtype);
        let what = format!("{local}@{domain} {rtype}: {answer}");
        assert!(answer.contains(&format!("status: {status}")), "{what}");
        assert!(is_secure(&answer), "{what}");
        assert_eq!(answer.contains("SMIMEA 3 0 0 "), answers, "{what}");
    }
}

/// Whether an answer carries AD: unbound found it Secure.
pub(crate) fn is_secure(answer: &str) -> bool {
    let flags = answer.lines().find_map(|line| line.strip_prefix(";; flags: ")).unwrap_or_default();
    flags.split(';').next().unwrap_or_default().split_whitespace().any(|flag| flag == "ad")
}

/// Packets that are no questions: the server drops or refuses them and goes on.
#[test]
fn malformed_packets_leave_the_server_alive() {
    let Two { world, .. } = two();
    let mut server = world.serve();
    let name = owner("bob", "example.org");
    let header = |counts: [u8; 8]| -> Vec<u8> { [&[0x12, 0x34, 0, 0][..], &counts].concat() };
    let question = {
        let mut bytes = header([0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.extend_from_slice(&[0, 0, 53, 0, 1]);
        bytes
    };
    let mut bad: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0xff; 12],
        vec![0xff; 1232],
        vec![0; 11],
        header([0, 1, 0, 0, 0, 0, 0, 0]),
        header([0, 0, 0, 0, 0, 0, 0, 0]),
        header([0xff; 8]),
        // A name that points at itself, and one that points forward.
        [header([0, 1, 0, 0, 0, 0, 0, 0]), vec![0xc0, 12, 0, 53, 0, 1]].concat(),
        [header([0, 1, 0, 0, 0, 0, 0, 0]), vec![0xc0, 14, 0xc0, 12, 0, 53, 0, 1]].concat(),
        // A label longer than the packet, and a name longer than 255 octets.
        [header([0, 1, 0, 0, 0, 0, 0, 0]), vec![63, b'a']].concat(),
        [header([0, 1, 0, 0, 0, 0, 0, 0]), [1, b'a'].repeat(200), vec![0, 0, 53, 0, 1]].concat(),
        // Two OPT records (RFC 6891 section 6.1.1), an OPT with a broken option.
        [question.clone(), [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0].repeat(2)].concat(),
        [question.clone(), vec![0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 10, 0, 99]].concat(),
    ];
    bad[12][11] = 2;
    bad[13][11] = 1;
    for cut in 0..question.len() {
        bad.push(question[..cut].to_vec());
    }
    // A socket for each: an answer that comes too late is not taken for the next one's.
    let to = server.dns;
    let send = |packet: &[u8]| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        drop(socket.send_to(packet, to));
        socket
    };
    let mut buffer = [0; 4096];
    for packet in &bad {
        let socket = send(packet);
        if let Ok((length, _)) = socket.recv_from(&mut buffer) {
            // Whatever came back is a response, with the id of the query, and carries no certificate.
            assert!(length >= 12 && buffer[2] & 0x80 != 0, "{packet:02x?}");
            assert_eq!(&buffer[..2], &packet[..2], "{packet:02x?}");
            assert_eq!(&buffer[6..8], &[0, 0], "an answer to {packet:02x?}");
        }
    }
    // A response is never answered: two servers would talk for ever.
    let mut response = question.clone();
    response[2] |= 0x80;
    assert!(send(&response).recv_from(&mut buffer).is_err(), "answered a response");

    for packet in &bad {
        let mut stream = TcpStream::connect(server.dns).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
        drop(stream.write_all(&[&length[..], packet].concat()));
        drop(stream.read(&mut buffer));
    }
    // A length that nothing follows.
    let mut stream = TcpStream::connect(server.dns).unwrap();
    stream.write_all(&[0xff, 0xff, 1, 2, 3]).unwrap();
    drop(stream);

    assert!(server.is_alive(), "{}", server.said());
    let mut good = [&question[..], &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]].concat();
    good[11] = 1;
    let socket = send(&good);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    // No cookie: told to come over TCP.
    assert!(length > 12 && buffer[3] & 0x0f == 0 && buffer[2] & 2 != 0, "{:02x?}", &buffer[..12]);
}

#[test]
fn versions_show_in_the_serial() {
    let world = World::hosting(&["example.org"]);
    let server = world.serve();
    let serial = || -> u32 {
        let soa = server.dig(&["+short", &apex("example.org"), "SOA"]);
        soa.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    let before = serial();
    let first = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    world.publish(&first);
    assert_eq!(server.smimea(&owner("alice", "example.org")), [first.der.clone()]);
    let after = serial();
    assert!(after > before, "{before} {after}");
    // The same again changes nothing, the serial neither.
    world.publish(&first);
    assert_eq!(serial(), after);
}

#[test]
fn a_taken_port_is_one_clear_line() {
    let world = World::hosting(&["example.org"]);
    let server = world.serve();
    let taken = server.dns.to_string();
    let mut second = Command::new(crate::world::CERTDIR);
    second.args(["serve", "--dns", &taken, "--ldap", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    second.args(["--dot", "none", "--doq", "none", "--https", "none", "--data"]);
    let said = run(second.arg(&world.data)).exits(1);
    assert!(said.err.contains(&taken), "{}", said.all());
    assert!(!said.text().contains("ready"), "{}", said.all());
}
