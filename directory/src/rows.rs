//! The store's rows as values: what one transaction reads, changes and writes. No SQL here.

use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::{Address, CertForm, DomainName, Name, Rdata, RecordType, SignedRrset, Usage};

use crate::domain::Settings;
use crate::lifecycle::Purposes;
use crate::published::{Version, Visible};

/// A hosted domain and its zone.
#[derive(Clone, Debug)]
pub(crate) struct DomainRow {
    pub(crate) id: i64,
    pub(crate) name: DomainName,
    pub(crate) settings: Settings,
    /// The zone's SOA serial (RFC 1982 arithmetic).
    pub(crate) serial: u32,
    /// SOA, NS and DNSKEY, signed.
    pub(crate) apex: Vec<SignedRrset>,
    /// When the newest signature of the apex begins.
    pub(crate) inception: UnixTime,
    /// When a signature of the apex is due for renewal.
    pub(crate) refresh_at: UnixTime,
    pub(crate) added_at: UnixTime,
    /// Not hosted any more; only followers see such a row.
    pub(crate) removed: bool,
}

/// A mailbox, with every certificate it ever had and the signed records it shows.
#[derive(Clone, Debug)]
pub(crate) struct EntryRow {
    pub(crate) id: i64,
    pub(crate) domain_id: i64,
    /// In lower case.
    pub(crate) address: Address,
    pub(crate) version: Version,
    pub(crate) changed_at: UnixTime,
    pub(crate) records: Vec<SignedRecord>,
    /// The form of CERT data that was signed.
    pub(crate) cert_form: CertForm,
    /// When its signatures begin.
    pub(crate) inception: Option<UnixTime>,
    /// How certificates that were not withdrawn write the mailbox: each spelling is an owner name of the current ones, so that
    /// a reissue in another spelling leaves nobody behind. Empty when nothing is visible.
    pub(crate) spellings: Vec<Address>,
    /// When a signature is due for renewal.
    pub(crate) refresh_at: Option<UnixTime>,
    /// When a certificate begins or ends.
    pub(crate) due_at: Option<UnixTime>,
    pub(crate) bindings: Vec<Binding>,
}

/// That a certificate was taken for a mailbox.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) certificate: Arc<CertificateRow>,
    /// How the certificate or the publisher writes the mailbox.
    pub(crate) spellings: Vec<Address>,
    /// The publisher says so, not the certificate.
    pub(crate) asserted: bool,
    pub(crate) purposes: Purposes,
    /// The kind of key; certificates compete only within one slot.
    pub(crate) slot: String,
    /// Above 0 when it was brought back by request, the later the higher.
    pub(crate) restored: u32,
    pub(crate) state: State,
    pub(crate) visible: bool,
    pub(crate) added_at: UnixTime,
    pub(crate) added_version: Version,
    pub(crate) ended_at: Option<UnixTime>,
    pub(crate) reason: Option<String>,
}

/// The reason why the certificates of a domain that is hosted no longer are withdrawn.
pub(crate) const DOMAIN_REMOVED: &str = "the domain was removed";

impl Binding {
    /// Whether it was withdrawn, current or superseded, only because its domain was hosted no longer.
    pub(crate) fn went_with_domain(&self) -> bool {
        self.state == State::Withdrawn && self.reason.as_deref() == Some(DOMAIN_REMOVED)
    }
}

/// Where a certificate stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its validity has not begun.
    Staged,
    /// The one to use.
    Current,
    /// A newer one took its place.
    Superseded,
    /// Its validity is over.
    Expired,
    /// Somebody took it back.
    Withdrawn,
}

impl State {
    pub(crate) const ALL: [State; 5] =
        [State::Staged, State::Current, State::Superseded, State::Expired, State::Withdrawn];

    /// The word for it, also in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Staged => "staged",
            State::Current => "current",
            State::Superseded => "superseded",
            State::Expired => "expired",
            State::Withdrawn => "withdrawn",
        }
    }

    /// The state a word means.
    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A certificate, once, however many mailboxes it serves.
#[derive(Debug)]
pub(crate) struct CertificateRow {
    pub(crate) id: i64,
    pub(crate) sha256: [u8; 32],
    /// DANE-TA for a CA, else DANE-EE.
    pub(crate) usage: Usage,
    /// SMIMEA RDATA of that usage: three octets, then the DER.
    pub(crate) rdata: Rdata,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) common_name: Option<String>,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) serial_hex: String,
    pub(crate) key_name: String,
}

/// A signature over one of an entry's RRsets. The RDATA follows from the entry's certificates.
#[derive(Clone, Debug)]
pub(crate) struct SignedRecord {
    pub(crate) owner: Name,
    pub(crate) rtype: RecordType,
    pub(crate) ttl: u32,
    pub(crate) rrsig: Rdata,
}

impl EntryRow {
    /// A mailbox that nothing was ever taken for.
    pub(crate) fn new(id: i64, domain_id: i64, address: Address, now: UnixTime) -> EntryRow {
        EntryRow {
            id,
            domain_id,
            address,
            version: 0,
            changed_at: now,
            records: Vec::new(),
            cert_form: CertForm::Rfc4398,
            inception: None,
            refresh_at: None,
            due_at: None,
            spellings: Vec::new(),
            bindings: Vec::new(),
        }
    }

    /// The owners and types of its RRsets.
    pub(crate) fn names(&self) -> impl Iterator<Item = (Name, RecordType)> {
        self.records.iter().map(|record| (record.owner.clone(), record.rtype))
    }

    /// What views show of it, newest first.
    pub(crate) fn visible(&self) -> Vec<Visible> {
        let shown = self.bindings.iter().filter(|binding| binding.visible);
        shown.map(|binding| visible(&binding.certificate, binding.asserted)).collect()
    }

    /// The spellings that follow from the certificates, once each.
    pub(crate) fn gather_spellings(&self) -> Vec<Address> {
        if !self.bindings.iter().any(|b| b.visible) {
            return Vec::new();
        }
        let kept = self.bindings.iter().filter(|b| b.state != State::Withdrawn);
        let mut all: Vec<Address> = kept.flat_map(|b| b.spellings.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The SMIMEA usage of a certificate's row.
pub(crate) fn usage(number: i64) -> Usage {
    if number == i64::from(Usage::DaneTa as u8) { Usage::DaneTa } else { Usage::DaneEe }
}

pub(crate) fn visible(certificate: &CertificateRow, asserted: bool) -> Visible {
    Visible {
        sha256: certificate.sha256,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        common_name: certificate.common_name.as_deref().map(Box::from),
        asserted,
        usage: certificate.usage,
        rdata: certificate.rdata.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A dual-use EC certificate of nobody in particular.
    pub(crate) fn binding(id: i64, not_before: UnixTime, not_after: UnixTime) -> Binding {
        let mut sha256 = [0; 32];
        sha256[0] = id as u8;
        Binding {
            certificate: Arc::new(CertificateRow {
                id,
                sha256,
                usage: Usage::DaneEe,
                rdata: Arc::from([3, 0, 0, 0x30, id as u8]),
                not_before,
                not_after,
                common_name: None,
                subject: String::new(),
                issuer: String::new(),
                serial_hex: String::new(),
                key_name: "EC P-256".into(),
            }),
            spellings: Vec::new(),
            asserted: false,
            purposes: Purposes::ENCRYPT.with(Purposes::SIGN),
            slot: "ec".into(),
            restored: 0,
            state: State::Current,
            visible: false,
            added_at: 0,
            added_version: 0,
            ended_at: None,
            reason: None,
        }
    }
}
