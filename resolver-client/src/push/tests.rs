//! The push client against a server that plays its part and stops at every octet of it.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use certdir_zones::dso::{self, Change, Keepalive, Push, Tlv, What, Writer};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// What the server does on one connection.
#[derive(Clone)]
pub(crate) struct Part {
    /// Octets that it sends after the handshake before it closes the connection.
    pub(crate) octets: usize,
    /// It closes before the handshake.
    pub(crate) no_handshake: bool,
    /// The response code of a SUBSCRIBE, and for how long to wait.
    pub(crate) refusal: Option<(u8, u32)>,
    /// The response code of the first Keepalive.
    pub(crate) rcode: u8,
    pub(crate) timeouts: Keepalive,
    /// It does not reply to keepalives after the first.
    pub(crate) falls_silent: bool,
    /// After the subscription it sends the client away for so many milliseconds.
    pub(crate) retry_delay: Option<u32>,
    /// There are no records yet: nothing is pushed at the beginning.
    pub(crate) no_records: bool,
    /// A message that it sends after the subscription.
    pub(crate) also: Option<Vec<u8>>,
    /// Each time it is notified, the last topic that was subscribed to is pushed again.
    pub(crate) again: Option<Arc<Notify>>,
}

impl Default for Part {
    fn default() -> Part {
        Part {
            octets: usize::MAX,
            no_handshake: false,
            refusal: None,
            rcode: 0,
            timeouts: Keepalive { inactivity: 600_000, interval: 600_000 },
            falls_silent: false,
            retry_delay: None,
            no_records: false,
            also: None,
            again: None,
        }
    }
}

/// A push server for tests: connection after connection plays the next part, the last one for ever.
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Tls,
    pub(crate) connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stage {
    pub(crate) async fn set(parts: Vec<Part>) -> Stage {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["push.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let tls = Tls::authorities(certificate.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut playing = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let part = parts.get(number).or(parts.last()).unwrap().clone();
                playing.spawn(play(stream, acceptor.clone(), part));
            }
        });
        Stage { address, tls, connections, task }
    }

    fn target(&self) -> Target {
        Target { host: "127.0.0.1".to_owned(), port: self.address.port(), tls_name: "push.example".to_owned() }
    }

    /// A client of it, and its events.
    fn client(&self, pace: Pace) -> Client {
        let server = Arc::new(Server::new(vec![self.target()]));
        let (sender, events) = mpsc::channel(16);
        let dialer = Dialer { tls: self.tls.clone(), reach: Reach::everywhere(), pace };
        let task = tokio::spawn(run(Arc::clone(&server), dialer, sender));
        Client { server, events, task }
    }
}

struct Client {
    server: Arc<Server>,
    events: mpsc::Receiver<(Arc<Server>, Event)>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    #[track_caller]
    fn next(&mut self) -> impl Future<Output = Event> {
        let place = std::panic::Location::caller();
        let next = timeout(PATIENCE, self.events.recv());
        async move { next.await.unwrap_or_else(|_| panic!("no event at {place}")).unwrap().1 }
    }

    /// Events until the one awaited, which is not among them.
    async fn until(&mut self, awaited: &Event) -> Vec<Event> {
        let mut before = Vec::new();
        loop {
            let event = self.next().await;
            if event == *awaited {
                return before;
            }
            before.push(event);
        }
    }
}

/// Writes up to a number of octets, and then no more.
struct Pen<W> {
    writer: W,
    left: usize,
}

impl<W: tokio::io::AsyncWrite + Unpin> Pen<W> {
    /// `None` when the last octet was written that was to be.
    async fn write(&mut self, message: &[u8]) -> Option<()> {
        let framed = [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat();
        let part = &framed[..framed.len().min(self.left)];
        self.writer.write_all(part).await.ok()?;
        self.writer.flush().await.ok()?;
        self.left -= part.len();
        (self.left > 0).then_some(())
    }
}

async fn play(stream: TcpStream, acceptor: TlsAcceptor, part: Part) -> Option<()> {
    if part.no_handshake {
        return None;
    }
    let stream = acceptor.accept(stream).await.ok()?;
    let (mut reader, writer) = tokio::io::split(stream);
    let paper = Arc::new(tokio::sync::Mutex::new(Pen { writer, left: part.octets }));
    let mut keepalives = 0;
    let mut pushing = tokio::task::JoinSet::new();
    while paper.lock().await.left > 0 {
        let length = reader.read_u16().await.ok()?;
        let mut message = vec![0; usize::from(length)];
        reader.read_exact(&mut message).await.ok()?;
        let mut pen = Arc::clone(&paper).lock_owned().await;
        let Some(header) = dso::Header::read(&message) else {
            // A query: the response is the question.
            message[2] |= 0x80;
            pen.write(&message).await?;
            continue;
        };
        match dso::read(&message).unwrap().primary.unwrap() {
            Tlv::Keepalive(_) => {
                keepalives += 1;
                if keepalives > 1 && part.falls_silent {
                    continue;
                }
                pen.write(&Writer::response(header.id, part.rcode).keepalive(part.timeouts).finish()).await?;
            }
            Tlv::Subscribe(subject) => {
                if let Some((rcode, delay)) = part.refusal {
                    pen.write(&Writer::response(header.id, rcode).retry_delay(delay).finish()).await?;
                    continue;
                }
                pen.write(&Writer::response(header.id, 0).finish()).await?;
                let what = What::Added { ttl: 300, rdata: b"\x03\x00\x00certificate" };
                let mut push = Push::new();
                push.put(&Change { name: subject.name, rtype: subject.rtype, class: 1, what });
                let push = push.finish(None);
                if !part.no_records {
                    pen.write(&push).await?;
                }
                if let Some(again) = part.again.clone() {
                    let pen = Arc::clone(&paper);
                    pushing.abort_all();
                    pushing.spawn(async move {
                        loop {
                            again.notified().await;
                            pen.lock().await.write(&push).await;
                        }
                    });
                }
                if let Some(message) = &part.also {
                    pen.write(message).await?;
                }
                if let Some(delay) = part.retry_delay {
                    pen.write(&Writer::farewell(0, delay).finish()).await?;
                }
            }
            Tlv::Unsubscribe(_) => {}
            other => panic!("{other:?}"),
        }
    }
    None
}

pub(crate) fn quick() -> Pace {
    Pace {
        connect: PATIENCE,
        reply: PATIENCE,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(20),
        settled: Duration::from_secs(3_600),
        least_keepalive: Duration::from_millis(10),
        refused: Duration::from_millis(50),
        troubled: Duration::from_millis(50),
    }
}

fn topic(number: usize) -> Topic {
    Topic { name: Name::parse(&format!("n{number}._smimecert.example.org")).unwrap(), record_type: RecordType::SMIMEA }
}

#[tokio::test]
async fn a_session_cut_after_any_octet_comes_back_and_says_so() {
    // Keepalive and SUBSCRIBE replies and the first PUSH, with their lengths in front.
    let whole = (2 + 24) + (2 + 12) + (2 + 12 + 4 + 27 + 10 + 14);
    for octets in 0..whole {
        let stage = Stage::set(vec![Part { octets, ..Part::default() }, Part::default()]).await;
        let mut client = stage.client(quick());
        client.server.want(topic(1));
        let before = client.until(&Event::Lost).await;
        let subscribed = octets >= 26 + 14;
        let expected: &[Event] = if subscribed { &[Event::Subscribed(topic(1))] } else { &[] };
        assert_eq!(before, expected, "cut after {octets}");
        assert_eq!(client.next().await, Event::Subscribed(topic(1)), "cut after {octets}");
        assert_eq!(client.next().await, Event::Changed(topic(1)), "cut after {octets}");
        assert_eq!(stage.connections.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_shakes_no_hands_is_tried_again() {
    let part = Part { no_handshake: true, ..Part::default() };
    let stage = Stage::set(vec![part.clone(), part, Part::default()]).await;
    let mut client = stage.client(quick());
    client.server.want(topic(1));
    assert_eq!(client.until(&Event::Subscribed(topic(1))).await, [Event::Lost, Event::Lost]);
    assert!(client.server.is_up());

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let gone = Target { host: "127.0.0.1".to_owned(), port: address.port(), tls_name: "push.example".to_owned() };
    let server = Arc::new(Server::new(vec![gone, stage.target()]));
    let (sender, mut events) = mpsc::channel(16);
    let dialer = Dialer { tls: stage.tls.clone(), reach: Reach::everywhere(), pace: quick() };
    let task = tokio::spawn(run(Arc::clone(&server), dialer, sender));
    server.want(topic(1));
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap().1, Event::Lost);
    let next = timeout(PATIENCE, events.recv()).await.unwrap().unwrap().1;
    assert_eq!(next, Event::Subscribed(topic(1)), "the next host");
    task.abort();
}

#[tokio::test]
async fn a_server_with_another_name_or_address_than_it_may_have_is_not_talked_to() {
    let stage = Stage::set(vec![Part::default()]).await;
    let other = Target { tls_name: "other.example".to_owned(), ..stage.target() };
    for (target, reach) in [(other, Reach::everywhere()), (stage.target(), Reach::public())] {
        let server = Arc::new(Server::new(vec![target]));
        let (sender, mut events) = mpsc::channel(16);
        let dialer = Dialer { tls: stage.tls.clone(), reach, pace: quick() };
        let task = tokio::spawn(run(Arc::clone(&server), dialer, sender));
        server.want(topic(1));
        for _ in 0..3 {
            assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap().1, Event::Lost);
        }
        task.abort();
    }
}

#[tokio::test]
async fn every_refusal_is_told_and_tried_again() {
    for rcode in [1, 2, 4, 5, 9, 11, 3] {
        let stage = Stage::set(vec![Part { refusal: Some((rcode, 20)), ..Part::default() }]).await;
        let mut client = stage.client(quick());
        client.server.want(topic(1));
        for _ in 0..3 {
            assert_eq!(client.next().await, Event::Refused(topic(1)), "{rcode}");
        }
        assert!(client.server.is_up());
        assert_eq!(stage.connections.load(Ordering::SeqCst), 1, "the session stays");
    }
}

#[tokio::test]
async fn a_server_without_stateful_operations_is_left_alone() {
    for rcode in [1, 4, 5] {
        let stage = Stage::set(vec![Part { rcode, ..Part::default() }]).await;
        let mut client = stage.client(Pace { refused: Duration::from_secs(3_600), ..quick() });
        client.server.want(topic(1));
        assert_eq!(client.next().await, Event::Lost);
        let next = timeout(Duration::from_millis(100), client.events.recv()).await;
        assert!(next.is_err(), "{rcode}: {next:?}");
        assert_eq!(stage.connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn what_was_refused_is_not_asked_for_sooner_over_another_connection() {
    let timeouts = Keepalive { inactivity: 50, interval: 60_000 };
    let stage = Stage::set(vec![Part { timeouts, refusal: Some((5, 3_600_000)), ..Part::default() }]).await;
    let mut client = stage.client(quick());
    for number in 1..4 {
        client.server.want(topic(number));
        assert_eq!(client.until(&Event::Lost).await, [Event::Refused(topic(number))]);
    }
    assert_eq!(stage.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn retry_delay_is_obeyed() {
    let away = Part { retry_delay: Some(300), ..Part::default() };
    let stage = Stage::set(vec![away, Part::default()]).await;
    let mut client = stage.client(quick());
    client.server.want(topic(1));
    client.until(&Event::Lost).await;
    let since = Instant::now();
    client.until(&Event::Subscribed(topic(1))).await;
    assert!(since.elapsed() >= Duration::from_millis(299), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed_by_its_keepalive() {
    let timeouts = Keepalive { inactivity: dso::NEVER, interval: 20 };
    let silent = Part { timeouts, falls_silent: true, ..Part::default() };
    let stage = Stage::set(vec![silent, Part { timeouts, ..Part::default() }]).await;
    let mut client = stage.client(Pace { reply: Duration::from_millis(200), ..quick() });
    client.server.want(topic(1));
    assert_eq!(client.next().await, Event::Subscribed(topic(1)));
    assert_eq!(client.next().await, Event::Changed(topic(1)));
    assert_eq!(client.next().await, Event::Lost);
    assert_eq!(client.until(&Event::Subscribed(topic(1))).await, []);
}

#[tokio::test]
async fn what_breaks_a_rule_ends_the_session() {
    let keepalive = |interval| Keepalive { inactivity: 60_000, interval };
    for (what, also) in [
        ("a keepalive interval that is too short", Writer::unidirectional().keepalive(keepalive(1)).finish()),
        ("an unknown unidirectional message", Writer::unidirectional().unsubscribe(1).finish()),
        ("a reply to nothing", Writer::response(999, 0).finish()),
        ("a response to nothing", b"\x99\x99\x80\x00\0\0\0\0\0\0\0\0".to_vec()),
        ("half a TLV", Writer::unidirectional().keepalive(keepalive(60_000)).finish()[..15].to_vec()),
        ("nothing", Vec::new()),
    ] {
        let stage = Stage::set(vec![Part { also: Some(also), ..Part::default() }, Part::default()]).await;
        let mut client = stage.client(quick());
        client.server.want(topic(1));
        client.until(&Event::Lost).await;
        client.until(&Event::Subscribed(topic(1))).await;
        assert_eq!(stage.connections.load(Ordering::SeqCst), 2, "{what}");
    }
    for (what, also) in [
        ("timeouts", Writer::unidirectional().keepalive(keepalive(60_000)).finish()),
        ("a request that is not known", Writer::request(7).reconfirm(&subject(), b"").finish()),
    ] {
        let stage = Stage::set(vec![Part { also: Some(also), ..Part::default() }]).await;
        let mut client = stage.client(quick());
        client.server.want(topic(1));
        client.until(&Event::Changed(topic(1))).await;
        let asked = client.server.ask(query()).await;
        // The unexpected request is answered, which this server does not expect in turn.
        assert!(asked.is_some() || what != "timeouts", "{what}");
    }
}

#[tokio::test]
async fn a_server_that_asks_and_does_not_read_is_left() {
    let (ours, mut theirs) = tokio::io::duplex(1_024);
    let server = Arc::new(Server::new(Vec::new()));
    let (events, _told) = mpsc::channel(1);
    let mut asks = locked(&server.answering).take().unwrap();
    let holding = Arc::clone(&server);
    let session = tokio::spawn(async move {
        let pace = Pace { reply: PATIENCE, ..Pace::default() };
        session::hold(ours, &holding, &pace, &mut Refused::default(), &mut asks, &events).await
    });
    let request = Writer::request(7).reconfirm(&subject(), b"").finish();
    let framed = [&u16::try_from(request.len()).unwrap().to_be_bytes()[..], &request].concat();
    // It is asked for ever, but only so many answers are kept for it.
    let asking = async { while theirs.write_all(&framed).await.is_ok() {} };
    timeout(PATIENCE, asking).await.unwrap();
    assert!(session.await.unwrap().failure.message.contains("does not read"));
}

fn subject() -> dso::Subject {
    dso::Subject { name: topic(1).name, rtype: RecordType::SMIMEA, class: 1 }
}

fn query() -> Vec<u8> {
    let mut query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0".to_vec();
    query.extend(topic(1).name.as_wire());
    query.extend(b"\0\x35\0\x01");
    query
}

#[tokio::test]
async fn questions_share_the_connection_and_keep_their_identification() {
    let stage = Stage::set(vec![Part::default()]).await;
    let mut client = stage.client(quick());
    assert_eq!(client.server.ask(query()).await, None, "no session yet");
    for number in 0..600 {
        client.server.want(topic(number));
    }
    let mut held = HashSet::new();
    while held.len() < 600 {
        if let Event::Subscribed(topic) = client.next().await {
            held.insert(topic);
        }
    }
    let server = Arc::clone(&client.server);
    let drain = tokio::spawn(async move {
        while client.next().await != Event::Lost {}
        client
    });
    let asks = (0..2_000).map(|_| server.ask(query()));
    for response in futures_util::future::join_all(asks).await {
        let response = response.unwrap();
        assert_eq!(response[..3], [0x12, 0x34, 0x81]);
    }
    drain.abort();
    assert_eq!(stage.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_not_wanted_any_more_is_given_up_and_an_idle_session_ends() {
    let timeouts = Keepalive { inactivity: 50, interval: 60_000 };
    let stage = Stage::set(vec![Part { timeouts, ..Part::default() }]).await;
    let mut client = stage.client(quick());
    client.server.want(topic(1));
    client.until(&Event::Changed(topic(1))).await;
    client.server.unwant(&topic(1));
    assert_eq!(client.next().await, Event::Lost);
    assert!(locked(&client.server.wanted).all.is_empty());
    let idle = timeout(Duration::from_millis(100), client.events.recv()).await;
    assert!(idle.is_err(), "nothing is wanted, so nothing is connected to");
    client.server.want(topic(2));
    client.until(&Event::Subscribed(topic(2))).await;
    assert_eq!(stage.connections.load(Ordering::SeqCst), 2);
}
