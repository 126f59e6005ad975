//! What the TTS refuses, each with its own words.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use mintwarden_tests::{
    Appliance, ISS, TRUST_DOMAIN, channel, claims,
    domain::{AUDIENCE, Domain, Form, Idp},
};
use serde_json::{Value, json};

use super::ada;

async fn words(domain: &Domain, form: &Form) -> (u16, String, String) {
    let answer = domain.exchange(domain.gateway(), form).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.body.get("access_token"), None);
    let description = answer.text("error_description");
    let allowed = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
    assert!(!description.is_empty() && description.chars().all(allowed), "{description}");
    let (status, error, reason) = answer.words();
    (status, error.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_form_that_is_not_as_rfc_8693_has_it() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let good = || domain.form();
    let large = json!({ "a": "x".repeat(5000) }).to_string();
    for (form, error, reason) in [
        (good().set("grant_type", "client_credentials"), "unsupported_grant_type", "GRANT_TYPE"),
        (good().without("grant_type"), "invalid_request", "MISSING_PARAMETER"),
        (good().and("scope", "trade.read"), "invalid_request", "DUPLICATE_PARAMETER"),
        (good().and("subject_token", "x"), "invalid_request", "DUPLICATE_PARAMETER"),
        (
            good().set("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            "invalid_request",
            "TOKEN_TYPE",
        ),
        (
            good().set("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
            "invalid_request",
            "SUBJECT_TOKEN_TYPE",
        ),
        (
            good().set("subject_token_type", "urn:ietf:params:oauth:token-type:unsigned_json"),
            "invalid_request",
            "SUBJECT_TOKEN_TYPE",
        ),
        (good().set("audience", "other.example"), "invalid_target", "AUDIENCE"),
        (good().set("resource", "https://a.example/"), "invalid_target", "RESOURCE"),
        (good().set("scope", "trade.stocks admin"), "invalid_scope", "SCOPE_UNKNOWN"),
        (good().set("request_details", "amount=5"), "invalid_request", "NOT_JSON"),
        (
            good().set("request_details", r#"{"amount":1,"amount":2}"#),
            "invalid_request",
            "NOT_JSON",
        ),
        (good().set("request_details", large.clone()), "invalid_request", "TOO_LARGE"),
        (good().set("request_context", large), "invalid_request", "TOO_LARGE"),
        (good().set("request_context", r#"{"a":{"b":1}}"#), "invalid_request", "CONTEXT"),
        (good().set("x", "x".repeat(70_000)), "invalid_request", "TOO_LARGE"),
    ] {
        assert_eq!(words(&domain, &form).await, (400, error.into(), reason.into()));
    }
    for name in ["audience", "scope", "requested_token_type", "subject_token", "subject_token_type"]
    {
        let refused = words(&domain, &good().without(name)).await;
        assert_eq!(refused, (400, "invalid_request".into(), "MISSING_PARAMETER".into()), "{name}");
    }
}

#[tokio::test]
async fn a_subject_token_that_is_not_the_idps() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let (idp, now) = (&domain.idp, claims::now());
    let header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": "idp-1" });
    let with = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        header
    };
    let claims = idp.claims("ada");
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", encode(&with("alg", "none".into())), encode(&claims));
    // HMAC with the public key: what a verifier falls for that lets the header choose.
    let hmac = {
        let input = format!("{}.{}", encode(&with("alg", "HS256".into())), encode(&claims));
        let key = EncodingKey::from_secret(idp.jwk().to_string().as_bytes());
        let tag = jsonwebtoken::crypto::sign(input.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{input}.{tag}")
    };
    let other = Idp::start(domain.pki()).await;
    let good = idp.access_token(&claims);
    let stripped = good.rsplit_once('.').unwrap().0;
    for (token, reason) in [
        (idp.access_token(&ada(&domain, "exp", now - 1)), "EXPIRED"),
        (idp.access_token(&ada(&domain, "nbf", now + 60)), "NOT_YET_VALID"),
        (idp.access_token(&ada(&domain, "iat", now + 60)), "NOT_YET_VALID"),
        (idp.access_token(&ada(&domain, "iss", "https://other.example")), "WRONG_ISSUER"),
        (idp.access_token(&ada(&domain, "aud", "https://api.example")), "WRONG_AUDIENCE"),
        (idp.access_token(&ada(&domain, "sub", json!({}))), "CLAIM_MALFORMED"),
        (idp.access_token(&ada(&domain, "exp", json!(null))), "CLAIM_MALFORMED"),
        (other.access_token(&claims), "SIGNATURE_INVALID"),
        (unsigned, "ALGORITHM_NOT_ALLOWED"),
        (hmac, "ALGORITHM_NOT_ALLOWED"),
        (idp.sign(&with("alg", "ES384".into()), &claims), "ALGORITHM_NOT_ALLOWED"),
        (idp.sign(&with("kid", "idp-2".into()), &claims), "UNKNOWN_KEY"),
        // An ID token, or a JWT of any other kind.
        (idp.sign(&with("typ", "JWT".into()), &claims), "WRONG_TYPE"),
        (idp.sign(&with("typ", "txntoken+jwt".into()), &claims), "WRONG_TYPE"),
        (format!("{stripped}."), "SIGNATURE_INVALID"),
        (stripped.to_owned(), "TOKEN_MALFORMED"),
        ("x".into(), "TOKEN_MALFORMED"),
    ] {
        let refused = words(&domain, &Form::start(&token)).await;
        assert_eq!(refused, (400, "invalid_request".into(), reason.into()), "{token}");
    }
    let answer = domain.exchange(domain.gateway(), &Form::start(&good)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn tokens_of_one_kind_do_not_pass_for_the_other() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let txn_token = domain.txn_token().await;
    let refused = words(&domain, &Form::start(&txn_token)).await;
    assert_eq!(refused, (400, "invalid_request".into(), "WRONG_TYPE".into()));
    // The IdP signs what looks like a Txn-Token: it is not the TTS's key.
    let mut claims = domain.idp.claims("ada");
    for (name, value) in [("aud", TRUST_DOMAIN), ("txn", "t-1"), ("req_wl", "w"), ("iss", ISS)] {
        claims[name] = value.into();
    }
    let header = json!({ "typ": "txntoken+jwt", "alg": "ES256", "kid": "idp-1" });
    let orders = domain.pki().client("orders");
    let form = Form::replacement(&domain.idp.sign(&header, &claims));
    let answer = domain.exchange(&orders, &form).await;
    assert_eq!(answer.words(), (400, "invalid_request", "UNKNOWN_KEY"));
}

#[tokio::test]
async fn scope_never_grows() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let mut unscoped = domain.idp.claims("ada");
    unscoped.as_object_mut().unwrap().remove("scope");
    for claims in [
        ada(&domain, "scope", "trade.read"),
        ada(&domain, "scope", "trade.stocksx trade"),
        ada(&domain, "scope", ""),
        ada(&domain, "scope", json!(["trade.stocks"])),
        unscoped,
    ] {
        let form = Form::start(&domain.idp.access_token(&claims));
        let refused = words(&domain, &form).await;
        assert_eq!(
            refused,
            (400, "invalid_scope".into(), "SCOPE_EXCEEDS_SUBJECT".into()),
            "{claims}"
        );
    }
}

#[tokio::test]
async fn only_workloads_that_a_rule_names_start_a_transaction() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let pki = domain.pki();
    let answer = domain.exchange(&pki.client("orders"), &domain.form()).await;
    assert_eq!(answer.words(), (400, "unauthorized_client", "REQUESTER_NOT_ALLOWED"));
    for nobody in [
        pki.foreign_trust_domain("gateway"),
        pki.two_uris("gateway", "orders"),
        pki.not_spiffe(),
        pki.no_name(),
        pki.dns("dns", &["gateway.trust-domain.example"]),
    ] {
        let answer = domain.exchange(&nobody, &domain.form()).await;
        assert_eq!(answer.words(), (401, "invalid_client", "REQUESTER_UNKNOWN"));
    }
    let address = domain.tts.address().to_string();
    for (identity, part) in [
        (None, "CertificateRequired"),
        (Some(pki.expired("gateway")), "CertificateExpired"),
        (Some(pki.foreign_authority("gateway")), "alert"),
    ] {
        let said =
            channel::refused(address.clone(), channel::tls(&pki.ca(), identity.as_ref())).await;
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn i1_neither_tokens_nor_keys_get_into_the_log() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let subject = domain.idp.access_token(&domain.idp.claims("ada"));
    let token = domain.exchange(domain.gateway(), &Form::start(&subject)).await.token();
    let altered = format!("{subject}x");
    domain.exchange(domain.gateway(), &Form::start(&altered)).await;
    let log = domain.tts.log();
    assert!(log.contains("refused"), "{log}");
    for secret in [&subject, &token] {
        for part in secret.split('.').skip(1) {
            assert!(!log.contains(part), "{log}");
        }
    }
    assert!(!log.contains(AUDIENCE), "claims stay out of it: {log}");
}
