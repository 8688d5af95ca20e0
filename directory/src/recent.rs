//! [`Recent`]: whose records changed in the latest sets, for those who follow single names.

use std::collections::VecDeque;
use std::sync::Arc;

use certdir_zones::{Name, Zone};

/// Sets that are remembered. Who has not looked for longer compares everything.
const SETS: usize = 64;
/// Names that are remembered of one set: whoever follows fewer names than change compares all that it follows.
const NAMES: usize = 4_096;

/// The owners of records that changed from set to set.
#[derive(Clone)]
pub(crate) struct Recent {
    /// Oldest first, each with the revision before it.
    sets: VecDeque<(u64, Arc<[Name]>)>,
    /// Those of the set in the making; none once there are too many, or nobody can say.
    open: Option<Vec<Name>>,
}

impl Recent {
    /// Nothing is known of what comes until the first set is complete: it would be everything.
    pub(crate) fn unknown() -> Recent {
        Recent { sets: VecDeque::new(), open: None }
    }

    /// The records of a name in a zone are about to change, or have. Called before records are put and after they were
    /// taken away, so that names above, which come and go with it (RFC 4592 section 2.2.2), are noticed.
    pub(crate) fn touch(&mut self, zone: &Zone, owner: &Name) {
        let Some(open) = self.open.as_mut().filter(|open| open.len() < NAMES) else {
            self.open = None;
            return;
        };
        open.push(owner.clone());
        let mut above = owner.parent();
        while let Some(name) = above.filter(|name| name.is_at_or_below(zone.apex())) {
            if zone.get(name.as_wire()).is_some() {
                break;
            }
            above = name.parent();
            open.push(name);
        }
    }

    /// More changed than can be told.
    pub(crate) fn forget(&mut self) {
        self.open = None;
    }

    /// The set is complete; `before` is the revision of the one it was made from.
    pub(crate) fn close(&mut self, before: u64) {
        match self.open.replace(Vec::new()) {
            Some(names) => self.sets.push_back((before, names.into())),
            None => self.sets.clear(),
        }
        if self.sets.len() > SETS {
            self.sets.pop_front();
        }
    }

    /// The names that changed since the set of a revision, some of them several times; none where that is not known.
    pub(crate) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Name>> {
        let first = self.sets.iter().position(|(before, _)| *before == revision)?;
        Some(self.sets.iter().skip(first).flat_map(|(_, names)| names.iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use certdir_zones::ZoneKey;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn since(recent: &Recent, revision: u64) -> Option<Vec<String>> {
        recent.since(revision).map(|names| names.map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_told_until_too_much_happened() {
        let zone = Zone::new(name("example.org"), Arc::new(ZoneKey::generate().unwrap().0));
        let mut recent = Recent::unknown();
        recent.touch(&zone, &name("a.example.org"));
        recent.close(0);
        assert_eq!(since(&recent, 0), None, "the first set is everything");
        for revision in 1..=3 {
            recent.touch(&zone, &name(&format!("x{revision}.b.example.org")));
            recent.close(revision);
        }
        let expected = ["x2.b.example.org.", "b.example.org.", "x3.b.example.org.", "b.example.org."];
        assert_eq!(since(&recent, 2).unwrap(), expected);
        recent.forget();
        recent.close(4);
        assert_eq!(since(&recent, 3), None);
        for revision in 5..5 + 2 * SETS as u64 {
            recent.close(revision);
        }
        assert_eq!((since(&recent, 5), since(&recent, 4 + 2 * SETS as u64)), (None, Some(Vec::new())));
        (0..=NAMES).for_each(|_| recent.touch(&zone, &name("example.org")));
        recent.close(999);
        assert_eq!(since(&recent, 999), None);
    }
}
