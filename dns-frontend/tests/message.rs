//! Reads a response: written independently of the crate, and checked against hickory-proto every time.

use certdir_zones::{Name, Rdata, RecordType, Rrset, SignedRrset, verify};
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_proto::dnssec::{Algorithm, PublicKeyBuf, Verifier};
use hickory_proto::op;
use hickory_proto::rr::{DNSClass, RData, Record as HickoryRecord};
use hickory_proto::serialize::binary::BinDecodable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// As it stands in the message, decompressed.
    pub(crate) owner: Vec<u8>,
    pub(crate) rtype: RecordType,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) rdata: Vec<u8>,
}

impl Record {
    pub(crate) fn name(&self) -> Name {
        Name::from_wire(&self.owner).unwrap()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) octets: Vec<u8>,
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// Name as it stands there, type, class.
    pub(crate) question: Option<(Vec<u8>, RecordType, u16)>,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Message {
    pub(crate) fn read(octets: &[u8]) -> Message {
        let word = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        let mut at = 12;
        let question = (word(4) == 1).then(|| {
            let name = read_name(octets, &mut at);
            at += 4;
            (name, RecordType(word(at - 4)), word(at - 2))
        });
        assert!(word(4) <= 1);
        let mut section = |count: u16| -> Vec<Record> { (0..count).map(|_| read_record(octets, &mut at)).collect() };
        let (answers, authorities, additionals) = (section(word(6)), section(word(8)), section(word(10)));
        assert_eq!(at, octets.len(), "nothing behind the last record");
        let message = Message {
            octets: octets.to_vec(),
            id: word(0),
            flags: word(2),
            question,
            answers,
            authorities,
            additionals,
        };
        message.agree_with_hickory();
        message
    }

    /// The response code, with the extended part in OPT.
    pub(crate) fn rcode(&self) -> u16 {
        self.flags & 15 | self.opt().map_or(0, |opt| ((opt.ttl >> 24) as u16) << 4)
    }

    pub(crate) fn truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    pub(crate) fn authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    pub(crate) fn opt(&self) -> Option<&Record> {
        self.additionals.iter().find(|record| record.rtype == RecordType::OPT)
    }

    /// Types in the answer and the authority section, in order.
    pub(crate) fn types(&self) -> (Vec<RecordType>, Vec<RecordType>) {
        let types = |section: &[Record]| section.iter().map(|record| record.rtype).collect();
        (types(&self.answers), types(&self.authorities))
    }

    /// Checks every RRset of both sections: it has a signature that the key verifies at `now`, says certdir-zones, says
    /// hickory, and TTLs agree.
    pub(crate) fn verify(&self, dnskey: &[u8], now: i64) {
        for (section, parsed) in
            [(&self.answers, &self.hickory().answers), (&self.authorities, &self.hickory().authorities)]
        {
            for record in section.iter().filter(|record| record.rtype != RecordType::RRSIG) {
                let same = |other: &&Record| other.rtype == record.rtype && other.name() == record.name();
                let rdata = section.iter().filter(same).map(|other| Rdata::from(&other.rdata[..])).collect();
                let rrset = Rrset::new(record.rtype, record.ttl, rdata).unwrap();
                let rrsig = section.iter().find(|other| {
                    other.rtype == RecordType::RRSIG
                        && other.rdata[..2] == record.rtype.0.to_be_bytes()
                        && other.name() == record.name()
                });
                let rrsig = rrsig.unwrap_or_else(|| panic!("{} {} is signed", record.name(), record.rtype));
                assert_eq!(rrsig.ttl, record.ttl, "RFC 4034 section 3");
                let expiration = u32::from_be_bytes(rrsig.rdata[8..12].try_into().unwrap());
                assert!(i64::from(record.ttl) <= i64::from(expiration) - now, "TTL within the signature's validity");
                let signed = SignedRrset { rrset, rrsig: rrsig.rdata.clone().into() };
                verify(dnskey, &record.name(), &signed, now as u32).unwrap();
                verify_with_hickory(dnskey, record, parsed);
            }
        }
    }

    fn hickory(&self) -> op::Message {
        op::Message::from_vec(&self.octets).unwrap()
    }

    fn agree_with_hickory(&self) {
        let theirs = self.hickory();
        assert_eq!(theirs.metadata.id, self.id);
        assert_eq!(u16::from(theirs.metadata.response_code) & 15, self.rcode() & 15);
        assert_eq!(theirs.answers.len(), self.answers.len());
        assert_eq!(theirs.authorities.len(), self.authorities.len());
        assert_eq!(theirs.edns.is_some(), self.opt().is_some());
    }
}

fn verify_with_hickory(dnskey: &[u8], record: &Record, parsed: &[HickoryRecord]) {
    let public = PublicKeyBuf::new(dnskey[4..].to_vec(), Algorithm::ECDSAP256SHA256);
    let key = DNSKEY::with_flags(u16::from_be_bytes([dnskey[0], dnskey[1]]), public);
    let owner = hickory_proto::rr::Name::from_bytes(&record.owner).unwrap();
    let rtype = hickory_proto::rr::RecordType::from(record.rtype.0);
    let same: Vec<_> = parsed.iter().filter(|r| r.name == owner && r.record_type() == rtype).collect();
    let sigs = parsed.iter().filter(|r| r.name == owner).filter_map(|r| match &r.data {
        RData::DNSSEC(DNSSECRData::RRSIG(sig)) if sig.input().type_covered == rtype => Some(sig),
        _ => None,
    });
    let sig: Vec<&RRSIG> = sigs.collect();
    assert_eq!(sig.len(), 1);
    key.verify_rrsig(&owner, DNSClass::IN, sig[0], same.into_iter()).unwrap();
}

fn read_record(octets: &[u8], at: &mut usize) -> Record {
    let owner = read_name(octets, at);
    let head: [u8; 10] = octets[*at..*at + 10].try_into().unwrap();
    let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
    let rdata = octets[*at + 10..*at + 10 + length].to_vec();
    *at += 10 + length;
    Record {
        owner,
        rtype: RecordType(u16::from_be_bytes([head[0], head[1]])),
        class: u16::from_be_bytes([head[2], head[3]]),
        ttl: u32::from_be_bytes(head[4..8].try_into().unwrap()),
        rdata,
    }
}

fn read_name(octets: &[u8], at: &mut usize) -> Vec<u8> {
    let mut name = Vec::new();
    let (mut here, mut jumped) = (*at, false);
    loop {
        match octets[here] {
            0 => break,
            pointer if pointer >= 0xC0 => {
                let target = usize::from(u16::from_be_bytes([pointer & 0x3F, octets[here + 1]]));
                assert!(target < here, "pointers go back");
                if !jumped {
                    *at = here + 2;
                }
                (here, jumped) = (target, true);
            }
            length => {
                name.extend(&octets[here..=here + usize::from(length)]);
                here += 1 + usize::from(length);
            }
        }
    }
    if !jumped {
        *at = here + 1;
    }
    name.push(0);
    name
}
