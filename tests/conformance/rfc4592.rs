//! RFC 4592: the role of wildcards. The zone and the questions are those of section 2.2.1.

use super::{Answer, FORMS, Form, Hosted};

const ZONE: &str = "\
* TXT \"this is a wildcard\"
* MX 10 host1
sub.* TXT \"this is not a wildcard\"
host1 A 192.0.2.1
_ssh._tcp.host1 SRV 0 0 22 host1
_ssh._tcp.host2 SRV 0 0 22 host1
subdel NS ns.example.com.
subdel NS ns.example.net.
";

fn ask(form: Form, owner: &str, rtype: &str) -> Answer {
    Hosted::one("example", ZONE, form).ask(owner, rtype)
}

#[test]
fn section_2_2_1_answers_made_from_the_wildcard() {
    for form in FORMS {
        for (owner, rtype) in [("host3.example", "MX"), ("foo.bar.example", "TXT")] {
            let answer = ask(form, owner, rtype);
            answer.is("NoError", true, &format!("{rtype} RRSIG"), "NSEC3 RRSIG");
            assert_eq!(answer.0.answers[0].name.to_string(), format!("{owner}."));
        }
        assert_eq!(ask(form, "host3.example", "A").rcode(), "NoError");
        assert_eq!(ask(form, "host3.example", "A").answers(), [""; 0]);
    }
}

#[test]
fn section_2_2_1_answers_not_made_from_it() {
    for form in FORMS {
        // host1 exists; sub.* exists and is no wildcard; so does _tcp.host1; a cut; *.example is the closest encloser.
        for (owner, rtype, rcode) in [
            ("host1.example", "MX", "NoError"),
            ("sub.*.example", "MX", "NoError"),
            ("_telnet._tcp.host1.example", "SRV", "NXDomain"),
            ("host.subdel.example", "A", "NoError"),
            ("ghost.*.example", "MX", "NXDomain"),
        ] {
            let answer = ask(form, owner, rtype);
            assert_eq!((answer.rcode().as_str(), answer.answers().len()), (rcode, 0), "{owner} {rtype}");
            assert_eq!(answer.authoritative(), owner != "host.subdel.example");
        }
    }
}

#[test]
fn section_2_2_2_empty_non_terminals_exist() {
    for form in FORMS {
        for owner in ["host2.example", "_tcp.host1.example", "_tcp.host2.example"] {
            let answer = ask(form, owner, "A");
            answer.is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
            assert_eq!(super::line(&answer.0.authorities[2]), "NSEC3");
        }
    }
}

#[test]
fn section_2_3_the_wildcard_asked_for_literally_is_a_name() {
    for form in FORMS {
        ask(form, "*.example", "MX").is("NoError", true, "MX RRSIG", "");
        ask(form, "*.example", "A").is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
    }
}

/// Section 3.3.1: the search stops at the closest encloser.
#[test]
fn section_3_3_1_the_source_of_synthesis_is_below_the_closest_encloser() {
    for form in FORMS {
        let hosted = Hosted::one("example", "*.a A 192.0.2.1\nx.b.a A 192.0.2.2\n", form);
        hosted.ask("q.a.example", "A").is("NoError", true, "A RRSIG", "NSEC3 RRSIG");
        hosted.ask("q.r.a.example", "A").is("NoError", true, "A RRSIG", "NSEC3 RRSIG");
        assert_eq!(hosted.ask("q.b.a.example", "A").rcode(), "NXDomain");
        hosted.ask("b.a.example", "A").is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
    }
}

#[test]
fn section_3_3_3_a_wildcard_alias_is_followed() {
    for form in FORMS {
        let hosted = Hosted::one("example", "* CNAME host\nhost A 192.0.2.1\n", form);
        let answer = hosted.ask("any.example", "A");
        answer.is("NoError", true, "CNAME RRSIG A RRSIG", "NSEC3 RRSIG");
        assert_eq!(answer.answers()[0], "any.example. CNAME host.example.");
        // The alias proves that its name was not nearer, the target that it has no such record.
        assert!(hosted.ask("any.example", "MX").types()[1].starts_with("SOA RRSIG NSEC3 RRSIG"));
        hosted.ask("any.example", "CNAME").is("NoError", true, "CNAME RRSIG", "NSEC3 RRSIG");
    }
}

/// Section 4.1 to 4.4 leave SOA, NS and DS at a wildcard without a sound meaning: a fragment with them is refused.
#[test]
fn section_4_2_ns_at_a_wildcard_is_not_taken() {
    let apex = super::name("example");
    for record in ["* NS ns.example.com.\n", "* DNAME x\n", "* DS 1 13 1 0000000000000000000000000000000000000000\n"] {
        assert!(certdir_zones::fragment::Fragment::parse(record, &apex).is_err(), "{record}");
    }
}
