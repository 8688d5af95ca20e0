//! The story the program exists for: publish, find, encrypt, decrypt; reissue; withdraw.

use std::path::PathBuf;

use crate::world::{DAY, Issued, Request, Said, Server, World, client, now, owner, run};

const MESSAGE: &[u8] = b"Subject: minutes\r\n\r\nThe board meets on Thursday.\r\n";

/// `certdir resolve` as a gateway would: the zone's key as the only anchor, our server as the only source.
fn resolve(world: &World, server: &Server, domain: &str, more: &[&str]) -> Said {
    let anchor = world.anchor(domain);
    let at = server.dns.to_string();
    let mut arguments = vec!["resolve", "--server", &at, "--trust-anchor", anchor.to_str().unwrap()];
    arguments.extend(more);
    world.certdir(&arguments)
}

/// The certificate the resolver gives, as a PEM file for the next command.
#[track_caller]
fn resolved(world: &World, server: &Server, address: &str) -> PathBuf {
    let domain = address.split('@').nth(1).unwrap();
    let pem = resolve(world, server, domain, &["--pem", address]).ok().out;
    world.write("recipient.pem", pem)
}

#[track_caller]
fn encrypt(world: &World, recipient: &PathBuf) -> PathBuf {
    let (message, mail) = (world.write("message", MESSAGE), world.path("mail.p7m"));
    let mut cms = client("openssl");
    cms.args(["cms", "-encrypt", "-binary", "-aes256", "-in"]).arg(message);
    run(cms.arg("-out").arg(&mail).arg(recipient)).ok();
    mail
}

fn decrypt(mail: &PathBuf, owner: &Issued) -> Said {
    let mut cms = client("openssl");
    cms.args(["cms", "-decrypt", "-binary", "-in"]).arg(mail);
    run(cms.arg("-recip").arg(&owner.cert).arg("-inkey").arg(&owner.key))
}

#[track_caller]
fn mail_reaches(world: &World, server: &Server, address: &str, owner: &Issued) {
    let mail = encrypt(world, &resolved(world, server, address));
    let said = decrypt(&mail, owner).ok();
    assert_eq!(said.out, MESSAGE, "{}", said.all());
}

#[track_caller]
fn everywhere(server: &Server, address: &str, issued: &Issued) {
    let (local, domain) = address.split_once('@').unwrap();
    assert_eq!(server.http_certificate(address).as_ref(), Some(&issued.der), "HTTP");
    assert_eq!(server.smimea(&owner(local, domain)), [issued.der.clone()], "DNS");
    assert_eq!(server.ldap_certificates(address), [issued.der.clone()], "LDAP");
}

fn nowhere(server: &Server, address: &str) {
    assert_eq!(server.http_certificate(address), None, "HTTP");
    assert!(server.ldap_certificates(address).is_empty(), "LDAP");
}

#[test]
fn publish_encrypt_reissue_withdraw() {
    let world = World::hosting(&["example.org"]);
    let server = world.serve();
    let address = "alice@example.org";
    let person = || Request::person("Alice", "email:alice@example.org").rsa();

    // Before: nothing there, and that is proven.
    let none = resolve(&world, &server, "example.org", &[address]).exits(2);
    assert!(none.text().to_lowercase().contains("none"), "{}", none.all());

    let first = world.ca.issue(&person().valid(now() - 30 * DAY, now() + 60 * DAY));
    world.publish(&first);
    everywhere(&server, address, &first);
    mail_reaches(&world, &server, address, &first);

    // The reissue is followed by all three views and by the resolver, by themselves.
    let second = world.ca.issue(&person().valid(now() - DAY, now() + 300 * DAY));
    world.publish(&second);
    everywhere(&server, address, &second);
    mail_reaches(&world, &server, address, &second);
    let mail = encrypt(&world, &resolved(&world, &server, address));
    assert_ne!(decrypt(&mail, &first).code, 0, "the old key must not open new mail");

    // Published late, an older certificate is history, not news.
    let older = world.ca.issue(&person().valid(now() - 20 * DAY, now() + 300 * DAY));
    let said = world.certdir(&["publish", older.path()]);
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(said.text().contains("superseded"), "{}", said.all());
    everywhere(&server, address, &second);

    // Withdrawn: no older one comes back, the resolver says None.
    world.certdir(&["withdraw", address, "--reason", "left the company"]).ok();
    nowhere(&server, address);
    assert!(server.smimea(&owner("alice", "example.org")).is_empty(), "DNS");
    resolve(&world, &server, "example.org", &["--pem", address]).exits(2);
    let history = world.certdir(&["history", address]).ok().text();
    for issued in [&first, &second, &older] {
        assert!(history.contains(&issued.sha256()[..16]), "{history}");
    }
}

#[test]
fn an_elliptic_curve_key_receives_mail_too() {
    let world = World::hosting(&["example.org"]);
    let server = world.serve();
    let issued = world.ca.issue(&Request::person("Eve", "email:eve@example.org"));
    world.publish(&issued);
    everywhere(&server, "eve@example.org", &issued);
    mail_reaches(&world, &server, "eve@example.org", &issued);
}

#[test]
fn after_a_withdrawal_the_domain_certificate_applies() {
    let world = World::hosting(&["example.net"]);
    let server = world.serve();
    let address = "carol@example.net";
    let carol = world.ca.issue(&Request::person("Carol", "email:carol@example.net").rsa());
    // The gateway's certificate names nobody and no domain; the publisher says whose it is.
    let gateway = world.ca.issue(&Request::person("Mail gateway 7", "").rsa());
    world.publish(&carol);
    world.certdir(&["publish", "--domain-certificate", "example.net", gateway.path()]).ok();
    everywhere(&server, address, &carol);
    mail_reaches(&world, &server, address, &carol);
    // Somebody without a certificate of their own is reached through the gateway.
    mail_reaches(&world, &server, "dave@example.net", &gateway);

    world.certdir(&["withdraw", &carol.sha256()]).ok();
    nowhere(&server, address);
    mail_reaches(&world, &server, address, &gateway);
    let explained = resolve(&world, &server, "example.net", &["--explain", address]).ok();
    assert!(explained.text().to_lowercase().contains("domain"), "{}", explained.all());
}

/// No path leads from an error to "no certificate".
#[test]
fn errors_are_unknown_never_none() {
    let world = World::hosting(&["example.org", "example.net"]);
    let issued = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    world.publish(&issued);
    let mut server = world.serve();
    let address = "alice@example.org";
    resolve(&world, &server, "example.org", &[address]).ok();

    // Signed by a key that the anchor does not name: bogus.
    let wrong = {
        let other = std::fs::read_to_string(world.anchor("example.net")).unwrap();
        let other = other.replace("_smimecert.example.net", "_smimecert.example.org");
        world.write("wrong.key", other)
    };
    let at = server.dns.to_string();
    let wrong = wrong.to_str().unwrap().to_owned();
    let ask = |anchor: &str, address: &str| {
        let flags = ["resolve", "--server", &at, "--trust-anchor", anchor, address];
        world.certdir(&flags)
    };
    for name in [address, "nobody@example.org"] {
        let bogus = ask(&wrong, name).exits(3);
        assert!(bogus.text().to_lowercase().contains("unknown"), "{}", bogus.all());
    }
    // Nobody answers.
    let anchor = world.anchor("example.org");
    server.kill();
    ask(anchor.to_str().unwrap(), address).exits(3);
}

/// A private CA's own certificate, published for its domain, so that partners can trust the domain's people.
#[test]
fn a_domains_own_authority_is_published() {
    let world = World::hosting(&["example.org"]);
    let ca = world.ca.cert.to_str().unwrap().to_owned();
    world.certdir(&["publish", "--authority", "example.org", &ca]).ok();
    let server = world.serve();
    let name = owner("domain-confidentiality-authority", "example.org");
    let records = server.dig(&["+tcp", "+short", "+nosplit", &name, "SMIMEA"]);
    assert!(records.lines().any(|line| line.starts_with("2 0 0 ")), "{records}");
    let node = ["-s", "base", "-b", "dc=example,dc=org", "(objectClass=*)", "cACertificate"];
    let found = server.ldapsearch(&node).ok().text();
    let authority = crate::world::to_der(&std::fs::read(&world.ca.cert).unwrap());
    assert_eq!(crate::world::values(&found, "cACertificate;binary"), [authority], "{found}");
}

#[test]
fn an_alias_is_published_on_the_publishers_word() {
    let world = World::hosting(&["example.org"]);
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let alias = ["publish", "--address", "a.liddell@example.org", alice.path()];
    world.certdir(&alias).ok();
    let server = world.serve();
    everywhere(&server, "alice@example.org", &alice);
    everywhere(&server, "a.liddell@example.org", &alice);
}
