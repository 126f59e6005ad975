//! What keys need of devices, and each call of one as a value: it takes its time, so that it is made
//! beside everything else, between two compare-and-swaps.

use mintwarden_worker::{
    Algorithm, IssuerName,
    device::{DeviceKey, KeyHandle},
};

use crate::keyset::Keyset;

/// What keys need of devices.
pub trait KeyOps: Send + Sync {
    /// Whether the device can be asked now.
    fn readiness(&self, device: &str) -> Readiness;

    /// Length of the handle of a new key in `device`, in bytes: not all devices keep long ones.
    fn handle_bytes(&self, device: &str) -> usize;

    /// Why `device` is known not to be able to make keys for `issuer`; `None` where it can, or does not
    /// say.
    fn lacking(&self, device: &str, issuer: &IssuerName) -> Option<KeyOpsError>;

    /// Takes what a keyset, as it is stored now, keeps of keys that their devices do not store.
    fn keep(&self, keyset: &Keyset) {
        let _none_needed = keyset;
    }

    /// Makes a key pair for `issuer` under `handle`, and shows it as the device does.
    fn generate(
        &self,
        device: &str,
        issuer: &IssuerName,
        algorithm: Algorithm,
        handle: &KeyHandle,
    ) -> impl Future<Output = Result<DeviceKey, KeyOpsError>> + Send;

    /// Shows the key under `handle`; `None` if the device has no object with it.
    fn find(
        &self,
        device: &str,
        handle: &KeyHandle,
    ) -> impl Future<Output = Result<Option<DeviceKey>, KeyOpsError>> + Send;

    /// Shows all keys with the issuer's label.
    fn list(
        &self,
        device: &str,
        issuer: &IssuerName,
    ) -> impl Future<Output = Result<Vec<DeviceKey>, KeyOpsError>> + Send;

    /// Destroys the pair of `issuer` under `handle`; `false` if the device has no object with it.
    fn destroy(
        &self,
        device: &str,
        issuer: &IssuerName,
        handle: &KeyHandle,
    ) -> impl Future<Output = Result<bool, KeyOpsError>> + Send;
}

/// Whether a device can be asked to do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can; with the number of its worker's starts, by which a fresh one is known.
    Ready(u64),
    /// It will be able to in a moment.
    Starting,
    /// It cannot, with the reason.
    Down(String),
}

impl Readiness {
    /// The number of starts of one that can be asked.
    #[must_use]
    pub fn start(&self) -> Option<u64> {
        match self {
            Self::Ready(start) => Some(*start),
            _ => None,
        }
    }
}

/// Why a device could not do it. What became of a pair is then unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {device}: {reason}: {detail}")]
pub struct KeyOpsError {
    /// The device.
    pub device: String,
    /// Stable reason.
    pub reason: String,
    /// For the log and the operator.
    pub detail: String,
}

/// A call of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The device.
    pub device: String,
    /// What is asked of it.
    pub what: What,
}

/// What is asked of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// [`KeyOps::generate`].
    Generate(Algorithm, KeyHandle),
    /// [`KeyOps::find`].
    Find(KeyHandle),
    /// [`KeyOps::list`].
    List,
    /// [`KeyOps::destroy`].
    Destroy(KeyHandle),
}

/// What a device answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The key that `Generate` made or `Find` looked for, if it is there.
    Key(KeyHandle, Option<DeviceKey>),
    /// The keys that the device holds.
    Listed(Vec<DeviceKey>),
    /// The key is not there any more; whether it had been.
    Gone(KeyHandle, bool),
}

impl Call {
    /// Makes the call.
    ///
    /// # Errors
    /// The device's.
    pub async fn make(
        &self,
        issuer: &IssuerName,
        ops: &impl KeyOps,
    ) -> Result<Answer, KeyOpsError> {
        let device = &self.device;
        Ok(match &self.what {
            What::Generate(algorithm, handle) => {
                let key = ops.generate(device, issuer, *algorithm, handle).await?;
                Answer::Key(handle.clone(), Some(key))
            }
            What::Find(handle) => Answer::Key(handle.clone(), ops.find(device, handle).await?),
            What::List => Answer::Listed(ops.list(device, issuer).await?),
            What::Destroy(handle) => {
                let was_there = ops.destroy(device, issuer, handle).await?;
                Answer::Gone(handle.clone(), was_there)
            }
        })
    }
}
