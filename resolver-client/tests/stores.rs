//! HTTP stores, and servers that are not what they should be.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certdir_resolver::reach::Reach;
use certdir_resolver::store::{AnnouncedSettings, AnnouncedStores, Dialect, Settings, Store};
use certdir_resolver::tls::Tls;
use certdir_resolver::{Answer, Level, Source};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::directories::{Authority, Told, certdir_pem, ders, loopback, subject};

const ALICE: &[u8] = include_bytes!("data/alice.der");
const DOMAIN: &[u8] = include_bytes!("data/domain.der");
const PATIENCE: Duration = Duration::from_secs(60);

type Answering = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// An HTTP server that answers a request's whole head as it is told to.
async fn serve(tls: Option<&Authority>, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let acceptor = tls.map(|authority| {
        let chain = vec![CertificateDer::from_pem_slice(authority.server_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(authority.server_key.as_bytes()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap()))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Arc<Answering> = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                match acceptor {
                    None => talk(stream, answer).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => talk(stream, answer).await,
                        Err(_) => None,
                    },
                }
            });
        }
    });
    address
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Arc<Answering>) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        stream.write_all(&answer(&String::from_utf8(head).unwrap())).await.ok()?;
        stream.flush().await.ok()?;
    }
}

fn response(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} Some\r\n{fields}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn settings(dialect: Dialect, url: &str) -> Settings {
    Settings { timeout: PATIENCE, ..Settings::new(dialect, url).unwrap() }
}

async fn find(source: &dyn Source, address: &str, level: Level) -> Answer {
    source.find(&subject(address, level), 1_000).await
}

#[tokio::test]
async fn a_store_gives_one_or_several_certificates() {
    let authority = Authority::new();
    let answer = |head: &str| {
        let several = |end: &str| {
            let mut body = Vec::new();
            for der in [ALICE, DOMAIN] {
                body.extend(b"--B\r\nContent-Type: application/pkix-cert\r\n\r\n");
                body.extend(der);
                body.extend(b"\r\n");
            }
            body.extend(end.as_bytes());
            response(200, "content-type: multipart/mixed; boundary=B\r\n", &body)
        };
        let certificate = "content-type: application/pkix-cert\r\ncache-control: public, max-age=100\r\n";
        match head.split("email=").nth(1).unwrap().split("%40").next().unwrap() {
            "alice" => response(200, certificate, ALICE),
            "several" => several("--B--"),
            "endless" => several(""),
            "page" => response(200, "content-type: text/html\r\n", b"<html>"),
            "empty" => response(200, certificate, b""),
            "odd" => response(200, certificate, &ALICE[..100]),
            "busy" => response(429, "", b""),
            "down" => response(503, "", b""),
            "moved" => response(302, "location: http://192.0.2.1/\r\n", b""),
            _ => response(404, "", b""),
        }
    };
    let server = serve(Some(&authority), answer).await;
    let trusted = Tls::authorities(authority.pem.as_bytes()).unwrap();
    let of = |tls: &Tls| {
        let url = format!("https://localhost:{}/search.cgi?x=y", server.port());
        Store::new(Settings { tls: tls.clone(), ..settings(Dialect::Store, &url) }).unwrap()
    };
    let store = of(&trusted);
    let answer = find(&store, "alice@example.org", Level::Recipient).await;
    assert_eq!((ders(&answer), answer.until), (vec![ALICE.to_vec()], 1_100), "{:?}", answer.outcome);
    assert_eq!(answer.question.exchanges[0].transport, "https");
    assert!(answer.question.name.ends_with("/search.cgi?x=y&email=alice%40example.org"), "{:?}", answer.question.name);
    assert_eq!(ders(&find(&store, "several@example.org", Level::Recipient).await), [ALICE, DOMAIN]);
    let answer = find(&store, "odd@example.org", Level::Recipient).await;
    assert!(answer.outcome.code() == "found" && ders(&answer).is_empty());
    for (name, code) in [
        ("nobody", "not-served"),
        ("endless", "malformed"),
        ("page", "malformed"),
        ("empty", "malformed"),
        ("busy", "busy"),
        ("down", "busy"),
        ("moved", "redirect"),
    ] {
        let answer = find(&store, &format!("{name}@example.org"), Level::Recipient).await;
        assert_eq!(answer.outcome.code(), code, "{name}: {:?}", answer.outcome);
    }
    let stranger = of(&Tls::public().unwrap());
    assert_eq!(find(&stranger, "alice@example.org", Level::Recipient).await.outcome.code(), "tls");
}

#[tokio::test]
async fn a_certdir_says_whose_certificate_it_gives_and_whether_it_changed() {
    let confirmed = Arc::new(AtomicUsize::new(0));
    let (counted, heads) = (Arc::clone(&confirmed), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&heads);
    let server = serve(None, move |head| {
        seen.lock().unwrap().push(head.to_owned());
        let pem = certdir_pem(ALICE);
        let fields = |matched: &str| {
            format!("content-type: application/x-pem-file\r\netag: W/\"7\"\r\ncertdir-match: {matched}\r\n")
        };
        let problem = |code: &str| response(404, "content-type: application/problem+json\r\n", code.as_bytes());
        let name = head.strip_prefix("GET /under/v1/addresses/").unwrap().split('@').next().unwrap();
        match name {
            "alice" if head.contains("if-none-match: W/\"7\"") => {
                counted.fetch_add(1, Ordering::SeqCst);
                b"HTTP/1.1 304 Not Modified\r\netag: W/\"7\"\r\n\r\n".to_vec()
            }
            "alice" | "a%2Fb" => response(200, &fields("recipient"), pem.as_bytes()),
            "bob" | "domain-confidentiality-authority" => response(200, &fields("domain"), pem.as_bytes()),
            "carol" => problem(r#"{"code":"not-published"}"#),
            "dave" => problem(r#"{"code":"domain-not-hosted"}"#),
            "erin" => problem(r#"{"code":"no-such-path"}"#),
            "frank" => problem("<html>"),
            _ => response(200, "content-type: application/x-pem-file\r\n", b"no certificate"),
        }
    })
    .await;
    let token = Some("secret-token".to_owned());
    let store = Settings { token, ..settings(Dialect::Certdir, &format!("http://{server}/under/")) };
    assert!(!format!("{store:?}").contains("secret"));
    let store = Store::new(store).unwrap();
    for confirmations in [0, 1, 2] {
        let answer = find(&store, "alice@example.org", Level::Recipient).await;
        assert_eq!(ders(&answer), [ALICE], "{:?}", answer.outcome);
        assert_eq!(confirmed.load(Ordering::SeqCst), confirmations);
        assert!(!format!("{answer:?}").contains("secret"));
    }
    assert!(heads.lock().unwrap().iter().all(|head| head.contains("authorization: Bearer secret-token\r\n")));
    for (name, level, code) in [
        // One segment of the path, also with a slash.
        ("\"a/b\"", Level::Recipient, "found"),
        // Whether a domain's certificate is taken is for the gateway's own policy.
        ("bob", Level::Recipient, "not-served"),
        ("bob", Level::Domain, "found"),
        ("carol", Level::Recipient, "not-served"),
        ("dave", Level::Recipient, "not-served"),
        ("erin", Level::Recipient, "http-status"),
        ("frank", Level::Recipient, "http-status"),
        ("grace", Level::Recipient, "malformed"),
    ] {
        let address = format!("{name}@example.org");
        let answer = find(&store, &address, level).await;
        assert_eq!(answer.outcome.code(), code, "{name}: {:?}", answer.outcome);
    }
}

#[tokio::test]
async fn announced_stores_are_asked_within_the_reach() {
    let server = serve(None, |head| match head.contains("/search.cgi?email=alice%40") {
        true => response(200, "content-type: application/pkix-cert\r\n", ALICE),
        false => response(404, "", b""),
    })
    .await;
    let here = (server.port(), "localhost");
    let told = Arc::new(
        Told::default()
            .with("_certificates._tcp.example.org", false, &[here])
            .with("_certificates._tcp.signed.example.org", true, &[here])
            .with("_certificates._tcp.none.example.org", false, &[]),
    );
    let stores = |reach, believe_absence| {
        let settings =
            AnnouncedSettings { reach, timeout: PATIENCE, believe_absence, ..AnnouncedSettings::new().unwrap() };
        AnnouncedStores::new(told.clone(), settings)
    };
    let near = || loopback(server.port());
    for (reach, believe, address, code) in [
        (near(), false, "alice@example.org", "found"),
        (near(), false, "bob@example.org", "not-authenticated"),
        (near(), false, "bob@signed.example.org", "not-authenticated"),
        (near(), true, "bob@example.org", "not-served"),
        (near(), false, "bob@none.example.org", "not-served"),
        (near(), false, "bob@broken.example.org", "timeout"),
        (Reach::public(), false, "alice@example.org", "not-served"),
        (Reach::public(), false, "alice@signed.example.org", "forbidden-address"),
    ] {
        let answer = find(&stores(reach, believe), address, Level::Recipient).await;
        assert_eq!(answer.outcome.code(), code, "{address}: {:?}", answer.outcome);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for url in ["", "ftp://a/", "http://user:secret@a/", "a"] {
        let error = Store::new(settings(Dialect::Store, url)).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "bad-source", "{url}");
    }
    let token = Some("a\r\nb".to_owned());
    assert!(Store::new(Settings { token, ..settings(Dialect::Certdir, "http://a/") }).is_err());
}
