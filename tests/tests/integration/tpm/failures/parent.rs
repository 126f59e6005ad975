//! I1: who answers in the TPM's place with a storage key of his own learns no authorisation value: what would be
//! encrypted for it is not sent.

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{
    Appliance, ISSUER, TPM, claims, eventually,
    tpm::{TpmCommand, on},
};

use super::struck::Struck;
use crate::{
    custodian::quick,
    tpm::setup::{STORAGE_KEY, with_parent},
};

impl Struck {
    /// What is encrypted for the storage key is a session's salt; all else is encrypted in a session that began so.
    fn entrusted(&self) -> u64 {
        self.relay().count(TpmCommand::StartAuthSession)
    }

    async fn parks(&self) {
        let device = self.until(DeviceState::Parked).await;
        assert_eq!(device.reason, "PARENT_MISMATCH", "{}", device.detail);
        for word in ["something answers in its place", "mintwardenctl device resume tpm-a"] {
            assert!(device.detail.contains(word), "{word} is not in: {}", device.detail);
        }
    }
}

#[tokio::test]
async fn i1_another_tpm_in_its_place_is_entrusted_with_nothing_before_a_custodian_accepts_it() {
    let mut struck = Struck::with(Appliance::swtpm().with_issuer(quick())).await;
    // Under the worker's feet: it makes a new connection, in the same process or in the next.
    let first = struck.appliance.tpm().replace();
    let entrusted = struck.entrusted();
    struck.sign(1).await.unwrap_err();
    struck.parks().await;
    struck.appliance.kill_server().await;
    struck.parks().await;
    struck.appliance.kill_launcher().await;
    struck.appliance.start().await;
    struck.parks().await;
    assert_eq!(struck.entrusted(), entrusted);

    // It is back.
    struck.appliance.stop().await;
    let second = struck.appliance.tpm().put_back(&first);
    struck.appliance.start().await;
    struck.ready().await;
    struck.all_sign().await;

    // And gone for good: its keys are lost, others are made.
    struck.appliance.stop().await;
    struck.appliance.tpm().put_back(&second);
    struck.appliance.start().await;
    struck.parks().await;
    struck.appliance.ctl(["device", "resume", TPM]).run().await.success();
    struck.ready().await;
    eventually("other keys sign", async || {
        let client = struck.appliance.client();
        let token = client.issuer(ISSUER).sign(claims::trade(2)).await.ok()?;
        let verifier = struck.appliance.verifier(ISSUER).await;
        (verifier.verify(&token).ok()?.kid != struck.kid).then_some(())
    })
    .await;
}

/// The public area is what a session would be salted for; the name that comes with it is left as it is, and of the
/// first of them libtss2 itself sees it.
#[tokio::test]
async fn i1_a_public_area_that_was_changed_on_the_way_is_entrusted_with_nothing() {
    for (command, parent) in [(TpmCommand::CreatePrimary, false), (TpmCommand::ReadPublic, true)] {
        let builder = Appliance::swtpm().faulty();
        let mut appliance =
            if parent { with_parent(builder, STORAGE_KEY) } else { builder.prepare() };
        appliance.start().await;
        appliance.init(ISSUER).await;
        let mut struck = Struck::of(appliance).await;
        struck.all_sign().await;
        struck.appliance.stop().await;
        let entrusted = struck.entrusted();
        // In the middle of the key's `unique`.
        let rule = struck.relay().add(on(command).flips(60));
        struck.appliance.start().await;
        if parent {
            struck.parks().await;
        } else {
            eventually("it is told", async || {
                (struck.device().await.reason == "MALFORMED").then_some(())
            })
            .await;
        }
        assert_eq!(struck.entrusted(), entrusted, "{command:?}");
        assert_ne!(struck.relay().remove(rule), 0);
        struck.appliance.stop().await;
        struck.appliance.start().await;
        struck.ready().await;
        struck.all_sign().await;
    }
}
