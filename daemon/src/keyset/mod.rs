//! Keysets: all keys of one issuer with their states, one versioned document, changed only by
//! compare-and-swap (I8).
//!
//! - [`plan`] is pure: what has to be done now, each step with its reason.
//! - [`apply`] does it, generic over [`Store`](crate::store::Store) and [`KeyOps`](apply::KeyOps).
//! - [`steward`] is the one task per issuer that runs both, detached from any request.

pub mod apply;
mod document;
pub mod live;
pub mod plan;
pub mod steward;

pub use document::{Key, KeyState, Keyset, Leftover, MadeKey, Phase};
