//! The zone file: golden text, and the verdict of the tools that operators use.

use crate::{EXPIRATION, INCEPTION, TTL, data, empty_zone, key, name, put};
use certdir_zones::text::{self, Validity};
use certdir_zones::{
    Address, CertForm, Error, RecordType, Usage, Zone, ZoneKey, cert_owners, rdata, smimea_owner, smimea_wildcard,
};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const VALIDITY: Validity = Validity { inception: INCEPTION, expiration: EXPIRATION };

fn export(zone: &Zone) -> String {
    let mut out = Vec::new();
    text::write_zone(zone, VALIDITY, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn certificate() -> Vec<u8> {
    std::fs::read(data("certificates/p256.der")).unwrap()
}

fn publish(zone: &mut Zone, address: &str) {
    let owner = smimea_owner(&Address::parse(address).unwrap());
    put(zone, &owner, RecordType::SMIMEA, &[rdata::smimea(Usage::DaneEe, &certificate())]);
}

/// `_smimecert.example.org` with a person; with or without a domain-level certificate.
fn smimecert_zone(wildcard: bool) -> Zone {
    let mut zone = empty_zone("_smimecert.example.org");
    publish(&mut zone, "hugh@example.org");
    if wildcard {
        let authority = Address::parse("domain-confidentiality-authority@example.org").unwrap();
        publish(&mut zone, &authority.to_string());
        put(
            &mut zone,
            &smimea_wildcard(authority.domain()),
            RecordType::SMIMEA,
            &[rdata::smimea(Usage::DaneEe, &certificate())],
        );
    }
    zone
}

/// A mail domain with CERT records, empty non-terminals (by `dotted.names`), octets that need escapes, and a type that has
/// no presentation form here.
fn mail_zone() -> Zone {
    let mut zone = empty_zone("direct.example.org");
    for (number, address) in [
        "alice@direct.example.org",
        "dotted.names.are.deep@direct.example.org",
        "\"semi;colon space\"@direct.example.org",
        "josé@direct.example.org",
    ]
    .iter()
    .enumerate()
    {
        for owner in cert_owners(&Address::parse(address).unwrap()) {
            let form = if number % 2 == 0 { CertForm::Rfc4398 } else { CertForm::BareDer };
            put(&mut zone, &owner, RecordType::CERT, &[rdata::cert(form, &certificate())]);
        }
    }
    let apex = zone.apex().clone();
    put(&mut zone, &apex, RecordType::CERT, &[rdata::cert(CertForm::BareDer, &certificate())]);
    put(&mut zone, &apex, RecordType::MX, &[[&[0, 10][..], name("mail.direct.example.org").as_wire()].concat().into()]);
    put(
        &mut zone,
        &apex,
        RecordType::TXT,
        &[b"\x0dv=spf1 \"mx\" \\\x00".as_slice().into(), b"\x03one\x03two".as_slice().into()],
    );
    put(&mut zone, &name("mail.direct.example.org"), RecordType::A, &[[192, 0, 2, 1].as_slice().into()]);
    put(
        &mut zone,
        &name("mail.direct.example.org"),
        RecordType::AAAA,
        &[[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].as_slice().into()],
    );
    put(
        &mut zone,
        &name("_ldap._tcp.direct.example.org"),
        RecordType::SRV,
        &[[&[0, 0, 0, 0, 1, 133][..], name("mail.direct.example.org").as_wire()].concat().into()],
    );
    put(&mut zone, &name("new.direct.example.org"), RecordType(65_280), &[[1, 2, 3].as_slice().into()]);
    zone
}

fn thousand() -> Zone {
    let mut zone = empty_zone("_smimecert.example.org");
    for number in 0..1_000 {
        publish(&mut zone, &format!("person{number}@example.org"));
    }
    zone
}

/// The tools, each with the words that make it check the zone in a file; none asks the network.
fn checks<'a>(apex: &'a str, file: &'a str) -> [(&'static str, Vec<&'a str>); 4] {
    [
        ("named-checkzone", vec!["-i", "local", "-k", "fail", apex, file]),
        ("ldns-verify-zone", vec!["-V", "2", file]),
        ("kzonecheck", vec!["--dnssec", "on", "-o", apex, file]),
        // -z: one key signs everything.
        ("dnssec-verify", vec!["-z", "-o", apex, file]),
    ]
}

/// Whether a tool takes its arguments, and what it says.
fn run(tool: &str, arguments: &[&str]) -> (bool, String) {
    // Debian keeps some of them where not every user's path leads.
    let places = ["/usr/bin", "/usr/sbin"].map(|folder| Path::new(folder).join(tool));
    let found = places.into_iter().find(|path| path.exists()).unwrap_or(tool.into());
    let output = Command::new(found).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}; ./check.sh clients installs it"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

/// Which tools refuse the text, with what they say.
fn refusals(apex: &str, zone: &str) -> Vec<(&'static str, String)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), zone).unwrap();
    let path = file.path().to_str().unwrap();
    let verdicts = checks(apex, path).map(|(tool, arguments)| (tool, run(tool, &arguments)));
    verdicts.into_iter().filter_map(|(tool, (taken, said))| (!taken).then_some((tool, said))).collect()
}

#[test]
fn every_tool_accepts_every_zone() {
    let zones = [
        ("nobody", empty_zone("_smimecert.example.org")),
        ("one person", smimecert_zone(false)),
        ("wildcard", smimecert_zone(true)),
        ("mail domain", mail_zone()),
        ("1,000 people", thousand()),
    ];
    for (what, zone) in zones {
        let refused = refusals(&zone.apex().to_string(), &export(&zone));
        assert!(refused.is_empty(), "{what}: {refused:#?}");
    }
}

/// The tools would see what is wrong: one broken thing each, and who has to notice it.
#[test]
fn the_tools_refuse_broken_zones() {
    let zone = smimecert_zone(true);
    let apex = zone.apex().to_string();
    let good = export(&zone);
    let without = |what: &dyn Fn(&str) -> bool| {
        good.lines().filter(|line| !what(line)).fold(String::new(), |zone, line| zone + line + "\n")
    };
    let validators = ["ldns-verify-zone", "kzonecheck", "dnssec-verify"];
    let last = good.lines().rfind(|line| line.contains(" NSEC3 ")).unwrap().split(' ').next().unwrap();
    let broken = [
        ("a hole in the chain", without(&|line| line.starts_with(last))),
        ("a name without signature", without(&|line| line.starts_with("*.") && line.contains(" RRSIG "))),
        ("another certificate", good.replacen(" SMIMEA 3 0 0 30", " SMIMEA 3 0 0 31", 1)),
    ];
    for (what, zone) in broken {
        let refused: Vec<&str> = refusals(&apex, &zone).into_iter().map(|(tool, _)| tool).collect();
        for tool in validators {
            assert!(refused.contains(&tool), "{what}: {tool} accepts it");
        }
    }
}

/// Compares with a golden file, or writes it where `UPDATE_GOLDEN=1` says so.
fn golden(file: &str, text: &str) {
    let path = data("zones").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(text == expected, "{} differs; UPDATE_GOLDEN=1 writes it again. Now:\n{text}", path.display());
}

/// ECDSA signatures are random: the last field of an RRSIG.
fn without_signatures(zone: &str) -> String {
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((head, _)) if line.contains(" IN RRSIG ") => format!("{head} (signature)\n"),
        _ => format!("{line}\n"),
    };
    zone.lines().map(line).collect()
}

#[test]
fn the_text_is_the_golden_one() {
    golden("export.zone", &without_signatures(&export(&mail_zone())));
    let mut anchors = Vec::new();
    let apex = name("direct.example.org");
    text::write_ds(&apex, &key(), &mut anchors).unwrap();
    text::write_dnskey(&apex, &key(), &mut anchors).unwrap();
    text::write_trust_anchors(&apex, &key(), &mut anchors).unwrap();
    golden("anchors.txt", &String::from_utf8(anchors).unwrap());
}

/// BIND reads the trust anchor, and makes the same DS from the same DNSKEY.
#[test]
fn bind_takes_the_anchors() {
    let folder = tempfile::tempdir().unwrap();
    let apex = name("direct.example.org");
    let write = |file: &str, text: &[u8]| {
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (mut anchors, mut dnskey, mut ds) = (Vec::new(), Vec::new(), Vec::new());
    text::write_trust_anchors(&apex, &key(), &mut anchors).unwrap();
    text::write_dnskey(&apex, &key(), &mut dnskey).unwrap();
    text::write_ds(&apex, &key(), &mut ds).unwrap();
    let (taken, said) = run("named-checkconf", &[&write("anchors.conf", &anchors)]);
    assert!(taken, "{said}");
    let (taken, said) =
        run("dnssec-dsfromkey", &["-2", "-T", "3600", "-f", &write("dnskey", &dnskey), "direct.example.org"]);
    assert!(taken, "{said}");
    assert_eq!(said, String::from_utf8(ds).unwrap());
}

/// Every stored signature is in the file as it is: a secondary that loads it shows what we show.
#[test]
fn stored_signatures_are_exported_unchanged() {
    let zone = smimecert_zone(true);
    let text = export(&zone);
    for (name, node) in zone.names() {
        for signed in node.rrsets() {
            let line = format!("{name} {TTL} IN RRSIG {}\n", text::presentation(RecordType::RRSIG, &signed.rrsig));
            assert!(text.contains(&line), "{line}");
        }
    }
}

#[test]
fn an_unfinished_zone_is_not_exported() {
    let mut zone = Zone::new(name("_smimecert.example.org"), Arc::new(ZoneKey::generate().unwrap().0));
    let missing = |zone: &Zone| text::write_zone(zone, VALIDITY, &mut Vec::new()).unwrap_err();
    assert_eq!(missing(&zone), Error::IncompleteZone { apex: "_smimecert.example.org.".into(), missing: "SOA" });
    zone = empty_zone("_smimecert.example.org");
    zone.remove(&name("_smimecert.example.org"), RecordType::DNSKEY);
    assert_eq!(missing(&zone), Error::IncompleteZone { apex: "_smimecert.example.org.".into(), missing: "DNSKEY" });
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(text::write_zone(&smimecert_zone(false), VALIDITY, &mut Full).unwrap_err().code(), "write-failed");
}
