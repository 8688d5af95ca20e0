//! [`Batch`]: the rows that one transaction works on, in memory. Pure but for the random salts of the log.
//!
//! The store loads what a batch needs, the batch decides and signs, the store writes what it left dirty, and commits.
//! Whatever fails before the commit leaves the world as it was.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use certdir_certificate::{Certificate, UnixTime};
use certdir_zones::rdata::smimea;
use certdir_zones::rrset::MAX_RRSET;
use certdir_zones::{Address, DomainName, Name, RecordType, Usage, ZoneKey};
use data_encoding::HEXLOWER;

use crate::chain::{Change, Link};
use crate::collisions;
use crate::domain::Hosting;
use crate::error::Error;
use crate::given::{Blocks, ZoneRow};
use crate::intake::{Candidate, Claims, Spelled};
use crate::lifecycle;
use crate::log::{Action, Detail};
use crate::published::Version;
use crate::records::{self, Term};
use crate::report::{Item, Outcome, Refusal};
use crate::rows::{Binding, CertificateRow, DomainRow, EntryRow, State};
use crate::search;

/// The rows of one transaction.
pub(crate) struct Batch {
    pub(crate) now: UnixTime,
    pub(crate) actor: String,
    /// The newest Version given out.
    pub(crate) version: Version,
    /// The store's revision before this batch.
    pub(crate) revision: u64,
    /// The next free row number, of whatever table.
    pub(crate) next_id: i64,
    pub(crate) domains: BTreeMap<DomainName, Hosted>,
    pub(crate) entries: HashMap<Address, Loaded>,
    pub(crate) certificates: HashMap<[u8; 32], Arc<CertificateRow>>,
    /// Each with the keys under which its hashes find it.
    pub(crate) new_certificates: Vec<(Arc<CertificateRow>, Vec<i64>)>,
    pub(crate) publications: Vec<NewPublication>,
}

/// A domain in a batch.
pub(crate) struct Hosted {
    pub(crate) row: DomainRow,
    pub(crate) key: Arc<ZoneKey>,
    /// Its zone changes with this batch.
    pub(crate) dirty: bool,
    /// Where CERT records have no place.
    pub(crate) blocks: Blocks,
    /// RRsets beside apex and entries to write.
    pub(crate) rrsets: Vec<ZoneRow>,
    /// What that adds to names and takes from them.
    pub(crate) changes: Vec<Change>,
    /// Links of its chain to write.
    pub(crate) links: Vec<Link>,
}

impl Hosted {
    pub(crate) fn new(row: DomainRow, key: Arc<ZoneKey>, blocks: Blocks) -> Hosted {
        Hosted { row, key, dirty: false, blocks, rrsets: Vec::new(), changes: Vec::new(), links: Vec::new() }
    }

    /// The apex of its zone.
    pub(crate) fn apex(&self) -> Name {
        self.row.settings.apex(&self.row.name)
    }
}

/// An entry in a batch.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) row: EntryRow,
    pub(crate) dirty: bool,
    /// Its signatures are to be made anew, whether it changes or not.
    pub(crate) renew: bool,
    /// The RRsets it had before.
    pub(crate) before: Vec<(Name, RecordType)>,
}

impl Loaded {
    pub(crate) fn new(row: EntryRow) -> Loaded {
        let before = row.names().collect();
        Loaded { row, dirty: false, renew: false, before }
    }

    /// RRsets that it got and lost.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> {
        let lost = self.before.iter().filter(|one| !self.row.names().any(|other| other == **one)).cloned();
        let got = self.row.names().filter(|one| !self.before.contains(one));
        lost.map(|(owner, rtype)| (owner, rtype, false)).chain(got.map(|(owner, rtype)| (owner, rtype, true)))
    }
}

/// A log row to be written.
pub(crate) struct NewPublication {
    pub(crate) version: Version,
    pub(crate) domain_id: i64,
    pub(crate) action: Action,
    /// What the world can see changed by it.
    pub(crate) public: bool,
    pub(crate) detail: Detail,
}

impl Batch {
    /// Takes one certificate for its mailboxes, all or none of them.
    pub(crate) fn publish(
        &mut self,
        origin: &str,
        candidate: &Candidate,
        claims: Claims,
        restore: bool,
        may_publish: &dyn Fn(&DomainName) -> bool,
    ) -> Result<Item, Error> {
        let certificate = &candidate.certificate;
        let mut item = item(origin, certificate);
        item.warnings = claims.warnings.clone();
        let row = self.certificate_row(certificate, &claims);
        let aliases = self.aliases(&claims);
        let touched = claims.mailboxes.keys().chain(aliases.iter().map(|(alias, _)| alias));
        let before: Vec<(Address, Option<Loaded>)> =
            touched.map(|mailbox| (mailbox.clone(), self.entries.get(mailbox).cloned())).collect();
        let (version, logged) = (self.version, self.publications.len());
        let outcomes = match self.bind_all(&row, &claims, aliases, restore, may_publish, &mut item) {
            Ok(outcomes) => outcomes,
            Err(Error::Zones(error @ certdir_zones::Error::RrsetTooLarge { .. })) => {
                // Nothing of a certificate that does not fit a DNS message is kept.
                for (mailbox, old) in before {
                    match old {
                        Some(old) => self.entries.insert(mailbox, old),
                        None => self.entries.remove(&mailbox),
                    };
                }
                self.version = version;
                self.publications.truncate(logged);
                item.warnings.clear();
                return Ok(refused(item, &Refusal::new("too-large", error.to_string())));
            }
            Err(error) => return Err(error),
        };
        if outcomes.iter().any(|outcome| *outcome != Outcome::Unchanged) && !self.certificates.contains_key(&row.sha256)
        {
            self.certificates.insert(row.sha256, row.clone());
            self.new_certificates.push((row, search::keys(certificate)));
        }
        item.outcome = [Outcome::Published, Outcome::Staged, Outcome::Kept, Outcome::Superseded]
            .into_iter()
            .find(|outcome| outcomes.contains(outcome))
            .unwrap_or(Outcome::Unchanged);
        item.addresses = claims.mailboxes.iter().flat_map(|(mailbox, spelled)| spelled.names(mailbox)).collect();
        item.version = (self.version > version).then_some(self.version);
        item.message = message(item.outcome).into();
        Ok(item)
    }

    /// Binds a certificate to its mailboxes, and to the aliases of a certificate that it supersedes there.
    fn bind_all(
        &mut self,
        row: &Arc<CertificateRow>,
        claims: &Claims,
        aliases: Vec<(Address, Binding)>,
        restore: bool,
        may_publish: &dyn Fn(&DomainName) -> bool,
        item: &mut Item,
    ) -> Result<Vec<Outcome>, Error> {
        let mut outcomes = Vec::new();
        for (mailbox, spelled) in &claims.mailboxes {
            let (outcome, hints) = self.bind(mailbox, spelled, row, claims, restore)?;
            outcomes.push(outcome);
            item.warnings.extend(hints);
        }
        for (alias, old) in aliases {
            let superseded = |loaded: &Loaded| {
                loaded
                    .row
                    .bindings
                    .iter()
                    .any(|b| b.certificate.id == old.certificate.id && b.state == State::Superseded)
            };
            let follows = old.slot == claims.slot
                && claims.mailboxes.keys().any(|mailbox| self.entries.get(mailbox).is_some_and(superseded));
            if follows && may_publish(alias.domain()) {
                let spelled = Spelled { spellings: old.spellings.iter().cloned().collect(), asserted: true };
                self.bind(&alias, &spelled, row, claims, false)?;
                item.warnings
                    .push(format!("its alias {alias} follows the reissue, as the publisher asserted it before"));
            } else if follows {
                item.warnings.push(format!(
                    "its alias {alias} still shows the certificate before: the token is not for its domain"
                ));
            }
        }
        Ok(outcomes)
    }

    /// Mailboxes that show, on the publisher's word, a certificate that one of the claimed mailboxes shows.
    fn aliases(&self, claims: &Claims) -> Vec<(Address, Binding)> {
        let shown = claims.mailboxes.keys().filter_map(|mailbox| self.entries.get(mailbox));
        let shown: Vec<i64> = shown
            .flat_map(|loaded| loaded.row.bindings.iter())
            .filter(|b| b.visible)
            .map(|b| b.certificate.id)
            .collect();
        // Nearly always nothing is superseded: a batch of new people is not walked through once for each of them.
        if shown.is_empty() {
            return Vec::new();
        }
        let all = self.entries.iter();
        let mut aliases: Vec<(Address, Binding)> = all
            .flat_map(|(mailbox, loaded)| loaded.row.bindings.iter().map(move |binding| (mailbox, binding)))
            .filter(|(_, binding)| binding.asserted && binding.visible && shown.contains(&binding.certificate.id))
            .filter(|(mailbox, _)| !claims.mailboxes.contains_key(*mailbox))
            .map(|(mailbox, binding)| (mailbox.clone(), binding.clone()))
            .collect();
        aliases.sort_by(|(one, _), (other, _)| one.cmp(other));
        aliases
    }

    /// Binds a certificate to a mailbox and settles what follows.
    fn bind(
        &mut self,
        mailbox: &Address,
        spelled: &Spelled,
        certificate: &Arc<CertificateRow>,
        claims: &Claims,
        restore: bool,
    ) -> Result<(Outcome, Vec<String>), Error> {
        let domain = self.hosted(mailbox.domain())?;
        let (domain_id, now) = (domain.row.id, self.now);
        let fresh_id = self.next_id;
        let loaded = self
            .entries
            .entry(mailbox.clone())
            .or_insert_with(|| Loaded::new(EntryRow::new(fresh_id, domain_id, mailbox.clone(), now)));
        if loaded.row.id == fresh_id {
            self.next_id += 1;
        }
        let bindings = &mut loaded.row.bindings;
        // Nobody took it back, its domain was not hosted for a while: now it is new.
        bindings.retain(|b| b.certificate.sha256 != certificate.sha256 || !b.went_with_domain());
        let restored = bindings.iter().map(|b| b.restored).max().unwrap_or(0) + 1;
        match bindings.iter_mut().find(|b| b.certificate.sha256 == certificate.sha256) {
            Some(known) => {
                let mut spellings: Vec<Address> = known.spellings.iter().chain(&spelled.spellings).cloned().collect();
                spellings.sort();
                spellings.dedup();
                let respelled = spellings.len() > known.spellings.len();
                known.spellings = spellings;
                let gone = matches!(known.state, State::Withdrawn | State::Superseded);
                if gone && restore {
                    known.restored = restored;
                    known.state = State::Current;
                    known.ended_at = None;
                    known.reason = None;
                } else if gone {
                    let hint = format!("it was {} for {mailbox}; bring it back with --restore", known.state.as_str());
                    return Ok((Outcome::Unchanged, vec![hint]));
                } else if !respelled {
                    return Ok((Outcome::Unchanged, Vec::new()));
                }
            }
            None => {
                let inherited = lifecycle::inherited(bindings, &claims.slot, certificate.not_before);
                bindings.push(Binding {
                    certificate: certificate.clone(),
                    spellings: spelled.spellings.iter().cloned().collect(),
                    asserted: spelled.asserted,
                    purposes: claims.purposes,
                    slot: claims.slot.clone(),
                    restored: if restore { restored } else { inherited },
                    state: State::Current,
                    visible: false,
                    added_at: now,
                    added_version: self.version + 1,
                    ended_at: None,
                    reason: None,
                });
            }
        }
        let public = self.settle(mailbox, &[certificate.sha256])?;
        // Whatever becomes visible later, by itself, must fit as well.
        let octets = self.entries.get(mailbox).map_or(0, |loaded| lifecycle::largest(&loaded.row.bindings));
        if octets > MAX_RRSET {
            return Err(certdir_zones::Error::RrsetTooLarge { octets, limit: MAX_RRSET }.into());
        }
        let bound = self
            .entries
            .get(mailbox)
            .and_then(|loaded| loaded.row.bindings.iter().find(|b| b.certificate.sha256 == certificate.sha256));
        let (outcome, action) = match bound {
            Some(b) if b.state == State::Staged => (Outcome::Staged, Action::Staged),
            Some(b) if b.visible => (Outcome::Published, Action::Published),
            Some(b) if b.state == State::Current => (Outcome::Kept, Action::Kept),
            _ => (Outcome::Superseded, Action::Superseded),
        };
        let hint = (outcome == Outcome::Superseded).then(|| {
            format!("a newer certificate of {mailbox} is known; use --restore to publish this one all the same")
        });
        self.record(mailbox, action, &certificate.sha256, None, public)?;
        let mut hints: Vec<String> = hint.into_iter().collect();
        if outcome == Outcome::Published && claims.usage == Usage::DaneEe {
            hints.extend(self.without_cert(mailbox)?);
        }
        Ok((outcome, hints))
    }

    /// In a hosted mail domain: where a mailbox has no CERT record, or shares one, and why.
    fn without_cert(&self, mailbox: &Address) -> Result<Vec<String>, Error> {
        let domain = self.hosted(mailbox.domain())?;
        let Some(loaded) = self.entries.get(mailbox).filter(|_| domain.row.settings.hosting == Hosting::Mail) else {
            return Ok(Vec::new());
        };
        let mut hints = Vec::new();
        for spelling in loaded.row.spellings.iter().filter(|_| !mailbox.is_domain_authority()) {
            if let Some(hint) = collisions::no_owner(spelling) {
                hints.push(hint);
            } else if spelling != mailbox && loaded.row.spellings.len() > 1 {
                hints.push(format!(
                    "{spelling} and {mailbox} differ only in case: one mailbox, which shows one set of certificates"
                ));
            }
        }
        for (owner, _) in self.owners(domain, &loaded.row).into_iter().filter(|(_, rtype)| *rtype == RecordType::CERT) {
            if let Some(reason) = domain.blocks.stops(&owner) {
                hints.push(format!("no CERT record at {owner}: {reason}"));
            }
        }
        Ok(hints)
    }

    /// Owner names and types of an entry's RRsets, also of those for which the zone has no place.
    fn owners(&self, domain: &Hosted, row: &EntryRow) -> Vec<(Name, RecordType)> {
        let settings = &domain.row.settings;
        records::owners(settings.hosting, settings.lower_case, &row.address, &row.spellings)
    }

    /// Takes certificates of a mailbox back: one, or all that are current or staged. Returns what was taken back.
    pub(crate) fn withdraw(
        &mut self,
        mailbox: &Address,
        only: Option<&[u8; 32]>,
        reason: Option<&str>,
    ) -> Result<Vec<Item>, Error> {
        let now = self.now;
        let Some(loaded) = self.entries.get_mut(mailbox) else { return Ok(Vec::new()) };
        let mut taken = Vec::new();
        for binding in &mut loaded.row.bindings {
            let wanted = match only {
                Some(sha256) => binding.certificate.sha256 == *sha256 && binding.state != State::Withdrawn,
                None => matches!(binding.state, State::Current | State::Staged),
            };
            if wanted {
                binding.state = State::Withdrawn;
                binding.ended_at = Some(now);
                binding.reason = reason.map(str::to_string);
                taken.push(binding.certificate.clone());
            }
        }
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let subjects: Vec<[u8; 32]> = taken.iter().map(|certificate| certificate.sha256).collect();
        let public = self.settle(mailbox, &subjects)?;
        let mut items = Vec::new();
        for certificate in taken {
            let version = self.record(mailbox, Action::Withdrawn, &certificate.sha256, reason, public)?;
            items.push(Item {
                origin: "withdraw".into(),
                sha256: Some(HEXLOWER.encode(&certificate.sha256)),
                subject: Some(certificate.subject.clone()),
                outcome: Outcome::Withdrawn,
                code: None,
                message: message(Outcome::Withdrawn).into(),
                addresses: vec![mailbox.to_string()],
                warnings: Vec::new(),
                version: Some(version),
            });
        }
        Ok(items)
    }

    /// The mailboxes in this batch that show a certificate, by its SHA-256 in hexadecimal.
    pub(crate) fn still_shown(&self, sha256: &str) -> Vec<String> {
        let shows = |loaded: &&Loaded| {
            loaded.row.bindings.iter().any(|b| b.visible && HEXLOWER.encode(&b.certificate.sha256) == sha256)
        };
        let mut all: Vec<String> =
            self.entries.values().filter(shows).map(|loaded| loaded.row.address.to_string()).collect();
        all.sort();
        all
    }

    /// Makes the records of a mailbox anew, because where they have a place has changed.
    pub(crate) fn make_anew(&mut self, mailbox: &Address) -> Result<(), Error> {
        if let Some(loaded) = self.entries.get_mut(mailbox) {
            loaded.renew = true;
        }
        self.settle(mailbox, &[]).map(drop)
    }

    /// Settles a mailbox's certificates, signs its records anew when what is visible changed, and logs what began or ended by
    /// itself. `subjects` are the certificates whose own change the caller logs. Returns whether what is visible changed.
    pub(crate) fn settle(&mut self, mailbox: &Address, subjects: &[[u8; 32]]) -> Result<bool, Error> {
        let now = self.now;
        let Some(loaded) = self.entries.get_mut(mailbox) else { return Ok(false) };
        let row = &mut loaded.row;
        let shown =
            |row: &EntryRow| (row.visible().iter().map(|c| c.sha256).collect::<Vec<_>>(), row.spellings.clone());
        let before = shown(row);
        let states: Vec<(i64, State)> = row.bindings.iter().map(|b| (b.certificate.id, b.state)).collect();
        row.due_at = lifecycle::settle(&mut row.bindings, now);
        lifecycle::order(&mut row.bindings);
        for binding in &mut row.bindings {
            binding.ended_at = match binding.state {
                State::Staged | State::Current => None,
                State::Withdrawn => binding.ended_at,
                State::Superseded | State::Expired => binding.ended_at.or(Some(now)),
            };
        }
        row.spellings = row.gather_spellings();
        let by_itself: Vec<([u8; 32], Action)> = row
            .bindings
            .iter()
            .filter(|b| !subjects.contains(&b.certificate.sha256))
            .filter_map(|b| {
                let (_, old) = states.iter().find(|(id, _)| *id == b.certificate.id)?;
                Some((b.certificate.sha256, began_or_ended(*old, b)?))
            })
            .collect();
        let public = self.sign(mailbox, &before)?;
        for (sha256, action) in by_itself {
            self.record(mailbox, action, &sha256, None, public)?;
        }
        Ok(public)
    }

    /// Signs a mailbox's records, unless what is visible is still as it was. Returns whether it is not.
    fn sign(&mut self, mailbox: &Address, before: &(Vec<[u8; 32]>, Vec<Address>)) -> Result<bool, Error> {
        let now = self.now;
        let Some(loaded) = self.entries.get_mut(mailbox) else { return Ok(false) };
        let Some(domain) = self.domains.get_mut(mailbox.domain()) else {
            return Err(Error::UnknownDomain(mailbox.domain().clone()));
        };
        loaded.dirty = true;
        let row = &mut loaded.row;
        let changed = row.visible().iter().map(|c| c.sha256).ne(before.0.iter().copied()) || row.spellings != before.1;
        if !changed && !row.records.is_empty() && !std::mem::take(&mut loaded.renew) {
            return Ok(false);
        }
        let visible = row.visible();
        let not_after = visible.iter().map(|c| c.not_after).min();
        let term = Term::new(now, not_after, row.id);
        let had_records = !row.records.is_empty();
        if visible.is_empty() {
            row.records.clear();
            (row.refresh_at, row.inception) = (None, None);
        } else {
            let settings = &domain.row.settings;
            let mut owners = records::owners(settings.hosting, settings.lower_case, mailbox, &row.spellings);
            // A CERT record where an alias or another zone stands would make the zone one that no server loads.
            owners.retain(|(owner, rtype)| *rtype != RecordType::CERT || domain.blocks.stops(owner).is_none());
            let rrsets = records::rrsets(settings, owners, &visible, now)?;
            row.records = records::sign(&domain.key, &domain.apex(), rrsets, term)?;
            row.cert_form = settings.cert_form();
            (row.refresh_at, row.inception) = (term.refresh_at, Some(term.begins_at));
        }
        if had_records || !row.records.is_empty() || changed {
            domain.dirty = true;
        }
        Ok(changed)
    }

    /// Gives every changed zone its next serial and signs what that needs.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        for hosted in self.domains.values_mut() {
            let row = &mut hosted.row;
            let term = Term::new(self.now, None, row.id);
            if records::is_due(self.now, Some(row.refresh_at), Some(row.inception)) {
                row.serial = records::next_serial(row.serial, self.now);
                row.apex = records::apex(&row.name, &row.settings, row.serial, &hosted.key, term)?;
                row.refresh_at = term.refresh_at.unwrap_or(self.now);
                row.inception = term.begins_at;
                hosted.dirty = true;
            } else if hosted.dirty {
                row.serial = records::next_serial(row.serial, self.now);
                row.inception = row.inception.max(term.begins_at);
                records::bump(&row.name, &row.settings, row.serial, &hosted.key, term, &mut row.apex)?;
            }
        }
        Ok(())
    }

    /// Appends a log row; `public` says whether what the world can see changed by it.
    pub(crate) fn record(
        &mut self,
        mailbox: &Address,
        action: Action,
        sha256: &[u8],
        reason: Option<&str>,
        public: bool,
    ) -> Result<Version, Error> {
        let domain_id = self.hosted(mailbox.domain())?.row.id;
        self.version += 1;
        let version = self.version;
        let detail = Detail::new(mailbox.to_string(), sha256, self.actor.clone(), reason.map(str::to_string))?;
        self.publications.push(NewPublication { version, domain_id, action, public, detail });
        if let Some(loaded) = self.entries.get_mut(mailbox) {
            loaded.row.version = version;
            loaded.row.changed_at = self.now;
        }
        Ok(version)
    }

    fn hosted(&self, domain: &DomainName) -> Result<&Hosted, Error> {
        self.domains.get(domain).ok_or_else(|| Error::UnknownDomain(domain.clone()))
    }

    fn certificate_row(&mut self, certificate: &Certificate, claims: &Claims) -> Arc<CertificateRow> {
        if let Some(known) = self.certificates.get(certificate.sha256()) {
            return known.clone();
        }
        self.next_id += 1;
        Arc::new(CertificateRow {
            id: self.next_id - 1,
            sha256: *certificate.sha256(),
            usage: claims.usage,
            rdata: smimea(claims.usage, certificate.der()),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            common_name: certificate.common_name().map(str::to_string),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial_hex: certificate.serial_hex().to_string(),
            key_name: certificate.key().name.clone(),
        })
    }
}

impl Spelled {
    fn names(&self, mailbox: &Address) -> Vec<String> {
        if self.spellings.is_empty() {
            return vec![mailbox.to_string()];
        }
        self.spellings.iter().map(ToString::to_string).collect()
    }
}

/// What a change of state that nobody asked for is in the log. That another one superseded it is told by that one's row.
fn began_or_ended(old: State, binding: &Binding) -> Option<Action> {
    match (old, binding.state) {
        (old, new) if old == new => None,
        (_, State::Expired) => Some(Action::Expired),
        (State::Staged, State::Current) if binding.visible => Some(Action::Published),
        (State::Staged, State::Current) => Some(Action::Kept),
        (State::Staged, State::Superseded) => Some(Action::Superseded),
        _ => None,
    }
}

/// The report of a certificate, before anything is decided.
pub(crate) fn item(origin: &str, certificate: &Certificate) -> Item {
    Item {
        origin: origin.into(),
        sha256: Some(HEXLOWER.encode(certificate.sha256())),
        subject: Some(certificate.subject().to_string()),
        outcome: Outcome::Unchanged,
        code: None,
        message: String::new(),
        addresses: Vec::new(),
        warnings: Vec::new(),
        version: None,
    }
}

/// The report of a certificate that is not taken.
pub(crate) fn refused(item: Item, refusal: &Refusal) -> Item {
    Item { outcome: Outcome::Refused, code: Some(refusal.code.into()), message: refusal.message.clone(), ..item }
}

fn message(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Published => "the world sees it now",
        Outcome::Staged => "its validity begins later; it is published by itself then",
        Outcome::Superseded => "older than a certificate that is known: kept in the history",
        Outcome::Kept => "it can only sign: kept, not published",
        Outcome::Unchanged => "known already, nothing changed",
        Outcome::Refused => "not taken",
        Outcome::Withdrawn => "taken back",
    }
}
