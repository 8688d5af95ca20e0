//! RFC 8490: DNS Stateful Operations.

use std::net::UdpSocket;
use std::time::Duration;

use certdir_dns::Options;

use super::query;
use super::stateful::{Client, Pushing, request, subject, timeouts, tlv};

const ZONE: &str = "www A 192.0.2.1\n";
const KEEPALIVE: u16 = 1;
const RETRY_DELAY: u16 = 2;
const PADDING: u16 = 3;
const UNSUBSCRIBE: u16 = 0x42;
/// Reserved for experiments (section 10.3).
const UNKNOWN: u16 = 0xF801;

/// Timeouts asked for, and those that are granted.
fn keep_alive(client: &mut Client, inactivity: u32, interval: u32) -> (u32, u32) {
    let response = client.ask(&request(0x0102, KEEPALIVE, &timeouts(inactivity, interval)));
    assert_eq!(response[..16], [1, 2, 0xB0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 8]);
    let number = |at: usize| u32::from_be_bytes(response[at..at + 4].try_into().unwrap());
    assert_eq!(response.len(), 24);
    (number(16), number(20))
}

/// A client on each transport that has sessions.
fn clients(pushing: &Pushing) -> [Client; 2] {
    [pushing.tcp(), pushing.tls()]
}

#[test]
fn section_5_1_a_keepalive_request_opens_a_session() {
    let pushing = Pushing::start(ZONE);
    for mut client in clients(&pushing) {
        keep_alive(&mut client, 15_000, 60_000);
        // What nobody answers is allowed from here on.
        client.send(&request(0, UNSUBSCRIBE, &[0, 9]));
        keep_alive(&mut client, 15_000, 60_000);
    }
    pushing.counted("two sessions", |counts| (counts.tcp.sessions(), counts.tls.sessions()) <= (1, 1));
}

/// Section 5.1: sessions are for transports that keep messages in order and a connection.
#[test]
fn section_5_1_not_over_udp() {
    let pushing = Pushing::start(ZONE);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.send_to(&request(0x0102, KEEPALIVE, &timeouts(1, 1)), pushing.plain).unwrap();
    let mut response = [0; 512];
    let length = socket.recv(&mut response).unwrap();
    assert_eq!(response[..length], [1, 2, 0xB0, 4, 0, 0, 0, 0, 0, 0, 0, 0], "NOTIMP");
}

#[test]
fn section_5_1_2_requests_need_not_wait_for_each_other() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.tls();
    for id in 1..=20 {
        client.send(&request(id, KEEPALIVE, &timeouts(15_000, 60_000)));
        client.send(&query("www.example.test", "A", None));
    }
    for id in 1..=20 {
        assert_eq!(client.read()[..2], [0, id]);
        assert_eq!(client.read()[..4], [0x12, 0x34, 0x85, 0], "an ordinary answer");
    }
}

#[test]
fn section_5_4_records_have_no_place_in_a_message() {
    let pushing = Pushing::start(ZONE);
    for mut client in clients(&pushing) {
        for count in [4, 5, 6, 7, 8, 9, 10, 11] {
            let mut message = request(7, KEEPALIVE, &timeouts(1, 1));
            message[count] = 1;
            assert_eq!(client.ask(&message), [0, 7, 0xB0, 1, 0, 0, 0, 0, 0, 0, 0, 0], "FORMERR");
        }
        keep_alive(&mut client, 1, 1);
        let mut message = request(0, UNSUBSCRIBE, &[0, 9]);
        message[11] = 1;
        client.is_cut_off_after(&message);
    }
}

#[test]
fn section_5_4_1_what_decides_whether_there_is_an_answer() {
    let pushing = Pushing::start(ZONE);
    for (what, message) in [
        ("a response to nothing", {
            let mut message = request(7, KEEPALIVE, &timeouts(1, 1));
            message[2] |= 0x80;
            message
        }),
        ("a response without identification", {
            let mut message = request(0, KEEPALIVE, &timeouts(1, 1));
            message[2] |= 0x80;
            message
        }),
        ("a request that nobody would answer", request(0, 0x40, &subject("www.example.test", "A", 1))),
        ("an answer wanted where there is none", request(7, UNSUBSCRIBE, &[0, 9])),
    ] {
        let mut client = pushing.session();
        client.send(&message);
        client.is_cut_off();
        println!("{what}");
    }
    assert_eq!(pushing.counts().tls.aborted_sessions(), 4);
}

/// Section 5.4.1: RCODE and the bits without a name are ignored.
#[test]
fn section_5_4_1_unused_bits_mean_nothing() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.tls();
    let mut message = request(7, KEEPALIVE, &timeouts(1, 60_000));
    message[2] |= 0x07;
    message[3] = 0xFF;
    assert_eq!(client.ask(&message)[..4], [0, 7, 0xB0, 0]);
}

#[test]
fn section_5_4_2_a_message_is_about_something() {
    let pushing = Pushing::start(ZONE);
    let mut client = pushing.tls();
    for broken in [
        &b""[..],
        b"\0",
        b"\0\x01\0",
        b"\0\x01\0\x08\0\0\0",
        b"\0\x01\0\x07\0\0\0\0\0\0\0",
        b"\0\x01\0\x08\0\0\0\0\0\0\0\0\x01",
    ] {
        let message = [&request(7, KEEPALIVE, &[])[..12], broken].concat();
        assert_eq!(client.ask(&message)[..4], [0, 7, 0xB0, 1], "FORMERR: {broken:?}");
    }
    keep_alive(&mut client, 15_000, 60_000);
    client.is_cut_off_after(&request(0, KEEPALIVE, &[])[..12]);
}

#[test]
fn section_5_4_2_what_nobody_answers_is_sent_in_a_session() {
    let pushing = Pushing::start(ZONE);
    for mut client in clients(&pushing) {
        client.is_cut_off_after(&request(0, UNSUBSCRIBE, &[0, 9]));
    }
}

#[test]
fn section_5_4_5_unknown_tlvs() {
    let pushing = Pushing::start(ZONE);
    for mut client in clients(&pushing) {
        let unknown = request(7, UNKNOWN, b"whatever");
        assert_eq!(client.ask(&unknown), [0, 7, 0xB0, 11, 0, 0, 0, 0, 0, 0, 0, 0], "DSOTYPENI, and nothing else");
        // Behind one that is known they are skipped.
        let message = [request(7, KEEPALIVE, &timeouts(1, 60_000)), tlv(UNKNOWN, b"whatever"), tlv(UNKNOWN, b"")];
        assert_eq!(client.ask(&message.concat())[..4], [0, 7, 0xB0, 0]);
        client.is_cut_off_after(&request(0, UNKNOWN, b"whatever"));
    }
}

#[test]
fn section_5_4_6_the_edns_option_has_no_place_in_a_session() {
    let pushing = Pushing::start(ZONE);
    let mut keepalive = query("www.example.test", "A", Some(false));
    let rdata_length = keepalive.len() - 1;
    keepalive[rdata_length] = 4;
    keepalive.extend([0, 11, 0, 0]);
    for mut client in clients(&pushing) {
        assert_eq!(client.ask(&keepalive)[..4], [0x12, 0x34, 0x85, 0], "before there is a session");
        keep_alive(&mut client, 15_000, 60_000);
        client.is_cut_off_after(&keepalive);
    }
}

#[test]
fn section_6_4_1_an_inactive_session_is_closed_by_its_client_or_cut_off() {
    let options = Options { idle: Duration::from_secs(3_600), ..Options::default() };
    let pushing = Pushing::start_with(ZONE, options);
    let mut client = pushing.tls();
    assert_eq!(keep_alive(&mut client, 1, 60_000).0, 1);
    client.is_cut_off();
}

/// Section 6.5.2: never less than ten seconds; and an hour is enough for everybody.
#[test]
fn section_7_1_timeouts_are_the_servers() {
    let options = Options { keepalive: Duration::from_secs(20), ..Options::default() };
    let pushing = Pushing::start_with(ZONE, options);
    for mut client in clients(&pushing) {
        for (wanted, granted) in [
            ((15_000, 60_000), (15_000, 60_000)),
            ((u32::MAX, u32::MAX), (20_000, 3_600_000)),
            ((30_000, 9_999), (20_000, 10_000)),
            ((0, 0), (0, 10_000)),
        ] {
            assert_eq!(keep_alive(&mut client, wanted.0, wanted.1), granted);
        }
    }
}

#[test]
fn section_7_1_a_keepalive_wants_an_answer() {
    let pushing = Pushing::start(ZONE);
    pushing.session().is_cut_off_after(&request(0, KEEPALIVE, &timeouts(1, 1)));
}

#[test]
fn section_6_6_1_clients_are_told_to_go_and_when_to_come_again() {
    let pushing = Pushing::start(ZONE);
    let mut sessions = [pushing.session(), pushing.session(), pushing.session()];
    let mut stranger = pushing.tcp();
    stranger.ask(&query("www.example.test", "A", None));
    pushing.stop();
    let mut delays = Vec::new();
    for client in &mut sessions {
        let message = client.read();
        assert_eq!(message[..16], [0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 4], "NOERROR: a shutdown");
        delays.push(u32::from_be_bytes(message[16..].try_into().unwrap()));
        // Nothing is answered any more.
        client.send(&query("www.example.test", "A", None));
    }
    delays.sort_unstable();
    assert_eq!(delays, [1_000, 1_100, 1_200], "not all at once");
    drop(sessions);
    stranger.is_cut_off();
}

#[test]
fn section_7_2_1_only_servers_send_others_away() {
    let pushing = Pushing::start(ZONE);
    for id in [0, 7] {
        pushing.session().is_cut_off_after(&request(id, RETRY_DELAY, &[0; 4]));
    }
}

#[test]
fn section_7_3_padding() {
    let pushing = Pushing::start(ZONE);
    let padded = [request(7, KEEPALIVE, &timeouts(1, 60_000)), tlv(PADDING, &[0xAA; 50])].concat();
    let response = pushing.tls().ask(&padded);
    assert_eq!((response.len() % 468, &response[24..26]), (0, &[0, 3][..]));
    assert!(response[28..].iter().all(|&octet| octet == 0));
    // Of use where nobody can see what is inside.
    assert_eq!(pushing.tcp().ask(&padded).len(), 24);
    // It is no operation.
    assert_eq!(pushing.tls().ask(&request(7, PADDING, &[0; 9]))[..4], [0, 7, 0xB0, 1]);
    pushing.session().is_cut_off_after(&request(0, PADDING, &[0; 9]));
}
