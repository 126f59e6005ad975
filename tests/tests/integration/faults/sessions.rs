//! Sessions, handles and the login are lost; an operation is left active.

use mintwarden_tests::faulty::{Action, Ckr, Function, on};

use super::ladder::Ladder;

#[tokio::test]
async fn a_session_that_is_closed_is_opened_again() {
    let rule = on(Function::C_SignInit).once().fails(Ckr::CKR_SESSION_CLOSED);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}

#[tokio::test]
async fn a_session_handle_that_is_invalid_is_opened_again() {
    let rule = on(Function::C_Sign).once().fails(Ckr::CKR_SESSION_HANDLE_INVALID);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}

#[tokio::test]
async fn a_key_handle_that_is_invalid_is_looked_up_again() {
    let rule = on(Function::C_SignInit).once().fails(Ckr::CKR_KEY_HANDLE_INVALID);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}

#[tokio::test]
async fn an_object_handle_that_is_invalid_is_looked_up_again() {
    let rule = on(Function::C_SignInit).once().fails(Ckr::CKR_OBJECT_HANDLE_INVALID);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}

#[tokio::test]
async fn all_handles_that_are_really_lost_are_looked_up_again() {
    let rule = on(Function::C_SignInit).once().does(Action::LoseHandles);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}

#[tokio::test]
async fn one_session_that_says_it_is_not_logged_in_is_opened_again() {
    let rule = on(Function::C_SignInit).once().fails(Ckr::CKR_USER_NOT_LOGGED_IN);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}

#[tokio::test]
async fn a_call_that_was_cancelled_is_made_again() {
    let rule = on(Function::C_Sign).once().fails(Ckr::CKR_FUNCTION_CANCELED);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}

/// More often than the device has sessions: what opening one again costs adds up to nothing.
#[tokio::test]
async fn sessions_that_fail_many_times_are_each_opened_again() {
    let ladder = Ladder::new().await;
    for _ in 0..12 {
        let rule = on(Function::C_SignInit).once().fails(Ckr::CKR_SESSION_CLOSED);
        ladder.heals_unseen(rule).await.was_a_session();
    }
}

#[tokio::test]
async fn a_session_that_opening_again_does_not_mend_costs_a_worker() {
    // The session's, and the one's that is opened in its place.
    let rule = on(Function::C_SignInit).times(2).fails(Ckr::CKR_SESSION_HANDLE_INVALID);
    Ladder::of_one_session().await.heals_unseen(rule).await.was_a_worker("SESSION_LOST");
}

#[tokio::test]
async fn i10_all_sessions_that_are_really_lost_cost_a_worker_and_one_login() {
    let rule = on(Function::C_SignInit).once().does(Action::LoseSessions);
    Ladder::of_one_session().await.heals_unseen(rule).await.was_a_worker("SESSION_LOST");
}

#[tokio::test]
async fn i10_a_login_that_is_really_lost_costs_a_worker_and_one_login() {
    let rule = on(Function::C_SignInit).once().does(Action::LoseLogin);
    Ladder::of_one_session().await.heals_unseen(rule).await.was_a_worker("SESSION_LOST");
}

/// Without the login a PKCS#11 token shows no private key: what is missing then is the login, not the key.
#[tokio::test]
async fn i7_a_login_that_is_lost_while_keys_are_looked_at_is_no_lost_key() {
    let ladder = Ladder::new().await;
    let rule = ladder.add(on(Function::C_FindObjectsInit).once().does(Action::LoseLogin));
    // Has the worker show all keys.
    ladder.appliance.doctor(&[]).await;
    assert_eq!(ladder.faulty().fired(&rule), 1);
    ladder.all_sign().await;
    let device = ladder.ready().await;
    assert_eq!((device.starts, ladder.logins()), (2, 2));
    assert_eq!(device.last_fault.unwrap().reason, "SESSION_LOST");
    let alarms = ladder.appliance.status().await.issuers.remove(0).alarms;
    assert!(alarms.is_empty(), "{alarms:?}");
}

#[tokio::test]
async fn an_operation_that_is_left_active_costs_its_session() {
    let rule = on(Function::C_SignInit).once().fails(Ckr::CKR_OPERATION_ACTIVE);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}

#[tokio::test]
async fn an_operation_that_is_really_left_active_costs_its_session() {
    // The signature is made and the caller told that it was not: SoftHSM has no operation left, so
    // the next C_Sign without C_SignInit would fail; and a failed length query leaves one active.
    let rule = on(Function::C_Sign).once().fails(Ckr::CKR_OPERATION_NOT_INITIALIZED);
    Ladder::new().await.heals_unseen(rule).await.was_a_session();
}
