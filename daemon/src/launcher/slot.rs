//! A process that should run, and when to start it if it does not.

use std::{process::ExitStatus, time::Instant};

use super::{
    backoff::Backoff,
    doom::Doom,
    process::Process,
    resumption::{Latest, Resumption},
};
use crate::clock;

/// One process, running or not.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) running: Option<Process>,
    pub(super) due: Option<Instant>,
    pub(super) backoff: Backoff,
    pub(super) parked: bool,
    pub(super) resumption: Resumption,
    pub(super) generation: u64,
    /// Which start of the worker this is.
    pub(super) start: u64,
    /// Set once the running process should be gone.
    pub(super) doom: Option<Doom>,
}

impl Slot {
    pub(super) fn due_now() -> Self {
        Self { due: Some(clock::monotonic()), ..Self::default() }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && self.due.is_some_and(|due| due <= now)
    }

    /// How the process that was started last is.
    pub(super) fn latest(&self) -> Latest {
        let process = self.running.as_ref().map(Process::id);
        Latest { start: self.start, parked: self.parked, process }
    }

    /// The exit status of the process, if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.running.as_mut()?.ended()?;
        self.running = None;
        self.doom = None;
        Some(status)
    }
}
