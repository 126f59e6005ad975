//! The course of a proposal: proposed, approved, rejected, over. Each function changes the document in
//! memory and says what happened; nothing counts before it is stored.

use super::{Approval, Ending, Facts, Proposal, ProposalId, ProposalRefusal, Proposals, Quorum};
use crate::{
    access::Custodian,
    clock::{Lapse, WallTime},
    keyset::{Keyset, act::CustodianAct, change::Context},
    record::{By, Event},
};

/// The present, as proposals see it.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// The keyset.
    pub keyset: Option<&'a Keyset>,
    /// Time and policy for it.
    pub cx: Context<'a>,
    /// The wall clock.
    pub wall: WallTime,
    /// What has passed.
    pub lapse: &'a Lapse,
    /// Who has to agree.
    pub quorum: &'a Quorum,
}

/// What an approval comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approved {
    /// More persons have to agree.
    Waits,
    /// Enough have: the act is to be done, and the proposal closed with it, in one transaction.
    Enough(Box<Proposal>),
}

impl Proposals {
    /// Whether [`settle`](Self::settle) would change anything.
    #[must_use]
    pub fn is_settled(&self, present: Present<'_>) -> bool {
        self.open.iter().all(|proposal| over(proposal, present).is_none())
    }

    /// Ends what is over: by time, or because what it was about has changed.
    pub fn settle(&mut self, present: Present<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        for proposal in self.open.clone() {
            let Some(ending) = over(&proposal, present) else { continue };
            self.close(&proposal.id, ending.clone(), present.wall);
            let Proposal { id, act, .. } = proposal;
            events.push(Event::Closed { proposal: id, act, ending });
        }
        events
    }

    /// Proposes an act, which is the proposer's approval.
    ///
    /// # Errors
    /// [`ProposalRefusal`].
    pub fn propose(
        &mut self,
        id: ProposalId,
        custodian: &Custodian,
        act: &CustodianAct,
        reason: &str,
        present: Present<'_>,
    ) -> Result<Event, ProposalRefusal> {
        if !present.quorum.knows(custodian) {
            return Err(ProposalRefusal::NotACustodian);
        }
        if let Some(same) = self.open.iter().find(|proposal| proposal.act == *act) {
            return Err(ProposalRefusal::AlreadyProposed(same.id.clone()));
        }
        let by = By::from(custodian);
        if self.open.len() >= Self::MAX_OPEN {
            let (whose, bound) = ("the issuer".to_owned(), Self::MAX_OPEN);
            return Err(ProposalRefusal::TooMany { whose, bound });
        }
        let of_person = self.open.iter().filter(|proposal| proposal.by.person == by.person);
        if of_person.count() >= Self::MAX_OF_PERSON {
            let (whose, bound) = (by.person, Self::MAX_OF_PERSON);
            return Err(ProposalRefusal::TooMany { whose, bound });
        }
        let (at, wait) = (present.wall, present.quorum.approvals.expire);
        self.open.push(Proposal {
            id: id.clone(),
            act: act.clone(),
            reason: reason.to_owned(),
            by: by.clone(),
            at,
            expires: at.plus(wait),
            until: present.lapse.elapsed.saturating_add(wait),
            facts: Facts::of(present.keyset, act, present.cx),
            approvals: vec![Approval { by: by.clone(), at, reason: reason.to_owned() }],
        });
        Ok(Event::Proposed { proposal: id, by, act: act.clone(), reason: reason.to_owned() })
    }

    /// Approves a proposal. What is over has to be settled before.
    ///
    /// # Errors
    /// [`ProposalRefusal`].
    pub fn approve(
        &mut self,
        id: &ProposalId,
        custodian: &Custodian,
        reason: &str,
        present: Present<'_>,
    ) -> Result<(Event, Approved), ProposalRefusal> {
        let quorum = present.quorum;
        let proposal = self.decidable(id, custodian, present)?;
        if quorum.persons(proposal).contains(&custodian.person) {
            return Err(ProposalRefusal::AlreadyApproved(custodian.person.to_string()));
        }
        let by = By::from(custodian);
        // One that does not count any more is replaced: the person has another identity by now.
        proposal.approvals.retain(|approval| approval.by.person != by.person);
        let (at, said) = (present.wall, reason.to_owned());
        proposal.approvals.push(Approval { by: by.clone(), at, reason: said.clone() });
        let enough = quorum.persons(proposal).len() >= quorum.needed(&proposal.act);
        let (act, reason) = (proposal.act.clone(), said);
        let event = Event::Approved { proposal: id.clone(), by, act, reason };
        Ok((
            event,
            if enough { Approved::Enough(Box::new(proposal.clone())) } else { Approved::Waits },
        ))
    }

    /// Rejects a proposal, which ends it. Its proposer withdraws it so.
    ///
    /// # Errors
    /// [`ProposalRefusal`].
    pub fn reject(
        &mut self,
        id: &ProposalId,
        custodian: &Custodian,
        reason: &str,
        present: Present<'_>,
    ) -> Result<Event, ProposalRefusal> {
        let act = self.decidable(id, custodian, present)?.act.clone();
        let (by, reason) = (By::from(custodian), reason.to_owned());
        let ending = Ending::Rejected { by: by.clone(), reason: reason.clone() };
        self.close(id, ending, present.wall);
        Ok(Event::Rejected { proposal: id.clone(), by, act, reason })
    }

    fn decidable(
        &mut self,
        id: &ProposalId,
        custodian: &Custodian,
        present: Present<'_>,
    ) -> Result<&mut Proposal, ProposalRefusal> {
        if !present.quorum.knows(custodian) {
            return Err(ProposalRefusal::NotACustodian);
        }
        let Some(index) = self.open.iter().position(|proposal| proposal.id == *id) else {
            return Err(ProposalRefusal::not_open(self, id));
        };
        Ok(&mut self.open[index])
    }
}

/// How a proposal has ended by now, where nobody's word ended it.
fn over(proposal: &Proposal, present: Present<'_>) -> Option<Ending> {
    if present.wall >= proposal.expires || present.lapse.elapsed >= proposal.until {
        return Some(Ending::Expired {});
    }
    let now = Facts::of(present.keyset, &proposal.act, present.cx);
    proposal.facts.changed(&now).map(|why| Ending::Void { why })
}
