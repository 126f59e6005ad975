//! The Mintwarden worker without its device.
//!
//! A worker is the one process that holds a device's PIN and sessions. It speaks to nobody but the
//! server, over the socket that it inherits as standard input, and parses no network input but the
//! claims. It applies the issuer's profile itself, builds the JWS header itself and signs, so that
//! a broken server still gets nothing signed but profile-conforming tokens.
//!
//! - [`device`]: the traits [`Device`](device::Device) and [`Session`](device::Session) that a
//!   worker for one kind of device implements, and [`DeviceError`](device::DeviceError) with its
//!   [`Remedy`](device::Remedy).
//! - [`claims`]: the claims profile `txn-token`; [`jws`]: header, signing input, token digest;
//!   [`jwk`]: public keys and their thumbprints; [`label`]: what a key was made for.
//! - [`wire`]: the protocol between server and worker; [`setup`]: what the launcher tells a worker.
//! - [`login`]: the record of a pending login that outlives every restart (invariant I10).
//! - [`durable`]: files of the worker's own that hold after a power cut.
//! - [`watch`]: every call of the vendor library is made through it, and one that hangs is noticed.
//! - [`finding`]: what `mintwarden doctor` is told.
//! - [`serve`]: the worker's loop.
//!
//! No FFI here and no async: the border between async and blocking code is a process border.

pub mod algorithm;
pub mod claims;
pub mod clock;
pub mod device;
pub mod durable;
pub mod finding;
pub mod harden;
pub mod jwk;
pub mod jws;
pub mod label;
pub mod login;
pub mod name;
pub mod serve;
pub mod setup;
pub mod watch;
pub mod wire;

pub use algorithm::{Algorithm, KeySpec};
pub use name::IssuerName;
