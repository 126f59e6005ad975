//! Resets, sleep, and power that comes and goes.

use std::time::Instant;

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    ISSUER, Role, eventually,
    tpm::{TpmCommand, on},
};

use super::{
    callers::Callers,
    struck::{Cost, Struck, report},
};

#[tokio::test]
async fn a_reset_in_the_middle_of_a_signature_costs_a_connection() {
    let rule = on(TpmCommand::Sign).once().resets();
    Struck::new().await.heals_unseen(rule).await.was_a_connection();
}

#[tokio::test]
async fn a_machine_that_sleeps_and_wakes_costs_a_connection() {
    let rule = on(TpmCommand::Sign).once().resumes();
    Struck::new().await.heals_unseen(rule).await.was_a_connection();
}

#[tokio::test]
async fn a_reset_at_every_signature_is_no_pile_up_and_heals() {
    let struck = Struck::new().await;
    let always = struck.relay().add(on(TpmCommand::Sign).resets());
    let error = struck.sign(1).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let begun = Instant::now();
    assert_ne!(struck.relay().remove(always), 0);
    let device = struck.ready().await;
    struck.all_sign().await;
    let fault = device.last_fault.expect("workers were started again").reason;
    assert_eq!(fault, "SESSION_LOST");
    report(&Cost { restarts: device.starts - 1, fault }, begun.elapsed());
}

#[tokio::test]
async fn a_reset_while_a_worker_starts_delays_it_by_nothing_or_one_start() {
    let struck = Struck::new().await;
    for command in [TpmCommand::CreatePrimary, TpmCommand::StartAuthSession, TpmCommand::Load] {
        let begun = Instant::now();
        let starts = struck.device().await.starts;
        let rule = struck.relay().add(on(command).once().resets());
        struck.appliance.kill_worker().await;
        struck.all_sign().await;
        assert_eq!(struck.relay().remove(rule), 1, "{command:?}");
        let device = struck.ready().await;
        let fault = device.last_fault.map(|fault| fault.reason).unwrap_or_default();
        let cost = Cost { restarts: device.starts - starts, fault };
        report(&cost, begun.elapsed());
        assert!((1..=2).contains(&cost.restarts), "{command:?}: {cost:?}");
    }
}

#[tokio::test]
async fn i8_a_reset_while_a_key_is_made_costs_an_attempt() {
    let struck = Struck::new().await;
    let rule = struck.relay().add(on(TpmCommand::Create).once().resets());
    let old = struck.replace_standby().await;
    let new = struck.other_standby(&old).await;
    assert_eq!(struck.relay().remove(rule), 1);
    let published = struck.appliance.verifier(ISSUER).await.kids();
    assert_eq!(published, [struck.kid.clone(), new].into(), "one key was made, not two");
    struck.all_sign().await;
    assert_eq!(struck.device().await.starts, 1, "the worker went on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_loses_its_power_under_load_comes_back_with_the_same_keys() {
    let struck = Struck::new().await;
    let client = struck.appliance.client();
    let callers = Callers::start(&client, &struck.verifier, &struck.kid);
    callers.sign(50).await;
    let starts = struck.device().await.starts;
    for _ in 0..3 {
        // Without TPM2_Shutdown, and in the middle of whatever it does.
        struck.appliance.tpm().cut_power();
        let down = struck.until(DeviceState::Down).await;
        let begun = Instant::now();
        struck.appliance.tpm().power_up();
        callers.sign(50).await;
        let device = struck.ready().await;
        report(
            &Cost { restarts: device.starts - starts, fault: down.reason.clone() },
            begun.elapsed(),
        );
        assert!(["TPM_UNREACHABLE", "DEVICE_FAILED"].contains(&&*down.reason), "{down:?}");
    }
    let (tokens, errors) = callers.end().await;
    eprintln!("row: {tokens} tokens, {errors} errors");
    struck.all_sign().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_whose_power_flickers_under_load_comes_back_with_the_same_keys() {
    let struck = Struck::new().await;
    let client = struck.appliance.client();
    let callers = Callers::start(&client, &struck.verifier, &struck.kid);
    for _ in 0..5 {
        callers.sign(20).await;
        struck.appliance.tpm().cut_power();
        struck.appliance.tpm().power_up();
    }
    let begun = Instant::now();
    callers.sign(50).await;
    let device = struck.ready().await;
    let (tokens, errors) = callers.end().await;
    let fault = device.last_fault.expect("workers were started again").reason;
    report(&Cost { restarts: device.starts - 1, fault }, begun.elapsed());
    eprintln!("row: {tokens} tokens, {errors} errors");
    struck.all_sign().await;
}

#[tokio::test]
async fn a_tpm_without_power_is_a_prompt_answer() {
    let struck = Struck::new().await;
    struck.appliance.tpm().cut_power();
    let error = eventually("callers are told", async || struck.sign(1).await.err()).await;
    assert!(error.is_retryable(), "{error}");
    let device = eventually("the status tells of it", async || {
        Some(struck.device().await).filter(|device| device.reason == "TPM_UNREACHABLE")
    })
    .await;
    for word in ["tcti = \"swtpm:host=127.0.0.1", "group tss"] {
        assert!(device.detail.contains(word), "{word} is not in: {}", device.detail);
    }
    // The server serves all the while.
    assert!(struck.appliance.process(Role::Server).runs());
    assert_eq!(struck.appliance.verifier(ISSUER).await.kids(), struck.verifier.kids());
    struck.appliance.tpm().power_up();
    struck.ready().await;
    struck.all_sign().await;
}
