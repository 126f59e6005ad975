//! Medians and percentiles.

use std::time::Duration;

use serde::Serialize;

/// The median; for an even count the mean of the two in the middle, for none not a number.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// How long single operations took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latencies {
    /// How many there were.
    pub count: usize,
    /// Half of them were not slower than this.
    pub p50: f64,
    /// All but one in a hundred were not slower than this.
    pub p99: f64,
}

impl Latencies {
    /// Of these operations; `None` if there were none.
    #[must_use]
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        let at = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100).max(1);
            durations.get(rank - 1).map(|duration| duration.as_secs_f64() * 1e6)
        };
        Some(Self { count: durations.len(), p50: at(50)?, p99: at(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median([]).is_nan());
        assert_eq!(median([3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median([4.0, 1.0]).to_bits(), 2.5_f64.to_bits());
    }

    #[test]
    fn percentiles_are_measured_values() {
        assert_eq!(Latencies::of(Vec::new()), None);
        let hundred = (1..=100).map(Duration::from_micros).rev().collect();
        assert_eq!(Latencies::of(hundred), Some(Latencies { count: 100, p50: 50.0, p99: 99.0 }));
        let one = vec![Duration::from_micros(7)];
        assert_eq!(Latencies::of(one), Some(Latencies { count: 1, p50: 7.0, p99: 7.0 }));
    }
}
