//! RFC 1034: domain names, concepts and facilities.

use super::{FORMS, Form, Hosted, family, zone};

#[test]
fn section_3_1_names_match_in_any_case_and_the_question_s_is_kept() {
    let answer = family(Form::Minimal).ask("WwW.eXample.TEST", "A");
    answer.is("NoError", true, "A RRSIG", "");
    assert!(answer.0.answers.iter().all(|record| record.name.to_string() == "WwW.eXample.TEST."));
    assert_eq!(answer.0.queries[0].name().to_string(), "WwW.eXample.TEST.");
}

#[test]
fn section_3_6_2_an_alias_is_followed() {
    for form in FORMS {
        let answer = family(form).ask("twice.example.test", "A");
        assert_eq!(
            answer.answers(),
            [
                "twice.example.test. CNAME alias.example.test.",
                "twice.example.test. RRSIG CNAME",
                "alias.example.test. CNAME www.example.test.",
                "alias.example.test. RRSIG CNAME",
                "www.example.test. A 192.0.2.1",
                "www.example.test. RRSIG A",
            ]
        );
        answer.is("NoError", true, "CNAME RRSIG CNAME RRSIG A RRSIG", "");
    }
}

#[test]
fn section_3_6_2_an_alias_asked_for_itself_is_not_followed() {
    family(Form::Minimal).ask("twice.example.test", "CNAME").is("NoError", true, "CNAME RRSIG", "");
}

#[test]
fn section_4_3_2_step_3a_aliases_lead_to_other_zones_served_here() {
    let hosted = family(Form::Minimal);
    let answer = hosted.ask("over.example.test", "A");
    answer.is("NoError", true, "CNAME RRSIG A RRSIG", "");
    assert_eq!(answer.answers()[2], "www.other.test. A 192.0.2.20");
    hosted.ask("below.example.test", "A").is("NoError", true, "CNAME RRSIG A RRSIG", "");
    hosted.ask("away.example.test", "A").is("NoError", true, "CNAME RRSIG", "");
}

#[test]
fn section_3_6_2_aliases_that_go_in_circles_come_to_an_end() {
    let hosted = family(Form::Minimal);
    hosted.ask("ring1.example.test", "A").is("NoError", true, "CNAME RRSIG CNAME RRSIG", "");
    let links: String = (0..20).map(|at| format!("a{at} CNAME a{}\n", at + 1)).collect();
    let answer = Hosted::new([zone("long.test", &links, Form::Minimal)]).ask_plainly("a0.long.test", "A");
    assert_eq!(answer.types()[0], ["CNAME"; 9].join(" "));
    assert_eq!(answer.rcode(), "NoError");
}

#[test]
fn section_4_3_2_step_3b_below_a_cut_is_a_referral() {
    for form in FORMS {
        let hosted = family(form);
        for owner in [
            "unsigned.example.test",
            "x.unsigned.example.test",
            "a.b.unsigned.example.test",
            "ns.unsigned.example.test",
        ] {
            for rtype in ["A", "NS", "TXT", "ANY", "CNAME", "SOA"] {
                let answer = hosted.ask_plainly(owner, rtype);
                answer.is("NoError", false, "", "NS NS");
                assert!(answer.0.authorities.iter().all(|ns| ns.name.to_string() == "unsigned.example.test."));
            }
        }
    }
}

#[test]
fn section_4_2_1_glue_comes_with_the_referral() {
    let answer = family(Form::Minimal).ask_plainly("x.unsigned.example.test", "A");
    assert_eq!(
        answer.additionals(),
        [
            "ns.unsigned.example.test. A 192.0.2.53",
            "ns.unsigned.example.test. AAAA 2001:db8::53",
            "ns.sibling.example.test. A 192.0.2.54",
        ]
    );
}

#[test]
fn section_4_3_2_step_3a_an_alias_into_a_delegated_zone_ends_in_a_referral() {
    let answer = family(Form::Minimal).ask("unserved.example.test", "A");
    // AA is the first name's (RFC 1035 section 4.1.1).
    answer.is("NoError", true, "CNAME RRSIG", "NS NS NSEC3 RRSIG");
}

#[test]
fn section_4_3_2_step_3c_a_wildcard_speaks_for_names_that_do_not_exist() {
    let answer = family(Form::Minimal).ask_plainly("Any.where.wild.example.test", "A");
    assert_eq!(answer.answers(), ["Any.where.wild.example.test. A 192.0.2.2"]);
}

#[test]
fn section_4_3_1_there_is_no_recursion() {
    let answer = family(Form::Minimal).ask_plainly("www.outside.test", "A");
    answer.is("Refused", false, "", "");
    assert!(!answer.0.metadata.recursion_available);
}
