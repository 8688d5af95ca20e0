//! What people are told of the names of CERT records in a mail domain: where one has no place, and where it shares its name with
//! records that the domain's owner gave (RFC 4398 section 3.1 puts mailboxes beside hosts).

use std::collections::BTreeMap;

use certdir_zones::{Address, DomainName, Error as ZonesError, Name, RecordType, cert_owner, cert_owners};
use sqlx::sqlite::SqliteConnection;

use crate::batch::Batch;
use crate::domain::Hosting;
use crate::error::Error;
use crate::records;
use crate::report::{Item, Outcome};
use crate::rows::DomainRow;
use crate::sqlite;

/// The most lines of a kind that a status has; the rest is counted.
const MAX_LINES: usize = 100;

/// Names where a CERT record would stand if something else did not, and mailboxes whose local part makes no name: each with the
/// reason.
pub(crate) async fn without_cert(connection: &mut SqliteConnection, row: &DomainRow) -> Result<Vec<String>, Error> {
    let mut lines = Lines::default();
    let blocks = sqlite::zone::blocks(connection, row.id, row.name.name()).await?;
    if !blocks.is_empty() {
        for (mailbox, spellings) in sqlite::zone::spelled(connection, row.id).await? {
            let (mailbox, spellings) = read(&row.name, &mailbox, &spellings)?;
            for (owner, _) in records::owners(row.settings.hosting, row.settings.lower_case, &mailbox, &spellings) {
                if let Some(reason) = blocks.stops(&owner) {
                    lines.push(|| format!("no CERT record at {owner} for {mailbox}: {reason}"));
                }
            }
        }
    }
    for (mailbox, spellings) in sqlite::zone::nameless(connection, row.id, &row.name).await? {
        let (mailbox, spellings) = read(&row.name, &mailbox, &spellings)?;
        let own = std::slice::from_ref(&mailbox);
        let spellings = if spellings.is_empty() { own } else { &spellings };
        for line in spellings.iter().filter_map(no_owner) {
            lines.push(|| line);
        }
    }
    Ok(lines.end())
}

/// That an address has no CERT record at all, because its local part makes no name.
pub(crate) fn no_owner(address: &Address) -> Option<String> {
    match cert_owner(address) {
        Err(ZonesError::CertOwner { reason, .. }) if cert_owners(address).is_empty() => {
            Some(format!("{address} has an SMIMEA record and no CERT record: {reason}"))
        }
        _ => None,
    }
}

/// CERT records of a domain that stand beside other records. From the side of those records: they are few, mailboxes are many.
pub(crate) async fn shared(connection: &mut SqliteConnection, row: &DomainRow) -> Result<Vec<String>, Error> {
    let mut types: BTreeMap<Name, Vec<RecordType>> = BTreeMap::new();
    for (owner, rtype) in sqlite::zone::given(connection, row.id).await? {
        types.entry(owner).or_default().push(rtype);
    }
    let mut mailboxes: Vec<String> = types.keys().filter_map(|owner| mailbox_at(owner, &row.name)).collect();
    mailboxes.sort();
    mailboxes.dedup();
    let mut lines = Lines::default();
    for (mailbox, owner) in sqlite::zone::certs_of(connection, &mailboxes).await? {
        if let Some(types) = types.get(&owner) {
            lines.push(|| shares(&owner, &mailbox, types));
        }
    }
    Ok(lines.end())
}

/// Tells the publisher where a CERT record that was made stands beside other records.
pub(crate) async fn warn(connection: &mut SqliteConnection, batch: &Batch, items: &mut [Item]) -> Result<(), Error> {
    let mail: Vec<_> = batch.domains.values().filter(|one| one.row.settings.hosting == Hosting::Mail).collect();
    for hosted in mail {
        let mut owners: Vec<(usize, String, Name)> = Vec::new();
        for (position, item) in items.iter().enumerate().filter(|(_, item)| item.outcome == Outcome::Published) {
            for text in &item.addresses {
                let address = Address::parse(text)?;
                let Some(loaded) = batch.entries.get(&address.lower_case()) else { continue };
                // A domain's own certificate stands at the apex, which always has other records.
                if address.domain() != &hosted.row.name || address.is_domain_authority() {
                    continue;
                }
                let certs = loaded.row.names().filter(|(_, rtype)| *rtype == RecordType::CERT);
                owners.extend(certs.map(|(owner, _)| (position, loaded.row.address.to_string(), owner)));
            }
        }
        owners.sort();
        owners.dedup();
        let names: Vec<&Name> = owners.iter().map(|(_, _, owner)| owner).collect();
        let given = sqlite::zone::given_at(connection, hosted.row.id, &names).await?;
        for (position, mailbox, owner) in owners {
            if let (Some(types), Some(item)) = (given.get(&owner), items.get_mut(position)) {
                item.warnings.push(shares(&owner, &mailbox, types));
            }
        }
    }
    Ok(())
}

fn shares(owner: &Name, mailbox: &str, types: &[RecordType]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    format!(
        "{owner} is also a name of the domain's other records ({}): it has them and the CERT record of {mailbox}, and DNS \
         answers with both",
        types.join(", ")
    )
}

/// The mailbox that may have a CERT record at a name of its domain: with dots as one label or as several.
fn mailbox_at(owner: &Name, domain: &DomainName) -> Option<String> {
    let labels = owner.label_count().checked_sub(domain.name().label_count())?;
    let local = owner.labels().take(labels).collect::<Vec<_>>().join(&b'.');
    let local = String::from_utf8(local).ok()?.replace('\\', r"\\").replace('"', "\\\"");
    Some(Address::parse(&format!("\"{local}\"@{domain}")).ok()?.lower_case().to_string())
}

/// A mailbox and its spellings, one a line.
fn read(domain: &DomainName, mailbox: &str, spellings: &str) -> Result<(Address, Vec<Address>), Error> {
    let spellings = spellings.lines().map(|line| Address::parse_within(domain, line)).collect::<Result<Vec<_>, _>>()?;
    Ok((Address::parse_within(domain, mailbox)?, spellings))
}

/// Lines for people, as many as somebody reads.
#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    more: usize,
}

impl Lines {
    fn push(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line());
        } else {
            self.more += 1;
        }
    }

    fn end(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more like these", self.more));
        }
        self.lines
    }
}
