//! The device has no room for more sessions or objects.

use std::time::Duration;

use mintwarden_client::api::DeviceState;
use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
use mintwarden_tests::{
    ISSUER, claims, eventually,
    faulty::{Action, Ckr, Function, on},
    refusal::Refusal,
};
use tonic::Code;

use super::ladder::Ladder;

#[tokio::test]
async fn a_dead_workers_sessions_are_waited_for_and_callers_told_for_how_long() {
    let ladder = Ladder::new().await;
    // As many as one worker has: with those of the dead one there is room for none.
    let room = ladder.faulty().sessions();
    let limit = ladder.add(on(Function::C_OpenSession).does(Action::SessionLimit(room)));
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Down).await;
    assert_eq!(device.reason, "OUT_OF_RESOURCES", "{device:?}");
    let channel = ladder.appliance.channel(Some(ladder.appliance.tts()));
    let mut signing = SigningServiceClient::new(channel);
    // By the launcher's word, which is more than what is said where nobody knows.
    eventually("callers are told for how long", async || {
        let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(2).to_json() };
        let refusal = Refusal::of(&signing.sign(request).await.unwrap_err());
        assert_eq!(refusal.words(), (Code::Unavailable, "DEVICE_UNAVAILABLE"));
        refusal.retry_after.filter(|after| *after > Duration::from_millis(500))
    })
    .await;
    ladder.is_left_alone_for("4s").await;
    assert_ne!(ladder.faulty().fired(&limit), 0);
    ladder.faulty().forget_sessions();
    ladder.ready().await;
    ladder.all_sign().await;
}

#[tokio::test]
async fn no_memory_for_a_session_is_waited_for() {
    let ladder = Ladder::new().await;
    ladder.add(on(Function::C_OpenSession).once().fails(Ckr::CKR_DEVICE_MEMORY));
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Down).await;
    assert_eq!(device.reason, "OUT_OF_RESOURCES", "{device:?}");
    ladder.is_left_alone_for("4s").await;
    ladder.ready().await;
    ladder.all_sign().await;
}

#[tokio::test]
async fn no_memory_for_a_signature_is_a_typed_answer_and_waited_for() {
    let ladder = Ladder::new().await;
    ladder.add(on(Function::C_Sign).once().fails(Ckr::CKR_HOST_MEMORY));
    let error = ladder.sign(1).await;
    if let Err(error) = error {
        assert!(error.is_retryable(), "{error}");
    }
    ladder.is_left_alone_for("2s").await;
    let device = ladder.ready().await;
    assert_eq!(device.last_fault.unwrap().reason, "OUT_OF_RESOURCES");
    ladder.all_sign().await;
}

#[tokio::test]
async fn fewer_sessions_than_configured_are_taken_as_stated() {
    let mut appliance = mintwarden_tests::Appliance::softhsm().faulty().prepare();
    appliance.faulty().add(on(Function::C_GetTokenInfo).does(Action::MaxSessions(3))).unwrap();
    appliance.start().await;
    appliance.init(ISSUER).await;
    let device = appliance.status().await.devices.remove(0);
    assert_eq!(device.sessions, 2, "one of the three makes and shows keys");
}
