//! The loops behind real sockets.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use certdir_dns::{Counters, Error, Frontend, Options, Rcode};
use certdir_zones::RecordType;
use tokio::sync::watch;

use crate::message::Message;
use crate::world::{NOW, World, generosity, opt, question};

/// A front end in a thread of its own; stopped when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) counters: Counters,
    shutdown: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Running {
    pub(crate) fn start(world: &World, ip: IpAddr, options: Options, now: i64) -> Running {
        let frontend = Frontend::bind(&[SocketAddr::new(ip, 0)], options).unwrap();
        let (address, counters) = (frontend.addresses()[0], frontend.counters());
        let (shutdown, stop) = watch::channel(false);
        let world = world.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(frontend.run(world, Arc::new(move || now), stop))
        });
        Running { address, counters, shutdown, thread: Some(thread) }
    }

    fn stop(mut self) -> Result<(), Error> {
        self.shutdown.send_replace(true);
        self.thread.take().unwrap().join().unwrap()
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn request(id: u16, owner: &str) -> Vec<u8> {
    let mut request = question(owner, RecordType::SMIMEA, Some(opt(1232, true)));
    request[..2].copy_from_slice(&id.to_be_bytes());
    request
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn read_framed(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).unwrap();
    Message::read(&octets)
}

fn client(server: SocketAddr) -> UdpSocket {
    let local: IpAddr = if server.is_ipv4() { LOOPBACK } else { "::1".parse().unwrap() };
    let socket = UdpSocket::bind((local, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

#[test]
fn udp_answers_many_at_once_and_drops_what_deserves_it() {
    let running = Running::start(
        &World::new(),
        LOOPBACK,
        Options { workers: 2, policy: generosity(), ..Options::default() },
        NOW,
    );
    let socket = client(running.address);
    socket.send_to(&[0x80; 40], running.address).unwrap();
    socket.send_to(b"runt", running.address).unwrap();
    let mut seen = std::collections::HashSet::new();
    let mut buffer = [0; 4096];
    // More than one batch at once, and no more than the client's own queue holds.
    for first in [0, 50, 100, 150] {
        for id in first..first + 50 {
            let owner = if id % 2 == 0 { "alice._smimecert.example.org" } else { "bob._smimecert.example.org" };
            socket.send_to(&request(id, owner), running.address).unwrap();
        }
        for _ in 0..50 {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, running.address);
            let message = Message::read(&buffer[..length]);
            assert_eq!(message.truncated(), message.id % 2 == 1);
            assert!(seen.insert(message.id));
        }
    }
    assert_eq!(seen.len(), 200);
    let udp = running.counters.snapshot().udp;
    assert_eq!((udp.queries(), udp.dropped(), udp.truncated(), udp.responses(Rcode::NOERROR)), (202, 2, 100, 200));
    running.stop().unwrap();
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    let any = Running::start(&World::new(), IpAddr::V4(Ipv4Addr::UNSPECIFIED), Options::default(), NOW);
    // All of 127.0.0.0/8 is this host; without care every answer would come from 127.0.0.1.
    for last in [1, 2, 77] {
        let asked = SocketAddr::new([127, 0, 0, last].into(), any.address.port());
        let socket = client(asked);
        for id in 0..3 {
            socket.send_to(&request(id, "alice._smimecert.example.org"), asked).unwrap();
            let (_, from) = socket.recv_from(&mut [0; 4096]).unwrap();
            assert_eq!(from, asked);
        }
    }
}

#[test]
fn ipv6() {
    for ip in ["::1", "::"] {
        let running = Running::start(&World::new(), ip.parse().unwrap(), Options::default(), NOW);
        let asked = SocketAddr::new("::1".parse().unwrap(), running.address.port());
        let socket = client(asked);
        socket.send_to(&request(7, "alice._smimecert.example.org"), asked).unwrap();
        let mut buffer = [0; 4096];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((from, Message::read(&buffer[..length]).id), (asked, 7));
    }
}

#[test]
fn rfc7766_6_2_1_pipelined_requests_arrive_in_pieces_and_are_all_answered() {
    let running = Running::start(&World::new(), LOOPBACK, Options::default(), NOW);
    let mut stream = running.tcp();
    let names = ["alice._smimecert.example.org", "pq._smimecert.example.org", "nobody.direct.example.net"];
    let all: Vec<u8> = (0..60u16).flat_map(|id| framed(&request(id, names[usize::from(id) % 3]))).collect();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || all.chunks(97).for_each(|piece| writer.write_all(piece).unwrap()));
    for id in 0..60 {
        let message = read_framed(&mut stream);
        assert_eq!((message.id, message.truncated()), (id, false));
    }
    sender.join().unwrap();
    let tcp = running.counters.snapshot().tcp;
    assert_eq!((tcp.queries(), tcp.responses(Rcode::NXDOMAIN)), (60, 20));
    running.stop().unwrap();
}

#[test]
fn requests_that_arrive_together_are_answered_together() {
    let running = Running::start(&World::new(), LOOPBACK, Options::default(), NOW);
    let mut stream = running.tcp();
    let ten: Vec<u8> = (0..10).flat_map(|id| framed(&request(id, "alice._smimecert.example.org"))).collect();
    stream.write_all(&ten).unwrap();
    let mut all = vec![0; 65_536];
    let first = stream.read(&mut all).unwrap();
    let one = usize::from(u16::from_be_bytes([all[0], all[1]])) + 2;
    assert_eq!(first, 10 * one, "one segment");
}

#[test]
fn connection_limits() {
    let options = Options { workers: 1, connections_per_source: 2, ..Options::default() };
    let running = Running::start(&World::new(), LOOPBACK, options, NOW);
    let mut open: Vec<TcpStream> = (0..2).map(|_| running.tcp()).collect();
    let ask = framed(&request(1, "alice._smimecert.example.org"));
    for stream in &mut open {
        stream.write_all(&ask).unwrap();
        read_framed(stream);
    }
    let mut refused = running.tcp();
    assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(running.counters.snapshot().tcp.refused_connections(), 1);
    // A place is given back when its connection ends; the end may take a moment to arrive.
    drop(open.pop());
    let answered = (0..200).any(|_| {
        let mut stream = running.tcp();
        std::thread::sleep(Duration::from_millis(5));
        stream.write_all(&ask).is_ok() && matches!(stream.read(&mut [0]), Ok(1))
    });
    assert!(answered);
}

#[test]
fn a_request_that_is_too_long_ends_its_connection_only() {
    let running = Running::start(&World::new(), LOOPBACK, Options::default(), NOW);
    let mut other = running.tcp();
    let mut stream = running.tcp();
    stream.write_all(&[0xFF, 0xFF, 0]).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    other.write_all(&framed(&request(1, "alice._smimecert.example.org"))).unwrap();
    assert_eq!(read_framed(&mut other).id, 1);
}

/// A client that asks without reading: the server stops reading, too, and goes on answering others.
#[test]
fn a_slow_reader_keeps_nobody_else_waiting() {
    let running = Running::start(&World::new(), LOOPBACK, Options { workers: 1, ..Options::default() }, NOW);
    let mut slow = running.tcp();
    slow.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let many: Vec<u8> = (0..100).flat_map(|id| framed(&request(id, "pq._smimecert.example.org"))).collect();
    let mut asked = 0;
    while slow.write_all(&many).is_ok() {
        asked += 100;
        assert!(asked < 1_000_000, "the server must stop reading");
    }
    let mut other = running.tcp();
    other.write_all(&framed(&request(9, "alice._smimecert.example.org"))).unwrap();
    assert_eq!(read_framed(&mut other).id, 9);
    running.stop().unwrap();
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let first = Frontend::bind(&[SocketAddr::new(LOOPBACK, 0)], Options::default()).unwrap();
    let error = Frontend::bind(&first.addresses(), Options::default()).unwrap_err();
    assert_eq!(error.code(), "dns-bind");
    assert!(error.to_string().contains(&first.addresses()[0].to_string()), "{error}");
    let address = first.addresses()[0];
    drop(first);
    let tcp = std::net::TcpListener::bind(address).unwrap();
    let error = Frontend::bind(&[address], Options::default()).unwrap_err();
    assert!(error.to_string().contains("TCP"), "{error}");
    drop(tcp);
}

#[test]
fn stops_promptly_with_connections_open() {
    let running = Running::start(&World::new(), LOOPBACK, Options::default(), NOW);
    let mut stream = running.tcp();
    stream.write_all(&framed(&request(1, "alice._smimecert.example.org"))).unwrap();
    read_framed(&mut stream);
    running.stop().unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}
