//! Reads the appliance's `google.rpc.Status` into an [`Error`].

use std::{error::Error as _, sync::Arc};

use mintwarden_proto::{ERROR_DOMAIN, v1};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    Error,
    error::{Refusal, TransportError},
};

/// The reason of a batch whose key was replaced between signing and release: sign again.
const KEY_CHANGED: &str = "KEY_CHANGED";
/// The reason of a batch that the appliance could not sign by its deadline.
const DEVICE_TOO_SLOW: &str = "DEVICE_TOO_SLOW";

/// What a failed call means.
pub(crate) fn to_error(status: Status, endpoint: &Arc<str>) -> Error {
    // A status that was made up on this side, because the connection failed, has a source; one that
    // came over the wire has none.
    if status.source().is_some() {
        return Arc::new(TransportError::new(endpoint.clone(), status.into())).into();
    }
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
    let reason = info.map_or_else(|| name(status.code()).to_owned(), |info| info.reason.clone());
    let named = |key| info.and_then(|info| info.metadata.get(key)).and_then(|value| some(value));
    let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
    let retryable = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
        || (status.code() == Code::Aborted && reason == KEY_CHANGED)
        || retry_after.is_some();
    Refusal {
        code: status.code(),
        message: status.message().to_owned(),
        retry_after,
        fits: (reason == DEVICE_TOO_SLOW)
            .then(|| named("fits").and_then(|fits| fits.parse().ok()).unwrap_or_default()),
        claim: named("claim"),
        rule: named("rule"),
        retryable,
        reason,
    }
    .into()
}

/// What a refused item means.
pub(crate) fn from_item(error: v1::ItemError) -> Error {
    let code = Code::from_i32(error.code);
    let reason = if error.reason.is_empty() { name(code).to_owned() } else { error.reason };
    Refusal {
        code,
        reason,
        message: error.message,
        retry_after: None,
        fits: None,
        claim: some(&error.claim),
        rule: some(&error.rule),
        retryable: error.retryable,
    }
    .into()
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The code's name in google.rpc.Code.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io, time::Duration};

    use tonic_types::ErrorDetails;

    use super::*;

    fn read(status: Status) -> Error {
        to_error(status, &"unix:/run/a".into())
    }

    #[test]
    fn a_refusal_carries_what_the_appliance_said() {
        let named = [("claim", "exp"), ("rule", "lifetime")].map(|(k, v)| (k.into(), v.into()));
        let named = HashMap::<String, String>::from(named);
        let details = ErrorDetails::with_error_info("CLAIM_REFUSED", ERROR_DOMAIN, named);
        let error =
            read(Status::with_error_details(Code::InvalidArgument, "exp is too late", details));
        let refusal = error.refusal().unwrap();
        assert_eq!((error.reason(), refusal.code), ("CLAIM_REFUSED", Code::InvalidArgument));
        assert_eq!(refusal.claim.as_deref(), Some("exp"));
        assert_eq!(refusal.rule.as_deref(), Some("lifetime"));
        assert!(!error.is_retryable());
    }

    #[test]
    fn retry_info_is_kept() {
        let mut details =
            ErrorDetails::with_error_info("DEVICE_DOWN", ERROR_DOMAIN, HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(2)));
        let error = read(Status::with_error_details(Code::Unavailable, "restarting", details));
        assert!(error.is_retryable());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_device_that_is_too_slow_says_what_fits_and_only_of_some_it_helps_to_wait() {
        let slow = |fits: Option<&str>, retry| {
            let metadata = fits.map(|fits| ("fits".to_owned(), fits.to_owned()));
            let metadata = HashMap::from_iter(metadata);
            let mut details =
                ErrorDetails::with_error_info(DEVICE_TOO_SLOW, ERROR_DOMAIN, metadata);
            details.set_retry_info(retry);
            read(Status::with_error_details(Code::ResourceExhausted, "", details))
        };
        let alone = slow(Some("24"), None);
        assert_eq!((alone.fits(), alone.is_retryable()), (Some(24), false));
        let behind = slow(Some("0"), Some(Duration::from_secs(2)));
        assert_eq!((behind.fits(), behind.is_retryable()), (Some(0), true));
        assert_eq!(slow(None, None).fits(), Some(0), "it is told by its reason");
    }

    #[test]
    fn aborted_is_retryable_only_when_the_key_changed() {
        let aborted = |reason| {
            let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
            read(Status::with_error_details(Code::Aborted, "", details))
        };
        assert!(aborted("KEY_CHANGED").is_retryable());
        assert!(!aborted("CONFLICT").is_retryable());
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let details = ErrorDetails::with_error_info("NO_ROUTE", "proxy.example", HashMap::new());
        let error = read(Status::with_error_details(Code::Unavailable, "no route", details));
        assert_eq!(error.reason(), "UNAVAILABLE");
    }

    #[test]
    fn a_broken_connection_is_no_refusal() {
        let io = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let error = read(Status::from_error(Box::new(io)));
        assert!(matches!(&error, Error::Transport(_)) && error.is_retryable());
        assert!(error.to_string().contains("unix:/run/a: connection refused"), "{error}");
    }
}
