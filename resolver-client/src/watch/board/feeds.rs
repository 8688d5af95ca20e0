//! What the change feeds tell, on the board.

use std::collections::HashSet;
use std::sync::Arc;

use certdir_zones::{Address, DomainName};

use super::{Board, Haste, Key};
use crate::feed;
use crate::watch::Way;

impl Board {
    /// A feed tells of a mailbox.
    pub(in crate::watch) fn fed(&mut self, mailbox: &Address) {
        let keys: Vec<Key> = self.mailboxes.get(&mailbox.lower_case()).into_iter().flatten().cloned().collect();
        for key in keys {
            self.signal_of_feed(&key);
        }
    }

    /// A feed tells that a whole domain is concerned: also those with a certificate of their own, for the domain may be
    /// gone.
    pub(in crate::watch) fn fed_domain(&mut self, domain: &DomainName) {
        let keys: Vec<Key> = self.domains.get(domain).into_iter().flat_map(|d| &d.addresses).cloned().collect();
        for key in keys {
            self.signal_of_feed(&key);
        }
    }

    /// A feed cannot say what happened.
    pub(in crate::watch) fn reset(&mut self, feed: usize) -> Vec<DomainName> {
        let Some(client) = self.feeds.get(feed).cloned() else {
            return Vec::new();
        };
        let domains: Vec<DomainName> = self.domains.keys().filter(|d| client.feed.is_for(d)).cloned().collect();
        for domain in &domains {
            let keys: Vec<Key> = self.domains.get(domain).into_iter().flat_map(|d| &d.addresses).cloned().collect();
            for key in keys {
                self.queue(&key, Haste::Later, Way::Feed);
            }
        }
        domains
    }

    /// What DNS Push tells as well is asked for once more only when there is time.
    fn signal_of_feed(&mut self, key: &Key) {
        let haste = if self.by_push(key) { Haste::Later } else { Haste::Now };
        self.queue(key, haste, Way::Feed);
    }

    /// A feed's subscription holds for some addresses, or for all. The domains in doubt with them: what happened to them
    /// until now is not known either.
    pub(in crate::watch) fn following(&mut self, feed: usize, new: Option<Vec<Address>>) -> Vec<DomainName> {
        let Some(client) = self.feeds.get(feed).cloned() else {
            return Vec::new();
        };
        let fed: Vec<Key> = match &new {
            Some(new) => {
                new.iter().filter_map(|a| self.entries.get_key_value(a).map(|(key, _)| Arc::clone(key))).collect()
            }
            None => self.entries.keys().filter(|key| client.feed.is_for(key.domain())).cloned().collect(),
        };
        let domains: HashSet<DomainName> = fed.iter().map(|key| key.domain().clone()).collect();
        for key in fed {
            self.queue(&key, Haste::Later, Way::Feed);
        }
        self.feeds_changed();
        domains.into_iter().collect()
    }

    /// Counts anew whom the feeds tell of.
    pub(in crate::watch) fn feeds_changed(&mut self) {
        let feeds: Vec<Arc<feed::Client>> = self.feeds.iter().filter(|feed| feed.is_up()).cloned().collect();
        for (key, entry) in &mut self.entries {
            entry.fed = feeds.iter().any(|feed| feed.tells_of(key));
        }
    }
}
