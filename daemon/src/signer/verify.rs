//! Nothing is released that does not verify (I2): what a worker answered is held against what was asked.

use bytes::Bytes;
use mintwarden_worker::{
    claims::Rule,
    jwk::PublicJwk,
    jws::{self, ProtectedHeader},
    wire::{Refusal, SignOutcome, Signature, Signed},
};

use super::{Outcome, SignError};
use crate::keyset::MadeKey;

/// Bound on the name of a claim in a refusal, bytes; the sentence around it may be as long again.
const MAX_CLAIM: usize = 1024;

/// Above this many signatures, verification leaves the async threads.
const VERIFY_INLINE: usize = 8;

/// A batch in which every signature verified under the published key (I2).
pub(super) struct Verified {
    pub(super) outcomes: Vec<Outcome>,
}

impl Verified {
    /// How many signatures there were to verify.
    pub(super) fn signatures(&self) -> usize {
        let outcomes = self.outcomes.iter();
        outcomes.filter(|outcome| matches!(outcome, Outcome::Signature(_))).count()
    }
}

/// Verifies a batch; a large one beside the async threads.
///
/// # Errors
/// [`SignError::Untrue`], or [`SignError::Unavailable`] where the worker says that the device failed.
pub(super) async fn verify(
    signed: Signed,
    made: &MadeKey,
    claims: &[Bytes],
) -> Result<Verified, SignError> {
    if claims.len() <= VERIFY_INLINE {
        return verify_blocking(signed, made, claims);
    }
    let (made, claims) = (made.clone(), claims.to_vec());
    tokio::task::spawn_blocking(move || verify_blocking(signed, &made, &claims))
        .await
        .unwrap_or(Err(SignError::Untrue("verification did not end")))
}

/// Believes nothing: counts, key, header and each signature are checked against what was asked.
fn verify_blocking(
    signed: Signed,
    made: &MadeKey,
    claims: &[Bytes],
) -> Result<Verified, SignError> {
    let header = ProtectedHeader::new(made.jwk.algorithm(), &made.kid);
    if signed.kid != made.kid.as_str() || signed.protected_header != header.encoded() {
        return Err(SignError::Untrue("another key signed"));
    }
    if signed.items.len() != claims.len() {
        return Err(SignError::Untrue("another number of items"));
    }
    let verify_one =
        |(item, payload): (mintwarden_worker::wire::SignItem, &Bytes)| match item.outcome {
            Some(SignOutcome::Signature(signature)) => {
                verify_signature(&made.jwk, header.encoded(), payload, &signature)?;
                Ok(Outcome::Signature(signature))
            }
            Some(SignOutcome::Refusal(refusal)) => known(refusal).map(Outcome::Refused),
            Some(SignOutcome::Expired(_)) => Ok(Outcome::Expired),
            Some(SignOutcome::Failed(failed)) => Err(SignError::Unavailable(failed.into())),
            None => Err(SignError::Untrue("an item without outcome")),
        };
    let outcomes =
        signed.items.into_iter().zip(claims).map(verify_one).collect::<Result<_, _>>()?;
    Ok(Verified { outcomes })
}

/// A refusal by a rule of the profile: callers, logs and metrics see no words of a worker's own.
fn known(refusal: Refusal) -> Result<Refusal, SignError> {
    let rule = Rule::from_word(&refusal.rule);
    let bounded = refusal.claim.len() <= MAX_CLAIM && refusal.message.len() <= 2 * MAX_CLAIM;
    if bounded && rule.is_some_and(|rule| rule.reason() == refusal.reason) {
        Ok(refusal)
    } else {
        Err(SignError::Untrue("a refusal by no rule"))
    }
}

fn verify_signature(
    jwk: &PublicJwk,
    header: &str,
    payload: &[u8],
    signature: &Signature,
) -> Result<(), SignError> {
    if jwk.verifies(&jws::signing_input(header, payload), &signature.signature) {
        Ok(())
    } else {
        Err(SignError::Untrue("a signature does not verify under the published key"))
    }
}
