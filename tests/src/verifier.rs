//! Verifies Txn-Tokens with a library that shares no code with the appliance.

use std::collections::{BTreeSet, HashMap};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{JwkSet, ThumbprintHash},
};
use serde_json::{Map, Value};

/// A published JWK Set, ready to verify with.
#[derive(Clone)]
pub struct Verifier {
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
}

/// A token that is what it claims to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The key that signed.
    pub kid: String,
    /// The protected header.
    pub header: Map<String, Value>,
    /// The payload.
    pub claims: Map<String, Value>,
    /// The payload's bytes as they were signed.
    pub payload: Vec<u8>,
}

impl Verifier {
    /// Takes a JWK Set (RFC 7517) as fetched, and the audiences of which a token has to name one.
    ///
    /// # Errors
    /// What is wrong with the set: each key has to be an ES256 signing key under its own RFC 7638
    /// thumbprint.
    pub fn new(jwks: &[u8], audience: &[&str]) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(jwks).map_err(|e| format!("no JWK Set: {e}"))?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let kid = jwk.common.key_id.clone().ok_or("a key without kid")?;
            let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|e| e.to_string())?;
            if kid != thumbprint {
                return Err(format!("kid {kid} is not the key's thumbprint {thumbprint}"));
            }
            let key = DecodingKey::from_jwk(jwk).map_err(|e| format!("key {kid}: {e}"))?;
            if keys.insert(kid.clone(), key).is_some() {
                return Err(format!("the key {kid} is there twice"));
            }
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = 5;
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.set_audience(audience);
        Ok(Self { keys, validation })
    }

    /// The `kid`s of all keys.
    #[must_use]
    pub fn kids(&self) -> BTreeSet<String> {
        self.keys.keys().cloned().collect()
    }

    /// Verifies a token: signature, `typ`, `alg`, `kid`, `exp`, `aud`, and that the header has no other
    /// member.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &str) -> Result<Verified, String> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("it does not have three parts".into());
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|e| e.to_string());
        let header: Map<String, Value> =
            serde_json::from_slice(&decode(header)?).map_err(|e| format!("header: {e}"))?;
        let names: BTreeSet<_> = header.keys().map(String::as_str).collect();
        if names != BTreeSet::from(["alg", "kid", "typ"]) {
            return Err(format!("the header has the members {names:?}"));
        }
        if header["typ"] != "txntoken+jwt" {
            return Err(format!("typ is {}", header["typ"]));
        }
        let kid = header["kid"].as_str().ok_or("kid is no string")?.to_owned();
        let key = self.keys.get(&kid).ok_or_else(|| format!("no published key {kid}"))?;
        let data = jsonwebtoken::decode(token, key, &self.validation).map_err(|e| e.to_string())?;
        Ok(Verified { kid, header, claims: data.claims, payload: decode(payload)? })
    }
}
