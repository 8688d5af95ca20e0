//! Connections: real sockets and curl for what only they show, a pipe and paused time for the limits in time.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use certdir_directory::Allowance;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::house::{House, certificate_der, certificate_pem, extra_metrics};
use crate::frontend::serve;
use crate::{Error, Frontend, Options};

struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: JoinHandle<Result<(), Error>>,
}

async fn run(house: &House, options: Options) -> Running {
    let frontend = Frontend::bind(&["127.0.0.1:0".parse().unwrap()], options).unwrap();
    let address = frontend.addresses()[0];
    let (stop, stopped) = watch::channel(false);
    let allowance = Arc::new(Allowance::new(100, 100));
    let running = frontend.run(
        house.reader.clone(),
        house.store.clone(),
        allowance,
        house.clock.clone(),
        extra_metrics(),
        stopped,
    );
    Running { address, stop, ended: tokio::spawn(running) }
}

/// What curl prints: the body, then the status on a line of its own.
async fn curl(arguments: &[&str]) -> (Vec<u8>, String) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "20",
            "--write-out",
            "%{stderr}%{http_code}",
        ])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("these tests need curl");
    (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn curl_publishes_and_looks_up() {
    let house = House::empty().await;
    let running = run(&house, Options::default()).await;
    let url = |path: &str| format!("http://{}{path}", running.address);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alice.pem");
    std::fs::write(&file, certificate_pem("alice-2026")).unwrap();
    let data = format!("@{}", file.display());
    let bearer = format!("Authorization: Bearer {}", house.publisher);
    let publish = |data: String| {
        let (bearer, target) = (bearer.clone(), url("/v1/certificates"));
        async move {
            curl(&["-H", &bearer, "-H", "Content-Type: application/x-pem-file", "--data-binary", &data, &target]).await
        }
    };
    assert_eq!(publish(data).await.1, "200");
    assert_eq!(
        curl(&[&url("/v1/addresses/alice@example.org?format=der")]).await,
        (certificate_der("alice-2026"), "200".into())
    );
    assert_eq!(curl(&["-I", &url("/v1/addresses/alice@example.org")]).await.1, "200");
    assert_eq!(curl(&["-G", "--data-urlencode", "address=alice@example.org", &url("/lookup")]).await.1, "200");

    // Too large, whether the client waits for leave to send or not: it sees the refusal, not a reset.
    let large = folder.path().join("large.pem");
    std::fs::write(&large, vec![b'A'; 10_000_000]).unwrap();
    let data = format!("@{}", large.display());
    assert_eq!(publish(data.clone()).await.1, "413");
    for (authorization, status) in [(bearer.as_str(), "413"), ("Authorization: Bearer wrong", "401")] {
        for extra in [&["-H", "Expect:"][..], &["-H", "Expect:", "-H", "Transfer-Encoding: chunked"][..]] {
            let target = url("/v1/certificates");
            let mut arguments = vec!["-H", authorization, "-H", "Content-Type: text/plain", "--data-binary", &data];
            arguments.extend(extra);
            arguments.push(&target);
            assert_eq!(curl(&arguments).await.1, status, "{authorization} {extra:?}");
        }
    }
    let long = format!("X-Long: {}", "x".repeat(20_000));
    assert_eq!(curl(&["-H", &long, &url("/")]).await.1, "431");
    assert_eq!(curl(&[&url(&format!("/v1/addresses/{}@example.org", "a".repeat(20_000)))]).await.1, "431");
    running.stop.send(true).unwrap();
    running.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn malformed_requests_end_the_connection() {
    let house = House::empty().await;
    let running = run(&house, Options::default()).await;
    for request in [
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 505"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn one_source_cannot_hold_all_connections() {
    let house = House::empty().await;
    let running = run(&house, Options { connections_per_source: 2, ..Options::default() }).await;
    let held = [TcpStream::connect(running.address).await.unwrap(), TcpStream::connect(running.address).await.unwrap()];
    let mut third = TcpStream::connect(running.address).await.unwrap();
    // Closed at once, without an answer: an end of the stream, or a reset.
    assert_eq!(third.read(&mut [0; 16]).await.unwrap_or(0), 0);
    drop(held);
}

#[tokio::test]
async fn a_request_under_way_ends_before_the_program_does() {
    let house = House::empty().await;
    let running = run(&house, Options::default()).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    let pem = certificate_pem("alice-2026");
    let (first, rest) = pem.split_at(100);
    let head = format!(
        "POST /v1/certificates HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        house.publisher,
        pem.len()
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    busy.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    busy.write_all(first.as_bytes()).await.unwrap();
    running.stop.send(true).unwrap();
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0, "an idle connection ends at once");
    assert!(TcpStream::connect(running.address).await.is_err() || !running.ended.is_finished());
    busy.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    running.ended.await.unwrap().unwrap();
    assert_eq!(house.get("/v1/addresses/alice@example.org?format=der").await.body, certificate_der("alice-2026"));
}

#[test]
fn an_address_in_use_is_said_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Frontend::bind(&[address], Options::default()).err().unwrap();
    assert_eq!(error.code(), "http-bind");
    assert!(error.to_string().starts_with(&format!("cannot listen for HTTP on {address}: ")));
}

/// A connection on a pipe, with time that passes only when nothing else happens.
async fn pipe(house: &House) -> (tokio::io::DuplexStream, JoinHandle<()>, watch::Sender<bool>) {
    let (client, server) = tokio::io::duplex(1_024);
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve(server, false, "192.0.2.1".parse().unwrap(), house.router(), stopped));
    tokio::time::pause();
    (client, serving, stop)
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_end_in_time() {
    let house = House::empty().await;
    let (mut client, serving, _stop) = pipe(&house).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.unwrap();
    let mut answer = Vec::new();
    let start = tokio::time::Instant::now();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 15);
    serving.await.unwrap();

    tokio::time::resume();
    let (mut client, serving, _stop) = pipe(&house).await;
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200") || String::from_utf8_lossy(&answer).contains("200 OK"));
    serving.await.unwrap();
}

#[tokio::test]
async fn a_reader_that_never_reads_ends_with_the_connections_life() {
    let house = House::furnished().await;
    let (mut client, serving, _stop) = pipe(&house).await;
    // More answers than the pipe holds, none of them read.
    for _ in 0..4 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    }
    let start = tokio::time::Instant::now();
    serving.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 310, "its life and the grace");
}

/// Streams that are opened and reset at once (CVE-2023-44487): the connection ends after a few of them.
#[tokio::test]
async fn rapid_resets_end_their_connection() {
    let house = House::furnished().await;
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let (_stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve(server, true, "192.0.2.1".parse().unwrap(), house.router(), stopped));
    // RFC 9113 section 3.4: the preface and empty settings; then HEADERS (GET, http, /) and RST_STREAM (CANCEL), 20,000
    // times: less than the pipe holds.
    let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1..40_000u32).step_by(2) {
        let stream = stream.to_be_bytes();
        octets.extend([&[0, 0, 3, 1, 5][..], &stream, &[0x82, 0x86, 0x84]].concat());
        octets.extend([&[0, 0, 4, 3, 0][..], &stream, &[0, 0, 0, 8]].concat());
    }
    client.write_all(&octets).await.unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    // RFC 9113 section 7: GOAWAY with ENHANCE_YOUR_CALM.
    let goaway = said.windows(17).any(|frame| frame[..5] == [0, 0, frame[2], 7, 0] && frame[13..] == [0, 0, 0, 0xB]);
    assert!(goaway, "{} octets", said.len());
    serving.await.unwrap();
}
