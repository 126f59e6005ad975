//! Whether what was measured are good tokens: by an independent library, against the published JWKS,
//! when nothing is being timed.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use mintwarden_client::{Issuer, Token};

use crate::{error::BenchError, payload::TRUST_DOMAIN};

/// Verifies all of them; how many there were.
///
/// # Errors
/// [`BenchError::Sample`] for the first that is not good, or if there is none at all.
pub async fn verify(issuer: &Issuer, tokens: &[Token]) -> Result<usize, BenchError> {
    let failed = |error: jsonwebtoken::errors::Error| BenchError::Sample(error.to_string());
    let published = issuer.jwks().await?;
    let keys: JwkSet = serde_json::from_slice(&published.jwks)
        .map_err(|error| BenchError::Sample(format!("the JWKS: {error}")))?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[TRUST_DOMAIN]);
    // A sample is looked at when all is done, up to minutes later.
    validation.validate_exp = false;
    for token in tokens {
        let header = decode_header(token.as_str()).map_err(failed)?;
        let key = header.kid.as_deref().and_then(|kid| keys.find(kid));
        let key = key.ok_or_else(|| BenchError::Sample("its kid is not published".to_owned()))?;
        let key = DecodingKey::from_jwk(key).map_err(failed)?;
        decode::<serde_json::Value>(token.as_str(), &key, &validation).map_err(failed)?;
    }
    if tokens.is_empty() {
        return Err(BenchError::Sample("no sample was taken".to_owned()));
    }
    Ok(tokens.len())
}
