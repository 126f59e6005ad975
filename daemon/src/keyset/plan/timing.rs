//! What has to be waited for, and since when (I4, I5, I11).

use std::time::Duration;

use super::{Act, Step};
use crate::{
    clock::{Agreement, Now},
    keyset::{Key, KeyState, Keyset, Lowering, Maturity, Policy, WishedFor},
};

/// Whether everything that waits stands still (I11).
#[must_use]
pub fn frozen(now: &Now) -> bool {
    now.agreement != Agreement::Agree
}

/// How long a key has still to be served until it is mature; `None` if it is not published. Zero
/// for one that is due.
#[must_use]
pub fn until_mature(key: &Key, keyset: &Keyset, now: &Now, policy: &Policy) -> Option<Duration> {
    if key.mature {
        return Some(Duration::ZERO);
    }
    let published = key.published.filter(|_| key.is_published())?;
    let served = keyset.maturity.wait.saturating_sub(now.moment.waited(published));
    // A verifier whose question met an interruption asks again within P.
    let settled = (policy.propagation + policy.skew).saturating_sub(now.uninterrupted);
    Some(served.max(settled))
}

/// Whether a key may sign now without a verifier that does not know it (I4).
pub(in crate::keyset) fn is_mature(key: &Key, keyset: &Keyset, now: &Now, policy: &Policy) -> bool {
    key.mature
        || (!frozen(now)
            && until_mature(key, keyset, now, policy).is_some_and(|left| left.is_zero()))
}

/// How old an active key is, by the wall clock.
#[must_use]
pub fn age(key: &Key, now: &Now) -> Duration {
    key.activated.map_or(Duration::ZERO, |since| now.moment.wall.since(since.wall))
}

/// How long a deactivated key has still to be published: until the last `exp` that it may have
/// signed, and S (I5). `None` if it is not published.
#[must_use]
pub fn until_unpublished(key: &Key, now: &Now, policy: &Policy) -> Option<Duration> {
    if !matches!(key.state, KeyState::Deactivated | KeyState::Destroyed) || !key.is_published() {
        return None;
    }
    let Some(signatures) = key.signatures else { return Some(Duration::ZERO) };
    let stopped = signatures.stopped?;
    let wait = signatures.max_lifetime + policy.skew;
    Some(wait.saturating_sub(now.moment.waited(stopped)))
}

/// How long the private key of an unpublished key is still kept. `None` if it is not to be destroyed.
#[must_use]
pub fn until_destroyed(key: &Key, now: &Now, policy: &Policy) -> Option<Duration> {
    match key.state {
        KeyState::Compromised => Some(Duration::ZERO),
        KeyState::Deactivated if is_wished_away(key) => Some(Duration::ZERO),
        KeyState::Deactivated => {
            let unpublished = key.unpublished?;
            Some(policy.destroy_after.saturating_sub(now.moment.waited(unpublished)))
        }
        _ => None,
    }
}

/// How long verifiers that keep an older JWK Set may still believe a revoked key: R + P from its
/// unpublishing on, by the wall clock. `None` where nobody can make a token with it that is believed.
#[must_use]
pub fn until_disbelieved(
    key: &Key,
    keyset: &Keyset,
    now: &Now,
    policy: &Policy,
) -> Option<Duration> {
    let unpublished = key.published.and(key.unpublished)?;
    // Others were unpublished when all that they had signed was over, in the device to the end.
    let early = key.signatures.is_none_or(|signatures| {
        let last = signatures.stopped.map(|stopped| stopped.wall.plus(signatures.max_lifetime));
        last.is_some_and(|last| unpublished.wall < last)
    });
    let revoked = matches!(key.state, KeyState::Compromised | KeyState::Destroyed) && early;
    let kept = keyset.maturity.wait.saturating_sub(policy.skew);
    revoked.then(|| kept.saturating_sub(now.moment.wall.since(unpublished.wall)))
}

/// Whether a custodian wants the private key destroyed without waiting.
pub(super) fn is_wished_away(key: &Key) -> bool {
    key.wish.as_ref().is_some_and(|wish| wish.what == WishedFor::Destruction)
}

/// R, P, S and L as they are in force once the configuration's are taken over.
pub(in crate::keyset) fn adopted(maturity: Maturity, now: &Now, policy: &Policy) -> Maturity {
    let wanted = policy.maturity();
    if wanted >= maturity.wait {
        return Maturity { wait: wanted, lowering: None };
    }
    match maturity.lowering.filter(|lowering| lowering.to == wanted) {
        // Whoever read the set under the longer R has asked again by now.
        Some(lowering) if !frozen(now) && now.moment.waited(lowering.since) >= maturity.wait => {
            Maturity { wait: wanted, lowering: None }
        }
        Some(_) => maturity,
        None => {
            let lowering = Lowering { to: wanted, since: now.moment };
            Maturity { lowering: Some(lowering), ..maturity }
        }
    }
}

/// Whether the keyset goes by another R + P + S or a shorter L than the configuration.
#[must_use]
pub fn needs_adoption(keyset: &Keyset, now: &Now, policy: &Policy) -> bool {
    let lifetime = keyset.keys.iter().any(|key| {
        key.state == KeyState::Active
            && key.signatures.is_none_or(|s| s.max_lifetime < policy.max_token_lifetime)
    });
    lifetime || adopted(keyset.maturity, now, policy) != keyset.maturity
}

pub(super) fn adopt(keyset: &Keyset, now: &Now, policy: &Policy) -> Option<Step> {
    needs_adoption(keyset, now, policy)
        .then(|| Step::new(Act::AdoptTimings, "the configuration's R + P + S or L is new"))
}

pub(super) fn maturing<'a>(
    keyset: &'a Keyset,
    now: &'a Now,
    policy: &'a Policy,
) -> impl Iterator<Item = Step> + 'a {
    let waiting = keyset.keys.iter().filter(|key| {
        !key.mature && matches!(key.state, KeyState::PreActive | KeyState::Suspended)
    });
    waiting.filter(|key| is_mature(key, keyset, now, policy)).map(|key| {
        let wait = humantime::format_duration(keyset.maturity.wait);
        Step::new(Act::Mature(key.handle.clone()), format!("{} was served for {wait}", key.name()))
    })
}
