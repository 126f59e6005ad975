use std::{io::Write, process::ExitCode};

use mintwarden_client::{Custodian, api::Proposal};

use super::keys;
use crate::{
    args::{ActsCommand, ProposalsCommand, Proposed},
    exit::Failure,
    output::{self, Format},
};

/// As many characters of an id name a proposal.
const SHORTEST: usize = 8;

/// Characters of a whole id.
const WHOLE: usize = 32;

pub(super) async fn run(
    command: ProposalsCommand,
    custodian: &Custodian,
    out: &mut impl Write,
    format: Format,
) -> Result<ExitCode, Failure> {
    match command {
        ProposalsCommand::List { issuer, all } => {
            let proposals = custodian.proposals(issuer.as_deref(), all).await?;
            output::proposals(out, format, proposals)?;
        }
        ProposalsCommand::Show(which) => {
            let (issuer, id) = find(custodian, which).await?;
            output::proposal(out, format, custodian.proposal(&issuer, &id).await?)?;
        }
        ProposalsCommand::Approve { which, why } => {
            let (issuer, id) = find(custodian, which).await?;
            let done = custodian.approve(&issuer, &id, &why.reason).await?;
            return keys::act(out, format, done);
        }
        ProposalsCommand::Reject { which, why } => {
            let (issuer, id) = find(custodian, which).await?;
            let done = custodian.reject(&issuer, &id, &why.reason).await?;
            output::proposal(out, format, done.proposal.unwrap_or_default())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn acts(
    ActsCommand::List { issuer, before, limit }: ActsCommand,
    custodian: &Custodian,
    out: &mut impl Write,
    format: Format,
) -> Result<(), Failure> {
    let acts = custodian.acts(issuer.as_deref(), before.unwrap_or(0), limit).await?;
    Ok(output::acts(out, format, acts)?)
}

/// The issuer and the whole id of the proposal that is meant.
async fn find(
    custodian: &Custodian,
    Proposed { id, issuer }: Proposed,
) -> Result<(String, String), Failure> {
    match issuer {
        Some(issuer) if id.len() == WHOLE => Ok((issuer, id)),
        issuer => meant(&id, &custodian.proposals(issuer.as_deref(), true).await?),
    }
}

fn meant(id: &str, proposals: &[Proposal]) -> Result<(String, String), Failure> {
    let unknown = |problem| Failure::Proposal { id: id.to_owned(), problem };
    if id.len() < SHORTEST {
        return Err(unknown("is too short for a proposal: give 8 characters of its id, or more"));
    }
    let mut found = proposals.iter().filter(|proposal| proposal.id.starts_with(id));
    match (found.next(), found.next()) {
        (Some(proposal), None) => Ok((proposal.issuer.clone(), proposal.id.clone())),
        (Some(_), Some(_)) => Err(unknown("is the beginning of several ids; give more of it")),
        (None, _) => Err(unknown("names no proposal; see: mintwardenctl proposals list --all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_named_by_as_much_of_its_id_as_tells_it_from_all_others() {
        let proposal = |issuer: &str, id: &str| Proposal {
            issuer: issuer.into(),
            id: id.into(),
            ..Proposal::default()
        };
        let proposals = [proposal("a", "0123456789"), proposal("b", "0123456780")];
        assert_eq!(meant("0123456780", &proposals).unwrap(), ("b".into(), "0123456780".into()));
        for bad in ["0123456", "01234567", "fedcba98"] {
            assert!(matches!(meant(bad, &proposals), Err(Failure::Proposal { .. })), "{bad}");
        }
    }
}
