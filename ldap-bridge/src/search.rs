//! Finding what a search asks for: which nodes to look at, which limits hold, what comes back. Synchronous and without
//! clock or lock: everything is found in one [`View`].

use std::collections::HashSet;
use std::sync::Arc;

use certdir_directory::{Attribute as Indexed, Domain, Entry};

use crate::ber::{self, OCTETS, SEQUENCE, SET};
use crate::dn::Dn;
use crate::filter::{Filter, Pin, Truth, Values};
use crate::message::{Attributes, ResponseTag, Scope, Search};
use crate::refusal::Refusal;
use crate::schema::{Attribute, DEFINITIONS};
use crate::tree::{self, Node, Seen, View};

/// The most entries for a search that is not pinned by an equality on mail, uid or cn: enough to see that something is
/// there, too few to collect addresses.
pub(crate) const STRANGER_ENTRIES: usize = 5;
/// The most entries for a pinned search; that many people of one name are no longer an answer.
const MAX_ENTRIES: usize = 500;
/// The most nodes one search looks at.
const MAX_EXAMINED: usize = 10_000;
/// The most filter elements one search evaluates, all nodes together, when anything may match: such a search counts as
/// one look-up and holds its thread for some 20 milliseconds at worst.
const MAX_EVALUATED: usize = 30_000;
/// The same for a pinned search, which pays one look-up for each pinned value.
const MAX_EVALUATED_PINNED: usize = 200_000;

/// What a search found: the nodes to send, and why there are not more of them.
pub(crate) struct Found<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) incomplete: Option<Refusal>,
    /// Whether finding them took more than a few look-ups.
    pub(crate) was_long: bool,
}

/// How many look-ups a search counts as: one for each address it names, at least one; none for the server's own entries.
pub(crate) fn cost(base: &Dn, search: &Search<'_>) -> usize {
    match search.scope {
        Scope::Base if base.components().is_empty() || tree::is_subschema(base) => 0,
        Scope::Base => 1,
        _ => search.filter.pins().map_or(1, |pins| pins.len().max(1)),
    }
}

/// Finds the nodes of a search (RFC 4511 section 4.5.1).
pub(crate) fn find<'a>(view: View<'a>, base: &Dn, search: &Search<'_>) -> Result<Found<'a>, Refusal> {
    let base = view.locate(base)?;
    let pins = search.filter.pins();
    let (server_limit, at_server_limit) = match pins {
        Some(_) => (MAX_ENTRIES, Refusal::SizeLimit),
        None => (STRANGER_ENTRIES, Refusal::StrangerLimit { limit: STRANGER_ENTRIES }),
    };
    // RFC 4511 section 4.5.1.4: 0 is no limit of the client's own; the server's holds in any case.
    let (limit, at_limit) = match search.size_limit {
        1.. if search.size_limit <= server_limit => (search.size_limit, Refusal::SizeLimit),
        _ => (server_limit, at_server_limit),
    };
    let evaluated = if pins.is_some() { MAX_EVALUATED_PINNED } else { MAX_EVALUATED };
    let mut walk = Walk {
        view,
        base,
        scope: search.scope,
        filter: &search.filter,
        limit,
        budget: MAX_EXAMINED.min(evaluated / search.filter.elements()),
        found: Found { nodes: Vec::new(), incomplete: None, was_long: pins.is_none() },
        at_limit: Some(at_limit),
    };
    match (search.scope, base, pins) {
        (Scope::Base, ..) | (Scope::Subtree, Node::Mailbox(_) | Node::Subschema, _) => _ = walk.offer(base),
        (Scope::OneLevel, Node::Mailbox(_) | Node::Subschema, _) => {}
        (_, _, Some(pins)) => walk.pinned(&pins),
        (_, _, None) => walk.everything(),
    }
    Ok(walk.found)
}

struct Walk<'a, 's> {
    view: View<'a>,
    base: Node<'a>,
    scope: Scope,
    filter: &'s Filter,
    limit: usize,
    budget: usize,
    found: Found<'a>,
    at_limit: Option<Refusal>,
}

impl<'a> Walk<'a, '_> {
    fn pinned(&mut self, pins: &[Pin<'_>]) {
        let mut offered: HashSet<*const Entry> = HashSet::new();
        for pin in pins {
            let attribute = match pin.attribute {
                Attribute::Mail => Indexed::Mail,
                Attribute::Uid => Indexed::Uid,
                _ => Indexed::Cn,
            };
            for entry in self.view.published.entries_by(attribute, pin.value) {
                if offered.insert(Arc::as_ptr(entry)) && !self.offer_entry(entry) {
                    return;
                }
            }
        }
    }

    fn everything(&mut self) {
        let published = self.view.published;
        // Below a domain only its own entries, and those of domains below it, are walked: the budget is for them.
        let base = match self.base {
            Node::Domain(base) => Some(base),
            _ => None,
        };
        let within = |domain: &Domain| base.is_none_or(|base| tree::is_at_or_below(&domain.name, &base.name));
        let mut domains = published.domains().filter(|domain| within(domain));
        if domains.all(|domain| self.offer(Node::Domain(domain))) {
            let domains = published.domains().filter(|domain| within(domain));
            let _ = domains.flat_map(|domain| published.entries_in(&domain.name)).all(|entry| self.offer_entry(entry));
        }
    }

    fn offer_entry(&mut self, entry: &'a Arc<Entry>) -> bool {
        match self.view.mailbox(entry) {
            Some(node) => self.offer(node),
            None => true,
        }
    }

    /// Looks at one node; false when the search is over.
    fn offer(&mut self, node: Node<'a>) -> bool {
        if self.budget == 0 {
            self.found.incomplete = Some(Refusal::TooMuchWork);
            return false;
        }
        self.budget -= 1;
        let seen = Seen { view: self.view, node };
        if !self.is_in_scope(node) || self.filter.evaluate(&seen) != Truth::True {
            return true;
        }
        if self.found.nodes.len() == self.limit {
            self.found.incomplete = self.at_limit.take();
            return false;
        }
        self.found.nodes.push(node);
        true
    }

    fn is_in_scope(&self, node: Node<'a>) -> bool {
        match (self.base, node, self.scope) {
            // The node itself was offered.
            (_, _, Scope::Base) | (Node::Mailbox(_) | Node::Subschema, _, _) => true,
            // The domains are the contexts directly below the root.
            (Node::Root, Node::Domain(_), _) | (Node::Root, _, Scope::Subtree) => true,
            (Node::Root, _, Scope::OneLevel) => false,
            (Node::Domain(base), Node::Domain(domain), Scope::Subtree) => {
                tree::is_at_or_below(&domain.name, &base.name)
            }
            (Node::Domain(base), Node::Domain(domain), Scope::OneLevel) => {
                domain.name.as_str().split_once('.').is_some_and(|(_, above)| above == base.name.as_str())
            }
            (Node::Domain(base), Node::Mailbox(entry), Scope::Subtree) => {
                tree::is_at_or_below(entry.address.domain(), &base.name)
            }
            (Node::Domain(base), Node::Mailbox(entry), Scope::OneLevel) => *entry.address.domain() == base.name,
            (Node::Domain(_), Node::Root | Node::Subschema, _) => false,
        }
    }
}

/// The attributes to send (RFC 4511 section 4.5.1.8), as a set of bits in the order of [`Attribute`]. Being a set, it
/// sends a value once however often and under whatever names it was asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Selection(u32);

impl Selection {
    pub(crate) fn new(attributes: Attributes<'_>) -> Selection {
        let all = |operational: bool| {
            DEFINITIONS.iter().filter(|d| d.operational == operational).fold(0, |set, d| set | bit(d.attribute))
        };
        let mut names = attributes.peekable();
        // No list means all user attributes, and so does "*"; "+" means all operational ones (RFC 3673).
        if names.peek().is_none() {
            return Selection(all(false));
        }
        Selection(names.fold(0, |set, name| {
            set | match name {
                b"*" => all(false),
                b"+" => all(true),
                // "1.1", no attributes, and names unknown here add nothing.
                name => {
                    Attribute::parse(name).map_or(0, |a| a.with_subtypes().iter().fold(bit(a), |set, a| set | bit(*a)))
                }
            }
        }))
    }

    fn has(self, attribute: Attribute) -> bool {
        self.0 & bit(attribute) != 0
    }
}

fn bit(attribute: Attribute) -> u32 {
    1 << (attribute as u32)
}

/// Writes a node as SearchResultEntry (RFC 4511 section 4.5.2).
pub(crate) fn put_entry(out: &mut Vec<u8>, id: i32, seen: Seen<'_>, selection: Selection, types_only: bool) {
    let message = ber::open(out, SEQUENCE);
    ber::put_integer(out, ber::INTEGER, id);
    let operation = ber::open(out, ResponseTag::SearchEntry as u8);
    ber::put(out, OCTETS, seen.dn().as_bytes());
    let attributes = ber::open(out, SEQUENCE);
    for definition in DEFINITIONS.iter().filter(|d| selection.has(d.attribute)) {
        let before = out.len();
        let mut has_values = false;
        let attribute = ber::open(out, SEQUENCE);
        ber::put(out, OCTETS, definition.attribute.transfer_name().as_bytes());
        let set = ber::open(out, SET);
        seen.values(definition.attribute, &mut |value| {
            has_values = true;
            if !types_only {
                ber::put(out, OCTETS, value);
            }
            !types_only
        });
        ber::close(out, set);
        ber::close(out, attribute);
        if !has_values {
            out.truncate(before);
        }
    }
    ber::close(out, attributes);
    ber::close(out, operation);
    ber::close(out, message);
}
