//! Publishing, withdrawing, domains and tokens.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::house::{House, NOW, certificate_der, certificate_pem, golden};

#[tokio::test]
async fn what_was_acknowledged_is_seen_and_withdrawn_is_gone() {
    let house = House::empty().await;
    let published = house.act(&house.publisher, "POST", "/v1/certificates", certificate_pem("alice-2026")).await;
    assert_eq!(published.status, 200, "{}", published.text());
    golden("report.json", &published.text());
    let seen = house.get("/v1/addresses/alice@example.org?format=der").await;
    assert_eq!((seen.status, seen.body), (200, certificate_der("alice-2026")));

    // A reissue, as DER.
    let reissued = house.act(&house.publisher, "POST", "/v1/certificates", certificate_der("alice-2027")).await;
    assert_eq!(reissued.json()["items"][0]["outcome"], "published");
    assert_eq!(house.get("/v1/addresses/alice@example.org?format=der").await.body, certificate_der("alice-2027"));
    let again = house.act(&house.publisher, "POST", "/v1/certificates", certificate_der("alice-2027")).await;
    assert_eq!((again.status, &again.json()["items"][0]["outcome"]), (200, &"unchanged".into()));

    // Several in one body; each has its item.
    let bundle = certificate_pem("bob-rsa") + &certificate_pem("expired") + &certificate_pem("bob-ec");
    let report = house.act(&house.publisher, "POST", "/v1/certificates", bundle).await;
    assert_eq!(report.status, 200);
    let json = report.json();
    let outcomes: Vec<&str> =
        json["items"].as_array().unwrap().iter().map(|item| item["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["published", "refused", "published"]);
    assert_eq!(json["items"][1]["origin"], "request, certificate 2");

    let sha256 = house.get("/v1/addresses/bob@example.org").await.json()["certificates"][0]["sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    let one = house.act(&house.publisher, "DELETE", &format!("/v1/certificates/{sha256}?reason=lost"), "").await;
    assert_eq!((one.status, &one.json()["items"][0]["outcome"]), (200, &"withdrawn".into()));
    assert_eq!(house.get("/v1/addresses/bob@example.org?format=der").await.body, certificate_der("bob-rsa"));
    let all = house.act(&house.publisher, "DELETE", "/v1/addresses/Bob@example.org", "").await;
    assert_eq!(all.status, 200);
    assert_eq!(house.get("/v1/addresses/bob@example.org").await.code(), "not-published");
    let none = house.act(&house.publisher, "DELETE", "/v1/addresses/bob@example.org", "").await;
    assert_eq!((none.status, none.code().as_str()), (404, "not-found"));

    let restored =
        house.act(&house.publisher, "POST", "/v1/certificates?restore=true", certificate_pem("bob-ec")).await;
    assert_eq!(restored.json()["items"][0]["outcome"], "published", "{}", restored.text());
}

#[tokio::test]
async fn the_query_says_for_whom() {
    let house = House::empty().await;
    let gateway = certificate_pem("gateway");
    let nobody = house.act(&house.publisher, "POST", "/v1/certificates", gateway.clone()).await;
    assert_eq!((nobody.status, &nobody.json()["items"][0]["code"]), (422, &"no-address".into()));
    let trial = house
        .act(&house.publisher, "POST", "/v1/certificates?domain_certificate=example.org&dry_run=true", gateway.clone())
        .await;
    assert_eq!((trial.status, &trial.json()["dry_run"]), (200, &true.into()));
    assert_eq!(house.get("/v1/addresses/zoe@example.org").await.status, 404, "a dry run changes nothing");
    let taken = house.act(&house.publisher, "POST", "/v1/certificates?domain_certificate=Example.ORG", gateway).await;
    assert_eq!(taken.status, 200);
    assert_eq!(house.get("/v1/addresses/zoe@example.org").await.header("certdir-match"), "domain");

    let target = "/v1/certificates?address=a.example@example.org&address=%22al%20ice%22@example.org";
    let aliases = house.act(&house.publisher, "POST", target, certificate_pem("alice-2026")).await;
    assert_eq!(aliases.status, 200, "{}", aliases.text());
    let alias = house.get("/v1/addresses/A.Example@example.org").await;
    assert_eq!(
        (alias.header("certdir-match"), &alias.json()["certificates"][0]["asserted"]),
        ("recipient", &true.into())
    );
    assert_eq!(house.get("/v1/addresses/%22al%20ice%22@example.org").await.header("certdir-match"), "recipient");

    let authority =
        house.act(&house.neighbour, "POST", "/v1/certificates?authority_for=example.net", certificate_pem("ca")).await;
    assert_eq!(authority.status, 200, "{}", authority.text());
    assert_eq!(
        house.get("/v1/addresses/zoe@example.net").await.code(),
        "not-published",
        "a CA is nobody's to encrypt to"
    );
    let own = house.get("/v1/addresses/domain-confidentiality-authority@example.net").await.json();
    assert_eq!((own["certificates"].as_array().unwrap().len(), own["authorities"].as_array().unwrap().len()), (0, 1));
    let der = house.get("/v1/addresses/domain-confidentiality-authority@example.net?format=der").await;
    assert_eq!((der.status, der.code().as_str()), (404, "not-published"));
}

#[tokio::test]
async fn what_cannot_be_taken_is_named_and_changes_nothing() {
    let house = House::empty().await;
    let before = house.reader.published().unwrap().version();
    let truncated = certificate_der("alice-2026")[..200].to_vec();
    let alice = certificate_pem("alice-2026");
    for (what, target, body, status, code) in [
        ("another organisation's", "", certificate_pem("net").into_bytes(), 403, "forbidden"),
        ("a domain of nobody here", "", certificate_pem("foreign").into_bytes(), 422, "not-hosted"),
        ("expired", "", certificate_pem("expired").into_bytes(), 422, "expired"),
        ("a CA", "", certificate_pem("ca").into_bytes(), 422, "ca-certificate"),
        ("misspelt", "?dryrun=true", alice.clone().into_bytes(), 400, "bad-query"),
        ("no flag", "?dry_run=1", alice.clone().into_bytes(), 400, "bad-query"),
        ("bad alias", "?address=alice", alice.clone().into_bytes(), 400, "bad-address"),
        ("bad domain", "?domain_certificate=-", alice.clone().into_bytes(), 400, "bad-domain"),
        ("foreign alias", "?address=a@example.net", certificate_pem("gateway").into_bytes(), 403, "forbidden"),
        (
            "foreign domain certificate",
            "?domain_certificate=example.net",
            certificate_pem("gateway").into_bytes(),
            422,
            "names-other",
        ),
    ] {
        let answer = house.act(&house.publisher, "POST", &format!("/v1/certificates{target}"), body).await;
        let json = answer.json();
        let found = json["items"][0]["code"].as_str().or(json["code"].as_str()).unwrap_or_default();
        assert_eq!((answer.status, found), (status, code), "{what}: {}", answer.text());
    }
    for (what, body, status) in [
        ("nothing", Vec::new(), 422),
        ("text", b"hello".to_vec(), 422),
        ("truncated DER", truncated, 422),
        ("a private key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_vec(), 422),
        ("10 MB", vec![b'A'; 10_000_000], 413),
    ] {
        let answer = house.act(&house.publisher, "POST", "/v1/certificates", body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
        if what != "10 MB" {
            golden(&format!("body-{}.json", what.replace(' ', "-")), &answer.text());
        }
    }
    let bearer = format!("Bearer {}", house.publisher);
    for (media_type, status) in [
        ("application/json", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
        ("Application/PKIX-Cert", 422),
        ("text/plain; charset=utf-8", 422),
    ] {
        let headers = [("authorization", bearer.as_str()), ("content-type", media_type)];
        let answer = house.send("POST", "/v1/certificates", &headers, "hello").await;
        assert_eq!(answer.status, status, "{media_type}");
    }
    assert_eq!(house.send("POST", "/v1/certificates", &[("authorization", &bearer)], "hello").await.status, 422);
    assert_eq!(house.reader.published().unwrap().version(), before);
}

#[tokio::test]
async fn who_may_do_what() {
    let house = House::furnished().await;
    let sha256 = "00".repeat(32);
    let of_certificate = format!("/v1/certificates/{sha256}");
    let alice = certificate_pem("alice-2027");
    // Status for: no token, another scheme, a wrong token, a reader, a publisher of another domain, a publisher, an admin.
    let table: [(&str, &str, &str, [u16; 7]); 14] = [
        ("POST", "/v1/certificates", &alice, [401, 401, 401, 403, 403, 200, 200]),
        ("DELETE", &of_certificate, "", [401, 401, 401, 404, 404, 404, 404]),
        ("DELETE", "/v1/addresses/mallory@example.org", "", [401, 401, 401, 403, 403, 200, 404]),
        ("GET", "/v1/domains", "", [401, 401, 401, 200, 200, 200, 200]),
        ("POST", "/v1/domains", r#"{"domain":"example.com"}"#, [401, 401, 401, 403, 403, 403, 201]),
        ("PATCH", "/v1/domains/example.org", r#"{"ttl":600}"#, [401, 401, 401, 403, 403, 403, 200]),
        ("GET", "/v1/domains/example.org/records", "", [401, 401, 401, 403, 403, 403, 200]),
        ("PUT", "/v1/domains/example.org/records", "a A 192.0.2.1", [401, 401, 401, 403, 403, 403, 422]),
        ("DELETE", "/v1/domains/example.org/records", "", [401, 401, 401, 403, 403, 403, 200]),
        ("DELETE", "/v1/domains/absent.example", "", [401, 401, 401, 403, 403, 403, 404]),
        ("GET", "/v1/tokens", "", [401, 401, 401, 403, 403, 403, 200]),
        ("POST", "/v1/tokens", r#"{"name":"x","role":"admin"}"#, [401, 401, 401, 403, 403, 403, 201]),
        ("DELETE", "/v1/tokens/000000000000", "", [401, 401, 401, 403, 403, 403, 404]),
        ("GET", "/v1/addresses/alice@example.org", "", [200, 401, 401, 200, 200, 200, 200]),
    ];
    let wrong = {
        let mut token = house.admin.clone();
        token.pop();
        token.push(if house.admin.ends_with('A') { 'B' } else { 'A' });
        token
    };
    let credentials = [
        None,
        Some("Basic YWRtaW46YWRtaW4=".to_owned()),
        Some(format!("Bearer {wrong}")),
        Some(format!("Bearer {}", house.auditor)),
        Some(format!("Bearer {}", house.neighbour)),
        Some(format!("bearer {}", house.publisher)),
        Some(format!("BEARER {}", house.admin)),
    ];
    for (row, (method, target, body, statuses)) in table.into_iter().enumerate() {
        for (column, (credential, status)) in credentials.iter().zip(statuses).enumerate() {
            let media_type = match body.as_bytes().first() {
                Some(b'{') => "application/json",
                Some(b'a') => "text/dns",
                _ => "application/x-pem-file",
            };
            let mut headers = vec![("content-type", media_type)];
            headers.extend(credential.as_deref().map(|text| ("authorization", text)));
            let source = format!("198.51.100.{}", row * 10 + column);
            let answer = house.send_from(&source, method, target, &headers, body.to_owned()).await;
            assert_eq!(answer.status, status, "{method} {target} {column}: {}", answer.text());
            assert_eq!(
                answer.header("www-authenticate").starts_with("Bearer realm=\"certdir\""),
                status == 401,
                "{method} {target}"
            );
        }
    }
    golden("no-token.json", &house.send("GET", "/v1/tokens", &[], "").await.text());
    golden("bad-token.json", &house.send("GET", "/v1/tokens", &[("authorization", "Bearer x")], "").await.text());
    golden("forbidden.json", &house.act(&house.publisher, "GET", "/v1/tokens", "").await.text());
    let twice =
        house.send("GET", "/v1/tokens", &[("authorization", "Bearer a"), ("authorization", "Bearer b")], "").await;
    assert_eq!(twice.code(), "no-token");
    let seen = house.act(&house.neighbour, "GET", "/v1/domains", "").await.json();
    assert_eq!(seen["domains"].as_array().unwrap().len(), 1, "a token sees its own domains only");
}

/// What a change answers is shown by then; a text without records changes nothing.
#[tokio::test]
async fn records_are_shown_when_the_change_is_answered() {
    let house = House::empty().await;
    let line = "n TXT \"0123456789012345678901234567890123456789\"\n";
    let many: String = (0..2_000).map(|n| format!("{n}{line}")).collect();
    let settings = serde_json::json!({ "hosting": "mail", "name_servers": ["ns1.hoster.example"] });
    let new = serde_json::json!({ "domain": "example.com", "settings": settings, "records": many }).to_string();
    assert!(new.len() > 64 * 1024);
    let made = house.act(&house.admin, "POST", "/v1/domains", new).await;
    assert_eq!((made.status, &made.json()["records"]), (201, &2_000.into()), "{}", made.text());
    let apex = certdir_directory::DomainName::parse("example.com").unwrap().name().clone();
    let serial = || house.reader.published().unwrap().zone(&apex).unwrap().serial();
    let target = "/v1/domains/example.com";
    for ttl in 100..110 {
        let changed = house.act(&house.admin, "PATCH", target, format!("{{\"ttl\":{ttl}}}")).await;
        assert_eq!((changed.status, &changed.json()["serial"]), (200, &serial().into()));
    }
    let bearer = format!("Bearer {}", house.admin);
    let headers = [("authorization", bearer.as_str()), ("content-type", "text/dns")];
    let records = format!("{target}/records");
    for number in 0..10 {
        let changed = house.send("PUT", &records, &headers, format!("a A 192.0.2.{number}")).await;
        assert_eq!((changed.status, &changed.json()["serial"]), (200, &serial().into()));
    }
    for empty in ["", "\n ; nothing\n"] {
        let refused = house.send("PUT", &records, &headers, empty).await;
        assert_eq!((refused.status, refused.code().as_str()), (422, "bad-records"));
    }
    let refused = house.send("PUT", &records, &headers, "a A x").await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "bad-records"));
    assert_eq!(house.act(&house.admin, "GET", &records, "").await.text(), "a A 192.0.2.9");
    let gone = house.act(&house.admin, "DELETE", &records, "").await;
    assert_eq!((gone.status, &gone.json()["records"]), (200, &0.into()));
    let large = house.send("PUT", &records, &headers, " ".repeat(3 << 20)).await;
    assert!(large.status == 413 && !large.text().contains("certificates"), "{}", large.text());
}

#[tokio::test]
async fn a_change_without_parameters_takes_none() {
    let house = House::empty().await;
    let before = house.reader.published().unwrap().version();
    let token = r#"{"name":"x","role":"publisher","domains":["example.org"]}"#;
    for (method, path, body) in [
        ("POST", "/v1/domains", r#"{"domain":"example.com"}"#),
        ("PATCH", "/v1/domains/example.org", r#"{"ttl":600}"#),
        ("DELETE", "/v1/domains/example.org", ""),
        ("PUT", "/v1/domains/example.org/records", "a A 192.0.2.1"),
        ("DELETE", "/v1/domains/example.org/records", ""),
        ("POST", "/v1/tokens", token),
        ("DELETE", "/v1/tokens/000000000000", ""),
    ] {
        let bearer = format!("Bearer {}", house.admin);
        let media_type = if method == "PUT" { "text/dns" } else { "application/json" };
        let headers = [("authorization", bearer.as_str()), ("content-type", media_type)];
        for query in ["dry_run=true", "reason=left", "x"] {
            let answer = house.send(method, &format!("{path}?{query}"), &headers, body).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "bad-query"), "{method} {path}?{query}");
            let stranger = house.send(method, &format!("{path}?{query}"), &headers[1..], body).await;
            assert_eq!(stranger.status, 401, "{method} {path}: who asks comes first");
        }
    }
    assert_eq!(house.reader.published().unwrap().version(), before);
}

#[tokio::test]
async fn domains_and_tokens_are_made_and_end() {
    let house = House::empty().await;
    let made =
        house.act(&house.admin, "POST", "/v1/domains", r#"{"domain":"Bücher.example","settings":{"ttl":600}}"#).await;
    assert_eq!((made.status, &made.json()["settings"]["ttl"]), (201, &600.into()), "{}", made.text());
    assert_eq!(
        house.get("/v1/addresses/a@xn--bcher-kva.example").await.code(),
        "not-published",
        "it is hosted at once"
    );
    for (body, status, code) in [
        (r#"{"domain":"xn--bcher-kva.example"}"#, 409, "domain-exists"),
        (r#"{"domain":"a b"}"#, 400, "bad-domain"),
        (r#"{"domain":"example.com","settings":{"ttl":1}}"#, 422, "setting"),
        (r#"{"domain":"example.com","settings":{"tttl":600}}"#, 422, "setting"),
        (r#"{"domain":"example.com","setting":{}}"#, 400, "bad-json"),
        (r#"{"domain":"#, 400, "bad-json"),
    ] {
        let answer = house.act(&house.admin, "POST", "/v1/domains", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}");
    }

    let made = house
        .act(&house.admin, "POST", "/v1/tokens", r#"{"name":"gateway","role":"publisher","domains":["example.org"]}"#)
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (json, list) = (made.json(), house.act(&house.admin, "GET", "/v1/tokens", "").await);
    let (token, id) = (json["token"].as_str().unwrap(), json["row"]["id"].as_str().unwrap());
    assert_eq!(made.header("cache-control"), "no-store");
    assert!(list.text().contains(id) && !list.text().contains(token), "a list never shows a secret");
    assert_eq!(house.act(token, "POST", "/v1/certificates", certificate_pem("alice-2026")).await.status, 200);
    assert_eq!(house.act(&house.admin, "DELETE", &format!("/v1/tokens/{id}"), "").await.status, 204);
    assert_eq!(house.act(token, "POST", "/v1/certificates", certificate_pem("alice-2027")).await.code(), "bad-token");
    for (body, status) in [
        (r#"{"name":"x","role":"publisher","domains":["example.com"]}"#, 404),
        (r#"{"name":"x","role":"publisher"}"#, 422),
        (r#"{"name":"x","role":"root"}"#, 400),
    ] {
        assert_eq!(house.act(&house.admin, "POST", "/v1/tokens", body).await.status, status, "{body}");
    }
}

#[tokio::test]
async fn wrong_tokens_are_counted_for_each_source() {
    let house = House::empty().await;
    let wrong = [("authorization", "Bearer certdir_000000000000_x")];
    let right = format!("Bearer {}", house.admin);
    for _ in 0..10 {
        assert_eq!(house.send("GET", "/v1/tokens", &wrong, "").await.status, 401);
    }
    let limited = house.send("GET", "/v1/tokens", &wrong, "").await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, "60"));
    golden("too-many-attempts.json", &limited.text());
    let knows = house.send("GET", "/v1/tokens", &[("authorization", &right)], "").await.status;
    assert_eq!(knows, 200, "behind one address the one who guesses does not lock out the one who knows");
    assert_eq!(house.send_from("192.0.2.2", "GET", "/v1/tokens", &[("authorization", &right)], "").await.status, 200);
    assert_eq!(house.get("/v1/addresses/a@example.org").await.status, 404, "look-ups without a token go on");
    house.set_time(NOW + 60);
    assert_eq!(house.send("GET", "/v1/tokens", &[("authorization", &right)], "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_with_a_right_token_are_no_failures() {
    let house = std::sync::Arc::new(House::empty().await);
    let wave: Vec<_> = (0..60)
        .map(|_| {
            let house = house.clone();
            tokio::spawn(async move { house.act(&house.publisher, "GET", "/v1/domains", "").await.status })
        })
        .collect();
    for request in wave {
        assert_eq!(request.await.unwrap(), 200);
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn tokens_do_not_reach_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let house = House::empty().await;
    tracing::info!("this line is caught");
    house.act(&house.publisher, "POST", "/v1/certificates", certificate_pem("alice-2026")).await;
    house.act("certdir_000000000000_wrongwrongwrong", "GET", "/v1/tokens", "").await;
    let made = house.act(&house.admin, "POST", "/v1/tokens", r#"{"name":"x","role":"admin"}"#).await.json();
    let log = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    assert!(log.contains("this line is caught"));
    for token in
        [&house.publisher, &house.admin, made["token"].as_str().unwrap(), "certdir_000000000000_wrongwrongwrong"]
    {
        let secret = token.rsplit('_').next().unwrap();
        assert!(!log.contains(token) && !log.contains(secret));
    }
}
