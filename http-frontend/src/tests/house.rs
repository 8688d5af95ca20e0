//! [`House`]: the routes on a store in a throw-away folder, with two domains, their certificates and a token of each role.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use certdir_certificate::Certificate;
use certdir_directory::{
    Allowance, Authority, Clock, DomainName, Follower, Outcome, PublishOptions, Reader, Role, Settings, Store,
    Submission, UnixTime,
};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use crate::attempts::Attempts;
use crate::metrics::Requests;
use crate::routes::router;
use crate::site::{ExtraMetrics, Peer, Site};

/// 2027-01-15T08:00:00Z
pub(crate) const NOW: UnixTime = 1_800_000_000;

/// The first second at which Erin's certificate has ended.
pub(crate) const AFTER_SHORT: UnixTime = NOW + 61;

pub(crate) struct House {
    pub(crate) reader: Reader,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) admin: String,
    /// For example.org.
    pub(crate) publisher: String,
    /// For example.net.
    pub(crate) neighbour: String,
    /// A reader for example.org.
    pub(crate) auditor: String,
    router: Router,
    time: Arc<AtomicI64>,
    _stop: watch::Sender<bool>,
    _data: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl House {
    /// Both domains and all certificates.
    pub(crate) async fn furnished() -> House {
        House::with_burst(10_000).await
    }

    pub(crate) async fn with_burst(burst: u32) -> House {
        let house = House::open(burst, true).await;
        let publish = async |name, options: PublishOptions| {
            let submission = Submission { der: certificate_der(name), origin: name.to_owned() };
            let report = house.store.publish(vec![submission], options, &Authority::Operator, NOW).await.unwrap();
            assert_eq!(report.items[0].outcome, Outcome::Published, "{report:?}");
            report.version
        };
        for name in ["alice-2026", "alice-2027", "bob-rsa", "bob-ec", "mallory", "short", "net"] {
            publish(name, PublishOptions::default()).await;
        }
        publish("gateway", PublishOptions { domain_certificate: Some(domain("example.org")), ..Default::default() })
            .await;
        let version =
            publish("ca", PublishOptions { authority_for: Some(domain("example.net")), ..Default::default() }).await;
        house.reader.changed().wait_for(|shown| *shown >= version).await.unwrap();
        house
    }

    /// Both domains, no certificate.
    pub(crate) async fn empty() -> House {
        House::open(10_000, true).await
    }

    /// The store has not been followed for a day.
    pub(crate) async fn stale() -> House {
        let house = House::open(10_000, false).await;
        house.set_time(NOW + 86_400);
        house
    }

    /// Nobody follows the store from now on.
    pub(crate) async fn unfollowed() -> House {
        House::open(10_000, false).await
    }

    async fn open(burst: u32, follow: bool) -> House {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).await.unwrap();
        let time = Arc::new(AtomicI64::new(NOW));
        let shown = time.clone();
        let clock: Clock = Arc::new(move || shown.load(Ordering::SeqCst));
        let operator = Authority::Operator;
        for name in ["example.org", "example.net"] {
            let name = domain(name);
            store.add_domain(&name, Settings::for_domain(&name), &operator, NOW).await.unwrap();
        }
        let token = async |name, role, domains: &[&str]| {
            let domains: Vec<DomainName> = domains.iter().map(|text| domain(text)).collect();
            store.add_token(name, role, &domains, &operator, NOW).await.unwrap().1
        };
        let admin = token("admin", Role::Admin, &[]).await;
        let publisher = token("publisher", Role::Publisher, &["example.org"]).await;
        let neighbour = token("neighbour", Role::Publisher, &["example.net"]).await;
        let auditor = token("auditor", Role::Reader, &["example.org"]).await;
        let (follower, reader) = Follower::start(&store, clock.clone()).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        if follow {
            tokio::spawn(follower.run(stopped));
        }
        let site = Site {
            reader: reader.clone(),
            store: store.clone(),
            allowance: Arc::new(Allowance::new(1, burst)),
            clock: clock.clone(),
            extra_metrics: extra_metrics(),
            requests: Requests::default(),
            attempts: Attempts::default(),
            feed: crate::feed::Feed::new(stop.subscribe()),
            uploads: Arc::new(certdir_directory::Connections::new(2, 1)),
            changes: Arc::new(Semaphore::new(2)),
        };
        let router = router(Arc::new(site));
        House { reader, store, clock, admin, publisher, neighbour, auditor, router, time, _stop: stop, _data: data }
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(crate) fn set_time(&self, now: UnixTime) {
        self.time.store(now, Ordering::SeqCst);
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], "").await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        self.send_from("192.0.2.1", method, target, headers, body).await
    }

    pub(crate) async fn send_from(
        &self,
        source: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(Peer(source.parse::<IpAddr>().unwrap()));
        let response = self.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A request with a token; a body that is not empty is JSON when it begins like it, else certificates.
    pub(crate) async fn act(&self, token: &str, method: &str, target: &str, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        let bearer = format!("Bearer {token}");
        let media_type = if body.starts_with(b"{") { "application/json" } else { "application/x-pem-file" };
        self.send(method, target, &[("authorization", &bearer), ("content-type", media_type)], body).await
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The `code` of a problem.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) fn extra_metrics() -> ExtraMetrics {
    Arc::new(|| "certdir_dns_queries_total 5\n".to_owned())
}

pub(crate) fn domain(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

/// The PEM file of a certificate of `tests/data`.
pub(crate) fn certificate_pem(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{name}.pem"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn certificate_der(name: &str) -> Vec<u8> {
    Certificate::read_all(certificate_pem(name).as_bytes()).unwrap()[0].der().to_vec()
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` writes it.
pub(crate) fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run with UPDATE_GOLDEN=1", path.display()));
    assert!(expected == actual, "{name} has changed (UPDATE_GOLDEN=1 rewrites it); now it is:\n{actual}");
}
