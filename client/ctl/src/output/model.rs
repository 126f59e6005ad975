//! The shape of `--json`, which is stable: fields are added, not renamed or removed.
//!
//! Times are RFC 3339 in UTC, to the second; states are the lower-case terms of the API without
//! their prefix; `reason` is null where there is none.

use std::time::SystemTime;

use mintwarden_client::api;
use serde::Serialize;
use serde_json::Value;

/// The answer to `keys list` and to acts: the keys after them.
#[derive(Debug, Serialize)]
pub(super) struct Keysets {
    pub(super) keysets: Vec<Keyset>,
}

#[derive(Debug, Serialize)]
pub(super) struct Keyset {
    pub(super) issuer: String,
    pub(super) revision: u64,
    pub(super) keys: Vec<Key>,
}

#[derive(Debug, Serialize)]
pub(super) struct Key {
    /// Null while the key is being generated.
    pub(super) kid: Option<String>,
    pub(super) device: String,
    /// `generating`, `pre-active`, `active`, `suspended`, `deactivated`, `compromised`, `destroyed`.
    pub(super) state: String,
    pub(super) algorithm: String,
    pub(super) created_at: Option<String>,
    pub(super) changed_at: Option<String>,
    /// The public key; null while it is being generated.
    pub(super) jwk: Option<Value>,
    /// Whether verifiers can see it.
    pub(super) published: bool,
    /// Whether every verifier knows it.
    pub(super) mature: bool,
    /// What happens to it next, e.g. `activated`; null for nothing.
    pub(super) next: Option<String>,
    /// When; null where it waits for something else than time.
    pub(super) next_at: Option<String>,
    /// The same in words.
    pub(super) outlook: Option<String>,
    pub(super) published_at: Option<String>,
    pub(super) activated_at: Option<String>,
    /// When it signed last at the latest.
    pub(super) stopped_at: Option<String>,
    pub(super) unpublished_at: Option<String>,
}

/// The answer to `keys show`.
#[derive(Debug, Serialize)]
pub(super) struct OneKey {
    pub(super) issuer: String,
    pub(super) revision: u64,
    pub(super) key: Option<Key>,
}

/// The answer to `status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) started_at: Option<String>,
    pub(super) issuers: Vec<IssuerStatus>,
    pub(super) devices: Vec<DeviceStatus>,
    pub(super) alarms: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct IssuerStatus {
    pub(super) name: String,
    pub(super) ready: bool,
    pub(super) reason: Option<String>,
    pub(super) revision: u64,
    pub(super) published_keys: u32,
    pub(super) alarms: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct DeviceStatus {
    pub(super) name: String,
    pub(super) kind: String,
    /// `starting`, `ready`, `down`, `parked`.
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) description: Option<String>,
    pub(super) sessions: u32,
    /// With all sessions, as measured; 0 before the first signature.
    pub(super) signatures_per_second: f64,
    pub(super) starts: u64,
    pub(super) last_fault: Option<DeviceFault>,
}

#[derive(Debug, Serialize)]
pub(super) struct DeviceFault {
    pub(super) reason: String,
    pub(super) detail: Option<String>,
    /// RFC 3339.
    pub(super) at: Option<String>,
}

impl From<Vec<api::Keyset>> for Keysets {
    fn from(keysets: Vec<api::Keyset>) -> Self {
        let keysets = keysets.into_iter().map(|keyset| Keyset {
            issuer: keyset.issuer,
            revision: keyset.revision,
            keys: keyset.keys.into_iter().map(Key::from).collect(),
        });
        Self { keysets: keysets.collect() }
    }
}

impl From<api::GetKeyResponse> for OneKey {
    fn from(response: api::GetKeyResponse) -> Self {
        let api::GetKeyResponse { issuer, revision, key } = response;
        Self { issuer, revision, key: key.map(Key::from) }
    }
}

impl From<api::Key> for Key {
    fn from(key: api::Key) -> Self {
        Self {
            state: term(key.state().as_str_name(), "KEY_STATE_"),
            kid: some(key.kid),
            device: key.device,
            algorithm: key.algorithm,
            created_at: key.created_at.and_then(time),
            changed_at: key.changed_at.and_then(time),
            jwk: serde_json::from_str(&key.jwk).ok(),
            published: key.published,
            mature: key.mature,
            next: some(key.next),
            next_at: key.next_at.and_then(time),
            outlook: some(key.outlook),
            published_at: key.published_at.and_then(time),
            activated_at: key.activated_at.and_then(time),
            stopped_at: key.stopped_at.and_then(time),
            unpublished_at: key.unpublished_at.and_then(time),
        }
    }
}

impl From<api::Status> for Status {
    fn from(status: api::Status) -> Self {
        Self {
            version: status.version,
            started_at: status.started_at.and_then(time),
            issuers: status.issuers.into_iter().map(IssuerStatus::from).collect(),
            devices: status.devices.into_iter().map(DeviceStatus::from).collect(),
            alarms: status.alarms,
        }
    }
}

impl From<api::IssuerStatus> for IssuerStatus {
    fn from(issuer: api::IssuerStatus) -> Self {
        Self {
            name: issuer.name,
            ready: issuer.ready,
            reason: some(issuer.reason),
            revision: issuer.revision,
            published_keys: issuer.published_keys,
            alarms: issuer.alarms,
        }
    }
}

impl From<api::DeviceStatus> for DeviceStatus {
    fn from(device: api::DeviceStatus) -> Self {
        Self {
            state: term(device.state().as_str_name(), "DEVICE_STATE_"),
            name: device.name,
            kind: device.kind,
            reason: some(device.reason),
            detail: some(device.detail),
            description: some(device.description),
            sessions: device.sessions,
            signatures_per_second: device.signatures_per_second,
            starts: device.starts,
            last_fault: device.last_fault.map(|fault| DeviceFault {
                reason: fault.reason,
                detail: some(fault.detail),
                at: fault.at.and_then(time),
            }),
        }
    }
}

/// `KEY_STATE_PRE_ACTIVE` as `pre-active`.
pub(super) fn term(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase().replace('_', "-")
}

pub(super) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(super) fn time<T>(time: T) -> Option<String>
where
    SystemTime: TryFrom<T>,
{
    let time = SystemTime::try_from(time).ok()?;
    Some(humantime::format_rfc3339_seconds(time).to_string())
}
