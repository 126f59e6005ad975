//! Measures DESIGN.md's budget: the appliance under load beside raw loops of the same device calls,
//! in one run on one machine, since absolute figures of a shared machine mean little.
//!
//! - [`run`](mod@run): the order of the measurements; [`report`]: what they say about the budget;
//!   [`table`]: the same for people; [`profile`]: one load alone, for a profiler to look at;
//!   [`tts`]: a service in front of it; [`network_hsm`]: a device that takes its time; [`tpm`]: a TPM in
//!   the place of the PKCS#11 token.
//! - [`raw`]: the baseline, a process of its own with a PKCS#11 token of its own; [`load`]: the load
//!   generator, through the client library; [`start`]: start to first signature.
//! - [`cpu`] and [`memory`]: what the appliance takes.
//!
//! Figures are reported and never asserted: a missed budget is a finding, not a failure. That the
//! tokens are good is checked all the same, outside of what is timed. The appliance is the one of the
//! tests, [`mintwarden_tests`], which panics where it cannot do its part.

// What a benchmark is for; and it learns from the environment whether cargo started it.
#![allow(clippy::disallowed_methods, reason = "this crate measures time")]

pub mod cpu;
pub mod error;
pub mod load;
pub mod memory;
pub mod network_hsm;
pub mod options;
pub mod profile;
pub mod programs;
pub mod raw;
pub mod report;
pub mod run;
pub mod start;
pub mod statistics;
pub mod table;
pub mod tpm;
pub mod tts;
