//! Answers that are made to cost: however many keys, signatures, hashes and aliases, one look-up ends soon, and never with
//! "no certificate".

use std::collections::BTreeSet;
use std::time::Duration;

use certdir_resolver::Verdict;

use crate::attacks::{ALICE, NOBODY, Realm, assert_safe, certificate_record};
use crate::certificates::valid;
use crate::lab::keys::{Key, Terms};
use crate::lab::server::{Lab, Reply};
use crate::lab::zone::{Proofs, Zone, nsec3};
use crate::lab::*;
use crate::servers::*;

/// Processor time of this thread, on which the look-up and the test's own servers run.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// What one look-up may cost, with the test's own server: a net under work without bounds, which takes minutes here.
const ENOUGH: Duration = Duration::from_secs(2);

/// One look-up, its cost bounded in time and messages.
async fn bounded(what: &str, realm: &Realm, lab: &Lab, who: &str) -> Verdict {
    let resolver = realm.resolver(lab);
    let before = (lab.asked(), spent());
    let verdict = ask(&resolver, who).await;
    let (asked, time) = (lab.asked() - before.0, spent() - before.1);
    println!("{what}: {asked} questions, {} ms, {} {}", time.as_millis(), verdict.code(), verdict.trace().reason);
    assert!(asked <= 256, "{what}: {asked} questions");
    assert!(time < ENOUGH, "{what}: {time:?}");
    assert_safe(what, realm, who, &verdict);
    verdict
}

/// Keys that all have the same tag.
fn colliding(number: usize) -> Vec<Key> {
    let first = Key::new(13);
    let others = std::iter::repeat_with(|| Key::new(13)).filter_map(|k| k.with_tag(first.tag()));
    others.take(number).collect()
}

/// Signatures over a set that name the right key and are wrong, each in another way.
fn wrong_signatures(good: &Rr, number: usize) -> Vec<Rr> {
    let wrong = |n: usize| {
        let mut record = good.clone();
        let end = record.data.len() - 1;
        record.data[end - n / 255] ^= u8::try_from(n % 255 + 1).unwrap();
        record
    };
    (0..number).map(wrong).collect()
}

/// A realm whose domain has these keys, and any change to its zone after that.
fn laden(keys: Vec<Key>, change: impl FnOnce(&mut Zone)) -> Realm {
    let mut realm = Realm::new(Proofs::nsec3());
    let mut signed = Zone::new("signed.example.", Proofs::nsec3(), keys);
    signed.add(certificate_record(ALICE, &realm.alice));
    realm.signed = signed.signed();
    // The parent's DS records are of the keys; the zone may then be changed.
    let mut realm = realm.delegated();
    change(&mut realm.signed);
    realm
}

#[tokio::test]
async fn many_keys_and_many_signatures() {
    // KeyTrap (CVE-2023-50387): every signature could be by every key.
    let keys = colliding(250);
    let apex = name("signed.example.");
    let alice = owner(ALICE);

    // All keys are anchored; the certificate has hundreds of signatures, none of them good.
    let few: Vec<Key> = keys[..40].to_vec();
    let realm = laden(few.clone(), |zone| {
        let good = zone.signatures[&(alice.clone(), SMIMEA)][0].clone();
        zone.signatures.insert((alice.clone(), SMIMEA), wrong_signatures(&good, 400));
        let good = zone.keys[0].sign(&apex, &zone.sets[&apex][&DNSKEY], Terms::valid());
        zone.signatures.insert((apex.clone(), DNSKEY), vec![good]);
    });
    let lab = Lab::honest(&realm.zones()).await;
    bounded("40 keys, 400 signatures of a certificate", &realm, &lab, ALICE).await;

    // The keys' own signatures.
    let realm = laden(few, |zone| {
        let good = zone.signatures[&(apex.clone(), DNSKEY)][0].clone();
        zone.signatures.insert((apex.clone(), DNSKEY), wrong_signatures(&good, 400));
    });
    let lab = Lab::honest(&realm.zones()).await;
    bounded("40 keys, 400 signatures of the keys", &realm, &lab, ALICE).await;
    bounded("40 keys, 400 signatures of the keys, a denial", &realm, &lab, NOBODY).await;

    // One anchored key among many.
    let realm = laden(keys[..1].to_vec(), |zone| {
        let set = zone.sets.get_mut(&apex).unwrap().get_mut(&DNSKEY).unwrap();
        set.extend(keys[1..].iter().map(|k| k.record(&apex)));
        let good = zone.keys[0].sign(&apex, &zone.sets[&apex][&DNSKEY], Terms::valid());
        zone.signatures.insert((apex.clone(), DNSKEY), wrong_signatures(&good, 300));
    });
    let lab = Lab::honest(&realm.zones()).await;
    bounded("250 keys of one tag, 300 signatures", &realm, &lab, ALICE).await;
}

#[tokio::test]
async fn many_keys_and_many_digests() {
    // Every DS record could be of every key.
    let keys = colliding(120);
    let apex = name("signed.example.");
    let mut realm = laden(keys[..1].to_vec(), |zone| {
        let set = zone.sets.get_mut(&apex).unwrap().get_mut(&DNSKEY).unwrap();
        set.extend(keys[1..].iter().map(|k| k.record(&apex)));
        zone.sign_again(&apex, DNSKEY, Terms::valid());
    });
    let mut parent = Zone::new("example.", Proofs::nsec3(), realm.parent.keys.clone());
    parent.add(Rr::new(&apex, NS, wire(&under("ns", &apex))));
    for key in &keys {
        let mut ds = key.ds(&apex);
        *ds.data.last_mut().unwrap() ^= 1;
        parent.add(ds);
    }
    realm.parent = parent.signed();
    let lab = Lab::honest(&realm.zones()).await;
    bounded("120 keys, 120 digests", &realm, &lab, ALICE).await;
    bounded("120 keys, 120 digests, a denial", &realm, &lab, NOBODY).await;
}

#[tokio::test]
async fn many_signed_sets_in_one_answer() {
    // Valid all of them, and not asked for.
    let realm = laden(vec![Key::new(13)], |_| {});
    let key = realm.signed.keys[0].clone();
    let apex = realm.signed.apex.clone();
    let ballast: Vec<Rr> = (0..300)
        .flat_map(|n| {
            let record = Rr::new(&under(&format!("n{n}"), &apex), TXT, vec![1, b'x']);
            let signature = key.sign(&apex, std::slice::from_ref(&record), Terms::valid());
            [record, signature]
        })
        .collect();
    let denials: Vec<Rr> = (0..200_u8)
        .flat_map(|n| {
            let record = nsec3(&apex, &[n; 20], &[n + 1; 20], &BTreeSet::new(), false, 0, &[]);
            let signature = key.sign(&apex, std::slice::from_ref(&record), Terms::valid());
            [record, signature]
        })
        .collect();
    for (what, ballast) in [("300 signed sets", ballast), ("200 NSEC3 records", denials)] {
        for section in 0..3 {
            let ballast = ballast.clone();
            let lab = Lab::lying(&realm.zones(), move |ask, mut reply| {
                if ask.kind == SMIMEA {
                    [&mut reply.answers, &mut reply.authorities, &mut reply.additionals][section]
                        .extend(ballast.clone());
                }
                reply.into()
            })
            .await;
            for who in [ALICE, NOBODY] {
                bounded(&format!("{what} in section {section} for {who}"), &realm, &lab, who).await;
            }
        }
    }
    // Sets without signatures: each could be the apex of a zone that is not signed.
    let unsigned: Vec<Rr> =
        (0..1_500).map(|n| Rr::new(&name(&format!("a.n{n}.signed.example.")), TXT, vec![0])).collect();
    let lab = Lab::lying(&realm.zones(), move |ask, mut reply| {
        if ask.kind == SMIMEA {
            reply.authorities.extend(unsigned.clone());
        }
        reply.into()
    })
    .await;
    for who in [ALICE, NOBODY] {
        bounded(&format!("1500 sets without a signature for {who}"), &realm, &lab, who).await;
    }
    // Signed by hundreds of zones that would have to be asked for.
    let strangers: Vec<Rr> = (0..300)
        .flat_map(|n| {
            let zone = name(&format!("z{n}.signed.example."));
            let record = Rr::new(&under("x", &zone), TXT, vec![0]);
            let signature = key.sign(&zone, std::slice::from_ref(&record), Terms::valid());
            [record, signature]
        })
        .collect();
    let lab = Lab::lying(&realm.zones(), move |ask, mut reply| {
        if ask.kind == SMIMEA {
            reply.authorities.extend(strangers.clone());
        }
        reply.into()
    })
    .await;
    for who in [ALICE, NOBODY] {
        bounded(&format!("300 strange signers for {who}"), &realm, &lab, who).await;
    }
}

#[tokio::test]
async fn many_hashes() {
    // RFC 9276, CVE-2023-50868: each label of the name is hashed as often as the zone says.
    let deep = format!("alice@{}signed.example", "a.".repeat(60));
    for iterations in [100, 101, 500, 2_500, 65_535] {
        let proofs = Proofs::Nsec3 { opt_out: false, iterations, salt: vec![0x5a; 255] };
        let realm = Realm::new(proofs);
        let mut denial = Vec::new();
        let apex = realm.signed.apex.clone();
        realm.signed.put(&mut denial, &apex, SOA);
        for record in &realm.signed.chain {
            denial.push(record.clone());
            denial.extend(realm.signed.signatures[&(record.name.clone(), NSEC3)].clone());
        }
        // The test's own server does not hash for the questions.
        let unproven = Zone { proofs: Proofs::Nsec, chain: Vec::new(), ..realm.signed.clone() };
        let lab = Lab::lying(&[realm.parent.clone(), unproven], move |ask, reply| {
            if apex.zone_of(&ask.name) && reply.answers.is_empty() {
                return Reply { authorities: denial.clone(), ..Reply::new(NXDOMAIN) }.into();
            }
            reply.into()
        })
        .await;
        for who in [NOBODY, &deep] {
            let verdict = bounded(&format!("{iterations} iterations for {who}"), &realm, &lab, who).await;
            if iterations > 100 {
                assert_eq!(verdict.code(), "unknown", "{}", verdict.trace());
            }
        }
    }
}

#[tokio::test]
async fn aliases_without_end() {
    let realm = Realm::new(Proofs::nsec3());
    let key = realm.signed.keys[0].clone();
    let person = owner(ALICE);
    let zone = |records: Vec<Rr>| {
        let mut zone = Zone::new("signed.example.", Proofs::nsec3(), vec![key.clone()]);
        records.into_iter().for_each(|r| zone.add(r));
        zone.signed()
    };
    let step = |n: usize| name(&format!("n{n}.signed.example."));
    let cname = |from: &_, to: &_| Rr::new(from, CNAME, wire(to));
    let dname = |from: &_, to: &_| Rr::new(from, DNAME, wire(to));
    let certificate = |at: &_| Rr { name: Clone::clone(at), ..certificate_record(ALICE, &realm.alice) };
    let chain = |length: usize| {
        let mut records = vec![cname(&person, &step(0))];
        records.extend((1..length).map(|n| cname(&step(n - 1), &step(n))));
        records.push(certificate(&step(length - 1)));
        records
    };
    let plain = name("x.plain.example.");
    let table: Vec<(&str, Vec<Rr>, &[&str])> = vec![
        ("a chain of 7", chain(7), &["use recipient"]),
        ("a chain of 1000", chain(1_000), &["unknown alias-loop"]),
        ("itself", vec![cname(&person, &person)], &["unknown alias-loop"]),
        (
            "a circle of three",
            vec![cname(&person, &step(0)), cname(&step(0), &step(1)), cname(&step(1), &person)],
            &["unknown alias-loop"],
        ),
        (
            "a DNAME to itself",
            vec![dname(&name("_smimecert.signed.example."), &name("_smimecert.signed.example."))],
            &["unknown alias-loop"],
        ),
        // Each step makes the name longer.
        (
            "a DNAME to below itself",
            vec![dname(&name("_smimecert.signed.example."), &name("a.b.c.d._smimecert.signed.example."))],
            &["unknown alias-loop", "unknown malformed"],
        ),
        (
            "a DNAME to a long name",
            vec![dname(
                &name("_smimecert.signed.example."),
                &name(&format!("{}signed.example.", "a23456789.".repeat(20))),
            )],
            &["unknown malformed", "unknown bogus"],
        ),
        ("into a domain that is not signed", vec![cname(&person, &plain)], &["none not-served"]),
        ("out of the anchor's reach", vec![cname(&person, &name("alice.other."))], &["unknown no-trust-anchor"]),
        ("to the root", vec![cname(&person, &hickory_resolver::proto::rr::Name::root())], &["unknown no-trust-anchor"]),
        ("to nothing", vec![cname(&person, &step(9))], &["none blocked"]),
        (
            "two at once",
            vec![cname(&person, &step(0)), cname(&person, &step(1)), certificate(&step(0)), certificate(&step(1))],
            &["use recipient", "unknown malformed", "unknown bogus"],
        ),
    ];
    for (what, records, expected) in table {
        let realm = Realm { signed: zone(records), ..realm.clone() };
        let mut plain = realm.plain.clone();
        plain.add(certificate(&name("x.plain.example.")));
        let lab = Lab::honest(&[realm.parent.clone(), realm.signed.clone(), plain]).await;
        let resolver = realm.resolver(&lab);
        let before = spent();
        let verdict = ask(&resolver, ALICE).await;
        let (code, reason) = gist(&verdict);
        assert!(expected.contains(&&*format!("{code} {reason}")), "{what}: {}", verdict.trace());
        assert!(lab.asked() <= 128 && spent() - before < ENOUGH, "{what}: {} questions", lab.asked());
    }

    // Aliases that nobody signed, in front of a certificate that somebody else published in a signed zone.
    let mallory = valid("mallory");
    let target = name("mallory.signed.example.");
    let published = zone(vec![
        certificate_record(ALICE, &realm.alice),
        Rr { name: target.clone(), ..certificate_record(ALICE, &mallory) },
    ]);
    let realm = Realm { signed: published.clone(), ..realm.clone() };
    let forged = cname(&person, &target);
    let own = published.signatures[&(person.clone(), SMIMEA)][0].clone();
    let beyond = name("_smimecert.signed.example.");
    let subtree = dname(&beyond, &name("other.signed.example."));
    let forgeries: Vec<(&str, Vec<Rr>)> = vec![
        ("an unsigned CNAME", vec![forged.clone()]),
        (
            "an unsigned CNAME with its target",
            [vec![forged.clone()], published.answer(&target, SMIMEA).answers].concat(),
        ),
        ("a CNAME under another signature", vec![forged.clone(), own]),
        ("an unsigned DNAME", vec![subtree.clone(), forged.clone()]),
        ("the target alone", published.answer(&target, SMIMEA).answers),
        ("a CNAME beside the certificate", [vec![forged.clone()], published.answer(&person, SMIMEA).answers].concat()),
    ];
    for (what, answers) in forgeries {
        let person = person.clone();
        let lab = Lab::lying(&realm.zones(), move |ask, reply| {
            if ask.name == person && ask.kind == SMIMEA {
                return Reply { answers: answers.clone(), ..Reply::new(NOERROR) }.into();
            }
            reply.into()
        })
        .await;
        bounded(what, &realm, &lab, ALICE).await;
    }
    // RFC 6672 section 5.3.1: what a DNAME says is signed; the CNAME beside it is not, and may say what it wants.
    let mut moved = Zone::new("signed.example.", Proofs::nsec3(), vec![key.clone()]);
    let new = name("new.signed.example.");
    moved.add(dname(&beyond, &new));
    let label = person.iter().next().unwrap().to_vec();
    let there = new.prepend_label(&label[..]).unwrap();
    moved.add(certificate(&there));
    moved.add(Rr { name: target.clone(), ..certificate_record(ALICE, &mallory) });
    let realm = Realm { signed: moved.signed(), ..realm.clone() };
    let lab = Lab::lying(&realm.zones(), move |_, mut reply| {
        reply.answers.iter_mut().filter(|r| r.kind == CNAME).for_each(|r| r.data = wire(&target));
        reply.into()
    })
    .await;
    let verdict = bounded("a DNAME beside another CNAME", &realm, &lab, ALICE).await;
    assert_uses(&verdict, &realm.alice, "recipient");
}
