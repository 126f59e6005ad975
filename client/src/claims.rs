use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::clock;

/// Builds the payload of a Txn-Token: the claims of draft-ietf-oauth-transaction-tokens.
///
/// `iat` and `exp` are set when the claims are serialised, from the lifetime given to
/// [`new`](Self::new). Setting a claim twice keeps the last value, so a payload never has
/// duplicate names. Nothing is checked here: the appliance decides what it signs, and
/// [`Issuer::describe`](crate::Issuer::describe) tells within which limits.
///
/// ```
/// # use std::time::Duration;
/// use mintwarden_client::TxnClaims;
/// use serde_json::json;
///
/// let claims = TxnClaims::new(Duration::from_secs(60))
///     .audience("trust-domain.example")
///     .txn("97053963-771d-49cc-a4e3-20aad399c312")
///     .subject("d084sdrt234fsaw34tr23t")
///     .scope("trade.stocks")
///     .requesting_workload("spiffe://trust-domain.example/apigateway")
///     .transaction_context(json!({"action": "BUY", "ticker": "MSFT"}))
///     .requester_context(json!({"req_ip": "192.0.2.17"}));
/// assert!(claims.to_json().starts_with(b"{"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TxnClaims {
    lifetime: Duration,
    claims: Map<String, Value>,
}

impl TxnClaims {
    /// Starts claims that are valid for `lifetime` (whole seconds, at least one) from the moment
    /// they are serialised.
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, claims: Map::new() }
    }

    /// `aud` as a string: the trust domain in which the token is valid.
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.claim("aud", audience.into())
    }

    /// `aud` as an array.
    pub fn audiences<S: Into<String>>(self, audiences: impl IntoIterator<Item = S>) -> Self {
        self.claim("aud", audiences.into_iter().map(Into::into).collect::<Vec<String>>())
    }

    /// `txn`: the transaction's unique identifier (RFC 8417 section 2.2). The caller makes it.
    pub fn txn(self, txn: impl Into<String>) -> Self {
        self.claim("txn", txn.into())
    }

    /// `sub`: whom the transaction is for.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.claim("sub", subject.into())
    }

    /// `scope`: the purpose of the transaction, as space-separated values (RFC 8693 section 4.2).
    pub fn scope(self, scope: impl Into<String>) -> Self {
        self.claim("scope", scope.into())
    }

    /// `req_wl`: the workload that asked for the token, e.g. its SPIFFE ID.
    pub fn requesting_workload(self, workload: impl Into<String>) -> Self {
        self.claim("req_wl", workload.into())
    }

    /// `tctx`: the transaction's immutable parameters, a JSON object.
    pub fn transaction_context(self, context: impl Into<Value>) -> Self {
        self.claim("tctx", context)
    }

    /// `rctx`: the context of the request that started the transaction, a JSON object.
    pub fn requester_context(self, context: impl Into<Value>) -> Self {
        self.claim("rctx", context)
    }

    /// `act`: who acts for the subject, a JSON object that may nest (RFC 8693 section 4.1).
    pub fn actor(self, actor: impl Into<Value>) -> Self {
        self.claim("act", actor)
    }

    /// `iss`: only where the issuer is configured with exactly this value.
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.claim("iss", issuer.into())
    }

    /// Any other claim. An explicit `iat` or `exp` takes the place of the computed one.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// The payload as compact JSON, valid from now.
    pub fn to_json(&self) -> Bytes {
        self.to_json_at(clock::numeric_date())
    }

    fn to_json_at(&self, now: u64) -> Bytes {
        let mut claims = self.claims.clone();
        claims.entry("iat").or_insert_with(|| now.into());
        let lifetime = self.lifetime.as_secs().max(1);
        claims.entry("exp").or_insert_with(|| now.saturating_add(lifetime).into());
        serde_json::to_vec(&claims).expect("a map of JSON values serialises").into()
    }
}

impl From<TxnClaims> for Bytes {
    fn from(claims: TxnClaims) -> Self {
        claims.to_json()
    }
}

impl From<&TxnClaims> for Bytes {
    fn from(claims: &TxnClaims) -> Self {
        claims.to_json()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(claims: &TxnClaims) -> Value {
        serde_json::from_slice(&claims.to_json_at(1_700_000_000)).unwrap()
    }

    #[test]
    fn carries_the_claims_of_the_draft() {
        let claims = TxnClaims::new(Duration::from_secs(300))
            .audience("trust-domain.example")
            .txn("t-1")
            .subject("alice")
            .scope("pay")
            .requesting_workload("spiffe://trust-domain.example/gw")
            .transaction_context(json!({"amount": 5}))
            .requester_context(json!({"ip": "192.0.2.1"}))
            .actor(json!({"sub": "agent", "act": {"sub": "tool"}}));
        assert_eq!(
            parsed(&claims),
            json!({
                "iat": 1_700_000_000, "exp": 1_700_000_300, "aud": "trust-domain.example",
                "txn": "t-1", "sub": "alice", "scope": "pay",
                "req_wl": "spiffe://trust-domain.example/gw",
                "tctx": {"amount": 5}, "rctx": {"ip": "192.0.2.1"},
                "act": {"sub": "agent", "act": {"sub": "tool"}},
            })
        );
    }

    #[test]
    fn the_last_value_of_a_claim_counts() {
        let claims =
            TxnClaims::new(Duration::ZERO).audience("a").audiences(["b", "c"]).claim("iat", 7);
        assert_eq!(parsed(&claims), json!({"aud": ["b", "c"], "iat": 7, "exp": 1_700_000_001}));
    }
}
