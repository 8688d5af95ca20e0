//! DNS over TLS, HTTPS and QUIC as their users ask: kdig, curl and openssl; and the certificates they are shown.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::world::{PATIENCE, Request, World, client, owner, run, run_with, spaced, until};

fn kdig(server: SocketAddr, arguments: &[&str]) -> String {
    let mut kdig = client("kdig");
    kdig.args([&format!("@{}", server.ip()), "-p", &server.port().to_string(), "+timeout=20", "+retry=0"]);
    let said = run(kdig.args(arguments));
    spaced(&(said.text() + &said.err))
}

/// One person with an RSA certificate, which never fits a datagram.
fn alice() -> (World, String) {
    let world = World::hosting(&["example.org"]);
    world.publish(&world.ca.issue(&Request::person("Alice", "email:alice@example.org").rsa()));
    (world, owner("alice", "example.org"))
}

#[test]
fn kdig_gets_the_same_records_over_every_transport() {
    let (world, name) = alice();
    let server = world.serve();
    // Only the records: what stands in front of them differs by design.
    let records = |text: &str| -> Vec<String> {
        let mut lines: Vec<_> =
            text.lines().filter(|line| !line.starts_with(';') && !line.is_empty()).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for (question, status, flags, count) in [
        ([name.as_str(), "SMIMEA"], "NOERROR", "qr aa rd", 2),
        ([name.as_str(), "TXT"], "NOERROR", "qr aa rd", 0),
        (["_smimecert.example.org", "DNSKEY"], "NOERROR", "qr aa rd", 2),
        (["example.com", "SMIMEA"], "REFUSED", "qr rd", 0),
    ] {
        let ask = |address, over: &[&str]| kdig(address, &[over, &["+dnssec"], &question].concat());
        let expected = ask(server.dns, &["+tcp"]);
        for (address, over) in [
            (server.dns, &["+tcp", "+keepopen"][..]),
            (server.dns, &[]),
            (server.dot, &["+tls"]),
            (server.dot, &["+tls", "+padding"]),
            (server.https, &["+https"]),
            (server.https, &["+https", "+https-get"]),
            (server.doq, &["+quic"]),
        ] {
            let said = ask(address, over);
            assert!(said.contains(&format!("status: {status}")), "{over:?} {said}");
            assert!(said.contains(&format!("Flags: {flags};")), "{over:?} {said}");
            if count > 0 {
                assert_eq!(records(&said), records(&expected), "{over:?} {question:?}");
                assert_eq!(records(&said).len(), count, "{over:?} {said}");
            }
        }
    }
    for (transport, asked) in [("dot", 8), ("doh", 8), ("doq", 4)] {
        let line = format!("certdir_dns_queries_total{{transport=\"{transport}\"}} {asked}\n");
        // An answer may be read before it is counted.
        until(&line, PATIENCE, || {
            String::from_utf8(server.curl(&[], "/metrics").1).unwrap().contains(&line).then_some(())
        });
    }
}

#[test]
fn curl_asks_over_https_and_finds_everything_else_there_too() {
    let (world, _) = alice();
    let server = world.serve();
    let ca = world.data.join("tls/self-signed.pem");
    let curl = |arguments: &[&str], path: &str| {
        let mut curl = client("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "60", "--cacert"]).arg(&ca);
        curl.args(["-o", "-", "-w", "\n%{http_code} %{http_version} %{content_type} %header{cache-control}"]);
        let out = run(curl.args(arguments).arg(format!("https://{}{path}", server.https))).ok().out;
        let cut = out.iter().rposition(|&octet| octet == b'\n').unwrap();
        (out[..cut].to_vec(), String::from_utf8_lossy(&out[cut + 1..]).into_owned())
    };
    // RFC 8484 section 4.1.1: a query for the apex's SOA record, identification 0.
    let mut query = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x0a_smimecert\x07example\x03org\0\0\x06\0\x01");
    let path = format!("/dns-query?dns={}", data_encoding::BASE64URL_NOPAD.encode(&query));
    for version in ["2", "1.1"] {
        let (answer, head) = curl(&[&format!("--http{version}")], &path);
        assert_eq!(&answer[..8], [0, 0, 0x84, 0, 0, 1, 0, 1], "{head}");
        assert!(head.starts_with(&format!("200 {version} application/dns-message max-age=")), "{head}");
        let file = world.write("query", &query);
        let body = format!("@{}", file.display());
        let posted = ["--data-binary", &body, "-H", "Content-Type: application/dns-message"];
        assert_eq!(curl(&[&posted[..], &[&format!("--http{version}")]].concat(), "/dns-query").0, answer);
    }
    assert!(curl(&["-X", "PUT"], "/dns-query").1.starts_with("405 "));
    assert!(curl(&["-d", "x"], "/dns-query").1.starts_with("415 "));
    assert!(curl(&[], "/dns-query").1.starts_with("400 "));
    let (page, head) = curl(&[], "/v1/addresses/alice@example.org");
    assert!(head.starts_with("200 2 application/json"), "{head}");
    assert!(String::from_utf8_lossy(&page).contains("BEGIN CERTIFICATE"));
    // DNS over HTTPS is for HTTPS.
    assert_eq!(server.curl(&[], &path).0, 404);
}

/// `openssl s_client`: what the handshake came to, the server's certificate in it.
fn handshake(server: SocketAddr, arguments: &[&str]) -> String {
    let mut openssl = client("openssl");
    openssl.args(["s_client", "-connect", &server.to_string()]);
    let said = run_with(openssl.args(arguments), b"");
    said.text() + &said.err
}

#[test]
fn protocols_and_versions_are_agreed_on() {
    let world = World::new();
    let server = world.serve();
    for (address, offered, agreed) in [
        (server.dot, "dot", "ALPN protocol: dot"),
        (server.https, "h2,http/1.1", "ALPN protocol: h2"),
        (server.https, "http/1.1", "ALPN protocol: http/1.1"),
        (server.dot, "h2", "no application protocol"),
        (server.https, "dot", "no application protocol"),
    ] {
        let said = handshake(address, &["-alpn", offered]);
        assert!(said.contains(agreed), "{offered}: {said}");
    }
    for (version, agreed) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = handshake(server.dot, &[version]);
        assert!(said.contains("No ALPN negotiated"), "{said}");
        assert!(said.contains(&format!("New, {agreed}")), "{said}");
    }
    let ticket = world.path("ticket");
    handshake(server.dot, &["-tls1_2", "-sess_out", ticket.to_str().unwrap()]);
    let again = handshake(server.dot, &["-tls1_2", "-sess_in", ticket.to_str().unwrap()]);
    assert!(again.contains("Reused, TLSv1.2"), "{again}");
}

/// A chain with its key, as an operator gives them.
fn certificate(folder: &Path, name: &str) -> (String, String) {
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let mut openssl = client("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert)).ok();
    (fs::read_to_string(cert).unwrap(), fs::read_to_string(key).unwrap())
}

#[test]
fn given_files_are_read_again_and_a_broken_pair_changes_nothing() {
    let world = World::new();
    let [first, second, third] = ["first", "second", "third"].map(|name| certificate(world.folder.path(), name));
    let (cert, key) = (world.write("chain.pem", &first.0), world.write("key.pem", &first.1));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let more = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap(), "--dot", "0.0.0.0:0"];
    let mut server = world.serve_with(&mut std::process::Command::new(crate::world::CERTDIR), &more);
    server.dot.set_ip([127, 0, 0, 1].into());
    let shown = |address: SocketAddr| {
        let said = handshake(address, &[]);
        let subject =
            said.lines().find_map(|line| line.strip_prefix("subject=CN = ").or(line.strip_prefix("subject=CN=")));
        subject.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    assert_eq!(shown(server.dot), "first");
    // First the chain, then its key: in between they do not belong together.
    fs::write(&cert, &second.0).unwrap();
    until("the broken pair is logged", PATIENCE, || server.said().contains("is still shown").then_some(()));
    assert_eq!(shown(server.dot), "first");
    fs::write(&key, &second.1).unwrap();
    until("the second is shown", PATIENCE, || (shown(server.dot) == "second").then_some(()));
    assert_eq!(shown(server.https), "second");
    assert!(kdig(server.doq, &["+quic", "example.com", "SOA"]).contains("REFUSED"));
    fs::write(&cert, "nothing").unwrap();
    until("nonsense is logged", PATIENCE, || (server.said().matches("is still shown").count() > 1).then_some(()));
    assert_eq!(shown(server.dot), "second");
    // Renamed into place, as renewal programs do; only its owner may read a key.
    let aside = [world.write("aside.pem", &third.0), world.write("aside.key", &third.1)];
    fs::set_permissions(&aside[1], fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&aside[1], &key).unwrap();
    fs::rename(&aside[0], &cert).unwrap();
    until("the third is shown", PATIENCE, || (shown(server.dot) == "third").then_some(()));
}

#[test]
fn a_self_signed_certificate_is_for_loopback_only() {
    let world = World::new();
    for flag in ["--dot", "--doq", "--https"] {
        let said = world.certdir(&["serve", "--dns", "127.0.0.1:0", "--ldap", "none", flag, "0.0.0.0:0"]).exits(1);
        assert!(said.err.contains("--tls-cert"), "{flag}: {}", said.all());
    }
}
