//! Evidence of where a key lives.

use mintwarden_attestation::Challenge;
use mintwarden_proto::v1::{AttestRequest, AttestResponse};

use super::{asked, refused};
use crate::{
    api::{App, errors::ApiError},
    config::Role,
    identity::Caller,
    keyset::act::Refusal,
};

/// Asks the key's device.
///
/// # Errors
/// [`ApiError`].
pub(super) async fn attest(
    app: &App,
    caller: &Caller,
    request: AttestRequest,
) -> Result<AttestResponse, ApiError> {
    let AttestRequest { issuer, kid, challenge } = request;
    let issuer = app.access.authorise(caller, &[Role::Auditor, Role::Custodian], &issuer)?;
    let kid = asked::kid(kid)?;
    let challenge = Challenge::parse(&challenge).map_err(|_| ApiError::Field {
        name: "challenge",
        problem: "it is no challenge (mintwarden-challenge/1) of at most 16 KiB",
    })?;
    let (live, _) = app.steward(&issuer)?;
    let snapshot = live.snapshot().ok_or_else(|| refused(Refusal::NotInitialised))?;
    let unknown = |kid: &str| refused(Refusal::UnknownKey(kid.to_owned()));
    let key = snapshot.keyset.by_kid(&kid).ok_or_else(|| unknown(&kid))?;
    let device = &key.device;
    tracing::info!(%issuer, %caller, kid, device, "evidence of a key's residence is asked for");
    let evidence = app.workers.attest(device, &issuer, &key.handle, &challenge).await?;
    Ok(AttestResponse { evidence })
}
