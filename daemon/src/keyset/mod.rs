//! Keysets: all keys of one issuer with their states, one versioned document, changed only by
//! compare-and-swap (I8).
//!
//! - [`plan`] is pure: what has to be done now, each step with its reason; [`act`] is as pure: what a
//!   custodian's act makes of a keyset.
//! - [`precaution`] is what the appliance does of its own accord, e.g. with keys that [`suspects`] condemns.
//! - [`apply`] does it, generic over [`Store`](crate::store::Store), [`KeyOps`](apply::KeyOps) and
//!   [`Clock`](crate::clock::Clock).
//! - [`proposal`] is pure too: acts that more than one person has to agree to, on their way there.
//! - [`steward`] is the one task per issuer that runs both, detached from any request.
//! - [`alarm`] and [`outlook`] say what a person should look at, and what happens next.

pub mod act;
pub mod alarm;
pub mod apply;
pub mod change;
mod document;
pub mod live;
pub mod outlook;
mod pairs;
pub mod plan;
mod policy;
pub mod precaution;
pub mod proposal;
#[cfg(test)]
mod sim;
pub mod start;
pub mod steward;
pub mod suspects;
pub mod view;

pub use document::{
    Destruction, Key, KeyState, Keyset, Leftover, Lowering, MadeKey, Maturity, Phase, Signatures,
    Suspension, Wish, WishedFor,
};
pub use pairs::Pairs;
pub use policy::Policy;
pub use view::View;
