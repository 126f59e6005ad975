//! The fault table of DESIGN.md, row by row, against a PKCS#11 module that misbehaves on command. The
//! rows with what they cost are listed in `docs/faults.md`.

pub(crate) mod chaos;
mod crashes;
mod devices;
mod errors;
mod generation;
mod hangs;
mod ladder;
mod logins;
mod resources;
mod sessions;
mod wrong;
