//! What goes wrong with a TPM, row by row of its part of `docs/faults.md`: with a relay before a real swtpm that
//! strikes at commands, and with the swtpm itself.

mod auth;
mod callers;
mod codes;
mod parent;
mod power;
mod room;
mod struck;
