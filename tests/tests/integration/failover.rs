//! A client with several endpoints, and what becomes of its calls when one of them goes.

use std::time::Duration;

use mintwarden_client::{Builder, Error, Identity, TrustAnchors};
use mintwarden_tests::{Appliance, ISSUER, Role, claims};
use rustix::process::Signal;

use crate::storm::{CALLS, Storm};

/// A client of two appliances that serve the same issuer with keys of their own, as two sites do. The
/// one of `first` reaches it over TLS, so that its authority is the one to believe.
fn of_both(first: &Appliance, second: &Appliance) -> Builder {
    let identity = first.tts();
    mintwarden_client::Client::builder()
        .endpoint(format!("https://{}", first.grpc()))
        .endpoint(format!("unix:{}", second.unix().display()))
        .identity(Identity::from_files(&identity.certificate, &identity.private_key))
        .ca(TrustAnchors::from_file(first.pki().ca()))
}

async fn two() -> (Appliance, Appliance) {
    let (first, second) = (Appliance::softhsm(), Appliance::softhsm());
    tokio::join!(first.start_initialised(), second.start_initialised())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_an_appliance_that_dies_under_load_loses_no_call_to_the_other() {
    let (mut first, second) = two().await;
    let verifiers = [first.verifier(ISSUER).await, second.verifier(ISSUER).await];
    let client = of_both(&first, &second).connect().await.unwrap();
    let storm = Storm::start(&client);
    storm.reaches(3000).await;
    first.kill_launcher().await;
    let tokens = storm.ends(&verifiers).await;
    assert!(tokens[0] > 0 && tokens[1] > 0, "both have signed: {tokens:?}");
    assert_eq!(tokens.iter().sum::<usize>(), CALLS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_a_server_that_hangs_loses_no_call_to_the_other() {
    let (first, second) = two().await;
    let verifiers = [first.verifier(ISSUER).await, second.verifier(ISSUER).await];
    let client = of_both(&first, &second).connect().await.unwrap();
    let storm = Storm::start(&client);
    storm.reaches(3000).await;
    let server = first.process(Role::Server);
    server.signal(Signal::STOP);
    let tokens = storm.ends(&verifiers).await;
    server.signal(Signal::CONT);
    assert!(tokens[0] > 0 && tokens[1] > 0, "both have signed: {tokens:?}");
}

#[tokio::test]
async fn an_appliance_without_a_device_leaves_the_calls_to_the_other() {
    let (first, second) = two().await;
    let verifiers = [first.verifier(ISSUER).await, second.verifier(ISSUER).await];
    let issuer = of_both(&first, &second).connect().await.unwrap().issuer(ISSUER);
    let worker = first.process(Role::Worker);
    worker.signal(Signal::STOP);
    for number in 0..20 {
        let token =
            issuer.sign_within(claims::trade(number), Duration::from_secs(20)).await.unwrap();
        assert!(verifiers.iter().any(|verifier| verifier.verify(&token).is_ok()));
    }
    worker.signal(Signal::CONT);
}

#[tokio::test]
async fn both_listeners_of_one_appliance_serve_one_client() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let client = of_both(&appliance, &appliance).connect().await.unwrap();
    let issuer = client.issuer(ISSUER);
    for number in 0..10 {
        issuer.sign(claims::trade(number)).await.unwrap();
    }
    // The port changes with the server; the socket stays where it is.
    appliance.kill_server().await;
    let verifier = appliance.verifier(ISSUER).await;
    for number in 0..10 {
        verifier.verify(&issuer.sign(claims::trade(number)).await.unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_spent_retry_budget_ends_a_call_at_once() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let client = of_both(&appliance, &appliance).retry_budget(0.0, 0).connect().await.unwrap();
    let issuer = client.issuer(ISSUER);
    issuer.sign(claims::trade(1)).await.unwrap();
    let worker = appliance.process(Role::Worker);
    worker.signal(Signal::STOP);
    // Under way, and cut off before there is an answer: on this runtime the other task goes first.
    let call = tokio::spawn(async move { issuer.sign(claims::trade(2)).await });
    tokio::task::yield_now().await;
    appliance.kill_server().await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::RetryBudgetExhausted { .. }), "{error}");
    assert!(error.is_retryable());
}
