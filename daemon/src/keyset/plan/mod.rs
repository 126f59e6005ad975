//! What has to be done to a keyset, decided without doing it.

mod obstacle;
mod retirement;
mod rotation;
pub mod timing;

pub use obstacle::Obstacle;
pub(super) use rotation::{asked_for, why_rotation_is_due};

use mintwarden_worker::{Algorithm, device::KeyHandle};

use super::{Key, KeyState, Keyset, Phase, Policy, View};
use crate::clock::Now;

/// One step, with its reason for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub act: Act,
    /// Why.
    pub reason: String,
}

impl Step {
    fn new(act: Act, reason: impl Into<String>) -> Self {
        Self { act, reason: reason.into() }
    }
}

/// What a step does. Keys are named by their handles, which are never used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A recorded intent whose outcome is unknown: look in the device, adopt or give up.
    Settle {
        /// The device.
        device: String,
        /// The recorded handle.
        handle: KeyHandle,
    },
    /// Record an intent under a fresh handle, make the pair, adopt it.
    Generate {
        /// The device.
        device: String,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// Publish the first keys and make one per device active, in one compare-and-swap. The one
    /// place where a key signs that was never served before: nothing of the issuer was (I4).
    PublishFirst,
    /// Take over what the configuration says of R, P, S and L.
    AdoptTimings,
    /// Note that a key has been served for long enough.
    Mature(KeyHandle),
    /// Publish a standby.
    Publish(KeyHandle),
    /// Publish the next standbys, activate a standby and deactivate the active key, in one
    /// compare-and-swap (I6).
    Rotate {
        /// Spares that become standbys.
        publish: Vec<KeyHandle>,
        /// The standby that signs from now on.
        activate: KeyHandle,
        /// The key that never signs again.
        deactivate: Option<KeyHandle>,
    },
    /// Deactivate a key without a successor in its device; one that never signed is unpublished too.
    Retire(KeyHandle),
    /// Take a deactivated key out of the JWK Set.
    Unpublish(KeyHandle),
    /// Destroy a private key in its device.
    Destroy {
        /// The device.
        device: String,
        /// The key's handle.
        handle: KeyHandle,
    },
    /// Note that a private key went with its device.
    WriteOff(KeyHandle),
    /// Drop the record of a key that was destroyed long ago.
    Forget(KeyHandle),
}

impl Act {
    /// The step's word, e.g. `rotate`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Settle { .. } => "settle",
            Self::Generate { .. } => "generate",
            Self::PublishFirst => "publish-first",
            Self::AdoptTimings => "adopt-timings",
            Self::Mature(_) => "mature",
            Self::Publish(_) => "publish",
            Self::Rotate { .. } => "rotate",
            Self::Retire(_) => "retire",
            Self::Unpublish(_) => "unpublish",
            Self::Destroy { .. } => "destroy",
            Self::WriteOff(_) => "write-off",
            Self::Forget(_) => "forget",
        }
    }

    /// The keys that it names; of a rotation the one that signs from now on first.
    #[must_use]
    pub fn handles(&self) -> Vec<&KeyHandle> {
        match self {
            Self::Generate { .. } | Self::PublishFirst | Self::AdoptTimings => vec![],
            Self::Rotate { publish, activate, deactivate } => {
                [activate].into_iter().chain(deactivate).chain(publish).collect()
            }
            Self::Settle { handle, .. } | Self::Destroy { handle, .. } => vec![handle],
            Self::Mature(handle)
            | Self::Publish(handle)
            | Self::Retire(handle)
            | Self::Unpublish(handle)
            | Self::WriteOff(handle)
            | Self::Forget(handle) => vec![handle],
        }
    }

    /// The device that it needs, where it is not the store's alone.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Settle { device, .. }
            | Self::Generate { device, .. }
            | Self::Destroy { device, .. } => Some(device),
            _ => None,
        }
    }
}

/// The steps that take `keyset` to where `policy` wants it, in order: those that need only the store
/// before those that need a device. Empty: nothing to do now.
///
/// The same state gives the same steps, so that a crash between any two of them is continued by
/// the same plan. Every step changes that state: after the first, plan again.
#[must_use]
pub fn plan(keyset: &Keyset, now: &Now, policy: &Policy, view: &View) -> Vec<Step> {
    let mut steps = match keyset.phase {
        Phase::Restored => vec![],
        Phase::Initialising => first_keys(keyset, policy, view),
        Phase::Published => {
            let mut steps = Vec::from_iter(timing::adopt(keyset, now, policy));
            steps.extend(timing::maturing(keyset, now, policy));
            for device in &policy.devices {
                steps.extend(rotation::of_device(keyset, now, policy, view, device));
            }
            steps.extend(retirement::leaving(keyset, policy, view));
            steps.extend(retirement::unpublishing(keyset, now, policy));
            steps.extend(settling(keyset, view));
            steps.extend(retirement::destroying(keyset, now, policy, view));
            steps.extend(retirement::forgetting(keyset));
            steps
        }
    };
    steps.sort_by_key(|step| step.act.device().is_some());
    steps
}

fn settling<'a>(keyset: &'a Keyset, view: &'a View) -> impl Iterator<Item = Step> + 'a {
    let interrupted = keyset.keys.iter().filter(|key| key.state == KeyState::Generating);
    interrupted.filter(|key| view.usable(&key.device)).map(|key| {
        let act = Act::Settle { device: key.device.clone(), handle: key.handle.clone() };
        Step::new(act, format!("the attempt at a key in {} was interrupted", key.device))
    })
}

fn first_keys(keyset: &Keyset, policy: &Policy, view: &View) -> Vec<Step> {
    let interrupted = keyset.keys.iter().any(|key| key.state == KeyState::Generating);
    let mut steps: Vec<Step> = settling(keyset, view).collect();
    // Keys of the issuer that no record names: it has published before, and `recover` is the word (I8).
    if view.unnamed(keyset).next().is_some() {
        return steps;
    }
    let wanted = 1 + policy.standbys;
    let mut lacking = false;
    for device in &policy.devices {
        let first = |key: &&Key| {
            matches!(key.state, KeyState::Generating | KeyState::PreActive) && key.device == *device
        };
        let have = keyset.keys.iter().filter(first).count();
        lacking |= have < wanted;
        if have < wanted && view.knows(device) && rotation::may_generate(keyset, view, device) {
            let act = Act::Generate { device: device.clone(), algorithm: policy.algorithm };
            steps.push(Step::new(act, format!("{device} has {have} of the first {wanted} keys")));
        }
    }
    if !interrupted && !lacking {
        steps.push(Step::new(Act::PublishFirst, "all first keys exist"));
    }
    steps
}
