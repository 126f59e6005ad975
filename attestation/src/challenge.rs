use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Nonce,
    encoding::{Bytes, format_word},
    tpm::{Credential, CredentialError, Malformed, Name, Public},
};

format_word!(ChallengeFormat, "mintwarden-challenge/1");
format_word!(SecretFormat, "mintwarden-challenge-secret/1");

/// What a device is asked: a nonce, and for a TPM a credential that only it can open. A JSON document; nothing in
/// it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    format: ChallengeFormat,
    /// The nonce.
    pub nonce: Nonce,
    /// The credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Sealed>,
}

/// A credential, and for whom it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Public area of the endorsement key whose TPM can open it.
    pub ek: Public,
    /// `TPM2B_ID_OBJECT`.
    pub id_object: Bytes,
    /// `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: Bytes,
}

impl Sealed {
    /// The two structures, read.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn credential(&self) -> Result<Credential, Malformed> {
        Credential::parse(&self.id_object.0, &self.encrypted_secret.0)
    }
}

/// What stays with whoever made the challenge: what the credential holds, and for whom it is. Whoever has it
/// can forge the answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    format: SecretFormat,
    nonce: Nonce,
    ek: Public,
    ak: Name,
    secret: Bytes,
}

/// A document that is none of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeError {
    /// Longer than such a document may be.
    #[error("it has {0} bytes; at most {MAX} are possible", MAX = Challenge::MAX)]
    TooLong(usize),
    /// Not a JSON document of its shape.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
}

impl Challenge {
    /// Bound on the document, and on the secret's, bytes.
    pub const MAX: usize = 16 * 1024;

    /// This nonce alone: the answer does not show which TPM it is from.
    #[must_use]
    pub fn of(nonce: Nonce) -> Self {
        Self { format: ChallengeFormat::V1, nonce, credential: None }
    }

    /// A fresh nonce alone.
    ///
    /// # Errors
    /// [`CredentialError::Library`] where there is no randomness.
    pub fn plain() -> Result<Self, CredentialError> {
        Ok(Self::of(fresh()?))
    }

    /// A nonce, and a credential for the TPM with the endorsement key `ek`, which opens it only if the attestation
    /// key called `ak` is in it too.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn for_tpm(ek: &Public, ak: &Name) -> Result<(Self, Secret), CredentialError> {
        let mut secret = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| CredentialError::Library)?;
        let sealed = Credential::make(ek, ak, &*secret)?;
        let credential = Sealed {
            ek: ek.clone(),
            id_object: Bytes(sealed.id_object()),
            encrypted_secret: Bytes(sealed.encrypted_secret()),
        };
        let nonce = fresh()?;
        let kept = Secret {
            format: SecretFormat::V1,
            nonce: nonce.clone(),
            ek: ek.clone(),
            ak: ak.clone(),
            secret: Bytes(secret.to_vec()),
        };
        Ok((Self { format: ChallengeFormat::V1, nonce, credential: Some(credential) }, kept))
    }

    /// Reads the document.
    ///
    /// # Errors
    /// [`ChallengeError`].
    pub fn parse(document: &[u8]) -> Result<Self, ChallengeError> {
        parse(document)
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("strings only")
    }
}

fn fresh() -> Result<Nonce, CredentialError> {
    let mut nonce = [0; Nonce::MAX];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| CredentialError::Library)?;
    Ok(Nonce::new(&nonce).expect("as long as it may be"))
}

fn parse<T: serde::de::DeserializeOwned>(document: &[u8]) -> Result<T, ChallengeError> {
    match document.len() {
        ..=Challenge::MAX => Ok(serde_json::from_slice(document)?),
        longer => Err(ChallengeError::TooLong(longer)),
    }
}

impl Secret {
    /// Reads the document.
    ///
    /// # Errors
    /// [`ChallengeError`].
    pub fn parse(document: &[u8]) -> Result<Self, ChallengeError> {
        parse(document)
    }

    /// Writes the document: secret.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec_pretty(self).expect("strings only"))
    }

    /// The nonce of its challenge.
    #[must_use]
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The endorsement key whose TPM can open the credential.
    #[must_use]
    pub fn ek(&self) -> &Public {
        &self.ek
    }

    /// Name of the attestation key that the credential is for.
    #[must_use]
    pub fn ak(&self) -> &Name {
        &self.ak
    }

    /// Whether these bytes are what the credential holds; takes the same time whatever they are.
    #[must_use]
    pub fn is(&self, activated: &[u8]) -> bool {
        verify_slices_are_equal(&self.secret.0, activated).is_ok()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret.0);
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret(of {:?})", self.nonce)
    }
}
