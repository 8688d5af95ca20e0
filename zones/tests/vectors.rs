//! tests/data/vectors/owner-names.txt, block by block.

use crate::data;
use certdir_zones::{Address, smimea_owner};
use std::collections::BTreeMap;
use std::process::Command;

fn blocks() -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(data("vectors/owner-names.txt")).unwrap();
    let block = |block: &str| {
        block
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .collect()
    };
    text.split("\n\n").map(block).collect()
}

/// `\\` and `\uXXXX`, as the README beside the file says.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap().to_owned();
    while let Some(part) = parts.next() {
        match part.strip_prefix('u') {
            Some(rest) => {
                let (digits, rest) = rest.split_at(4);
                out.push(char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap());
                out.push_str(rest);
            }
            None => {
                assert!(part.is_empty(), "an unknown escape in {text}");
                out.push('\\');
                out.push_str(parts.next().unwrap());
            }
        }
    }
    out
}

#[test]
fn every_address_has_its_owner() {
    let (mut owners, mut refused) = (0, 0);
    for block in blocks() {
        let address = unescaped(&block["address"]);
        let parsed = Address::parse(&address);
        if block.contains_key("refused") {
            let error = parsed.expect_err(&address);
            assert!(matches!(error.code(), "bad-address" | "bad-domain"), "{address}: {error:?}");
            refused += 1;
        } else {
            let parsed = parsed.unwrap_or_else(|error| panic!("{address:?}: {error}"));
            assert_eq!(data_encoding::HEXLOWER.encode(parsed.local().as_bytes()), block["local-hex"], "{address:?}");
            assert_eq!(smimea_owner(&parsed).to_string(), block["owner"], "{address:?}");
            assert_eq!(Address::parse(&parsed.to_string()).as_ref(), Ok(&parsed), "{address:?}");
            owners += 1;
        }
        assert!(!block["origin"].is_empty());
    }
    assert_eq!((owners, refused), (38, 33), "the file was not read to its end");
}

/// The hashes in the file, made again by another implementation of SHA-256.
#[test]
fn sha256sum_agrees() {
    let output = Command::new("sh").arg(data("vectors/owner-names.sh")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"38 hashes are right\n");
}
