use std::sync::Arc;

use mintwarden_proto::v1::custodian_service_client::CustodianServiceClient;

use crate::{Error, api, call::Caller};

/// What custodians and auditors do. Made by [`Client::custodian`](crate::Client::custodian).
///
/// Reading is repeated when the connection fails; acts are sent once, since only the person who
/// asked can tell whether to ask again. The appliance carries an act through even if the future is
/// dropped, and answers with the issuer's keys as they are then. `reason` is kept with the act.
///
/// ```no_run
/// # async fn example(client: mintwarden_client::Client) -> Result<(), mintwarden_client::Error> {
/// let custodian = client.custodian();
/// custodian.init("payments-tts", "first keys, change 4711").await?;
/// for keyset in custodian.list_keys(None).await? {
///     for key in keyset.keys {
///         println!("{}: {} {}", keyset.issuer, key.kid, key.state().as_str_name());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Custodian {
    caller: Arc<Caller>,
}

/// Sends one message and takes its answer: `call!(self.act, "Init", init, request)`; `read` where it
/// may be sent again.
macro_rules! call {
    ($self:ident.$once:ident, $name:literal, $method:ident, $request:expr) => {
        $self
            .caller
            .$once($name, $request, |connection, request| async move {
                CustodianServiceClient::new(connection).$method(request).await
            })
            .await
    };
}

impl Custodian {
    pub(crate) fn new(caller: Arc<Caller>) -> Self {
        Self { caller }
    }

    /// Creates the first keys of an issuer that has never published. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a refusal where the issuer has keys already.
    pub async fn init(&self, issuer: &str, reason: &str) -> Result<api::ActResponse, Error> {
        let request = api::InitRequest { issuer: issuer.into(), reason: reason.into() };
        call!(self.act, "Init", init, request)
    }

    /// After a store was emptied or put back from a copy: old keys only verify from now on, new ones
    /// are made and sign once they are mature. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a refusal where the issuer's keys are sound.
    pub async fn recover(&self, issuer: &str, reason: &str) -> Result<api::ActResponse, Error> {
        self.recover_with(issuer, false, reason).await
    }

    /// The same, and the new keys sign at once: every verifier refuses their tokens until it has asked
    /// for the JWK Set again. Role: custodian.
    ///
    /// # Errors
    ///
    /// As [`recover`](Self::recover).
    pub async fn danger_recover_immature(
        &self,
        issuer: &str,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        self.recover_with(issuer, true, reason).await
    }

    async fn recover_with(
        &self,
        issuer: &str,
        danger_immature: bool,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let (issuer, reason) = (issuer.into(), reason.into());
        let request = api::RecoverRequest { issuer, reason, danger_immature };
        call!(self.act, "Recover", recover, request)
    }

    /// Replaces the active keys of an issuer, or the one in `device`, as the schedule would. Where no
    /// standby is mature the old key goes on until one is. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn rotate(
        &self,
        issuer: &str,
        device: Option<&str>,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let device = device.unwrap_or_default().into();
        let request = api::RotateRequest { issuer: issuer.into(), reason: reason.into(), device };
        call!(self.act, "Rotate", rotate, request)
    }

    /// Lets a mature standby be the next active key of its device, now. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a refusal `IMMATURE` with [`retry_after`](Error::retry_after).
    pub async fn activate(
        &self,
        issuer: &str,
        kid: &str,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        self.activate_with(issuer, kid, false, reason).await
    }

    /// The same of a standby that is not mature: verifiers that do not know it yet refuse its tokens.
    /// Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn danger_activate_immature(
        &self,
        issuer: &str,
        kid: &str,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        self.activate_with(issuer, kid, true, reason).await
    }

    async fn activate_with(
        &self,
        issuer: &str,
        kid: &str,
        danger_immature: bool,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let (issuer, kid, reason) = (issuer.into(), kid.into(), reason.into());
        let request = api::ActivateRequest { issuer, reason, kid, danger_immature };
        call!(self.act, "Activate", activate, request)
    }

    /// Stops a key from signing, at once and reversibly. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn suspend(
        &self,
        issuer: &str,
        kid: &str,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let (issuer, kid, reason) = (issuer.into(), kid.into(), reason.into());
        call!(self.act, "Suspend", suspend, api::SuspendRequest { issuer, reason, kid })
    }

    /// Undoes [`suspend`](Self::suspend). Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn resume(
        &self,
        issuer: &str,
        kid: &str,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let (issuer, kid, reason) = (issuer.into(), kid.into(), reason.into());
        call!(self.act, "Resume", resume, api::ResumeRequest { issuer, reason, kid })
    }

    /// Unpublishes a key and has its private key destroyed, for good, and lets a mature standby take over
    /// in the same step. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a refusal `NO_MATURE_STANDBY` where nothing can take over and `fallback` is
    /// `Unspecified`, with [`retry_after`](Error::retry_after) where waiting helps.
    pub async fn revoke(
        &self,
        issuer: &str,
        kid: &str,
        fallback: api::RevokeFallback,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let (issuer, kid, reason) = (issuer.into(), kid.into(), reason.into());
        let request = api::RevokeRequest { issuer, reason, kid, fallback: fallback.into() };
        call!(self.act, "Revoke", revoke, request)
    }

    /// Destroys the private key of a deactivated key now. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn destroy(
        &self,
        issuer: &str,
        kid: &str,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let (issuer, kid, reason) = (issuer.into(), kid.into(), reason.into());
        call!(self.act, "Destroy", destroy, api::DestroyRequest { issuer, reason, kid })
    }

    /// The keys of one issuer, or of every issuer that the caller may see. Any role.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn list_keys(&self, issuer: Option<&str>) -> Result<Vec<api::Keyset>, Error> {
        let request = api::ListKeysRequest { issuer: issuer.unwrap_or_default().into() };
        let response = call!(self.read, "ListKeys", list_keys, request)?;
        Ok(response.keysets)
    }

    /// One key with its history. Any role.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn key(&self, issuer: &str, kid: &str) -> Result<api::GetKeyResponse, Error> {
        let request = api::GetKeyRequest { issuer: issuer.into(), kid: kid.into() };
        call!(self.read, "GetKey", get_key, request)
    }

    /// Evidence of where a key's private half lives, over `challenge`, a document of format
    /// `mintwarden-challenge/1`. Roles: auditor, custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a refusal `ATTESTATION_UNDER_WAY` while its device gives evidence to somebody else.
    pub async fn attest(
        &self,
        issuer: &str,
        kid: &str,
        challenge: &[u8],
    ) -> Result<api::AttestResponse, Error> {
        let (issuer, kid) = (issuer.into(), kid.into());
        let challenge = bytes::Bytes::copy_from_slice(challenge);
        // Sent once: it keeps the device from signing for a moment.
        call!(self.act, "Attest", attest, api::AttestRequest { issuer, kid, challenge })
    }

    /// The proposals of one issuer, or of every issuer of which the caller is custodian or auditor; with
    /// `closed` also those that ended last.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn proposals(
        &self,
        issuer: Option<&str>,
        closed: bool,
    ) -> Result<Vec<api::Proposal>, Error> {
        let issuer = issuer.unwrap_or_default().into();
        let request = api::ListProposalsRequest { issuer, closed };
        let response = call!(self.read, "ListProposals", list_proposals, request)?;
        Ok(response.proposals)
    }

    /// One proposal. Role: custodian or auditor.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a refusal `UNKNOWN_PROPOSAL`.
    pub async fn proposal(&self, issuer: &str, id: &str) -> Result<api::Proposal, Error> {
        let request = api::GetProposalRequest { issuer: issuer.into(), id: id.into() };
        let response = call!(self.read, "GetProposal", get_proposal, request)?;
        Ok(response.proposal.unwrap_or_default())
    }

    /// Approves a proposal. Where enough persons have, the answer is the act's. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a refusal, by its reason, where the proposal cannot be approved any more, or where the
    /// act is refused.
    pub async fn approve(
        &self,
        issuer: &str,
        id: &str,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let (issuer, id, reason) = (issuer.into(), id.into(), reason.into());
        call!(self.act, "Approve", approve, api::ApproveRequest { issuer, id, reason })
    }

    /// Rejects a proposal, which ends it. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn reject(
        &self,
        issuer: &str,
        id: &str,
        reason: &str,
    ) -> Result<api::ActResponse, Error> {
        let (issuer, id, reason) = (issuer.into(), id.into(), reason.into());
        call!(self.act, "Reject", reject, api::RejectRequest { issuer, id, reason })
    }

    /// The record of acts, newest first: at most `limit` entries (0: 100) with a number below `before`
    /// (0: from the newest on). Role: custodian or auditor.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn acts(
        &self,
        issuer: Option<&str>,
        before: u64,
        limit: u32,
    ) -> Result<api::ListActsResponse, Error> {
        let issuer = issuer.unwrap_or_default().into();
        call!(self.read, "ListActs", list_acts, api::ListActsRequest { issuer, before, limit })
    }

    /// The appliance's issuers and devices, as far as the caller may see them. Any role.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn status(&self) -> Result<api::Status, Error> {
        call!(self.read, "GetStatus", get_status, api::GetStatusRequest {})
    }

    /// Lets a parked device try again. Role: custodian of an issuer that uses the device.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn resume_device(&self, device: &str, reason: &str) -> Result<(), Error> {
        let request = api::ResumeDeviceRequest { device: device.into(), reason: reason.into() };
        call!(self.act, "ResumeDevice", resume_device, request)?;
        Ok(())
    }
}
