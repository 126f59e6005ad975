//! What custodians say: an act, or a word about a proposal. Decided and stored, with its entry in the
//! record, in one transaction.

use super::{Keeper, KeyOps, OrderError, desk::Draft};
use crate::{
    access::Custodian,
    clock::Clock,
    keyset::{
        act::{CustodianAct, Refusal},
        proposal::{Approved, Ending, Present, Proposal, ProposalId, ProposalRefusal, Proposals},
    },
    record::{By, Event, Refused},
    store::{Store, StoreError},
};

/// What a custodian asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To have an act done, or proposed where more persons have to agree.
    Act {
        /// Which.
        act: CustodianAct,
        /// Why.
        reason: String,
    },
    /// To approve a proposal.
    Approve {
        /// Which.
        id: ProposalId,
        /// Why.
        reason: String,
    },
    /// To reject a proposal.
    Reject {
        /// Which.
        id: ProposalId,
        /// Why.
        reason: String,
    },
}

impl Request {
    /// The word for it, e.g. `revoke` or `approve`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Act { act, .. } => act.name(),
            Self::Approve { .. } => "approve",
            Self::Reject { .. } => "reject",
        }
    }

    /// The key or the proposal that it names.
    #[must_use]
    pub fn about(&self) -> Option<&str> {
        match self {
            Self::Act { act, .. } => act.kid(),
            Self::Approve { id, .. } | Self::Reject { id, .. } => Some(id.as_str()),
        }
    }

    /// Why, as the custodian says.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Act { reason, .. }
            | Self::Approve { reason, .. }
            | Self::Reject { reason, .. } => reason,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An act is stored; what it leaves to do is the plan's.
    Done {
        /// Which.
        act: CustodianAct,
        /// The proposal, where it was one.
        proposal: Option<ProposalId>,
    },
    /// A proposal is stored, or one more approval of it: more persons have to agree.
    Waits(ProposalId),
    /// A proposal was rejected.
    Rejected(ProposalId),
}

impl<S: Store, C: Clock> Keeper<S, C> {
    /// Does what a custodian asks for, as far as those who have to agree have agreed.
    ///
    /// # Errors
    /// [`OrderError`]; no key has changed, unless the store failed. The record has the refusal.
    pub async fn hear(
        &mut self,
        by: &Custodian,
        request: &Request,
        ops: &impl KeyOps,
    ) -> Result<Heard, OrderError> {
        let heard = self.heard(by, request, ops).await;
        let refusal = match &heard {
            Err(OrderError::Refused(refusal)) => refusal.reason(),
            Err(OrderError::Proposal(refusal)) => refusal.reason(),
            Err(OrderError::Store(error)) => {
                self.store_failed(error).await;
                return heard;
            }
            Ok(_) | Err(OrderError::Device(_)) => return heard,
        };
        let (asked, about, reason) = (request.name(), request.about(), request.reason());
        let refused = Refused { asked, about, reason, refusal };
        self.note_refusal(by, refused).await;
        heard
    }

    /// A refusal that cannot be written is still one.
    async fn note_refusal(&mut self, by: &Custodian, refused: Refused<'_>) {
        let reading = self.clock.reading();
        let entry = self.desk.book.refusal(reading, &self.issuer, by, refused);
        let Some(entry) = entry else { return };
        if let Err(error) = self.append(&[entry]).await {
            tracing::error!(issuer = %self.issuer, %error, "a refusal is missing in the record");
        }
    }

    async fn heard(
        &mut self,
        by: &Custodian,
        request: &Request,
        ops: &impl KeyOps,
    ) -> Result<Heard, OrderError> {
        if !self.desk.quorum.knows(by) {
            return Err(ProposalRefusal::NotACustodian.into());
        }
        let brake = matches!(request, Request::Act { act: CustodianAct::Suspend { .. }, .. });
        // Nobody suspends often: a suspended key has to be resumed first.
        if !brake && !self.desk.book.has_room(self.clock.reading(), by) {
            return Err(ProposalRefusal::TooOften.into());
        }
        self.advance();
        // What is over is over before anybody has a word about it.
        self.settle().await?;
        match request {
            Request::Act { act, reason } if self.desk.quorum.needed(act) <= 1 => {
                let next = self.decide(act, reason, ops).await?;
                let acted = acted(vec![By::from(by)], act, reason, None);
                self.carry_out(Draft { events: vec![acted], ..Draft::from(next) }).await?;
                Ok(Heard::Done { act: act.clone(), proposal: None })
            }
            Request::Act { act, reason } => self.propose(by, act, reason, ops).await,
            Request::Approve { id, reason } => self.approve(by, id, reason, ops).await,
            Request::Reject { id, reason } => {
                let draft = self
                    .on_proposals(|proposals, present| proposals.reject(id, by, reason, present))?;
                self.write(draft).await?;
                Ok(Heard::Rejected(id.clone()))
            }
        }
    }

    async fn propose(
        &mut self,
        by: &Custodian,
        act: &CustodianAct,
        reason: &str,
        ops: &impl KeyOps,
    ) -> Result<Heard, OrderError> {
        let id = ProposalId::random();
        let propose = |proposals: &mut Proposals, present: Present<'_>| {
            proposals.propose(id.clone(), by, act, reason, present)
        };
        self.on_proposals(propose)?;
        // What would be refused anyway bothers nobody else.
        self.decide(act, reason, ops).await?;
        let draft = self.on_proposals(propose)?;
        self.write(draft).await?;
        Ok(Heard::Waits(id))
    }

    async fn approve(
        &mut self,
        by: &Custodian,
        id: &ProposalId,
        reason: &str,
        ops: &impl KeyOps,
    ) -> Result<Heard, OrderError> {
        let (draft, approved) = self.approval(by, id, reason)?;
        let Approved::Enough(proposal) = approved else {
            self.write(draft).await?;
            return Ok(Heard::Waits(id.clone()));
        };
        let decided = self.decide(&proposal.act, &proposal.reason, ops).await;
        // Devices may have been asked: what went over meanwhile is over.
        self.settle().await?;
        let (mut draft, _) = self.approval(by, id, reason)?;
        match decided {
            Ok(next) => {
                self.end(&mut draft, &proposal, Ending::CarriedOut {});
                let persons = proposal
                    .approvals
                    .iter()
                    .filter(|approval| self.desk.quorum.counts(approval).is_some());
                let persons = persons.map(|approval| approval.by.clone()).collect();
                let Proposal { id, act, reason, .. } = *proposal;
                draft.events.push(acted(persons, &act, &reason, Some(id.clone())));
                draft.keyset = Some(next);
                self.carry_out(draft).await?;
                Ok(Heard::Done { act, proposal: Some(id) })
            }
            Err(OrderError::Refused(refusal)) => {
                let ending = ending(&refusal);
                self.end(&mut draft, &proposal, ending.clone());
                let Proposal { id, act, .. } = *proposal;
                draft.events.push(Event::Closed { proposal: id, act, ending });
                self.write(draft).await?;
                Err(refusal.into())
            }
            Err(error) => Err(error),
        }
    }

    /// One more approval, and what it comes to.
    fn approval(
        &self,
        by: &Custodian,
        id: &ProposalId,
        reason: &str,
    ) -> Result<(Draft, Approved), ProposalRefusal> {
        let mut outcome = Approved::Waits;
        let draft = self.on_proposals(|proposals, present| {
            let (event, approved) = proposals.approve(id, by, reason, present)?;
            outcome = approved;
            Ok(event)
        })?;
        Ok((draft, outcome))
    }

    /// A change of the proposals, and what happened by it.
    fn on_proposals(
        &self,
        change: impl FnOnce(&mut Proposals, Present<'_>) -> Result<Event, ProposalRefusal>,
    ) -> Result<Draft, ProposalRefusal> {
        let mut proposals = self.desk.proposals.clone();
        let clocks = self.clocks();
        let present = clocks.present(self.keyset.as_ref(), &self.policy, &self.desk.quorum);
        let event = change(&mut proposals, present)?;
        Ok(Draft { keyset: None, proposals: Some(proposals), events: vec![event] })
    }

    fn end(&self, draft: &mut Draft, proposal: &Proposal, ending: Ending) {
        if let Some(proposals) = &mut draft.proposals {
            proposals.close(&proposal.id, ending, self.clock.reading().wall);
        }
    }

    /// Writes an act: a person has acted, so that everything is tried at once.
    pub(super) async fn carry_out(&mut self, draft: Draft) -> Result<(), StoreError> {
        self.troubles.forget();
        self.write(draft).await
    }
}

fn acted(by: Vec<By>, act: &CustodianAct, reason: &str, proposal: Option<ProposalId>) -> Event {
    Event::Acted { by, act: act.clone(), reason: reason.to_owned(), proposal }
}

fn ending(refusal: &Refusal) -> Ending {
    Ending::Refused { refusal: refusal.reason().to_owned(), why: refusal.to_string() }
}

#[cfg(test)]
mod tests;
