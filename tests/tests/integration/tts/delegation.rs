//! Who may act for whom: a table.

use mintwarden_tests::{
    Appliance, ISSUER, claims,
    domain::{AUDIENCE, Domain, Form},
};
use serde_json::{Value, json};

use super::ada;

/// Ada's claims, meant for the TTS and for this agent.
fn meant_for(domain: &Domain, agent: &str) -> Value {
    ada(domain, "aud", json!([AUDIENCE, agent]))
}

fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

async fn exchange(
    domain: &Domain,
    subject: &Value,
    actor: &Value,
) -> mintwarden_tests::domain::Answer {
    let form =
        Form::start(&domain.idp.access_token(subject)).actor(&domain.idp.access_token(actor));
    domain.exchange(domain.gateway(), &form).await
}

#[tokio::test]
async fn act_names_the_agent_on_top_of_those_before_him() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let verifier = appliance.verifier(ISSUER).await;
    let agent = domain.idp.claims("agent-b");
    let plain = meant_for(&domain, "agent-b");
    let may = json!({ "sub": "agent-b", "client_id": "app" });
    let chain = json!({ "sub": "agent-a", "act": { "sub": "agent-0" } });
    for (subject, act) in [
        (plain.clone(), json!({ "sub": "agent-b" })),
        (with(plain.clone(), "may_act", may), json!({ "sub": "agent-b" })),
        (with(plain.clone(), "act", chain.clone()), json!({ "sub": "agent-b", "act": chain })),
    ] {
        let token = exchange(&domain, &subject, &agent).await.token();
        let verified = verifier.verify(&token).unwrap();
        assert_eq!((&verified.claims["sub"], &verified.claims["act"]), (&json!("ada"), &act));
    }
    // Without an actor token, those who act already stay.
    let subject = domain.idp.access_token(&with(plain, "act", chain.clone()));
    let token = domain.exchange(domain.gateway(), &Form::start(&subject)).await.token();
    assert_eq!(verifier.verify(&token).unwrap().claims["act"], chain);
}

#[tokio::test]
async fn tokens_that_do_not_belong_together_are_refused() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let agent = |name: &str| domain.idp.claims(name);
    let for_b = meant_for(&domain, "agent-b");
    let nine = (0..8).fold(json!({ "sub": "a" }), |act, _| json!({ "sub": "a", "act": act }));
    for (subject, actor, reason) in [
        // The subject's token was not meant for him.
        (domain.idp.claims("ada"), agent("agent-b"), "ACTOR_MISMATCH"),
        (for_b.clone(), agent("agent-c"), "ACTOR_MISMATCH"),
        // Two good tokens, of two chains: each with the other's actor.
        (meant_for(&domain, "agent-a"), agent("agent-b"), "ACTOR_MISMATCH"),
        (for_b.clone(), agent("agent-a"), "ACTOR_MISMATCH"),
        (with(for_b.clone(), "txn", "t-1"), with(agent("agent-b"), "txn", "t-2"), "CHAINS_DIFFER"),
        (for_b.clone(), with(agent("agent-b"), "txn", "t-2"), "CHAINS_DIFFER"),
        (for_b.clone(), with(agent("agent-b"), "act", json!({ "sub": "x" })), "ACTOR_DELEGATED"),
        // may_act names someone else, or says more than is true, or nothing.
        (
            with(for_b.clone(), "may_act", json!({ "sub": "agent-a" })),
            agent("agent-b"),
            "ACTOR_NOT_ALLOWED",
        ),
        (
            with(for_b.clone(), "may_act", json!({ "sub": "agent-b", "client_id": "x" })),
            agent("agent-b"),
            "ACTOR_NOT_ALLOWED",
        ),
        (with(for_b.clone(), "may_act", json!({})), agent("agent-b"), "ACTOR_NOT_ALLOWED"),
        (with(for_b.clone(), "may_act", json!("agent-b")), agent("agent-b"), "ACTOR_NOT_ALLOWED"),
        // may_act alone is not enough: the token still has to be meant for him.
        (ada(&domain, "may_act", json!({ "sub": "agent-b" })), agent("agent-b"), "ACTOR_MISMATCH"),
        (meant_for(&domain, "ada"), agent("ada"), "ACTOR_IS_SUBJECT"),
        (
            with(for_b.clone(), "act", json!({ "client_id": "a" })),
            agent("agent-b"),
            "ACT_MALFORMED",
        ),
        (with(for_b.clone(), "act", json!("agent-a")), agent("agent-b"), "ACT_MALFORMED"),
        (with(for_b.clone(), "act", nine), agent("agent-b"), "TOO_MANY_ACTORS"),
        // The actor's token is held to the same rules as the subject's.
        (for_b.clone(), with(agent("agent-b"), "aud", "https://api.example"), "WRONG_AUDIENCE"),
        (for_b.clone(), with(agent("agent-b"), "exp", claims::now() - 1), "EXPIRED"),
    ] {
        let answer = exchange(&domain, &subject, &actor).await;
        assert_eq!(
            answer.words(),
            (400, "invalid_request", reason),
            "{subject} {actor} {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn the_agents_context_passes_through_rules_and_its_token_bounds_the_lifetime() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let exp = claims::now() + 40;
    let subject = domain.idp.access_token(&meant_for(&domain, "agent-b"));
    let actor = domain.idp.access_token(&with(domain.idp.claims("agent-b"), "exp", exp));
    let form = |context: Value| {
        let details =
            json!({ "action": "BUY", "ticker": "MSFT", "amount": 1, "agentic_ctx": context });
        Form::start(&subject).actor(&actor).set("request_details", details.to_string())
    };
    let answer = domain.exchange(domain.gateway(), &form(json!({ "intent": "hedge" }))).await;
    let verified = appliance.verifier(ISSUER).await.verify(&answer.token()).unwrap();
    assert_eq!(verified.claims["agentic_ctx"], json!({ "intent": "hedge" }));
    assert_eq!(verified.claims["exp"], exp);
    assert_eq!(verified.claims["tctx"].get("agentic_ctx"), None);
    for (context, reason) in [
        (json!({ "intent": "hedge", "allowed_actions": ["*"] }), "DETAIL_UNKNOWN"),
        (json!({ "intent": "anything" }), "DETAIL_REFUSED"),
    ] {
        let answer = domain.exchange(domain.gateway(), &form(context)).await;
        assert_eq!(answer.words(), (400, "invalid_request", reason));
    }
}
