//! [`Store`]: the domains. Adding, changing and removing one, and the records beside its certificates.
//!
//! Whatever changes, the RRsets that a zone is to hold are computed anew from settings, fragment and the other hosted zones
//! ([`crate::given`]), and what differs from the rows is written. Signatures over certificates that settings change (TTL, form)
//! are left to upkeep: until then the old ones stand, whole.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::{Address, DomainName, Fragment, Name, RecordType, Standing};
use sqlx::sqlite::SqliteConnection;

use crate::authority::Authority;
use crate::batch::{Batch, Hosted};
use crate::collisions;
use crate::domain::{Denial, Hosting, Settings};
use crate::error::Error;
use crate::given::{self, Blocks, Child, ZoneRow};
use crate::keys;
use crate::log::Action;
use crate::records::{self, Term};
use crate::rows::DomainRow;
use crate::shown::DomainStatus;
use crate::sqlite;
use crate::store::{Store, administer};

/// The types that every apex has.
const APEX: [RecordType; 3] = [RecordType::SOA, RecordType::NS, RecordType::DNSKEY];

impl Store {
    /// Hosts a domain from now on. Its zone key is made, durable, before the domain is.
    pub async fn add_domain(
        &self,
        name: &DomainName,
        settings: Settings,
        authority: &Authority,
        now: UnixTime,
    ) -> Result<DomainStatus, Error> {
        self.add_domain_with(name, settings, "", authority, now).await
    }

    /// The same, with the other records of a mail domain as master-file text.
    pub async fn add_domain_with(
        &self,
        name: &DomainName,
        settings: Settings,
        records: &str,
        authority: &Authority,
        now: UnixTime,
    ) -> Result<DomainStatus, Error> {
        administer(authority, "add domains")?;
        let settings = settings.checked(name)?;
        let apex = settings.apex(name);
        given_text(records, name).await?;
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut batch = self.load(&mut transaction, BTreeSet::from([name.clone()]), authority.actor(), now).await?;
        if batch.domains.contains_key(name) {
            return Err(Error::DomainExists(name.clone()));
        }
        let key = Arc::new(keys::load_or_create(&self.data, &apex)?);
        // Above every serial a former life of the zone can have used, had it begun before today.
        let (id, serial) = match sqlite::removed_domain(&mut transaction, name).await? {
            Some((id, serial)) => (id, records::next_serial(serial, now)),
            None => {
                batch.next_id += 1;
                (batch.next_id - 1, records::serial_time(now).max(1))
            }
        };
        let term = Term::new(now, None, id);
        let row = DomainRow {
            id,
            name: name.clone(),
            apex: records::apex(name, &settings, serial, &key, term)?,
            settings,
            serial,
            inception: term.begins_at,
            refresh_at: term.refresh_at.unwrap_or(now),
            added_at: now,
            removed: false,
        };
        sqlite::insert_domain(&mut transaction, &row).await?;
        let mut hosted = Hosted::new(row, key, Blocks::default());
        hosted.dirty = true;
        hosted.changes = APEX.iter().map(|rtype| (apex.clone(), *rtype, true)).collect();
        batch.domains.insert(name.clone(), hosted);
        batch.record(&Address::domain_authority(name), Action::DomainAdded, &[], None, true)?;
        if !records.is_empty() {
            self.give(&mut transaction, &mut batch, name, records).await?;
        }
        self.fit_in(&mut transaction, &mut batch, name).await?;
        self.commit(transaction, batch).await?;
        self.domain(name).await
    }

    /// Changes settings of a domain, by their names in JSON. What was delegated stays: [`Settings::hosting`] cannot be changed.
    pub async fn change_domain(
        &self,
        name: &DomainName,
        changes: &serde_json::Map<String, serde_json::Value>,
        authority: &Authority,
        now: UnixTime,
    ) -> Result<DomainStatus, Error> {
        administer(authority, "change domains")?;
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut batch = self.load(&mut transaction, BTreeSet::from([name.clone()]), authority.actor(), now).await?;
        let hosted = batch.domains.get_mut(name).ok_or_else(|| Error::UnknownDomain(name.clone()))?;
        let before = hosted.row.settings.clone();
        let settings = before.with(changes)?;
        if settings.hosting != before.hosting {
            let reason = "what was delegated cannot be changed: remove the domain and add it anew";
            return Err(Error::Setting(reason.into()));
        }
        let settings = settings.checked(name)?;
        if settings == before {
            transaction.rollback().await?;
            return self.domain(name).await;
        }
        let row = &mut hosted.row;
        let (apex, id) = (settings.apex(name), row.id);
        let term = Term::new(now, None, id);
        row.apex = records::apex(name, &settings, row.serial, &hosted.key, term)?;
        (row.inception, row.refresh_at) = (term.begins_at, term.refresh_at.unwrap_or(now));
        row.settings = settings.clone();
        hosted.dirty = true;
        let anew = |settings: &Settings| (settings.ttl, settings.cert_form, settings.lower_case);
        if anew(&settings) != anew(&before) {
            sqlite::zone::renew(&mut transaction, id, now).await?;
        }
        if settings.denial != before.denial {
            // Also links of a former chain that a follower may still have.
            let revision = sqlite::signed(batch.revision + 1)?;
            sqlite::zone::drop_links(&mut transaction, id, revision).await?;
        }
        self.fit_in(&mut transaction, &mut batch, name).await?;
        if settings.denial != before.denial && settings.denial == Denial::Chain {
            // The chain begins with everything that is there now; what changes in this transaction follows.
            let mut all = sqlite::zone::entry_names(&mut transaction, id).await?;
            all.extend(APEX.iter().map(|rtype| (apex.clone(), *rtype)));
            let kept = sqlite::zone::rrsets(&mut transaction, id).await?;
            all.extend(kept.into_iter().filter(ZoneRow::counts).map(|row| (row.owner, row.rtype)));
            if let Some(hosted) = batch.domains.get_mut(name) {
                let changes = std::mem::take(&mut hosted.changes);
                hosted.changes = all.into_iter().map(|(owner, rtype)| (owner, rtype, true)).chain(changes).collect();
            }
        }
        batch.record(&Address::domain_authority(name), Action::DomainChanged, &[], None, true)?;
        self.commit(transaction, batch).await?;
        self.domain(name).await
    }

    /// Replaces the other records of a mail domain. Errors: [`certdir_zones::Error::Fragment`] with every fault of the text.
    pub async fn set_records(
        &self,
        name: &DomainName,
        text: &str,
        authority: &Authority,
        now: UnixTime,
    ) -> Result<DomainStatus, Error> {
        administer(authority, "change the records of domains")?;
        // Before the store is locked: a text may be long, and bad.
        given_text(text, name).await?;
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut batch = self.load(&mut transaction, BTreeSet::from([name.clone()]), authority.actor(), now).await?;
        if !batch.domains.contains_key(name) {
            return Err(Error::UnknownDomain(name.clone()));
        }
        if sqlite::zone::fragment(&mut transaction, batch_id(&batch, name)).await? == text {
            transaction.rollback().await?;
            return self.domain(name).await;
        }
        self.give(&mut transaction, &mut batch, name, text).await?;
        self.fit_in(&mut transaction, &mut batch, name).await?;
        batch.record(&Address::domain_authority(name), Action::DomainChanged, &[], None, true)?;
        self.commit(transaction, batch).await?;
        self.domain(name).await
    }

    /// The other records of a mail domain as they were given; empty where there are none.
    pub async fn records(&self, name: &DomainName) -> Result<String, Error> {
        let mut reader = self.database.readers.acquire().await?;
        let found = sqlite::domains(&mut reader, std::slice::from_ref(name)).await?;
        let row = found.first().ok_or_else(|| Error::UnknownDomain(name.clone()))?;
        sqlite::zone::fragment(&mut reader, row.id).await
    }

    /// Hosts a domain no longer: nothing of it is visible from now on. Its certificates count as withdrawn; history and log
    /// stay, and so does the zone's key, for the case that the domain comes back. Tokens are for it no longer; those that were
    /// for nothing else are revoked.
    pub async fn remove_domain(&self, name: &DomainName, authority: &Authority, now: UnixTime) -> Result<(), Error> {
        administer(authority, "remove domains")?;
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut batch = self.load(&mut transaction, BTreeSet::from([name.clone()]), authority.actor(), now).await?;
        let hosted = batch.domains.get_mut(name).ok_or_else(|| Error::UnknownDomain(name.clone()))?;
        // Its row changes, so that followers see that it is gone.
        hosted.dirty = true;
        let (id, apex) = (hosted.row.id, hosted.apex());
        batch.record(&Address::domain_authority(name), Action::DomainRemoved, &[], None, true)?;
        let revision = sqlite::signed(batch.revision + 1)?;
        sqlite::zone::remove(&mut transaction, id, now, revision).await?;
        sqlite::token::leave(&mut transaction, name, now).await?;
        for parent in self.above(&mut transaction, name, &apex).await? {
            self.load_domains(&mut transaction, &mut batch, BTreeSet::from([parent.clone()])).await?;
            self.fill(&mut transaction, &mut batch, &parent).await?;
        }
        self.commit(transaction, batch).await
    }

    /// Every hosted domain, in order; without [`DomainStatus::without_cert`] and [`DomainStatus::shared`],
    /// for which mailboxes have to be looked at.
    pub async fn domains(&self) -> Result<Vec<DomainStatus>, Error> {
        self.domains_for(&Authority::Operator).await
    }

    /// Those of them that somebody may read; the others cost nothing.
    pub async fn domains_for(&self, authority: &Authority) -> Result<Vec<DomainStatus>, Error> {
        let mut rows = sqlite::all_domains(&mut *self.database.readers.acquire().await?).await?;
        rows.retain(|row| authority.may_read(&row.name));
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            all.push(self.status(row, false).await?);
        }
        Ok(all)
    }

    /// A hosted domain.
    pub async fn domain(&self, name: &DomainName) -> Result<DomainStatus, Error> {
        let found = sqlite::domains(&mut *self.database.readers.acquire().await?, std::slice::from_ref(name)).await?;
        let row = found.into_iter().next().ok_or_else(|| Error::UnknownDomain(name.clone()))?;
        self.status(row, true).await
    }

    /// Puts a text in the place of the domain's other records.
    async fn give(
        &self,
        connection: &mut SqliteConnection,
        batch: &mut Batch,
        name: &DomainName,
        text: &str,
    ) -> Result<(), Error> {
        let Some(hosted) = batch.domains.get_mut(name) else { return Ok(()) };
        if hosted.row.settings.hosting != Hosting::Mail {
            return Err(Error::Setting(format!(
                "only {} is delegated to this directory: the other records of {name} stand where {name} is hosted (records are \
                 for --hosting mail)",
                hosted.apex()
            )));
        }
        hosted.dirty = true;
        sqlite::zone::set_fragment(connection, hosted.row.id, text).await
    }

    /// Brings the zone of a domain, and those that delegate it or are delegated by it, into line with each other.
    async fn fit_in(
        &self,
        connection: &mut SqliteConnection,
        batch: &mut Batch,
        name: &DomainName,
    ) -> Result<(), Error> {
        let apex = batch.domains.get(name).map(Hosted::apex).unwrap_or_else(|| name.name().clone());
        // Its own rows first: a zone above takes addresses of name servers from them.
        self.fill(connection, batch, name).await.map_err(|error| match error {
            Error::Zones(faults @ certdir_zones::Error::Fragment(_)) => Error::Records(faults),
            other => other,
        })?;
        for parent in self.above(connection, name, &apex).await? {
            self.load_domains(connection, batch, BTreeSet::from([parent.clone()])).await?;
            self.fill(connection, batch, &parent).await.map_err(|error| match error {
                Error::Zones(certdir_zones::Error::Fragment(faults)) => {
                    let lines: Vec<String> =
                        faults.iter().map(|fault| format!("line {}: {}", fault.line, fault.reason)).collect();
                    Error::Setting(format!(
                        "the records of {parent}, which is hosted here, stand in the way; see certdir domain records {parent}: {}",
                        lines.join("; ")
                    ))
                }
                other => other,
            })?;
        }
        Ok(())
    }

    /// The domains whose zones lie above one: the nearest delegates it.
    async fn above(
        &self,
        connection: &mut SqliteConnection,
        name: &DomainName,
        apex: &Name,
    ) -> Result<Vec<DomainName>, Error> {
        let all = sqlite::all_domains(connection).await?;
        let above =
            all.into_iter().filter(|row| row.name != *name && apex.is_at_or_below(&row.settings.apex(&row.name)));
        let mut above: Vec<DomainName> = above.map(|row| row.name).collect();
        // From the nearest; the one above it may have delegated this one until now.
        above.sort_by_key(|name| std::cmp::Reverse(name.name().as_wire().len()));
        above.truncate(2);
        Ok(above)
    }

    /// Computes what a zone holds beside apex and entries, and writes what differs.
    async fn fill(&self, connection: &mut SqliteConnection, batch: &mut Batch, name: &DomainName) -> Result<(), Error> {
        let (now, Some(hosted)) = (batch.now, batch.domains.get(name)) else { return Ok(()) };
        let (id, apex, settings) = (hosted.row.id, hosted.apex(), hosted.row.settings.clone());
        let children = self.children(connection, batch, name, &apex).await?;
        let text = sqlite::zone::fragment(connection, id).await?;
        let fragment = parsed(text, &apex).await?;
        let wanted = given::contents(name, &settings, &fragment, &children)?;
        let kept = sqlite::zone::rrsets(connection, id).await?;
        let before: BTreeSet<(Name, RecordType)> =
            kept.iter().filter(|row| row.counts()).map(|row| (row.owner.clone(), row.rtype)).collect();
        let blocks = Blocks::of(
            wanted
                .iter()
                .filter(|(_, (_, standing))| *standing != Standing::Glue)
                .map(|((owner, rtype), _)| (owner, *rtype)),
            &apex,
        );
        let Some(hosted) = batch.domains.get_mut(name) else { return Ok(()) };
        let rows = given::differences(wanted, kept, &hosted.key, &apex, now, id)?;
        hosted.dirty |= !rows.is_empty();
        for row in &rows {
            let at = (row.owner.clone(), row.rtype);
            if row.counts() != before.contains(&at) {
                hosted.changes.push((at.0, at.1, row.counts()));
            }
        }
        hosted.rrsets = rows;
        let old = std::mem::replace(&mut hosted.blocks, blocks.clone());
        if settings.hosting == Hosting::Mail && old != blocks {
            self.make_room(connection, batch, name, &old, &blocks).await?;
        }
        Ok(())
    }

    /// Takes CERT records away where they have no place any more, and puts those back that have one again.
    async fn make_room(
        &self,
        connection: &mut SqliteConnection,
        batch: &mut Batch,
        name: &DomainName,
        old: &Blocks,
        new: &Blocks,
    ) -> Result<(), Error> {
        let mut moved = BTreeSet::new();
        for (mailbox, spellings) in sqlite::zone::spelled(connection, batch_id(batch, name)).await? {
            let mailbox = Address::parse(&mailbox)?;
            let spellings = spellings.lines().map(Address::parse).collect::<Result<Vec<_>, _>>()?;
            let owners = records::possible_owners(Hosting::Mail, &mailbox, &spellings);
            if owners.iter().any(|(owner, _)| old.stops(owner).is_some() != new.stops(owner).is_some()) {
                moved.insert(mailbox);
            }
        }
        moved.retain(|mailbox| !batch.entries.contains_key(mailbox));
        self.load_entries(connection, batch, moved.clone()).await?;
        moved.iter().try_for_each(|mailbox| batch.make_anew(mailbox))
    }

    /// The zones hosted here that a zone has to delegate: those below it with no other hosted zone between.
    async fn children(
        &self,
        connection: &mut SqliteConnection,
        batch: &Batch,
        name: &DomainName,
        apex: &Name,
    ) -> Result<Vec<Child>, Error> {
        let all = sqlite::all_domains(connection).await?;
        let apexes: Vec<Name> = all.iter().map(|row| row.settings.apex(&row.name)).collect();
        let mut children = Vec::new();
        for (row, below) in all.iter().zip(&apexes) {
            let between = |other: &&Name| {
                *other != below && *other != apex && below.is_at_or_below(other) && other.is_at_or_below(apex)
            };
            if row.name == *name || !below.is_at_or_below(apex) || apexes.iter().any(|other| between(&other)) {
                continue;
            }
            // What this transaction makes of it counts, not what is stored.
            let loaded = batch.domains.get(&row.name);
            let (settings, key) = match loaded {
                Some(hosted) => (&hosted.row.settings, hosted.key.clone()),
                None => (&row.settings, self.key(row)?),
            };
            let servers = settings.server_names()?;
            let fragment = parsed(sqlite::zone::fragment(connection, row.id).await?, below).await?;
            let inside = |given: &&certdir_zones::Given| {
                [RecordType::A, RecordType::AAAA].contains(&given.rrset.rtype) && servers.contains(&given.owner)
            };
            let glue =
                fragment.given.iter().filter(inside).map(|given| (given.owner.clone(), given.rrset.clone())).collect();
            children.push(Child { apex: below.clone(), servers, ds: key.ds(below), glue });
        }
        Ok(children)
    }

    async fn status(&self, row: DomainRow, whole: bool) -> Result<DomainStatus, Error> {
        let apex = row.settings.apex(&row.name);
        // A lost key must not hide what else there is to know.
        let (ds, dnskey) = match self.key(&row) {
            Ok(key) => (
                master(|out| certdir_zones::write_ds(&apex, &key, out))?,
                master(|out| certdir_zones::write_dnskey(&apex, &key, out))?,
            ),
            Err(error) => (format!("; {error}"), format!("; {error}")),
        };
        let mut reader = self.database.readers.acquire().await?;
        let certificates = sqlite::reading::states(&mut reader, &row.name).await?;
        let mut ns: Vec<String> =
            row.settings.name_servers.iter().map(|server| format!("{apex} IN NS {server}")).collect();
        let (mut records, mut without_cert, mut shared) = (0, Vec::new(), Vec::new());
        if row.settings.hosting == Hosting::Mail {
            let fragment = parsed(sqlite::zone::fragment(&mut reader, row.id).await?, &apex).await?;
            records = fragment.given.iter().map(|given| given.rrset.rdata().len()).sum();
            let servers = row.settings.server_names()?;
            let glue =
                Fragment { given: fragment.given.into_iter().filter(|given| servers.contains(&given.owner)).collect() };
            ns.extend(glue.to_text().lines().filter(|line| line.contains(" IN A")).map(str::to_string));
            if whole {
                without_cert = collisions::without_cert(&mut reader, &row).await?;
                shared = collisions::shared(&mut reader, &row).await?;
            }
        }
        Ok(DomainStatus {
            name: row.name.to_string(),
            apex: apex.to_string(),
            ns,
            ds,
            dnskey,
            settings: row.settings,
            serial: row.serial,
            added_at: row.added_at,
            certificates,
            records,
            without_cert,
            shared,
        })
    }
}

fn batch_id(batch: &Batch, name: &DomainName) -> i64 {
    batch.domains.get(name).map_or(0, |hosted| hosted.row.id)
}

/// Reads a text that may take a while, beside the threads that answer.
async fn parsed(text: String, apex: &Name) -> Result<Fragment, Error> {
    let apex = apex.clone();
    let read = tokio::task::spawn_blocking(move || Fragment::parse(&text, &apex)).await;
    Ok(read.map_err(|_| Error::Corrupt("reading the records of a domain broke off".into()))??)
}

/// Whether a text that somebody gave can be read.
async fn given_text(text: &str, name: &DomainName) -> Result<(), Error> {
    parsed(text.to_string(), name.name()).await.map(drop).map_err(|error| match error {
        Error::Zones(faults @ certdir_zones::Error::Fragment(_)) => Error::Records(faults),
        other => other,
    })
}

/// A record in master-file form, without the line's end.
fn master(write: impl Fn(&mut dyn Write) -> Result<(), certdir_zones::Error>) -> Result<String, Error> {
    let mut out = Vec::new();
    write(&mut out)?;
    Ok(String::from_utf8_lossy(&out).trim_end().to_string())
}
