//! I9 on a slow device: what cannot be signed in time is refused at once, with the time; the rest is
//! signed, and callers take turns.

use std::time::{Duration, Instant};

use mintwarden_client::{Bytes, Client};
use mintwarden_proto::v1::{
    SignBatchRequest, sign_result::Outcome, signing_service_client::SigningServiceClient,
};
use mintwarden_tests::{
    Appliance, Builder, DEVICE, ISSUER, TPM, claims, eventually,
    faulty::{Function, on},
    refusal::Refusal,
    tpm::TpmCommand,
};
use toml::Table;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

const SLOW: Duration = Duration::from_millis(50);
const LEFT: Duration = Duration::from_secs(5);

/// Its device signs one after the other, and takes so long for each, as a TPM does.
async fn slow(builder: Builder, each: Duration) -> Appliance {
    let one = |config: &mut Table| {
        let device = config["device"][0].as_table_mut().expect("a table");
        device.insert("sessions".into(), 1.into());
    };
    let appliance = builder.faulty().with(one).start_initialised().await;
    appliance.faulty_of(DEVICE).add(on(Function::C_Sign).takes(each)).unwrap();
    appliance
}

fn trades(count: u64) -> Vec<Bytes> {
    (0..count).map(|n| claims::trade(n).to_json()).collect()
}

/// Signs enough for the rate to be known.
async fn warm(client: &Client) {
    for number in 0..8 {
        client.issuer(ISSUER).sign(claims::trade(number)).await.unwrap();
    }
}

async fn rate(appliance: &Appliance) -> f64 {
    appliance.status().await.devices[0].signatures_per_second
}

#[tokio::test]
async fn i9_a_batch_that_a_slow_device_cannot_sign_in_time_is_refused_at_once_with_the_time() {
    let appliance = slow(Appliance::softhsm(), SLOW).await;
    let begun = Instant::now();
    warm(&appliance.client()).await;
    let shown = rate(&appliance).await;
    let signed = appliance.faulty().calls(Function::C_Sign);
    let mut signing = SigningServiceClient::new(appliance.channel(Some(appliance.tts())));
    let ask = |count, within| {
        let mut ask =
            Request::new(SignBatchRequest { issuer: ISSUER.into(), claims: trades(count) });
        ask.set_timeout(within);
        ask
    };
    let status = signing.sign_batch(ask(1024, LEFT)).await.unwrap_err();
    let refusal = Refusal::of(&status);
    assert_eq!(refusal.words(), (Code::ResourceExhausted, "DEVICE_TOO_SLOW"));
    assert_eq!(refusal.retry_after, None, "it helps not to wait");
    let told = status.get_details_error_info().unwrap().metadata;
    let takes: f64 = told["takes_seconds"].parse().unwrap();
    // A rate counts as twice as high after each minute without a signature.
    let aged = (begun.elapsed().as_secs_f64() / 60.0).exp2();
    let least = 1024.0 / shown;
    assert!(
        (least / aged - 0.001..=least + 0.001).contains(&takes),
        "{takes} s for 1024 at {shown} a second"
    );
    let fits: u64 = told["fits"].parse().unwrap();
    let in_time = 1024.0 * LEFT.as_secs_f64() / takes;
    assert!(fits > 0 && fits as f64 <= in_time, "{fits} where 1024 take {takes} s");
    // The device was not asked: that is how prompt it was.
    assert_eq!(appliance.faulty().calls(Function::C_Sign), signed);

    // The client does not try again what is in vain.
    let builder = appliance.builder(appliance.tts()).timeout(LEFT);
    let client = builder.connect().await.unwrap();
    let error = client.issuer(ISSUER).sign_batch(trades(1024)).await.unwrap_err();
    let refusal = error.refusal().expect("refused");
    assert_eq!((error.reason(), error.is_retryable()), ("DEVICE_TOO_SLOW", false));
    assert!(refusal.fits.is_some_and(|fits| fits > 0), "{refusal:?}");
    let metrics = appliance.metrics().await;
    let refusals = r#"mintwarden_rpcs_total{method="SignBatch",code="RESOURCE_EXHAUSTED"}"#;
    assert_eq!(metrics.value(refusals), 2.0, "one call each");
    let refused = format!(
        r#"mintwarden_refusals_total{{issuer="{ISSUER}",reason="DEVICE_TOO_SLOW",rule=""}}"#
    );
    assert_eq!(metrics.value(&refused), 2048.0);

    // What fits is signed.
    let batch = signing.sign_batch(ask(fits.div_ceil(4), LEFT)).await.unwrap().into_inner();
    assert!(batch.results.iter().all(|r| matches!(r.outcome, Some(Outcome::Signature(_)))));
    for shown in [shown, rate(&appliance).await] {
        assert!((1.0..=20.0).contains(&shown), "{shown} signatures a second of 50 ms each");
    }
    let gauge = appliance.metrics().await.value(r#"mintwarden_device_rate{device="hsm-a"}"#);
    assert!((1.0..=20.0).contains(&gauge), "{gauge}");
}

#[tokio::test]
async fn i9_a_callers_large_batch_leaves_others_their_turns() {
    let appliance = slow(Appliance::softhsm(), Duration::from_millis(20)).await;
    let patient = appliance.builder(appliance.tts()).timeout(Duration::from_secs(30));
    let (one, other) = (patient.connect().await.unwrap(), appliance.unix_client());
    let before = appliance.faulty().calls(Function::C_Sign);
    let mut large = tokio::spawn(async move { one.issuer(ISSUER).sign_batch(trades(150)).await });
    eventually("the large batch is being signed", async || {
        (appliance.faulty().calls(Function::C_Sign) > before).then_some(())
    })
    .await;
    let other = other.issuer(ISSUER);
    for number in 0..3 {
        tokio::select! {
            biased;
            token = other.sign(claims::trade(number)) => token.unwrap(),
            _ = &mut large => panic!("{number} small ones were signed before the large batch was"),
        };
    }
    let batch = large.await.unwrap().unwrap();
    assert!(batch.tokens.iter().all(Result::is_ok), "and the large one is signed too");
}

#[tokio::test]
async fn i9_calls_that_the_client_joins_are_signed_as_far_as_they_fit() {
    let appliance = slow(Appliance::softhsm(), SLOW).await;
    let builder = appliance.builder(appliance.tts()).max_in_flight(1);
    let client = builder.connect().await.unwrap();
    warm(&client).await;
    let issuer = client.issuer(ISSUER);
    // One goes out alone, the others together: too many.
    let within = Duration::from_secs(4);
    let calls = (0..150).map(|n| {
        let issuer = issuer.clone();
        tokio::spawn(async move { issuer.sign_within(claims::trade(n), within).await })
    });
    let mut calls = calls.collect::<Vec<_>>().into_iter();
    calls.next().unwrap().await.unwrap().expect("the one that goes out alone");
    let (mut signed, mut refused, mut late) = (0, 0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => signed += 1,
            Err(error) if error.reason() == "DEADLINE_EXCEEDED" => late += 1,
            Err(error) => {
                assert_eq!(error.reason(), "DEVICE_TOO_SLOW", "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "150 times 50 ms do not fit into 4 s");
    // What fits has a fifth of its time to spare, and may take longer than that all the same.
    assert!(signed > 0 || late > 0, "all but one of {refused} fit");
}

#[tokio::test]
async fn i9_what_a_slow_device_cannot_do_another_of_the_issuer_does() {
    let builder = Appliance::softhsm().with_device(DEVICE).with_device("hsm-b");
    let appliance = slow(builder, SLOW).await;
    let by = async |device| {
        let name = format!(r#"mintwarden_signatures_total{{issuer="{ISSUER}",device="{device}"}}"#);
        appliance.metrics().await.value(&name)
    };
    // One that is late in saying how it is leaves calls to the other.
    eventually("the first one's rate is known", async || {
        warm(&appliance.client()).await;
        (by(DEVICE).await >= 8.0).then_some(())
    })
    .await;
    let before = (by(DEVICE).await, by("hsm-b").await);
    let client = appliance.builder(appliance.tts()).timeout(LEFT).connect().await.unwrap();
    let batch = client.issuer(ISSUER).sign_batch(trades(512)).await.unwrap();
    let verifier = appliance.verifier(ISSUER).await;
    batch.tokens.iter().for_each(|token| {
        verifier.verify(token.as_ref().unwrap()).unwrap();
    });
    assert_eq!((by(DEVICE).await, by("hsm-b").await), (before.0, before.1 + 512.0));
}

#[tokio::test]
async fn i9_a_device_that_has_recovered_is_given_large_batches_again() {
    let appliance = slow(Appliance::softhsm(), Duration::from_millis(1)).await;
    let rule = appliance.faulty().add(on(Function::C_Sign).takes(SLOW)).unwrap();
    let client = appliance.builder(appliance.tts()).timeout(LEFT).connect().await.unwrap();
    warm(&client).await;
    client.issuer(ISSUER).sign_batch(trades(1024)).await.expect_err("51 s");
    appliance.faulty().remove(rule).unwrap();
    // Small ones are signed all the while, and show that it is faster now.
    let fits = eventually("the device is known to be faster", async || {
        client.issuer(ISSUER).sign_batch(trades(16)).await.unwrap();
        client.issuer(ISSUER).sign_batch(trades(256)).await.ok()
    });
    assert_eq!(fits.await.tokens.len(), 256);
}

async fn a_slow_tpm(each: Duration) {
    let appliance = Appliance::swtpm().faulty().start_initialised().await;
    let wire = appliance.tpm().relay();
    wire.delay(each);
    let client = appliance.builder(appliance.tts()).timeout(LEFT).connect().await.unwrap();
    // One by one, since a cold device refuses nothing.
    warm(&client).await;
    let (signed, slowest) = (wire.count(TpmCommand::Sign), 1.0 / each.as_secs_f64());
    let shown = rate(&appliance).await;
    assert!(shown > 0.0 && shown <= slowest, "{shown} a second, at {each:?} for each command");
    let error = client.issuer(ISSUER).sign_batch(trades(1024)).await.unwrap_err();
    assert_eq!(error.reason(), "DEVICE_TOO_SLOW", "{error}");
    assert_eq!(wire.count(TpmCommand::Sign), signed, "the TPM was not asked");
    let fits = error.refusal().and_then(|refusal| refusal.fits).expect("it is told");
    assert!(fits as f64 <= shown * LEFT.as_secs_f64() + 1.0, "{fits} at {shown} a second");
    // The smallest is signed all the same.
    let verifier = appliance.verifier(ISSUER).await;
    verifier.verify(&client.issuer(ISSUER).sign(claims::trade(9)).await.unwrap()).unwrap();
    let status = appliance.status().await;
    assert_eq!((&*status.devices[0].name, status.devices[0].starts), (TPM, 1));
}

#[tokio::test]
async fn i9_a_tpm_that_takes_20_ms_is_asked_for_what_it_can_do() {
    a_slow_tpm(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn i9_a_tpm_that_takes_200_ms_is_asked_for_what_it_can_do() {
    a_slow_tpm(Duration::from_millis(200)).await;
}
