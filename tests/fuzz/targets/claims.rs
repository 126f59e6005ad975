//! See `mintwarden_fuzz::claims`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintwarden_fuzz::claims(input));
