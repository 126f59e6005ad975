//! The Mintwarden worker for PKCS#11 tokens: [`Device`](mintwarden_worker::device::Device) and
//! [`Session`](mintwarden_worker::device::Session) by way of a vendor's PKCS#11 module.
//!
//! The binary is this library and `main.rs`; nothing else links it, so that no other process of
//! Mintwarden can load a module.
//!
//! - [`device`]: [`Pkcs11Device`], opened with exactly one login;
//! - [`init`]: initialises a PKCS#11 token, for development, tests and images;
//! - `library`: loads the module; `token`: finds the PKCS#11 token in it; `login`: the login;
//!   `mechanism`: what an algorithm is in PKCS#11 and which mechanisms a PKCS#11 token has for it;
//!   `pair`: key pairs and what is asked of their attributes; `session`: signs; `fault`: what each
//!   return value (`CKR_…`) means.

pub mod device;
pub mod init;

mod attest;
mod examine;
mod fault;
mod library;
mod login;
mod mechanism;
mod pair;
mod session;
mod token;

pub use device::Pkcs11Device;
