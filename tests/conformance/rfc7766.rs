//! RFC 7766: DNS over TCP, with RFC 7828 (keepalive).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{Answer, Form, Served, family, query};
use crate::world::{client, run, spaced};

fn connect(served: &Served) -> TcpStream {
    let stream = TcpStream::connect(served.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn read(stream: &mut TcpStream) -> Answer {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).unwrap();
    Answer::read(&octets)
}

fn numbered(id: u16, owner: &str) -> Vec<u8> {
    let mut message = query(owner, "A", Some(true));
    message[..2].copy_from_slice(&id.to_be_bytes());
    message
}

#[test]
fn section_5_tcp_answers_as_udp_does() {
    let served = Served::start(&family(Form::Chain));
    let port = served.address.port().to_string();
    for owner in ["www", "nothing", "x.wild", "x.unsigned", "twice"] {
        let [udp, tcp] = ["+notcp", "+tcp"].map(|transport| {
            let mut dig = client("dig");
            dig.args([
                "@127.0.0.1",
                "-p",
                &port,
                "+dnssec",
                "+noall",
                "+answer",
                "+authority",
                "+additional",
                transport,
            ]);
            spaced(&run(dig.args([&format!("{owner}.example.test"), "A"])).ok().text())
        });
        assert_eq!(udp, tcp, "{owner}");
        assert!(!udp.is_empty());
    }
}

#[test]
fn section_6_2_1_a_connection_serves_many_queries() {
    let served = Served::start(&family(Form::Minimal));
    let mut stream = connect(&served);
    for id in 0..10 {
        stream.write_all(&framed(&numbered(id, "www.example.test"))).unwrap();
        let answer = read(&mut stream);
        assert_eq!((answer.0.metadata.id, answer.rcode().as_str()), (id, "NoError"));
    }
}

/// Section 6.2.1.1, and section 7: the order of answers says nothing, their ids do.
#[test]
fn section_6_2_1_1_pipelined_queries_are_all_answered() {
    let served = Served::start(&family(Form::Minimal));
    let mut stream = connect(&served);
    let owner = |id: u16| ["www", "nothing", "x.wild", "twice"][usize::from(id % 4)];
    let queries: Vec<u8> =
        (0..100).flat_map(|id| framed(&numbered(id, &format!("{}.example.test", owner(id))))).collect();
    stream.write_all(&queries).unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        let answer = read(&mut stream);
        let id = answer.0.metadata.id;
        assert_eq!(answer.0.queries[0].name().to_string(), format!("{}.example.test.", owner(id)), "section 7");
        assert!(ids.insert(id));
    }
}

#[test]
fn section_8_the_length_and_the_message_may_arrive_in_pieces() {
    let served = Served::start(&family(Form::Minimal));
    let mut stream = connect(&served);
    stream.set_nodelay(true).unwrap();
    for octet in framed(&numbered(7, "www.example.test")) {
        stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(read(&mut stream).0.metadata.id, 7);
}

#[test]
fn section_6_2_4_a_client_that_closes_gets_what_it_asked_before() {
    let served = Served::start(&family(Form::Minimal));
    let mut stream = connect(&served);
    stream.write_all(&framed(&numbered(7, "www.example.test"))).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read(&mut stream).0.metadata.id, 7);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "and then the end");
}

/// RFC 7828 sections 3.2.1 and 3.3.2: told to who asks, over TCP only.
#[test]
fn section_6_2_3_how_long_a_connection_may_be_idle() {
    let served = Served::start(&family(Form::Minimal));
    let port = served.address.port().to_string();
    for (arguments, told) in [("+tcp +keepalive", true), ("+tcp", false), ("+notcp +keepalive", false)] {
        let mut dig = client("dig");
        dig.args(["@127.0.0.1", "-p", &port]).args(arguments.split(' '));
        let said = run(dig.args(["www.example.test", "A"])).ok().text();
        assert!(said.contains("status: NOERROR"), "{said}");
        assert_eq!(said.contains("KEEPALIVE"), told, "{arguments}: {said}");
    }
}
