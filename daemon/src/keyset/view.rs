//! What the devices show of an issuer's keys, as far as they were asked. Never stored: a device that
//! shows less than the records name changes no record (I7).

use std::collections::BTreeMap;

use mintwarden_worker::device::{DeviceKey, KeyHandle};

use super::{Key, KeyState, Keyset};

/// What all devices show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    devices: BTreeMap<String, DeviceView>,
}

/// What one device shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceView {
    /// Whether it can be asked to make and destroy keys now.
    pub usable: bool,
    /// The issuer's keys in it, each with its defects; absent where it was not asked yet.
    shown: Option<BTreeMap<KeyHandle, Vec<String>>>,
}

/// Why a key that the records name cannot sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its device does not show it.
    Absent,
    /// Its device shows it with a defect (I1).
    Defective(String),
}

impl View {
    /// Notes whether a device can be asked.
    pub fn set_usable(&mut self, device: &str, usable: bool) {
        self.devices.entry(device.to_owned()).or_default().usable = usable;
    }

    /// Takes what a device has just listed.
    pub fn listed(&mut self, device: &str, keys: &[DeviceKey]) {
        let keys = keys.iter().map(|key| (key.handle.clone(), key.defects.clone()));
        self.devices.entry(device.to_owned()).or_default().shown = Some(keys.collect());
    }

    /// Notes a key that the device has just made.
    pub fn made(&mut self, device: &str, key: &DeviceKey) {
        if let Some(shown) = self.devices.get_mut(device).and_then(|view| view.shown.as_mut()) {
            shown.insert(key.handle.clone(), key.defects.clone());
        }
    }

    /// Notes that a key is not in the device any more.
    pub fn gone(&mut self, device: &str, handle: &KeyHandle) {
        if let Some(shown) = self.devices.get_mut(device).and_then(|view| view.shown.as_mut()) {
            shown.remove(handle);
        }
    }

    /// Whether a device can be asked to make and destroy keys.
    #[must_use]
    pub fn usable(&self, device: &str) -> bool {
        self.devices.get(device).is_some_and(|view| view.usable)
    }

    /// Whether a device has said what it shows.
    #[must_use]
    pub fn knows(&self, device: &str) -> bool {
        self.devices.get(device).is_some_and(|view| view.shown.is_some())
    }

    /// Why a key cannot sign, as far as its device was asked.
    #[must_use]
    pub fn loss(&self, key: &Key) -> Option<Loss> {
        if matches!(key.state, KeyState::Generating | KeyState::Destroyed) {
            return None;
        }
        let shown = self.devices.get(&key.device)?.shown.as_ref()?;
        match shown.get(&key.handle) {
            None => Some(Loss::Absent),
            Some(defects) if defects.is_empty() => None,
            Some(defects) => Some(Loss::Defective(defects.join("; "))),
        }
    }

    /// Objects of the issuer that no record names, by device: made by another appliance, or by this
    /// one before its store was put back.
    pub fn unnamed<'a>(
        &'a self,
        keyset: &'a Keyset,
    ) -> impl Iterator<Item = (&'a str, &'a KeyHandle)> {
        self.devices.iter().flat_map(move |(device, view)| {
            let shown = view.shown.iter().flat_map(BTreeMap::keys);
            shown
                .filter(|handle| !keyset.names(device, handle))
                .map(|handle| (device.as_str(), handle))
        })
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("the device does not show it"),
            Self::Defective(why) => write!(f, "the device shows it with a defect: {why}"),
        }
    }
}
