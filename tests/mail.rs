//! A mail domain hosted as a whole: its other records, delegations, the LDAP server, both forms of denial, large certificates;
//! read by dig and by the zone checkers of four other servers.

use crate::world::{Request, World, client, owner, run, run_with};

const RECORDS: &str = "\
$TTL 10m
@        IN MX 10 mail
         TXT \"v=spf1 mx -all\"
mail     A 192.0.2.1
         AAAA 2001:db8::1
ns1      A 192.0.2.53
ldap     A 192.0.2.54
www      CNAME mail
*.hosts  A 192.0.2.9
_dmarc   TXT ( \"v=DMARC1;\"   ; in two pieces
               \" p=none\" )
sub      NS ns.sub
ns.sub   A 192.0.2.2
         CAA 0 issue \"ca.example\"
";

/// The records above without the one that lies below a delegation.
fn records() -> String {
    RECORDS.lines().filter(|line| !line.contains("CAA")).map(|line| format!("{line}\n")).collect()
}

fn hosted(denial: &str) -> World {
    let world = World::new();
    let file = world.write("records", records());
    let file = file.to_str().unwrap();
    let add = ["domain", "add", "example.org", "--hosting", "mail", "--name-server", "ns1.example.org"];
    let more = ["--denial", denial, "--ldap-server", "ldap.example.org", "--records", file];
    world.certdir(&[&add[..], &more].concat()).ok();
    world.certdir(&["domain", "add", "dept.example.org", "--hosting", "mail", "--name-server", "ns.example.net"]).ok();
    world.certdir(&["domain", "add", "lab.example.org", "--name-server", "ns.example.net"]).ok();
    world
}

/// The exported zone in the checkers of BIND, ldns and Knot.
#[track_caller]
pub(crate) fn checkers_accept(world: &World, domain: &str, origin: &str) -> String {
    let zone = world.certdir(&["zone", "export", domain]).ok().text();
    let file = world.write("mail.zone", &zone);
    let said = run(client("named-checkzone").args(["-i", "local", origin]).arg(&file));
    assert!(said.code == 0 && said.text().contains("DNSSEC signed"), "{}", said.all());
    let said = run(client("dnssec-verify").args(["-q", "-z", "-o", origin]).arg(&file));
    assert_eq!(said.code, 0, "{}", said.all());
    let said = run(client("ldns-verify-zone").arg("-k").arg(world.anchor(domain)).arg(&file));
    assert!(said.code == 0 && said.text().contains("verified and complete"), "{}", said.all());
    let said = run(client("kzonecheck").args(["--dnssec", "on", "-o", origin]).arg(&file));
    assert_eq!(said.code, 0, "{}", said.all());
    zone
}

#[test]
fn other_records_delegations_and_services_in_both_forms_of_denial() {
    for denial in ["minimal", "chain"] {
        let world = hosted(denial);
        let alice = world.ca.issue(&Request::person("Alice", "email:alice@example.org"));
        let www = world.ca.issue(&Request::person("Www", "email:www@example.org"));
        world.publish(&alice);
        let said = world.publish(&www);
        assert!(said.all().contains("no CERT record at www.example.org."), "{}", said.all());
        let zone = checkers_accept(&world, "example.org", "example.org");
        assert!(zone.contains("NSEC3PARAM"), "{zone}");
        let server = world.serve();
        for (name, rtype, expected) in [
            ("example.org", "MX", "10 mail.example.org."),
            ("example.org", "TXT", "\"v=spf1 mx -all\""),
            ("mail.example.org", "AAAA", "2001:db8::1"),
            ("_dmarc.example.org", "TXT", "\"v=DMARC1;\" \" p=none\""),
            ("_ldap._tcp.example.org", "SRV", "0 0 389 ldap.example.org."),
            ("a.hosts.example.org", "A", "192.0.2.9"),
            ("www.example.org", "A", "mail.example.org.\n192.0.2.1"),
            ("example.org", "NS", "ns1.example.org."),
        ] {
            let found = server.dig(&["+short", name, rtype]);
            assert_eq!(found.trim(), expected, "{denial}: {name} {rtype}");
        }
        let referral = server.dig(&["+dnssec", "x.sub.example.org", "A"]);
        assert!(referral.contains("sub.example.org. 600 IN NS ns.sub.example.org."), "{referral}");
        assert!(referral.contains("ns.sub.example.org. 600 IN A 192.0.2.2"), "glue: {referral}");
        // Zones hosted here, too, are delegated, signed: their DS stands in the zone above.
        for child in ["dept.example.org", "_smimecert.lab.example.org"] {
            let ds = server.dig(&["+dnssec", "+noall", "+answer", child, "DS"]);
            assert!(ds.contains("RRSIG DS 13") && ds.contains(" example.org. "), "{ds}");
        }
        let empty = server.dig(&["+dnssec", "_tcp.example.org", "SRV"]);
        assert!(empty.contains("status: NOERROR") && empty.contains("NSEC3"), "an empty non-terminal: {empty}");
        let links: Vec<String> = (0..2)
            .map(|n| server.dig(&["+dnssec", "+noall", "+authority", &format!("none{n}.example.org"), "A"]))
            .collect();
        // Those of the chain stand in the exported file; those made for the question do not.
        let stored = links.iter().flat_map(|text| text.lines()).filter(|line| line.contains("NSEC3 1")).all(|line| {
            let owner = line.split_whitespace().next().unwrap().to_lowercase();
            zone.to_lowercase().lines().any(|line| line.starts_with(&owner) && line.contains(" nsec3 1"))
        });
        assert_eq!(stored, denial == "chain", "{links:?}");

        let show = world.certdir(&["domain", "show", "example.org"]).ok().text();
        for expected in [
            "other records: 11",
            "ldap.example.org:389",
            denial,
            "no CERT record at www",
            "ns1.example.org. 600 IN A 192.0.2.53",
        ] {
            assert!(show.contains(expected), "{expected}: {show}");
        }
    }
}

#[test]
fn records_are_replaced_whole_and_every_fault_is_told() {
    let world = hosted("minimal");
    assert_eq!(world.certdir(&["domain", "records", "example.org"]).ok().text(), records());
    let replaced = "ns1 A 192.0.2.54\nldap A 192.0.2.54\nnew TXT x\n";
    run_with(&mut world.command(&["domain", "records", "example.org", "-"]), replaced.as_bytes()).ok();
    assert_eq!(world.certdir(&["domain", "records", "example.org"]).ok().text(), replaced);
    let said = run_with(&mut world.command(&["domain", "records", "example.org", "-"]), b"\n; nothing\n").exits(1);
    assert!(said.err.contains("--none"), "{}", said.err);
    assert_eq!(world.certdir(&["domain", "records", "example.org"]).ok().text(), replaced, "nothing was wiped");
    world.certdir(&["domain", "change", "example.org", "--ldap-server", "nobody.example.org"]).exits(1);
    let server = world.serve();
    assert_eq!(server.dig(&["+short", "new.example.org", "TXT"]).trim(), "\"x\"");
    assert_eq!(server.dig(&["+short", "example.org", "MX"]).trim(), "");
    let broken = world.write("broken", RECORDS.replace("192.0.2.1\n", "192.0.2.256\n"));
    let said = world.certdir(&["domain", "records", "example.org", broken.to_str().unwrap()]).exits(1);
    assert!(said.err.contains("line 4") && said.err.contains("line 14"), "{}", said.err);
    assert_eq!(server.dig(&["+short", "new.example.org", "TXT"]).trim(), "\"x\"", "nothing was taken");

    // The same over HTTP, with a token.
    let token = world.certdir(&["token", "add", "--role", "admin", "--name", "t"]).ok().text();
    let url = format!("http://{}", server.http);
    let remote = ["--url", url.as_str(), "--token", token.trim()];
    let file = world.write("records", records());
    world.certdir(&[&["domain", "records", "example.org", file.to_str().unwrap()][..], &remote].concat()).ok();
    let read = world.certdir(&[&["domain", "records", "example.org"][..], &remote].concat()).ok().text();
    assert_eq!(read, records());
    let said = world.certdir(&[&["domain", "records", "example.org", broken.to_str().unwrap()][..], &remote].concat());
    assert!(said.code == 1 && said.err.contains("line 14"), "{}", said.all());
    world
        .certdir(&[&["domain", "change", "example.org", "--denial", "chain", "--ttl", "60"][..], &remote].concat())
        .ok();
    checkers_accept(&world, "example.org", "example.org");
    world.certdir(&[&["domain", "remove", "dept.example.org", "--yes"][..], &remote].concat()).ok();
    let gone = server.dig(&["x.dept.example.org", "A"]);
    assert!(gone.contains("status: NXDOMAIN"), "{gone}");
    checkers_accept(&world, "example.org", "example.org");
}

#[test]
fn settings_change_and_a_domain_is_removed() {
    let world = hosted("chain");
    let alice = world.ca.issue(&Request::person("Alice", "email:Alice@example.org"));
    world.publish(&alice);
    world.certdir(&["domain", "change", "example.org"]).exits(1);
    world.certdir(&["domain", "change", "example.org", "--ttl", "5"]).exits(1);
    for change in [
        &["--ttl", "77"][..],
        &["--exact-only", "true"],
        &["--cert-data", "der"],
        &["--denial", "minimal"],
        &["--ldap-server", "none", "--name-server", "ns1.example.org", "--name-server", "ns.example.net"],
    ] {
        world.certdir(&[&["domain", "change", "example.org"][..], change].concat()).ok();
        checkers_accept(&world, "example.org", "example.org");
    }
    let server = world.serve();
    let found = server.dig(&["+tcp", "+noall", "+answer", &owner("Alice", "example.org"), "SMIMEA"]);
    assert!(found.split_whitespace().nth(1) == Some("77"), "{found}");
    assert_eq!(server.smimea(&owner("alice", "example.org")), [[0u8; 0]; 0], "exact only");
    assert!(world.certdir(&["domain", "remove", "example.org"]).exits(1).err.contains("--yes"));
    world.certdir(&["domain", "remove", "example.org", "--yes"]).ok();
    let gone = server.dig(&["example.org", "SOA"]);
    assert!(gone.contains("status: REFUSED"), "{gone}");
    let history = world.certdir(&["history", "alice@example.org"]).ok().text();
    assert!(history.contains("the domain was removed"), "{history}");
}

/// A certificate of some size, as post-quantum ones have it: an extension is padded.
fn large(world: &World, names: &str, octets: usize) -> std::path::PathBuf {
    let padding = "00:".repeat(octets);
    let extension = format!(
        "1.3.6.1.4.1.55555.1=DER:04:83:{:02X}:{:02X}:{:02X}:{}",
        octets >> 16,
        octets >> 8 & 255,
        octets & 255,
        padding.trim_end_matches(':')
    );
    let config = world.write(
        "large.cnf",
        format!("[req]\ndistinguished_name=dn\nx509_extensions=v3\nprompt=no\n[dn]\nCN=Large\n[v3]\nsubjectAltName={names}\nkeyUsage=critical,digitalSignature,keyAgreement\n{extension}\n"),
    );
    let file = world.path(&format!("large{octets}.pem"));
    let mut openssl = client("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"]);
    run(openssl.arg("-config").arg(config).arg("-keyout").arg(world.path("large.key")).arg("-out").arg(&file)).ok();
    file
}

#[test]
fn a_certificate_of_50_kilobytes_is_served_and_one_that_does_not_fit_is_refused() {
    for denial in ["minimal", "chain"] {
        let world = hosted(denial);
        let fits = large(&world, "email:big@example.org", 50_000);
        world.certdir(&["publish", fits.to_str().unwrap()]).ok();
        let gateway = large(&world, "DNS:example.org", 50_001);
        world.certdir(&["publish", "--domain-certificate", "example.org", gateway.to_str().unwrap()]).ok();
        let server = world.serve();
        for name in [owner("big", "example.org"), owner("nobody", "example.org")] {
            let answer = server.dig(&["+tcp", "+dnssec", "+cookie", &name, "SMIMEA"]);
            assert!(answer.contains("status: NOERROR") && answer.contains("RRSIG SMIMEA"), "{denial} {name}");
            let size: usize = answer
                .lines()
                .find_map(|line| line.strip_prefix(";; MSG SIZE rcvd: "))
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            assert!((50_000..65_535).contains(&size), "{size}");
        }
        let cert = server.dig(&["+tcp", "+dnssec", "big.example.org", "CERT"]);
        assert!(cert.contains("RRSIG CERT"), "{denial}");
        let too_large = large(&world, "email:huge@example.org", 60_500);
        let said = world.certdir(&["publish", too_large.to_str().unwrap()]).exits(1);
        assert!(said.all().contains("fit a DNS message"), "{}", said.all());
        // A second one beside the first does not fit either, and the first stays.
        let history = world.certdir(&["history", "big@example.org"]).ok().text();
        assert!(history.contains("current"), "{history}");
    }
}
