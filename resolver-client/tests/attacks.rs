//! Networks that lie in ways that no ordinary server can: whatever they do, an error never becomes "no certificate", a
//! wrong certificate is never used, and the work is bounded.

use std::sync::Arc;
use std::time::Duration;

use certdir_resolver::{Certificate, Resolver, Verdict};
use hickory_resolver::proto::rr::Name;

use crate::certificates::{DAY, now, valid};
use crate::lab::keys::{Key, Terms};
use crate::lab::server::{Act, Ask, Lab, Reply};
use crate::lab::zone::{Proofs, Zone};
use crate::lab::*;
use crate::proxy::Via;
use crate::servers::*;

/// A signed parent, a signed domain and one that is not.
#[derive(Clone)]
pub(crate) struct Realm {
    pub(crate) parent: Zone,
    pub(crate) signed: Zone,
    pub(crate) plain: Zone,
    pub(crate) alice: Arc<Certificate>,
}

pub(crate) const ALICE: &str = "alice@signed.example";
pub(crate) const NOBODY: &str = "nobody@signed.example";

/// `SMIMEA 3 0 0`.
pub(crate) fn certificate_record(at: &str, certificate: &Certificate) -> Rr {
    Rr::new(&owner(at), SMIMEA, [&[3, 0, 0][..], certificate.der()].concat())
}

impl Realm {
    pub(crate) fn new(proofs: Proofs) -> Realm {
        Self::with_key(proofs, Key::new(13))
    }

    pub(crate) fn with_key(proofs: Proofs, key: Key) -> Realm {
        let alice = valid("alice");
        let signed = Zone::new("signed.example.", proofs.clone(), vec![key]);
        let signed = signed.with(certificate_record(ALICE, &alice)).signed();
        let plain = Zone::new("plain.example.", proofs.clone(), Vec::new());
        let plain = plain.with(certificate_record("alice@plain.example", &alice));
        let parent = Zone::new("example.", proofs, vec![Key::new(13)]);
        Realm { parent, signed, plain, alice }.delegated()
    }

    /// The parent made anew from what the children are now.
    pub(crate) fn delegated(mut self) -> Realm {
        let mut parent = Zone::new("example.", self.parent.proofs.clone(), self.parent.keys.clone());
        parent.delegate(&self.signed);
        parent.delegate(&self.plain);
        self.parent = parent.signed();
        self
    }

    pub(crate) fn zones(&self) -> Vec<Zone> {
        vec![self.parent.clone(), self.signed.clone(), self.plain.clone()]
    }

    pub(crate) fn anchor(&self) -> String {
        self.parent.keys[0].anchor(&self.parent.apex)
    }

    pub(crate) fn resolver(&self, lab: &Lab) -> Resolver {
        TestClock::new().builder().server(lab.address).trust_anchor(self.anchor()).build().unwrap()
    }
}

#[tokio::test]
async fn the_lab_is_honest_when_it_does_not_lie() {
    let proofs = [
        Proofs::Nsec,
        Proofs::nsec3(),
        Proofs::opt_out(),
        Proofs::Nsec3 { opt_out: false, iterations: 10, salt: vec![0xab, 0xcd] },
    ];
    for proofs in proofs {
        for algorithm in [8, 10, 13, 14, 15] {
            let realm = Realm::with_key(proofs.clone(), Key::new(algorithm));
            let lab = Lab::honest(&realm.zones()).await;
            let resolver = realm.resolver(&lab);
            assert_uses(&ask(&resolver, ALICE).await, &realm.alice, "recipient");
            let absent = if proofs == Proofs::opt_out() { "not-served" } else { "proven-none" };
            assert_gist(&ask(&resolver, NOBODY).await, "none", absent);
            assert_gist(&ask(&resolver, "alice@plain.example").await, "none", "not-served");
        }
    }
}

type Script = Box<dyn Fn(&Ask, Reply) -> Act + Send + Sync>;

/// What may be said of a person while somebody lies: the truth, or that it is not known.
#[track_caller]
pub(crate) fn assert_safe(what: &str, realm: &Realm, who: &str, verdict: &Verdict) {
    if verdict.code() == "unknown" {
        return;
    }
    match who {
        ALICE => {
            assert_eq!(verdict.code(), "use", "{what}: {who}: {}", verdict.trace());
            assert_eq!(verdict.certificate().unwrap().sha256(), realm.alice.sha256(), "{what}: {}", verdict.trace());
        }
        _ => {
            let reason = if who.ends_with("plain.example") { "not-served" } else { "proven-none" };
            assert_eq!(gist(verdict), ("none", reason), "{what}: {who}: {}", verdict.trace());
        }
    }
}

const PEOPLE: [&str; 3] = [ALICE, NOBODY, "alice@plain.example"];

/// Tells each lie to its own resolver, all at once. `expected`: the verdict about Alice, where only one is right.
async fn tell(realm: &Realm, lies: Vec<(&'static str, Option<&'static str>, Script)>) {
    let each = lies.into_iter().map(|(what, expected, script)| async move {
        let lab = Lab::lying(&realm.zones(), script).await;
        let builder = TestClock::new().builder().server(lab.address).trust_anchor(realm.anchor());
        let resolver = builder.timeout(Duration::from_secs(2)).build().unwrap();
        for who in PEOPLE {
            let verdict = ask(&resolver, who).await;
            assert_safe(what, realm, who, &verdict);
            if let Some(expected) = expected.filter(|_| who == ALICE) {
                assert_eq!(verdict.code(), expected, "{what}: {}", verdict.trace());
            }
        }
        assert!(lab.asked() < 256, "{what}: {} questions", lab.asked());
        // An honest server beside it does not make a lie true.
        let honest = Lab::honest(&realm.zones()).await;
        let builder = TestClock::new().builder().server(lab.address).server(honest.address);
        let resolver = builder.trust_anchor(realm.anchor()).build().unwrap();
        for who in PEOPLE {
            assert_safe(what, realm, who, &ask(&resolver, who).await);
        }
    });
    futures_util::future::join_all(each).await;
}

fn lie(
    what: &'static str,
    expected: Option<&'static str>,
    script: impl Fn(&Ask, Reply) -> Act + Send + Sync + 'static,
) -> (&'static str, Option<&'static str>, Script) {
    (what, expected, Box::new(script))
}

/// The octets of a reply, changed.
fn altered(ask: &Ask, reply: &Reply, change: impl Fn(&mut Vec<u8>)) -> Act {
    let mut octets = reply.octets(ask);
    if ask.via == Via::Udp && octets.len() > 1_232 {
        octets = Reply { tc: true, ..Reply::new(reply.rcode) }.octets(ask);
    }
    change(&mut octets);
    Act::Octets(vec![octets])
}

fn framed(length: usize, octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(length).unwrap().to_be_bytes()[..], octets].concat()
}

#[tokio::test]
async fn messages_that_are_not_the_answer() {
    let realm = Realm::new(Proofs::nsec3());
    let unknown = Some("unknown");
    let mut lies = vec![
        lie("a wrong id", unknown, |ask, reply| Reply { id: Some(!ask.id), ..reply }.into()),
        lie("a wrong id first", None, |ask, reply| {
            let forged = Reply { id: Some(!ask.id), ..Reply::new(NXDOMAIN) }.octets(ask);
            let Act::Octets(mut honest) = altered(ask, &reply, |_| {}) else { unreachable!() };
            honest.insert(0, forged);
            Act::Octets(honest)
        }),
        lie("another question", unknown, |_, reply| {
            Reply { question: Some((name("other.example."), SMIMEA)), ..reply }.into()
        }),
        lie("a question of another type", unknown, |ask, reply| {
            Reply { question: Some((ask.name.clone(), TXT)), ..reply }.into()
        }),
        lie("no question", None, |ask, reply| {
            altered(ask, &reply, |o| {
                let end = 12 + wire(&ask.name).len() + 4;
                o.drain(12..end);
                o[5] = 0;
            })
        }),
        lie("a query for an answer", unknown, |ask, reply| altered(ask, &reply, |o| o[2] &= 0x7f)),
        lie("another opcode", None, |ask, reply| altered(ask, &reply, |o| o[2] |= 0x20)),
        lie("octets behind the end", None, |ask, reply| altered(ask, &reply, |o| o.extend([0; 9]))),
        lie("more records promised", unknown, |ask, reply| altered(ask, &reply, |o| o[6] = 0xff)),
        lie("noise", unknown, |ask, _| Act::Octets(vec![[&ask.id.to_be_bytes()[..], &[0x81; 99]].concat()])),
        lie("nothing but an id", unknown, |ask, _| Act::Octets(vec![ask.id.to_be_bytes().to_vec()])),
        lie("an empty message", unknown, |_, _| Act::Octets(vec![Vec::new()])),
        lie("a name that points to itself", unknown, |ask, _| {
            let reply = Reply { answers: vec![Rr::new(&Name::root(), SMIMEA, vec![3, 0, 0])], ..Reply::new(0) };
            altered(ask, &reply, |o| {
                let at = 12 + wire(&ask.name).len() + 4;
                let pointer = (0xc000 | u16::try_from(at).unwrap()).to_be_bytes();
                o.splice(at..=at, pointer);
            })
        }),
        lie("truncated everywhere", unknown, |_, reply| Reply { tc: true, ..reply }.without(|_| true).into()),
        lie("truncated, with half of it", None, |ask, reply| match ask.via {
            Via::Udp => Reply { tc: true, answers: Vec::new(), ..reply }.into(),
            Via::Tcp => reply.into(),
        }),
        lie("names in capitals", Some("use"), |ask, reply| {
            let mut reply = reply;
            for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
                record.name = name(&record.name.to_string().to_uppercase());
            }
            reply.question = Some((name(&ask.name.to_string().to_uppercase()), ask.kind));
            reply.into()
        }),
        lie("the class CHAOS", None, |ask, reply| {
            altered(ask, &reply, |o| {
                let end = 12 + wire(&ask.name).len() + 4;
                o[end - 1] = 3;
            })
        }),
        lie("an answer from somebody else", unknown, |ask, _| {
            // What is true of a name that nobody asked for.
            let mut reply = Reply::new(NOERROR);
            reply.answers.push(Rr::new(&name("x.example."), ask.kind, vec![3, 0, 0, 1]));
            reply.into()
        }),
        lie("an upward referral", unknown, |_, _| {
            let root = Rr::new(&Name::root(), NS, wire(&name("a.root-servers.net.")));
            Reply { aa: false, authorities: vec![root], ..Reply::new(NOERROR) }.into()
        }),
        lie("a referral to itself", unknown, |ask, reply| {
            if ask.kind != SMIMEA {
                return reply.into();
            }
            let cut = Rr::new(&name("signed.example."), NS, wire(&name("ns.signed.example.")));
            Reply { aa: false, authorities: vec![cut], ..Reply::new(NOERROR) }.into()
        }),
        lie("every second question unanswered", None, |ask, reply| match ask.before % 2 {
            0 => Act::Silence,
            _ => reply.into(),
        }),
        lie("refused every second time", None, |ask, reply| match ask.before % 2 {
            0 => Reply::new(REFUSED).into(),
            _ => reply.into(),
        }),
        lie("silence", unknown, |_, _| Act::Silence),
    ];
    for rcode in 1..16 {
        lies.push(lie("a response code and no records", unknown, move |_, _| Reply::new(rcode).into()));
        if rcode != NXDOMAIN {
            lies.push(lie("a response code beside the records", None, move |_, reply| Reply { rcode, ..reply }.into()));
        }
    }
    tell(&realm, lies).await;
}

/// What is sent on a stream in place of a whole message: pauses, and octets after each.
type Write = fn(Vec<u8>) -> Vec<(Duration, Vec<u8>)>;

#[tokio::test]
async fn streams_that_end_early_or_never() {
    let realm = Realm::new(Proofs::Nsec);
    // UDP says "truncated", so that everything is asked over TCP.
    let over_tcp = |what, expected, write: Write| {
        lie(what, expected, move |ask, reply| match ask.via {
            Via::Udp => Reply { tc: true, ..Reply::new(reply.rcode) }.into(),
            Via::Tcp => Act::Stream(write(reply.octets(ask))),
        })
    };
    let unknown = Some("unknown");
    let lies = vec![
        over_tcp("whole and closed", Some("use"), |o| vec![(Duration::ZERO, framed(o.len(), &o))]),
        over_tcp("cut in the middle", unknown, |o| vec![(Duration::ZERO, framed(o.len(), &o[..o.len() / 2]))]),
        over_tcp("cut within the length", unknown, |_| vec![(Duration::ZERO, vec![1])]),
        over_tcp("closed at once", unknown, |_| Vec::new()),
        over_tcp("a length that is too long", unknown, |o| vec![(Duration::ZERO, framed(o.len() + 1, &o))]),
        over_tcp("a length that is too short", unknown, |o| vec![(Duration::ZERO, framed(o.len() - 1, &o))]),
        over_tcp("a length of nothing", unknown, |o| vec![(Duration::ZERO, framed(0, &o))]),
        over_tcp("the longest length", unknown, |o| vec![(Duration::ZERO, framed(65_535, &o))]),
        over_tcp("in two pieces", Some("use"), |o| {
            let whole = framed(o.len(), &o);
            vec![(Duration::ZERO, whole[..1].to_vec()), (Duration::from_millis(10), whole[1..].to_vec())]
        }),
        over_tcp("an endless trickle", unknown, |_| {
            let octet = |_| (Duration::from_millis(100), vec![0]);
            [(Duration::ZERO, vec![0xff, 0xff])].into_iter().chain((0..65_535).map(octet)).collect()
        }),
        over_tcp("a flood of other messages", unknown, |o| {
            let mut other = o;
            other[0] ^= 0xff;
            let whole = framed(other.len(), &other);
            (0..100).map(|_| (Duration::from_millis(1), whole.clone())).collect()
        }),
    ];
    tell(&realm, lies).await;
}

/// A realm that somebody changed after it was signed.
pub(crate) async fn changed(what: &str, expected: Option<&str>, realm: &Realm, change: impl Fn(&mut Realm)) {
    let mut twisted = realm.clone();
    change(&mut twisted);
    let lab = Lab::honest(&twisted.zones()).await;
    let resolver = realm.resolver(&lab);
    for who in PEOPLE {
        let verdict = ask(&resolver, who).await;
        assert_safe(what, realm, who, &verdict);
        if let Some(expected) = expected.filter(|_| who == ALICE) {
            assert_eq!(verdict.code(), expected, "{what}: {}", verdict.trace());
        }
    }
}

#[tokio::test]
async fn signatures_that_do_not_hold() {
    let unknown = Some("unknown");
    for (proofs, algorithm) in [(Proofs::Nsec, 13), (Proofs::nsec3(), 15), (Proofs::nsec3(), 8)] {
        let realm = Realm::with_key(proofs, Key::new(algorithm));
        let (apex, alice) = (realm.signed.apex.clone(), owner(ALICE));
        let at = (alice.clone(), SMIMEA);
        let set = realm.signed.sets[&alice][&SMIMEA].clone();
        let key = realm.signed.keys[0].clone();
        let now = u32::try_from(now()).unwrap();
        let day = u32::try_from(DAY).unwrap();
        let terms = |inception, expiration| Terms { inception, expiration };
        let depth = labels(&alice);
        let with = |what: &'static str, expected, signature: Rr| {
            let (realm, at) = (&realm, at.clone());
            async move {
                changed(what, expected, realm, |r| {
                    drop(r.signed.signatures.insert(at.clone(), vec![signature.clone()]))
                })
                .await
            }
        };
        with("expired", unknown, key.sign(&apex, &set, terms(now - 9 * day, now - 60))).await;
        with("not yet", unknown, key.sign(&apex, &set, terms(now + 600, now + 9 * day))).await;
        with("ends before it begins", unknown, key.sign(&apex, &set, terms(now + day, now - day))).await;
        with("half of all time", None, key.sign(&apex, &set, terms(now - 2, (now - 2).wrapping_add(1 << 31)))).await;
        with(
            "more than half of all time",
            None,
            key.sign(&apex, &set, terms(now - day, (now - day).wrapping_add(3 << 30))),
        )
        .await;
        with("another key tag", unknown, key.sign_as(&apex, &set, Terms::valid(), !key.tag(), depth)).await;
        with("too many labels", unknown, key.sign_as(&apex, &set, Terms::valid(), key.tag(), depth + 1)).await;
        with("no labels", unknown, key.sign_as(&apex, &set, Terms::valid(), key.tag(), 0)).await;
        // As if a wildcard had been expanded, which nothing proves.
        with("fewer labels", unknown, key.sign_as(&apex, &set, Terms::valid(), key.tag(), depth - 1)).await;
        // The parent could delegate to itself: what it signs is as good as what its child signs.
        with("the parent as the signer", None, realm.parent.keys[0].sign(&realm.parent.apex, &set, Terms::valid()))
            .await;
        with("the parent's name and the zone's key", unknown, key.sign(&realm.parent.apex, &set, Terms::valid())).await;
        with("a sibling as the signer", unknown, key.sign(&name("plain.example."), &set, Terms::valid())).await;
        with("the name itself as the signer", unknown, key.sign(&alice, &set, Terms::valid())).await;
        with("a stranger's key", unknown, Key::new(algorithm).sign(&apex, &set, Terms::valid())).await;
        with("a key of the same tag", unknown, {
            let other = std::iter::repeat_with(|| Key::new(13)).find_map(|k| k.with_tag(key.tag())).unwrap();
            other.sign(&apex, &set, Terms::valid())
        })
        .await;
        let good = key.sign(&apex, &set, Terms::valid());
        let edited = |change: fn(&mut Vec<u8>)| {
            let mut record = good.clone();
            change(&mut record.data);
            record
        };
        with("one bit", unknown, edited(|d| *d.last_mut().unwrap() ^= 1)).await;
        with("one octet less", unknown, edited(|d| d.truncate(d.len() - 1))).await;
        with("one octet more", unknown, edited(|d| d.push(0))).await;
        with("no signature in it", unknown, edited(|d| d.truncate(18 + 16))).await;
        with("only half of its fixed part", unknown, edited(|d| d.truncate(9))).await;
        with("nothing in it", unknown, edited(|d| d.clear())).await;
        with("another algorithm", unknown, edited(|d| d[2] = 253)).await;
        with("algorithm zero", unknown, edited(|d| d[2] = 0)).await;
        with("a covered type that it does not cover", unknown, edited(|d| d[1] = 16)).await;
        with("another original TTL", unknown, edited(|d| d[7] ^= 1)).await;

        changed("no signature", unknown, &realm, |r| drop(r.signed.signatures.remove(&at))).await;
        changed("a good one behind many bad ones", None, &realm, |r| {
            let bad = (0..7).map(|_| edited(|d| *d.last_mut().unwrap() ^= 1));
            drop(r.signed.signatures.insert(at.clone(), bad.chain([good.clone()]).collect()));
        })
        .await;
        // RFC 4035 section 5.3.1: a name or a type that the signature is not for.
        changed("a record more", unknown, &realm, |r| {
            let extra = Rr::new(&alice, SMIMEA, vec![3, 0, 0, 1]);
            r.signed.add(extra);
        })
        .await;
        changed("another certificate", unknown, &realm, |r| {
            let mallory = certificate_record(ALICE, &valid("mallory"));
            r.signed.sets.get_mut(&alice).unwrap().insert(SMIMEA, vec![mallory]);
        })
        .await;
        // RFC 4034 section 2.1: the zone flag, the protocol; RFC 5011 section 2.1: the revocation flag.
        for (what, flags) in [("no zone key", 1), ("a revoked key", 0x0181)] {
            changed(what, unknown, &realm, |r| {
                let bent = key.with_flags(flags);
                let mut signed = Zone::new("signed.example.", r.signed.proofs.clone(), vec![bent]);
                signed.add(certificate_record(ALICE, &realm.alice));
                r.signed = signed.signed();
                *r = r.clone().delegated();
            })
            .await;
        }
        changed("no keys", unknown, &realm, |r| drop(r.signed.sets.get_mut(&apex).unwrap().remove(&DNSKEY))).await;
        // Each of them has a digest in the parent: that is all that hickory asks for.
        changed("keys without a signature", None, &realm, |r| {
            drop(r.signed.signatures.remove(&(apex.clone(), DNSKEY)))
        })
        .await;
        changed("a stranger's zone", unknown, &realm, |r| {
            let signed = Zone::new("signed.example.", r.signed.proofs.clone(), vec![Key::new(13)]);
            r.signed = signed.with(certificate_record(ALICE, &valid("mallory"))).signed();
        })
        .await;
        changed("a stranger's parent", unknown, &realm, |r| {
            r.parent.keys = vec![Key::new(13)];
            let signed = Zone::new("signed.example.", r.signed.proofs.clone(), vec![Key::new(13)]);
            r.signed = signed.with(certificate_record(ALICE, &valid("mallory"))).signed();
            *r = r.clone().delegated();
        })
        .await;
    }
}

#[tokio::test]
async fn times_to_live_of_all_sizes() {
    let key = Key::new(13);
    for ttl in [0, 1, (1 << 31) - 1, 1 << 31, u32::MAX] {
        let mut realm = Realm::with_key(Proofs::nsec3(), key.clone());
        let live = |r: &mut Rr| r.ttl = ttl;
        let mut signed = Zone::new("signed.example.", Proofs::nsec3(), vec![key.clone()]);
        signed.add(certificate_record(ALICE, &realm.alice));
        signed.sets.values_mut().flat_map(|s| s.values_mut()).flatten().for_each(live);
        // A signature that lasts for years does not make it last, either.
        signed.terms = Terms::around(-60, 20 * 365 * DAY);
        realm.signed = signed.signed();
        realm = realm.delegated();
        let lab = Lab::honest(&realm.zones()).await;
        let resolver = realm.resolver(&lab);
        let began = now();
        let verdict = ask(&resolver, ALICE).await;
        assert_uses(&verdict, &realm.alice, "recipient");
        let nobody = ask(&resolver, NOBODY).await;
        assert_gist(&nobody, "none", "proven-none");
        let ended = now();
        assert!((began..=ended + DAY).contains(&verdict.look_again()), "{ttl}: {}", verdict.trace());
        assert!((began..=ended + 60).contains(&nobody.look_again()), "{ttl}: {}", nobody.trace());
        // RFC 8767 section 4: the highest bit means a large number, which is capped.
        if ttl <= 1 {
            assert!(verdict.look_again() <= ended + 1, "{ttl}: {}", verdict.trace());
        }
    }
    // Longer on the way than its signature says (RFC 4035 section 5.3.3).
    let realm = Realm::new(Proofs::nsec3());
    let lab = Lab::lying(&realm.zones(), |_, mut reply| {
        reply.answers.iter_mut().chain(&mut reply.authorities).for_each(|r| r.ttl = 80_000);
        reply.into()
    })
    .await;
    let resolver = realm.resolver(&lab);
    for (who, limit) in [(ALICE, 300), (NOBODY, 60)] {
        let verdict = ask(&resolver, who).await;
        assert_safe("a longer TTL", &realm, who, &verdict);
        assert!(verdict.look_again() <= now() + limit, "{}", verdict.trace());
    }
}

/// Every record of a zone's chain with its signatures, as anyone can collect them.
fn spans(zone: &Zone) -> Vec<Vec<Rr>> {
    let with_signatures = |r: &Rr| {
        let signatures = zone.signatures[&(r.name.clone(), r.kind)].clone();
        [vec![r.clone()], signatures].concat()
    };
    zone.chain.iter().map(with_signatures).collect()
}

#[tokio::test]
async fn no_choice_of_true_denials_denies_what_is_there() {
    for proofs in [Proofs::Nsec, Proofs::nsec3(), Proofs::opt_out()] {
        let realm = Realm::new(proofs);
        let sources = [spans(&realm.signed), spans(&realm.parent)].concat();
        let mut soas = Vec::new();
        realm.signed.put(&mut soas, &realm.signed.apex, SOA);
        let mut above = Vec::new();
        realm.parent.put(&mut above, &realm.parent.apex, SOA);
        for choice in 0..1_u32 << sources.len() {
            if choice.count_ones() > 3 {
                continue;
            }
            let chosen = sources.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1);
            let chosen: Vec<Rr> = chosen.flat_map(|(_, s)| s.clone()).collect();
            let (soas, above, person) = (soas.clone(), above.clone(), owner(ALICE));
            let lab = Lab::lying(&realm.zones(), move |ask, reply| {
                // The certificate is denied, and so are all delegations and keys on the way to it.
                let below = name("signed.example.").zone_of(&ask.name);
                let forged = ask.name == person || below && ask.kind == DS;
                if !forged {
                    return reply.into();
                }
                let rcode = if choice % 2 == 0 { NXDOMAIN } else { NOERROR };
                let soa = if ask.kind == DS { &above } else { &soas };
                Reply { authorities: [soa.clone(), chosen.clone()].concat(), ..Reply::new(rcode) }.into()
            })
            .await;
            let verdict = ask(&realm.resolver(&lab), ALICE).await;
            assert_safe(&format!("{:?} {choice:b}", realm.signed.proofs), &realm, ALICE, &verdict);
        }
    }
}
