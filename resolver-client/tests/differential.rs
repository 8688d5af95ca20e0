//! The states of DNSSEC (RFC 4035 section 4.3) as this crate, unbound and delv find them, over a few hundred zones that are
//! signed in several ways, not signed, or broken in named ways.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use certdir_resolver::Verdict;
use futures_util::stream::{self, StreamExt};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;

use crate::certificates::{DAY, valid};
use crate::lab::keys::{Key, Terms};
use crate::lab::server::{Lab, Reply};
use crate::lab::zone::{Proofs, Zone};
use crate::lab::*;
use crate::proxy::query;
use crate::servers::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Secure,
    Insecure,
    Bogus,
}

/// A zone, the DS records that its parent has for it, and what the server does to its answers.
struct Case {
    zone: Zone,
    digests: Vec<Rr>,
    twist: fn(Reply) -> Reply,
    /// Where the certificate is.
    person: Name,
}

impl Case {
    fn apex(&self) -> Name {
        self.zone.apex.clone()
    }

    fn key(&self) -> Key {
        self.zone.keys[0].clone()
    }

    /// Another signature over the certificate.
    fn resign(&mut self, sign: impl Fn(&Key, &Name, &[Rr]) -> Rr) {
        let set = self.zone.sets[&self.person][&SMIMEA].clone();
        let made = sign(&self.key(), &self.apex(), &set);
        self.zone.signatures.insert((self.person.clone(), SMIMEA), vec![made]);
    }

    /// The zone with another record in place of the certificate.
    fn replace(&mut self, record: Rr) {
        let sets = self.zone.sets.get_mut(&self.person).unwrap();
        sets.clear();
        self.again(|zone| zone.add(record));
    }

    /// The zone made anew from its own records.
    fn again(&mut self, change: impl FnOnce(&mut Zone)) {
        let mut zone = self.zone.clone();
        zone.sets.values_mut().for_each(|s| s.retain(|k, _| ![DNSKEY, NSEC3PARAM].contains(k)));
        zone.sets.retain(|_, s| !s.is_empty());
        change(&mut zone);
        self.zone = zone.signed();
    }

    fn digest(&mut self, change: impl Fn(&mut Vec<u8>)) {
        self.digests.iter_mut().for_each(|d| change(&mut d.data));
    }
}

const EXPIRED: fn() -> Terms = || Terms::around(-20 * DAY, -DAY);

type Way = (&'static str, fn(&mut Case));

/// The ways of a signed zone, most of them wrong.
const WAYS: [Way; 44] = [
    ("right", |_| {}),
    ("all expired", |c| {
        c.zone.terms = EXPIRED();
        c.zone.sign_sets();
    }),
    ("all in the future", |c| {
        c.zone.terms = Terms::around(DAY, 9 * DAY);
        c.zone.sign_sets();
    }),
    ("record expired", |c| c.resign(|k, zone, set| k.sign(zone, set, EXPIRED()))),
    ("record in the future", |c| c.resign(|k, zone, set| k.sign(zone, set, Terms::around(DAY, 9 * DAY)))),
    ("record not signed", |c| drop(c.zone.signatures.remove(&(c.person.clone(), SMIMEA)))),
    ("record's signature altered", |c| {
        c.resign(|k, zone, set| {
            let mut made = k.sign(zone, set, Terms::valid());
            *made.data.last_mut().unwrap() ^= 1;
            made
        });
    }),
    ("record signed by a stranger", |c| c.resign(|_, zone, set| Key::new(13).sign(zone, set, Terms::valid()))),
    ("record signed in a sibling's name", |c| {
        c.resign(|k, _, set| k.sign(&name("other.example."), set, Terms::valid()));
    }),
    ("record signed in its own name", |c| c.resign(|k, _, set| k.sign(&set[0].name, set, Terms::valid()))),
    ("record with another key tag", |c| {
        c.resign(|k, zone, set| k.sign_as(zone, set, Terms::valid(), !k.tag(), labels(&set[0].name)));
    }),
    ("record with a label too many", |c| {
        c.resign(|k, zone, set| k.sign_as(zone, set, Terms::valid(), k.tag(), labels(&set[0].name) + 1));
    }),
    ("record with a label too few", |c| {
        c.resign(|k, zone, set| k.sign_as(zone, set, Terms::valid(), k.tag(), labels(&set[0].name) - 1));
    }),
    ("record altered", |c| {
        *c.zone.sets.get_mut(&c.person).unwrap().get_mut(&SMIMEA).unwrap()[0].data.last_mut().unwrap() ^= 1;
    }),
    ("good signature behind a bad one", |c| {
        let good = c.zone.signatures[&(c.person.clone(), SMIMEA)][0].clone();
        let mut bad = good.clone();
        *bad.data.last_mut().unwrap() ^= 1;
        c.zone.signatures.insert((c.person.clone(), SMIMEA), vec![bad, good]);
    }),
    ("longer TTL than signed", |c| {
        c.zone.sets.get_mut(&c.person).unwrap().get_mut(&SMIMEA).unwrap()[0].ttl = 9_999;
    }),
    ("no DS", |c| c.digests.clear()),
    ("DS of another key", |c| c.digests = vec![Key::new(13).ds(&c.zone.apex)]),
    ("DS with another digest", |c| c.digest(|d| *d.last_mut().unwrap() ^= 1)),
    ("DS with another tag", |c| c.digest(|d| d[0] ^= 1)),
    ("DS of an unknown algorithm", |c| c.digest(|d| d[2] = 200)),
    ("DS of an unknown digest", |c| c.digest(|d| d[3] = 200)),
    ("DS of an unknown algorithm beside a good one", |c| {
        let mut other = c.digests[0].clone();
        other.data[2] = 200;
        c.digests.push(other);
    }),
    ("DS that is wrong beside a good one", |c| {
        let mut other = c.digests[0].clone();
        *other.data.last_mut().unwrap() ^= 1;
        c.digests.push(other);
    }),
    ("no DNSKEY", |c| drop(c.zone.sets.get_mut(&c.zone.apex).unwrap().remove(&DNSKEY))),
    ("DNSKEY not signed", |c| drop(c.zone.signatures.remove(&(c.zone.apex.clone(), DNSKEY)))),
    ("DNSKEY's signature altered", |c| {
        let made = c.zone.signatures.get_mut(&(c.zone.apex.clone(), DNSKEY)).unwrap();
        *made[0].data.last_mut().unwrap() ^= 1;
    }),
    ("DNSKEY expired", |c| {
        let apex = c.apex();
        c.zone.sign_again(&apex, DNSKEY, EXPIRED());
    }),
    ("another DNSKEY beside it", |c| {
        let apex = c.apex();
        let other = Key::new(13).with_flags(256).record(&apex);
        c.zone.add(other);
        c.zone.sign_again(&apex, DNSKEY, Terms::valid());
    }),
    ("DNSKEY without the zone flag", |c| {
        let key = c.key().with_flags(1);
        c.digests = vec![key.ds(&c.zone.apex)];
        c.again(|zone| zone.keys = vec![key]);
    }),
    ("DNSKEY revoked", |c| {
        let key = c.key().with_flags(0x0181);
        c.digests = vec![key.ds(&c.zone.apex)];
        c.again(|zone| zone.keys = vec![key]);
    }),
    ("SOA not signed", |c| drop(c.zone.signatures.remove(&(c.zone.apex.clone(), SOA)))),
    ("denial not signed", |c| c.zone.signatures.retain(|(_, kind), _| ![NSEC, NSEC3].contains(kind))),
    ("denial expired", |c| {
        for record in c.zone.chain.clone() {
            c.zone.sign_again(&record.name, record.kind, EXPIRED());
        }
    }),
    ("no denial", |c| {
        c.twist = |reply| reply.without(|r| [NSEC, NSEC3].contains(&r.kind) || r.covers(NSEC) || r.covers(NSEC3))
    }),
    ("a denial of one record", |c| {
        c.zone.chain.truncate(1);
    }),
    ("no SOA", |c| c.twist = |reply| reply.without(|r| r.kind == SOA || r.covers(SOA))),
    ("NOERROR for NXDOMAIN", |c| c.twist = |reply| Reply { rcode: NOERROR, ..reply }),
    ("record lost, its denial not", |c| drop(c.zone.sets.get_mut(&c.person).unwrap().remove(&SMIMEA))),
    ("record removed", |c| {
        let text = Rr::new(&c.person, TXT, vec![1, b'x']);
        c.replace(text);
    }),
    ("alias to nothing", |c| {
        let alias = Rr::new(&c.person, CNAME, wire(&under("nowhere", &c.zone.apex)));
        c.replace(alias);
    }),
    ("alias to an unsigned zone", |c| {
        let alias = Rr::new(&c.person, CNAME, wire(&name("x.plain.example.")));
        c.replace(alias);
    }),
    ("alias not signed", |c| {
        let target = under("target", &c.zone.apex);
        let mut record = c.zone.sets[&c.person][&SMIMEA][0].clone();
        record.name = target.clone();
        let alias = Rr::new(&c.person, CNAME, wire(&target));
        c.replace(alias);
        c.again(|zone| zone.add(record));
        c.zone.signatures.remove(&(c.person.clone(), CNAME));
    }),
    ("alias to a record", |c| {
        let target = under("target", &c.zone.apex);
        let mut record = c.zone.sets[&c.person][&SMIMEA][0].clone();
        record.name = target.clone();
        let alias = Rr::new(&c.person, CNAME, wire(&target));
        c.replace(alias);
        c.again(|zone| zone.add(record));
    }),
];

/// Where the three differ: what the label begins with, what else is in it, who is asked, what this crate, unbound and delv say, and
/// why.
type Difference = (&'static str, &'static str, &'static str, [State; 3], &'static str);

const DIFFERENCES: &[Difference] = &[
    ("DNSKEY not signed", "", "", [State::Secure, State::Bogus, State::Bogus], UNSIGNED_KEYS),
    ("DNSKEY not signed", "optout", "nobody", [State::Insecure, State::Bogus, State::Bogus], UNSIGNED_KEYS),
    ("DNSKEY's signature altered", "", "", [State::Secure, State::Bogus, State::Bogus], UNSIGNED_KEYS),
    ("DNSKEY's signature altered", "optout", "nobody", [State::Insecure, State::Bogus, State::Bogus], UNSIGNED_KEYS),
    ("DNSKEY expired", "", "", [State::Secure, State::Bogus, State::Bogus], UNSIGNED_KEYS),
    ("DNSKEY expired", "optout", "nobody", [State::Insecure, State::Bogus, State::Bogus], UNSIGNED_KEYS),
    ("DNSKEY revoked", "", "", [State::Bogus, State::Secure, State::Bogus], REVOKED),
    ("DNSKEY revoked", "optout", "nobody", [State::Bogus, State::Insecure, State::Bogus], REVOKED),
    (
        "good signature behind a bad one",
        "",
        "alice",
        [State::Secure, State::Secure, State::Bogus],
        "delv tries one signature only",
    ),
    ("", "optout", "", [State::Insecure, State::Insecure, State::Secure], OPT_OUT),
    ("no SOA", "", "nobody", [State::Bogus, State::Secure, State::Secure], STRICT),
    ("no SOA", "optout", "nobody", [State::Bogus, State::Insecure, State::Secure], STRICT),
    ("NOERROR for NXDOMAIN", "optout", "nobody", [State::Bogus, State::Insecure, State::Secure], STRICT),
    ("no denial", "optout", "nobody", [State::Bogus, State::Insecure, State::Bogus], STRICT),
    ("right, 500 iterations", "", "nobody", [State::Bogus, State::Insecure, State::Insecure], ITERATIONS),
    ("right, 2500 iterations", "", "nobody", [State::Bogus, State::Insecure, State::Insecure], ITERATIONS),
];

const UNSIGNED_KEYS: &str =
    "hickory asks for no signature of keys that all have a digest in the parent, whose signature is checked";
const REVOKED: &str = "RFC 5011 section 2.1: a revoked key signs nothing; unbound looks at that for trust anchors only";
const OPT_OUT: &str = "RFC 5155 section 9.2: in an opt-out span nothing is proven absent; delv says so of NODATA only";
const STRICT: &str = "an absence without its SOA record, or by another code than its proof, is refused here; the verdict is Unknown, not None";
const ITERATIONS: &str =
    "above 100 iterations nothing is believed here (RFC 9276 section 3.2), others find it not signed";

/// Every zone with its name in the report, below a parent that denies as it does.
fn cases() -> Vec<(String, Case)> {
    let certificate = valid("alice");
    let (rsa, p256, p384, ed) = (Key::new(8), Key::new(13), Key::new(14), Key::new(15));
    let iterated = |iterations| Proofs::Nsec3 { opt_out: false, iterations, salt: vec![0xab; 4] };
    let mut cases = Vec::new();
    let mut make = |label: String, parent: &str, proofs: Proofs, keys: Vec<Key>, wildcard: bool, way: fn(&mut Case)| {
        let apex = format!("z{}.{parent}.example.", cases.len());
        let person = owner(&format!("alice@{}", apex.trim_end_matches('.')));
        let mut zone = Zone::new(&apex, proofs, keys);
        let data = [&[3, 0, 0][..], certificate.der()].concat();
        zone.add(Rr::new(&person, SMIMEA, data.clone()));
        if wildcard {
            zone.add(Rr::new(&under("*", &person.base_name()), SMIMEA, data));
        }
        let zone = zone.signed();
        let digests = zone.keys.iter().map(|k| k.ds(&zone.apex)).collect();
        let mut case = Case { zone, digests, twist: |reply| reply, person };
        way(&mut case);
        cases.push((label, case));
    };
    let kinds = [("nsec", Proofs::Nsec), ("nsec3", Proofs::nsec3()), ("optout", Proofs::opt_out())];
    for (parent, proofs) in &kinds {
        for wildcard in [false, true] {
            let star = if wildcard { " with a wildcard" } else { "" };
            make(format!("unsigned, {parent}{star}"), parent, proofs.clone(), Vec::new(), wildcard, |_| {});
            for keys in [&[&rsa][..], &[&p384], &[&ed], &[&p256, &ed]] {
                let algorithms: Vec<u8> = keys.iter().map(|k| k.algorithm).collect();
                let keys = keys.iter().copied().cloned().collect();
                make(format!("right, {parent}{star}, {algorithms:?}"), parent, proofs.clone(), keys, wildcard, |_| {});
            }
            for (way, change) in WAYS {
                make(format!("{way}, {parent}{star}"), parent, proofs.clone(), vec![p256.clone()], wildcard, change);
            }
        }
    }
    for iterations in [1, 100, 500, 2_500] {
        make(
            format!("right, {iterations} iterations"),
            "nsec3",
            iterated(iterations),
            vec![p256.clone()],
            false,
            |_| {},
        );
    }
    cases
}

/// The three resolvers and what they are asked through.
struct Bench {
    lab: Lab,
    parent: Key,
    unbound: Unbound,
    anchors: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

async fn bench(cases: &[(String, Case)]) -> Bench {
    let mut top = Zone::new("example.", Proofs::nsec3(), vec![Key::new(13)]);
    let mut zones = vec![Zone::new("plain.example.", Proofs::Nsec, Vec::new())];
    for (label, proofs) in [("nsec", Proofs::Nsec), ("nsec3", Proofs::nsec3()), ("optout", Proofs::opt_out())] {
        let mut parent = Zone::new(&format!("{label}.example."), proofs, vec![Key::new(13)]);
        let apex = parent.apex.clone();
        for (_, case) in cases.iter().filter(|(_, c)| apex.zone_of(&c.zone.apex)) {
            parent.add(Rr::new(&case.zone.apex, NS, wire(&under("ns", &case.zone.apex))));
            case.digests.iter().for_each(|d| parent.add(d.clone()));
        }
        zones.push(parent.signed());
    }
    let text = |at: &str| Rr::new(&name(at), TXT, vec![1, b'x']);
    zones[0].add(text("x.plain.example."));
    zones.iter().for_each(|z| top.delegate(z));
    let parent = top.keys[0].clone();
    zones.push(top.signed());
    zones.extend(cases.iter().map(|(_, c)| c.zone.clone()));
    let twists: HashMap<Name, fn(Reply) -> Reply> = cases.iter().map(|(_, c)| (c.zone.apex.clone(), c.twist)).collect();
    let lab = Lab::lying(&zones, move |ask, reply| {
        if ask.kind == DS || ask.kind == DNSKEY {
            return reply.into();
        }
        match twists.iter().find(|(apex, _)| apex.zone_of(&ask.name)) {
            Some((_, twist)) => twist(reply).into(),
            None => reply.into(),
        }
    })
    .await;
    let dir = tempfile::TempDir::new().unwrap();
    let anchors = dir.path().join("anchors");
    let key = data_encoding::BASE64.encode(&parent.public);
    std::fs::write(&anchors, format!("trust-anchors {{ \"example.\" static-key 257 3 13 \"{key}\"; }};\n")).unwrap();
    let unbound = Unbound::start(lab.address, &parent.anchor(&name("example.")));
    Bench { lab, parent, unbound, anchors, _dir: dir }
}

struct Unbound {
    process: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Unbound {
    fn start(upstream: SocketAddr, anchor: &str) -> Unbound {
        let dir = tempfile::TempDir::new().unwrap();
        let (address, at) = (free_port(), dir.path().display());
        let conf = format!(
            "server:\n  interface: {}@{}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  directory: {at}\n  \
             pidfile: {at}/pid\n  use-syslog: no\n  logfile: {at}/log\n  do-not-query-localhost: no\n  \
             module-config: \"validator iterator\"\n  trust-anchor: \"{}\"\n  aggressive-nsec: no\n  \
             qname-minimisation: no\n  prefetch: no\nremote-control:\n  control-enable: no\n\
             forward-zone:\n  name: .\n  forward-addr: {}@{}\n",
            address.ip(),
            address.port(),
            anchor.trim(),
            upstream.ip(),
            upstream.port(),
        );
        let file = dir.path().join("unbound.conf");
        std::fs::write(&file, conf).unwrap();
        let mut unbound = Command::new("unbound");
        unbound.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = unbound.spawn().unwrap_or_else(|e| panic!("unbound is needed for this test: {e}"));
        let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(answers(address, &mut process), "unbound does not start: {}", log());
        Unbound { process, address, _dir: dir }
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

fn ours(verdict: &Verdict) -> State {
    let trace = verdict.trace();
    match trace.questions[0].outcome {
        "found" | "proven-none" => State::Secure,
        "not-served" => State::Insecure,
        _ => State::Bogus,
    }
}

async fn theirs(server: SocketAddr, asked: &Name) -> State {
    let message = query(server, &asked.to_string(), "SMIMEA").await;
    match message.metadata.response_code {
        ResponseCode::ServFail => State::Bogus,
        ResponseCode::NoError | ResponseCode::NXDomain if message.metadata.authentic_data => State::Secure,
        ResponseCode::NoError | ResponseCode::NXDomain => State::Insecure,
        other => panic!("unbound answers {other} for {asked}"),
    }
}

fn delvs(server: SocketAddr, anchors: &std::path::Path, asked: &Name) -> State {
    let mut delv = Command::new("delv");
    delv.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string(), "-a"]).arg(anchors);
    let output = delv.args(["+root=example.", &asked.to_string(), "SMIMEA"]).output();
    let output = output.unwrap_or_else(|e| panic!("delv is needed for this test: {e}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // An alias and its target are judged one by one: the chain is as good as its weakest part.
    let judged: Vec<State> = said
        .lines()
        .filter_map(|line| match line {
            // An absence is a failure to delv, too; the next line says what it is worth.
            l if l.contains("resolution failed: ncache") => None,
            l if l.contains("resolution failed") || l.contains("broken trust chain") => Some(State::Bogus),
            l if l.starts_with(';') && l.contains("fully validated") => Some(State::Secure),
            l if l.starts_with(';') && l.contains("unsigned answer") || l.contains("negative response, unsigned") => {
                Some(State::Insecure)
            }
            _ => None,
        })
        .collect();
    judged.into_iter().max().unwrap_or(State::Bogus)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_validators_agree_on_every_state() {
    let cases = cases();
    let bench = Arc::new(bench(&cases).await);
    let anchor = bench.parent.anchor(&name("example."));
    let resolver = TestClock::new().builder().server(bench.lab.address).trust_anchor(anchor).build().unwrap();
    let resolver = Arc::new(resolver);
    let questions = cases.iter().flat_map(|(label, case)| {
        let domain = case.zone.apex.to_string();
        ["alice", "nobody"].map(|who| (label.clone(), who, format!("{who}@{}", domain.trim_end_matches('.'))))
    });
    let states = stream::iter(questions).map(|(label, who, at)| {
        let (bench, resolver, asked) = (Arc::clone(&bench), Arc::clone(&resolver), owner(&at));
        async move {
            let delv = {
                let (bench, asked) = (Arc::clone(&bench), asked.clone());
                tokio::task::spawn_blocking(move || delvs(bench.lab.address, &bench.anchors, &asked))
            };
            let verdict = ask(&resolver, &at).await;
            let states = [ours(&verdict), theirs(bench.unbound.address, &asked).await, delv.await.unwrap()];
            (label, who, states, verdict)
        }
    });
    let states: Vec<_> = states.buffer_unordered(4).collect().await;
    let mut counts: BTreeMap<[State; 3], usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (label, who, states, verdict) in &states {
        *counts.entry(*states).or_default() += 1;
        let expected = DIFFERENCES.iter().any(|(way, zone, asked, differ, _)| {
            label.starts_with(way) && label.contains(zone) && who.contains(asked) && differ == states
        });
        if states.iter().any(|s| *s != states[0]) && !expected {
            wrong.push(format!("{label}: {who}: {states:?} ({})", verdict.trace().questions[0].question.message));
        }
        // Whatever the others say: what is not Secure is not used, and what is bogus is not absent.
        let trace = verdict.trace();
        assert!(states[0] == State::Secure || trace.reason != "recipient", "{label}: {who}: {trace}");
        assert!(states[0] != State::Bogus || verdict.code() == "unknown", "{label}: {who}: {trace}");
    }
    wrong.sort();
    println!("{} zones, {} questions: {counts:?}", cases.len(), states.len());
    assert!(wrong.is_empty(), "this crate, unbound and delv differ:\n{}", wrong.join("\n"));
}
