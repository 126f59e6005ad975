//! A store that was emptied or put back from a copy.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use mintwarden_client::api::{DeviceState, KeyState, Keyset, RevokeFallback};
use mintwarden_tests::{Appliance, Builder, DEVICE, ISSUER, Verifier, claims, eventually};

use super::{active, after, in_state, keyset, mature, of, quick};

const SHORT: Duration = Duration::from_millis(500);

/// Copies a directory with its owner, permissions and times, as a backup does.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
}

/// Nothing signs, and no JWK Set is served.
async fn withdrawn(appliance: &Appliance) {
    let issuer = appliance.client().issuer(ISSUER);
    issuer.sign_within(claims::trade(1), SHORT).await.unwrap_err();
    issuer.jwks().await.unwrap_err();
}

/// Every key that was published before is verified with, none signs.
fn verify_only(keyset: &Keyset, kids: &BTreeSet<String>) {
    for kid in kids {
        let key = of(keyset, kid);
        assert_eq!((key.state(), key.published), (KeyState::Deactivated, true), "{key:?}");
    }
}

/// A key that did not exist before signs once it is mature, and earlier verifiers of the recovered set
/// believe it.
async fn new_keys_sign(appliance: &Appliance, old: &BTreeSet<String>, verifier: &Verifier) {
    let issuer = appliance.client().issuer(ISSUER);
    let token =
        eventually("a new key signs", async || issuer.sign(claims::trade(2)).await.ok()).await;
    assert!(!old.contains(&verifier.verify(&token).unwrap().kid));
}

#[tokio::test]
async fn i8_after_a_lost_store_recover_makes_old_keys_verify_only_and_new_ones_sign_when_mature() {
    lost_store(Appliance::softhsm()).await;
}

/// A TPM stores no key; its worker knows which it has made.
#[tokio::test]
async fn i8_after_a_lost_store_a_tpms_keys_are_recovered_as_well() {
    lost_store(Appliance::swtpm()).await;
}

async fn lost_store(builder: Builder) {
    let mut appliance = builder.with_issuer(quick()).start_initialised().await;
    let old = appliance.verifier(ISSUER).await.kids();
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.stop().await;
    fs::remove_dir_all(appliance.file("state/server")).unwrap();
    appliance.start().await;
    withdrawn(&appliance).await;
    let custodian = appliance.custodian();
    assert_eq!(custodian.init(ISSUER, "").await.unwrap_err().reason(), "KEYS_IN_DEVICE");

    let done = after(custodian.recover(ISSUER, "the disk died").await);
    verify_only(&done, &old);
    assert!(in_state(&done, KeyState::Active).is_empty(), "nothing signs before it is mature");
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
    let again = custodian.recover(ISSUER, "").await.unwrap_err();
    assert_eq!(again.reason(), "NOTHING_TO_RECOVER");
    let verifier = eventually("a new key is published", async || {
        let verifier = appliance.verifier(ISSUER).await;
        (verifier.kids().len() > old.len() + 1).then_some(verifier)
    })
    .await;
    new_keys_sign(&appliance, &old, &verifier).await;
}

#[tokio::test]
async fn i8_a_store_put_back_from_a_copy_gives_no_revoked_key_back() {
    let mut appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    appliance.stop().await;
    let (store, backup) = (appliance.file("state/server"), appliance.file("backup"));
    copy(&store, &backup);
    appliance.start().await;
    let revoked = active(&keyset(&appliance).await);
    let next = mature(&appliance).await;
    let custodian = appliance.custodian();
    after(custodian.revoke(ISSUER, &revoked, RevokeFallback::Unspecified, "stolen").await);
    eventually("its private key is destroyed, the next standby made", async || {
        let keyset = keyset(&appliance).await;
        let destroyed = of(&keyset, &revoked).state() == KeyState::Destroyed;
        (destroyed && in_state(&keyset, KeyState::PreActive).len() == 1).then_some(())
    })
    .await;
    let published = appliance.verifier(ISSUER).await.kids();
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.stop().await;

    fs::remove_dir_all(&store).unwrap();
    copy(&backup, &store);
    appliance.start().await;
    withdrawn(&appliance).await;
    let status = appliance.status().await.issuers.remove(0);
    assert!(status.alarms.iter().any(|alarm| alarm.contains("recover")), "{:?}", status.alarms);
    let custodian = appliance.custodian();
    for refused in [
        custodian.init(ISSUER, "").await,
        custodian.rotate(ISSUER, None, "").await,
        custodian.danger_activate_immature(ISSUER, &next, "").await,
        custodian.resume(ISSUER, &revoked, "").await,
    ] {
        assert_eq!(refused.unwrap_err().reason(), "RESTORED");
    }

    let done = after(custodian.recover(ISSUER, "put back from the copy of tonight").await);
    verify_only(&done, &published);
    let gone = of(&done, &revoked);
    assert!(!gone.published, "the copy had it as active: {gone:?}");
    let verifier = appliance.verifier(ISSUER).await;
    assert!(!verifier.kids().contains(&revoked));
    verifier.verify(&token).unwrap();
    mature(&appliance).await;
    new_keys_sign(&appliance, &published, &appliance.verifier(ISSUER).await).await;
}

#[tokio::test]
async fn i8_a_store_that_a_copy_was_written_over_does_not_sign_and_killing_the_server_is_no_copy() {
    let mut appliance = Appliance::softhsm().with_issuer(quick()).start_initialised().await;
    // Each act is a few commits, and the server dies at some moment among them.
    for round in 0..5 {
        let custodian = appliance.custodian();
        let act = custodian.rotate(ISSUER, None, "");
        let _cut_off = tokio::time::timeout(Duration::from_millis(5 * round), act).await;
        appliance.kill_server().await;
        eventually("it signs", async || {
            appliance.client().issuer(ISSUER).sign(claims::trade(round)).await.ok()
        })
        .await;
    }
    appliance.stop().await;
    let (store, backup) = (appliance.file("state/server"), appliance.file("backup"));
    copy(&store, &backup);
    appliance.start().await;
    let (custodian, revoked) = (appliance.custodian(), active(&keyset(&appliance).await));
    mature(&appliance).await;
    after(custodian.revoke(ISSUER, &revoked, RevokeFallback::Unspecified, "stolen").await);
    appliance.stop().await;
    // What keeps the inode of every file.
    copy(&backup.join("."), &store);
    appliance.start().await;
    withdrawn(&appliance).await;
    let refused = appliance.custodian().resume(ISSUER, &revoked, "").await.unwrap_err();
    assert_eq!(refused.reason(), "RESTORED");
}

#[tokio::test]
async fn recovering_with_immature_keys_signs_at_once() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let old = appliance.verifier(ISSUER).await.kids();
    appliance.stop().await;
    fs::remove_dir_all(appliance.file("state/server")).unwrap();
    appliance.start().await;
    let custodian = appliance.custodian();
    let done = after(custodian.danger_recover_immature(ISSUER, "no token for an hour?").await);
    verify_only(&done, &old);
    let kid = active(&done);
    assert!(!old.contains(&kid));
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    assert_eq!(appliance.verifier(ISSUER).await.verify(&token).unwrap().kid, kid);
}

#[tokio::test]
async fn recovery_needs_all_devices_and_is_refused_at_once_without_one() {
    let mut appliance = Appliance::softhsm()
        .with_device(DEVICE)
        .with_device("hsm-b")
        .with_issuer(quick())
        .start_initialised()
        .await;
    let old = appliance.verifier(ISSUER).await.kids();
    let right = appliance.token_of("hsm-b").pin();
    appliance.stop().await;
    fs::remove_dir_all(appliance.file("state/server")).unwrap();
    appliance.token_of("hsm-b").write_pin_file("wrong");
    appliance.start().await;
    appliance.until_device("hsm-b", DeviceState::Parked).await;
    let custodian = appliance.custodian();
    let refused = custodian.recover(ISSUER, "").await.unwrap_err();
    assert_eq!(refused.reason(), "ACT_FAILED");
    assert!(refused.to_string().contains("hsm-b"), "{refused}");
    withdrawn(&appliance).await;

    appliance.token_of("hsm-b").write_pin_file(&right);
    custodian.resume_device("hsm-b", "").await.unwrap();
    appliance.until_device("hsm-b", DeviceState::Ready).await;
    verify_only(&after(custodian.recover(ISSUER, "").await), &old);
}

#[tokio::test]
async fn a_second_server_on_one_state_directory_is_refused_and_the_first_goes_on() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let second = Command::new(appliance.program("mintwarden"))
        .arg("--config")
        .arg(appliance.config())
        .env_clear()
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("state_dir") || said.contains("state directory"), "{said}");
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
}
