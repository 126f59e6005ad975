//! Why an act is refused.

use std::time::Duration;

use crate::keyset::KeyState;

/// Why an act is refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The issuer has keys.
    #[error("the issuer has keys already; init is only for one that never published")]
    AlreadyInitialised,
    /// The issuer has none.
    #[error("the issuer is not initialised; a custodian says init first")]
    NotInitialised,
    /// The devices hold keys of an issuer whose store is empty.
    #[error(
        "{0} holds keys of the issuer, so that it has published before; say recover, which makes \
         them verify-only"
    )]
    KeysInDevice(String),
    /// The store is sound.
    #[error("the issuer's keys are sound; recover is for a store that was emptied or put back")]
    NothingToRecover,
    /// The store was put back from a copy.
    #[error("the store was put back from a copy; a custodian says recover first")]
    Restored,
    /// There is no such key of the issuer.
    #[error("the issuer has no key {0}")]
    UnknownKey(String),
    /// The issuer has no such device, or no active key in it.
    #[error("the issuer has no active key{}", in_device(.0))]
    NoActiveKey(Option<String>),
    /// The act does not fit the key's state.
    #[error("the key is {}; {remedy}", state.as_str())]
    WrongState {
        /// Its state.
        state: KeyState,
        /// What can be done instead.
        remedy: &'static str,
    },
    /// The standby has not been served for long enough.
    #[error(
        "verifiers may not know the key yet: it is mature after being served for another {}",
        humantime::format_duration(whole(*left))
    )]
    Immature {
        /// How long it has still to be served.
        left: Duration,
    },
    /// Nothing can take over from a revoked key.
    #[error(
        "no mature standby can take over, {}; choose between activating an immature one and signing \
         nothing until then",
        standby(*left)
    )]
    NoMatureStandby {
        /// How long the oldest standby has still to be served; absent where there is none.
        left: Option<Duration>,
    },
}

fn in_device(device: &Option<String>) -> String {
    device.as_ref().map(|device| format!(" in {device}")).unwrap_or_default()
}

fn standby(left: Option<Duration>) -> String {
    match left {
        Some(left) => format!("the next is mature in {}", humantime::format_duration(whole(left))),
        None => "there is none at all".into(),
    }
}

/// Rounded up to the second.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}

impl Refusal {
    /// The stable reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AlreadyInitialised => "ALREADY_INITIALISED",
            Self::NotInitialised => "NOT_INITIALISED",
            Self::KeysInDevice(_) => "KEYS_IN_DEVICE",
            Self::NothingToRecover => "NOTHING_TO_RECOVER",
            Self::Restored => "RESTORED",
            Self::UnknownKey(_) => "UNKNOWN_KEY",
            Self::NoActiveKey(_) => "NO_ACTIVE_KEY",
            Self::WrongState { .. } => "WRONG_STATE",
            Self::Immature { .. } => "IMMATURE",
            Self::NoMatureStandby { .. } => "NO_MATURE_STANDBY",
        }
    }
}
