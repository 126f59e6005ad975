//! One payload in, one Txn-Token out.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mintwarden_client::{Bytes, api};
use mintwarden_proto::v1::{
    SignBatchRequest, SignRequest, sign_result::Outcome,
    signing_service_client::SigningServiceClient,
};
use mintwarden_tests::{Appliance, DEVICE, ISS, ISSUER, TRUST_DOMAIN, claims, refusal::Refusal};
use serde_json::json;
use toml::toml;
use tonic::Code;

#[tokio::test]
async fn a_token_is_the_payload_byte_for_byte_under_a_header_of_three_members() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    // Spaces, an escape and the order of members are all the caller's.
    let now = claims::now();
    let payload = format!(
        r#"{{ "sub":"\u0061da", "txn" : "t-1","scope":"s","req_wl":"w",
            "aud":["{TRUST_DOMAIN}"], "iat":{now}, "exp":{}, "iss":"{ISS}" }} "#,
        now + 60
    );
    let request = SignRequest { issuer: ISSUER.into(), claims: payload.clone().into() };
    let mut signing = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
    let answer = signing.sign(request).await.unwrap().into_inner();

    let verified = appliance.verifier(ISSUER).await.verify(&answer.token).unwrap();
    assert_eq!(verified.payload, payload.as_bytes());
    assert_eq!(verified.kid, answer.kid);
    assert_eq!(verified.header["alg"], "ES256");
    assert_eq!(verified.claims["sub"], "ada");
    appliance.stop().await;
}

#[tokio::test]
async fn i12_header_members_in_a_payload_are_claims_without_meaning() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let claims = claims::trade(1)
        .claim("alg", "none")
        .claim("typ", "JWT")
        .claim("kid", "mine")
        .claim("jku", "https://attacker.example/jwks.json");
    let token = appliance.client().issuer(ISSUER).sign(claims).await.unwrap();
    // The verifier accepts nothing but a header of alg, kid and typ with the right values.
    let verified = appliance.verifier(ISSUER).await.verify(&token).unwrap();
    assert_eq!(verified.claims["kid"], "mine");
    assert_ne!(verified.header["kid"], "mine");
}

#[tokio::test]
async fn a_token_that_was_changed_does_not_verify() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    let verifier = appliance.verifier(ISSUER).await;
    verifier.verify(&token).unwrap();
    let other = appliance.client().issuer(ISSUER).sign(claims::trade(2)).await.unwrap();
    let parts: Vec<_> = token.split('.').collect();
    let signature = other.rsplit('.').next().unwrap();
    verifier.verify(&format!("{}.{}.{signature}", parts[0], parts[1])).unwrap_err();
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_one_bad_item_among_64_fails_alone() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let mut payloads: Vec<Bytes> = (0..64).map(|n| claims::trade(n).to_json()).collect();
    payloads[17] = claims::too_long(17).to_json();
    let request = SignBatchRequest { issuer: ISSUER.into(), claims: payloads.clone() };
    let mut signing = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
    let answer = signing.sign_batch(request).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 64);

    let verifier = appliance.verifier(ISSUER).await;
    for (at, (result, payload)) in answer.results.into_iter().zip(&payloads).enumerate() {
        match result.outcome.unwrap() {
            Outcome::Signature(signature) => {
                assert_eq!(signature.len(), 64, "R||S at fixed width");
                // Assembled as the API says that any client can.
                let [payload64, signature] =
                    [payload, &signature].map(|part| URL_SAFE_NO_PAD.encode(part));
                let token = format!("{}.{payload64}.{signature}", answer.protected_header);
                let verified = verifier.verify(&token).unwrap();
                assert_eq!(
                    (verified.payload, verified.kid),
                    (payload.to_vec(), answer.kid.clone())
                );
            }
            Outcome::Error(error) => {
                assert_eq!(at, 17);
                assert_eq!(error.code, i32::from(Code::InvalidArgument));
                assert_eq!((&*error.reason, error.retryable), ("CLAIM_REFUSED", false));
                assert_eq!((&*error.claim, &*error.rule), ("exp", "lifetime"));
                assert!(error.message.contains("max_token_lifetime"), "{}", error.message);
            }
        }
    }
}

#[tokio::test]
async fn a_batch_in_which_all_is_refused_names_no_key() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let claims = vec![Bytes::from_static(b"[]"), Bytes::new(), claims::too_long(1).to_json()];
    let batch = appliance.client().issuer(ISSUER).sign_batch(claims).await.unwrap();
    assert_eq!(batch.kid, "");
    let reasons: Vec<_> =
        batch.tokens.iter().map(|token| token.as_ref().unwrap_err().reason()).collect();
    assert_eq!(reasons, ["PAYLOAD_MALFORMED", "PAYLOAD_MALFORMED", "CLAIM_REFUSED"]);
}

#[tokio::test]
async fn a_single_refusal_names_claim_and_rule() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let request = SignRequest { issuer: ISSUER.into(), claims: claims::too_long(1).to_json() };
    let mut signing = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
    let status = signing.sign(request).await.unwrap_err();
    let refusal = Refusal::of(&status);
    assert_eq!(refusal.words(), (Code::InvalidArgument, "CLAIM_REFUSED"));
    assert_eq!(refusal.fields, ["claims.exp"]);
    assert!(status.message().contains("`exp`"), "{}", status.message());
}

#[tokio::test]
async fn calls_that_the_client_joins_get_each_their_own_token() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let issuer = appliance.client().issuer(ISSUER);
    let verifier = appliance.verifier(ISSUER).await;
    let calls: Vec<_> = (0..500)
        .map(|n| {
            let issuer = issuer.clone();
            tokio::spawn(async move { issuer.sign(claims::trade(n)).await })
        })
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        let verified = verifier.verify(&call.await.unwrap().unwrap()).unwrap();
        assert_eq!(verified.claims["txn"], json!(format!("97053963-771d-49cc-a4e3-{n:012}")));
    }
}

#[tokio::test]
async fn an_issuer_describes_what_it_signs() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! {
            max_token_lifetime = "2m"
            req_wl = ["gateway"]
            max_claims_bytes = 2048
        })
        .start()
        .await;
    let issuer = appliance.client().issuer(ISSUER).describe().await.unwrap();
    let seconds =
        |duration: Option<_>| std::time::Duration::try_from(duration.unwrap()).unwrap().as_secs();
    assert_eq!(seconds(issuer.max_token_lifetime), 120);
    assert_eq!(seconds(issuer.skew), 30);
    let expected = api::Issuer {
        name: ISSUER.into(),
        iss: ISS.into(),
        algorithm: "ES256".into(),
        profile: "txn-token".into(),
        max_token_lifetime: issuer.max_token_lifetime,
        skew: issuer.skew,
        audience: vec![TRUST_DOMAIN.into()],
        required: ["iat", "aud", "exp", "txn", "sub", "scope", "req_wl"].map(Into::into).to_vec(),
        max_claims_bytes: 2048,
        max_batch_items: 1024,
        max_batch_bytes: 4 * 1024 * 1024,
        max_act_depth: issuer.max_act_depth,
        req_wl: vec!["gateway".into()],
    };
    assert_eq!(issuer, expected);
}

#[tokio::test]
async fn i3_issuers_of_one_device_sign_with_keys_of_their_own() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! { name = "a" })
        .with_issuer(toml! { name = "b" })
        .start_initialised()
        .await;
    let (a, b) = (appliance.verifier("a").await, appliance.verifier("b").await);
    assert!(a.kids().is_disjoint(&b.kids()));
    let token = appliance.client().issuer("a").sign(claims::trade(1)).await.unwrap();
    a.verify(&token).unwrap();
    assert!(b.verify(&token).unwrap_err().contains("no published key"));
}

#[tokio::test]
async fn the_first_healthy_device_signs() {
    let mut appliance =
        Appliance::softhsm().with_device(DEVICE).with_device("hsm-b").start_initialised().await;
    let keys = appliance.custodian().list_keys(Some(ISSUER)).await.unwrap().remove(0).keys;
    let active = |device: &str| {
        let mut of_device = keys.iter().filter(|key| key.device == device);
        let states: Vec<_> = of_device.clone().map(api::Key::state).collect();
        assert_eq!(states, [api::KeyState::Active, api::KeyState::PreActive], "{device}");
        of_device.next().unwrap().kid.clone()
    };
    let (first, second) = (active(DEVICE), active("hsm-b"));
    let verifier = appliance.verifier(ISSUER).await;
    assert_eq!(verifier.kids().len(), 4, "active keys and standbys of both are published");
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap().kid, first);

    appliance.stop().await;
    appliance.token_of(DEVICE).write_pin_file("wrong");
    appliance.start().await;
    appliance.until_device(DEVICE, api::DeviceState::Parked).await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(2)).await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap().kid, second);
}
