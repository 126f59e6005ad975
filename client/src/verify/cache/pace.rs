//! When to read next.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// No `max-age` makes a reader come back sooner than this.
const LEAST_MAX_AGE: Duration = Duration::from_secs(30);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// Keeps a reader that is told to hurry from doing nothing else.
const LEAST_WAIT: Duration = Duration::from_millis(50);

pub(super) struct Pace {
    refresh_every: Duration,
    next: Next,
}

#[derive(Clone, Copy)]
enum Next {
    Due(Duration),
    BackOff(Duration),
}

impl Pace {
    pub(super) fn new(refresh_every: Duration) -> Self {
        Self { refresh_every, next: Next::Due(refresh_every) }
    }

    pub(super) fn succeeded(&mut self, max_age: Option<Duration>) {
        let told = max_age.map_or(self.refresh_every, |max_age| max_age.max(LEAST_MAX_AGE));
        self.next = Next::Due(told.min(self.refresh_every));
    }

    pub(super) fn failed(&mut self) {
        let back_off = match self.next {
            Next::Due(_) => FIRST_BACK_OFF,
            Next::BackOff(last) => last.saturating_mul(2).min(LONGEST_BACK_OFF),
        };
        self.next = Next::BackOff(back_off.min(self.refresh_every));
    }

    /// How long to wait: 75 to 90 % of the time there is, so that the keys are read before it is over, and not by
    /// all readers at once.
    pub(super) fn wait(&self) -> Duration {
        let (Next::Due(time) | Next::BackOff(time)) = self.next;
        let random = RandomState::new().hash_one(0_u8) >> 32;
        let share = 0.75 + 0.15 * (random as f64 / f64::from(u32::MAX));
        time.mul_f64(share).max(LEAST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn due(pace: &Pace) -> Duration {
        let (Next::Due(time) | Next::BackOff(time)) = pace.next;
        time
    }

    #[test]
    fn the_shorter_of_both_times_counts_but_no_server_makes_it_hurry() {
        let mut pace = Pace::new(10 * MINUTE);
        for (max_age, expected) in [
            (None, 10 * MINUTE),
            (Some(5 * MINUTE), 5 * MINUTE),
            (Some(60 * MINUTE), 10 * MINUTE),
            (Some(Duration::ZERO), LEAST_MAX_AGE),
        ] {
            pace.succeeded(max_age);
            assert_eq!(due(&pace), expected, "{max_age:?}");
        }
    }

    #[test]
    fn it_is_read_before_its_time_is_over() {
        let pace = Pace::new(10 * MINUTE);
        for _ in 0..100 {
            let wait = pace.wait();
            assert!(wait >= MINUTE.mul_f64(7.5) && wait <= 9 * MINUTE, "{wait:?}");
        }
    }

    #[test]
    fn failures_back_off_to_a_bound_and_success_ends_that() {
        let mut pace = Pace::new(10 * MINUTE);
        let waits: Vec<_> = (0..9)
            .map(|_| {
                pace.failed();
                due(&pace).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        pace.succeeded(None);
        assert_eq!(due(&pace), 10 * MINUTE);
    }
}
