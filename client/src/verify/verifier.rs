use std::{collections::BTreeSet, fmt, time::Duration};

use serde_json::{Map, Value};

use super::{
    Algorithm, Jwks, JwksCache, VerifiedToken, VerifyError, cache::Keys, error::Quoted,
    json::parse_object, jws::Compact, token::audiences,
};
use crate::clock;

/// The `typ` of a Txn-Token (draft-ietf-oauth-transaction-tokens, "JWT Header").
const TXN_TOKEN: &str = "txntoken+jwt";
/// The claims that a Txn-Token has to have ("JWT Body Claims"), `aud` and `exp` apart.
const TXN_TOKEN_CLAIMS: [&str; 4] = ["txn", "sub", "scope", "req_wl"];

/// Decides which tokens are believed. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    policy: std::sync::Arc<VerifierBuilder>,
    keys: Keys,
}

/// Builds a [`Verifier`]. Made by [`Verifier::txn_token`] or [`Verifier::jwt`].
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifierBuilder {
    types: Vec<String>,
    audience: String,
    algorithms: Vec<Algorithm>,
    issuer: Option<String>,
    required: BTreeSet<String>,
    leeway: u64,
}

impl Verifier {
    /// For Txn-Tokens of this trust domain: `typ` is `txntoken+jwt`, and all required claims are there.
    pub fn txn_token(trust_domain: impl Into<String>) -> VerifierBuilder {
        Self::jwt(TXN_TOKEN, trust_domain).require(TXN_TOKEN_CLAIMS)
    }

    /// For other JWTs: those with exactly this `typ` (e.g. `at+jwt`, RFC 9068) whose `aud` is, or contains,
    /// this audience.
    pub fn jwt(typ: impl Into<String>, audience: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder {
            types: vec![typ.into()],
            audience: audience.into(),
            algorithms: vec![Algorithm::Es256],
            issuer: None,
            required: BTreeSet::new(),
            leeway: 0,
        }
    }

    /// Verifies a token as it stands in the `Txn-Token` header. Neither waits nor fetches.
    ///
    /// # Errors
    ///
    /// The first [`VerifyError`] of: form, `typ`, `alg`, key, signature, then the claims.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, VerifyError> {
        self.verify_at(token, clock::numeric_date())
    }

    pub(super) fn verify_at(&self, token: &str, now: u64) -> Result<VerifiedToken, VerifyError> {
        let compact = Compact::parse(token)?;
        let header = &compact.header;
        if !header.typ.as_ref().is_some_and(|typ| self.policy.types.contains(typ)) {
            let expected = self.policy.types.join(" or ");
            return Err(VerifyError::WrongType {
                found: Quoted::new(header.typ.as_deref()),
                expected,
            });
        }
        let not_allowed = || VerifyError::AlgorithmNotAllowed(Quoted::new(Some(&header.alg)));
        let algorithm: Algorithm = header.alg.parse().map_err(|_| not_allowed())?;
        if !self.policy.algorithms.contains(&algorithm) {
            return Err(not_allowed());
        }
        let keys = self.keys.current()?;
        let key = header.kid.as_deref().and_then(|kid| keys.get(kid));
        let key = key.ok_or_else(|| VerifyError::UnknownKey(Quoted::new(header.kid.as_deref())))?;
        key.for_algorithm(algorithm)
            .ok_or_else(not_allowed)?
            .verify_sig(compact.signing_input, &compact.signature)
            .map_err(|_| VerifyError::SignatureInvalid)?;

        let claims = parse_object(&compact.payload)
            .map_err(|_| VerifyError::Malformed("its payload is not a sound JSON object"))?;
        let expires_at = self.policy.hold(&claims, now)?;
        let kid = compact.header.kid.unwrap_or_default();
        Ok(VerifiedToken { kid, claims, expires_at })
    }
}

impl VerifierBuilder {
    /// Another `typ` that is as good, e.g. `application/at+jwt`.
    pub fn or_type(mut self, typ: impl Into<String>) -> Self {
        self.types.push(typ.into());
        self
    }

    /// The only algorithms that are believed. Default: ES256.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// The `iss` that a token has to have. Default: any or none, since the keys are one issuer's.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Claims that have to be there as strings that are not empty, besides `exp` and `aud`.
    pub fn require<S: Into<String>>(mut self, claims: impl IntoIterator<Item = S>) -> Self {
        self.required.extend(claims.into_iter().map(Into::into));
        self
    }

    /// By how much the issuer's clock may be off; whole seconds. Default: none.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.as_secs();
        self
    }

    /// The verifier, with keys that are kept fresh.
    pub fn build(self, keys: JwksCache) -> Verifier {
        Verifier { policy: self.into(), keys: Keys::Fresh(keys) }
    }

    /// The verifier, with keys that never change: where the set comes with the configuration, or for a look at
    /// a token from a command line.
    pub fn build_with_fixed_keys(self, keys: Jwks) -> Verifier {
        Verifier { policy: self.into(), keys: Keys::Fixed(keys.into()) }
    }

    /// Holds the claims against the policy; returns `exp`.
    fn hold(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, VerifyError> {
        let exp = date(claims, "exp")?.ok_or_else(|| VerifyError::ClaimMissing("exp".into()))?;
        if exp.saturating_add(self.leeway) <= now {
            return Err(VerifyError::Expired { ago: Duration::from_secs(now - exp) });
        }
        for claim in ["nbf", "iat"] {
            if date(claims, claim)?.is_some_and(|date| date > now.saturating_add(self.leeway)) {
                return Err(VerifyError::NotYetValid(claim));
            }
        }
        if !audiences(claims).any(|audience| audience == self.audience) {
            return Err(VerifyError::WrongAudience(self.audience.clone()));
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(VerifyError::WrongIssuer(issuer.clone()));
        }
        for claim in &self.required {
            match claims.get(claim) {
                None => return Err(VerifyError::ClaimMissing(claim.clone())),
                Some(Value::String(text)) if !text.is_empty() => {}
                Some(_) => {
                    let expected = "a string that is not empty";
                    return Err(VerifyError::ClaimMalformed { claim: claim.clone(), expected });
                }
            }
        }
        Ok(exp)
    }
}

/// A NumericDate (RFC 7519 section 2), which may have a fraction, in whole seconds.
fn date(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<u64>, VerifyError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let seconds = value.as_u64().or_else(|| whole_seconds(value.as_f64()?));
    let malformed =
        || VerifyError::ClaimMalformed { claim: claim.into(), expected: "a NumericDate" };
    seconds.map(Some).ok_or_else(malformed)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked, and the fraction is meant to go"
)]
fn whole_seconds(date: f64) -> Option<u64> {
    (0.0..=9_007_199_254_740_991.0).contains(&date).then_some(date as u64)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("policy", &self.policy).finish_non_exhaustive()
    }
}
