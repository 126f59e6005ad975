//! What an act was proposed about: what whoever approves it goes by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::keyset::{
    Key, KeyState, Keyset, Phase, act::CustodianAct, change::Context, plan::timing,
};

/// The facts that an act was proposed about. Only those that its approvers would decide otherwise
/// for: a scheduled step in another device, or another standby that is made, is none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// How far the issuer had come; absent where it had no keyset.
    phase: Option<Phase>,
    /// The state of the key that the act names.
    key: Option<KeyState>,
    /// The `kid` that signed, by device, where the act takes its place or gives it back.
    active: BTreeMap<String, String>,
    /// Whether a mature standby was there to take over from a key that is to be revoked, where it signs.
    successor: bool,
}

impl Facts {
    /// The facts for an act, as they are now.
    #[must_use]
    pub fn of(keyset: Option<&Keyset>, act: &CustodianAct, cx: Context<'_>) -> Self {
        let phase = keyset.map(|keyset| keyset.phase);
        let nothing = Self { phase, key: None, active: BTreeMap::new(), successor: false };
        let Some(keyset) = keyset else { return nothing };
        let key = act.kid().and_then(|kid| keyset.by_kid(kid));
        let active = |device: Option<&str>| {
            let signs = keyset.keys.iter().filter(|key| {
                key.state == KeyState::Active && device.is_none_or(|device| device == key.device)
            });
            signs.map(|key| (key.device.clone(), key.name())).collect()
        };
        let of_key = Self { key: key.map(|key| key.state), ..nothing.clone() };
        match act {
            CustodianAct::Init | CustodianAct::Recover { .. } => nothing,
            CustodianAct::Rotate { device } => {
                Self { active: active(device.as_deref()), ..nothing }
            }
            CustodianAct::Activate { .. } | CustodianAct::Resume { .. } => {
                let device = key.map(|key| key.device.as_str());
                Self { active: device.map(|d| active(Some(d))).unwrap_or_default(), ..of_key }
            }
            CustodianAct::Suspend { .. } | CustodianAct::Destroy { .. } => of_key,
            CustodianAct::Revoke { .. } => {
                let successor = key.is_some_and(|key| {
                    let signs = key.state == KeyState::Active || keyset.holds_a_place(key);
                    !signs || has_successor(keyset, key, cx)
                });
                // Nobody would leave a stolen key published because it signs no more: who suspends it
                // first, or the schedule that replaces it, voids nothing.
                let key = key.map(|key| match key.state {
                    KeyState::Suspended | KeyState::Deactivated if key.activated.is_some() => {
                        KeyState::Active
                    }
                    state => state,
                });
                Self { successor, key, ..nothing }
            }
        }
    }

    /// What of it has changed to `now`, in words; `None` where nothing did that matters.
    #[must_use]
    pub fn changed(&self, now: &Self) -> Option<String> {
        if self.phase != now.phase {
            let word = |phase: Option<Phase>| phase.map_or("without keys", Phase::as_str);
            let (then, now) = (word(self.phase), word(now.phase));
            return Some(format!("the issuer was {then} and is {now}"));
        }
        if self.key != now.key {
            let word = |state: Option<KeyState>| state.map_or("unknown", KeyState::as_str);
            let (then, now) = (word(self.key), word(now.key));
            return Some(format!("the key was {then} and is {now}"));
        }
        let devices = self.active.keys().chain(now.active.keys());
        for device in devices {
            let (then, now) = (self.active.get(device), now.active.get(device));
            if then != now {
                let word = |kid: Option<&String>| kid.map_or("no key".into(), Clone::clone);
                let (then, now) = (word(then), word(now));
                return Some(format!("{then} signed in {device}, and now {now} does"));
            }
        }
        // One that is there by now makes the act only better.
        (self.successor && !now.successor)
            .then(|| "no mature standby is left to take over from the key".to_owned())
    }
}

fn has_successor(keyset: &Keyset, key: &Key, cx: Context<'_>) -> bool {
    keyset.keys.iter().any(|other| {
        other.is_standby()
            && other.device == key.device
            && other.handle != key.handle
            && timing::is_mature(other, keyset, cx.now, cx.policy)
    })
}
