//! Devices that misbehave on command.

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    Appliance, DEVICE, ISSUER, claims,
    faulty::{Ckr, Function, on},
};

#[tokio::test]
async fn a_device_behind_the_faulty_module_signs_and_is_counted() {
    let appliance = Appliance::softhsm().faulty().start_initialised().await;
    let faulty = appliance.faulty();
    let fails = on(Function::C_Sign).once().fails(Ckr::CKR_DEVICE_ERROR);
    let fails = faulty.add(fails).unwrap();
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
    assert_eq!(faulty.fired(&fails), 1);
    // The worker was started again, and each of the two logged in once.
    let device = appliance.until_device(DEVICE, DeviceState::Ready).await;
    assert_eq!((device.starts, faulty.calls(Function::C_Login)), (2, 2));
}

#[tokio::test]
async fn a_call_that_hangs_costs_a_worker_and_the_batch_is_signed_by_the_next() {
    let timeout = |config: &mut toml::Table| {
        let device = config["device"][0].as_table_mut().unwrap();
        device.insert("device_call_timeout".into(), "300ms".into());
    };
    let appliance = Appliance::softhsm().faulty().with(timeout).start_initialised().await;
    let faulty = appliance.faulty();
    let hangs = faulty.add(on(Function::C_Sign).once().blocks()).unwrap();
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
    assert_eq!(faulty.fired(&hangs), 1);
    let device = appliance.until_device(DEVICE, DeviceState::Ready).await;
    assert_eq!((device.starts, faulty.calls(Function::C_Login)), (2, 2));
}
