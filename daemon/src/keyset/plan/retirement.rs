//! How keys leave: devices that are configured no more, unpublishing, destruction (DESIGN.md
//! "Rotation timing" 4, 7; I5, I7).

use super::{
    Act, Step,
    timing::{frozen, is_wished_away, until_destroyed, until_unpublished},
};
use crate::{
    clock::Now,
    keyset::{Key, KeyState, Keyset, Policy, View},
};

/// Keys in devices that the issuer does not use any more. An active one goes once another device
/// signs.
pub(super) fn leaving(keyset: &Keyset, policy: &Policy, view: &View) -> Vec<Step> {
    let signs =
        |device: &String| keyset.active(device).is_some_and(|(key, _)| view.loss(key).is_none());
    let elsewhere = policy.devices.iter().any(signs);
    let goes = |key: &&Key| match key.state {
        KeyState::Active => elsewhere || policy.lost_devices.contains(&key.device),
        KeyState::PreActive => true,
        KeyState::Suspended => policy.lost_devices.contains(&key.device),
        _ => false,
    };
    let foreign = keyset.keys.iter().filter(|key| !policy.devices.contains(&key.device));
    let retire = |key: &Key| {
        let reason = format!("the issuer does not use {} any more", key.device);
        Step::new(Act::Retire(key.handle.clone()), reason)
    };
    foreign.filter(goes).map(retire).collect()
}

pub(super) fn unpublishing(keyset: &Keyset, now: &Now, policy: &Policy) -> Vec<Step> {
    let over = |key: &&Key| match until_unpublished(key, now, policy) {
        // What never signed has nothing to wait for.
        Some(left) => left.is_zero() && (key.signatures.is_none() || !frozen(now)),
        None => false,
    };
    let unpublish = |key: &Key| {
        let reason = format!("nothing that {} signed is valid any more", key.name());
        Step::new(Act::Unpublish(key.handle.clone()), reason)
    };
    keyset.keys.iter().filter(over).map(unpublish).collect()
}

pub(super) fn destroying(keyset: &Keyset, now: &Now, policy: &Policy, view: &View) -> Vec<Step> {
    let over = |key: &&Key| {
        let at_once = key.state == KeyState::Compromised || is_wished_away(key);
        until_destroyed(key, now, policy).is_some_and(|left| left.is_zero())
            && (at_once || !frozen(now))
    };
    let destroy = |key: &Key| {
        let (device, handle) = (key.device.clone(), key.handle.clone());
        let reason = format!("{} is {}", key.name(), key.state.as_str());
        if policy.lost_devices.contains(&device) {
            let reason = format!("{reason}, and {device} is lost");
            return Some(Step::new(Act::WriteOff(handle), reason));
        }
        view.usable(&device).then(|| Step::new(Act::Destroy { device, handle }, reason))
    };
    keyset.keys.iter().filter(over).filter_map(destroy).collect()
}

pub(super) fn forgetting(keyset: &Keyset) -> Vec<Step> {
    let destroyed = || {
        let gone = |key: &&Key| key.state == KeyState::Destroyed && !key.is_published();
        keyset.keys.iter().filter(gone)
    };
    let surplus = destroyed().count().saturating_sub(Policy::MAX_DESTROYED);
    let forget = |key: &Key| {
        Step::new(Act::Forget(key.handle.clone()), format!("{} is long gone", key.name()))
    };
    destroyed().take(surplus).map(forget).collect()
}
