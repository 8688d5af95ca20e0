//! What is watched, and what is to be done about it: no waiting and no network here, only bookkeeping under one lock.
//!
//! An address depends on topics: names whose records decide about it, its own and those of its domain. The topics of one
//! realm (`_smimecert.<domain>` for SMIMEA, `<domain>` for CERT) are in one zone and so with one push server. What is to be
//! asked for again waits in one of two queues, each address once: signals first, then what only has to be made sure of.

mod feeds;
mod topics;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use certdir_certificate::UnixTime;
use certdir_zones::{Address, DomainName, Name, smimecert_name};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::topics::Types;
use self::topics::{domain_topics, own_topics};
use super::settings::Watching;
use super::{Over, Seen, Way, differ};
use crate::error::Error;
use crate::feed;
use crate::outcome::Match;
use crate::push::{Server, Topic};
use crate::verdict::Verdict;

/// A signal whose cause is not to be seen yet is followed up after these times: the servers that are asked may answer from
/// a cache of their own.
const FOLLOW_UPS: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
];

/// What is pushed so soon after the subscription may be the present state; what comes later is a change.
const INITIAL: Duration = Duration::from_secs(2);

/// The least time between two questions about an address that a signal is the reason for. It doubles while signals come
/// in a row, and begins anew after four times as long without a question: nobody can keep the gateway busy.
const LEAST_GAP: Duration = Duration::from_millis(50);

/// The longest such time.
const LONGEST_GAP: Duration = Duration::from_secs(5);

/// How often realms without a push server are looked through.
const LOOK_FOR_SERVERS: Duration = Duration::from_secs(5);

/// A failure is asked about again after so many seconds.
const FAILURE_WAIT: UnixTime = 5;

type Key = Arc<Address>;

/// How soon an address is to be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Haste {
    /// To be sure: after a subscription, or at the end of a verdict's life.
    Later,
    /// Something changed.
    Now,
}

/// What is to be asked for.
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) via: Way,
    /// The first question about the address: the cache may answer it.
    pub(super) first: bool,
    /// A signal is the reason.
    pub(super) signalled: bool,
    pub(super) over: Over,
}

pub(super) struct Board {
    most: usize,
    /// Whether CERT records are looked for, and SMIMEA records.
    types: Types,
    entries: HashMap<Key, Entry>,
    /// Feeds tell mailboxes in lower case.
    mailboxes: HashMap<Address, HashSet<Key>>,
    domains: HashMap<DomainName, Domain>,
    topics: HashMap<Topic, Standing>,
    realms: HashMap<Name, Realm>,
    /// Realms whose push server is to be looked for.
    unsought: VecDeque<Name>,
    /// When those are looked through that had none.
    look_for_servers: Option<Instant>,
    now: VecDeque<Key>,
    later: VecDeque<Key>,
    due: BTreeSet<(UnixTime, Key)>,
    follow: BTreeSet<(Instant, Key)>,
    pub(super) feeds: Vec<Arc<feed::Client>>,
}

struct Entry {
    seen: watch::Sender<Option<Seen>>,
    watchers: usize,
    waits: Option<(Haste, Way)>,
    /// It has a place in the slower queue, if only an old one.
    in_later: bool,
    asking: bool,
    /// A signal that came while it was asked for: the answer may be older.
    again: Option<(Haste, Way)>,
    /// Follow-ups so far since the last signal, and its way.
    follow_ups: usize,
    signal: Way,
    due: Option<UnixTime>,
    follow: Option<Instant>,
    /// When it was last asked for, and how long signals wait after that.
    asked: Option<Instant>,
    gap: Duration,
    /// The signal that waits.
    held: Option<(Haste, Way)>,
    /// Topics of its own without a subscription.
    unheard: usize,
    /// A feed tells of it.
    fed: bool,
}

#[derive(Default)]
struct Domain {
    addresses: HashSet<Key>,
    /// Topics of the domain without a subscription.
    unheard: usize,
}

/// Whom a topic concerns.
struct Standing {
    subscribed: bool,
    /// When the subscription began, until something is pushed: the present state, if there is any, follows at once
    /// (RFC 8765 section 6.3).
    fresh: Option<Instant>,
    addresses: HashSet<Key>,
    domain: Option<DomainName>,
}

struct Realm {
    domain: DomainName,
    topics: HashSet<Topic>,
    push: Pushed,
}

enum Pushed {
    /// It is being looked for, or waits for that.
    Sought,
    By(Arc<Server>),
    /// There is none; worth another look then.
    Nowhere(Instant),
}

impl Board {
    pub(super) fn new(settings: &Watching) -> Board {
        Board {
            most: settings.most,
            types: settings.types,
            entries: HashMap::new(),
            mailboxes: HashMap::new(),
            domains: HashMap::new(),
            topics: HashMap::new(),
            realms: HashMap::new(),
            unsought: VecDeque::new(),
            look_for_servers: None,
            now: VecDeque::new(),
            later: VecDeque::new(),
            due: BTreeSet::new(),
            follow: BTreeSet::new(),
            feeds: settings.feeds.iter().map(|feed| Arc::new(feed::Client::new(feed.clone()))).collect(),
        }
    }

    /// Another watcher.
    pub(super) fn add(&mut self, address: &Address) -> Result<watch::Receiver<Option<Seen>>, Error> {
        if let Some(entry) = self.entries.get_mut(address) {
            entry.watchers += 1;
            return Ok(entry.seen.subscribe());
        }
        if self.entries.len() >= self.most {
            return Err(Error::TooManyWatched(self.most));
        }
        Ok(self.enter(address, 1))
    }

    /// What the cache holds is watched like everything else, as far as there is room, but nobody waits for it.
    pub(super) fn hold(&mut self, addresses: Vec<Address>) {
        for address in addresses {
            if self.entries.len() < self.most && !self.entries.contains_key(&address) {
                self.enter(&address, 0);
            }
        }
    }

    fn enter(&mut self, address: &Address, watchers: usize) -> watch::Receiver<Option<Seen>> {
        let key = Arc::new(address.clone());
        let (sender, receiver) = watch::channel(None);
        let entry = Entry {
            seen: sender,
            watchers,
            waits: None,
            in_later: false,
            asking: false,
            again: None,
            follow_ups: 0,
            signal: Way::Ttl,
            due: None,
            follow: None,
            asked: None,
            gap: LEAST_GAP,
            held: None,
            unheard: 0,
            fed: self.feeds.iter().any(|feed| feed.tells_of(address)),
        };
        self.entries.insert(Arc::clone(&key), entry);
        self.mailboxes.entry(address.lower_case()).or_default().insert(Arc::clone(&key));
        let domain = address.domain();
        let is_new = !self.domains.contains_key(domain);
        self.domains.entry(domain.clone()).or_default().addresses.insert(Arc::clone(&key));
        if is_new {
            for (realm, topic) in domain_topics(domain, self.types) {
                self.list(topic, &realm, domain, None);
            }
        }
        for (realm, topic) in own_topics(address, self.types) {
            self.list(topic, &realm, domain, Some(&key));
        }
        for feed in &self.feeds {
            if feed.feed.is_for(domain) {
                feed.want(address);
            }
        }
        // Nobody has a verdict yet, so it comes before everything that is only to be made sure of.
        self.queue(&key, Haste::Now, Way::Ttl);
        receiver
    }

    /// One watcher less.
    pub(super) fn leave(&mut self, address: &Address) {
        let Some(entry) = self.entries.get_mut(address) else {
            return;
        };
        entry.watchers = entry.watchers.saturating_sub(1);
        if entry.watchers == 0 {
            self.remove(address);
        }
    }

    fn remove(&mut self, address: &Address) {
        let Some((key, entry)) = self.entries.remove_entry(address) else {
            return;
        };
        if let Some(due) = entry.due {
            self.due.remove(&(due, Arc::clone(&key)));
        }
        if let Some(at) = entry.follow {
            self.follow.remove(&(at, Arc::clone(&key)));
        }
        let mailbox = address.lower_case();
        if let Some(keys) = self.mailboxes.get_mut(&mailbox) {
            keys.remove(&key);
            if keys.is_empty() {
                self.mailboxes.remove(&mailbox);
            }
        }
        for feed in &self.feeds {
            feed.unwant(address);
        }
        for (realm, topic) in own_topics(address, self.types) {
            self.unlist(&topic, &realm, Some(&key));
        }
        let domain = address.domain();
        if let Some(listed) = self.domains.get_mut(domain) {
            listed.addresses.remove(&key);
            if listed.addresses.is_empty() {
                self.domains.remove(domain);
                for (realm, topic) in domain_topics(domain, self.types) {
                    self.unlist(&topic, &realm, None);
                }
            }
        }
    }

    /// The end: every stream with it.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.now.clear();
        self.later.clear();
    }

    fn list(&mut self, topic: Topic, realm: &Name, domain: &DomainName, key: Option<&Key>) {
        let listed = self.realms.entry(realm.clone()).or_insert_with(|| {
            self.unsought.push_back(realm.clone());
            Realm { domain: domain.clone(), topics: HashSet::new(), push: Pushed::Sought }
        });
        listed.topics.insert(topic.clone());
        if let Pushed::By(server) = &listed.push {
            server.want(topic.clone());
        }
        let standing = self.topics.entry(topic).or_insert_with(|| Standing {
            subscribed: false,
            fresh: None,
            addresses: HashSet::new(),
            domain: None,
        });
        let unheard = usize::from(!standing.subscribed);
        match key {
            Some(key) => {
                if standing.addresses.insert(Arc::clone(key))
                    && let Some(entry) = self.entries.get_mut(key)
                {
                    entry.unheard += unheard;
                }
            }
            None => {
                if standing.domain.replace(domain.clone()).is_none()
                    && let Some(domain) = self.domains.get_mut(domain)
                {
                    domain.unheard += unheard;
                }
            }
        }
    }

    fn unlist(&mut self, topic: &Topic, realm: &Name, key: Option<&Key>) {
        let Some(standing) = self.topics.get_mut(topic) else {
            return;
        };
        match key {
            Some(key) => drop(standing.addresses.remove(key)),
            None => standing.domain = None,
        }
        if !standing.addresses.is_empty() || standing.domain.is_some() {
            return;
        }
        self.topics.remove(topic);
        let Some(listed) = self.realms.get_mut(realm) else {
            return;
        };
        listed.topics.remove(topic);
        if let Pushed::By(server) = &listed.push {
            server.unwant(topic);
        }
        if listed.topics.is_empty() {
            self.realms.remove(realm);
        }
    }

    /// A realm whose push server is to be looked for, and the domain it belongs to.
    pub(super) fn unsought(&mut self) -> Option<(Name, DomainName)> {
        while let Some(realm) = self.unsought.pop_front() {
            if let Some(listed) = self.realms.get(&realm) {
                return Some((realm, listed.domain.clone()));
            }
        }
        None
    }

    /// The push server of a realm was found, or none was.
    pub(super) fn sought(&mut self, realm: &Name, found: Result<Arc<Server>, Instant>) {
        let Some(listed) = self.realms.get_mut(realm) else {
            return;
        };
        let push = match found {
            Ok(server) => Pushed::By(server),
            Err(again) => Pushed::Nowhere(again),
        };
        let before = std::mem::replace(&mut listed.push, push);
        let topics: Vec<Topic> = listed.topics.iter().cloned().collect();
        match (&before, &listed.push) {
            (Pushed::By(before), Pushed::By(now)) if Arc::ptr_eq(before, now) => {}
            (before, now) => {
                if let Pushed::By(server) = before {
                    topics.iter().for_each(|topic| server.unwant(topic));
                }
                if let Pushed::By(server) = now {
                    topics.iter().for_each(|topic| server.want(topic.clone()));
                }
                self.unsubscribed(&topics);
            }
        }
    }

    /// The realms of a push server that was lost too often are looked for again.
    pub(super) fn seek_again(&mut self, server: &Arc<Server>) {
        for (realm, listed) in &mut self.realms {
            if matches!(&listed.push, Pushed::By(by) if Arc::ptr_eq(by, server)) && !self.unsought.contains(realm) {
                self.unsought.push_back(realm.clone());
            }
        }
    }

    /// Servers that some realm has.
    pub(super) fn is_used(&self, server: &Arc<Server>) -> bool {
        self.realms.values().any(|realm| matches!(&realm.push, Pushed::By(by) if Arc::ptr_eq(by, server)))
    }

    /// A subscription holds: what happened before it is not known. The domain that is in doubt with it, if any.
    pub(super) fn subscribed(&mut self, topic: &Topic) -> Option<DomainName> {
        let standing = self.topics.get_mut(topic)?;
        standing.fresh = Some(Instant::now());
        let domain = standing.domain.clone();
        if !std::mem::replace(&mut standing.subscribed, true) {
            self.heard(topic, |unheard| *unheard = unheard.saturating_sub(1));
        }
        self.concerns(topic, Haste::Later, Way::Push);
        domain
    }

    /// A change was pushed. The domain that is in doubt with it, if any.
    pub(super) fn pushed(&mut self, topic: &Topic) -> Option<DomainName> {
        let standing = self.topics.get_mut(topic)?;
        let initial = standing.fresh.take().is_some_and(|since| since.elapsed() < INITIAL);
        let haste = if initial { Haste::Later } else { Haste::Now };
        let domain = standing.domain.clone();
        self.concerns(topic, haste, Way::Push);
        domain
    }

    /// The session with a server is over.
    pub(super) fn lost(&mut self, server: &Arc<Server>) {
        let of_server = |realm: &&Realm| matches!(&realm.push, Pushed::By(by) if Arc::ptr_eq(by, server));
        let topics: Vec<Topic> =
            self.realms.values().filter(of_server).flat_map(|realm| realm.topics.iter().cloned()).collect();
        self.unsubscribed(&topics);
    }

    /// No subscription holds for these any more.
    fn unsubscribed(&mut self, topics: &[Topic]) {
        for topic in topics {
            if let Some(standing) = self.topics.get_mut(topic)
                && std::mem::replace(&mut standing.subscribed, false)
            {
                self.heard(topic, |unheard| *unheard += 1);
            }
        }
    }

    /// Changes the count of those whom a topic concerns.
    fn heard(&mut self, topic: &Topic, change: impl Fn(&mut usize)) {
        let Some(standing) = self.topics.get(topic) else {
            return;
        };
        for key in &standing.addresses {
            if let Some(entry) = self.entries.get_mut(key) {
                change(&mut entry.unheard);
            }
        }
        if let Some(domain) = standing.domain.as_ref().and_then(|domain| self.domains.get_mut(domain)) {
            change(&mut domain.unheard);
        }
    }

    /// Queues everybody whom a topic concerns.
    fn concerns(&mut self, topic: &Topic, haste: Haste, via: Way) {
        let Some(standing) = self.topics.get(topic) else {
            return;
        };
        let mut keys: Vec<Key> = standing.addresses.iter().cloned().collect();
        if let Some(domain) = standing.domain.clone() {
            keys.extend(self.of_domain(&domain));
        }
        for key in keys {
            self.queue(&key, haste, via);
        }
    }

    /// The addresses for which the domain's own certificate can matter: not those that have one.
    fn of_domain(&self, domain: &DomainName) -> Vec<Key> {
        let own = |key: &&Key| {
            let seen = self.entries.get(*key).map(|entry| entry.seen.borrow());
            seen.is_some_and(|seen| {
                matches!(&*seen, Some(Seen { verdict: Verdict::Use { matched: Match::Recipient, .. }, .. }))
            })
        };
        let addresses = self.domains.get(domain).map(|domain| &domain.addresses);
        addresses.into_iter().flatten().filter(|key| !own(key)).cloned().collect()
    }

    fn by_push(&self, key: &Key) -> bool {
        let own = self.entries.get(key).is_some_and(|entry| entry.unheard == 0);
        own && self.types.any() && self.domains.get(key.domain()).is_some_and(|domain| domain.unheard == 0)
    }

    /// Addresses: all, those by push, by feed, by TTL.
    pub(super) fn census(&self) -> [u64; 4] {
        let [mut push, mut feed, mut ttl] = [0; 3];
        for (key, entry) in &self.entries {
            let way = if self.by_push(key) {
                &mut push
            } else if entry.fed {
                &mut feed
            } else {
                &mut ttl
            };
            *way += 1;
        }
        [push + feed + ttl, push, feed, ttl]
    }

    /// Has an address asked for again, a signal not before its time.
    fn queue(&mut self, key: &Key, haste: Haste, via: Way) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.asking {
            let before = entry.again;
            entry.again = Some(before.filter(|(waits, _)| *waits >= haste).unwrap_or((haste, via)));
            return;
        }
        let until = entry.asked.map(|asked| asked + entry.gap).filter(|until| *until > Instant::now());
        if let Some(until) = until.filter(|_| via != Way::Ttl) {
            if entry.held.is_none_or(|(held, _)| held < haste) {
                entry.held = Some((haste, via));
            }
            if let Some(before) = entry.follow.replace(until) {
                self.follow.remove(&(before, Arc::clone(key)));
            }
            self.follow.insert((until, Arc::clone(key)));
            return;
        }
        self.line_up(key, haste, via);
    }

    /// Queues without regard to when it was last asked for.
    fn line_up(&mut self, key: &Key, haste: Haste, via: Way) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        // It keeps its place in the slower queue, where it is skipped when its turn comes.
        if entry.waits.is_some_and(|(waits, _)| waits >= haste) {
            return;
        }
        entry.waits = Some((haste, via));
        match haste {
            Haste::Now => self.now.push_back(Arc::clone(key)),
            Haste::Later if std::mem::replace(&mut entry.in_later, true) => {}
            Haste::Later => self.later.push_back(Arc::clone(key)),
        }
    }

    /// What is to be asked for next; `spare` when there is also room for what is not urgent.
    pub(super) fn next(&mut self, spare: bool) -> Option<Job> {
        loop {
            let (key, queue) = match self.now.pop_front() {
                Some(key) => (key, Haste::Now),
                None if spare => (self.later.pop_front()?, Haste::Later),
                None => return None,
            };
            let over = self.over(&key);
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            if queue == Haste::Later {
                entry.in_later = false;
            }
            // It was asked for already, from the other queue.
            let Some((haste, via)) = entry.waits.filter(|(haste, _)| *haste == queue) else {
                continue;
            };
            entry.waits = None;
            entry.asking = true;
            if let Some(at) = entry.follow.take() {
                self.follow.remove(&(at, Arc::clone(&key)));
            }
            // What waits for its time is asked for with it.
            let (haste, via) = entry.held.take().filter(|(held, _)| *held > haste).unwrap_or((haste, via));
            let signalled = haste == Haste::Now && via != Way::Ttl;
            let asked = entry.asked.replace(Instant::now());
            entry.gap = match asked {
                Some(asked) if asked.elapsed() < entry.gap * 4 && signalled => (entry.gap * 2).min(LONGEST_GAP),
                Some(asked) if asked.elapsed() < entry.gap * 4 => entry.gap,
                _ => LEAST_GAP,
            };
            let first = entry.seen.borrow().is_none();
            return Some(Job { key, via, first, signalled, over });
        }
    }

    fn over(&self, address: &Address) -> Over {
        let domain = address.domain();
        let realms = [smimecert_name(domain), domain.name().clone()];
        let servers = realms.into_iter().filter_map(|realm| match &self.realms.get(&realm)?.push {
            Pushed::By(server) if server.is_up() => Some((realm, Arc::clone(server))),
            _ => None,
        });
        servers.collect()
    }

    #[cfg(test)]
    pub(super) fn next_over(&self, address: &Address) -> Over {
        self.over(address)
    }

    /// An answer is there. Whether the verdict is another one than before. `fresh`: it came from the server that gave the
    /// signal, so it cannot be older.
    pub(super) fn answered(&mut self, job: &Job, verdict: Verdict, fresh: bool, now: UnixTime) -> bool {
        let key = &job.key;
        // An address that was removed and entered again meanwhile has a question of its own.
        if self.entries.get_key_value(key).is_none_or(|(listed, _)| !Arc::ptr_eq(listed, key)) {
            return false;
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        entry.asking = false;
        let look_again = verdict.look_again();
        let before = entry.seen.borrow().clone();
        let failed = matches!(verdict, Verdict::Unknown { .. });
        let mut changed = false;
        // A failure says nothing against a verdict that may still be used.
        let keeps = failed && before.as_ref().is_some_and(|seen| seen.verdict.look_again() > now);
        if !keeps {
            changed = before.as_ref().is_none_or(|seen| differ(&seen.verdict, &verdict));
            let seen = Seen { verdict: verdict.shortened(), via: job.via, at: now };
            entry.seen.send_if_modified(|place| {
                *place = Some(seen);
                changed
            });
        }
        let due = if failed { now.saturating_add(FAILURE_WAIT) } else { look_again.max(now.saturating_add(1)) };
        if let Some(before) = entry.due.replace(due) {
            self.due.remove(&(before, Arc::clone(key)));
        }
        self.due.insert((due, Arc::clone(key)));
        if job.signalled {
            entry.follow_ups = 0;
            entry.signal = job.via;
        }
        let doubtful = (job.signalled || entry.follow_ups > 0) && !changed && !fresh;
        if changed || fresh {
            entry.follow_ups = 0;
        } else if doubtful && let Some(wait) = FOLLOW_UPS.get(entry.follow_ups) {
            entry.follow_ups += 1;
            let at = Instant::now() + *wait;
            entry.follow = Some(at);
            self.follow.insert((at, Arc::clone(key)));
        }
        // The first answer may be the cache's, from before the feed told of the address.
        let unsure = job.first && entry.fed;
        if let Some((haste, via)) = entry.again.take() {
            self.queue(key, haste, via);
        }
        if unsure {
            self.queue(key, Haste::Later, Way::Feed);
        }
        changed && before.is_some()
    }

    /// An address could not be asked for: the task ended.
    pub(super) fn unanswered(&mut self, key: &Address, now: UnixTime) {
        if let Some((key, _)) = self.entries.get_key_value(key) {
            let key = Arc::clone(key);
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.asking = false;
                let due = now.saturating_add(FAILURE_WAIT);
                if let Some(before) = entry.due.replace(due) {
                    self.due.remove(&(before, Arc::clone(&key)));
                }
                self.due.insert((due, key));
            }
        }
    }

    /// Moves what is due into the queues. When the next follow-up is.
    pub(super) fn tick(&mut self, now: UnixTime, instant: Instant) -> Option<Instant> {
        while let Some((due, key)) = self.due.first().cloned()
            && due <= now
        {
            self.due.pop_first();
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.due = None;
            // What only the cache holds ends there, too.
            if entry.watchers == 0 {
                self.remove(&key);
            } else {
                self.queue(&key, Haste::Later, Way::Ttl);
            }
        }
        while let Some((at, key)) = self.follow.first().cloned()
            && at <= instant
        {
            self.follow.pop_first();
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.follow = None;
                let (haste, via) = entry.held.take().unwrap_or((Haste::Later, entry.signal));
                if entry.asking {
                    self.queue(&key, haste, via);
                } else {
                    self.line_up(&key, haste, via);
                }
            }
        }
        if self.look_for_servers.is_none_or(|at| at <= instant) {
            self.look_for_servers = Some(instant + LOOK_FOR_SERVERS);
            for (name, realm) in &mut self.realms {
                if matches!(&realm.push, Pushed::Nowhere(at) if *at <= instant) {
                    realm.push = Pushed::Sought;
                    self.unsought.push_back(name.clone());
                }
            }
        }
        self.follow.first().map(|(at, _)| *at)
    }
}
