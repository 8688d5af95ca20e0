//! The certificate store of RFC 4387. What openssl and Python say of the hashes and of the parts is in the program's tests.

use certdir_certificate::Certificate;
use certdir_directory::Hashed;
use data_encoding::BASE64_NOPAD;

use super::house::{AFTER_SHORT, House, certificate_der};

fn hash(hashed: Hashed, name: &str) -> String {
    let hash = hashed.of(&Certificate::from_der(&certificate_der(name)).unwrap()).unwrap();
    BASE64_NOPAD.encode(&hash).replace('+', "%2B")
}

const ALL: [(&str, Hashed); 5] = [
    ("certHash", Hashed::Certificate),
    ("sHash", Hashed::Subject),
    ("iHash", Hashed::Issuer),
    ("iAndSHash", Hashed::IssuerAndSerial),
    ("sKIDHash", Hashed::SubjectKeyId),
];

#[tokio::test]
async fn one_certificate_by_everything_that_finds_it() {
    let house = House::furnished().await;
    let der = certificate_der("alice-2027");
    let mut queries: Vec<String> = ALL
        .iter()
        .filter(|(name, _)| *name != "iHash")
        .map(|(name, hashed)| format!("{name}={}", hash(*hashed, "alice-2027")))
        .collect();
    queries.extend(["email=alice@example.org".into(), "uri=alice%40example.org&x-other=1".into()]);
    for query in queries {
        let answer = house.get(&format!("/search.cgi?{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/pkix-cert"), "{query}");
        assert_eq!(answer.body, der, "{query}");
        let tag = answer.header("etag").to_owned();
        let target = format!("/search.cgi?{query}");
        let again = house.send("GET", &target, &[("if-none-match", &tag), ("accept-encoding", "gzip")], "").await;
        assert_eq!((again.status, again.body.len()), (304, 0));
        let coded = house.send("GET", &target, &[("accept-encoding", "gzip, br")], "").await;
        assert_eq!((coded.header("content-encoding"), &coded.body), ("", &der));
        let head = house.send("HEAD", &target, &[], "").await;
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, &*der.len().to_string(), 0));
    }
}

#[tokio::test]
async fn several_are_parts_of_one_answer() {
    let house = House::furnished().await;
    let answer = house.get("/search.cgi?email=bob@example.org").await;
    assert_eq!(answer.status, 200);
    let media_type = answer.header("content-type").to_owned();
    let boundary = media_type.strip_prefix("multipart/mixed; boundary=").unwrap();
    let mut expected = Vec::new();
    let mut ders = [certificate_der("bob-rsa"), certificate_der("bob-ec")];
    let not_before = |der: &Vec<u8>| Certificate::from_der(der).unwrap().not_before();
    ders.sort_by_key(|der| (std::cmp::Reverse(not_before(der)), *Certificate::from_der(der).unwrap().sha256()));
    for der in ders {
        expected.extend(format!("--{boundary}\r\nContent-Type: application/pkix-cert\r\n\r\n").into_bytes());
        expected.extend(der);
        expected.extend(b"\r\n");
    }
    expected.extend(format!("--{boundary}--\r\n").into_bytes());
    assert!(answer.body == expected);
    assert_eq!(answer.header("content-transfer-encoding"), "");
}

#[tokio::test]
async fn only_what_is_shown_is_found_and_only_exactly() {
    let house = House::furnished().await;
    let old = hash(Hashed::Certificate, "alice-2026");
    let short = hash(Hashed::Certificate, "short");
    let never = hash(Hashed::Certificate, "foreign");
    let get = async |query: &str| {
        let answer = house.get(&format!("/search.cgi?{query}")).await;
        (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
    };
    let none = (404, "not-published".to_owned());
    for query in [
        format!("certHash={old}"),
        format!("certHash={never}"),
        format!("sHash={short}"),
        "email=ALICE@example.org".into(),
        "email=nobody@example.org".into(),
        "email=alice@example.com".into(),
        "uri=example.net".into(),
        "name=alice".into(),
    ] {
        assert_eq!(get(&query).await, none, "{query}");
    }
    assert_eq!(get("uri=example.org").await.0, 200, "the domain's own");
    assert_eq!(get("email=alice@EXAMPLE.org").await.0, 200, "a domain has no case");
    assert_eq!(get(&format!("certHash={short}")).await.0, 200);
    house.set_time(AFTER_SHORT);
    assert_eq!(get(&format!("certHash={short}")).await, none, "its validity is over");
    let ca = house.get(&format!("/search.cgi?sKIDHash={}", hash(Hashed::SubjectKeyId, "ca"))).await;
    assert_eq!((ca.status, ca.body), (200, certificate_der("ca")), "who builds a chain finds the domain's CA");
    for query in ["", "x=1", "certHash=abc", "email=a@b.example&name=x"] {
        assert_eq!(get(query).await, (400, "bad-search".into()), "{query}");
    }
    let post = house.send("POST", "/search.cgi?email=alice@example.org", &[], "").await;
    assert_eq!((post.status, post.header("allow")), (405, "GET,HEAD"));
    let unfollowed = House::stale().await;
    assert_eq!(unfollowed.get("/search.cgi?email=alice@example.org").await.status, 503);
}
