//! What a zone holds beside its apex and its entries: the records its owner gave, delegations of zones that are hosted here,
//! too, the LDAP server, the parameters of its chain. Pure: which RRsets follow from settings, fragment and neighbours.

use std::collections::{BTreeMap, BTreeSet};

use certdir_certificate::UnixTime;
use certdir_zones::denial;
use certdir_zones::rdata::{ns, srv};
use certdir_zones::{DomainName, Fault, Fragment, Name, Rdata, RecordType, Rrset, SignedRrset, Standing, ZoneKey};

use crate::domain::{Announced, Denial, Settings};
use crate::error::Error;
use crate::records::{APEX_TTL, Term};

/// An RRset of a zone as the store keeps it.
#[derive(Clone, Debug)]
pub(crate) struct ZoneRow {
    pub(crate) owner: Name,
    pub(crate) rtype: RecordType,
    pub(crate) standing: Standing,
    /// None when it is gone.
    pub(crate) signed: Option<SignedRrset>,
    pub(crate) inception: Option<UnixTime>,
    pub(crate) refresh_at: Option<UnixTime>,
}

/// A zone hosted here that the one at hand has to delegate.
pub(crate) struct Child {
    pub(crate) apex: Name,
    pub(crate) servers: Vec<Name>,
    pub(crate) ds: Rdata,
    /// Addresses of its name servers that lie in it.
    pub(crate) glue: Vec<(Name, Rrset)>,
}

/// RRsets by owner and type.
pub(crate) type Contents = BTreeMap<(Name, RecordType), (Rrset, Standing)>;

/// What a zone is to hold. Errors: [`certdir_zones::Error::Fragment`] where a given record stands in the way of what the
/// directory makes; a name server in the zone that has no address.
pub(crate) fn contents(
    domain: &DomainName,
    settings: &Settings,
    fragment: &Fragment,
    children: &[Child],
) -> Result<Contents, Error> {
    let apex = settings.apex(domain);
    let mut faults = Vec::new();
    let mut all: Contents = BTreeMap::new();
    let blocks = Blocks::of(fragment.given.iter().map(|given| (&given.owner, given.rrset.rtype)), &apex);
    for child in children {
        if blocks.cuts.iter().any(|cut| *cut != child.apex && child.apex.is_at_or_below(cut)) {
            // A zone elsewhere lies between: delegating the child is its duty.
            continue;
        }
        delegate(child, &mut all)?;
        let in_the_way = fragment.given.iter().filter(|given| given.owner.is_at_or_below(&child.apex));
        faults.extend(in_the_way.map(|given| Fault {
            line: given.line,
            reason: format!(
                "{} {} lies in the zone {}, which is hosted here by itself: leave it out, or give it there",
                given.owner, given.rrset.rtype, child.apex
            ),
        }));
        let above = |given: &&certdir_zones::Given| {
            given.rrset.rtype == RecordType::DNAME && child.apex.is_at_or_below(&given.owner)
        };
        faults.extend(fragment.given.iter().filter(above).map(|given| Fault {
            line: given.line,
            reason: format!("the DNAME at {} hides the zone {}, which is hosted here", given.owner, child.apex),
        }));
    }
    let announced = settings.announced(domain)?;
    for Announced { owner, host, port, what, .. } in &announced {
        let clashes = |given: &&certdir_zones::Given| {
            let alias = [RecordType::CNAME, RecordType::SRV].contains(&given.rrset.rtype) && given.owner == *owner;
            let hides = [RecordType::NS, RecordType::DNAME].contains(&given.rrset.rtype);
            alias || (hides && owner.is_at_or_below(&given.owner))
        };
        faults.extend(fragment.given.iter().filter(clashes).map(|given| Fault {
            line: given.line,
            reason: format!("it clashes with the record for the {what} ({owner} SRV), which is a setting"),
        }));
        // RFC 2782: one server, so priority and weight say nothing.
        let rrset = Rrset::new(RecordType::SRV, APEX_TTL, vec![srv(0, 0, *port, host)])?;
        all.insert((owner.clone(), RecordType::SRV), (rrset, Standing::Data));
    }
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.line);
        return Err(certdir_zones::Error::Fragment(faults).into());
    }
    if settings.denial == Denial::Chain {
        let rrset = Rrset::new(RecordType::NSEC3PARAM, APEX_TTL, vec![denial::nsec3param()])?;
        all.insert((apex.clone(), RecordType::NSEC3PARAM), (rrset, Standing::Data));
    }
    for server in settings.server_names()? {
        if server.is_at_or_below(&apex) && !fragment.has_address(&server) {
            return Err(Error::Setting(format!(
                "the name server {server} lies in the zone {apex} itself: give its address (A or AAAA) with the zone's records, \
                 or another --name-server"
            )));
        }
    }
    for Announced { host, what, flag, .. } in &announced {
        let elsewhere = blocks.cuts.iter().chain(children.iter().map(|child| &child.apex));
        let delegated = elsewhere.clone().any(|cut| host.is_at_or_below(cut));
        // RFC 2782: the target has address records, and is no alias.
        if host.is_at_or_below(&apex) && !delegated && !fragment.has_address(host) {
            return Err(Error::Setting(format!(
                "the {what} {host} lies in the zone {apex} itself: give its address (A or AAAA) with the zone's records, or \
                 another {flag}"
            )));
        }
    }
    for given in &fragment.given {
        all.insert((given.owner.clone(), given.rrset.rtype), (given.rrset.clone(), given.standing));
    }
    Ok(all)
}

fn delegate(child: &Child, all: &mut Contents) -> Result<(), Error> {
    let servers = Rrset::new(RecordType::NS, APEX_TTL, child.servers.iter().map(ns).collect())?;
    all.insert((child.apex.clone(), RecordType::NS), (servers, Standing::Cut));
    let ds = Rrset::new(RecordType::DS, APEX_TTL, vec![child.ds.clone()])?;
    all.insert((child.apex.clone(), RecordType::DS), (ds, Standing::Data));
    for (owner, rrset) in &child.glue {
        all.insert((owner.clone(), rrset.rtype), (rrset.clone(), Standing::Glue));
    }
    Ok(())
}

/// Puts wanted RRsets beside those that are kept: the rows to write, those that are gone included.
pub(crate) fn differences(
    wanted: Contents,
    kept: Vec<ZoneRow>,
    key: &ZoneKey,
    apex: &Name,
    now: UnixTime,
    spread: i64,
) -> Result<Vec<ZoneRow>, Error> {
    let mut rows = Vec::new();
    let kept: BTreeMap<(Name, RecordType), ZoneRow> =
        kept.into_iter().map(|row| ((row.owner.clone(), row.rtype), row)).collect();
    for (position, ((owner, rtype), (rrset, standing))) in (0..).zip(&wanted) {
        let same = |row: &ZoneRow| {
            row.standing == *standing && row.signed.as_ref().is_some_and(|signed| signed.rrset == *rrset)
        };
        if kept.get(&(owner.clone(), *rtype)).is_some_and(same) {
            continue;
        }
        let mut row = ZoneRow {
            owner: owner.clone(),
            rtype: *rtype,
            standing: *standing,
            signed: Some(SignedRrset { rrset: rrset.clone(), rrsig: [].as_slice().into() }),
            inception: None,
            refresh_at: None,
        };
        row.sign(key, apex, now, spread.wrapping_add(position))?;
        rows.push(row);
    }
    for (at, row) in kept {
        if !wanted.contains_key(&at) {
            rows.push(ZoneRow { signed: None, inception: None, refresh_at: None, ..row });
        }
    }
    Ok(rows)
}

impl ZoneRow {
    /// Signs the RRset anew, where it is signed at all (RFC 4035 section 2.2).
    pub(crate) fn sign(&mut self, key: &ZoneKey, apex: &Name, now: UnixTime, spread: i64) -> Result<(), Error> {
        let (Some(signed), Standing::Data) = (&self.signed, self.standing) else { return Ok(()) };
        let term = Term::new(now, None, spread);
        self.signed = Some(key.sign(apex, &self.owner, &signed.rrset, term.inception, term.expiration)?);
        self.inception = Some(term.begins_at);
        self.refresh_at = term.refresh_at;
        Ok(())
    }

    /// Whether it gives its owner a place in the chain.
    pub(crate) fn counts(&self) -> bool {
        self.signed.is_some() && self.standing != Standing::Glue
    }
}

/// Names of a zone that leave no room for a CERT record: aliases, delegations and what lies below them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    aliases: BTreeSet<Name>,
    cuts: BTreeSet<Name>,
    subtrees: BTreeSet<Name>,
}

impl Blocks {
    pub(crate) fn of<'a>(rrsets: impl Iterator<Item = (&'a Name, RecordType)>, apex: &Name) -> Blocks {
        let mut blocks = Blocks::default();
        for (owner, rtype) in rrsets {
            let set = match rtype {
                RecordType::CNAME => &mut blocks.aliases,
                RecordType::NS if owner != apex => &mut blocks.cuts,
                RecordType::DNAME => &mut blocks.subtrees,
                _ => continue,
            };
            set.insert(owner.clone());
        }
        blocks
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.aliases.is_empty() && self.cuts.is_empty() && self.subtrees.is_empty()
    }

    /// What stands in the way of a CERT record at a name.
    pub(crate) fn stops(&self, owner: &Name) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        // RFC 1034 section 3.6.2
        if self.aliases.contains(owner) {
            return Some(format!("{owner} is an alias (CNAME) in the zone's other records"));
        }
        let mut above = std::iter::successors(Some(owner.clone()), Name::parent);
        if let Some(cut) = above.find(|name| self.cuts.contains(name)) {
            return Some(format!("{cut} is delegated"));
        }
        // RFC 6672 section 2.4: only what lies below is hidden.
        let mut above = std::iter::successors(owner.parent(), Name::parent);
        let subtree = above.find(|name| self.subtrees.contains(name))?;
        Some(format!("the DNAME at {subtree} speaks for all names below it"))
    }
}
