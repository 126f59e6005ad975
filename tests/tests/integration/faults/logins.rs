//! I10: any login result but success parks, and is not repeated over any kind of restart.

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    Appliance, DEVICE, ISSUER, claims,
    faulty::{Action, Ckr, Function, on},
};

use super::ladder::Ladder;

const CKF_USER_PIN_FINAL_TRY: u64 = 0x0002_0000;
const CKF_USER_PIN_LOCKED: u64 = 0x0004_0000;

/// A login that is answered so parks; four kinds of restart make no other one; `device resume` does,
/// once.
async fn parks(value: Ckr) {
    let mut ladder = Ladder::new().await;
    ladder.add(on(Function::C_Login).once().fails(value));
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Parked).await;
    assert_eq!((&*device.reason, ladder.logins()), ("LOGIN_FAILED", 2));
    assert!(device.detail.contains(&value.to_string()), "{}", device.detail);
    assert!(device.detail.contains("mintwardenctl device resume hsm-a"), "{}", device.detail);
    ladder.sign(1).await.unwrap_err();
    assert_eq!(ladder.device().await.starts, 2, "it is not even started again");

    ladder.appliance.kill_server().await;
    ladder.until(DeviceState::Parked).await;
    ladder.appliance.kill_launcher().await;
    ladder.appliance.start().await;
    ladder.until(DeviceState::Parked).await;
    ladder.appliance.stop().await;
    ladder.appliance.start().await;
    let device = ladder.until(DeviceState::Parked).await;
    assert_eq!((&*device.reason, ladder.logins()), ("LOGIN_PENDING", 2), "not one more");

    ladder.appliance.ctl(["device", "resume", DEVICE]).run().await.success();
    ladder.ready().await;
    assert_eq!(ladder.logins(), 3);
    ladder.all_sign().await;
}

#[tokio::test]
async fn i10_a_login_answered_with_general_error_parks() {
    parks(Ckr::CKR_GENERAL_ERROR).await;
}

#[tokio::test]
async fn i10_a_login_answered_with_pin_locked_parks() {
    parks(Ckr::CKR_PIN_LOCKED).await;
}

#[tokio::test]
async fn i10_a_login_answered_with_pin_incorrect_parks() {
    parks(Ckr::CKR_PIN_INCORRECT).await;
}

#[tokio::test]
async fn i10_a_login_answered_with_pin_expired_parks() {
    parks(Ckr::CKR_PIN_EXPIRED).await;
}

#[tokio::test]
async fn i10_a_login_answered_with_device_error_parks() {
    parks(Ckr::CKR_DEVICE_ERROR).await;
}

#[tokio::test]
async fn i10_a_login_that_succeeded_without_effect_parks() {
    let ladder = Ladder::new().await;
    // The session says that nobody is logged in, right after the login.
    ladder.add(on(Function::C_GetSessionInfo).once().does(Action::LoseLogin));
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Parked).await;
    assert_eq!((&*device.reason, ladder.logins()), ("LOGIN_FAILED", 2));
    assert!(device.detail.contains("not logged in"), "{}", device.detail);
}

#[tokio::test]
async fn i10_a_pin_that_is_locked_is_not_tried_at_all() {
    let ladder = Ladder::new().await;
    let flags = Action::TokenFlags { set: CKF_USER_PIN_LOCKED, clear: 0 };
    ladder.add(on(Function::C_GetTokenInfo).does(flags));
    ladder.appliance.kill_worker().await;
    let device = ladder.until(DeviceState::Parked).await;
    assert_eq!((&*device.reason, ladder.logins()), ("LOGIN_FAILED", 1));
    assert!(device.detail.contains("locked"), "{}", device.detail);
}

#[tokio::test]
async fn a_pin_with_one_try_left_is_tried_with_a_warning() {
    let ladder = Ladder::new().await;
    let flags = Action::TokenFlags { set: CKF_USER_PIN_FINAL_TRY, clear: 0 };
    ladder.add(on(Function::C_GetTokenInfo).does(flags));
    ladder.appliance.kill_worker().await;
    ladder.ready().await;
    ladder.all_sign().await;
    ladder.appliance.logs("one try left").await;
}

#[tokio::test]
async fn i10_a_module_that_is_logged_in_already_is_used() {
    let ladder = Ladder::new().await;
    let rule = on(Function::C_Login).after_the_call().once();
    ladder.add(rule.fails(Ckr::CKR_USER_ALREADY_LOGGED_IN));
    ladder.appliance.kill_worker().await;
    ladder.ready().await;
    ladder.all_sign().await;
}

/// Twenty restarts of every kind: each worker logs in once, and no more.
#[tokio::test]
async fn i10_every_start_of_a_worker_is_one_login() {
    let mut appliance = Appliance::softhsm().faulty().start_initialised().await;
    let logins = |appliance: &Appliance| appliance.faulty().calls(Function::C_Login);
    let mut expected = 1;
    for restart in 0..20 {
        match restart % 4 {
            0 => {
                appliance.stop().await;
                appliance.start().await;
            }
            1 => {
                appliance.kill_launcher().await;
                appliance.start().await;
            }
            2 => appliance.kill_server().await,
            _ => appliance.kill_worker().await,
        }
        appliance.until_device(DEVICE, DeviceState::Ready).await;
        let issuer = appliance.client().issuer(ISSUER);
        issuer.sign(claims::trade(restart)).await.unwrap();
        expected += 1;
        assert_eq!(logins(&appliance), expected, "restart {restart}");
    }
}
