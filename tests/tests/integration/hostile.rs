//! Peers that mean harm, or act as if they did.

use mintwarden_client::api::DeviceState;
use mintwarden_proto::v1::{GetStatusRequest, custodian_service_client::CustodianServiceClient};
use mintwarden_tests::{Appliance, DEVICE, ISSUER, PATIENCE, claims, refusal::Refusal};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use tokio_stream::StreamExt as _;
use toml::toml;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// The preface of HTTP/2 (RFC 9113 section 3.4) and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn i9_a_connection_without_a_request_is_put_out_before_and_after_http_begins() {
    let limits = toml! { handshake = "300ms" };
    let appliance = Appliance::softhsm().with_limits(limits).start_initialised().await;
    for said in [b"", PREFACE] {
        let mut silent = UnixStream::connect(appliance.unix()).await.unwrap();
        silent.write_all(said).await.unwrap();
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "it is put out after {} bytes", said.len());
    }
    // One that has asked something stays.
    let client = appliance.unix_client();
    let issuer = client.issuer(ISSUER);
    issuer.sign(claims::trade(1)).await.unwrap();
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
async fn i9_a_peer_without_any_grant_is_refused_before_its_body_is_read() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let stranger = appliance.pki().dns("stranger", &["stranger.example"]);
    let mut custodian = CustodianServiceClient::new(appliance.channel(Some(&stranger)));
    let status = custodian.get_status(GetStatusRequest {}).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), (Code::PermissionDenied, "NO_GRANT"));
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
