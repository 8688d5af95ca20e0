//! [`Published`]: everything the world may see at one [`Version`]. Immutable; the next one shares its structure.
//!
//! What is visible is decided here and in [`crate::lifecycle`], never in a view. DNS answers from the [`Zone`]s, LDAP
//! and HTTP from the [`Entry`]s; both are changed by the same [`Published::apply_entry`], so they cannot disagree.

use std::borrow::Borrow;
use std::hash::BuildHasher;
use std::sync::Arc;

use certdir_certificate::{Certificate, UnixTime};
use certdir_zones::denial::Hash;
use certdir_zones::rdata::SMIMEA_PREFIX;
use certdir_zones::{Address, DomainName, Name, Rdata, RecordType, SignedRrset, Table, Usage, Zone, ZoneKey};
use foldhash::quality::RandomState;

use crate::domain::{Denial, Settings};
use crate::error::Error;
use crate::recent::Recent;
use crate::records;

/// The number of a publication; grows by one for each.
pub type Version = u64;

/// The set visible at one Version.
#[derive(Clone)]
pub struct Published {
    version: Version,
    changed_at: UnixTime,
    revision: u64,
    domains: imbl::OrdMap<DomainName, Arc<Domain>>,
    /// The apexes of zones by the rows of their domains.
    apexes: imbl::HashMap<i64, Name>,
    zones: imbl::GenericHashMap<Name, Zone, RandomState, imbl::shared_ptr::DefaultSharedPtr>,
    /// By domain, then mailbox, so that a domain's stand together.
    entries: imbl::OrdSet<Ordered>,
    /// Entries by the keyed hash of an attribute and its value; a look-up compares the value again.
    index: Table<Arc<Entry>>,
    hasher: RandomState,
    recent: Recent,
}

/// An entry in the order of addresses.
#[derive(Clone)]
struct Ordered(Arc<Entry>);

/// A hosted domain.
#[derive(Debug)]
pub struct Domain {
    /// Its row in the store.
    pub(crate) id: i64,
    /// The mail domain.
    pub name: DomainName,
    /// The apex of its zone.
    pub apex: Name,
    /// How it is published.
    pub settings: Settings,
}

/// What the world may see for one mailbox. Mailboxes are told apart without regard to case (RFC 8550 section 3).
#[derive(Debug)]
pub struct Entry {
    /// The mailbox, in lower case.
    pub address: Address,
    /// The Version of its last change.
    pub version: Version,
    /// When that was.
    pub changed_at: UnixTime,
    /// Its current certificates, newest first.
    pub certificates: Box<[Visible]>,
    pub(crate) spellings: Box<[Address]>,
}

/// A certificate that is published. A clone shares its octets.
#[derive(Clone, Debug)]
pub struct Visible {
    /// SHA-256 of the DER.
    pub sha256: [u8; 32],
    /// Not valid before.
    pub not_before: UnixTime,
    /// Not valid after.
    pub not_after: UnixTime,
    /// Subject common name, for the LDAP view.
    pub common_name: Option<Box<str>>,
    /// Whether the publisher, not the certificate, says that it is this mailbox's.
    pub asserted: bool,
    /// SMIMEA certificate usage.
    pub usage: Usage,
    /// SMIMEA RDATA, which ends with the DER: one copy serves all views.
    pub(crate) rdata: Rdata,
}

/// An attribute by which entries are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attribute {
    /// The address.
    Mail,
    /// The local part.
    Uid,
    /// The subject common name of a current certificate.
    Cn,
}

impl Published {
    /// Nothing published yet.
    pub(crate) fn empty() -> Published {
        Published {
            version: 0,
            changed_at: 0,
            revision: 0,
            domains: imbl::OrdMap::new(),
            apexes: imbl::HashMap::new(),
            zones: imbl::GenericHashMap::with_hasher(RandomState::default()),
            entries: imbl::OrdSet::new(),
            index: Table::default(),
            hasher: RandomState::default(),
            recent: Recent::unknown(),
        }
    }

    /// The number of the newest publication in it.
    pub fn version(&self) -> Version {
        self.version
    }

    /// When the newest publication was made; 0 when there is none.
    pub fn changed_at(&self) -> UnixTime {
        self.changed_at
    }

    /// The store's revision it was read at: grows with everything that is written, also with refreshed signatures.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Owners of zones' records that may have changed since the set of a revision, and names that came or went with them;
    /// some several times. `None`: so much changed, or so long ago, that any may have.
    pub fn changed_since(&self, revision: u64) -> Option<Vec<&Name>> {
        if revision == self.revision { Some(Vec::new()) } else { Some(self.recent.since(revision)?.collect()) }
    }

    /// The hosted zone whose apex is the nearest at or above a name (wire form, lower case).
    pub fn zone_for(&self, qname: &[u8]) -> Option<&Zone> {
        let mut rest = qname;
        loop {
            if let Some(zone) = self.zones.get(rest) {
                return Some(zone);
            }
            let length = usize::from(*rest.first()?);
            if length == 0 {
                return None;
            }
            rest = rest.get(length + 1..)?;
        }
    }

    /// The zone with exactly this apex.
    pub fn zone(&self, apex: &Name) -> Option<&Zone> {
        self.zones.get(apex)
    }

    /// All hosted domains, in order.
    pub fn domains(&self) -> impl Iterator<Item = &Arc<Domain>> {
        self.domains.values()
    }

    /// A hosted domain.
    pub fn domain(&self, name: &DomainName) -> Option<&Arc<Domain>> {
        self.domains.get(name)
    }

    /// The hosted domain of an address as it is displayed.
    pub(crate) fn domain_of(&self, address: &str) -> Option<&Arc<Domain>> {
        self.domains.get(address.rsplit_once('@')?.1)
    }

    /// The entry of a mailbox, whatever the case of its local part.
    pub fn entry(&self, address: &Address) -> Option<&Arc<Entry>> {
        self.exactly(&address.lower_case())
    }

    /// The entry of a mailbox in lower case.
    fn exactly(&self, mailbox: &Address) -> Option<&Arc<Entry>> {
        self.index.under(self.hash(Tag::Mail, mailbox)).find(|entry| entry.address == *mailbox)
    }

    /// Every entry, by domain and mailbox.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().map(|ordered| &ordered.0)
    }

    /// The entries of a domain, by mailbox.
    pub fn entries_in<'a>(&'a self, domain: &DomainName) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        let domain = domain.clone();
        let from = self.entries.range(Address::before_all(&domain)..);
        from.map(|ordered| &ordered.0).take_while(move |entry| *entry.address.domain() == domain)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries of which an attribute equals a value, whatever the case; in no order.
    pub fn entries_by<'a>(
        &'a self,
        attribute: Attribute,
        value: &str,
    ) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        let wanted = fold(value);
        let (direct, hash) = match attribute {
            Attribute::Mail => (Address::parse(value).ok().and_then(|address| self.entry(&address)), None),
            Attribute::Uid => (None, Some(self.hash(Tag::Uid, wanted.as_str()))),
            Attribute::Cn => (None, Some(self.hash(Tag::Cn, wanted.as_str()))),
        };
        let listed = hash.into_iter().flat_map(|hash| self.index.under(hash));
        direct.into_iter().chain(listed.filter(move |entry| match attribute {
            Attribute::Mail => false,
            Attribute::Uid => entry.uid() == wanted,
            Attribute::Cn => entry.common_names().any(|name| fold(name) == wanted),
        }))
    }

    /// The entries that show a certificate, by its SHA-256; in no order.
    pub fn entries_of<'a>(&'a self, sha256: &'a [u8; 32]) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.index
            .under(self.hash(Tag::Sha256, sha256))
            .filter(move |entry| entry.certificates.iter().any(|c| c.sha256 == *sha256))
    }

    /// Gives the set its numbers, once all changes are applied.
    pub(crate) fn stamp(&mut self, version: Version, changed_at: UnixTime, revision: u64) {
        self.recent.close(self.revision);
        self.version = version;
        self.changed_at = changed_at;
        self.revision = revision;
    }

    /// Applies a change of a domain's apex. O(log n); the set this one was cloned from stays as it is.
    ///
    /// Who looks rarely sees only the last of several changes. A domain with another apex or another key was removed and
    /// hosted anew meanwhile: nothing of its former life is left, and all there is of the new one follows.
    pub(crate) fn apply_domain(&mut self, changed: ChangedDomain) -> Result<(), Error> {
        let apex = changed.domain.apex.clone();
        let known = self.apexes.get(&changed.domain.id).and_then(|old| self.zones.get(old));
        if known.is_some_and(|zone| *zone.apex() != apex || zone.key().dnskey() != changed.key.dnskey()) {
            self.remove_domain(&changed.domain.name);
        }
        if !self.zones.contains_key(&apex) {
            self.recent.forget();
        }
        let zone = self.zones.entry(apex.clone()).or_insert_with(|| Zone::new(apex.clone(), changed.key));
        self.recent.touch(zone, &apex);
        for rrset in changed.apex_rrsets {
            zone.set(&apex, rrset)?;
        }
        if changed.domain.settings.denial == Denial::Minimal {
            zone.drop_chain();
        }
        self.apexes.insert(changed.domain.id, apex);
        self.domains.insert(changed.domain.name.clone(), Arc::new(changed.domain));
        Ok(())
    }

    /// Takes a domain out of every view.
    pub(crate) fn remove_domain(&mut self, name: &DomainName) {
        let entries: Vec<Arc<Entry>> = self.entries_in(name).cloned().collect();
        for entry in entries {
            self.forget(&entry);
        }
        self.recent.forget();
        if let Some(domain) = self.domains.remove(name) {
            self.zones.remove(&domain.apex);
            self.apexes.remove(&domain.id);
        }
    }

    /// Puts an RRset beside apex and entries into a zone, or takes it away. Nothing happens for a domain that was removed.
    pub(crate) fn apply_rrset(
        &mut self,
        domain_id: i64,
        owner: &Name,
        rtype: RecordType,
        signed: Option<SignedRrset>,
    ) -> Result<(), Error> {
        let zone = self.apexes.get(&domain_id).and_then(|apex| self.zones.get_mut(apex));
        match (zone, signed) {
            (Some(zone), Some(signed)) => {
                self.recent.touch(zone, owner);
                zone.set(owner, signed)?;
            }
            (Some(zone), None) => {
                zone.remove(owner, rtype);
                self.recent.touch(zone, owner);
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// Puts a link into a zone's chain, or takes it away.
    pub(crate) fn apply_link(&mut self, domain_id: i64, hash: Hash, signed: Option<SignedRrset>) {
        match (self.apexes.get(&domain_id).and_then(|apex| self.zones.get_mut(apex)), signed) {
            (Some(zone), Some(signed)) => zone.set_link(hash, signed),
            (Some(zone), None) => zone.remove_link(&hash),
            (None, _) => {}
        }
    }

    /// Applies a change of one entry: its records, its place in the index, itself. O(log n).
    pub(crate) fn apply_entry(&mut self, changed: ChangedEntry) -> Result<(), Error> {
        let Some(domain) = self.domains.get(changed.entry.address.domain()).cloned() else {
            return Err(Error::UnknownDomain(changed.entry.address.domain().clone()));
        };
        let old = self.exactly(&changed.entry.address).cloned();
        if let Some(zone) = self.zones.get_mut(&domain.apex) {
            if let Some(old) = &old {
                let hosting = domain.settings.hosting;
                for (owner, rtype) in records::possible_owners(hosting, &old.address, &old.spellings) {
                    zone.remove(&owner, rtype);
                    self.recent.touch(zone, &owner);
                }
            }
            for (owner, rrset) in changed.rrsets {
                self.recent.touch(zone, &owner);
                zone.set(&owner, rrset)?;
            }
        }
        if let Some(old) = old {
            self.forget(&old);
        }
        if !changed.entry.certificates.is_empty() {
            let entry = Arc::new(changed.entry);
            for hash in self.index_keys(&entry) {
                self.index.insert(hash, entry.clone());
            }
            self.entries.insert(Ordered(entry));
        }
        Ok(())
    }

    /// Takes an entry out of the index and the order.
    fn forget(&mut self, old: &Arc<Entry>) {
        for hash in self.index_keys(old) {
            self.index.remove(hash, |entry| Arc::ptr_eq(entry, old));
        }
        self.entries.remove(&old.address);
    }

    /// The hashes under which an entry is found, once each.
    fn index_keys(&self, entry: &Entry) -> Vec<u64> {
        let mut keys = vec![self.hash(Tag::Mail, &entry.address), self.hash(Tag::Uid, entry.uid())];
        keys.extend(entry.common_names().map(|name| self.hash(Tag::Cn, fold(name).as_str())));
        keys.extend(entry.certificates.iter().map(|c| self.hash(Tag::Sha256, &c.sha256)));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn hash<T: std::hash::Hash + ?Sized>(&self, tag: Tag, value: &T) -> u64 {
        self.hasher.hash_one((tag, value))
    }
}

impl Entry {
    /// Whether this is the domain's own entry, `domain-confidentiality-authority` (RFC 3183 section 4.1).
    pub fn is_domain_authority(&self) -> bool {
        self.address.is_domain_authority()
    }

    /// The ways its certificates and publishers write the mailbox; at least one.
    pub fn spellings(&self) -> &[Address] {
        if self.spellings.is_empty() { std::slice::from_ref(&self.address) } else { &self.spellings }
    }

    /// The certificates to encrypt to that are valid at a time, newest first.
    pub fn visible(&self, now: UnixTime) -> impl Iterator<Item = &Visible> {
        self.certificates.iter().filter(move |c| c.usage != Usage::DaneTa && c.valid_at(now))
    }

    /// The domain's own CA certificates that are valid at a time; only the domain's entry has some.
    pub fn authorities(&self, now: UnixTime) -> impl Iterator<Item = &Visible> {
        self.certificates.iter().filter(move |c| c.usage == Usage::DaneTa && c.valid_at(now))
    }

    /// The common name of the newest certificate, or the local part.
    pub fn common_name(&self) -> &str {
        self.common_names().next().unwrap_or_else(|| self.uid())
    }

    /// The local part in lower case.
    pub fn uid(&self) -> &str {
        self.address.local()
    }

    fn common_names(&self) -> impl Iterator<Item = &str> {
        self.certificates.iter().filter(|c| c.usage != Usage::DaneTa).filter_map(|c| c.common_name.as_deref())
    }
}

impl Visible {
    /// The certificate's octets.
    pub fn der(&self) -> &[u8] {
        self.rdata.get(SMIMEA_PREFIX..).unwrap_or_default()
    }

    /// The facts of the certificate, read afresh (about 10 microseconds): nothing but the DER is kept in memory.
    pub fn certificate(&self) -> Result<Certificate, certdir_certificate::Error> {
        Certificate::from_der(self.der())
    }

    /// Whether a time lies within its validity, both ends included (RFC 5280 section 4.1.2.5).
    pub fn valid_at(&self, now: UnixTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// A domain as a follower read it.
pub(crate) struct ChangedDomain {
    pub(crate) domain: Domain,
    pub(crate) key: Arc<ZoneKey>,
    pub(crate) apex_rrsets: Vec<SignedRrset>,
}

/// An entry as a follower read it.
pub(crate) struct ChangedEntry {
    pub(crate) entry: Entry,
    pub(crate) rrsets: Vec<(Name, SignedRrset)>,
}

fn fold(value: &str) -> String {
    value.trim().to_lowercase()
}

/// What is hashed for the index.
#[derive(Hash, Clone, Copy)]
enum Tag {
    Mail,
    Uid,
    Cn,
    Sha256,
}

impl Borrow<Address> for Ordered {
    fn borrow(&self) -> &Address {
        &self.0.address
    }
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Ordered) -> bool {
        self.0.address == other.0.address
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Ordered) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Ordered) -> std::cmp::Ordering {
        self.0.address.cmp(&other.0.address)
    }
}
