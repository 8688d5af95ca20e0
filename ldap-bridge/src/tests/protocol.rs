//! Everything that is not a search: binds, comparisons, refused operations, broken messages, slow and silent peers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use certdir_directory::Allowance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fixture::{NOW, World, message, search};
use crate::ber::{self, BOOLEAN, INTEGER, OCTETS, SEQUENCE};
use crate::filter::tests::ber_of;
use crate::message::Scope;

fn simple_bind(version: i32, name: &str, password: &str) -> impl FnOnce(&mut Vec<u8>) {
    let (name, password) = (name.to_owned(), password.to_owned());
    move |out| {
        let bind = ber::open(out, 0x60);
        ber::put_integer(out, INTEGER, version);
        ber::put(out, OCTETS, name.as_bytes());
        ber::put(out, 0x80, password.as_bytes());
        ber::close(out, bind);
    }
}

/// RFC 4511 section 4.2, RFC 4513 section 5.1.
#[tokio::test]
async fn binds() {
    let mut client = World::new().await.connect().await;
    for (version, name, password, code) in [
        (3, "", "", 0),
        (3, "cn=admin,dc=example,dc=org", "", 53),
        (3, "cn=admin,dc=example,dc=org", "secret", 49),
        (3, "", "secret", 49),
        (2, "", "", 2),
    ] {
        let response = client.request(simple_bind(version, name, password)).await;
        assert_eq!((response.tag, response.code), (0x61, code), "{name:?} {password:?}");
        assert_eq!(response.diagnostic.is_empty(), code == 0);
    }
    let sasl = client
        .request(|out| {
            let bind = ber::open(out, 0x60);
            ber::put_integer(out, INTEGER, 3);
            ber::put(out, OCTETS, b"");
            let credentials = ber::open(out, 0xa3);
            ber::put(out, OCTETS, b"EXTERNAL");
            ber::close(out, credentials);
            ber::close(out, bind);
        })
        .await;
    assert_eq!((sasl.tag, sasl.code), (0x61, 7));
    let found = client.subtree("", "(uid=alice)", &["mail"]).await;
    assert_eq!(found.entries.len(), 1, "a refused bind leaves the session anonymous");
}

#[tokio::test]
async fn writes_are_refused_each_with_its_own_response() {
    let mut client = World::new().await.connect().await;
    for (request, response) in [(0x66, 0x67), (0x68, 0x69), (0x4a, 0x6b), (0x6c, 0x6d)] {
        let answer = client.request(|out| ber::put(out, request, b"dc=org")).await;
        assert_eq!((answer.tag, answer.code), (response, 53), "{request:02x}");
    }
}

/// RFC 4511 section 4.10.
#[tokio::test]
async fn comparisons() {
    let mut client = World::new().await.connect().await;
    let alice = "mail=alice@example.org,dc=example,dc=org";
    for (entry, attribute, value, code) in [
        (alice, "mail", "ALICE@example.org", 6),
        (alice, "cn", "bob", 5),
        (alice, "objectClass", "pkiUser", 6),
        (alice, "dc", "example", 16),
        (alice, "userCertificate;binary", "x", 16),
        (alice, "foo", "x", 17),
        ("", "supportedLDAPVersion", "3", 16),
        ("dc=example,dc=org", "o", "example.org", 6),
        ("dc=nowhere,dc=org", "o", "x", 32),
        ("nonsense", "o", "x", 34),
    ] {
        let answer = client
            .request(|out| {
                let compare = ber::open(out, 0x6e);
                ber::put(out, OCTETS, entry.as_bytes());
                let assertion = ber::open(out, SEQUENCE);
                ber::put(out, OCTETS, attribute.as_bytes());
                ber::put(out, OCTETS, value.as_bytes());
                ber::close(out, assertion);
                ber::close(out, compare);
            })
            .await;
        assert_eq!((answer.tag, answer.code), (0x6f, code), "{entry} {attribute}");
    }
}

#[tokio::test]
async fn extended_operations() {
    let mut client = World::new().await.connect().await;
    let ask = |name: &str, value: Option<&'static [u8]>| {
        let name = name.to_owned();
        move |out: &mut Vec<u8>| {
            let operation = ber::open(out, 0x77);
            ber::put(out, 0x80, name.as_bytes());
            value.iter().for_each(|value| ber::put(out, 0x81, value));
            ber::close(out, operation);
        }
    };
    // RFC 4532: anonymous is the empty authorization identity; a value is not part of the request.
    let who = client.request(ask("1.3.6.1.4.1.4203.1.11.3", None)).await;
    assert_eq!((who.tag, who.code, who.value), (0x78, 0, Some(Vec::new())));
    assert_eq!(client.request(ask("1.3.6.1.4.1.4203.1.11.3", Some(b"x"))).await.code, 2);
    // RFC 4511 section 4.12: an unknown name is protocolError, and so is StartTLS where there is no TLS.
    for name in ["1.3.6.1.4.1.1466.20037", "1.2.3", ""] {
        let unknown = client.request(ask(name, None)).await;
        assert_eq!((unknown.tag, unknown.code, unknown.name), (0x78, 2, None), "{name}");
    }
}

/// RFC 4511 section 4.1.11.
#[tokio::test]
async fn controls() {
    let mut client = World::new().await.connect().await;
    for (critical, code) in [(Some(true), 12), (Some(false), 0), (None, 0)] {
        let id = client.number();
        let plain = search(id, "", Scope::Subtree, 0, false, &ber_of("(uid=alice)"), &["mail"]);
        let mut body = ber::Reader::new(&plain).expect(SEQUENCE).unwrap().to_vec();
        let controls = ber::open(&mut body, 0xa0);
        let control = ber::open(&mut body, SEQUENCE);
        // Simple paged results (RFC 2696), which every administrator's tool sends.
        ber::put(&mut body, OCTETS, b"1.2.840.113556.1.4.319");
        critical.iter().for_each(|critical| ber::put(&mut body, BOOLEAN, &[if *critical { 0xff } else { 0 }]));
        ber::put(&mut body, OCTETS, &[0x30, 5, 2, 1, 10, 4, 0]);
        ber::close(&mut body, control);
        ber::close(&mut body, controls);
        let mut request = Vec::new();
        ber::put(&mut request, SEQUENCE, &body);
        client.send(&request).await;
        let answer = client.answer(id).await;
        assert_eq!((answer.done.code, answer.entries.len()), (code, usize::from(code == 0)), "{critical:?}");
    }
}

/// RFC 4511 sections 4.1.1 and 4.4.1: a Notice of Disconnection, and the end.
#[tokio::test]
async fn malformed_messages_end_the_connection_with_a_notice() {
    let world = World::new().await;
    for octets in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0x30, 0x80],
        vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff],
        vec![0x30, 3, 2, 1, 1],
        message(0, |out| ber::put(out, 0x42, b"")),
        message(1, |out| ber::put(out, 0x65, &[10, 1, 0, 4, 0, 4, 0])),
        message(1, |out| ber::put(out, 0x60, b"garbage")),
        search(1, "", Scope::Subtree, 0, false, &[0xa3, 3, 4, 5, 1], &[]),
    ] {
        let mut client = world.connect().await;
        client.send(&search(7, "", Scope::Subtree, 0, false, &ber_of("(uid=alice)"), &["mail"])).await;
        client.send(&octets).await;
        assert_eq!(client.answer(7).await.entries.len(), 1, "what came before it is answered");
        let notice = client.notice().await;
        assert_eq!(notice.code, 2, "{octets:02x?}");
        drop(client.stream);
        client.session.await.unwrap().unwrap();
    }
    // What could be read, but makes no sense, is answered in kind and harms nobody.
    let mut client = world.connect().await;
    let mut strange = search(3, "", Scope::Base, 0, false, &ber_of("(uid=a)"), &[]);
    let scope = strange.windows(3).position(|w| w == [10, 1, 0]).unwrap();
    strange[scope + 2] = 9;
    client.send(&strange).await;
    assert_eq!(client.answer(3).await.done.code, 2);
    assert_eq!(client.subtree("", "(uid=alice)", &[]).await.entries.len(), 1);
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_order() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let mut all = Vec::new();
    for id in 1..=100 {
        let filter = if id % 2 == 0 { "(uid=alice)" } else { "(uid=nobody)" };
        all.extend(search(id, "", Scope::Subtree, 0, false, &ber_of(filter), &[]));
        all.extend(message(1000 + id, |out| ber::put(out, 0x50, &[1])));
    }
    all.extend(message(101, |out| ber::put(out, 0x42, b"")));
    all.extend(search(102, "", Scope::Subtree, 0, false, &ber_of("(uid=alice)"), &[]));
    // In pieces that respect no message.
    let (mut read, mut write) = tokio::io::split(&mut client.stream);
    let mut got = Vec::new();
    let send = async {
        for piece in all.chunks(777) {
            write.write_all(piece).await.unwrap();
        }
    };
    tokio::join!(send, async { _ = read.read_to_end(&mut got).await });
    let mut rest = &got[..];
    let mut order = Vec::new();
    while let Some(end) = ber::frame(rest, usize::MAX).unwrap() {
        let mut message = ber::Reader::new(ber::Reader::new(&rest[..end]).expect(SEQUENCE).unwrap());
        order.push((message.integer(INTEGER).unwrap(), message.element().unwrap().0));
        rest = &rest[end..];
    }
    let want: Vec<(i64, u8)> =
        (1..=100).flat_map(|id| if id % 2 == 0 { vec![(id, 0x64), (id, 0x65)] } else { vec![(id, 0x65)] }).collect();
    assert_eq!(order, want, "nothing after the unbind");
    client.session.await.unwrap().unwrap();
}

/// The dangerous shape: an error that looks like "there is none".
#[tokio::test]
async fn a_lost_store_is_unavailable_and_never_an_empty_success() {
    let world = World::new().await;
    let mut client = world.connect().await;
    world.now.store(NOW + 3_600, Ordering::Relaxed);
    for (base, filter) in
        [("", "(mail=alice@example.org)"), ("dc=nowhere", "(uid=x)"), ("", "(mail=nobody@example.org)")]
    {
        for scope in [Scope::Base, Scope::OneLevel, Scope::Subtree] {
            let answer = client.ask(base, scope, 0, filter, &[]).await;
            assert_eq!((answer.done.code, answer.entries.len()), (52, 0), "{base} {filter} {scope:?}");
            assert!(answer.done.diagnostic.contains("store"), "{}", answer.done.diagnostic);
        }
    }
    let compare = client
        .request(|out| {
            let compare = ber::open(out, 0x6e);
            ber::put(out, OCTETS, b"dc=example,dc=org");
            let assertion = ber::open(out, SEQUENCE);
            ber::put(out, OCTETS, b"o");
            ber::put(out, OCTETS, b"example.org");
            ber::close(out, assertion);
            ber::close(out, compare);
        })
        .await;
    assert_eq!((compare.tag, compare.code), (0x6f, 52));
}

#[tokio::test]
async fn look_ups_are_limited_and_the_answer_says_so() {
    let world = World::new().await;
    let mut client = world.connect_with(Allowance::new(1, 5), 1 << 20).await;
    assert_eq!(client.ask("", Scope::Base, 0, "(objectClass=*)", &["+"]).await.done.code, 0, "the root DSE is free");
    let three = "(|(mail=alice@example.org)(mail=bob@example.org)(mail=x@example.org))";
    assert_eq!(client.subtree("", three, &[]).await.done.code, 0);
    assert_eq!(client.subtree("", "(uid=alice)", &[]).await.done.code, 0);
    let last = client.ask("mail=nobody@example.org,dc=example,dc=org", Scope::Base, 0, "(&)", &[]).await;
    assert_eq!(last.done.code, 32);
    let busy = client.subtree("", "(uid=alice)", &[]).await;
    assert_eq!((busy.done.code, busy.entries.len()), (51, 0));
    assert!(busy.done.diagnostic.contains("too many look-ups"), "{}", busy.done.diagnostic);
    let busy = client.ask("mail=alice@example.org,dc=example,dc=org", Scope::Base, 0, "(&)", &[]).await;
    assert_eq!(busy.done.code, 51, "by name, too");
    world.now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(client.subtree("", "(uid=alice)", &[]).await.entries.len(), 1);
}

#[tokio::test]
async fn silent_and_slow_peers_are_let_go() {
    let world = World::new().await;
    let (mut silent, mut trickling, mut deaf) =
        (world.connect().await, world.connect().await, world.connect_with(Allowance::new(9_999, 9_999), 1024).await);
    // From here on time passes only where everybody waits for it.
    tokio::time::pause();
    let silence = async {
        assert_eq!(silent.stream.read(&mut [0; 16]).await.unwrap(), 0, "ended after the idle time");
        silent.session.await.unwrap().unwrap();
    };
    // One octet at a time is silence, too, while no message is complete.
    let trickle = async {
        let octets = search(1, "", Scope::Subtree, 0, false, &ber_of("(uid=alice)"), &[]);
        let mut sent = 0;
        for octet in octets.chunks(1) {
            if trickling.stream.write_all(octet).await.is_err() {
                break;
            }
            sent += 1;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        assert!((10..=13).contains(&sent), "{sent} octets of {}", octets.len());
        trickling.session.await.unwrap().unwrap();
    };
    // A peer that asks and does not read holds one piece for the write's time-out, then nothing.
    let deafness = async {
        deaf.send(&search(1, "", Scope::Subtree, 0, false, &ber_of("(cn=shared mailbox)"), &[])).await;
        let ended = deaf.session.await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    };
    tokio::join!(silence, trickle, deafness);
}

#[tokio::test]
async fn stopping_says_goodbye() {
    let world = World::new().await;
    let mut client = world.connect().await;
    assert_eq!(client.subtree("", "(uid=alice)", &[]).await.entries.len(), 1);
    world.stop.send_replace(true);
    assert_eq!(client.notice().await.code, 52);
    drop(client.stream);
    client.session.await.unwrap().unwrap();
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let world = World::new().await;
    let mut client = world.connect().await;
    client.subtree("", "(uid=alice)", &[]).await;
    client.subtree("", "(uid=nobody)", &[]).await;
    client.subtree("dc=nowhere", "(uid=alice)", &[]).await;
    client.request(simple_bind(3, "cn=a", "b")).await;
    let text = world.metrics.prometheus();
    for line in [
        "# TYPE certdir_ldap_searches_total counter",
        "certdir_ldap_searches_total 3",
        "certdir_ldap_entries_total 1",
        "certdir_ldap_results_total{code=\"success\"} 2",
        "certdir_ldap_results_total{code=\"noSuchObject\"} 1",
        "certdir_ldap_results_total{code=\"invalidCredentials\"} 1",
        "certdir_ldap_results_total{code=\"busy\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
