//! What custodians can do to a keyset, as values: decided here, purely, and stored by the steward in
//! one compare-and-swap. Who may, and how many have to agree, stands before this.

use std::time::Duration;

use mintwarden_worker::device::DeviceKey;

use super::{
    Key, KeyState, Keyset, MadeKey, Phase, Signatures, Wish, WishedFor,
    change::{self, Context},
    plan::timing,
};
use crate::{clock::UnixTime, config::MAX_TOKEN_LIFETIME};

/// An act of a custodian.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What to do where a revoked key has no mature standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Let an immature standby sign: verifiers that do not know it yet refuse its tokens.
    DangerImmature,
    /// Sign nothing in that device until a standby is mature.
    Wait,
}

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
                next.leftovers_allowed = next.leftovers.len() + Keyset::ATTEMPTS;
                for other in next.keys.iter_mut().filter(|other| other.device == key.device) {
                    let wish = Wish { what, reason: reason.to_owned() };
                    other.wish = (other.handle == key.handle).then_some(wish);
                }
            }))
        }
        CustodianAct::Suspend { kid } => {
            let key = find(kid)?;
            if !matches!(key.state, KeyState::Active) && !key.is_standby() {
                return Err(wrong(key, "only an active key or a standby can be suspended"));
            }
            Ok(change(&|next| {
                if let Some(key) = next.by_handle_mut(&key.handle) {
                    change::stop(key, KeyState::Suspended, cx);
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
    if !keyset.keys.iter().any(meant) {
        return Err(Refusal::NoActiveKey(device.map(str::to_owned)));
    }
    Ok(keyset.succeed(cx.clock.clone(), |next| {
        next.leftovers_allowed = next.leftovers.len() + Keyset::ATTEMPTS;
        for key in next.keys.iter_mut().filter(|key| meant(key)) {
            key.wish = Some(Wish { what: WishedFor::Rotation, reason: reason.to_owned() });
        }
    }))
}

fn revoke(
    keyset: &Keyset,
    key: &Key,
    fallback: Option<Fallback>,
    cx: Context<'_>,
) -> Result<Keyset, Refusal> {
    if matches!(key.state, KeyState::Generating | KeyState::Compromised | KeyState::Destroyed) {
        return Err(wrong(key, "there is nothing left to revoke"));
    }
    let mut successor = None;
    if key.state == KeyState::Active || key.is_held() {
        let standbys = || {
            keyset.keys.iter().filter(|other| {
                other.is_standby() && other.device == key.device && other.handle != key.handle
            })
        };
        let left = |other: &Key| timing::until_mature(other, keyset, cx.now, cx.policy);
        successor = standbys().find(|other| timing::is_mature(other, keyset, cx.now, cx.policy));
        let elsewhere = keyset
            .keys
            .iter()
            .any(|other| other.state == KeyState::Active && other.device != key.device);
        let others = standbys().min_by_key(|other| left(other));
        successor = match (successor, fallback) {
            (Some(successor), _) => Some(successor),
            (None, Some(Fallback::DangerImmature)) => others,
            (None, Some(Fallback::Wait)) => None,
            (None, None) if elsewhere => None,
            (None, None) => return Err(Refusal::NoMatureStandby { left: others.and_then(left) }),
        };
    }
    Ok(keyset.succeed(cx.clock.clone(), |next| {
        next.leftovers_allowed = next.leftovers.len() + Keyset::ATTEMPTS;
        if let Some(key) = next.by_handle_mut(&key.handle) {
            change::compromise(key, cx);
        }
        if let Some(successor) = successor.and_then(|other| next.by_handle_mut(&other.handle)) {
            change::activate(successor, cx);
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
            Ok(keyset.succeed(cx.clock.clone(), |next| {
                next.leftovers_allowed = next.leftovers.len() + Keyset::ATTEMPTS;
            }))
        }
        Some(keyset) if keyset.phase == Phase::Restored => Err(Refusal::Restored),
        Some(_) => Err(Refusal::AlreadyInitialised),
    }
}

/// `recover`: every key that a device still shows becomes verify-only; the plan makes new ones.
/// `shown` are the issuer's keys by device, from all of its devices.
///
/// # Errors
/// [`Refusal::NothingToRecover`].
pub fn recover(
    keyset: Option<&Keyset>,
    issuer: &mintwarden_worker::IssuerName,
    shown: &[(String, Vec<DeviceKey>)],
    danger_immature: bool,
    cx: Context<'_>,
) -> Result<Keyset, Refusal> {
    let found = || shown.iter().flat_map(|(device, keys)| keys.iter().map(move |k| (device, k)));
    let before = match keyset {
        Some(keyset) if keyset.phase == Phase::Restored => keyset.clone(),
        // The store was emptied, maybe init was said since.
        Some(keyset)
            if keyset.phase == Phase::Initialising
                && found().any(|(device, key)| !keyset.names(device, &key.handle)) =>
        {
            keyset.clone()
        }
        None if found().next().is_some() => {
            let wait = cx.policy.maturity();
            let first = Keyset::new(issuer.clone(), Phase::Published, wait, cx.clock.clone());
            Keyset { version: 0, revision: 0, ..first }
        }
        _ => return Err(Refusal::NothingToRecover),
    };
    // Signing at once is what the first keys of an issuer do.
    let phase = if danger_immature { Phase::Initialising } else { Phase::Published };
    Ok(before.succeed(cx.clock.clone(), |next| {
        next.phase = phase;
        next.leftovers_allowed = next.leftovers.len() + Keyset::ATTEMPTS;
        for key in &mut next.keys {
            let shown = found().any(|(d, shown)| *d == key.device && shown.handle == key.handle);
            verify_only(key, shown, cx);
        }
        let at = cx.now.moment.wall.seconds();
        let unnamed: Vec<Key> = found()
            .filter(|(device, key)| !before.names(device, &key.handle))
            .filter_map(|(device, key)| lost_track_of(device, key, at, cx))
            .collect();
        next.keys.extend(unnamed);
    }))
}

/// What may have happened to a key after the copy was made is unknown: what it signed, it signed until
/// now, with the longest lifetime that there can be.
fn verify_only(key: &mut Key, shown: bool, cx: Context<'_>) {
    match key.state {
        KeyState::Destroyed | KeyState::Compromised => return,
        // Its record says that it is published, its device that it was destroyed since.
        _ if !shown => {
            change::compromise(key, cx);
            return;
        }
        KeyState::Generating => {
            key.state = KeyState::Compromised;
            key.unpublished = Some(cx.now.moment);
            return;
        }
        _ => {}
    }
    if key.unpublished.is_some() {
        return;
    }
    key.published.get_or_insert(cx.now.moment);
    key.signatures = Some(Signatures {
        max_lifetime: MAX_TOKEN_LIFETIME,
        stopped: Some(cx.now.stop(change::STOP_MARGIN)),
    });
    change::stop(key, KeyState::Deactivated, cx);
}

fn lost_track_of(device: &str, found: &DeviceKey, at: UnixTime, cx: Context<'_>) -> Option<Key> {
    let made = MadeKey::from(found.public.clone()?);
    let mut key = Key::intended(device, found.handle.clone(), made.jwk.algorithm(), at);
    key.made = Some(made);
    key.state = KeyState::Deactivated;
    verify_only(&mut key, true, cx);
    Some(key)
}
