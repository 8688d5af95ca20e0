//! A moving clock: signatures are renewed, certificates begin and end, and no answer is ever bogus.

use certdir_directory::{Action, Authority, Denial, Outcome, SIGNATURE_LIFETIME, State, WithdrawTarget};
use certdir_zones::{RecordType, smimea_owner, verify};

use crate::hosting;
use crate::world::{DAY, T0, Wanted, World, address};

#[tokio::test]
async fn no_signature_is_ever_bogus_across_two_lifetimes() {
    let mut world = World::with_domain("example.org").await;
    for n in 0..40 {
        world.publish(world.person(&format!("p{n}@example.org"), T0 - DAY)).await;
    }
    let ends = T0 + SIGNATURE_LIFETIME + 5_000;
    world.publish(world.issue(Wanted { addresses: &["ends@example.org"], to: ends, ..Wanted::default() })).await;
    let (mut serials, mut renewed) = (Vec::new(), std::collections::BTreeMap::<i64, usize>::new());
    let mut last = world.published().await;
    let mut now = T0;
    while now < T0 + 2 * SIGNATURE_LIFETIME + DAY {
        now += 3_600;
        world.set_now(now);
        while world.store.keep_up(now).await.unwrap() {}
        let published = world.published().await;
        let zone = published.zone_for(smimea_owner(&address("p0@example.org")).as_wire()).unwrap().clone();
        serials.push(zone.serial());
        let dnskey = zone.key().dnskey();
        let mut checked = 0;
        for (owner, node) in zone.names() {
            for signed in node.rrsets() {
                verify(&dnskey, owner, signed, now as u32).unwrap_or_else(|e| panic!("{owner} at {}: {e}", now - T0));
                assert!(signed.expiration() as i64 - now >= 3_600 || now + 3_600 > ends, "{owner} is cut close");
                checked += 1;
                let old = last.zone(zone.apex()).and_then(|z| z.get(owner.as_wire()));
                let same = old.is_some_and(|n| n.rrsets().iter().any(|o| o.rrsig == signed.rrsig));
                if !same && signed.rrset.rtype == RecordType::SMIMEA {
                    *renewed.entry(now).or_default() += 1;
                }
            }
        }
        assert_eq!(checked, 3 + 40 + usize::from(now <= ends));
        assert_eq!(published.entry(&address("ends@example.org")).is_some(), now <= ends, "at {}", now - T0);
        last = published;
    }
    assert!(
        serials.windows(2).all(|w| w[0] <= w[1]) && serials.first() < serials.last(),
        "each renewal moves the serial"
    );
    assert!(renewed.values().sum::<usize>() >= 120, "each was renewed from half of its life: {renewed:?}");
    assert!(renewed.len() > 10 && renewed.values().all(|n| *n < 40), "and not all at once: {renewed:?}");
    let history = world.store.history(&address("ends@example.org"), &Authority::Operator).await.unwrap();
    assert_eq!(history[0].state, State::Expired);
    let log = world.store.publications_since(0, 1_000).await.unwrap();
    assert_eq!(log.iter().filter(|row| row.action == Action::Expired).count(), 1);
}

#[tokio::test]
async fn a_staged_certificate_takes_over_by_itself() {
    let mut world = World::with_domain("example.org").await;
    let (old, new) = (world.person("a@example.org", T0 - DAY), world.person("a@example.org", T0 + DAY));
    world.publish(old.clone()).await;
    assert_eq!(world.publish(new.clone()).await.items[0].outcome, Outcome::Staged);
    assert_eq!(world.visible("a@example.org").await, [old]);
    world.set_now(T0 + DAY);
    world.store.keep_up(T0 + DAY).await.unwrap();
    assert_eq!(world.visible("a@example.org").await, [new]);
    let log = world.store.publications_since(2, 10).await.unwrap();
    assert_eq!(log.iter().map(|row| row.action).collect::<Vec<_>>(), [Action::Staged, Action::Published]);
}

#[tokio::test]
async fn a_view_hides_what_has_expired_even_before_upkeep_ran() {
    let mut world = World::with_domain("example.org").await;
    let wanted = Wanted { addresses: &["a@example.org"], to: T0 + 100, ..Wanted::default() };
    world.publish(world.issue(wanted)).await;
    assert_eq!(world.visible("a@example.org").await.len(), 1);
    world.set_now(T0 + 101);
    assert!(world.visible("a@example.org").await.is_empty());
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_an_error_and_never_emptiness() {
    let mut world = World::with_domain("example.org").await;
    world.publish(world.person("a@example.org", T0 - DAY)).await;
    world.published().await;
    world.set_now(T0 + 601);
    let error = world.reader.published().err().unwrap();
    assert_eq!(error.code(), "stale");
    assert!(world.reader.cache().load().is_err());
}

/// Two certificates that do not fit one answer together are refused while the second is only staged: at its beginning
/// upkeep, of every domain, would stand still.
#[tokio::test]
async fn what_could_not_be_shown_later_is_refused_now() {
    let mut world = World::with_domain("example.org").await;
    let wide = |from, padding| Wanted { addresses: &["a@example.org"], from, padding, ..Wanted::default() };
    assert_eq!(world.publish(world.issue(wide(T0 - DAY, 40_000))).await.items[0].outcome, Outcome::Published);
    let same_slot = world.issue(wide(T0 + DAY, 40_000));
    assert_eq!(world.publish(same_slot).await.items[0].outcome, Outcome::Staged, "it takes the first one's place");
    let huge =
        world.issue(Wanted { addresses: &["b@example.org"], from: T0 + DAY, padding: 64_900, ..Wanted::default() });
    assert_eq!(world.publish(huge).await.items[0].code.as_deref(), Some("too-large"));
    world.set_now(T0 + DAY);
    assert!(!world.store.keep_up(T0 + DAY).await.unwrap());
    assert_eq!(world.visible("a@example.org").await.len(), 1);
}

/// No answer shows a certificate, or a signature that ends with it, past its notAfter.
#[tokio::test]
async fn a_certificate_is_taken_out_before_its_signatures_end() {
    let mut world = World::with_domain("example.org").await;
    world.publish(world.issue(Wanted { addresses: &["a@example.org"], to: T0 + 100, ..Wanted::default() })).await;
    world.set_now(T0 + 98);
    world.store.keep_up(T0 + 98).await.unwrap();
    let owner = smimea_owner(&address("a@example.org"));
    assert!(world.published().await.zone_for(owner.as_wire()).unwrap().get(owner.as_wire()).is_none());
}

/// A year in steps of half a day, with publications, reissues, withdrawals and other records in between: never a signature
/// that does not hold, never a hole in the chain, and the serial only grows.
#[tokio::test]
async fn a_year_of_refreshes() {
    for denial in [Denial::Minimal, Denial::Chain] {
        let mut world = hosting::mail_world(denial).await;
        let operator = Authority::Operator;
        let (mut serial, mut grown) = (0, 0);
        for step in 0..730i64 {
            let now = T0 + step * DAY / 2;
            world.set_now(now);
            while world.store.keep_up(now).await.unwrap() {}
            let who = format!("p{}@example.org", step % 7);
            match step % 10 {
                0 | 5 => drop(world.publish(world.person(&who, now - DAY)).await),
                3 => {
                    // Nobody is there to be withdrawn at first.
                    let target = WithdrawTarget::Mailbox(address(&who));
                    drop(world.store.withdraw(target, None, &operator, now).await);
                }
                7 => {
                    let text = format!("step{step} A 192.0.2.1\np{} CNAME x\nsub NS ns.example.net.", step % 3);
                    let name = crate::world::domain("example.org");
                    world.store.set_records(&name, &text, &operator, now).await.unwrap();
                }
                _ => {}
            }
            let published = world.published().await;
            let zone = published.zone_for(address(&who).domain().name().as_wire()).unwrap();
            hosting::is_sound(zone, now);
            // Half a day later, before the next upkeep, everything must still hold.
            hosting::is_sound(zone, now + DAY / 2);
            assert!(zone.serial().wrapping_sub(serial) < 1 << 31, "never backwards");
            grown += u32::from(zone.serial() != serial);
            serial = zone.serial();
        }
        assert!(grown > 400, "{grown}");
    }
}

/// Signatures made under a clock that was ahead begin in the future for everybody else: they are made anew at once.
#[tokio::test]
async fn a_clock_that_was_ahead_leaves_nothing_behind() {
    let mut world = hosting::mail_world(Denial::Chain).await;
    world.publish(world.person("a@example.org", T0 - DAY)).await;
    let ahead = T0 + 40 * DAY;
    world.set_now(ahead);
    while world.store.keep_up(ahead).await.unwrap() {}
    world.publish(world.person("b@example.org", T0 - DAY)).await;
    let published = world.published().await;
    hosting::is_sound(published.zone_for(address("a@example.org").domain().name().as_wire()).unwrap(), ahead);
    let serial = published.zone_for(address("a@example.org").domain().name().as_wire()).unwrap().serial();
    world.set_now(T0 + DAY);
    while world.store.keep_up(T0 + DAY).await.unwrap() {}
    let published = world.published().await;
    let zone = published.zone_for(address("a@example.org").domain().name().as_wire()).unwrap();
    hosting::is_sound(zone, T0 + DAY);
    assert!(zone.serial().wrapping_sub(serial) < 1 << 31, "the serial does not follow the clock back");
    assert!(!world.store.keep_up(T0 + DAY).await.unwrap());
}

/// Who publishes does not wait for the log to be written back: upkeep does that, however often it has something to renew.
#[tokio::test]
async fn upkeep_writes_the_log_back_after_it_renewed() {
    let mut world = World::with_domain("example.org").await;
    world.publish(world.person("a@example.org", T0 - DAY)).await;
    while world.store.keep_up(T0).await.unwrap() {}
    let written = |text: &str| {
        let database = std::fs::read(world.folder.path().join("certdir.db")).unwrap();
        database.windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(written("a@example.org"));
    let now = T0 + SIGNATURE_LIFETIME / 2;
    world.set_now(now);
    world.publish(world.person("b@example.org", T0 - DAY)).await;
    assert!(!written("b@example.org"));
    let serial = world.store.domain(&crate::world::domain("example.org")).await.unwrap().serial;
    assert!(!world.store.keep_up(now).await.unwrap());
    assert_ne!(world.store.domain(&crate::world::domain("example.org")).await.unwrap().serial, serial, "it renewed");
    assert!(written("b@example.org"));
    assert_eq!(world.visible("b@example.org").await.len(), 1);
}

/// After a time in which nothing ran, what has ended is renewed before what is only due.
#[tokio::test]
async fn what_has_ended_is_renewed_first() {
    let mut world = World::with_domain("example.org").await;
    for n in 0..260 {
        let der = world.person(&format!("due{n}@example.org"), T0 - DAY);
        world.set_now(T0 + DAY);
        world.publish(der).await;
    }
    world.set_now(T0);
    for n in 0..200 {
        world.publish(world.person(&format!("ended{n}@example.org"), T0 - DAY)).await;
    }
    // New settings make all of them due at once: by that alone, those that came first would be first.
    let ttl = serde_json::json!({ "ttl": 600 });
    let name = crate::world::domain("example.org");
    world.store.change_domain(&name, ttl.as_object().unwrap(), &Authority::Operator, T0 + DAY).await.unwrap();
    let now = T0 + SIGNATURE_LIFETIME + 7_200;
    world.set_now(now);
    // Certificates that end are looked after before anything else; here none do.
    assert!(!world.store.begin_and_end(now).await.unwrap());
    world.store.keep_up(now).await.unwrap();
    let published = world.published().await;
    let zone = published.zone_for(smimea_owner(&address("a@example.org")).as_wire()).unwrap();
    let holds = |of: &str| {
        let node = zone.get(smimea_owner(&address(of)).as_wire()).unwrap();
        node.rrsets().iter().all(|signed| i64::from(signed.expiration()) > now)
    };
    assert!((0..200).all(|n| holds(&format!("ended{n}@example.org"))), "all that had ended");
}
