//! Before and during the first keys of an issuer.

use std::fs;

use mintwarden_client::api::KeyState;
use mintwarden_proto::v1::{
    GetJwksRequest, SignRequest, jwks_service_client::JwksServiceClient,
    signing_service_client::SigningServiceClient,
};
use mintwarden_tests::{Appliance, ISSUER, claims, eventually, refusal::Refusal};
use reqwest::StatusCode;
use toml::toml;
use tonic::Code;

/// Nothing is signed and nothing is published.
async fn not_initialised(appliance: &Appliance) {
    let not_initialised = (Code::FailedPrecondition, "NOT_INITIALISED");
    let channel = appliance.channel(Some(appliance.tts()));
    let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
    let status = SigningServiceClient::new(channel.clone()).sign(request).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), not_initialised);
    let request = GetJwksRequest { issuer: ISSUER.into() };
    let status = JwksServiceClient::new(channel).get_jwks(request).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), not_initialised);

    let answer = appliance.https().get(appliance.jwks_url(ISSUER)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(answer.headers().contains_key("retry-after"));
    let issuer = appliance.status().await.issuers.remove(0);
    assert_eq!((issuer.ready, &*issuer.reason), (false, "NOT_INITIALISED"));
}

#[tokio::test]
async fn i8_an_empty_store_signs_and_publishes_nothing_until_init() {
    let mut appliance = Appliance::softhsm().start().await;
    not_initialised(&appliance).await;
    // Not by being started again either.
    appliance.stop().await;
    appliance.start().await;
    not_initialised(&appliance).await;
    appliance.init(ISSUER).await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
}

#[tokio::test]
async fn i8_a_lost_store_does_not_sign_with_the_keys_in_the_device() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.stop().await;
    fs::remove_dir_all(appliance.file("state/server")).unwrap();
    appliance.start().await;
    not_initialised(&appliance).await;
    assert!(appliance.kids(ISSUER).await.is_empty());
    // Nor is it taken for an issuer that never published.
    let refused = appliance.custodian().init(ISSUER, "again").await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().code, Code::FailedPrecondition);
    assert_eq!(refused.reason(), "KEYS_IN_DEVICE");
    not_initialised(&appliance).await;
    assert!(appliance.kids(ISSUER).await.is_empty(), "nothing was made, nothing adopted");
}

#[tokio::test]
async fn i6_init_publishes_one_active_key_and_its_standbys_at_once() {
    let appliance = Appliance::softhsm().with_issuer(toml! { standbys = 3 }).start().await;
    let keys = appliance.init(ISSUER).await;
    let states: Vec<_> = keys.iter().map(|key| key.state()).collect();
    let standby = KeyState::PreActive;
    assert_eq!(states, [KeyState::Active, standby, standby, standby]);
    let verifier = appliance.verifier(ISSUER).await;
    assert_eq!(verifier.kids(), keys.iter().map(|key| key.kid.clone()).collect());
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap().kid, keys[0].kid);
}

#[tokio::test]
async fn i4_init_is_only_for_an_issuer_that_never_published() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let before = appliance.kids(ISSUER).await;
    let error = appliance.custodian().init(ISSUER, "again").await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, Code::FailedPrecondition);
    assert_eq!(error.reason(), "ALREADY_INITIALISED");
    assert_eq!(appliance.kids(ISSUER).await, before);
}

#[tokio::test]
async fn i8_of_many_inits_at_once_one_counts() {
    let appliance = Appliance::softhsm().start().await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let custodian = appliance.custodian();
            tokio::spawn(async move { custodian.init(ISSUER, "at once").await })
        })
        .collect();
    let mut done = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert_eq!(error.reason(), "ALREADY_INITIALISED"),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(appliance.verifier(ISSUER).await.kids().len(), 2);
}

#[tokio::test]
async fn init_is_carried_through_when_the_custodian_hangs_up() {
    let appliance = Appliance::softhsm().start().await;
    let custodian = appliance.custodian();
    let call = tokio::spawn(async move { custodian.init(ISSUER, "in a hurry").await });
    appliance.logs("keyset step").await;
    call.abort();
    let _aborted_or_just_done = call.await;
    eventually("the keys are published", async || {
        let answer = appliance.https().get(appliance.jwks_url(ISSUER)).send().await.unwrap();
        answer.status().is_success().then_some(())
    })
    .await;
}

#[tokio::test]
async fn i8_init_that_a_crash_interrupts_is_continued_without_an_extra_key() {
    let names: Vec<_> = (0..4).map(|n| format!("i{n}")).collect();
    let issuers = names.iter().map(|name| {
        let mut issuer = toml! { standbys = 3 };
        issuer.insert("name".into(), name.as_str().into());
        issuer
    });
    let mut builder = Appliance::softhsm();
    for issuer in issuers {
        builder = builder.with_issuer(issuer);
    }
    let mut appliance = builder.start().await;
    for (at, name) in names.iter().enumerate() {
        let (custodian, issuer) = (appliance.custodian(), name.clone());
        let init = tokio::spawn(async move { custodian.init(&issuer, "").await });
        // Later with each issuer: its first step, its second, ….
        eventually("the work has come so far", async || {
            let steps = appliance.log();
            let steps = steps.lines().filter(|line| line.contains("keyset step"));
            let mine = format!(r#""issuer":"{name}""#);
            (steps.filter(|line| line.contains(&mine)).count() > at).then_some(())
        })
        .await;
        appliance.kill_server().await;
        let _broken_or_done = init.await.unwrap();
        if let Err(error) = appliance.custodian().init(name, "once more").await {
            assert_eq!(error.reason(), "ALREADY_INITIALISED", "{error}");
        }
        assert_eq!(appliance.kids(name).await.len(), 4);
        let verifier = appliance.verifier(name).await;
        assert_eq!(verifier.kids().len(), 4);
        let token = appliance.client().issuer(&**name).sign(claims::trade(1)).await.unwrap();
        verifier.verify(&token).unwrap();
    }
}

#[tokio::test]
async fn i7_a_key_that_the_device_lost_stays_on_record() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let before = appliance.kids(ISSUER).await;
    let verifier = appliance.verifier(ISSUER).await;
    appliance.stop().await;
    for token in fs::read_dir(appliance.file("hsm-a/tokens")).unwrap() {
        for file in fs::read_dir(token.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let object = path.extension().is_some_and(|kind| kind == "object");
            if object && path.file_name().unwrap() != "token.object" {
                fs::remove_file(path).unwrap();
            }
        }
    }
    appliance.start().await;
    // New ones may be on their way already.
    let after = appliance.kids(ISSUER).await;
    assert!(before.iter().all(|kid| after.contains(kid)), "{before:?} {after:?}");
    assert!(verifier.kids().is_subset(&appliance.verifier(ISSUER).await.kids()));
    let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
    let mut signing = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
    let status = signing.sign(request).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), (Code::Unavailable, "DEVICE_UNAVAILABLE"));
    assert!(status.message().contains("KEY_ABSENT"), "{}", status.message());
}
