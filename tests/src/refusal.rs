//! What an appliance says when it refuses: reads `google.rpc.Status`.

use std::time::Duration;

use mintwarden_proto::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The parts of a refusal that are stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// The reason in `ErrorInfo`; empty where the status is not one of the appliance's.
    pub reason: String,
    /// When to come back, from `RetryInfo`.
    pub retry_after: Option<Duration>,
    /// The fields of `BadRequest`.
    pub fields: Vec<String>,
}

impl Refusal {
    /// Reads a status.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let violations = details.bad_request().map(|bad| bad.field_violations.clone());
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            fields: violations.into_iter().flatten().map(|violation| violation.field).collect(),
        }
    }

    /// Code and reason, to compare.
    #[must_use]
    pub fn words(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }
}
