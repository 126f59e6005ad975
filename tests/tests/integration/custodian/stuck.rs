//! Acts while a device does not do its part: what is decided is done, and said, at once.

use mintwarden_client::api::{DeviceState, KeyState, RevokeFallback};
use mintwarden_tests::{
    Appliance, DEVICE, ISSUER, claims, eventually,
    faulty::{Function, on},
};

use super::{active, after, becomes, keyset, mature, of, quick};

#[tokio::test]
async fn a_revocation_is_done_while_the_device_hangs_in_destroying() {
    let appliance = Appliance::softhsm().with_issuer(quick()).faulty().start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let next = mature(&appliance).await;
    let held = appliance.faulty().add(on(Function::C_DestroyObject).blocks()).unwrap();
    // It would hang for longer than the client waits.
    let custodian = appliance.custodian();
    let done = after(custodian.revoke(ISSUER, &old, RevokeFallback::Unspecified, "").await);
    assert_eq!((of(&done, &old).state(), active(&done)), (KeyState::Compromised, next));
    let still_to_come = &of(&done, &old).outlook;
    assert!(still_to_come.contains("destroyed as soon as its device answers"), "{still_to_come}");
    assert!(!appliance.verifier(ISSUER).await.kids().contains(&old));
    eventually("it is being destroyed", async || {
        (appliance.faulty().fired(&held) == 1).then_some(())
    })
    .await;
    appliance.faulty().remove(held).unwrap();
    becomes(&appliance, &old, KeyState::Destroyed).await;
}

#[tokio::test]
async fn a_key_in_a_parked_device_is_suspended_and_revoked_at_once() {
    let mut appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    let old = active(&keyset(&appliance).await);
    let right = appliance.token().pin();
    appliance.stop().await;
    appliance.token().write_pin_file("wrong");
    appliance.start().await;
    appliance.until_device(DEVICE, DeviceState::Parked).await;
    let custodian = appliance.custodian();
    let done = after(custodian.suspend(ISSUER, &old, "who changed the PIN?").await);
    assert_eq!(of(&done, &old).state(), KeyState::Suspended);
    let done = after(custodian.revoke(ISSUER, &old, RevokeFallback::Wait, "an intruder").await);
    let revoked = of(&done, &old);
    assert_eq!((revoked.state(), revoked.published), (KeyState::Compromised, false));
    assert!(revoked.outlook.contains("destroyed as soon as"), "{}", revoked.outlook);
    assert!(!appliance.verifier(ISSUER).await.kids().contains(&old));

    appliance.token().write_pin_file(&right);
    custodian.resume_device(DEVICE, "it was changed back").await.unwrap();
    eventually("it is destroyed after all", async || {
        let keyset = keyset(&appliance).await;
        (of(&keyset, &old).state() == KeyState::Destroyed).then_some(())
    })
    .await;
    let issuer = appliance.client().issuer(ISSUER);
    let token = eventually("the standby has matured and signs", async || {
        issuer.sign(claims::trade(1)).await.ok()
    })
    .await;
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
}

#[tokio::test]
async fn a_recovery_of_sound_keys_asks_no_device_and_delays_no_other_act() {
    let appliance = Appliance::softhsm().with_issuer(quick()).faulty().start_initialised().await;
    let kid = active(&keyset(&appliance).await);
    let held = appliance.faulty().add(on(Function::C_FindObjectsInit).blocks()).unwrap();
    let custodian = appliance.custodian();
    let refused = custodian.recover(ISSUER, "to keep others waiting").await.unwrap_err();
    assert_eq!(refused.reason(), "NOTHING_TO_RECOVER");
    let done = after(custodian.suspend(ISSUER, &kid, "").await);
    assert_eq!(of(&done, &kid).state(), KeyState::Suspended);
    appliance.faulty().remove(held).unwrap();
}
