//! HTTP as its users ask it: curl, as a person with a browser would, and as a machine would.

use crate::world::{Issued, Request, World, lookup, to_der};

fn hosting_alice() -> (World, Issued) {
    let world = World::hosting(&["example.org"]);
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org").rsa());
    world.publish(&alice);
    (world, alice)
}

#[test]
fn one_address_in_three_forms() {
    let (world, alice) = hosting_alice();
    let server = world.serve();
    let path = lookup("alice@example.org");

    let (code, der) = server.curl(&["-H", "Accept: application/pkix-cert"], &path);
    assert_eq!((code, &der), (200, &alice.der));

    let (code, pem) = server.curl(&["-H", "Accept: application/x-pem-file"], &path);
    assert_eq!(code, 200);
    assert_eq!(to_der(&pem), alice.der);

    let (code, json) = server.curl(&["-H", "Accept: application/json"], &path);
    assert_eq!(code, 200);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(json.to_string().contains(&alice.sha256()), "{json}");

    // The look-up ignores case where mailboxes do (RFC 8550 section 3).
    assert_eq!(server.http_certificate("Alice@EXAMPLE.org"), Some(alice.der));
    assert_eq!(server.http_certificate("nobody@example.org"), None);
    assert_eq!(server.http_certificate("alice@example.com"), None);
}

#[test]
fn a_cache_can_ask_whether_anything_changed() {
    let (world, _) = hosting_alice();
    let server = world.serve();
    let path = lookup("alice@example.org");
    let (_, head) = server.curl(&["-D", "-", "-o", "/dev/null"], &path);
    let head = String::from_utf8(head).unwrap();
    let tag = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("etag").then(|| value.trim().to_owned())
        })
        .unwrap_or_else(|| panic!("no ETag: {head}"));
    let header = format!("If-None-Match: {tag}");
    let (code, body) = server.curl(&["-H", &header], &path);
    assert_eq!((code, body.len()), (304, 0));

    let next = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    world.publish(&next);
    assert_eq!(server.http_certificate("alice@example.org"), Some(next.der));
    let (code, _) = server.curl(&["-H", &header], &path);
    assert_eq!(code, 200);
}

#[test]
fn the_public_page_and_the_machines_pages() {
    let (world, _) = hosting_alice();
    let server = world.serve();
    let (code, page) = server.curl(&["-H", "Accept: text/html"], "/");
    let page = String::from_utf8(page).unwrap();
    assert_eq!(code, 200);
    assert!(page.contains("<form"), "{page}");
    let (code, health) = server.curl(&[], "/healthz");
    assert_eq!(code, 200, "{}", String::from_utf8_lossy(&health));
    let (code, metrics) = server.curl(&[], "/metrics");
    let metrics = String::from_utf8(metrics).unwrap();
    assert_eq!(code, 200);
    assert!(metrics.contains("# TYPE certdir_"), "{metrics}");
    for (path, expected) in
        [("/nowhere", 404), ("/v1/addresses/", 404), ("/v1/addresses/alice", 400), ("/v1/certificates/00", 400)]
    {
        let (code, _) = server.curl(&[], path);
        assert_eq!(code, expected, "{path}");
    }
    // What a person typed comes back as text, never as markup.
    let (_, page) = server.curl(&["-H", "Accept: text/html"], "/lookup?address=%3Cscript%3Ealert(1)%3C/script%3E");
    let page = String::from_utf8(page).unwrap();
    assert!(!page.contains("<script>alert"), "{page}");
}

/// Look-ups are limited for each source, on LDAP and HTTP alike: one allowance for both.
#[test]
fn look_ups_are_limited_for_each_source() {
    let (world, _) = hosting_alice();
    let limits = ["--lookups-per-second", "1", "--lookups-burst", "10"];
    let server = world.serve_with(&mut std::process::Command::new(crate::world::CERTDIR), &limits);
    let path = lookup("alice@example.org");
    let codes: Vec<u32> = (0..20).map(|_| server.curl(&[], &path).0).collect();
    let taken = codes.iter().filter(|code| **code == 200).count();
    let refused = codes.iter().filter(|code| **code == 429).count();
    assert!(taken >= 10 && refused >= 1 && taken + refused == codes.len(), "{codes:?}");
    // 51: busy. Refused, so never mistaken for an address without a certificate.
    let busy = (0..3).any(|_| {
        let search = ["-b", "", "(mail=alice@example.org)", "mail"];
        server.ldapsearch(&search).code == 51
    });
    assert!(busy, "the allowance is shared with LDAP");
}

/// Publishing and withdrawing from another machine, with a token.
#[test]
fn publish_and_withdraw_with_a_bearer_token() {
    let world = World::hosting(&["example.org"]);
    let token = crate::tokens::publisher(&world, "example.org");
    let server = world.serve();
    let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
    let url = format!("http://{}", server.http);

    let remote = ["publish", "--url", &url, "--token", &token, "--json", alice.path()];
    let report = world.certdir(&remote).ok();
    assert!(report.text().contains(&alice.sha256()), "{}", report.all());
    // Acknowledged means visible: no waiting here.
    assert_eq!(server.http_certificate("alice@example.org"), Some(alice.der.clone()));
    assert_eq!(server.ldap_certificates("alice@example.org"), [alice.der.clone()]);
    let name = crate::world::owner("alice", "example.org");
    assert_eq!(server.smimea(&name), [alice.der]);

    let withdraw = ["withdraw", "--url", &url, "--token", &token, "alice@example.org"];
    world.certdir(&withdraw).ok();
    assert_eq!(server.http_certificate("alice@example.org"), None);
    assert!(server.ldap_certificates("alice@example.org").is_empty());
    assert!(server.smimea(&name).is_empty());
}
