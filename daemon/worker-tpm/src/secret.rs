//! The device secret, and the authorisation values that come from it.

use aws_lc_rs::hmac;
use mintwarden_hsm_config::pin::{Pin, PinSource};
use mintwarden_worker::{
    device::{Cause, DeviceError, KeyHandle, Remedy},
    label::Label,
};
use tss_esapi::structures::Auth;
use zeroize::Zeroizing;

/// What an authorisation value is made for: nothing else is ever computed with the secret.
const PURPOSE: &[u8] = b"mintwarden/tpm/authorisation/1";

/// The fewest characters of a device secret. Keys are outside of the TPM's protection against
/// dictionary attacks, so that nobody can lock them: what guards them is that it cannot be guessed.
const MIN_LEN: usize = 32;

/// A secret that only the worker has. Without it a key's blob is of no use even in its own TPM.
#[derive(Debug)]
pub(crate) struct DeviceSecret(Pin);

impl DeviceSecret {
    /// Reads it from its source.
    ///
    /// # Errors
    /// [`Cause::PinUnavailable`].
    pub(crate) fn read(source: &PinSource) -> Result<Self, DeviceError> {
        let unavailable = |detail| DeviceError::new(Cause::PinUnavailable, Remedy::Restart, detail);
        let secret = source.read().map_err(|error| unavailable(error.to_string()))?;
        if secret.expose_secret().chars().count() < MIN_LEN {
            let remedy =
                "nothing limits how often it can be guessed: make one with `openssl rand -hex 32`";
            return Err(unavailable(format!(
                "the device secret has fewer than {MIN_LEN} characters; {remedy}"
            )));
        }
        Ok(Self(secret))
    }

    /// The secret as it was read, for the record of those that were refused.
    pub(crate) fn as_pin(&self) -> &Pin {
        &self.0
    }

    /// The authorisation value of one key: HMAC-SHA-256 over its handle and its label, which names the
    /// issuer and the algorithm that it was made for. A key that is claimed to be another issuer's cannot
    /// be used, because its authorisation value is another one (I3).
    pub(crate) fn authorisation(&self, handle: &KeyHandle, label: &Label) -> Auth {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret().as_bytes());
        let mut context = hmac::Context::with_key(&key);
        let label = label.to_string();
        for part in [PURPOSE, handle.as_bytes(), label.as_bytes()] {
            // With its length, so that no part can take over bytes of the next.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let value = Zeroizing::new(context.sign().as_ref().to_vec());
        Auth::try_from(value.as_slice()).expect("32 bytes fit: a hash of the TPM's own has as many")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, io::Write as _, os::unix::fs::PermissionsExt as _};

    use mintwarden_worker::{Algorithm, IssuerName};

    use super::*;

    fn secret(text: &str) -> Result<DeviceSecret, DeviceError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file.as_file().set_permissions(Permissions::from_mode(0o600)).expect("private");
        DeviceSecret::read(&PinSource::File(file.path().to_owned()))
    }

    fn label(issuer: &str, algorithm: Algorithm) -> Label {
        Label { issuer: IssuerName::parse(issuer).expect("a name"), algorithm }
    }

    #[test]
    fn i3_each_key_issuer_and_algorithm_has_an_authorisation_value_of_its_own() {
        let one = secret(&"a".repeat(32)).expect("long enough");
        let other = secret(&"b".repeat(32)).expect("long enough");
        let handle = |byte| KeyHandle::new(vec![byte; 16]);
        let es256 = label("a", Algorithm::ES256);
        let value = one.authorisation(&handle(1), &es256);
        assert_eq!(value.value().len(), 32);
        assert_eq!(value.value(), one.authorisation(&handle(1), &es256).value());
        for another in [
            one.authorisation(&handle(2), &es256),
            one.authorisation(&handle(1), &label("b", Algorithm::ES256)),
            one.authorisation(&handle(1), &label("a", Algorithm::PS256)),
            other.authorisation(&handle(1), &es256),
        ] {
            assert_ne!(another.value(), value.value());
        }
    }

    #[test]
    fn i1_a_secret_that_can_be_guessed_is_refused_and_not_quoted() {
        let error = secret("correct horse battery").expect_err("too short");
        assert_eq!((error.cause, error.remedy), (Cause::PinUnavailable, Remedy::Restart));
        assert!(error.detail.contains("openssl rand -hex 32"), "{error}");
        assert!(!error.detail.contains("horse"), "{error}");
        let debug = format!("{:?}", secret(&"s3cret".repeat(8)).expect("long enough"));
        assert!(!debug.contains("s3cret"), "{debug}");
    }
}
