//! Subject and actor tokens, verified.

use mintwarden_client::verify::{VerifiedToken, Verifier, VerifyError};

use crate::error::Refusal;

/// Which tokens are taken for which, and by whose keys they are checked: the IdP's and the own ones never
/// meet.
pub(crate) struct Subjects {
    pub(crate) access_tokens: Verifier,
    pub(crate) txn_tokens: Verifier,
}

impl Subjects {
    /// An access token (RFC 9068) of the IdP. `parameter` is what it came in.
    pub(crate) fn access_token(
        &self,
        parameter: &'static str,
        token: &str,
    ) -> Result<VerifiedToken, Refusal> {
        verified(parameter, self.access_tokens.verify(token))
    }

    /// An own Txn-Token, which is not expired.
    pub(crate) fn txn_token(&self, token: &str) -> Result<VerifiedToken, Refusal> {
        verified("subject_token", self.txn_tokens.verify(token))
    }
}

fn verified(
    parameter: &'static str,
    outcome: Result<VerifiedToken, VerifyError>,
) -> Result<VerifiedToken, Refusal> {
    outcome.map_err(|error| {
        if error.is_ours() {
            tracing::error!(%error, parameter, "a token cannot be verified");
            Refusal::unavailable(error.reason(), None)
        } else {
            Refusal::request(error.reason(), format!("{parameter}: {error}"))
        }
    })
}
