//! Every file of every fuzz corpus through the function its fuzzer runs, on the stable compiler.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The fuzzers' own functions: `fuzz/` is a workspace of its own, so they are read in, not linked.
#[allow(unreachable_pub, reason = "it is a crate of its own for the fuzzers")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_corpus_file_goes_through_its_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut failed = Vec::new();
    for (name, target) in targets::ALL {
        let mut files = 0;
        for entry in fs::read_dir(corpora.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")) {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            files += 1;
            if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                failed.push(path.display().to_string());
            }
            // And every prefix of a small one: cut-off input is the most common bad input.
            if bytes.len() <= 512 {
                for cut in 0..bytes.len() {
                    if catch_unwind(AssertUnwindSafe(|| target(&bytes[..cut]))).is_err() {
                        failed.push(format!("{} cut at {cut}", path.display()));
                    }
                }
            }
        }
        assert!(files >= 3, "{name}: a corpus of {files} files");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_target_has_its_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in targets::ALL {
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
