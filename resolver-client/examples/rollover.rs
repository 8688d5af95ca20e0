//! How soon a gateway has a reissued certificate: from the publish call to the verdict, with many addresses watched.
//!
//!     rollover push|feed|ttl HOST DNS-PORT DOT-PORT HTTP-PORT ANCHOR-FILE TLS-AUTHORITIES TOKEN DOMAIN WATCHED REISSUES
//!
//! Publishes a certificate for each of so many people of a hosted domain, watches all of them, waits until every
//! one is subscribed to, and then reissues one after the other over the HTTP API. The clock starts before the request is sent and stops when
//! the stream gives the new certificate. One line of numbers goes to standard output.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a measurement, which reads the clock and prints"
)]

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use certdir_resolver::tls::Tls;
use certdir_resolver::{Address, Feed, PushServer, Resolver, Rollovers, Watching};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// Certificates in one request while the directory is filled.
const AT_ONCE: usize = 500;

/// Between two reissues.
const PAUSE: Duration = Duration::from_millis(20);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

type Failed = Box<dyn Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [way, host, dns, dot, http, anchor, authorities, token, domain, watched, reissues] = &given[..] else {
        return Err(
            "expected: push|feed|ttl HOST DNS-PORT DOT-PORT HTTP-PORT ANCHOR AUTHORITIES TOKEN DOMAIN WATCHED REISSUES"
                .into(),
        );
    };
    let (watched, reissues): (usize, usize) = (watched.parse()?, reissues.parse()?);
    let mut directory = Directory::connect(&format!("{host}:{http}"), token).await?;
    let key = KeyPair::generate()?;
    let address = |number: usize| format!("person{number}@{domain}");
    let start = SystemTime::now() - Duration::from_secs(40 * 86_400);
    // A directory that was filled before is not filled again: the certificates would be older than those it has.
    let generation = u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() % (20 * 86_400))?;
    let issue = |number: usize, age: u32| {
        certificate(&key, &address(number), start + Duration::from_secs(1) * (generation + age))
    };
    for first in (0..watched).step_by(AT_ONCE) {
        let batch: Result<String, Failed> =
            (first..watched.min(first + AT_ONCE)).map(|n| Ok(issue(n, 0)?.pem())).collect();
        directory.publish(&batch?).await?;
    }

    let tls = Tls::authorities(&fs::read(authorities)?)?;
    let mut watching = Watching::new()?.without_discovery();
    match way.as_str() {
        "push" => {
            let server = PushServer::new(format!("{host}:{dot}").parse()?, host.as_str(), tls);
            watching = watching.push_server(server);
        }
        "feed" => watching = watching.feed(Feed::new(&format!("http://{host}:{http}"), tls)?),
        _ => {}
    }
    let clock = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
    };
    let resolver = Resolver::builder(Arc::new(clock))
        .server(format!("{host}:{dns}").parse()?)
        .trust_anchor_file(anchor)
        .cache(1 << 17, 1 << 30)
        .watching(watching)
        .build()?;
    let began = Instant::now();
    let addresses = (0..watched).map(|number| Address::parse(&address(number))).collect::<Result<Vec<_>, _>>()?;
    let mut streams: Vec<Rollovers> =
        addresses.iter().map(|address| resolver.watch(address)).collect::<Result<_, _>>()?;
    for stream in &mut streams {
        stream.next().await.ok_or("the resolver ended")?;
    }
    let first = began.elapsed();
    let all = u64::try_from(watched)?;
    settle(&resolver, |counters| match way.as_str() {
        "push" => counters.by_push == all,
        "feed" => counters.by_feed == all,
        _ => true,
    })
    .await?;
    let subscribed = began.elapsed();

    let (mut replies, mut verdicts) = (Vec::new(), Vec::new());
    for round in 0..reissues {
        let number = round * 7_919 % watched;
        let age = u32::try_from(60 + round)?;
        let new = issue(number, age)?;
        let clock = Instant::now();
        directory.publish(&new.pem()).await?;
        replies.push(clock.elapsed());
        loop {
            let next = tokio::time::timeout(PATIENCE, streams[number].next()).await?;
            let verdict = next.ok_or("the resolver ended")?.new;
            if verdict.certificate().is_some_and(|c| c.der()[..] == new.der()[..]) {
                break;
            }
        }
        verdicts.push(clock.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let at = |times: &mut Vec<Duration>, permille: usize| {
        times.sort_unstable();
        ms(times[(times.len() * permille / 1_000).min(times.len() - 1)])
    };
    println!(
        "{way}: {watched} watched, first verdicts after {:.1} s, all subscribed after {:.1} s; {reissues} reissues: \
         reply p50 {:.2} p99 {:.2} ms; verdict p50 {:.2} p99 {:.2} max {:.2} ms; {:?}",
        first.as_secs_f64(),
        subscribed.as_secs_f64(),
        at(&mut replies, 500),
        at(&mut replies, 990),
        at(&mut verdicts, 500),
        at(&mut verdicts, 990),
        at(&mut verdicts, 1_000),
        resolver.watch_counters(),
    );
    Ok(())
}

/// Waits until the counters are right and nothing is asked for any more.
async fn settle(resolver: &Resolver, right: impl Fn(&certdir_resolver::WatchCounters) -> bool) -> Result<(), Failed> {
    let began = Instant::now();
    let mut before = u64::MAX;
    loop {
        let counters = resolver.watch_counters();
        if right(&counters) && counters.refreshes == before {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("not subscribed in time: {counters:?}").into());
        }
        before = counters.refreshes;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn certificate(key: &KeyPair, address: &str, not_before: SystemTime) -> Result<rcgen::Certificate, Failed> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, address);
    parameters.subject_alt_names.push(SanType::Rfc822Name(address.try_into()?));
    parameters.not_before = not_before.into();
    parameters.not_after = (not_before + Duration::from_secs(300 * 86_400)).into();
    parameters.key_usages.push(KeyUsagePurpose::KeyAgreement);
    parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::EmailProtection);
    Ok(parameters.self_signed(key)?)
}

/// The directory's HTTP API, on one connection.
struct Directory {
    stream: BufStream<TcpStream>,
    token: String,
}

impl Directory {
    async fn connect(address: &str, token: &str) -> Result<Directory, Failed> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Directory { stream: BufStream::new(stream), token: token.to_owned() })
    }

    async fn publish(&mut self, pem: &str) -> Result<(), Failed> {
        let (token, length) = (&self.token, pem.len());
        let head = format!(
            "POST /v1/certificates HTTP/1.1\r\nHost: directory\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/x-pem-file\r\nContent-Length: {length}\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(pem.as_bytes()).await?;
        self.stream.flush().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await?);
        }
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        let length =
            head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()).ok_or("no length")?;
        let mut body = vec![0; length.parse()?];
        self.stream.read_exact(&mut body).await?;
        let body = String::from_utf8_lossy(&body);
        if !head.starts_with("http/1.1 200") || !body.contains("\"published\"") {
            return Err(format!("not published: {head}{body}").into());
        }
        Ok(())
    }
}
