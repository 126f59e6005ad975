//! The container image, driven from outside.

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{Container, ISSUER, TPM, claims, eventually};

#[tokio::test]
async fn a_new_container_on_the_same_volume_signs_with_the_same_keys() {
    let mut container = Container::softhsm().await;
    let before = container.custodian().init(ISSUER, "a test").await.unwrap().keyset.unwrap().keys;
    let token = container.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    let verified = container.verifier().await.verify(&token).unwrap();
    assert_eq!(verified.kid, before[0].kid);

    container.stop().await;
    container.start().await;
    let verifier = container.verifier().await;
    let token = container.client().issuer(ISSUER).sign(claims::trade(2)).await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap().kid, before[0].kid);
    let kids = before.into_iter().map(|key| key.kid).collect();
    assert_eq!(verifier.kids(), kids);
    let status = container.custodian().status().await.unwrap();
    assert_eq!(status.devices[0].state(), DeviceState::Ready);
    container.stop().await;
}

#[tokio::test]
async fn a_tpm_in_another_container_is_reached_over_tcp_and_keys_outlive_both() {
    let mut container = Container::swtpm().await;
    let before = container.custodian().init(ISSUER, "a test").await.unwrap().keyset.unwrap().keys;
    let kid = before[0].kid.clone();
    for number in 0..3 {
        match number {
            0 => {}
            1 => {
                container.stop().await;
                container.start().await;
            }
            _ => container.restart_swtpm().await,
        }
        let issuer = container.client().issuer(ISSUER);
        let token = eventually("it signs", async || issuer.sign(claims::trade(number)).await.ok());
        let verified = container.verifier().await.verify(&token.await).unwrap();
        assert_eq!(verified.kid, kid);
    }
    let device = container.custodian().status().await.unwrap().devices.remove(0);
    assert_eq!((&*device.name, device.state()), (TPM, DeviceState::Ready));
    container.stop().await;
}
