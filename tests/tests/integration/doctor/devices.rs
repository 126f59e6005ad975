//! What a device and its PKCS#11 token are examined for.

use std::fs;

use faulty_pkcs11::{Action, Ckr, Function, on};
use mintwarden_client::api::DeviceState;
use mintwarden_tests::{Appliance, DEVICE, ISSUER};

use super::{edit, logins};

/// `CKF_USER_PIN_COUNT_LOW` (PKCS#11 v3.1 section 3.2).
const PIN_COUNT_LOW: u64 = 0x0001_0000;
/// `CKF_USER_PIN_FINAL_TRY`.
const PIN_FINAL_TRY: u64 = 0x0002_0000;

#[tokio::test]
async fn i10_a_wrong_pin_costs_one_attempt_however_often_the_doctor_comes() {
    let mut appliance = Appliance::softhsm().faulty().start_initialised().await;
    appliance.stop().await;
    appliance.token().write_pin_file("0123456789abcdef");
    let before = logins(appliance.faulty());
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let login = examination.worst("device.login");
    assert_eq!((&*login.verdict, &*login.subject), ("fault", DEVICE));
    assert!(login.found.contains("LOGIN_FAILED"), "{login:?}");
    assert_eq!(logins(appliance.faulty()), before + 1);

    for _ in 0..3 {
        let examination = appliance.doctor(&[]).await;
        assert!(examination.worst("device.login").found.contains("LOGIN_PENDING"));
        // What can be known without a login is known all the same.
        for (check, verdict) in [
            ("device.module", "ok"),
            ("device.token", "ok"),
            ("device.mechanism", "ok"),
            // SoftHSM notes that a wrong PIN was given.
            ("device.pin", "warning"),
        ] {
            assert_eq!(examination.worst(check).verdict, verdict, "{}", examination.text);
        }
        assert_eq!(examination.worst("key.recorded").verdict, "skipped");
        assert_eq!(examination.worst("issuer.signs").verdict, "fault");
    }
    appliance.start().await;
    appliance.until_device(DEVICE, DeviceState::Parked).await;
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let state = examination.worst("device.state");
    assert!(state.found.starts_with("parked: LOGIN_PENDING"), "{state:?}");
    assert!(state.remedy.contains("mintwardenctl device resume hsm-a"), "{state:?}");
    assert_eq!(examination.worst("device.token").verdict, "ok");
    assert_eq!(logins(appliance.faulty()), before + 1);
}

#[tokio::test]
async fn i7_records_without_objects_and_objects_without_records_are_told() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let kids = appliance.kids(ISSUER).await;
    appliance.stop().await;
    // Another PKCS#11 token in the place of the one with the keys.
    appliance.token().add("elsewhere");
    edit(&appliance, |config| config["device"][0]["token_label"] = "elsewhere".into());
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let absent = examination.of("key.recorded");
    assert_eq!(absent.len(), kids.len());
    for finding in absent {
        assert_eq!(finding.verdict, "fault", "{finding:?}");
        assert!(finding.found.contains("shows no object"), "{finding:?}");
    }
    assert_eq!(examination.worst("issuer.signs").verdict, "fault");

    // The right one, and the store lost.
    edit(&appliance, |config| config["device"][0]["token_label"] = DEVICE.into());
    fs::remove_file(appliance.file("state/server/keysets.redb")).unwrap();
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(0), "{:?}", examination.faults());
    let strays = examination.of("key.stray");
    assert_eq!(strays.len(), kids.len());
    assert!(strays.iter().all(|finding| finding.verdict == "warning"), "{strays:?}");
    assert!(!appliance.file("state/server/keysets.redb").exists(), "the doctor made a store");
}

#[tokio::test]
async fn a_pkcs11_token_that_is_not_there_is_named_with_those_that_are() {
    let appliance = Appliance::softhsm()
        .with(|config| config["device"][0]["token_label"] = "elsewhere".into())
        .prepare();
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.code, Some(1));
    let token = examination.worst("device.token");
    assert!(token.found.contains("TOKEN_ABSENT") && token.found.contains(DEVICE), "{token:?}");
    assert!(token.remedy.contains("token_label"), "{token:?}");
    assert_eq!(examination.worst("device.module").verdict, "ok");
}

#[tokio::test]
async fn a_missing_mechanism_is_named() {
    let appliance = Appliance::softhsm().faulty().prepare();
    let rule = on(Function::C_GetMechanismInfo).fails(Ckr::CKR_MECHANISM_INVALID);
    appliance.faulty().add(rule).unwrap();
    let mechanism = appliance.doctor(&[]).await.worst("device.mechanism");
    assert_eq!(mechanism.verdict, "fault");
    assert!(mechanism.found.contains("CKM_ECDSA"), "{mechanism:?}");
    assert!(!mechanism.remedy.is_empty());
}

#[tokio::test]
async fn wrong_pins_that_the_device_counts_are_told() {
    let appliance = Appliance::softhsm().faulty().start_initialised().await;
    for (set, verdict, said) in [
        (PIN_COUNT_LOW, "warning", "CKF_USER_PIN_COUNT_LOW"),
        (PIN_COUNT_LOW | PIN_FINAL_TRY, "fault", "CKF_USER_PIN_FINAL_TRY"),
    ] {
        let flags = Action::TokenFlags { set, clear: 0 };
        let rule = appliance.faulty().add(on(Function::C_GetTokenInfo).does(flags)).unwrap();
        let pin = appliance.doctor(&[]).await.worst("device.pin");
        assert_eq!(pin.verdict, verdict, "{pin:?}");
        assert!(pin.found.contains(said), "{pin:?}");
        appliance.faulty().remove(rule).unwrap();
    }
    assert_eq!(appliance.doctor(&[]).await.worst("device.pin").verdict, "ok");
}

#[tokio::test]
async fn i9_a_device_that_hangs_is_told_and_does_not_hold_the_doctor() {
    let appliance = Appliance::softhsm().faulty().start_initialised().await;
    let hangs = appliance.faulty().add(on(Function::C_GetTokenInfo).blocks()).unwrap();
    let examination = appliance.doctor(&["--within", "500ms"]).await;
    assert_eq!(examination.code, Some(1));
    let state = examination.worst("device.state");
    assert!(state.found.contains("did not answer in time"), "{state:?}");
    // Everything else is examined all the same.
    assert_eq!(examination.worst("jwks.served").verdict, "ok");
    appliance.faulty().remove(hangs).unwrap();
}
