//! Rotation by hand, activation, suspension, destruction.

use std::time::Duration;

use mintwarden_client::{Code, api::KeyState};
use mintwarden_tests::{Appliance, ISSUER, claims};

use super::{active, after, becomes, in_state, keyset, mature, of, quick, slow, standby};

#[tokio::test]
async fn i6_rotation_by_hand_lets_the_mature_standby_sign_and_publishes_the_next() {
    let appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let issuer = appliance.client().issuer(ISSUER);
    let token = issuer.sign(claims::trade(1)).await.unwrap();
    let next = mature(&appliance).await;

    after(appliance.custodian().rotate(ISSUER, None, "a change of staff").await);
    let done = becomes(&appliance, &next, KeyState::Active).await;
    assert_eq!(active(&done), next);
    assert_eq!(of(&done, &old).state(), KeyState::Deactivated);
    assert!(standby(&done).published, "with a new standby at once");
    let verifier = appliance.verifier(ISSUER).await;
    assert_eq!(verifier.kids().len(), 3, "the old key still verifies");
    verifier.verify(&token).unwrap();
    let token = issuer.sign(claims::trade(2)).await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap().kid, next);
    let shown = appliance.custodian().key(ISSUER, &old).await.unwrap().key.unwrap();
    assert!(shown.published_at.is_some() && shown.activated_at.is_some());
    assert!(shown.stopped_at.is_some() && shown.unpublished_at.is_none());
}

#[tokio::test]
async fn i4_rotation_by_hand_waits_for_maturity_and_says_so() {
    let appliance = Appliance::softhsm().with_issuer(slow()).start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let done = after(appliance.custodian().rotate(ISSUER, None, "change 4711").await);
    assert_eq!(active(&done), old, "nothing is mature yet");
    let outlook = &of(&done, &old).outlook;
    assert_eq!(outlook, "signs; to be replaced, since a custodian asked for it");
}

#[tokio::test]
async fn i4_rotation_by_hand_comes_with_maturity_and_once() {
    let appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let old = active(&keyset(&appliance).await);
    after(appliance.custodian().rotate(ISSUER, None, "change 4711").await);
    becomes(&appliance, &old, KeyState::Deactivated).await;
    let keyset = keyset(&appliance).await;
    assert_eq!(in_state(&keyset, KeyState::Deactivated).len(), 1, "{keyset:?}");
}

#[tokio::test]
async fn i4_a_standby_that_is_too_young_is_activated_by_the_dangerous_word_alone() {
    let appliance = Appliance::softhsm().with_issuer(slow()).start_initialised().await;
    let before = keyset(&appliance).await;
    let young = standby(&before).kid.clone();
    let custodian = appliance.custodian();
    let refused = custodian.activate(ISSUER, &young, "too early").await.unwrap_err();
    let refusal = refused.refusal().unwrap();
    assert_eq!((refusal.code, &*refusal.reason), (Code::FailedPrecondition, "IMMATURE"));
    let left = refusal.retry_after.expect("how long it takes");
    let wait = Duration::from_secs(66 * 60 + 60 + 30);
    assert!(left <= wait && left > wait - Duration::from_secs(300), "{left:?}");
    assert!(refusal.message.contains("another 1h"), "{}", refusal.message);
    assert_eq!(keyset(&appliance).await.revision, before.revision, "nothing has changed");

    let done = custodian.danger_activate_immature(ISSUER, &young, "the old key was copied").await;
    after(done);
    let done = becomes(&appliance, &young, KeyState::Active).await;
    assert_eq!(active(&done), young);
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    assert_eq!(appliance.verifier(ISSUER).await.verify(&token).unwrap().kid, young);
}

#[tokio::test]
async fn a_mature_standby_is_activated_in_one_step() {
    let appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let next = mature(&appliance).await;
    after(appliance.custodian().activate(ISSUER, &next, "").await);
    let done = becomes(&appliance, &next, KeyState::Active).await;
    assert_eq!(active(&done), next);
    let again = appliance.custodian().activate(ISSUER, &next, "").await.unwrap_err();
    assert_eq!(again.reason(), "WRONG_STATE");
}

#[tokio::test]
async fn a_suspended_key_signs_nothing_stays_published_and_can_be_resumed() {
    let mut appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let kid = active(&keyset(&appliance).await);
    let issuer = appliance.client().issuer(ISSUER);
    let before = issuer.sign(claims::trade(1)).await.unwrap();
    mature(&appliance).await;

    let done = after(appliance.custodian().suspend(ISSUER, &kid, "it signed odd things").await);
    assert_eq!(of(&done, &kid).state(), KeyState::Suspended);
    assert!(in_state(&done, KeyState::Active).is_empty(), "nothing takes its place by itself");
    let within = Duration::from_millis(500);
    issuer.sign_within(claims::trade(2), within).await.unwrap_err();
    appliance.verifier(ISSUER).await.verify(&before).unwrap();
    let status = appliance.status().await.issuers.remove(0);
    assert!(!status.ready && status.alarms.iter().any(|alarm| alarm.contains("suspended")));
    // It holds through a restart.
    appliance.stop().await;
    appliance.start().await;
    let issuer = appliance.client().issuer(ISSUER);
    issuer.sign_within(claims::trade(3), within).await.unwrap_err();

    let again = appliance.custodian().suspend(ISSUER, &kid, "").await.unwrap_err();
    assert_eq!(again.reason(), "WRONG_STATE");
    let done = after(appliance.custodian().resume(ISSUER, &kid, "it did not").await);
    assert_eq!(active(&done), kid);
    // A client that was refused comes back in ten seconds; this one was not.
    let issuer = appliance.client().issuer(ISSUER);
    let token = issuer.sign(claims::trade(4)).await.unwrap();
    assert_eq!(appliance.verifier(ISSUER).await.verify(&token).unwrap().kid, kid);
    let again = appliance.custodian().resume(ISSUER, &kid, "").await.unwrap_err();
    assert_eq!(again.reason(), "WRONG_STATE");
}

#[tokio::test]
async fn only_a_key_that_does_not_sign_any_more_is_destroyed() {
    let appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let custodian = appliance.custodian();
    let next = mature(&appliance).await;
    for kid in [&old, &next] {
        let refused = custodian.destroy(ISSUER, kid, "").await.unwrap_err();
        assert_eq!(refused.reason(), "WRONG_STATE");
        assert!(refused.to_string().contains("revoke"), "{refused}");
    }
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    after(custodian.rotate(ISSUER, None, "").await);
    becomes(&appliance, &old, KeyState::Deactivated).await;
    after(custodian.destroy(ISSUER, &old, "its device goes back").await);
    becomes(&appliance, &old, KeyState::Destroyed).await;
    // I5: what it signed goes on being believed.
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
}
