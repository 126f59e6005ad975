//! The claims that are signed: a payload like the example of
//! draft-ietf-oauth-transaction-tokens, "Txn-Token Body".

use std::time::Duration;

use mintwarden_client::{Bytes, TxnClaims};
use serde_json::json;

/// The trust domain of all that is measured; the only audience.
pub const TRUST_DOMAIN: &str = "trust-domain.example";

/// Longer than any one measurement, shorter than what a default issuer allows.
const LIFETIME: Duration = Duration::from_secs(240);

/// A typical payload, about 500 bytes, valid from now; `number` tells one from another.
#[must_use]
pub fn typical(number: usize) -> Bytes {
    TxnClaims::new(LIFETIME)
        .audience(TRUST_DOMAIN)
        .txn(format!("97053963-771d-49cc-a4e3-{number:012x}"))
        .subject("d084sdrt234fsaw34tr23t")
        .scope("trade.stocks")
        .requesting_workload(format!("spiffe://{TRUST_DOMAIN}/apigateway"))
        .transaction_context(json!({
            "action": "BUY", "ticker": "MSFT", "quantity": "100",
            "customer_type": {"geo": "US", "level": "VIP"},
        }))
        .requester_context(json!({
            "req_ip": "192.0.2.17", "authn": "urn:ietf:rfc:6749",
        }))
        .to_json()
}

/// This many typical payloads.
#[must_use]
pub fn batch(size: usize) -> Vec<Bytes> {
    (0..size).map(typical).collect()
}
