//! The tree that clients see, and the attribute values of each node in it:
//!
//! ```text
//! ""                                              root DSE (RFC 4512 section 5.1)
//! ├─ cn=Subschema                                 the schema (RFC 4512 section 4.2)
//! └─ dc=example,dc=org                            a hosted domain; cACertificate;binary when it published a CA
//!    └─ mail=alice@example.org,dc=example,dc=org  a mailbox; userCertificate;binary
//! ```
//!
//! An entry is named by its mail address, which is what everybody searches for, what makes it one (two of a domain
//! never share it), and what stays right when the entry is copied below another suffix.
//!
//! What a node shows and what a filter is held against are the same values, from the same function.

use std::sync::Arc;

use certdir_directory::{Address, Domain, DomainName, Entry, Published, UnixTime, Visible};
use sha2::{Digest, Sha256};

use crate::dn::{Component, Dn, escape};
use crate::filter::Values;
use crate::refusal::Refusal;
use crate::schema::{self, Attribute};
use crate::timestamp;

/// The name of the subschema entry.
const SUBSCHEMA: &str = "cn=Subschema";

/// At most so many domains are listed as naming contexts: who hosts with us is not for strangers to collect.
const MAX_LISTED_DOMAINS: usize = crate::search::STRANGER_ENTRIES;

/// The published set at one moment: all that one request sees.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) published: &'a Published,
    pub(crate) now: UnixTime,
}

/// A node of the tree.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    Root,
    Subschema,
    Domain(&'a Arc<Domain>),
    Mailbox(&'a Arc<Entry>),
}

/// A node with the view it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) view: View<'a>,
    pub(crate) node: Node<'a>,
}

impl<'a> View<'a> {
    /// The node of that name, or [`Refusal::NoSuchObject`] with the nearest one above.
    pub(crate) fn locate(&self, dn: &Dn) -> Result<Node<'a>, Refusal> {
        if dn.components().is_empty() {
            return Ok(Node::Root);
        }
        if is_subschema(dn) {
            return Ok(Node::Subschema);
        }
        let components = dn.components();
        let labels: Vec<&str> = components.iter().rev().map_while(label).collect();
        let own = components.get(..components.len() - labels.len()).unwrap_or_default();
        let domain = self.domain(&labels);
        let found = match (domain, own) {
            (Some(domain), []) => Some(Node::Domain(domain)),
            (Some(domain), [component]) => self.mailbox_named(component, &domain.name).map(Node::Mailbox),
            _ => None,
        };
        found.ok_or_else(|| {
            let above = (0..=labels.len()).rev().find_map(|count| self.domain(labels.get(..count)?));
            Refusal::NoSuchObject { matched: above.map_or_else(String::new, |domain| base_of(&domain.name)) }
        })
    }

    /// An entry as strangers may see it: not at all unless it shows a certificate that is valid now.
    pub(crate) fn mailbox(&self, entry: &'a Arc<Entry>) -> Option<Node<'a>> {
        entry.visible(self.now).next().map(|_| Node::Mailbox(entry))
    }

    fn mailbox_named(&self, component: &Component, domain: &DomainName) -> Option<&'a Arc<Entry>> {
        let [(attribute, value)] = component.as_slice() else { return None };
        let address = Address::parse(value).ok().filter(|address| attribute == "mail" && address.domain() == domain)?;
        self.published.entry(&address).filter(|entry| self.mailbox(entry).is_some())
    }

    /// The domain of labels given from the top down.
    fn domain(&self, labels: &[&str]) -> Option<&'a Arc<Domain>> {
        let text = labels.iter().rev().copied().collect::<Vec<_>>().join(".");
        self.published.domain(&DomainName::parse(&text).ok()?)
    }

    fn context_csn(&self) -> String {
        timestamp::csn(self.published.changed_at(), self.published.version())
    }
}

/// Whether this is the name of the subschema entry.
pub(crate) fn is_subschema(dn: &Dn) -> bool {
    matches!(dn.components(), [component] if matches!(component.as_slice(),
        [(attribute, value)] if attribute == "cn" && value.eq_ignore_ascii_case("subschema")))
}

/// The label that a `dc` component stands for.
fn label(component: &Component) -> Option<&str> {
    match component.as_slice() {
        [(attribute, value)] if attribute == "dc" && !value.contains('.') => Some(value),
        _ => None,
    }
}

/// The base of a domain's entries (RFC 2247): `dc=example,dc=org`.
fn base_of(domain: &DomainName) -> String {
    domain.as_str().split('.').map(|label| format!("dc={label}")).collect::<Vec<_>>().join(",")
}

/// Whether a domain is another one or below it.
pub(crate) fn is_at_or_below(domain: &DomainName, above: &DomainName) -> bool {
    domain.as_str().strip_suffix(above.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Seen<'_> {
    /// The name of the node.
    pub(crate) fn dn(&self) -> String {
        match self.node {
            Node::Root => String::new(),
            Node::Subschema => SUBSCHEMA.to_owned(),
            Node::Domain(domain) => base_of(&domain.name),
            Node::Mailbox(entry) => {
                format!("mail={},{}", escape(&entry.address.to_string()), base_of(entry.address.domain()))
            }
        }
    }

    fn root_values(&self, attribute: Attribute, give: &mut Give<'_>) {
        match attribute {
            Attribute::ObjectClass => give.all(&["top"]),
            Attribute::NamingContexts => {
                // RFC 4512 section 5.1.1: "" for a server that answers from the root of the tree, as this one does.
                give.one("");
                let domains: Vec<_> = self.view.published.domains().take(MAX_LISTED_DOMAINS + 1).collect();
                if domains.len() <= MAX_LISTED_DOMAINS {
                    domains.iter().for_each(|domain| give.one(&base_of(&domain.name)));
                }
            }
            Attribute::SupportedLdapVersion => give.one("3"),
            Attribute::SupportedExtension => give.one(crate::session::WHO_AM_I),
            // All operational attributes by "+" (RFC 3673), absolute true and false filters (RFC 4526).
            Attribute::SupportedFeatures => give.all(&["1.3.6.1.4.1.4203.1.5.1", "1.3.6.1.4.1.4203.1.5.3"]),
            Attribute::VendorName => give.one("certdir"),
            Attribute::VendorVersion => give.one(env!("CARGO_PKG_VERSION")),
            Attribute::ContextCsn => give.one(&self.view.context_csn()),
            _ => {}
        }
    }

    fn subschema_values(attribute: Attribute, give: &mut Give<'_>) {
        match attribute {
            Attribute::ObjectClass => give.all(&["top", "subentry", "subschema"]),
            Attribute::StructuralObjectClass => give.one("subentry"),
            Attribute::Cn => give.one("Subschema"),
            Attribute::Types => schema::attribute_types().for_each(|text| give.one(&text)),
            Attribute::Classes => schema::object_classes().for_each(|text| give.one(&text)),
            _ => {}
        }
    }

    fn domain_values(&self, domain: &Domain, attribute: Attribute, give: &mut Give<'_>) {
        let authority = || self.view.published.entry(&Address::domain_authority(&domain.name));
        match attribute {
            Attribute::ObjectClass => {
                give.all(&["top", "organization", "dcObject"]);
                if authority().is_some_and(|entry| entry.authorities(self.view.now).next().is_some()) {
                    give.one("pkiCA");
                }
            }
            Attribute::StructuralObjectClass => give.one("organization"),
            Attribute::Dc => give.one(domain.name.as_str().split('.').next().unwrap_or_default()),
            Attribute::O => give.one(domain.name.as_str()),
            Attribute::CaCertificate => {
                if let Some(entry) = authority() {
                    entry.authorities(self.view.now).for_each(|certificate| give.octets(certificate.der()));
                }
            }
            Attribute::EntryUuid => give.one(&uuid("domain", domain.name.as_str())),
            Attribute::ContextCsn => give.one(&self.view.context_csn()),
            _ => {}
        }
    }

    fn mailbox_values(&self, entry: &Entry, attribute: Attribute, give: &mut Give<'_>) {
        match attribute {
            Attribute::ObjectClass => give.all(&["top", "person", "organizationalPerson", "inetOrgPerson", "pkiUser"]),
            Attribute::StructuralObjectClass => give.one("inetOrgPerson"),
            Attribute::Cn => common_names(entry, self.view.now).into_iter().for_each(|name| give.one(name)),
            // The class person must have one (RFC 4519 section 3.12). No certificate says which part of a name it is;
            // the last word is the usual guess.
            Attribute::Sn => {
                if let Some(name) = common_names(entry, self.view.now).first() {
                    give.one(name.split_whitespace().next_back().unwrap_or(name));
                }
            }
            Attribute::Uid => give.one(entry.uid()),
            Attribute::Mail => give.one(&entry.address.to_string()),
            Attribute::UserCertificate => {
                entry.visible(self.view.now).for_each(|certificate| give.octets(certificate.der()));
            }
            Attribute::EntryUuid => give.one(&uuid("mailbox", &entry.address.to_string())),
            Attribute::EntryCsn => give.one(&timestamp::csn(entry.changed_at, entry.version)),
            Attribute::ModifyTimestamp => give.one(&timestamp::generalized(entry.changed_at)),
            _ => {}
        }
    }
}

impl Values for Seen<'_> {
    fn values(&self, attribute: Attribute, each: &mut dyn FnMut(&[u8]) -> bool) {
        let give = &mut Give { each, more: true };
        match (attribute, self.node) {
            (Attribute::EntryDn, _) => give.one(&self.dn()),
            (Attribute::SubschemaSubentry, _) => give.one(SUBSCHEMA),
            (_, Node::Root) => self.root_values(attribute, give),
            (_, Node::Subschema) => Self::subschema_values(attribute, give),
            (_, Node::Domain(domain)) => self.domain_values(domain, attribute, give),
            (_, Node::Mailbox(entry)) => self.mailbox_values(entry, attribute, give),
        }
    }
}

/// Passes values on until the receiver has heard enough.
struct Give<'a> {
    each: &'a mut dyn FnMut(&[u8]) -> bool,
    more: bool,
}

impl Give<'_> {
    fn octets(&mut self, value: &[u8]) {
        if self.more {
            self.more = (self.each)(value);
        }
    }

    fn one(&mut self, value: &str) {
        self.octets(value.as_bytes());
    }

    fn all(&mut self, values: &[&str]) {
        values.iter().for_each(|value| self.one(value));
    }
}

/// The different common names in the certificates an entry shows, or its local part when they have none.
fn common_names(entry: &Entry, now: UnixTime) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in entry.visible(now).filter_map(|certificate: &Visible| certificate.common_name.as_deref()) {
        let prepared = schema::prepare(name);
        if !prepared.is_empty() && !names.iter().any(|known| schema::prepare(known) == prepared) {
            names.push(name);
        }
    }
    if names.is_empty() { vec![entry.uid()] } else { names }
}

/// An entryUUID (RFC 4530) that is the same at every node and after every restart: SHA-256 of what names the entry, in
/// the form that RFC 9562 section 5.8 leaves for such (version 8).
fn uuid(kind: &str, name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("certdir {kind} {name}")).into();
    let bits = digest.iter().take(16).fold(0u128, |bits, octet| (bits << 8) | u128::from(*octet));
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_stable_and_well_formed() {
        let one = uuid("mailbox", "alice@example.org");
        assert_eq!(one, uuid("mailbox", "alice@example.org"));
        assert_ne!(one, uuid("domain", "alice@example.org"));
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'8', "version");
        assert!(b"89ab".contains(&one.as_bytes()[19]), "variant");
    }

    #[test]
    fn domains_are_below_each_other_by_whole_labels() {
        let domain = |text: &str| DomainName::parse(text).unwrap();
        assert!(is_at_or_below(&domain("example.org"), &domain("example.org")));
        assert!(is_at_or_below(&domain("a.b.example.org"), &domain("example.org")));
        assert!(!is_at_or_below(&domain("badexample.org"), &domain("example.org")));
        assert!(!is_at_or_below(&domain("example.org"), &domain("a.example.org")));
    }
}
