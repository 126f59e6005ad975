//! Why nothing of a batch was signed.

use mintwarden_worker::wire::OVERLOADED;

use crate::{
    admission::Inadmissible,
    workers::{Reason, TooSlow, WorkerError},
};

/// Why nothing of a batch was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// No custodian has said `init` yet, or its keys are still being made.
    #[error("the issuer is not initialised")]
    NotInitialised,
    /// The batch is not let in.
    #[error(transparent)]
    Inadmissible(#[from] Inadmissible),
    /// Time was over.
    #[error("the deadline passed")]
    Deadline,
    /// None of the issuer's devices would have signed it by its deadline.
    #[error("the deadline is too short: {0}")]
    TooSlow(TooSlow),
    /// None of the issuer's devices is usable now.
    #[error("no device of the issuer is usable: {0}")]
    Unavailable(Reason),
    /// The key stopped being active while it signed (I2).
    #[error("the key changed while it signed; ask again")]
    KeyChanged,
    /// A worker answered with what cannot be released; it was discarded.
    #[error("the device answered with signatures that cannot be released: {0}")]
    Untrue(&'static str),
}

impl From<WorkerError> for SignError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Deadline => Self::Deadline,
            WorkerError::Refused(reason) if reason.reason == OVERLOADED => {
                Self::Inadmissible(Inadmissible::overloaded())
            }
            WorkerError::TooSlow(slow) => Self::TooSlow(slow),
            WorkerError::Unavailable(reason)
            | WorkerError::Refused(reason)
            | WorkerError::Lost(reason) => Self::Unavailable(reason),
            // Never the last word: it is said only where another device takes the batch.
            WorkerError::Elsewhere => Self::Deadline,
            WorkerError::Broken(why) => Self::Untrue(why),
        }
    }
}

impl SignError {
    /// All stable reasons.
    pub const REASONS: [&'static str; 10] = [
        "NOT_INITIALISED",
        "BATCH_EMPTY",
        "TOO_MANY_ITEMS",
        "TOO_MANY_BYTES",
        "OVERLOADED",
        "DEADLINE_EXCEEDED",
        "DEVICE_TOO_SLOW",
        "DEVICE_UNAVAILABLE",
        "KEY_CHANGED",
        "DEVICE_FAULT",
    ];

    /// The stable reason, one of [`REASONS`](Self::REASONS).
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotInitialised => "NOT_INITIALISED",
            Self::Inadmissible(Inadmissible::Empty) => "BATCH_EMPTY",
            Self::Inadmissible(Inadmissible::TooManyItems(_)) => "TOO_MANY_ITEMS",
            Self::Inadmissible(Inadmissible::TooManyBytes(_)) => "TOO_MANY_BYTES",
            Self::Inadmissible(Inadmissible::Overloaded { .. }) => "OVERLOADED",
            Self::Deadline => "DEADLINE_EXCEEDED",
            Self::TooSlow(_) => "DEVICE_TOO_SLOW",
            Self::Unavailable(_) => "DEVICE_UNAVAILABLE",
            Self::KeyChanged => "KEY_CHANGED",
            Self::Untrue(_) => "DEVICE_FAULT",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_reason_is_listed() {
        let reason = Reason::new("X", "");
        let all = [
            SignError::NotInitialised,
            Inadmissible::Empty.into(),
            Inadmissible::TooManyItems(1).into(),
            Inadmissible::TooManyBytes(1).into(),
            Inadmissible::overloaded().into(),
            SignError::Deadline,
            SignError::TooSlow(TooSlow { takes: Duration::ZERO, retry_after: None, fits: 0 }),
            SignError::Unavailable(reason),
            SignError::KeyChanged,
            SignError::Untrue("x"),
        ];
        assert_eq!(all.map(|error| error.reason()), SignError::REASONS);
    }
}
