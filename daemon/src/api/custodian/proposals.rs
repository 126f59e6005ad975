//! What proposals look like from outside.

use mintwarden_proto::v1::{self, ProposalState, RevokeFallback};

use crate::{
    api::status::timestamp,
    keyset::{
        act::{CustodianAct, Fallback},
        live::LiveIssuer,
        proposal::{Closed, Ending, Proposal, ProposalId, Quorum},
    },
    record::By,
};

/// The proposals of an issuer, oldest first: the open ones, after those that ended where these are asked
/// for too.
pub(super) fn list(live: &LiveIssuer, closed: bool) -> Vec<v1::Proposal> {
    let proposals = live.proposals();
    let name = live.config.name().as_str();
    let ended = proposals.closed.iter().filter(|_| closed);
    let ended = ended.map(|of| ended_proposal(name, of, live.quorum()));
    ended.chain(proposals.open.iter().map(|of| proposal(name, of, live.quorum()))).collect()
}

/// One of them.
pub(super) fn one(live: &LiveIssuer, id: &ProposalId) -> Option<v1::Proposal> {
    let (proposals, name) = (live.proposals(), live.config.name().as_str());
    let open = proposals.open(id).map(|of| proposal(name, of, live.quorum()));
    open.or_else(|| proposals.closed(id).map(|of| ended_proposal(name, of, live.quorum())))
}

fn proposal(issuer: &str, proposal: &Proposal, quorum: &Quorum) -> v1::Proposal {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let approvals = proposal.approvals.iter().map(|approval| v1::Approval {
        by: Some(person(&approval.by)),
        at: timestamp(approval.at.seconds()),
        reason: approval.reason.clone(),
        counts: quorum.counts(approval).is_some(),
    });
    v1::Proposal {
        id: proposal.id.to_string(),
        issuer: issuer.to_owned(),
        act: Some(act(&proposal.act)),
        reason: proposal.reason.clone(),
        state: ProposalState::Open.into(),
        proposed_by: Some(person(&proposal.by)),
        proposed_at: timestamp(proposal.at.seconds()),
        expires_at: timestamp(proposal.expires.seconds()),
        approvals: approvals.collect(),
        needed: count(quorum.needed(&proposal.act)),
        counted: count(quorum.persons(proposal).len()),
        ..v1::Proposal::default()
    }
}

fn ended_proposal(issuer: &str, closed: &Closed, quorum: &Quorum) -> v1::Proposal {
    let state = match closed.ending {
        Ending::CarriedOut {} => ProposalState::CarriedOut,
        Ending::Rejected { .. } => ProposalState::Rejected,
        Ending::Expired {} => ProposalState::Expired,
        Ending::Void { .. } => ProposalState::Void,
        Ending::Refused { .. } => ProposalState::Refused,
    };
    let rejected_by = match &closed.ending {
        Ending::Rejected { by, .. } => Some(person(by)),
        _ => None,
    };
    v1::Proposal {
        state: state.into(),
        closed_at: timestamp(closed.at.seconds()),
        ending: closed.ending.to_string(),
        rejected_by,
        ..proposal(issuer, &closed.proposal, quorum)
    }
}

/// A person as kept.
pub(super) fn person(by: &By) -> v1::Person {
    v1::Person { name: by.person.clone(), identity: by.identity.clone() }
}

/// An act as kept.
pub(super) fn act(act: &CustodianAct) -> v1::Act {
    let mut shown = v1::Act {
        name: act.name().to_owned(),
        kid: act.kid().unwrap_or_default().to_owned(),
        ..v1::Act::default()
    };
    match act {
        CustodianAct::Rotate { device } => shown.device = device.clone().unwrap_or_default(),
        CustodianAct::Recover { danger_immature }
        | CustodianAct::Activate { danger_immature, .. } => {
            shown.danger_immature = *danger_immature;
        }
        CustodianAct::Revoke { fallback, .. } => {
            shown.danger_immature = *fallback == Some(Fallback::DangerImmature);
            shown.fallback = match fallback {
                None => RevokeFallback::Unspecified,
                Some(Fallback::DangerImmature) => RevokeFallback::ActivateImmature,
                Some(Fallback::Wait) => RevokeFallback::Wait,
            }
            .into();
        }
        CustodianAct::Init
        | CustodianAct::Suspend { .. }
        | CustodianAct::Resume { .. }
        | CustodianAct::Destroy { .. } => {}
    }
    shown
}
