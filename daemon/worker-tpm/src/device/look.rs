//! Looking at keys: what the TPM says of what is kept.

use mintwarden_worker::device::{DeviceError, DeviceKey, KeyHandle};

use super::Tpm;
use crate::{
    connection::{Connection, Proof, is_foreign},
    fault::{describe, fault},
    wrapped::TpmKey,
};

impl Tpm {
    /// A key as the TPM shows it: with what is wrong with it, and what became of its authorisation value.
    pub(super) fn find(
        &mut self,
        handle: &KeyHandle,
    ) -> Result<Option<(DeviceKey, Option<Proof>)>, DeviceError> {
        let mut shown = DeviceKey {
            handle: handle.clone(),
            issuer: None,
            public: None,
            defects: vec![],
            wrapped: self.keys.get(handle).map(|kept| kept.wrapped.clone()),
            unproven: vec![],
        };
        let key = match self.key(handle) {
            Ok(None) => return Ok(None),
            Ok(Some(key)) => key,
            Err(problem) => {
                shown
                    .defects
                    .push(format!("what the keyset keeps of it cannot be read: {problem}"));
                return Ok(Some((shown, None)));
            }
        };
        shown.issuer = Some(key.label.issuer.clone());
        shown.public = Some(key.jwk.clone());
        let proof = match self.look(handle, &key)? {
            Look::Good => Some(Proof::Right),
            Look::Refused => {
                shown.defects.push(format!(
                    "it does not take the authorisation value of {}: it was made for another issuer or \
                     algorithm, or with another device secret (I3)",
                    key.label
                ));
                Some(Proof::Refused)
            }
            Look::OtherState(why) => {
                shown.defects.push(why);
                Some(Proof::Right)
            }
            Look::Defect(defect) => {
                shown.defects.push(defect);
                None
            }
        };
        Ok(Some((shown, proof)))
    }

    fn look(&mut self, handle: &KeyHandle, key: &TpmKey) -> Result<Look, DeviceError> {
        let auth = self.secret.authorisation(handle, &key.label);
        let was_proven = self.proven.contains(handle);
        let looked = self.using(|connection| {
            let loaded = match connection.load(handle, key, &auth) {
                Ok(loaded) => loaded,
                Err(error) if is_foreign(&error) => {
                    return Ok(Look::Defect(why_foreign(key, connection, &describe(&error))));
                }
                Err(error) => return Err(fault("loading a key", &error)),
            };
            let public = connection.read_public(loaded);
            let public = public.map_err(|error| fault("reading a key's public area", &error))?;
            if !key.areas().is_ok_and(|(_, expected)| expected == public) {
                return Ok(Look::Defect(
                    "its public area in the TPM is not the one of an issuer's key (I1)".to_owned(),
                ));
            }
            if was_proven {
                return Ok(Look::Good);
            }
            let proof = match key.policy {
                Some(_) => connection.prove_bound(loaded),
                None => connection.prove(handle, loaded),
            };
            let proof = proof.map_err(|error| fault("proving a key's authorisation", &error))?;
            Ok(match proof {
                Proof::Right => Look::Good,
                Proof::Refused => {
                    connection.unload(handle)?;
                    Look::Refused
                }
            })
        })?;
        if !matches!(looked, Look::Good) {
            return Ok(looked);
        }
        self.proven.insert(handle.clone());
        match &key.policy {
            Some(policy) => Ok(self.way(handle, policy)?.err().map_or(looked, Look::OtherState)),
            None => Ok(looked),
        }
    }
}

/// What a look at a key has shown.
enum Look {
    Good,
    Refused,
    /// It takes its authorisation value, but the machine is in another state than it is bound to.
    OtherState(String),
    Defect(String),
}

fn why_foreign(key: &TpmKey, connection: &Connection, said: &str) -> String {
    if key.parent == connection.parent_name() {
        format!("the TPM does not load it, though its storage key is the same: {said}")
    } else {
        format!(
            "the TPM does not load it: it was made in another TPM, under another `parent`, or before the \
             TPM was cleared: {said}"
        )
    }
}
