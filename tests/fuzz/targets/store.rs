//! See `mintwarden_fuzz::store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintwarden_fuzz::store(input));
