//! [`Names`]: the nodes of a zone by name, as a value that is cheap to copy and to change.

use crate::table::Table;
use crate::{Name, Node};
use foldhash::quality::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Nodes by name.
#[derive(Clone, Default)]
pub(crate) struct Names {
    nodes: Table<(Name, Arc<Node>)>,
    /// Keyed at random: names come from whoever may publish, and must not collide at will.
    hasher: RandomState,
}

impl Names {
    pub(crate) fn get(&self, wire: &[u8]) -> Option<&Arc<Node>> {
        self.nodes.under(self.hash(wire)).find(|(name, _)| name.as_wire() == wire).map(|(_, node)| node)
    }

    pub(crate) fn get_mut(&mut self, name: &Name) -> Option<&mut Arc<Node>> {
        let hash = self.hash(name.as_wire());
        self.nodes.get_mut(hash, |(other, _)| other == name).map(|(_, node)| node)
    }

    /// Puts a node where none is.
    pub(crate) fn insert(&mut self, name: Name, node: Node) {
        self.nodes.insert(self.hash(name.as_wire()), (name, Arc::new(node)));
    }

    pub(crate) fn remove(&mut self, name: &Name) {
        self.nodes.remove(self.hash(name.as_wire()), |(other, _)| other == name);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.nodes.iter().map(|(name, node)| (name, &**node))
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn hash(&self, wire: &[u8]) -> u64 {
        self.hasher.hash_one(wire)
    }

    /// A name under a hash and its node, most likely the one that was hashed.
    pub(crate) fn likely(&self, hash: u64) -> Option<(&Name, &Arc<Node>)> {
        self.nodes.under(hash).next().map(|(name, node)| (name, node))
    }
}
