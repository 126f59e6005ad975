//! Processes end at any instant, and nothing is lost but time.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use mintwarden_client::Error;
use mintwarden_proto::v1::{
    SignBatchRequest, SignRequest, sign_result::Outcome,
    signing_service_client::SigningServiceClient,
};
use mintwarden_tests::{
    Appliance, DEVICE, ISSUER, PATIENCE, Role, claims, eventually, programs, refusal::Refusal,
};
use rustix::process::Signal;
use toml::toml;

use crate::storm::{CALLS, Storm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_a_worker_killed_in_the_middle_of_10_000_signatures_costs_only_time() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let verifier = appliance.verifier(ISSUER).await;
    let before = appliance.kids(ISSUER).await;
    let client = appliance.client();
    let storm = Storm::start(&client);
    for answers in [1000, 3000, 6000] {
        storm.reaches(answers).await;
        appliance.kill_worker().await;
    }
    // Batches are put on the next worker's wire, so that callers see nothing of it.
    assert_eq!(storm.ends(std::slice::from_ref(&verifier)).await, [CALLS]);
    assert_eq!(appliance.status().await.devices[0].starts, 4);
    let token = client.issuer(ISSUER).sign(claims::trade(0)).await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap().kid, before[0]);
    assert_eq!(appliance.kids(ISSUER).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_a_server_killed_in_the_middle_of_10_000_signatures_costs_only_time() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let verifier = appliance.verifier(ISSUER).await;
    let before = appliance.kids(ISSUER).await;
    // The unix socket stays where it is.
    let client = appliance.unix_client();
    let storm = Storm::start(&client);
    for answers in [1000, 5000] {
        storm.reaches(answers).await;
        appliance.kill_server().await;
    }
    // The client finds the next server, and sends again what the last one did not answer.
    assert_eq!(storm.ends(std::slice::from_ref(&verifier)).await, [CALLS]);
    let token = client.issuer(ISSUER).sign(claims::trade(0)).await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap().kid, before[0]);
    assert_eq!(appliance.kids(ISSUER).await, before);
    appliance.stop().await;
}

#[tokio::test]
async fn a_launcher_that_is_killed_leaves_no_process_behind() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let before = appliance.kids(ISSUER).await;
    assert_eq!(appliance.processes().len(), 3);
    // Waits until nothing is left of the session.
    appliance.kill_launcher().await;
    appliance.start().await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    assert_eq!(appliance.verifier(ISSUER).await.verify(&token).unwrap().kid, before[0]);
    appliance.stop().await;
}

#[tokio::test]
async fn a_worker_whose_server_is_killed_ends_too() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let worker = appliance.process(Role::Worker);
    appliance.kill_server().await;
    eventually("the old worker is gone", async || (!worker.runs()).then_some(())).await;
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    assert_eq!(appliance.processes().len(), 3);
}

#[tokio::test]
async fn sigterm_lets_accepted_calls_finish_and_exits_with_0() {
    // A share of 1024 for each of the two callers that may sign.
    let limits = toml! { max_inflight_items = 2048 };
    let mut appliance = Appliance::softhsm().with_limits(limits).start_initialised().await;
    let verifier = appliance.verifier(ISSUER).await;
    let payloads: Vec<_> = (0..1024).map(|n| claims::trade(n).to_json()).collect();
    let request = SignBatchRequest { issuer: ISSUER.into(), claims: payloads };
    let small = SignRequest { issuer: ISSUER.into(), claims: claims::trade(0).to_json() };
    let mut signing = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
    signing.sign(small.clone()).await.unwrap();
    let accepted = eventually("a batch fills the house", async || {
        let mut large = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
        let request = request.clone();
        let under_way = tokio::spawn(async move { large.sign_batch(request).await });
        // There is no room for one more: all of the large batch was accepted.
        while !under_way.is_finished() {
            if let Err(status) = signing.sign(small.clone()).await {
                assert_eq!(Refusal::of(&status).reason, "OVERLOADED", "{status}");
                return Some(under_way);
            }
        }
        None
    })
    .await;
    appliance.terminate();
    let answer = accepted.await.unwrap().unwrap().into_inner();
    let signed = |result: &_| matches!(result, Some(Outcome::Signature(_)));
    assert_eq!(answer.results.iter().filter(|result| signed(&result.outcome)).count(), 1024);
    assert!(verifier.kids().contains(&answer.kid));
    let ended = appliance.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn i9_a_worker_that_hangs_costs_its_callers_their_deadline_and_no_more() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let issuer = appliance.client().issuer(ISSUER);
    issuer.sign(claims::trade(1)).await.unwrap();
    let worker = appliance.process(Role::Worker);
    worker.signal(Signal::STOP);
    let begun = Instant::now();
    let limit = Duration::from_millis(500);
    let error = issuer.sign_within(claims::trade(2), limit).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded), "{error}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    // The rest of the appliance answers as ever.
    appliance.status().await;
    appliance.verifier(ISSUER).await;
    worker.signal(Signal::CONT);
    issuer.sign(claims::trade(3)).await.unwrap();
}

#[tokio::test]
async fn i8_a_second_appliance_on_the_same_state_does_not_serve() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let (log, addresses) = (appliance.file("second.log"), appliance.file("second.json"));
    let mut second = tokio::process::Command::new(programs::path(programs::MINTWARDEN))
        .env_clear()
        .arg("--config")
        .arg(appliance.config())
        .arg("--addresses")
        .arg(&addresses)
        .arg("--die-with-parent")
        .arg(std::process::id().to_string())
        .stderr(Stdio::from(std::fs::File::create(&log).unwrap()))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // It ends by itself, before it starts a worker that would log in.
    assert_eq!(second.wait().await.unwrap().code(), Some(1));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("in use by another launcher"), "{said}");
    assert!(!addresses.exists());
    // The first one's sockets and keys are still its own.
    let verifier = appliance.verifier(ISSUER).await;
    for client in [appliance.client(), appliance.unix_client()] {
        let token = client.issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
        verifier.verify(&token).unwrap();
    }
    assert_eq!(appliance.status().await.devices[0].name, DEVICE);
}

#[tokio::test]
async fn a_configuration_may_be_named_relative_to_where_the_launcher_is_started() {
    let appliance = Appliance::softhsm().prepare();
    let mut launcher = tokio::process::Command::new(appliance.program(programs::MINTWARDEN))
        .current_dir(appliance.file(""))
        .args(["--config", "mintwarden.toml", "--addresses", "addresses.json"])
        .env_clear()
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("it serves, or has ended", async || {
        let ended = launcher.try_wait().unwrap();
        (ended.is_some() || appliance.file("addresses.json").exists()).then_some(())
    })
    .await;
    assert_eq!(launcher.try_wait().unwrap(), None, "it has ended");
    let pid = rustix::process::Pid::from_raw(i32::try_from(launcher.id().unwrap()).unwrap());
    rustix::process::kill_process(pid.unwrap(), Signal::TERM).unwrap();
    assert!(launcher.wait().await.unwrap().success());
}
