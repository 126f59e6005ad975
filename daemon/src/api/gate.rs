//! What is decided of a gRPC request before a byte of its body is read: a peer that may do nothing costs
//! nothing (I9).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tonic::Status;

use super::{App, Peer, errors::ApiError};
use crate::{access::Denied, identity::IdentityError, signer::SignError};

/// Health is for whoever can connect.
const OPEN: &str = "/grpc.health.v1.";

/// Lets a request through if its peer has an identity and some grant, and bounds how long its body and
/// its answer's head may take.
pub async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Err(refused) = admit(&app, &request) {
        return Status::from(refused).into_http();
    }
    match tokio::time::timeout(app.limits.max_deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Status::from(ApiError::Sign(SignError::Deadline)).into_http(),
    }
}

fn admit(app: &App, request: &Request) -> Result<(), ApiError> {
    if request.uri().path().starts_with(OPEN) {
        return Ok(());
    }
    match request.extensions().get::<Peer>() {
        Some(Peer(Ok(caller))) if app.access.knows(caller) => Ok(()),
        Some(Peer(Ok(_))) => Err(Denied::NoGrant("any").into()),
        Some(Peer(Err(error))) => Err(error.clone().into()),
        None => Err(IdentityError::Malformed.into()),
    }
}
