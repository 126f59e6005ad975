//! What is served beside signing: health, reflection, JWKS over gRPC.

use std::collections::BTreeSet;

use mintwarden_client::api::{KeyState, RevokeFallback};
use mintwarden_proto::v1::{
    GetJwksRequest, WatchJwksRequest, jwks_service_client::JwksServiceClient,
};
use mintwarden_tests::{Appliance, ISSUER, PATIENCE, TRUST_DOMAIN, Verifier, eventually};
use tokio_stream::{StreamExt as _, iter};
use toml::toml;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::custodian::{active, after, becomes, keyset, mature, quick, standby};

#[tokio::test]
async fn health_is_served_and_fails_before_connections_end() {
    let mut appliance =
        Appliance::softhsm().with_limits(toml! { drain = "1s" }).start_initialised().await;
    let channel = appliance.channel(Some(appliance.tts()));
    let mut health = HealthClient::new(channel);
    let request = HealthCheckRequest { service: String::new() };
    let now = health.check(request.clone()).await.unwrap().into_inner().status();
    assert_eq!(now, ServingStatus::Serving);

    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    appliance.terminate();
    let second = watch.next().await.expect("told before the connection ends").unwrap().status();
    assert_eq!(second, ServingStatus::NotServing);
    assert!(appliance.ended().await.status.success());
}

#[tokio::test]
async fn reflection_describes_every_service() {
    let appliance = Appliance::softhsm().start().await;
    let mut reflection = ServerReflectionClient::new(appliance.channel(Some(appliance.tts())));
    let ask =
        |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let asks = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("mintwarden.v1.SigningService".into())),
    ];
    let answers = reflection.server_reflection_info(iter(asks)).await.unwrap().into_inner();
    let answers: Vec<_> =
        answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let MessageResponse::ListServicesResponse(list) = &answers[0] else { panic!("{answers:?}") };
    let names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    for name in ["SigningService", "JwksService", "CustodianService"] {
        assert!(names.contains(&&*format!("mintwarden.v1.{name}")), "{names:?}");
    }
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    assert!(matches!(&answers[1], MessageResponse::FileDescriptorResponse(file)
        if !file.file_descriptor_proto.is_empty()));
}

#[tokio::test]
async fn the_jwks_over_grpc_is_what_https_serves() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let mut jwks = JwksServiceClient::new(appliance.channel(Some(appliance.tts())));
    let request = GetJwksRequest { issuer: ISSUER.into() };
    let over_grpc = jwks.get_jwks(request).await.unwrap().into_inner();
    let answer = appliance.https().get(appliance.jwks_url(ISSUER)).send().await.unwrap();
    assert_eq!(answer.headers()["etag"], over_grpc.etag);
    assert_eq!(answer.headers()["cache-control"], "public, max-age=600");
    assert_eq!(over_grpc.max_age.unwrap().seconds, 600);
    assert_eq!(answer.bytes().await.unwrap(), over_grpc.jwks);
}

#[tokio::test]
async fn whoever_watches_the_jwks_is_told_of_each_change() {
    let appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let mut jwks = JwksServiceClient::new(appliance.channel(Some(appliance.tts())));
    let request = WatchJwksRequest { issuer: ISSUER.into() };
    let mut sets = jwks.watch_jwks(request).await.unwrap().into_inner();
    // Until a set is pushed that has these keys; revisions grow, and HTTPS never serves an older one.
    let mut last = 0;
    let mut until = async |what: &str, kids: BTreeSet<String>| {
        let pushed = async {
            loop {
                let set = sets.message().await.unwrap().expect("the stream goes on");
                assert!(set.revision > last, "{what}: {} after {last}", set.revision);
                last = set.revision;
                if Verifier::new(&set.jwks, &[TRUST_DOMAIN]).unwrap().kids() == kids {
                    break set;
                }
            }
        };
        let set = tokio::time::timeout(PATIENCE, pushed).await.expect(what);
        let answer = appliance.https().get(appliance.jwks_url(ISSUER)).send().await.unwrap();
        assert_eq!(answer.headers()["etag"], set.etag, "{what}");
    };
    let (old, next) = (active(&keyset(&appliance).await), mature(&appliance).await);
    until("at once", [&old, &next].map(Clone::clone).into()).await;

    after(appliance.custodian().rotate(ISSUER, None, "").await);
    let done = becomes(&appliance, &next, KeyState::Active).await;
    let third = standby(&done).kid.clone();
    until("after a rotation", [&old, &next, &third].map(Clone::clone).into()).await;
    let custodian = appliance.custodian();
    custodian.revoke(ISSUER, &old, RevokeFallback::Unspecified, "").await.unwrap();
    until("after a revocation", [&next, &third].map(Clone::clone).into()).await;
}

#[tokio::test]
async fn one_line_is_logged_per_batch_without_content() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let issuer = appliance.client().issuer(ISSUER);
    let good = mintwarden_tests::claims::trade(1).to_json();
    let bad = mintwarden_tests::claims::too_long(2).to_json();
    let batch = issuer.sign_batch(vec![good.clone(), bad, good]).await.unwrap();
    let line = eventually("the batch is logged", async || {
        let log = appliance.log();
        log.lines()
            .find(|line| line.contains(&batch.kid) && line.contains("exp/lifetime=1"))
            .map(str::to_owned)
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (name, value) in
        [("issuer", ISSUER), ("kid", &*batch.kid), ("caller", "spiffe://trust-domain.example/tts")]
    {
        assert_eq!(line[name], value, "{line}");
    }
    assert_eq!((line["items"].as_u64(), line["released"].as_u64()), (Some(3), Some(2)), "{line}");
    for stage in ["device_us", "verify_us"] {
        assert!(line[stage].is_u64(), "{line}");
    }
    for content in ["d084sdrt234fsaw34tr23t", "97053963", "trade.stocks", "eyJ"] {
        assert!(!appliance.log().contains(content), "{content}");
    }
}
