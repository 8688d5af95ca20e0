//! The feed client against a directory that plays its part and stops at every octet of it.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::events::Dispatched;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it came.
#[derive(Clone, Debug, Default)]
struct Asked {
    head: String,
    body: String,
}

impl Asked {
    fn streams(&self) -> bool {
        self.head.contains("accept: text/event-stream")
    }

    fn since(&self) -> Option<&str> {
        let (_, rest) = self.head.split_once("since=")?;
        rest.split([' ', '&']).next()
    }
}

/// What is answered to a request, and whether the connection then ends.
struct Answered {
    text: String,
    ends: bool,
}

impl Answered {
    fn events(text: &str, ends: bool) -> Answered {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        Answered { text: format!("{head}{text}"), ends }
    }

    fn json(status: &str, text: &str) -> Answered {
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", text.len());
        Answered { text: format!("{head}connection: close\r\n\r\n{text}"), ends: true }
    }
}

type Script = Arc<dyn Fn(usize, &Asked) -> Answered + Send + Sync>;

/// A directory for tests, and a client of it.
struct Stage {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    client: Arc<Client>,
    events: mpsc::Receiver<(usize, Event)>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Stage {
    async fn set(
        token: Option<&str>,
        pace: Pace,
        script: impl Fn(usize, &Asked) -> Answered + Send + Sync + 'static,
    ) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let script: Script = Arc::new(script);
        let serving = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                serving.spawn(answer(stream, Arc::clone(&script), Arc::clone(&counter)));
            }
        });
        let mut feed = Feed::new(&format!("http://{address}/"), Tls::public().unwrap()).unwrap();
        if let Some(token) = token {
            feed = feed.token(token).unwrap();
        }
        let client = Arc::new(Client::new(feed));
        let (sender, events) = mpsc::channel(16);
        let following = tokio::spawn(run(Arc::clone(&client), 0, pace, sender));
        Stage { address, requests, client, events, tasks: [serving, following] }
    }

    #[track_caller]
    fn next(&mut self) -> impl Future<Output = Event> {
        let place = std::panic::Location::caller();
        let next = timeout(PATIENCE, self.events.recv());
        async move { next.await.unwrap_or_else(|_| panic!("no event at {place}")).unwrap().1 }
    }
}

async fn answer(mut stream: TcpStream, script: Script, counter: Arc<AtomicUsize>) -> Option<()> {
    let mut octets = Vec::new();
    let asked = loop {
        stream.read_buf(&mut octets).await.ok()?;
        let text = String::from_utf8_lossy(&octets).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length =
            head.split_once("content-length: ").map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap());
        if body.len() >= length {
            break Asked { head, body: body.to_owned() };
        }
    };
    let Answered { text, ends } = script(counter.fetch_add(1, Ordering::SeqCst), &asked);
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    if !ends {
        // For as long as the client stays.
        let _ = stream.read_buf(&mut octets).await;
    }
    Some(())
}

pub(crate) fn quick() -> Pace {
    Pace {
        begin: PATIENCE,
        silence: PATIENCE,
        polling: Duration::from_secs(3_600),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(20),
        settled: Duration::from_secs(3_600),
        gather: Duration::from_millis(1),
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn following(new: &[&str]) -> Event {
    Event::Following { new: Some(new.iter().map(|text| address(text)).collect()) }
}

const BEGIN: &str = "id: 1-a\nevent: begin\ndata: {\"version\":1,\"not_hosted\":[]}\n\n";
const CHANGED: &str =
    "id: 2-b\nevent: changed\ndata: {\"version\":2,\"names\":[\"alice@example.org\"],\"domains\":[]}\n\n";

#[tokio::test]
async fn a_stream_cut_after_any_octet_goes_on_where_it_broke_off() {
    let alice = || Event::Address(address("alice@example.org"));
    let whole = format!("{BEGIN}{CHANGED}");
    for octets in 0..=whole.len() {
        let cut = whole[..octets].to_owned();
        let mut stage = Stage::set(None, quick(), move |request, asked| match (request, asked.since()) {
            (0, None) => Answered::events(&cut, true),
            (1, Some("1-a")) => Answered::events(&whole_from_one(), false),
            (1, Some("2-b") | None) => Answered::events("id: 2-b\nevent: begin\ndata: {}\n\n", false),
            other => panic!("{other:?}"),
        })
        .await;
        stage.client.want(&address("alice@example.org"));
        let expected = if octets < BEGIN.len() {
            vec![Event::Lost, following(&["alice@example.org"])]
        } else if octets < whole.len() {
            vec![following(&["alice@example.org"]), Event::Lost, following(&[]), alice()]
        } else {
            vec![following(&["alice@example.org"]), alice(), Event::Lost, following(&[])]
        };
        for event in expected {
            assert_eq!(stage.next().await, event, "cut after {octets}");
        }
        assert!(stage.client.tells_of(&address("alice@example.org")));
    }
}

fn whole_from_one() -> String {
    format!("{BEGIN}{CHANGED}")
}

#[tokio::test]
async fn a_store_that_cannot_go_on_puts_everything_in_doubt() {
    let mut stage = Stage::set(None, quick(), |request, asked| match (request, asked.since()) {
        (0, None) => Answered::events(&format!("{BEGIN}id: 9-z\nevent: reset\ndata: {{\"version\":9}}\n\n"), true),
        (1, Some("9-z")) => Answered::json("410 Gone", "{}"),
        (2, None) => Answered::events(BEGIN, false),
        other => panic!("{other:?}"),
    })
    .await;
    stage.client.want(&address("alice@example.org"));
    let alice = following(&["alice@example.org"]);
    for event in [alice.clone(), Event::Reset, Event::Lost, Event::Lost, alice] {
        assert_eq!(stage.next().await, event);
    }
}

#[tokio::test]
async fn where_events_are_held_back_it_polls_and_tries_again() {
    let pace = Pace { begin: Duration::from_millis(100), polling: Duration::from_millis(300), ..quick() };
    let mut stage = Stage::set(None, pace, |request, asked| {
        if asked.streams() {
            // Held back the first time only.
            let text = if request == 0 { "" } else { "id: 8-h\nevent: begin\ndata: {}\n\n" };
            return Answered::events(text, false);
        }
        let names = if asked.since() == Some("1-a") { r#"["alice@example.org"]"# } else { "[]" };
        let cursor = if asked.since().is_none() { "1-a" } else { "2-b" };
        Answered::json(
            "200 OK",
            &format!(
                r#"{{"cursor":"{cursor}","version":2,"more":false,"names":{names},"domains":[],"not_hosted":[]}}"#
            ),
        )
    })
    .await;
    stage.client.want(&address("alice@example.org"));
    assert_eq!(stage.next().await, following(&["alice@example.org"]));
    assert_eq!(stage.next().await, Event::Address(address("alice@example.org")));
    // The stream is back without a loss: one more name tells.
    let requests = stage.requests.load(Ordering::SeqCst);
    assert!(requests >= 3, "{requests}");
    stage.client.want(&address("bob@example.org"));
    assert_eq!(stage.next().await, following(&["bob@example.org"]));
}

#[tokio::test]
async fn refusals_are_waited_out() {
    for status in ["401 Unauthorized", "404 Not Found", "429 Too Many Requests", "503 Service Unavailable"] {
        let refused = status.to_owned();
        let mut stage = Stage::set(None, quick(), move |request, _| match request {
            0..3 => Answered::json(&refused, "{}"),
            _ => Answered::events(BEGIN, false),
        })
        .await;
        stage.client.want(&address("alice@example.org"));
        for event in [Event::Lost, Event::Lost, Event::Lost, following(&["alice@example.org"])] {
            assert_eq!(stage.next().await, event, "{status}");
        }
    }
}

#[tokio::test]
async fn with_a_token_every_row_is_told_that_the_world_can_see() {
    let rows = [
        r#"{"kind":"published","scope":"address","public":true,"domain":"example.org","address":"alice@example.org"}"#,
        r#"{"kind":"staged","scope":"address","public":false,"domain":"example.org","address":"bob@example.org"}"#,
        r#"{"kind":"never heard of","scope":"domain","public":true,"domain":"example.org"}"#,
        r#"{"kind":"erased"}"#,
    ];
    let events: String = rows.iter().map(|row| format!("event: change\ndata: {row}\n\n")).collect();
    let mut stage = Stage::set(Some("secret"), quick(), move |request, asked| {
        assert!(asked.head.contains("authorization: bearer secret") && asked.body.is_empty(), "{asked:?}");
        assert_eq!(request, 0);
        Answered::events(&format!("{BEGIN}{events}"), false)
    })
    .await;
    stage.client.want(&address("alice@example.org"));
    let domain = DomainName::parse("example.org").unwrap();
    let told = [
        Event::Following { new: None },
        Event::Address(address("alice@example.org")),
        Event::Domain(domain),
        Event::Reset,
    ];
    for event in told {
        assert_eq!(stage.next().await, event);
    }
    assert!(stage.client.tells_of(&address("anybody@example.org")));
}

#[tokio::test]
async fn names_that_come_later_are_listed_and_those_not_hosted_are_known() {
    let mut stage = Stage::set(None, quick(), |request, asked| match request {
        0 => {
            assert_eq!(asked.body, r#"{"names":["alice@example.org"]}"#);
            Answered::events(BEGIN, false)
        }
        _ => {
            assert!(asked.body.contains("bob@example.net") && asked.since() == Some("1-a"), "{asked:?}");
            Answered::events("id: 1-a\nevent: begin\ndata: {\"not_hosted\":[\"example.net\"]}\n\n", false)
        }
    })
    .await;
    stage.client.want(&address("alice@example.org"));
    assert_eq!(stage.next().await, following(&["alice@example.org"]));
    stage.client.want(&address("bob@example.net"));
    assert_eq!(stage.next().await, Event::NotHosted);
    assert_eq!(stage.next().await, following(&["bob@example.net"]));
    assert!(stage.client.tells_of(&address("alice@example.org")));
    assert!(!stage.client.tells_of(&address("bob@example.net")));
    assert_ne!(stage.address.port(), 0);
}

#[test]
fn events_come_out_whole_wherever_the_stream_is_cut() {
    let text = "retry: 1000\nid: 17-ab\nevent: begin\ndata: {\"version\":17}\n\n:\nid: 18-cd\n\nevent: changed\r\ndata: {\"names\":\ndata: []}\r\n\r\n";
    let whole = Parser::default().feed(text.as_bytes()).unwrap();
    let event = |kind: &str, data: &str, id: Option<&str>| Dispatched {
        kind: kind.to_owned(),
        data: data.to_owned(),
        id: id.map(ToOwned::to_owned),
    };
    assert_eq!(
        whole,
        [
            event("begin", "{\"version\":17}", Some("17-ab")),
            event("", "", Some("18-cd")),
            event("changed", "{\"names\":\n[]}", None),
        ]
    );
    for cut in 0..text.len() {
        let mut parser = Parser::default();
        let (front, back) = text.as_bytes().split_at(cut);
        let mut events = parser.feed(front).unwrap();
        events.extend(parser.feed(back).unwrap());
        assert_eq!(events, whole, "{cut}");
    }
    let long = vec![b'x'; MAX_ANSWER + 1];
    assert!(Parser::default().feed(&long).is_err());
}

#[test]
fn secrets_are_neither_shown_nor_sent_in_the_clear() {
    let feed = |url: &str| Feed::new(url, Tls::public().unwrap());
    for url in ["https://user:secret@directory.example", "https://user:secret@", "ftp://user:secret@directory.example"]
    {
        assert!(!feed(url).unwrap_err().to_string().contains("secret"), "{url}");
    }
    for (url, taken) in [
        ("https://directory.example", true),
        ("http://localhost:8080", true),
        ("http://127.0.0.1", true),
        ("http://[::1]", true),
        ("http://directory.example", false),
        ("http://192.0.2.1", false),
    ] {
        assert_eq!(feed(url).unwrap().token("token").is_ok(), taken, "{url}");
    }
}
