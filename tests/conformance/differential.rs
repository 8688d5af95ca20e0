//! The same zone in certdir, NSD, Knot DNS and BIND, and the same questions to all.
//!
//! The zones are random over few labels, so that everything meets: wildcards, empty non-terminals, cuts with and without DS,
//! aliases into each of them (not into other zones: NSD follows those as certdir does, Knot DNS and BIND stop). They are
//! exported with their chain, so NSEC3 records and signatures have to be the same, too.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use certdir_dns::Transport;
use certdir_zones::{Validity, Zone, write_zone};
use hickory_proto::rr::Record;

use super::{Answer, Form, Hosted, query, zone};
use crate::world::{PATIENCE, client, free_port, until};

/// Numbers that look random and are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }

    /// One to three labels below the apex.
    fn owner(&mut self) -> String {
        let labels: Vec<&str> = (0..=self.roll(3)).map(|_| self.one_of(&["a", "b", "c", "*", "_tcp"])).collect();
        labels.join(".")
    }
}

const APEX: &str = "zone.test";

/// A fragment in which nothing is against the rules: aliases stand alone, below a cut there is glue only, below a DNAME nothing.
fn fragment(dice: &mut Dice) -> String {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut closed: Vec<String> = Vec::new();
    let mut text = String::new();
    for _ in 0..12 + dice.roll(12) {
        let owner = dice.owner();
        let kind = dice.roll(9);
        let below = |upper: &str| owner.ends_with(&format!(".{upper}")) || owner == upper;
        let above = taken.iter().any(|lower| lower.ends_with(&format!(".{owner}")));
        if taken.contains(&owner)
            || closed.iter().any(|upper| below(upper))
            || kind >= 5 && kind != 8 && (above || owner.starts_with('*'))
        {
            continue;
        }
        let target = dice.owner();
        match kind {
            0 | 1 => text += &format!("{owner} A 192.0.2.{kind}\n{owner} A 192.0.2.9\n{owner} TXT \"{owner}\"\n"),
            2 => text += &format!("{owner} TYPE65280 \\# 2 0102\n"),
            3 => text += &format!("{owner} SRV 0 1 389 {target}\n"),
            4 | 8 => {
                let target = if dice.roll(4) == 0 { format!("{target}.outside.test.") } else { target };
                text += &format!("{owner} CNAME {target}\n");
            }
            5 => {
                closed.push(owner.clone());
                text += &format!("{owner} NS ns.{owner}\nns.{owner} A 192.0.2.53\nns.{owner} AAAA 2001:db8::53\n");
            }
            6 => {
                closed.push(owner.clone());
                text += &format!("{owner} NS ns.outside.test.\n{owner} DS 1 13 2 {}\n", "00".repeat(32));
            }
            // One that leads below itself goes in circles, and every server stops at another turn.
            _ if target == owner || target.ends_with(&format!(".{owner}")) => continue,
            _ => {
                closed.push(owner.clone());
                text += &format!("{owner} DNAME {target}\n");
            }
        }
        taken.insert(owner);
    }
    text
}

/// A server that was given the zone files.
struct Peer {
    program: &'static str,
    child: Child,
    stream: Option<TcpStream>,
    port: u16,
    log: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- {}: {}", self.program, std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Peer {
    fn start(program: &'static str, folder: &Path, apexes: &[&str]) -> Peer {
        let port = free_port();
        let own = folder.join(program);
        std::fs::create_dir(&own).unwrap();
        let (at, base) = (own.display(), folder.display());
        let mut text = match program {
            "nsd" => format!(
                "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  zonesdir: \"{at}\"\n  pidfile: \"\"\n  \
                 xfrdfile: \"{at}/xfrd\"\n  xfrdir: \"{at}\"\n  zonelistfile: \"{at}/list\"\n  database: \"\"\n  \
                 minimal-responses: yes\n  server-count: 1\nremote-control:\n  control-enable: no\n"
            ),
            "knotd" => format!(
                "server:\n  rundir: \"{at}\"\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
                 database:\n  storage: \"{at}\"\nzone:\n"
            ),
            _ => format!(
                "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no;\n\
                 minimal-responses yes; pid-file none; session-keyfile none; dnssec-validation no; empty-zones-enable no; check-names primary ignore; zero-no-soa-ttl no; }};\ncontrols {{ }};\n"
            ),
        };
        for apex in apexes {
            text += &match program {
                "nsd" => format!("zone:\n  name: {apex}\n  zonefile: \"{base}/{apex}.zone\"\n"),
                "knotd" => format!("  - domain: {apex}\n    file: \"{base}/{apex}.zone\"\n"),
                _ => format!("zone \"{apex}\" {{ type primary; file \"{base}/{apex}.zone\"; }};\n"),
            };
        }
        let file = own.join("conf");
        std::fs::write(&file, text).unwrap();
        let mut command: Command = client(program);
        match program {
            "nsd" => command.args(["-d", "-c"]).arg(&file),
            "knotd" => command.arg("-c").arg(&file),
            _ => command.args(["-g", "-n", "1", "-c"]).arg(&file),
        };
        let path = own.join("log");
        let log = std::fs::File::create(&path).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut peer = Peer { program, child, stream: None, port, log: path };
        until(&format!("{program} answers {}", folder.display()), PATIENCE, || {
            peer.ask(&query(APEX, "SOA", None)).filter(|answer| answer.authoritative())
        });
        peer
    }

    fn ask(&mut self, message: &[u8]) -> Option<Answer> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(TcpStream::connect(("127.0.0.1", self.port)).ok()?),
        };
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let mut exchange = || {
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length, message].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut octets)?;
            Ok::<_, std::io::Error>(octets)
        };
        let octets = exchange();
        if octets.is_err() {
            self.stream = None;
        }
        octets.ok().map(|octets| Answer::read(&octets))
    }
}

/// All that has to be the same: response code, AA, and each section as a set, signatures included.
fn essence(answer: &Answer) -> Vec<String> {
    let section = |name: &str, records: &[Record]| {
        let mut lines: Vec<String> = records
            .iter()
            .map(|record| {
                format!("{name} {} {} {} {}", record.name.to_lowercase(), record.ttl, record.record_type(), record.data)
            })
            .collect();
        lines.sort();
        lines
    };
    let message = &answer.0;
    let head = vec![format!("{} aa={}", answer.rcode(), answer.authoritative())];
    [
        head,
        section("answer", &message.answers),
        section("authority", &message.authorities),
        section("additional", &message.additionals),
    ]
    .concat()
}

fn export(folder: &Path, zone: &Zone) {
    let mut file = std::fs::File::create(folder.join(format!("{}zone", zone.apex()))).unwrap();
    write_zone(zone, Validity { inception: 0, expiration: 0 }, &mut file).unwrap();
}

#[test]
fn the_same_answers_as_nsd_knot_and_bind() {
    let mut dice = Dice(1);
    for round in 0..6 {
        let text = fragment(&mut dice);
        let hosted = Hosted::new([zone(APEX, &text, Form::Chain)]);
        let folder = tempfile::tempdir().unwrap();
        hosted.0.iter().for_each(|zone| export(folder.path(), zone));
        let mut peers = ["nsd", "knotd", "named"].map(|program| Peer::start(program, folder.path(), &[APEX]));
        let (mut differences, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let mut owner = dice.owner();
            if dice.roll(3) == 0 {
                owner = format!("x.{owner}");
            }
            let owner = if dice.roll(20) == 0 { APEX.to_string() } else { format!("{owner}.{APEX}") };
            let rtype = dice.one_of(&["A", "TXT", "SRV", "CNAME", "DNAME", "NS", "DS", "SOA", "MX", "TYPE65280"]);
            let dnssec = [None, Some(true)][dice.roll(2)];
            let question = query(&owner, rtype, dnssec);
            let ours = essence(&hosted.send(&question, Transport::Tcp).unwrap());
            let theirs = peers.each_mut().map(|peer| (peer.program, essence(&peer.ask(&question).unwrap())));
            let apart: Vec<_> = theirs.into_iter().filter(|(_, theirs)| *theirs != ours).collect();
            for (program, _) in &apart {
                alone.push(format!("{program}: {owner} {rtype} {dnssec:?}"));
            }
            // BIND gives up on aliases that go in circles.
            let circle = apart.iter().any(|(_, theirs)| theirs[0].starts_with("ServFail"));
            if apart.len() > 1 + usize::from(circle) {
                differences.push(format!("{owner} {rtype} {dnssec:?}\n  {apart:#?}\n  certdir: {ours:#?}"));
            }
        }
        println!("round {round}, alone: {alone:#?}");
        assert!(
            differences.is_empty(),
            "round {round}: {} differ\n{text}\n{}",
            differences.len(),
            differences.join("\n")
        );
    }
}
