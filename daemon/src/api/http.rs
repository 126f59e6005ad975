//! The JWKS over HTTPS (RFC 9110, RFC 9111).

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::App;
use crate::jwks::Jwks;

/// `/issuers/{name}/jwks.json`, and `/.well-known/jwks.json` where there is one issuer.
/// axum answers HEAD wherever it answers GET, and 404 and 405 by itself.
pub fn router(app: Arc<App>) -> Router {
    let router = Router::new().route("/issuers/{name}/jwks.json", get(named));
    let router = if app.issuers.len() == 1 {
        router.route("/.well-known/jwks.json", get(only))
    } else {
        router
    };
    router.with_state(app)
}

async fn named(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    match app.issuers.get(&name) {
        Some((issuer, _)) => {
            answer(issuer.snapshot().as_ref().and_then(|s| s.jwks.as_ref()), &headers)
        }
        None => empty(StatusCode::NOT_FOUND),
    }
}

async fn only(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let snapshot = app.issuers.values().next().and_then(|(issuer, _)| issuer.snapshot());
    answer(snapshot.as_ref().and_then(|s| s.jwks.as_ref()), &headers)
}

fn answer(jwks: Option<&Jwks>, headers: &HeaderMap) -> Response {
    let Some(jwks) = jwks else {
        // Not yet initialised. Never cached: the first keys sign as soon as they are published.
        let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return response;
    };
    let unchanged =
        headers.get_all(IF_NONE_MATCH).iter().any(|tags| matches_etag(tags, &jwks.etag));
    let mut response = if unchanged {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        Response::new(Body::from(jwks.json.clone()))
    };
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    out.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let cache = format!("public, max-age={}", jwks.max_age.as_secs());
    out.insert(CACHE_CONTROL, HeaderValue::from_str(&cache).expect("digits and ASCII letters"));
    out.insert(ETAG, HeaderValue::from_str(&jwks.etag).expect("base64url in quotes"));
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// `If-None-Match` compares weakly (RFC 9110 section 13.1.2).
fn matches_etag(tags: &HeaderValue, etag: &str) -> bool {
    let Ok(tags) = tags.to_str() else { return false };
    tags.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
