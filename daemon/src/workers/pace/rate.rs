//! How many signatures with one kind of key a device gives in a second with all its sessions.
//!
//! A batch whose signatures took `s` seconds each while `n` of `N` sessions were signing shows that the
//! device gives `n / s` a second (Little's law), and that all sessions together would give no less and
//! at most `N / s`. Where all of them were signing, and with a TPM's single session always, the two are
//! one; otherwise the estimate is moved only if it lies outside: a single signature on an idle HSM says
//! little about a full one.

use std::time::{Duration, Instant};

/// So many signatures have to be known before anything is refused for what they took.
const KNOWN: u32 = 8;
/// After so long without a signature the rate counts as twice as high, and after as long again as
/// four times, but no more: what was slow may have recovered, and whoever was refused has told nobody.
const AGES: Duration = Duration::from_secs(60);
const MAX_AGE: f64 = 2.0;
/// Bounds on a rate, signatures a second.
const RATES: (f64, f64) = (1e-3, 1e7);

/// What one batch showed.
#[derive(Clone, Copy, Debug)]
pub(in crate::workers) struct Sample {
    /// Signatures, all of them verified.
    pub(in crate::workers) signatures: u32,
    /// How long they took in the device, all together, by the worker's word.
    pub(in crate::workers) took: Duration,
    /// How many sessions were signing when each was begun: the sum, by the worker's word.
    pub(in crate::workers) sessions_busy: u64,
    /// Sessions that the device has.
    pub(in crate::workers) sessions: u32,
    /// How long the batch was with the worker, by the server's own clock.
    pub(in crate::workers) answered_in: Duration,
}

/// The estimate, as far as there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    per_second: f64,
    /// Signatures that it is made from, up to [`KNOWN`].
    known: u32,
    last: Option<Instant>,
    /// When a batch last had the chance to show it.
    tried: Option<Instant>,
}

impl Rate {
    /// The rate as last measured.
    pub(super) fn measured(&self) -> Option<f64> {
        (self.known > 0).then_some(self.per_second)
    }

    /// The rate to reckon with now; `None` while there is too little known.
    pub(super) fn at(&self, now: Instant) -> Option<f64> {
        let last = self.last.filter(|_| self.known >= KNOWN)?;
        let age = now.saturating_duration_since(last).as_secs_f64() / AGES.as_secs_f64();
        Some(self.per_second * age.min(MAX_AGE).exp2())
    }

    /// Notes that a batch may show the rate.
    pub(super) fn tried(&mut self, now: Instant) {
        self.tried = Some(now);
    }

    /// Whether nothing has had the chance to show the rate for long. Whoever always asks for more than it allows
    /// would be refused for ever otherwise, though the device has recovered.
    pub(super) fn is_untried(&self, now: Instant) -> bool {
        let last = self.last.max(self.tried);
        last.is_none_or(|last| now.saturating_duration_since(last) >= AGES)
    }

    /// Moves towards what a batch showed: at once while little is known, later by a factor of two at most,
    /// and by less for less than [`KNOWN`] signatures. One slow call costs little.
    pub(super) fn learn(&mut self, sample: Sample, now: Instant) {
        let Some((least, most)) = sample.bounds() else { return };
        self.last = Some(now);
        let signatures = f64::from(sample.signatures);
        if self.known == 0 {
            self.per_second = most;
        } else {
            let towards = self.per_second.clamp(least, most) / self.per_second;
            let (towards, weight) = if self.known < KNOWN {
                (towards, signatures / (f64::from(self.known) + signatures))
            } else {
                (towards.clamp(0.5, 2.0), (signatures / f64::from(KNOWN)).min(1.0))
            };
            self.per_second *= towards.powf(weight);
        }
        self.per_second = self.per_second.clamp(RATES.0, RATES.1);
        self.known = self.known.saturating_add(sample.signatures).min(KNOWN);
    }
}

impl Sample {
    /// Between which rates the device's is, signatures a second.
    fn bounds(&self) -> Option<(f64, f64)> {
        let sessions = f64::from(self.sessions.max(1));
        let signatures = f64::from(self.signatures);
        if self.signatures == 0 {
            return None;
        }
        // A worker cannot have taken more time than has passed.
        let took = self.took.min(self.answered_in.saturating_mul(self.sessions.max(1)));
        let each = (took.as_secs_f64() / signatures).max(1.0 / RATES.1);
        #[expect(clippy::cast_precision_loss, reason = "a worker that lies about it is clamped")]
        let busy = (self.sessions_busy as f64 / signatures).clamp(1.0, sessions);
        Some((busy / each, sessions / each))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn sample(signatures: u32, each: Duration, busy: u32, sessions: u32) -> Sample {
        let took = each.saturating_mul(signatures);
        Sample {
            signatures,
            took,
            sessions_busy: u64::from(busy) * u64::from(signatures),
            sessions,
            answered_in: took,
        }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn learnt(samples: &[Sample]) -> Rate {
        let now = clock::monotonic();
        let mut rate = Rate::default();
        samples.iter().for_each(|sample| rate.learn(*sample, now));
        rate
    }

    fn near(rate: &Rate, expected: f64) -> bool {
        rate.measured().is_some_and(|measured| (measured / expected - 1.0).abs() < 0.02)
    }

    #[test]
    fn i9_nothing_is_known_before_some_signatures() {
        let now = clock::monotonic();
        assert_eq!(Rate::default().at(now), None);
        let seven = learnt(&[sample(7, ms(200), 1, 1)]);
        assert!(seven.at(now).is_none() && near(&seven, 5.0), "shown, and not reckoned with");
        assert!(learnt(&[sample(8, ms(200), 1, 1)]).at(now).is_some());
    }

    #[test]
    fn a_single_session_is_measured_exactly_and_a_first_slow_call_is_soon_outweighed() {
        let mut samples = vec![sample(1, ms(2000), 1, 1)];
        samples.extend([sample(1, ms(20), 1, 1); 7]);
        let measured = learnt(&samples).measured().expect("known");
        assert!((20.0..50.0).contains(&measured), "{measured}");
        samples.extend([sample(8, ms(20), 1, 1); 2]);
        assert!(near(&learnt(&samples), 50.0));
    }

    #[test]
    fn i9_one_slow_call_costs_little_and_a_device_that_became_slow_is_noticed() {
        let fast = [sample(64, ms(1), 4, 4); 4];
        let slow_call = [&fast[..], &[sample(1, ms(10_000), 1, 4)]].concat();
        let measured = learnt(&slow_call).measured().expect("known");
        assert!(measured > 3500.0, "{measured} of 4000");
        let slow = [&fast[..], &[sample(8, ms(1000), 4, 4); 10]].concat();
        assert!(near(&learnt(&slow), 4.0));
        let recovered = [&slow[..], &[sample(8, ms(1), 4, 4); 10]].concat();
        assert!(near(&learnt(&recovered), 4000.0));
    }

    #[test]
    fn light_load_says_only_between_which_bounds_the_rate_is() {
        // A network HSM that signs in parallel: nothing is refused because it was idle.
        assert!(near(&learnt(&[sample(8, ms(2), 1, 32)]), 16_000.0));
        // A device that signs one after the other, seen under load and then idle.
        let busy = sample(64, ms(80), 4, 4);
        let idle = sample(1, ms(20), 1, 4);
        assert!(near(&learnt(&[busy]), 50.0));
        assert!(near(&learnt(&[&[busy][..], &[idle; 50]].concat()), 50.0));
        // Recovered: single signatures show that it gives more than was thought.
        assert!(near(&learnt(&[&[busy][..], &[sample(8, ms(1), 1, 4); 9]].concat()), 1000.0));
    }

    #[test]
    fn i9_a_rate_that_nothing_has_confirmed_counts_for_less_but_never_for_nothing() {
        let rate = learnt(&[sample(8, ms(200), 1, 1)]);
        let now = rate.last.expect("just learnt");
        for (age, expected) in [(0, 5.0), (60, 10.0), (120, 20.0), (86_400, 20.0)] {
            let at = rate.at(now + Duration::from_secs(age)).expect("known");
            assert!((at - expected).abs() < 1e-6, "after {age} s: {at}");
        }
    }

    #[test]
    fn a_worker_cannot_have_taken_longer_than_it_was_waited_for() {
        let lies = Sample { answered_in: ms(80), ..sample(8, ms(60_000), 1, 1) };
        assert!(near(&learnt(&[lies]), 100.0));
    }

    proptest! {
        #[test]
        fn i9_whatever_a_worker_says_the_rate_is_a_number_within_bounds(
            said in proptest::collection::vec(any::<(u32, u64, u64, u32, u32)>(), 1..20),
        ) {
            let samples: Vec<_> = said
                .into_iter()
                .map(|(signatures, took, sessions_busy, sessions, answered_in)| Sample {
                    signatures,
                    took: Duration::from_micros(took),
                    sessions_busy,
                    sessions,
                    answered_in: Duration::from_micros(answered_in.into()),
                })
                .collect();
            if let Some(rate) = learnt(&samples).measured() {
                prop_assert!((RATES.0..=RATES.1).contains(&rate), "{rate}");
            }
        }
    }
}
