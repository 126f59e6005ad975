//! What a Txn-Token says, and how it is answered.

use std::collections::HashSet;

use mintwarden_tests::{
    Appliance, ISSUER, TRUST_DOMAIN, claims,
    domain::{Domain, Form},
    pki::spiffe,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::ada;

#[tokio::test]
async fn an_access_token_becomes_a_txn_token_that_says_what_the_tts_decided() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let mut domain = Domain::around(&appliance).await;
    let before = claims::now();
    let answer = domain.exchange(domain.gateway(), &domain.form()).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "application/json");
    let members: HashSet<_> = answer.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, HashSet::from(["access_token", "issued_token_type", "token_type"]));
    assert_eq!(answer.text("token_type"), "N_A");
    assert_eq!(answer.text("issued_token_type"), "urn:ietf:params:oauth:token-type:txn_token");

    let verified = appliance.verifier(ISSUER).await.verify(&answer.token()).unwrap();
    let claim = |name: &str| verified.claims[name].clone();
    assert_eq!(claim("sub"), "ada");
    assert_eq!(claim("aud"), TRUST_DOMAIN);
    assert_eq!(claim("scope"), "trade.stocks");
    assert_eq!(claim("req_wl"), spiffe("gateway"));
    assert_eq!(claim("rctx"), json!({ "req_ip": "192.0.2.17" }));
    let tctx = json!({ "action": "BUY", "ticker": "MSFT", "amount": 100, "venue": "XNAS" });
    assert_eq!(claim("tctx"), tctx);
    let [iat, exp] = ["iat", "exp"].map(|name| claim(name).as_u64().unwrap());
    assert!((before..=claims::now()).contains(&iat));
    assert_eq!(exp - iat, 120);
    let mut names: Vec<_> = verified.claims.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = ["aud", "exp", "iat", "rctx", "req_wl", "scope", "sub", "tctx", "txn"];
    assert_eq!(names, expected, "nothing else is in it, the access token least of all");

    // The name of the transaction stands in the log, and what was signed is told in the end.
    let said = domain.tts.stop().await;
    assert!(said.contains(claim("txn").as_str().unwrap()), "{said}");
    assert!(said.contains("signed tokens=1 batches=1"), "{said}");
}

#[tokio::test]
async fn each_transaction_has_a_name_of_its_own() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let verifier = appliance.verifier(ISSUER).await;
    let (client, form) = (domain.https(domain.gateway()), domain.form().encode());
    let mut exchanges = JoinSet::new();
    for _ in 0..200 {
        let request = client.post(domain.tts.url("/token")).body(form.clone());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        exchanges.spawn(mintwarden_tests::domain::answer(request));
    }
    let answers = exchanges.join_all().await;
    let names = answers
        .iter()
        .map(|answer| verifier.verify(&answer.token()).unwrap().claims["txn"].clone());
    let names: HashSet<String> = names.map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 200);
    assert!(names.iter().all(|name| name.len() >= 22), "128 random bits or more");
}

#[tokio::test]
async fn scope_narrows_and_lifetime_ends_with_the_subject_token() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let verifier = appliance.verifier(ISSUER).await;
    let exp = claims::now() + 45;
    let subject = domain.idp.access_token(&ada(&domain, "exp", exp));
    for scope in ["trade.stocks", "trade.read", "trade.read trade.stocks"] {
        let mut form = Form::start(&subject).set("scope", scope);
        if scope == "trade.read" {
            form = form.without("request_details");
        }
        let token = domain.exchange(domain.gateway(), &form).await.token();
        let verified = verifier.verify(&token).unwrap();
        assert_eq!(verified.claims["scope"], scope);
        assert_eq!(verified.claims["exp"], exp);
    }
}

#[tokio::test]
async fn tctx_is_built_by_rules_and_never_copied() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let good = json!({ "action": "BUY", "ticker": "MSFT", "amount": 100 });
    for (name, value, reason) in [
        ("bypass_audit", json!(true), "DETAIL_UNKNOWN"),
        ("venue", json!("MINE"), "DETAIL_UNKNOWN"),
        ("amount", json!(1_000_000), "DETAIL_REFUSED"),
        ("amount", json!("100"), "DETAIL_REFUSED"),
        ("action", json!("STEAL"), "DETAIL_REFUSED"),
        ("agentic_ctx", json!({ "intent": "hedge" }), "NO_ACTOR"),
    ] {
        let mut details = good.clone();
        details[name] = value;
        let form = domain.form().set("request_details", details.to_string());
        let answer = domain.exchange(domain.gateway(), &form).await;
        assert_eq!(answer.words(), (400, "invalid_request", reason), "{}", answer.body);
        assert!(answer.text("error_description").contains(name), "{}", answer.body);
    }
    // What the IdP says of its own tokens is no way into tctx either.
    let subject = domain.idp.access_token(&ada(&domain, "tctx", json!({ "bypass_audit": true })));
    let token = domain.exchange(domain.gateway(), &Form::start(&subject)).await.token();
    let verified = appliance.verifier(ISSUER).await.verify(&token).unwrap();
    assert_eq!(verified.claims["tctx"].get("bypass_audit"), None::<&Value>);
}
