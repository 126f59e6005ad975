//! What must hold for any input, one function an edge. Each panics where it does not hold.
//!
//! `cargo fuzz` looks for such inputs (`make fuzz`, scripts/fuzz.sh); what it once found, and what it
//! begins with, lies in `seeds/` and is tried by ordinary tests.

#![allow(clippy::unwrap_used, reason = "a panic is how a finding is reported")]

mod claims;
mod configuration;
mod evidence;
mod identity;
mod second_reader;
mod store;
mod wire;

pub use claims::claims;
pub use configuration::configuration;
pub use evidence::evidence;
pub use identity::identity;
pub use store::{keyset, store};
pub use wire::{from_worker, to_worker};

/// What must hold for an input; panics where it does not.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("claims", claims),
    ("identity", identity),
    ("configuration", configuration),
    ("evidence", evidence),
    ("to_worker", to_worker),
    ("from_worker", from_worker),
    ("keyset", keyset),
    ("store", store),
];
