//! The only place in the server that reads time (invariant I11). What a worker needs of it lives in
//! the worker's own crate, which both build on.

use std::time::{Duration, Instant};

pub use mintwarden_worker::clock::{UnixTime, monotonic, wall};

/// Measures how long the stages of a request take.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[must_use]
    pub fn start() -> Self {
        Self(monotonic())
    }

    /// Time since the start or the last lap.
    pub fn lap(&mut self) -> Duration {
        let now = monotonic();
        let lap = now - self.0;
        self.0 = now;
        lap
    }
}

/// The instant by which an answer is of use.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `within` from now.
    #[must_use]
    pub fn within(within: Duration) -> Self {
        Self(monotonic() + within)
    }

    /// What is left; `None` once it is over.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(monotonic()).filter(|left| !left.is_zero())
    }

    /// The instant, for timers.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }
}
