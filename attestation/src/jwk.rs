//! Public keys as JWKs, as far as needed to find one in a JWK Set (RFC 7517, RFC 7638).

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::{
    encoding::{Unique, to_text},
    tpm::{Curve, Key},
};

/// The members of a JWK that make the key (RFC 7638 section 3.2), base64url as they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum Members {
    /// RFC 7518 section 6.2.
    #[serde(rename = "EC")]
    Ec {
        /// Curve.
        crv: String,
        /// Coordinate.
        x: String,
        /// Coordinate.
        y: String,
    },
    /// RFC 7518 section 6.3.
    #[serde(rename = "RSA")]
    Rsa {
        /// Modulus.
        n: String,
        /// Public exponent.
        e: String,
    },
    /// RFC 8037 section 2.
    #[serde(rename = "OKP")]
    Okp {
        /// Curve.
        crv: String,
        /// Public key.
        x: String,
    },
}

impl Members {
    /// The RFC 7638 SHA-256 thumbprint: what Mintwarden uses as `kid`.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        // Members in the order of their names, and text that needs no escape in a key that is one: where
        // there is such text, the thumbprint is that of no key.
        let canonical = match self {
            Self::Ec { crv, x, y } => {
                serde_json::json!({"crv": crv, "kty": "EC", "x": x, "y": y})
            }
            Self::Rsa { n, e } => serde_json::json!({"e": e, "kty": "RSA", "n": n}),
            Self::Okp { crv, x } => serde_json::json!({"crv": crv, "kty": "OKP", "x": x}),
        };
        to_text(digest(&SHA256, canonical.to_string().as_bytes()).as_ref())
    }
}

impl From<&Key> for Members {
    fn from(key: &Key) -> Self {
        match key {
            Key::Ecc { curve, x, y } => {
                let crv = match curve {
                    Curve::P256 => "P-256",
                    Curve::P384 => "P-384",
                };
                Self::Ec { crv: crv.into(), x: to_text(x), y: to_text(y) }
            }
            Key::Rsa { modulus, exponent } => {
                let exponent = exponent.to_be_bytes();
                let zeros = exponent.iter().take_while(|byte| **byte == 0).count();
                Self::Rsa { n: to_text(modulus), e: to_text(&exponent[zeros..]) }
            }
        }
    }
}

/// A JWK Set (RFC 7517 section 5), as an appliance publishes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Jwks {
    keys: Vec<Unique>,
}

/// Not a JWK Set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Longer than a set may be.
    #[error("it has {0} bytes; at most {MAX} are read", MAX = Jwks::MAX)]
    TooLong(usize),
    /// Not JSON, or no array `keys`.
    #[error("it is not a JWK Set (RFC 7517): {0}")]
    Shape(#[from] serde_json::Error),
    /// Which of two keys a verifier of tokens would take is anybody's guess.
    #[error("two of its keys have the same `kid`")]
    RepeatedKid,
}

impl Jwks {
    /// Bound on the document, bytes.
    pub const MAX: usize = 1024 * 1024;

    fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|jwk| jwk.0.get("kid")?.as_str())
    }

    /// Reads a set in which no member and no `kid` is there twice. What it holds of kinds of key that are not known is passed over, as RFC 7517 asks.
    ///
    /// # Errors
    /// [`JwksError`].
    pub fn parse(document: &[u8]) -> Result<Self, JwksError> {
        if document.len() > Self::MAX {
            return Err(JwksError::TooLong(document.len()));
        }
        let set: Self = serde_json::from_slice(document)?;
        let mut kids = HashSet::new();
        if !set.kids().all(|kid| kids.insert(kid)) {
            return Err(JwksError::RepeatedKid);
        }
        Ok(set)
    }

    /// Whether the set has the key, under its thumbprint.
    #[must_use]
    pub fn has(&self, key: &Members) -> bool {
        let kid = key.thumbprint();
        self.keys.iter().any(|jwk| {
            jwk.0.get("kid").and_then(serde_json::Value::as_str) == Some(&kid)
                && Members::deserialize(&jwk.0).is_ok_and(|members| members == *key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{jwks, public, vector};

    #[test]
    fn what_is_there_twice_is_refused() {
        let key = Members::from(public(vector!("key-ecc256.pub")).key());
        assert!(jwks().has(&key));
        let kid = key.thumbprint();
        let jwk = |more: &str| {
            let members = serde_json::to_string(&key).unwrap();
            format!(r#"{{"kid":"{kid}",{more}{}"#, &members[1..])
        };
        let parse =
            |keys: &[String]| Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes());
        assert!(parse(&[jwk("")]).is_ok_and(|set| set.has(&key)));
        let other = format!(r#"{{"kid":"{kid}","kty":"OKP","crv":"Ed25519","x":"AA"}}"#);
        let refused = parse(&[jwk(""), other]);
        assert!(matches!(refused, Err(JwksError::RepeatedKid)), "{refused:?}");
        for twice in [r#""kid":"another","#, r#""x":"AA","#, r#""a":{"b":1,"b":1},"#] {
            let refused = parse(&[jwk(twice)]);
            assert!(matches!(refused, Err(JwksError::Shape(_))), "{twice}: {refused:?}");
        }
        assert!(parse(&[r#"{"kty":"x","a":[1,-1,0.5,true,null,{"b":[]}]}"#.into()]).is_ok());
    }
}
