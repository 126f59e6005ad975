//! The device or its library reports a failure, or is gone.

use mintwarden_client::api::DeviceState;
use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
use mintwarden_tests::{
    ISSUER, claims, eventually,
    faulty::{Action, Ckr, Function, any, on},
    refusal::Refusal,
};
use tonic::Code;

use super::ladder::Ladder;

async fn costs_a_worker(value: Ckr) {
    let rule = on(Function::C_Sign).once().fails(value);
    Ladder::new().await.heals_unseen(rule).await.was_a_worker("DEVICE_FAILED");
}

#[tokio::test]
async fn a_device_error_costs_a_worker() {
    costs_a_worker(Ckr::CKR_DEVICE_ERROR).await;
}

#[tokio::test]
async fn a_general_error_costs_a_worker() {
    costs_a_worker(Ckr::CKR_GENERAL_ERROR).await;
}

#[tokio::test]
async fn a_function_that_failed_costs_a_worker() {
    costs_a_worker(Ckr::CKR_FUNCTION_FAILED).await;
}

#[tokio::test]
async fn a_token_that_is_not_present_costs_a_worker() {
    costs_a_worker(Ckr::CKR_TOKEN_NOT_PRESENT).await;
}

#[tokio::test]
async fn a_device_that_was_removed_costs_a_worker() {
    costs_a_worker(Ckr::CKR_DEVICE_REMOVED).await;
}

#[tokio::test]
async fn a_library_that_forgot_its_initialisation_costs_a_worker() {
    costs_a_worker(Ckr::CKR_CRYPTOKI_NOT_INITIALIZED).await;
}

#[tokio::test]
async fn a_vendors_own_value_costs_a_worker() {
    costs_a_worker(Ckr(0x8000_0042)).await;
}

#[tokio::test]
async fn a_value_that_the_standard_does_not_have_costs_a_worker() {
    costs_a_worker(Ckr(0x7777)).await;
}

#[tokio::test]
async fn an_error_after_the_signature_was_made_costs_a_worker() {
    let rule = on(Function::C_Sign).after_the_call().once().fails(Ckr::CKR_DEVICE_ERROR);
    Ladder::new().await.heals_unseen(rule).await.was_a_worker("DEVICE_FAILED");
}

/// Everybody is told the same word: the caller, who sees the status, who reads the log, who looks at metrics.
#[tokio::test]
async fn what_went_wrong_reaches_caller_status_log_and_metrics() {
    let ladder = Ladder::new().await;
    let counted = async || {
        let sample = r#"mintwarden_device_faults_total{device="hsm-a",cause="DEVICE_FAILED"}"#;
        let metrics = ladder.appliance.metrics().await;
        let found = metrics.beginning_with(sample).next().map(|(_, value)| value);
        found.unwrap_or_default()
    };
    assert_eq!(counted().await.to_bits(), 0.0_f64.to_bits());
    // As many workers as one batch may lose.
    let rule = ladder.add(on(Function::C_Sign).times(3).fails(Ckr::CKR_DEVICE_ERROR));
    let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
    let channel = ladder.appliance.channel(Some(ladder.appliance.tts()));
    let status = SigningServiceClient::new(channel).sign(request).await.unwrap_err();
    let refusal = Refusal::of(&status);
    assert_eq!(refusal.words(), (Code::Unavailable, "DEVICE_UNAVAILABLE"));
    assert!(status.message().contains("DEVICE_FAILED"), "{status}");
    assert!(
        !status.message().contains("CKR_"),
        "what the device said is not the caller's: {status}"
    );
    assert_eq!(ladder.faulty().remove(rule).unwrap(), 3);
    let fault = ladder.ready().await.last_fault.unwrap();
    assert_eq!(fault.reason, "DEVICE_FAILED");
    assert!(fault.detail.contains("C_Sign: CKR_DEVICE_ERROR"), "{fault:?}");
    assert_eq!(counted().await.to_bits(), 3.0_f64.to_bits());
    let said = |line: &&str| {
        line.contains("a worker says why it ends")
            && line.contains(r#""reason":"DEVICE_FAILED""#)
            && line.contains("C_Sign: CKR_DEVICE_ERROR")
    };
    eventually("each worker's reason is logged", async || {
        (ladder.appliance.log().lines().filter(said).count() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_error_while_a_worker_starts_costs_one_more() {
    let ladder = Ladder::new().await;
    ladder.add(on(Function::C_GetMechanismList).once().fails(Ckr::CKR_DEVICE_ERROR));
    ladder.appliance.kill_worker().await;
    // The one that was killed may pass for ready for a moment yet.
    let device = eventually("another worker is ready", async || {
        let device = ladder.ready().await;
        (device.starts > 1).then_some(device)
    })
    .await;
    assert_eq!((device.starts, ladder.logins()), (3, 2), "no login before the error");
    ladder.all_sign().await;
}

#[tokio::test]
async fn a_token_that_is_removed_is_a_prompt_answer_and_inserted_again_all_is_well() {
    let ladder = Ladder::new().await;
    let removed = ladder.add(any().does(Action::TokenAbsent));
    ladder.sign(1).await.unwrap_err();
    let device = ladder.until(DeviceState::Down).await;
    assert_eq!(device.reason, "TOKEN_ABSENT", "{device:?}");
    let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(2).to_json() };
    let channel = ladder.appliance.channel(Some(ladder.appliance.tts()));
    let status = SigningServiceClient::new(channel).sign(request).await.unwrap_err();
    let refusal = Refusal::of(&status);
    assert_eq!(refusal.words(), (Code::Unavailable, "DEVICE_UNAVAILABLE"));
    assert!(refusal.retry_after.is_some() && status.message().contains("TOKEN_ABSENT"), "{status}");
    let logins = ladder.logins();
    ladder.faulty().remove(removed).unwrap();
    ladder.ready().await;
    ladder.all_sign().await;
    assert_eq!(ladder.logins() - logins, 1, "none without a token to log in to");
}
