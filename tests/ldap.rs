//! LDAP as its users ask it: OpenLDAP's ldapsearch, GnuPG's gpgsm and dirmngr.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::world::{Issued, Request, World, client, many, run, values};

fn hosting_alice() -> (World, Issued) {
    let world = World::hosting(&["example.org"]);
    let request = Request::person("Alice Example", "email:Alice@example.org");
    let alice = world.ca.issue(&request.rsa());
    world.publish(&alice);
    (world, alice)
}

#[test]
fn root_dse_says_what_the_server_can() {
    let (world, _) = hosting_alice();
    let server = world.serve();
    let everything = ["-s", "base", "-b", "", "(objectClass=*)", "+", "*"];
    let dse = server.ldapsearch(&everything).ok().text();
    for line in ["namingContexts: dc=example,dc=org", "supportedLDAPVersion: 3"] {
        assert!(dse.lines().any(|found| found.eq_ignore_ascii_case(line)), "{line}\n{dse}");
    }
    // RFC 4512 section 5.1: operational attributes only when asked for, and not part of a subtree search.
    let plain = server.ldapsearch(&["-s", "base", "-b", "", "(objectClass=*)"]).ok();
    assert!(!plain.text().contains("namingContexts"), "{}", plain.all());
    let subtree = server.ldapsearch(&["-b", "", "(mail=alice@example.org)", "+"]).ok();
    assert!(!subtree.text().contains("namingContexts"), "{}", subtree.all());
}

#[test]
fn equality_presence_and_boolean_filters_find_the_certificate() {
    let (world, alice) = hosting_alice();
    let server = world.serve();
    for base in ["", "dc=example,dc=org", "DC=Example, DC=ORG"] {
        for filter in [
            "(mail=alice@example.org)",
            "(mail=ALICE@EXAMPLE.ORG)",
            "(cn=alice example)",
            "(uid=alice)",
            "(&(mail=alice@example.org)(objectClass=*))",
            "(|(mail=nobody@example.org)(mail=alice@example.org))",
            "(&(mail=alice@example.org)(!(cn=bob)))",
            "(&(mail=alice@example.org)(userCertificate;binary=*))",
            "(mail=al\\69ce@example.org)",
        ] {
            let found = server.ldapsearch(&["-b", base, filter]).ok().text();
            let certificates = values(&found, "userCertificate;binary");
            assert_eq!(certificates, [alice.der.clone()], "{base:?} {filter}\n{found}");
            assert!(found.contains("mail: "), "{found}");
        }
        for filter in [
            "(mail=nobody@example.org)",
            "(&(mail=alice@example.org)(cn=bob))",
            "(&(mail=alice@example.org)(!(mail=alice@example.org)))",
            "(&(mail=alice@example.org)(noSuchAttribute=x))",
            "(&(mail=alice@example.org)(!(noSuchAttribute=x)))",
        ] {
            let found = server.ldapsearch(&["-b", base, filter]).ok().text();
            assert!(!found.contains("dn:"), "{base:?} {filter}\n{found}");
        }
    }
    // RFC 4511 section 4.1.9: a base that is not there is noSuchObject, not an empty success.
    let elsewhere = ["-b", "dc=example,dc=com", "(mail=alice@example.org)"];
    server.ldapsearch(&elsewhere).exits(32);
}

/// RFC 4522 section 5: asked with or without `;binary`, the answer is named with it. Thunderbird reads nothing else.
#[test]
fn certificates_are_always_named_with_binary() {
    let (world, alice) = hosting_alice();
    let server = world.serve();
    let filter = "(mail=alice@example.org)";
    let expected = [alice.der];
    for attributes in [
        &[][..],
        &["*"],
        &["userCertificate"],
        &["userCertificate;binary"],
        &["usercertificate;binary"],
        &["USERCERTIFICATE;BINARY", "mail"],
        &["userCertificate;binary", "nonsense", "*"],
    ] {
        let mut arguments = vec!["-b", "dc=example,dc=org", filter];
        arguments.extend(attributes);
        let found = server.ldapsearch(&arguments).ok().text();
        assert_eq!(values(&found, "userCertificate;binary"), expected, "{attributes:?}\n{found}");
        let bare = found.to_lowercase().contains("usercertificate::");
        assert!(!bare, "{attributes:?}\n{found}");
    }
    // RFC 4511 section 4.5.1.8: `1.1` is no attributes; names only on request.
    let none = server.ldapsearch(&["-b", "", filter, "1.1"]).ok().text();
    assert!(none.contains("dn: ") && !none.contains("mail:"), "{none}");
    let names = server.ldapsearch(&["-A", "-b", "", filter, "userCertificate"]).ok().text();
    let line = names.lines().find(|line| line.contains("ertificate")).unwrap();
    assert_eq!(line, "userCertificate;binary:");
    let mail = server.ldapsearch(&["-b", "", filter, "mail"]).ok().text();
    assert!(!mail.contains("ertificate"), "{mail}");
}

#[test]
fn strangers_cannot_copy_the_directory() {
    let world = World::hosting(&["example.org"]);
    let folder = world.path("people");
    for (number, (pem, _)) in many(12, "example.org").into_iter().enumerate() {
        world.write(&format!("people/{number}.pem"), pem);
    }
    world.certdir(&["publish", folder.to_str().unwrap()]).ok();
    let server = world.serve();
    for filter in ["(mail=*)", "(objectClass=*)", "(!(mail=x@example.org))", "(|(mail=person1@example.org)(mail=*))"] {
        let found = server.ldapsearch(&["-b", "", filter, "mail"]).exits(4).text();
        assert_eq!(found.matches("dn: ").count(), 5, "{filter}\n{found}");
    }
    let pinned = server.ldapsearch(&["-b", "", "(mail=person7@example.org)", "mail"]).ok().text();
    assert_eq!(pinned.matches("dn: ").count(), 1, "{pinned}");
    // The client's own limit (RFC 4511 section 4.5.1.4), smaller than ours, is honoured with a search result.
    let two = "(|(mail=person1@example.org)(mail=person2@example.org))";
    let limited = server.ldapsearch(&["-z", "1", "-b", "", two, "mail"]).exits(4).text();
    assert_eq!(limited.matches("dn: ").count(), 1, "{limited}");
    let both = server.ldapsearch(&["-z", "2", "-b", "", two, "mail"]).ok().text();
    assert_eq!(both.matches("dn: ").count(), 2, "{both}");
}

#[test]
fn anonymous_binds_are_enough_and_others_are_refused() {
    let (world, _) = hosting_alice();
    let server = world.serve();
    let search = ["-b", "", "(mail=alice@example.org)", "mail"];
    server.ldapsearch(&search).ok();
    // RFC 4513 section 5.1.2: a name without a password (Thunderbird sends one) is not an authenticated bind.
    let mut with_password = vec!["-D", "cn=admin,dc=example,dc=org", "-w", "secret"];
    with_password.extend(search);
    let refused = server.ldapsearch(&with_password);
    assert!(matches!(refused.code, 49 | 53 | 48), "{}", refused.all());
    // A critical control that nobody knows (RFC 4511 section 4.1.11); the same, not critical, is ignored.
    let mut critical = vec!["-e", "!1.2.3.4.5"];
    critical.extend(search);
    server.ldapsearch(&critical).exits(12);
    let mut ignored = vec!["-e", "1.2.3.4.5"];
    ignored.extend(search);
    server.ldapsearch(&ignored).ok();
}

/// A home of GnuPG whose dirmngr knows our server only.
struct Gnupg {
    home: PathBuf,
}

impl Gnupg {
    fn new(world: &World, port: u16) -> Gnupg {
        let home = world.path("gnupg");
        let server = format!("127.0.0.1:{port}:::dc=example,dc=org\n");
        world.write("gnupg/dirmngr_ldapservers.conf", server);
        world.write("gnupg/dirmngr.conf", "disable-http\ndisable-ocsp\nldaptimeout 10\n");
        world.write("gnupg/gpgsm.conf", "disable-crl-checks\n");
        let mut chmod = client("chmod");
        run(chmod.arg("700").arg(&home)).ok();
        Gnupg { home }
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let mut gpgconf = client("gpgconf");
        drop(run(gpgconf.arg("--homedir").arg(&self.home).args(["--kill", "all"])));
    }
}

#[test]
fn gpgsm_fetches_the_certificate_through_dirmngr() {
    let (world, alice) = hosting_alice();
    let server = world.serve();
    let gnupg = Gnupg::new(&world, server.ldap.port());
    let mut gpgsm = client("gpgsm");
    gpgsm.arg("--homedir").arg(&gnupg.home).args(["--batch", "--no-tty", "--with-colons"]);
    let listed = run(gpgsm.args(["--list-external-keys", "<alice@example.org>"]));
    let fingerprint = sha1(&alice.der);
    assert!(listed.text().contains(&fingerprint), "{fingerprint}\n{}", listed.all());
    assert!(listed.text().contains("Alice@example.org"), "{}", listed.all());

    let mut gpgsm = client("gpgsm");
    gpgsm.arg("--homedir").arg(&gnupg.home).args(["--batch", "--no-tty", "--with-colons"]);
    let none = run(gpgsm.args(["--list-external-keys", "<nobody@example.org>"]));
    assert!(!none.text().contains("crt:"), "{}", none.all());
}

#[test]
fn dirmngr_client_looks_the_certificate_up() {
    let (world, alice) = hosting_alice();
    let server = world.serve();
    let gnupg = Gnupg::new(&world, server.ldap.port());
    let mut lookup = client("dirmngr-client");
    lookup.env("GNUPGHOME", &gnupg.home);
    let found = run(lookup.args(["--lookup", "<alice@example.org>"]));
    let text: String = found.text().split_whitespace().collect();
    let expected = data_encoding::BASE64.encode(&alice.der);
    assert!(text.contains(&expected), "{}", found.all());
}

/// GnuPG names certificates by SHA-1.
fn sha1(der: &[u8]) -> String {
    let algorithm = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
    data_encoding::HEXUPPER.encode(ring::digest::digest(algorithm, der).as_ref())
}

#[test]
fn malformed_messages_leave_the_server_alive() {
    let (world, alice) = hosting_alice();
    let mut server = world.serve();
    let bad: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0xff; 64],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        // Lengths: indefinite, of 2^32 - 1, of 2^63.
        vec![0x30, 0x80, 2, 1, 1],
        vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1, 1],
        vec![0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1, 1],
        // No operation; a message number of 0; a negative one.
        vec![0x30, 3, 2, 1, 1],
        vec![0x30, 5, 2, 1, 0, 0x42, 0],
        vec![0x30, 5, 2, 1, 0x80, 0x42, 0],
        // A response as a request.
        vec![0x30, 12, 2, 1, 1, 0x65, 7, 10, 1, 0, 4, 0, 4, 0],
        // A filter of 10,000 nested `not`s.
        {
            let mut filter = vec![0x87, 1, b'a'];
            for _ in 0..2000 {
                let length = u16::try_from(filter.len()).unwrap().to_be_bytes();
                filter = [&[0xa2, 0x82, length[0], length[1]][..], &filter].concat();
            }
            let fixed: &[u8] = &[4, 0, 10, 1, 2, 10, 1, 0, 2, 1, 0, 2, 1, 0, 1, 1, 0];
            let tlv = |tag: u8, body: &[u8]| {
                let length = u16::try_from(body.len()).unwrap().to_be_bytes();
                [&[tag, 0x82, length[0], length[1]][..], body].concat()
            };
            let search = tlv(0x63, &[fixed, &filter, &[0x30, 0]].concat());
            tlv(0x30, &[&[2, 1, 1][..], &search].concat())
        },
    ];
    for message in &bad {
        let mut stream = TcpStream::connect(server.ldap).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        drop(stream.write_all(message));
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap_or_default();
        // Whatever came back is no search result entry, and no success.
        let answer = &answer[..length];
        if let Some(&first) = answer.get(1) {
            let header = if first & 0x80 == 0 { 2 } else { 2 + usize::from(first & 0x7f) };
            assert_ne!(answer[header + 3], 0x64, "{answer:02x?}");
            let success = answer.windows(3).any(|octets| octets == [10, 1, 0]);
            assert!(!success, "{answer:02x?}");
        }
    }
    assert!(server.is_alive(), "{}", server.said());
    assert_eq!(server.ldap_certificates("alice@example.org"), [alice.der]);
}

/// The same entry says which Version it was published at, so that a mirror can tell what changed.
#[test]
fn entries_carry_their_version() {
    let (world, _) = hosting_alice();
    let server = world.serve();
    let ask = || {
        let found = server.ldapsearch(&["-b", "", "(mail=alice@example.org)", "entryCSN"]);
        let found = found.ok().text();
        let line = found.lines().find(|line| line.starts_with("entryCSN: "));
        line.unwrap_or_else(|| panic!("no entryCSN: {found}")).to_owned()
    };
    let before = ask();
    let next = world.ca.issue(&Request::person("Alice Example", "email:alice@example.org"));
    world.publish(&next);
    assert!(ask() > before, "{before} {}", ask());
}
