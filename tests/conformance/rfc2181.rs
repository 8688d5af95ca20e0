//! RFC 2181: clarifications to the DNS specification.

use certdir_dns::Transport;

use super::{FORMS, Form, Hosted, family, query, zone};

#[test]
fn section_5_2_records_of_a_set_have_one_ttl() {
    let answer = family(Form::Minimal).ask("unsigned.example.test", "A");
    let ttls: Vec<u32> = answer.0.authorities.iter().take(2).map(|record| record.ttl).collect();
    assert_eq!(ttls, [3600, 3600]);
}

/// Section 5.4.1 and section 6.1: glue belongs to the child; the parent's server never answers with it.
#[test]
fn section_6_1_glue_is_no_answer() {
    for form in FORMS {
        let answer = family(form).ask_plainly("ns.unsigned.example.test", "A");
        assert!(!answer.authoritative() && answer.answers().is_empty());
    }
}

#[test]
fn section_6_1_both_sides_of_a_cut_served_here_the_child_answers() {
    let hosted = family(Form::Minimal);
    let answer = hosted.ask("child.example.test", "SOA");
    answer.is("NoError", true, "SOA RRSIG", "");
    assert_eq!(answer.0.answers[0].name.to_string(), "child.example.test.");
    hosted.ask("child.example.test", "NS").is("NoError", true, "NS RRSIG", "");
    let missing = hosted.ask("nothing.child.example.test", "A");
    assert_eq!(missing.0.authorities[0].name.to_string(), "child.example.test.");
}

/// Section 9: TC is for what is required. Nothing half is sent, and TCP has it all.
#[test]
fn section_9_what_does_not_fit_is_truncated() {
    let texts: String = (0..6).map(|at| format!("big TXT \"{at}{}\"\n", "x".repeat(240))).collect();
    let hosted = Hosted::new([zone("example.test", &texts, Form::Minimal)]);
    let request = query("big.example.test", "TXT", Some(false));
    let answer = hosted.send(&request, Transport::Udp).unwrap();
    assert!(answer.truncated());
    answer.is("NoError", true, "", "");
    hosted.send(&request, Transport::Tcp).unwrap().is("NoError", true, &["TXT"; 6].join(" "), "");
}

/// RFC 9471 section 3.1: in-domain glue is required.
#[test]
fn section_9_required_glue_that_does_not_fit() {
    let mut records = String::new();
    for at in 0..12 {
        let label = format!("server-{at}-{}", "x".repeat(30));
        records += &format!("cut NS {label}.cut\n{label}.cut A 192.0.2.{at}\n");
    }
    let hosted = Hosted::new([zone("example.test", &records, Form::Minimal)]);
    let request = query("cut.example.test", "A", None);
    let answer = hosted.send(&request, Transport::Udp).unwrap();
    assert!(answer.truncated());
    let answer = hosted.send(&request, Transport::Tcp).unwrap();
    assert_eq!((answer.0.authorities.len(), answer.0.additionals.len()), (12, 12));
}

/// RFC 9471 section 3.2: that of siblings is put as far as it fits.
#[test]
fn section_9_glue_of_siblings_that_does_not_fit() {
    let mut records = "sibling NS ns.sibling\nns.sibling A 192.0.2.1\n".to_string();
    for at in 0..6 {
        let label = format!("server-{at}-{}", "x".repeat(30));
        records += &format!("cut NS {label}.sibling\n{label}.sibling A 192.0.2.{at}\n");
    }
    let hosted = Hosted::new([zone("example.test", &records, Form::Minimal)]);
    let answer = hosted.send(&query("cut.example.test", "A", None), Transport::Udp).unwrap();
    assert!(!answer.truncated());
    assert_eq!(answer.0.authorities.len(), 6);
    let glue = answer.0.additionals.len();
    assert!((1..6).contains(&glue), "{glue}");
}
