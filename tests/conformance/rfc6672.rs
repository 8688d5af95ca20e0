//! RFC 6672: DNAME.

use super::{FORMS, Form, Hosted, family};

#[test]
fn section_2_2_the_name_is_substituted() {
    for form in FORMS {
        let answer = family(form).ask("Www.dname.example.test", "A");
        answer.is("NoError", true, "DNAME RRSIG CNAME A RRSIG", "");
        let lines = answer.answers();
        assert_eq!(lines[0], "dname.example.test. DNAME target.example.test.");
        assert_eq!(lines[2], "Www.dname.example.test. CNAME Www.target.example.test.");
        assert_eq!(lines[3], "Www.target.example.test. A 192.0.2.4");
    }
}

/// Section 2.2 and section 3.2 step 3C.
#[test]
fn section_2_2_a_name_that_gets_too_long_is_yxdomain() {
    let label = "x".repeat(60);
    let target = [label.as_str(); 3].join(".");
    let hosted = Hosted::one("example.test", &format!("d DNAME {target}\n"), Form::Minimal);
    let answer = hosted.ask(&format!("{label}.d.example.test"), "A");
    answer.is("YXDomain", true, "DNAME RRSIG", "");
    assert_eq!(hosted.ask("short.d.example.test", "A").types()[0], "DNAME RRSIG CNAME");
}

#[test]
fn section_2_3_the_owner_itself_is_not_redirected() {
    for form in FORMS {
        let hosted = family(form);
        hosted.ask("dname.example.test", "DNAME").is("NoError", true, "DNAME RRSIG", "");
        hosted.ask("dname.example.test", "A").is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
    }
}

/// Section 2.4: nothing below is ever answered from the zone.
#[test]
fn section_2_4_there_is_nothing_below() {
    let apex = super::name("example.test");
    assert!(certdir_zones::fragment::Fragment::parse("d DNAME x\nwww.d A 192.0.2.1\n", &apex).is_err());
}

#[test]
fn section_3_1_the_synthesized_alias_has_the_ttl_of_the_dname_and_no_signature() {
    let hosted = Hosted::one("example.test", "d 1234 DNAME outside.test.\n", Form::Minimal);
    let answer = hosted.ask("www.d.example.test", "A");
    answer.is("NoError", true, "DNAME RRSIG CNAME", "");
    assert!(answer.0.answers.iter().all(|record| record.ttl == 1234));
    let plain = hosted.ask_plainly("www.d.example.test", "A");
    plain.is("NoError", true, "DNAME CNAME", "");
}

#[test]
fn section_3_2_the_new_name_is_looked_up() {
    for form in FORMS {
        let hosted = Hosted::one(
            "example.test",
            "d DNAME t\n*.t A 192.0.2.1\ne DNAME nothing\nf DNAME d\ng DNAME cut\ncut NS ns.outside.test.\n",
            form,
        );
        hosted.ask("x.d.example.test", "A").is("NoError", true, "DNAME RRSIG CNAME A RRSIG", "NSEC3 RRSIG");
        assert_eq!(hosted.ask("x.e.example.test", "A").rcode(), "NXDomain");
        let twice = hosted.ask("x.f.example.test", "A");
        assert_eq!(twice.types()[0], "DNAME RRSIG CNAME DNAME RRSIG CNAME A RRSIG");
        hosted.ask("x.g.example.test", "A").is("NoError", true, "DNAME RRSIG CNAME", "NS NSEC3 RRSIG");
    }
}

#[test]
fn section_3_2_who_asks_for_the_alias_gets_it_alone() {
    for form in FORMS {
        for rtype in ["CNAME", "ANY"] {
            family(form).ask("nothing.dname.example.test", rtype).is("NoError", true, "DNAME RRSIG CNAME", "");
        }
    }
}

/// Section 2.2: a DNAME may lead below itself; the answer comes to an end, and has each record once.
#[test]
fn section_2_2_a_dname_that_leads_to_itself_comes_to_an_end() {
    let hosted = Hosted::one("example.test", "d DNAME x.d\n", Form::Minimal);
    let answer = hosted.ask("a.d.example.test", "A");
    assert_eq!(answer.rcode(), "NoError");
    assert_eq!(answer.types()[0].matches("DNAME RRSIG").count(), 1);
    assert_eq!(answer.types()[0].matches("CNAME").count(), 9);
}
