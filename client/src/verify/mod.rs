//! Verifying Txn-Tokens, and the tokens that they are exchanged for (feature `verify`).
//!
//! What a service does with the token in its `Txn-Token` header:
//!
//! ```no_run
//! use mintwarden_client::{
//!     TrustAnchors,
//!     verify::{Algorithm, JwksCache, Verifier},
//! };
//!
//! # async fn example(header: &str) -> Result<(), Box<dyn std::error::Error>> {
//! // Once, at the start:
//! let keys = JwksCache::https("https://mintwarden.trust-domain.example:7480/issuers/payments-tts/jwks.json")
//!     .ca(TrustAnchors::from_file("ca.crt"))
//!     .start()
//!     .await?;
//! let verifier = Verifier::txn_token("trust-domain.example")
//!     .algorithms([Algorithm::Es256])
//!     .build(keys);
//!
//! // For each request; it neither waits nor fetches:
//! let token = verifier.verify(header)?;
//! token.require_scope("trade.stocks")?;
//! let amount = token.transaction_context().and_then(|tctx| tctx.get("amount"));
//! # Ok(())
//! # }
//! ```
//!
//! - [`JwksCache`] keeps the published keys fresh from a task of its own, ahead of need. A token with an
//!   unknown `kid` never causes a fetch: whoever sends tokens could otherwise send the verifier.
//! - [`Verifier`] is a policy that is decided once: `typ` and algorithms exactly as configured, the
//!   algorithm also as the key's JWK allows, `aud`, `exp`, `nbf`, `iat`, where asked `iss`.
//! - [`VerifiedToken`] can only be made by a verifier. What a request may do is read from its `tctx`, never
//!   from the request's body. A required hop, actor or scope is asked of it.
//! - [`SingleUse`] refuses a `txn` that was seen before, in bounded memory.
//!
//! Every refusal is a [`VerifyError`] with a stable [`reason`](VerifyError::reason). A workload authenticates
//! its peers by itself (mTLS): a Txn-Token is no credential.

mod algorithm;
mod cache;
mod error;
mod json;
mod jwk;
mod jws;
mod single_use;
mod token;
mod verifier;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use cache::{CacheBuilder, JwksCache};
pub use error::{JwksError, VerifyError};
pub use json::{JsonError, parse_object};
pub use jwk::{Jwks, JwksFormatError};
pub use single_use::SingleUse;
pub use token::VerifiedToken;
pub use verifier::{Verifier, VerifierBuilder};

#[cfg(test)]
mod tests;
