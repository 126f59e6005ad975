//! `recover`: what is still known after a store was emptied or put back.

use mintwarden_worker::device::DeviceKey;

use super::Refusal;
use crate::{
    clock::UnixTime,
    config::MAX_TOKEN_LIFETIME,
    keyset::{
        Key, KeyState, Keyset, Leftover, MadeKey, Phase, Signatures,
        change::{self, Context},
    },
};

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
        for key in &mut next.keys {
            let pair = Pair::of(key, shown);
            verify_only(key, pair, cx);
        }
        let at = cx.now.moment.wall.seconds();
        for (device, key) in found().filter(|(device, key)| !before.names(device, &key.handle)) {
            match sound(key) {
                Ok(made) => next.keys.push(lost_track_of(device, key, made, at, cx)),
                Err(reason) => {
                    let (device, handle) = (device.clone(), key.handle.clone());
                    next.leftovers.push(Leftover { device, handle, reason, at, settled: true });
                }
            }
        }
        next.allow_more_attempts();
    }))
}

/// What is known of a recorded key's pair now.
enum Pair<'a> {
    /// The device shows it.
    Shown(&'a DeviceKey),
    /// The device was asked and does not show it.
    Absent,
    /// The device is lost: nobody was asked.
    Unknown,
}

impl<'a> Pair<'a> {
    fn of(key: &Key, shown: &'a [(String, Vec<DeviceKey>)]) -> Self {
        let Some((_, keys)) = shown.iter().find(|(device, _)| *device == key.device) else {
            return Self::Unknown;
        };
        keys.iter().find(|shown| shown.handle == key.handle).map_or(Self::Absent, Self::Shown)
    }
}

/// What may have happened to a key after the copy was made is unknown: what it signed, it signed until
/// now, with the longest lifetime that there can be.
fn verify_only(key: &mut Key, pair: Pair<'_>, cx: Context<'_>) {
    match (key.state, pair) {
        (KeyState::Destroyed | KeyState::Compromised, _) => return,
        // It may have been adopted and have signed since.
        (KeyState::Generating, Pair::Shown(found)) => key.made = sound(found).ok(),
        // Its record says that it is published, its device that it was destroyed since.
        (_, Pair::Absent) => return change::compromise(key, cx),
        _ => {}
    }
    if key.made.is_none() {
        return change::compromise(key, cx);
    }
    if key.unpublished.is_some() {
        return;
    }
    key.published.get_or_insert(cx.now.moment);
    key.signatures = Some(Signatures {
        max_lifetime: MAX_TOKEN_LIFETIME,
        stopped: Some(cx.now.stop(None, change::STOP_MARGIN)),
    });
    change::stop(key, KeyState::Deactivated, cx);
}

/// The public half of a pair that may have signed: one with a defect never did, and may be anybody's
/// (I1).
fn sound(found: &DeviceKey) -> Result<MadeKey, String> {
    match &found.public {
        _ if !found.defects.is_empty() => Err(found.defects.join("; ")),
        None => Err("its public key cannot be read".into()),
        Some(public) => Ok(public.clone().into()),
    }
}

fn lost_track_of(
    device: &str,
    found: &DeviceKey,
    made: MadeKey,
    at: UnixTime,
    cx: Context<'_>,
) -> Key {
    let mut key = Key::intended(device, found.handle.clone(), made.jwk.algorithm(), at);
    key.made = Some(made);
    key.wrapped = found.wrapped.clone();
    key.state = KeyState::Deactivated;
    verify_only(&mut key, Pair::Shown(found), cx);
    key
}
