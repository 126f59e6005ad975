//! Proposals: acts that more than one person has to agree to, on their way there.
//!
//! One document per issuer, beside its keyset and changed in the same transaction of the store: the last
//! approval consumes the proposal and applies the act at once, and a change of a key makes void what
//! was proposed about it at once (I8). It is a document of its own, since `init` and `recover` are
//! proposed where there is no keyset yet, and since a proposal changes no key.
//!
//! Everything here is pure: a document, the present, and what comes of them.

mod course;
mod document;
mod facts;
mod quorum;
mod refusal;
#[cfg(test)]
pub(super) mod tests;

pub use course::{Approved, Present};
pub use document::{Approval, Closed, Ending, Proposal, ProposalId, Proposals};
pub use facts::Facts;
pub use quorum::Quorum;
pub use refusal::ProposalRefusal;
