//! What people are shown of the store: a mailbox, its history, a domain.

use certdir_certificate::UnixTime;
use certdir_zones::DomainName;
use serde::{Deserialize, Serialize};

use crate::domain::Settings;
use crate::published::Version;
use crate::rows::{SignedRecord, State};

/// A certificate in the history of a mailbox.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryRow {
    /// The mailbox, in lower case.
    pub address: String,
    /// How it is written in the certificate or by the publisher.
    pub spellings: Vec<String>,
    /// The publisher says that it is this mailbox's, not the certificate.
    pub asserted: bool,
    /// Where it stands in its life.
    pub state: State,
    /// Whether the world sees it.
    pub visible: bool,
    /// When it was taken, Unix seconds.
    pub added_at: UnixTime,
    /// The Version of that.
    pub added_version: Version,
    /// When it ceased to be current.
    pub ended_at: Option<UnixTime>,
    /// Why, where somebody said.
    pub reason: Option<String>,
    /// SHA-256 of the DER, hexadecimal.
    pub sha256: String,
    /// Subject, as RFC 4514 writes it.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Kind and size of the key.
    pub key: String,
    /// Not valid before, Unix seconds.
    pub not_before: UnixTime,
    /// Not valid after, Unix seconds.
    pub not_after: UnixTime,
    /// The certificate itself.
    #[serde(skip)]
    pub der: Vec<u8>,
}

/// Which certificates to list.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only this domain's.
    pub domain: Option<DomainName>,
    /// Only those in this state; without it, current and staged ones.
    pub state: Option<State>,
    /// Only visible ones that end before.
    pub ends_before: Option<UnixTime>,
    /// Continue after this domain and address.
    pub after: Option<(String, String)>,
}

/// A hosted domain, for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DomainStatus {
    /// The mail domain.
    #[serde(rename = "domain")]
    pub name: String,
    /// The zone's apex.
    pub apex: String,
    /// How it is published.
    pub settings: Settings,
    /// The zone's SOA serial.
    pub serial: u32,
    /// When it was added, Unix seconds.
    pub added_at: UnixTime,
    /// NS records for the parent zone, and addresses of name servers that lie in the zone, in master-file form.
    pub ns: Vec<String>,
    /// The DS record for the parent zone, in master-file form.
    pub ds: String,
    /// The DNSKEY record, in master-file form: a trust anchor.
    pub dnskey: String,
    /// Certificates by state.
    pub certificates: Vec<(State, u64)>,
    /// How many other records were given.
    #[serde(default)]
    pub records: usize,
    /// Where a CERT record has no place, and why; the first 100 and how many more there are.
    #[serde(default)]
    pub without_cert: Vec<String>,
    /// Names that a CERT record has in common with other records of the domain; the first 100 and how many more there are.
    #[serde(default)]
    pub shared: Vec<String>,
}

/// What the views serve for a mailbox.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The mailbox, in lower case.
    pub address: String,
    /// The Version of its last change; 0 when it has no entry.
    pub version: Version,
    /// The certificates that are visible, newest first.
    pub certificates: Vec<HistoryRow>,
    /// The signed RRsets that DNS serves.
    pub records: Vec<ShownRecord>,
    /// The RRsets of the domain's own certificate, which serve a mailbox that has no record.
    pub domain_records: Vec<ShownRecord>,
}

/// A signed RRset.
#[derive(Debug, Clone, Serialize)]
pub struct ShownRecord {
    /// Owner name.
    pub owner: String,
    /// Record type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Seconds.
    pub ttl: u32,
    /// When its signature ends, Unix seconds modulo 2^32.
    pub expiration: u32,
}

impl ShownRecord {
    pub(crate) fn of(record: &SignedRecord) -> ShownRecord {
        let expiration = record.rrsig.get(8..).and_then(|rest| rest.first_chunk::<4>());
        ShownRecord {
            owner: record.owner.to_string(),
            rtype: record.rtype.to_string(),
            ttl: record.ttl,
            // RFC 4034 section 3.1: expiration follows type, algorithm, labels and TTL.
            expiration: expiration.map_or(0, |octets| u32::from_be_bytes(*octets)),
        }
    }
}
