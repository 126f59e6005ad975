//! The container image, driven from outside.

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{Container, ISSUER, claims};

#[tokio::test]
async fn a_new_container_on_the_same_volume_signs_with_the_same_keys() {
    let mut container = Container::softhsm().await;
    let before = container.custodian().init(ISSUER, "a test").await.unwrap().keys;
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
