//! What server and workers say of themselves when the doctor asks: one JSON document.
//!
//! The server writes it, running or started for the examination. The doctor compares what it says of
//! records and what workers say of objects: neither has both.

use mintwarden_worker::{
    device::{DeviceKey, KeptKey, KeyHandle, WrappedKey},
    finding::Finding,
};
use serde::{Deserialize, Serialize};

use crate::{
    jwks::Jwks,
    keyset::{KeyState, Keyset, Phase},
    launcher::control::Addresses,
};

/// Bound on a document, bytes.
pub(crate) const MAX_ACCOUNT: u64 = 8 << 20;

/// What a doctor asks of a running server: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// How long the devices may take, milliseconds.
    pub(crate) within_ms: u32,
}

/// What the server says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerAccount {
    /// Its version.
    pub(crate) version: String,
    /// SHA-256 of the configuration's text that it runs with, hexadecimal.
    pub(crate) digest: String,
    /// Where it listens; empty for one that was started for the examination.
    pub(crate) addresses: Addresses,
    /// What it found of itself.
    pub(crate) findings: Vec<Finding>,
    /// Its issuers.
    pub(crate) issuers: Vec<IssuerAccount>,
    /// Its devices; empty for one that was started for the examination.
    pub(crate) devices: Vec<DeviceAccount>,
}

impl ServerAccount {
    /// What the records keep of keys that this device does not store.
    pub(crate) fn kept(&self, device: &str) -> Vec<KeptKey> {
        let keysets = self.issuers.iter().filter_map(|issuer| issuer.keyset.as_ref());
        let here = keysets.flat_map(|keyset| &keyset.keys).filter(|key| key.device == device);
        here.filter_map(|key| key.kept.clone()).map(KeptKey::from).collect()
    }
}

/// What the server has recorded of an issuer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerAccount {
    pub(crate) issuer: String,
    /// The keyset; absent before `init`.
    pub(crate) keyset: Option<KeysetAccount>,
    /// The JWK Set that it serves; absent before `init`.
    pub(crate) jwks: Option<JwksAccount>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysetAccount {
    pub(crate) revision: u64,
    /// Whether the store was put back from a copy.
    pub(crate) restored: bool,
    pub(crate) keys: Vec<KeyRecord>,
    pub(crate) leftovers: Vec<LeftoverRecord>,
}

/// A key as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRecord {
    pub(crate) device: String,
    /// Its handle, hexadecimal.
    pub(crate) handle: String,
    pub(crate) state: KeyState,
    /// Absent until the device has shown the pair.
    pub(crate) kid: Option<String>,
    /// What the device has to be given of it, where it does not store it.
    pub(crate) kept: Option<KeptRecord>,
}

/// A [`KeptKey`] as it travels to the doctor and on to the device's worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptRecord {
    handle: KeyHandle,
    wrapped: WrappedKey,
}

impl From<KeptKey> for KeptRecord {
    fn from(KeptKey { handle, wrapped }: KeptKey) -> Self {
        Self { handle, wrapped }
    }
}

impl From<KeptRecord> for KeptKey {
    fn from(KeptRecord { handle, wrapped }: KeptRecord) -> Self {
        Self { handle, wrapped }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeftoverRecord {
    pub(crate) device: String,
    pub(crate) handle: String,
    pub(crate) reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwksAccount {
    pub(crate) revision: u64,
    pub(crate) etag: String,
    /// Seconds.
    pub(crate) max_age: u64,
}

/// What a worker says, or what is known where there is none.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceAccount {
    pub(crate) device: String,
    pub(crate) findings: Vec<Finding>,
    /// The objects with our labels; absent where the device could not be asked.
    pub(crate) keys: Option<Vec<KeyObject>>,
}

/// A key as its device shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyObject {
    pub(crate) handle: String,
    pub(crate) issuer: Option<String>,
    pub(crate) kid: Option<String>,
    pub(crate) defects: Vec<String>,
    /// What the device does not show and its configuration excuses.
    pub(crate) unproven: Vec<String>,
}

impl IssuerAccount {
    pub(crate) fn new(issuer: &str, keyset: Option<&Keyset>, jwks: Option<&Jwks>) -> Self {
        let keyset = keyset.map(|keyset| KeysetAccount {
            revision: keyset.revision,
            restored: keyset.phase == Phase::Restored,
            // What was destroyed is in no device.
            keys: keyset
                .keys
                .iter()
                .filter(|key| key.is_live())
                .map(|key| KeyRecord {
                    device: key.device.clone(),
                    handle: format!("{:?}", key.handle),
                    state: key.state,
                    kid: key.made.as_ref().map(|made| made.kid.to_string()),
                    kept: key.kept().map(KeptRecord::from),
                })
                .collect(),
            leftovers: keyset
                .leftovers
                .iter()
                .map(|left| LeftoverRecord {
                    device: left.device.clone(),
                    handle: format!("{:?}", left.handle),
                    reason: left.reason.clone(),
                })
                .collect(),
        });
        let jwks = jwks.map(|jwks| JwksAccount {
            revision: jwks.revision,
            etag: jwks.etag.clone(),
            max_age: jwks.max_age.as_secs(),
        });
        Self { issuer: issuer.to_owned(), keyset, jwks }
    }
}

impl From<&DeviceKey> for KeyObject {
    fn from(key: &DeviceKey) -> Self {
        Self {
            handle: format!("{:?}", key.handle),
            issuer: key.issuer.as_ref().map(ToString::to_string),
            kid: key.public.as_ref().map(|public| public.kid().to_string()),
            defects: key.defects.clone(),
            unproven: key.unproven.clone(),
        }
    }
}
