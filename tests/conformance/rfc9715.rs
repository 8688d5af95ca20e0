//! RFC 9715: no fragments over UDP.

use certdir_dns::Transport;

use super::{Form, Hosted, query, zone};

/// Section 3.1: a responder has a limit of its own, however much the requestor says that it takes.
#[test]
fn section_3_1_no_datagram_is_longer_than_1232_octets() {
    for octets in [900, 1000, 1300, 2000, 4000] {
        let texts: String = (0..octets / 100).map(|at| format!("www TXT \"{at:02}{}\"\n", "x".repeat(85))).collect();
        let hosted = Hosted::new([zone("example.test", &texts, Form::Minimal)]);
        let mut request = query("www.example.test", "TXT", Some(true));
        let end = request.len();
        for announced in [1232u16, 4096, 65_535] {
            request[end - 8..end - 6].copy_from_slice(&announced.to_be_bytes());
            let answer = hosted.send(&request, Transport::Udp).unwrap();
            assert!(answer.0.to_vec().unwrap().len() <= 1232);
            assert_eq!(answer.truncated(), octets > 1000, "{octets} {announced}");
            assert_eq!(answer.0.edns.unwrap().max_payload(), 1232, "what it takes itself");
        }
    }
}
