//! Honest servers: what is published is found, what is not is proven or known not to be served.

use std::sync::Arc;

use certdir_resolver::{Certificate, Policy, Verdict};
use rcgen::KeyUsagePurpose;

use crate::certificates::{DAY, Sample, now, valid};
use crate::servers::*;

/// A parent, a signed domain with and one without a domain certificate, and an unsigned one.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) alice: Arc<Certificate>,
    pub(crate) domain: Arc<Certificate>,
    pub(crate) wildcard: Arc<Certificate>,
    pub(crate) big: Arc<Certificate>,
}

/// The zones of the world.
pub(crate) const ZONES: [&str; 5] =
    ["example.", "signed.example.", "wild.example.", "domain.example.", "plain.example."];

pub(crate) const AUTHORITY: &str = "domain-confidentiality-authority";

pub(crate) fn world(denial: Denial) -> World {
    let (alice, domain, wildcard) = (valid("alice"), valid("domain"), valid("wildcard"));
    let big = Sample { padding: 3_000, ..Sample::valid("big") }.make();
    let expired = Sample { from: now() - 9 * DAY, to: now() - DAY, ..Sample::valid("expired") }.make();
    let signing = Some(Signing::with(denial));
    let own = published("alice@signed.example", &alice)
        + &published("big@signed.example", &big)
        + &published("expired@signed.example", &expired)
        + "*.sub 300 IN TXT hello\n";
    let blocked = smimea_name("blocked@wild.example");
    let wild = published("alice@wild.example", &alice)
        + &published("expired@wild.example", &expired)
        + &format!("*._smimecert 300 IN SMIMEA 3 0 0 {}\n", data_encoding::HEXLOWER.encode(wildcard.der()))
        + &format!("{blocked} 300 IN TXT \"no certificate here\"\n");
    let dca = published(&format!("{AUTHORITY}@domain.example"), &domain)
        + &format!("*._smimecert 300 IN SMIMEA 3 0 0 {}\n", data_encoding::HEXLOWER.encode(wildcard.der()));
    let zone = |apex, records, signed| ZoneText { apex, records, signed };
    let zones = vec![
        zone("signed.example.", own, signing.clone()),
        zone("wild.example.", wild, signing.clone()),
        zone("domain.example.", dca, signing.clone()),
        zone("plain.example.", published("alice@plain.example", &alice), None),
        zone("example.", String::new(), signing),
    ];
    World { server: Server::start(zones, &[]), alice, domain, wildcard, big }
}

fn smimea_name(at: &str) -> String {
    certdir_zones::smimea_owner(&address(at)).to_string()
}

impl World {
    pub(crate) fn resolver(&self) -> certdir_resolver::Resolver {
        resolver(self.server.address, &self.server.anchor("example."))
    }
}

#[tokio::test]
async fn published_is_found_and_absent_is_proven() {
    for denial in DENIALS {
        let world = world(denial);
        let resolver = world.resolver();

        let found = ask(&resolver, "alice@signed.example").await;
        assert_uses(&found, &world.alice, "recipient");
        assert!(found.look_again() <= now() + 301 && found.look_again() > now() + 200, "{}", found.trace());
        assert_eq!(found.trace().questions.len(), 1);
        assert!(!found.trace().questions[0].cached);
        assert!(ask(&resolver, "alice@signed.example").await.trace().questions[0].cached);

        let nobody = ask(&resolver, "nobody@signed.example").await;
        // An opt-out span proves nothing about what may hide in it, but says that it is not signed.
        let expected = if denial == Denial::OptOut { "not-served" } else { "proven-none" };
        assert_gist(&nobody, "none", expected);
        assert!(matches!(&nobody, Verdict::None { proven, .. } if *proven == (denial != Denial::OptOut)));
        assert_eq!(nobody.trace().questions.len(), 2, "the domain was asked too: {}", nobody.trace());
        // The denial's own time: the SOA's minimum.
        assert!(nobody.look_again() <= now() + 61, "{}", nobody.trace());
        assert!(ask(&resolver, "nobody@signed.example").await.trace().questions.iter().all(|q| q.cached));

        let elsewhere = ask(&resolver, "alice@no.such.domain.example").await;
        assert_gist(&elsewhere, "none", expected);
    }
}

#[tokio::test]
async fn an_unsigned_domain_is_not_served() {
    for denial in DENIALS {
        let world = world(denial);
        let resolver = world.resolver();
        for who in ["alice@plain.example", "nobody@plain.example"] {
            let verdict = ask(&resolver, who).await;
            assert_gist(&verdict, "none", "not-served");
            assert!(matches!(verdict, Verdict::None { proven: false, .. }));
            assert!(verdict.trace().questions[0].question.message.contains("plain.example."));
        }
    }
}

#[tokio::test]
async fn the_domains_certificate_applies_where_the_name_has_no_record() {
    for denial in [Denial::Nsec, Denial::Nsec3] {
        let world = world(denial);
        let resolver = world.resolver();
        assert_uses(&ask(&resolver, "alice@wild.example").await, &world.alice, "recipient");
        assert_uses(&ask(&resolver, "nobody@wild.example").await, &world.wildcard, "wildcard");
        // The canonical name comes before the wildcard that serves others.
        assert_uses(&ask(&resolver, "nobody@domain.example").await, &world.domain, "domain");
        assert_uses(&ask(&resolver, &format!("{AUTHORITY}@domain.example")).await, &world.domain, "recipient");
        // A record of its own speaks for the name, also when it cannot be used.
        let expired = ask(&resolver, "expired@wild.example").await;
        assert_gist(&expired, "none", "own-record-unusable");
        assert_eq!(expired.trace().candidates[0].code, "expired");
        assert!(matches!(expired, Verdict::None { proven: true, .. }));
        assert_gist(&ask(&resolver, "blocked@wild.example").await, "none", "blocked");
    }
}

#[tokio::test]
async fn a_policy_may_widen_or_narrow() {
    let world = world(Denial::Nsec3);
    let mut despite = Policy::default();
    despite.domain_certificate_despite_own_record = true;
    let mut own_only = Policy::default();
    own_only.domain_certificate = false;
    let anchor = world.server.anchor("example.");
    let build = |policy| {
        TestClock::new().builder().server(world.server.address).trust_anchor_file(&anchor).policy(policy).build()
    };
    let (despite, own_only) = (build(despite).unwrap(), build(own_only).unwrap());
    // The wildcard does not reach a name that has records, and its own name is not there: the wildcard answers for it.
    assert_uses(&ask(&despite, "expired@wild.example").await, &world.wildcard, "wildcard");
    let narrowed = ask(&own_only, "nobody@wild.example").await;
    assert_gist(&narrowed, "none", "nothing-usable");
    assert_eq!(narrowed.trace().candidates[0].code, "usable");
    assert!(!narrowed.trace().candidates[0].chosen);
}

#[tokio::test]
async fn anchors_may_be_keys_or_digests_and_nearer_ones_win() {
    let world = world(Denial::Nsec);
    for anchor in
        [world.server.ds("example."), world.server.ds("signed.example."), world.server.anchor("signed.example.")]
    {
        let resolver = resolver(world.server.address, &anchor);
        assert_uses(&ask(&resolver, "alice@signed.example").await, &world.alice, "recipient");
        assert_gist(&ask(&resolver, "nobody@signed.example").await, "none", "proven-none");
    }
    // Two anchors on one path: the nearer one is enough, and the other one still serves the rest.
    let both = TestClock::new()
        .builder()
        .server(world.server.address)
        .trust_anchor_file(world.server.anchor("signed.example."))
        .trust_anchor_file(world.server.ds("example."))
        .build()
        .unwrap();
    assert_uses(&ask(&both, "alice@signed.example").await, &world.alice, "recipient");
    assert_gist(&ask(&both, "alice@plain.example").await, "none", "not-served");
}

#[tokio::test]
async fn a_large_certificate_comes_over_tcp() {
    let world = world(Denial::Nsec3);
    let verdict = ask(&world.resolver(), "big@signed.example").await;
    assert_uses(&verdict, &world.big, "recipient");
    let exchanges = &verdict.trace().questions[0].question.exchanges;
    let large = exchanges.iter().find(|x| x.question.ends_with("SMIMEA")).unwrap();
    assert_eq!(large.transport, "tcp");
}

#[tokio::test]
async fn only_a_certificate_for_encryption_is_delivered() {
    let signing_only = Sample { usages: vec![KeyUsagePurpose::DigitalSignature], ..Sample::valid("signing") }.make();
    let future = Sample { from: now() + DAY, ..Sample::valid("future") }.make();
    let older = Sample { from: now() - 5 * DAY, ..Sample::valid("older") }.make();
    let newer = valid("newer");
    let hash = *newer.sha256();
    let at = "many@signed.example";
    let records = [
        smimea(at, "3 0 0", signing_only.der()),
        smimea(at, "3 0 0", future.der()),
        smimea(at, "3 0 0", older.der()),
        smimea(at, "3 0 0", newer.der()),
        smimea(at, "0 0 0", newer.der()),
        smimea(at, "1 0 0", newer.der()),
        smimea(at, "2 0 0", newer.der()),
        smimea(at, "9 0 0", newer.der()),
        smimea(at, "3 0 1", &hash),
        smimea(at, "3 1 1", &hash),
        smimea(at, "3 1 0", &hash),
        smimea(at, "3 0 7", &hash),
        smimea(at, "3 5 0", &hash),
        smimea(at, "3 0 0", b"no certificate"),
        smimea("authority@signed.example", "2 0 0", newer.der()),
    ];
    let zone = |apex, records, signed| ZoneText { apex, records, signed };
    let signing = Some(Signing::with(Denial::Nsec));
    let server = Server::start(vec![zone("signed.example.", records.concat(), signing)], &[]);
    let builder = TestClock::new().builder().server(server.address);
    let builder = builder.trust_anchor_file(server.anchor("signed.example."));
    let verdict = ask(&builder.clone().build().unwrap(), at).await;
    assert_uses(&verdict, &newer, "recipient");
    assert_eq!(verdict.certificates().len(), 1);

    let mut policy = Policy::default();
    policy.encrypt_to_all = true;
    let resolver = builder.policy(policy).build().unwrap();
    let verdict = ask(&resolver, at).await;
    assert_uses(&verdict, &newer, "recipient");
    let Verdict::Use { certificates, .. } = &verdict else { unreachable!() };
    let names: Vec<_> = certificates.iter().map(|c| c.subject()).collect();
    assert_eq!(names, ["CN=newer", "CN=older"]);
    let mut codes: Vec<_> = verdict.trace().candidates.iter().map(|c| c.code).collect();
    codes.sort_unstable();
    let mut expected = [
        "signing-only",
        "not-yet-valid",
        "usable",
        "usable",
        "authority-only",
        "wrong-address",
        "authority-only",
        "unknown-usage",
        "hash-only",
        "hash-only",
        "key-only",
        "unknown-matching",
        "unknown-selector",
        "malformed",
    ];
    expected.sort_unstable();
    assert_eq!(codes, expected);
    assert_eq!(verdict.trace().candidates.iter().filter(|c| c.chosen).count(), 1);

    let authority = ask(&resolver, "authority@signed.example").await;
    assert_gist(&authority, "none", "own-record-unusable");
}

#[tokio::test]
async fn aliases_are_followed() {
    let (alice, domain) = (valid("alice"), valid("domain"));
    let hash = |at: &str| certdir_zones::smimea_owner(&address(at)).to_string();
    let target = hash("alice@signed.example");
    let records = published("alice@signed.example", &alice)
        + &published(&format!("{AUTHORITY}@alias.example"), &domain)
        + &format!("{} 300 IN CNAME {target}\n", hash("bob@signed.example"))
        + &format!("{} 300 IN CNAME nowhere.signed.example.\n", hash("lost@signed.example"))
        + &format!("{} 300 IN CNAME {}\n", hash("loop@signed.example"), hash("pool@signed.example"))
        + &format!("{} 300 IN CNAME {}\n", hash("pool@signed.example"), hash("loop@signed.example"))
        + &format!("{} 300 IN CNAME {}\n", hash("plain@signed.example"), hash("alice@plain.example"))
        + "_smimecert.many.signed.example. 300 IN DNAME _smimecert.signed.example.\n"
        + &format!("*._smimecert.all.signed.example. 300 IN CNAME {target}\n");
    let zone = |apex, records, signed| ZoneText { apex, records, signed };
    for denial in [Denial::Nsec, Denial::Nsec3] {
        let signing = Some(Signing::with(denial));
        let records = records.lines().filter(|l| !l.contains("alias.example")).map(|l| format!("{l}\n")).collect();
        let zones = vec![
            zone("signed.example.", records, signing.clone()),
            zone("plain.example.", published("alice@plain.example", &alice), None),
            zone("example.", String::new(), signing),
        ];
        let server = Server::start(zones, &[]);
        let resolver = resolver(server.address, &server.anchor("example."));
        assert_uses(&ask(&resolver, "bob@signed.example").await, &alice, "recipient");
        assert_uses(&ask(&resolver, "alice@many.signed.example").await, &alice, "recipient");
        assert_uses(&ask(&resolver, "anyone@all.signed.example").await, &alice, "wildcard");
        // The name has a record of its own, which leads nowhere: the domain's certificate would not apply.
        assert_gist(&ask(&resolver, "lost@signed.example").await, "none", "blocked");
        assert_gist(&ask(&resolver, "nobody@many.signed.example").await, "none", "proven-none");
        assert_gist(&ask(&resolver, "loop@signed.example").await, "unknown", "alias-loop");
        // Signed up to the alias, not beyond.
        assert_gist(&ask(&resolver, "plain@signed.example").await, "none", "not-served");
    }
}

#[tokio::test]
async fn a_rolled_signing_key_is_noticed() {
    let alice = valid("alice");
    let zones =
        |records| vec![ZoneText { apex: "signed.example.", records, signed: Some(Signing::with(Denial::Nsec)) }];
    let records = published("alice@signed.example", &alice) + &published("bob@signed.example", &alice);
    let mut server = Server::start(zones(records), &[]);
    let clock = TestClock::new();
    let proxy = crate::proxy::Proxy::honest(server.address).await;
    let resolver =
        clock.builder().server(proxy.address).trust_anchor_file(server.anchor("signed.example.")).build().unwrap();
    assert_uses(&ask(&resolver, "alice@signed.example").await, &alice, "recipient");
    server.roll_signing_key("signed.example.", Denial::Nsec);
    proxy.redirect(server.address);
    clock.advance(11);
    assert_uses(&ask(&resolver, "bob@signed.example").await, &alice, "recipient");
}
