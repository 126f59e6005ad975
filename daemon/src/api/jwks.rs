//! `JwksService`.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _};
use mintwarden_proto::v1::{self, GetJwksRequest, Jwks, WatchJwksRequest};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::{App, call, errors::ApiError};
use crate::{access::ANY, jwks, keyset::live::LiveIssuer, signer::SignError};

pub(super) struct JwksEdge(pub(super) Arc<App>);

impl JwksEdge {
    fn issuer<T>(&self, request: &Request<T>, name: &str) -> Result<&Arc<LiveIssuer>, Status> {
        let caller = call::caller(request)?;
        let issuer = self.0.access.authorise(&caller, ANY, name).map_err(ApiError::from)?;
        Ok(self.0.issuer(&issuer)?)
    }
}

fn not_initialised() -> Status {
    ApiError::from(SignError::NotInitialised).into()
}

fn message(jwks: &jwks::Jwks) -> Jwks {
    Jwks {
        jwks: jwks.json.clone(),
        revision: jwks.revision,
        etag: jwks.etag.clone(),
        max_age: prost_types::Duration::try_from(jwks.max_age).ok(),
    }
}

#[tonic::async_trait]
impl v1::jwks_service_server::JwksService for JwksEdge {
    async fn get_jwks(&self, request: Request<GetJwksRequest>) -> Result<Response<Jwks>, Status> {
        let snapshot = self.issuer(&request, &request.get_ref().issuer)?.snapshot();
        let jwks = snapshot.as_ref().and_then(|snapshot| snapshot.jwks.as_ref());
        Ok(Response::new(message(jwks.ok_or_else(not_initialised)?)))
    }

    type WatchJwksStream = Pin<Box<dyn Stream<Item = Result<Jwks, Status>> + Send>>;

    async fn watch_jwks(
        &self,
        request: Request<WatchJwksRequest>,
    ) -> Result<Response<Self::WatchJwksStream>, Status> {
        let sets = self.issuer(&request, &request.get_ref().issuer)?.watch_jwks();
        if sets.borrow().is_none() {
            return Err(not_initialised());
        }
        let withdrawn = || Status::unavailable("the JWK Set is withdrawn");
        let sets =
            WatchStream::new(sets).map(move |set| set.as_ref().map(message).ok_or_else(withdrawn));
        Ok(Response::new(Box::pin(sets)))
    }
}
