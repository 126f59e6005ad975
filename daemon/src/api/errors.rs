//! The one place where domain errors become statuses: a code, a stable reason, and what to do.
//! Details that only an operator may see stay in the log.

use std::collections::HashMap;

use mintwarden_proto::ERROR_DOMAIN;
use mintwarden_worker::device::Cause;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    access::Denied,
    admission::Inadmissible,
    identity::IdentityError,
    keyset::{act::Refusal, proposal::ProposalRefusal, steward::StewardError},
    signer::SignError,
    workers::{self, AttestError, NotResumed, TooSlow},
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
    #[error("{name}: {problem}")]
    Field { name: &'static str, problem: &'static str },
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error("the record cannot be read now")]
    Record,
    #[error("a reason has at most {max} bytes", max = MAX_REASON)]
    ReasonTooLong,
}

impl From<NotResumed> for ApiError {
    fn from(error: NotResumed) -> Self {
        match error {
            NotResumed::NotParked => Self::NotParked,
            NotResumed::NotAsked(_) => Self::NoLauncher,
        }
    }
}

/// Bound on the text that a custodian gives as reason, bytes.
pub(super) const MAX_REASON: usize = 1024;

/// The status for an error.
pub(super) fn status(error: &ApiError) -> Status {
    let (code, reason) = classify(error);
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata(error));
    match error {
        ApiError::Sign(SignError::TooSlow(TooSlow { retry_after: Some(after), .. })) => {
            details.set_retry_info(Some(*after));
        }
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
        ApiError::Steward(StewardError::Refused(
            Refusal::Immature { left } | Refusal::NoMatureStandby { left: Some(left) },
        )) => {
            details.set_retry_info(Some(*left));
        }
        ApiError::Attest(AttestError::UnderWay) => {
            details.set_retry_info(Some(std::time::Duration::from_secs(1)));
        }
        ApiError::Attest(AttestError::Resting { left }) => {
            details.set_retry_info(Some(*left));
        }
        ApiError::Field { name, problem } => {
            details.add_bad_request_violation(*name, *problem);
        }
        ApiError::Denied(Denied::UnknownIssuer) => {
            details.add_bad_request_violation("issuer", error.to_string());
        }
        _ => {}
    }
    Status::with_error_details(code, message(error), details)
}

/// What a program may want to reckon with.
fn metadata(error: &ApiError) -> HashMap<String, String> {
    match error {
        ApiError::Sign(SignError::TooSlow(slow)) => {
            let takes = format!("{:.3}", slow.takes.as_secs_f64());
            let entries = [("takes_seconds", takes), ("fits", slow.fits.to_string())];
            entries.map(|(key, value)| (key.to_owned(), value)).into()
        }
        _ => HashMap::new(),
    }
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
            StewardError::Proposal(refusal) => (proposal_code(refusal), refusal.reason()),
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
        ApiError::Field { .. } => (Code::InvalidArgument, "FIELD_MALFORMED"),
        ApiError::Attest(AttestError::UnderWay | AttestError::Resting { .. }) => {
            (Code::ResourceExhausted, "ATTESTATION_UNDER_WAY")
        }
        ApiError::Attest(AttestError::Device(error)) => no_evidence(&error.reason),
        ApiError::Record => (Code::Unavailable, "RECORD_FAILED"),
        ApiError::ReasonTooLong => (Code::InvalidArgument, "REASON_TOO_LONG"),
    }
}

/// Why a device gives no evidence: what lasts, and what may be over soon.
fn no_evidence(reason: &str) -> (Code, &'static str) {
    let lasting = [
        Cause::ChallengeRefused,
        Cause::MechanismMissing,
        Cause::KeyAbsent,
        Cause::KeyUnusable,
        Cause::ParentMismatch,
        Cause::PcrMismatch,
        Cause::Malformed,
    ];
    match lasting.iter().find(|cause| cause.as_str() == reason) {
        Some(cause) => (Code::FailedPrecondition, cause.as_str()),
        None => (Code::Unavailable, workers::cause(reason)),
    }
}

fn proposal_code(refusal: &ProposalRefusal) -> Code {
    match refusal {
        ProposalRefusal::Unknown(_) => Code::NotFound,
        ProposalRefusal::NotACustodian => Code::PermissionDenied,
        ProposalRefusal::AlreadyProposed(_) => Code::AlreadyExists,
        ProposalRefusal::TooMany { .. } | ProposalRefusal::TooOften => Code::ResourceExhausted,
        ProposalRefusal::AlreadyApproved(_)
        | ProposalRefusal::Expired
        | ProposalRefusal::Void(_)
        | ProposalRefusal::Closed(_) => Code::FailedPrecondition,
    }
}

fn sign_code(error: &SignError) -> Code {
    match error {
        SignError::NotInitialised => Code::FailedPrecondition,
        SignError::Inadmissible(Inadmissible::Overloaded { .. }) | SignError::TooSlow(_) => {
            Code::ResourceExhausted
        }
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
