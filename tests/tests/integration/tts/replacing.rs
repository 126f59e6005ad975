//! Replacement tokens: narrower, never wider, and of the same transaction.

use mintwarden_tests::{
    Appliance, ISSUER, Identity, Verified, claims,
    domain::{Domain, Form},
    eventually,
    pki::spiffe,
};
use serde_json::{Value, json};

/// May replace tokens for `trade.stocks` by the sample's rules.
fn orders(domain: &Domain) -> Identity {
    domain.pki().client("orders")
}

fn without(verified: &Verified, names: &[&str]) -> serde_json::Map<String, Value> {
    let kept = verified.claims.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[tokio::test]
async fn a_replacement_keeps_the_transaction_and_says_who_asked() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let verifier = appliance.verifier(ISSUER).await;
    let mut subject = domain.idp.claims("ada");
    subject["act"] = json!({ "sub": "agent-a" });
    let start =
        Form::start(&domain.idp.access_token(&subject)).set("scope", "trade.stocks trade.read");
    let first = domain.exchange(domain.gateway(), &start).await.token();
    let before = verifier.verify(&first).unwrap();

    let orders = orders(&domain);
    let second = domain.exchange(&orders, &Form::replacement(&first)).await.token();
    let after = verifier.verify(&second).unwrap();
    let changed = ["scope", "req_wl", "req_wl_chain", "iat", "exp"];
    assert_eq!(without(&before, &changed), without(&after, &changed));
    assert_eq!(after.claims["scope"], "trade.stocks");
    assert_eq!(after.claims["req_wl"], spiffe("orders"));
    assert_eq!(after.claims["req_wl_chain"], json!([spiffe("gateway")]));
    assert!(after.claims["exp"].as_u64() <= before.claims["exp"].as_u64());

    // It is replaced as often as the configuration says, and the whole way stays in it.
    let third = domain.exchange(&orders, &Form::replacement(&second)).await.token();
    let way = json!([spiffe("gateway"), spiffe("orders")]);
    assert_eq!(verifier.verify(&third).unwrap().claims["req_wl_chain"], way);
    let answer = domain.exchange(&orders, &Form::replacement(&third)).await;
    assert_eq!(answer.words(), (400, "invalid_request", "TOO_MANY_REPLACEMENTS"));
}

#[tokio::test]
async fn a_replacement_widens_nothing() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let orders = orders(&domain);
    let token = domain.txn_token().await;
    let form = || Form::replacement(&token);
    let actor = domain.idp.access_token(&domain.idp.claims("agent-b"));
    let details = json!({ "amount": 10_000 }).to_string();
    for (form, error, reason) in [
        (
            form().set("scope", "trade.stocks trade.read"),
            "unauthorized_client",
            "REQUESTER_NOT_ALLOWED",
        ),
        (form().set("audience", "other.example"), "invalid_target", "AUDIENCE"),
        (form().set("request_details", details), "invalid_request", "FIXED_AT_START"),
        (form().set("request_context", "{}"), "invalid_request", "FIXED_AT_START"),
        (form().actor(&actor), "invalid_request", "FIXED_AT_START"),
    ] {
        let answer = domain.exchange(&orders, &form).await;
        assert_eq!(answer.words(), (400, error, reason), "{}", answer.body);
    }
    let answer = domain.exchange(domain.gateway(), &form()).await;
    assert_eq!(answer.words(), (400, "unauthorized_client", "REQUESTER_NOT_ALLOWED"));

    let narrow = domain.form().set("scope", "trade.read").without("request_details");
    let narrow = domain.exchange(domain.gateway(), &narrow).await.token();
    let answer = domain.exchange(&orders, &Form::replacement(&narrow)).await;
    assert_eq!(answer.words(), (400, "invalid_scope", "SCOPE_EXCEEDS_SUBJECT"));
}

#[tokio::test]
async fn an_expired_or_changed_txn_token_is_not_replaced() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let orders = orders(&domain);
    let (subject, token) = eventually("a token that ends soon is exchanged in time", async || {
        let mut subject = domain.idp.claims("ada");
        subject["exp"] = (claims::now() + 3).into();
        let form = Form::start(&domain.idp.access_token(&subject));
        let answer = domain.exchange(domain.gateway(), &form).await;
        (answer.status == 200).then(|| (subject, answer.token()))
    })
    .await;

    let parts: Vec<_> = token.split('.').collect();
    let other = domain.txn_token().await;
    let changed = format!("{}.{}.{}", parts[0], parts[1], other.rsplit('.').next().unwrap());
    let answer = domain.exchange(&orders, &Form::replacement(&changed)).await;
    assert_eq!(answer.words(), (400, "invalid_request", "SIGNATURE_INVALID"));

    eventually("the token has expired", async || {
        (claims::now() >= subject["exp"].as_u64().unwrap()).then_some(())
    })
    .await;
    let answer = domain.exchange(&orders, &Form::replacement(&token)).await;
    assert_eq!(answer.words(), (400, "invalid_request", "EXPIRED"));
}
