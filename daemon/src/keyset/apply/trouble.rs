//! What failed, and when it is tried again.

use std::{collections::BTreeMap, time::Duration};

use super::KeyOpsError;
use crate::{keyset::alarm::Alarm, store::StoreError};

const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(60);

/// What failed and has not succeeded since. Times are of `CLOCK_BOOTTIME`.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    devices: BTreeMap<String, Trouble>,
    store: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    what: String,
    pause: Duration,
    again: Duration,
}

impl Trouble {
    fn after(before: Option<&Self>, what: String, now: Duration) -> Self {
        let pause = before.map_or(FIRST, |before| (before.pause * 2).min(LAST));
        Self { what, pause, again: now + pause }
    }
}

impl Troubles {
    pub(super) fn failed(&mut self, device: &str, error: &KeyOpsError, now: Duration) {
        let trouble = Trouble::after(self.devices.get(device), error.to_string(), now);
        self.devices.insert(device.to_owned(), trouble);
    }

    pub(super) fn is_well(&mut self, device: &str) {
        self.devices.remove(device);
    }

    pub(super) fn waits(&self, device: &str, now: Duration) -> bool {
        self.devices.get(device).is_some_and(|trouble| now < trouble.again)
    }

    pub(super) fn store_failed(&mut self, error: &StoreError, now: Duration) {
        self.store = Some(Trouble::after(self.store.as_ref(), error.to_string(), now));
    }

    pub(super) fn store_is_well(&mut self) {
        self.store = None;
    }

    pub(super) fn store_waits(&self, now: Duration) -> bool {
        self.store.as_ref().is_some_and(|trouble| now < trouble.again)
    }

    /// A person has acted: everything is tried at once.
    pub(super) fn forget(&mut self) {
        self.devices.clear();
        self.store = None;
    }

    pub(super) fn first(&self) -> Option<String> {
        self.store.iter().chain(self.devices.values()).map(|trouble| trouble.what.clone()).next()
    }

    pub(super) fn alarms(&self) -> impl Iterator<Item = Alarm> {
        let store = self.store.iter().map(|trouble| (None, trouble));
        let devices = self.devices.iter().map(|(device, t)| (Some(device.clone()), t));
        store.chain(devices).map(|(device, t)| Alarm::Trouble { device, what: t.what.clone() })
    }
}
