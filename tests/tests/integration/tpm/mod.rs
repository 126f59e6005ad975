//! A TPM as a device: a real swtpm, and `mintwarden-tpm` before it.

mod devices;
mod doctor;
mod endurance;
mod failures;
mod pcr;
mod setup;
mod signing;
