//! Publishing, withdrawing, who may, and what the views then see.

use certdir_directory::{
    Address, Attribute, Authority, CertData, Error, Hosting, Outcome, PublishOptions, Role, Settings, State, Store,
    Submission, WithdrawTarget,
};
use certdir_zones::{RecordType, cert_owner, smimea_owner, smimea_wildcard};
use rcgen::KeyUsagePurpose;

use crate::world::{DAY, T0, Wanted, World, address, domain};

#[tokio::test]
async fn a_certificate_is_seen_by_all_views_at_one_version() {
    let mut world = World::with_domain("example.org").await;
    let der = world.person("Alice@example.org", T0 - DAY);
    let report = world.publish(der.clone()).await;
    assert_eq!(report.items[0].outcome, Outcome::Published, "{report:?}");
    assert_eq!(report.items[0].addresses, ["Alice@example.org"]);
    let published = world.published().await;
    assert_eq!(published.version(), report.version);
    for spelling in ["Alice@example.org", "alice@example.org"] {
        let owner = smimea_owner(&address(spelling));
        let zone = published.zone_for(owner.as_wire()).unwrap();
        let rrset =
            zone.get(owner.as_wire()).unwrap().rrsets().iter().find(|s| s.rrset.rtype == RecordType::SMIMEA).unwrap();
        assert_eq!(&rrset.rrset.rdata()[0][3..], &der[..], "{spelling}");
        assert_eq!(published.entry(&address(spelling)).unwrap().visible(T0).next().unwrap().der(), der);
    }
    for (attribute, value) in
        [(Attribute::Mail, "ALICE@Example.ORG"), (Attribute::Uid, "alice"), (Attribute::Cn, "alice@EXAMPLE.org")]
    {
        assert_eq!(published.entries_by(attribute, value).count(), 1, "{attribute:?}");
        assert_eq!(published.entries_by(attribute, "nobody").count(), 0);
    }
    let sha256 = published.entry(&address("alice@example.org")).unwrap().certificates[0].sha256;
    assert!(published.entries_of(&sha256).next().is_some());
}

#[tokio::test]
async fn a_reissue_supersedes_whatever_the_order_and_nothing_comes_back_unasked() {
    for newer_first in [false, true] {
        let mut world = World::with_domain("example.org").await;
        let old = world.person("alice@example.org", T0 - 10 * DAY);
        let new = world.person("alice@example.org", T0 - DAY);
        let order = if newer_first { [&new, &old] } else { [&old, &new] };
        for der in order {
            world.publish(der.clone()).await;
        }
        assert_eq!(world.visible("alice@example.org").await, std::slice::from_ref(&new), "newer first: {newer_first}");
        let history = world.store.history(&address("alice@example.org"), &Authority::Operator).await.unwrap();
        assert_eq!(history.iter().map(|row| row.state).collect::<Vec<_>>(), [State::Current, State::Superseded]);

        let target = WithdrawTarget::Mailbox(address("ALICE@example.org"));
        let report = world.store.withdraw(target, Some("left".into()), &Authority::Operator, T0).await.unwrap();
        assert_eq!(report.items.len(), 1);
        assert!(world.visible("alice@example.org").await.is_empty(), "the older one stays where it is");
        let again = world.publish(old.clone()).await;
        assert_eq!(again.items[0].outcome, Outcome::Unchanged, "a bulk import brings no dead key back");
        assert!(again.items[0].warnings[0].contains("--restore"), "{again:?}");
        assert!(world.visible("alice@example.org").await.is_empty());
        let asked = PublishOptions { restore: true, ..PublishOptions::default() };
        world.publish_with(old.clone(), asked, &Authority::Operator).await;
        assert_eq!(world.visible("alice@example.org").await, [old]);
    }
}

#[tokio::test]
async fn an_older_certificate_first_seen_after_the_withdrawal_stays_in_the_history() {
    let mut world = World::with_domain("example.org").await;
    let (old, new) = (world.person("a@example.org", T0 - 9 * DAY), world.person("a@example.org", T0 - DAY));
    world.publish(new).await;
    let target = WithdrawTarget::Mailbox(address("a@example.org"));
    world.store.withdraw(target, None, &Authority::Operator, T0).await.unwrap();
    let report = world.publish(old).await;
    assert_eq!(report.items[0].outcome, Outcome::Superseded);
    assert!(report.items[0].warnings[0].contains("--restore"));
    assert!(world.visible("a@example.org").await.is_empty());
}

#[tokio::test]
async fn kinds_of_key_stand_side_by_side_and_signing_only_is_kept_unseen() {
    let mut world = World::with_domain("example.org").await;
    let signing = [KeyUsagePurpose::DigitalSignature];
    let encrypting = world.person("a@example.org", T0 - 2 * DAY);
    world.publish(encrypting.clone()).await;
    let wanted = Wanted { addresses: &["a@example.org"], usages: &signing, ..Wanted::default() };
    let report = world.publish(world.issue(wanted)).await;
    assert_eq!(report.items[0].outcome, Outcome::Kept);
    assert_eq!(world.visible("a@example.org").await, [encrypting]);
}

#[tokio::test]
async fn foreign_addresses_are_left_out_with_a_warning_and_nothing_else_is_refused() {
    let mut world = World::with_domain("example.org").await;
    let both = Wanted { addresses: &["a@example.org", "a@example.net"], ..Wanted::default() };
    let report = world.publish(world.issue(both)).await;
    assert_eq!(
        (report.items[0].outcome, &report.items[0].addresses[..]),
        (Outcome::Published, &["a@example.org".to_string()][..])
    );
    assert!(report.items[0].warnings.iter().any(|w| w.contains("example.net is not hosted")), "{report:?}");
    let foreign = world.person("a@example.net", T0 - DAY);
    let report = world.publish(foreign).await;
    assert_eq!(report.items[0].code.as_deref(), Some("not-hosted"));
    assert!(world.visible("a@example.net").await.is_empty());
}

#[tokio::test]
async fn bad_certificates_are_refused_each_with_its_code_and_the_good_ones_taken() {
    let mut world = World::with_domain("example.org").await;
    let good = world.person("good@example.org", T0 - DAY);
    let expired =
        world.issue(Wanted { addresses: &["x@example.org"], from: T0 - 9 * DAY, to: T0 - 1, ..Wanted::default() });
    let ca = world.ca.der().to_vec();
    let nameless = world.issue(Wanted::default());
    let crl_only =
        world.issue(Wanted { addresses: &["x@example.org"], usages: &[KeyUsagePurpose::CrlSign], ..Wanted::default() });
    let huge = world.issue(Wanted { addresses: &["x@example.org"], padding: 64_900, ..Wanted::default() });
    let fits = world.issue(Wanted { addresses: &["big@example.org"], padding: 50_000, ..Wanted::default() });
    let cut = good[..good.len() - 1].to_vec();
    let cases = [good, expired, ca, nameless, crl_only, huge, fits, cut, b"no certificate".to_vec()];
    let submissions = cases.into_iter().map(|der| Submission { der, origin: "x".into() }).collect();
    let report = world.store.publish(submissions, PublishOptions::default(), &Authority::Operator, T0).await.unwrap();
    let codes: Vec<Option<&str>> = report.items.iter().map(|item| item.code.as_deref()).collect();
    assert_eq!(codes[..5], [None, Some("expired"), Some("ca-certificate"), Some("no-address"), Some("not-for-mail")]);
    assert_eq!(codes[5..7], [Some("too-large"), None], "{:?}", report.items[5]);
    assert!(codes[7].is_some() && codes[8].is_some());
    assert!(
        report
            .items
            .iter()
            .filter(|item| item.code.is_some())
            .all(|item| !item.message.is_empty() && !item.message.contains('\n'))
    );
    assert_eq!(world.visible("good@example.org").await.len(), 1);
    assert!(world.visible("x@example.org").await.is_empty());
    assert_eq!(world.store.history(&address("x@example.org"), &Authority::Operator).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_domain_certificate_serves_the_wildcard_and_a_ca_stands_beside_it() {
    let mut world = World::with_domain("example.org").await;
    let gateway = world.issue(Wanted::default());
    let options = PublishOptions { domain_certificate: Some(domain("example.org")), ..PublishOptions::default() };
    let report = world.publish_with(gateway.clone(), options.clone(), &Authority::Operator).await;
    assert_eq!(report.items[0].addresses, ["domain-confidentiality-authority@example.org"]);
    let other = world.person("a@example.org", T0 - DAY);
    let refused = world.publish_with(other, options, &Authority::Operator).await;
    assert_eq!(refused.items[0].code.as_deref(), Some("names-other"));
    let ca = world.ca.der().to_vec();
    let options = PublishOptions { authority_for: Some(domain("example.org")), ..PublishOptions::default() };
    let report = world.publish_with(ca.clone(), options.clone(), &Authority::Operator).await;
    assert_eq!(report.items[0].outcome, Outcome::Published, "{report:?}");
    let not_ca = world.publish_with(gateway.clone(), options, &Authority::Operator).await;
    assert_eq!(not_ca.items[0].code.as_deref(), Some("not-a-ca"));

    let published = world.published().await;
    let wildcard = smimea_wildcard(&domain("example.org"));
    let zone = published.zone_for(wildcard.as_wire()).unwrap();
    let mut usages: Vec<u8> =
        zone.get(wildcard.as_wire()).unwrap().rrsets()[0].rrset.rdata().iter().map(|r| r[0]).collect();
    usages.sort_unstable();
    assert_eq!(usages, [2, 3]);
    let entry = published.entry(&Address::domain_authority(&domain("example.org"))).unwrap();
    assert_eq!(entry.visible(T0).map(|c| c.der().to_vec()).collect::<Vec<_>>(), [gateway]);
    assert_eq!(entry.authorities(T0).map(|c| c.der().to_vec()).collect::<Vec<_>>(), [ca]);
}

#[tokio::test]
async fn an_alias_is_asserted_and_a_mail_zone_has_cert_records() {
    let mut world = World::new().await;
    let name = domain("direct.example.org");
    let name_servers = vec!["ns1.example.net".to_string()];
    let settings =
        Settings { hosting: Hosting::Mail, cert_form: CertData::Der, name_servers, ..Settings::for_domain(&name) };
    world.store.add_domain(&name, settings, &Authority::Operator, T0).await.unwrap();
    let der = world.person("a@elsewhere.example", T0 - DAY);
    let alias = address("alias@direct.example.org");
    let options = PublishOptions { addresses: vec![alias.clone()], ..PublishOptions::default() };
    let report = world.publish_with(der.clone(), options, &Authority::Operator).await;
    assert!(report.items[0].warnings.iter().any(|w| w.contains("asserted")), "{report:?}");
    let published = world.published().await;
    assert!(published.entry(&alias).unwrap().certificates[0].asserted);
    let owner = cert_owner(&alias).unwrap();
    let node = published.zone_for(owner.as_wire()).unwrap().get(owner.as_wire()).unwrap();
    assert_eq!(&node.rrsets()[0].rrset.rdata()[0][5..], &der[..], "bare DER after type, tag and algorithm");
}

#[tokio::test]
async fn tokens_are_bound_to_their_domains_and_can_be_revoked() {
    let world = World::with_domain("example.org").await;
    world.add_domain("example.net").await;
    let (row, text) =
        world.store.add_token("ca", Role::Publisher, &[domain("example.org")], &Authority::Operator, T0).await.unwrap();
    let bearer = world.store.authenticate(&text).await.unwrap();
    let mine = world.publish_with(world.person("a@example.org", T0 - DAY), PublishOptions::default(), &bearer).await;
    assert_eq!(mine.items[0].outcome, Outcome::Published);
    let theirs = world.publish_with(world.person("a@example.net", T0 - DAY), PublishOptions::default(), &bearer).await;
    assert_eq!(theirs.items[0].code.as_deref(), Some("forbidden"));
    world.publish(world.person("b@example.net", T0 - DAY)).await;
    let denied = world.store.withdraw(WithdrawTarget::Mailbox(address("b@example.net")), None, &bearer, T0).await;
    assert!(matches!(denied, Err(Error::Forbidden(_))));
    assert!(matches!(world.store.tokens(&bearer).await, Err(Error::Forbidden(_))));
    for wrong in ["", "certdir_x_y", &text.replace(&row.id, "000000000000"), &text[..text.len() - 1]] {
        assert!(matches!(world.store.authenticate(wrong).await, Err(Error::BadToken)), "{wrong}");
    }
    let database = std::fs::read(world.folder.path().join("certdir.db")).unwrap();
    let wal = std::fs::read(world.folder.path().join("certdir.db-wal")).unwrap_or_default();
    let secret = text.rsplit('_').next().unwrap().as_bytes();
    assert!(![database, wal].iter().any(|file| file.windows(secret.len()).any(|w| w == secret)), "only a hash is kept");
    world.store.revoke_token(&row.id, &Authority::Operator, T0).await.unwrap();
    assert!(matches!(world.store.authenticate(&text).await, Err(Error::BadToken)));
}

#[tokio::test]
async fn each_change_has_a_version_each_batch_one_serial_and_a_dry_run_none() {
    let mut world = World::with_domain("example.org").await;
    let before = world.store.domain(&domain("example.org")).await.unwrap().serial;
    let batch = || {
        (0..5)
            .map(|n| Submission { der: world.person(&format!("p{n}@example.org"), T0 - DAY), origin: "x".into() })
            .collect::<Vec<_>>()
    };
    let dry = PublishOptions { dry_run: true, ..PublishOptions::default() };
    let report = world.store.publish(batch(), dry, &Authority::Operator, T0).await.unwrap();
    assert!(report.dry_run && report.items.iter().all(|item| item.outcome == Outcome::Published));
    assert!(world.published().await.is_empty());
    let batch = (0..5)
        .map(|n| Submission { der: world.person(&format!("p{n}@example.org"), T0 - DAY), origin: "x".into() })
        .collect::<Vec<_>>();
    let report = world.store.publish(batch.clone(), PublishOptions::default(), &Authority::Operator, T0).await.unwrap();
    let versions: Vec<u64> = report.items.iter().filter_map(|item| item.version).collect();
    assert_eq!(versions, [2, 3, 4, 5, 6], "1 was the domain");
    assert_eq!(world.store.domain(&domain("example.org")).await.unwrap().serial, before + 1);
    let again = world.store.publish(batch, PublishOptions::default(), &Authority::Operator, T0).await.unwrap();
    assert!(again.items.iter().all(|item| item.outcome == Outcome::Unchanged));
    assert_eq!((again.version, world.store.domain(&domain("example.org")).await.unwrap().serial), (6, before + 1));
    let log = world.store.publications_since(1, 100).await.unwrap();
    assert_eq!(log.len(), 5);
    for row in log {
        let detail = row.detail.unwrap();
        let commitment = data_encoding::HEXLOWER.encode(&detail.commitment(row.version, row.action));
        assert_eq!(commitment, row.commitment, "the log can be checked");
    }
}

#[tokio::test]
async fn a_restart_shows_the_same_signatures_and_another_process_is_followed() {
    let mut world = World::with_domain("example.org").await;
    world.publish(world.person("a@example.org", T0 - DAY)).await;
    let owner = smimea_owner(&address("a@example.org"));
    let published = world.published().await;
    let rrsig = |p: &certdir_directory::Published| {
        p.zone_for(owner.as_wire()).unwrap().get(owner.as_wire()).unwrap().rrsets()[0].rrsig.clone()
    };
    let other = Store::open(world.folder.path()).await.unwrap();
    let (_, reader) = certdir_directory::Follower::start(&other, crate::world::clock(&world.now)).await.unwrap();
    assert_eq!(rrsig(&reader.published().unwrap()), rrsig(&published));
    let submission = Submission { der: world.person("b@example.org", T0 - DAY), origin: "x".into() };
    other.publish(vec![submission], PublishOptions::default(), &Authority::Operator, T0).await.unwrap();
    assert_eq!(world.visible("b@example.org").await.len(), 1);
    assert!(published.entry(&address("b@example.org")).is_none(), "a pinned set never changes");
}

#[tokio::test]
async fn a_certificate_issued_after_a_restored_one_supersedes_it() {
    let mut world = World::with_domain("example.org").await;
    let issued: Vec<Vec<u8>> = (1..=4).map(|n| world.person("a@example.org", T0 - (10 - n) * DAY)).collect();
    world.publish(issued[0].clone()).await;
    world.publish(issued[1].clone()).await;
    let asked = PublishOptions { restore: true, ..PublishOptions::default() };
    world.publish_with(issued[0].clone(), asked, &Authority::Operator).await;
    assert_eq!(world.visible("a@example.org").await, issued[..1]);
    assert_eq!(world.publish(issued[2].clone()).await.items[0].outcome, Outcome::Published);
    assert_eq!(world.visible("a@example.org").await, issued[2..3]);
    let target = WithdrawTarget::Mailbox(address("a@example.org"));
    world.store.withdraw(target, Some("compromised".into()), &Authority::Operator, T0).await.unwrap();
    assert_eq!(world.publish(issued[3].clone()).await.items[0].outcome, Outcome::Published);
    assert_eq!(world.visible("a@example.org").await, issued[3..]);
}

/// Neither an alias nor a spelling goes on showing the key before, or nothing, when a reissue does not name it.
#[tokio::test]
async fn aliases_and_spellings_follow_a_reissue() {
    let mut world = World::with_domain("example.org").await;
    let old = world.person("Alice@example.org", T0 - 9 * DAY);
    let options = PublishOptions { addresses: vec![address("info@example.org")], ..PublishOptions::default() };
    world.publish_with(old, options, &Authority::Operator).await;
    let new = world.person("alice@example.org", T0 - DAY);
    let report = world.publish(new.clone()).await;
    assert!(report.items[0].warnings.iter().any(|w| w.contains("info@example.org follows")), "{report:?}");
    assert_eq!(world.visible("info@example.org").await, std::slice::from_ref(&new));
    let published = world.published().await;
    for spelling in ["Alice@example.org", "alice@example.org", "info@example.org"] {
        let owner = smimea_owner(&address(spelling));
        let node = published.zone_for(owner.as_wire()).unwrap().get(owner.as_wire()).expect(spelling);
        assert_eq!(&node.rrsets()[0].rrset.rdata()[0][3..], &new[..], "{spelling}");
    }
    let target = WithdrawTarget::Mailbox(address("alice@example.org"));
    let report = world.store.withdraw(target, None, &Authority::Operator, T0).await.unwrap();
    assert!(report.items[0].warnings[0].contains("still published for info@example.org"), "{report:?}");
    let published = world.published().await;
    for spelling in ["Alice@example.org", "alice@example.org"] {
        let owner = smimea_owner(&address(spelling));
        assert!(published.zone_for(owner.as_wire()).unwrap().get(owner.as_wire()).is_none(), "{spelling}");
    }
}

/// A mailbox that is too long in lower case once made the store unreadable for everybody.
#[tokio::test]
async fn an_address_that_grows_in_lower_case_is_refused_where_it_is_read() {
    assert!(Address::parse(&format!("{}@example.org", "\u{23a}".repeat(127))).is_err());
    assert!(Address::parse(&format!("{}@example.org", "\u{23a}".repeat(85))).is_ok());
}

#[tokio::test]
async fn a_certificate_of_too_many_mailboxes_is_refused() {
    let mut world = World::with_domain("example.org").await;
    let all: Vec<String> = (0..101).map(|n| format!("p{n}@example.org")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let report = world.publish(world.issue(Wanted { addresses: &all, ..Wanted::default() })).await;
    assert_eq!(report.items[0].code.as_deref(), Some("too-many"));
    let report = world.publish(world.issue(Wanted { addresses: &all[1..], ..Wanted::default() })).await;
    assert_eq!(report.items[0].addresses.len(), 100);
    assert_eq!(world.published().await.entries_in(&domain("example.org")).count(), 100);
}

#[tokio::test]
async fn what_began_and_ended_meanwhile_is_logged_even_when_upkeep_did_not_run() {
    let world = World::with_domain("example.org").await;
    let ends = Wanted { addresses: &["a@example.org"], from: T0 - 9 * DAY, to: T0 + DAY, ..Wanted::default() };
    world.publish(world.issue(ends)).await;
    world.publish(world.person("a@example.org", T0 + 2 * DAY)).await;
    world.set_now(T0 + 3 * DAY);
    world.publish(world.person("a@example.org", T0 - 2 * DAY)).await;
    let log = world.store.publications_since(1, 100).await.unwrap();
    let actions: Vec<&str> = log.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["published", "staged", "published", "expired", "superseded"]);
}

#[tokio::test]
async fn an_alias_is_for_one_certificate() {
    let world = World::with_domain("example.org").await;
    let both = ["a@example.org", "b@example.org"];
    let submissions: Vec<Submission> =
        both.iter().map(|one| Submission { der: world.person(one, T0 - DAY), origin: (*one).into() }).collect();
    let options = PublishOptions { addresses: vec![address("info@example.org")], ..PublishOptions::default() };
    let refused = world.store.publish(submissions, options, &Authority::Operator, T0).await;
    assert!(matches!(refused, Err(Error::Setting(_))));
    assert!(world.store.list(&Default::default(), 9).await.unwrap().is_empty());
}
