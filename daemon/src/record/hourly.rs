//! So many an hour for each person (I9).

use std::{collections::HashMap, time::Duration};

/// Counts by person; what is beyond the bound is only counted.
#[derive(Debug)]
pub(super) struct Hourly {
    bound: u32,
    /// As many as there are custodians: only they are counted.
    persons: HashMap<String, Count>,
}

#[derive(Debug, Default)]
struct Count {
    hour: u64,
    kept: u32,
    left_out: u64,
}

impl Hourly {
    pub(super) fn new(bound: u32) -> Self {
        Self { bound, persons: HashMap::new() }
    }

    /// Whether one more may be kept at `boot`, a time of the monotonic clock; then how many were left
    /// out since the last that was.
    pub(super) fn admit(&mut self, person: &str, boot: Duration) -> Option<u64> {
        let hour = boot.as_secs() / 3600;
        let count = self.persons.entry(person.to_owned()).or_default();
        if count.hour != hour {
            (count.hour, count.kept) = (hour, 0);
        }
        if count.kept == self.bound {
            count.left_out += 1;
            return None;
        }
        count.kept += 1;
        Some(std::mem::take(&mut count.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_what_is_beyond_the_bound_is_counted_in_the_next_one_kept() {
        let mut hourly = Hourly::new(2);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(hourly.admit("ada", minutes(1)), Some(0));
        assert_eq!(hourly.admit("ada", minutes(2)), Some(0));
        for minute in 3..10 {
            assert_eq!(hourly.admit("ada", minutes(minute)), None);
        }
        assert_eq!(hourly.admit("bob", minutes(9)), Some(0), "each person for itself");
        assert_eq!(hourly.admit("ada", minutes(61)), Some(7));
        assert_eq!(hourly.admit("ada", minutes(62)), Some(0));
    }
}
