//! What the store publishes in DNS beside certificates: records given, zones in zones, the NSEC3 chain, settings that change.

use std::collections::BTreeMap;
use std::sync::Arc;

use certdir_directory::{
    Authority, Denial, Error, Follower, HistoryRow, Hosting, Outcome, PublishOptions, Published, Role, Settings, State,
    Store, WithdrawTarget,
};
use certdir_zones::denial::{Hash, node_types, nsec3_hash, type_bitmap};
use certdir_zones::{Name, RecordType, Zone, verify};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::world::{DAY, T0, Wanted, World, address, clock, domain};

const RECORDS: &str = "\
$TTL 600
@       MX 10 mail
mail    A 192.0.2.1
        AAAA 2001:db8::1
ldap    A 192.0.2.3
www     CNAME mail
sub     NS ns.sub
ns.sub  A 192.0.2.2
old     DNAME example.net.
";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn mail(of: &str, denial: Denial) -> Settings {
    let name_servers = vec!["ns.example.net".to_string()];
    Settings { hosting: Hosting::Mail, name_servers, denial, ..Settings::for_domain(&domain(of)) }
}

pub(crate) async fn mail_world(denial: Denial) -> World {
    let world = World::new().await;
    host(&world, "example.org", mail("example.org", denial), RECORDS).await.unwrap();
    world
}

async fn host(world: &World, of: &str, settings: Settings, records: &str) -> Result<(), Error> {
    let added = world.store.add_domain_with(&domain(of), settings, records, &Authority::Operator, world.now()).await;
    added.map(drop)
}

async fn change(world: &World, of: &str, changes: serde_json::Value) -> Result<(), Error> {
    let changes = changes.as_object().unwrap();
    world.store.change_domain(&domain(of), changes, &Authority::Operator, world.now()).await.map(drop)
}

fn zone<'a>(published: &'a Published, apex: &str) -> &'a Zone {
    published.zone(&name(apex)).unwrap_or_else(|| panic!("no zone {apex}"))
}

fn rtypes(zone: &Zone, owner: &str) -> Vec<String> {
    let node = zone.get(name(owner).as_wire());
    node.map(|node| node.rrsets().iter().map(|one| one.rrset.rtype.to_string()).collect()).unwrap_or_default()
}

/// Every signature holds, all that has to be signed is, and a chain is the one that follows from the names.
#[track_caller]
pub(crate) fn is_sound(zone: &Zone, now: i64) {
    let dnskey = zone.key().dnskey();
    let mut hashes: BTreeMap<Hash, Vec<u8>> = BTreeMap::new();
    for (owner, node) in zone.names() {
        let occluded = zone.occludes(owner.as_wire());
        for signed in node.rrsets() {
            let unsigned = occluded || (node.is_cut() && signed.rrset.rtype != RecordType::DS);
            if unsigned {
                assert!(signed.rrsig.is_empty(), "{owner} {} is not to be signed", signed.rrset.rtype);
            } else {
                verify(&dnskey, owner, signed, now as u32)
                    .unwrap_or_else(|error| panic!("{owner} {}: {error}", signed.rrset.rtype));
            }
        }
        if !occluded {
            hashes.insert(nsec3_hash(owner.as_wire()), type_bitmap(node_types(node)));
        }
    }
    let Some(chain) = zone.chain() else { return };
    assert_eq!(rtypes(zone, &zone.apex().to_string()).last().unwrap(), "NSEC3PARAM");
    let next = hashes.keys().copied().cycle().skip(1);
    let expected: Vec<(Hash, Hash, Vec<u8>)> =
        hashes.iter().zip(next).map(|((hash, bitmap), next)| (*hash, next, bitmap.clone())).collect();
    let stored: Vec<(Hash, Hash, Vec<u8>)> = chain
        .links()
        .map(|link| (link.hash, link.next().unwrap(), link.signed.rrset.rdata()[0][26..].to_vec()))
        .collect();
    assert_eq!(stored.len(), expected.len());
    assert_eq!(stored, expected);
    for link in chain.links() {
        let owner = certdir_zones::denial::nsec3_owner(link.hash, zone.apex()).unwrap();
        verify(&dnskey, &owner, link.signed, now as u32).unwrap_or_else(|error| panic!("{owner}: {error}"));
        assert_eq!(link.signed.rrset.ttl, zone.denial_ttl());
    }
}

#[tokio::test]
async fn a_mail_domain_has_its_other_records_and_says_where_a_cert_has_no_place() {
    let mut world = mail_world(Denial::Minimal).await;
    let settings = serde_json::json!({ "ldap_server": "ldap.example.org" });
    change(&world, "example.org", settings).await.unwrap();
    let long = format!("{}@example.org", "x".repeat(64));
    for (mailbox, warning) in [
        ("alice@example.org", None),
        (
            "mail@example.org",
            Some(
                "mail.example.org. is also a name of the domain's other records (A, AAAA): it has them and the CERT record of",
            ),
        ),
        ("www@example.org", Some("no CERT record at www.example.org.: www.example.org. is an alias")),
        ("john.sub@example.org", Some("sub.example.org. is delegated")),
        ("john.old@example.org", Some("DNAME at old.example.org.")),
        ("old@example.org", Some("old.example.org. is also a name of the domain's other records (DNAME)")),
        (&long, Some("no CERT record: its local part is longer than the 63 octets")),
    ] {
        let report = world.publish(world.person(mailbox, T0 - DAY)).await;
        assert_eq!(report.refused(), 0, "{report:?}");
        let warnings = &report.items[0].warnings;
        match warning {
            Some(text) => assert!(warnings.iter().any(|one| one.contains(text)), "{mailbox}: {warnings:?}"),
            None => assert!(warnings.is_empty(), "{mailbox}: {warnings:?}"),
        }
    }
    let report = world.publish(world.person("Alice@example.org", T0)).await;
    assert!(report.items[0].warnings.iter().any(|one| one.contains("differ only in case")), "{report:?}");
    let published = world.published().await;
    let zone = zone(&published, "example.org");
    is_sound(zone, T0);
    for (owner, expected) in [
        ("example.org", &["NS", "SOA", "MX", "DNSKEY"][..]),
        ("alice.example.org", &["CERT"]),
        ("mail.example.org", &["A", "AAAA", "CERT"]),
        ("www.example.org", &["CNAME"]),
        ("sub.example.org", &["NS"]),
        ("john.sub.example.org", &[]),
        (r"john\.sub.example.org", &["CERT"]),
        ("old.example.org", &["CERT", "DNAME"]),
        ("john.old.example.org", &[]),
        ("_ldap._tcp.example.org", &["SRV"]),
        ("_tcp.example.org", &[]),
    ] {
        assert_eq!(rtypes(zone, owner), expected, "{owner}");
    }
    assert!(zone.get(name("_tcp.example.org").as_wire()).is_some(), "an empty non-terminal");
    let status = world.store.domain(&domain("example.org")).await.unwrap();
    assert_eq!((status.records, status.without_cert.len()), (8, 4), "{:?}", status.without_cert);
    assert!(status.without_cert[3].contains("longer than the 63 octets"), "{:?}", status.without_cert);
    assert_eq!(status.shared.len(), 2, "{:?}", status.shared);

    // The alias goes: the CERT record comes; an alias comes where one was.
    let records = RECORDS.replace("www     CNAME", "alice   CNAME").replace("old     DNAME", "new  DNAME");
    world.store.set_records(&domain("example.org"), &records, &Authority::Operator, T0).await.unwrap();
    assert_eq!(world.store.records(&domain("example.org")).await.unwrap(), records);
    let published = world.published().await;
    let zone = self::zone(&published, "example.org");
    is_sound(zone, T0);
    for (owner, expected) in [
        ("www.example.org", &["CERT"][..]),
        ("alice.example.org", &["CNAME"]),
        ("john.old.example.org", &["CERT"]),
        ("old.example.org", &["CERT"]),
        ("new.example.org", &["DNAME"]),
    ] {
        assert_eq!(rtypes(zone, owner), expected, "{owner}");
    }
    assert!(published.entry(&address("alice@example.org")).is_some(), "SMIMEA and the other views still show it");
}

/// A host and a mailbox of one name live together, and people are told: at publication, with new records, in the status.
#[tokio::test]
async fn names_of_hosts_and_mailboxes_that_meet_are_told() {
    let mut world = mail_world(Denial::Minimal).await;
    let of = domain("example.org");
    let texts =
        ["a.b@example.org", r#""x \"y"@example.org"#, "_x@example.org", "ns.sub@example.org", "alone@example.org"];
    for text in texts {
        let report = world.publish(world.person(text, T0 - DAY)).await;
        assert!(!report.items[0].warnings.iter().any(|one| one.contains("is also a name")), "{report:?}");
    }
    assert_eq!(world.store.domain(&of).await.unwrap().shared, [""; 0]);
    let records = r#"
@          MX 10 Mail
Mail       A 192.0.2.1
b.a        A 192.0.2.2
a.b        A 192.0.2.3
a\.b       TXT one
x\032\"y   A 192.0.2.4
_x         TXT two
sub        NS ns.sub
ns.sub     A 192.0.2.5
"#;
    let status = world.store.set_records(&of, records, &Authority::Operator, T0).await.unwrap();
    let told = |owner: &str, types: &str, mailbox: &str| {
        format!(
            "{owner} is also a name of the domain's other records ({types}): it has them and the CERT record of {mailbox}, and \
             DNS answers with both"
        )
    };
    let mut expected = vec![
        told("a.b.example.org.", "A", "a.b@example.org"),
        told(r"a\.b.example.org.", "TXT", "a.b@example.org"),
        told(r#"x\032\"y.example.org."#, "A", r#""x \"y"@example.org"#),
    ];
    let mut shared = status.shared;
    shared.sort();
    expected.sort();
    assert_eq!(shared, expected);
    assert!(status.without_cert.iter().any(|line| line.starts_with("_x@example.org has an SMIMEA record and no CERT")));
    // A first publication, a dry run, another case; a domain's own certificate stands at the apex by right.
    let options = PublishOptions { dry_run: true, ..PublishOptions::default() };
    let report = world.publish_with(world.person("MAIL@example.org", T0), options, &Authority::Operator).await;
    assert_eq!(report.items[0].warnings, [told("mail.example.org.", "A", "mail@example.org")], "{report:?}");
    let options = PublishOptions { domain_certificate: Some(of.clone()), ..PublishOptions::default() };
    let report = world.publish_with(world.issue(Wanted::default()), options, &Authority::Operator).await;
    assert_eq!((report.refused(), &report.items[0].warnings[..]), (0, &[][..]), "{report:?}");
    // The records go, and with them what is told.
    let status = world.store.set_records(&of, "", &Authority::Operator, T0).await.unwrap();
    assert_eq!(status.shared, [""; 0]);
    assert_eq!(zone(&world.published().await.clone(), "example.org").apex(), &name("example.org"));
}

/// However many there are, a status stays short, and says how many.
#[tokio::test]
async fn a_status_counts_what_it_does_not_list() {
    let world = mail_world(Denial::Minimal).await;
    let submission = |mailbox: String| certdir_directory::Submission {
        der: world.person(&mailbox, T0 - DAY),
        origin: "test".into(),
    };
    let long = (0..103).map(|n| submission(format!("{n:0>64}@example.org")));
    let hosts = (0..102).map(|n| submission(format!("h{n}@example.org")));
    let all = long.chain(hosts).collect();
    let report = world.store.publish(all, PublishOptions::default(), &Authority::Operator, T0).await.unwrap();
    assert_eq!(report.refused(), 0);
    let records: String = (0..102).map(|n| format!("h{n} A 192.0.2.1\n")).collect();
    let status = world.store.set_records(&domain("example.org"), &records, &Authority::Operator, T0).await.unwrap();
    let last = |lines: &[String]| (lines.len(), lines.last().unwrap().clone());
    assert_eq!(last(&status.without_cert), (101, "and 3 more like these".into()));
    assert_eq!(last(&status.shared), (101, "and 2 more like these".into()));
}

#[tokio::test]
async fn what_cannot_stand_together_is_refused_and_changes_nothing() {
    let mut world = mail_world(Denial::Minimal).await;
    change(&world, "example.org", serde_json::json!({ "ldap_server": "ldap.example.net:3890" })).await.unwrap();
    let before = world.published().await;
    for (records, word) in [
        ("a A 1\nb B 2", "line 2"),
        ("_ldap._tcp SRV 0 0 389 x", "LDAP server"),
        ("_tcp NS ns.example.net.", "LDAP server"),
        ("a SMIMEA 3 0 0 00", "certdir publish"),
    ] {
        let refused = world.store.set_records(&domain("example.org"), records, &Authority::Operator, T0).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code(), "bad-records");
        assert!(error.to_string().contains(word), "{error}");
    }
    for changes in [
        serde_json::json!({ "ttl": 1 }),
        serde_json::json!({ "hosting": "smimecert" }),
        serde_json::json!({ "ldap_server": "a b" }),
        serde_json::json!({ "name_servers": ["ns1.example.org"] }),
        serde_json::json!({ "ldap_server": "www.example.org" }),
        serde_json::json!({ "ldap_server": "none.example.org" }),
        serde_json::json!({ "push_server": "none.example.org" }),
        serde_json::json!({ "push_server": "ns.example.net:65536" }),
        serde_json::json!({ "name_servers": [] }),
        serde_json::json!({ "denial": "nsec" }),
        serde_json::json!({ "colour": "red" }),
    ] {
        assert_eq!(change(&world, "example.org", changes.clone()).await.unwrap_err().code(), "setting", "{changes}");
    }
    let published = world.published().await;
    assert_eq!(zone(&published, "example.org").serial(), zone(&before, "example.org").serial());

    // A name server in the zone itself needs its address, and then it may not go.
    change(&world, "example.org", serde_json::json!({ "name_servers": ["mail.example.org"] })).await.unwrap();
    let refused = world.store.set_records(&domain("example.org"), "a A 192.0.2.1", &Authority::Operator, T0).await;
    assert!(refused.unwrap_err().to_string().contains("mail.example.org"));
    let status = world.store.domain(&domain("example.org")).await.unwrap();
    assert!(status.ns.iter().any(|line| line.contains("IN A 192.0.2.1")), "glue for the parent: {:?}", status.ns);
    // Where only _smimecert is hosted there is no place for either.
    let smimecert = Settings::for_domain(&domain("example.com"));
    let refused = host(&world, "example.com", smimecert.clone(), "a A 192.0.2.1").await.unwrap_err();
    assert!(refused.to_string().contains("--hosting mail"), "{refused}");
    let refused = Settings { ldap_server: Some("x.example.com".into()), ..smimecert };
    assert_eq!(host(&world, "example.com", refused, "").await.unwrap_err().code(), "setting");
}

/// RFC 8765 section 6.1: the record stands at the apex of the zone, whatever was delegated.
#[tokio::test]
async fn a_zone_names_its_server_of_push_notifications() {
    let mut world = mail_world(Denial::Chain).await;
    let smimecert = Settings::for_domain(&domain("example.com"));
    let pushing = Settings { push_server: Some("NS.example.net".into()), ..smimecert };
    host(&world, "example.com", pushing, "").await.unwrap();
    let status = world.store.domain(&domain("example.com")).await.unwrap();
    assert_eq!(status.settings.push_server.as_deref(), Some("ns.example.net:853"));
    change(&world, "example.org", serde_json::json!({ "push_server": "mail.example.org:8530" })).await.unwrap();
    let published = world.published().await;
    for (apex, port, target) in
        [("_smimecert.example.com", 853, "ns.example.net"), ("example.org", 8530, "mail.example.org")]
    {
        let owner = name(&format!("_dns-push-tls._tcp.{apex}"));
        let node = zone(&published, apex).get(owner.as_wire()).unwrap();
        let expected = certdir_zones::rdata::srv(0, 0, port, &name(target));
        assert_eq!(node.rrset(RecordType::SRV).unwrap().rrset.rdata(), [expected]);
    }
    for (domain, apex) in [("example.com", "_smimecert.example.com"), ("example.org", "example.org")] {
        change(&world, domain, serde_json::json!({ "push_server": null })).await.unwrap();
        let published = world.published().await;
        let owner = name(&format!("_tcp.{apex}"));
        assert!(zone(&published, apex).get(owner.as_wire()).is_none());
    }
    let own = Settings {
        push_server: Some("ns._smimecert.example.net".into()),
        ..Settings::for_domain(&domain("example.net"))
    };
    assert_eq!(host(&world, "example.net", own, "").await.unwrap_err().code(), "setting");
}

#[tokio::test]
async fn zones_in_zones_are_delegated_by_the_one_above() {
    let mut world = mail_world(Denial::Chain).await;
    world.publish(world.person("people.dept@example.org", T0 - DAY)).await;
    let people = "people.dept.example.org";
    assert_eq!(rtypes(zone(&world.published().await.clone(), "example.org"), people), ["CERT"]);
    // Below a name of the parent, with name servers of its own.
    let inside =
        Settings { name_servers: vec!["ns.dept.example.org".into()], ..mail("dept.example.org", Denial::Chain) };
    let refused = host(&world, "dept.example.org", inside.clone(), "").await.unwrap_err();
    assert!(refused.to_string().contains("give its address"), "{refused}");
    host(&world, "dept.example.org", inside, "ns A 192.0.2.9").await.unwrap();
    world.add_domain("lab.dept.example.org").await;
    world.add_domain("sub.example.org").await;
    let published = world.published().await;
    let (parent, child) = (zone(&published, "example.org"), zone(&published, "dept.example.org"));
    is_sound(parent, T0);
    is_sound(child, T0);
    assert_eq!(rtypes(parent, "dept.example.org"), ["NS", "DS"]);
    assert_eq!(rtypes(parent, "ns.dept.example.org"), ["A"], "glue");
    assert_eq!(rtypes(parent, people), [""; 0], "the name lies in the child's zone now");
    let ds = parent.get(name("dept.example.org").as_wire()).unwrap().rrset(RecordType::DS).unwrap();
    assert_eq!(ds.rrset.rdata()[0], child.key().ds(child.apex()));
    assert_eq!(rtypes(child, "_smimecert.lab.dept.example.org"), ["NS", "DS"]);
    assert_eq!(rtypes(parent, "_smimecert.lab.dept.example.org"), [""; 0], "the nearest zone delegates");
    // The records of example.org delegate sub elsewhere: what lies below is not its to delegate.
    assert_eq!(rtypes(parent, "_smimecert.sub.example.org"), [""; 0]);

    // A zone between, and away again: the delegations follow.
    world.store.remove_domain(&domain("dept.example.org"), &Authority::Operator, T0).await.unwrap();
    let published = world.published().await;
    let parent = zone(&published, "example.org");
    is_sound(parent, T0);
    assert_eq!(rtypes(parent, "_smimecert.lab.dept.example.org"), ["NS", "DS"]);
    assert_eq!(rtypes(parent, people), ["CERT"], "its CERT record has its place again");
    assert!(published.zone(&name("dept.example.org")).is_none());
    // What stands in the way is told, and nothing happens.
    for of in ["mail.example.org", "www.example.org", "sub.example.org", "x.old.example.org"] {
        let refused = host(&world, of, mail(of, Denial::Minimal), "").await;
        let refused = refused.map(|()| String::new()).unwrap_err().to_string();
        let why = if of == "sub.example.org" { "hosted here already" } else { "stand in the way" };
        assert!(refused.contains(why), "{of}: {refused}");
    }
    // The other order: the lower zone was there first.
    let mut world = World::with_domain("sub.example.org").await;
    host(&world, "example.org", mail("example.org", Denial::Minimal), "").await.unwrap();
    let published = world.published().await;
    let parent = zone(&published, "example.org");
    is_sound(parent, T0);
    assert_eq!(rtypes(parent, "_smimecert.sub.example.org"), ["NS", "DS"]);
    // New name servers of the child reach the parent.
    change(&world, "sub.example.org", serde_json::json!({ "name_servers": ["a.example.net", "b.example.net"] }))
        .await
        .unwrap();
    let published = world.published().await;
    let node = zone(&published, "example.org").get(name("_smimecert.sub.example.org").as_wire()).unwrap().clone();
    assert_eq!(node.rrset(RecordType::NS).unwrap().rrset.rdata().len(), 2);
}

#[tokio::test]
async fn settings_change_and_the_zone_is_sound_at_every_moment() {
    let mut world = mail_world(Denial::Minimal).await;
    for n in 0..600 {
        // Upkeep takes several steps.
        world
            .publish_with(
                world.person(&format!("P{n}@example.org"), T0 - DAY),
                PublishOptions::default(),
                &Authority::Operator,
            )
            .await;
    }
    for changes in [
        serde_json::json!({ "ttl": 60 }),
        serde_json::json!({ "cert_form": "der" }),
        serde_json::json!({ "lower_case": false, "denial": "chain" }),
        serde_json::json!({ "ttl": 120, "lower_case": true, "cert_form": "rfc4398" }),
        serde_json::json!({ "denial": "minimal" }),
        serde_json::json!({ "name_servers": ["a.example.net", "b.example.net"], "ldap_server": "ldap.example.org:636" }),
        serde_json::json!({ "denial": "chain" }),
    ] {
        change(&world, "example.org", changes.clone()).await.unwrap();
        let mut steps = 0;
        let mut more = true;
        while more {
            let published = world.published().await;
            let zone = zone(&published, "example.org");
            let ttl_changes = changes.get("ttl").is_some();
            if zone.chain().is_none() || !ttl_changes {
                is_sound(zone, T0);
            }
            more = world.store.keep_up(T0).await.unwrap();
            steps += 1;
        }
        let published = world.published().await;
        is_sound(zone(&published, "example.org"), T0);
        let entries_change = ["ttl", "cert_form", "lower_case"].iter().any(|key| changes.get(key).is_some());
        assert_eq!(steps > 2, entries_change, "{changes}: {steps} steps");
        // A second follower, from nothing, sees the same.
        let (_, fresh) = Follower::start(&world.store, clock(&world.now)).await.unwrap();
        let (one, other) = (published, fresh.published().unwrap());
        let (one, other) = (zone(&one, "example.org"), zone(&other, "example.org"));
        assert_eq!(one.len(), other.len());
        assert_eq!(one.chain().map(|chain| chain.len()), other.chain().map(|chain| chain.len()));
    }
    let status = world.store.domain(&domain("example.org")).await.unwrap();
    assert_eq!((status.settings.ttl, status.settings.denial), (120, Denial::Chain));
    let before = status.serial;
    change(&world, "example.org", serde_json::json!({ "ttl": 120 })).await.unwrap();
    assert_eq!(world.store.domain(&domain("example.org")).await.unwrap().serial, before, "no change, no serial");
}

#[tokio::test]
async fn a_removed_domain_leaves_every_view_and_keeps_its_history() {
    for denial in [Denial::Minimal, Denial::Chain] {
        let mut world = mail_world(denial).await;
        world.publish(world.person("a@example.org", T0 - DAY)).await;
        let (_, other) = Follower::start(&world.store, clock(&world.now)).await.unwrap();
        let serial = world.published().await.zone(&name("example.org")).unwrap().serial();
        world.store.remove_domain(&domain("example.org"), &Authority::Operator, T0).await.unwrap();
        let gone = |published: Arc<Published>| {
            assert!(published.domain(&domain("example.org")).is_none());
            assert!(published.zone_for(name("a.example.org").as_wire()).is_none());
            assert!(published.entry(&address("a@example.org")).is_none() && published.is_empty());
        };
        gone(world.published().await);
        gone(Follower::start(&world.store, clock(&world.now)).await.unwrap().1.published().unwrap());
        drop(other);
        let history = world.store.history(&address("a@example.org"), &Authority::Operator).await.unwrap();
        assert_eq!(history[0].reason.as_deref(), Some("the domain was removed"));
        let log = world.store.publications_since(0, 100).await.unwrap();
        assert_eq!(log.last().unwrap().action.as_str(), "domain-removed");
        for result in [
            world.store.remove_domain(&domain("example.org"), &Authority::Operator, T0).await,
            world.store.records(&domain("example.org")).await.map(drop),
        ] {
            assert_eq!(result.unwrap_err().code(), "unknown-domain");
        }
        while world.store.keep_up(T0 + 30 * DAY).await.unwrap() {}
        gone(world.published().await);
        // It comes back empty, with the same key, and its serial goes on.
        let key = std::fs::read(world.folder.path().join("keys/example.org.pem")).unwrap();
        host(&world, "example.org", mail("example.org", denial), "").await.unwrap();
        assert_eq!(std::fs::read(world.folder.path().join("keys/example.org.pem")).unwrap(), key);
        let published = world.published().await;
        let zone = zone(&published, "example.org");
        is_sound(zone, T0);
        assert!(zone.serial().wrapping_sub(serial) < 1 << 31 && zone.serial() != serial);
        assert_eq!(zone.len(), 1);
        world.publish(world.person("b@example.org", T0 - DAY)).await;
        let published = world.published().await;
        is_sound(self::zone(&published, "example.org"), T0);
    }
}

/// More names than one statement takes: all of them get their link, or lose it, in one transaction.
#[tokio::test]
async fn a_large_zone_changes_its_denial() {
    let names = 2_000;
    let mut world = World::new().await;
    let settings = mail("example.org", Denial::Minimal);
    let records: String = (0..1_000).map(|n| format!("n{n} A 192.0.2.1\n")).collect();
    host(&world, "example.org", settings, &records).await.unwrap();
    let der = world.person("p@example.org", T0 - DAY);
    for batch in 0..names / 100 / 2 {
        let addresses = (0..99).map(|n| address(&format!("p{batch}.{n}@example.org"))).collect();
        let options = PublishOptions { addresses, ..PublishOptions::default() };
        world.publish_with(der.clone(), options, &Authority::Operator).await;
    }
    for denial in ["chain", "minimal", "chain"] {
        change(&world, "example.org", serde_json::json!({ "denial": denial })).await.unwrap();
        let published = world.published().await;
        let zone = zone(&published, "example.org");
        assert!(zone.len() > names);
        assert_eq!(zone.chain().is_some(), denial == "chain");
        is_sound(zone, T0);
    }
}

/// What happens to a zone.
#[derive(Clone, Debug)]
enum Act {
    Publish(usize),
    Withdraw(usize),
    Records(usize),
    Host(usize),
    Remove(usize),
    Denial(bool),
    Exact(bool),
    Pass,
}

/// After any changes the stored chain is the one that follows from the names of the zone.
#[tokio::test]
async fn after_random_changes_the_chain_is_whole() {
    let acts = prop_oneof![
        6 => (0usize..10).prop_map(Act::Publish),
        4 => (0usize..10).prop_map(Act::Withdraw),
        3 => (0usize..4).prop_map(Act::Records),
        1 => (0usize..2).prop_map(Act::Host),
        1 => (0usize..2).prop_map(Act::Remove),
        1 => any::<bool>().prop_map(Act::Denial),
        1 => any::<bool>().prop_map(Act::Exact),
        1 => Just(Act::Pass),
    ];
    let mut runner =
        TestRunner::new(proptest::test_runner::Config { rng_seed: RngSeed::Fixed(3), ..Default::default() });
    let mailboxes =
        ["a", "B", "a.b", "www", "sub", "x.sub", "x.y.sub", "mail", "domain-confidentiality-authority", "x.dept"];
    let records = [
        "",
        RECORDS,
        "a CNAME b\nx.y.z TXT q\n*.sub A 192.0.2.1",
        "sub NS ns.example.net.\nb DNAME c\nx.deep NS y.example.",
    ];
    let children = ["dept.example.org", "deep.er.example.org"];
    let mut world = mail_world(Denial::Chain).await;
    let (mut chains, mut now) = (0, T0);
    for _ in 0..250 {
        let act = acts.new_tree(&mut runner).unwrap().current();
        let (store, operator) = (world.store.clone(), Authority::Operator);
        // Much of it is refused, as it should be; what counts is what the zone is then.
        let _: Result<(), Error> = match act.clone() {
            Act::Publish(n) => {
                world.publish(world.person(&format!("{}@example.org", mailboxes[n]), now - DAY)).await;
                Ok(())
            }
            Act::Withdraw(n) => {
                let target = WithdrawTarget::Mailbox(address(&format!("{}@example.org", mailboxes[n])));
                store.withdraw(target, None, &operator, now).await.map(drop)
            }
            Act::Records(n) => store.set_records(&domain("example.org"), records[n], &operator, now).await.map(drop),
            Act::Host(n) => host(&world, children[n], mail(children[n], Denial::Minimal), "").await,
            Act::Remove(n) => store.remove_domain(&domain(children[n]), &operator, now).await,
            Act::Denial(chain) => {
                let denial = if chain { "chain" } else { "minimal" };
                change(&world, "example.org", serde_json::json!({ "denial": denial })).await
            }
            Act::Exact(exact) => change(&world, "example.org", serde_json::json!({ "lower_case": !exact })).await,
            Act::Pass => {
                now += DAY;
                world.set_now(now);
                while store.keep_up(now).await.unwrap() {}
                Ok(())
            }
        };
        let published = world.published().await;
        let zone = zone(&published, "example.org");
        is_sound(zone, now);
        chains += usize::from(zone.chain().is_some());
    }
    assert!((50..250).contains(&chains), "both forms were seen: {chains}");
    let fresh = Store::open(world.folder.path()).await.unwrap();
    let (_, reader) = Follower::start(&fresh, clock(&world.now)).await.unwrap();
    is_sound(zone(&reader.published().unwrap(), "example.org"), now);
}

/// A follower that was busy sees a removed domain come back as one change: nothing of its former life is left, whatever the
/// new one is.
#[tokio::test]
async fn a_domain_that_went_and_came_between_two_looks_is_the_new_one() {
    let smimecert = || Settings::for_domain(&domain("example.org"));
    let lives = [
        ("mail", mail("example.org", Denial::Chain), RECORDS, "example.org"),
        ("smimecert", smimecert(), "", "_smimecert.example.org"),
    ];
    for (old, new) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
        for new_key in [false, true] {
            let ((_, settings, records, old_apex), (_, new_settings, _, new_apex)) = (&lives[old], &lives[new]);
            let mut world = World::new().await;
            host(&world, "example.org", settings.clone(), records).await.unwrap();
            world.publish(world.person("a@example.org", T0 - DAY)).await;
            world.publish(world.person("b@example.org", T0 - DAY)).await;
            world.published().await;
            world.store.remove_domain(&domain("example.org"), &Authority::Operator, T0).await.unwrap();
            let key = world.folder.path().join(format!("keys/{old_apex}.pem"));
            let old_key = std::fs::read(&key).unwrap();
            if new_key {
                std::fs::remove_file(&key).unwrap();
            }
            host(&world, "example.org", new_settings.clone(), "").await.unwrap();
            world.publish(world.person("b@example.org", T0)).await;
            let check = |published: Arc<Published>, now: i64| {
                let context = format!("{} to {}, new key: {new_key}", lives[old].0, lives[new].0);
                let zones = lives.iter().filter(|life| published.zone(&name(life.3)).is_some()).count();
                assert_eq!(zones, 1, "{context}");
                is_sound(zone(&published, new_apex), now);
                assert_eq!(published.len(), 1, "{context}");
                assert!(published.entry(&address("a@example.org")).is_none(), "{context}");
                zone(&published, new_apex).len()
            };
            let followed = check(world.published().await, T0);
            let (_, fresh) = Follower::start(&world.store, clock(&world.now)).await.unwrap();
            assert_eq!(followed, check(fresh.published().unwrap(), T0));
            if old == new {
                assert_eq!(std::fs::read(&key).unwrap() != old_key, new_key);
            }
            // Upkeep signs with the new key, too.
            let later = T0 + 2 * DAY;
            world.set_now(later);
            while world.store.keep_up(later).await.unwrap() {}
            world.publish(world.person("c@example.org", T0)).await;
            let published = world.published().await;
            is_sound(zone(&published, new_apex), later);
            let again = Store::open(world.folder.path()).await.unwrap();
            Follower::start(&again, clock(&world.now)).await.unwrap();
        }
    }
}

/// A key that is known to be stolen is taken back by its certificate's digest: a domain that is gone does not stop that.
#[tokio::test]
async fn a_digest_is_withdrawn_where_its_domains_are_still_hosted() {
    let mut world = World::with_domain("example.org").await;
    world.add_domain("example.net").await;
    let both = ["a@example.org", "b@example.net"];
    let mut digests = Vec::new();
    for to in [T0 + DAY, T0 + 90 * DAY] {
        world.publish(world.issue(Wanted { addresses: &both, to, ..Wanted::default() })).await;
        digests.push(world.published().await.entry(&address(both[1])).unwrap().certificates[0].sha256);
        world.set_now(to.min(T0 + DAY));
        world.store.keep_up(world.now()).await.unwrap();
    }
    world.publish(world.person(both[0], T0)).await;
    let states = |rows: Vec<HistoryRow>| rows.iter().map(|row| row.state).collect::<Vec<_>>();
    let history = world.store.history(&address(both[0]), &Authority::Operator).await.unwrap();
    assert_eq!(states(history), [State::Current, State::Superseded, State::Expired]);
    world.store.remove_domain(&domain("example.org"), &Authority::Operator, world.now()).await.unwrap();
    for sha256 in digests {
        let target = WithdrawTarget::Certificate(sha256);
        let report = world.store.withdraw(target, None, &Authority::Operator, world.now()).await.unwrap();
        assert_eq!(report.items.len(), 1);
    }
    assert!(world.visible(both[1]).await.is_empty());
}

/// Who had a domain may not publish for it when somebody else has it.
#[tokio::test]
async fn tokens_end_with_their_domain() {
    let world = World::with_domain("example.org").await;
    world.add_domain("example.net").await;
    let (org, net) = (domain("example.org"), domain("example.net"));
    let mut texts = Vec::new();
    for (role, domains) in [
        (Role::Publisher, vec![org.clone()]),
        (Role::Reader, vec![org.clone()]),
        (Role::Publisher, vec![net.clone(), org.clone()]),
        (Role::Admin, vec![org.clone()]),
        (Role::Reader, vec![net.clone()]),
    ] {
        texts.push(world.store.add_token("x", role, &domains, &Authority::Operator, T0).await.unwrap());
    }
    world.store.remove_domain(&org, &Authority::Operator, T0).await.unwrap();
    world.add_domain("example.org").await;
    let mut bearers = Vec::new();
    for (_, text) in &texts {
        bearers.push(world.store.authenticate(text).await.ok());
    }
    let valid: Vec<bool> = bearers.iter().map(Option::is_some).collect();
    assert_eq!(valid, [false, false, true, true, true]);
    let both = bearers[2].as_ref().unwrap();
    assert!(both.may_publish(&net) && !both.may_publish(&org));
    assert!(bearers[3].as_ref().unwrap().may_administer());
    assert!(bearers[4].as_ref().unwrap().may_read(&net));
    let listed = world.store.tokens(&Authority::Operator).await.unwrap();
    let first = listed.iter().find(|row| row.id == texts[0].0.id).unwrap();
    assert_eq!((first.revoked_at, first.domains.clone()), (Some(T0), vec!["example.org".to_string()]));
}

/// What to do when the hosting is to be another: remove, add, publish again. Everybody has the certificate they had, in
/// whatever order the files are read; what somebody took back stays so.
#[tokio::test]
async fn a_domain_that_comes_back_is_published_again_as_it_was() {
    let mut world = mail_world(Denial::Minimal).await;
    let (first, second) = (world.person("a@example.org", T0 - 9 * DAY), world.person("a@example.org", T0 - 5 * DAY));
    let (staged, stolen) = (world.person("b@example.org", T0 + DAY), world.person("c@example.org", T0 - DAY));
    for der in [&first, &second, &staged, &stolen] {
        world.publish(der.clone()).await;
    }
    let target = WithdrawTarget::Mailbox(address("c@example.org"));
    world.store.withdraw(target, Some("stolen".into()), &Authority::Operator, T0).await.unwrap();
    world.store.remove_domain(&domain("example.org"), &Authority::Operator, T0).await.unwrap();
    world.add_domain("example.org").await;
    let submissions = [&second, &first, &staged, &stolen]
        .map(|der| certdir_directory::Submission { der: der.clone(), origin: "folder".into() });
    let options = PublishOptions::default();
    let report = world.store.publish(submissions.to_vec(), options, &Authority::Operator, T0).await.unwrap();
    let outcomes: Vec<Outcome> = report.items.iter().map(|item| item.outcome).collect();
    assert_eq!(outcomes, [Outcome::Published, Outcome::Superseded, Outcome::Staged, Outcome::Unchanged], "{report:?}");
    assert_eq!(world.visible("a@example.org").await, [second]);
    assert!(world.visible("c@example.org").await.is_empty());
    // Whoever has the domain now is not measured by what was there before.
    world.store.remove_domain(&domain("example.org"), &Authority::Operator, T0).await.unwrap();
    world.add_domain("example.org").await;
    let older = world.person("a@example.org", T0 - 20 * DAY);
    assert_eq!(world.publish(older.clone()).await.items[0].outcome, Outcome::Published);
    assert_eq!(world.visible("a@example.org").await, [older]);
}

/// How many rows only say that something is gone.
async fn tombstones(world: &World) -> i64 {
    let options = SqliteConnectOptions::new().filename(world.folder.path().join("certdir.db")).read_only(true);
    let mut connection = options.connect().await.unwrap();
    let sql =
        "SELECT (SELECT count(*) FROM link WHERE records IS NULL) + (SELECT count(*) FROM rrset WHERE records IS NULL)";
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

/// Rows that tell followers what is gone are kept for a day and not for ever; a follower that slept longer begins anew.
#[tokio::test]
async fn what_is_gone_is_forgotten_and_nobody_goes_on_showing_it() {
    let mut world = mail_world(Denial::Chain).await;
    while world.store.keep_up(T0).await.unwrap() {}
    let records: String = (0..3_000).map(|n| format!("n{n} A 192.0.2.1\n")).collect();
    world.store.set_records(&domain("example.org"), &records, &Authority::Operator, T0).await.unwrap();
    let (mut sleeper, sleeping) = Follower::start(&world.store, clock(&world.now)).await.unwrap();
    assert!(zone(&sleeping.published().unwrap(), "example.org").len() > 3_000);
    world.store.set_records(&domain("example.org"), "www A 192.0.2.1", &Authority::Operator, T0).await.unwrap();
    let many = tombstones(&world).await;
    assert!(many > 6_000, "{many}");
    for (now, expected) in [(T0 + DAY - 1, many), (T0 + DAY, many), (T0 + 2 * DAY - 1, many), (T0 + 2 * DAY, 0)] {
        world.set_now(now);
        while world.store.keep_up(now).await.unwrap() {}
        assert_eq!(tombstones(&world).await, expected, "{}", now - T0);
        let published = world.published().await;
        is_sound(zone(&published, "example.org"), now);
    }
    sleeper.catch_up().await.unwrap();
    let (one, other) = (sleeping.published().unwrap(), world.published().await);
    is_sound(zone(&one, "example.org"), T0 + 2 * DAY);
    assert_eq!(zone(&one, "example.org").len(), zone(&other, "example.org").len());
    // A clock that was set back forgets nothing too early.
    world.store.set_records(&domain("example.org"), "", &Authority::Operator, T0 + 2 * DAY).await.unwrap();
    for now in [T0 + DAY, T0 + 2 * DAY - 1] {
        while world.store.keep_up(now).await.unwrap() {}
        assert!(tombstones(&world).await > 0);
    }
}
