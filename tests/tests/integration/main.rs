//! The appliance as a whole: real processes, a real PKCS#11 token, the real wire. A module per
//! subject; names say the invariant of DESIGN.md where one is defended. What is called `load_…` or
//! lies in `container` runs one at a time (`.config/nextest.toml`).

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]
#![allow(clippy::disallowed_methods, reason = "tests measure time")]

mod algorithms;
mod attestation;
mod certificates;
mod changes;
mod container;
mod ctl;
mod custodian;
mod dev;
mod device;
mod doctor;
mod failover;
mod faults;
mod full_disk;
mod golden;
mod hostile;
mod https;
mod identity;
mod init;
mod limits;
mod linkage;
mod load;
mod metrics;
mod mistakes;
mod modules;
mod ops;
mod pace;
mod pin;
mod processes;
mod python;
mod restarts;
mod rotation;
mod secrets;
mod services;
mod signing;
mod storm;
mod tpm;
mod tts;
mod workload;
