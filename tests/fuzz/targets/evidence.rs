//! See `mintwarden_fuzz::evidence`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintwarden_fuzz::evidence(input));
