//! Which certificate is current: a pure rule over all certificates a mailbox ever had.
//!
//! A mailbox has one *slot* for each purpose and kind of key. In a slot the certificate with the highest rank decides,
//! among all whose validity has begun: the latest notBefore wins, whatever the order of arrival; bringing one back by
//! request ranks it above everything before. Only that one may be current. When it is withdrawn or expires, the slot is
//! empty: a certificate that was superseded, whose key its owner may have thrown away, never comes back by itself.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use certdir_certificate::UnixTime;
use certdir_zones::rrset::RECORD_OVERHEAD;

use crate::rows::{Binding, State};

/// What a certificate may be used for; bits of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Purposes(pub(crate) u8);

impl Purposes {
    /// Encrypting to the mailbox.
    pub(crate) const ENCRYPT: Purposes = Purposes(1);
    /// Checking the mailbox's signatures.
    pub(crate) const SIGN: Purposes = Purposes(2);
    /// Issuing certificates for the domain's people.
    pub(crate) const ISSUE: Purposes = Purposes(4);

    /// Whether all of another set's purposes are in this one.
    pub(crate) fn has(self, other: Purposes) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn with(self, other: Purposes) -> Purposes {
        Purposes(self.0 | other.0)
    }
}

/// Signing-only certificates are kept and superseded like others, but nobody can encrypt to them: never visible.
const SHOWN: [Purposes; 2] = [Purposes::ENCRYPT, Purposes::ISSUE];

/// Seconds before its notAfter at which a certificate is taken out, so that no answer shows it, or a signature that ends with
/// it, after that moment.
pub(crate) const END_MARGIN: i64 = 2;

/// Brings the state of each of a mailbox's certificates up to date. Returns the next moment at which one changes by itself.
pub(crate) fn settle(bindings: &mut [Binding], now: UnixTime) -> Option<UnixTime> {
    let current: Vec<Purposes> = bindings.iter().map(|b| current_purposes(b, bindings, now)).collect();
    let mut next = None;
    for (binding, current) in bindings.iter_mut().zip(current) {
        let certificate = &binding.certificate;
        binding.state = match binding.state {
            State::Withdrawn => State::Withdrawn,
            _ if certificate.not_after <= now.saturating_add(END_MARGIN) => State::Expired,
            _ if certificate.not_before > now => State::Staged,
            _ if current == Purposes::default() => State::Superseded,
            _ => State::Current,
        };
        binding.visible = binding.state == State::Current && SHOWN.iter().any(|purpose| current.has(*purpose));
        let moment = match binding.state {
            State::Staged => Some(certificate.not_before),
            State::Current => Some(certificate.not_after.saturating_sub(END_MARGIN)),
            State::Withdrawn | State::Expired | State::Superseded => None,
        };
        next = [next, moment].into_iter().flatten().min();
    }
    next
}

fn current_purposes(binding: &Binding, all: &[Binding], now: UnixTime) -> Purposes {
    [Purposes::ENCRYPT, Purposes::SIGN, Purposes::ISSUE]
        .into_iter()
        .filter(|purpose| binding.purposes.has(*purpose))
        .filter(|purpose| {
            all.iter()
                .filter(|other| other.purposes.has(*purpose) && other.slot == binding.slot)
                // Hosted again, a domain begins anew: what went with it stands in nobody's way.
                .filter(|other| other.certificate.not_before <= now && !other.went_with_domain())
                .max_by_key(|other| rank(other))
                .is_some_and(|top| top.certificate.id == binding.certificate.id)
        })
        .fold(Purposes::default(), Purposes::with)
}

/// The rank of a certificate in its slot. Many CAs round notBefore to midnight: of two that begin together the one that
/// ends later wins, then the one that came later.
pub(crate) fn rank(binding: &Binding) -> (u32, UnixTime, UnixTime, i64) {
    let certificate = &binding.certificate;
    (binding.restored, certificate.not_before, certificate.not_after, certificate.id)
}

/// The standing of a certificate that is new: one that was brought back by request stands above all before it, not above what
/// is issued after it.
pub(crate) fn inherited(bindings: &[Binding], slot: &str, not_before: UnixTime) -> u32 {
    let older = bindings.iter().filter(|b| b.slot == slot && b.certificate.not_before <= not_before);
    let older = older.filter(|b| !b.went_with_domain());
    older.map(|b| b.restored).max().unwrap_or(0)
}

/// Octets of the largest RRset that can ever be visible: the largest certificate of each slot, current or to come.
pub(crate) fn largest(bindings: &[Binding]) -> usize {
    let mut slots: BTreeMap<&str, usize> = BTreeMap::new();
    for binding in bindings.iter().filter(|b| matches!(b.state, State::Current | State::Staged)) {
        if SHOWN.iter().any(|purpose| binding.purposes.has(*purpose)) {
            let octets = binding.certificate.rdata.len() + RECORD_ROOM;
            let largest = slots.entry(&binding.slot).or_default();
            *largest = octets.max(*largest);
        }
    }
    slots.values().sum()
}

/// Room for a record beside its RDATA, in the larger of SMIMEA's and CERT's forms.
const RECORD_ROOM: usize = RECORD_OVERHEAD + 16;

/// Newest first: the order in which views show several certificates.
pub(crate) fn order(bindings: &mut [Binding]) {
    bindings.sort_by_key(|binding| Reverse(rank(binding)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::tests::binding;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    fn states(bindings: &mut [Binding], now: UnixTime) -> Vec<State> {
        settle(bindings, now);
        bindings.iter().map(|b| b.state).collect()
    }

    #[test]
    fn the_latest_not_before_is_current_whatever_the_order() {
        let (old, new) = (binding(1, 0, 100 * DAY), binding(2, 10 * DAY, 100 * DAY));
        assert_eq!(states(&mut [old.clone(), new.clone()], 20 * DAY), [State::Superseded, State::Current]);
        assert_eq!(states(&mut [new, old], 20 * DAY), [State::Current, State::Superseded]);
    }

    #[test]
    fn of_two_that_begin_together_the_later_end_wins_then_the_later_arrival() {
        let same_day = [binding(1, 0, 100 * DAY), binding(2, 0, 90 * DAY), binding(3, 0, 100 * DAY)];
        let expected = [State::Superseded, State::Superseded, State::Current];
        assert_eq!(states(&mut same_day.clone(), DAY), expected);
    }

    #[test]
    fn withdrawing_or_expiry_of_the_newer_brings_nothing_back_unless_restored() {
        let mut bindings = [binding(1, 0, 100 * DAY), binding(2, 10 * DAY, 50 * DAY)];
        bindings[1].state = State::Withdrawn;
        assert_eq!(states(&mut bindings, 20 * DAY), [State::Superseded, State::Withdrawn]);
        bindings[1].state = State::Current;
        assert_eq!(states(&mut bindings, 60 * DAY), [State::Superseded, State::Expired]);
        bindings[0].restored = 1;
        assert_eq!(states(&mut bindings, 60 * DAY), [State::Current, State::Expired]);
        assert!(bindings[0].visible && !bindings[1].visible);
    }

    #[test]
    fn a_staged_certificate_takes_over_at_its_not_before_and_not_earlier() {
        let mut bindings = [binding(1, 0, 100 * DAY), binding(2, 30 * DAY, 200 * DAY)];
        assert_eq!(settle(&mut bindings, 30 * DAY - 1), Some(30 * DAY));
        assert_eq!((bindings[0].state, bindings[1].state), (State::Current, State::Staged));
        assert_eq!(settle(&mut bindings, 30 * DAY), Some(200 * DAY - END_MARGIN));
        assert_eq!((bindings[0].state, bindings[1].state), (State::Superseded, State::Current));
    }

    #[test]
    fn kinds_of_key_and_purposes_have_slots_of_their_own() {
        let mut bindings = [binding(1, 0, 100 * DAY), binding(2, DAY, 100 * DAY), binding(3, 2 * DAY, 100 * DAY)];
        bindings[1].slot = "rsa".into();
        bindings[2].purposes = Purposes::SIGN;
        assert_eq!(states(&mut bindings, 5 * DAY), [State::Current, State::Current, State::Current]);
        assert!(!bindings[2].visible, "signing only");
        assert!(bindings[0].visible, "dual use, superseded for signing but not for encryption");
    }

    proptest! {
        /// At most one visible certificate a slot, always valid, never older than another one that has begun.
        #[test]
        fn at_most_one_is_visible_and_it_is_the_newest(
            dates in prop::collection::vec((0i64..50, 1i64..60, any::<bool>(), 0u32..3), 0..12), now in 0i64..100
        ) {
            let mut bindings: Vec<Binding> = dates.iter().enumerate().map(|(id, (from, length, withdrawn, restored))| {
                let mut b = binding(id as i64, *from, from + length);
                if *withdrawn { b.state = State::Withdrawn }
                b.restored = *restored;
                b
            }).collect();
            settle(&mut bindings, now);
            let visible: Vec<&Binding> = bindings.iter().filter(|b| b.visible).collect();
            prop_assert!(visible.len() <= 1);
            for shown in &visible {
                prop_assert!(shown.certificate.not_before <= now && now <= shown.certificate.not_after);
                prop_assert!(bindings.iter().filter(|b| b.certificate.not_before <= now).all(|b| rank(b) <= rank(shown)));
            }
            let mut reversed = bindings.clone();
            reversed.reverse();
            settle(&mut reversed, now);
            reversed.reverse();
            prop_assert!(bindings.iter().zip(&reversed).all(|(a, b)| a.state == b.state && a.visible == b.visible));
        }
    }
}
