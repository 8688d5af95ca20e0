//! Validating clients of another make: delv and unbound find every kind of answer Secure, in both forms of denial, and those who
//! check whole zones find nothing amiss.

use std::path::Path;
use std::process::{Child, Stdio};

use certdir_zones::{Validity, Zone, write_dnskey, write_trust_anchors, write_zone};

use super::{FORMS, Form, Hosted, Served, family, zone};
use crate::world::{PATIENCE, client, free_port, run, spaced, until};

/// Owner, type, response code, whether there is an answer, and whether it is Secure.
const QUESTIONS: &[(&str, &str, &str, bool, bool)] = &[
    ("www", "A", "NOERROR", true, true),
    ("www", "MX", "NOERROR", false, true),
    ("nothing", "A", "NXDOMAIN", false, true),
    ("a.b.nothing", "A", "NXDOMAIN", false, true),
    ("x.www", "TXT", "NXDOMAIN", false, true),
    ("_tcp", "SRV", "NOERROR", false, true),
    ("_ldap._tcp", "SRV", "NOERROR", true, true),
    ("x.wild", "A", "NOERROR", true, true),
    ("a.b.wild", "A", "NOERROR", true, true),
    ("x.wild", "MX", "NOERROR", false, true),
    ("*.wild", "A", "NOERROR", true, true),
    ("sub.wild", "A", "NOERROR", false, true),
    ("x.sub.wild", "A", "NXDOMAIN", false, true),
    ("alias", "A", "NOERROR", true, true),
    ("twice", "A", "NOERROR", true, true),
    ("over", "A", "NOERROR", true, true),
    ("x.walias", "A", "NOERROR", true, true),
    ("x.walias", "MX", "NOERROR", true, true),
    ("dangling", "A", "NXDOMAIN", true, true),
    ("untyped", "A", "NOERROR", true, true),
    ("www.dname", "A", "NOERROR", true, true),
    ("nothing.dname", "A", "NXDOMAIN", true, true),
    ("dname", "DNAME", "NOERROR", true, true),
    ("dname", "A", "NOERROR", false, true),
    ("child", "DS", "NOERROR", true, true),
    ("unsigned", "DS", "NOERROR", false, true),
    ("child", "A", "NOERROR", true, true),
    ("www.child", "A", "NOERROR", true, true),
    ("nothing.child", "A", "NXDOMAIN", false, true),
    ("below", "A", "NOERROR", true, true),
    // A zone that nobody vouches for: proven to be so.
    ("www.unsigned", "A", "NOERROR", true, false),
    ("nothing.unsigned", "A", "NXDOMAIN", false, false),
];

/// The family, and what the cut without DS leads to.
fn hosted(form: Form) -> Hosted {
    let unsigned = zone("unsigned.example.test", "www A 192.0.2.30\n", form);
    Hosted::new(family(form).0.iter().cloned().chain([unsigned]))
}

/// Those whose keys the clients are told; they have to find the way to the others.
fn anchors(hosted: &Hosted) -> impl Iterator<Item = &Zone> {
    hosted.0.iter().filter(|zone| ["example.test.", "other.test."].contains(&zone.apex().to_string().as_str()))
}

#[test]
fn delv_finds_every_answer_secure() {
    for form in FORMS {
        let hosted = hosted(form);
        let served = Served::start(&hosted);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("anchors");
        let mut text = Vec::new();
        anchors(&hosted).for_each(|zone| write_trust_anchors(zone.apex(), zone.key(), &mut text).unwrap());
        std::fs::write(&file, text).unwrap();
        let port = served.address.port().to_string();
        for (owner, rtype, rcode, there, secure) in QUESTIONS {
            let mut delv = client("delv");
            delv.args(["@127.0.0.1", "-p", &port, "-a"]).arg(&file).arg("+root=example.test");
            let said = run(delv.args([&format!("{owner}.example.test"), *rtype]));
            let text = spaced(&said.all());
            let what = format!("{form:?} {owner} {rtype}: {text}");
            let verdict = if *secure { "fully validated" } else { "unsigned answer" };
            assert!(text.contains(verdict), "{what}");
            if !there {
                assert_eq!(text.contains("ncache nxdomain"), *rcode == "NXDOMAIN", "{what}");
            }
        }
    }
}

#[test]
fn unbound_finds_every_answer_secure() {
    for form in FORMS {
        let hosted = hosted(form);
        let served = Served::start(&hosted);
        let folder = tempfile::tempdir().unwrap();
        let unbound = Unbound::start(folder.path(), &hosted, &served);
        for (owner, rtype, rcode, there, secure) in QUESTIONS {
            let text = unbound.ask(&format!("{owner}.example.test"), rtype);
            let what = format!("{form:?} {owner} {rtype}: {text}");
            assert!(text.contains(&format!("status: {rcode}")), "{what}");
            assert_eq!(crate::dns::is_secure(&text), *secure, "{what}");
            assert_eq!(!text.contains("ANSWER: 0,"), *there, "{what}");
        }
    }
}

struct Unbound {
    child: Child,
    port: u16,
}

impl Drop for Unbound {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Unbound {
    fn start(folder: &Path, hosted: &Hosted, served: &Served) -> Unbound {
        let port = free_port();
        let at = folder.display();
        // "test" is a name that unbound answers for by itself, unless told otherwise (RFC 6761 section 6.2).
        let mut text = format!(
            "server:\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  directory: \"{at}\"\n  \
             pidfile: \"\"\n  use-syslog: no\n  logfile: \"{at}/log\"\n  do-not-query-localhost: no\n  module-config: \"validator iterator\"\n  \
             num-threads: 1\n  do-ip6: no\n  local-zone: \"test.\" nodefault\n"
        );
        for zone in anchors(hosted) {
            let file = folder.join(zone.apex().to_string());
            let mut anchor = Vec::new();
            write_dnskey(zone.apex(), zone.key(), &mut anchor).unwrap();
            std::fs::write(&file, anchor).unwrap();
            text += &format!("  trust-anchor-file: \"{}\"\n", file.display());
        }
        text += "remote-control:\n  control-enable: no\n";
        for zone in hosted.0.iter() {
            text +=
                &format!("stub-zone:\n  name: \"{}\"\n  stub-addr: 127.0.0.1@{}\n", zone.apex(), served.address.port());
        }
        let file = folder.join("unbound.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = client("unbound");
        command.arg("-c").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let unbound = Unbound { child: command.spawn().unwrap(), port };
        until("unbound answers", PATIENCE, || {
            let text = unbound.ask("localhost", "A");
            text.contains("status: NOERROR").then_some(())
        });
        unbound
    }

    fn ask(&self, name: &str, rtype: &str) -> String {
        let port = self.port.to_string();
        let mut dig = client("dig");
        dig.args(["@127.0.0.1", "-p", &port, "+dnssec", "+time=20", "+tries=2", "+noidnout", name, rtype]);
        spaced(&run(&mut dig).text())
    }
}

/// The only tools that notice a hole: which names have a link, what the bitmap at a cut says, what is signed. The chain is the
/// stored one, or made for the file.
#[test]
fn zone_checkers_take_cuts_and_aliases() {
    for form in FORMS {
        for zone in family(form).0.iter() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("zone");
            let from = u32::try_from(crate::world::now() - 3600).unwrap();
            let validity = Validity { inception: from, expiration: from + 86_400 };
            write_zone(zone, validity, &mut std::fs::File::create(&path).unwrap()).unwrap();
            let (apex, file) = (zone.apex().to_string(), path.display().to_string());
            let apex = apex.trim_end_matches('.');
            for (tool, arguments) in [
                ("named-checkzone", vec!["-i", "local", "-k", "fail", apex, &file]),
                ("ldns-verify-zone", vec!["-V", "2", &file]),
                ("kzonecheck", vec!["--dnssec", "on", "-o", apex, &file]),
                ("dnssec-verify", vec!["-z", "-o", apex, &file]),
            ] {
                let said = run(client(tool).args(arguments));
                assert_eq!(said.code, 0, "{tool}, {form:?}, {apex}: {}", said.all());
            }
        }
    }
}
