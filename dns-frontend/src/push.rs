//! [`Subscriptions`]: what one client of DNS Push Notifications (RFC 8765) wants to know of, what it was told, and what is
//! still to be told.
//!
//! Nothing is queued but names: a name whose records may have changed is *due* once, however often they change, and what
//! is sent is the difference between what the client was told last and what is there when its turn comes. So a client
//! that reads slowly costs no memory, misses no state that lasts, and cannot be told anything that is older than an answer
//! on the same connection.

use std::collections::{BTreeMap, HashMap, VecDeque};

use certdir_directory::Place;
use certdir_zones::dso::{ANY, Change, MAX_PUSH, Push, Subject, What};
use certdir_zones::{Found, Name, RecordType, Rrset};

use crate::reply;
use crate::request::IN;
use crate::view::Zones;

/// Octets of a PUSH message beside owner and RDATA of its only change: header, TLV, and the fixed part of a record.
const AROUND: usize = 12 + 4 + 10;

/// The subscriptions of a session, by name.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// In canonical order, so that the names below one stand behind it.
    names: BTreeMap<Name, Followed>,
    /// By the identification of the request for each.
    ids: HashMap<u16, (Name, Place)>,
    /// Names whose records may differ from what the client was told; each of them once.
    due: VecDeque<Name>,
    /// Messages made and not yet taken: the rest of what one name has to tell.
    made: VecDeque<(Vec<u8>, usize)>,
    /// The revision of the zones up to which changes are noticed.
    revision: u64,
}

/// A name that is followed.
#[derive(Debug, Default)]
struct Followed {
    /// Identification, type and class of each subscription; at least one.
    wanted: Vec<(u16, RecordType, u16)>,
    /// What the client was told, sorted by type.
    told: Vec<Rrset>,
    due: bool,
    /// Types of new subscriptions: what was told of them to others is to be told again.
    again: Vec<RecordType>,
}

/// Why a subscription cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    /// Its identification is that of another one (RFC 8765 section 6.2.1).
    Id,
    /// There is one of the same name, type and class (RFC 8765 section 6.2.1).
    Subject,
}

/// Whether changes of these records can be told at all: no signatures, no proofs, and nothing that is no type of data.
pub(crate) fn is_data(rtype: RecordType) -> bool {
    const PROOFS: [RecordType; 3] = [RecordType::RRSIG, RecordType::NSEC, RecordType::NSEC3];
    // RFC 6895 section 3.1: 128 to 255 are no types of data, and OPT is none.
    rtype.0 == ANY || !(PROOFS.contains(&rtype) || rtype == RecordType::OPT || (128..=255).contains(&rtype.0))
}

/// Whether the records of a name are this server's to tell about (RFC 8765 section 6.2.2, NOTAUTH): in a hosted zone,
/// not at or below a cut but for DS.
pub(crate) fn is_ours<Z: Zones>(zones: &Z, subject: &Subject) -> bool {
    let name = subject.name.as_wire();
    let zone = reply::zone_for(zones, name, subject.rtype).filter(|_| [IN, ANY].contains(&subject.class));
    zone.is_some_and(|zone| match zone.find(name) {
        Found::Delegation { cut, .. } => subject.rtype == RecordType::DS && cut.len() == name.len(),
        _ => true,
    })
}

/// The records of a name and a type, or all of them. A wildcard speaks for the names it covers, as it does in answers;
/// aliases stand for nothing but themselves (RFC 8765 section 6.2.1).
fn records<'z, Z: Zones>(zones: &'z Z, name: &'z [u8], rtype: RecordType) -> impl Iterator<Item = &'z Rrset> {
    let found = reply::zone_for(zones, name, rtype).map(|zone| zone.find(name));
    let node = match found {
        Some(Found::Exact(node) | Found::Wildcard { node, .. }) => Some(node),
        Some(Found::Delegation { cut, node }) if rtype == RecordType::DS && cut.len() == name.len() => Some(node),
        _ => None,
    };
    let all = node.map_or(&[][..], |node| node.rrsets()).iter().map(|signed| &signed.rrset);
    all.filter(move |rrset| rtype.0 == ANY || rrset.rtype == rtype)
}

impl Subscriptions {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is one with this identification.
    pub(crate) fn has(&self, id: u16) -> bool {
        self.ids.contains_key(&id)
    }

    /// Whether one may be added.
    pub(crate) fn clash(&self, id: u16, subject: &Subject) -> Option<Clash> {
        if self.has(id) {
            return Some(Clash::Id);
        }
        let followed = self.names.get(&subject.name)?;
        let same = |&(_, rtype, class): &(u16, RecordType, u16)| (rtype, class) == (subject.rtype, subject.class);
        followed.wanted.iter().any(same).then_some(Clash::Subject)
    }

    /// Adds one, from the zones as they are now: [`Subscriptions::look`] has seen them. What they have is due.
    pub(crate) fn add<Z: Zones>(&mut self, id: u16, subject: Subject, place: Place, zones: &Z) {
        if self.names.is_empty() {
            self.revision = zones.revision();
        }
        let Subject { name, rtype, class } = subject;
        let followed = self.names.entry(name.clone()).or_default();
        followed.wanted.push((id, rtype, class));
        if !followed.told.is_empty() {
            followed.again.push(rtype);
        }
        self.ids.insert(id, (name.clone(), place));
        self.mark(&name);
    }

    /// Ends one. Nothing happens where there is none (RFC 8765 section 6.4.1).
    pub(crate) fn remove(&mut self, id: u16) {
        let Some((name, _)) = self.ids.remove(&id) else { return };
        let Some(followed) = self.names.get_mut(&name) else { return };
        followed.wanted.retain(|(other, ..)| *other != id);
        if followed.wanted.is_empty() {
            // It may still be due; whoever finds it there finds nothing to tell.
            self.names.remove(&name);
            return;
        }
        let Followed { wanted, told, .. } = followed;
        told.retain(|told| wanted.iter().any(|(_, rtype, _)| covers(*rtype, told.rtype)));
    }

    /// Notices what changed in the zones since they were looked at last.
    pub(crate) fn look<Z: Zones>(&mut self, zones: &Z) {
        let revision = zones.revision();
        if revision == self.revision || self.names.is_empty() {
            return;
        }
        match zones.changed_since(self.revision) {
            Some(names) => names.into_iter().for_each(|name| self.touch(zones, name)),
            None => {
                self.due = self.names.keys().cloned().collect();
                self.names.values_mut().for_each(|followed| followed.due = true);
            }
        }
        self.revision = revision;
    }

    /// The records of a name may have changed, and so may those of names below, if it is a wildcard, begins or ends to
    /// exist, or takes them elsewhere.
    fn touch<Z: Zones>(&mut self, zones: &Z, name: &Name) {
        // An apex exists as long as its zone and no alias stands there, so its records concern no other name. Every
        // publication touches it, for the sake of the SOA: all names below would be looked at for nothing.
        if zones.zone_for(name.as_wire()).is_some_and(|zone| zone.apex() == name) {
            self.mark(name);
            return;
        }
        let base = name.parent().filter(|_| name.is_wildcard()).unwrap_or_else(|| name.clone());
        let below =
            self.names.range(base.clone()..).map(|(name, _)| name).take_while(|name| name.is_at_or_below(&base));
        for name in below.cloned().collect::<Vec<_>>() {
            self.mark(&name);
        }
    }

    fn mark(&mut self, name: &Name) {
        if let Some(followed) = self.names.get_mut(name)
            && !std::mem::replace(&mut followed.due, true)
        {
            self.due.push_back(name.clone());
        }
    }

    /// The next PUSH message and how many changes it has; none when nothing is due. `block`: it is padded to a multiple
    /// of so many octets.
    pub(crate) fn next<Z: Zones>(&mut self, zones: &Z, block: Option<usize>) -> Option<(Vec<u8>, usize)> {
        if self.made.is_empty() {
            self.make(zones, block);
        }
        self.made.pop_front()
    }

    /// Makes messages of what is due until one of them is full (RFC 8765 section 6.3.1), or nothing is due any more.
    fn make<Z: Zones>(&mut self, zones: &Z, block: Option<usize>) {
        let (mut push, mut count) = (Push::new(), 0);
        while self.made.is_empty()
            && let Some(name) = self.due.pop_front()
        {
            // Unsubscribed meanwhile, or subscribed again and due again.
            let Some(followed) = self.names.get_mut(&name).filter(|followed| followed.due) else { continue };
            followed.due = false;
            let again = std::mem::take(&mut followed.again);
            let present = followed.present(&name, zones);
            for change in changes(&name, &followed.told, &present, &again, followed.wants_all()) {
                if !push.put(&change) {
                    self.made.push_back((std::mem::take(&mut push).finish(block), count));
                    count = 0;
                    push.put(&change);
                }
                count += 1;
            }
            followed.told = present;
        }
        if !push.is_empty() {
            self.made.push_back((push.finish(block), count));
        }
    }
}

impl Followed {
    /// What is there of what is wanted, sorted by type.
    fn present<Z: Zones>(&self, name: &Name, zones: &Z) -> Vec<Rrset> {
        let wanted = self.wanted.iter().filter(|(.., class)| [IN, ANY].contains(class));
        let mut present: Vec<Rrset> =
            wanted.flat_map(|(_, rtype, _)| records(zones, name.as_wire(), *rtype)).cloned().collect();
        // RFC 8765 section 6.3.1: told once, however many subscriptions it belongs to.
        present.sort_unstable_by_key(|rrset| rrset.rtype);
        present.dedup_by_key(|rrset| rrset.rtype);
        present
    }

    fn wants_all(&self) -> bool {
        self.wanted.iter().any(|(_, rtype, _)| rtype.0 == ANY)
    }
}

/// Whether a subscription of one type is about records of another.
fn covers(subscribed: RecordType, rtype: RecordType) -> bool {
    subscribed.0 == ANY || subscribed == rtype
}

/// What makes of the records that were told those that are there, in few octets (RFC 8765 section 6.3.1). `again`: those that
/// stay are told once more; `all`: the client wants all types.
///
/// A record that no message has room for cannot be told. Its RRset is then told to be gone, and the others in it to be there
/// again, so that whoever takes a PUSH for a signal, and asks, gets it.
fn changes<'a>(
    name: &Name,
    told: &'a [Rrset],
    present: &'a [Rrset],
    again: &[RecordType],
    all: bool,
) -> Vec<Change<'a>> {
    let change = |rtype, what| Change { name: name.clone(), rtype, class: IN, what };
    if all && told.len() > 1 && present.is_empty() {
        return vec![change(RecordType::ANY, What::AllRemoved)];
    }
    let fits = |rdata: &[u8]| AROUND + name.as_wire().len() + rdata.len() <= MAX_PUSH;
    let find = |list: &'a [Rrset], rtype| list.iter().find(|rrset| rrset.rtype == rtype);
    let mut changes = Vec::new();
    let gone = told.iter().filter(|old| find(present, old.rtype).is_none());
    changes.extend(gone.map(|old| change(old.rtype, What::AllRemoved)));
    for new in present {
        let Rrset { rtype, ttl, .. } = *new;
        let old = find(told, rtype);
        let again = again.iter().any(|subscribed| covers(*subscribed, rtype));
        if old == Some(new) && !again {
            continue;
        }
        let before = old.map_or(&[][..], Rrset::rdata);
        let (kept, added): (Vec<_>, Vec<_>) = new.rdata().iter().partition(|rdata| before.contains(rdata));
        let removed: Vec<_> = before.iter().filter(|rdata| !new.rdata().contains(rdata)).collect();
        let octets = |list: &[&certdir_zones::Rdata]| list.iter().map(|rdata| rdata.len()).sum::<usize>();
        // All at once is shorter, or the only way.
        let anew = octets(&removed) > octets(&kept) || removed.iter().chain(&added).any(|rdata| !fits(rdata));
        if anew {
            changes.push(change(rtype, What::AllRemoved));
        } else {
            changes.extend(removed.iter().map(|rdata| change(rtype, What::Removed { rdata })));
        }
        // A TTL is part of every record.
        let again = again || anew || old.is_some_and(|old| old.ttl != ttl);
        let kept = kept.into_iter().filter(|_| again);
        let there = kept.chain(added).filter(|rdata| fits(rdata));
        changes.extend(there.map(|rdata| change(rtype, What::Added { ttl, rdata })));
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use certdir_directory::Connections;
    use certdir_zones::rdata::{self, CertForm};
    use certdir_zones::{Rdata, Zone, ZoneKey, dso};

    use super::*;

    /// A zone that changes, and the names that it says have changed.
    struct Changing {
        zone: Zone,
        key: Arc<ZoneKey>,
        revision: u64,
        changed: Option<Vec<Name>>,
    }

    const APEX: &str = "_smimecert.example.org";

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    impl Changing {
        fn new() -> Changing {
            let key = Arc::new(ZoneKey::generate().unwrap().0);
            let zone = Zone::new(name(APEX), Arc::clone(&key));
            let mut changing = Changing { zone, key, revision: 1, changed: None };
            changing.set(APEX, RecordType::DNSKEY, changing.key.dnskey());
            changing
        }

        fn set(&mut self, owner: &str, rtype: RecordType, data: Rdata) {
            let (apex, owner) = (name(APEX), name(owner));
            let rrset = Rrset::new(rtype, 300, vec![data]).unwrap();
            self.zone.set(&owner, self.key.sign(&apex, &owner, &rrset, 0, 1_000).unwrap()).unwrap();
        }

        /// Says that these names, and the apex with its SOA, changed. None: anything may have.
        fn publish(&mut self, names: Option<&[&str]>) {
            self.revision += 1;
            self.changed = names.map(|names| names.iter().copied().chain([APEX]).map(name).collect());
        }
    }

    impl Zones for Changing {
        fn zone_for(&self, asked: &[u8]) -> Option<&Zone> {
            asked.ends_with(self.zone.apex().as_wire()).then_some(&self.zone)
        }

        fn revision(&self) -> u64 {
            self.revision
        }

        fn changed_since(&self, _revision: u64) -> Option<Vec<&Name>> {
            self.changed.as_ref().map(|names| names.iter().collect())
        }
    }

    /// How many names are looked at, and the owners that are told about, sorted.
    fn told(subscriptions: &mut Subscriptions, zones: &Changing) -> (usize, Vec<String>) {
        subscriptions.look(zones);
        let due = subscriptions.due.len();
        let mut owners = Vec::new();
        while let Some((message, _)) = subscriptions.next(zones, None) {
            let Some(dso::Tlv::Push(changes)) = dso::read(&message).unwrap().primary else { panic!() };
            owners.extend(changes.iter().map(|change| change.name.to_string().trim_end_matches('.').to_owned()));
        }
        owners.sort();
        owners.dedup();
        (due, owners)
    }

    #[test]
    fn a_publication_concerns_the_names_it_may_change() {
        let mut zones = Changing::new();
        let places = Arc::new(Connections::new(1_000, 1_000));
        let mut subscriptions = Subscriptions::default();
        let owner = |local: &str| format!("{local}.{APEX}");
        let mut locals: Vec<String> = (0..100).map(|number| owner(&format!("p{number}"))).collect();
        locals.push(APEX.to_owned());
        for (id, followed) in (1..).zip(&locals) {
            let rtype = if followed == APEX { RecordType::CERT } else { RecordType::SMIMEA };
            let subject = Subject { name: name(followed), rtype, class: IN };
            subscriptions.add(id, subject, places.admit([127, 0, 0, 1].into()).unwrap(), &zones);
        }
        assert_eq!(told(&mut subscriptions, &zones), (101, Vec::new()));
        let smimea = |octet: u8| rdata::smimea(certdir_zones::Usage::DaneEe, &[octet; 10]);

        // One name, and the apex, whose SOA every publication changes.
        let one = owner("p7");
        zones.set(&one, RecordType::SMIMEA, smimea(1));
        zones.publish(Some(&[&one]));
        assert_eq!(told(&mut subscriptions, &zones), (2, vec![one.clone()]));

        zones.set(APEX, RecordType::CERT, rdata::cert(CertForm::Rfc4398, &[9; 10]));
        zones.publish(Some(&[]));
        assert_eq!(told(&mut subscriptions, &zones), (1, vec![APEX.to_owned()]));

        // A wildcard speaks for all names that are not there.
        let wildcard = owner("*");
        zones.set(&wildcard, RecordType::SMIMEA, smimea(2));
        zones.publish(Some(&[&wildcard]));
        let (due, owners) = told(&mut subscriptions, &zones);
        assert_eq!((due, owners.len(), owners.contains(&one)), (101, 99, false));

        // What comes above a name takes the wildcard from it.
        let below = owner("a.p8");
        zones.set(&below, RecordType::TXT, Rdata::from(&b"\x01a"[..]));
        zones.publish(Some(&[&below, &owner("p8")]));
        assert_eq!(told(&mut subscriptions, &zones), (2, vec![owner("p8")]));

        // Another zone altogether.
        zones = Changing { revision: zones.revision, ..Changing::new() };
        zones.publish(None);
        assert_eq!(
            told(&mut subscriptions, &zones),
            (101, {
                locals.retain(|name| *name != owner("p8"));
                locals.sort();
                locals
            })
        );
    }
}
