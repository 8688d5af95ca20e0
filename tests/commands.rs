//! The command line itself: JSON that a script can rely on, signals, restarts.

use std::time::Duration;

use serde_json::Value;

use crate::world::{Request, World, owner};

/// Every line as one JSON document; a single document over many lines is one.
fn documents(text: &str) -> Vec<Value> {
    let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    stream.map(|document| document.unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
}

/// Whether a value or anything in it has this key.
fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(map) => map.contains_key(key) || map.values().any(|value| has_key(value, key)),
        Value::Array(list) => list.iter().any(|value| has_key(value, key)),
        _ => false,
    }
}

#[test]
fn every_command_speaks_json() {
    let world = World::hosting(&["example.org"]);
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let server = world.serve();
    let anchor = world.anchor("example.org");
    let at = server.dns.to_string();
    let resolve = ["resolve", "--server", &at, "--trust-anchor", anchor.to_str().unwrap(), "alice@example.org"];
    let publisher = ["token", "add", "--role", "publisher", "--domain", "example.org"];
    let published = ["publish", alice.path()];
    for (arguments, keys) in [
        (&published[..], &["version", "sha256", "outcome", "addresses"][..]),
        (&["list"], &["address"]),
        (&["show", "alice@example.org"], &["address"]),
        (&["history", "alice@example.org"], &["sha256"]),
        (&["changes"], &["version"]),
        (&["domain", "list"], &["domain"]),
        (&["domain", "show", "example.org"], &["ds"]),
        (&["domain", "add", "example.net"], &["domain"]),
        (&publisher, &["token", "role"]),
        (&["token", "list"], &["role"]),
        (&resolve, &["verdict"]),
        (&["withdraw", "alice@example.org"], &["version", "outcome"]),
    ] {
        let mut with = arguments.to_vec();
        with.push("--json");
        let said = world.certdir(&with).ok();
        let documents = documents(&said.text());
        assert!(!documents.is_empty(), "{arguments:?}: {}", said.all());
        for key in keys {
            let found = documents.iter().any(|document| has_key(document, key));
            assert!(found, "{arguments:?}: no {key:?} in {}", said.all());
        }
    }
    // Errors are data, too.
    let refused = world.certdir(&["publish", "--json", "nowhere.pem"]).exits(1);
    assert!(refused.err.contains("nowhere.pem") || refused.text().contains("nowhere.pem"));
}

#[test]
fn one_line_for_each_acknowledged_certificate() {
    let world = World::hosting(&["example.org"]);
    let alice = world.ca.issue(&Request::person("Alice", "email:Alice@example.org"));
    let said = world.publish(&alice);
    let line = said.text();
    let line = line.lines().next().unwrap().to_owned();
    let short = &alice.sha256()[..16];
    let expected = format!("published {short} Alice@example.org (version ");
    assert!(line.starts_with(&expected) && line.ends_with(')'), "{line}");
    let again = world.publish(&alice);
    assert!(again.text().starts_with("unchanged "), "{}", again.all());
}

#[test]
fn serve_announces_its_listeners_and_stops_on_ctrl_c() {
    let world = World::hosting(&["example.org"]);
    let mut server = world.serve();
    let lines = server.lines();
    for listener in [format!("listening dns udp {}", server.dns), format!("listening dns tcp {}", server.dns)] {
        assert!(lines.contains(&listener), "{listener}: {lines:?}");
    }
    let ready = lines.iter().find(|line| line.starts_with("ready version ")).unwrap();
    let version: u64 = ready.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(version < 100, "{ready}");
    // Clients that keep their connections open do not keep the program.
    let _idle = [
        std::net::TcpStream::connect(server.dns).unwrap(),
        std::net::TcpStream::connect(server.ldap).unwrap(),
        std::net::TcpStream::connect(server.http).unwrap(),
    ];
    let (code, took) = server.interrupt();
    assert_eq!(code, Some(0), "{}", server.said());
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_view_that_is_switched_off_stops_nothing() {
    let world = World::hosting(&["example.org"]);
    let mut command = std::process::Command::new(crate::world::CERTDIR);
    command.args(["serve", "--dns", "127.0.0.1:0", "--ldap", "none", "--http", "none"]);
    command.args(["--dot", "none", "--doq", "none", "--https", "none", "--data"]);
    let mut server = crate::world::Server::watch(command.arg(&world.data));
    assert!(!server.lines().iter().any(|line| line.contains("ldap") || line.contains("http")));
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.is_alive(), "{}", server.said());
    let answer = server.dig(&["_smimecert.example.org", "SOA"]);
    assert!(answer.contains("status: NOERROR"), "{answer}");
}

/// Signatures are made once and kept: a restart, or a second node, shows the same ones.
#[test]
fn a_restart_serves_the_same_signatures() {
    let world = World::hosting(&["example.org"]);
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    world.publish(&alice);
    let look = || -> Vec<String> {
        let mut server = world.serve();
        let answers = [
            (owner("alice", "example.org"), "SMIMEA"),
            ("_smimecert.example.org".to_owned(), "SOA"),
            ("_smimecert.example.org".to_owned(), "DNSKEY"),
        ]
        .map(|(name, rtype)| {
            let answer = server.dig(&["+tcp", "+dnssec", "+noall", "+answer", &name, rtype]);
            assert!(answer.contains("RRSIG"), "{answer}");
            answer
        });
        server.interrupt();
        answers.to_vec()
    };
    assert_eq!(look(), look());
}

#[test]
fn a_server_without_domains_says_so_and_serves() {
    let world = World::new();
    let server = world.serve();
    let answer = server.dig(&["example.org", "SMIMEA"]);
    assert!(answer.contains("status: REFUSED"), "{answer}");
    assert_eq!(server.http_certificate("alice@example.org"), None);
    // A domain added by another process is served without a restart.
    world.certdir(&["domain", "add", "example.org"]).ok();
    let answer = server.dig(&["_smimecert.example.org", "SOA"]);
    assert!(answer.contains("status: NOERROR"), "{answer}");
}

#[test]
fn help_and_version() {
    let world = World::new();
    let help = world.certdir(&["--help"]).ok().text();
    for command in [
        "demo", "serve", "domain", "publish", "withdraw", "show", "list", "history", "changes", "resolve", "zone",
        "token",
    ] {
        assert!(help.contains(command), "{command}: {help}");
        world.certdir(&[command, "--help"]).ok();
    }
    let version = world.certdir(&["--version"]).ok().text();
    assert_eq!(version.trim(), concat!("certdir ", env!("CARGO_PKG_VERSION")));
}

/// Keys of zones are secrets; the folder belongs to whoever made it.
#[test]
fn zone_keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::hosting(&["example.org"]);
    let mut found = 0;
    let mut folders = vec![world.data.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains("key") {
                let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", path.display());
                found += 1;
            }
        }
    }
    assert!(found > 0, "no key file in the data folder");
}
