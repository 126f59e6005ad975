//! The Mintwarden worker for TPM 2.0: [`Device`](mintwarden_worker::device::Device) and
//! [`Session`](mintwarden_worker::device::Session) over the TCG's software stack (tpm2-tss).
//!
//! The binary is this library and `main.rs`; nothing else links it, so that no other process of
//! Mintwarden depends on libtss2.
//!
//! - [`device`]: [`TpmDevice`], the keys that the keyset keeps and the one connection;
//! - `connection`: an ESYS context with its storage key, its salted session and the keys that are loaded;
//!   `command`: one command, repeated while the TPM asks for it; `exclusive`: a TPM without resource manager;
//! - `template`: what the public areas of the storage key and of issuers' keys look like; `wrapped`: an
//!   issuer's key as the keyset keeps it; `secret`: the device secret, and the authorisation values that
//!   come from it; `kept`: the worker's own copies of keys;
//!   `destroyed`: keys that are never used again;
//! - `parent`: which storage key is accepted; `pcr`: which state of the machine, and how keys are bound to it; `record`:
//!   what was accepted; `attest`: evidence of where a key lives;
//! - `support`: which keys a TPM can make; `session`: signs; `fault`: what each response code means;
//!   `tcti`: the way to the TPM; `properties`: what a TPM says of itself.
//!
//! A TPM keeps no issuer's key: it gives it out encrypted under its storage key, and the keyset keeps it.
//! So what a TPM *shows* are the keys that the server handed over or that the worker has made, and that load.

pub mod device;

mod attest;
mod command;
mod connection;
mod destroyed;
mod examine;
mod exclusive;
mod fault;
mod kept;
mod parent;
mod pcr;
mod properties;
mod record;
mod secret;
mod session;
mod support;
mod tcti;
mod template;
mod wrapped;

pub use device::TpmDevice;
