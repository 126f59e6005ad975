//! The Mintwarden worker for PKCS#11 tokens: [`Device`](mintwarden_worker::device::Device) and
//! [`Session`](mintwarden_worker::device::Session) by way of a vendor's PKCS#11 module.
//!
//! The binary is this library and `main.rs`; nothing else links it, so that no other process of
//! Mintwarden can load a module.
//!
//! - [`device`]: [`Pkcs11Device`], opened with exactly one login;
//! - [`init`]: initialises a PKCS#11 token, for development, tests and images;
//! - `library`: loads the module; `token`: finds the PKCS#11 token in it; `login`: the login;
//!   `scheme`: mechanisms and curve of an algorithm; `pair`: what is asked of a key pair's attributes; `session`: signs; `fault`: what each return
//!   value (`CKR_…`) means.

pub mod device;
pub mod init;

mod fault;
mod library;
mod login;
mod pair;
mod scheme;
mod session;
mod token;

pub use device::Pkcs11Device;
