//! A process that should run, and when to start it if it does not.

use std::{process::ExitStatus, time::Instant};

use super::{backoff::Backoff, process::Process};
use crate::clock;

/// One process, running or not.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) running: Option<Process>,
    pub(super) due: Option<Instant>,
    pub(super) backoff: Backoff,
    pub(super) parked: bool,
    pub(super) resume: bool,
    pub(super) resumed: Vec<Instant>,
    pub(super) generation: u64,
}

impl Slot {
    pub(super) fn due_now() -> Self {
        Self { due: Some(clock::monotonic()), ..Self::default() }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && self.due.is_some_and(|due| due <= now)
    }

    /// The exit status of the process, if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.running.as_mut()?.ended()?;
        self.running = None;
        Some(status)
    }
}
