//! The example workload: it does what a Txn-Token says, and nothing that only the request says.

use mintwarden_tests::{
    Appliance, Identity,
    domain::{AUDIENCE, Answer, Domain, Form, Program, answer},
    pki::spiffe,
};
use serde_json::{Value, json};

fn order(amount: u64) -> Value {
    json!({ "action": "BUY", "ticker": "MSFT", "amount": amount })
}

/// Orders, which calls settlement.
async fn chain(domain: &Domain) -> (Program, Program) {
    let settlement = domain.workload("settlement", &["orders"], |_| {}).await;
    let next = settlement.url("/trade");
    let orders = domain
        .workload("orders", &["gateway"], |config| {
            config.insert("next".into(), next.into());
        })
        .await;
    (orders, settlement)
}

async fn gateway_calls(domain: &Domain, workload: &Program, token: &str, body: &Value) -> Answer {
    domain.call(domain.gateway(), workload, token, body).await
}

#[tokio::test]
async fn two_workloads_in_a_chain_do_what_the_token_says() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let (orders, settlement) = chain(&domain).await;
    let token = domain.txn_token().await;
    // The body need not say it again.
    for body in [order(100), json!({ "note": "now" }), json!({})] {
        let done = gateway_calls(&domain, &orders, &token, &body).await;
        assert_eq!(done.status, 200, "{}", done.body);
        assert_eq!(done.body["traded"], order(100));
        assert_eq!(done.body["next"]["traded"], order(100));
        assert_eq!(done.body["next"]["txn"], done.body["txn"]);
    }
    // A replacement is as good, and each workload sees who asked for it.
    let as_orders = domain.pki().client("orders");
    let replaced = domain.exchange(&as_orders, &Form::replacement(&token)).await.token();
    let done = domain.call(&as_orders, &settlement, &replaced, &order(100)).await;
    assert_eq!(done.status, 200, "{}", done.body);
}

#[tokio::test]
async fn a_forged_token_does_nothing() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let orders = domain.workload("orders", &["gateway"], |_| {}).await;
    let token = domain.txn_token().await;
    let parts: Vec<_> = token.split('.').collect();
    let other = domain.txn_token().await;
    let spliced = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    let claims = json!({ "aud": "trust-domain.example", "exp": 9_999_999_999_u64 });
    let own_key =
        domain.idp.sign(&json!({ "typ": "txntoken+jwt", "alg": "ES256", "kid": "idp-1" }), &claims);
    let access_token = domain.idp.access_token(&domain.idp.claims("ada"));
    for (forged, reason) in [
        (spliced, "SIGNATURE_INVALID"),
        (format!("{}.{}.", parts[0], parts[1]), "SIGNATURE_INVALID"),
        (own_key, "UNKNOWN_KEY"),
        (access_token, "WRONG_TYPE"),
    ] {
        let refused = gateway_calls(&domain, &orders, &forged, &order(100)).await;
        assert_eq!((refused.status.as_u16(), refused.text("reason")), (401, reason));
    }
}

#[tokio::test]
async fn a_changed_amount_in_the_body_is_noticed_anywhere_in_the_chain() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let (orders, settlement) = chain(&domain).await;
    let token = domain.txn_token().await;
    for body in [order(1_000_000), json!({ "amount": "100" }), json!({ "venue": "MINE" })] {
        let refused = gateway_calls(&domain, &orders, &token, &body).await;
        assert_eq!((refused.status.as_u16(), refused.text("reason")), (403, "CONTRADICTS_TCTX"));
    }
    // Orders itself is taken over, and says something else to settlement.
    let as_orders = domain.pki().client("orders");
    let refused = domain.call(&as_orders, &settlement, &token, &order(1_000_000)).await;
    assert_eq!((refused.status.as_u16(), refused.text("reason")), (403, "CONTRADICTS_TCTX"));
    let twice = domain.https(&as_orders).post(settlement.url("/trade")).header("txn-token", &token);
    let refused = answer(twice.body(r#"{"amount":100,"amount":1000000}"#)).await;
    assert_eq!((refused.status.as_u16(), refused.text("reason")), (400, "BODY"));
}

#[tokio::test]
async fn a_stolen_token_is_worth_nothing_at_another_audience() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let other = domain
        .workload("other", &["gateway"], |config| {
            config["token"]["audience"] = "other.example".into();
        })
        .await;
    let token = domain.txn_token().await;
    let refused = gateway_calls(&domain, &other, &token, &order(100)).await;
    assert_eq!((refused.status.as_u16(), refused.text("reason")), (401, "WRONG_AUDIENCE"));
}

#[tokio::test]
async fn the_actor_has_to_be_the_one_that_is_expected() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let for_people = domain.workload("people", &["gateway"], |_| {}).await;
    let for_agent = domain
        .workload("agents", &["gateway"], |config| {
            let token = config["token"].as_table_mut().unwrap();
            token.insert("actor".into(), "agent-b".into());
        })
        .await;
    let by = |agent: &str| {
        let mut subject = domain.idp.claims("ada");
        subject["aud"] = json!([AUDIENCE, agent]);
        let actor = domain.idp.access_token(&domain.idp.claims(agent));
        Form::start(&domain.idp.access_token(&subject)).actor(&actor)
    };
    let ada = domain.txn_token().await;
    let a = domain.exchange(domain.gateway(), &by("agent-a")).await.token();
    let b = domain.exchange(domain.gateway(), &by("agent-b")).await.token();
    for (workload, token, status) in [
        (&for_people, &ada, 200),
        (&for_people, &b, 403),
        (&for_agent, &ada, 403),
        (&for_agent, &a, 403),
        (&for_agent, &b, 200),
    ] {
        let answer = gateway_calls(&domain, workload, token, &order(100)).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        if status == 403 {
            assert_eq!(answer.text("reason"), "ACTOR_MISMATCH");
        }
    }
}

#[tokio::test]
async fn a_required_hop_scope_and_single_use() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let strict = domain
        .workload("strict", &["gateway"], |config| {
            let token = config["token"].as_table_mut().unwrap();
            token.insert("hop".into(), spiffe("orders").into());
            token.insert("single_use".into(), 100.into());
        })
        .await;
    let read = domain.form().set("scope", "trade.read").without("request_details");
    let read = domain.exchange(domain.gateway(), &read).await.token();
    let token = domain.txn_token().await;
    let as_orders: Identity = domain.pki().client("orders");
    let replaced = domain.exchange(&as_orders, &Form::replacement(&token)).await.token();
    for (token, body, status, reason) in [
        (&read, order(100), 403, "SCOPE_MISSING"),
        (&token, order(100), 403, "HOP_MISSING"),
        // What is refused has not been used.
        (&replaced, order(5), 403, "CONTRADICTS_TCTX"),
        (&replaced, order(100), 200, ""),
        (&replaced, order(100), 403, "REPLAYED"),
    ] {
        let answer = gateway_calls(&domain, &strict, token, &body).await;
        assert_eq!((answer.status.as_u16(), answer.text("reason")), (status, reason));
    }
}

#[tokio::test]
async fn a_token_is_no_credential() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let orders = domain.workload("orders", &["gateway"], |_| {}).await;
    let token = domain.txn_token().await;
    let pki = domain.pki();
    for (caller, reason) in [
        (pki.client("thief"), "CALLER_NOT_ALLOWED"),
        (pki.foreign_trust_domain("gateway"), "CALLER_UNKNOWN"),
    ] {
        let refused = domain.call(&caller, &orders, &token, &order(100)).await;
        assert_eq!((refused.status.as_u16(), refused.text("reason")), (403, reason));
    }
    let post = || domain.https(domain.gateway()).post(orders.url("/trade")).body("{}");
    for request in [post(), post().header("txn-token", &token).header("txn-token", &token)] {
        let refused = answer(request).await;
        assert_eq!((refused.status.as_u16(), refused.text("reason")), (401, "TXN_TOKEN_HEADER"));
    }
}

#[tokio::test]
async fn a_key_that_was_not_known_at_the_start_comes_by_itself_only() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let orders = domain.workload("orders", &["gateway"], |_| {}).await;
    let token = domain.txn_token().await;
    let (_, rest) = token.split_once('.').unwrap();
    let header = json!({ "typ": "txntoken+jwt", "alg": "ES256", "kid": "made-up" }).to_string();
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let unknown = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
    let refused = gateway_calls(&domain, &orders, &unknown, &order(100)).await;
    assert_eq!((refused.status.as_u16(), refused.text("reason")), (401, "UNKNOWN_KEY"));
    // The appliance is away: what is known still verifies, and nothing waits for it.
    drop(appliance);
    let done = gateway_calls(&domain, &orders, &token, &order(100)).await;
    assert_eq!(done.status, 200, "{}", done.body);
    let refused = gateway_calls(&domain, &orders, &unknown, &order(100)).await;
    assert_eq!(refused.text("reason"), "UNKNOWN_KEY");
}
