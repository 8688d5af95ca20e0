#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| certdir_fuzz::revocation_list(data));
