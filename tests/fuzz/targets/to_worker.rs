//! See `mintwarden_fuzz::to_worker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintwarden_fuzz::to_worker(input));
