//! For whoever operates it: health, readiness, metrics. Plain HTTP, no identity; nothing here is for
//! custodians alone.

use std::{fmt::Write as _, sync::Arc};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use prometheus_client::registry::Registry;

use super::App;
use crate::{readiness, telemetry::metrics};

/// `/healthz`, `/readyz`, `/metrics`.
pub fn router(app: Arc<App>, registry: Registry) -> Router {
    let registry = Arc::new(registry);
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n".to_owned())))
        .route("/readyz", get(ready))
        .with_state(app)
        .route("/metrics", get(move || async move { measured(&registry) }))
}

fn measured(registry: &Registry) -> impl IntoResponse + use<> {
    let headers = [(CONTENT_TYPE, metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")];
    (headers, metrics::encode(registry))
}

/// One line per issuer: its name, and `ready` or why not. 200 if all are ready.
async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    let mut status = StatusCode::OK;
    let mut lines = String::new();
    for (name, (issuer, _)) in &app.issuers {
        let _infallible = match readiness::ready(issuer, &app.workers) {
            Ok(()) => writeln!(lines, "{name}: ready"),
            Err(unready) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                writeln!(lines, "{name}: {unready}")
            }
        };
    }
    text(status, lines)
}

fn text(status: StatusCode, text: String) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (status, headers, text)
}
