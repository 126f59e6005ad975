//! JWS algorithms (RFC 7518 section 3.1, RFC 8037, RFC 9864) and the keys that they need.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// A JWS signature algorithm that an issuer can be configured with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256 (RFC 7518 section 3.4).
    #[default]
    ES256,
    /// ECDSA with P-384 and SHA-384 (RFC 7518 section 3.4).
    ES384,
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes (RFC 7518 section 3.5).
    PS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3).
    RS256,
    /// Ed25519 (RFC 8032) under its fully-specified name (RFC 9864 section 2.2).
    Ed25519,
    /// Ed25519 under the older name that says nothing of the curve (RFC 8037 section 3.1), for
    /// verifiers that do not know the newer one.
    EdDSA,
}

/// The type of a key, as far as it is settled by the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// An elliptic curve key on P-256.
    P256,
    /// An elliptic curve key on P-384.
    P384,
    /// An RSA key; its size is a matter of its own.
    Rsa,
    /// An Edwards curve key for Ed25519.
    Ed25519,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 6] =
        [Self::ES256, Self::ES384, Self::PS256, Self::RS256, Self::Ed25519, Self::EdDSA];

    /// The value of the `alg` header parameter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::PS256 => "PS256",
            Self::RS256 => "RS256",
            Self::Ed25519 => "Ed25519",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The type of key that it needs.
    #[must_use]
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::ES256 => KeyType::P256,
            Self::ES384 => KeyType::P384,
            Self::PS256 | Self::RS256 => KeyType::Rsa,
            Self::Ed25519 | Self::EdDSA => KeyType::Ed25519,
        }
    }

    /// The hash of the signing input that is signed; `None` where the message itself is the input.
    #[must_use]
    pub fn hash(self) -> Option<&'static digest::Algorithm> {
        match self {
            Self::ES256 | Self::PS256 | Self::RS256 => Some(&digest::SHA256),
            Self::ES384 => Some(&digest::SHA384),
            Self::Ed25519 | Self::EdDSA => None,
        }
    }

    /// The algorithm with this `alg` value, if it is one that Mintwarden can sign with.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == name)
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The size of an RSA modulus, in bits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub enum RsaBits {
    /// 2048 bits: 112 bits of strength (NIST SP 800-57 part 1 table 2).
    B2048,
    /// 3072 bits: 128 bits of strength, like P-256 and Ed25519.
    #[default]
    B3072,
    /// 4096 bits.
    B4096,
}

impl RsaBits {
    /// All sizes.
    pub const ALL: [Self; 3] = [Self::B2048, Self::B3072, Self::B4096];

    /// The number of bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::B2048 => 2048,
            Self::B3072 => 3072,
            Self::B4096 => 4096,
        }
    }
}

impl TryFrom<u32> for RsaBits {
    type Error = KeySpecError;

    fn try_from(bits: u32) -> Result<Self, KeySpecError> {
        Self::ALL.into_iter().find(|size| size.bits() == bits).ok_or(KeySpecError::Bits(bits))
    }
}

impl From<RsaBits> for u32 {
    fn from(bits: RsaBits) -> Self {
        bits.bits()
    }
}

/// What is asked of a new key: its algorithm and, for RSA alone, its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct KeySpec {
    algorithm: Algorithm,
    rsa_bits: Option<RsaBits>,
}

/// A [`KeySpec`] that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySpecError {
    /// A size that is not offered.
    #[error("an RSA key of {0} bits is not offered; use 2048, 3072 or 4096")]
    Bits(u32),
    /// A size for a key that has none to choose.
    #[error("{0} has no RSA key; leave the size out, or use RS256 or PS256")]
    NotRsa(Algorithm),
}

impl KeySpec {
    /// A key for `algorithm`, of this size if it is an RSA key. Without a size an RSA key gets the
    /// default one, [`RsaBits::default`].
    ///
    /// # Errors
    /// [`KeySpecError::NotRsa`] for a size where there is none to choose.
    pub fn new(algorithm: Algorithm, rsa_bits: Option<RsaBits>) -> Result<Self, KeySpecError> {
        match (algorithm.key_type(), rsa_bits) {
            (KeyType::Rsa, bits) => {
                Ok(Self { algorithm, rsa_bits: Some(bits.unwrap_or_default()) })
            }
            (_, Some(_)) => Err(KeySpecError::NotRsa(algorithm)),
            (_, None) => Ok(Self { algorithm, rsa_bits: None }),
        }
    }

    /// Every key that can be asked for.
    pub fn all() -> impl Iterator<Item = Self> {
        Algorithm::ALL.into_iter().flat_map(|algorithm| {
            let rsa = algorithm.key_type() == KeyType::Rsa;
            let sizes = if rsa { RsaBits::ALL.map(Some).to_vec() } else { vec![None] };
            sizes.into_iter().map(move |rsa_bits| Self { algorithm, rsa_bits })
        })
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    /// The size of an RSA key; `None` for all others.
    #[must_use]
    pub const fn rsa_bits(self) -> Option<RsaBits> {
        self.rsa_bits
    }
}

impl From<Algorithm> for KeySpec {
    fn from(algorithm: Algorithm) -> Self {
        Self::new(algorithm, None).expect("without a size nothing contradicts")
    }
}

impl std::fmt::Display for KeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rsa_bits {
            Some(bits) => write!(f, "{} of {} bits", self.algorithm, bits.bits()),
            None => self.algorithm.fmt(f),
        }
    }
}

/// A [`KeySpec`] as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    algorithm: Algorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rsa_bits: Option<RsaBits>,
}

impl TryFrom<Written> for KeySpec {
    type Error = KeySpecError;

    fn try_from(written: Written) -> Result<Self, KeySpecError> {
        Self::new(written.algorithm, written.rsa_bits)
    }
}

impl From<KeySpec> for Written {
    fn from(spec: KeySpec) -> Self {
        Self { algorithm: spec.algorithm, rsa_bits: spec.rsa_bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_found_by_their_alg_value_alone() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.as_str()), Some(algorithm));
            let json = serde_json::to_value(algorithm).expect("a string");
            assert_eq!(json, algorithm.as_str());
        }
        for other in ["none", "HS256", "es256", "ES256K", "PS384", ""] {
            assert_eq!(Algorithm::from_name(other), None, "{other}");
        }
    }

    #[test]
    fn only_rsa_keys_have_a_size() {
        let spec = KeySpec::from(Algorithm::PS256);
        assert_eq!(spec.rsa_bits(), Some(RsaBits::B3072), "the default");
        assert_eq!(KeySpec::from(Algorithm::ES384).rsa_bits(), None);
        assert_eq!(
            KeySpec::new(Algorithm::Ed25519, Some(RsaBits::B2048)),
            Err(KeySpecError::NotRsa(Algorithm::Ed25519))
        );
        assert_eq!(RsaBits::try_from(1024), Err(KeySpecError::Bits(1024)));
        assert_eq!(KeySpec::all().count(), 10);
    }

    #[test]
    fn what_is_written_down_is_checked_when_it_is_read() {
        for spec in KeySpec::all() {
            let json = serde_json::to_string(&spec).expect("JSON");
            assert_eq!(serde_json::from_str::<KeySpec>(&json).ok(), Some(spec), "{json}");
        }
        for bad in [
            r#"{"algorithm":"ES256","rsa_bits":2048}"#,
            r#"{"algorithm":"RS256","rsa_bits":1024}"#,
            r#"{"algorithm":"RS256","rsa_bits":null,"more":1}"#,
        ] {
            assert!(serde_json::from_str::<KeySpec>(bad).is_err(), "{bad}");
        }
    }
}
