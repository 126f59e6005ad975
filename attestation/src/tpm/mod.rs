//! The TPM 2.0 structures that evidence is made of, by the TPM 2.0 Library specification: Part 2
//! ("Structures"), with names and key derivation of Part 1 ("Architecture").
//!
//! Read strictly: every structure to its last byte, every size under a bound, every algorithm that is
//! not known refused. Nothing here speaks to a TPM.

mod attest;
mod attributes;
mod credential;
mod hash;
mod kdf;
mod name;
mod public;
mod reader;
mod signature;
#[cfg(test)]
mod tests;

pub use attest::{Attest, CERTIFY, Clock, GENERATED};
pub use attributes::{Attribute, Attributes};
pub use credential::{Credential, CredentialError};
pub use hash::Hash;
pub use name::{Hierarchy, Name};
pub use public::{Curve, Key, Public, Scheme, Symmetric};
pub use signature::Signature;

/// A structure that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends before it should.
    #[error("it is cut short")]
    Truncated,
    /// There is more than there should be.
    #[error("it has {0} bytes too many")]
    Trailing(usize),
    /// A part is longer than its kind may be.
    #[error("its {what} has {size} bytes; at most {max} are possible")]
    TooLong {
        /// The part.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The bound.
        max: usize,
    },
    /// An algorithm, or another constant, that is none of those that can be there.
    #[error("its {what} is {value:#06x}, which is none that is known here")]
    Unknown {
        /// Which constant.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// A part that contradicts another.
    #[error("its {0} does not fit the rest of it")]
    Inconsistent(&'static str),
}
