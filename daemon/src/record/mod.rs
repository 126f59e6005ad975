//! The record of acts: who did what to which key, when and why, and what came of it. Kept in the store,
//! written in the transaction of the change that it tells of, and only ever added to.
//!
//! Who has the store's file can write another record: the audit log with its signed checkpoints will
//! take these entries over.

mod book;
mod hourly;

use mintwarden_worker::IssuerName;
use serde::{Deserialize, Serialize};

pub use book::{Book, Refused};

use crate::{
    access::Custodian,
    clock::WallTime,
    keyset::{
        act::CustodianAct,
        proposal::{Ending, ProposalId},
    },
};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When, by the wall clock.
    pub at: WallTime,
    /// Whose keys it is about; absent where it is about the appliance.
    pub issuer: Option<IssuerName>,
    /// SHA-256 of the configuration in force, hex.
    pub config: String,
    /// What happened.
    pub event: Event,
}

/// An entry with its number: 1 for the first, one more for each, none left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its number.
    pub sequence: u64,
    /// The entry.
    pub entry: Entry,
}

/// A custodian, as kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// The person's name, as configured then.
    pub person: String,
    /// The identity by which the person called.
    pub identity: String,
}

impl From<&Custodian> for By {
    fn from(custodian: &Custodian) -> Self {
        Self { person: custodian.person.to_string(), identity: custodian.identity.to_string() }
    }
}

/// What happened. `reason` is what the custodian gave as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The server started, by the configuration of this entry's digest.
    Started {
        /// The server's version.
        version: String,
    },
    /// The store was put back from a copy: what happened since that copy was made is not in the record.
    Restored,
    /// An act was proposed: more persons have to agree.
    Proposed {
        /// Its name from now on.
        proposal: ProposalId,
        /// By whom.
        by: By,
        /// The act.
        act: CustodianAct,
        /// Why.
        reason: String,
    },
    /// A proposal was approved.
    Approved {
        /// Which.
        proposal: ProposalId,
        /// By whom.
        by: By,
        /// What was proposed.
        act: CustodianAct,
        /// Why.
        reason: String,
    },
    /// A proposal was rejected, which ends it.
    Rejected {
        /// Which.
        proposal: ProposalId,
        /// By whom.
        by: By,
        /// What was proposed.
        act: CustodianAct,
        /// Why.
        reason: String,
    },
    /// A proposal ended without a person's word.
    Closed {
        /// Which.
        proposal: ProposalId,
        /// What was proposed.
        act: CustodianAct,
        /// How it ended.
        ending: Ending,
    },
    /// An act was carried out: the keyset is changed.
    Acted {
        /// By whom: all who agreed, the proposer first.
        by: Vec<By>,
        /// The act.
        act: CustodianAct,
        /// Why, in the proposer's words.
        reason: String,
        /// The proposal, where more than one had to agree.
        proposal: Option<ProposalId>,
    },
    /// A custodian was refused.
    Refused {
        /// Who.
        by: By,
        /// What was asked for, e.g. `revoke` or `approve`.
        asked: String,
        /// The key or proposal that was named, where there was one.
        about: Option<String>,
        /// Why the custodian asked.
        reason: String,
        /// The stable reason of the refusal.
        refusal: String,
        /// Refusals of this person before, of the same hour, that were not kept (I9).
        left_out: u64,
    },
    /// A parked device was told to try again.
    DeviceResumed {
        /// By whom.
        by: By,
        /// Which.
        device: String,
        /// Why.
        reason: String,
    },
    /// The plan changed the keyset by itself.
    Stepped {
        /// What it did, e.g. `rotate`.
        step: String,
        /// The keys, by `kid`, or by handle where they have none yet.
        keys: Vec<String>,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// The stable word, e.g. `refused`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Restored => "restored",
            Self::Proposed { .. } => "proposed",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::Closed { .. } => "closed",
            Self::Acted { .. } => "acted",
            Self::Refused { .. } => "refused",
            Self::DeviceResumed { .. } => "device-resumed",
            Self::Stepped { .. } => "stepped",
        }
    }
}
