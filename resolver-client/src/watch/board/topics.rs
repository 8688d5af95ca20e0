//! Which names decide about an address.

use certdir_zones::{Address, DomainName, Name, RecordType};
use certdir_zones::{cert_owners, smimea_owner, smimea_wildcard, smimecert_name};

use crate::push::Topic;

/// Which records the resolver looks for in DNS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Types {
    pub(crate) smimea: bool,
    pub(crate) cert: bool,
}

impl Types {
    pub(super) fn any(self) -> bool {
        self.smimea || self.cert
    }
}

/// The names that decide about one address alone, each with its realm.
pub(super) fn own_topics(address: &Address, types: Types) -> Vec<(Name, Topic)> {
    let domain = address.domain();
    let mut topics = Vec::new();
    if types.smimea {
        topics.push((smimecert_name(domain), Topic { name: smimea_owner(address), record_type: RecordType::SMIMEA }));
    }
    if types.cert {
        let owners = cert_owners(address).into_iter();
        topics.extend(owners.map(|name| (domain.name().clone(), Topic { name, record_type: RecordType::CERT })));
    }
    topics
}

/// The names that decide about every address of a domain that has no certificate of its own.
pub(super) fn domain_topics(domain: &DomainName, types: Types) -> Vec<(Name, Topic)> {
    let mut topics = Vec::new();
    if types.smimea {
        let authority = smimea_owner(&Address::domain_authority(domain));
        for name in [authority, smimea_wildcard(domain)] {
            topics.push((smimecert_name(domain), Topic { name, record_type: RecordType::SMIMEA }));
        }
    }
    if types.cert {
        let topic = Topic { name: domain.name().clone(), record_type: RecordType::CERT };
        topics.push((domain.name().clone(), topic));
    }
    topics
}
