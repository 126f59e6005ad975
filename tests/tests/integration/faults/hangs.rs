//! Calls that do not come back: `device_call_timeout` ends their worker, whatever callers' deadlines.

use std::time::{Duration, Instant};

use mintwarden_client::{Error, api::DeviceState};
use mintwarden_tests::{
    Appliance, ISSUER, PATIENCE, Role, claims, eventually,
    faulty::{Function, on},
};
use rustix::process::Signal;

use super::ladder::{Ladder, impatient};

#[tokio::test]
async fn a_signature_that_hangs_costs_a_worker_and_its_batch_is_signed_by_the_next() {
    let rule = on(Function::C_Sign).once().blocks();
    Ladder::impatient().await.heals_unseen(rule).await.was_a_worker("CALL_TIMEOUT");
}

#[tokio::test]
async fn a_signature_that_hangs_after_it_was_made_costs_a_worker() {
    let rule = on(Function::C_Sign).after_the_call().once().blocks();
    Ladder::impatient().await.heals_unseen(rule).await.was_a_worker("CALL_TIMEOUT");
}

#[tokio::test]
async fn a_look_that_hangs_costs_a_worker() {
    let ladder = Ladder::impatient().await;
    ladder.add(on(Function::C_FindObjects).once().blocks());
    ladder.appliance.kill_worker().await;
    let hung = eventually("the start that hung is over", async || {
        let device = ladder.device().await;
        device.last_fault.filter(|fault| fault.reason == "CALL_TIMEOUT")
    });
    hung.await;
    ladder.ready().await;
    ladder.all_sign().await;
}

#[tokio::test]
async fn a_callers_deadline_is_its_own_and_ends_no_worker() {
    let ladder = Ladder::impatient().await;
    let slow = ladder.add(on(Function::C_Sign).takes(Duration::from_millis(600)));
    let issuer = ladder.appliance.client().issuer(ISSUER);
    let error = issuer.sign_within(claims::trade(1), Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded), "{error}");
    ladder.sign(2).await.unwrap();
    ladder.faulty().remove(slow).unwrap();
    assert_eq!(ladder.device().await.starts, 1);
}

#[tokio::test]
async fn a_module_that_hangs_in_its_initialisation_is_ended_and_tried_again() {
    let mut appliance = impatient(Appliance::softhsm()).faulty().prepare();
    let rule = appliance.faulty().add(on(Function::C_Initialize).once().blocks()).unwrap();
    appliance.start().await;
    appliance.until_device(mintwarden_tests::DEVICE, DeviceState::Ready).await;
    assert_eq!(appliance.faulty().fired(&rule), 1);
    assert_eq!(appliance.faulty().calls(Function::C_Login), 1);
    appliance.init(ISSUER).await;
}

#[tokio::test]
async fn i10_a_login_that_hangs_parks_and_is_not_repeated() {
    let ladder = Ladder::impatient().await;
    ladder.add(on(Function::C_Login).once().blocks());
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Parked).await;
    assert_eq!(device.reason, "LOGIN_PENDING", "{device:?}");
    assert!(device.detail.contains("mintwardenctl device resume hsm-a"), "{}", device.detail);
    assert_eq!(ladder.logins(), 2);
    ladder.appliance.ctl(["device", "resume", "hsm-a"]).run().await.success();
    ladder.ready().await;
    assert_eq!(ladder.logins(), 3);
    ladder.all_sign().await;
}

#[tokio::test]
async fn a_module_that_hangs_in_closing_delays_no_shutdown() {
    let mut ladder = Ladder::impatient().await;
    ladder.add(on(Function::C_CloseSession).or(Function::C_Finalize).blocks());
    let begun = Instant::now();
    ladder.appliance.stop().await;
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_worker_that_is_stopped_is_killed_and_its_batch_signed_by_the_next() {
    let ladder = Ladder::impatient().await;
    let worker = ladder.appliance.process(Role::Worker);
    worker.signal(Signal::STOP);
    let issuer = ladder.appliance.client().issuer(ISSUER);
    let token = issuer.sign_within(claims::trade(1), PATIENCE).await.unwrap();
    ladder.verifier.verify(&token).unwrap();
    assert!(!worker.runs(), "stopped processes are killed all the same");
    let device = ladder.ready().await;
    assert_eq!((device.starts, &*device.last_fault.unwrap().reason), (2, "WORKER_SILENT"));
}

/// It does not notice that its wire has ended: the launcher ends it, so that the next server has a worker.
#[tokio::test]
async fn a_stopped_worker_of_a_server_that_ended_keeps_the_next_server_from_nothing() {
    let mut ladder = Ladder::new().await;
    let worker = ladder.appliance.process(Role::Worker);
    worker.signal(Signal::STOP);
    ladder.appliance.kill_server().await;
    ladder.ready().await;
    assert!(!worker.runs(), "one worker at a time");
    assert_eq!(ladder.logins(), 2, "one for each worker");
    ladder.all_sign().await;
}
