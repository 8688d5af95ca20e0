//! What every test stands on: a folder, a test CA, the built program, and real clients.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

/// How long a single client or command may take before it is killed and its test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test.
pub(crate) const CERTDIR: &str = env!("CARGO_BIN_EXE_certdir");

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Everything, for the message of a failed assertion.
    pub(crate) fn all(&self) -> String {
        format!("exit {}\n{}\n{}", self.code, self.text(), self.err)
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.all());
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out)
            .unwrap_or_else(|error| panic!("not one JSON document ({error}): {}", self.all()))
    }
}

/// A real client. It must be there: a test that cannot run has not passed.
#[track_caller]
pub(crate) fn client(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let there = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    assert!(there, "{name} is not installed; `./check.sh clients` does that");
    let mut command = Command::new(name);
    command.env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// Runs a command to its end, with its output captured and a deadline.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Said {
    run_with(command, &[])
}

/// The same, with something on standard input.
#[track_caller]
pub(crate) fn run_with(command: &mut Command, input: &[u8]) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeding = thread::spawn(move || drop(stdin.write_all(&input)));
    let out = drain(child.stdout.take().unwrap());
    let err = drain(child.stderr.take().unwrap());
    let status = wait(&mut child, PATIENCE);
    if status.is_none() {
        drop(child.kill());
    }
    drop(feeding.join());
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    let err = String::from_utf8_lossy(&err).into_owned();
    let status = status.unwrap_or_else(|| {
        let out = String::from_utf8_lossy(&out);
        panic!("{command:?} did not end within {PATIENCE:?}\n{out}\n{err}")
    });
    Said { code: status.code().unwrap_or(-1), out, err }
}

fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        drop(from.read_to_end(&mut all));
        all
    })
}

fn wait(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks again until the answer is there, or fails with what was awaited.
#[track_caller]
pub(crate) fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

pub(crate) const DAY: i64 = 86_400;

pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// The SMIMEA owner name by RFC 8162 section 3, computed here and not by the program under test.
pub(crate) fn owner(local: &str, domain: &str) -> String {
    format!("{}._smimecert.{domain}", &sha256(local.as_bytes())[..56])
}

/// A data folder and a test CA of its own; everything goes when it is dropped.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) data: PathBuf,
    pub(crate) ca: Ca,
    /// Where its running servers tell their metrics.
    servers: Mutex<Vec<Weak<SocketAddr>>>,
}

impl World {
    /// An empty data folder, beside it a CA.
    pub(crate) fn new() -> World {
        let folder = TempDir::new().unwrap();
        let ca = Ca::new(folder.path());
        World { data: folder.path().join("data"), folder, ca, servers: Mutex::default() }
    }

    /// A world whose directory hosts these domains.
    pub(crate) fn hosting(domains: &[&str]) -> World {
        let world = World::new();
        for domain in domains {
            world.certdir(&["domain", "add", domain]).ok();
        }
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The program on this world's data folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CERTDIR);
        command.args(arguments).env("CERTDIR_DATA", &self.data).env("LC_ALL", "C").current_dir(self.folder.path());
        command
    }

    /// Runs the program on the data folder, and waits until every running server shows what it changed: a server learns
    /// of another process's commit a moment later. What is acknowledged over `--url` is visible already; nobody waits.
    #[track_caller]
    pub(crate) fn certdir(&self, arguments: &[&str]) -> Said {
        let said = run(&mut self.command(arguments));
        if !arguments.contains(&"--url") {
            self.is_shown();
        }
        said
    }

    #[track_caller]
    fn is_shown(&self) {
        let servers: Vec<_> = self.servers.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        if servers.is_empty() {
            return;
        }
        let mut store = client("sqlite3");
        store.args(["-readonly", "-cmd", ".timeout 30000"]).arg(self.data.join("certdir.db"));
        let stored = run(store.arg("SELECT revision FROM meta")).ok().text();
        let stored: u64 = stored.trim().parse().unwrap();
        for server in servers {
            until(&format!("revision {stored} is shown"), PATIENCE, || {
                (revision(*server).is_none_or(|shown| shown >= stored)).then_some(())
            });
        }
    }

    /// Publishes, and expects that everything is taken.
    #[track_caller]
    pub(crate) fn publish(&self, issued: &Issued) -> Said {
        self.certdir(&["publish", issued.cert.to_str().unwrap()]).ok()
    }

    pub(crate) fn serve(&self) -> Server {
        self.serve_with(&mut Command::new(CERTDIR), &[])
    }

    /// `command` is the program, perhaps under another clock; `more` are flags of `serve`.
    #[track_caller]
    pub(crate) fn serve_with(&self, command: &mut Command, more: &[&str]) -> Server {
        let server = Server::start(command, &self.data, more);
        self.servers.lock().unwrap().extend(server.metrics.as_ref().map(Arc::downgrade));
        server
    }

    /// `delv` with the zone's key as its only anchor, asking this server.
    #[track_caller]
    pub(crate) fn delv(&self, server: &Server, domain: &str, question: [&str; 2]) -> String {
        let anchor = self.certdir(&["zone", "keys", "--bind", domain]).ok().out;
        let anchor = self.write(&format!("{domain}.anchors"), anchor);
        let mut command = client("delv");
        command.arg(format!("@{}", server.dns.ip()));
        command.args(["-p", &server.dns.port().to_string()]);
        command.arg("-a").arg(anchor).arg(format!("+root=_smimecert.{domain}"));
        let said = run(command.args(question));
        said.text() + &said.err
    }

    /// A trust anchor file for a hosted domain: its DNSKEY records.
    #[track_caller]
    pub(crate) fn anchor(&self, domain: &str) -> PathBuf {
        let keys = self.certdir(&["zone", "keys", domain]).ok();
        self.write(&format!("{domain}.key"), keys.out)
    }
}

/// A certificate authority made by the `openssl` command.
pub(crate) struct Ca {
    folder: PathBuf,
    pub(crate) cert: PathBuf,
    counter: Mutex<u32>,
}

/// A certificate, its key, and where they lie.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) der: Vec<u8>,
}

impl Issued {
    pub(crate) fn sha256(&self) -> String {
        sha256(&self.der)
    }

    pub(crate) fn path(&self) -> &str {
        self.cert.to_str().unwrap()
    }
}

/// What a certificate is to say. `Request::default()` is a person's encryption certificate, EC, valid for a year.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) common_name: &'a str,
    /// `subjectAltName` as openssl writes it, for instance `email:alice@example.org`; empty for none.
    pub(crate) names: &'a str,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) key_usage: &'a str,
    pub(crate) purpose: &'a str,
    pub(crate) is_ca: bool,
    pub(crate) rsa: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Request {
            common_name: "Somebody",
            names: "",
            not_before: now() - DAY,
            not_after: now() + 365 * DAY,
            key_usage: "critical,digitalSignature,keyAgreement",
            purpose: "emailProtection",
            is_ca: false,
            rsa: false,
        }
    }
}

impl<'a> Request<'a> {
    pub(crate) fn person(common_name: &'a str, names: &'a str) -> Self {
        Request { common_name, names, ..Request::default() }
    }

    /// With an RSA key of 2048 bits: the common size, whose answers do not fit 1232 octets.
    pub(crate) fn rsa(mut self) -> Self {
        self.rsa = true;
        self.key_usage = "critical,digitalSignature,keyEncipherment";
        self
    }

    pub(crate) fn valid(mut self, not_before: i64, not_after: i64) -> Self {
        self.not_before = not_before;
        self.not_after = not_after;
        self
    }
}

impl Ca {
    fn new(folder: &Path) -> Ca {
        let folder = folder.join("ca");
        fs::create_dir_all(folder.join("new")).unwrap();
        fs::write(folder.join("index.txt"), "").unwrap();
        fs::write(folder.join("index.txt.attr"), "unique_subject = no\n").unwrap();
        let place = folder.display();
        fs::write(
            folder.join("ca.cnf"),
            format!(
                "[ca]\ndefault_ca = test\n[test]\ndatabase = {place}/index.txt\nnew_certs_dir = {place}/new\n\
                 rand_serial = yes\ndefault_md = sha256\npolicy = any\nunique_subject = no\n\
                 certificate = {place}/ca.pem\nprivate_key = {place}/ca.key\n\
                 [any]\ncommonName = optional\n[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = unused\n"
            ),
        )
        .unwrap();
        let cert = folder.join("ca.pem");
        let mut request = client("openssl");
        request.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        request.args(["-nodes", "-days", "3650", "-subj", "/CN=Test CA"]);
        request.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        request.arg("-keyout").arg(folder.join("ca.key"));
        run(request.arg("-out").arg(&cert)).ok();
        Ca { folder, cert, counter: Mutex::new(0) }
    }

    /// Issues a certificate with a new key.
    #[track_caller]
    pub(crate) fn issue(&self, request: &Request<'_>) -> Issued {
        let number = {
            let mut counter = self.counter.lock().unwrap();
            *counter += 1;
            *counter
        };
        let file = |ending: &str| self.folder.join(format!("{number}.{ending}"));
        let key = file("key");
        let mut generate = client("openssl");
        generate.args(["genpkey", "-algorithm"]);
        if request.rsa {
            generate.args(["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        } else {
            generate.args(["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        }
        generate.args(["-out"]).arg(&key);
        run(&mut generate).ok();
        self.certify(number, request, key)
    }

    fn certify(&self, number: u32, request: &Request<'_>, key: PathBuf) -> Issued {
        let file = |ending: &str| self.folder.join(format!("{number}.{ending}"));
        let (csr, cert, extensions) = (file("csr"), file("pem"), file("ext"));
        let subject = format!("/CN={}", request.common_name);
        let mut ask = client("openssl");
        ask.args(["req", "-new", "-utf8", "-subj", &subject, "-config"]);
        ask.arg(self.folder.join("ca.cnf")).arg("-key").arg(&key);
        run(ask.arg("-out").arg(&csr)).ok();

        let mut lines = vec![format!("basicConstraints=critical,CA:{}", request.is_ca)];
        lines.push(format!("keyUsage={}", request.key_usage));
        for (name, value) in [("extendedKeyUsage", request.purpose), ("subjectAltName", request.names)] {
            if !value.is_empty() {
                lines.push(format!("{name}={value}"));
            }
        }
        lines.push("subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid".to_owned());
        if request.rsa {
            // As long as an Active Directory CA writes them.
            let place = "CN=Public%20Key%20Services,CN=Services,CN=Configuration,DC=corp,DC=example,DC=org";
            let list = "certificateRevocationList?base?objectClass=cRLDistributionPoint";
            let url = |name: &str| format!("URI:ldap:///CN={name},CN=pki01,CN=CDP,{place}?{list}");
            lines.push("crlDistributionPoints=cdp1,cdp2,cdp3".to_owned());
            for section in ["cdp1", "cdp2", "cdp3"] {
                let url = url(section).replace(',', "%2C");
                lines.push(format!("[{section}]\nfullname={url}"));
            }
        }
        fs::write(&extensions, lines.join("\n")).unwrap();

        let mut sign = client("openssl");
        sign.args(["ca", "-batch", "-notext", "-utf8", "-config"]);
        sign.arg(self.folder.join("ca.cnf"));
        sign.args(["-startdate", &asn1_time(request.not_before)]);
        sign.args(["-enddate", &asn1_time(request.not_after)]);
        sign.arg("-extfile").arg(&extensions).arg("-in").arg(&csr);
        run(sign.arg("-out").arg(&cert)).ok();
        let der = run(client("openssl").args(["x509", "-outform", "DER", "-in"]).arg(&cert)).ok().out;
        Issued { cert, key, der }
    }
}

/// `YYYYMMDDHHMMSSZ` of a time in unix seconds, by the `date` command.
fn asn1_time(time: i64) -> String {
    let mut date = client("date");
    date.args(["-u", "-d", &format!("@{time}"), "+%Y%m%d%H%M%SZ"]);
    run(&mut date).ok().text().trim().to_owned()
}

/// Certificates made in this process, for load: a thousand runs of `openssl` take a minute. PEM and DER.
fn quickly(key: &rcgen::KeyPair, name: &str, address: &str, not_before: SystemTime) -> (String, Vec<u8>) {
    let mut parameters = rcgen::CertificateParams::default();
    let subject = &mut parameters.distinguished_name;
    subject.push(rcgen::DnType::CommonName, name);
    let address = rcgen::string::Ia5String::try_from(address).unwrap();
    parameters.subject_alt_names.push(rcgen::SanType::Rfc822Name(address));
    parameters.not_before = not_before.into();
    parameters.not_after = (SystemTime::now() + Duration::from_secs(300 * 86_400)).into();
    parameters.key_usages.push(rcgen::KeyUsagePurpose::KeyAgreement);
    let purpose = rcgen::ExtendedKeyUsagePurpose::EmailProtection;
    parameters.extended_key_usages.push(purpose);
    let certificate = parameters.self_signed(key).unwrap();
    (certificate.pem(), certificate.der().to_vec())
}

/// One certificate for each of `count` people: `person0@domain` and so on.
pub(crate) fn many(count: usize, domain: &str) -> Vec<(String, Vec<u8>)> {
    let key = rcgen::KeyPair::generate().unwrap();
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let person = |number| {
        let address = format!("person{number}@{domain}");
        quickly(&key, &format!("Person {number}"), &address, yesterday)
    };
    (0..count).map(person).collect()
}

/// `count` certificates for one address, each a minute younger than the one before.
pub(crate) fn series(count: usize, address: &str) -> Vec<(String, Vec<u8>)> {
    let key = rcgen::KeyPair::generate().unwrap();
    let start = SystemTime::now() - Duration::from_secs(86_400);
    let step = |number: usize| {
        let minutes = Duration::from_secs(60) * u32::try_from(number).unwrap();
        quickly(&key, "Somebody", address, start + minutes)
    };
    (0..count).map(step).collect()
}

/// The store's revision that a server shows; none when nobody listens there.
fn revision(server: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).ok()?;
    let shown = metrics.lines().find_map(|line| line.strip_prefix("certdir_published_revision "));
    Some(shown.unwrap_or_else(|| panic!("no revision: {metrics}")).parse().unwrap())
}

/// A running `certdir serve` (or `demo`), stopped when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it tells its metrics, while it runs.
    metrics: Option<Arc<SocketAddr>>,
    lines: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
    pub(crate) dns: SocketAddr,
    pub(crate) ldap: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) dot: SocketAddr,
    pub(crate) doq: SocketAddr,
    pub(crate) https: SocketAddr,
}

/// A port that is free for UDP and TCP alike, for a program that cannot choose one itself. It lies below those that the
/// system gives away (32768 and above, `ip_local_port_range`): nobody gets it by chance before that program does.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin elsewhere.
    let own = u16::try_from(std::process::id() * 499 % u32::from(COUNT)).unwrap();
    for _ in 0..1_000 {
        let port = FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port for UDP and TCP in 1,000 tries");
}

impl Server {
    /// `command` is the program, or a wrapper around it (`faketime`) that already names it.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, data: &Path, more: &[&str]) -> Server {
        command.arg("serve");
        for listener in ["--dns", "--dot", "--doq", "--ldap", "--http", "--https"] {
            if !more.contains(&listener) {
                command.args([listener, "127.0.0.1:0"]);
            }
        }
        // Tests look up faster than strangers may; tests/http.rs has the one about the limit.
        if !more.contains(&"--lookups-per-second") {
            command.args(["--lookups-per-second", "100000", "--lookups-burst", "100000"]);
        }
        command.args(more).arg("--data").arg(data);
        Server::watch(command)
    }

    /// Starts a command that says `listening …` and then `ready …`, and waits for that.
    #[track_caller]
    pub(crate) fn watch(command: &mut Command) -> Server {
        let mut child = command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = collect(child.stdout.take().unwrap());
        let errors = collect(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let [dns, ldap, http, dot, doq, https] = [nowhere; 6];
        let mut server = Server { child, metrics: None, lines, errors, dns, ldap, http, dot, doq, https };
        let deadline = Instant::now() + PATIENCE;
        while !server.lines().iter().any(|line| line.starts_with("ready")) {
            if let Some(status) = server.child.try_wait().unwrap() {
                thread::sleep(Duration::from_millis(50));
                panic!("ended with {status} before it was ready\n{}", server.said());
            }
            assert!(Instant::now() < deadline, "not ready in time\n{}", server.said());
            thread::sleep(Duration::from_millis(5));
        }
        for line in server.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["listening", "dns", "tcp", address] => server.dns = address.parse().unwrap(),
                ["listening", "ldap", .., address] => server.ldap = address.parse().unwrap(),
                ["listening", "dot", address] => server.dot = address.parse().unwrap(),
                ["listening", "doq", address] => server.doq = address.parse().unwrap(),
                ["listening", "https", address] => server.https = address.parse().unwrap(),
                ["listening", "http", .., address] => server.http = address.parse().unwrap(),
                _ => (),
            }
        }
        server.metrics = Some(server.http).filter(|address| address.port() != 0).map(Arc::new);
        server
    }

    /// What it has printed on standard output so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Both outputs, for messages.
    pub(crate) fn said(&self) -> String {
        let errors = self.errors.lock().unwrap().join("\n");
        format!("{}\n{errors}", self.lines().join("\n"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ctrl-C; gives the exit code and how long the end took.
    #[track_caller]
    pub(crate) fn interrupt(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        self.metrics = None;
        signal(self.pid(), "INT");
        let status = wait(&mut self.child, Duration::from_secs(30));
        let status = status.unwrap_or_else(|| panic!("Ctrl-C did not stop it\n{}", self.said()));
        (status.code(), began.elapsed())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.metrics = None;
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// `dig` at this server; the arguments are dig's.
    #[track_caller]
    pub(crate) fn dig(&self, arguments: &[&str]) -> String {
        let mut dig = client("dig");
        dig.args([&format!("@{}", self.dns.ip()), "-p", &self.dns.port().to_string()]);
        dig.args(["+tries=3", "+time=20", "+noidnin", "+noidnout"]);
        spaced(&run(dig.args(arguments)).ok().text())
    }

    /// The certificates DNS serves at an SMIMEA owner name (usage 3 only), over TCP.
    #[track_caller]
    pub(crate) fn smimea(&self, name: &str) -> Vec<Vec<u8>> {
        let short = self.dig(&["+tcp", "+short", "+nosplit", name, "SMIMEA"]);
        short
            .lines()
            .filter_map(|line| line.strip_prefix("3 0 0 "))
            .map(|hex| {
                let hex: String = hex.split_whitespace().collect();
                data_encoding::HEXUPPER_PERMISSIVE.decode(hex.as_bytes()).unwrap()
            })
            .collect()
    }

    /// `ldapsearch` without a bind of its own kind (`-x`: anonymous), LDIF without comments or wrapping.
    #[track_caller]
    pub(crate) fn ldapsearch(&self, arguments: &[&str]) -> Said {
        let mut search = client("ldapsearch");
        search.args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &format!("ldap://{}", self.ldap)]);
        search.env("LDAPNOINIT", "1");
        run(search.args(arguments))
    }

    /// The certificates LDAP serves for a mail address.
    #[track_caller]
    pub(crate) fn ldap_certificates(&self, address: &str) -> Vec<Vec<u8>> {
        let filter = format!("(mail={address})");
        let found = self.ldapsearch(&["-b", "", &filter, "userCertificate;binary"]);
        // 32: no such object; an entry that is not there is an empty answer.
        assert!(matches!(found.code, 0 | 32), "{}", found.all());
        values(&found.text(), "userCertificate;binary")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// `curl`: status code and body.
    #[track_caller]
    pub(crate) fn curl(&self, arguments: &[&str], path: &str) -> (u32, Vec<u8>) {
        let mut curl = client("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "60", "-w", "\n%{http_code}"]);
        let mut out = run(curl.args(arguments).arg(self.url(path))).ok().out;
        let cut = out.iter().rposition(|&byte| byte == b'\n').unwrap();
        let code = String::from_utf8_lossy(&out[cut + 1..]).parse().unwrap();
        out.truncate(cut);
        (code, out)
    }

    /// What HTTP serves for an address: whose certificate it is (`recipient` or `domain`), and its DER.
    #[track_caller]
    pub(crate) fn http_match(&self, address: &str) -> Option<(String, Vec<u8>)> {
        let mut curl = client("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "60", "-H", "Accept: application/pkix-cert"]);
        curl.args(["-w", "\n%{http_code} %header{certdir-match}"]);
        let out = run(curl.arg(self.url(&lookup(address)))).ok().out;
        let cut = out.iter().rposition(|&byte| byte == b'\n').unwrap();
        let last = String::from_utf8_lossy(&out[cut + 1..]).into_owned();
        match last.split_once(' ').unwrap() {
            ("200", whose) => Some((whose.to_owned(), out[..cut].to_vec())),
            // Not published, or of a domain that is not hosted: the answer's `code` tells, see tests/http.rs.
            ("404", _) => None,
            _ => panic!("{address}: {last} {}", String::from_utf8_lossy(&out[..cut])),
        }
    }

    /// The certificate that HTTP serves as the address's own, as DER.
    #[track_caller]
    pub(crate) fn http_certificate(&self, address: &str) -> Option<Vec<u8>> {
        self.http_match(address).filter(|(whose, _)| whose == "recipient").map(|(_, der)| der)
    }
}

/// With single spaces: dig aligns its columns by tabs, depending on the length of the name.
pub(crate) fn spaced(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

/// The path of the HTTP look-up for an address.
pub(crate) fn lookup(address: &str) -> String {
    format!("/v1/addresses/{address}")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- the server said:\n{}", self.said());
        }
    }
}

/// Sends a signal to one process, by its number.
pub(crate) fn signal(pid: u32, name: &str) {
    let mut shell = client("sh");
    run(shell.args(["-c", &format!("kill -{name} {pid}")])).ok();
}

pub(crate) fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap().push(line);
        }
    });
    lines
}

/// The base64 values of an attribute in LDIF.
pub(crate) fn values(ldif: &str, attribute: &str) -> Vec<Vec<u8>> {
    let prefix = format!("{attribute}:: ");
    ldif.lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(|value| data_encoding::BASE64.decode(value.trim().as_bytes()).unwrap())
        .collect()
}

/// DER to PEM, as the `openssl` command writes it.
pub(crate) fn to_der(pem: &[u8]) -> Vec<u8> {
    run_with(client("openssl").args(["x509", "-outform", "DER"]), pem).ok().out
}
