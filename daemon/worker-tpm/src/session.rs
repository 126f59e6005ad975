//! Signs. A TPM has one session: it does one thing at a time.

use std::sync::{Arc, Mutex, PoisonError};

use mintwarden_worker::{
    Algorithm,
    device::{self, Cause, DeviceError, KeyHandle, Remedy},
    jws::SigningInput,
};

use crate::device::Tpm;

/// The signing end of the one connection.
#[derive(Debug)]
pub(crate) struct SigningSession(Arc<Mutex<Tpm>>);

impl SigningSession {
    pub(crate) fn new(tpm: Arc<Mutex<Tpm>>) -> Self {
        Self(tpm)
    }
}

impl device::Session for SigningSession {
    fn sign(
        &mut self,
        handle: &KeyHandle,
        algorithm: Algorithm,
        input: &SigningInput,
    ) -> Result<Vec<u8>, DeviceError> {
        let digest = input.digest(algorithm).ok_or_else(|| {
            let detail = format!("a TPM does not sign {algorithm}");
            DeviceError::new(Cause::MechanismMissing, Remedy::Refuse, detail)
        })?;
        let mut tpm = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tpm.sign(handle, algorithm, digest.as_ref())
    }
}
