//! Payloads to sign.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mintwarden_client::TxnClaims;
use serde_json::json;

use crate::TRUST_DOMAIN;

/// The wall clock, in seconds since 1970: a NumericDate.
///
/// # Panics
/// Before 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

/// The claims of a trade, valid for four minutes: what the draft shows as an example. `number` tells one
/// from another in `txn`.
#[must_use]
pub fn trade(number: u64) -> TxnClaims {
    TxnClaims::new(Duration::from_secs(240))
        .audience(TRUST_DOMAIN)
        .txn(format!("97053963-771d-49cc-a4e3-{number:012}"))
        .subject("d084sdrt234fsaw34tr23t")
        .scope("trade.stocks")
        .requesting_workload("apigateway.trust-domain.example")
        .transaction_context(json!({ "action": "BUY", "ticker": "MSFT", "quantity": "100" }))
        .requester_context(json!({ "req_ip": "69.151.72.123", "authn": "urn:ietf:rfc:6749" }))
}

/// A trade that lasts longer than an issuer allows by default: refused with `exp`, `lifetime`.
#[must_use]
pub fn too_long(number: u64) -> TxnClaims {
    trade(number).claim("exp", now() + 3600)
}
