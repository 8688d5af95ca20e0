//! Who may publish: nobody publishes in another organisation's name.

use crate::world::{PATIENCE, Request, Said, World, until};

/// A token that may publish for one domain.
#[track_caller]
pub(crate) fn publisher(world: &World, domain: &str) -> String {
    let arguments = ["token", "add", "--role", "publisher", "--domain", domain, "--json"];
    let added = world.certdir(&arguments).ok().json();
    added["token"].as_str().unwrap().to_owned()
}

fn one_line(said: &Said) -> &str {
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines.len(), 1, "{}", said.all());
    lines[0]
}

#[test]
fn wrong_tokens_and_tokens_of_another_domain_are_refused() {
    let world = World::hosting(&["example.org", "example.net"]);
    let token = publisher(&world, "example.net");
    let server = world.serve();
    let url = format!("http://{}", server.http);
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let carol = world.ca.issue(&Request::person("Carol", "email:carol@example.net"));
    let publish = |token: &str, path: &str| world.certdir(&["publish", "--url", &url, "--token", token, path]);

    let wrong = publish("not-a-token", alice.path()).exits(1);
    assert!(one_line(&wrong).contains("token"), "{}", wrong.all());

    let foreign = publish(&token, alice.path()).exits(1);
    assert!(one_line(&foreign).contains("example.org"), "{}", foreign.all());
    assert_eq!(server.http_certificate("alice@example.org"), None);

    publish(&token, carol.path()).ok();
    assert_eq!(server.http_certificate("carol@example.net"), Some(carol.der));

    // Neither may it withdraw there.
    world.publish(&alice);
    let address = "alice@example.org";
    let withdraw = ["withdraw", "--url", &url, "--token", &token, address];
    let refused = world.certdir(&withdraw).exits(1);
    one_line(&refused);
    let seen = until("published beside", PATIENCE, || server.http_certificate(address));
    assert_eq!(seen, alice.der);

    // Without any token: the same, by hand.
    let file = format!("@{}", alice.path());
    let (code, body) = server.curl(&["--data-binary", &file], "/v1/certificates");
    assert_eq!(code, 401, "{}", String::from_utf8_lossy(&body));
}

#[test]
fn revoked_tokens_open_nothing_and_are_not_shown_again() {
    let world = World::hosting(&["example.org"]);
    let token = publisher(&world, "example.org");
    let server = world.serve();
    let url = format!("http://{}", server.http);
    let listed = world.certdir(&["token", "list", "--json"]).ok().text();
    assert!(!listed.contains(&token), "a token is stored hashed: {listed}");
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let remote = ["publish", "--url", &url, "--token", &token, alice.path()];
    world.certdir(&remote).ok();

    let id = world.certdir(&["token", "list"]).ok().text();
    let id = id
        .lines()
        .find(|line| line.contains("example.org"))
        .and_then(|line| line.split_whitespace().next())
        .unwrap()
        .to_owned();
    world.certdir(&["token", "revoke", &id]).ok();
    let bob = world.ca.issue(&Request::person("Bob", "email:bob@example.org"));
    let remote = ["publish", "--url", &url, "--token", &token, bob.path()];
    let refused = world.certdir(&remote).exits(1);
    assert!(one_line(&refused).contains("token"), "{}", refused.all());
    assert_eq!(server.http_certificate("bob@example.org"), None);

    // The store holds no token in clear.
    for file in std::fs::read_dir(&world.data).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

/// A certificate with one hosted and one foreign address is published for the hosted one, with a warning.
#[test]
fn a_foreign_address_beside_a_hosted_one_is_left_out_with_a_warning() {
    let world = World::hosting(&["example.org"]);
    let names = "email:alice@example.org,email:alice@example.com";
    let alice = world.ca.issue(&Request::person("Alice", names));
    let said = world.publish(&alice);
    let all = said.text() + &said.err;
    assert!(all.contains("alice@example.com"), "{all}");
    assert!(all.to_lowercase().contains("warning"), "{all}");
    let server = world.serve();
    assert_eq!(server.http_certificate("alice@example.org"), Some(alice.der));
    assert_eq!(server.http_certificate("alice@example.com"), None);
}
