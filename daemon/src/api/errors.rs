//! The one place where domain errors become statuses: a code, a stable reason, and what to do.
//! Details that only an operator may see stay in the log.

use std::collections::HashMap;

use mintwarden_proto::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    access::Denied,
    admission::Inadmissible,
    identity::IdentityError,
    keyset::{act::Refusal, steward::StewardError},
    signer::SignError,
};

/// Everything that an edge can answer instead of what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Steward(#[from] StewardError),
    #[error("the grpc-timeout header cannot be read")]
    BadTimeout,
    #[error("the message is incomplete, or is not the one that the method takes")]
    Malformed,
    #[error("the message is compressed; send it as it is")]
    Compressed,
    #[error("the message has {size} bytes; at most {max} are allowed")]
    TooLarge { size: usize, max: usize },
    #[error("there is no such device")]
    UnknownDevice,
    #[error("the device is not parked")]
    NotParked,
    #[error("the launcher does not answer")]
    NoLauncher,
    #[error("a reason has at most {max} bytes", max = MAX_REASON)]
    ReasonTooLong,
}

/// Bound on the text that a custodian gives as reason, bytes.
pub(super) const MAX_REASON: usize = 1024;

/// The status for an error.
pub(super) fn status(error: &ApiError) -> Status {
    let (code, reason) = classify(error);
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    match error {
        ApiError::Sign(SignError::Inadmissible(Inadmissible::Overloaded { retry_after })) => {
            details.set_retry_info(Some(*retry_after));
        }
        ApiError::Sign(SignError::Unavailable(reason)) => {
            details.set_retry_info(Some(reason.retry_after()));
        }
        ApiError::Sign(SignError::Untrue(_)) => {
            details.set_retry_info(Some(std::time::Duration::from_millis(500)));
        }
        ApiError::Sign(SignError::Inadmissible(why)) => {
            details.add_bad_request_violation("claims", why.to_string());
        }
        ApiError::Denied(Denied::UnknownIssuer) => {
            details.add_bad_request_violation("issuer", error.to_string());
        }
        _ => {}
    }
    Status::with_error_details(code, message(error), details)
}

fn classify(error: &ApiError) -> (Code, &'static str) {
    match error {
        ApiError::Identity(error) => (Code::Unauthenticated, error.reason()),
        ApiError::Denied(Denied::NoGrant(_)) => (Code::PermissionDenied, "NO_GRANT"),
        ApiError::Denied(Denied::UnknownIssuer) => (Code::NotFound, "UNKNOWN_ISSUER"),
        ApiError::Sign(error) => (sign_code(error), error.reason()),
        ApiError::Steward(error) => match error {
            StewardError::Refused(refusal @ Refusal::UnknownKey(_)) => {
                (Code::NotFound, refusal.reason())
            }
            StewardError::Refused(refusal) => (Code::FailedPrecondition, refusal.reason()),
            StewardError::Interrupted(_) => (Code::Unavailable, "INIT_INTERRUPTED"),
            StewardError::Failed(_) => (Code::Unavailable, "ACT_FAILED"),
            StewardError::GivenUp(_) => (Code::Internal, "GENERATION_FAILED"),
            StewardError::Stopping => (Code::Unavailable, "SHUTTING_DOWN"),
        },
        ApiError::BadTimeout => (Code::InvalidArgument, "TIMEOUT_MALFORMED"),
        ApiError::Malformed => (Code::InvalidArgument, "MESSAGE_MALFORMED"),
        ApiError::Compressed => (Code::Unimplemented, "MESSAGE_COMPRESSED"),
        ApiError::TooLarge { .. } => (Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        ApiError::UnknownDevice => (Code::NotFound, "UNKNOWN_DEVICE"),
        ApiError::NotParked => (Code::FailedPrecondition, "NOT_PARKED"),
        ApiError::NoLauncher => (Code::Unavailable, "NO_LAUNCHER"),
        ApiError::ReasonTooLong => (Code::InvalidArgument, "REASON_TOO_LONG"),
    }
}

fn sign_code(error: &SignError) -> Code {
    match error {
        SignError::NotInitialised => Code::FailedPrecondition,
        SignError::Inadmissible(Inadmissible::Overloaded { .. }) => Code::ResourceExhausted,
        SignError::Inadmissible(_) => Code::InvalidArgument,
        SignError::Deadline => Code::DeadlineExceeded,
        SignError::KeyChanged => Code::Aborted,
        SignError::Unavailable(_) | SignError::Untrue(_) => Code::Unavailable,
    }
}

/// What the caller may read. What a device said is the operator's, and is in the log and in
/// `GetStatus`.
fn message(error: &ApiError) -> String {
    match error {
        ApiError::Sign(SignError::Unavailable(reason)) => {
            format!("no device of the issuer is usable ({})", reason.reason)
        }
        other => other.to_string(),
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        status(&error)
    }
}
