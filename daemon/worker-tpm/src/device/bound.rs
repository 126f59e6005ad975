//! Keys that are bound to the state of the machine.

use mintwarden_attestation::pcr::{KeyPolicy, PcrState};
use mintwarden_worker::{
    Algorithm,
    device::{Cause, DeviceError, KeyHandle, Remedy},
    finding::Finding,
};

use super::Tpm;
use crate::{
    connection::{Attempt, Bound},
    fault::fault,
    pcr::{Way, own_way},
    wrapped::TpmKey,
};

/// Attempts at one signature, each in a session of its own: any PCR that is extended meanwhile costs one, also one
/// that no key is bound to, as a kernel that measures files does it.
const ATTEMPTS: usize = 4;

impl Tpm {
    /// Holds the state of the machine against the accepted one, where keys of this device are bound to one. `resume`:
    /// a custodian said `device resume`. Returns the state.
    ///
    /// # Errors
    /// [`Cause::PcrMismatch`] or [`Cause::PcrUnusable`], to be parked; or as the TPM gives them.
    pub(super) fn accept_state(&mut self, resume: bool) -> Result<Option<PcrState>, DeviceError> {
        let Some(pcrs) = &self.pcrs else { return Ok(None) };
        let selection = pcrs.selection().clone();
        let now = self.using(|connection| connection.read_pcrs(&selection))?;
        let pcrs = self.pcrs.as_mut().expect("it was there before");
        pcrs.accept(&now, resume)?;
        Ok(Some(now))
    }

    /// The same before all keys are looked at: sign-offs are looked for anew too.
    pub(super) fn look_anew(&mut self) -> Result<(), DeviceError> {
        self.ways.clear();
        if let Some(pcrs) = &mut self.pcrs {
            pcrs.forget_sign_off();
        }
        self.accept_state(false).map(|_| ())
    }

    /// What a new key asks for: the state of now, which is accepted.
    pub(super) fn policy_for_new_key(&mut self) -> Result<Option<KeyPolicy>, DeviceError> {
        let accepted = self.accept_state(false)?;
        Ok(accepted.zip(self.pcrs.as_ref()).map(|(state, pcrs)| pcrs.policy(state)))
    }

    /// Looks how a key's policy is satisfied now.
    ///
    /// # Errors
    /// As [`Tpm::accept_state`]. The inner one says why it is not satisfied, naming PCRs: the machine is in an accepted
    /// state, but not in one that this key signs in.
    pub(super) fn way(
        &mut self,
        handle: &KeyHandle,
        policy: &KeyPolicy,
    ) -> Result<Result<(), String>, DeviceError> {
        let selection = policy.state.selection();
        let of_key = self.using(|connection| connection.read_pcrs(&selection))?;
        let now = self.accept_state(false)?;
        let way = match now.zip(self.pcrs.as_mut()) {
            Some((now, pcrs)) => pcrs.way(policy, &of_key, &now),
            None => own_way(policy, &of_key),
        };
        Ok(way.map(|way| {
            self.ways.insert(handle.clone(), way);
        }))
    }

    /// Signs with a key that is bound to PCRs.
    pub(super) fn sign_bound(
        &mut self,
        handle: &KeyHandle,
        key: &TpmKey,
        policy: &KeyPolicy,
        digest: &[u8],
    ) -> Result<Vec<u8>, DeviceError> {
        let algorithm: Algorithm = key.label.algorithm;
        let auth = self.secret.authorisation(handle, &key.label);
        let length = key.jwk.signature_len();
        for _ in 0..ATTEMPTS {
            let way = self.ways.get(handle).cloned().unwrap_or(Way::Own);
            let attempt = self.using(|connection| {
                let loaded = connection.load(handle, key, &auth);
                let loaded = loaded.map_err(|error| fault("loading a key", &error))?;
                let bound = Bound { handle, loaded, policy, way: &way };
                connection.sign_bound(&bound, algorithm, digest, length)
            })?;
            match attempt {
                Attempt::Signed(signature) => return Ok(signature),
                Attempt::Interrupted => {}
                Attempt::OtherState => self.way(handle, policy)?.map_err(|why| {
                    let detail = format!("key {handle:?}: {why}");
                    DeviceError::new(Cause::PcrMismatch, Remedy::Refuse, detail)
                })?,
            }
        }
        let detail = format!("signing: PCRs were extended meanwhile, {ATTEMPTS} times in a row");
        Err(DeviceError::new(Cause::DeviceFailed, Remedy::Retry, detail))
    }

    /// What there is to say about the state of the machine.
    pub(super) fn pcr_findings(&mut self) -> Result<Vec<Finding>, DeviceError> {
        let Some(pcrs) = &self.pcrs else { return Ok(vec![]) };
        let selection = pcrs.selection().clone();
        let now = self.using(|connection| connection.read_pcrs(&selection))?;
        Ok(self.pcrs.as_ref().map_or_else(Vec::new, |pcrs| pcrs.findings(&now)))
    }
}
