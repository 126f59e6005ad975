//! The server's end of the wires: one [`Worker`] per device, whatever process is behind it now.

mod attest;
mod breaker;
pub(crate) mod examine;
mod fitness;
mod ops;
mod order;
mod pace;
mod pulse;
mod ready;
mod reason;
mod state;
#[cfg(test)]
mod tests;
mod wire;
mod words;
mod worker;

use std::{collections::HashMap, sync::Arc, time::Duration};

use mintwarden_hsm_config::device::Device;
use mintwarden_worker::{
    IssuerName,
    device::{DeviceKey, KeyHandle, WrappedKey},
    jwk::PublicJwk,
    wire::KeyReport,
};

pub use attest::AttestError;
pub use fitness::Keys;
pub use pace::{KeyKind, TooSlow};
pub use ready::Ready;
pub use reason::{Fault, Reason, cause};
pub use state::{NotResumed, Said, State};
pub use worker::{Effort, SignedOnWire, Source, Worker};

use crate::launcher::control::Upward;

/// How long making or showing a key may take: HSMs make RSA keys in tens of seconds.
const KEY_OPERATION: Duration = Duration::from_secs(120);

const UNASKED: &str = "another answer than the one asked for";

/// All workers, by device.
#[derive(Debug)]
pub struct Workers {
    workers: HashMap<String, Arc<Worker>>,
}

/// Why a worker did not answer a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The device is not usable now.
    #[error("{0}")]
    Unavailable(Reason),
    /// Time was over.
    #[error("the deadline passed")]
    Deadline,
    /// The worker refuses the request as a whole.
    #[error("{0}")]
    Refused(Reason),
    /// The worker ended under the request.
    #[error("{0}")]
    Lost(Reason),
    /// The device would not have signed it by then.
    #[error(transparent)]
    TooSlow(#[from] TooSlow),
    /// Another device is better placed.
    #[error("another device takes it")]
    Elsewhere,
    /// The worker answered what was not asked; its wire was cut.
    #[error("the worker broke the protocol: {0}")]
    Broken(&'static str),
}

impl Workers {
    /// Workers for these devices, none of them there yet.
    #[must_use]
    pub fn new(devices: &[Device], launcher: &Upward) -> Self {
        let worker = |device: &Device| {
            (device.name.to_string(), Arc::new(Worker::new(device, launcher.clone())))
        };
        Self { workers: devices.iter().map(worker).collect() }
    }

    /// The worker of a device.
    #[must_use]
    pub fn get(&self, device: &str) -> Option<&Arc<Worker>> {
        self.workers.get(device)
    }

    /// All workers, by the names of their devices.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        let mut workers: Vec<_> = self.workers.values().map(|worker| &**worker).collect();
        workers.sort_by(|a, b| a.device.cmp(&b.device));
        workers.into_iter()
    }

    /// Cuts all wires: the workers end.
    pub fn close(&self) {
        self.workers.values().for_each(|worker| worker.state.close());
    }
}

impl WorkerError {
    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) | Self::Lost(reason) => {
                &reason.reason
            }
            Self::Elsewhere => "DEVICE_STALLED",
            Self::TooSlow(_) => "DEVICE_TOO_SLOW",
            Self::Deadline => "DEADLINE_EXCEEDED",
            Self::Broken(_) => "WORKER_BROKEN",
        }
    }

    /// What there is to say beside the reason.
    fn detail(&self) -> String {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) | Self::Lost(reason) => {
                reason.detail.clone()
            }
            Self::Deadline | Self::Broken(_) | Self::Elsewhere | Self::TooSlow(_) => {
                self.to_string()
            }
        }
    }
}

impl wire::Lost {
    /// What became of a request on this wire: why its worker ended, if anybody knows.
    fn of(self, wire: &wire::Wire) -> WorkerError {
        match self {
            Self::Wire => {
                WorkerError::Lost(wire.words().cloned().unwrap_or_else(Reason::worker_lost))
            }
            Self::Deadline => WorkerError::Deadline,
        }
    }
}

/// A key as a worker reports it. Its public key is parsed again: the worker is not trusted either.
pub(crate) fn device_key(report: KeyReport) -> DeviceKey {
    DeviceKey {
        handle: KeyHandle::new(report.handle.to_vec()),
        issuer: IssuerName::parse(&report.issuer).ok(),
        public: serde_json::from_str::<PublicJwk>(&report.public).ok(),
        defects: words::defects(report.defects),
        unproven: words::defects(report.unproven),
        wrapped: WrappedKey::new(report.wrapped.into()),
    }
}
