//! Signs with one session.

use std::{collections::HashMap, sync::Arc};

use cryptoki::{
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::Session,
};
use mintwarden_worker::{
    Algorithm,
    device::{self, Cause, DeviceError, KeyHandle},
    jws::SigningInput,
    watch,
};

use crate::{fault::fault, library::Library, login::still_logged_in, mechanism::Mechanisms, pair};

/// A read-only session of a logged-in process, and the private keys that it has met.
#[derive(Debug)]
pub(crate) struct SigningSession {
    session: Session,
    keys: HashMap<KeyHandle, (ObjectHandle, Algorithm)>,
    mechanisms: Arc<Mechanisms>,
    /// Last, so that the session is closed before the module can be finalised.
    _library: Library,
}

impl SigningSession {
    pub(crate) fn new(session: Session, mechanisms: Arc<Mechanisms>, library: Library) -> Self {
        Self { session, keys: HashMap::new(), mechanisms, _library: library }
    }

    /// The private key and the algorithm that it was made for: the only private key object with this
    /// `CKA_ID`, made by Mintwarden. What else is asked of it was checked by the device when it was
    /// listed (I1).
    fn private_key(
        &mut self,
        handle: &KeyHandle,
    ) -> Result<(ObjectHandle, Algorithm), DeviceError> {
        if let Some(key) = self.keys.get(handle) {
            return Ok(*key);
        }
        let looking = |error| fault("looking for a private key", &error);
        let id = Attribute::Id(handle.as_bytes().to_vec());
        let private = [Attribute::Class(ObjectClass::PRIVATE_KEY), id];
        let objects = watch::call(|| self.session.find_objects(&private)).map_err(looking)?;
        let refuse =
            |cause, problem: &str| DeviceError::of(cause, format!("key {handle:?}: {problem}"));
        let object = match objects[..] {
            [object] => object,
            [] => {
                still_logged_in(&self.session)?;
                return Err(refuse(Cause::KeyAbsent, "there is no private key with this CKA_ID"));
            }
            _ => {
                return Err(refuse(Cause::KeyUnusable, "several private keys have this CKA_ID"));
            }
        };
        let label = [AttributeType::Label];
        let label = watch::call(|| self.session.get_attributes(object, &label)).map_err(looking)?;
        let Some(label) = pair::label_among(&label) else {
            return Err(refuse(Cause::KeyUnusable, "its CKA_LABEL names no issuer and algorithm"));
        };
        self.keys.insert(handle.clone(), (object, label.algorithm));
        Ok((object, label.algorithm))
    }
}

impl device::Session for SigningSession {
    fn sign(
        &mut self,
        handle: &KeyHandle,
        algorithm: Algorithm,
        input: &SigningInput,
    ) -> Result<Vec<u8>, DeviceError> {
        let signing = self.mechanisms.signing(algorithm)?;
        let (key, made_for) = self.private_key(handle)?;
        if made_for != algorithm {
            let detail = format!("key {handle:?}: it was made for {made_for}, not {algorithm}");
            return Err(DeviceError::of(Cause::KeyUnusable, detail));
        }
        // What comes back for ECDSA is R‖S, each as long as the order of the base point (PKCS#11 v3.1
        // section 6.3.1), just as JWS wants it.
        let (mechanism, data) = (signing.mechanism(), signing.data(algorithm, input));
        watch::call(|| self.session.sign(&mechanism, key, &data))
            .map_err(|error| fault("signing", &error))
    }
}
