//! Public keys as JWKs (RFC 7517, RFC 7518 section 6, RFC 8037 section 2) and their thumbprints
//! (RFC 7638).

mod material;
mod members;
mod spki;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::{digest, signature::ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use self::material::Material;
use crate::{Algorithm, algorithm::RsaBits};

/// A key id: the RFC 7638 SHA-256 thumbprint of the public JWK, base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kid(String);

impl Kid {
    /// The thumbprint as text: 43 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Kid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A public key that was checked to be one, and the algorithm that it is for.
///
/// Serialised it is a JWK with `alg`. Read from one without `alg` it is for the one algorithm that
/// an elliptic curve key leaves; other keys have to say.
#[derive(Clone)]
pub struct PublicJwk {
    algorithm: Algorithm,
    material: Material,
    /// The same, ready to verify with: parsing takes longer than checking a payload does.
    parsed: Arc<ParsedPublicKey>,
}

impl PartialEq for PublicJwk {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.material == other.material
    }
}

impl Eq for PublicJwk {}

/// A public key that is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a point of P-256 or P-384, or the point at infinity.
    #[error("not a point of P-256 or P-384 (SEC 1 section 2.3.3)")]
    NotOnCurve,
    /// Not the encoding of a point of edwards25519, or one that anybody can forge signatures for.
    #[error("not an Ed25519 public key: {0}")]
    NotEd25519(&'static str),
    /// Not an RSA key that is fit for use.
    #[error("not a usable RSA public key: {0}")]
    NotRsa(String),
    /// A key of one type for an algorithm of another.
    #[error("{algorithm} takes another type of key than {key}")]
    WrongType {
        /// The algorithm.
        algorithm: Algorithm,
        /// The type of key that there is.
        key: &'static str,
    },
    /// Not a `SubjectPublicKeyInfo`.
    #[error("not a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) of a known kind of key")]
    Encoding,
    /// The library that verifies does not take it.
    #[error("the verifying library refuses the key")]
    Refused,
}

impl PublicJwk {
    /// The elliptic curve key with this SEC 1 encoded point (section 2.3.3), compressed or not: for
    /// ES256 if it has the length of P-256's, for ES384 if it has that of P-384's.
    ///
    /// # Errors
    /// [`KeyError::NotOnCurve`].
    pub fn from_sec1(point: &[u8]) -> Result<Self, KeyError> {
        let (algorithm, material) = Material::ec(point)?;
        Self::new(algorithm, material)
    }

    /// The RSA key with this modulus and public exponent, unsigned big-endian numbers with or
    /// without leading zeros. The modulus is odd and has 2048, 3072 or 4096 bits; the exponent is
    /// 65537, which is what Mintwarden asks devices for.
    ///
    /// # Errors
    /// [`KeyError::NotRsa`], or [`KeyError::WrongType`] for an algorithm that is not RSA's.
    pub fn from_rsa(
        algorithm: Algorithm,
        modulus: &[u8],
        exponent: &[u8],
    ) -> Result<Self, KeyError> {
        Self::new(algorithm, Material::rsa(modulus, exponent)?)
    }

    /// The Ed25519 key with this encoded point (RFC 8032 section 5.1.5), 32 bytes: canonical, of the
    /// prime-order group and not its neutral element.
    ///
    /// # Errors
    /// [`KeyError::NotEd25519`], or [`KeyError::WrongType`] for an algorithm of other keys.
    pub fn from_ed25519(algorithm: Algorithm, point: &[u8]) -> Result<Self, KeyError> {
        Self::new(algorithm, Material::ed25519(point)?)
    }

    fn new(algorithm: Algorithm, material: Material) -> Result<Self, KeyError> {
        if algorithm.key_type() != material.key_type() {
            return Err(KeyError::WrongType { algorithm, key: material.name() });
        }
        let parsed = Arc::new(material.parse_for(algorithm)?);
        Ok(Self { algorithm, material, parsed })
    }

    /// The algorithm that the key is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The size of an RSA key; `None` for all others.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<RsaBits> {
        self.material.rsa_bits()
    }

    /// Length of the key's raw JWS signatures in bytes: R‖S at fixed width for ECDSA, the modulus's
    /// length for RSA.
    #[must_use]
    pub fn signature_len(&self) -> usize {
        self.material.signature_len()
    }

    /// The key's RFC 7638 SHA-256 thumbprint. It does not depend on the algorithm.
    #[must_use]
    pub fn kid(&self) -> Kid {
        let canonical = self.material.canonical_json();
        let thumbprint = digest::digest(&digest::SHA256, canonical.as_bytes());
        Kid(URL_SAFE_NO_PAD.encode(thumbprint))
    }

    /// The JWK as published: the key's members with `kid`, `alg` and `use`.
    #[must_use]
    pub fn to_published(&self) -> serde_json::Value {
        let mut jwk = serde_json::to_value(self).expect("members are strings");
        jwk["kid"] = self.kid().as_str().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// Whether `signature` (raw JWS form) is this key's signature of `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl std::fmt::Debug for PublicJwk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicJwk({} {})", self.algorithm, self.kid())
    }
}
