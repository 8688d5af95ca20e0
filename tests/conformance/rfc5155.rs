//! RFC 5155: hashed denial. Proofs are checked as section 8 tells a validator, with hickory's hash.

use std::collections::BTreeSet;

use hickory_proto::dnssec::Nsec3HashAlgorithm;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::{Name, RData, RecordType};

use super::{Answer, FORMS, Form, Hosted, family, line};

struct Nsec3 {
    hash: Vec<u8>,
    next: Vec<u8>,
    types: Vec<String>,
}

fn records(answer: &Answer) -> Vec<Nsec3> {
    let mut seen = BTreeSet::new();
    let records = answer.0.authorities.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => Some((record, nsec3)),
        _ => None,
    });
    records
        .map(|(record, nsec3)| {
            let label = record.name.iter().next().unwrap().to_ascii_lowercase();
            assert!(seen.insert(label.clone()), "each record once");
            Nsec3 {
                hash: data_encoding::BASE32_DNSSEC.decode(&label).unwrap(),
                next: nsec3.next_hashed_owner_name().to_vec(),
                types: nsec3.type_bit_maps().map(|rtype| rtype.to_string()).collect(),
            }
        })
        .collect()
}

fn hash(owner: &str) -> Vec<u8> {
    let owner = Name::from_ascii(owner).unwrap().to_lowercase();
    Nsec3HashAlgorithm::SHA1.hash(&[], &owner, 0).unwrap().as_ref().to_vec()
}

fn matching<'a>(records: &'a [Nsec3], owner: &str) -> Option<&'a Nsec3> {
    let hash = hash(owner);
    records.iter().find(|record| record.hash == hash)
}

fn covers(records: &[Nsec3], owner: &str) -> bool {
    let hash = hash(owner);
    records.iter().any(
        |Nsec3 { hash: from, next, .. }| {
            if from < next { *from < hash && hash < *next } else { hash > *from || hash < *next }
        },
    )
}

/// Section 8.3: closest encloser and next closer name are the ones expected, and the record of the former rules out that
/// another zone begins there.
fn encloser(records: &[Nsec3], closest: &str, next_closer: &str) {
    let record = matching(records, closest).expect("the closest encloser matches");
    let has = |rtype: &str| record.types.iter().any(|one| one == rtype);
    assert!(!has("DNAME") && (!has("NS") || has("SOA")), "{:?}", record.types);
    assert!(covers(records, next_closer), "{next_closer} is covered");
}

#[test]
fn section_7_2_2_name_error() {
    for form in FORMS {
        let hosted = family(form);
        for (owner, closest, next_closer) in [
            ("nothing.example.test.", "example.test.", "nothing.example.test."),
            ("a.b.nothing.example.test.", "example.test.", "nothing.example.test."),
            ("x.www.example.test.", "www.example.test.", "x.www.example.test."),
            ("a.b._tcp.example.test.", "_tcp.example.test.", "b._tcp.example.test."),
            ("x.child.sub.wild.example.test.", "sub.wild.example.test.", "child.sub.wild.example.test."),
        ] {
            let answer = hosted.ask(owner, "A");
            assert_eq!(answer.rcode(), "NXDomain");
            let records = records(&answer);
            encloser(&records, closest, next_closer);
            assert!(covers(&records, &format!("*.{closest}")), "{owner}");
            assert!(records.len() <= 3);
        }
    }
}

#[test]
fn section_7_2_3_no_data() {
    for form in FORMS {
        let hosted = family(form);
        for (owner, types) in [
            ("www.example.test.", vec!["A", "TXT", "RRSIG"]),
            ("_tcp.example.test.", vec![]),
            ("*.wild.example.test.", vec!["A", "RRSIG"]),
            ("dname.example.test.", vec!["DNAME", "RRSIG"]),
        ] {
            let records = records(&hosted.ask(owner, "MX"));
            assert_eq!(matching(&records, owner).unwrap().types, types, "{owner}");
            assert_eq!(records.len(), 1);
        }
    }
}

/// There is no opt-out (RFC 9276 section 3.1): the cut itself matches.
#[test]
fn section_7_2_4_no_data_for_ds() {
    for form in FORMS {
        let hosted = family(form);
        let answer = hosted.ask("unsigned.example.test", "DS");
        assert_eq!(matching(&records(&answer), "unsigned.example.test.").unwrap().types, ["NS"]);
        let answer = hosted.ask("www.example.test", "DS");
        assert!(matching(&records(&answer), "www.example.test.").is_some());
    }
}

#[test]
fn section_7_2_5_wildcard_no_data() {
    for form in FORMS {
        let answer = family(form).ask("a.b.wild.example.test", "MX");
        assert!(answer.0.answers.is_empty());
        let records = records(&answer);
        encloser(&records, "wild.example.test.", "b.wild.example.test.");
        assert_eq!(matching(&records, "*.wild.example.test.").unwrap().types, ["A", "RRSIG"]);
    }
}

#[test]
fn section_7_2_6_wildcard_answer() {
    for form in FORMS {
        let hosted = family(form);
        for owner in ["a.b.wild.example.test", "a.b.walias.example.test"] {
            let answer = hosted.ask(owner, "A");
            let records = records(&answer);
            let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &answer.0.answers[1].data else { panic!() };
            assert_eq!(rrsig.input().num_labels, 3);
            assert!(covers(&records, &format!("{}.", owner.trim_start_matches("a."))));
            assert_eq!(records.len(), 1);
        }
    }
}

#[test]
fn section_7_2_7_referral_to_an_unsigned_zone() {
    for form in FORMS {
        let records = records(&family(form).ask("a.b.unsigned.example.test", "A"));
        assert_eq!(matching(&records, "unsigned.example.test.").unwrap().types, ["NS"]);
    }
}

#[test]
fn section_7_2_8_the_owner_of_an_nsec3_record_does_not_exist() {
    for form in FORMS {
        let label = data_encoding::BASE32_DNSSEC.encode(&hash("www.example.test."));
        let answer = family(form).ask(&format!("{label}.example.test"), "NSEC3");
        assert_eq!(answer.rcode(), "NXDomain");
    }
}

/// A zone answers with the records of its chain, and one without a chain never shows two of its names.
#[test]
fn section_7_1_a_chain_answers_alone() {
    let questions =
        ["nothing", "x.www", "a.b._tcp", "x.wild", "x.walias", "x.unsigned", "www", "_tcp", "dangling", "untyped"];
    for form in FORMS {
        let hosted = family(form);
        let zone = &hosted.0[0];
        let hashes: BTreeSet<Vec<u8>> = zone.names().map(|(name, _)| hash(&name.to_string())).collect();
        assert_eq!(zone.chain().is_some(), form == Form::Chain);
        for owner in questions {
            for record in records(&hosted.ask(&format!("{owner}.example.test"), "MX")) {
                let stored = zone.chain().and_then(|chain| chain.matching(&record.hash.clone().try_into().unwrap()));
                assert_eq!(stored.is_some(), form == Form::Chain, "{owner}");
                assert_eq!(hashes.contains(&record.next), form == Form::Chain, "{owner}");
            }
        }
    }
}

/// Occluded names have no place in the chain, every other name has.
#[test]
fn section_7_1_which_names_have_a_link() {
    let hosted = family(Form::Chain);
    let chain = hosted.0[0].chain().unwrap();
    let linked = |owner: &str| chain.matching(&hash(owner).try_into().unwrap()).is_some();
    for owner in [
        "example.test.",
        "_tcp.example.test.",
        "child.example.test.",
        "unsigned.example.test.",
        "*.wild.example.test.",
        "sub.wild.example.test.",
        "dname.example.test.",
    ] {
        assert!(linked(owner), "{owner}");
    }
    for owner in
        ["ns.unsigned.example.test.", "ns.sibling.example.test.", "nothing.example.test.", "www.child.example.test."]
    {
        assert!(!linked(owner), "{owner}");
    }
}

/// A chain with a hole cannot prove: an error, never a proof that is wrong.
#[test]
fn section_7_2_a_hole_is_a_server_failure() {
    let whole = family(Form::Chain);
    let mut broken = whole.0[0].clone();
    broken.remove_link(&hash("www.example.test.").try_into().unwrap());
    let hosted = Hosted::new([broken]);
    hosted.ask("www.example.test", "MX").is("ServFail", false, "", "");
    hosted.ask("www.example.test", "A").is("NoError", true, "A RRSIG", "");
    // Without DO there is nothing to prove.
    hosted.ask_plainly("www.example.test", "MX").is("NoError", true, "", "SOA");
}

#[test]
fn section_4_nsec3param_is_shown_with_the_chain_only() {
    assert_eq!(family(Form::Chain).ask("example.test", "NSEC3PARAM").types()[0], "NSEC3PARAM RRSIG");
    assert_eq!(family(Form::Minimal).ask("example.test", "NSEC3PARAM").types()[0], "");
}

/// RFC 7129 appendix B: from a hash to the next possible one, so that nothing else is learned.
#[test]
fn section_7_2_1_minimally_covering_records() {
    let hosted = family(Form::Minimal);
    for owner in ["nothing", "x.wild", "www"] {
        for record in records(&hosted.ask(&format!("{owner}.example.test"), "MX")) {
            let tail = |hash: &[u8]| u64::from_be_bytes(hash[12..].try_into().unwrap());
            assert!((1..=2).contains(&tail(&record.next).wrapping_sub(tail(&record.hash))));
        }
    }
}

#[test]
fn section_7_1_bitmaps_name_no_nsec3() {
    let answer = family(Form::Chain).ask("example.test", "MX");
    let apex = answer.0.authorities.iter().find(|record| record.record_type() == RecordType::NSEC3).unwrap();
    assert_eq!(line(apex), "NSEC3 NS SOA RRSIG DNSKEY NSEC3PARAM");
}
