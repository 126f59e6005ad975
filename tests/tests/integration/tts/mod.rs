//! The example TTS before a real appliance: RFC 8693 over mutual TLS.

mod bad_input;
mod delegation;
mod issuing;
mod outage;
mod replacing;

use mintwarden_tests::domain::Domain;
use serde_json::Value;

/// The claims of a transaction that Ada starts, changed in this.
fn ada(domain: &Domain, name: &str, value: impl Into<Value>) -> Value {
    let mut claims = domain.idp.claims("ada");
    claims[name] = value.into();
    claims
}
