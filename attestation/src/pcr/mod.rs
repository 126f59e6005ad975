//! Keys that sign only while their machine is in a certain state, as the TPM's PCRs tell it (TPM 2.0 Library, part
//! 1, "Platform Configuration Registers" and "Enhanced Authorization"): states, the policies that keys of
//! Mintwarden have for them, and states that are signed off beforehand. Nothing here speaks to a TPM.

mod authority;
mod policy;
mod sign_off;
mod state;

pub use authority::{Authority, AuthorityError};
pub use policy::{KeyPolicy, Policy, REFERENCE};
pub use sign_off::{SignOff, SignOffError};
pub use state::{PcrError, PcrState, Selection};
