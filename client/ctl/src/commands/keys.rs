use std::{io::Write, process::ExitCode};

use mintwarden_client::{
    Custodian,
    api::{ActResponse, Keyset, Proposal, ProposalState, RevokeFallback},
};

use super::attest;
use crate::{
    args::{Attestation, KeysCommand, Which},
    exit::{Failure, PROPOSED},
    files,
    output::{self, Format},
};

/// As many characters of a kid name a key: nobody means another one by them.
const SHORTEST: usize = 8;

/// Characters of a whole kid.
const WHOLE: usize = 43;

pub(super) async fn run(
    command: KeysCommand,
    custodian: &Custodian,
    out: &mut impl Write,
    format: Format,
) -> Result<ExitCode, Failure> {
    let done = match command {
        KeysCommand::List { issuer } => {
            let keysets = custodian.list_keys(issuer.as_deref()).await?;
            output::keysets(out, format, keysets)?;
            return Ok(ExitCode::SUCCESS);
        }
        KeysCommand::Show(which) => {
            let (issuer, kid) = find(custodian, which).await?;
            output::key(out, format, custodian.key(&issuer, &kid).await?)?;
            return Ok(ExitCode::SUCCESS);
        }
        KeysCommand::Attest(Attestation { which, challenge, output }) => {
            let challenge = attest::challenge_of(&challenge)?;
            let (issuer, kid) = find(custodian, which).await?;
            let answer = custodian.attest(&issuer, &kid, &challenge.to_json()).await?;
            files::write(&output, &answer.evidence)?;
            return Ok(ExitCode::SUCCESS);
        }
        KeysCommand::Rotate { issuer, device, why } => {
            custodian.rotate(&issuer, device.as_deref(), &why.reason).await?
        }
        KeysCommand::Activate { which, immature, why } => {
            let (issuer, kid) = find(custodian, which).await?;
            match immature {
                true => custodian.danger_activate_immature(&issuer, &kid, &why.reason).await?,
                false => custodian.activate(&issuer, &kid, &why.reason).await?,
            }
        }
        KeysCommand::Suspend { which, why } => {
            let (issuer, kid) = find(custodian, which).await?;
            custodian.suspend(&issuer, &kid, &why.reason).await?
        }
        KeysCommand::Resume { which, why } => {
            let (issuer, kid) = find(custodian, which).await?;
            custodian.resume(&issuer, &kid, &why.reason).await?
        }
        KeysCommand::Revoke { which, activate_immature, wait, why } => {
            let (issuer, kid) = find(custodian, which).await?;
            let fallback = match (activate_immature, wait) {
                (true, _) => RevokeFallback::ActivateImmature,
                (_, true) => RevokeFallback::Wait,
                _ => RevokeFallback::Unspecified,
            };
            custodian.revoke(&issuer, &kid, fallback, &why.reason).await?
        }
        KeysCommand::Destroy { which, why } => {
            let (issuer, kid) = find(custodian, which).await?;
            custodian.destroy(&issuer, &kid, &why.reason).await?
        }
    };
    act(out, format, done)
}

/// Prints what an act has come to: done, or proposed.
pub(super) fn act(
    out: &mut impl Write,
    format: Format,
    response: ActResponse,
) -> Result<ExitCode, Failure> {
    let state = response.proposal.as_ref().map(Proposal::state);
    output::acted(out, format, response)?;
    out.flush()?;
    match state {
        Some(ProposalState::Open) => Ok(ExitCode::from(PROPOSED)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The issuer and the whole kid of the key that is meant.
async fn find(
    custodian: &Custodian,
    Which { kid, issuer }: Which,
) -> Result<(String, String), Failure> {
    match issuer {
        Some(issuer) if kid.len() == WHOLE => Ok((issuer, kid)),
        issuer => meant(&kid, &custodian.list_keys(issuer.as_deref()).await?),
    }
}

fn meant(kid: &str, keysets: &[Keyset]) -> Result<(String, String), Failure> {
    if kid.len() < SHORTEST {
        return Err(Failure::ShortKid { kid: kid.to_owned(), least: SHORTEST });
    }
    let keys = keysets.iter().flat_map(|keyset| keyset.keys.iter().map(move |key| (keyset, key)));
    let mut found = keys.filter(|(_, key)| key.kid.starts_with(kid));
    match (found.next(), found.next()) {
        (Some((keyset, key)), None) => Ok((keyset.issuer.clone(), key.kid.clone())),
        (Some(_), Some(_)) => Err(Failure::AmbiguousKid { kid: kid.to_owned() }),
        (None, _) => Err(Failure::NoSuchKey { kid: kid.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use mintwarden_client::api::Key;

    use super::*;

    fn keysets(kids: &[(&str, &str)]) -> Vec<Keyset> {
        let keyset = |(issuer, kid): &(&str, &str)| Keyset {
            issuer: (*issuer).into(),
            keys: vec![Key { kid: (*kid).into(), ..Key::default() }],
            ..Keyset::default()
        };
        kids.iter().map(keyset).collect()
    }

    #[test]
    fn a_key_is_named_by_as_much_of_its_kid_as_tells_it_from_all_others() {
        let keysets = keysets(&[("a", "abcdefgh-1"), ("b", "abcdefgh-2"), ("b", "ABCDEFGH-1")]);
        let found = meant("abcdefgh-2", &keysets).unwrap();
        assert_eq!(found, ("b".into(), "abcdefgh-2".into()));
        assert_eq!(meant("ABCDEFGH", &keysets).unwrap().1, "ABCDEFGH-1");
        assert!(matches!(meant("abcdefgh", &keysets), Err(Failure::AmbiguousKid { .. })));
        assert!(matches!(meant("abcdefgh-3", &keysets), Err(Failure::NoSuchKey { .. })));
        assert!(matches!(meant("ABCDEFG", &keysets), Err(Failure::ShortKid { .. })));
    }

    #[test]
    fn a_key_that_is_still_made_is_never_meant() {
        assert!(matches!(
            meant("abcdefgh", &keysets(&[("a", "")])),
            Err(Failure::NoSuchKey { .. })
        ));
    }
}
