//! The module over the real SoftHSM2: what it passes on, and what it does on command. Each test needs a
//! process of its own (cargo-nextest): a process has one such module.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod effects;
mod entry;
mod fixture;
mod keys;
mod script;
mod timing;
