//! JWK Sets (RFC 7517) as verifiers need them.

use std::{collections::HashMap, fmt, sync::Arc};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    json::{JsonError, parse_object},
};

/// Bound on the keys of a set.
const MAX_KEYS: usize = 256;

/// The keys of a JWK Set that can verify, by `kid`.
///
/// As RFC 7517 section 5 advises, keys of an unknown kind, for another use, or without a `kid` are left out. So is
/// one with private or symmetric material: what is published cannot be secret.
#[derive(Clone, Default)]
pub struct Jwks {
    keys: HashMap<String, Key>,
    left_out: usize,
}

/// Why bytes are not a JWK Set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwksFormatError {
    /// Not a JSON object.
    #[error("JWK Set: {0}")]
    Json(#[from] JsonError),
    /// There is no array `keys` of objects.
    #[error("JWK Set: it needs `keys`, an array of objects (RFC 7517 section 5)")]
    NoKeys,
    /// More than 256 keys.
    #[error("JWK Set: {0} keys; at most {MAX_KEYS} are read")]
    TooManyKeys(usize),
    /// Two keys with one `kid`.
    #[error("JWK Set: two keys have the kid {0:?}, so that it names neither")]
    DuplicateKid(String),
}

impl Jwks {
    /// Parses a JWK Set.
    ///
    /// # Errors
    ///
    /// [`JwksFormatError`]. A single key that cannot be used is none; see [`left_out`](Self::left_out).
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksFormatError> {
        let mut set = parse_object(bytes)?;
        let Some(Value::Array(entries)) = set.remove("keys") else {
            return Err(JwksFormatError::NoKeys);
        };
        if entries.len() > MAX_KEYS {
            return Err(JwksFormatError::TooManyKeys(entries.len()));
        }
        let mut jwks = Self::default();
        for entry in entries {
            let Value::Object(members) = entry else { return Err(JwksFormatError::NoKeys) };
            let Some((kid, key)) = Key::parse(members) else {
                jwks.left_out += 1;
                continue;
            };
            if jwks.keys.contains_key(&kid) {
                return Err(JwksFormatError::DuplicateKid(kid.chars().take(64).collect()));
            }
            jwks.keys.insert(kid, key);
        }
        Ok(jwks)
    }

    /// The `kid`s of all usable keys, in no order.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// How many keys were left out because they cannot be used.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub(super) fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks")
            .field("kids", &self.keys.keys())
            .field("left_out", &self.left_out)
            .finish()
    }
}

/// One public key, with what it may be used for: for each allowed algorithm, ready to verify.
#[derive(Clone)]
pub(super) struct Key(Arc<[(Algorithm, ParsedPublicKey)]>);

impl Key {
    /// The key as it verifies signatures of this algorithm, if its JWK allows that one.
    pub(super) fn for_algorithm(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.0.iter().find(|(allowed, _)| *allowed == algorithm).map(|(_, key)| key)
    }

    fn parse(members: Map<String, Value>) -> Option<(String, Self)> {
        const SECRET: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "k"];
        if SECRET.iter().any(|name| members.contains_key(*name)) {
            return None;
        }
        let jwk: Members = serde_json::from_value(Value::Object(members)).ok()?;
        let signs = jwk.r#use.as_deref().is_none_or(|purpose| purpose == "sig");
        let verifies = jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || !verifies || jwk.kid.is_empty() {
            return None;
        }
        let keys = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                vec![(Algorithm::Es256, jwk.point(&ECDSA_P256_SHA256_FIXED, 32)?)]
            }
            ("EC", Some("P-384")) => {
                vec![(Algorithm::Es384, jwk.point(&ECDSA_P384_SHA384_FIXED, 48)?)]
            }
            ("OKP", Some("Ed25519")) => vec![(Algorithm::Ed25519, jwk.ed25519()?)],
            ("RSA", None) => {
                vec![
                    (Algorithm::Ps256, jwk.rsa(&RSA_PSS_2048_8192_SHA256)?),
                    (Algorithm::Rs256, jwk.rsa(&RSA_PKCS1_2048_8192_SHA256)?),
                ]
            }
            _ => return None,
        };
        let only: Option<Algorithm> = jwk.alg.as_deref().map(str::parse).transpose().ok()?;
        let allowed = |algorithm| only.is_none_or(|only| only == algorithm);
        let keys: Arc<[_]> =
            keys.into_iter().filter(|(algorithm, _)| allowed(*algorithm)).collect();
        (!keys.is_empty()).then_some((jwk.kid, Self(keys)))
    }
}

/// A JWK's members (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
struct Members {
    kid: String,
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Members {
    fn point(
        &self,
        algorithm: &'static EcdsaVerificationAlgorithm,
        width: usize,
    ) -> Option<ParsedPublicKey> {
        let mut point = vec![4];
        for coordinate in [&self.x, &self.y] {
            point.extend(fixed(coordinate.as_deref()?, width)?);
        }
        ParsedPublicKey::new(algorithm, point).ok()
    }

    fn ed25519(&self) -> Option<ParsedPublicKey> {
        ParsedPublicKey::new(&ED25519, fixed(self.x.as_deref()?, 32)?).ok()
    }

    fn rsa(&self, parameters: &'static RsaParameters) -> Option<ParsedPublicKey> {
        let n = URL_SAFE_NO_PAD.decode(self.n.as_deref()?).ok()?;
        let e = URL_SAFE_NO_PAD.decode(self.e.as_deref()?).ok()?;
        // Below 2048 bits nothing verifies anyway, and above 8192 it costs too much.
        if !(256..=1024).contains(&n.len()) {
            return None;
        }
        RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()
    }
}

fn fixed(text: &str, width: usize) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == width)
}
