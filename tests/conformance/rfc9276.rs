//! RFC 9276: parameters of NSEC3.

use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::RData;

use super::{FORMS, Form, family};

#[test]
fn section_3_1_no_iterations_no_salt_no_opt_out() {
    for form in FORMS {
        let hosted = family(form);
        let mut seen = 0;
        for owner in ["nothing", "www", "x.wild", "x.unsigned"] {
            for record in hosted.ask(&format!("{owner}.example.test"), "MX").0.authorities {
                if let RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) = &record.data {
                    assert_eq!((nsec3.iterations(), nsec3.salt().len(), nsec3.opt_out()), (0, 0, false));
                    seen += 1;
                }
            }
        }
        assert!(seen >= 4);
    }
}

#[test]
fn section_3_1_nsec3param_says_the_same() {
    let answer = family(Form::Chain).ask("example.test", "NSEC3PARAM");
    let RData::DNSSEC(DNSSECRData::NSEC3PARAM(param)) = &answer.0.answers[0].data else { panic!() };
    assert_eq!((param.iterations(), param.salt().len(), param.opt_out()), (0, 0, false));
}
