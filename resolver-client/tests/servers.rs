//! Zones signed with BIND's tools and served by NSD. A missing tool fails the test.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use certdir_resolver::{Address, Certificate, Resolver, Verdict};
use certdir_zones::smimea_owner;
use tempfile::TempDir;

use crate::certificates::{now, time};

/// How a zone denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    Nsec,
    Nsec3,
    OptOut,
    /// NSEC3 with more iterations than are hashed (RFC 9276 section 3.2).
    Costly,
}

pub(crate) const DENIALS: [Denial; 3] = [Denial::Nsec, Denial::Nsec3, Denial::OptOut];

/// A zone to be served.
pub(crate) struct ZoneText {
    pub(crate) apex: &'static str,
    pub(crate) records: String,
    pub(crate) signed: Option<Signing>,
}

/// How a zone is signed.
#[derive(Clone)]
pub(crate) struct Signing {
    pub(crate) denial: Denial,
    /// Seconds from now.
    pub(crate) inception: i64,
    pub(crate) expiration: i64,
}

impl Signing {
    pub(crate) fn with(denial: Denial) -> Self {
        Signing { denial, inception: -3_600, expiration: 7 * 86_400 }
    }
}

/// A name server with the zones it serves.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) dir: TempDir,
}

impl Server {
    /// Signs the zones, children first, puts the DS records of signed zones into their parents, and serves them all.
    /// A zone named in `lame` is delegated but not served.
    pub(crate) fn start(zones: Vec<ZoneText>, lame: &[&str]) -> Server {
        let dir = TempDir::new().unwrap();
        build(dir.path(), zones);
        serve(dir, lame)
    }

    /// The key-signing key of a zone as a trust anchor file.
    pub(crate) fn anchor(&self, apex: &str) -> PathBuf {
        self.dir.path().join(format!("anchor.{apex}key"))
    }

    /// The DS records of a zone as a trust anchor file.
    pub(crate) fn ds(&self, apex: &str) -> PathBuf {
        self.dir.path().join(format!("dsset-{apex}"))
    }

    /// Signs a zone again with keys that never were in it, but for the key-signing key.
    pub(crate) fn roll_signing_key(&mut self, apex: &str, denial: Denial) {
        let dir = self.dir.path();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with(&format!("K{apex}+")) && name.ends_with(".key") {
                let text = fs::read_to_string(&path).unwrap();
                if text.contains("DNSKEY 256 ") {
                    fs::remove_file(path.with_extension("private")).unwrap();
                    fs::remove_file(path).unwrap();
                }
            }
        }
        run(Command::new("dnssec-keygen")
            .args(["-q", "-K", "."])
            .args(["-a", "ECDSAP256SHA256", apex])
            .current_dir(dir));
        sign(dir, apex, &Signing::with(denial));
        stop(&mut self.process);
        (self.process, self.address) = launch(dir);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

fn build(dir: &Path, zones: Vec<ZoneText>) {
    let mut conf = String::new();
    let mut parents = String::new();
    for zone in zones {
        let apex = zone.apex;
        let head = format!(
            "$ORIGIN {apex}\n$TTL 300\n@ IN SOA ns.{apex} hostmaster.{apex} 1 3600 900 86400 60\n@ IN NS ns.{apex}\nns IN A 127.0.0.1\n"
        );
        // Delegations and DS records of the zones before, where this is their parent.
        let below: String = parents.lines().filter(|l| parent_of(l) == apex).map(|l| format!("{l}\n")).collect();
        fs::write(dir.join(format!("zone.{apex}")), format!("{head}{}{below}", zone.records)).unwrap();
        parents += &format!("{apex} 300 IN NS ns.{apex}\nns.{apex} 300 IN A 127.0.0.1\n");
        let file = if let Some(signing) = &zone.signed {
            for flags in [&["-f", "KSK"][..], &[]] {
                let mut keygen = Command::new("dnssec-keygen");
                keygen.args(["-q", "-K", "."]).args(["-a", "ECDSAP256SHA256"]).args(flags).arg(apex);
                run(keygen.current_dir(dir));
            }
            sign(dir, apex, signing);
            parents += &fs::read_to_string(dir.join(format!("dsset-{apex}"))).unwrap();
            fs::write(dir.join(format!("anchor.{apex}key")), key_signing_key(dir, apex)).unwrap();
            format!("zone.{apex}signed")
        } else {
            format!("zone.{apex}")
        };
        conf += &format!("zone:\n  name: {apex}\n  zonefile: {file}\n");
    }
    fs::write(dir.join("zones.conf"), conf).unwrap();
}

/// The owner of a line without its first label; glue belongs two labels up.
fn parent_of(line: &str) -> &str {
    let owner = line.split_whitespace().next().unwrap_or_default();
    let up = |name| str::split_once(name, '.').map_or("", |(_, rest)| rest);
    let parent = up(owner);
    if owner.starts_with("ns.") { up(parent) } else { parent }
}

fn sign(dir: &Path, apex: &str, signing: &Signing) {
    let mut command = Command::new("dnssec-signzone");
    // -P: signatures out of their time are signed all the same.
    command.args(["-P", "-Q", "-S", "-K", ".", "-d", ".", "-o", apex]);
    command.args(["-s", &timestamp(signing.inception), "-e", &timestamp(signing.expiration)]);
    match signing.denial {
        Denial::Nsec => {}
        Denial::Nsec3 => drop(command.args(["-3", "-", "-H", "0"])),
        Denial::Costly => drop(command.args(["-3", "-", "-H", "150"])),
        Denial::OptOut => drop(command.args(["-3", "-", "-H", "0", "-A"])),
    }
    command.args(["-f", &format!("zone.{apex}signed"), &format!("zone.{apex}")]);
    run(command.current_dir(dir));
}

fn timestamp(offset: i64) -> String {
    let t = time!(now() + offset);
    let (y, mo, d, h, mi, s) = (t.year(), u8::from(t.month()), t.day(), t.hour(), t.minute(), t.second());
    format!("{y:04}{mo:02}{d:02}{h:02}{mi:02}{s:02}")
}

fn key_signing_key(dir: &Path, apex: &str) -> String {
    let prefix = format!("K{apex}+");
    let files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut keys = files.filter(|p| {
        let name = p.file_name().unwrap().to_str().unwrap();
        name.starts_with(&prefix) && name.ends_with(".key")
    });
    let text = keys.find_map(|p| Some(fs::read_to_string(p).unwrap()).filter(|t| t.contains("DNSKEY 257 ")));
    text.unwrap()
}

fn serve(dir: TempDir, lame: &[&str]) -> Server {
    if !lame.is_empty() {
        let text = fs::read_to_string(dir.path().join("zones.conf")).unwrap();
        let kept = text
            .split("zone:\n")
            .filter(|z| !z.is_empty() && !lame.iter().any(|l| z.contains(&format!("name: {l}\n"))));
        let kept: String = kept.map(|z| format!("zone:\n{z}")).collect();
        fs::write(dir.path().join("zones.conf"), kept).unwrap();
    }
    let (process, address) = launch(dir.path());
    Server { process, address, dir }
}

fn launch(dir: &Path) -> (Child, SocketAddr) {
    let zones = fs::read_to_string(dir.join("zones.conf")).unwrap();
    let at = dir.display();
    // Another process may take the port between the choice and its use.
    for _ in 0..5 {
        let address = free_port();
        let (ip, port) = (address.ip(), address.port());
        let conf = format!(
            "server:\n  ip-address: {ip}@{port}\n  username: \"\"\n  zonesdir: {at}\n  pidfile: {at}/nsd.pid\n  xfrdfile: {at}/xfrd\n  zonelistfile: {at}/list\n  logfile: {at}/nsd.log\n  server-count: 1\nremote-control:\n  control-enable: no\n{zones}"
        );
        fs::write(dir.join("nsd.conf"), conf).unwrap();
        let mut nsd = Command::new("nsd");
        nsd.arg("-d").arg("-c").arg(dir.join("nsd.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = nsd.spawn().unwrap_or_else(|e| panic!("nsd is needed for this test: {e}"));
        if answers(address, &mut process) {
            return (process, address);
        }
        stop(&mut process);
    }
    panic!("nsd does not start: {}", fs::read_to_string(dir.join("nsd.log")).unwrap_or_default());
}

/// A loopback port that is free for UDP and TCP.
pub(crate) fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until a server answers anything, or ends.
pub(crate) fn answers(address: SocketAddr, process: &mut Child) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    // ". SOA"
    let query = [0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    for _ in 0..600 {
        let _ = socket.send_to(&query, address);
        if socket.recv_from(&mut [0; 512]).is_ok() {
            return true;
        }
        if process.try_wait().unwrap().is_some() {
            return false;
        }
    }
    false
}

/// Ends a process of ours by its id; servers then end their own children.
pub(crate) fn stop(process: &mut Child) {
    let _ = Command::new("kill").args(["-TERM", &process.id().to_string()]).stderr(Stdio::null()).status();
    let _ = process.wait();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} is needed for this test: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// `SMIMEA usage selector matching` at an address's owner name.
pub(crate) fn smimea(at: &str, parameters: &str, data: &[u8]) -> String {
    format!("{} 300 IN SMIMEA {parameters} {}\n", smimea_owner(&address(at)), data_encoding::HEXLOWER.encode(data))
}

/// `SMIMEA 3 0 0` at an address's owner name.
pub(crate) fn published(at: &str, certificate: &Certificate) -> String {
    smimea(at, "3 0 0", certificate.der())
}

/// A clock that tests set.
#[derive(Clone)]
pub(crate) struct TestClock(pub(crate) Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        TestClock(Arc::new(AtomicI64::new(now())))
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn builder(&self) -> certdir_resolver::Builder {
        let clock = Arc::clone(&self.0);
        Resolver::builder(Arc::new(move || clock.load(Ordering::SeqCst))).timeout(Duration::from_secs(4))
    }
}

/// A resolver that asks `server` and trusts `anchor`.
pub(crate) fn resolver(server: SocketAddr, anchor: &Path) -> Resolver {
    TestClock::new().builder().server(server).trust_anchor_file(anchor).build().unwrap()
}

pub(crate) async fn ask(resolver: &Resolver, at: &str) -> Verdict {
    resolver.resolve(&address(at)).await
}

/// Verdict, reason, and what was used.
pub(crate) fn gist(verdict: &Verdict) -> (&'static str, &'static str) {
    (verdict.code(), verdict.trace().reason)
}

#[track_caller]
pub(crate) fn assert_gist(verdict: &Verdict, code: &str, reason: &str) {
    assert_eq!(gist(verdict), (code, reason), "{}", verdict.trace());
}

#[track_caller]
pub(crate) fn assert_uses(verdict: &Verdict, certificate: &Certificate, matched: &str) {
    assert_gist(verdict, "use", matched);
    assert_eq!(verdict.certificate().map(|c| c.sha256()), Some(certificate.sha256()), "{}", verdict.trace());
}
