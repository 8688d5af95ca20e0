//! RFC 8482: minimal answers to ANY.

use super::{FORMS, family};

#[test]
fn section_4_1_one_rrset_is_the_answer() {
    for form in FORMS {
        let hosted = family(form);
        hosted.ask("www.example.test", "ANY").is("NoError", true, "A RRSIG", "");
        hosted.ask_plainly("www.example.test", "ANY").is("NoError", true, "A", "");
        hosted.ask("x.wild.example.test", "ANY").is("NoError", true, "A RRSIG", "NSEC3 RRSIG");
        // An alias is that RRset, and is not followed.
        hosted.ask("alias.example.test", "ANY").is("NoError", true, "CNAME RRSIG", "");
    }
}

#[test]
fn section_4_what_does_not_exist_is_denied_as_ever() {
    for form in FORMS {
        let hosted = family(form);
        hosted.ask("_tcp.example.test", "ANY").is("NoError", true, "", "SOA RRSIG NSEC3 RRSIG");
        assert_eq!(hosted.ask("nothing.example.test", "ANY").rcode(), "NXDomain");
        assert!(!hosted.ask("x.unsigned.example.test", "ANY").authoritative());
    }
}
