//! A small HTTP/1.1 client with a bound on everything: where it connects to, time, header, body, redirects.
//!
//! No proxy, no cookie, no content coding. One answer at a time on a connection; connections are kept for the next
//! request to the same origin.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    USER_AGENT,
};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use url::{Position, Url};

use crate::outcome::Failure;
use crate::reach::{Ports, Reach, connect};
use crate::tls::Tls;

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 3;

/// Octets of a response's head, and of what is read ahead of the body.
const MAX_HEAD: usize = 32 << 10;

/// Fields of a response's head.
const MAX_FIELDS: usize = 64;

/// Connections kept for one origin, and for all of them.
const MAX_IDLE: (usize, usize) = (8, 64);

/// How long a connection is kept without use.
const IDLE_LIFE: Duration = Duration::from_secs(20);

/// The longest that any step may take, whatever the settings say.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How long each step may take, a day at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Connecting, and the TLS handshake, each.
    pub(crate) connect: Duration,
    /// From the request to the response's head, and between two pieces of its body.
    pub(crate) idle: Duration,
    /// The whole request with its redirects and its body. A body that is read in pieces is not bound by it.
    pub(crate) total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { connect: Duration::from_secs(5), idle: Duration::from_secs(10), total: Duration::from_secs(15) }
    }
}

impl Patience {
    /// Within a day: a clock cannot count as far as the settings may say.
    fn capped(self) -> Patience {
        let Patience { connect, idle, total } = self;
        Patience { connect: connect.min(LONGEST), idle: idle.min(LONGEST), total: total.min(LONGEST) }
    }
}

/// One request: a GET, or a POST when it has a body.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) url: Url,
    pub(crate) accept: HeaderValue,
    /// Media type and octets.
    pub(crate) body: Option<(HeaderValue, Bytes)>,
    /// Further fields.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
}

impl Call {
    pub(crate) fn get(url: Url, accept: &'static str) -> Call {
        Call { url, accept: HeaderValue::from_static(accept), body: None, fields: Vec::new() }
    }

    pub(crate) fn post(url: Url, accept: &'static str, media_type: &'static str, body: Bytes) -> Call {
        Call { body: Some((HeaderValue::from_static(media_type), body)), ..Call::get(url, accept) }
    }
}

/// The head of a response and how it came.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    /// Where it came from, after redirects.
    pub(crate) url: Url,
    pub(crate) server: SocketAddr,
    /// Whether every step, redirects included, was over verified TLS.
    pub(crate) secure: bool,
}

impl Head {
    /// A header field as text, if it is there and is text.
    pub(crate) fn field(&self, name: HeaderName) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }
}

/// A response with its body read.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// A response whose body is read piece by piece.
pub(crate) struct Reading {
    pub(crate) head: Head,
    body: Incoming,
    idle: Duration,
    /// Goes back to the pool at the end of the body.
    line: Option<(Origin, Line)>,
    pool: Arc<Pool>,
}

/// The client. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Http {
    tls: Tls,
    reach: Reach,
    ports: Ports,
    patience: Patience,
    pool: Arc<Pool>,
}

type Pool = Mutex<HashMap<Origin, Vec<(Instant, Line)>>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

/// A connection that is free for a request.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    server: SocketAddr,
}

impl Http {
    /// A client that connects within `reach` only.
    pub(crate) fn new(tls: Tls, reach: Reach, ports: Ports, patience: Patience) -> Http {
        Http { tls, reach, ports, patience: patience.capped(), pool: Arc::default() }
    }

    /// One request and the whole of its response, of at most `limit` octets.
    ///
    /// # Errors
    /// No response, or none that can be read within the bounds. Every status is a response.
    pub(crate) async fn request(&self, call: Call, limit: usize) -> Result<Response, Failure> {
        let late = format!("{} did not answer in time", shown(&call.url));
        let whole = async { self.open(call).await?.whole(limit).await };
        timeout(self.patience.total, whole).await.map_err(|_| Failure::new("timeout", late))?
    }

    /// One request and the head of its response; the body is then read piece by piece.
    ///
    /// # Errors
    /// No response, or a redirect that is not followed.
    pub(crate) async fn open(&self, mut call: Call) -> Result<Reading, Failure> {
        let mut secure = true;
        for _ in 0..=MAX_REDIRECTS {
            let mut reading = self.exchange(&call).await?;
            secure &= reading.head.secure;
            reading.head.secure = secure;
            let status = reading.head.status;
            let moved = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if call.body.is_some() || !moved {
                let coding = reading.head.field(CONTENT_ENCODING).unwrap_or("identity");
                if !coding.eq_ignore_ascii_case("identity") {
                    let message = format!("{}: content coding {coding:?}", shown(&call.url));
                    return Err(Failure::new("malformed", message));
                }
                return Ok(reading);
            }
            let to = reading.head.field(LOCATION).and_then(|to| call.url.join(to).ok());
            let refused = |why: &str| Failure::new("redirect", format!("{}: {why}", shown(&call.url)));
            let to = to.ok_or_else(|| refused("a redirect that leads nowhere"))?;
            if !matches!((call.url.scheme(), to.scheme()), ("http", "http" | "https") | ("https", "https")) {
                return Err(refused("a redirect from https to something else"));
            }
            // A token is for the one it was given to.
            if to.origin() != call.url.origin() {
                call.fields.clear();
            }
            call.url = to;
        }
        Err(Failure::new("redirect", format!("{}: more than {MAX_REDIRECTS} redirects", shown(&call.url))))
    }

    /// One request, redirects not followed.
    async fn exchange(&self, call: &Call) -> Result<Reading, Failure> {
        let origin = Origin::of(&call.url)?;
        if let Some(line) = self.kept(&origin)
            && let Ok(reading) = self.ask(&origin, line, call).await
        {
            return Ok(reading);
        }
        // A kept connection may have been closed at the other end: only a fresh one tells.
        let line = self.dial(&origin).await?;
        self.ask(&origin, line, call).await
    }

    async fn ask(&self, origin: &Origin, mut line: Line, call: &Call) -> Result<Reading, Failure> {
        let broken = |error: hyper::Error| Failure::new("network", format!("{}: {error}", shown(&call.url)));
        let request = call.request(origin)?;
        let sending = async {
            line.sender.ready().await?;
            line.sender.send_request(request).await
        };
        let response = timeout(self.patience.idle, sending)
            .await
            .map_err(|_| Failure::new("timeout", format!("{} did not answer in time", shown(&call.url))))?
            .map_err(broken)?;
        let (parts, body) = response.into_parts();
        let head = Head {
            status: parts.status,
            fields: parts.headers,
            url: call.url.clone(),
            server: line.server,
            secure: origin.tls,
        };
        let line = Some((origin.clone(), line));
        Ok(Reading { head, body, idle: self.patience.idle, line, pool: Arc::clone(&self.pool) })
    }

    fn kept(&self, origin: &Origin) -> Option<Line> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.get_mut(origin)?;
        let line = loop {
            match kept.pop() {
                Some((since, line)) if since.elapsed() < IDLE_LIFE && !line.sender.is_closed() => break Some(line),
                Some(_) => {}
                None => break None,
            }
        };
        if kept.is_empty() {
            pool.remove(origin);
        }
        line
    }

    async fn dial(&self, origin: &Origin) -> Result<Line, Failure> {
        let patience = self.patience.connect;
        let stream = connect(&origin.host, origin.port, &self.reach, self.ports, patience).await?;
        let server = stream.peer_addr().map_err(|error| Failure::new("network", error.to_string()))?;
        let sender = if origin.tls {
            begin(self.tls.handshake(stream, &origin.host, patience).await?).await
        } else {
            begin(stream).await
        };
        let sender = sender.map_err(|error| Failure::new("network", format!("{server}: {error}")))?;
        Ok(Line { sender, server })
    }
}

async fn begin<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // Ends with the sender; its errors are told to the request.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

impl Reading {
    /// How large the body is, as far as the head says, or else `limit`.
    ///
    /// # Errors
    /// It is larger than `limit`.
    pub(crate) fn most(&self, limit: usize) -> Result<usize, Failure> {
        let size = self.body.size_hint();
        if size.lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
            return Err(self.too_large(limit));
        }
        Ok(size.exact().and_then(|exact| usize::try_from(exact).ok()).unwrap_or(limit))
    }

    /// The whole body, of at most `limit` octets. Takes twice [`Reading::most`] of memory, about, while it comes.
    ///
    /// # Errors
    /// It is larger, or does not come.
    pub(crate) async fn whole(mut self, limit: usize) -> Result<Response, Failure> {
        let most = self.most(limit)?;
        // Where the size is not announced, it grows with what comes.
        let announced = self.body.size_hint().exact().map_or(0, |_| most);
        let mut body = Vec::with_capacity(announced);
        while let Some(piece) = self.next().await? {
            if body.len().saturating_add(piece.len()) > limit {
                return Err(self.too_large(limit));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Response { head: self.head, body: body.into() })
    }

    fn too_large(&self, limit: usize) -> Failure {
        Failure::new("too-large", format!("{}: more than {limit} octets", shown(&self.head.url)))
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// The connection broke, or nothing came in time.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let late = |_| Failure::new("timeout", format!("{} stopped in its answer", shown(&self.head.url)));
            match timeout(self.idle, self.body.frame()).await.map_err(late)? {
                Some(Ok(frame)) => {
                    // What is not data is a trailer.
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(error)) => {
                    let message = format!("{}: {error}", shown(&self.head.url));
                    return Err(Failure::new("network", message));
                }
                None => {
                    self.keep();
                    return Ok(None);
                }
            }
        }
    }

    /// Waits this long between two pieces from now on, for streams that are silent while nothing happens.
    #[allow(dead_code, reason = "for the change feed")]
    pub(crate) fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
    }

    fn keep(&mut self) {
        let Some((origin, line)) = self.line.take() else { return };
        if line.sender.is_closed() {
            return;
        }
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.values().map(Vec::len).sum::<usize>() >= MAX_IDLE.1 {
            pool.clear();
        }
        let kept = pool.entry(origin).or_default();
        if kept.len() < MAX_IDLE.0 {
            kept.push((Instant::now(), line));
        }
    }
}

impl Origin {
    fn of(url: &Url) -> Result<Origin, Failure> {
        let bad = |why: &str| Failure::new("bad-url", format!("{}: {why}", shown(url)));
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("only http and https are spoken")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("a URL with a user name is not followed"));
        }
        let host = url.host_str().ok_or_else(|| bad("no host"))?.to_owned();
        let port = url.port_or_known_default().ok_or_else(|| bad("no port"))?;
        Ok(Origin { tls, host, port })
    }
}

impl Call {
    fn request(&self, origin: &Origin) -> Result<Request<Full<Bytes>>, Failure> {
        let host = match self.url.port() {
            Some(port) => format!("{}:{port}", origin.host),
            None => origin.host.clone(),
        };
        let path = &self.url[Position::BeforePath..Position::AfterQuery];
        let method = if self.body.is_some() { Method::POST } else { Method::GET };
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("certdir/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, &self.accept)
            .header(ACCEPT_ENCODING, "identity");
        if let Some((media_type, _)) = &self.body {
            builder = builder.header(CONTENT_TYPE, media_type);
        }
        for (name, value) in &self.fields {
            builder = builder.header(name, value);
        }
        let body = self.body.as_ref().map(|(_, octets)| octets.clone()).unwrap_or_default();
        builder.body(Full::new(body)).map_err(|error| Failure::new("bad-url", format!("{}: {error}", shown(&self.url))))
    }
}

/// A URL as it may be shown: without a user name, and of bounded length.
pub(crate) fn shown(url: &Url) -> String {
    let mut text = url[Position::BeforeScheme..Position::AfterScheme].to_owned();
    text.push_str("://");
    text.push_str(&url[Position::BeforeHost..Position::AfterQuery]);
    if let Some((cut, _)) = text.char_indices().nth(256) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What the test server answers.
    #[derive(Clone)]
    pub(crate) enum Answer {
        /// These octets, and the connection stays open.
        Keep(Vec<u8>),
        /// These octets, and the connection ends.
        Close(Vec<u8>),
        /// These octets, and then more of them for ever.
        Endless(Vec<u8>, Vec<u8>),
        /// These octets, and then nothing more.
        Stuck(Vec<u8>),
    }

    /// A response with a length.
    pub(crate) fn ok(media_type: &str, body: &[u8]) -> Answer {
        status(200, &format!("content-type: {media_type}\r\n"), body)
    }

    pub(crate) fn status(status: u16, fields: &str, body: &[u8]) -> Answer {
        let head = format!("HTTP/1.1 {status} Some\r\n{fields}content-length: {}\r\n\r\n", body.len());
        Answer::Keep([head.as_bytes(), body].concat())
    }

    /// A server of its own on loopback that says what it is told to.
    pub(crate) struct Server {
        pub(crate) address: SocketAddr,
        pub(crate) connections: Arc<AtomicUsize>,
        pub(crate) requests: Arc<AtomicUsize>,
    }

    impl Server {
        pub(crate) fn url(&self, path: &str) -> String {
            format!("http://{}{path}", self.address)
        }

        pub(crate) async fn start(answer: impl Fn(&str, &[u8]) -> Answer + Send + Sync + 'static) -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let answer = Arc::new(answer);
            let (counted, asked) = (Arc::clone(&connections), Arc::clone(&requests));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(talk(stream, Arc::clone(&answer), Arc::clone(&asked)));
                }
            });
            Server { address, connections, requests }
        }
    }

    async fn talk(
        mut stream: TcpStream,
        answer: Arc<impl Fn(&str, &[u8]) -> Answer + Send + Sync>,
        asked: Arc<AtomicUsize>,
    ) -> Option<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await.ok()?;
            asked.fetch_add(1, Ordering::SeqCst);
            let first = head.lines().next().unwrap();
            match answer(first.strip_suffix(" HTTP/1.1").unwrap(), &body) {
                Answer::Keep(octets) => stream.write_all(&octets).await.ok()?,
                Answer::Close(octets) => {
                    stream.write_all(&octets).await.ok()?;
                    return None;
                }
                Answer::Endless(octets, more) => {
                    stream.write_all(&octets).await.ok()?;
                    loop {
                        stream.write_all(&more).await.ok()?;
                    }
                }
                Answer::Stuck(octets) => {
                    stream.write_all(&octets).await.ok()?;
                    // Until the client goes away.
                    let _ = stream.read_u8().await;
                    return None;
                }
            }
        }
    }

    pub(crate) fn patient() -> Patience {
        let long = Duration::from_secs(60);
        Patience { connect: long, idle: long, total: long }
    }

    /// Where silence is what is tested.
    fn impatient() -> Patience {
        Patience { idle: Duration::from_millis(300), ..patient() }
    }

    fn client(patience: Patience) -> Http {
        Http::new(Tls::public().unwrap(), Reach::everywhere(), Ports::Web, patience)
    }

    async fn get(http: &Http, url: &str, limit: usize) -> Result<Response, Failure> {
        http.request(Call::get(Url::parse(url).unwrap(), "*/*"), limit).await
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_a_closed_one_is_not_missed() {
        let server = Server::start(|path, _| match path {
            "GET /last" => {
                let Answer::Keep(octets) = ok("text/plain", b"bye") else { unreachable!() };
                Answer::Close(octets)
            }
            path => ok("text/plain", path.as_bytes()),
        })
        .await;
        let http = client(patient());
        for _ in 0..3 {
            let response = get(&http, &server.url("/a?b=c#d"), 100).await.unwrap();
            assert_eq!(&response.body[..], b"GET /a?b=c");
            assert!(!response.head.secure);
            assert_eq!(response.head.server, server.address);
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
        for _ in 0..3 {
            assert_eq!(&get(&http, &server.url("/last"), 100).await.unwrap().body[..], b"bye");
        }
    }

    #[tokio::test]
    async fn nothing_is_read_beyond_the_bounds() {
        let server = Server::start(|path, _| match path {
            "GET /exact" => ok("text/plain", &[b'a'; 1000]),
            "GET /announced" => Answer::Stuck(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec()),
            "GET /endless" => Answer::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'a'; 1024]),
            "GET /chunked" => {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                Answer::Endless(head.to_vec(), b"1\r\na\r\n".repeat(100))
            }
            "GET /head" => Answer::Endless(b"HTTP/1.1 200 OK\r\na: ".to_vec(), vec![b'a'; 1024]),
            "GET /fields" => Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".to_vec()),
            "GET /trailers" => {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";
                Answer::Endless(head.to_vec(), b"a: b\r\n".repeat(100))
            }
            "GET /early" => Answer::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
            "GET /silent" => Answer::Stuck(Vec::new()),
            "GET /half" => Answer::Stuck(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
            "GET /cut" => Answer::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
            "GET /coded" => status(200, "content-encoding: gzip\r\n", b"not asked for"),
            "GET /two" => Answer::Keep(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec()),
            _ => Answer::Close(b"220 mail.example.org ESMTP\r\n".to_vec()),
        })
        .await;
        let http = client(patient());
        assert_eq!(get(&http, &server.url("/exact"), 1000).await.unwrap().body.len(), 1000);
        for (path, code) in [
            ("/exact", "too-large"),
            ("/announced", "too-large"),
            ("/endless", "too-large"),
            ("/chunked", "too-large"),
            ("/head", "network"),
            ("/fields", "network"),
            ("/trailers", "network"),
            ("/cut", "network"),
            ("/coded", "malformed"),
            ("/two", "network"),
            ("/other", "network"),
        ] {
            let failure = get(&http, &server.url(path), 999).await.unwrap_err();
            assert_eq!(failure.code, code, "{path}: {failure}");
        }
        let hasty = client(impatient());
        for path in ["/silent", "/half", "/early"] {
            let failure = get(&hasty, &server.url(path), 999).await.unwrap_err();
            assert_eq!(failure.code, "timeout", "{path}: {failure}");
        }
        for url in ["ftp://127.0.0.1/", "http://user@127.0.0.1/", "http://user:secret@127.0.0.1/"] {
            let failure = get(&http, url, 999).await.unwrap_err();
            assert_eq!(failure.code, "bad-url", "{url}");
            assert!(!failure.message.contains("secret"), "{failure}");
        }
    }

    #[tokio::test]
    async fn no_patience_is_too_long_for_a_clock() {
        let server = Server::start(|_, _| ok("text/plain", b"here")).await;
        let http = client(Patience { connect: Duration::MAX, idle: Duration::MAX, total: Duration::MAX });
        assert_eq!(&get(&http, &server.url("/"), 100).await.unwrap().body[..], b"here");
    }

    #[tokio::test]
    async fn redirects_are_few_and_bounded_by_the_reach() {
        let server = Server::start(|path, _| match path {
            "GET /there" => ok("text/plain", b"here"),
            "GET /loop" => status(302, "location: /loop\r\n", b""),
            "GET /relative" => status(301, "location: there\r\n", b""),
            "GET /file" => status(302, "location: file:///etc/passwd\r\n", b""),
            "GET /nowhere" => status(302, "", b""),
            // The name is no different address, but the literal is not in the network that is allowed.
            "GET /inside" => status(307, "location: http://127.0.0.2:80/there\r\n", b""),
            "GET /metadata" => status(307, "location: http://169.254.169.254/latest\r\n", b""),
            other => ok("text/plain", other.as_bytes()),
        })
        .await;
        let reach = Reach::public().network("127.0.0.1/32".parse().unwrap()).port(server.address.port());
        let http = Http::new(Tls::public().unwrap(), reach, Ports::Web, patient());
        let response = get(&http, &server.url("/relative"), 100).await.unwrap();
        assert_eq!((&response.body[..], response.head.url.path()), (&b"here"[..], "/there"));
        for (path, code) in [
            ("/loop", "redirect"),
            ("/file", "redirect"),
            ("/nowhere", "redirect"),
            ("/inside", "forbidden-address"),
            ("/metadata", "forbidden-address"),
        ] {
            let failure = get(&http, &server.url(path), 100).await.unwrap_err();
            assert_eq!(failure.code, code, "{path}: {failure}");
        }
        // What was posted is not posted elsewhere.
        let server = Server::start(|_, _| status(307, "location: /elsewhere\r\n", b"")).await;
        let url = Url::parse(&server.url("/")).unwrap();
        let call = Call::post(url, "*/*", "text/plain", Bytes::from_static(b"a"));
        let http = client(patient());
        assert_eq!(http.request(call, 100).await.unwrap().head.status, 307);
        assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    }
}
