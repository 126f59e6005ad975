//! What custodians can do to a keyset, as values: decided here, purely, and stored by the steward in
//! one compare-and-swap. Who may, and how many have to agree, stands before this.

mod recovery;
mod refusal;
mod revocation;

use std::time::Duration;

pub use recovery::recover;
pub use refusal::Refusal;
use revocation::revoke;
use serde::{Deserialize, Serialize};

use super::{
    Key, KeyState, Keyset, Phase, Suspension, Wish, WishedFor,
    change::{self, Context},
    plan::{Obstacle, timing},
};

/// An act of a custodian. Proposals and the record keep it as it is written here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CustodianAct {
    /// Make the first keys of an issuer that never published.
    Init,
    /// After an empty or restored store: what the devices still show becomes verify-only, new keys
    /// are made.
    Recover {
        /// The new keys sign at once, before verifiers can know them.
        danger_immature: bool,
    },
    /// Replace the active keys now, as the schedule would.
    Rotate {
        /// Only in this device.
        device: Option<String>,
    },
    /// Let a standby be the next active key of its device, now.
    Activate {
        /// Which.
        kid: String,
        /// Also where it is not mature.
        danger_immature: bool,
    },
    /// Stop a key from signing, at once and reversibly.
    Suspend {
        /// Which.
        kid: String,
    },
    /// Undo `Suspend`.
    Resume {
        /// Which.
        kid: String,
    },
    /// Unpublish and destroy a key, at once and for good.
    Revoke {
        /// Which.
        kid: String,
        /// What to do where no mature standby can take over.
        fallback: Option<Fallback>,
    },
    /// Destroy the private key of one that does not sign any more.
    Destroy {
        /// Which.
        kid: String,
    },
}

impl CustodianAct {
    /// The act's word, e.g. `revoke`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Recover { .. } => "recover",
            Self::Rotate { .. } => "rotate",
            Self::Activate { .. } => "activate",
            Self::Suspend { .. } => "suspend",
            Self::Resume { .. } => "resume",
            Self::Revoke { .. } => "revoke",
            Self::Destroy { .. } => "destroy",
        }
    }

    /// The key that it names, by `kid`.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        match self {
            Self::Init | Self::Recover { .. } | Self::Rotate { .. } => None,
            Self::Activate { kid, .. }
            | Self::Suspend { kid }
            | Self::Resume { kid }
            | Self::Revoke { kid, .. }
            | Self::Destroy { kid } => Some(kid),
        }
    }
}

/// What to do where a revoked key has no mature standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// Let an immature standby sign: verifiers that do not know it yet refuse its tokens.
    DangerImmature,
    /// Sign nothing in that device until a standby is mature.
    Wait,
}

/// The successor that an act makes of a keyset. `Init` and `Recover` have their own functions: they
/// look at the devices first.
///
/// # Errors
/// [`Refusal`].
pub fn decide(
    keyset: Option<&Keyset>,
    act: &CustodianAct,
    reason: &str,
    cx: Context<'_>,
) -> Result<Keyset, Refusal> {
    let keyset = keyset.ok_or(Refusal::NotInitialised)?;
    match keyset.phase {
        Phase::Published => {}
        Phase::Initialising => return Err(Refusal::NotInitialised),
        Phase::Restored => return Err(Refusal::Restored),
    }
    let find = |kid: &str| keyset.by_kid(kid).ok_or_else(|| Refusal::UnknownKey(kid.to_owned()));
    let change = |act: &dyn Fn(&mut Keyset)| keyset.succeed(cx.clock.clone(), |next| act(next));
    match act {
        CustodianAct::Init => Err(Refusal::AlreadyInitialised),
        CustodianAct::Recover { .. } => Err(Refusal::NothingToRecover),
        CustodianAct::Rotate { device } => rotate(keyset, device.as_deref(), reason, cx),
        CustodianAct::Activate { kid, danger_immature } => {
            let key = find(kid)?;
            if !key.is_standby() {
                return Err(wrong(key, "only a published standby can be activated"));
            }
            let left = timing::until_mature(key, keyset, cx.now, cx.policy).unwrap_or_default();
            let left = if timing::frozen(cx.now) && !key.mature {
                left.max(Duration::from_secs(1))
            } else {
                left
            };
            let what = match (left.is_zero(), danger_immature) {
                (true, _) => WishedFor::Activation,
                (false, true) => WishedFor::DangerImmatureActivation,
                (false, false) => return Err(Refusal::Immature { left }),
            };
            Ok(change(&|next| {
                next.settle_attempts(&key.device);
                for other in next.keys.iter_mut().filter(|other| other.device == key.device) {
                    let wish = Wish { what, reason: reason.to_owned() };
                    if other.handle == key.handle {
                        other.wish = Some(wish);
                    } else {
                        other.wish.take_if(|wish| wish.what != WishedFor::Destruction);
                    }
                }
            }))
        }
        CustodianAct::Suspend { kid } => {
            let key = find(kid)?;
            if !matches!(key.state, KeyState::Active) && !key.is_standby() {
                return Err(wrong(key, "only an active key or a standby can be suspended"));
            }
            Ok(change(&|next| {
                if key.state == KeyState::Active {
                    change::drop_activations(next, &key.device);
                }
                if let Some(key) = next.by_handle_mut(&key.handle) {
                    change::suspend(key, Suspension::Custodian(reason.to_owned()), cx);
                }
            }))
        }
        CustodianAct::Resume { kid } => {
            let key = find(kid)?;
            if key.state != KeyState::Suspended {
                return Err(wrong(key, "only a suspended key can be resumed"));
            }
            let taken = keyset.active(&key.device).is_some();
            Ok(change(&|next| {
                if key.activated.is_some() {
                    change::drop_activations(next, &key.device);
                }
                let Some(key) = next.by_handle_mut(&key.handle) else { return };
                match (key.activated, taken) {
                    (None, _) => change::enter(key, KeyState::PreActive, cx),
                    (Some(_), false) => change::reactivate(key, cx),
                    // Another one signs by now: this one has had its time.
                    (Some(_), true) => change::stop(key, KeyState::Deactivated, cx),
                }
            }))
        }
        CustodianAct::Revoke { kid, fallback } => revoke(keyset, find(kid)?, *fallback, cx),
        CustodianAct::Destroy { kid } => {
            let key = find(kid)?;
            if !matches!(key.state, KeyState::Deactivated | KeyState::Compromised) {
                return Err(wrong(
                    key,
                    "only a deactivated key can be destroyed; revoke takes one out of use",
                ));
            }
            Ok(change(&|next| {
                if let Some(key) = next.by_handle_mut(&key.handle) {
                    let reason = reason.to_owned();
                    key.wish = Some(Wish { what: WishedFor::Destruction, reason });
                }
            }))
        }
    }
}

fn wrong(key: &Key, remedy: &'static str) -> Refusal {
    Refusal::WrongState { state: key.state, remedy }
}

fn rotate(
    keyset: &Keyset,
    device: Option<&str>,
    reason: &str,
    cx: Context<'_>,
) -> Result<Keyset, Refusal> {
    let meant = |key: &Key| {
        key.state == KeyState::Active && device.is_none_or(|device| device == key.device)
    };
    // Where attempts came to nothing there may be no key to replace: more of them are what is asked for.
    let given_up =
        |device: &String| matches!(Obstacle::of(keyset, device), Some(Obstacle::GivenUp { .. }));
    let given_up = cx.policy.devices.iter().any(given_up);
    if !keyset.keys.iter().any(meant) && !given_up {
        return Err(Refusal::NoActiveKey(device.map(str::to_owned)));
    }
    Ok(keyset.succeed(cx.clock.clone(), |next| {
        next.allow_more_attempts();
        for key in next.keys.iter_mut().filter(|key| meant(key)) {
            key.wish = Some(Wish { what: WishedFor::Rotation, reason: reason.to_owned() });
        }
    }))
}

/// `init`: the first document of an issuer, or more attempts for one that is under way.
///
/// # Errors
/// [`Refusal::AlreadyInitialised`], [`Refusal::Restored`].
pub fn init(
    keyset: Option<&Keyset>,
    issuer: &mintwarden_worker::IssuerName,
    cx: Context<'_>,
) -> Result<Keyset, Refusal> {
    match keyset {
        None => {
            let wait = cx.policy.maturity();
            Ok(Keyset::new(issuer.clone(), Phase::Initialising, wait, cx.clock.clone()))
        }
        Some(keyset) if keyset.phase == Phase::Initialising => {
            Ok(keyset.succeed(cx.clock.clone(), Keyset::allow_more_attempts))
        }
        Some(keyset) if keyset.phase == Phase::Restored => Err(Refusal::Restored),
        Some(_) => Err(Refusal::AlreadyInitialised),
    }
}

#[cfg(test)]
mod overtaken;
#[cfg(test)]
mod tests;
