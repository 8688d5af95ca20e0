//! Bad input: one clear line, nothing changes, and an exit code a script can use.

use std::fs;

use crate::world::{DAY, Issued, Request, World, now};

/// What the directory shows: nothing of it may change by something refused.
fn state(world: &World) -> String {
    let listed = world.certdir(&["list", "--json"]).ok().text();
    let changes = world.certdir(&["changes", "--json"]).ok().text();
    listed + &changes
}

/// Each is refused with exit code 1 and exactly one line on standard error that holds the words given.
#[test]
fn refused_input_gets_one_clear_line_and_changes_nothing() {
    let world = World::hosting(&["example.org"]);
    let good = world.ca.issue(&Request::person("Good", "email:good@example.org"));
    world.publish(&good);
    let ask = |request: Request<'_>| world.ca.issue(&request).cert;
    let person = |names| Request::person("Alice", names);
    let alice = "email:alice@example.org";

    let truncated = {
        let whole: Issued = world.ca.issue(&person(alice));
        world.write("truncated.der", &whole.der[..whole.der.len() / 2])
    };
    let trailing = {
        let whole: Issued = world.ca.issue(&person(alice));
        world.write("trailing.der", [&whole.der[..], b"more"].concat())
    };
    let private = world.ca.issue(&person(alice)).key;
    let large = {
        let noise: Vec<u8> = (0..10_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        world.write("large.der", noise)
    };
    let large_text = world.write("large.pem", "no certificate in here\n".repeat(450_000));
    let cases = [
        ("a text file", world.write("notes.txt", "Dear Sir,\n"), &["certificate"][..]),
        ("an empty file", world.write("empty.pem", ""), &["empty.pem"]),
        ("a file that is not there", world.path("nowhere.pem"), &["nowhere.pem"]),
        ("a private key", private, &["private key"]),
        ("truncated DER", truncated, &["truncated"]),
        ("trailing octets", trailing, &["trailing.der"]),
        ("10 MB of noise", large, &["large.der"]),
        ("10 MB of text", large_text, &["large.pem"]),
        ("no name that fits", ask(person("URI:https://example.org/")), &["address"]),
        ("an address elsewhere", ask(person("email:alice@example.com")), &["example.com"]),
        ("expired", ask(person(alice).valid(now() - 30 * DAY, now() - DAY)), &["expired"]),
        ("a CA certificate", ask(Request { is_ca: true, key_usage: "critical,keyCertSign", ..person(alice) }), &["CA"]),
        ("a server's certificate", ask(Request { purpose: "serverAuth", ..person(alice) }), &["e-mail"]),
    ];
    let before = state(&world);
    for (what, path, words) in cases {
        let said = world.certdir(&["publish", path.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{what}: {}", said.all());
        let lines: Vec<&str> = said.err.lines().collect();
        assert_eq!(lines.len(), 1, "{what}: {}", said.all());
        for word in words {
            let found = lines[0].to_lowercase().contains(&word.to_lowercase());
            assert!(found, "{what}: no {word:?} in {}", lines[0]);
        }
        assert!(!lines[0].contains("panicked"), "{what}: {}", lines[0]);
        assert_eq!(state(&world), before, "{what} changed something");
    }
}

/// A certificate that can only sign is no mistake; nobody can encrypt to it, so nobody sees it.
#[test]
fn a_certificate_for_signing_is_kept_and_not_shown() {
    let world = World::hosting(&["example.org"]);
    let person = Request::person("Alice", "email:alice@example.org");
    let signing = world.ca.issue(&Request { key_usage: "critical,digitalSignature", ..person });
    let said = world.publish(&signing);
    assert!(said.text().starts_with("kept "), "{}", said.all());
    let server = world.serve();
    assert_eq!(server.http_certificate("alice@example.org"), None);
    assert!(server.ldap_certificates("alice@example.org").is_empty());
    assert!(server.smimea(&crate::world::owner("alice", "example.org")).is_empty());
}

#[test]
fn a_folder_with_one_bad_file_publishes_the_good_ones() {
    let world = World::hosting(&["example.org"]);
    fs::create_dir(world.path("in")).unwrap();
    for (file, name) in [("1.pem", "alice"), ("3.der", "bob")] {
        let issued = world.ca.issue(&Request::person(name, &format!("email:{name}@example.org")));
        let bytes = if file.ends_with("der") { issued.der } else { fs::read(issued.cert).unwrap() };
        world.write(&format!("in/{file}"), bytes);
    }
    world.write("in/2-broken.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    world.write("in/notes.txt", "Dear Sir,\n");
    let folder = world.path("in");
    let said = world.certdir(&["publish", folder.to_str().unwrap()]).exits(4);
    let named: Vec<&str> = said.err.lines().collect();
    assert_eq!(named.len(), 2, "{}", said.all());
    for file in ["2-broken.pem", "notes.txt"] {
        assert!(named.iter().any(|line| line.contains(file)), "{file}: {}", said.all());
    }
    assert_eq!(said.text().matches("published ").count(), 2, "{}", said.all());
    let listed = world.certdir(&["list"]).ok().text();
    assert!(listed.contains("alice@example.org") && listed.contains("bob@example.org"), "{listed}");

    // Nothing but bad ones: exit 1.
    fs::remove_file(world.path("in/1.pem")).unwrap();
    fs::remove_file(world.path("in/3.der")).unwrap();
    world.certdir(&["publish", folder.to_str().unwrap()]).exits(1);
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let world = World::hosting(&["example.org"]);
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let before = state(&world);
    let said = world.certdir(&["publish", "--dry-run", alice.path()]).ok();
    assert!(said.text().contains("alice@example.org"), "{}", said.all());
    assert_eq!(state(&world), before);
}

#[test]
fn wrong_arguments_are_named() {
    let world = World::hosting(&["example.org"]);
    for (arguments, word) in [
        (&["domain", "add", "not a domain"][..], "domain"),
        (&["domain", "add", ""], "domain"),
        (&["domain", "add", "example.org"], "example.org"),
        (&["withdraw", "nobody@example.org"], "nobody@example.org"),
        (&["withdraw", &"0".repeat(64)], "0000"),
        (&["withdraw", "nonsense"], "nonsense"),
        (&["history", "alice"], "alice"),
        (&["zone", "export", "example.com"], "example.com"),
        (&["resolve", "no-address"], "no-address"),
        (&["token", "add", "--role", "publisher", "--domain", "example.com"], "example.com"),
        (&["publish", "--address", "x@example.com", "nowhere.pem"], ""),
    ] {
        let said = world.certdir(arguments).exits(1);
        assert_eq!(said.err.lines().count(), 1, "{arguments:?}: {}", said.all());
        assert!(said.err.contains(word), "{arguments:?}: {}", said.all());
    }
    // Usage errors: clap's own text, but never exit code 2 or 3, which mean None and Unknown.
    for arguments in [&["resolve"][..], &["publish"], &["no-such-command"], &["serve", "--no-such-flag"]] {
        let said = world.certdir(arguments).exits(1);
        assert!(!said.err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_configuration_file_is_read_strictly() {
    let world = World::hosting(&["example.org"]);
    let file = world.write("certdir.toml", "dtaa = \"elsewhere\"\n");
    let said = world.certdir(&["--config", file.to_str().unwrap(), "list"]).exits(1);
    assert_eq!(said.err.lines().count(), 1, "{}", said.all());
    assert!(said.err.contains("dtaa") && said.err.contains("data"), "{}", said.all());
}
