//! Mail domains and zones in zones as the program itself serves them, judged by dnsviz, nsec3dig, dnspython, delv and unbound,
//! in both forms of denial.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::dns::{Unbound, is_secure};
use crate::mail::checkers_accept;
use crate::world::{Request, Server, World, client, owner, run, run_with, spaced};

const FORMS: [&str; 2] = ["minimal", "chain"];

const RECORDS: &str = "\
$TTL 600
@        MX 10 mail
ns1      A 127.0.0.1
mail     A 192.0.2.1
www      CNAME mail
*.hosts  A 192.0.2.9
old      DNAME dept
sub      NS ns.sub
ns.sub   A 192.0.2.2
";

/// `example.org`, a mail domain; in it `dept.example.org`, one more, and `_smimecert.lab.example.org` with a wildcard. One
/// name server for all, as the checkers have to be told its address.
struct Family {
    world: World,
}

const ZONES: [(&str, &str); 3] = [
    ("example.org", "example.org"),
    ("dept.example.org", "dept.example.org"),
    ("lab.example.org", "_smimecert.lab.example.org"),
];

impl Family {
    fn new(denial: &str) -> Family {
        let world = World::new();
        let records = world.write("records", RECORDS);
        let records = records.to_str().unwrap();
        let add = |domain: &str, more: &[&str]| {
            let add = ["domain", "add", domain, "--name-server", "ns1.example.org", "--denial", denial];
            world.certdir(&[&add[..], more].concat()).ok();
        };
        add("example.org", &["--hosting", "mail", "--records", records]);
        add("dept.example.org", &["--hosting", "mail"]);
        add("lab.example.org", &[]);
        let records = world.write("dept", "www A 192.0.2.7\n");
        world.certdir(&["domain", "records", "dept.example.org", records.to_str().unwrap()]).ok();
        let issue = |names: &str| {
            let issued = world.ca.issue(&Request::person("Somebody", names));
            (names.starts_with("email:")).then(|| world.publish(&issued));
            issued
        };
        issue("email:alice@example.org");
        issue("email:bob@dept.example.org");
        issue("email:carol@lab.example.org");
        let gateway = issue("DNS:lab.example.org");
        world.certdir(&["publish", "--domain-certificate", "lab.example.org", gateway.path()]).ok();
        Family { world }
    }

    /// The DNSKEY records of all three zones.
    fn keys(&self) -> PathBuf {
        let keys: Vec<u8> =
            ZONES.iter().flat_map(|(domain, _)| self.world.certdir(&["zone", "keys", domain]).ok().out).collect();
        self.world.write("keys", keys)
    }
}

/// Python as Debian packages it, which finds the modules that Debian packages.
pub(crate) fn python() -> Command {
    let mut python = client("python3");
    let debian = std::path::Path::new("/usr/bin/python3");
    if debian.exists() {
        python = Command::new(debian);
    }
    python
}

/// What dnsviz has to say, as lines: `status`, `errors` or `warnings`, where, and what.
fn dnsviz(family: &Family, server: &Server, more: &[&str], names: &[&str]) -> Vec<String> {
    let mut probe = client("dnsviz");
    // From the loopback address, so that nothing can leave it.
    probe.args(["probe", "-d", "0", "-A", "-4", "-b", "127.0.0.1", "-a", "example.org"]);
    for (_, apex) in ZONES {
        let alone = if apex == "example.org" { "+" } else { "" };
        probe.args(["-x", &format!("{apex}{alone}:ns1.example.org={}", server.dns)]);
    }
    let probed = run(probe.args(more).args(names)).ok();
    let probed = family.world.write("probe.json", probed.out);
    let anchor = family.world.anchor("example.org");
    let mut grok = python();
    // Debian 12's pygraphviz has lost the module by which Debian 12's dnsviz finds out its version.
    grok.args([
        "-c",
        "import runpy, types, pygraphviz\n\
        pygraphviz.release = types.SimpleNamespace(version='1.7')\n\
        runpy.run_path('/usr/bin/dnsviz', run_name='__main__')",
    ]);
    grok.args(["grok", "-P", "-C", "-l", "debug", "-r"]).arg(probed).arg("-t").arg(anchor);
    let mut lines = Vec::new();
    collect("", &run(&mut grok).ok().json(), &mut lines);
    lines
}

fn collect(at: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("status", Value::String(status)) => lines.push(format!("status {at} {status}")),
                    ("errors" | "warnings", Value::Array(all)) => {
                        lines.extend(
                            all.iter().map(|one| format!("{key} {at} {}", one["code"].as_str().unwrap_or_default())),
                        );
                    }
                    _ => collect(&format!("{at}/{key}"), value, lines),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| collect(at, value, lines)),
        _ => {}
    }
}

/// Not wrong: RFC 7873 section 5.2.3 leaves it to the server whether it answers without a valid server cookie, and this one
/// answers what is no certificate.
const REMARKS: [&str; 2] = ["INVALID_SERVER_COOKIE_WITHOUT_BADCOOKIE", "NO_SERVER_COOKIE_WITHOUT_BADCOOKIE"];

#[test]
fn dnsviz_finds_no_error() {
    for denial in FORMS {
        let family = Family::new(denial);
        let server = family.world.serve();
        let [carol, anybody] = ["carol", "anybody"].map(|local| owner(local, "lab.example.org"));
        let mut lines = Vec::new();
        for (more, names) in [
            // A hit, an alias, wildcards, a DNAME, NODATA, NXDOMAIN, an empty non-terminal, signed delegations.
            (
                &[][..],
                &[
                    "example.org",
                    "www.example.org",
                    "x.hosts.example.org",
                    "alice.example.org",
                    "nobody.example.org",
                    "hosts.example.org",
                    "www.old.example.org",
                    "dept.example.org",
                    "www.dept.example.org",
                    "nobody.dept.example.org",
                ][..],
            ),
            (&["-R", "SMIMEA,TXT"], &[&carol, &anybody]),
            (&["-R", "CERT"], &["alice.example.org", "nobody.example.org", "bob.dept.example.org"]),
        ] {
            lines.extend(dnsviz(&family, &server, more, names));
        }
        let all = lines.join("\n");
        for line in &lines {
            let fine = ["SECURE", "VALID", "NOERROR", "NXDOMAIN"].iter().any(|status| line.ends_with(status));
            let remark = line.starts_with("warnings ") && REMARKS.iter().any(|remark| line.ends_with(remark));
            assert!(line.starts_with("status ") && fine || remark, "{denial}: {line}\n{all}");
        }
        // It did look at what this is about.
        for (at, status) in [
            ("/example.org./zone", "SECURE"),
            ("/dept.example.org./delegation", "SECURE"),
            ("/_smimecert.lab.example.org./delegation", "SECURE"),
            ("/IN/SMIMEA/answer/wildcard_proof/*._smimecert.lab.example.org.", "VALID"),
            (&format!("{carol}./IN/SMIMEA/answer"), "SECURE"),
            (&format!("{anybody}./IN/TXT/nodata/proof"), "VALID"),
            ("/alice.example.org./IN/CERT/answer", "SECURE"),
            ("/bob.dept.example.org./IN/CERT/answer", "SECURE"),
            ("/nobody.example.org./IN/CERT/nxdomain/proof", "VALID"),
            ("/nobody.dept.example.org./IN/A/nxdomain/proof", "VALID"),
            ("/www.example.org./IN/A/answer", "SECURE"),
            ("/www.old.example.org./IN/A/answer/dname", "VALID"),
            ("/hosts.example.org./IN/A/nodata/proof", "VALID"),
        ] {
            let there =
                lines.iter().any(|line| line.starts_with("status ") && line.ends_with(&format!("{at} {status}")));
            assert!(there, "{denial}: {at} {status}\n{all}");
        }
    }
}

/// PowerDNS's reading of the NSEC3 records of an answer.
#[test]
fn nsec3dig_takes_the_proofs() {
    for denial in FORMS {
        let family = Family::new(denial);
        let server = family.world.serve();
        let denied = |name: &str| format!("next closer ({name}) is denied correctly");
        let lab = "_smimecert.lab.example.org";
        for (name, rtype, rcode, expected) in [
            (
                "nobody.example.org",
                "A",
                3,
                vec![denied("nobody.example.org."), "(*.example.org.) is denied correctly".into()],
            ),
            (
                "a.b.nobody.example.org",
                "A",
                3,
                vec![denied("nobody.example.org."), "(*.example.org.) is denied correctly".into()],
            ),
            (
                "nobody.dept.example.org",
                "A",
                3,
                vec![denied("nobody.dept.example.org."), "(*.dept.example.org.) is denied correctly".into()],
            ),
            (
                "x.hosts.example.org",
                "A",
                0,
                vec!["x.hosts.example.org. (ub0em9e0siucrej25pl0p5ntgjrtcser) denied by".into()],
            ),
            (
                "x.hosts.example.org",
                "MX",
                0,
                vec![denied("x.hosts.example.org."), "(*.hosts.example.org.) is proven".into()],
            ),
            (&format!("x.{lab}"), "TXT", 0, vec![denied(&format!("x.{lab}.")), format!("(*.{lab}.) is proven")]),
            ("alice.example.org", "A", 0, vec!["qname found proven, NODATA response".into()]),
            ("hosts.example.org", "A", 0, vec!["qname found proven, NODATA response".into()]),
            ("sub.example.org", "DS", 0, vec!["qname found proven, NODATA response".into()]),
            // A referral to a zone that nobody signs.
            ("x.sub.example.org", "A", 0, vec!["found closest encloser at sub.example.org.".into()]),
        ] {
            let mut dig = client("nsec3dig");
            let said = run(dig.args(["127.0.0.1", &server.dns.port().to_string(), name, rtype])).ok().text();
            assert!(said.contains(&format!("Rcode: {rcode}, ")), "{denial}: {said}");
            for text in expected {
                assert!(said.contains(&text), "{denial}: {text}: {said}");
            }
        }
    }
}

const DNSPYTHON: &str = r#"
import ssl, sys
import dns.dnssec, dns.edns, dns.flags, dns.message, dns.query, dns.rcode, dns.rdatatype, dns.zonefile

address, port, dot, keys = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with open(keys) as text:
    anchors = {rrset.name: rrset for rrset in dns.zonefile.read_rrsets(text.read(), rdclass=None)}
tls = ssl.create_default_context()
tls.check_hostname = False
tls.verify_mode = ssl.CERT_NONE

def validated(response):
    dnames = [rrset.name for rrset in response.answer if rrset.rdtype == dns.rdatatype.DNAME]
    for section in (response.answer, response.authority):
        for rrset in section:
            if rrset.rdtype == dns.rdatatype.RRSIG:
                continue
            sigs = response.get_rrset(section, rrset.name, rrset.rdclass, dns.rdatatype.RRSIG, rrset.rdtype)
            if sigs is not None:
                dns.dnssec.validate(rrset, sigs, anchors)
                yield dns.rdatatype.to_text(rrset.rdtype)
            elif rrset.rdtype == dns.rdatatype.CNAME:
                assert any(rrset.name.is_subdomain(owner) for owner in dnames), rrset
            else:
                assert section is response.authority and rrset.rdtype == dns.rdatatype.NS, rrset

for line in sys.stdin:
    owner, rtype = line.split()
    def query(cookie):
        options = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)]
        return dns.message.make_query(owner, rtype, want_dnssec=True, payload=4096, options=options)
    # Proofs made for the question are signed by each worker for itself: of signatures, only what they cover is the same.
    def records(response):
        def text(rrset):
            return f"{rrset.name} RRSIG {rrset.covers}" if rrset.rdtype == dns.rdatatype.RRSIG else rrset.to_text()
        return [dns.rcode.to_text(response.rcode())] + [sorted(map(text, part)) for part in response.sections[1:]]
    client = bytes(range(8))
    first = dns.query.udp(query(client), address, timeout=20, port=port)
    cookie = next(option.data for option in first.options if option.otype == dns.edns.OptionType.COOKIE)
    assert cookie[:8] == client and len(cookie) == 24, cookie
    udp = dns.query.udp(query(cookie), address, timeout=20, port=port)
    assert not udp.flags & dns.flags.TC, udp
    tcp = dns.query.tcp(query(client), address, timeout=20, port=port)
    over_tls = dns.query.tls(query(client), address, timeout=20, port=dot, ssl_context=tls)
    assert records(udp) == records(tcp) == records(over_tls), (udp, tcp, over_tls)
    valid = [sorted(validated(response)) for response in (udp, tcp, over_tls)]
    assert valid[0] == valid[1] == valid[2], valid
    print(owner, rtype, dns.rcode.to_text(udp.rcode()), *valid[0])
"#;

#[test]
fn dnspython_validates_the_same_over_udp_tcp_and_tls() {
    for denial in FORMS {
        let family = Family::new(denial);
        let server = family.world.serve();
        let [carol, anybody] = ["carol", "anybody"].map(|local| owner(local, "lab.example.org"));
        let asked = [
            ("alice.example.org CERT", "NOERROR CERT"),
            ("www.example.org A", "NOERROR A CNAME"),
            ("x.hosts.example.org A", "NOERROR A NSEC3"),
            ("www.old.example.org A", "NOERROR A DNAME"),
            ("alice.example.org A", "NOERROR NSEC3 SOA"),
            ("dept.example.org DS", "NOERROR DS"),
            ("bob.dept.example.org CERT", "NOERROR CERT"),
            ("x.sub.example.org A", "NOERROR NSEC3"),
            (&format!("{carol} SMIMEA"), "NOERROR SMIMEA"),
            (&format!("{anybody} SMIMEA"), "NOERROR NSEC3 SMIMEA"),
        ];
        let mut input = String::new();
        asked.iter().for_each(|(question, _)| writeln!(input, "{question}").unwrap());
        // How many NSEC3 records this takes depends on which hashes happen to lie side by side.
        input += "nobody.example.org A\n";
        let mut script = python();
        script.args(["-c", DNSPYTHON, "127.0.0.1", &server.dns.port().to_string(), &server.dot.port().to_string()]);
        let said = run_with(script.arg(family.keys()), input.as_bytes()).ok().text();
        let mut lines = said.lines();
        for (question, expected) in asked {
            assert_eq!(lines.next(), Some(format!("{question} {expected}").as_str()), "{denial}: {said}");
        }
        let last = lines.next().unwrap();
        assert!(last.starts_with("nobody.example.org A NXDOMAIN NSEC3 ") && last.ends_with(" SOA"), "{denial}: {last}");
    }
}

/// Owner, type, response code, and whether there is an answer.
const QUESTIONS: &[(&str, &str, &str, bool)] = &[
    ("alice.example.org", "CERT", "NOERROR", true),
    ("www.example.org", "A", "NOERROR", true),
    ("x.hosts.example.org", "A", "NOERROR", true),
    ("x.hosts.example.org", "MX", "NOERROR", false),
    ("hosts.example.org", "A", "NOERROR", false),
    ("www.old.example.org", "A", "NOERROR", true),
    ("nobody.old.example.org", "A", "NXDOMAIN", true),
    ("nobody.example.org", "A", "NXDOMAIN", false),
    ("dept.example.org", "DS", "NOERROR", true),
    ("dept.example.org", "NS", "NOERROR", true),
    ("bob.dept.example.org", "CERT", "NOERROR", true),
    ("www.dept.example.org", "A", "NOERROR", true),
    ("www.dept.example.org", "MX", "NOERROR", false),
    ("nobody.dept.example.org", "A", "NXDOMAIN", false),
    ("_smimecert.lab.example.org", "DS", "NOERROR", true),
    ("anybody._smimecert.lab.example.org", "SMIMEA", "NOERROR", true),
    ("anybody._smimecert.lab.example.org", "TXT", "NOERROR", false),
    ("sub.example.org", "DS", "NOERROR", false),
    ("lab.example.org", "A", "NOERROR", false),
];

/// What lies below the signed cuts is found Secure through the DS records in the zone above: the anchor is the parent's key only.
#[test]
fn zones_in_zones_are_whole_and_secure() {
    for denial in FORMS {
        let family = Family::new(denial);
        for (domain, apex) in ZONES {
            checkers_accept(&family.world, domain, apex);
        }
        let server = family.world.serve();
        let anchors = family.world.certdir(&["zone", "keys", "--bind", "example.org"]).ok().out;
        let anchors = family.world.write("anchors", anchors);
        let zones = ZONES.map(|(_, apex)| apex);
        let unbound = Unbound::run(client("unbound"), &family.world, &server, &["example.org"], &zones, "");
        for (name, rtype, rcode, there) in QUESTIONS {
            let text = unbound.ask(name, rtype);
            let what = format!("{denial} {name} {rtype}: {text}");
            assert!(text.contains(&format!("status: {rcode}")) && is_secure(&text), "{what}");
            assert_eq!(!text.contains("ANSWER: 0,"), *there, "{what}");
            let text = delv(server.dns, &anchors, name, rtype);
            assert!(text.contains("fully validated"), "{denial} {name} {rtype}: {text}");
        }
        let referral = server.dig(&["+dnssec", "+norec", "x.sub.example.org", "A"]);
        assert!(referral.contains("flags: qr; ") && referral.contains(" IN NSEC3 1 0 0 - "), "{referral}");
    }
}

fn delv(server: SocketAddr, anchors: &std::path::Path, name: &str, rtype: &str) -> String {
    let mut delv = client("delv");
    delv.args([&format!("@{}", server.ip()), "-p", &server.port().to_string(), "-a"]).arg(anchors);
    spaced(&run(delv.args(["+root=example.org", name, rtype])).all())
}
