//! The Public Key Interoperability Test Suite of NIST (version 1.0.1), sections 4.1 to 4.14 and 4.16. See
//! `pkits/README.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use certdir_certificate::{
    Anchors, Certificate, Crl, Evidence, Memory, Policies, Pool, Purpose, Requirements, RevocationMode, validate,
};

/// 2026-11-22; the suite's certificates are valid from 2010 to 2030.
const NOW: i64 = 1_795_305_600;

/// Valid paths that are refused, with the code and the reason.
const REFUSED: &[(&str, &str, &str)] = &[
    ("4.1.4", "unsupported-algorithm", "DSA is not verified"),
    ("4.1.5", "unsupported-algorithm", "DSA is not verified"),
    ("4.14.30", "revocation-unknown", "only a list that its signer has signed says that the signer is not revoked"),
];

struct Suite {
    files: BTreeMap<String, Vec<u8>>,
}

impl Suite {
    /// `files.bin`: for each file the length of its name (two octets), the name, its length (four octets), and the file.
    fn read() -> Suite {
        let mut rest = &include_bytes!("pkits/files.bin")[..];
        let mut files = BTreeMap::new();
        while let Some((length, more)) = rest.split_first_chunk::<2>() {
            let (name, more) = more.split_at(usize::from(u16::from_be_bytes(*length)));
            let (length, more) = more.split_first_chunk::<4>().unwrap();
            let (file, more) = more.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
            files.insert(String::from_utf8(name.to_vec()).unwrap(), file.to_vec());
            rest = more;
        }
        Suite { files }
    }

    fn file(&self, name: &str) -> &[u8] {
        self.files.get(name).unwrap_or_else(|| panic!("{name}"))
    }

    fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_der(self.file(&format!("{name}.crt"))).unwrap()
    }

    fn crl(&self, name: &str) -> Option<Arc<Crl>> {
        Crl::read(self.file(&format!("{name}.crl"))).ok().map(Arc::new)
    }
}

/// What we say of a case.
fn verdict(suite: &Suite, case: &[&str], memory: &Memory) -> Result<(), certdir_certificate::Refusal> {
    let [_, _, certificates, crls, initial, explicit, inhibit_mapping, inhibit_any, _] = case else {
        panic!("{case:?}")
    };
    let certificates: Vec<Certificate> = certificates.split(',').map(|name| suite.certificate(name)).collect();
    let [anchor, between @ .., leaf] = &certificates[..] else { panic!("{case:?}") };
    let mut anchors = Anchors::new();
    anchors.add(anchor).unwrap();
    let mut pool = Pool::new();
    for certificate in between {
        // Those that cannot be used are not in the pool, like in life.
        let _ = pool.add(certificate);
    }
    let mut evidence = Evidence::new();
    for name in crls.split(',').filter(|name| !name.is_empty()) {
        if let Some(crl) = suite.crl(name) {
            evidence.add_crl(crl);
        }
    }
    let requirements = Requirements {
        purpose: Purpose::Anything,
        revocation: RevocationMode::Hard,
        policies: Policies {
            initial: initial.split(',').filter(|oid| *oid != "2.5.29.32.0").map(str::to_owned).collect(),
            explicit: *explicit == "1",
            inhibit_mapping: *inhibit_mapping == "1",
            inhibit_any: *inhibit_any == "1",
        },
        ..Requirements::at(NOW)
    };
    validate(leaf, &anchors, &pool, &evidence, &requirements, memory).map(|_| ())
}

#[test]
fn nothing_invalid_is_accepted_and_what_is_refused_is_listed() {
    let suite = Suite::read();
    let memory = Memory::default();
    let mut accepted = Vec::new();
    let mut refused = BTreeMap::new();
    let (mut valid, mut all) = (0, 0);
    for line in include_str!("pkits/cases.tsv").lines().skip(1) {
        let case: Vec<&str> = line.split('\t').collect();
        all += 1;
        valid += u32::from(case[1] == "1");
        match (case[1], verdict(&suite, &case, &memory)) {
            ("1", Ok(())) => {}
            (_, Ok(())) => accepted.push(case[0]),
            ("1", Err(refusal)) => {
                println!("{} {} {refusal}", case[0], case[8]);
                refused.insert(case[0], refusal.code);
            }
            (_, Err(_)) => {}
        }
    }
    assert!(accepted.is_empty(), "accepted and invalid: {accepted:?}");
    let listed: BTreeMap<&str, &str> = REFUSED.iter().map(|(case, code, _)| (*case, *code)).collect();
    assert_eq!(refused, listed);
    assert_eq!((all, valid), (239, 110));
}

#[test]
fn every_code_is_documented_and_listed() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/validation.md")).unwrap();
    for (code, _) in certdir_certificate::CODES {
        assert!(page.contains(&format!("| `{code}` |")), "{code}");
    }
    assert!(certdir_certificate::CODES.is_sorted());
    for (case, code, why) in REFUSED {
        assert!(page.contains(case) && page.contains(code) && page.contains(why), "{case}");
    }
}
