//! See `mintwarden_fuzz::from_worker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintwarden_fuzz::from_worker(input));
