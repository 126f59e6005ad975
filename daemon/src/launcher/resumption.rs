//! An operator's word to try a parked device again.
//!
//! It is worth one start of the device's worker, the one after the worker that it is about. A word that comes too
//! late for that is not kept for later, when somebody else's refusal would be overruled by it (I10).

use std::time::{Duration, Instant};

/// How often a device may be resumed within [`WITHIN`]: HSMs lock a PIN after few failures.
const MAX: usize = 5;
const WITHIN: Duration = Duration::from_secs(3600);

/// What is known of a device's resumptions.
#[derive(Debug, Default)]
pub(super) struct Resumption {
    /// The next start of the worker may try what was refused before.
    granted: bool,
    /// When it was, within [`WITHIN`].
    granted_at: Vec<Instant>,
    /// Of the running server's requests the latest.
    heard: u64,
}

/// The worker that was started last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latest {
    /// Which start it was.
    pub(super) start: u64,
    /// It is not started again by itself.
    pub(super) parked: bool,
    /// Its process, unless it has ended.
    pub(super) process: Option<u32>,
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The next worker starts now.
    Start,
    /// The next worker starts when this one's process has ended.
    WhenEnded,
    /// The next worker starts when this process has ended, which does not although it was killed.
    Stuck(u32),
    /// It is about another worker than the latest, which is parked as well.
    Parked,
    /// It is about another worker than the latest, which is on its way.
    Late,
    /// Not before an hour is over.
    TooOften,
}

impl Resumption {
    /// Heeds the server's `number`th request: an operator wants the device tried again whose `start`th worker is
    /// parked. The server is not believed beyond a bound: each may cost one attempt at the PIN.
    pub(super) fn heed(&mut self, start: u64, number: u64, latest: Latest, now: Instant) -> Answer {
        self.heard = self.heard.max(number);
        if start != latest.start {
            return match latest {
                Latest { parked: false, .. } => Answer::Late,
                Latest { process: Some(id), .. } => Answer::Stuck(id),
                Latest { process: None, .. } => Answer::Parked,
            };
        }
        self.granted_at.retain(|at| now.saturating_duration_since(*at) < WITHIN);
        if self.granted_at.len() >= MAX {
            return Answer::TooOften;
        }
        self.granted_at.push(now);
        self.granted = true;
        match latest {
            Latest { process: None, .. } => Answer::Start,
            Latest { process: Some(id), parked: true, .. } => Answer::Stuck(id),
            // One that has said that it is parked may not be reaped yet.
            Latest { process: Some(_), parked: false, .. } => Answer::WhenEnded,
        }
    }

    /// Whether the next start may try what was refused before.
    pub(super) fn is_granted(&self) -> bool {
        self.granted
    }

    /// The worker has started that it was granted for.
    pub(super) fn is_used(&mut self) {
        self.granted = false;
    }

    /// The latest request that was heard; 0: none was.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Another server counts its own requests.
    pub(super) fn begin_anew(&mut self) {
        self.heard = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const PARKED: Latest = Latest { start: 3, parked: true, process: None };

    #[test]
    fn a_word_is_worth_one_start() {
        let (mut resumption, now) = (Resumption::default(), clock::monotonic());
        assert_eq!(resumption.heed(3, 1, PARKED, now), Answer::Start);
        assert!(resumption.is_granted());
        resumption.is_used();
        assert!(!resumption.is_granted());
    }

    #[test]
    fn what_has_not_ended_is_waited_for() {
        let (mut resumption, now) = (Resumption::default(), clock::monotonic());
        let ends = Latest { parked: false, process: Some(17), ..PARKED };
        assert_eq!(resumption.heed(3, 1, ends, now), Answer::WhenEnded);
        let stuck = Latest { process: Some(17), ..PARKED };
        assert_eq!(resumption.heed(3, 2, stuck, now), Answer::Stuck(17));
        assert!(resumption.is_granted(), "both start when the process has ended");
    }

    #[test]
    fn i10_a_word_about_another_worker_is_not_kept_for_later() {
        let (mut resumption, now) = (Resumption::default(), clock::monotonic());
        let signs = Latest { parked: false, process: Some(17), ..PARKED };
        assert_eq!(resumption.heed(2, 1, signs, now), Answer::Late);
        assert_eq!(resumption.heed(2, 2, PARKED, now), Answer::Parked);
        let stuck = Latest { process: Some(17), ..PARKED };
        assert_eq!(resumption.heed(2, 3, stuck, now), Answer::Stuck(17));
        assert!(!resumption.is_granted(), "this one refused for reasons of its own");
        assert_eq!(resumption.heard(), 3);
    }

    #[test]
    fn i10_words_are_few_within_an_hour() {
        let (mut resumption, now) = (Resumption::default(), clock::monotonic());
        for number in 1..=MAX as u64 {
            assert_eq!(resumption.heed(3, number, PARKED, now), Answer::Start);
            resumption.is_used();
        }
        assert_eq!(resumption.heed(3, 6, PARKED, now), Answer::TooOften);
        assert!(!resumption.is_granted());
        // Also by another server's count.
        resumption.begin_anew();
        assert_eq!((resumption.heed(3, 1, PARKED, now), resumption.heard()), (Answer::TooOften, 1));
        assert_eq!(resumption.heed(3, 2, PARKED, now + WITHIN), Answer::Start);
    }

    #[test]
    fn requests_that_overtake_each_other_count_by_their_numbers() {
        let (mut resumption, now) = (Resumption::default(), clock::monotonic());
        resumption.heed(3, 2, PARKED, now);
        resumption.heed(3, 1, PARKED, now);
        assert_eq!(resumption.heard(), 2);
    }
}
