//! Why a custodian's word about a proposal is refused.

use super::{Ending, ProposalId, Proposals};

/// Why a proposal, an approval or a rejection is refused. Nothing changed by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposalRefusal {
    /// There is none of this name.
    #[error("the issuer has no proposal {0}, or it ended long ago")]
    Unknown(ProposalId),
    /// The caller is no custodian of the issuer.
    #[error("only a custodian of the issuer can do that")]
    NotACustodian,
    /// The same person, maybe by another identity.
    #[error("{0} has approved it already; another person has to")]
    AlreadyApproved(String),
    /// The same act is proposed already.
    #[error("the same is proposed already: approve {0}")]
    AlreadyProposed(ProposalId),
    /// Too many open proposals.
    #[error("{whose} has {bound} open proposals, which is the most; let some be decided first")]
    TooMany {
        /// The issuer, or the person.
        whose: String,
        /// The bound.
        bound: usize,
    },
    /// One person has asked for too much in an hour.
    #[error("one person has 240 acts and words an hour; suspend alone is always heard")]
    TooOften,
    /// It ended because its time was over.
    #[error("the proposal expired; propose it again")]
    Expired,
    /// It ended because what it was about changed.
    #[error("the proposal is void: {0}; look at the keys, and propose what is right now")]
    Void(String),
    /// It was decided.
    #[error("the proposal is closed: {0}")]
    Closed(&'static str),
}

impl ProposalRefusal {
    /// The stable reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "UNKNOWN_PROPOSAL",
            Self::NotACustodian => "NO_GRANT",
            Self::AlreadyApproved(_) => "ALREADY_APPROVED",
            Self::AlreadyProposed(_) => "ALREADY_PROPOSED",
            Self::TooMany { .. } => "TOO_MANY_PROPOSALS",
            Self::TooOften => "TOO_MANY_ACTS",
            Self::Expired => "PROPOSAL_EXPIRED",
            Self::Void(_) => "PROPOSAL_VOID",
            Self::Closed(_) => "PROPOSAL_CLOSED",
        }
    }

    /// Why a proposal that is not open cannot be decided.
    pub(super) fn not_open(proposals: &Proposals, id: &ProposalId) -> Self {
        let Some(closed) = proposals.closed(id) else { return Self::Unknown(id.clone()) };
        match &closed.ending {
            Ending::Expired {} => Self::Expired,
            Ending::Void { why } => Self::Void(why.clone()),
            Ending::CarriedOut {} => Self::Closed("it was carried out"),
            Ending::Rejected { .. } => Self::Closed("it was rejected"),
            Ending::Refused { .. } => Self::Closed("the act was refused"),
        }
    }
}
