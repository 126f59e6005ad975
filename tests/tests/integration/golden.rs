//! The golden cases over the whole way, each with an issuer as it says.
//!
//! The appliance has no clock that a test could set, so time is shifted: `iat` and `exp` of a case are
//! moved by what lies between its `now` and the real one.

use mintwarden_tests::{Appliance, claims};
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Table;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    now: u64,
    issuer: Table,
    claims: Map<String, Value>,
    verdict: String,
    claim: Option<String>,
    rule: Option<String>,
}

impl Case {
    fn shifted(&self) -> Vec<u8> {
        let mut claims = self.claims.clone();
        let by = claims::now() - self.now;
        for name in ["iat", "exp"] {
            if let Some(time) = claims.get_mut(name) {
                *time = (time.as_u64().unwrap() + by).into();
            }
        }
        serde_json::to_vec(&claims).unwrap()
    }
}

#[tokio::test]
async fn claims_golden_cases_get_their_verdicts_from_the_appliance() {
    let golden = include_str!("../../../daemon/worker/src/claims/golden-claims.json");
    let golden: Golden = serde_json::from_str(golden).unwrap();
    assert_eq!(golden.cases.len(), 9);
    let mut builder = Appliance::softhsm();
    for (at, case) in golden.cases.iter().enumerate() {
        let mut issuer = case.issuer.clone();
        issuer.insert("name".into(), format!("golden-{at}").into());
        builder = builder.with_issuer(issuer);
    }
    let appliance = builder.start_initialised().await;
    let client = appliance.client();
    for (at, case) in golden.cases.iter().enumerate() {
        let issuer = format!("golden-{at}");
        let payload = case.shifted();
        let answer = client.issuer(&*issuer).sign(payload.clone()).await;
        if case.verdict == "signed" {
            let token = answer.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let audience = case.issuer["audience"].as_array().unwrap()[0].as_str().unwrap();
            let verifier = appliance.verifier_for(&issuer, &[audience]).await;
            assert_eq!(verifier.verify(&token).unwrap().payload, payload, "{}", case.name);
        } else {
            let error = answer.expect_err(&case.name);
            let refusal = error.refusal().unwrap_or_else(|| panic!("{}: {error}", case.name));
            assert_eq!(refusal.reason, "CLAIM_REFUSED", "{}", case.name);
            assert_eq!((&refusal.claim, &refusal.rule), (&case.claim, &case.rule), "{}", case.name);
        }
    }
}
