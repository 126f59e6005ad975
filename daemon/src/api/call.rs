//! Who calls, and until when: what every edge takes from a request before it looks at its content.

use std::time::Duration;

use http::HeaderMap;
use tonic::{Request, Status};

use super::errors::{self, ApiError};
use crate::{
    clock::Deadline,
    config::Limits,
    identity::{Caller, IdentityError},
    signer::SignError,
};

/// The other end of a connection, put into each of its requests by the listener.
#[derive(Clone, Debug)]
pub struct Peer(pub Result<Caller, IdentityError>);

/// The caller of a request.
///
/// # Errors
/// `UNAUTHENTICATED` where the connection's certificate names nobody.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    match request.extensions().get::<Peer>() {
        Some(Peer(Ok(caller))) => Ok(caller.clone()),
        Some(Peer(Err(error))) => Err(errors::status(&ApiError::Identity(error.clone()))),
        None => Err(errors::status(&ApiError::Identity(IdentityError::Malformed))),
    }
}

/// The deadline of a request that begins now: its own, shortened to the configured maximum, or the
/// default.
///
/// # Errors
/// `DEADLINE_EXCEEDED` if it has passed, `TIMEOUT_MALFORMED` if it cannot be read.
pub(super) fn deadline(headers: &HeaderMap, limits: &Limits) -> Result<Deadline, ApiError> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(Deadline::within(limits.default_deadline));
    };
    let timeout = value.to_str().ok().and_then(grpc_timeout).ok_or(ApiError::BadTimeout)?;
    if timeout.is_zero() {
        return Err(SignError::Deadline.into());
    }
    Ok(Deadline::within(timeout.min(limits.max_deadline)))
}

/// `grpc-timeout` (gRPC over HTTP/2, "Requests"): at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (unit_at, unit) = text.char_indices().last()?;
    let digits = &text[..unit_at];
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(value * 3600),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(grpc_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(grpc_timeout("0n"), Some(Duration::ZERO));
        for bad in ["", "m", "1", "123456789m", "-1S", "1.5S", "1s", "1 S", "é"] {
            assert_eq!(grpc_timeout(bad), None, "{bad:?}");
        }
    }
}
