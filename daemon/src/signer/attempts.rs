//! The attempts at one batch: a worker may end under it, a device may stall, refuse or answer wrong,
//! and as long as the deadline allows another attempt is made, by the same device or by another one.

use super::SignError;
use crate::workers::WorkerError;

/// How many workers one batch may lose. A batch that kills whoever signs it is to kill few.
const MAX_LOST: usize = 3;
/// How many attempts there are at all.
const MAX: usize = 12;

/// What has become of the attempts up to now.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    made: usize,
    lost: usize,
    /// Devices that are of no use to this batch.
    excluded: Vec<String>,
    last: Option<SignError>,
}

impl Attempts {
    /// Whether the device may be asked.
    pub(super) fn allow(&self, device: &str) -> bool {
        !self.excluded.iter().any(|excluded| excluded == device)
    }

    /// Notes what became of an attempt.
    ///
    /// # Errors
    /// What the caller gets, where no further attempt is made.
    pub(super) fn note(&mut self, device: &str, error: Setback) -> Result<(), SignError> {
        self.made += 1;
        let error = match error {
            Setback::Worker(WorkerError::Elsewhere) => None,
            Setback::Worker(error @ (WorkerError::Lost(_) | WorkerError::Broken(_))) => {
                self.lost += 1;
                Some(error.into())
            }
            Setback::Worker(WorkerError::TooSlow(slow)) => {
                self.excluded.push(device.to_owned());
                // Of two devices that are too slow, what the faster one says.
                Some(SignError::TooSlow(match self.last {
                    Some(SignError::TooSlow(other)) if other.takes < slow.takes => other,
                    _ => slow,
                }))
            }
            Setback::Worker(error @ (WorkerError::Unavailable(_) | WorkerError::Refused(_))) => {
                self.excluded.push(device.to_owned());
                Some(error.into())
            }
            Setback::Worker(error) => return Err(error.into()),
            Setback::Untrue(error) => {
                self.lost += 1;
                Some(error)
            }
            Setback::Refused(error) => {
                self.excluded.push(device.to_owned());
                Some(error)
            }
        };
        match error {
            Some(error @ SignError::Inadmissible(_)) => Err(error),
            Some(error) if self.lost >= MAX_LOST || self.made >= MAX => Err(error),
            None if self.made >= MAX => Err(self.last.take().unwrap_or(SignError::Deadline)),
            error => {
                self.last = error.or(self.last.take());
                Ok(())
            }
        }
    }

    /// What the caller gets where no device is left: why the last one did not do it, rather than why
    /// none can be chosen.
    pub(super) fn give_up(&mut self, error: SignError) -> SignError {
        self.last.take().unwrap_or(error)
    }
}

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(super) enum Setback {
    /// The worker did not answer.
    Worker(WorkerError),
    /// It answered with what cannot be released, and was discarded.
    Untrue(SignError),
    /// The device does not sign with this key.
    Refused(SignError),
}

impl From<WorkerError> for Setback {
    fn from(error: WorkerError) -> Self {
        Self::Worker(error)
    }
}
