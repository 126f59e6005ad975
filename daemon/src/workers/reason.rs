//! Why a device is not usable, and what went wrong last.

use std::{
    fmt,
    time::{Duration, Instant},
};

use mintwarden_worker::{device, wire::Refused};

use super::words;
use crate::clock::{self, UnixTime};

/// When to come back to a device that waits for an operator: not soon.
const PARKED: Duration = Duration::from_secs(30);
/// When to come back to a key that waits for a custodian: whoever asks gets a prompt answer, and notices
/// soon that the key was resumed.
const SUSPENDED: Duration = Duration::from_secs(10);
/// When to come back where nobody knows better.
const SOON: Duration = Duration::from_millis(500);

/// Why a device is not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable reason.
    pub reason: String,
    /// For the log and the operator.
    pub detail: String,
    comes_back: ComesBack,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ComesBack {
    #[default]
    Unknown,
    At(Instant),
    WithAnOperator,
    WithACustodian,
}

impl Reason {
    /// A stable reason, and its detail.
    pub fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        let (reason, detail) = (reason.into(), detail.into());
        Self { reason, detail, comes_back: ComesBack::Unknown }
    }

    /// The same, with the time of the next try.
    pub(super) fn until(self, next_try: Instant) -> Self {
        Self { comes_back: ComesBack::At(next_try), ..self }
    }

    /// The same, of what waits for an operator.
    #[must_use]
    pub fn needs_an_operator(self) -> Self {
        Self { comes_back: ComesBack::WithAnOperator, ..self }
    }

    /// The same, of what waits for a custodian.
    #[must_use]
    pub fn needs_a_custodian(self) -> Self {
        Self { comes_back: ComesBack::WithACustodian, ..self }
    }

    pub(super) fn worker_lost() -> Self {
        Self::new(WORKER_LOST, "the worker ended")
    }

    /// When it may be worth asking again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self.comes_back {
            ComesBack::Unknown => SOON,
            ComesBack::At(at) => at.saturating_duration_since(clock::monotonic()).max(SOON),
            ComesBack::WithAnOperator => PARKED,
            ComesBack::WithACustodian => SUSPENDED,
        }
    }
}

/// The reason of a worker that ended without a word.
pub(super) const WORKER_LOST: &str = "WORKER_LOST";

/// Why a worker is not there, beside what it says of its device itself.
pub(super) const WORKERS: [&str; 10] = [
    WORKER_LOST,
    "WORKER_SILENT",
    "WORKER_FAILED",
    "WORKER_CRASHED",
    "WORKER_NOT_STARTED",
    "WORKER_PARKED",
    "WORKER_STUCK",
    "RESUMED_TOO_OFTEN",
    "BUILD_MISMATCH",
    "DEVICE_FAULT",
];

/// A stable reason, if it is one of ours, else `OTHER`: a worker could say anything.
#[must_use]
pub fn cause(reason: &str) -> &'static str {
    let ours = WORKERS.into_iter().find(|cause| *cause == reason);
    ours.or_else(|| device::Cause::from_word(reason).map(device::Cause::as_str)).unwrap_or("OTHER")
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        let Refused { reason, detail } = words::refused(refused);
        Self::new(reason, detail)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

/// What went wrong with a device last; it may be well since.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What.
    pub reason: Reason,
    /// When.
    pub at: UnixTime,
}

impl Fault {
    pub(super) fn now(reason: Reason) -> Self {
        Self { reason, at: clock::wall() }
    }
}
