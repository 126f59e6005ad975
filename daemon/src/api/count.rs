//! Counts calls by method and code.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tonic::Code;

use super::App;

/// Passes a call on, and counts its answer. The code of a stream that fails later is not seen: it
/// counts by how it began.
pub async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let answer = next.run(request).await;
    let code = answer.headers().get(tonic::Status::GRPC_STATUS);
    let code = code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    app.metrics.rpcs.count(&path, code);
    answer
}
