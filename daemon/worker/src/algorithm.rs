//! JWS algorithms (RFC 7518 section 3.1).

use serde::{Deserialize, Serialize};

/// A JWS signature algorithm that an issuer can be configured with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256 (RFC 7518 section 3.4).
    #[default]
    ES256,
}

impl Algorithm {
    /// The value of the `alg` header parameter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
        }
    }

    /// Length of a raw JWS signature in bytes: R‖S at fixed width for ECDSA.
    #[must_use]
    pub const fn signature_len(self) -> usize {
        match self {
            Self::ES256 => 64,
        }
    }

    /// The algorithm with this `alg` value, if it is one that Mintwarden can sign with.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::ES256].into_iter().find(|a| a.as_str() == name)
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
