//! Connections that say nothing, or never end what they began.

use std::net::SocketAddr;

use mintwarden_client::api::DeviceState;
use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
use mintwarden_tests::{
    Appliance, DEVICE, ISSUER, PATIENCE, channel, claims, eventually,
    http2::{Frame, PREFACE},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tokio_stream::StreamExt as _;
use toml::toml;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[tokio::test]
async fn i9_a_connection_without_a_request_is_put_out_before_and_after_http_begins() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.restart_with_limits(toml! { handshake = "300ms" }).await;
    let single = || SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
    // A slow one may be put out too before it has asked something.
    let mut asked = eventually("one that asks in time", async || {
        let mut signing = SigningServiceClient::new(channel::bare(appliance.unix()).await);
        signing.sign(single()).await.ok().map(|_| signing)
    })
    .await;
    let begun = [PREFACE, &Frame::settings(&[]).encode()].concat();
    // The header of a request that never ends.
    let half = [&begun[..], &Frame::request(1, "/x").encode()[..20]].concat();
    for said in [vec![], begun, half] {
        let mut silent = UnixStream::connect(appliance.unix()).await.unwrap();
        silent.write_all(&said).await.unwrap();
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "it is put out after {} bytes", said.len());
    }
    // One that has asked something stays.
    asked.sign(single()).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_never_ends_delays_no_shutdown() {
    // Were streams waited for, this would outlast the runner's patience.
    let limits = toml! { drain = "5m" };
    let mut appliance = Appliance::softhsm().with_limits(limits).start_initialised().await;
    let mut health = HealthClient::new(appliance.channel(Some(appliance.tts())));
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    watch.next().await.unwrap().unwrap();
    appliance.stop().await;
}

#[tokio::test]
async fn i9_handshakes_that_never_end_keep_nobody_out() {
    // Were room or time taken for them, nobody would come in for five minutes.
    let limits = toml! { max_connections = 8
    handshake = "1m" };
    let appliance = Appliance::softhsm().with_limits(limits).start_initialised().await;
    let https: SocketAddr = appliance.url("").trim_start_matches("https://").parse().unwrap();
    // A ClientHello that says how long it is, and stops.
    let half = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let mut slow = Vec::new();
    for address in [appliance.grpc(), https] {
        for n in 0..1000 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&half[..n % half.len()]).await.unwrap();
            slow.push(stream);
        }
    }
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
    // The oldest had to give way.
    let ended = tokio::time::timeout(PATIENCE, slow[0].read(&mut [0])).await;
    assert!(matches!(ended.expect("it gave way"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn i9_peers_without_a_grant_that_fill_the_house_keep_nobody_out() {
    // Were room only made by those who go by themselves, nobody would come in while these stay.
    let limits = toml! { max_connections = 2
    handshake = "1m" };
    let appliance = Appliance::softhsm().with_limits(limits).start_initialised().await;
    let stranger = appliance.pki().dns("stranger", &["stranger.example"]);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut health = HealthClient::new(appliance.channel(Some(&stranger)));
        let request = HealthCheckRequest { service: String::new() };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        watch.next().await.unwrap().unwrap();
        held.push((health, watch));
    }
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
}

#[tokio::test]
async fn i9_a_reader_of_keys_that_asks_no_more_is_put_out() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.restart_with_limits(toml! { handshake = "300ms" }).await;
    let address = appliance.url("").trim_start_matches("https://").to_owned();
    let asks = [PREFACE, &Frame::settings(&[]).encode(), &Frame::request(1, "/").encode()].concat();
    // A slow one is put out before it has asked something.
    let mut reader = eventually("one that asks in time", async || {
        let mut reader = appliance.try_https_stream(&address, &[b"h2"]).await.ok()?;
        reader.write_all(&asks).await.ok().map(|()| reader)
    })
    .await;
    let ended = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "it is put out");
}

#[tokio::test]
async fn a_signer_sees_the_state_of_a_device_and_nothing_inside() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let seen = appliance.client().custodian().status().await.unwrap();
    let device = seen.devices.iter().find(|device| device.name == DEVICE).unwrap();
    assert_eq!(device.state, i32::from(DeviceState::Ready));
    assert_eq!((&*device.description, &*device.detail), ("", ""));
    let seen = appliance.status().await;
    assert!(!seen.devices[0].description.is_empty(), "a custodian does");
}
