//! Refusals, as RFC 6749 section 5.2 and RFC 8693 section 2.2.2 have them.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Response, StatusCode, header},
    response::IntoResponse,
};
use serde_json::json;

/// The values of `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Also any bad subject or actor token: RFC 8693 section 2.2.2.
    InvalidRequest,
    InvalidClient,
    InvalidScope,
    /// RFC 8693 section 2.2.2.
    InvalidTarget,
    UnauthorizedClient,
    UnsupportedGrantType,
    TemporarilyUnavailable,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// Stable, for programs: the member `reason` of the answer.
    pub(crate) reason: &'static str,
    /// For a person: `error_description`.
    pub(crate) message: String,
    /// When to come back.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: printable(&message.into()), retry_after: None }
    }

    pub(crate) fn request(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, reason, message)
    }

    pub(crate) fn scope(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidScope, reason, message)
    }

    /// Nothing is wrong with the request. Why it cannot be met now is for the log.
    pub(crate) fn unavailable(reason: &'static str, retry_after: Option<Duration>) -> Self {
        let retry_after = Some(retry_after.unwrap_or(Duration::from_secs(1)));
        let message = "no token can be signed now; try again".to_owned();
        Self { code: Code::TemporarilyUnavailable, reason, message, retry_after }
    }
}

impl Code {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let body = json!({
            "error": self.code.as_str(),
            "error_description": self.message,
            "reason": self.reason,
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            // Whole seconds, upwards (RFC 9110 section 10.2.3).
            let seconds = after.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = seconds.to_string().parse() {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}

/// `error_description` may have %x20-21 / %x23-5B / %x5D-7E only.
fn printable(message: &str) -> String {
    let allowed = |c| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    message.chars().take(512).map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_only_what_rfc_6749_allows() {
        assert_eq!(printable("a \"b\" \\ \u{1b}[31mü\n"), "a 'b' / ?[31m??");
        assert_eq!(printable(&"x".repeat(9999)).len(), 512);
    }

    #[test]
    fn time_to_come_back_is_rounded_up() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (61_000, "61")] {
            let refusal = Refusal::unavailable("DOWN", Some(Duration::from_millis(millis)));
            let response = refusal.into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
