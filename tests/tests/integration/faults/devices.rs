//! Two devices of one issuer: both keys are published, and one signs where the other cannot.

use std::time::{Duration, Instant};

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    Appliance, Builder, ISSUER, PATIENCE, Verifier, claims, eventually,
    faulty::{Action, Ckr, Crash, Function, any, on},
};

use super::ladder::{impatient, timed};

/// An issuer with the devices `hsm-a` and `hsm-b`.
struct Pair {
    appliance: Appliance,
    verifier: Verifier,
    /// The active keys, of `hsm-a` and `hsm-b`.
    kids: [String; 2],
}

impl Pair {
    async fn new() -> Self {
        Self::with(impatient).await
    }

    async fn with(edit: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = Appliance::softhsm().with_device("hsm-a").with_device("hsm-b").faulty();
        let appliance = edit(builder).start_initialised().await;
        let verifier = appliance.verifier(ISSUER).await;
        assert_eq!(verifier.kids().len(), 4, "an active key and its standby each");
        let keysets = appliance.custodian().list_keys(Some(ISSUER)).await.unwrap();
        let active = |device: &str| {
            let keys = keysets.iter().flat_map(|keyset| &keyset.keys);
            let mut of = keys.filter(|key| key.device == device);
            of.next().expect("active keys are listed first").kid.clone()
        };
        let kids = [active("hsm-a"), active("hsm-b")];
        let pair = Self { appliance, verifier, kids };
        pair.the_first_signs().await;
        pair
    }

    /// The key that signs, within this time.
    async fn signs(&self, within: Duration) -> String {
        let issuer = self.appliance.client().issuer(ISSUER);
        let token = issuer.sign_within(claims::trade(1), within).await.expect("one device signs");
        self.verifier.verify(&token).unwrap().kid
    }

    /// A device that is late in saying how it is leaves a call to the other.
    async fn the_first_signs(&self) {
        eventually("the first device signs", async || {
            (self.signs(Duration::from_secs(10)).await == self.kids[0]).then_some(())
        })
        .await;
    }

    async fn the_second_signs(&self) {
        let begun = Instant::now();
        assert_eq!(self.signs(Duration::from_secs(10)).await, self.kids[1]);
        timed("the other one signed", begun);
        for _ in 1..10 {
            assert_eq!(self.signs(Duration::from_secs(10)).await, self.kids[1]);
        }
    }

    async fn the_first_signs_again(&self) {
        let begun = Instant::now();
        self.appliance.until_device("hsm-a", DeviceState::Ready).await;
        self.the_first_signs().await;
        timed("the first one signed again", begun);
    }
}

#[tokio::test]
async fn a_device_that_hangs_is_left_for_the_other_within_the_deadline() {
    let pair = Pair::with(|builder| {
        builder.with(|config| {
            let device = config["device"][0].as_table_mut().unwrap();
            device.insert("device_call_timeout".into(), "5m".into());
        })
    })
    .await;
    let hung = on(Function::C_Sign).blocks();
    let hung = pair.appliance.faulty_of("hsm-a").add(hung).unwrap();
    // Long before `device_call_timeout` ends the worker.
    let begun = Instant::now();
    assert_eq!(pair.signs(PATIENCE).await, pair.kids[1]);
    timed("the first one was left", begun);
    pair.the_second_signs().await;
    pair.appliance.faulty_of("hsm-a").remove(hung).unwrap();
    pair.the_first_signs_again().await;
}

#[tokio::test]
async fn a_device_whose_token_is_gone_is_left_and_taken_back() {
    let pair = Pair::new().await;
    let gone = pair.appliance.faulty_of("hsm-a").add(any().does(Action::TokenAbsent)).unwrap();
    pair.the_second_signs().await;
    let device = pair.appliance.until_device("hsm-a", DeviceState::Down).await;
    assert_eq!(device.reason, "TOKEN_ABSENT");
    pair.appliance.faulty_of("hsm-a").remove(gone).unwrap();
    pair.the_first_signs_again().await;
}

#[tokio::test]
async fn a_device_that_crashes_at_every_signature_is_left_and_taken_back() {
    let pair = Pair::new().await;
    let crashes = on(Function::C_Sign).crashes(Crash::Segfault);
    let crashes = pair.appliance.faulty_of("hsm-a").add(crashes).unwrap();
    pair.the_second_signs().await;
    pair.appliance.faulty_of("hsm-a").remove(crashes).unwrap();
    pair.the_first_signs_again().await;
}

#[tokio::test]
async fn a_device_that_is_parked_is_left_and_resumed() {
    let pair = Pair::new().await;
    let faulty = pair.appliance.faulty_of("hsm-a");
    faulty.add(on(Function::C_Login).once().fails(Ckr::CKR_PIN_LOCKED)).unwrap();
    faulty.add(on(Function::C_Sign).once().crashes(Crash::Kill)).unwrap();
    pair.the_second_signs().await;
    pair.appliance.until_device("hsm-a", DeviceState::Parked).await;
    pair.the_second_signs().await;
    pair.appliance.ctl(["device", "resume", "hsm-a"]).run().await.success();
    pair.the_first_signs_again().await;
}

#[tokio::test]
async fn a_device_that_lost_its_key_is_left_and_taken_back() {
    let pair = Pair::new().await;
    let faulty = pair.appliance.faulty_of("hsm-a");
    let hidden = faulty.add(on(Function::C_FindObjects).does(Action::HideObjects)).unwrap();
    faulty.add(on(Function::C_Sign).once().crashes(Crash::Kill)).unwrap();
    pair.the_second_signs().await;
    pair.appliance.faulty_of("hsm-a").remove(hidden).unwrap();
    pair.the_first_signs_again().await;
}

#[tokio::test]
async fn both_gone_is_a_prompt_answer() {
    let pair = Pair::new().await;
    for device in ["hsm-a", "hsm-b"] {
        pair.appliance.faulty_of(device).add(any().does(Action::TokenAbsent)).unwrap();
    }
    let issuer = pair.appliance.client().issuer(ISSUER);
    let error = issuer.sign(claims::trade(1)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    for device in ["hsm-a", "hsm-b"] {
        pair.appliance.until_device(device, DeviceState::Down).await;
    }
}
