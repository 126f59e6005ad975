//! What happens to a key next, and when: for `keys list`, status and metrics.

use std::time::Duration;

use super::{
    Key, KeyState, Keyset, Policy, Suspension, View,
    plan::{asked_for, timing, why_rotation_is_due},
};
use crate::clock::{Now, UnixTime};

/// What happens to a key next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What.
    pub next: Next,
    /// When, if everything goes its way; absent where it waits for something else than time.
    pub at: Option<UnixTime>,
    /// The same in words.
    pub words: String,
}

/// What can happen to a key next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// It is made.
    Made,
    /// It is published.
    Published,
    /// It is mature.
    Mature,
    /// It is activated.
    Activated,
    /// It is deactivated: its successor takes over.
    Deactivated,
    /// A custodian resumes or revokes it.
    Decision,
    /// It is taken out of the JWK Set.
    Unpublished,
    /// Its private key is destroyed.
    Destroyed,
}

impl Next {
    /// Those that wait for time, where all goes well.
    pub const TIMED: [Self; 5] =
        [Self::Mature, Self::Activated, Self::Deactivated, Self::Unpublished, Self::Destroyed];

    /// The stable word; empty for nothing.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Made => "made",
            Self::Published => "published",
            Self::Mature => "mature",
            Self::Activated => "activated",
            Self::Deactivated => "deactivated",
            Self::Decision => "decision",
            Self::Unpublished => "unpublished",
            Self::Destroyed => "destroyed",
        }
    }
}

/// What happens to `key` next.
#[must_use]
pub fn outlook(key: &Key, keyset: &Keyset, now: &Now, policy: &Policy, view: &View) -> Outlook {
    let plain = |next, words: &str| Outlook { next, at: None, words: words.into() };
    let frozen = timing::frozen(now);
    let after = |next, left: Duration, words: &str| {
        if frozen {
            let words = format!("{words}; waits for the clocks to agree");
            return Outlook { next, at: None, words };
        }
        let left = Duration::from_secs(left.as_millis().div_ceil(1000).try_into().unwrap_or(0));
        let words = if left.is_zero() {
            format!("{words} now")
        } else {
            format!("{words} in {}", humantime::format_duration(left))
        };
        Outlook { next, at: Some(now.moment.wall.plus(left).seconds()), words }
    };
    match key.state {
        KeyState::Generating => plain(Next::Made, "is being made"),
        KeyState::Suspended => {
            let why = key.suspension.as_ref().map_or("suspended", Suspension::in_public);
            plain(Next::Decision, &format!("{why}; waits for a custodian: resume or revoke"))
        }
        KeyState::PreActive if !key.is_published() => {
            plain(Next::Published, "is published with the next rotation")
        }
        KeyState::PreActive if !timing::is_mature(key, keyset, now, policy) => {
            let left = timing::until_mature(key, keyset, now, policy).unwrap_or_default();
            after(Next::Mature, left, "mature")
        }
        KeyState::PreActive => {
            let active = keyset.active(&key.device).map(|(active, _)| active);
            match active {
                Some(active)
                    if why_rotation_is_due(keyset, now, policy, view, active).is_none() =>
                {
                    let left = policy.rotate_every.saturating_sub(timing::age(active, now));
                    after(Next::Activated, left, "mature; activated")
                }
                Some(_) => plain(Next::Activated, "mature; activated with the next step"),
                None => plain(Next::Activated, "mature; nothing is active"),
            }
        }
        KeyState::Active => match why_rotation_is_due(keyset, now, policy, view, key) {
            None => {
                let age = timing::age(key, now);
                let left = policy.rotate_every.saturating_sub(age);
                after(Next::Deactivated, left, &format!("signs, {} old; replaced", whole(age)))
            }
            Some(due) => {
                // A custodian's words are not for everybody who may see keys.
                let asked = view.loss(key).is_none() && asked_for(keyset, view, key).is_some();
                let due = if asked { "a custodian asked for it" } else { &due };
                plain(Next::Deactivated, &format!("signs; to be replaced, since {due}"))
            }
        },
        KeyState::Deactivated | KeyState::Destroyed if key.is_published() => {
            let left = timing::until_unpublished(key, now, policy).unwrap_or_default();
            after(Next::Unpublished, left, "verifies; unpublished")
        }
        KeyState::Deactivated => {
            let left = timing::until_destroyed(key, now, policy).unwrap_or_default();
            after(Next::Destroyed, left, "destroyed")
        }
        KeyState::Compromised => {
            let believed = believed(key, keyset, now, policy);
            plain(Next::Destroyed, &format!("destroyed as soon as its device answers{believed}"))
        }
        KeyState::Destroyed => {
            plain(Next::Nothing, &format!("gone{}", believed(key, keyset, now, policy)))
        }
    }
}

/// How long a revoked key has still to be reckoned with, in words.
fn believed(key: &Key, keyset: &Keyset, now: &Now, policy: &Policy) -> String {
    match timing::until_disbelieved(key, keyset, now, policy) {
        Some(left) if !left.is_zero() => {
            format!("; verifiers may believe it for another {}", whole(left))
        }
        _ => String::new(),
    }
}

fn whole(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyset::{
        act::{CustodianAct, Fallback},
        sim::{policy, world::World},
    };

    fn words(world: &World, which: impl Fn(&Key) -> bool) -> String {
        let (keyset, keeper) = (world.keyset(), world.keeper());
        let key = keyset.keys.iter().find(|key| which(key)).expect("there is such a key");
        outlook(key, &keyset, &keeper.now(), keeper.policy(), keeper.view()).words
    }

    #[test]
    fn a_revoked_key_is_reckoned_with_for_r_and_p_and_no_longer() {
        let policy = policy(&["a"]);
        let exposure = policy.verifier_refresh + policy.propagation;
        let mut world = World::initialised(policy);
        let kid = world.keyset().active("a").expect("it signs").1.kid.to_string();
        let fallback = Some(Fallback::DangerImmature);
        world.order(&CustodianAct::Revoke { kid: kid.clone(), fallback }).expect("revoked");
        let revoked = |key: &Key| key.kid().is_some_and(|other| other.as_str() == kid);
        world.run(Duration::from_secs(1));
        let said = words(&world, revoked);
        assert!(said.starts_with("gone; verifiers may believe it for another"), "{said}");
        world.run(exposure);
        assert_eq!(words(&world, revoked), "gone");
    }

    #[test]
    fn what_a_custodian_said_is_not_for_everybody() {
        let mut world = World::initialised(policy(&["a"]));
        world.order(&CustodianAct::Rotate { device: None }).expect("a key signs");
        let active = |key: &Key| key.state == KeyState::Active;
        let said = words(&world, active);
        assert_eq!(said, "signs; to be replaced, since a custodian asked for it");
    }
}
