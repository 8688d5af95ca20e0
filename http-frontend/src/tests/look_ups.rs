//! `/v1/addresses` and `/v1/certificates` for strangers; health and metrics.

use super::house::{AFTER_SHORT, House, NOW, certificate_der, certificate_pem, golden};

#[tokio::test]
async fn an_address_as_json_pem_and_der() {
    let house = House::furnished().await;
    let answer = house.get("/v1/addresses/alice@example.org").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    golden("alice.json", &answer.text());
    golden("bob.json", &house.get("/v1/addresses/bob@example.org").await.text());
    golden("domain.json", &house.get("/v1/addresses/zoe@example.org").await.text());
    golden("authorities.json", &house.get("/v1/addresses/domain-confidentiality-authority@example.net").await.text());

    // DER is the newest of several, PEM is all of them, newest first.
    let der = house.get("/v1/addresses/bob@example.org?format=der").await;
    assert_eq!((der.status, der.header("content-type")), (200, "application/pkix-cert"));
    assert_eq!(der.header("content-disposition"), "attachment; filename=\"bob@example.org.cer\"");
    assert_eq!(der.body, certificate_der("bob-ec"));
    let pem = house.get("/v1/addresses/bob@example.org?format=pem").await;
    assert_eq!((pem.status, pem.header("content-type")), (200, "application/x-pem-file"));
    let read = certdir_certificate::Certificate::read_all(&pem.body).unwrap();
    let read: Vec<&[u8]> = read.iter().map(|certificate| &certificate.der()[..]).collect();
    assert_eq!(read, [certificate_der("bob-ec"), certificate_der("bob-rsa")]);

    // The reissue is the one that is given, whatever the case of the address.
    for address in ["alice@example.org", "Alice@example.org", "ALICE@EXAMPLE.ORG.", "%61lice%40example.org"] {
        let der = house.get(&format!("/v1/addresses/{address}?format=der")).await;
        assert_eq!((der.status, der.header("certdir-match")), (200, "recipient"), "{address}");
        assert_eq!(der.body, certificate_der("alice-2027"), "{address}");
    }
}

#[tokio::test]
async fn the_form_is_negotiated() {
    let house = House::furnished().await;
    for (accept, status, media_type) in [
        ("application/pkix-cert", 200, "application/pkix-cert"),
        ("application/x-pem-file", 200, "application/x-pem-file"),
        ("text/html, */*;q=0.1", 200, "application/json"),
        ("image/png", 406, "application/problem+json"),
    ] {
        let answer = house.send("GET", "/v1/addresses/alice@example.org", &[("accept", accept)], "").await;
        assert_eq!((answer.status, answer.header("content-type")), (status, media_type), "{accept}");
    }
    let answer = house.get("/v1/addresses/alice@example.org?format=exe").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad-format"));
    let twice = house.get("/v1/addresses/alice@example.org?format=der&format=pem").await;
    assert_eq!((twice.status, twice.code().as_str()), (400, "bad-query"));
}

#[tokio::test]
async fn a_miss_is_not_a_failure_and_a_foreign_domain_is_not_a_miss() {
    let house = House::furnished().await;
    for (name, target, status, code) in [
        ("not-published.json", "/v1/addresses/zoe@example.net", 404, "not-published"),
        ("domain-not-hosted.json", "/v1/addresses/alice@example.com", 404, "domain-not-hosted"),
        ("bad-address.json", "/v1/addresses/alice", 400, "bad-address"),
        ("bad-fingerprint.json", "/v1/certificates/12", 400, "bad-fingerprint"),
        ("no-such-path.json", "/v1/addresses", 404, "no-such-path"),
    ] {
        let answer = house.get(target).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{target}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("cache-control"), "no-store", "a refusal is never cached");
        golden(name, &answer.text());
    }
}

#[tokio::test]
async fn a_published_set_that_is_not_there_is_503_never_404() {
    let house = House::stale().await;
    for target in [
        "/v1/addresses/alice@example.org",
        "/lookup?address=alice@example.org",
        &format!("/v1/certificates/{}", "ab".repeat(32)),
        "/healthz",
    ] {
        let answer = house.get(target).await;
        assert_eq!(answer.status, 503, "{target}");
        assert_eq!(answer.header("retry-after"), "2");
    }
    golden("stale.json", &house.get("/v1/addresses/alice@example.org").await.text());
    let metrics = house.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("\ncertdir_up 0\n"));
    assert_eq!(house.get("/").await.status, 200, "the form needs no store");
}

#[tokio::test]
async fn versions_are_entity_tags() {
    let house = House::furnished().await;
    let first = house.get("/v1/addresses/erin@example.org").await;
    let tag = first.header("etag").to_owned();
    assert_eq!(tag, format!("W/\"{}\"", first.json()["version"]));
    assert_eq!(first.header("cache-control"), "public, max-age=60");
    assert_eq!(first.header("vary"), "accept");
    let strong = tag.trim_start_matches("W/").to_owned();
    for (given, status) in [
        (tag.as_str(), 304),
        (&strong, 304),
        ("*", 304),
        ("\"x\", W/\"y\"", 200),
        (&format!("\"x\", {tag}"), 304),
        ("", 200),
    ] {
        let again = house.send("GET", "/v1/addresses/erin@example.org", &[("if-none-match", given)], "").await;
        assert_eq!(again.status, status, "{given}");
        assert_eq!(again.body.is_empty(), status == 304);
        assert_eq!(again.header("etag"), tag);
    }

    // A validity that ends changes the answer before there is a new Version; caches hold nothing beyond it.
    house.set_time(AFTER_SHORT - 10);
    assert_eq!(house.get("/v1/addresses/erin@example.org").await.header("cache-control"), "public, max-age=10");
    house.set_time(AFTER_SHORT - 1);
    assert_eq!(
        house.get("/v1/addresses/erin@example.org").await.header("certdir-match"),
        "recipient",
        "the last second counts"
    );
    house.set_time(AFTER_SHORT);
    let after = house.send("GET", "/v1/addresses/erin@example.org", &[("if-none-match", &tag)], "").await;
    assert_eq!((after.status, after.header("certdir-match")), (200, "domain"));

    // The same where another certificate of the same entry stays: no new Version, and yet a new tag.
    house.set_time(NOW);
    let target = "/v1/certificates?address=erin@example.org";
    assert_eq!(house.act(&house.publisher, "POST", target, certificate_pem("bob-rsa")).await.status, 200);
    let both = house.get("/v1/addresses/erin@example.org").await;
    assert_eq!(both.json()["certificates"].as_array().unwrap().len(), 2, "{}", both.text());
    house.set_time(AFTER_SHORT);
    let target = "/v1/addresses/erin@example.org";
    let after = house.send("GET", target, &[("if-none-match", both.header("etag"))], "").await;
    assert_eq!((after.status, after.header("certdir-match")), (200, "recipient"));
    let json = after.json();
    assert_eq!((json["certificates"].as_array().unwrap().len(), &json["version"]), (1, &both.json()["version"]));
    assert_eq!(after.header("etag"), format!("W/\"{}.{AFTER_SHORT}\"", json["version"]));
    assert_eq!(house.send("GET", target, &[("if-none-match", after.header("etag"))], "").await.status, 304);
}

#[tokio::test]
async fn one_certificate_by_its_fingerprint() {
    let house = House::furnished().await;
    let document = house.get("/v1/addresses/alice@example.org").await.json();
    let sha256 = document["certificates"][0]["sha256"].as_str().unwrap().to_owned();
    let colons: Vec<String> =
        sha256.to_uppercase().as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into()).collect();
    for written in [sha256.clone(), sha256.to_uppercase(), colons.join(":")] {
        let der = house.get(&format!("/v1/certificates/{written}?format=der")).await;
        assert_eq!((der.status, der.body), (200, certificate_der("alice-2027")), "{written}");
    }
    golden("certificate.json", &house.get(&format!("/v1/certificates/{sha256}")).await.text());
    let unchanged = house.send("GET", &format!("/v1/certificates/{sha256}"), &[("if-none-match", "*")], "").await;
    assert_eq!(unchanged.status, 304);
    // The superseded one is history, not published.
    let old = certdir_certificate::Certificate::from_der(&certificate_der("alice-2026")).unwrap();
    let old = data_encoding::HEXLOWER.encode(old.sha256());
    let answer = house.get(&format!("/v1/certificates/{old}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "not-published"));
}

#[tokio::test]
async fn look_ups_of_strangers_are_limited_and_those_with_a_token_are_not() {
    let house = House::with_burst(4).await;
    let targets = ["/v1/addresses/alice@example.org", "/lookup?address=alice@example.org", "/v1/certificates/00"];
    for n in 0..4 {
        assert_ne!(house.get(targets[n % 3]).await.status, 429);
    }
    for target in targets {
        let answer = house.get(target).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, "1"), "{target}");
    }
    golden("too-many-look-ups.json", &house.get(targets[0]).await.text());
    assert_eq!(house.get("/healthz").await.status, 200, "monitoring is no look-up");
    let bearer = format!("Bearer {}", house.auditor);
    assert_eq!(house.send("GET", targets[0], &[("authorization", &bearer)], "").await.status, 200);
    let wrong = house.send("GET", targets[0], &[("authorization", "Bearer nonsense")], "").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "bad-token"), "a wrong token is no way around");
    house.set_time(NOW + 1);
    assert_eq!(house.get(targets[0]).await.status, 200);
}

#[tokio::test]
async fn hostile_targets_get_a_refusal() {
    let house = House::furnished().await;
    let long = format!("/v1/addresses/{}@example.org", "a".repeat(5_000));
    for (target, status) in [
        (long.as_str(), 400),
        ("/v1/addresses/%FF%FE@example.org", 400),
        ("/v1/addresses/%00@example.net", 400),
        ("/v1/addresses/alice%0d%0aX-Evil:1@example.net", 400),
        ("/v1/addresses/..%2f..%2fetc%2fpasswd", 400),
        ("/v1/addresses/*@example.net", 404),
        ("/v1/addresses/%25@example.net", 404),
        ("/v1/addresses/a%2Fb@example.net", 404),
        ("/v1/addresses/@", 400),
        ("/v1/addresses/", 404),
        ("/v1/addresses/alice@example.org/", 404),
        ("/v1/certificates/%F0%9F%98%80", 400),
        ("/v1/certificates", 405),
        ("/lookup?address=%FF", 400),
        ("/lookup", 400),
        ("/lookup?address=a@example.net&address=b@example.net", 400),
        ("/..", 404),
        ("//", 404),
    ] {
        let answer = house.get(target).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
        assert_eq!(answer.header("x-evil"), "");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_fields() {
    let house = House::furnished().await;
    for target in [
        "/",
        "/lookup?address=alice@example.org",
        "/v1/addresses/alice@example.org",
        "/healthz",
        "/metrics",
        "/none",
        "/v1/tokens",
    ] {
        let answer = house.send("GET", target, &[("origin", "https://evil.example")], "").await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{target}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{target}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{target}: {policy}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), "", "{target}: no CORS");
    }
}

#[tokio::test]
async fn other_methods_are_refused_and_head_is_get_without_a_body() {
    let house = House::furnished().await;
    let answer = house.send("PUT", "/v1/addresses/alice@example.org", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "method-not-allowed"));
    assert_eq!(answer.header("allow"), "GET,HEAD,DELETE");
    golden("method-not-allowed.json", &answer.text());
    assert_eq!(house.send("OPTIONS", "/v1/addresses/alice@example.org", &[], "").await.status, 405);
    for target in ["/", "/lookup?address=alice@example.org", "/v1/addresses/alice@example.org", "/healthz"] {
        let (get, head) = (house.get(target).await, house.send("HEAD", target, &[], "").await);
        assert_eq!((head.status, head.body.len()), (200, 0), "{target}");
        for name in ["etag", "content-type", "certdir-match"] {
            assert_eq!(head.header(name), get.header(name), "{target}");
        }
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{target}");
    }
}

#[tokio::test]
async fn health_and_metrics_tell_what_is_served() {
    let house = House::furnished().await;
    let health = house.get("/healthz").await;
    assert_eq!(health.status, 200);
    golden("healthz.json", &health.text());
    house.get("/v1/addresses/nobody@example.net").await;
    house.get("/no/such/path").await;
    house.send("BREW", "/", &[], "").await;
    let metrics = house.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    golden("metrics.txt", &metrics.text());
}

/// Nobody followed the store for a while: look-ups go on, monitoring is told.
#[tokio::test]
async fn a_store_that_was_not_seen_for_a_while_is_not_healthy() {
    let house = House::unfollowed().await;
    assert_eq!(house.get("/healthz").await.status, 200);
    house.set_time(NOW + 60);
    let health = house.get("/healthz").await;
    assert_eq!((health.status, health.json()["code"].as_str().map(str::to_owned)), (503, Some("store-lost".into())));
    assert_eq!(house.get("/v1/addresses/a@example.org").await.status, 404);
}
