//! `CustodianService`.

use std::sync::Arc;

use mintwarden_proto::v1::{
    self, GetStatusRequest, InitRequest, InitResponse, ListKeysRequest, ListKeysResponse,
    ResumeDeviceRequest, ResumeDeviceResponse, Status as ApplianceStatus,
};
use tonic::{Request, Response, Status};

use super::{
    App, call,
    errors::{ApiError, MAX_REASON},
    status,
};
use crate::{
    access::{ANY, Denied},
    config::Role,
    keyset::act::CustodianAct,
    workers::State,
};

pub(super) struct Custodian(pub(super) Arc<App>);

fn bounded(reason: &str) -> Result<(), ApiError> {
    if reason.len() > MAX_REASON { Err(ApiError::ReasonTooLong) } else { Ok(()) }
}

#[tonic::async_trait]
impl v1::custodian_service_server::CustodianService for Custodian {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let caller = call::caller(&request)?;
        let InitRequest { issuer, reason } = request.into_inner();
        bounded(&reason)?;
        let issuer = self
            .0
            .access
            .authorise(&caller, &[Role::Custodian], &issuer)
            .map_err(ApiError::from)?;
        let (live, steward) = self
            .0
            .issuers
            .get(issuer.as_str())
            .ok_or_else(|| ApiError::from(Denied::UnknownIssuer))?;
        tracing::info!(target: "custodian", act = "init", %issuer, %caller, reason, "asked");
        let outcome = steward.order(CustodianAct::Init, &reason).await;
        let refused = outcome.as_ref().err().map(ToString::to_string);
        tracing::info!(target: "custodian", act = "init", %issuer, %caller, refused, "answered");
        let snapshot = outcome.map_err(ApiError::from)?;
        let keyset = status::keyset(live, &snapshot.keyset);
        Ok(Response::new(InitResponse { keys: keyset.keys, revision: keyset.revision }))
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
        bounded(&reason)?;
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
        tracing::info!(target: "custodian", act = "resume-device", device, %caller, reason, "asked");
        worker.resuming();
        self.0.launcher.resume(&device).map_err(|_| ApiError::NoLauncher)?;
        Ok(Response::new(ResumeDeviceResponse {}))
    }
}
