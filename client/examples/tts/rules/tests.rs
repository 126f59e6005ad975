use serde_json::json;

use super::*;

const GATEWAY: &str = "spiffe://trust-domain.example/gateway";

fn parse(text: &str) -> Result<Rules, String> {
    let file: RulesFile = toml::from_str(text).map_err(|error| error.to_string())?;
    Rules::parse(file).map_err(|error| error.to_string())
}

fn sample() -> Rules {
    parse(include_str!("../rules.toml")).unwrap()
}

fn stocks() -> Vec<String> {
    vec!["trade.stocks".into()]
}

fn decide(details: &Value, delegated: bool) -> Result<Contexts, Refusal> {
    let details = details.as_object().unwrap().clone();
    sample().contexts(&stocks(), details, delegated)
}

fn good() -> Value {
    json!({ "action": "BUY", "ticker": "MSFT", "amount": 100 })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut details = good();
    details[name] = value.into();
    details
}

#[test]
fn a_context_has_what_the_rules_take_and_what_they_add() {
    let expected = json!({ "action": "BUY", "ticker": "MSFT", "amount": 100, "venue": "XNAS" });
    let contexts = decide(&good(), false).unwrap();
    assert_eq!(Value::Object(contexts.tctx), expected);
    assert!(contexts.agentic_ctx.is_empty());
}

#[test]
fn a_requester_sets_nothing_that_no_rule_takes() {
    for (name, value) in [
        ("bypass_audit", json!(true)),
        ("venue", json!("MINE")),
        ("", json!(1)),
        ("tctx", json!({})),
    ] {
        let refused = decide(&with(name, value), false).unwrap_err();
        assert_eq!((refused.code, refused.reason), (Code::InvalidRequest, "DETAIL_UNKNOWN"));
        assert!(
            refused.message.contains(&format!("request_details.{name}")),
            "{}",
            refused.message
        );
    }
}

#[test]
fn each_member_is_checked() {
    for (name, value) in [
        ("action", json!("STEAL")),
        ("action", json!(["BUY"])),
        ("ticker", json!("")),
        ("ticker", json!("LONGTICKER")),
        ("ticker", json!(7)),
        ("amount", json!(0)),
        ("amount", json!(10_001)),
        ("amount", json!(5.5)),
        ("amount", json!("100")),
        ("amount", json!(1e300)),
        ("amount", json!(null)),
    ] {
        let refused = decide(&with(name, value.clone()), false).unwrap_err();
        assert_eq!(refused.reason, "DETAIL_REFUSED", "{name} {value}");
        assert!(refused.message.contains(name), "{}", refused.message);
    }
    for name in ["action", "ticker", "amount"] {
        let mut details = good();
        details.as_object_mut().unwrap().remove(name);
        assert_eq!(decide(&details, false).unwrap_err().reason, "DETAIL_MISSING", "{name}");
    }
}

#[test]
fn the_agents_context_passes_through_rules_too_and_needs_an_agent() {
    let details = with(AGENTIC, json!({ "intent": "hedge" }));
    let contexts = decide(&details, true).unwrap();
    assert_eq!(Value::Object(contexts.agentic_ctx), json!({ "intent": "hedge" }));
    assert!(!contexts.tctx.contains_key(AGENTIC));
    assert_eq!(decide(&details, false).unwrap_err().reason, "NO_ACTOR");
    for (value, reason) in [
        (json!({ "intent": "steal" }), "DETAIL_REFUSED"),
        (json!({ "hops": 0 }), "DETAIL_UNKNOWN"),
        (json!("hedge"), "DETAIL_REFUSED"),
    ] {
        assert_eq!(decide(&with(AGENTIC, value), true).unwrap_err().reason, reason);
    }
}

#[test]
fn who_may_ask_is_a_matter_of_scope_and_purpose() {
    let rules = sample();
    rules.permit(GATEWAY, Purpose::Start, &stocks()).unwrap();
    rules.permit("spiffe://trust-domain.example/orders", Purpose::Replace, &stocks()).unwrap();
    for (workload, purpose) in [
        (GATEWAY, Purpose::Replace),
        ("spiffe://trust-domain.example/orders", Purpose::Start),
        ("spiffe://trust-domain.example/gateway/x", Purpose::Start),
        ("", Purpose::Start),
    ] {
        let refused = rules.permit(workload, purpose, &stocks()).unwrap_err();
        assert_eq!(
            (refused.code, refused.reason),
            (Code::UnauthorizedClient, "REQUESTER_NOT_ALLOWED")
        );
    }
    let refused = rules.permit(GATEWAY, Purpose::Start, &["trade.all".to_owned()]).unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::InvalidScope, "SCOPE_UNKNOWN"));
    // One scope that is not allowed spoils the others.
    let both = ["trade.stocks".to_owned(), "trade.read".to_owned()];
    rules.permit(GATEWAY, Purpose::Start, &both).unwrap();
    rules.permit("spiffe://trust-domain.example/orders", Purpose::Replace, &both).unwrap_err();
}

#[test]
fn several_scopes_make_one_context() {
    let text = r#"
        [[rule]]
        scope = "a"
        tctx = { x = { from = "x" }, one = { value = 1 } }
        [[rule]]
        scope = "b"
        tctx = { x = { from = "x" }, y = { from = "y", type = "boolean" } }
    "#;
    let rules = parse(text).unwrap();
    let details = json!({ "x": "1", "y": true }).as_object().unwrap().clone();
    let contexts = rules.contexts(&["a".into(), "b".into()], details.clone(), false).unwrap();
    assert_eq!(Value::Object(contexts.tctx), json!({ "one": 1, "x": "1", "y": true }));
    rules.contexts(&["a".into()], details, false).unwrap_err();
}

#[test]
fn mistakes_in_the_file_are_named() {
    for (text, part) in [
        ("", "missing field `rule`"),
        ("[[rule]]\nscope = \"a\"\nmay_stop = []", "unknown field `may_stop`"),
        ("[[rule]]\nscope = \"a\"\n[[rule]]\nscope = \"a\"", "two rules for the scope \"a\""),
        ("[[rule]]\nscope = \"a\"\ntctx.x = {}", "rule \"a\", tctx.x: give either"),
        ("[[rule]]\nscope = \"a\"\ntctx.x = { from = \"x\", value = 1 }", "give either"),
        ("[[rule]]\nscope = \"a\"\ntctx.x = { value = 1, required = true }", "stands alone"),
        ("[[rule]]\nscope = \"a\"\ntctx.x = { from = \"x\", min = 1 }", "does not fit"),
        (
            "[[rule]]\nscope = \"a\"\ntctx.x = { from = \"x\", type = \"integer\", min = 1 }",
            "`max`",
        ),
        (
            "[[rule]]\nscope = \"a\"\ntctx.x = { from = \"x\", type = \"boolean\", max_length = 1 }",
            "fit",
        ),
        (
            "[[rule]]\nscope = \"a\"\ntctx.x = { from = \"x\", one_of = [], type = \"string\" }",
            "neither",
        ),
        (
            "[[rule]]\nscope = \"a\"\ntctx.x = { value = 1 }\n[[rule]]\nscope = \"b\"\ntctx.x = { value = 2 }",
            "tctx.x has different rules for \"a\" and \"b\"",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}
