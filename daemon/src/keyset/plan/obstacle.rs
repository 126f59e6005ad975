//! What keeps a key from being made until a person acts.

use std::fmt;

use crate::keyset::{Keyset, Policy};

/// Why no key is made in a device until a person acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The device holds as many keys of the issuer as may be there at a time (I9).
    Full {
        /// The device.
        device: String,
        /// How many.
        keys: usize,
    },
    /// Attempts came to nothing.
    GivenUp {
        /// How many in a row in the device.
        attempts: usize,
        /// Why the last one did.
        last: String,
    },
}

impl Obstacle {
    /// What stands in the way in `device`.
    #[must_use]
    pub fn of(keyset: &Keyset, device: &str) -> Option<Self> {
        let live = keyset.keys.iter().filter(|key| key.device == device && key.is_live());
        let keys = live.count();
        if keys >= Policy::MAX_KEYS {
            return Some(Self::Full { device: device.to_owned(), keys });
        }
        let attempts = keyset.failed_attempts(device);
        (attempts >= Keyset::ATTEMPTS).then(|| {
            let last = keyset.leftovers.iter().rfind(|left| left.device == device);
            let last = last.map(|left| left.reason.clone()).unwrap_or_default();
            Self::GivenUp { attempts, last }
        })
    }
}

/// With what a person can do about it.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { device, keys } => write!(
                f,
                "{device} holds {keys} keys of the issuer, and no more are made; let a custodian \
                 destroy some that do not sign any more"
            ),
            Self::GivenUp { attempts, last } => write!(
                f,
                "{attempts} attempts at a key came to nothing; the last: {last}; look at the \
                 device, then let a custodian say rotate (or init)"
            ),
        }
    }
}
