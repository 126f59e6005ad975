//! The only place that reads a clock.

use std::time::{Duration, SystemTime};

/// Unix time; zero where the clock is set before 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
