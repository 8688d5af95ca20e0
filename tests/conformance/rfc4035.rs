//! RFC 4035: DNSSEC, what a name server does.

use certdir_dns::Transport;

use super::{FORMS, Form, Hosted, family, query};

#[test]
fn section_2_2_the_ns_of_a_delegation_and_glue_are_not_signed() {
    for form in FORMS {
        let answer = family(form).ask("x.unsigned.example.test", "A");
        answer.is("NoError", false, "", "NS NS NSEC3 RRSIG");
        assert!(answer.additionals().iter().all(|record| !record.contains("RRSIG")));
    }
}

#[test]
fn section_3_1_1_signatures_stand_beside_the_records() {
    family(Form::Minimal).ask("www.example.test", "A").is("NoError", true, "A RRSIG", "");
}

#[test]
fn section_3_1_without_do_there_are_no_dnssec_records() {
    for form in FORMS {
        let hosted = family(form);
        for owner in ["www", "nothing", "x.wild", "x.walias", "x.unsigned", "www.child", "x.dname", "alias", "_tcp"] {
            for dnssec in [None, Some(false)] {
                let answer =
                    hosted.send(&query(&format!("{owner}.example.test"), "A", dnssec), Transport::Tcp).unwrap();
                let types = answer.types().join(" ");
                assert!(
                    !types.contains("RRSIG") && !types.contains("NSEC3") && !types.contains("DS"),
                    "{owner}: {types}"
                );
            }
        }
        // Unless they are asked for.
        hosted.ask_plainly("example.test", "DNSKEY").is("NoError", true, "DNSKEY", "");
        hosted.ask_plainly("child.example.test", "DS").is("NoError", true, "DS", "");
        hosted.ask_plainly("www.example.test", "RRSIG").is("NoError", true, "RRSIG", "");
    }
}

#[test]
fn section_3_1_4_a_referral_has_the_ds_records() {
    for form in FORMS {
        // The child is not served here.
        let hosted = Hosted::new([family(form).0[0].clone()]);
        hosted.ask("www.child.example.test", "A").is("NoError", false, "", "NS DS RRSIG");
        hosted.ask_plainly("www.child.example.test", "A").is("NoError", false, "", "NS");
    }
}

#[test]
fn section_3_1_4_a_referral_has_the_proof_that_there_are_none() {
    for form in FORMS {
        let answer = family(form).ask("x.unsigned.example.test", "A");
        assert_eq!(super::line(&answer.0.authorities[2]), "NSEC3 NS");
    }
}

#[test]
fn section_3_1_4_1_ds_is_answered_by_the_parent_side() {
    for form in FORMS {
        let hosted = family(form);
        let answer = hosted.ask("child.example.test", "DS");
        answer.is("NoError", true, "DS RRSIG", "");
        let parent_only = Hosted::new([hosted.0[0].clone()]);
        parent_only.ask("child.example.test", "DS").is("NoError", true, "DS RRSIG", "");
        // A cut without DS: the parent's SOA and its proof.
        let answer = parent_only.ask("unsigned.example.test", "DS");
        answer.is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
        assert_eq!(super::line(&answer.0.authorities[2]), "NSEC3 NS");
        // Below the cut it is the child's matter.
        assert!(!parent_only.ask("www.child.example.test", "DS").authoritative());
    }
}

#[test]
fn section_3_1_4_1_a_child_alone_says_that_it_has_none() {
    for form in FORMS {
        let child_only = Hosted::new([family(form).0[1].clone()]);
        let answer = child_only.ask("child.example.test", "DS");
        answer.is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
        assert_eq!(answer.0.authorities[0].name.to_string(), "child.example.test.");
    }
}

/// The zone above is served here, the parent between the two is not.
#[test]
fn section_3_1_4_1_a_grandparent_does_not_answer_for_the_parent() {
    let grandchild = super::zone("deep.unsigned.example.test", "", Form::Minimal);
    let hosted = Hosted::new([family(Form::Minimal).0[0].clone(), grandchild]);
    let answer = hosted.ask("deep.unsigned.example.test", "DS");
    answer.is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
    assert_eq!(answer.0.authorities[0].name.to_string(), "deep.unsigned.example.test.");
}

#[test]
fn section_3_1_6_ad_and_cd_are_clear() {
    let mut request = query("www.example.test", "A", Some(true));
    request[3] = 0x30;
    let metadata = family(Form::Minimal).send(&request, Transport::Tcp).unwrap().0.metadata;
    assert!(!metadata.authentic_data && !metadata.checking_disabled);
}

/// Section 2.3 (for NSEC; RFC 5155 section 7.1 for NSEC3): at a cut NS and DS are the parent's, RRSIG where DS is.
#[test]
fn section_2_3_the_bitmap_at_a_cut() {
    for form in FORMS {
        let hosted = Hosted::new([family(form).0[0].clone()]);
        let child = hosted.ask("child.example.test", "DS");
        assert_eq!(child.types()[0], "DS RRSIG");
        for (owner, bitmap) in [("unsigned.example.test", "NSEC3 NS"), ("sibling.example.test", "NSEC3 NS")] {
            assert_eq!(super::line(&hosted.ask(owner, "DS").0.authorities[2]), bitmap);
        }
    }
}
