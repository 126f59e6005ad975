//! Mintwarden's launcher and server, as a library for its binary, its tests and its benchmarks.
//!
//! The server's modules stand in the order in which a request meets them: [`listen`] and
//! [`identity`], [`access`], [`admission`], [`signer`], [`workers`]; [`keyset`], [`store`] and
//! [`jwks`] keep the keys' public side; [`api`] holds the thin edges. [`launcher`] is a process of
//! its own, and so is [`doctor`]. See ARCHITECTURE.md.

pub mod access;
pub mod admission;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(feature = "dev")]
pub mod dev;
pub mod doctor;
pub mod identity;
pub mod jwks;
pub mod keyset;
pub mod launcher;
pub mod listen;
pub mod readiness;
pub mod record;
pub mod server;
pub mod signer;
pub mod store;
pub mod telemetry;
pub mod workers;
