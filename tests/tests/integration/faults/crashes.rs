//! The vendor library takes its process with it.

use std::time::{Duration, Instant};

use mintwarden_client::api::DeviceState;
use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
use mintwarden_tests::{
    ISSUER, claims, eventually,
    faulty::{Action, Ckr, Crash, Function, on},
    refusal::Refusal,
};
use tonic::Code;

use super::ladder::Ladder;

#[tokio::test]
async fn a_segfault_before_a_signature_costs_a_worker() {
    let rule = on(Function::C_Sign).once().crashes(Crash::Segfault);
    Ladder::new().await.heals_unseen(rule).await.was_a_worker("WORKER_CRASHED");
}

#[tokio::test]
async fn a_segfault_after_a_signature_costs_a_worker() {
    let rule = on(Function::C_Sign).after_the_call().once().crashes(Crash::Segfault);
    Ladder::new().await.heals_unseen(rule).await.was_a_worker("WORKER_CRASHED");
}

#[tokio::test]
async fn an_abort_costs_a_worker() {
    let rule = on(Function::C_SignInit).once().crashes(Crash::Abort);
    Ladder::new().await.heals_unseen(rule).await.was_a_worker("WORKER_CRASHED");
}

#[tokio::test]
async fn a_kill_at_the_nth_signature_costs_a_worker() {
    let rule = on(Function::C_Sign).after(7).once().crashes(Crash::Kill);
    Ladder::new().await.heals_unseen(rule).await.was_a_worker("WORKER_CRASHED");
}

#[tokio::test]
async fn a_crash_in_the_initialisation_is_tried_again_without_a_login() {
    let ladder = Ladder::new().await;
    ladder.add(on(Function::C_Initialize).times(2).crashes(Crash::Segfault));
    ladder.appliance.kill_worker().await;
    eventually("two starts crashed", async || (ladder.device().await.starts >= 4).then_some(()))
        .await;
    ladder.ready().await;
    ladder.all_sign().await;
    assert_eq!(ladder.logins(), 2);
}

#[tokio::test]
async fn i10_a_crash_in_the_login_parks() {
    let ladder = Ladder::new().await;
    ladder.add(on(Function::C_Login).once().crashes(Crash::Segfault));
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Parked).await;
    assert_eq!((&*device.reason, ladder.logins()), ("LOGIN_PENDING", 2));
}

#[tokio::test]
async fn i10_a_crash_right_after_a_login_that_succeeded_parks() {
    let ladder = Ladder::new().await;
    ladder.add(on(Function::C_Login).after_the_call().once().crashes(Crash::Kill));
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Parked).await;
    assert_eq!((&*device.reason, ladder.logins()), ("LOGIN_PENDING", 2));
}

/// A library cleans up at exit(3) while its threads are at work: what the worker ended for is heard all the same.
#[tokio::test]
async fn a_crash_in_an_exit_handler_hides_no_reason() {
    let ladder = Ladder::new().await;
    ladder.add(on(Function::C_Sign).once().does(Action::CrashAtExit));
    ladder.add(on(Function::C_Sign).once().fails(Ckr::CKR_HOST_MEMORY));
    if let Err(error) = ladder.sign(1).await {
        assert!(error.is_retryable(), "{error}");
    }
    ladder.is_left_alone_for("2s").await;
    ladder.ready().await;
    ladder.all_sign().await;
}

#[tokio::test]
async fn i10_a_crash_in_an_exit_handler_does_not_hide_that_a_worker_parks() {
    let ladder = Ladder::new().await;
    ladder.add(on(Function::C_Login).once().does(Action::CrashAtExit));
    ladder.add(on(Function::C_Login).once().fails(Ckr::CKR_PIN_INCORRECT));
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Parked).await;
    assert_eq!((&*device.reason, ladder.logins()), ("LOGIN_FAILED", 2));
    ladder.appliance.logs(r#""message":"parked""#).await;
    assert_eq!(ladder.device().await.starts, 2, "and did not start another");
}

#[tokio::test]
async fn restarts_that_pile_up_are_a_prompt_answer_until_one_batch_has_shown_that_all_is_well() {
    let ladder = Ladder::new().await;
    let rule = ladder.add(on(Function::C_Sign).crashes(Crash::Segfault));
    let channel = ladder.appliance.channel(Some(ladder.appliance.tts()));
    let mut signing = SigningServiceClient::new(channel);
    let mut ask = async || {
        let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
        signing.sign(request).await
    };
    // Each call loses its workers, and says so; then callers are told at once, with when to come back.
    let refusal = eventually("the breaker opens", async || {
        let status = ask().await.unwrap_err();
        let refusal = Refusal::of(&status);
        assert_eq!(refusal.words(), (Code::Unavailable, "DEVICE_UNAVAILABLE"), "{status}");
        let device = ladder.device().await;
        (device.state() == DeviceState::Down && device.starts >= 5).then_some(refusal)
    })
    .await;
    assert!(refusal.retry_after.is_some_and(|after| after >= Duration::from_millis(500)));
    // By the breaker itself.
    ladder.appliance.logs("callers are told at once").await;
    let (before, begun) = (ladder.device().await.starts, Instant::now());
    for _ in 0..50 {
        ask().await.unwrap_err();
    }
    let restarts = ladder.device().await.starts - before;
    assert!(restarts <= 3 + begun.elapsed().as_secs(), "{restarts} in {:?}", begun.elapsed());
    // How the last one ended is the launcher's to say.
    eventually("it is told as a crash", async || {
        let fault = ladder.device().await.last_fault?;
        (fault.reason == "WORKER_CRASHED").then_some(())
    })
    .await;
    ladder.faulty().remove(rule).unwrap();
    eventually("a batch is signed", async || ask().await.ok()).await;
    ladder.all_sign().await;
    assert_eq!(ladder.logins(), ladder.device().await.starts, "one login each");
}
