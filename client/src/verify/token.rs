use std::iter;

use serde_json::{Map, Value};

use super::error::{Quoted, VerifyError};

/// A token that was verified: only a [`Verifier`](super::Verifier) makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedToken {
    pub(super) kid: String,
    pub(super) claims: Map<String, Value>,
    pub(super) expires_at: u64,
}

impl VerifiedToken {
    /// The `kid` of the key that signed it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// All claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// `exp`, a NumericDate in whole seconds (a fraction is cut off).
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }

    /// A claim that is a string.
    ///
    /// # Errors
    ///
    /// [`VerifyError::ClaimMissing`] or [`VerifyError::ClaimMalformed`].
    pub fn text(&self, claim: &str) -> Result<&str, VerifyError> {
        match self.claims.get(claim) {
            None => Err(VerifyError::ClaimMissing(claim.to_owned())),
            Some(Value::String(text)) => Ok(text),
            Some(_) => {
                let claim = claim.to_owned();
                Err(VerifyError::ClaimMalformed { claim, expected: "a string" })
            }
        }
    }

    /// The values of `scope` (RFC 8693 section 4.2): none where there is no such claim.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scope = self.claims.get("scope").and_then(Value::as_str).unwrap_or_default();
        scope.split(' ').filter(|value| !value.is_empty())
    }

    /// The values of `aud` (RFC 7519 section 4.1.3).
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        audiences(&self.claims)
    }

    /// `tctx`, the parameters of the transaction: what a request may do is read from here.
    pub fn transaction_context(&self) -> Option<&Map<String, Value>> {
        self.object("tctx")
    }

    /// `rctx`, the context of the request that started the transaction.
    pub fn requester_context(&self) -> Option<&Map<String, Value>> {
        self.object("rctx")
    }

    /// `agentic_ctx`, what the TTS says of the agent.
    pub fn agentic_context(&self) -> Option<&Map<String, Value>> {
        self.object("agentic_ctx")
    }

    fn object(&self, claim: &str) -> Option<&Map<String, Value>> {
        self.claims.get(claim).and_then(Value::as_object)
    }

    /// The workloads that asked for this token and for those that it replaces, the latest first: `req_wl`, then
    /// `req_wl_chain` from its end.
    pub fn hops(&self) -> impl Iterator<Item = &str> {
        let latest = self.claims.get("req_wl").and_then(Value::as_str);
        let earlier = self.claims.get("req_wl_chain").and_then(Value::as_array);
        let earlier = earlier.into_iter().flatten().rev().filter_map(Value::as_str);
        latest.into_iter().chain(earlier)
    }

    /// Who acts for `sub`, the present actor first: `act.sub`, `act.act.sub` and so on (RFC 8693 section
    /// 4.1). Only the first one's rights count; the others are history.
    pub fn actors(&self) -> impl Iterator<Item = &str> {
        let actors = iter::successors(self.claims.get("act"), |actor| actor.get("act"));
        actors.map(|actor| actor.get("sub").and_then(Value::as_str).unwrap_or_default())
    }

    /// Whether `scope` has this value.
    ///
    /// # Errors
    ///
    /// [`VerifyError::ScopeMissing`].
    pub fn require_scope(&self, scope: &str) -> Result<(), VerifyError> {
        let has = self.scopes().any(|value| value == scope);
        if has { Ok(()) } else { Err(VerifyError::ScopeMissing(scope.to_owned())) }
    }

    /// Whether this workload asked for the token, or for one that it replaces.
    ///
    /// # Errors
    ///
    /// [`VerifyError::HopMissing`].
    pub fn require_hop(&self, workload: &str) -> Result<(), VerifyError> {
        let has = self.hops().any(|hop| hop == workload);
        if has { Ok(()) } else { Err(VerifyError::HopMissing(workload.to_owned())) }
    }

    /// Whether exactly this actor acts for the subject now, or, for `None`, nobody does.
    ///
    /// # Errors
    ///
    /// [`VerifyError::ActorMismatch`].
    pub fn require_actor(&self, actor: Option<&str>) -> Result<(), VerifyError> {
        let found = self.actors().next();
        if found == actor {
            return Ok(());
        }
        let (found, expected) = (Quoted::new(found), Quoted::new(actor));
        Err(VerifyError::ActorMismatch { found, expected })
    }
}

pub(super) fn audiences(claims: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let (one, many) = match claims.get("aud") {
        Some(Value::Array(many)) => (None, &many[..]),
        one => (one, &[][..]),
    };
    one.into_iter().chain(many).filter_map(Value::as_str)
}
