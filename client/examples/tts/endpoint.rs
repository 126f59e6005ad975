//! `POST /token` over HTTP.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{self, Body},
    extract::State,
    http::{Request, Response, header},
    response::IntoResponse,
    routing::post,
};
use mintwarden_client::Token;
use serde_json::json;
use tokio::{sync::Semaphore, time};

use crate::{
    error::{Code, Refusal},
    exchange::{Exchange, Issued},
    request::{MAX_FORM, TXN_TOKEN, TokenRequest},
    support::listen::Peer,
};

/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Exchanges under way at a time.
const MAX_UNDER_WAY: usize = 4096;

struct Endpoint {
    exchange: Exchange,
    permits: Semaphore,
}

/// The TTS's one path.
pub(crate) fn router(exchange: Exchange) -> Router {
    let endpoint = Endpoint { exchange, permits: Semaphore::new(MAX_UNDER_WAY) };
    Router::new().route("/token", post(token)).with_state(Arc::new(endpoint))
}

async fn token(
    State(endpoint): State<Arc<Endpoint>>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Response<Body> {
    let requester = peer.0.as_ref().map_or("nobody".into(), ToString::to_string);
    match endpoint.answer(peer, request).await {
        Ok(Issued { token, txn }) => {
            tracing::info!(requester, txn, "token");
            issued(&token)
        }
        Err(refusal) => {
            let Refusal { code, reason, message, .. } = &refusal;
            tracing::info!(requester, error = code.as_str(), reason, why = message, "refused");
            refusal.into_response()
        }
    }
}

impl Endpoint {
    async fn answer(&self, peer: Peer, request: Request<Body>) -> Result<Issued, Refusal> {
        let requester =
            peer.0.map_err(|why| Refusal::new(Code::InvalidClient, "REQUESTER_UNKNOWN", why))?;
        let full = |_| Refusal::unavailable("OVERLOADED", None);
        let _permit = self.permits.try_acquire().map_err(full)?;
        let (parts, body) = request.into_parts();
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let form = time::timeout(BODY_TIMEOUT, body::to_bytes(body, MAX_FORM))
            .await
            .map_err(|_| Refusal::request("BODY_SLOW", "the request's body did not come in time"))?
            .map_err(|_| {
                Refusal::request("TOO_LARGE", format!("a request has at most {MAX_FORM} bytes"))
            })?;
        let request = TokenRequest::parse(content_type, &form)?;
        self.exchange.exchange(&requester.to_string(), request).await
    }
}

/// The answer of RFC 8693 section 2.2.1.
fn issued(token: &Token) -> Response<Body> {
    let body = json!({
        "access_token": token.as_str(),
        "issued_token_type": TXN_TOKEN,
        "token_type": "N_A",
    });
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body.to_string()).into_response()
}
