//! What is decided of a gRPC request before its message is decoded: a peer that may do nothing costs
//! nothing, and one that may costs no more than its room (I9).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderMap;
use tonic::{Code, Status};

use super::{
    App, Peer, call,
    errors::ApiError,
    intake::{self, OURS},
};
use crate::{
    access::Denied,
    admission::Occupied,
    identity::{Caller, IdentityError},
    listen::Keep,
    signer::SignError,
};

/// Health is for whoever can connect.
const OPEN: &str = "/grpc.health.v1.";

/// Lets a request through if its peer has an identity, some grant and room; takes its message in; and
/// bounds how long its answer's head may take. The room is given back when the peer has the answer.
pub async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut occupied = match enter(&app, &request) {
        Ok(occupied) => occupied,
        Err(refused) => return Status::from(refused).into_http(),
    };
    let answer = tokio::time::timeout(app.limits.max_deadline, async {
        if !request.uri().path().starts_with(OURS) {
            return Ok(next.run(request).await);
        }
        let mut request = request;
        let deadline = call::deadline(request.headers(), &app.limits)?;
        request.extensions_mut().insert(deadline);
        let request = intake::take(request, &mut occupied, deadline).await?;
        Ok(decoded(next.run(request).await))
    });
    let mut answer = match answer.await.unwrap_or(Err(ApiError::Sign(SignError::Deadline))) {
        Ok(answer) => answer,
        Err(refused) => Status::from(refused).into_http(),
    };
    answer.extensions_mut().insert(Keep::new(occupied));
    answer
}

fn enter(app: &App, request: &Request) -> Result<Occupied, ApiError> {
    let peer = request.extensions().get::<Peer>().map(|Peer(peer)| peer);
    let caller = match peer {
        _ if request.uri().path().starts_with(OPEN) => peer.and_then(|peer| peer.as_ref().ok()),
        Some(Ok(caller)) if app.access.knows(caller) => Some(caller),
        Some(Ok(_)) => return Err(Denied::NoGrant("any").into()),
        Some(Err(error)) => return Err(error.clone().into()),
        None => return Err(IdentityError::Malformed.into()),
    };
    let caller: Option<&Caller> = caller;
    Ok(app
        .memory
        .enter(caller, intake::header_bytes(request.headers()))
        .map_err(SignError::from)?)
}

/// An answer of one of our services, in which everything that it refuses has a reason: without one, the
/// codec could not decode the message.
fn decoded(answer: Response) -> Response {
    let codec = |headers: &HeaderMap| {
        let status = Status::from_header_map(headers);
        status.is_some_and(|s| s.code() == Code::Internal && s.details().is_empty())
    };
    if codec(answer.headers()) { Status::from(ApiError::Malformed).into_http() } else { answer }
}
