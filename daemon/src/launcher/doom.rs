//! The end of a worker that the server has given up: it gets a while to end by itself, then it is
//! killed, and if even that does not end it (a driver that hangs in the kernel), its device is parked.

use std::time::{Duration, Instant};

/// How long a worker may take to close its sessions after its wire: longer than its own limit.
const CLOSING: Duration = Duration::from_secs(3);
/// How long a process may take to be gone after SIGKILL.
const REAPING: Duration = Duration::from_secs(10);

/// What is to be done with a worker that should be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sentence {
    /// Send SIGKILL.
    Kill,
    /// Give up: it cannot be reaped.
    Park,
}

/// A worker's way to its end.
#[derive(Debug)]
pub(super) struct Doom {
    next: Option<(Instant, Sentence)>,
}

impl Doom {
    /// Begins now; `at_once`: it is no use waiting for it to end by itself.
    pub(super) fn new(now: Instant, at_once: bool) -> Self {
        let kill = if at_once { now } else { now + CLOSING };
        Self { next: Some((kill, Sentence::Kill)) }
    }

    /// When there is something to be done next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// What is to be done now, once.
    pub(super) fn due(&mut self, now: Instant) -> Option<Sentence> {
        let (_, sentence) = self.next.filter(|(at, _)| *at <= now)?;
        self.next = match sentence {
            Sentence::Kill => Some((now + REAPING, Sentence::Park)),
            Sentence::Park => None,
        };
        Some(sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_is_given_up_is_let_go_then_killed_then_its_device_is_parked() {
        let now = crate::clock::monotonic();
        let mut doom = Doom::new(now, false);
        assert_eq!((doom.next(), doom.due(now)), (Some(now + CLOSING), None));
        let killed = now + CLOSING;
        assert_eq!(doom.due(killed), Some(Sentence::Kill));
        assert_eq!((doom.next(), doom.due(killed)), (Some(killed + REAPING), None));
        assert_eq!(doom.due(killed + REAPING), Some(Sentence::Park));
        assert_eq!((doom.next(), doom.due(killed + 2 * REAPING)), (None, None), "once");
    }

    #[test]
    fn a_worker_that_hangs_is_killed_at_once() {
        let now = crate::clock::monotonic();
        assert_eq!(Doom::new(now, true).due(now), Some(Sentence::Kill));
    }
}
