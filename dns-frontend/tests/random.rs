//! Packets that nobody planned: whatever comes in, what goes out is a message.

use std::sync::LazyLock;

use certdir_dns::{Scratch, Transport, answer};
use certdir_zones::RecordType;
use proptest::prelude::*;

use crate::message::Message;
use crate::world::{NOW, UDP, World, asker, generous_up_to, opt, question};

pub(crate) static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// Answers and reads the answer, independently and with hickory-proto.
fn check(world: &World, scratch: &mut Scratch, request: &[u8], transport: Transport) {
    let mut out = vec![0xEE; 65_535];
    let Some(finished) = answer(Some(world), request, &asker(transport), NOW, scratch, &mut out) else {
        assert!(request.len() < 12 || request[2] & 0x80 != 0, "only runts and responses get no answer");
        return;
    };
    if transport == UDP {
        assert!(finished.length <= 4096);
    }
    let message = Message::read(&out[..finished.length]);
    assert_eq!(message.id.to_be_bytes(), request[..2]);
    assert_eq!(message.flags & 0x8000, 0x8000);
    assert_eq!(message.flags & 0x00F0, 0, "RA, Z, AD and CD");
    assert_eq!(message.rcode(), finished.rcode.0);
    assert_eq!(message.truncated(), finished.truncated.is_some());
}

fn transports() -> impl Strategy<Value = Transport> {
    proptest::sample::select(&Transport::ALL[..])
}

fn owners() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "alice._smimecert.example.org",
        "pq._smimecert.example.org",
        "_tcp.direct.example.net",
        "direct.example.net",
        ".",
    ];
    prop_oneof![
        proptest::sample::select(KNOWN).prop_map(String::from),
        "([a-zA-Z0-9*_-]{1,20}\\.){0,6}(_smimecert\\.example\\.org|direct\\.example\\.net|example\\.com)",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_octets(request in proptest::collection::vec(any::<u8>(), 0..300), transport in transports()) {
        check(&WORLD, &mut generous_up_to(4096), &request, transport);
    }

    #[test]
    fn any_question(owner in owners(), rtype: u16, common in 1u16..64, rare: bool, size: u16, dnssec: bool, edns: bool, transport in transports()) {
        let rtype = RecordType(if rare { rtype } else { common });
        let request = question(&owner, rtype, edns.then(|| opt(size, dnssec)));
        check(&WORLD, &mut generous_up_to(4096), &request, transport);
    }

    #[test]
    fn a_good_request_gone_bad(
        owner in owners(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
        transport in transports(),
    ) {
        let mut request = question(&owner, RecordType::SMIMEA, Some(opt(1232, true)));
        for (at, octet) in changes {
            let at = at.index(request.len());
            request[at] = octet;
        }
        request.truncate(cut.index(request.len() * 4).min(request.len()));
        check(&WORLD, &mut generous_up_to(4096), &request, transport);
    }
}
