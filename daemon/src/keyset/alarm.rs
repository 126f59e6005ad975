//! What a person should look at, as typed states: status, metrics and logs share them.

use std::time::Duration;

use mintwarden_worker::device::KeyHandle;

use super::{
    Destruction, KeyState, Keyset, Phase, Policy, View,
    plan::{Obstacle, timing, why_rotation_is_due},
    view::Loss,
};
use crate::clock::{Agreement, Now, UnixTime};

/// Something that a person should look at. Each has a stable word ([`Alarm::reason`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alarm {
    /// The store was put back from a copy; nothing is signed (I8).
    Restored,
    /// No key signs in a configured device.
    NoActiveKey {
        /// The device.
        device: String,
    },
    /// A device has fewer mature standbys than wanted while its active key should be replaced.
    LateStandby {
        /// The device.
        device: String,
        /// Why the active key is to be replaced.
        due: String,
        /// How long the next standby has still to be served; absent where there is none.
        left: Option<Duration>,
    },
    /// An active key has reached `sign_until` and refuses.
    PastSignUntil {
        /// The key.
        kid: String,
    },
    /// A key is suspended.
    Suspended {
        /// The key.
        kid: String,
        /// The device.
        device: String,
        /// By whom, and why, in words.
        why: String,
    },
    /// A device does not show a key that the records name, or shows it with a defect (I7).
    KeyLost {
        /// The key.
        kid: String,
        /// The device.
        device: String,
        /// What is wrong.
        loss: Loss,
    },
    /// A device shows a key of the issuer that no record names (I7).
    UnnamedObject {
        /// The device.
        device: String,
        /// Its handle.
        handle: KeyHandle,
    },
    /// A failed attempt may have left an object behind (I7).
    Leftover {
        /// The device.
        device: String,
        /// Its handle.
        handle: KeyHandle,
        /// What was wrong with it.
        reason: String,
    },
    /// No key is made until a person acts.
    GenerationStopped {
        /// The device.
        device: String,
        /// Why.
        why: Obstacle,
    },
    /// A private key was to be destroyed, and was not there (I7).
    DestroyedElsewhere {
        /// The key.
        kid: String,
        /// The device.
        device: String,
    },
    /// Wall clock and monotonic clock differ by more than S; whatever waits stands still (I11).
    ClocksDisagree {
        /// By how many milliseconds the wall clock was stepped, forward where positive.
        by: i64,
    },
    /// A step could not be carried out; it is tried again.
    Trouble {
        /// The device, absent where it was the store.
        device: Option<String>,
        /// What happened.
        what: String,
    },
}

impl Alarm {
    /// The stable word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Restored => "RESTORED",
            Self::NoActiveKey { .. } => "NO_ACTIVE_KEY",
            Self::LateStandby { .. } => "LATE_STANDBY",
            Self::PastSignUntil { .. } => "PAST_SIGN_UNTIL",
            Self::Suspended { .. } => "SUSPENDED",
            Self::KeyLost { .. } => "KEY_LOST",
            Self::UnnamedObject { .. } => "UNNAMED_OBJECT",
            Self::Leftover { .. } => "LEFTOVER",
            Self::GenerationStopped { .. } => "GENERATION_STOPPED",
            Self::DestroyedElsewhere { .. } => "DESTROYED_ELSEWHERE",
            Self::ClocksDisagree { .. } => "CLOCKS_DISAGREE",
            Self::Trouble { .. } => "TROUBLE",
        }
    }

    /// All words, for metrics.
    pub const REASONS: [&'static str; 12] = [
        "RESTORED",
        "NO_ACTIVE_KEY",
        "LATE_STANDBY",
        "PAST_SIGN_UNTIL",
        "SUSPENDED",
        "KEY_LOST",
        "UNNAMED_OBJECT",
        "LEFTOVER",
        "GENERATION_STOPPED",
        "DESTROYED_ELSEWHERE",
        "CLOCKS_DISAGREE",
        "TROUBLE",
    ];
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let after = |left: &Option<Duration>| match left {
            Some(left) => {
                let left = Duration::from_secs(left.as_secs());
                format!("the next is mature in {}", humantime::format_duration(left))
            }
            None => "there is none".into(),
        };
        match self {
            Self::Restored => f.write_str(
                "the store was put back from a copy: nothing is signed or published until a \
                 custodian says recover",
            ),
            Self::NoActiveKey { device } => write!(f, "no key signs in {device}"),
            Self::LateStandby { device, due, left } => {
                write!(f, "{device} has no mature standby although {due}; {}", after(left))
            }
            Self::PastSignUntil { kid } => {
                write!(f, "key {kid} has reached sign_until and refuses to sign")
            }
            Self::Suspended { kid, device, why } => {
                write!(
                    f,
                    "key {kid} in {device} is {why}; resume or revoke it, or activate another"
                )
            }
            Self::KeyLost { kid, device, loss } => write!(f, "key {kid} in {device}: {loss}"),
            Self::UnnamedObject { device, handle } => {
                write!(f, "{device} holds an object {handle:?} of the issuer that no record names")
            }
            Self::Leftover { device, handle, reason } => {
                write!(f, "device {device} may hold an unused object {handle:?}: {reason}")
            }
            Self::GenerationStopped { device: _, why } => why.fmt(f),
            Self::DestroyedElsewhere { kid, device } => {
                write!(f, "key {kid} was to be destroyed, and {device} did not hold it any more")
            }
            Self::ClocksDisagree { by } => write!(
                f,
                "the wall clock was stepped by {} s: maturity, unpublishing and destruction stand \
                 still until it is right or has held",
                // To the nearest: two readings of two clocks differ by a millisecond more or less.
                by.saturating_add(500).div_euclid(1000)
            ),
            Self::Trouble { device, what } => match device {
                Some(_) => write!(f, "{what}; it is tried again"),
                None => write!(f, "the store: {what}; it is tried again"),
            },
        }
    }
}

/// Everything about a keyset that a person should look at. What could not be carried out is added by
/// whoever tried.
#[must_use]
pub fn alarms(keyset: &Keyset, now: &Now, policy: &Policy, view: &View) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    if let Agreement::Stepped(by) = now.agreement {
        alarms.push(Alarm::ClocksDisagree { by });
    }
    match keyset.phase {
        Phase::Restored => alarms.push(Alarm::Restored),
        Phase::Published => {
            for device in &policy.devices {
                alarms.extend(of_device(keyset, now, policy, view, device));
            }
        }
        Phase::Initialising => {}
    }
    for device in &policy.devices {
        alarms.extend(
            Obstacle::of(keyset, device)
                .map(|why| Alarm::GenerationStopped { device: device.clone(), why }),
        );
    }
    for key in &keyset.keys {
        let (kid, device) = (key.name(), key.device.clone());
        match (key.state, &key.destruction) {
            (KeyState::Suspended, _) => {
                let why = key.suspension.as_ref().map_or("suspended".into(), ToString::to_string);
                let (kid, device) = (kid.clone(), device.clone());
                alarms.push(Alarm::Suspended { kid, device, why });
            }
            (_, Some(Destruction::Absent)) if key.made.is_some() => {
                alarms.push(Alarm::DestroyedElsewhere { kid: kid.clone(), device: device.clone() });
            }
            (KeyState::Active, _)
                if past_sign_until(key.activated, now.moment.wall.seconds(), policy) =>
            {
                alarms.push(Alarm::PastSignUntil { kid: kid.clone() });
            }
            _ => {}
        }
        alarms.extend(view.loss(key).map(|loss| Alarm::KeyLost { kid, device, loss }));
    }
    alarms.extend(view.unnamed(keyset).map(|(device, handle)| Alarm::UnnamedObject {
        device: device.to_owned(),
        handle: handle.clone(),
    }));
    alarms.extend(keyset.leftovers.iter().map(|left| Alarm::Leftover {
        device: left.device.clone(),
        handle: left.handle.clone(),
        reason: left.reason.clone(),
    }));
    alarms
}

fn of_device(keyset: &Keyset, now: &Now, policy: &Policy, view: &View, device: &str) -> Vec<Alarm> {
    let active = keyset.active(device).map(|(key, _)| key);
    let due = match active {
        Some(active) => why_rotation_is_due(keyset, now, policy, view, active),
        None => Some("no key signs".into()),
    };
    let standbys = keyset
        .keys
        .iter()
        .filter(|key| key.device == device && key.is_standby() && view.loss(key).is_none());
    let left = standbys.filter_map(|key| timing::until_mature(key, keyset, now, policy)).min();
    let mut alarms = Vec::new();
    if active.is_none() {
        alarms.push(Alarm::NoActiveKey { device: device.to_owned() });
    }
    if let Some(due) = due.filter(|_| left.is_none_or(|left| !left.is_zero())) {
        alarms.push(Alarm::LateStandby { device: device.to_owned(), due, left });
    }
    alarms
}

/// Whether a key that signs since `activated` has reached the hard limit of its age.
#[must_use]
pub fn past_sign_until(
    activated: Option<crate::clock::Moment>,
    now: UnixTime,
    policy: &Policy,
) -> bool {
    let (Some(activated), Some(limit)) = (activated, policy.sign_until) else { return false };
    now >= activated.wall.plus(limit).seconds()
}
