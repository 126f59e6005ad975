//! Signatures that do not verify are never released.

use mintwarden_client::{
    Error,
    api::{DeviceState, Key, KeyState},
};
use mintwarden_tests::{
    Appliance, ISSUER, claims, eventually,
    faulty::{Action, Function, on},
};

use super::ladder::Ladder;

#[tokio::test]
async fn i2_one_flipped_bit_costs_a_worker_and_the_batch_is_signed_by_a_fresh_one() {
    let rule = on(Function::C_Sign).once().does(Action::FlipBit(100));
    Ladder::new().await.heals_unseen(rule).await.was_a_worker("DEVICE_FAULT");
}

#[tokio::test]
async fn i2_one_signature_by_another_key_costs_a_worker() {
    let rule = on(Function::C_SignInit).once().does(Action::OtherKey);
    Ladder::new().await.heals_unseen(rule).await.was_a_worker("DEVICE_FAULT");
}

#[tokio::test]
async fn i2_a_key_that_signs_wrong_twice_in_a_row_is_suspended_with_an_alarm() {
    let ladder = Ladder::new().await;
    let rule = ladder.add(on(Function::C_Sign).does(Action::FlipBit(7)));
    let kid = ladder.appliance.kids(ISSUER).await.remove(0);
    let error = ladder.sign(1).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    ladder.ready().await;
    let issuer = eventually("an alarm", async || {
        let issuer = ladder.appliance.status().await.issuers.remove(0);
        let suspended = |alarm: &String| alarm.contains(&kid) && alarm.contains("suspended");
        issuer.alarms.iter().any(suspended).then_some(issuer)
    })
    .await;
    // Whoever asks whether it could sign hears that it could not.
    assert!(!issuer.ready);
    let (status, said) = ladder.appliance.readyz().await;
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("KEY_UNAVAILABLE (hsm-a KEY_SUSPENDED)"), "{said}");
    // Two workers were tried, and it is not tried again although the device is well.
    let starts = ladder.device().await.starts;
    assert_eq!(starts, 3);
    ladder.faulty().remove(rule).unwrap();
    let error = ladder.sign(2).await.unwrap_err();
    assert!(error.to_string().contains("KEY_SUSPENDED"), "{error}");
    assert_eq!(ladder.device().await.starts, starts);
    // Published all the same: what it signed before stays valid.
    assert!(ladder.appliance.verifier(ISSUER).await.kids().contains(&kid));
}

#[tokio::test]
async fn i8_a_suspension_for_wrong_signatures_survives_every_kind_of_restart() {
    let mut ladder = Ladder::new().await;
    let rule = ladder.add(on(Function::C_Sign).does(Action::FlipBit(7)));
    let kid = ladder.appliance.kids(ISSUER).await.remove(0);
    ladder.sign(1).await.unwrap_err();
    eventually("the keyset says so", async || {
        let key = ladder.key(&kid).await;
        (key.state() == KeyState::Suspended).then_some(())
    })
    .await;
    // The device is well from here on: a server that had forgotten would sign.
    ladder.faulty().remove(rule).unwrap();
    ladder.appliance.kill_server().await;
    ladder.is_suspended(&kid).await;
    ladder.appliance.kill_launcher().await;
    ladder.appliance.start().await;
    ladder.is_suspended(&kid).await;
    ladder.appliance.stop().await;
    ladder.appliance.start().await;
    ladder.is_suspended(&kid).await;
}

impl Ladder {
    async fn key(&self, kid: &str) -> Key {
        let keysets = self.appliance.custodian().list_keys(Some(ISSUER)).await.unwrap();
        let mut keys = keysets.into_iter().flat_map(|keyset| keyset.keys);
        keys.find(|key| key.kid == kid).expect("on record")
    }

    /// The key signs no more, in a device that is well, and everybody is told why.
    async fn is_suspended(&self, kid: &str) {
        self.ready().await;
        let error = self.sign(3).await.unwrap_err();
        assert!(error.to_string().contains("KEY_SUSPENDED"), "{error}");
        let key = self.key(kid).await;
        assert_eq!((key.state(), key.published), (KeyState::Suspended, true));
        assert!(key.outlook.contains("suspended by the appliance"), "{}", key.outlook);
        eventually("an alarm", async || {
            let alarms = self.appliance.status().await.issuers.remove(0).alarms;
            let told = |alarm: &&String| alarm.contains(kid) && alarm.contains("did not verify");
            alarms.iter().any(|alarm| told(&alarm)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn i2_a_key_that_signs_wrong_twice_gives_way_to_a_second_devices() {
    let appliance = Appliance::softhsm()
        .with_device("hsm-a")
        .with_device("hsm-b")
        .faulty()
        .start_initialised()
        .await;
    let verifier = appliance.verifier(ISSUER).await;
    appliance.until_device("hsm-b", DeviceState::Ready).await;
    let issuer = appliance.client().issuer(ISSUER);
    let first = verifier.verify(&issuer.sign(claims::trade(1)).await.unwrap()).unwrap().kid;
    let wrong = on(Function::C_Sign).does(Action::FlipBit(7));
    appliance.faulty_of("hsm-a").add(wrong).unwrap();
    // The first has a second chance when its fresh worker is there; no caller sees anything of it.
    eventually("the key is suspended", async || {
        let token = issuer.sign(claims::trade(2)).await.expect("the other device takes over");
        assert_ne!(verifier.verify(&token).unwrap().kid, first);
        let alarms = appliance.status().await.issuers.remove(0).alarms;
        alarms.iter().any(|alarm| alarm.contains(&first)).then_some(())
    })
    .await;
    appliance.until_device("hsm-a", DeviceState::Ready).await;
    let token = issuer.sign(claims::trade(3)).await.unwrap();
    assert_ne!(verifier.verify(&token).unwrap().kid, first);
}

#[tokio::test]
async fn i2_nothing_wrong_is_released_while_bits_flip_at_random() {
    let ladder = Ladder::new().await;
    let rule = on(Function::C_Sign).with_probability(0.05, 11).does(Action::FlipBit(300));
    let rule = ladder.add(rule);
    let issuer = ladder.appliance.client().issuer(ISSUER);
    let mut tokens = 0;
    for number in 0..60 {
        match issuer.sign(claims::trade(number)).await {
            Ok(token) => {
                ladder.verifier.verify(&token).unwrap();
                tokens += 1;
            }
            Err(Error::DeadlineExceeded) => {}
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    assert_ne!(tokens, 0);
    assert_ne!(ladder.faulty().remove(rule).unwrap(), 0);
    eventually("the device is well", async || {
        (ladder.device().await.state() == DeviceState::Ready).then_some(())
    })
    .await;
}
