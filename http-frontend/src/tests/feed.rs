//! The change feed: both subscriptions, both forms, taken up again, refused, ended.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::Request;
use certdir_directory::{Address, Authority, WithdrawTarget};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

use super::house::{Answer, House, NOW, certificate_der, domain, golden};
use crate::site::Peer;

/// What never is the same twice: the marks of Versions.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('-') {
        masked.push_str(before);
        masked.push('-');
        let mark = after.get(..16).filter(|mark| mark.bytes().all(|octet| octet.is_ascii_hexdigit()));
        let digit = before.ends_with(|c: char| c.is_ascii_digit());
        rest = match mark.filter(|_| digit) {
            Some(_) => {
                masked.push_str("MARK");
                &after[16..]
            }
            None => after,
        };
    }
    masked + rest
}

/// A stream of events, read as it comes.
struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    async fn open(house: &House, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Stream {
        let mut request = Request::builder().method(method).uri(target).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(Peer("192.0.2.1".parse::<IpAddr>().unwrap()));
        let response = house.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Stream { body: response.into_body(), text: String::new() }
    }

    /// The next piece; none at the end.
    async fn next(&mut self) -> Option<String> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
        let frame = tokio::time::timeout(Duration::from_secs(30), frame).await.expect("an event")?;
        Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    }

    /// The next event: its name and its data. Comments are passed over.
    async fn event(&mut self) -> (String, Value) {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = field("event: ").zip(field("data: "));
                self.text = rest.to_owned();
                if let Some((name, data)) = found {
                    return (name, serde_json::from_str(&data).unwrap());
                }
            }
            let piece = self.next().await.expect("the stream goes on");
            self.text.push_str(&piece);
        }
    }
}

async fn withdraw(house: &House, address: &str) -> u64 {
    let target = WithdrawTarget::Mailbox(Address::parse(address).unwrap());
    house.store.withdraw(target, None, &Authority::Operator, NOW).await.unwrap().version
}

async fn shown(house: &House, version: u64) {
    house.reader.changed().wait_for(|shown| *shown >= version).await.unwrap();
}

async fn names(house: &House, query: &str, names: &[&str]) -> Answer {
    let body = json!({ "names": names }).to_string();
    house.send("POST", &format!("/v1/changes{query}"), &[("content-type", "application/json")], body).await
}

#[tokio::test]
async fn the_whole_log_as_json_and_as_events() {
    let house = House::furnished().await;
    let all = house.act(&house.admin, "GET", "/v1/changes?since=0", "").await;
    assert_eq!(all.status, 200, "{}", all.text());
    golden("changes.json", &masked(&all.text()));
    let bearer = format!("Bearer {}", house.admin);
    let mut stream = Stream::open(&house, "GET", "/v1/changes?since=0", &[("authorization", &bearer)], "").await;
    let text = stream.next().await.unwrap() + &stream.next().await.unwrap();
    golden("changes.events", &masked(&text));

    // Page by page it is the same, once each.
    let (mut since, mut seen) = ("0".to_owned(), Vec::new());
    loop {
        let page = house.act(&house.admin, "GET", &format!("/v1/changes?limit=2&since={since}"), "").await.json();
        seen.extend(page["changes"].as_array().unwrap().clone());
        since = page["cursor"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(Value::Array(seen), all.json()["changes"]);
    let end = house.act(&house.admin, "GET", &format!("/v1/changes?since={since}"), "").await.json();
    assert_eq!((&end["changes"], &end["cursor"]), (&json!([]), &json!(since)));
    let present = house.act(&house.admin, "GET", "/v1/changes?wait=50s", "").await.json();
    assert_eq!(present, end, "who begins waits for nothing");
}

#[tokio::test]
async fn a_token_reads_its_domains_and_filters() {
    let house = House::furnished().await;
    let domains = |answer: Answer| {
        let json = answer.json();
        let rows = json["changes"].as_array().unwrap();
        let mut all: Vec<String> = rows.iter().map(|row| row["domain"].as_str().unwrap().to_owned()).collect();
        all.dedup();
        all.sort();
        all.dedup();
        all
    };
    for token in [&house.publisher, &house.auditor] {
        assert_eq!(domains(house.act(token, "GET", "/v1/changes?since=0", "").await), ["example.org"]);
        let other = house.act(token, "GET", "/v1/changes?domain=example.net", "").await;
        assert_eq!((other.status, other.code().as_str()), (403, "forbidden"));
    }
    let one = house.act(&house.admin, "GET", "/v1/changes?since=0&domain=example.net", "").await;
    assert_eq!(domains(one), ["example.net"]);
    let target = "/v1/changes?since=0&address=Alice@example.org";
    let alice = house.act(&house.publisher, "GET", target, "").await.json();
    let rows = alice["changes"].as_array().unwrap();
    assert!(rows.len() > 2 && rows.iter().all(|row| row["scope"] == "domain" || row["address"] == "alice@example.org"));
    for (target, status, code) in [
        ("/v1/changes", 401, "no-token"),
        ("/v1/changes?sinec=1", 400, "bad-query"),
        ("/v1/changes?since=x", 400, "bad-since"),
        ("/v1/changes?since=-1", 400, "bad-since"),
        ("/v1/changes?wait=51s", 400, "bad-query"),
        ("/v1/changes?wait=1m", 400, "bad-query"),
        ("/v1/changes?limit=0", 400, "bad-query"),
        ("/v1/changes?limit=1001", 400, "bad-query"),
        ("/v1/changes?domain=a..b", 400, "bad-domain"),
        ("/v1/changes?address=a", 400, "bad-address"),
    ] {
        let token = if status == 401 { "" } else { &house.admin };
        let answer = house.act(token, "GET", target, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{target}");
    }
    let accept = [("authorization", &*format!("Bearer {}", house.admin)), ("accept", "text/html")];
    assert_eq!(house.send("GET", "/v1/changes", &accept, "").await.status, 406);
}

#[tokio::test]
async fn a_cursor_of_another_history_is_told_to_start_over() {
    let house = House::furnished().await;
    let present = house.act(&house.admin, "GET", "/v1/changes", "").await.json()["cursor"].as_str().unwrap().to_owned();
    let (version, mark) = present.split_once('-').unwrap();
    let other =
        format!("{version}-{}", if mark == "0000000000000000" { "1111111111111111" } else { "0000000000000000" });
    for since in ["999", "999-0000000000000000", &other] {
        let answer = house.act(&house.admin, "GET", &format!("/v1/changes?since={since}"), "").await;
        assert_eq!((answer.status, answer.code().as_str()), (410, "reset"), "{since}");
        let bearer = format!("Bearer {}", house.admin);
        let headers = [("authorization", bearer.as_str()), ("last-event-id", since)];
        // The header field wins; the stream goes on from the present.
        let mut stream = Stream::open(&house, "GET", "/v1/changes?since=0", &headers, "").await;
        let opening = stream.next().await.unwrap();
        assert!(
            opening.contains("event: reset\n") && opening.contains(&format!("id: {present}\nevent: begin\n")),
            "{opening}"
        );
    }
    assert_eq!(house.act(&house.admin, "GET", &format!("/v1/changes?since={version}"), "").await.status, 200);
    // A store that was restored and went on differently: the same Versions, other marks.
    let restored = House::furnished().await;
    let answer = restored.act(&restored.admin, "GET", &format!("/v1/changes?since={present}"), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (410, "reset"));

    // Strangers look back a day and no longer.
    let before = format!("?since={present}");
    assert_eq!(names(&house, &before, &["alice@example.org"]).await.status, 200);
    assert_eq!(names(&house, "?since=0", &["alice@example.org"]).await.status, 200);
    house.set_time(NOW + 86_401);
    // Until its follower has looked again, the set seems a day old.
    while house.reader.published().is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(names(&house, "?since=0", &["alice@example.org"]).await.code(), "reset");
    assert_eq!(names(&house, &before, &["alice@example.org"]).await.status, 200, "nothing has happened since");
    assert_eq!(house.act(&house.admin, "GET", "/v1/changes?since=0", "").await.status, 200);
}

#[tokio::test]
async fn a_stranger_hears_of_the_names_it_knows() {
    let house = House::furnished().await;
    let hash = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db._smimecert.example.org";
    let list = ["Alice@example.org", hash, "nobody@example.org", "x@example.com"];
    let begin = names(&house, "", &list).await;
    assert_eq!(begin.status, 200, "{}", begin.text());
    let begin = begin.json();
    assert_eq!((&begin["names"], &begin["not_hosted"]), (&json!([]), &json!(["example.com"])));
    let since = begin["cursor"].as_str().unwrap().to_owned();

    let body = json!({ "names": list }).to_string();
    let mut stream = Stream::open(&house, "POST", "/v1/changes", &[("content-type", "application/json")], &body).await;
    let (name, data) = stream.event().await;
    assert_eq!((name.as_str(), &data["not_hosted"]), ("begin", &json!(["example.com"])));

    // Nothing is heard of others.
    withdraw(&house, "bob@example.org").await;
    let version = withdraw(&house, "alice@example.org").await;
    let (name, data) = stream.event().await;
    assert_eq!(name, "changed");
    assert_eq!(data["names"], json!([hash, "Alice@example.org"]));
    assert_eq!((&data["version"], &data["domains"]), (&json!(version), &json!([])));
    shown(&house, version).await;
    let poll = names(&house, &format!("?wait=50&since={since}"), &list).await;
    golden("names.json", &masked(&poll.text()));

    // Nor of what the world cannot see: this one was superseded long ago.
    let old = WithdrawTarget::Certificate(Sha256::digest(certificate_der("alice-2026")).into());
    let unseen = house.store.withdraw(old, None, &Authority::Operator, NOW).await.unwrap().version;
    shown(&house, unseen).await;
    let cursor = poll.json()["cursor"].as_str().unwrap().to_owned();
    let poll = names(&house, &format!("?since={cursor}"), &list).await.json();
    assert_eq!((&poll["names"], &poll["version"]), (&json!([]), &json!(unseen)));
    let log = house.act(&house.admin, "GET", &format!("/v1/changes?since={cursor}"), "").await.json();
    assert_eq!((&log["changes"][0]["kind"], &log["changes"][0]["public"]), (&json!("withdrawn"), &json!(false)));

    // The domain's own certificate concerns every name of it.
    withdraw(&house, "domain-confidentiality-authority@example.org").await;
    let (_, data) = stream.event().await;
    assert_eq!((&data["names"], &data["domains"]), (&json!([]), &json!(["example.org"])));

    for (body, code) in [("{}", "bad-name"), (r#"{"names": ["x"]}"#, "bad-name"), ("", "bad-name")] {
        let answer = house.send("POST", "/v1/changes", &[("content-type", "application/json")], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{body}");
    }
    let form = house.send("POST", "/v1/changes", &[("content-type", "text/plain")], "{}").await;
    assert_eq!(form.status, 415);
    let domain = house.send("POST", "/v1/changes?domain=example.org", &[], "{}").await;
    assert_eq!((domain.status, domain.code().as_str()), (400, "bad-query"));
    let large = house.send("POST", "/v1/changes", &[("content-type", "application/json")], vec![b' '; 3 << 20]).await;
    assert_eq!((large.status, large.code().as_str()), (413, "too-large"));
}

#[tokio::test]
async fn a_poll_that_waits_is_answered_by_the_change() {
    let house = std::sync::Arc::new(House::furnished().await);
    let since = names(&house, "", &["alice@example.org"]).await.json()["cursor"].as_str().unwrap().to_owned();
    let (waiting, target) = (house.clone(), format!("?wait=50s&since={since}"));
    let poll = tokio::spawn(async move { names(&waiting, &target, &["alice@example.org"]).await.json() });
    // Others do not wake it for good.
    withdraw(&house, "bob@example.org").await;
    let version = withdraw(&house, "alice@example.org").await;
    let answer = poll.await.unwrap();
    assert_eq!((&answer["names"], &answer["version"]), (&json!(["alice@example.org"]), &json!(version)));
    // One whose time is over says where the present is.
    let over = names(&house, &format!("?wait=1s&since={since}"), &["bob@example.net"]).await.json();
    assert_eq!((&over["names"], &over["version"], &over["more"]), (&json!([]), &json!(version), &json!(false)));
}

#[tokio::test]
async fn subscriptions_are_limited_and_end_with_their_token() {
    let house = House::furnished().await;
    let bearer = format!("Bearer {}", house.auditor);
    let headers = [("authorization", bearer.as_str())];
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(Stream::open(&house, "GET", "/v1/changes", &headers, "").await);
    }
    let refused = house.act(&house.auditor, "GET", "/v1/changes", "").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too-many-subscriptions"));
    assert_eq!(names(&house, "", &["alice@example.org"]).await.code(), "too-many-subscriptions");
    assert!(house.get("/metrics").await.text().contains("certdir_http_subscriptions 32\n"));
    held.truncate(1);
    assert_eq!(house.act(&house.auditor, "GET", "/v1/changes", "").await.status, 200);

    let mut stream = held.pop().unwrap();
    assert_eq!(stream.event().await.0, "begin");
    let tokens = house.store.tokens(&Authority::Operator).await.unwrap();
    let id = &tokens.iter().find(|token| token.name == "auditor").unwrap().id;
    house.store.revoke_token(id, &Authority::Operator, NOW).await.unwrap();
    tokio::time::pause();
    let heartbeat = stream.next().await.unwrap();
    assert!(heartbeat.starts_with(":\nid: "), "{heartbeat}");
    // The store answers in real time.
    tokio::time::resume();
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_slow_reader_misses_nothing() {
    let house = House::furnished().await;
    let bearer = format!("Bearer {}", house.admin);
    let target = "/v1/changes?limit=3&domain=example.net";
    let mut stream = Stream::open(&house, "GET", target, &[("authorization", &bearer)], "").await;
    assert_eq!(stream.event().await.0, "begin");
    // More than any tail would hold for one subscriber; nothing is read meanwhile.
    let before = house.reader.published().unwrap().version();
    let mut last = before;
    for n in 0..20 {
        let settings = json!({ "ttl": 100 + n });
        house
            .store
            .change_domain(&domain("example.net"), settings.as_object().unwrap(), &Authority::Operator, NOW)
            .await
            .unwrap();
        last += 1;
    }
    shown(&house, last).await;
    for version in before + 1..=last {
        let (name, data) = stream.event().await;
        assert_eq!((name.as_str(), &data["version"], &data["scope"]), ("change", &json!(version), &json!("domain")));
    }
}
