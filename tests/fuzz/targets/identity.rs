//! See `mintwarden_fuzz::identity`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mintwarden_fuzz::identity(input));
