//! The only place in a worker that reads time (invariant I11).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Wall-clock time as seconds since 1970-01-01T00:00:00Z: a NumericDate (RFC 7519 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// This time plus whole seconds; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }
}

/// Reads the wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where time is read")]
pub fn wall() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Reads the monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where time is read")]
pub fn monotonic() -> Instant {
    Instant::now()
}
