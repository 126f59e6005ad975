//! The breaker of one device: where workers keep ending, callers are told at once in place of being
//! kept waiting, until a single batch has shown that the device is well.

/// So many workers in a row may end without having signed anything before callers are told.
const TRIP: u32 = 5;

/// Counts workers that ended without proof that the device is well.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    ended: u32,
}

impl Breaker {
    /// A worker ended.
    pub(super) fn ended(&mut self) {
        self.ended = self.ended.saturating_add(1);
    }

    /// Signatures of the device verified.
    pub(super) fn proved(&mut self) {
        self.ended = 0;
    }

    /// Whether callers are told at once, and a fresh worker is on trial.
    pub(super) fn is_open(&self) -> bool {
        self.ended >= TRIP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_that_pile_up_open_it_and_a_proof_closes_it() {
        let mut breaker = Breaker::default();
        for _ in 1..TRIP {
            breaker.ended();
            assert!(!breaker.is_open());
        }
        breaker.ended();
        assert!(breaker.is_open());
        breaker.ended();
        breaker.proved();
        assert!(!breaker.is_open());
        breaker.ended();
        assert!(!breaker.is_open(), "it counts from the beginning");
    }
}
