//! What the texts say an authoritative server answers: a module per RFC, a case per rule, named by its section; beside them
//! [`tools`] (validating clients) and [`differential`] (the same questions to other servers).
//!
//! The zones here are made from fragments of master files and hosted in process, so that a case shows all it stands on.
//! Answers are read by hickory-proto, not by the program's own code.

mod differential;
mod rfc1034;
mod rfc1035;
mod rfc2181;
mod rfc2308;
mod rfc4035;
mod rfc4592;
mod rfc5155;
mod rfc6672;
mod rfc6891;
mod rfc7766;
mod rfc7873;
mod rfc8482;
mod rfc8490;
mod rfc8765;
mod rfc8906;
mod rfc9276;
mod rfc9715;
mod stateful;
mod tools;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

use certdir_dns::{
    Asker, Error, Finished, Frontend, Latest, Options, Policy, Scratch, Transport, UdpCertificates, View, Zones, answer,
};
use certdir_zones::fragment::{Fragment, Standing};
use certdir_zones::rdata::{self, Soa};
use certdir_zones::{Name, Rdata, RecordType, Rrset, Zone, ZoneKey, denial};
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData};
use hickory_proto::dnssec::{Algorithm, PublicKeyBuf, Verifier};
use hickory_proto::op;
use hickory_proto::rr::{DNSClass, RData, Record};
use hickory_proto::serialize::binary::BinDecodable;
use tokio::sync::watch;

use crate::world::{DAY, now};

/// How a zone proves what it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Minimally covering records, signed for the question.
    Minimal,
    /// A stored chain.
    Chain,
}

pub(crate) const FORMS: [Form; 2] = [Form::Minimal, Form::Chain];

/// TTL of the SOA record and of the NSEC3 records: the former's minimum field.
pub(crate) const SOA_TTL: u32 = 3600;
pub(crate) const DENIAL_TTL: u32 = 300;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A signed zone with these records beside SOA, NS and DNSKEY.
pub(crate) fn zone(apex: &str, fragment: &str, form: Form) -> Zone {
    let apex = name(apex);
    let key = Arc::new(ZoneKey::generate().unwrap().0);
    let (from, to) = ((now() - 3600) as u32, (now() + DAY) as u32);
    let mut zone = Zone::new(apex.clone(), key.clone());
    let set = |zone: &mut Zone, owner: &Name, rrset: &Rrset| {
        zone.set(owner, key.sign(&apex, owner, rrset, from, to).unwrap()).unwrap();
    };
    let soa = rdata::soa(&Soa {
        mname: name("ns.outside.test"),
        rname: name("hostmaster.outside.test"),
        serial: 7,
        refresh: 3600,
        retry: 600,
        expire: 604_800,
        minimum: DENIAL_TTL,
    });
    let apex_records: [(RecordType, u32, Rdata); 3] = [
        (RecordType::SOA, SOA_TTL, soa),
        (RecordType::NS, 3600, rdata::ns(&name("ns.outside.test"))),
        (RecordType::DNSKEY, 3600, key.dnskey()),
    ];
    for (rtype, ttl, data) in apex_records {
        set(&mut zone, &apex, &Rrset::new(rtype, ttl, vec![data]).unwrap());
    }
    for given in Fragment::parse(fragment, &apex).unwrap().given {
        match given.standing {
            Standing::Data => set(&mut zone, &given.owner, &given.rrset),
            Standing::Cut | Standing::Glue => zone.set(&given.owner, given.unsigned()).unwrap(),
        }
    }
    if form == Form::Minimal {
        return zone;
    }
    let nsec3param = Rrset::new(RecordType::NSEC3PARAM, 0, vec![denial::nsec3param()]).unwrap();
    set(&mut zone, &apex, &nsec3param);
    let mut links: Vec<_> = zone
        .names()
        .filter(|(owner, _)| !zone.occludes(owner.as_wire()))
        .map(|(owner, node)| (denial::nsec3_hash(owner.as_wire()), denial::type_bitmap(denial::node_types(node))))
        .collect();
    links.sort();
    for (at, (hash, bitmap)) in links.iter().enumerate() {
        let next = links[(at + 1) % links.len()].0;
        let rrset = Rrset::new(RecordType::NSEC3, DENIAL_TTL, vec![denial::nsec3(next, bitmap)]).unwrap();
        let owner = denial::nsec3_owner(*hash, &apex).unwrap();
        zone.set_link(*hash, key.sign(&apex, &owner, &rrset, from, to).unwrap());
    }
    zone
}

/// The DS record of a child for its parent's fragment.
pub(crate) fn ds(owner: &str, child: &Zone) -> String {
    format!("{owner} DS {}\n", certdir_zones::presentation(RecordType::DS, &child.key().ds(child.apex())))
}

/// `example.test` with one of everything, its signed child `child.example.test`, and `other.test`.
pub(crate) fn family(form: Form) -> Hosted {
    let child = zone("child.example.test", "@ A 192.0.2.10\nwww A 192.0.2.11\n", form);
    let parent = "\
www A 192.0.2.1
www TXT \"www\"
alias CNAME www
twice CNAME alias
away CNAME www.outside.test.
over CNAME www.other.test.
dangling CNAME nothing
untyped CNAME _tcp
below CNAME www.child
unserved CNAME x.unsigned
ring1 CNAME ring2
ring2 CNAME ring1
*.wild A 192.0.2.2
host.sub.wild A 192.0.2.3
*.walias CNAME www
_ldap._tcp SRV 0 1 389 ldap.outside.test.
child NS ns.outside.test.
unsigned NS ns.unsigned
unsigned NS ns.sibling
ns.unsigned A 192.0.2.53
ns.unsigned AAAA 2001:db8::53
sibling NS ns.sibling
ns.sibling A 192.0.2.54
dname DNAME target
www.target A 192.0.2.4
";
    let parent = zone("example.test", &(parent.to_string() + &ds("child", &child)), form);
    Hosted::new([parent, child, zone("other.test", "www A 192.0.2.20\nback CNAME www.example.test.\n", form)])
}

/// Zones that are served together.
#[derive(Clone)]
pub(crate) struct Hosted(pub(crate) Arc<Vec<Zone>>);

impl Zones for Hosted {
    fn zone_for(&self, name: &[u8]) -> Option<&Zone> {
        let name = Name::from_wire(name).ok()?;
        let above = self.0.iter().filter(|zone| name.is_at_or_below(zone.apex()));
        above.max_by_key(|zone| zone.apex().as_wire().len())
    }
}

impl View for Hosted {
    type Latest = Hosted;
    fn latest(&self) -> Hosted {
        self.clone()
    }
}

impl Latest for Hosted {
    type Zones = Hosted;
    fn load(&mut self) -> Option<&Hosted> {
        Some(self)
    }
}

/// Everybody gets everything: what may be given to whom is not the subject here.
pub(crate) fn generosity() -> Policy {
    Policy {
        udp_certificates: UdpCertificates::Always,
        responses_per_second: 0,
        signatures_per_second: 0,
        ..Policy::default()
    }
}

impl Hosted {
    pub(crate) fn new(zones: impl IntoIterator<Item = Zone>) -> Hosted {
        Hosted(Arc::new(zones.into_iter().collect()))
    }

    /// A single zone.
    pub(crate) fn one(apex: &str, fragment: &str, form: Form) -> Hosted {
        Hosted::new([zone(apex, fragment, form)])
    }

    /// Asks over TCP with DO, and checks every signature in the answer.
    pub(crate) fn ask(&self, owner: &str, rtype: &str) -> Answer {
        let answer = self.send(&query(owner, rtype, Some(true)), Transport::Tcp).unwrap();
        self.check(&answer);
        answer
    }

    /// Asks over TCP without EDNS.
    pub(crate) fn ask_plainly(&self, owner: &str, rtype: &str) -> Answer {
        self.send(&query(owner, rtype, None), Transport::Tcp).unwrap()
    }

    pub(crate) fn send(&self, message: &[u8], transport: Transport) -> Option<Answer> {
        let mut out = vec![0xEE; 65_535];
        let asker = Asker::new(transport, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut scratch = Scratch::new(generosity());
        let Finished { length, .. } = answer(Some(self), message, &asker, now(), &mut scratch, &mut out)?;
        Some(Answer::read(&out[..length]))
    }

    /// Every RRset of the answer and the authority section that the zone signs has a signature, which hickory verifies. Not
    /// signed are the NS of a referral and the CNAME made from a DNAME.
    fn check(&self, answer: &Answer) {
        let dnames: Vec<_> = answer.0.answers.iter().filter(|one| one.record_type().to_string() == "DNAME").collect();
        for (section, records) in [("answer", &answer.0.answers), ("authority", &answer.0.authorities)] {
            for record in records {
                let rtype = record.record_type();
                let text = format!("{} {rtype}", record.name);
                let rrsig = records.iter().find_map(|other| match &other.data {
                    RData::DNSSEC(DNSSECRData::RRSIG(sig))
                        if sig.input().type_covered == rtype && other.name == record.name =>
                    {
                        Some(sig)
                    }
                    _ => None,
                });
                let Some(rrsig) = rrsig else {
                    let referral = section == "authority" && text.ends_with(" NS");
                    let made = text.ends_with(" CNAME") && dnames.iter().any(|dname| dname.name.zone_of(&record.name));
                    assert!(rtype.to_string() == "RRSIG" || referral || made, "{text} is not signed: {answer:?}");
                    continue;
                };
                let signer = rrsig.input().signer_name.to_string();
                let zone = self.0.iter().find(|zone| zone.apex().to_string() == signer).expect("a hosted signer");
                let dnskey = zone.key().dnskey();
                let key = DNSKEY::with_flags(257, PublicKeyBuf::new(dnskey[4..].to_vec(), Algorithm::ECDSAP256SHA256));
                let same = records.iter().filter(|other| other.name == record.name && other.record_type() == rtype);
                key.verify_rrsig(&record.name, DNSClass::IN, rrsig, same)
                    .unwrap_or_else(|error| panic!("{text}: {error}"));
            }
        }
    }
}

/// A query with RD; `dnssec`: with EDNS, and whether DO is set.
pub(crate) fn query(owner: &str, rtype: &str, dnssec: Option<bool>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, u8::from(dnssec.is_some())];
    for label in owner.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(rtype.parse::<RecordType>().unwrap().0.to_be_bytes());
    message.extend([0, 1]);
    if let Some(wanted) = dnssec {
        message.extend([0, 0, 41, 0x04, 0xD0, 0, 0, u8::from(wanted) << 7, 0, 0, 0]);
    }
    message
}

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Answer(pub(crate) op::Message);

impl Answer {
    pub(crate) fn read(octets: &[u8]) -> Answer {
        Answer(op::Message::from_vec(octets).unwrap_or_else(|error| panic!("{error}: {octets:02x?}")))
    }

    pub(crate) fn rcode(&self) -> String {
        format!("{:?}", self.0.metadata.response_code)
    }

    pub(crate) fn authoritative(&self) -> bool {
        self.0.metadata.authoritative
    }

    pub(crate) fn truncated(&self) -> bool {
        self.0.metadata.truncation
    }

    pub(crate) fn answers(&self) -> Vec<String> {
        self.0.answers.iter().map(line).collect()
    }

    pub(crate) fn additionals(&self) -> Vec<String> {
        self.0.additionals.iter().map(line).collect()
    }

    /// The types in the answer section and in the authority section, in their order.
    pub(crate) fn types(&self) -> [String; 2] {
        [&self.0.answers, &self.0.authorities].map(|records| {
            let types: Vec<String> = records.iter().map(|record| record.record_type().to_string()).collect();
            types.join(" ")
        })
    }

    /// Response code, AA, and the types of both sections.
    pub(crate) fn is(&self, rcode: &str, authoritative: bool, answers: &str, authorities: &str) {
        assert_eq!((self.rcode().as_str(), self.authoritative()), (rcode, authoritative), "{:?}", self.0);
        assert_eq!(self.types(), [answers, authorities], "{:?}", self.0);
    }
}

/// A record as text: owner, type and data; of a signature the type it covers, of an NSEC3 record the types it names.
pub(crate) fn line(record: &Record) -> String {
    let data = match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(sig)) => return format!("{} RRSIG {}", record.name, sig.input().type_covered),
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => {
            let types: Vec<String> = nsec3.type_bit_maps().map(|rtype| rtype.to_string()).collect();
            return format!("NSEC3 {}", types.join(" ")).trim_end().to_string();
        }
        // Not known to hickory: the target as it stands there.
        RData::Unknown { code, rdata } if *code == hickory_proto::rr::RecordType::DNAME => {
            hickory_proto::rr::Name::from_bytes(&rdata.anything).unwrap().to_string()
        }
        data => data.to_string(),
    };
    format!("{} {} {data}", record.name, record.record_type())
}

/// The zones on real sockets of the loopback interface; stopped when dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    shutdown: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Served {
    pub(crate) fn start(hosted: &Hosted) -> Served {
        Served::start_with(hosted, generosity())
    }

    pub(crate) fn start_with(hosted: &Hosted, policy: Policy) -> Served {
        let options = Options { workers: 1, policy, ..Options::default() };
        let frontend = Frontend::bind(&[SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)], options).unwrap();
        let address = frontend.addresses()[0];
        let (shutdown, stop) = watch::channel(false);
        let hosted = hosted.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(frontend.run(hosted, Arc::new(now), stop))
        });
        Served { address, shutdown, thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
