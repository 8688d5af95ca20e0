//! A directory with a few people, and a small LDAP client that shows everything a server said.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use certdir_directory::{
    Address, Allowance, Authority, Clock, DomainName, Follower, Outcome, PublishOptions, Reader, Settings, Store,
    Submission, UnixTime,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use crate::ber::{self, BOOLEAN, ENUMERATED, INTEGER, OCTETS, SEQUENCE};
use crate::filter::tests::ber_of;
use crate::message::Scope;
use crate::metrics::Metrics;
use crate::session::{self, Shared};

/// 2026-11-22 07:38:31 UTC.
pub(crate) const NOW: UnixTime = 1_795_333_111;

/// A store on disk, a clock, and what the sessions see of both.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) alice: Vec<u8>,
    pub(crate) authority: Vec<u8>,
    _folder: tempfile::TempDir,
}

/// A self-signed certificate, valid in 2026 and 2027.
pub(crate) fn certificate(common_name: Option<&str>, addresses: &[&str], is_ca: bool) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    }
    for address in addresses {
        params.subject_alt_names.push(rcgen::SanType::Rfc822Name((*address).try_into().unwrap()));
    }
    if is_ca {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    } else {
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyAgreement];
    }
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 12, 31);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

pub(crate) fn domain(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

impl World {
    /// `example.org` with Alice, Bob, its own certificate and its CA; `sub.example.org` with Carol; `many.example` with a
    /// thousand mailboxes.
    pub(crate) async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let (alice, authority) =
            (certificate(Some("Alice Example"), &["Alice@example.org"], false), certificate(Some("Our CA"), &[], true));
        let world = World {
            store,
            now: Arc::new(AtomicI64::new(NOW)),
            metrics: Metrics::default(),
            stop: watch::Sender::new(false),
            alice,
            authority,
            _folder: folder,
        };
        for name in ["example.org", "sub.example.org", "many.example"] {
            let name = domain(name);
            world.store.add_domain(&name, Settings::for_domain(&name), &Authority::Operator, NOW).await.unwrap();
        }
        world.publish(world.alice.clone(), PublishOptions::default()).await;
        world.publish(certificate(Some("Bob Builder"), &["bob@example.org"], false), PublishOptions::default()).await;
        world
            .publish(certificate(Some("Carol Müller"), &["carol@sub.example.org"], false), PublishOptions::default())
            .await;
        let of_domain = PublishOptions { domain_certificate: Some(domain("example.org")), ..PublishOptions::default() };
        world.publish(certificate(Some("Gateway"), &[], false), of_domain).await;
        let of_authority = PublishOptions { authority_for: Some(domain("example.org")), ..PublishOptions::default() };
        world.publish(world.authority.clone(), of_authority).await;
        let people: Vec<Address> =
            (0..1000).map(|n| Address::parse(&format!("person{n}@many.example")).unwrap()).collect();
        for addresses in people.chunks(100) {
            let aliases = PublishOptions { addresses: addresses.to_vec(), ..PublishOptions::default() };
            world.publish(certificate(Some("Shared Mailbox"), &[], false), aliases).await;
        }
        world
    }

    pub(crate) async fn publish(&self, der: Vec<u8>, options: PublishOptions) {
        let submission = Submission { der, origin: "test".into() };
        let report = self.store.publish(vec![submission], options, &Authority::Operator, NOW).await.unwrap();
        assert!(report.items.iter().all(|item| item.outcome == Outcome::Published), "{report:?}");
    }

    pub(crate) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Arc::new(move || now.load(Ordering::Relaxed))
    }

    /// A reader of what is published now.
    pub(crate) async fn reader(&self) -> Reader {
        Follower::start(&self.store, self.clock()).await.unwrap().1
    }

    /// A session of its own over an in-memory stream.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_with(Allowance::new(1_000_000, 1_000_000), 1 << 20).await
    }

    pub(crate) async fn connect_with(&self, allowance: Allowance, pipe: usize) -> Client {
        let reader = self.reader().await;
        let service = Shared {
            published: Box::new(move || reader.published()),
            allowance: Arc::new(allowance),
            clock: self.clock(),
            metrics: self.metrics.clone(),
            idle: Duration::from_secs(120),
        };
        let (here, there) = tokio::io::duplex(pipe);
        let stop = self.stop.subscribe();
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let session = tokio::spawn(async move { session::serve(there, source, &service, stop).await });
        Client { stream: here, input: Vec::new(), next: 1, session, _stop: self.stop.clone() }
    }
}

/// The other end of a session.
pub(crate) struct Client {
    pub(crate) stream: DuplexStream,
    input: Vec<u8>,
    next: i32,
    pub(crate) session: tokio::task::JoinHandle<std::io::Result<()>>,
    /// Sessions stop when nobody is left to stop them.
    _stop: watch::Sender<bool>,
}

/// One entry of a search's answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) dn: String,
    pub(crate) attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Shown {
    pub(crate) fn names(&self) -> Vec<&str> {
        self.attributes.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn values(&self, name: &str) -> &[Vec<u8>] {
        self.attributes.iter().find(|(found, _)| found == name).map_or(&[], |(_, values)| values)
    }

    /// Text values, and `…` for others.
    pub(crate) fn text(&self, name: &str) -> Vec<String> {
        self.values(name).iter().map(|v| String::from_utf8(v.clone()).unwrap_or_else(|_| "…".into())).collect()
    }

    /// As LDIF; certificates are left out, since they are new in every test.
    pub(crate) fn ldif(&self) -> String {
        let mut out = format!("dn: {}\n", self.dn);
        for (name, values) in &self.attributes {
            for value in values {
                let value =
                    if name.ends_with(";binary") { "(a certificate)".into() } else { String::from_utf8_lossy(value) };
                out.push_str(&format!("{name}: {value}\n"));
            }
        }
        out
    }
}

/// A response as it came.
#[derive(Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) id: i64,
    pub(crate) tag: u8,
    pub(crate) code: i64,
    pub(crate) matched: String,
    pub(crate) diagnostic: String,
    /// Name and value of an extended response.
    pub(crate) name: Option<String>,
    pub(crate) value: Option<Vec<u8>>,
}

/// All of a search's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) entries: Vec<Shown>,
    pub(crate) done: Response,
}

impl Answer {
    pub(crate) fn dns(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.dn.as_str()).collect()
    }
}

pub(crate) fn message(id: i32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let outer = ber::open(&mut out, SEQUENCE);
    ber::put_integer(&mut out, INTEGER, id);
    body(&mut out);
    ber::close(&mut out, outer);
    out
}

/// A search request; `limit` is its size limit.
pub(crate) fn search(
    id: i32,
    base: &str,
    scope: Scope,
    limit: i32,
    types_only: bool,
    filter: &[u8],
    names: &[&str],
) -> Vec<u8> {
    message(id, |out| {
        let operation = ber::open(out, 0x63);
        ber::put(out, OCTETS, base.as_bytes());
        ber::put_integer(out, ENUMERATED, scope as i32);
        ber::put_integer(out, ENUMERATED, 0);
        ber::put_integer(out, INTEGER, limit);
        ber::put_integer(out, INTEGER, 60);
        ber::put(out, BOOLEAN, &[if types_only { 0xff } else { 0 }]);
        out.extend_from_slice(filter);
        let list = ber::open(out, SEQUENCE);
        names.iter().for_each(|name| ber::put(out, OCTETS, name.as_bytes()));
        ber::close(out, list);
        ber::close(out, operation);
    })
}

impl Client {
    pub(crate) async fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.unwrap();
    }

    pub(crate) async fn request(&mut self, body: impl FnOnce(&mut Vec<u8>)) -> Response {
        let id = self.number();
        self.send(&message(id, body)).await;
        let response = self.response().await.expect("an answer");
        assert_eq!(response.id, i64::from(id));
        response
    }

    pub(crate) async fn subtree(&mut self, base: &str, filter: &str, names: &[&str]) -> Answer {
        self.ask(base, Scope::Subtree, 0, filter, names).await
    }

    pub(crate) async fn ask(&mut self, base: &str, scope: Scope, limit: i32, filter: &str, names: &[&str]) -> Answer {
        let id = self.number();
        self.send(&search(id, base, scope, limit, false, &ber_of(filter), names)).await;
        self.answer(id).await
    }

    pub(crate) async fn answer(&mut self, id: i32) -> Answer {
        let mut entries = Vec::new();
        loop {
            let octets = self.octets().await.expect("more of the answer");
            if let Some((found, entry)) = entry_of(&octets) {
                assert_eq!(found, i64::from(id));
                entries.push(entry);
                continue;
            }
            let done = response_of(&octets);
            assert_eq!((done.id, done.tag), (i64::from(id), 0x65), "{done:?}");
            return Answer { entries, done };
        }
    }

    /// The next response; none at the end of the connection.
    pub(crate) async fn response(&mut self) -> Option<Response> {
        Some(response_of(&self.octets().await?))
    }

    /// The Notice of Disconnection, which must be the last that comes (RFC 4511 section 4.4.1).
    pub(crate) async fn notice(&mut self) -> Response {
        let notice = self.response().await.expect("a notice");
        assert_eq!((notice.id, notice.tag), (0, 0x78), "{notice:?}");
        assert_eq!(notice.name.as_deref(), Some("1.3.6.1.4.1.1466.20036"));
        assert_eq!(self.octets().await, None, "the connection ends");
        notice
    }

    async fn octets(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = ber::frame(&self.input, usize::MAX).unwrap() {
                return Some(self.input.drain(..end).collect());
            }
            if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                assert!(self.input.is_empty(), "half a message");
                return None;
            }
        }
    }

    pub(crate) fn number(&mut self) -> i32 {
        self.next += 1;
        self.next
    }
}

fn entry_of(octets: &[u8]) -> Option<(i64, Shown)> {
    let mut message = ber::Reader::new(ber::Reader::new(octets).expect(SEQUENCE).unwrap());
    let id = message.integer(INTEGER).unwrap();
    let mut entry = ber::Reader::new(message.expect(0x64).ok()?);
    assert!(message.is_empty(), "controls nobody asked for");
    let dn = String::from_utf8(entry.octets().unwrap().to_vec()).unwrap();
    let mut list = ber::Reader::new(entry.expect(SEQUENCE).unwrap());
    let mut attributes = Vec::new();
    while !list.is_empty() {
        let mut attribute = ber::Reader::new(list.expect(SEQUENCE).unwrap());
        let name = String::from_utf8(attribute.octets().unwrap().to_vec()).unwrap();
        let mut set = ber::Reader::new(attribute.expect(ber::SET).unwrap());
        let mut values = Vec::new();
        while !set.is_empty() {
            values.push(set.octets().unwrap().to_vec());
        }
        attributes.push((name, values));
    }
    Some((id, Shown { dn, attributes }))
}

fn response_of(octets: &[u8]) -> Response {
    let mut message = ber::Reader::new(ber::Reader::new(octets).expect(SEQUENCE).unwrap());
    let id = message.integer(INTEGER).unwrap();
    let (tag, content) = message.element().unwrap();
    assert!(message.is_empty(), "controls nobody asked for");
    let mut result = ber::Reader::new(content);
    let code = result.integer(ENUMERATED).unwrap();
    let mut text = || String::from_utf8(result.octets().unwrap().to_vec()).unwrap();
    let (matched, diagnostic) = (text(), text());
    let (mut name, mut value) = (None, None);
    while !result.is_empty() {
        match result.element().unwrap() {
            (0x8a, octets) => name = Some(String::from_utf8(octets.to_vec()).unwrap()),
            (0x8b, octets) => value = Some(octets.to_vec()),
            (tag, _) => panic!("an unknown component {tag:02x}"),
        }
    }
    Response { id, tag, code, matched, diagnostic, name, value }
}
