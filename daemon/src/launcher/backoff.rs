//! How long to wait before a process is started again.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(10);
/// A device without room for a worker still counts the sessions of the one before; it forgets them in
/// its own time, and each worker that asks too early may add to them.
const FIRST_EXHAUSTED: Duration = Duration::from_secs(2);
const LAST_EXHAUSTED: Duration = Duration::from_secs(60);
/// A process that lived so long has proved itself: its next failure starts from the beginning.
const PROVED: Duration = Duration::from_secs(30);
/// As many failures in a row count for a process that has done its work: the next costs 200 ms.
const PROVED_FAILURES: u32 = 3;

/// The back-off of one process.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    started: Option<Instant>,
}

impl Backoff {
    pub(super) fn started(&mut self, now: Instant) {
        self.started = Some(now);
    }

    /// The process ended: how long to wait. The first failure costs nothing.
    pub(super) fn ended(&mut self, now: Instant) -> Duration {
        let lived = self.started.take().map_or(Duration::ZERO, |started| now - started);
        self.failures = if lived >= PROVED { 1 } else { self.failures + 1 };
        match self.failures {
            1 => Duration::ZERO,
            n => FIRST.saturating_mul(1 << (n - 2).min(16)).min(LAST),
        }
    }

    /// The process ended because its device has no room for it: how long to wait.
    pub(super) fn exhausted(&mut self, now: Instant) -> Duration {
        self.ended(now);
        FIRST_EXHAUSTED.saturating_mul(1 << (self.failures - 1).min(16)).min(LAST_EXHAUSTED)
    }

    /// The process has done its work: if it fails now, it is worth a start that is not far off, though
    /// one that does some work and fails, again and again, is not started without a pause.
    pub(super) fn proved(&mut self) {
        self.failures = self.failures.min(PROVED_FAILURES);
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_pile_up_wait_longer_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let now = crate::clock::monotonic();
        let waits: Vec<_> = (0..12)
            .map(|_| {
                backoff.started(now);
                backoff.ended(now).as_millis()
            })
            .collect();
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        backoff.started(now);
        assert_eq!(backoff.ended(now + PROVED), Duration::ZERO, "a process that lived long");
    }

    #[test]
    fn a_process_that_works_and_fails_again_and_again_keeps_a_short_pause() {
        let mut backoff = Backoff::default();
        let now = crate::clock::monotonic();
        let waits: Vec<_> = (0..8)
            .map(|_| {
                backoff.started(now);
                backoff.proved();
                backoff.ended(now).as_millis()
            })
            .collect();
        assert_eq!(waits, [0, 50, 100, 200, 200, 200, 200, 200]);
    }

    #[test]
    fn a_device_without_room_is_left_alone_for_longer() {
        let mut backoff = Backoff::default();
        let now = crate::clock::monotonic();
        let waits: Vec<_> = (0..7)
            .map(|_| {
                backoff.started(now);
                backoff.exhausted(now).as_secs()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
    }
}
