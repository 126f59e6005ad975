//! Verifies Txn-Tokens with a library that shares no code with the appliance.

use std::collections::{BTreeSet, HashMap};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, crypto,
    jwk::{JwkSet, ThumbprintHash},
};
use serde_json::{Map, Value};

use crate::claims;

/// A published JWK Set, ready to verify with.
#[derive(Clone)]
pub struct Verifier {
    keys: HashMap<String, Key>,
    audience: Vec<String>,
}

#[derive(Clone)]
struct Key {
    /// The `alg` of its JWK: a token's has to be the same.
    algorithm: String,
    decoding: DecodingKey,
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
    /// What is wrong with the set: each key has to be a signing key with an `alg` under its own RFC 7638
    /// thumbprint, and nothing of it private.
    pub fn new(jwks: &[u8], audience: &[&str]) -> Result<Self, String> {
        let written: Value = serde_json::from_slice(jwks).map_err(|e| format!("no JSON: {e}"))?;
        let set: JwkSet = serde_json::from_slice(jwks).map_err(|e| format!("no JWK Set: {e}"))?;
        let mut keys = HashMap::new();
        for (jwk, written) in set.keys.iter().zip(written["keys"].as_array().into_iter().flatten())
        {
            let algorithm = written["alg"].as_str().ok_or("a key without alg")?.to_owned();
            if written["use"] != "sig" || written.get("d").is_some() {
                return Err(format!("not a public signing key: {written}"));
            }
            let kid = jwk.common.key_id.clone().ok_or("a key without kid")?;
            let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|e| e.to_string())?;
            if kid != thumbprint {
                return Err(format!("kid {kid} is not the key's thumbprint {thumbprint}"));
            }
            let decoding = DecodingKey::from_jwk(jwk).map_err(|e| format!("key {kid}: {e}"))?;
            if keys.insert(kid.clone(), Key { algorithm, decoding }).is_some() {
                return Err(format!("the key {kid} is there twice"));
            }
        }
        Ok(Self { keys, audience: audience.iter().map(|&a| a.to_owned()).collect() })
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
        if header["alg"] != key.algorithm.as_str() {
            return Err(format!("alg is {}, the key is for {}", header["alg"], key.algorithm));
        }
        let payload = decode(payload)?;
        let claims = if key.algorithm == "Ed25519" {
            self.verify_ed25519(token, &key.decoding, &payload)?
        } else {
            self.verify_jwt(token, key)?
        };
        Ok(Verified { kid, header, claims, payload })
    }

    fn verify_jwt(&self, token: &str, key: &Key) -> Result<Map<String, Value>, String> {
        let algorithm: Algorithm = key.algorithm.parse().map_err(|_| "alg is not known")?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = 5;
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.set_audience(&self.audience);
        let data = jsonwebtoken::decode(token, &key.decoding, &validation);
        Ok(data.map_err(|e| e.to_string())?.claims)
    }

    /// The library knows Ed25519 under its older name alone: it checks the signature, and the claims
    /// are looked at here.
    fn verify_ed25519(
        &self,
        token: &str,
        key: &DecodingKey,
        payload: &[u8],
    ) -> Result<Map<String, Value>, String> {
        let (message, signature) = token.rsplit_once('.').ok_or("it has no signature")?;
        match crypto::verify(signature, message.as_bytes(), key, Algorithm::EdDSA) {
            Ok(true) => {}
            _ => return Err("InvalidSignature".into()),
        }
        let claims: Map<String, Value> =
            serde_json::from_slice(payload).map_err(|e| format!("payload: {e}"))?;
        let named = |audience: &Value| {
            let one = |value: &Value| self.audience.iter().any(|allowed| value == allowed);
            audience.as_array().map_or_else(|| one(audience), |all| all.iter().any(one))
        };
        if !claims.get("aud").is_some_and(named) {
            return Err("InvalidAudience".into());
        }
        if claims.get("exp").and_then(Value::as_u64).is_none_or(|exp| exp + 5 < claims::now()) {
            return Err("ExpiredSignature".into());
        }
        Ok(claims)
    }
}
