//! Public keys as JWKs (RFC 7517, RFC 7518 section 6) and their thumbprints (RFC 7638).

use std::sync::Arc;

use aws_lc_rs::{
    digest,
    signature::{self, ParsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use serde::{Deserialize, Serialize};

use crate::Algorithm;

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

/// A public key that was checked to be a point of its curve.
#[derive(Clone)]
pub struct PublicJwk {
    /// SEC 1 uncompressed point.
    point: Vec<u8>,
    /// The same, ready to verify with: parsing takes longer than checking a payload does.
    parsed: Arc<ParsedPublicKey>,
}

impl PartialEq for PublicJwk {
    fn eq(&self, other: &Self) -> bool {
        self.point == other.point
    }
}

impl Eq for PublicJwk {}

/// A public key that is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 public key: {0}")]
pub struct KeyError(&'static str);

/// A JWK's members as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

impl PublicJwk {
    /// The P-256 key with this SEC 1 encoded point (section 2.3.3), compressed or not.
    ///
    /// # Errors
    /// [`KeyError`] if the bytes are not a point of the curve, or are the point at infinity.
    pub fn from_sec1(point: &[u8]) -> Result<Self, KeyError> {
        let key = p256::PublicKey::from_sec1_bytes(point)
            .map_err(|_| KeyError("the bytes are not a point of the curve"))?;
        let point = key.as_affine().to_sec1_point(false).as_bytes().to_vec();
        let parsed = ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &point)
            .map_err(|_| KeyError("the verifying library refuses the point"))?;
        Ok(Self { point, parsed: Arc::new(parsed) })
    }

    /// The key as an SEC 1 uncompressed point: `04 ‖ X ‖ Y`, 65 bytes.
    #[must_use]
    pub fn sec1(&self) -> &[u8] {
        &self.point
    }

    /// The algorithm that the key is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }

    fn coordinates(&self) -> (String, String) {
        let (x, y) = self.point[1..].split_at(32);
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    }

    /// The key's RFC 7638 SHA-256 thumbprint.
    #[must_use]
    pub fn kid(&self) -> Kid {
        let (x, y) = self.coordinates();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = digest::digest(&digest::SHA256, canonical.as_bytes());
        Kid(URL_SAFE_NO_PAD.encode(thumbprint))
    }

    /// The JWK as published: the key's members with `kid`, `alg` and `use`.
    #[must_use]
    pub fn to_published(&self) -> serde_json::Value {
        let (x, y) = self.coordinates();
        serde_json::json!({
            "kty": "EC", "crv": "P-256", "x": x, "y": y,
            "kid": self.kid().as_str(), "alg": self.algorithm().as_str(), "use": "sig",
        })
    }

    /// Whether `signature` (raw JWS form) is this key's signature of `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl std::fmt::Debug for PublicJwk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicJwk({})", self.kid())
    }
}

impl Serialize for PublicJwk {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (x, y) = self.coordinates();
        Members { kty: "EC".into(), crv: "P-256".into(), x, y }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublicJwk {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let members = Members::deserialize(deserializer)?;
        if members.kty != "EC" || members.crv != "P-256" {
            return Err(D::Error::custom("not an EC key on P-256"));
        }
        let coordinate = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom)?;
            <[u8; 32]>::try_from(bytes)
                .map_err(|_| D::Error::custom("a coordinate is not 32 bytes"))
        };
        let mut point = vec![4];
        point.extend(coordinate(&members.x)?);
        point.extend(coordinate(&members.y)?);
        Self::from_sec1(&point).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 7515 appendix A.3; its thumbprint is computed by an independent library
    /// (jwcrypto 1.5.6: `JWK.thumbprint()`).
    const RFC7515_A3: &str = r#"{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    #[test]
    fn thumbprint_of_a_published_key() {
        let key: PublicJwk = serde_json::from_str(RFC7515_A3).expect("the RFC's key parses");
        assert_eq!(key.kid().as_str(), "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    }

    #[test]
    fn verifies_the_rfc7515_a3_example_and_nothing_else() {
        let key: PublicJwk = serde_json::from_str(RFC7515_A3).expect("the RFC's key parses");
        let message = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let mut signature = URL_SAFE_NO_PAD
            .decode("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
            .expect("base64url");
        assert!(key.verifies(message.as_bytes(), &signature));
        assert!(!key.verifies(b"another message", &signature));
        signature[40] ^= 1;
        assert!(!key.verifies(message.as_bytes(), &signature));
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        assert!(PublicJwk::from_sec1(&[4; 65]).is_err());
        assert!(PublicJwk::from_sec1(&[0]).is_err(), "the point at infinity");
        assert!(PublicJwk::from_sec1(&[]).is_err());
    }
}
