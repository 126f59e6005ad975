use std::{fmt, str::FromStr};

/// A signature algorithm for JWS (RFC 7518 section 3.1, RFC 8037, RFC 9864). Only asymmetric ones: with
/// the others whoever verifies could also sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSASSA-PSS with SHA-256, 2048 to 8192 bits.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 to 8192 bits.
    Rs256,
    /// Ed25519; as `alg` also written `EdDSA`.
    Ed25519,
}

/// Not a name of an [`Algorithm`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of ES256, ES384, PS256, RS256, Ed25519, EdDSA")]
pub struct UnknownAlgorithm(String);

impl Algorithm {
    /// Its name as `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "PS256" => Self::Ps256,
            "RS256" => Self::Rs256,
            "Ed25519" | "EdDSA" => Self::Ed25519,
            _ => return Err(UnknownAlgorithm(name.chars().take(32).collect())),
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
