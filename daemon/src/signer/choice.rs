//! Which device signs a batch, with which key.

use super::{SignError, Signer, attempts::Attempts};
use crate::{
    keyset::{
        Key, MadeKey,
        live::{Idle, LiveIssuer, Snapshot},
    },
    workers::{Ready, Reason, State},
};

impl Signer {
    /// The active key of the first usable device that holds it, in the issuer's order (DESIGN.md
    /// "Rotation timing" 7); if there is none, of the first that may come back by itself.
    pub(super) fn choose<'a>(
        &self,
        issuer: &LiveIssuer,
        snapshot: &'a Snapshot,
        attempts: &Attempts,
    ) -> Result<(&'a Key, &'a MadeKey), SignError> {
        let mut second = None;
        let mut last = None;
        for (device, active) in candidates(issuer, snapshot, attempts) {
            let active = match active {
                Ok(active) => active,
                Err(idle) => {
                    last = unavailable(idle).or(last);
                    continue;
                }
            };
            match self.workers.get(device).map(|worker| worker.state()) {
                Some(State::Ready(ready)) if fits(&ready, active.0) => return Ok(active),
                // A key that was not there may be now: the worker looks before it refuses.
                Some(State::Ready(_) | State::Starting) => second = second.or(Some(active)),
                Some(State::Down(reason) | State::Parked(reason)) => last = Some(reason),
                Some(State::Closed) | None => {}
            }
        }
        match (second, last) {
            (Some(active), _) => Ok(active),
            (None, Some(reason)) => Err(SignError::Unavailable(reason)),
            (None, None) if snapshot.jwks.is_none() => Err(SignError::NotInitialised),
            (None, None) => Err(no_device()),
        }
    }

    /// Whether another device than the key's would take the batch at once.
    pub(super) fn other_takes_it(
        &self,
        issuer: &LiveIssuer,
        snapshot: &Snapshot,
        key: &Key,
        attempts: &Attempts,
    ) -> bool {
        let mut others = candidates(issuer, snapshot, attempts);
        others.any(|(device, active)| {
            let Ok((other, _)) = active else { return false };
            device != key.device
                && match self.workers.get(device).map(|worker| worker.state()) {
                    Some(State::Ready(ready)) => fits(&ready, other),
                    _ => false,
                }
        })
    }
}

/// The devices that may be asked, in the issuer's order, with the key that signs there or why there is
/// none.
fn candidates<'i, 'a: 'i>(
    issuer: &'i LiveIssuer,
    snapshot: &'a Snapshot,
    attempts: &'i Attempts,
) -> impl Iterator<Item = (&'i str, Result<(&'a Key, &'a MadeKey), Idle>)> {
    let devices = issuer.signing_devices(snapshot).filter(|device| attempts.allow(device));
    devices.map(|device| (device.as_str(), issuer.signs(snapshot, device)))
}

/// Why a device without a key that may sign is of no use; `None` where it has nothing to do with it.
fn unavailable(idle: Idle) -> Option<Reason> {
    let detail = match idle {
        Idle::NoActiveKey => return None,
        Idle::Suspended => "the key is suspended until a custodian resumes it",
        Idle::PastSignUntil => "the key has reached sign_until",
    };
    Some(Reason::new(idle.reason(), detail).needs_a_custodian())
}

/// Whether the worker would sign with the key at once.
fn fits(ready: &Ready, key: &Key) -> bool {
    ready.takes_more() && ready.keys.unfit(&key.handle).is_none()
}

pub(super) fn no_device() -> SignError {
    let detail = "the issuer has no key that may sign in a configured device";
    SignError::Unavailable(Reason::new("NO_ACTIVE_KEY", detail))
}
