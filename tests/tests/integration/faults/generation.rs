//! Making keys under fire: no published key is ever wrong, attempts are bounded, leftovers are alarms.

use std::time::Duration;

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    Appliance, DEVICE, ISSUER, claims, eventually,
    faulty::{Action, AttributeValue, Bytes, Ckr, Class, Crash, Function, Half, Rule, any, on},
};

use super::ladder::impatient;

const CKA_SENSITIVE: u64 = 0x103;
const CKA_EXTRACTABLE: u64 = 0x162;

/// Asks for the first keys under a rule; waits until they are published, however often that takes.
async fn published_under(appliance: &Appliance, rule: Rule) -> u64 {
    let rule = appliance.faulty().add(rule).unwrap();
    let custodian = appliance.custodian();
    eventually("the first keys are published", async || {
        // It may be answered with what went wrong, and goes on by itself later; saying it again only
        // makes that sooner.
        let _answer = custodian.init(ISSUER, "").await;
        let issuer = appliance.status().await.issuers.remove(0);
        issuer.ready.then_some(())
    })
    .await;
    let struck = appliance.faulty().fired(&rule);
    appliance.faulty().clear().unwrap();
    struck
}

/// What is published signs, verifies, and is no more than was asked for.
async fn all_is_right(appliance: &Appliance) {
    let verifier = appliance.verifier(ISSUER).await;
    assert_eq!(verifier.kids().len(), 2);
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    verifier.verify(&token).unwrap();
    let issuer = appliance.status().await.issuers.remove(0);
    assert_eq!(issuer.published_keys, 2);
}

async fn alarms(appliance: &Appliance) -> Vec<String> {
    appliance.status().await.issuers.remove(0).alarms
}

async fn fresh() -> Appliance {
    let appliance = impatient(Appliance::softhsm()).faulty().start().await;
    appliance.until_device(DEVICE, DeviceState::Ready).await;
    appliance
}

/// Kills the worker at the n-th call from the order on, for every n that the making of the first keys
/// takes.
async fn killed_at_every_call(when: impl Fn(u64) -> Rule) {
    let mut calls = 0;
    loop {
        let appliance = fresh().await;
        let struck = published_under(&appliance, when(calls)).await;
        all_is_right(&appliance).await;
        if struck == 0 {
            break; // It came to its end without that many calls.
        }
        let logins = appliance.faulty().calls(Function::C_Login);
        let starts = appliance.status().await.devices.remove(0).starts;
        assert_eq!((starts, logins), (2, 2), "call {calls}");
        calls += 1;
    }
    assert!(calls > 10, "{calls} calls were cut off");
}

/// The calls of making a key, without those of a login, which would park (I10).
fn making() -> faulty::On {
    on(Function::C_GenerateKeyPair).or(Function::C_FindObjectsInit).or(Function::C_FindObjects)
}

use mintwarden_tests::faulty;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_i8_killed_before_every_call_of_making_keys() {
    killed_at_every_call(|n| making().after(n).once().crashes(Crash::Kill)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_i8_killed_after_every_call_of_making_keys() {
    killed_at_every_call(|n| making().after(n).once().after_the_call().crashes(Crash::Kill)).await;
}

#[tokio::test]
async fn i8_a_pair_whose_making_was_answered_with_an_error_is_looked_for_not_made_again() {
    let appliance = fresh().await;
    let rule = on(Function::C_GenerateKeyPair).after_the_call().once();
    let struck = published_under(&appliance, rule.fails(Ckr::CKR_DEVICE_ERROR)).await;
    assert_eq!(struck, 1);
    all_is_right(&appliance).await;
    assert_eq!(appliance.faulty().calls(Function::C_GenerateKeyPair), 2, "and adopted");
    assert!(alarms(&appliance).await.is_empty());
}

#[tokio::test]
async fn i8_a_making_that_hangs_is_not_repeated_and_the_work_goes_on() {
    let appliance = fresh().await;
    let rule = on(Function::C_GenerateKeyPair).once().blocks();
    assert_eq!(published_under(&appliance, rule).await, 1);
    all_is_right(&appliance).await;
    assert_eq!(appliance.faulty().calls(Function::C_GenerateKeyPair), 3);
    // The third one was under an id of its own.
    appliance.logs("a key pair was given up").await;
}

#[tokio::test]
async fn i7_half_a_pair_is_an_alarm_and_a_new_attempt() {
    for half in [Half::Private, Half::Public] {
        let appliance = fresh().await;
        let rule = on(Function::C_GenerateKeyPair).once().does(Action::LoseHalf(half));
        assert_eq!(published_under(&appliance, rule).await, 1);
        all_is_right(&appliance).await;
        let alarms = alarms(&appliance).await;
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(alarms[0].contains("half is missing"), "{alarms:?}");
        let left = appliance.doctor(&[]).await.of("key.leftover");
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].verdict, "warning", "{left:?}");
        let what = ["half is missing", "the device shows an object of it"];
        assert!(what.iter().all(|what| left[0].found.contains(what)), "{left:?}");
    }
}

#[tokio::test]
async fn i7_two_pairs_with_one_id_are_an_alarm_and_neither_is_used() {
    let appliance = fresh().await;
    let rule = on(Function::C_GenerateKeyPair).once().does(Action::Twin);
    assert_eq!(published_under(&appliance, rule).await, 1);
    all_is_right(&appliance).await;
    let alarms = alarms(&appliance).await;
    assert!(alarms[0].contains("have this CKA_ID"), "{alarms:?}");
}

#[tokio::test]
async fn i1_a_key_that_is_really_extractable_is_never_published() {
    let appliance = fresh().await;
    let value = Some(Bytes(vec![1]));
    let action = Action::Template { half: Half::Private, attribute: CKA_EXTRACTABLE, value };
    let rule = on(Function::C_GenerateKeyPair).once().does(action);
    assert_eq!(published_under(&appliance, rule).await, 1);
    all_is_right(&appliance).await;
    let alarms = alarms(&appliance).await;
    assert!(alarms[0].contains("CKA_EXTRACTABLE is true"), "{alarms:?}");
}

#[tokio::test]
async fn i1_a_key_whose_device_does_not_show_that_it_is_sensitive_is_never_published() {
    let appliance = fresh().await;
    let action = Action::Attribute {
        class: Some(Class::PrivateKey),
        attribute: CKA_SENSITIVE,
        value: AttributeValue::Absent,
    };
    let rule = appliance.faulty().add(on(Function::C_GetAttributeValue).does(action)).unwrap();
    let error = appliance.custodian().init(ISSUER, "").await.unwrap_err();
    assert_eq!(error.reason(), "GENERATION_FAILED", "{error}");
    assert_eq!(appliance.faulty().calls(Function::C_GenerateKeyPair), 5, "attempts are bounded");
    let issuer = appliance.status().await.issuers.remove(0);
    let left = issuer.alarms.iter().filter(|alarm| alarm.contains("may hold an unused object"));
    assert_eq!((issuer.published_keys, left.count()), (0, 5), "{:?}", issuer.alarms);
    assert!(issuer.alarms.iter().any(|alarm| alarm.contains("came to nothing")));
    // A custodian who has mended the device says so.
    appliance.faulty().remove(rule).unwrap();
    appliance.init(ISSUER).await;
    all_is_right(&appliance).await;
}

#[tokio::test]
async fn i1_a_key_that_turns_extractable_later_signs_no_more_after_a_restart() {
    let appliance = fresh().await;
    appliance.init(ISSUER).await;
    all_is_right(&appliance).await;
    let action = Action::Attribute {
        class: Some(Class::PrivateKey),
        attribute: CKA_EXTRACTABLE,
        value: AttributeValue::Bytes(Bytes(vec![1])),
    };
    appliance.faulty().add(on(Function::C_GetAttributeValue).does(action)).unwrap();
    appliance.kill_worker().await;
    appliance.until_device(DEVICE, DeviceState::Ready).await;
    // Asked once: what is tried again until the time is over may end with that.
    let client = appliance.builder(appliance.tts()).max_attempts(1).build().unwrap();
    let error = client.issuer(ISSUER).sign(claims::trade(2)).await.unwrap_err();
    assert!(error.to_string().contains("KEY_UNUSABLE"), "{error}");
}

#[tokio::test]
async fn no_memory_for_a_key_is_no_reason_to_stop_signing() {
    let appliance = fresh().await;
    let full = on(Function::C_GenerateKeyPair).fails(Ckr::CKR_DEVICE_MEMORY);
    let full = appliance.faulty().add(full).unwrap();
    let error = appliance.custodian().init(ISSUER, "").await.unwrap_err();
    assert!(error.to_string().contains("CKR_DEVICE_MEMORY"), "{error}");
    let device = appliance.status().await.devices.remove(0);
    assert_eq!((device.state(), device.starts), (DeviceState::Ready, 1));
    appliance.faulty().remove(full).unwrap();
    appliance.init(ISSUER).await;
    all_is_right(&appliance).await;
}

#[tokio::test]
async fn i8_a_token_that_is_removed_while_keys_are_made_delays_them() {
    let appliance = fresh().await;
    let slow = on(Function::C_GenerateKeyPair).takes(Duration::from_millis(500));
    appliance.faulty().add(slow).unwrap();
    let custodian = appliance.custodian();
    let asked = tokio::spawn(async move { custodian.init(ISSUER, "").await });
    eventually("a key is being made", async || {
        (appliance.faulty().calls(Function::C_GenerateKeyPair) > 0).then_some(())
    })
    .await;
    let gone = appliance.faulty().add(any().does(Action::TokenAbsent)).unwrap();
    let device = appliance.until_device(DEVICE, DeviceState::Down).await;
    assert_eq!(device.reason, "TOKEN_ABSENT", "no login is tried without a token");
    if let Err(error) = asked.await.unwrap() {
        assert!(error.is_retryable(), "{error}");
    }
    appliance.faulty().remove(gone).unwrap();
    eventually("the first keys are published", async || {
        let issuer = appliance.status().await.issuers.remove(0);
        issuer.ready.then_some(())
    })
    .await;
    all_is_right(&appliance).await;
}
