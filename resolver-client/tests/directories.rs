//! LDAP directories: OpenLDAP's slapd, and servers that are not what they should be.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use certdir_resolver::ldap::{AnnouncedDirectories, AnnouncedSettings, Bind, Directory, Encryption, Settings};
use certdir_resolver::reach::Reach;
use certdir_resolver::srv::{Announced, Announcements, Announcing, Target};
use certdir_resolver::tls::Tls;
use certdir_resolver::{Address, Answer, Failure, Level, Outcome, Source, Subject, UnixTime};
use data_encoding::BASE64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ALICE: &[u8] = include_bytes!("data/alice.der");
const DOMAIN: &[u8] = include_bytes!("data/domain.der");
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn subject(address: &str, level: Level) -> Subject {
    Subject { address: Address::parse(address).unwrap(), level }
}

/// A certification authority and a TLS certificate of it for this machine.
pub(crate) struct Authority {
    pub(crate) pem: String,
    pub(crate) server_pem: String,
    pub(crate) server_key: String,
    pub(crate) server_der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        Authority {
            pem: authority.pem(),
            server_pem: server.pem(),
            server_key: key.serialize_pem(),
            server_der: server.der().to_vec(),
        }
    }
}

/// slapd as a child, in a folder of its own. Ends with the value.
struct Slapd {
    folder: TempDir,
    child: Child,
    plain: u16,
    tls: u16,
    authority: Authority,
}

/// A port below those that the system gives away, so that it is still free when slapd starts, and starts again.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin elsewhere.
    let own = u16::try_from(std::process::id() * 499 % 22_000).unwrap();
    loop {
        let port = 10_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 22_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Slapd {
    fn start() -> Slapd {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let authority = Authority::new();
        fs::write(path("ca.pem"), &authority.pem).unwrap();
        fs::write(path("server.pem"), &authority.server_pem).unwrap();
        fs::write(path("server.key"), &authority.server_key).unwrap();
        fs::create_dir(path("data")).unwrap();
        fs::write(path("slapd.conf"), configuration(folder.path())).unwrap();
        fs::write(path("data.ldif"), ldif(folder.path())).unwrap();
        let mut load = Command::new("/usr/sbin/slapadd");
        load.arg("-q").arg("-f").arg(path("slapd.conf")).arg("-l").arg(path("data.ldif"));
        let loaded = load.output().unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        // Another process may take a free port first: then slapd ends, and others are chosen.
        for _ in 0..10 {
            let (plain, tls) = (free_port(), free_port());
            if let Some(child) = run(folder.path(), plain, tls) {
                return Slapd { folder, child, plain, tls, authority };
            }
        }
        panic!("slapd does not start");
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = run(self.folder.path(), self.plain, self.tls).expect("the ports were ours");
    }

    fn settings(&self, url: &str) -> Settings {
        let url = url.replace("PLAIN", &self.plain.to_string()).replace("TLS", &self.tls.to_string());
        let mut settings = Settings::new(&[&url], "dc=example,dc=org").unwrap();
        settings.tls = Tls::authorities(self.authority.pem.as_bytes()).unwrap();
        settings.timeout = PATIENCE;
        settings
    }

    fn directory(&self, url: &str) -> Directory {
        Directory::new(self.settings(url)).unwrap()
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(folder: &Path, plain: u16, tls: u16) -> Option<Child> {
    let urls = format!("ldap://127.0.0.1:{plain} ldaps://127.0.0.1:{tls}");
    let mut slapd = Command::new("/usr/sbin/slapd");
    slapd.arg("-f").arg(folder.join("slapd.conf")).args(["-d", "0", "-h", &urls]);
    let mut child = slapd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..3_000 {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if [plain, tls].iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("slapd is not ready in time");
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
sizelimit 40
database mdb
suffix \"dc=example,dc=org\"
rootdn \"cn=admin,dc=example,dc=org\"
rootpw right
directory {folder}/data
access to dn.subtree=\"ou=internal,dc=example,dc=org\" by users read by * none
access to * by * read
"
    )
}

fn ldif(folder: &Path) -> String {
    let (alice, domain) = (BASE64.encode(ALICE), BASE64.encode(DOMAIN));
    let person = |dn: &str, mail: &str, more: &str| {
        format!("dn: {dn}\nobjectClass: inetOrgPerson\ncn: {mail}\nsn: {mail}\nmail: {mail}\n{more}\n")
    };
    let mut text = String::from(
        "dn: dc=example,dc=org\nobjectClass: domain\ndc: example\n
dn: ou=internal,dc=example,dc=org\nobjectClass: organizationalUnit\nou: internal\n
dn: cn=away,dc=example,dc=org\nobjectClass: referral\nobjectClass: extensibleObject\ncn: away\nref: ldap://192.0.2.1/ou=away\n
"
    );
    let bundle = BASE64.encode(&bundle(folder));
    text += &person("cn=alice,dc=example,dc=org", "alice@example.org", &format!("userCertificate;binary:: {alice}\n"));
    text += &person(
        "cn=bundle,dc=example,dc=org",
        "bundle@example.org",
        &format!("userSMIMECertificate:: {bundle}\nuserCertificate;binary:: {alice}\n"),
    );
    let dca = "domain-confidentiality-authority@example.org";
    text += &person("cn=dca,dc=example,dc=org", dca, &format!("userCertificate;binary:: {domain}\n"));
    text +=
        &person("cn=direct,dc=example,dc=org", "direct.example.org", &format!("userCertificate;binary:: {domain}\n"));
    text += &person("cn=empty,dc=example,dc=org", "empty@example.org", "");
    text += &person("cn=odd,dc=example,dc=org", "odd@example.org", "userSMIMECertificate:: bm8gYnVuZGxl\n");
    let within = "cn=secret,ou=internal,dc=example,dc=org";
    text += &person(within, "secret@example.org", &format!("userCertificate;binary:: {alice}\n"));
    for i in 0..40 {
        text += &person(&format!("cn=many{i},dc=example,dc=org"), "many@example.org", "");
    }
    text
}

/// A certs-only bundle as OpenSSL writes it.
fn bundle(folder: &Path) -> Vec<u8> {
    let path = |name: &str| -> PathBuf { folder.join(name) };
    fs::write(path("a.pem"), certdir_pem(ALICE)).unwrap();
    fs::write(path("b.pem"), certdir_pem(DOMAIN)).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["crl2pkcs7", "-nocrl", "-outform", "DER", "-out"]).arg(path("bundle.p7c"));
    openssl.arg("-certfile").arg(path("a.pem")).arg("-certfile").arg(path("b.pem"));
    assert!(openssl.status().unwrap().success());
    fs::read(path("bundle.p7c")).unwrap()
}

pub(crate) fn certdir_pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der))
}

async fn find(source: &dyn Source, address: &str) -> Answer {
    source.find(&subject(address, Level::Recipient), 1_000).await
}

/// The outcome's code, and the DER of what was found.
pub(crate) fn ders(answer: &Answer) -> Vec<Vec<u8>> {
    let candidates = answer.outcome.candidates().iter();
    candidates.filter_map(|c| c.readable()).map(|c| c.der().to_vec()).collect()
}

#[tokio::test]
async fn people_and_domains_are_found_in_slapd() {
    let slapd = Slapd::start();
    for url in
        ["ldap://127.0.0.1:PLAIN", "ldap+starttls://localhost:PLAIN", "ldaps://localhost:TLS", "ldaps://127.0.0.1:TLS"]
    {
        let directory = slapd.directory(url);
        let answer = find(&directory, "alice@example.org").await;
        assert_eq!(ders(&answer), [ALICE], "{url}: {:?}", answer.question);
        assert_eq!(answer.until, 1_900);
        let exchange = &answer.question.exchanges[0];
        assert!(url.starts_with(&format!("{}:", exchange.transport)), "{exchange:?}");
        assert!(exchange.result.starts_with("success (0), 1 entries with 1 values"), "{exchange:?}");
        assert_eq!(answer.question.name, "(mail=alice@example.org)");
        // The other forms: a bundle beside a single certificate, both of them once.
        let answer = find(&directory, "bundle@example.org").await;
        let mut all = ders(&answer);
        all.sort();
        let mut expected = [ALICE.to_vec(), DOMAIN.to_vec()];
        expected.sort();
        assert_eq!(all, expected, "{url}: {:?}", answer.question);
        let answer = directory.find(&subject("anybody@example.org", Level::Domain), 1_000).await;
        assert_eq!(ders(&answer), [DOMAIN]);
        let answer = find(&directory, "odd@example.org").await;
        assert!(ders(&answer).is_empty() && answer.outcome.code() == "found", "{:?}", answer.outcome);
    }
}

#[tokio::test]
async fn an_absence_counts_only_when_nothing_can_be_hidden() {
    let slapd = Slapd::start();
    let code = async |settings: Settings, address: &str| {
        let answer = find(&Directory::new(settings).unwrap(), address).await;
        answer.outcome.code()
    };
    let plain = || slapd.settings("ldap://127.0.0.1:PLAIN");
    // The tree has a referral in it: nobody knows what is there.
    assert_eq!(code(plain(), "nobody@example.org").await, "ldap-referral");
    let whole = || Settings { ignore_references: true, ..plain() };
    for address in
        ["nobody@example.org", "empty@example.org", "*@example.org", "\"alice@example.org)(cn=\"@example.org"]
    {
        assert_eq!(code(whole(), address).await, "not-served", "{address}");
    }
    let nowhere = Settings { base: "dc=example,dc=com".to_owned(), ..whole() };
    assert_eq!(code(nowhere, "alice@example.org").await, "ldap-no-base");
    assert_eq!(code(whole(), "many@example.org").await, "ldap-limit");
    // What one must be somebody to see.
    assert_eq!(code(whole(), "secret@example.org").await, "not-served");
    let internal = Settings { base: "ou=internal,dc=example,dc=org".to_owned(), ..whole() };
    assert_eq!(code(internal, "secret@example.org").await, "ldap-no-base");
    let bind = |password: &str| {
        let dn = "cn=admin,dc=example,dc=org".to_owned();
        Settings { bind: Some(Bind { dn, password: password.to_owned() }), ..whole() }
    };
    assert_eq!(code(bind("right"), "secret@example.org").await, "found");
    assert_eq!(code(bind("wrong"), "secret@example.org").await, "ldap-access");
    assert!(!format!("{:?}", bind("wrong")).contains("wrong"));
    // RFC 4513 section 5.1.2: whoever has no password is nobody, and an absence would be believed.
    assert!(Directory::new(bind("")).is_err());
    // A password goes over TLS, or stays on this machine.
    for (url, taken) in [
        ("ldap://ldap.example.org", false),
        ("ldap://192.0.2.1", false),
        ("ldap://localhost", true),
        ("ldap://[::1]", true),
        ("ldap+starttls://ldap.example.org", true),
        ("ldaps://ldap.example.org", true),
    ] {
        let servers = Settings::new(&["ldaps://ldap.example.org", url], "").unwrap().servers;
        let result = Directory::new(Settings { servers, ..bind("right") });
        assert_eq!(result.is_ok(), taken, "{url}");
    }
    let answer = find(&Directory::new(bind("wrong")).unwrap(), "secret@example.org").await;
    assert!(!format!("{answer:?}").contains("wrong"), "{answer:?}");
}

#[tokio::test]
async fn tls_servers_prove_who_they_are() {
    let slapd = Slapd::start();
    let other = Authority::new();
    let sha256: [u8; 32] =
        ring::digest::digest(&ring::digest::SHA256, &slapd.authority.server_der).as_ref().try_into().unwrap();
    for (tls, expected) in [
        (Tls::authorities(slapd.authority.pem.as_bytes()).unwrap(), "found"),
        (Tls::pinned(sha256).unwrap(), "found"),
        (Tls::authorities(other.pem.as_bytes()).unwrap(), "tls"),
        (Tls::pinned([7; 32]).unwrap(), "tls"),
        (Tls::public().unwrap(), "tls"),
    ] {
        for url in ["ldap+starttls://localhost:PLAIN", "ldaps://localhost:TLS"] {
            let settings = Settings { tls: tls.clone(), ..slapd.settings(url) };
            let answer = find(&Directory::new(settings).unwrap(), "alice@example.org").await;
            assert_eq!(answer.outcome.code(), expected, "{url} {tls:?}: {:?}", answer.outcome);
        }
    }
    assert!(Tls::authorities(b"nothing").is_err());
    // A pinned certificate may have any name.
    let settings = Settings { tls: Tls::pinned(sha256).unwrap(), ..slapd.settings("ldaps://ip6-localhost:TLS") };
    assert_eq!(settings.servers[0].encryption, Encryption::Tls);
}

#[tokio::test]
async fn many_searches_share_connections_that_come_back() {
    let mut slapd = Slapd::start();
    let directory = Arc::new(slapd.directory("ldap://127.0.0.1:PLAIN"));
    for _ in 0..2 {
        let searches: Vec<_> = (0..300)
            .map(|i| {
                let directory = Arc::clone(&directory);
                tokio::spawn(async move {
                    let asking = find(&*directory, "alice@example.org");
                    if i % 3 == 0 {
                        // Given up: the others must not notice.
                        let _ = tokio::time::timeout(Duration::from_micros(i), asking).await;
                        return None;
                    }
                    Some(asking.await)
                })
            })
            .collect();
        for search in searches {
            if let Some(answer) = search.await.unwrap() {
                assert_eq!(ders(&answer), [ALICE], "{:?}", answer.outcome);
            }
        }
        slapd.restart();
    }
    // Nobody listens at the first: the second one answers, and the first is asked last from then on.
    let dead = free_port();
    let mut settings = slapd.settings("ldap://127.0.0.1:PLAIN");
    settings.servers.insert(0, certdir_resolver::ldap::Endpoint::parse(&format!("ldap://127.0.0.1:{dead}")).unwrap());
    let directory = Directory::new(settings).unwrap();
    for exchanges in [2, 1] {
        let answer = find(&directory, "alice@example.org").await;
        assert_eq!(ders(&answer), [ALICE]);
        assert_eq!(answer.question.exchanges.len(), exchanges, "{:?}", answer.question.exchanges);
    }
}

/// What DNS is told to say; names that are not in it are failures.
#[derive(Default)]
pub(crate) struct Told(HashMap<String, Announced>);

impl Told {
    pub(crate) fn with(mut self, name: &str, secure: bool, targets: &[(u16, &str)]) -> Told {
        let target =
            |(port, host): &(u16, &str)| Target { priority: 1, weight: 1, port: *port, host: (*host).to_owned() };
        let targets = targets.iter().map(target).collect();
        self.0.insert(name.to_owned(), Announced { targets, secure, until: 5_000, exchanges: Vec::new() });
        self
    }
}

impl Announcements for Told {
    fn announced<'a>(&'a self, name: &'a str, _now: UnixTime) -> Announcing<'a> {
        let told = self.0.get(name).cloned();
        Box::pin(async move { told.ok_or_else(|| Failure::new("timeout", "no answer")) })
    }
}

pub(crate) fn loopback(port: u16) -> Reach {
    Reach::public().network("127.0.0.0/8".parse().unwrap()).port(port)
}

#[tokio::test]
async fn announced_directories_are_asked_as_direct_agents_do() {
    let slapd = Slapd::start();
    let here = (slapd.plain, "localhost");
    let told = Arc::new(
        Told::default()
            .with("_ldap._tcp.example.org", false, &[here])
            .with("_ldap._tcp.direct.example.org", false, &[here])
            .with("_ldap._tcp.signed.example.org", true, &[here])
            .with("_ldap._tcp.not.example.org", false, &[(0, "")])
            .with("_ldap._tcp.none.example.org", false, &[])
            .with("_ldap._tcp.mail.example.org", false, &[(25, "localhost")]),
    );
    let settings = |reach| {
        let settings = AnnouncedSettings::new().unwrap();
        AnnouncedSettings { reach, timeout: PATIENCE, ..settings }
    };
    let directories = AnnouncedDirectories::new(told.clone(), settings(loopback(slapd.plain)));
    let answer = find(&directories, "alice@example.org").await;
    assert_eq!(ders(&answer), [ALICE], "{:?}", answer.question);
    assert_eq!(answer.question.exchanges.len(), 2, "the root DSE, then the search");
    let answer = directories.find(&subject("bob@direct.example.org", Level::Domain), 1_000).await;
    assert_eq!(ders(&answer), [DOMAIN], "mail=<domain>");
    for (address, code) in [
        ("x@not.example.org", "not-served"),
        ("x@none.example.org", "not-served"),
        ("x@broken.example.org", "timeout"),
        ("x@mail.example.org", "not-served"),
        // A referral in the tree, and nobody who proves to be the server.
        ("nobody@example.org", "ldap-referral"),
    ] {
        let answer = find(&directories, address).await;
        assert_eq!(answer.outcome.code(), code, "{address}: {:?}", answer.outcome);
    }
    // A stranger's DNS makes nobody speak to this machine.
    let guarded = AnnouncedDirectories::new(told, settings(Reach::public()));
    let answer = find(&guarded, "alice@example.org").await;
    assert_eq!(answer.outcome.code(), "not-served");
    assert!(answer.question.exchanges[0].result.contains("may not be connected to"), "{:?}", answer.question);
    assert_eq!(find(&guarded, "alice@signed.example.org").await.outcome.code(), "forbidden-address");
}

/// A server that says the same to everybody, and then nothing or more of something.
async fn parrot(says: Vec<u8>, repeats: bool) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let says = says.clone();
            tokio::spawn(async move {
                while stream.write_all(&says).await.is_ok() && repeats {}
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_is_none_is_an_error() {
    let entry = |id: u8| {
        let mut entry = vec![0x30, 0x0c, 2, 1, id, 0x64, 7, 4, 3];
        entry.extend(b"a=b");
        entry.extend([0x30, 0]);
        entry
    };
    let done = |id: u8| vec![0x30, 0x0c, 2, 1, id, 0x65, 7, 0x0a, 1, 0, 4, 0, 4, 0];
    let nested = || [vec![0x30, 0x84, 0, 0x10, 0, 0], [0xa0, 0x84, 0, 0, 0xff, 0xff].repeat(200_000)].concat();
    for (what, says, repeats, code) in [
        ("an HTTP server", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false, "malformed"),
        ("a length of 4 GiB", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], false, "malformed"),
        ("an indefinite length", vec![0x30, 0x80, 2, 1, 1], false, "malformed"),
        ("deep nesting", nested(), false, "malformed"),
        ("entries for ever", entry(1), true, "too-large"),
        ("answers to nothing for ever", entry(99), true, "malformed"),
        ("a notice of disconnection", done(0), false, "network"),
        ("an empty message", vec![0x30, 0], false, "malformed"),
        ("an answer too early", done(1), false, "not-served or network"),
    ] {
        let address = parrot(says, repeats).await;
        let mut settings = Settings::new(&[&format!("ldap://{address}")], "").unwrap();
        settings.timeout = PATIENCE;
        let answer = find(&Directory::new(settings).unwrap(), "alice@example.org").await;
        assert!(code.contains(answer.outcome.code()), "{what}: {:?}", answer.outcome);
    }
    // Silence, a server that is not there, and one that does not take StartTLS.
    let silent = parrot(Vec::new(), false).await;
    let mut settings = Settings::new(&[&format!("ldap://{silent}")], "").unwrap();
    settings.timeout = Duration::from_millis(300);
    assert_eq!(find(&Directory::new(settings).unwrap(), "a@example.org").await.outcome.code(), "timeout");
    let mut settings = Settings::new(&[&format!("ldap://127.0.0.1:{}", free_port())], "").unwrap();
    settings.timeout = PATIENCE;
    assert_eq!(find(&Directory::new(settings).unwrap(), "a@example.org").await.outcome.code(), "network");
    // With a certificate's worth of plain text behind the answer to StartTLS: never read as if it had come over TLS.
    let refusal = vec![0x30, 0x0c, 2, 1, 1, 0x78, 7, 0x0a, 1, 2, 4, 0, 4, 0];
    let address = parrot(refusal, false).await;
    let mut settings = Settings::new(&[&format!("ldap+starttls://{address}")], "").unwrap();
    settings.timeout = PATIENCE;
    assert_eq!(find(&Directory::new(settings).unwrap(), "a@example.org").await.outcome.code(), "tls");
    let yes = [vec![0x30, 0x0c, 2, 1, 1, 0x78, 7, 0x0a, 1, 0, 4, 0, 4, 0], entry(2), done(2)].concat();
    let address = parrot(yes, false).await;
    let mut settings = Settings::new(&[&format!("ldap+starttls://{address}")], "").unwrap();
    settings.timeout = PATIENCE;
    assert_eq!(find(&Directory::new(settings).unwrap(), "a@example.org").await.outcome.code(), "tls");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for url in ["", "http://a", "ldap:", "ldap://", "ldap://user:secret@a", "ldap://a/dc=org", "ldap://a?x", "a:389"] {
        assert!(Settings::new(&[url], "").is_err(), "{url}");
    }
    assert!(Directory::new(Settings::new(&[], "").unwrap()).is_err());
    let filter = |filter: &str| Settings { filter: filter.to_owned(), ..Settings::new(&["ldap://[::1]"], "").unwrap() };
    assert!(Directory::new(filter("(mail={address}")).is_err());
    let directory = Directory::new(filter("(&(mail={address})(o=x))")).unwrap();
    assert_eq!(directory.label(), "ldap://[::1]:389/");
    assert!(matches!(Outcome::NotServed { reason: String::new() }.code(), "not-served"));
}
