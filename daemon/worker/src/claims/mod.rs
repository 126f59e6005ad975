//! The claims profile `txn-token` (DESIGN.md "Claims profile"): what an issuer signs.
//!
//! From draft-ietf-oauth-transaction-tokens, RFC 7519 and, for what makes JSON read the same
//! everywhere, RFC 7493. A payload either passes and is signed byte for byte as received, or is
//! refused with the claim and the [`Rule`] that it breaks. The payload never reaches the header:
//! members such as `alg`, `typ` or `kid` in it are claims without meaning (invariant I12).
//!
//! # Order
//!
//! The first rule broken is the one that is named, so a payload is always refused in the same way:
//!
//! 1. **The text**: size, then UTF-8, then JSON from left to right (syntax, duplicate names, depth,
//!    range of numbers), then what follows the object.
//! 2. **Presence**: the claims of [`Profile::required`] in its order: there, not null, not empty (`""`,
//!    `[]`, `{}`). Then `exp`, which is needed even where `required` leaves it out: a token without
//!    an end is never signed.
//! 3. **Types** of all claims that the profile knows, required or not: `iss sub aud txn scope purp
//!    req_wl jti`, then `iat nbf exp`, then `tctx rctx agentic_ctx act act_chain`.
//! 4. **Values**: `iss`, `aud`, `req_wl`; `iat`, `exp`, `nbf`; `act`, `act_chain`.
//!
//! Other claims are carried as they are, but the rules of the first step hold inside them too.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{IssuerName, algorithm::KeySpec, clock::UnixTime};

mod claim;
mod names;
mod read;
mod refusal;
mod rules;
#[cfg(test)]
mod tests;

pub use refusal::{Position, Refusal, Rule};

/// What one issuer signs: the worker's part of an issuer's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The issuer that it belongs to.
    pub issuer: IssuerName,
    /// The value that an `iss` claim must have where there is one.
    pub iss: String,
    /// What is asked of the issuer's new keys.
    pub key: KeySpec,
    /// Every `aud` value has to be one of these. Never empty.
    pub audience: Vec<String>,
    /// Claims that have to be present, in the order in which they are asked for. `exp` is always
    /// needed, whether it is named here or not. Names that the profile does not know are allowed.
    pub required: Vec<String>,
    /// Bound on `exp - now` and `exp - iat`; counted in whole seconds.
    pub max_token_lifetime: Duration,
    /// Tolerance for `iat` in the future; counted in whole seconds.
    pub skew: Duration,
    /// Bound on the payload in bytes.
    pub max_claims_bytes: usize,
    /// Bound on the nesting of `act` and on the length of `act_chain`. A single `act` is one.
    pub max_act_depth: usize,
    /// Where not empty: `req_wl` has to be one of these.
    pub req_wl: Vec<String>,
}

impl Profile {
    /// What [`required`](Self::required) is where the configuration does not say.
    pub const DEFAULT_REQUIRED: [&'static str; 7] =
        ["iat", "aud", "exp", "txn", "sub", "scope", "req_wl"];

    /// What [`max_token_lifetime`](Self::max_token_lifetime) is where the configuration does not say.
    pub const DEFAULT_MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(5 * 60);

    /// What [`skew`](Self::skew) is where the configuration does not say.
    pub const DEFAULT_SKEW: Duration = Duration::from_secs(30);

    /// What [`max_claims_bytes`](Self::max_claims_bytes) is where the configuration does not say.
    pub const DEFAULT_MAX_CLAIMS_BYTES: usize = 4096;

    /// What [`max_act_depth`](Self::max_act_depth) is where the configuration does not say. The draft
    /// sets no bound; chains of agents that are longer than this are rather loops than delegations.
    pub const DEFAULT_MAX_ACT_DEPTH: usize = 8;

    /// Bound on the nesting of objects and arrays. The payload's own object is level 1, so an
    /// object inside a claim that is an object is level 3. Not configurable: readers have limits too.
    pub const MAX_DEPTH: usize = 32;

    /// Whether this issuer signs `payload` at the wall-clock time `now`.
    ///
    /// # Errors
    /// [`Refusal`] with the first rule that the payload breaks, in the order of [the module](self).
    pub fn check<'a>(
        &self,
        payload: &'a [u8],
        now: UnixTime,
    ) -> Result<CheckedClaims<'a>, Refusal> {
        let claims = read::read(payload, self.max_claims_bytes, &self.required)?;
        let facts = rules::apply(self, &claims, now)?;
        Ok(CheckedClaims { payload, facts })
    }
}

/// A payload that passed its issuer's profile. Only [`Profile::check`] makes one.
#[derive(Debug)]
pub struct CheckedClaims<'a> {
    payload: &'a [u8],
    facts: Facts,
}

impl<'a> CheckedClaims<'a> {
    /// The payload as it was received, which is what is signed.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// What the server records of it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the server records of it, when the payload is done with.
    #[must_use]
    pub fn into_facts(self) -> Facts {
        self.facts
    }
}

/// The few facts of a payload that the server records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The `txn` claim; empty where the issuer does not require it and it is absent.
    pub txn: String,
    /// The `req_wl` claim; empty where the issuer does not require it and it is absent.
    pub req_wl: String,
    /// The `exp` claim.
    pub exp: UnixTime,
    /// Nesting of `act` or length of `act_chain`, whichever is more.
    pub delegation_depth: usize,
}
