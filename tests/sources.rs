//! `certdir resolve` by every kind of source, each against the running program: DNS, LDAP, HTTP, a folder.

use std::path::Path;

use crate::world::{Issued, Request, Said, Server, World};

struct Gateway<'a> {
    world: &'a World,
    server: &'a Server,
}

impl Gateway<'_> {
    fn resolve(&self, more: &[&str]) -> Said {
        let (anchor, at) = (self.world.anchor("example.org"), self.server.dns.to_string());
        let known = ["resolve", "--server", &at, "--trust-anchor", anchor.to_str().unwrap()];
        self.world.certdir(&[&known[..], more].concat())
    }

    /// Like a gateway that trusts the world's certification authority.
    fn trusting(&self, more: &[&str]) -> Said {
        let ca = self.world.ca.cert.to_str().unwrap().to_owned();
        self.resolve(&[&["--authority", &ca, "--revocation", "soft"][..], more].concat())
    }

    #[track_caller]
    fn uses(&self, said: Said, issued: &Issued, matched: &str) {
        let line = said.ok().text();
        let words: Vec<&str> = line.trim_end().split('\t').collect();
        assert_eq!((words[0], words[2]), ("use", matched), "{line}");
        assert!(words[3].starts_with(&issued.sha256()), "{line}");
    }
}

fn world() -> World {
    let world = World::new();
    let add = ["domain", "add", "example.org", "--hosting", "mail", "--name-server", "ns.example.net"];
    world.certdir(&add).ok();
    world
}

#[test]
fn every_kind_of_source_finds_the_certificate() {
    let world = world();
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    world.publish(&alice);
    let server = world.serve();
    let gateway = Gateway { world: &world, server: &server };
    let folder = world.path("certificates");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(alice.path(), folder.join("alice.pem")).unwrap();

    let ldap = format!("ldap://{}/", server.ldap);
    let certdir = format!("certdir:http://{}", server.http);
    let store = format!("store:{}", server.url("/search.cgi"));
    let folder = format!("folder:{}", folder.display());
    let (smimea, cert) = ("smimea".to_owned(), "cert".to_owned());
    for vouched in [&smimea, &cert, &folder] {
        gateway.uses(gateway.resolve(&["--source", vouched, "alice@example.org"]), &alice, "recipient");
    }
    for bare in [&ldap, &certdir, &store] {
        let said = gateway.resolve(&["--source", bare, "alice@example.org"]).exits(2);
        assert!(said.text().contains("none"), "without an authority nothing vouches for it: {}", said.all());
        gateway.uses(gateway.trusting(&["--source", bare, "alice@example.org"]), &alice, "recipient");
    }
    for source in [&smimea, &cert, &ldap, &certdir, &store, &folder] {
        let chained = format!("chain:{source}");
        gateway.resolve(&["--source", &chained, "alice@example.org"]).exits(2);
        gateway.uses(gateway.trusting(&["--source", &chained, "alice@example.org"]), &alice, "recipient");
        let nobody = gateway.trusting(&["--source", source, "bob@example.org"]).exits(2);
        assert!(nobody.text().starts_with("none\tbob@example.org"), "{source}: {}", nobody.all());
    }
    // No certificate of this authority says where its revocation lists are: hard means that nobody knows.
    let ca = world.ca.cert.to_str().unwrap();
    let said = gateway.resolve(&["--authority", ca, "--source", &ldap, "--explain", "alice@example.org"]).exits(3);
    assert!(said.text().contains("revocation-unknown"), "{}", said.all());

    // All at once, the explanation tells of each.
    let all = [&smimea, &cert, &ldap, &certdir, &store, &folder].map(String::as_str).join(" ");
    let said = gateway.trusting(&["--source", &all, "--explain", "alice@example.org"]).ok().text();
    for source in ["smimea", "cert", "ldap://", "certdir:http://", "store:http://", "folder:"] {
        assert!(said.contains(&format!("asked {source}")), "{source}: {said}");
    }
    assert_eq!(said.matches("chosen").count(), 1, "{said}");
}

#[test]
fn what_is_down_is_unknown_and_what_comes_after_it_is_asked() {
    let world = world();
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    world.publish(&alice);
    let server = world.serve();
    let gateway = Gateway { world: &world, server: &server };
    for down in ["ldap://127.0.0.1:9/", "store:http://127.0.0.1:9/", "certdir:http://127.0.0.1:9", "folder:/nowhere"] {
        let said = gateway.trusting(&["--source", down, "alice@example.org"]).exits(3);
        assert!(said.text().starts_with("unknown\talice@example.org"), "{down}: {}", said.all());
        let after = gateway.trusting(&["--source", down, "--source", "smimea", "alice@example.org"]);
        gateway.uses(after, &alice, "recipient");
        // A source that failed may have had it: nothing proves that there is none.
        gateway.trusting(&["--source", "smimea", "--source", down, "bob@example.org"]).exits(3);
    }
}

#[test]
fn managed_beats_harvested() {
    let world = world();
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let harvested = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let bob = world.ca.issue(&Request::person("Bob", "email:bob@example.org"));
    world.publish(&alice);
    let server = world.serve();
    let gateway = Gateway { world: &world, server: &server };
    let folder = world.path("harvested");
    std::fs::create_dir(&folder).unwrap();
    let keep = |issued: &Issued, name: &str| std::fs::copy(Path::new(issued.path()), folder.join(name)).unwrap();
    keep(&harvested, "alice.pem");
    keep(&bob, "bob.pem");
    let source = format!("harvested:folder:{}", folder.display());
    let ask = |who| gateway.trusting(&["--source", &source, "--source", "smimea", who]);
    gateway.uses(ask("alice@example.org"), &alice, "recipient");
    gateway.uses(ask("bob@example.org"), &bob, "recipient");
    ask("carol@example.org").exits(2);
    // Anybody can mail a certificate: without an authority it is nobody's, unless the operator vouches for the folder.
    gateway.resolve(&["--source", &source, "bob@example.org"]).exits(2);
    let vouched = format!("harvested:vouched:folder:{}", folder.display());
    gateway.uses(gateway.resolve(&["--source", &vouched, "bob@example.org"]), &bob, "recipient");
}

#[test]
fn sources_are_named_strictly() {
    let world = World::new();
    for bad in ["dns", "ldap://h/b?cn", "folder:", "http://h/", ""] {
        let said = world.certdir(&["resolve", "--source", bad, "alice@example.org"]).exits(1);
        assert!(said.err.contains("--source"), "{bad}: {}", said.err);
    }
}
