//! The rules on single claims.

use serde_json::{Value, json};

use super::{
    NOW, assert_claim_refused, assert_signed, claims, profile, seconds, with, without, words,
};
use crate::{
    claims::{Facts, Profile},
    clock::UnixTime,
};

const TEXTS: [&str; 7] = ["iss", "sub", "txn", "scope", "purp", "req_wl", "jti"];
const DATES: [&str; 3] = ["iat", "nbf", "exp"];
const OBJECTS: [&str; 4] = ["tctx", "rctx", "agentic_ctx", "act"];

#[track_caller]
fn signed(claims: &Value) {
    assert_signed(&profile(), claims.to_string().as_bytes());
}

#[track_caller]
fn refused(claims: &Value, claim: &str, rule: &str) {
    assert_claim_refused(&profile(), claims, claim, rule);
}

/// `claims()` with the member `name` given as text, in place of the one that is there.
fn with_number(name: &str, number: &str) -> String {
    let text = with(name, json!("@")).to_string();
    text.replace("\"@\"", number)
}

/// `act` that nests this deep.
fn act(levels: usize) -> Value {
    (1..levels).fold(json!({"sub": "a"}), |inner, _| json!({"sub": "a", "act": inner}))
}

fn requiring(names: &[&str]) -> Profile {
    Profile { required: names.iter().map(|name| (*name).to_owned()).collect(), ..profile() }
}

#[test]
fn claims_that_conform_are_signed_and_give_their_facts() {
    let mut all = claims();
    all["iss"] = json!("https://tts.trust-domain.example");
    all["purp"] = json!("p");
    all["jti"] = json!("j");
    all["nbf"] = json!(NOW.0);
    for name in OBJECTS {
        all[name] = json!({});
    }
    all["act_chain"] = json!([{"sub": "a"}, {"sub": "b"}]);
    all["x"] = Value::Null;
    let payload = all.to_string();
    let checked = profile().check(payload.as_bytes(), NOW).expect("conforming");
    assert_eq!(checked.payload(), payload.as_bytes());
    let facts = Facts {
        txn: "97053963-771d-49cc-a4e3-20aad399c312".to_owned(),
        req_wl: "apigateway.trust-domain.example".to_owned(),
        exp: UnixTime(NOW.0 + 300),
        delegation_depth: 2,
    };
    assert_eq!(checked.facts(), &facts);
    assert_eq!(checked.into_facts(), facts);
}

#[test]
fn claims_facts_have_escapes_resolved_and_are_empty_without_claims() {
    let lax = requiring(&[]);
    let payload = format!(r#"{{"\u0065xp":{},"t\u0078n":"\u0061\n\ud83d\ude00"}}"#, NOW.0 + 1);
    let facts = lax.check(payload.as_bytes(), NOW).expect("conforming").into_facts();
    let exp = UnixTime(NOW.0 + 1);
    let expected =
        Facts { txn: "a\n😀".to_owned(), req_wl: String::new(), exp, delegation_depth: 0 };
    assert_eq!(facts, expected);
}

#[test]
fn claims_required_must_be_there_and_hold_something() {
    for name in Profile::DEFAULT_REQUIRED {
        refused(&without(name), name, "required");
        refused(&with(name, Value::Null), name, "required");
        for empty in [json!(""), json!([]), json!({})] {
            refused(&with(name, empty), name, "not_empty");
        }
    }
}

#[test]
fn claims_required_may_be_unknown_to_the_profile() {
    let strict = requiring(&["exp", "x5", "tctx", "x5"]);
    for (value, rule) in [
        (Value::Null, "required"),
        (json!(""), "not_empty"),
        (json!([]), "not_empty"),
        (json!({}), "not_empty"),
    ] {
        assert_claim_refused(&strict, &with("x5", value), "x5", rule);
    }
    assert_claim_refused(&strict, &claims(), "x5", "required");
    for value in [json!(0), json!(-1.5), json!(false), json!("x"), json!([0]), json!({"a": null})] {
        let mut claims = with("x5", value);
        assert_claim_refused(&strict, &claims, "tctx", "required");
        claims["tctx"] = json!({});
        assert_claim_refused(&strict, &claims, "tctx", "not_empty");
        claims["tctx"] = json!({"a": 1});
        assert_signed(&strict, claims.to_string().as_bytes());
    }
}

#[test]
fn claims_without_an_end_are_never_signed() {
    let lax = requiring(&[]);
    assert_claim_refused(&lax, &json!({}), "exp", "required");
    assert_claim_refused(&lax, &without("exp"), "exp", "required");
    assert_claim_refused(&lax, &with("exp", Value::Null), "exp", "required");
    assert_signed(&lax, json!({"exp": NOW.0 + 300}).to_string().as_bytes());
    assert_claim_refused(&lax, &json!({"exp": NOW.0 + 301}), "exp", "lifetime");
}

#[test]
fn claims_of_known_type_are_checked_even_when_not_required() {
    let lax = requiring(&[]);
    let wrong = |name: &str, values: &[Value], rule: &str| {
        for value in values {
            assert_claim_refused(&lax, &with(name, value.clone()), name, rule);
        }
    };
    let array = json!(["a"]);
    let object = json!({"a": "a"});
    for name in TEXTS {
        wrong(name, &[json!(1), json!(true), Value::Null, array.clone(), object.clone()], "string");
        wrong(name, &[json!("")], "not_empty");
    }
    for name in DATES {
        let wrongs =
            [json!("1"), json!(""), json!(true), json!(-1), json!(1.5), json!(NOW.0 as f64)];
        wrong(name, &wrongs, "numeric_date");
        wrong(
            name,
            &[json!(1_u64 << 53), json!(u64::MAX), array.clone(), object.clone()],
            "numeric_date",
        );
    }
    for name in ["iat", "nbf"] {
        wrong(name, &[Value::Null], "numeric_date");
    }
    for name in OBJECTS {
        wrong(name, &[json!("a"), json!(1), json!(false), Value::Null, array.clone()], "object");
    }
    wrong("aud", &[json!(1), json!(false), Value::Null, object.clone()], "string_or_array");
    wrong("act_chain", &[json!("a"), json!(1), Value::Null, object], "array_of_objects");
    wrong(
        "act_chain",
        &[json!([1]), json!([{}, "a"]), json!([[{}]]), json!([{}, null])],
        "array_of_objects",
    );
}

#[test]
fn claims_numeric_dates_are_plain_integers() {
    for number in [
        "1750000100.0",
        "1750000100.5",
        "1.7500001e9",
        "1750000100e0",
        "17500001e2",
        "-0",
        "-1",
        "9007199254740992",
        "18446744073709551616",
        "1e300",
    ] {
        for name in DATES {
            let payload = with_number(name, number);
            let refusal = profile().check(payload.as_bytes(), NOW).expect_err(number);
            assert_eq!(words(&refusal), ("CLAIM_REFUSED", name, "numeric_date"), "{number}");
        }
    }
    // 2^53 - 1 is a NumericDate, only far away.
    refused(&with("exp", json!((1_u64 << 53) - 1)), "exp", "lifetime");
    refused(&with("iat", json!((1_u64 << 53) - 1)), "iat", "future");
}

#[test]
fn claims_times_hold_to_the_second() {
    let at = |iat: i64, exp: i64| {
        let mut claims = with("iat", json!(NOW.0 + iat));
        claims["exp"] = json!(NOW.0 + exp);
        claims
    };
    signed(&at(0, 300));
    signed(&at(0, 1));
    signed(&at(30, 300));
    signed(&at(-299, 1));
    refused(&at(0, 301), "exp", "lifetime");
    refused(&at(-1, 300), "exp", "lifetime");
    refused(&at(30, 301), "exp", "lifetime");
    refused(&at(31, 300), "iat", "future");
    refused(&at(0, 0), "exp", "expired");
    refused(&at(-10, -1), "exp", "expired");
    refused(&at(10, 10), "exp", "after_iat");
    refused(&at(10, 9), "exp", "after_iat");
    refused(&with("iat", json!(0)), "exp", "lifetime");
    refused(&with("exp", json!(0)), "exp", "expired");
    // `iat` is not needed for `exp` to be bounded.
    let lax = requiring(&[]);
    assert_claim_refused(&lax, &json!({"exp": NOW.0}), "exp", "expired");
}

#[test]
fn claims_times_count_whole_seconds_and_do_not_overflow() {
    let mut short = profile();
    short.max_token_lifetime = std::time::Duration::from_millis(1_999);
    assert_claim_refused(&short, &with("exp", json!(NOW.0 + 2)), "exp", "lifetime");
    assert_signed(&short, with("exp", json!(NOW.0 + 1)).to_string().as_bytes());

    let mut long = profile();
    (long.max_token_lifetime, long.skew) = (seconds(u64::MAX), seconds(u64::MAX));
    let last = with("exp", json!((1_u64 << 53) - 1)).to_string();
    assert_signed(&long, last.as_bytes());
    assert!(long.check(last.as_bytes(), UnixTime(i64::MAX)).is_err());
    assert!(profile().check(last.as_bytes(), UnixTime(i64::MIN)).is_err());
}

#[test]
fn claims_nbf_lies_before_exp() {
    signed(&with("nbf", json!(0)));
    signed(&with("nbf", json!(NOW.0 + 299)));
    refused(&with("nbf", json!(NOW.0 + 300)), "nbf", "before_exp");
}

#[test]
fn claims_audience_allows_only_what_the_issuer_has() {
    let two = Profile { audience: vec!["a".to_owned(), "b".to_owned()], ..profile() };
    let wide = |aud: Value| with("aud", aud).to_string();
    for aud in [json!("a"), json!("b"), json!(["a"]), json!(["b", "a"]), json!(["a", "a"])] {
        assert_signed(&two, wide(aud).as_bytes());
    }
    assert_signed(&two, claims_text_with_escaped_audience().as_bytes());
    for aud in
        [json!("c"), json!("A"), json!("a "), json!("a,b"), json!(["a", "c"]), json!(["c", "a"])]
    {
        assert_claim_refused(&two, &with("aud", aud), "aud", "audience");
    }
    for aud in [json!(["a", 1]), json!([["a"]]), json!(["a", null]), json!([{"a": "a"}]), json!(1)]
    {
        assert_claim_refused(&two, &with("aud", aud), "aud", "string_or_array");
    }
    assert_claim_refused(&two, &with("aud", json!(["a", ""])), "aud", "not_empty");
    // Where `aud` is not required, an empty one is still wrong.
    let lax = requiring(&[]);
    assert_claim_refused(&lax, &with("aud", json!([])), "aud", "string_or_array");
    assert_claim_refused(&lax, &with("aud", json!("")), "aud", "not_empty");
    assert_signed(&lax, without("aud").to_string().as_bytes());
}

fn claims_text_with_escaped_audience() -> String {
    with("aud", json!("@")).to_string().replace("\"@\"", r#"["\u0061","b"]"#)
}

#[test]
fn claims_iss_is_the_issuers_own() {
    signed(&with("iss", json!("https://tts.trust-domain.example")));
    for iss in
        ["https://tts.trust-domain.example/", "https://TTS.trust-domain.example", "payments-tts"]
    {
        refused(&with("iss", json!(iss)), "iss", "issuer");
    }
}

#[test]
fn claims_req_wl_is_limited_where_the_issuer_says_so() {
    let mut limited = profile();
    limited.req_wl = vec!["gateway".to_owned(), "batch".to_owned()];
    for name in ["gateway", "batch"] {
        assert_signed(&limited, with("req_wl", json!(name)).to_string().as_bytes());
    }
    assert_claim_refused(&limited, &claims(), "req_wl", "workload");
    assert_claim_refused(&limited, &with("req_wl", json!("gateway,batch")), "req_wl", "workload");
    assert_claim_refused(&limited, &with("req_wl", json!(["gateway"])), "req_wl", "string");
}

#[test]
fn claims_delegation_is_bounded_and_made_of_objects() {
    let depth = |claims: &Value| {
        let text = claims.to_string();
        profile().check(text.as_bytes(), NOW).expect("conforming").into_facts().delegation_depth
    };
    let chain = |len: usize| Value::Array(vec![json!({"sub": "a"}); len]);
    for levels in 1..=Profile::DEFAULT_MAX_ACT_DEPTH {
        assert_eq!(depth(&with("act", act(levels))), levels);
        assert_eq!(depth(&with("act_chain", chain(levels))), levels);
        assert_eq!(depth(&with("act_chain", json!([{"sub": "a"}, act(levels)]))), levels.max(2));
    }
    assert_eq!(depth(&with("act_chain", json!([]))), 0);
    for levels in [9, 31] {
        refused(&with("act", act(levels)), "act", "delegation_depth");
        refused(&with("act_chain", chain(levels)), "act_chain", "delegation_depth");
    }
    refused(&with("act_chain", json!([act(9)])), "act_chain", "delegation_depth");
    for inner in [json!("a"), json!(1), json!(true), Value::Null, json!([]), json!([{}])] {
        refused(&with("act", json!({"act": inner.clone()})), "act", "object");
        refused(&with("act", json!({"act": {"act": inner.clone()}})), "act", "object");
        refused(&with("act_chain", json!([{"act": inner}])), "act_chain", "array_of_objects");
    }
    // `act` elsewhere is no delegation of this token.
    signed(&with("tctx", json!({"act": "BUY"})));
    assert_eq!(depth(&with("tctx", json!({"act": {"act": {}}}))), 0);

    let mut none = profile();
    none.max_act_depth = 0;
    assert_signed(&none, claims().to_string().as_bytes());
    assert_claim_refused(&none, &with("act", act(1)), "act", "delegation_depth");
}

#[test]
fn i12_claims_named_like_header_parameters_have_no_meaning() {
    let mut claims = claims();
    for name in ["alg", "typ", "kid", "jku", "jwk", "x5c", "x5u", "crit", "b64", "cty"] {
        claims[name] = json!("none");
        signed(&claims);
        claims[name] = json!({"alg": "none"});
        signed(&claims);
    }
    let payload = claims.to_string();
    let plain = super::claims().to_string();
    let facts = |payload: &str| profile().check(payload.as_bytes(), NOW).map(|c| c.into_facts());
    assert_eq!(facts(&payload), facts(&plain));
}

#[test]
fn claims_rules_are_applied_in_the_documented_order() {
    // Everything wrong at once; each step mends what was named.
    let mut claims = json!({
        "iss": "x", "sub": 1, "aud": [], "exp": "x", "tctx": 1, "act": act(9), "act_chain": [1],
        "nbf": NOW.0 + 400, "req_wl": null,
    });
    let limited = Profile { req_wl: vec!["gateway".to_owned()], ..profile() };
    let later = NOW.0 + 500;
    for (claim, rule, mended) in [
        ("iat", "required", json!(later)),
        ("aud", "not_empty", json!(["foreign", 1])),
        ("txn", "required", json!("t")),
        ("scope", "required", json!("s")),
        ("req_wl", "required", json!("w")),
        ("sub", "string", json!("s")),
        ("aud", "string_or_array", json!(["foreign"])),
        ("exp", "numeric_date", json!(NOW.0)),
        ("tctx", "object", json!({})),
        ("act_chain", "array_of_objects", json!([{}])),
        ("iss", "issuer", json!("https://tts.trust-domain.example")),
        ("aud", "audience", json!("trust-domain.example")),
        ("req_wl", "workload", json!("gateway")),
        ("iat", "future", json!(NOW.0 + 10)),
        ("exp", "expired", json!(NOW.0 + 10)),
        ("exp", "after_iat", json!(NOW.0 + 311)),
        ("exp", "lifetime", json!(NOW.0 + 300)),
        ("nbf", "before_exp", json!(NOW.0)),
        ("act", "delegation_depth", act(8)),
    ] {
        assert_claim_refused(&limited, &claims, claim, rule);
        claims[claim] = mended;
    }
    assert_signed(&limited, claims.to_string().as_bytes());
}

#[test]
fn claims_refusals_name_claim_limit_and_remedy_but_no_value() {
    for (claims, sentence) in [
        (without("sub"), "claim `sub` is required, but absent or null"),
        (
            with("iat", json!(NOW.0 + 31)),
            "claim `iat` lies in the future; check the clocks (at most 30 seconds)",
        ),
        (
            with("exp", json!(NOW.0 + 301)),
            "claim `exp` is further from `iat` or from now than the issuer's max_token_lifetime \
             (at most 300 seconds)",
        ),
        (
            with("aud", json!("secret")),
            "claim `aud` has a value that is not in the issuer's audience",
        ),
        (
            with("act", act(9)),
            "claim `act` delegates more often than the issuer's max_act_depth (at most 8 levels)",
        ),
    ] {
        let text = claims.to_string();
        let refusal = profile().check(text.as_bytes(), NOW).expect_err("refused");
        assert_eq!(refusal.to_string(), sentence);
        assert_eq!(refusal.position(), None);
    }
}
