//! A JWK's members as they are written, and back.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    PublicJwk,
    material::{Material, RSA_EXPONENT},
};
use crate::Algorithm;

#[derive(Serialize, Deserialize)]
#[serde(tag = "kty", deny_unknown_fields)]
enum Members {
    #[serde(rename = "EC")]
    Ec {
        crv: String,
        x: String,
        y: String,
        #[serde(default)]
        alg: Option<Algorithm>,
    },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String, alg: Algorithm },
    #[serde(rename = "OKP")]
    Okp { crv: String, x: String, alg: Algorithm },
}

impl Serialize for PublicJwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let alg = self.algorithm;
        let members = match &self.material {
            Material::P256(_) | Material::P384(_) => {
                let (crv, x, y) = self.material.ec_members().expect("it is such a key");
                Members::Ec { crv: crv.into(), x, y, alg: Some(alg) }
            }
            Material::Rsa { modulus, .. } => Members::Rsa {
                n: URL_SAFE_NO_PAD.encode(modulus),
                e: URL_SAFE_NO_PAD.encode(RSA_EXPONENT),
                alg,
            },
            Material::Ed25519(point) => {
                Members::Okp { crv: "Ed25519".into(), x: URL_SAFE_NO_PAD.encode(point), alg }
            }
        };
        members.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublicJwk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom);
        match Members::deserialize(deserializer)? {
            Members::Ec { crv, x, y, alg } => {
                let (length, only) = match crv.as_str() {
                    "P-256" => (32, Algorithm::ES256),
                    "P-384" => (48, Algorithm::ES384),
                    _ => return Err(D::Error::custom("crv is not P-256 or P-384")),
                };
                if alg.is_some_and(|alg| alg != only) {
                    return Err(D::Error::custom("alg is not the one of the curve"));
                }
                let mut point = vec![4];
                for coordinate in [x, y] {
                    let coordinate = decode(&coordinate)?;
                    if coordinate.len() != length {
                        return Err(D::Error::custom("a coordinate has the wrong length"));
                    }
                    point.extend(coordinate);
                }
                Self::from_sec1(&point).map_err(D::Error::custom)
            }
            Members::Rsa { n, e, alg } => {
                Self::from_rsa(alg, &decode(&n)?, &decode(&e)?).map_err(D::Error::custom)
            }
            Members::Okp { crv, x, alg } => {
                if crv != "Ed25519" {
                    return Err(D::Error::custom("crv is not Ed25519"));
                }
                Self::from_ed25519(alg, &decode(&x)?).map_err(D::Error::custom)
            }
        }
    }
}
