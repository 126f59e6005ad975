//! What keysets ask of devices: keys made, shown and destroyed.

use bytes::Bytes;
use mintwarden_worker::{
    Algorithm, IssuerName,
    device::{Cause, DeviceKey, KeyHandle},
    wire::{Answer, Ask, Destroy, Generate, List},
};

use super::{KEY_OPERATION, Keys, State, UNASKED, Workers, device_key, words};
use crate::{
    clock::Deadline,
    keyset::{
        Key, Keyset,
        apply::{KeyOps, KeyOpsError, Readiness},
    },
};

impl KeyOps for Workers {
    fn handle_bytes(&self, device: &str) -> usize {
        self.get(device).map_or(KeyHandle::RANDOM_LEN, |worker| worker.handle_bytes)
    }

    fn keep(&self, keyset: &Keyset) {
        for worker in self.workers.values() {
            let here = keyset.keys.iter().filter(|key| key.device == worker.device);
            let kept: Vec<_> = here.filter_map(Key::kept).collect();
            worker.kept().insert(keyset.issuer.clone(), kept);
        }
    }

    fn lacking(&self, device: &str, issuer: &IssuerName) -> Option<KeyOpsError> {
        let State::Ready(ready) = self.get(device)?.state() else { return None };
        let lacking = ready.lacking.iter().find(|lacking| lacking.issuer == issuer.as_str())?;
        Some(KeyOpsError {
            device: device.to_owned(),
            reason: Cause::MechanismMissing.as_str().into(),
            detail: lacking.missing.clone(),
        })
    }

    fn readiness(&self, device: &str) -> Readiness {
        let Some(worker) = self.get(device) else {
            return Readiness::Down("it is not configured".into());
        };
        match worker.state() {
            State::Ready(_) => Readiness::Ready(worker.starts()),
            State::Starting => Readiness::Starting,
            State::Down(reason) | State::Parked(reason) => Readiness::Down(reason.to_string()),
            State::Closed => Readiness::Down("the server is shutting down".into()),
        }
    }

    async fn generate(
        &self,
        device: &str,
        issuer: &IssuerName,
        // The worker has it from its own configuration: a broken server chooses none (I12).
        _algorithm: Algorithm,
        handle: &KeyHandle,
    ) -> Result<DeviceKey, KeyOpsError> {
        let handle = Bytes::copy_from_slice(handle.as_bytes());
        let ask = Ask::Generate(Generate { issuer: issuer.to_string(), handle });
        let mut keys = self.show(device, ask).await?;
        match (keys.pop(), keys.is_empty()) {
            (Some(key), true) => Ok(key),
            _ => Err(KeyOpsError {
                device: device.to_owned(),
                reason: "WORKER_BROKEN".into(),
                detail: "it did not show exactly one new key".into(),
            }),
        }
    }

    async fn find(
        &self,
        device: &str,
        handle: &KeyHandle,
    ) -> Result<Option<DeviceKey>, KeyOpsError> {
        let ask = Ask::List(List { handle: Bytes::copy_from_slice(handle.as_bytes()) });
        Ok(self.show(device, ask).await?.into_iter().next())
    }

    async fn list(&self, device: &str, issuer: &IssuerName) -> Result<Vec<DeviceKey>, KeyOpsError> {
        let mut keys = self.show(device, Ask::List(List { handle: Bytes::new() })).await?;
        keys.retain(|key| key.issuer.as_ref() == Some(issuer));
        Ok(keys)
    }

    async fn destroy(
        &self,
        device: &str,
        issuer: &IssuerName,
        handle: &KeyHandle,
    ) -> Result<bool, KeyOpsError> {
        let handle = Bytes::copy_from_slice(handle.as_bytes());
        let ask = Ask::Destroy(Destroy { issuer: issuer.to_string(), handle });
        self.manage(device, ask, |answer, _| match answer {
            Answer::Destroyed(destroyed) => Some(destroyed.was_there),
            _ => None,
        })
        .await
    }
}

impl Workers {
    /// Asks a device what takes its time, once.
    pub(super) async fn manage<T>(
        &self,
        device: &str,
        ask: Ask,
        expected: impl FnOnce(Answer, &Keys) -> Option<T>,
    ) -> Result<T, KeyOpsError> {
        let failed = |reason: &str, detail: String| KeyOpsError {
            device: device.to_owned(),
            reason: reason.to_owned(),
            detail,
        };
        let worker =
            self.get(device).ok_or_else(|| failed("UNKNOWN_DEVICE", "not configured".into()))?;
        let deadline = Deadline::within(KEY_OPERATION);
        // Never asked twice: whether a lost request did something, only a look-up tells.
        let ready =
            worker.state.ready(deadline).await.map_err(|e| failed(e.reason(), e.detail()))?;
        match ready.wire.ask(ask, None, deadline).await {
            Ok(Answer::Refused(refused)) => {
                let refused = words::refused(refused);
                Err(failed(&refused.reason, refused.detail))
            }
            Ok(answer) => expected(answer, &ready.keys).ok_or_else(|| {
                worker.state.distrusted(&ready.wire, UNASKED);
                failed("WORKER_BROKEN", "it answered what was not asked".into())
            }),
            Err(lost) => {
                let error = lost.of(&ready.wire);
                Err(failed(error.reason(), error.detail()))
            }
        }
    }

    async fn show(&self, device: &str, ask: Ask) -> Result<Vec<DeviceKey>, KeyOpsError> {
        let handle = match &ask {
            Ask::Generate(Generate { handle, .. }) | Ask::List(List { handle }) => handle.clone(),
            _ => Bytes::new(),
        };
        self.manage(device, ask, |answer, keys| match answer {
            Answer::Listed(listed) => {
                // A look at all keys is about none in particular.
                if !handle.is_empty() {
                    keys.note_shown(&handle, &listed);
                }
                Some(listed.keys.into_iter().map(device_key).collect())
            }
            _ => None,
        })
        .await
    }
}
