//! `SigningService`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use mintwarden_proto::v1::{
    self, Issuer, ItemError, SignBatchRequest, SignBatchResponse, SignRequest, SignResponse,
    SignResult, sign_result,
};
use mintwarden_worker::wire::Refusal;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{App, call, errors::ApiError};
use crate::{
    access::ANY,
    clock::Deadline,
    config::{Role, fixed},
    signer::{Batch, Outcome, SignError, SignedBatch},
};

pub(super) struct Signing(pub(super) Arc<App>);

impl Signing {
    async fn signed<T>(
        &self,
        request: Request<T>,
        content: impl FnOnce(T) -> (String, Vec<Bytes>),
    ) -> Result<SignedBatch, Status> {
        let caller = call::caller(&request)?;
        let deadline = request.extensions().get().copied();
        // The gate sets it when the request arrives.
        let deadline = deadline.unwrap_or_else(|| Deadline::within(self.0.limits.default_deadline));
        let (issuer, claims) = content(request.into_inner());
        let issuer =
            self.0.access.authorise(&caller, &[Role::Signer], &issuer).map_err(ApiError::from)?;
        let issuer = Arc::clone(self.0.issuer(&issuer)?);
        let batch = Batch { issuer, claims, caller, deadline };
        Ok(self.0.signer.sign(batch).await.map_err(ApiError::from)?)
    }
}

#[tonic::async_trait]
impl v1::signing_service_server::SigningService for Signing {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let claims = request.get_ref().claims.clone();
        let signed = self.signed(request, |r| (r.issuer, vec![r.claims])).await?;
        match signed.outcomes.into_iter().next() {
            Some(Outcome::Signature(signature)) => {
                let mut token = signed.protected_header;
                for part in [&claims, &signature.signature] {
                    token.push('.');
                    URL_SAFE_NO_PAD.encode_string(part, &mut token);
                }
                Ok(Response::new(SignResponse { token, kid: signed.kid.to_string() }))
            }
            Some(Outcome::Refused(refusal)) => Err(refused(&refusal)),
            Some(Outcome::Expired) | None => Err(ApiError::from(SignError::Deadline).into()),
        }
    }

    async fn sign_batch(
        &self,
        request: Request<SignBatchRequest>,
    ) -> Result<Response<SignBatchResponse>, Status> {
        let signed = self.signed(request, |r| (r.issuer, r.claims)).await?;
        let some = signed.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Signature(_)));
        let results = signed.outcomes.into_iter().map(result).collect();
        // Nothing signed: no key to name.
        let (kid, protected_header) = if some {
            (signed.kid.to_string(), signed.protected_header)
        } else {
            Default::default()
        };
        Ok(Response::new(SignBatchResponse { kid, protected_header, results }))
    }

    async fn describe_issuer(
        &self,
        request: Request<v1::DescribeIssuerRequest>,
    ) -> Result<Response<Issuer>, Status> {
        let caller = call::caller(&request)?;
        let name = &request.get_ref().issuer;
        let issuer = self.0.access.authorise(&caller, ANY, name).map_err(ApiError::from)?;
        let profile = &self.0.issuer(&issuer)?.config.profile;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let duration = |d: std::time::Duration| prost_types::Duration::try_from(d).ok();
        Ok(Response::new(Issuer {
            name: issuer.to_string(),
            iss: profile.iss.clone(),
            algorithm: profile.key.algorithm().to_string(),
            profile: "txn-token".into(),
            max_token_lifetime: duration(profile.max_token_lifetime),
            skew: duration(profile.skew),
            audience: profile.audience.clone(),
            required: profile.required.clone(),
            max_claims_bytes: number(profile.max_claims_bytes),
            max_batch_items: number(fixed::MAX_BATCH_ITEMS),
            max_batch_bytes: number(fixed::MAX_BATCH_BYTES),
            max_act_depth: number(profile.max_act_depth),
            req_wl: profile.req_wl.clone(),
        }))
    }
}

fn result(outcome: Outcome) -> SignResult {
    let outcome = match outcome {
        Outcome::Signature(signed) => sign_result::Outcome::Signature(signed.signature),
        Outcome::Refused(refusal) => sign_result::Outcome::Error(ItemError {
            code: Code::InvalidArgument.into(),
            reason: refusal.reason,
            message: refusal.message,
            retryable: false,
            claim: refusal.claim,
            rule: refusal.rule,
        }),
        Outcome::Expired => sign_result::Outcome::Error(ItemError {
            code: Code::DeadlineExceeded.into(),
            reason: "DEADLINE_EXCEEDED".into(),
            message: "the deadline passed before its turn came".into(),
            retryable: true,
            ..ItemError::default()
        }),
    };
    SignResult { outcome: Some(outcome) }
}

/// The refusal of a single payload: the claim and the rule travel as `ErrorInfo` metadata.
fn refused(refusal: &Refusal) -> Status {
    let metadata = [("claim", &refusal.claim), ("rule", &refusal.rule)]
        .map(|(key, value)| (key.to_owned(), value.clone()));
    let mut details =
        ErrorDetails::with_error_info(&refusal.reason, mintwarden_proto::ERROR_DOMAIN, metadata);
    let field = if refusal.claim.is_empty() {
        "claims".into()
    } else {
        format!("claims.{}", refusal.claim)
    };
    details.add_bad_request_violation(field, &refusal.message);
    Status::with_error_details(Code::InvalidArgument, &refusal.message, details)
}
