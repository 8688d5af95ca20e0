//! One answer whatever the transport, and what each of them takes care of.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::{Request, Response, header};
use certdir_dns::{Counters, Error, Frontend, Options, Policy, Rcode, Snapshot, Source};
use certdir_zones::RecordType;
use data_encoding::BASE64URL_NOPAD;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tower::ServiceExt;

use crate::message::Message;
use crate::world::{NOW, World, generosity, opt, question};

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const ALICE: &str = "alice._smimecert.example.org";

/// A front end on every transport, in a thread of its own; stopped when dropped.
pub(crate) struct House {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    quic: SocketAddr,
    https: Router,
    pub(crate) counters: Counters,
    /// What its clock says.
    pub(crate) now: Arc<AtomicI64>,
    certificate: CertificateDer<'static>,
    client: Runtime,
    shutdown: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl House {
    pub(crate) fn open(ip: IpAddr, options: Options) -> House {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = |protocol: &str| {
            let provider = rustls::crypto::ring::default_provider().into();
            let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let mut config =
                builder.with_no_client_auth().with_single_cert(vec![certificate.clone()], key.clone_key()).unwrap();
            config.alpn_protocols = vec![protocol.into()];
            Arc::new(config)
        };
        let world = World::new();
        let any = [SocketAddr::new(ip, 0)];
        let frontend = Frontend::bind(&any, options).unwrap();
        let frontend = frontend.with_tls(&any, config("dot")).unwrap().with_quic(&any, config("doq")).unwrap();
        let now = Arc::new(AtomicI64::new(NOW));
        let seconds = now.clone();
        let clock: certdir_directory::Clock = Arc::new(move || seconds.load(Ordering::Relaxed));
        let https = frontend.over_https("/dns-query", &world, clock.clone()).layer(Extension(Source(LOOPBACK)));
        let (plain, tls, quic) = (frontend.addresses()[0], frontend.tls_addresses()[0], frontend.quic_addresses()[0]);
        let counters = frontend.counters();
        let (shutdown, stop) = watch::channel(false);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(frontend.run(world, clock, stop))
        });
        let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        House { plain, tls, quic, https, counters, now, certificate, client, shutdown, thread: Some(thread) }
    }

    fn new() -> House {
        House::open(LOOPBACK, Options { policy: generosity(), ..Options::default() })
    }

    /// What `/metrics` says in the line that begins so.
    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        self.counters.write_metrics(&mut text).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
    }

    fn snapshot(&self) -> Snapshot {
        self.counters.snapshot()
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.plain).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn client_config(&self, protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = rustls::crypto::ring::default_provider().into();
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    async fn tls(&self, protocols: &[&str]) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.client_config(protocols)));
        let stream = tokio::net::TcpStream::connect(self.tls).await.unwrap();
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    async fn quic(&self, server: SocketAddr) -> (quinn::Endpoint, quinn::Connection) {
        let mut endpoint = quinn::Endpoint::client(SocketAddr::new(LOOPBACK, 0)).unwrap();
        let config = QuicClientConfig::try_from(self.client_config(&["doq"])).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
        let connection = endpoint.connect(server, "localhost").unwrap().await.unwrap();
        (endpoint, connection)
    }

    fn over_udp(&self, request: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(request, self.plain).unwrap();
        let mut response = vec![0; 4096];
        let length = socket.recv(&mut response).unwrap();
        response.truncate(length);
        response
    }

    pub(crate) fn over_tcp(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.tcp();
        stream.write_all(&framed(request)).unwrap();
        read_framed(&mut stream)
    }

    pub(crate) fn over_tls(&self, request: &[u8]) -> Vec<u8> {
        self.client.block_on(async {
            let mut stream = self.tls(&["dot"]).await.unwrap();
            stream.write_all(&framed(request)).await.unwrap();
            let mut response = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut response).await.unwrap();
            response
        })
    }

    pub(crate) fn over_quic(&self, request: &[u8]) -> Result<Vec<u8>, quinn::ReadToEndError> {
        self.client.block_on(async {
            let (_endpoint, connection) = self.quic(self.quic).await;
            let (mut send, mut receive) = connection.open_bi().await.unwrap();
            send.write_all(&framed(request)).await.unwrap();
            send.finish().unwrap();
            let response = receive.read_to_end(70_000).await?;
            assert_eq!(usize::from(u16::from_be_bytes([response[0], response[1]])), response.len() - 2);
            Ok(response[2..].to_vec())
        })
    }

    fn https(&self, request: Request<Body>) -> (Response<()>, Vec<u8>) {
        self.client.block_on(async {
            let (head, body) = self.https.clone().oneshot(request).await.unwrap().into_parts();
            let body = axum::body::to_bytes(body, 70_000).await.unwrap();
            (Response::from_parts(head, ()), body.to_vec())
        })
    }

    fn get(&self, query: &str) -> (Response<()>, Vec<u8>) {
        self.https(Request::get(format!("/dns-query?{query}")).body(Body::empty()).unwrap())
    }

    fn post(&self, media_type: &str, body: Vec<u8>) -> (Response<()>, Vec<u8>) {
        let request = Request::post("/dns-query").header(header::CONTENT_TYPE, media_type);
        self.https(request.body(Body::from(body)).unwrap())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

pub(crate) fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).unwrap();
    octets
}

/// A query with identification 0.
pub(crate) fn query(owner: &str, rtype: RecordType, options: &[u8]) -> Vec<u8> {
    let mut opt = opt(4096, true);
    opt[10] = options.len() as u8;
    let mut query = question(owner, rtype, Some([opt, options.to_vec()].concat()));
    query[..2].fill(0);
    query
}

/// What a response says, without the signatures of denials, which every thread makes for itself.
fn said(octets: &[u8]) -> String {
    let message = Message::read(octets);
    let mut said = format!("{:04x} {:04x} {:?}", message.id, message.flags, message.question);
    for record in message.answers.iter().chain(&message.authorities).chain(&message.additionals) {
        let signed_here = record.rtype == RecordType::RRSIG && record.rdata[..2] == RecordType::NSEC3.0.to_be_bytes();
        let rdata = if signed_here { &record.rdata[..8] } else { &record.rdata[..] };
        said += &format!("\n{:?} {:?} {} {rdata:?}", record.owner, record.rtype, record.ttl);
    }
    said
}

#[test]
fn every_transport_gives_the_same_answer() {
    let house = House::new();
    let without_edns = |owner, rtype| {
        let mut query = question(owner, rtype, None);
        query[..2].fill(0);
        query
    };
    let mut odd_opcode = query(ALICE, RecordType::SMIMEA, &[]);
    odd_opcode[2] |= 0x28;
    let mut two_questions = query(ALICE, RecordType::SMIMEA, &[]);
    two_questions[5] = 2;
    let mut version = query(ALICE, RecordType::SMIMEA, &[]);
    let at = version.len() - 5;
    version[at] = 1;
    for (what, request) in [
        ("hit", query(ALICE, RecordType::SMIMEA, &[])),
        ("case", query("aLiCe._SmImEcErT.example.ORG", RecordType::SMIMEA, &[])),
        ("without DNSSEC", without_edns("carol._smimecert.plain.example", RecordType::SMIMEA)),
        ("large", query("pq._smimecert.example.org", RecordType::SMIMEA, &[])),
        ("wildcard", query("somebody._smimecert.example.org", RecordType::SMIMEA, &[])),
        ("no such type", query(ALICE, RecordType::TXT, &[])),
        ("no such name", query("nobody._smimecert.plain.example", RecordType::SMIMEA, &[])),
        ("empty name", query("_tcp.direct.example.net", RecordType::SRV, &[])),
        ("alias", query("www.direct.example.net", RecordType::CERT, &[])),
        ("apex", query("_smimecert.example.org", RecordType::DNSKEY, &[])),
        ("any", query(ALICE, RecordType::ANY, &[])),
        ("elsewhere", query("example.com", RecordType::SMIMEA, &[])),
        ("odd opcode", odd_opcode),
        ("malformed", two_questions),
        ("version of EDNS", version),
        ("unknown option", query(ALICE, RecordType::SMIMEA, &[0xFD, 0xE9, 0, 1, 7])),
    ] {
        let tcp = house.over_tcp(&request);
        let expected = said(&tcp);
        let udp = house.over_udp(&request);
        if Message::read(&udp).truncated() {
            assert!(tcp.len() > 512, "{what}");
        } else {
            assert_eq!(said(&udp), expected, "{what} over UDP");
        }
        assert_eq!(said(&house.over_tls(&request)), expected, "{what} over TLS");
        assert_eq!(said(&house.over_quic(&request).unwrap()), expected, "{what} over QUIC");
        let (head, body) = house.get(&format!("dns={}", BASE64URL_NOPAD.encode(&request)));
        assert_eq!((head.status().as_u16(), said(&body)), (200, expected.clone()), "{what} by GET");
        let (head, body) = house.post("application/dns-message", request);
        assert_eq!((head.status().as_u16(), said(&body)), (200, expected), "{what} by POST");
    }
    let Snapshot { udp, tcp, tls, https, quic } = house.snapshot();
    let queries = [udp, tcp, tls, https, quic].map(|sums| sums.queries());
    assert_eq!(queries, [16, 16, 16, 32, 16]);
    for (transport, count) in [("tcp", 16), ("dot", 16), ("doh", 32), ("doq", 16)] {
        let name = format!("certdir_dns_latency_seconds_count{{transport=\"{transport}\"}}");
        assert_eq!(house.metric(&name), count, "{transport}");
    }
    assert_eq!(quic.responses(Rcode::NXDOMAIN), tcp.responses(Rcode::NXDOMAIN));
}

#[test]
fn rfc8484_statuses_and_lifetimes() {
    let house = House::new();
    let hit = query(ALICE, RecordType::SMIMEA, &[]);
    let status = |(head, _): (Response<()>, Vec<u8>)| head.status().as_u16();
    for wrong in ["", "dns=", "dns=AAA%3D", "dns=AAAAAA", &format!("dns={}=", BASE64URL_NOPAD.encode(&hit))] {
        assert_eq!(status(house.get(wrong)), 400, "{wrong}");
    }
    let response = [&hit[..2], &[0x80], &hit[3..]].concat();
    assert_eq!(status(house.post("application/dns-message", response)), 400, "no query");
    assert_eq!(status(house.post("text/plain", hit.clone())), 415);
    assert_eq!(status(house.post("application/dns-message", vec![0; 70_000])), 413);
    let (head, _) = house.https(Request::delete("/dns-query").body(Body::empty()).unwrap());
    assert_eq!((head.status().as_u16(), head.headers()[header::ALLOW].to_str().unwrap()), (405, "GET,HEAD,POST"));
    let kept = |owner, rtype| {
        let (head, _) = house.post("application/dns-message", query(owner, rtype, &[]));
        assert_eq!(head.headers()[header::CONTENT_TYPE], "application/dns-message");
        head.headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned()
    };
    // Section 5.1: the TTL of the records; what the SOA record says where there are none; nothing for an error.
    assert_eq!(kept(ALICE, RecordType::SMIMEA), "max-age=3600");
    assert_eq!(kept("nobody._smimecert.plain.example", RecordType::SMIMEA), "max-age=300");
    assert_eq!(kept("example.com", RecordType::SMIMEA), "no-store");
}

#[test]
fn rfc7858_alpn_and_one_record_for_many_answers() {
    let house = House::new();
    house.client.block_on(async {
        assert!(house.tls(&["h2"]).await.is_err(), "another protocol");
        let mut stream = house.tls(&[]).await.unwrap();
        let ten: Vec<u8> = framed(&query(ALICE, RecordType::SMIMEA, &[])).repeat(10);
        stream.write_all(&ten).await.unwrap();
        let mut all = vec![0; 65_536];
        let first = stream.read(&mut all).await.unwrap();
        let one = usize::from(u16::from_be_bytes([all[0], all[1]])) + 2;
        assert_eq!(first, 10 * one, "one TLS record");
    });
}

/// RFC 8467 section 4.1, where nobody sees the length; RFC 7830 section 6: never in the clear.
#[test]
fn rfc8467_padding_is_for_encrypted_transports() {
    let house = House::new();
    let request = query(ALICE, RecordType::SMIMEA, &[0, 12, 0, 4, 0, 0, 0, 0]);
    let padded = |octets: Vec<u8>| octets.len().is_multiple_of(468);
    assert!(padded(house.over_tls(&request)));
    assert!(padded(house.over_quic(&request).unwrap()));
    assert!(padded(house.post("application/dns-message", request.clone()).1));
    let [tcp, udp] = [house.over_tcp(&request), house.over_udp(&request)];
    assert_eq!(tcp.len(), house.over_tcp(&query(ALICE, RecordType::SMIMEA, &[])).len());
    assert_eq!(udp.len(), tcp.len());
}

/// RFC 7828: told over streams to those who ask, and kept to.
#[test]
fn rfc7828_keepalive() {
    let second = Duration::from_secs(1);
    let options = Options { policy: generosity(), idle: 3 * second, keepalive: 600 * second, ..Options::default() };
    let house = House::open(LOOPBACK, options);
    let asking = query(ALICE, RecordType::SMIMEA, &[0, 11, 0, 0]);
    let told = |octets: &[u8]| Message::read(octets).opt().unwrap().rdata.clone();
    assert_eq!(told(&house.over_udp(&asking)), [0; 0]);
    assert_eq!(told(&house.over_tls(&asking)), [0, 11, 0, 2, 0x17, 0x70], "600 s in units of 100 ms");
    let mut silent = house.tcp();
    let mut keeping = house.tcp();
    silent.write_all(&framed(&query(ALICE, RecordType::SMIMEA, &[]))).unwrap();
    keeping.write_all(&framed(&asking)).unwrap();
    assert_eq!(told(&read_framed(&mut silent)), [0; 0]);
    assert_eq!(told(&read_framed(&mut keeping)), [0, 11, 0, 2, 0x17, 0x70]);
    assert!(matches!(silent.read(&mut [0]), Ok(0)), "closed when idle");
    keeping.write_all(&framed(&asking)).unwrap();
    read_framed(&mut keeping);
}

#[test]
fn a_client_that_has_closed_its_side_still_gets_its_answers() {
    let house = House::new();
    let mut stream = house.tcp();
    let twenty: Vec<u8> = framed(&query("pq._smimecert.example.org", RecordType::SMIMEA, &[])).repeat(20);
    stream.write_all(&twenty).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..20 {
        assert!(read_framed(&mut stream).len() > 50_000);
    }
    assert!(matches!(stream.read(&mut [0]), Ok(0)));
}

/// RFC 9250 sections 4.2.1, 4.3.3 and 5.5.2.
#[test]
fn rfc9250_protocol_errors_end_the_connection() {
    let house = House::new();
    let good = query(ALICE, RecordType::SMIMEA, &[]);
    let mut numbered = good.clone();
    numbered[1] = 1;
    let cases = [
        ("identification", framed(&numbered)),
        ("edns-tcp-keepalive", framed(&query(ALICE, RecordType::SMIMEA, &[0, 11, 0, 0]))),
        ("two queries", framed(&good).repeat(2)),
        ("half a query", framed(&good)[..20].to_vec()),
        ("nothing", Vec::new()),
        ("a response", framed(&[&good[..2], &[0x80], &good[3..]].concat())),
    ];
    house.client.block_on(async {
        for (what, octets) in cases {
            let (_endpoint, connection) = house.quic(house.quic).await;
            let (mut send, _receive) = connection.open_bi().await.unwrap();
            send.write_all(&octets).await.unwrap();
            send.finish().unwrap();
            let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await else {
                panic!("{what}");
            };
            assert_eq!(close.error_code.into_inner(), 2, "{what}");
        }
        // One stream after the other, and many at once, on one connection.
        let (_endpoint, connection) = house.quic(house.quic).await;
        let mut streams = Vec::new();
        for _ in 0..200 {
            let (mut send, receive) = connection.open_bi().await.unwrap();
            send.write_all(&framed(&good)).await.unwrap();
            send.finish().unwrap();
            streams.push(receive);
            if streams.len() == 50 {
                for mut receive in streams.drain(..) {
                    assert!(receive.read_to_end(70_000).await.unwrap().len() > 700);
                }
            }
        }
        // A query longer than any: its stream is reset, the connection goes on.
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        let _ = send.write_all(&[0xFF; 20_000]).await;
        let _ = send.finish();
        assert!(receive.read_to_end(70_000).await.is_err());
        assert!(connection.close_reason().is_none());
    });
}

#[test]
fn an_answer_over_quic_leaves_from_the_address_that_was_asked() {
    let house = House::open(Ipv4Addr::UNSPECIFIED.into(), Options { policy: generosity(), ..Options::default() });
    for last in [1, 2, 77] {
        let asked = SocketAddr::new([127, 0, 0, last].into(), house.quic.port());
        // A client takes nothing from an address that it did not ask.
        house.client.block_on(async { house.quic(asked).await });
    }
}

/// RFC 7766 section 6.2.1.1 allows answers out of order: what waits for a signature holds nobody up, and gets SERVFAIL
/// in the end.
#[test]
fn a_query_that_waits_for_a_signature_holds_nobody_up() {
    let policy = Policy { signatures_per_second: 1, ..generosity() };
    let house = House::open(LOOPBACK, Options { workers: 1, policy, ..Options::default() });
    let mut stream = house.tcp();
    let mut all = Vec::new();
    for id in 1..=10u8 {
        let mut miss = query(&format!("nobody{id}._smimecert.plain.example"), RecordType::SMIMEA, &[]);
        miss[1] = id;
        all.extend(framed(&miss));
    }
    let mut hit = query(ALICE, RecordType::SMIMEA, &[]);
    hit[1] = 99;
    all.extend(framed(&hit));
    stream.write_all(&all).unwrap();
    let order: Vec<(u16, u16)> = (0..11)
        .map(|_| {
            let message = Message::read(&read_framed(&mut stream));
            (message.id, message.rcode())
        })
        .collect();
    let place = |wanted: u16| order.iter().position(|&(id, _)| id == wanted).unwrap();
    assert!(order.iter().any(|&(_, rcode)| rcode == Rcode::SERVFAIL.0), "{order:?}");
    let (last, _) = order[10];
    assert!(place(99) < place(last), "{order:?}");
    // Its latency is that of the waiting, too.
    let latency =
        |le: &str| house.metric(&format!("certdir_dns_latency_seconds_bucket{{transport=\"tcp\",le=\"{le}\"}}"));
    assert_eq!(latency("+Inf"), 11);
    assert!((1..11).contains(&latency("1")));
    assert_eq!(order[place(99)].1, 0);
}
