//! I10: a login that did not clearly succeed is never repeated by itself.

use std::{fs, os::unix::fs::PermissionsExt as _};

use mintwarden_client::api::DeviceState;
use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
use mintwarden_tests::{Appliance, DEVICE, ISSUER, claims, refusal::Refusal};
use tonic::Code;

/// An initialised appliance, stopped, with another PIN in the file; and the right one.
async fn with_wrong_pin() -> (Appliance, String) {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.stop().await;
    let pin = appliance.token().pin();
    appliance.token().write_pin_file("0123456789abcdef");
    (appliance, pin)
}

async fn parked(appliance: &Appliance, reason: &str) {
    let device = appliance.until_device(DEVICE, DeviceState::Parked).await;
    assert_eq!(device.reason, reason, "{}", device.detail);
    assert!(device.detail.contains("mintwardenctl device resume hsm-a"), "{}", device.detail);
}

async fn signs(appliance: &Appliance) {
    appliance.until_device(DEVICE, DeviceState::Ready).await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
}

#[tokio::test]
async fn i10_a_wrong_pin_is_tried_once_also_over_five_restarts_of_everything() {
    let (mut appliance, pin) = with_wrong_pin().await;
    let before = appliance.token().login_trace();
    appliance.start().await;
    parked(&appliance, "LOGIN_FAILED").await;
    let tried = appliance.token().login_trace();
    assert_ne!(tried, before, "the one attempt is seen: this test can fail");

    // Whoever wants a signature is told at once.
    let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
    let mut signing = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
    let status = signing.sign(request).await.unwrap_err();
    assert_eq!(Refusal::of(&status).words(), (Code::Unavailable, "DEVICE_UNAVAILABLE"));
    assert!(status.message().contains("LOGIN_FAILED"), "{}", status.message());

    for restart in 0..5 {
        match restart % 3 {
            0 => {
                appliance.stop().await;
                appliance.start().await;
            }
            1 => {
                appliance.kill_launcher().await;
                appliance.start().await;
            }
            _ => appliance.kill_server().await,
        }
        parked(&appliance, "LOGIN_PENDING").await;
        assert_eq!(appliance.token().login_trace(), tried, "tried again by restart {restart}");
    }

    // Resumed by Ada, it is tried once more: with the wrong PIN to no avail,
    appliance.ctl(["device", "resume", DEVICE, "--reason", "?"]).run().await.success();
    parked(&appliance, "LOGIN_FAILED").await;
    assert_ne!(appliance.token().login_trace(), tried);
    // and with the right one for good.
    appliance.token().write_pin_file(&pin);
    appliance.ctl(["device", "resume", DEVICE]).run().await.success();
    signs(&appliance).await;
}

#[tokio::test]
async fn i10_a_device_that_was_resumed_five_times_within_an_hour_is_left_alone() {
    let (mut appliance, _pin) = with_wrong_pin().await;
    appliance.start().await;
    parked(&appliance, "LOGIN_FAILED").await;
    for resumed in 1..=5 {
        appliance.ctl(["device", "resume", DEVICE]).run().await.success();
        parked(&appliance, "LOGIN_FAILED").await;
        if resumed == 3 {
            // The count is the launcher's.
            appliance.kill_server().await;
            parked(&appliance, "LOGIN_PENDING").await;
        }
    }
    let tried = appliance.token().login_trace();
    appliance.ctl(["device", "resume", DEVICE]).run().await.success();
    let device = appliance.until_device(DEVICE, DeviceState::Parked).await;
    assert_eq!(device.reason, "RESUMED_TOO_OFTEN", "{}", device.detail);
    assert!(device.detail.contains("restart the appliance"), "{}", device.detail);
    assert_eq!(appliance.token().login_trace(), tried, "not a sixth time");
}

#[tokio::test]
async fn i10_a_changed_pin_file_is_tried_at_the_next_start() {
    let (mut appliance, pin) = with_wrong_pin().await;
    appliance.start().await;
    parked(&appliance, "LOGIN_FAILED").await;
    appliance.stop().await;
    // The same wrong PIN, written anew, is not another one.
    let tried = appliance.token().login_trace();
    appliance.token().write_pin_file("0123456789abcdef");
    appliance.start().await;
    parked(&appliance, "LOGIN_PENDING").await;
    assert_eq!(appliance.token().login_trace(), tried);
    appliance.stop().await;
    appliance.token().write_pin_file(&pin);
    appliance.start().await;
    signs(&appliance).await;
}

#[tokio::test]
async fn i10_a_worker_killed_after_its_login_is_not_taken_for_a_failed_one() {
    let appliance = Appliance::softhsm().start_initialised().await;
    for _ in 0..3 {
        signs(&appliance).await;
        appliance.kill_worker().await;
    }
    signs(&appliance).await;
}

#[tokio::test]
async fn i10_a_pin_file_that_others_can_read_is_not_used() {
    let mut appliance = Appliance::softhsm().prepare();
    let file = appliance.token().soft_hsm().pin_file.clone();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let before = appliance.token().login_trace();
    appliance.start().await;
    let device = appliance.until_device(DEVICE, DeviceState::Down).await;
    assert_eq!(device.reason, "PIN_UNAVAILABLE", "{}", device.detail);
    assert!(device.detail.contains(&file.display().to_string()), "{}", device.detail);
    assert_eq!(appliance.token().login_trace(), before);
    // Nothing was tried, so no person is needed once it is mended.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    appliance.until_device(DEVICE, DeviceState::Ready).await;
}

#[tokio::test]
async fn only_a_parked_device_can_be_resumed_and_only_by_a_custodian() {
    let (mut appliance, _pin) = with_wrong_pin().await;
    appliance.start().await;
    parked(&appliance, "LOGIN_FAILED").await;
    let tried = appliance.token().login_trace();
    let error = appliance.client().custodian().resume_device(DEVICE, "").await.unwrap_err();
    assert_eq!(error.reason(), "NO_GRANT");
    assert_eq!(appliance.token().login_trace(), tried);
    appliance.stop().await;

    let appliance = Appliance::softhsm().start_initialised().await;
    let error = appliance.custodian().resume_device(DEVICE, "").await.unwrap_err();
    assert_eq!(error.reason(), "NOT_PARKED");
}
