//! Making keys.

use std::time::Duration;

use mintwarden_worker::{
    Algorithm, KeySpec,
    device::{Cause, DeviceError, DeviceKey, KeptKey, KeyHandle, Remedy},
    jws::SigningInput,
    label::Label,
    watch,
};

use super::Tpm;
use crate::{fault::fault, template, wrapped::TpmKey};

/// What making an RSA key may take beyond the bound on other calls. The server waits two minutes.
const RSA_PATIENCE: Duration = Duration::from_secs(90);

/// What a new key signs to show that it works (FIPS 140-3 implementation guidance 10.3.A, pairwise
/// consistency). It has no dot, so that it is the signing input of no JWS.
const CONSISTENCY: &[u8] = b"mintwarden pairwise consistency test";

impl Tpm {
    pub(super) fn generate(
        &mut self,
        label: Label,
        spec: KeySpec,
        id: &KeyHandle,
    ) -> Result<DeviceKey, DeviceError> {
        self.supported.support(spec)?;
        if self.keys.contains_key(id) || self.destroyed.contains(id) {
            let detail = format!("handle {id:?} is in use; a key is never replaced");
            return Err(DeviceError::new(Cause::KeyUnusable, Remedy::Refuse, detail));
        }
        let auth = self.secret.authorisation(id, &label);
        let doing = "making a key";
        let policy = self.policy_for_new_key()?;
        let template = template::key(spec, None, policy.as_ref());
        let template = template.map_err(|error| fault(doing, &error))?;
        let patience = if spec.rsa_bits().is_some() { RSA_PATIENCE } else { Duration::ZERO };
        let made = self.using(|connection| {
            let created =
                watch::call_with_patience(patience, || connection.create(&template, &auth));
            let created = created.map_err(|error| fault(doing, &error))?;
            let (public, private) = (created.out_public, created.out_private);
            TpmKey::new(label, connection.parent_name(), &public, private, policy)
        })?;
        let kept = KeptKey { handle: id.clone(), wrapped: made.encode()? };
        self.keys.insert(id.clone(), kept.clone());
        // One that was not tried to the end is not adopted by a later look.
        if let Err(error) = self.consistent(id, &made, spec).and_then(|()| self.kept.add(&kept)) {
            self.keys.remove(id);
            return Err(error);
        }
        self.find(id)?.map(|(key, _)| key).ok_or_else(|| {
            let detail = format!("key {id:?} was made, but is not to be found");
            DeviceError::new(Cause::KeyAbsent, Remedy::Refuse, detail)
        })
    }

    /// Has a new key sign once. Some TPMs salt PSS with more bytes than the hash has, which JWS does not
    /// allow (RFC 7518 section 3.5), and which nothing but a signature tells.
    fn consistent(
        &mut self,
        id: &KeyHandle,
        made: &TpmKey,
        spec: KeySpec,
    ) -> Result<(), DeviceError> {
        let algorithm = spec.algorithm();
        let digest = SigningInput::new(CONSISTENCY).digest(algorithm);
        let digest = digest.expect("a TPM makes no keys that sign messages");
        let signature = self.sign(id, algorithm, digest.as_ref())?;
        if made.jwk.verifies(CONSISTENCY, &signature) {
            return Ok(());
        }
        let why = match algorithm {
            Algorithm::PS256 => {
                "its PSS salt is not as long as the hash (RFC 7518 section 3.5): use RS256 or ES256"
            }
            _ => "a new key's signature did not verify",
        };
        self.supported.lacks(spec, why);
        let detail = format!("{spec}: {why}");
        Err(DeviceError::new(Cause::MechanismMissing, Remedy::Refuse, detail))
    }
}
