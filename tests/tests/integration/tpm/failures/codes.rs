//! Response codes, and answers that never come.

use std::time::{Duration, Instant};

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    Appliance, ISSUER, claims, eventually,
    tpm::{Rc, TpmCommand, on},
};

use super::struck::{Cost, Struck, report};

/// More often than libtss2 gives a command by itself.
const MANY: u64 = 12;

async fn is_asked_again(code: Rc) {
    let rule = on(TpmCommand::Sign).times(MANY).answers(code);
    Struck::new().await.heals_unseen(rule).await.was_a_connection();
}

#[tokio::test]
async fn a_tpm_that_says_retry_is_asked_again() {
    is_asked_again(Rc::RETRY).await;
}

#[tokio::test]
async fn a_tpm_that_yielded_is_asked_again() {
    is_asked_again(Rc::YIELDED).await;
}

#[tokio::test]
async fn a_tpm_that_tests_itself_is_asked_again() {
    is_asked_again(Rc::TESTING).await;
}

#[tokio::test]
async fn a_tpm_that_tests_itself_for_longer_than_a_deadline_is_a_prompt_answer_and_heals() {
    let struck = Struck::new().await;
    let testing = struck.relay().add(on(TpmCommand::Sign).answers(Rc::TESTING));
    let issuer = struck.appliance.client().issuer(ISSUER);
    // The deadline may pass on the way there, too.
    eventually("it tests itself", async || {
        let within = Duration::from_secs(1);
        let error = issuer.sign_within(claims::trade(1), within).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        (struck.relay().fired(testing) > 0).then_some(())
    })
    .await;
    let begun = Instant::now();
    struck.relay().remove(testing);
    struck.all_sign().await;
    let device = struck.ready().await;
    let fault = device.last_fault.map(|fault| fault.reason).unwrap_or_default();
    report(&Cost { restarts: device.starts - 1, fault }, begun.elapsed());
}

/// What was loaded is not there any more: the same worker makes its connection anew.
async fn is_a_lost_connection(code: Rc) {
    let rule = on(TpmCommand::Sign).once().answers(code);
    Struck::new().await.heals_unseen(rule).await.was_a_connection();
}

#[tokio::test]
async fn a_context_gap_costs_a_connection() {
    is_a_lost_connection(Rc::CONTEXT_GAP).await;
}

#[tokio::test]
async fn a_session_that_is_not_loaded_costs_a_connection() {
    is_a_lost_connection(Rc::REFERENCE_S0).await;
}

#[tokio::test]
async fn an_object_that_is_not_loaded_costs_a_connection() {
    is_a_lost_connection(Rc::REFERENCE_H0).await;
}

#[tokio::test]
async fn a_handle_that_is_none_costs_a_connection() {
    is_a_lost_connection(Rc::HANDLE).await;
    is_a_lost_connection(Rc::VALUE_OF_HANDLE).await;
}

#[tokio::test]
async fn a_connection_that_does_not_help_costs_a_worker() {
    let rule = on(TpmCommand::Sign).times(2).answers(Rc::CONTEXT_GAP);
    Struck::new().await.heals_unseen(rule).await.was_a_worker("SESSION_LOST");
}

/// The worker ends, and the next one signs what it left.
async fn costs_a_worker(code: Rc) {
    let rule = on(TpmCommand::Sign).once().answers(code);
    Struck::new().await.heals_unseen(rule).await.was_a_worker("DEVICE_FAILED");
}

#[tokio::test]
async fn a_tpm_in_failure_mode_costs_a_worker() {
    costs_a_worker(Rc::FAILURE).await;
}

#[tokio::test]
async fn a_tpm_that_was_not_started_costs_a_worker() {
    costs_a_worker(Rc::INITIALIZE).await;
}

#[tokio::test]
async fn a_tpm_in_lockout_for_a_parent_of_others_costs_a_worker() {
    costs_a_worker(Rc::LOCKOUT).await;
}

#[tokio::test]
async fn a_vendors_own_code_costs_a_worker() {
    costs_a_worker(Rc::VENDOR).await;
}

#[tokio::test]
async fn an_answer_that_is_not_the_tpms_costs_a_worker() {
    let rule = on(TpmCommand::Sign).once().garbles();
    Struck::new().await.heals_unseen(rule).await.was_a_worker("MALFORMED");
}

#[tokio::test]
async fn a_connection_that_ends_before_a_command_costs_a_worker() {
    let rule = on(TpmCommand::Sign).once().hangs_up();
    Struck::new().await.heals_unseen(rule).await.was_a_worker("TPM_UNREACHABLE");
}

#[tokio::test]
async fn a_connection_that_ends_before_an_answer_costs_a_worker() {
    let rule = on(TpmCommand::Sign).once().loses_the_answer();
    Struck::new().await.heals_unseen(rule).await.was_a_worker("TPM_UNREACHABLE");
}

#[tokio::test]
async fn a_tpm_that_does_not_answer_costs_a_worker_when_the_call_times_out() {
    let mut appliance = Appliance::swtpm().faulty().start_initialised().await;
    // Making a key, too, would have this limit.
    appliance.stop().await;
    appliance.reconfigure(|config| {
        let device = config["device"][0].as_table_mut().unwrap();
        device.insert("device_call_timeout".into(), "2s".into());
    });
    appliance.start().await;
    let struck = Struck::of(appliance).await;
    let rule = on(TpmCommand::Sign).once().blocks();
    struck.heals_unseen(rule).await.was_a_worker("CALL_TIMEOUT");
}

#[tokio::test]
async fn a_tpm_without_memory_for_a_session_is_a_typed_answer_and_waited_for() {
    let struck = Struck::new().await;
    let begun = Instant::now();
    let full = struck.relay().add(on(TpmCommand::Sign).once().answers(Rc::SESSION_MEMORY));
    struck.sign(1).await.map_or_else(|error| assert!(error.is_retryable(), "{error}"), drop);
    assert_eq!(struck.relay().remove(full), 1);
    let device = struck.ready().await;
    struck.all_sign().await;
    let fault = device.last_fault.expect("it is told").reason;
    let cost = Cost { restarts: device.starts - 1, fault };
    report(&cost, begun.elapsed());
    cost.was_a_worker("OUT_OF_RESOURCES");
}

#[tokio::test]
async fn a_tpm_without_room_at_a_start_says_so_and_how_to_make_room() {
    let struck = Struck::new().await;
    let full = struck.relay().add(on(TpmCommand::CreatePrimary).answers(Rc::OBJECT_MEMORY));
    struck.appliance.kill_worker().await;
    let device = eventually("the device is down", async || {
        Some(struck.until(DeviceState::Down).await).filter(|down| !down.reason.is_empty())
    })
    .await;
    assert_eq!(device.reason, "OUT_OF_RESOURCES", "{}", device.detail);
    for word in ["TPM_RC_OBJECT_MEMORY", "tpm2_flushcontext", "device:/dev/tpmrm0"] {
        assert!(device.detail.contains(word), "{word} is not in: {}", device.detail);
    }
    let error = struck.sign(1).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let begun = Instant::now();
    assert_ne!(struck.relay().remove(full), 0);
    let device = struck.ready().await;
    struck.all_sign().await;
    let fault = device.last_fault.expect("it is told").reason;
    report(&Cost { restarts: device.starts - 1, fault }, begun.elapsed());
}
