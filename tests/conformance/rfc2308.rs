//! RFC 2308: negative caching, with RFC 9077.

use super::{DENIAL_TTL, FORMS, SOA_TTL, family};

const PROOF_1: &str = "SOA RRSIG NSEC3 RRSIG";
const PROOF_2: &str = "SOA RRSIG NSEC3 RRSIG NSEC3 RRSIG";
const PROOF_3: &str = "SOA RRSIG NSEC3 RRSIG NSEC3 RRSIG NSEC3 RRSIG";

#[test]
fn section_2_1_name_error() {
    for form in FORMS {
        let hosted = family(form);
        hosted.ask_plainly("nothing.example.test", "A").is("NXDomain", true, "", "SOA");
        // In a chain one record may cover two of the three names.
        let [_, proof] = hosted.ask("nothing.example.test", "A").types();
        assert!([PROOF_1, PROOF_2, PROOF_3].contains(&proof.as_str()), "{proof}");
    }
}

#[test]
fn section_2_1_1_name_error_behind_an_alias() {
    for form in FORMS {
        let answer = family(form).ask_plainly("dangling.example.test", "A");
        answer.is("NXDomain", true, "CNAME", "SOA");
    }
}

#[test]
fn section_2_2_no_data() {
    for form in FORMS {
        let hosted = family(form);
        hosted.ask_plainly("www.example.test", "MX").is("NoError", true, "", "SOA");
        hosted.ask("www.example.test", "MX").is("NoError", true, "", PROOF_1);
    }
}

#[test]
fn section_2_2_1_no_data_behind_an_alias() {
    for form in FORMS {
        let answer = family(form).ask("untyped.example.test", "A");
        answer.is("NoError", true, "CNAME RRSIG", PROOF_1);
    }
}

/// Section 3 and section 5, RFC 9077 section 3: the smaller one of the SOA's TTL and its minimum field, for SOA and NSEC3 alike.
#[test]
fn section_3_the_soa_record_says_how_long() {
    assert_ne!(SOA_TTL, DENIAL_TTL);
    for form in FORMS {
        let hosted = family(form);
        for owner in ["nothing.example.test", "www.example.test", "x.wild.example.test", "untyped.example.test"] {
            let answer = hosted.ask(owner, "MX");
            assert!(answer.0.authorities.iter().all(|record| record.ttl == DENIAL_TTL), "{owner}");
        }
        assert_eq!(hosted.ask("example.test", "SOA").0.answers[0].ttl, SOA_TTL);
    }
}

/// Section 2.1.1 and RFC 6604 section 3: the SOA is that of the zone in which the last name lies.
#[test]
fn section_2_1_1_the_soa_is_the_last_zone_s() {
    for form in FORMS {
        let answer = family(form).ask("over.example.test", "MX");
        assert_eq!(answer.0.authorities[0].name.to_string(), "other.test.");
    }
}
