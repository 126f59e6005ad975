//! The only place where this library reads time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Seconds since the epoch: a NumericDate (RFC 7519 section 2), for `iat` and `exp`.
///
/// A clock before 1970 reads as 0, which the appliance refuses as a lifetime.
pub(crate) fn numeric_date() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The instant `within` from now, on the monotonic clock.
pub(crate) fn deadline(within: Duration) -> Instant {
    let now = now();
    // A duration beyond what the clock can count means "no deadline that matters".
    now.checked_add(within).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365))
}

/// What is left until `deadline`; zero when it has passed.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(now())
}

/// Now, on the monotonic clock.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    Instant::now()
}
