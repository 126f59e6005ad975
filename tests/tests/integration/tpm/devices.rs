//! A TPM beside a SoftHSM2 token in one appliance.

use std::{collections::BTreeSet, time::Duration};

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{Appliance, DEVICE, ISSUER, TPM, Verifier, claims, eventually};
use toml::toml;

/// The active key of an issuer in a device.
async fn active(appliance: &Appliance, issuer: &str, device: &str) -> String {
    let keysets = appliance.custodian().list_keys(Some(issuer)).await.unwrap();
    let keys = keysets.into_iter().flat_map(|keyset| keyset.keys);
    let mut of = keys.filter(|key| key.device == device);
    of.next().expect("active keys are listed first").kid
}

async fn signs(appliance: &Appliance, issuer: &str, verifier: &Verifier) -> String {
    let token = appliance.client().issuer(issuer).sign(claims::trade(1)).await.unwrap();
    verifier.verify(&token).unwrap().kid
}

#[tokio::test]
async fn an_issuer_in_a_tpm_and_another_in_a_token_are_strangers() {
    let mut appliance = Appliance::softhsm()
        .with_device(DEVICE)
        .with_tpm(TPM)
        .with_issuer(toml! { name = "in-token" devices = ["hsm-a"] })
        .with_issuer(toml! { name = "in-tpm" devices = ["tpm-a"] })
        .start_initialised()
        .await;
    let mut seen = BTreeSet::new();
    for (issuer, device) in [("in-token", DEVICE), ("in-tpm", TPM)] {
        let verifier = appliance.verifier(issuer).await;
        assert_eq!(verifier.kids().len(), 2, "{issuer}: an active key and its standby");
        let kid = signs(&appliance, issuer, &verifier).await;
        assert_eq!(kid, active(&appliance, issuer, device).await);
        assert!(verifier.kids().iter().all(|kid| seen.insert(kid.clone())), "{issuer}");
    }
    // One that fails costs the other nothing.
    appliance.tpm().cut_power();
    let issuer = appliance.client().issuer("in-tpm");
    // The deadline may pass on the way there, too.
    eventually("the device is down", async || {
        let within = Duration::from_secs(1);
        let error = issuer.sign_within(claims::trade(1), within).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let status = appliance.status().await;
        status.devices.iter().any(|d| d.name == TPM && d.state() == DeviceState::Down).then_some(())
    })
    .await;
    let verifier = appliance.verifier("in-token").await;
    signs(&appliance, "in-token", &verifier).await;
    appliance.tpm().power_up();
    appliance.until_device(TPM, DeviceState::Ready).await;
    let verifier = appliance.verifier("in-tpm").await;
    signs(&appliance, "in-tpm", &verifier).await;
    appliance.stop().await;
}

#[tokio::test]
async fn an_issuer_in_both_falls_over_to_the_token_and_back_to_the_tpm() {
    let appliance =
        Appliance::softhsm().with_tpm(TPM).with_device(DEVICE).start_initialised().await;
    let verifier = appliance.verifier(ISSUER).await;
    assert_eq!(verifier.kids().len(), 4, "an active key and its standby each");
    let in_tpm = active(&appliance, ISSUER, TPM).await;
    let in_token = active(&appliance, ISSUER, DEVICE).await;
    let by_tpm = async || (signs(&appliance, ISSUER, &verifier).await == in_tpm).then_some(());
    eventually("the TPM signs", by_tpm).await;
    for _ in 0..2 {
        appliance.tpm().cut_power();
        // No caller sees it.
        for _ in 0..10 {
            assert_eq!(signs(&appliance, ISSUER, &verifier).await, in_token);
        }
        appliance.until_device(TPM, DeviceState::Down).await;
        appliance.tpm().power_up();
        appliance.until_device(TPM, DeviceState::Ready).await;
        eventually("the TPM signs again", by_tpm).await;
    }
    assert_eq!(appliance.verifier(ISSUER).await.kids(), verifier.kids());
}
