//! I10: an authorisation that is refused parks, and is not tried again by itself over any kind of restart. And
//! what others do to the TPM's count of wrong ones is not about issuers' keys.

use std::fs;

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    TPM, eventually,
    tpm::{Rc, TpmCommand, on},
};

use super::struck::Struck;

/// What tries an authorisation value.
const TRIES: [TpmCommand; 2] = [TpmCommand::PolicySecret, TpmCommand::Sign];

impl Struck {
    fn tries(&self) -> u64 {
        TRIES.iter().map(|command| self.relay().count(*command)).sum()
    }

    /// Restarts of every kind leave it parked, and none of them tries the secret.
    async fn stays_parked(&mut self) {
        let tries = self.tries();
        self.appliance.kill_server().await;
        self.until(DeviceState::Parked).await;
        self.appliance.kill_launcher().await;
        self.appliance.start().await;
        self.until(DeviceState::Parked).await;
        self.appliance.stop().await;
        self.appliance.start().await;
        let device = self.until(DeviceState::Parked).await;
        assert_eq!((&*device.reason, self.tries()), ("LOGIN_PENDING", tries), "not one more");
        self.sign(1).await.unwrap_err();
    }

    async fn resume(&self) {
        self.appliance.ctl(["device", "resume", TPM]).run().await.success();
    }
}

#[tokio::test]
async fn i10_a_device_secret_that_was_replaced_parks_and_is_not_tried_again() {
    let mut struck = Struck::new().await;
    let file = struck.appliance.tpm().secret_file();
    let right = fs::read(&file).unwrap();
    fs::write(&file, "0".repeat(64)).unwrap();
    struck.all_sign().await;
    struck.appliance.kill_worker().await;
    let device = struck.until(DeviceState::Parked).await;
    assert_eq!(device.reason, "LOGIN_FAILED");
    for word in ["device secret is not the one", "mintwardenctl device resume tpm-a"] {
        assert!(device.detail.contains(word), "{word} is not in: {}", device.detail);
    }
    struck.stays_parked().await;

    // An operator's word is worth one try.
    let tries = struck.tries();
    struck.resume().await;
    eventually("it is tried once more", async || (struck.tries() > tries).then_some(())).await;
    let device = struck.until(DeviceState::Parked).await;
    assert_eq!(device.reason, "LOGIN_FAILED");
    struck.stays_parked().await;

    // The right one needs no word.
    fs::write(&file, right).unwrap();
    struck.appliance.stop().await;
    struck.appliance.start().await;
    struck.ready().await;
    struck.all_sign().await;
}

#[tokio::test]
async fn i10_an_authorisation_that_is_refused_at_a_signature_parks_and_is_not_tried_again() {
    let mut struck = Struck::new().await;
    let refused = struck.relay().add(on(TpmCommand::Sign).once().answers(Rc::BAD_AUTH));
    struck.sign(1).await.unwrap_err();
    assert_eq!(struck.relay().remove(refused), 1);
    let device = struck.until(DeviceState::Parked).await;
    assert_eq!(device.reason, "LOGIN_FAILED");
    for word in ["TPM_RC_BAD_AUTH", "mintwardenctl device resume tpm-a"] {
        assert!(device.detail.contains(word), "{word} is not in: {}", device.detail);
    }
    struck.stays_parked().await;
    struck.resume().await;
    struck.ready().await;
    struck.all_sign().await;
}

#[tokio::test]
async fn a_lockout_that_a_foreign_key_provokes_stops_no_key_of_ours() {
    let mut struck = Struck::new().await;
    struck.appliance.stop().await;
    let tpm = struck.appliance.tpm();
    let context = struck.appliance.file("foreign.ctx").display().to_string();
    let of_key = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt";
    let primary = ["tpm2_createprimary", "-C", "o", "-p", "right", "-a", of_key, "-c", &context];
    let _described = tpm.tool(&primary);
    let create = |password| {
        let _nothing = tpm.tool(&["tpm2_flushcontext", "-t"]);
        tpm.try_tool(&["tpm2_create", "-Q", "-C", &context, "-P", password])
    };
    create("right").expect("it is the foreign key's");
    for _ in 0..4 {
        create("wrong").unwrap_err();
    }
    let in_lockout = || tpm.tool(&["tpm2_getcap", "properties-variable"]);
    assert!(in_lockout().contains("inLockout:                 1"), "{}", in_lockout());
    create("right").expect_err("what is protected cannot be used even with what is right");

    struck.appliance.start().await;
    struck.ready().await;
    struck.all_sign().await;
    let old = struck.replace_standby().await;
    let new = struck.other_standby(&old).await;
    assert!(!struck.verifier.kids().contains(&new));
    let lockout = struck.appliance.doctor(&[]).await;
    assert_eq!(lockout.worst("device.lockout").verdict, "warning", "{}", lockout.text);
    struck.appliance.stop().await;
    let still = struck.appliance.tpm().tool(&["tpm2_getcap", "properties-variable"]);
    assert!(still.contains("inLockout:                 1"), "{still}");
}
