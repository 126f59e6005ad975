//! See `mintwarden_fuzz::keyset`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintwarden_fuzz::keyset(input));
