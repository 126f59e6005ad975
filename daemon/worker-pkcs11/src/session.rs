//! Signs with one session.

use std::collections::HashMap;

use cryptoki::{
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::Session,
};
use mintwarden_worker::{
    Algorithm,
    device::{self, Cause, DeviceError, KeyHandle, Remedy},
};

use crate::{fault::fault, library::Library, pair, scheme::Scheme};

/// A read-only session of a logged-in process, and the private keys that it has met.
#[derive(Debug)]
pub(crate) struct SigningSession {
    session: Session,
    keys: HashMap<KeyHandle, ObjectHandle>,
    /// Last, so that the session is closed before the module can be finalised.
    _library: Library,
}

impl SigningSession {
    pub(crate) fn new(session: Session, library: Library) -> Self {
        Self { session, keys: HashMap::new(), _library: library }
    }

    /// The object handle of the private key: the only private key object with this `CKA_ID`, made by
    /// Mintwarden. What else is asked of it was checked by the device when it was listed (I1).
    fn private_key(&mut self, handle: &KeyHandle) -> Result<ObjectHandle, DeviceError> {
        if let Some(object) = self.keys.get(handle) {
            return Ok(*object);
        }
        let looking = |error| fault("looking for a private key", &error);
        let id = Attribute::Id(handle.as_bytes().to_vec());
        let private = [Attribute::Class(ObjectClass::PRIVATE_KEY), id];
        let objects = self.session.find_objects(&private).map_err(looking)?;
        let refuse = |cause, problem: &str| {
            DeviceError::new(cause, Remedy::Refuse, format!("key {handle:?}: {problem}"))
        };
        let object = match objects[..] {
            [object] => object,
            [] => return Err(refuse(Cause::KeyAbsent, "there is no private key with this CKA_ID")),
            _ => {
                return Err(refuse(Cause::KeyUnusable, "several private keys have this CKA_ID"));
            }
        };
        let label =
            self.session.get_attributes(object, &[AttributeType::Label]).map_err(looking)?;
        if pair::issuer_in(&label).is_none() {
            return Err(refuse(Cause::KeyUnusable, "its CKA_LABEL names no issuer"));
        }
        self.keys.insert(handle.clone(), object);
        Ok(object)
    }
}

impl device::Session for SigningSession {
    fn sign(
        &mut self,
        handle: &KeyHandle,
        algorithm: Algorithm,
        input: &[u8],
    ) -> Result<Vec<u8>, DeviceError> {
        let scheme = Scheme::of(algorithm)?;
        let key = self.private_key(handle)?;
        let signature = self
            .session
            .sign(&scheme.sign, key, input)
            .map_err(|error| fault("signing", &error))?;
        // PKCS#11 v3.1 section 6.3.1: R‖S, each as long as the order of the base point.
        if signature.len() != algorithm.signature_len() {
            let detail = format!(
                "C_Sign gave {} bytes where {algorithm} has {}",
                signature.len(),
                algorithm.signature_len()
            );
            return Err(DeviceError::new(Cause::Malformed, Remedy::Restart, detail));
        }
        Ok(signature)
    }
}
