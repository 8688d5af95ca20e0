//! Clients that take without giving: they lose their connections, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use certdir_dns::{Options, Policy, Rcode};
use certdir_zones::RecordType;

use crate::message::Message;
use crate::transports::{ALICE, House, LOOPBACK, PATIENCE, framed, query, read_framed};
use crate::world::generosity;

fn impatient() -> Options {
    let second = Duration::from_secs(1);
    Options {
        policy: generosity(),
        idle: 600 * second,
        keepalive: 600 * second,
        slow: 3 * second,
        ..Options::default()
    }
}

fn hit() -> Vec<u8> {
    query(ALICE, RecordType::SMIMEA, &[])
}

fn answered(octets: &[u8]) {
    assert_eq!(Message::read(octets).answers.len(), 2);
}

/// Reads until the connection is cut.
fn is_cut(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = vec![0; 1 << 20];
    loop {
        match stream.read(&mut all) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A connection from another source.
fn from(house: &House, source: [u8; 4]) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&house.plain.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

#[test]
fn a_sender_of_single_octets_is_cut() {
    // A question takes longer at this pace.
    let house = House::open(LOOPBACK, Options { slow: Duration::from_secs(1), ..impatient() });
    let mut slow = house.tcp();
    let mut patient = house.tcp();
    let mut cut = false;
    for octet in framed(&hit()).into_iter().cycle().take(200) {
        cut = cut || slow.write_all(&[octet]).is_err();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(cut);
    // Idle is not slow: this one was there before.
    patient.write_all(&framed(&hit())).unwrap();
    answered(&read_framed(&mut patient));
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let house = House::open(LOOPBACK, impatient());
    let mut deaf = house.tcp();
    deaf.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let large = framed(&query("pq._smimecert.example.org", RecordType::SMIMEA, &[])).repeat(100);
    let mut patience = 600;
    loop {
        match deaf.write_all(&large) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => patience -= 1,
        }
        assert!(patience > 0, "never cut");
        std::thread::sleep(Duration::from_millis(50));
        answered(&house.over_tcp(&hit()));
    }
}

/// Connections that only sit there make room for those that ask, be they of the same source or not.
#[test]
fn two_thousand_idle_connections_keep_nobody_out() {
    // One worker takes connections in their order: what was answered came after all that sit there.
    let options = Options { workers: 1, connections: 64, connections_per_source: 10_000, ..impatient() };
    let house = House::open(LOOPBACK, options);
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.extend((0..100).map(|_| house.tcp()));
        answered(&house.over_tcp(&hit()));
        answered(&house.over_tls(&hit()));
        answered(&house.over_quic(&hit()).unwrap());
        // Those that were let in and are gone give back their numbers here, too.
        idle.drain(..50.min(idle.len()));
    }
}

/// Clients that ask for more than any buffer holds and do not read it.
#[test]
fn connections_that_do_not_read_keep_nobody_out() {
    let options = Options {
        workers: 1,
        connections: 64,
        connections_per_source: 10_000,
        slow: Duration::from_secs(600),
        ..impatient()
    };
    let house = House::open(LOOPBACK, options);
    let large = framed(&query("pq._smimecert.example.org", RecordType::SMIMEA, &[])).repeat(200);
    let mut deaf = Vec::new();
    for _ in 0..100 {
        let mut stream = from(&house, [127, 0, 0, 1]);
        stream.write_all(&large).unwrap();
        deaf.push(stream);
    }
    for _ in 0..20 {
        answered(&house.over_tcp(&hit()));
    }
}

/// TCP without TLS on it, and half a ClientHello.
#[test]
fn half_open_handshakes_keep_nobody_out_and_are_cut() {
    let options = Options { connections: 64, connections_per_source: 10_000, ..impatient() };
    let house = House::open(LOOPBACK, options);
    let begun = |octets: &[u8]| {
        let mut stream = TcpStream::connect(house.tls).unwrap();
        // It may be the turn of this one to make room.
        let _ = stream.write_all(octets);
        stream
    };
    // A handshake record of 512 octets, of which a few arrive.
    let half = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3, 7, 7, 7];
    for _ in 0..5 {
        let silent: Vec<_> = (0..100).map(|at| begun(if at % 2 == 0 { &[] } else { &half })).collect();
        answered(&house.over_tls(&hit()));
        answered(&house.over_tcp(&hit()));
        drop(silent);
    }
    assert!(is_cut(begun(&[])));
    assert!(is_cut(begun(&half)));
    assert!(is_cut(begun(b"GET / HTTP/1.1\r\n\r\n")));
}

#[test]
fn half_of_the_connections_of_a_source_may_be_in_a_handshake() {
    let options = Options { workers: 1, connections_per_source: 8, slow: Duration::from_secs(600), ..impatient() };
    let house = House::open(LOOPBACK, options);
    let silent: Vec<_> = (0..4).map(|_| TcpStream::connect(house.tls).unwrap()).collect();
    assert!(is_cut(TcpStream::connect(house.tls).unwrap()), "the fifth");
    assert_eq!(house.counters.snapshot().tls.refused_connections(), 1);
    answered(&house.over_tcp(&hit()));
    drop(silent);
}

/// The places of one source are its own affair.
#[test]
fn one_source_cannot_take_the_places_of_another() {
    let options = Options { workers: 1, connections_per_source: 8, ..impatient() };
    let house = House::open(LOOPBACK, options);
    let ours: Vec<_> = (0..8).map(|_| house.tcp()).collect();
    assert!(is_cut(house.tcp()), "the ninth");
    let refused = house.counters.snapshot().tcp.refused_connections();
    assert!(refused >= 1);
    let mut other = from(&house, [127, 0, 0, 2]);
    other.write_all(&framed(&hit())).unwrap();
    answered(&read_framed(&mut other));
    drop(ours);
}

/// So many questions for names that nobody has.
fn misses(source: u8, count: usize) -> Vec<u8> {
    let miss = |at| query(&format!("n{source}-{at}._smimecert.plain.example"), RecordType::SMIMEA, &[]);
    (0..count).flat_map(|at| framed(&miss(at))).collect()
}

/// A server whose six signatures of this second are used up; six more come with the clock's next second.
fn exhausted() -> House {
    let policy = Policy { signatures_per_second: 6, ..generosity() };
    let house = House::open(LOOPBACK, Options { workers: 1, policy, ..impatient() });
    // The first denial takes three signatures, all others one.
    for (network, count) in [(201, 1), (202, 3)] {
        let mut stream = from(&house, [127, 0, network, 1]);
        stream.write_all(&misses(network, count)).unwrap();
        denied(&mut stream, count);
    }
    assert_eq!(house.counters.snapshot().tcp.signatures(), 6);
    house
}

fn denied(stream: &mut TcpStream, count: usize) {
    for _ in 0..count {
        assert_eq!(Message::read(&read_framed(stream)).rcode(), Rcode::NXDOMAIN.0);
    }
}

fn wait_for_deferred(house: &House, count: u64) {
    for _ in 0..2_000 {
        if house.counters.snapshot().tcp.deferred() >= count {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} deferred, not {count}", house.counters.snapshot().tcp.deferred());
}

#[test]
fn who_waited_longest_for_a_signature_gets_it_first() {
    let house = exhausted();
    let mut streams = [1, 2, 3].map(|network| from(&house, [127, 0, network, 1]));
    for (at, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&misses(at as u8, 4)).unwrap();
        wait_for_deferred(&house, 4 * (at as u64 + 1));
    }
    let [first, second, third] = &mut streams;
    // Half of the signatures for the first, half for the second; their last ones still come before all of the third, who
    // has half, too.
    house.now.fetch_add(1, Ordering::Relaxed);
    denied(first, 3);
    denied(second, 3);
    house.now.fetch_add(1, Ordering::Relaxed);
    denied(first, 1);
    denied(second, 1);
    denied(third, 3);
    house.now.fetch_add(1, Ordering::Relaxed);
    denied(third, 1);
    let tcp = house.counters.snapshot().tcp;
    assert_eq!((tcp.signatures(), tcp.deferred()), (6 + 12, 12));
}

#[test]
fn one_source_leaves_places_to_wait_in() {
    let house = exhausted();
    let mut greedy: Vec<_> = (0..9).map(|_| from(&house, [127, 0, 1, 1])).collect();
    for (at, stream) in greedy.iter_mut().enumerate() {
        stream.write_all(&misses(at as u8, 32)).unwrap();
    }
    wait_for_deferred(&house, 256);
    let mut other = from(&house, [127, 0, 2, 1]);
    other.write_all(&misses(99, 3)).unwrap();
    wait_for_deferred(&house, 259);
    house.now.fetch_add(1, Ordering::Relaxed);
    denied(&mut other, 3);
    assert_eq!(house.counters.snapshot().tcp.deferred(), 259);
}
