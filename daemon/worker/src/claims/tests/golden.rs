//! Payloads that published descriptions of Transaction Tokens show.

use serde::Deserialize;
use serde_json::Value;

use super::{profile, seconds, words};
use crate::{
    claims::{Profile, Refusal},
    clock::UnixTime,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    #[serde(rename = "about")]
    _about: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    now: i64,
    issuer: Overrides,
    claims: Value,
    verdict: Verdict,
    claim: Option<String>,
    rule: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Overrides {
    audience: Vec<String>,
    iss: Option<String>,
    required: Option<Vec<String>>,
    max_token_lifetime: Option<String>,
    max_act_depth: Option<usize>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Signed,
    Refused,
}

impl Overrides {
    fn profile(&self) -> Profile {
        let defaults = profile();
        let minutes = |text: &String| {
            let minutes: u64 =
                text.strip_suffix('m').and_then(|m| m.parse().ok()).expect("minutes");
            seconds(60 * minutes)
        };
        Profile {
            audience: self.audience.clone(),
            iss: self.iss.clone().unwrap_or(defaults.iss),
            required: self.required.clone().unwrap_or(defaults.required),
            max_token_lifetime: self
                .max_token_lifetime
                .as_ref()
                .map_or(defaults.max_token_lifetime, minutes),
            max_act_depth: self.max_act_depth.unwrap_or(defaults.max_act_depth),
            ..defaults
        }
    }
}

#[test]
fn claims_golden_cases_get_their_verdicts() {
    let golden: Golden = serde_json::from_str(include_str!("../golden-claims.json"))
        .expect("the golden cases are as this test knows them");
    assert_eq!(golden.cases.len(), 9);
    for case in golden.cases {
        let payload = case.claims.to_string();
        let result = case.issuer.profile().check(payload.as_bytes(), UnixTime(case.now));
        let refusal: Option<Refusal> = result.err();
        let expected = (case.verdict == Verdict::Refused).then(|| {
            let (claim, rule) = (case.claim.as_deref(), case.rule.as_deref());
            ("CLAIM_REFUSED", claim.expect("a claim"), rule.expect("a rule"))
        });
        assert_eq!(refusal.as_ref().map(words), expected, "{}", case.name);
    }
}
