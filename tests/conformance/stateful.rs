//! A client of stateful sessions (RFC 8490) that says what a case tells it to, octet by octet, and zones that change.
//!
//! What it is told is read by hickory-proto as far as it is records, and by hand where no library knows it.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use certdir_dns::{Counters, Error, Frontend, Latest, Options, Snapshot, View, Zones};
use certdir_zones::{Name, RecordType, Zone};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tokio::sync::watch;

use super::{generosity, zone};
use crate::world::{now, until};

/// Zones that change: those of now, and what told them from those before.
#[derive(Clone)]
pub(crate) struct Changing {
    now: Arc<Mutex<Set>>,
    pinned: Set,
    changed: watch::Sender<u64>,
}

#[derive(Clone)]
struct Set {
    zones: Arc<Vec<Zone>>,
    revision: u64,
    names: Arc<Vec<Name>>,
}

impl Changing {
    fn new(fragment: &str) -> Changing {
        let zones = vec![zone("example.test", fragment, super::Form::Minimal)];
        let set = Set { zones: Arc::new(zones), revision: 1, names: Arc::default() };
        Changing { now: Arc::new(Mutex::new(set.clone())), pinned: set, changed: watch::channel(1).0 }
    }

    /// Puts another zone in the place of the one there is, signed anew.
    fn change(&self, fragment: &str) {
        let next = vec![zone("example.test", fragment, super::Form::Minimal)];
        let mut set = self.now.lock().unwrap();
        let all = |zones: &[Zone]| zones.iter().flat_map(Zone::names).map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let mut names: BTreeSet<Name> = all(&set.zones).into_iter().chain(all(&next)).collect();
        let rrsets = |zones: &[Zone], name: &Name| {
            let node = zones[0].get(name.as_wire())?;
            Some(node.rrsets().iter().map(|one| one.rrset.clone()).collect::<Vec<_>>())
        };
        names.retain(|name| rrsets(&set.zones, name) != rrsets(&next, name));
        let revision = set.revision + 1;
        *set = Set { zones: Arc::new(next), revision, names: Arc::new(names.into_iter().collect()) };
        drop(set);
        self.changed.send_replace(revision);
    }
}

impl Zones for Changing {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        let name = Name::from_wire(name).ok()?;
        self.pinned.zones.iter().find(|zone| name.is_at_or_below(zone.apex()))
    }

    fn revision(&self) -> u64 {
        self.pinned.revision
    }

    fn changed_since(&self, revision: u64) -> Option<Vec<&Name>> {
        (revision + 1 == self.pinned.revision).then(|| self.pinned.names.iter().collect())
    }
}

impl Latest for Changing {
    type Zones = Changing;
    fn load(&mut self) -> Option<&Changing> {
        self.pinned = self.now.lock().unwrap().clone();
        Some(self)
    }
}

impl View for Changing {
    type Latest = Changing;
    fn latest(&self) -> Changing {
        self.clone()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// `example.test` on TCP, UDP and TLS; stopped when dropped.
pub(crate) struct Pushing {
    zones: Changing,
    pub(crate) plain: SocketAddr,
    tls: SocketAddr,
    config: Arc<ClientConfig>,
    counters: Counters,
    shutdown: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Pushing {
    pub(crate) fn start(fragment: &str) -> Pushing {
        Pushing::start_with(fragment, Options::default())
    }

    pub(crate) fn start_with(fragment: &str, options: Options) -> Pushing {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let any = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let options = Options { workers: 1, policy: generosity(), ..options };
        let frontend = Frontend::bind(&any, options).unwrap().with_tls(&any, Arc::new(server)).unwrap();
        let (plain, tls, counters) = (frontend.addresses()[0], frontend.tls_addresses()[0], frontend.counters());
        let zones = Changing::new(fragment);
        let (shutdown, stop) = watch::channel(false);
        let view = zones.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(frontend.run(view, Arc::new(now), stop))
        });
        Pushing { zones, plain, tls, config, counters, shutdown, thread: Some(thread) }
    }

    pub(crate) fn change(&self, fragment: &str) {
        self.zones.change(fragment);
    }

    pub(crate) fn tcp(&self) -> Client {
        let stream = TcpStream::connect(self.plain).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client(Box::new(stream))
    }

    pub(crate) fn tls(&self) -> Client {
        let stream = TcpStream::connect(self.tls).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Client(Box::new(StreamOwned::new(ClientConnection::new(self.config.clone(), name).unwrap(), stream)))
    }

    /// A session over TLS: timeouts are agreed upon.
    pub(crate) fn session(&self) -> Client {
        let mut client = self.tls();
        let response = client.ask(&request(0x7777, 1, &timeouts(15_000, 3_600_000)));
        assert_eq!(&response[..4], [0x77, 0x77, 0xB0, 0]);
        client
    }

    pub(crate) fn counts(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Waits until the counts are as wanted.
    pub(crate) fn counted(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) {
        until(what, Duration::from_secs(60), || wanted(&self.counts()).then_some(()));
    }

    pub(crate) fn stop(&self) {
        self.shutdown.send_replace(true);
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

/// One connection.
pub(crate) struct Client(Box<dyn Line>);

impl Client {
    pub(crate) fn send(&mut self, message: &[u8]) {
        let framed = [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
        self.0.write_all(&framed).unwrap();
        self.0.flush().unwrap();
    }

    /// The next message, whatever it is.
    pub(crate) fn read(&mut self) -> Vec<u8> {
        self.next().expect("the connection is open")
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 2];
        match self.0.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing was said"),
            Err(_) => return None,
        }
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        self.0.read_exact(&mut message).ok()?;
        Some(message)
    }

    pub(crate) fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.send(message);
        self.read()
    }

    /// The server ends the connection without another word.
    #[track_caller]
    pub(crate) fn is_cut_off(&mut self) {
        assert_eq!(self.next(), None);
    }

    #[track_caller]
    pub(crate) fn is_cut_off_after(&mut self, message: &[u8]) {
        self.send(message);
        self.is_cut_off();
    }

    /// Subscribes; the response code, and the time of a Retry Delay TLV.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, id: u16, owner: &str, rtype: &str) -> (u8, Option<u32>) {
        let response = self.ask(&request(id, 0x40, &subject(owner, rtype, 1)));
        assert_eq!(
            (&response[..3], &response[4..12]),
            (&[id.to_be_bytes()[0], id.to_be_bytes()[1], 0xB0][..], &[0; 8][..])
        );
        let delay = match &response[12..] {
            [] => None,
            [0, 2, 0, 4, delay @ ..] => Some(u32::from_be_bytes(delay.try_into().unwrap())),
            other => panic!("{other:?}"),
        };
        (response[3] & 0x0F, delay)
    }

    /// The changes of the next message, which has to be a PUSH.
    #[track_caller]
    pub(crate) fn pushed(&mut self) -> Vec<String> {
        changes(&self.read())
    }
}

/// The changes that a PUSH message tells (RFC 8765 section 6.3.1).
#[track_caller]
pub(crate) fn changes(message: &[u8]) -> Vec<String> {
    assert!(message.len() <= 16_382);
    assert_eq!(message[..14], [0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41], "{message:02x?}");
    let end = 16 + usize::from(u16::from_be_bytes([message[14], message[15]]));
    let mut decoder = BinDecoder::new(&message[..end]);
    decoder.read_slice(16).unwrap();
    let mut changes = Vec::new();
    while !decoder.is_empty() {
        let at = decoder.index();
        let record = Record::read(&mut decoder).unwrap();
        let name = record.name.to_string().trim_end_matches(".example.test.").to_string();
        let rtype = record.record_type();
        changes.push(match record.ttl {
            0xFFFF_FFFF => format!("- {name} {rtype} {}", record.data),
            0xFFFF_FFFE => {
                assert_eq!(message[decoder.index() - 2..decoder.index()], [0, 0], "no RDATA at {at}");
                format!("-- {name} {rtype} {}", record.dns_class)
            }
            ttl => format!("+ {name} {rtype} {ttl} {}", record.data),
        });
    }
    assert!(!changes.is_empty());
    changes
}

/// A request, or with id 0 a message that nobody answers, with one TLV.
pub(crate) fn request(id: u16, kind: u16, data: &[u8]) -> Vec<u8> {
    let [id0, id1] = id.to_be_bytes();
    [&[id0, id1, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &tlv(kind, data)].concat()
}

pub(crate) fn tlv(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
}

pub(crate) fn timeouts(inactivity: u32, interval: u32) -> Vec<u8> {
    [inactivity.to_be_bytes(), interval.to_be_bytes()].concat()
}

/// Name, type and class.
pub(crate) fn subject(owner: &str, rtype: &str, class: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in owner.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets.extend(rtype.parse::<RecordType>().unwrap().0.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets
}
