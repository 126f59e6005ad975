//! A key that is not believed any more.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mintwarden_client::{
    Code,
    api::{Key, KeyState, RevokeFallback},
};
use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
use mintwarden_tests::{
    Appliance, ISSUER, Object, claims, eventually,
    faulty::{Function, on},
    refusal::Refusal,
};
use serde_json::Value;
use tonic::Code as GrpcCode;

use super::{active, after, in_state, keyset, load::Load, mature, of, quick, slow, standby};

const REFUSE: RevokeFallback = RevokeFallback::Unspecified;

/// The point of a key on a curve, as PKCS#11 has it: a DER octet string of an uncompressed point.
fn point(key: &Key) -> Vec<u8> {
    let jwk: Value = serde_json::from_str(&key.jwk).unwrap();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    [vec![0x04, 65, 0x04], coordinate("x"), coordinate("y")].concat()
}

/// The halves of a key in the device, by what another program sees there.
fn halves(objects: &[Object], point: &[u8]) -> usize {
    let Some(public) = objects.iter().find(|object| object.point == point) else { return 0 };
    objects.iter().filter(|object| object.id == public.id).count()
}

#[tokio::test]
async fn a_revoked_key_gives_way_to_a_mature_standby_with_no_gap_in_signing() {
    let appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let next = mature(&appliance).await;
    let public = point(of(&keyset(&appliance).await, &old));
    assert_eq!(halves(&appliance.token().objects(), &public), 2);
    let load = Load::start(&appliance.client());
    load.some_more().await;

    let custodian = appliance.custodian();
    let done = after(custodian.revoke(ISSUER, &old, REFUSE, "stolen").await);
    assert_eq!(active(&done), next);
    let revoked = of(&done, &old);
    assert!(matches!(revoked.state(), KeyState::Compromised | KeyState::Destroyed), "{revoked:?}");
    assert!(!revoked.published && revoked.unpublished_at.is_some());
    let verifier = appliance.verifier(ISSUER).await;
    assert!(!verifier.kids().contains(&old));
    load.stop().await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    assert_eq!(verifier.verify(&token).unwrap().kid, next);
    eventually("its private key is destroyed, a new standby made", async || {
        let keyset = keyset(&appliance).await;
        let destroyed = of(&keyset, &old).state() == KeyState::Destroyed;
        (destroyed && in_state(&keyset, KeyState::PreActive).len() == 1).then_some(())
    })
    .await;
    let objects = appliance.token().objects();
    assert_eq!(halves(&objects, &public), 0, "nothing of it is left in the device");
    assert!(objects.iter().all(|object| object.point != public));
    assert_eq!(objects.len(), 4, "two pairs: what signs, and the next: {objects:?}");
}

#[tokio::test]
async fn without_a_mature_standby_the_custodian_chooses_and_is_told_how_long_it_takes() {
    let appliance = Appliance::softhsm().with_issuer(slow()).start_initialised().await;
    let before = keyset(&appliance).await;
    let (old, young) = (active(&before), standby(&before).kid.clone());
    let custodian = appliance.custodian();
    let refused = custodian.revoke(ISSUER, &old, REFUSE, "stolen").await.unwrap_err();
    let refusal = refused.refusal().unwrap();
    assert_eq!((refusal.code, &*refusal.reason), (Code::FailedPrecondition, "NO_MATURE_STANDBY"));
    let left = refusal.retry_after.expect("how long it takes");
    assert!(left > Duration::from_secs(3600) && left <= Duration::from_secs(4050), "{left:?}");
    assert!(refusal.message.contains("1h"), "{}", refusal.message);
    assert_eq!(keyset(&appliance).await.revision, before.revision, "nothing has changed");

    let fallback = RevokeFallback::ActivateImmature;
    let done = after(custodian.revoke(ISSUER, &old, fallback, "stolen").await);
    assert_eq!(active(&done), young);
    // Twice in a row: the next standby is younger still.
    let fallback = RevokeFallback::Wait;
    let done = after(custodian.revoke(ISSUER, &young, fallback, "stolen too").await);
    assert!(in_state(&done, KeyState::Active).is_empty());
    let verifier = appliance.verifier(ISSUER).await;
    assert!(!verifier.kids().contains(&old) && !verifier.kids().contains(&young));
    let issuer = appliance.client().issuer(ISSUER);
    let refused = issuer.sign_within(claims::trade(1), Duration::from_millis(500)).await;
    refused.unwrap_err();
    assert!(!appliance.status().await.issuers.remove(0).ready);
}

#[tokio::test]
async fn i4_after_a_revocation_that_waits_signing_begins_again_with_maturity() {
    let appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let custodian = appliance.custodian();
    after(custodian.revoke(ISSUER, &old, RevokeFallback::Wait, "").await);
    let verifier = appliance.verifier(ISSUER).await;
    let issuer = appliance.client().issuer(ISSUER);
    let token =
        eventually("something signs again", async || issuer.sign(claims::trade(1)).await.ok())
            .await;
    // A verifier that asked right after the revocation, and never since, believes it.
    verifier.verify(&token).unwrap();
}

#[tokio::test]
async fn i2_a_batch_in_flight_under_a_revoked_key_is_not_released() {
    let appliance = Appliance::softhsm().with_issuer(quick()).faulty().start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let next = mature(&appliance).await;
    let held = appliance.faulty().add(on(Function::C_Sign).times(2).blocks()).unwrap();
    let bare = {
        let channel = appliance.channel(Some(appliance.tts()));
        let request = SignRequest { issuer: ISSUER.into(), claims: claims::trade(1).to_json() };
        tokio::spawn(async move { SigningServiceClient::new(channel).sign(request).await })
    };
    let issuer = appliance.client().issuer(ISSUER);
    let client = tokio::spawn(async move { issuer.sign(claims::trade(2)).await });
    eventually("both are in the device", async || {
        (appliance.faulty().fired(&held) == 2).then_some(())
    })
    .await;
    let done = after(appliance.custodian().revoke(ISSUER, &old, REFUSE, "stolen").await);
    assert_eq!(active(&done), next);
    appliance.faulty().remove(held).unwrap();
    // What it signed is right, and is not released.
    let refusal = Refusal::of(&bare.await.unwrap().unwrap_err());
    assert_eq!(refusal.words(), (GrpcCode::Aborted, "KEY_CHANGED"));
    let token = client.await.unwrap().expect("the client asks again");
    assert_eq!(appliance.verifier(ISSUER).await.verify(&token).unwrap().kid, next);
}

#[tokio::test]
async fn a_rotation_that_is_half_way_is_overtaken_by_a_revocation() {
    let appliance = Appliance::softhsm().with_issuer(quick()).faulty().start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let next = mature(&appliance).await;
    // The rotation makes the next standby first, and there it hangs.
    let held = appliance.faulty().add(on(Function::C_GenerateKeyPair).once().blocks()).unwrap();
    let custodian = appliance.custodian();
    let rotating = after(custodian.rotate(ISSUER, None, "by schedule, almost").await);
    assert_eq!(active(&rotating), old);
    assert_eq!(in_state(&rotating, KeyState::Generating).len(), 1);
    eventually("it hangs", async || (appliance.faulty().fired(&held) == 1).then_some(())).await;

    let done = after(custodian.revoke(ISSUER, &old, REFUSE, "stolen meanwhile").await);
    assert_eq!(active(&done), next);
    assert!(!appliance.verifier(ISSUER).await.kids().contains(&old));
    appliance.faulty().remove(held).unwrap();
    let last = eventually("the half-made key becomes the standby", async || {
        let keyset = keyset(&appliance).await;
        let destroyed = of(&keyset, &old).state() == KeyState::Destroyed;
        let [standby] = in_state(&keyset, KeyState::PreActive)[..] else { return None };
        (destroyed && standby.published).then(|| keyset.clone())
    })
    .await;
    assert_eq!(active(&last), next, "the rotation that was asked for was the old key's");
    assert_eq!(last.keys.len(), 3, "no key was made in vain: {last:?}");
}

#[tokio::test]
async fn a_revoked_standby_is_replaced_and_the_active_key_goes_on() {
    let appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let kid = active(&keyset(&appliance).await);
    let standby = mature(&appliance).await;
    let load = Load::start(&appliance.client());
    let done = after(appliance.custodian().revoke(ISSUER, &standby, REFUSE, "seen").await);
    assert_eq!(active(&done), kid);
    assert!(!of(&done, &standby).published);
    assert_ne!(mature(&appliance).await, standby);
    load.stop().await;
    let again = appliance.custodian().revoke(ISSUER, &standby, REFUSE, "").await.unwrap_err();
    assert_eq!(again.reason(), "WRONG_STATE");
}
