//! What steps make of a keyset: pure, one successor document for each compare-and-swap (I8).

use std::time::Duration;

use mintwarden_worker::device::{DeviceKey, KeyHandle};

use super::{
    Destruction, Key, KeyState, Keyset, Leftover, MadeKey, Phase, Policy, Signatures, Suspension,
    WishedFor,
    plan::{Act, timing},
};
use crate::clock::{Checkpoint, Now};

/// How long a change may be on its way until the key that it stops has stopped: its record says so
/// much later. Where it takes longer, [`prolong_stops`] corrects the record.
pub const STOP_MARGIN: Duration = Duration::from_secs(2);

/// What a change needs beside the keyset: the present, in both its shapes, and the policy.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present.
    pub now: &'a Now,
    /// The same, as it is stored.
    pub clock: &'a Checkpoint,
    /// What is wanted.
    pub policy: &'a Policy,
}

/// The successor for a step that needs only the store.
///
/// A step that needs a device has its own two: [`intend`] and [`adopt`] around the making of a key,
/// [`destroyed`] after its destruction; it is left as it is here.
#[must_use]
pub fn carry_out(keyset: &Keyset, act: &Act, cx: Context<'_>) -> Keyset {
    keyset.succeed(cx.clock.clone(), |next| match act {
        Act::PublishFirst => publish_first(next, cx),
        Act::AdoptTimings => adopt_timings(next, cx),
        Act::Mature(handle) => with(next, handle, |key| key.mature = true),
        Act::Publish(handle) => with(next, handle, |key| publish(key, cx)),
        Act::Rotate { publish: spares, activate: successor, deactivate: predecessor } => {
            for spare in spares {
                with(next, spare, |key| publish(key, cx));
            }
            if let Some(predecessor) = predecessor {
                with(next, predecessor, |key| deactivate(key, cx));
            }
            with(next, successor, |key| activate(key, cx));
            if let Some(device) = next.by_handle(successor).map(|key| key.device.clone()) {
                drop_activations(next, &device);
            }
        }
        Act::Retire(handle) => with(next, handle, |key| deactivate(key, cx)),
        Act::Unpublish(handle) => {
            with(next, handle, |key| key.unpublished = Some(cx.now.moment));
        }
        Act::WriteOff(handle) => {
            with(next, handle, |key| end(key, Destruction::DeviceLost, cx));
        }
        Act::Forget(handle) => next.keys.retain(|key| key.handle != *handle),
        Act::Settle { .. } | Act::Generate { .. } | Act::Destroy { .. } => {}
    })
}

fn with(keyset: &mut Keyset, handle: &KeyHandle, change: impl FnOnce(&mut Key)) {
    if let Some(key) = keyset.by_handle_mut(handle) {
        change(key);
    }
}

pub(super) fn enter(key: &mut Key, state: KeyState, cx: Context<'_>) {
    key.state = state;
    key.suspension = None;
    key.changed_at = cx.now.moment.wall.seconds();
}

fn publish(key: &mut Key, cx: Context<'_>) {
    key.published = Some(cx.now.moment);
}

/// Lets a key sign, published where it was not.
pub(super) fn activate(key: &mut Key, cx: Context<'_>) {
    enter(key, KeyState::Active, cx);
    key.wish = None;
    key.published.get_or_insert(cx.now.moment);
    key.activated = Some(cx.now.moment);
    let before = key.signatures.map_or(cx.policy.max_token_lifetime, |s| s.max_lifetime);
    let max_lifetime = before.max(cx.policy.max_token_lifetime);
    key.signatures = Some(Signatures { max_lifetime, stopped: None });
}

/// Lets a key go on signing that had been stopped. Its age goes on too.
pub(super) fn reactivate(key: &mut Key, cx: Context<'_>) {
    let since = key.activated;
    activate(key, cx);
    key.activated = since;
}

/// Ends a key's signing: what it signed is bounded from here on (I5).
pub(super) fn stop(key: &mut Key, state: KeyState, cx: Context<'_>) {
    enter(key, state, cx);
    key.wish = None;
    if let Some(signatures) = &mut key.signatures {
        signatures.stopped.get_or_insert(cx.now.stop(key.activated, STOP_MARGIN));
    }
}

/// Forgets which standby of a device was to be the next: it was asked for under circumstances that are over.
/// A key that a custodian stops since then is not to have an older word of another for its successor.
pub(super) fn drop_activations(keyset: &mut Keyset, device: &str) {
    for key in keyset.keys.iter_mut().filter(|key| key.device == device && key.is_standby()) {
        key.wish.take_if(|wish| wish.what != WishedFor::Destruction);
    }
}

/// Stops a key, reversibly.
pub(super) fn suspend(key: &mut Key, suspension: Suspension, cx: Context<'_>) {
    stop(key, KeyState::Suspended, cx);
    key.suspension = Some(suspension);
}

fn deactivate(key: &mut Key, cx: Context<'_>) {
    stop(key, KeyState::Deactivated, cx);
    if key.signatures.is_none() {
        key.unpublished.get_or_insert(cx.now.moment);
    }
}

/// Takes a key out of the JWK Set at once, for good. One whose private key is gone stays `destroyed`.
pub(super) fn compromise(key: &mut Key, cx: Context<'_>) {
    if key.state != KeyState::Destroyed {
        stop(key, KeyState::Compromised, cx);
    }
    key.unpublished.get_or_insert(cx.now.moment);
}

fn end(key: &mut Key, destruction: Destruction, cx: Context<'_>) {
    enter(key, KeyState::Destroyed, cx);
    key.wish = None;
    key.destruction = Some(destruction);
    key.wrapped = None;
}

fn publish_first(next: &mut Keyset, cx: Context<'_>) {
    next.phase = Phase::Published;
    for key in next.keys.iter_mut().filter(|key| key.is_spare()) {
        publish(key, cx);
    }
    for device in &cx.policy.devices {
        let first = |key: &&mut Key| key.device == *device && key.is_standby();
        if let Some(first) = next.keys.iter_mut().find(first) {
            activate(first, cx);
        }
    }
}

fn adopt_timings(next: &mut Keyset, cx: Context<'_>) {
    next.maturity = timing::adopted(next.maturity, cx.now, cx.policy);
    for key in next.keys.iter_mut().filter(|key| key.state == KeyState::Active) {
        let lifetime = cx.policy.max_token_lifetime;
        let signatures =
            key.signatures.get_or_insert(Signatures { max_lifetime: lifetime, stopped: None });
        signatures.max_lifetime = signatures.max_lifetime.max(lifetime);
    }
}

/// Records the intent to make a key, before it is made.
#[must_use]
pub fn intend(keyset: &Keyset, intent: Key, cx: Context<'_>) -> Keyset {
    keyset.succeed(cx.clock.clone(), |next| next.keys.push(intent))
}

/// Adopts a complete, single pair with the right attributes; anything else is given up and kept as a
/// leftover, for the next attempt takes a fresh handle. The second value says why.
#[must_use]
pub fn adopt(
    keyset: &Keyset,
    handle: &KeyHandle,
    found: Option<DeviceKey>,
    cx: Context<'_>,
) -> (Keyset, Option<String>) {
    let wrapped = found.as_ref().and_then(|found| found.wrapped.clone());
    let made = fit(keyset, handle, found, cx.policy);
    let given_up = made.as_ref().err().cloned();
    let device = keyset.by_handle(handle).map(|key| key.device.clone()).unwrap_or_default();
    let next = keyset.succeed(cx.clock.clone(), |next| match made {
        Ok(made) => {
            next.settle_attempts(&device);
            with(next, handle, |key| {
                key.made = Some(made);
                key.wrapped = wrapped;
                enter(key, KeyState::PreActive, cx);
            });
        }
        Err(reason) => {
            next.keys.retain(|key| key.handle != *handle);
            let at = cx.now.moment.wall.seconds();
            let handle = handle.clone();
            next.leave(Leftover { device, handle, reason, at, settled: false });
        }
    });
    (next, given_up)
}

fn fit(
    keyset: &Keyset,
    handle: &KeyHandle,
    found: Option<DeviceKey>,
    policy: &Policy,
) -> Result<MadeKey, String> {
    let found = found.ok_or("the device shows no object of it")?;
    if !found.defects.is_empty() {
        return Err(found.defects.join("; "));
    }
    if found.handle != *handle || found.issuer.as_ref() != Some(&keyset.issuer) {
        return Err("the device shows another key than the one asked for".into());
    }
    let made = MadeKey::from(found.public.ok_or("its public key cannot be read")?);
    let intended = keyset.by_handle(handle).map(|key| key.algorithm);
    if intended.is_some_and(|algorithm| algorithm != made.jwk.algorithm()) {
        return Err("the device made a key of another algorithm".into());
    }
    // Of an algorithm that is not wanted any more the size is not known any more.
    if made.jwk.algorithm() == policy.algorithm && made.jwk.rsa_bits() != policy.rsa_bits {
        return Err("the device made an RSA key of another size".into());
    }
    if keyset.keys.iter().any(|key| key.kid() == Some(&made.kid)) {
        return Err("the device gave the same key twice".into());
    }
    Ok(made)
}

/// Records that a private key is gone.
#[must_use]
pub fn destroyed(keyset: &Keyset, handle: &KeyHandle, absent: bool, cx: Context<'_>) -> Keyset {
    let destruction = if absent { Destruction::Absent } else { Destruction::Destroyed };
    keyset.succeed(cx.clock.clone(), |next| {
        with(next, handle, |key| end(key, destruction, cx));
    })
}

/// The same keyset, with keys that signed until now, though `before` was changed earlier; `None` where
/// none did.
#[must_use]
pub fn prolong_stops(before: &Keyset, keyset: &Keyset, cx: Context<'_>) -> Option<Keyset> {
    let active = |key: &&Key| key.state == KeyState::Active;
    let late: Vec<_> = before.keys.iter().filter(active).map(|key| &key.handle).collect();
    let stopped = |key: &Key| late.contains(&&key.handle) && key.state != KeyState::Active;
    keyset.keys.iter().any(stopped).then(|| {
        keyset.succeed(cx.clock.clone(), |next| {
            for key in next.keys.iter_mut().filter(|key| stopped(key)) {
                if let Some(signatures) = &mut key.signatures {
                    signatures.stopped = Some(cx.now.stop(key.activated, STOP_MARGIN));
                }
            }
        })
    })
}

/// Records that the store was put back from a copy.
#[must_use]
pub fn restored(keyset: &Keyset) -> Keyset {
    keyset.succeed(keyset.clock.clone(), |next| next.phase = Phase::Restored)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mintwarden_worker::{Algorithm, algorithm::RsaBits, jwk::PublicJwk};

    use super::*;
    use crate::{
        clock::{Clock as _, Timekeeper, Tolerance, UnixTime},
        keyset::sim::{SimClock, issuer, policy},
    };

    #[test]
    fn i1_an_rsa_key_of_another_size_than_asked_for_is_not_adopted() {
        let clock = SimClock::new();
        let second = Duration::from_secs(1);
        let tolerance = Tolerance { skew: second, settle: second, gap: second };
        let time = Timekeeper::start(None, clock.reading(), clock.boot_id(), tolerance);
        let (now, clock) = (time.now(), time.checkpoint());
        let handle = KeyHandle::new(vec![1; 16]);
        let intent = Key::intended("a", handle.clone(), Algorithm::PS256, UnixTime(0));
        let keyset = Keyset::new(issuer(), Phase::Published, second, clock.clone());
        let jwk = PublicJwk::from_rsa(Algorithm::PS256, &[0xff; 256], &[1, 0, 1]).expect("a key");
        let found = DeviceKey {
            handle: handle.clone(),
            issuer: Some(issuer()),
            public: Some(jwk),
            defects: vec![],
            wrapped: None,
            unproven: vec![],
        };
        let given_up = |rsa_bits| {
            let asked = Policy { algorithm: Algorithm::PS256, rsa_bits, ..policy(&["a"]) };
            let cx = Context { now: &now, clock: &clock, policy: &asked };
            adopt(&intend(&keyset, intent.clone(), cx), &handle, Some(found.clone()), cx).1
        };
        assert_eq!(given_up(Some(RsaBits::B2048)), None);
        let reason = given_up(Some(RsaBits::B3072)).expect("given up");
        assert!(reason.contains("another size"), "{reason}");
    }
}
