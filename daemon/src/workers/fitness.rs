//! Which keys of a device may sign, as its worker last showed them.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use bytes::Bytes;
use mintwarden_worker::{
    device::{Cause, KeyHandle},
    wire::{KeyFitness, Listed},
};

use super::{Reason, words};

/// The keys that one worker process has shown. A key that it never showed is not there.
#[derive(Debug, Default)]
pub struct Keys(RwLock<HashMap<Bytes, Option<Reason>>>);

impl Keys {
    /// What the worker said of all keys at its start.
    pub(super) fn new(shown: impl IntoIterator<Item = KeyFitness>) -> Self {
        let keys = shown.into_iter().map(|key| (key.handle, key.unfit.map(Reason::from)));
        Self(RwLock::new(keys.collect()))
    }

    /// Why the key may not sign; `None` for one that may.
    #[must_use]
    pub fn unfit(&self, handle: &KeyHandle) -> Option<Reason> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(handle.as_bytes()).cloned().unwrap_or_else(|| Some(absent()))
    }

    /// What the worker says of the key now.
    pub(super) fn note(&self, handle: &Bytes, unfit: Option<Reason>) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(handle.clone(), unfit);
    }

    /// What the worker shows when asked for the key under `handle`. What else it shows is not kept, and
    /// nothing where it was asked for all keys: the handle is empty then.
    pub(super) fn note_shown(&self, handle: &Bytes, listed: &Listed) {
        if handle.is_empty() {
            return;
        }
        let unfit = match listed.keys.iter().find(|key| key.handle == *handle) {
            None => Some(absent()),
            Some(key) if key.defects.is_empty() => None,
            Some(key) => {
                let defects = words::cut(key.defects.join("; "));
                Some(Reason::new(Cause::KeyUnusable.as_str(), defects))
            }
        };
        self.note(handle, unfit);
    }

    /// All keys that may not sign, in words.
    #[must_use]
    pub fn defects(&self) -> Vec<String> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut defects: Vec<_> = keys
            .iter()
            .filter_map(|(handle, unfit)| Some((handle, unfit.as_ref()?)))
            .map(|(handle, unfit)| {
                format!("key {:?}: {}", KeyHandle::new(handle.to_vec()), unfit.detail)
            })
            .collect();
        defects.sort();
        words::defects(defects)
    }
}

fn absent() -> Reason {
    Reason::new(Cause::KeyAbsent.as_str(), "the device shows no object of it")
}

/// Whether a refusal is about the key and not about the request or the device.
pub(super) fn concerns_key(reason: &str) -> bool {
    [Cause::KeyAbsent, Cause::KeyUnusable].iter().any(|cause| cause.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::wire::{KeyReport, Refused};

    use super::*;

    fn reason(keys: &Keys, id: u8) -> Option<String> {
        keys.unfit(&KeyHandle::new(vec![id])).map(|unfit| unfit.reason)
    }

    #[test]
    fn a_key_is_what_the_worker_said_of_it_last() {
        let handle = |id: u8| Bytes::from(vec![id]);
        let bad = Refused { reason: "KEY_UNUSABLE".into(), detail: "half a pair".into() };
        let keys = Keys::new([
            KeyFitness { handle: handle(1), unfit: None },
            KeyFitness { handle: handle(2), unfit: Some(bad) },
        ]);
        assert_eq!(reason(&keys, 1), None);
        assert_eq!(reason(&keys, 2).as_deref(), Some("KEY_UNUSABLE"));
        assert_eq!(reason(&keys, 3).as_deref(), Some("KEY_ABSENT"));
        assert_eq!(keys.defects(), ["key 02: half a pair"]);

        keys.note_shown(&handle(1), &Listed::default());
        assert_eq!(reason(&keys, 1).as_deref(), Some("KEY_ABSENT"));
        let good = |id| KeyReport { handle: handle(id), ..KeyReport::default() };
        keys.note_shown(&handle(2), &Listed { keys: vec![good(2), good(4)] });
        assert_eq!(reason(&keys, 2), None);
        assert_eq!(reason(&keys, 4).as_deref(), Some("KEY_ABSENT"), "it was not asked for");
        // A look at all keys of a device that has none.
        let before = keys.defects();
        keys.note_shown(&Bytes::new(), &Listed::default());
        assert_eq!(keys.defects(), before);
    }
}
