//! `CustodianService`.

mod act;
mod asked;
mod attest;
mod proposals;
mod record;

use std::{collections::HashSet, sync::Arc, time::Duration};

use mintwarden_proto::v1::{
    self, ActResponse, GetKeyRequest, GetKeyResponse, GetStatusRequest, ListKeysRequest,
    ListKeysResponse, ListProposalsRequest, ListProposalsResponse, ResumeDeviceRequest,
    ResumeDeviceResponse, Status as ApplianceStatus,
};
use mintwarden_worker::IssuerName;
use tonic::{Request, Response, Status};

use self::asked::Asked;
use super::{App, call, errors::ApiError, status};
use crate::{
    access::{ANY, Denied, INSIDE},
    clock,
    config::Role,
    identity::Caller,
    keyset::{
        act::Refusal,
        apply,
        proposal::{ProposalId, ProposalRefusal},
        steward::StewardError,
    },
    record::{By, Event},
    workers::State,
};

/// How long a custodian waits for the record of what is done already.
const NOTE_PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Custodian(pub(super) Arc<App>);

impl Custodian {
    /// The way of every act.
    async fn act<R>(&self, request: Request<R>) -> Result<Response<ActResponse>, Status>
    where
        Asked: From<R>,
    {
        let caller = call::caller(&request)?;
        let asked = Asked::from(request.into_inner());
        Ok(Response::new(act::carry_out(&self.0, &caller, asked).await?))
    }

    /// The issuers that are asked for, by name or all of them, of which the caller may see the inside.
    fn inside(&self, caller: &Caller, issuer: &str) -> Result<HashSet<IssuerName>, ApiError> {
        if !issuer.is_empty() {
            return Ok(HashSet::from([self.0.access.authorise(caller, INSIDE, issuer)?]));
        }
        let visible = self.0.access.visible_as(caller, INSIDE);
        if visible.is_empty() {
            return Err(Denied::NoGrant(Role::Custodian.as_str()).into());
        }
        Ok(visible)
    }
}

#[tonic::async_trait]
impl v1::custodian_service_server::CustodianService for Custodian {
    async fn init(
        &self,
        request: Request<v1::InitRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        self.act(request).await
    }

    async fn recover(
        &self,
        request: Request<v1::RecoverRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        self.act(request).await
    }

    async fn rotate(
        &self,
        request: Request<v1::RotateRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        self.act(request).await
    }

    async fn activate(
        &self,
        request: Request<v1::ActivateRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        self.act(request).await
    }

    async fn suspend(
        &self,
        request: Request<v1::SuspendRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        self.act(request).await
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        self.act(request).await
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        self.act(request).await
    }

    async fn destroy(
        &self,
        request: Request<v1::DestroyRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        self.act(request).await
    }

    async fn list_proposals(
        &self,
        request: Request<ListProposalsRequest>,
    ) -> Result<Response<ListProposalsResponse>, Status> {
        let caller = call::caller(&request)?;
        let ListProposalsRequest { issuer, closed } = request.into_inner();
        let mut issuers = Vec::from_iter(self.inside(&caller, &issuer)?);
        issuers.sort();
        let mut proposals = Vec::new();
        for issuer in issuers {
            proposals.extend(proposals::list(self.0.issuer(&issuer)?, closed));
        }
        Ok(Response::new(ListProposalsResponse { proposals }))
    }

    async fn get_proposal(
        &self,
        request: Request<v1::GetProposalRequest>,
    ) -> Result<Response<v1::GetProposalResponse>, Status> {
        let caller = call::caller(&request)?;
        let v1::GetProposalRequest { issuer, id } = request.into_inner();
        let issuer = self.0.access.authorise(&caller, INSIDE, &issuer).map_err(ApiError::from)?;
        let id: ProposalId = asked::proposal(id)?;
        let proposal = proposals::one(self.0.issuer(&issuer)?, &id);
        let unknown = || ApiError::from(StewardError::from(ProposalRefusal::Unknown(id)));
        let proposal = Some(proposal.ok_or_else(unknown)?);
        Ok(Response::new(v1::GetProposalResponse { proposal }))
    }

    async fn approve(
        &self,
        request: Request<v1::ApproveRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        let caller = call::caller(&request)?;
        let v1::ApproveRequest { issuer, id, reason } = request.into_inner();
        let reason = asked::reason(reason);
        let word = |id, reason| apply::Request::Approve { id, reason };
        Ok(Response::new(act::decide(&self.0, &caller, (issuer, id), reason, word).await?))
    }

    async fn reject(
        &self,
        request: Request<v1::RejectRequest>,
    ) -> Result<Response<ActResponse>, Status> {
        let caller = call::caller(&request)?;
        let v1::RejectRequest { issuer, id, reason } = request.into_inner();
        let reason = asked::reason(reason);
        let word = |id, reason| apply::Request::Reject { id, reason };
        Ok(Response::new(act::decide(&self.0, &caller, (issuer, id), reason, word).await?))
    }

    async fn list_acts(
        &self,
        request: Request<v1::ListActsRequest>,
    ) -> Result<Response<v1::ListActsResponse>, Status> {
        let caller = call::caller(&request)?;
        let v1::ListActsRequest { issuer, before, limit } = request.into_inner();
        let visible = self.inside(&caller, &issuer)?;
        let acts = record::list(&self.0, visible, issuer.is_empty(), before, limit).await?;
        Ok(Response::new(acts))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let caller = call::caller(&request)?;
        let asked = &request.get_ref().issuer;
        let mut visible: Vec<_> = if asked.is_empty() {
            self.0.access.visible(&caller).into_iter().collect()
        } else {
            vec![self.0.access.authorise(&caller, ANY, asked).map_err(ApiError::from)?]
        };
        visible.sort();
        let mut keysets = Vec::new();
        for issuer in visible {
            let live = self.0.issuer(&issuer)?;
            let keyset = match live.snapshot() {
                Some(snapshot) => status::keyset(live, &snapshot.keyset),
                None => v1::Keyset { issuer: issuer.to_string(), ..v1::Keyset::default() },
            };
            keysets.push(keyset);
        }
        Ok(Response::new(ListKeysResponse { keysets }))
    }

    async fn get_key(
        &self,
        request: Request<GetKeyRequest>,
    ) -> Result<Response<GetKeyResponse>, Status> {
        let caller = call::caller(&request)?;
        let GetKeyRequest { issuer, kid } = request.into_inner();
        let issuer = self.0.access.authorise(&caller, ANY, &issuer).map_err(ApiError::from)?;
        let kid = asked::kid(kid)?;
        let live = self.0.issuer(&issuer)?;
        let snapshot = live.snapshot().ok_or(Refusal::NotInitialised).map_err(refused)?;
        let key = snapshot.keyset.by_kid(&kid).ok_or(Refusal::UnknownKey(kid)).map_err(refused)?;
        Ok(Response::new(GetKeyResponse {
            issuer: issuer.to_string(),
            revision: snapshot.keyset.revision,
            key: Some(status::key(live, &snapshot.keyset, key)),
        }))
    }

    async fn attest(
        &self,
        request: Request<v1::AttestRequest>,
    ) -> Result<Response<v1::AttestResponse>, Status> {
        let caller = call::caller(&request)?;
        Ok(Response::new(attest::attest(&self.0, &caller, request.into_inner()).await?))
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<ApplianceStatus>, Status> {
        let caller = call::caller(&request)?;
        let visible = self.0.access.visible(&caller);
        if visible.is_empty() {
            return Err(ApiError::from(Denied::NoGrant("any")).into());
        }
        Ok(Response::new(status::status(&self.0, &caller, &visible)))
    }

    async fn resume_device(
        &self,
        request: Request<ResumeDeviceRequest>,
    ) -> Result<Response<ResumeDeviceResponse>, Status> {
        let caller = call::caller(&request)?;
        let ResumeDeviceRequest { device, reason } = request.into_inner();
        let reason = asked::reason(reason)?;
        let users =
            self.0.issuers.values().filter(|(issuer, _)| issuer.config.devices.contains(&device));
        let custodian = users.map(|(issuer, _)| issuer.config.name()).any(|issuer| {
            self.0.access.authorise(&caller, &[Role::Custodian], issuer.as_str()).is_ok()
        });
        if !custodian {
            return Err(ApiError::from(Denied::NoGrant(Role::Custodian.as_str())).into());
        }
        let worker = self.0.workers.get(&device).ok_or(ApiError::UnknownDevice)?;
        if !matches!(worker.state(), State::Parked(_)) {
            return Err(ApiError::NotParked.into());
        }
        let person = self.0.access.person(&caller);
        // Each is kept for good, whatever the launcher makes of it.
        if person.as_ref().is_some_and(|by| !self.0.book.has_room(clock::reading(), by)) {
            return Err(ApiError::from(StewardError::from(ProposalRefusal::TooOften)).into());
        }
        tracing::info!(target: "custodian", act = "resume-device", device, %caller, reason, "asked");
        worker.resume().map_err(ApiError::from)?;
        if let Some(by) = person.as_ref().map(By::from) {
            let event = Event::DeviceResumed { by, device, reason };
            let noted = self.0.note(self.0.book.entry(clock::reading(), None, event));
            // On a disk that hangs it goes on by itself.
            let _in_time = tokio::time::timeout(NOTE_PATIENCE, noted).await;
        }
        Ok(Response::new(ResumeDeviceResponse {}))
    }
}

fn refused(refusal: Refusal) -> ApiError {
    StewardError::Refused(refusal).into()
}
