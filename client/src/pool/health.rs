use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use crate::Error;

/// The back-off after the first failure; it doubles from there.
const FIRST_BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// What is known of something that can fail: it is well, or set aside until a time when it is worth
/// a probe.
#[derive(Debug, Default)]
pub(super) struct Health {
    aside: Option<Aside>,
    /// Tells the outcome of a call that began before the last change from that of a later one.
    epoch: u64,
}

#[derive(Debug)]
struct Aside {
    failures: u32,
    wait: Duration,
    until: Instant,
    failed_at: Instant,
    error: Error,
}

/// Whether something can be used now.
pub(super) enum Standing<'a> {
    Well,
    /// It is time to try it, once.
    Due,
    SetAside {
        until: Instant,
        failed_at: Instant,
        error: &'a Error,
    },
}

impl Health {
    pub(super) fn standing(&self, now: Instant) -> Standing<'_> {
        match &self.aside {
            None => Standing::Well,
            Some(aside) if aside.until <= now => Standing::Due,
            Some(Aside { until, failed_at, error, .. }) => {
                Standing::SetAside { until: *until, failed_at: *failed_at, error }
            }
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Somebody uses it. Answers whether that is a probe: then the others wait for the outcome, or as
    /// long again.
    pub(super) fn use_it(&mut self, now: Instant) -> bool {
        let Some(aside) = &mut self.aside else { return false };
        aside.until = now + aside.wait;
        true
    }

    /// Something begun in `epoch` failed. Answers for how long it is set aside now, `at_least` so long,
    /// unless that was decided already.
    pub(super) fn fail(
        &mut self,
        epoch: u64,
        now: Instant,
        at_least: Duration,
        error: Error,
    ) -> Option<Duration> {
        if epoch != self.epoch {
            return None;
        }
        self.epoch += 1;
        let failures = self.aside.as_ref().map_or(0, |aside| aside.failures).saturating_add(1);
        let wait = back_off(failures).max(at_least);
        self.aside = Some(Aside { failures, wait, until: now + wait, failed_at: now, error });
        Some(wait)
    }

    /// Something begun in `epoch` succeeded. Answers whether that is news.
    pub(super) fn succeed(&mut self, epoch: u64) -> bool {
        if self.aside.is_none() || epoch != self.epoch {
            return false;
        }
        self.aside = None;
        self.epoch += 1;
        true
    }
}

/// Half of the exponential back-off, and up to as much again by chance, so that clients that failed
/// together do not come back together.
pub(crate) fn back_off(failures: u32) -> Duration {
    let doubled = FIRST_BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let half = doubled.min(LONGEST_BACK_OFF) / 2;
    // A fresh RandomState is seeded by the operating system: good enough to spread callers.
    let random = RandomState::new().hash_one(failures);
    half + half.mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn is_well(health: &Health, now: Instant) -> bool {
        matches!(health.standing(now), Standing::Well)
    }

    #[test]
    fn failures_of_one_moment_count_once() {
        let (mut health, now) = (Health::default(), clock::now());
        let begun = health.epoch();
        let first = health.fail(begun, now, Duration::ZERO, Error::DeadlineExceeded).unwrap();
        assert!(first <= FIRST_BACK_OFF);
        assert_eq!(health.fail(begun, now, Duration::ZERO, Error::DeadlineExceeded), None);
        assert!(
            matches!(health.standing(now), Standing::SetAside { until, .. } if until == now + first)
        );
        assert!(!health.succeed(begun), "what began before says nothing of what is now");
        assert!(!is_well(&health, now));
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let (mut health, now) = (Health::default(), clock::now());
        let wait = health.fail(0, now, Duration::ZERO, Error::DeadlineExceeded).unwrap();
        let due = now + wait;
        assert!(matches!(health.standing(due), Standing::Due));
        assert!(health.use_it(due));
        assert!(matches!(health.standing(due), Standing::SetAside { .. }));
        assert!(health.succeed(health.epoch()));
        assert!(is_well(&health, due) && !health.use_it(due));
        assert!(!health.succeed(health.epoch()), "no news");
    }

    #[test]
    fn back_off_grows_to_its_bound_and_is_jittered() {
        for failures in 0..40 {
            let wait = back_off(failures);
            assert!(wait >= FIRST_BACK_OFF / 2 && wait <= LONGEST_BACK_OFF, "{failures}: {wait:?}");
        }
        assert!((0..20).any(|_| back_off(5) != back_off(5)));
    }
}
