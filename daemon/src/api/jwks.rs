//! `JwksService`.

use std::sync::Arc;

use mintwarden_proto::v1::{self, GetJwksRequest, Jwks};
use tonic::{Request, Response, Status};

use super::{App, call, errors::ApiError};
use crate::{access::ANY, signer::SignError};

pub(super) struct JwksEdge(pub(super) Arc<App>);

#[tonic::async_trait]
impl v1::jwks_service_server::JwksService for JwksEdge {
    async fn get_jwks(&self, request: Request<GetJwksRequest>) -> Result<Response<Jwks>, Status> {
        let caller = call::caller(&request)?;
        let name = &request.get_ref().issuer;
        let issuer = self.0.access.authorise(&caller, ANY, name).map_err(ApiError::from)?;
        let snapshot = self.0.issuer(&issuer)?.snapshot();
        let jwks = snapshot.as_ref().and_then(|snapshot| snapshot.jwks.as_ref());
        let jwks = jwks.ok_or_else(|| Status::from(ApiError::from(SignError::NotInitialised)))?;
        Ok(Response::new(Jwks {
            jwks: jwks.json.clone(),
            revision: jwks.revision,
            etag: jwks.etag.clone(),
            max_age: prost_types::Duration::try_from(jwks.max_age).ok(),
        }))
    }
}
