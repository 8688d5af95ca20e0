//! A small world of zones to ask, and the asking.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use certdir_dns::{Asker, Finished, Latest, Policy, Scratch, Transport, UdpCertificates, View, Zones, answer};
use certdir_zones::rdata::{self, Soa};
use certdir_zones::{Name, Rdata, RecordType, Rrset, Zone, ZoneKey};

use crate::message::Message;

/// When everything here is asked, unless a test says otherwise: seconds since 1970.
pub(crate) const NOW: i64 = 1_795_000_000;
/// Seconds that stored signatures last from `NOW`.
pub(crate) const SIGNED_FOR: i64 = 3 * 86_400;
pub(crate) const TTL: u32 = 3_600;
pub(crate) const DENIAL_TTL: u32 = 300;

/// `_smimecert.example.org`: people and a wildcard. `example.net`: a parent of `direct.example.net`, a hosted mail
/// domain without wildcard. `_smimecert.plain.example`: no wildcard.
#[derive(Clone)]
pub(crate) struct World(pub(crate) Arc<HashMap<Name, Zone>>);

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn smimea(length: usize) -> Rdata {
    rdata::smimea(certdir_zones::Usage::DaneEe, &(0..length).map(|i| i as u8).collect::<Vec<_>>())
}

/// A zone with SOA, NS, DNSKEY and these records, signed until `NOW + SIGNED_FOR`.
pub(crate) fn zone(apex: &str, records: &[(&str, RecordType, Rdata)]) -> Zone {
    let apex = name(apex);
    let key = Arc::new(ZoneKey::generate().unwrap().0);
    let soa = rdata::soa(&Soa {
        mname: name("ns.example.org"),
        rname: name("hostmaster.example.org"),
        serial: 42,
        refresh: 3600,
        retry: 600,
        expire: 604_800,
        minimum: DENIAL_TTL,
    });
    let mut zone = Zone::new(apex.clone(), key.clone());
    let mut set = |owner: &Name, rtype, data: Rdata| {
        let rrset = Rrset::new(rtype, TTL, vec![data]).unwrap();
        let (from, to) = ((NOW - 3600) as u32, (NOW + SIGNED_FOR) as u32);
        zone.set(owner, key.sign(&apex, owner, &rrset, from, to).unwrap()).unwrap();
    };
    set(&apex, RecordType::SOA, soa);
    set(&apex, RecordType::NS, rdata::ns(&name("ns.example.org")));
    set(&apex, RecordType::DNSKEY, key.dnskey());
    for (owner, rtype, data) in records {
        set(&name(owner), *rtype, data.clone());
    }
    zone
}

impl World {
    pub(crate) fn new() -> World {
        let smimecert = zone(
            "_smimecert.example.org",
            &[
                ("alice._smimecert.example.org", RecordType::SMIMEA, smimea(700)),
                ("bob._smimecert.example.org", RecordType::SMIMEA, smimea(1500)),
                ("pq._smimecert.example.org", RecordType::SMIMEA, smimea(50_000)),
                ("*._smimecert.example.org", RecordType::SMIMEA, smimea(600)),
            ],
        );
        let plain =
            zone("_smimecert.plain.example", &[("carol._smimecert.plain.example", RecordType::SMIMEA, smimea(700))]);
        let direct = zone(
            "direct.example.net",
            &[
                ("direct.example.net", RecordType::CERT, rdata::cert(certdir_zones::CertForm::BareDer, &[9; 600])),
                (
                    "alice.direct.example.net",
                    RecordType::CERT,
                    rdata::cert(certdir_zones::CertForm::Rfc4398, &[7; 600]),
                ),
                ("alice.direct.example.net", RecordType::TXT, Rdata::from(&b"\x02hi"[..])),
                (
                    "_ldap._tcp.direct.example.net",
                    RecordType::SRV,
                    Rdata::from(&b"\0\0\0\0\x01\x85\x04ldap\x07example\x03net\0"[..]),
                ),
                ("www.direct.example.net", RecordType::CNAME, Rdata::from(name("alice.direct.example.net").as_wire())),
            ],
        );
        let ds = direct.key().ds(direct.apex());
        let parent = zone(
            "example.net",
            &[
                ("direct.example.net", RecordType::NS, rdata::ns(&name("ns.example.org"))),
                ("direct.example.net", RecordType::DS, ds),
            ],
        );
        World(Arc::new([smimecert, plain, direct, parent].map(|zone| (zone.apex().clone(), zone)).into()))
    }

    pub(crate) fn zone(&self, apex: &str) -> &Zone {
        &self.0[&name(apex)]
    }

    /// Asks over UDP with EDNS 1232.
    pub(crate) fn ask(&self, owner: &str, rtype: RecordType, dnssec: bool) -> Message {
        self.send(&question(owner, rtype, Some(opt(1232, dnssec))), UDP).unwrap()
    }

    pub(crate) fn send(&self, request: &[u8], transport: Transport) -> Option<Message> {
        self.send_at(request, transport, NOW, &mut generous())
    }

    pub(crate) fn send_at(
        &self,
        request: &[u8],
        transport: Transport,
        now: i64,
        scratch: &mut Scratch,
    ) -> Option<Message> {
        let mut out = vec![0xEE; 65_535];
        let Finished { length, .. } = answer(Some(self), request, &asker(transport), now, scratch, &mut out)?;
        Some(Message::read(&out[..length]))
    }
}

impl Zones for World {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        let apexes =
            self.0.values().filter(|zone| Name::from_wire(name).is_ok_and(|name| name.is_at_or_below(zone.apex())));
        apexes.max_by_key(|zone| zone.apex().as_wire().len())
    }
}

impl View for World {
    type Latest = World;
    fn latest(&self) -> World {
        self.clone()
    }
}

impl Latest for World {
    type Zones = World;
    fn load(&mut self) -> Option<&World> {
        Some(self)
    }
}

pub(crate) const UDP: Transport = Transport::Udp;
pub(crate) const STREAM: Transport = Transport::Tcp;

/// Everybody gets everything.
pub(crate) fn generosity() -> Policy {
    Policy {
        udp_certificates: UdpCertificates::Always,
        responses_per_second: 0,
        signatures_per_second: 0,
        ..Policy::default()
    }
}

pub(crate) fn generous() -> Scratch {
    Scratch::new(generosity())
}

/// The same with a limit of its own for responses over UDP.
pub(crate) fn generous_up_to(udp_payload: u16) -> Scratch {
    Scratch::new(Policy { udp_payload, ..generosity() })
}

/// Somebody.
pub(crate) fn asker(transport: Transport) -> Asker {
    Asker::new(transport, Ipv4Addr::new(192, 0, 2, 1).into())
}

/// A query with RD set and identification 0x1234.
pub(crate) fn question(owner: &str, rtype: RecordType, opt: Option<Vec<u8>>) -> Vec<u8> {
    question_of_class(owner, rtype, 1, opt)
}

pub(crate) fn question_of_class(owner: &str, rtype: RecordType, class: u16, opt: Option<Vec<u8>>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, opt.is_some() as u8];
    for label in owner.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(rtype.0.to_be_bytes());
    message.extend(class.to_be_bytes());
    message.extend(opt.unwrap_or_default());
    message
}

/// An OPT record.
pub(crate) fn opt(payload: u16, dnssec: bool) -> Vec<u8> {
    let [high, low] = payload.to_be_bytes();
    vec![0, 0, 41, high, low, 0, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]
}
