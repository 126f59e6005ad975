//! See `mintwarden_fuzz::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintwarden_fuzz::configuration(input));
