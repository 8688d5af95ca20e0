//! [`Store`]: everything that changes the directory. One transaction for each acknowledged batch: check, write, sign,
//! append to the log, commit, wake the followers. Whatever fails before the commit leaves the world as it was.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use certdir_certificate::UnixTime;
use certdir_zones::{Address, DomainName, Name, RecordType, Usage, ZoneKey};
use data_encoding::HEXLOWER;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::watch;

use crate::authority::{self, Authority, Role, TokenRow};
use crate::batch::{Batch, Hosted, Loaded, item, refused};
use crate::chain::{self, Change, Signing, Weave};
use crate::collisions;
use crate::domain::{Denial, Hosting};
use crate::error::Error;
use crate::given::Blocks;
use crate::intake::{Candidate, PublishOptions, Submission};
use crate::keys;
use crate::log::Publication;
use crate::published::Version;
use crate::report::{Item, Refusal, Report};
use crate::rows::{DomainRow, EntryRow};
use crate::search::{Hashed, Sha1};
use crate::shown::{HistoryRow, ListFilter, Shown, ShownRecord};
use crate::sqlite::{self, Sqlite3};

/// Everything that changes the directory. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) data: Arc<PathBuf>,
    pub(crate) database: Sqlite3,
    /// The revision of this process's newest commit; wakes followers without a poll.
    committed: Arc<watch::Sender<u64>>,
    pub(crate) keys: Arc<Mutex<HashMap<Name, Arc<ZoneKey>>>>,
    /// Device and inode of the database as it was opened.
    opened: Arc<(u64, u64)>,
}

/// What to take back.
#[derive(Debug, Clone)]
pub enum WithdrawTarget {
    /// All that is current or staged of a mailbox.
    Mailbox(Address),
    /// One certificate, of every mailbox, by its SHA-256.
    Certificate([u8; 32]),
}

/// The most mailboxes in one transaction: it holds the write lock for about a second.
const MAX_MAILBOXES: usize = 5_000;
/// The longest reason for a withdrawal and name of a token, in octets.
const MAX_NOTE: usize = 500;
/// The database's file in the data folder.
const FILE: &str = "certdir.db";

impl Store {
    /// Opens the store of a data folder; makes both where they are missing.
    pub async fn open(data: &Path) -> Result<Store, Error> {
        keys::private_folder(data)?;
        let path = data.join(FILE);
        let database = Sqlite3::open(&path).await?;
        let opened = std::fs::metadata(&path).map_err(|source| Error::file(&path, source))?;
        Ok(Store {
            data: Arc::new(data.to_path_buf()),
            database,
            committed: Arc::new(watch::Sender::new(0)),
            keys: Arc::default(),
            opened: Arc::new((opened.dev(), opened.ino())),
        })
    }

    /// Whether a data folder has a store.
    pub fn exists(data: &Path) -> Result<bool, Error> {
        // A folder of another user is not an empty one.
        data.join(FILE).try_exists().map_err(|source| Error::file(data, source))
    }

    /// Publishes a batch in one transaction. Certificates that cannot be taken are refused one by one in the report; an
    /// error means that nothing at all was taken.
    pub async fn publish(
        &self,
        submissions: Vec<Submission>,
        options: PublishOptions,
        authority: &Authority,
        now: UnixTime,
    ) -> Result<Report, Error> {
        let given = !options.addresses.is_empty() || options.domain_certificate.is_some();
        if given && submissions.len() > 1 {
            // Else the last certificate of a folder would become everybody's.
            return Err(Error::Setting(
                "an alias or a domain is given to one certificate at a time: publish that one alone".into(),
            ));
        }
        let read: Vec<_> = submissions.into_iter().map(|s| (Candidate::read(&s.der), s.origin)).collect();
        let candidates = || read.iter().filter_map(|(candidate, _)| candidate.as_ref().ok());
        let domains: BTreeSet<DomainName> =
            candidates().flat_map(|candidate| candidate.domains(&options)).cloned().collect();
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut batch = self.load(&mut transaction, domains, authority.actor(), now).await?;
        let hosted = |domain: &DomainName| batch.domains.contains_key(domain);
        let mut room = MAX_MAILBOXES;
        let claims: Vec<_> = read
            .iter()
            .map(|(candidate, _)| {
                let candidate = candidate.as_ref().map_err(Clone::clone)?;
                let claims = candidate.claims(&options, &hosted, authority, now)?;
                let Some(left) = room.checked_sub(claims.mailboxes.len()) else {
                    let message = format!("a batch has room for {MAX_MAILBOXES} mailboxes; publish it in another one");
                    return Err(Refusal::new("batch-full", message));
                };
                room = left;
                Ok(claims)
            })
            .collect();
        let mailboxes: BTreeSet<Address> =
            claims.iter().flatten().flat_map(|claims| claims.mailboxes.keys()).cloned().collect();
        self.load_entries(&mut transaction, &mut batch, mailboxes).await?;
        self.load_aliases(&mut transaction, &mut batch).await?;
        let digests: Vec<[u8; 32]> = candidates().map(|candidate| *candidate.certificate.sha256()).collect();
        batch.certificates = sqlite::certificates(&mut transaction, &digests).await?;
        let may_publish = |domain: &DomainName| authority.may_publish(domain);
        let mut items = Vec::with_capacity(read.len());
        for ((candidate, origin), claims) in read.iter().zip(claims) {
            items.push(match (candidate, claims) {
                (Ok(candidate), Ok(claims)) => {
                    batch.publish(origin, candidate, claims, options.restore, &may_publish)?
                }
                (Ok(candidate), Err(refusal)) => refused(item(origin, &candidate.certificate), &refusal),
                (Err(refusal), _) => Item::refused(origin.clone(), refusal.code, refusal.message.clone()),
            });
        }
        collisions::warn(&mut transaction, &batch, &mut items).await?;
        let version = batch.version;
        if options.dry_run {
            transaction.rollback().await?;
        } else {
            self.commit(transaction, batch).await?;
        }
        Ok(Report { version, dry_run: options.dry_run, items })
    }

    /// Takes certificates back.
    pub async fn withdraw(
        &self,
        target: WithdrawTarget,
        reason: Option<String>,
        authority: &Authority,
        now: UnixTime,
    ) -> Result<Report, Error> {
        let reason = reason.as_deref().map(|text| note(text, "a reason")).transpose()?;
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let (mailboxes, only, called) = match &target {
            WithdrawTarget::Mailbox(address) => (vec![address.lower_case()], None, address.to_string()),
            WithdrawTarget::Certificate(sha256) => {
                (sqlite::mailboxes_of(&mut transaction, sha256).await?, Some(sha256), HEXLOWER.encode(sha256))
            }
        };
        let (allowed, denied): (Vec<Address>, Vec<Address>) =
            mailboxes.into_iter().partition(|mailbox| authority.may_publish(mailbox.domain()));
        // Nobody learns by a digest what another domain holds.
        if let (true, None, Some(mailbox)) = (allowed.is_empty(), only, denied.first()) {
            return Err(Error::Forbidden(format!("withdraw in {}", mailbox.domain())));
        }
        let domains = allowed.iter().map(|mailbox| mailbox.domain().clone()).collect();
        let mut batch = self.load(&mut transaction, domains, authority.actor(), now).await?;
        self.load_entries(&mut transaction, &mut batch, allowed.iter().cloned().collect()).await?;
        self.load_aliases(&mut transaction, &mut batch).await?;
        let mut items = Vec::new();
        for mailbox in &allowed {
            items.extend(batch.withdraw(mailbox, only, reason.as_deref())?);
        }
        for item in &mut items {
            let elsewhere = batch.still_shown(item.sha256.as_deref().unwrap_or_default());
            if !elsewhere.is_empty() {
                item.warnings.push(format!(
                    "it is still published for {}; to take it back everywhere: certdir withdraw {}",
                    elsewhere.join(", "),
                    item.sha256.as_deref().unwrap_or_default()
                ));
            }
        }
        if items.is_empty() {
            let hint = match &target {
                WithdrawTarget::Mailbox(_) => format!("see: certdir history {called}"),
                WithdrawTarget::Certificate(_) => "see: certdir list".into(),
            };
            return Err(Error::NotFound(format!("{called} has nothing here that could be withdrawn; {hint}")));
        }
        let version = batch.version;
        self.commit(transaction, batch).await?;
        Ok(Report { version, dry_run: false, items })
    }

    /// Every certificate a mailbox ever had, newest first.
    pub async fn history(&self, mailbox: &Address, authority: &Authority) -> Result<Vec<HistoryRow>, Error> {
        if !authority.may_read(mailbox.domain()) {
            return Err(Error::Forbidden(format!("read the history of {}", mailbox.domain())));
        }
        sqlite::reading::history(&mut *self.database.readers.acquire().await?, &mailbox.lower_case()).await
    }

    /// What the views serve for a mailbox.
    pub async fn show(&self, mailbox: &Address) -> Result<Shown, Error> {
        let mut reader = self.database.readers.acquire().await?;
        let mailbox = mailbox.lower_case();
        if sqlite::domains(&mut reader, std::slice::from_ref(mailbox.domain())).await?.is_empty() {
            return Err(Error::UnknownDomain(mailbox.domain().clone()));
        }
        let authority = Address::domain_authority(mailbox.domain());
        let now_or_later =
            |row: &&EntryRow| row.bindings.iter().any(|b| b.visible && b.certificate.usage == Usage::DaneEe);
        let rows = sqlite::entries(&mut reader, &[mailbox.clone(), authority.clone()]).await?;
        let own = rows.iter().find(|row| row.address == mailbox);
        let domain = rows.iter().find(|row| row.address == authority && row.address != mailbox);
        let domain = domain.filter(now_or_later);
        let records = |row: Option<&EntryRow>| {
            row.map(|row| row.records.iter().map(ShownRecord::of).collect()).unwrap_or_default()
        };
        let mut certificates = sqlite::reading::history(&mut reader, &mailbox).await?;
        certificates.retain(|row| row.visible);
        Ok(Shown {
            address: mailbox.to_string(),
            version: own.map_or(0, |row| row.version),
            certificates,
            records: records(own),
            domain_records: records(domain),
        })
    }

    /// The certificates that a filter lets through, at most `limit`, by domain and address.
    pub async fn list(&self, filter: &ListFilter, limit: u32) -> Result<Vec<HistoryRow>, Error> {
        let mut reader = self.database.readers.acquire().await?;
        if let Some(domain) = &filter.domain
            && sqlite::domains(&mut reader, std::slice::from_ref(domain)).await?.is_empty()
        {
            return Err(Error::UnknownDomain(domain.clone()));
        }
        sqlite::reading::list(&mut reader, filter, limit).await
    }

    /// The log after a Version, oldest first, at most `limit` rows.
    pub async fn publications_since(&self, since: Version, limit: u32) -> Result<Vec<Publication>, Error> {
        sqlite::reading::publications(&mut *self.database.readers.acquire().await?, since, limit).await
    }

    /// The SHA-256 digests of the certificates that are shown and have a hash (RFC 4387); none when there are more than can be
    /// looked at. The published set decides which of them are visible.
    pub async fn find_by_hash(&self, hashed: Hashed, hash: &Sha1) -> Result<Option<Vec<[u8; 32]>>, Error> {
        sqlite::search::find(&mut *self.database.readers.acquire().await?, hashed.key(hash)).await
    }

    /// Makes a token. The text is shown this once; only a hash is kept.
    pub async fn add_token(
        &self,
        name: &str,
        role: Role,
        domains: &[DomainName],
        authority: &Authority,
        now: UnixTime,
    ) -> Result<(TokenRow, String), Error> {
        administer(authority, "make tokens")?;
        let name = note(name, "a token's name")?;
        if role != Role::Admin && domains.is_empty() {
            return Err(Error::Setting(format!("a {} token needs the domains it is for (--domain)", role.as_str())));
        }
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let known = sqlite::domains(&mut transaction, domains).await?;
        if let Some(missing) = domains.iter().find(|domain| !known.iter().any(|row| row.name == **domain)) {
            return Err(Error::UnknownDomain(missing.clone()));
        }
        let (id, text, hash) = authority::generate()?;
        let row = TokenRow {
            id,
            name,
            role,
            domains: domains.iter().map(ToString::to_string).collect(),
            added_at: now,
            revoked_at: None,
        };
        sqlite::token::insert(&mut transaction, &row, &hash).await?;
        transaction.commit().await?;
        Ok((row, text))
    }

    /// Every token there ever was, without its secret.
    pub async fn tokens(&self, authority: &Authority) -> Result<Vec<TokenRow>, Error> {
        administer(authority, "list tokens")?;
        sqlite::token::all(&mut *self.database.readers.acquire().await?).await
    }

    /// Revokes a token by its public part.
    pub async fn revoke_token(&self, id: &str, authority: &Authority, now: UnixTime) -> Result<(), Error> {
        administer(authority, "revoke tokens")?;
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        if !sqlite::token::revoke(&mut transaction, id, now).await? {
            return Err(Error::NotFound(format!("{} is no valid token; see: certdir token list", id.escape_debug())));
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Who bears a token. A wrong, unknown and revoked one are told apart by nobody.
    pub async fn authenticate(&self, token: &str) -> Result<Authority, Error> {
        let (id, hash) = authority::split(token).ok_or(Error::BadToken)?;
        let found = sqlite::token::find(&mut *self.database.readers.acquire().await?, id).await?;
        // Compared even when there is none, so that the time taken tells nothing.
        let (kept, role, domains) = found.unwrap_or_else(|| (vec![0; 32], Role::Reader, Vec::new()));
        if !authority::same(&hash, &kept) {
            return Err(Error::BadToken);
        }
        Ok(Authority::Token { id: id.to_string(), role, domains })
    }

    /// Whether the database is still the file of the data folder: what is written into one that was deleted or replaced is
    /// lost, and what others write is not seen.
    pub(crate) fn in_place(&self) -> Result<(), Error> {
        let path = self.data.join(FILE);
        let found = std::fs::metadata(&path).map_err(|source| Error::file(&path, source))?;
        if (found.dev(), found.ino()) == *self.opened {
            Ok(())
        } else {
            Err(Error::Replaced(path.display().to_string()))
        }
    }

    /// A receiver of this process's commits, by revision.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// The key of a zone that is hosted: the one that its DNSKEY record shows, and no other.
    pub(crate) fn key(&self, row: &DomainRow) -> Result<Arc<ZoneKey>, Error> {
        let apex = &row.settings.apex(&row.name);
        let dnskey = row.apex.iter().find(|signed| signed.rrset.rtype == RecordType::DNSKEY);
        let shown = |key: &ZoneKey| dnskey.is_some_and(|signed| signed.rrset.rdata().contains(&key.dnskey()));
        // A poisoned lock only means that another thread died while looking; the map stays usable.
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is not shown is of a former life: the domain was removed and came back with another.
        if let Some(key) = known.get(apex).filter(|key| shown(key)) {
            return Ok(key.clone());
        }
        let key = Arc::new(keys::load_existing(&self.data, apex)?);
        if !shown(&key) {
            let reason = "its file holds another key than the zone is signed with".into();
            return Err(Error::ZoneKey { apex: apex.to_string(), reason });
        }
        known.insert(apex.clone(), key.clone());
        Ok(key)
    }

    pub(crate) async fn load(
        &self,
        connection: &mut SqliteConnection,
        domains: BTreeSet<DomainName>,
        actor: String,
        now: UnixTime,
    ) -> Result<Batch, Error> {
        let meta = sqlite::meta(connection).await?;
        let mut batch = Batch {
            now,
            actor,
            version: meta.version,
            revision: meta.revision,
            next_id: meta.next_id,
            domains: Default::default(),
            entries: HashMap::new(),
            certificates: HashMap::new(),
            new_certificates: Vec::new(),
            publications: Vec::new(),
        };
        self.load_domains(connection, &mut batch, domains).await?;
        Ok(batch)
    }

    pub(crate) async fn load_domains(
        &self,
        connection: &mut SqliteConnection,
        batch: &mut Batch,
        domains: BTreeSet<DomainName>,
    ) -> Result<(), Error> {
        let names: Vec<DomainName> = domains.into_iter().filter(|name| !batch.domains.contains_key(name)).collect();
        for row in sqlite::domains(connection, &names).await? {
            let key = self.key(&row)?;
            let blocks = match row.settings.hosting {
                Hosting::Mail => sqlite::zone::blocks(connection, row.id, row.name.name()).await?,
                Hosting::Smimecert => Blocks::default(),
            };
            batch.domains.insert(row.name.clone(), Hosted::new(row, key, blocks));
        }
        Ok(())
    }

    pub(crate) async fn load_entries(
        &self,
        connection: &mut SqliteConnection,
        batch: &mut Batch,
        mailboxes: BTreeSet<Address>,
    ) -> Result<(), Error> {
        let mailboxes: Vec<Address> = mailboxes.into_iter().collect();
        for row in sqlite::entries(connection, &mailboxes).await? {
            batch.entries.insert(row.address.clone(), Loaded::new(row));
        }
        Ok(())
    }

    /// Loads the aliases that may have to follow a reissue, and their domains.
    async fn load_aliases(&self, connection: &mut SqliteConnection, batch: &mut Batch) -> Result<(), Error> {
        let bindings = batch.entries.values().flat_map(|loaded| loaded.row.bindings.iter());
        let shown: Vec<i64> = bindings.filter(|b| b.visible).map(|b| b.certificate.id).collect();
        let mut aliases: BTreeSet<Address> = sqlite::aliases(connection, &shown).await?.into_iter().collect();
        aliases.retain(|alias| !batch.entries.contains_key(alias));
        let domains = aliases.iter().map(|alias| alias.domain().clone()).collect();
        self.load_domains(connection, batch, domains).await?;
        self.load_entries(connection, batch, aliases).await
    }

    pub(crate) async fn commit(
        &self,
        mut transaction: sqlx::Transaction<'_, sqlx::Sqlite>,
        mut batch: Batch,
    ) -> Result<(), Error> {
        weave(&mut transaction, &mut batch).await?;
        batch.finish()?;
        let changed = !batch.publications.is_empty()
            || batch.entries.values().any(|loaded| loaded.dirty)
            || batch.domains.values().any(|hosted| hosted.dirty);
        if !changed {
            return Ok(transaction.rollback().await?);
        }
        let revision = batch.revision + 1;
        sqlite::save(&mut transaction, &batch, revision).await?;
        self.in_place()?;
        transaction.commit().await?;
        self.committed.send_replace(revision);
        Ok(())
    }
}

/// Brings the chains of the batch's zones up to date.
async fn weave(connection: &mut SqliteConnection, batch: &mut Batch) -> Result<(), Error> {
    let now = batch.now;
    let mut changes: HashMap<DomainName, Vec<Change>> = HashMap::new();
    for loaded in batch.entries.values().filter(|loaded| loaded.dirty) {
        let domain = loaded.row.address.domain();
        if batch.domains.get(domain).is_some_and(|hosted| hosted.row.settings.denial == Denial::Chain) {
            changes.entry(domain.clone()).or_default().extend(loaded.changes());
        }
    }
    for (name, hosted) in batch.domains.iter_mut().filter(|(_, hosted)| hosted.row.settings.denial == Denial::Chain) {
        let mut changes = changes.remove(name).unwrap_or_default();
        changes.append(&mut hosted.changes);
        if changes.is_empty() {
            continue;
        }
        let apex = hosted.apex();
        let rows = sqlite::zone::links(connection, hosted.row.id, &chain::touched(&apex, &changes)).await?;
        let weave = Weave::new(&apex, &changes, rows);
        let ahead = sqlite::zone::links_before(connection, hosted.row.id, &weave.moved()).await?;
        let ttl = hosted.row.settings.denial_ttl();
        let links = weave.links(ahead, &Signing { apex: &apex, key: &hosted.key, ttl, now })?;
        // A link that is renewed by upkeep in the same transaction is not written twice.
        hosted.links.retain(|link| !links.iter().any(|other| other.hash == link.hash));
        hosted.links.extend(links);
        hosted.dirty = true;
    }
    Ok(())
}

pub(crate) fn administer(authority: &Authority, what: &str) -> Result<(), Error> {
    if authority.may_administer() { Ok(()) } else { Err(Error::Forbidden(what.into())) }
}

/// A short text for people, on one line.
fn note(text: &str, what: &str) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_NOTE || text.chars().any(char::is_control) {
        return Err(Error::Setting(format!("{what} is one line of 1 to {MAX_NOTE} octets")));
    }
    Ok(text.to_string())
}
