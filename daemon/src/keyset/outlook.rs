//! What happens to a key next, and when: for `keys list`, status and metrics.

use std::time::Duration;

use super::{
    Key, KeyState, Keyset, Policy, View,
    plan::{timing, why_rotation_is_due},
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
        KeyState::Suspended => plain(Next::Decision, "waits for a custodian: resume or revoke"),
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
                let left = policy.rotate_every.saturating_sub(timing::age(key, now));
                after(Next::Deactivated, left, "signs; replaced")
            }
            Some(due) => Outlook {
                next: Next::Deactivated,
                at: None,
                words: format!("signs; to be replaced, since {due}"),
            },
        },
        KeyState::Deactivated if key.is_published() => {
            let left = timing::until_unpublished(key, now, policy).unwrap_or_default();
            after(Next::Unpublished, left, "verifies; unpublished")
        }
        KeyState::Deactivated => {
            let left = timing::until_destroyed(key, now, policy).unwrap_or_default();
            after(Next::Destroyed, left, "destroyed")
        }
        KeyState::Compromised => plain(Next::Destroyed, "destroyed as soon as its device answers"),
        KeyState::Destroyed => plain(Next::Nothing, "gone"),
    }
}
