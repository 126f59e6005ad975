//! The document itself.

use std::{collections::VecDeque, fmt, time::Duration};

use mintwarden_worker::IssuerName;
use serde::{Deserialize, Serialize};

use super::Facts;
use crate::{
    clock::{Lapse, WallTime, millis},
    keyset::act::CustodianAct,
    record::By,
};

/// The proposals of one issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposals {
    /// The issuer.
    pub issuer: IssuerName,
    /// Grows by one with every write; 0 for a document that was never written.
    pub version: u64,
    /// What has passed at the last write: proposals end by it.
    pub lapse: Lapse,
    /// Those that wait for approvals, oldest first.
    pub open: Vec<Proposal>,
    /// Those that ended last, oldest first.
    pub closed: VecDeque<Closed>,
}

/// An act that waits for approvals. Nothing of it changes but those.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Names it.
    pub id: ProposalId,
    /// What is to be done.
    pub act: CustodianAct,
    /// Why, as the proposer says.
    pub reason: String,
    /// Who proposed it.
    pub by: By,
    /// When.
    pub at: WallTime,
    /// When it ends by the wall clock.
    pub expires: WallTime,
    /// When it ends by [`Proposals::lapse`], whatever is done to the wall clock.
    #[serde(with = "millis")]
    pub until: Duration,
    /// What it was proposed about: once that changes, it is void.
    pub facts: Facts,
    /// Who agreed, the proposer among them. Whether they count, today's configuration says.
    pub approvals: Vec<Approval>,
}

/// One person's word for a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Who.
    pub by: By,
    /// When.
    pub at: WallTime,
    /// Why.
    pub reason: String,
}

/// A proposal that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// As it was.
    pub proposal: Proposal,
    /// How it ended.
    pub ending: Ending,
    /// When.
    pub at: WallTime,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ending {
    /// Enough persons agreed, and it was done.
    CarriedOut {},
    /// A custodian rejected it.
    Rejected {
        /// Who.
        by: By,
        /// Why.
        reason: String,
    },
    /// Nobody agreed in time.
    Expired {},
    /// What it was proposed about changed.
    Void {
        /// What changed, in words.
        why: String,
    },
    /// Enough persons agreed, and the act was refused; nothing was done.
    Refused {
        /// The stable reason.
        refusal: String,
        /// The same in words.
        why: String,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CarriedOut {} => f.write_str("carried out"),
            Self::Rejected { by, reason } if reason.is_empty() => {
                write!(f, "rejected by {}", by.person)
            }
            Self::Rejected { by, reason } => write!(f, "rejected by {}: {reason}", by.person),
            Self::Expired {} => f.write_str("expired"),
            Self::Void { why } => write!(f, "void: {why}"),
            Self::Refused { refusal, why } => write!(f, "refused: {refusal}: {why}"),
        }
    }
}

impl Proposals {
    /// Open proposals of an issuer (I9).
    pub const MAX_OPEN: usize = 16;
    /// Open proposals of one person.
    pub const MAX_OF_PERSON: usize = 4;
    /// Closed proposals that are kept here; the record has all.
    pub const MAX_CLOSED: usize = 64;

    /// The document of an issuer for which nothing was ever proposed.
    #[must_use]
    pub fn none(issuer: IssuerName) -> Self {
        Self { issuer, version: 0, lapse: Lapse::default(), open: vec![], closed: VecDeque::new() }
    }

    /// The open proposal with this name.
    #[must_use]
    pub fn open(&self, id: &ProposalId) -> Option<&Proposal> {
        self.open.iter().find(|proposal| proposal.id == *id)
    }

    /// The closed proposal with this name, while it is kept.
    #[must_use]
    pub fn closed(&self, id: &ProposalId) -> Option<&Closed> {
        self.closed.iter().find(|closed| closed.proposal.id == *id)
    }

    /// Ends an open proposal.
    pub(in crate::keyset) fn close(&mut self, id: &ProposalId, ending: Ending, at: WallTime) {
        let Some(index) = self.open.iter().position(|proposal| proposal.id == *id) else { return };
        let proposal = self.open.remove(index);
        self.closed.push_back(Closed { proposal, ending, at });
        if self.closed.len() > Self::MAX_CLOSED {
            self.closed.pop_front();
        }
    }

    /// The same document after its store was put back from a copy: what was rejected or carried out
    /// since is unknown.
    #[must_use]
    pub fn restored(mut self) -> Self {
        for id in self.open.iter().map(|proposal| proposal.id.clone()).collect::<Vec<_>>() {
            let at = self.lapse.wall();
            let why = "the store was put back from a copy".to_owned();
            self.close(&id, Ending::Void { why }, at);
        }
        self.version += 1;
        self
    }
}

/// Names a proposal: 128 random bits, 32 digits of lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProposalId(String);

/// What is no name of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a proposal's id has 32 digits of lower-case hex")]
pub struct NotAnId;

impl ProposalId {
    const DIGITS: usize = 32;

    /// A fresh one.
    #[must_use]
    pub fn random() -> Self {
        let mut bits = [0; Self::DIGITS / 2];
        aws_lc_rs::rand::fill(&mut bits).expect("the system's random generator works");
        Self(hex::encode(bits))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProposalId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let fits = text.len() == Self::DIGITS && text.bytes().all(digit);
        if fits { Ok(Self(text)) } else { Err(NotAnId) }
    }
}

impl From<ProposalId> for String {
    fn from(id: ProposalId) -> Self {
        id.0
    }
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
