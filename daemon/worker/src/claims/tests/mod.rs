//! Tests of the whole profile; the pieces have their own.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CheckedClaims, Profile, Refusal};
use crate::{Algorithm, IssuerName, clock::UnixTime};

mod golden;
mod hostile;
mod property;
#[path = "../../../../../tests/fuzz/src/second_reader.rs"]
mod second_reader;
mod values;

const NOW: UnixTime = UnixTime(1_750_000_000);

/// The defaults, for the audience `trust-domain.example`.
fn profile() -> Profile {
    Profile {
        issuer: IssuerName::parse("payments-tts").expect("a valid name"),
        iss: "https://tts.trust-domain.example".to_owned(),
        key: Algorithm::ES256.into(),
        audience: vec!["trust-domain.example".to_owned()],
        required: Profile::DEFAULT_REQUIRED.map(str::to_owned).to_vec(),
        max_token_lifetime: Profile::DEFAULT_MAX_TOKEN_LIFETIME,
        skew: Profile::DEFAULT_SKEW,
        max_claims_bytes: Profile::DEFAULT_MAX_CLAIMS_BYTES,
        max_act_depth: Profile::DEFAULT_MAX_ACT_DEPTH,
        req_wl: Vec::new(),
    }
}

/// Claims that pass it at `NOW`.
fn claims() -> Value {
    json!({
        "iat": NOW.0,
        "aud": "trust-domain.example",
        "exp": NOW.0 + 300,
        "txn": "97053963-771d-49cc-a4e3-20aad399c312",
        "sub": "d084sdrt234fsaw34tr23t",
        "scope": "trade.stocks",
        "req_wl": "apigateway.trust-domain.example",
    })
}

/// `claims()` with one of them set.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// `claims()` without one of them.
fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

/// `claims()` as text, with `member` (name, colon, value) added at its end.
fn with_text(member: &str) -> String {
    let claims = claims().to_string();
    format!("{},{member}}}", claims.strip_suffix('}').expect("an object"))
}

/// `levels` objects or arrays around one another.
fn nested(open: &str, close: &str, levels: usize) -> String {
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

/// What a refusal says to programs: reason, claim, rule.
fn words(refusal: &Refusal) -> (&str, &str, &str) {
    (refusal.reason(), refusal.claim().unwrap_or(""), refusal.rule().as_str())
}

#[track_caller]
fn assert_signed(profile: &Profile, payload: &[u8]) {
    let checked: Result<CheckedClaims<'_>, _> = profile.check(payload, NOW);
    let text = String::from_utf8_lossy(payload);
    match checked {
        Ok(checked) => assert_eq!(checked.payload(), payload, "signed byte for byte"),
        Err(refusal) => panic!("{refusal}: {text}"),
    }
}

#[track_caller]
fn assert_refused(profile: &Profile, payload: &[u8], expected: (&str, &str, &str)) {
    let refusal = match profile.check(payload, NOW) {
        Ok(_) => panic!("signed: {}", String::from_utf8_lossy(payload)),
        Err(refusal) => refusal,
    };
    assert_eq!(words(&refusal), expected, "{}", String::from_utf8_lossy(payload));
}

#[track_caller]
fn assert_claim_refused(profile: &Profile, claims: &Value, claim: &str, rule: &str) {
    assert_refused(profile, claims.to_string().as_bytes(), ("CLAIM_REFUSED", claim, rule));
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
