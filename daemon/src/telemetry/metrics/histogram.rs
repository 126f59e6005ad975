//! A histogram of atomics: the library's takes a lock for each observation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Nanoseconds: from a software token's signature to the longest deadline.
const LATENCY: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
const NANOS: f64 = 1e9;

/// Counts of observations by upper bound. A scrape in the middle of an observation may see it in the
/// count and not yet in the sum.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: &'static [u64],
    /// How many units make one of those that are shown.
    scale: f64,
    /// One for each bound, and one for what is above all of them.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Of durations, shown in seconds.
    pub(super) fn of_seconds() -> Self {
        Self::new(LATENCY, NANOS)
    }

    /// Of whole numbers.
    pub(super) fn of(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1.0)
    }

    fn new(bounds: &'static [u64], scale: f64) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, scale, buckets, sum: AtomicU64::new(0) }))
    }

    /// Counts one observation.
    pub fn observe(&self, value: u64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts one duration.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl EncodeMetric for Histogram {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sum of nanoseconds is exact for a hundred days"
    )]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let Inner { bounds, scale, buckets, sum } = &*self.0;
        let shown = |value: u64| value as f64 / scale;
        let upper = bounds.iter().map(|bound| shown(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<_> =
            upper.zip(buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = shown(sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn an_observation_is_in_the_bucket_of_its_upper_bound() {
        let histogram = Histogram::of(&[1, 10]);
        [0, 1, 2, 10, 11].into_iter().for_each(|value| histogram.observe(value));
        let mut registry = Registry::default();
        registry.register("depth", "Depth", histogram);
        let text = super::super::encode(&registry);
        for line in [
            "depth_sum 24.0",
            "depth_count 5",
            "depth_bucket{le=\"1.0\"} 2",
            "depth_bucket{le=\"10.0\"} 4",
            "depth_bucket{le=\"+Inf\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_seconds() {
        let histogram = Histogram::of_seconds();
        histogram.observe_duration(Duration::from_micros(100));
        let mut registry = Registry::default();
        registry.register("stage", "Stage", histogram);
        let text = super::super::encode(&registry);
        assert!(text.contains("stage_sum 0.0001\n"), "{text}");
        assert!(text.contains("stage_bucket{le=\"0.0001\"} 1\n"), "{text}");
    }
}
