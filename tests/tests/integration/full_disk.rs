//! The disk of the store is full: keys that exist sign on, and what would change a key is refused, nothing of it
//! half done (I8). Once there is room all is well, without a restart.

use mintwarden_client::api::KeyState;
use mintwarden_tests::{Appliance, ISSUER, claims, disk::Disk, eventually};

use crate::custodian::{active, keyset, quick, standby};

async fn signs_with(appliance: &Appliance, kid: &str, number: u64) {
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(number)).await.unwrap();
    assert_eq!(appliance.verifier(ISSUER).await.verify(&token).unwrap().kid, kid, "{number}");
}

async fn suspend_is_refused(appliance: &Appliance, kid: &str) {
    let error = appliance.custodian().suspend(ISSUER, kid, "a test").await.unwrap_err();
    assert_eq!(error.reason(), "ACT_FAILED", "{error}");
}

async fn starts_on_record(appliance: &Appliance) -> usize {
    let entries = appliance.custodian().acts(None, 0, 0).await.unwrap().entries;
    entries.iter().filter(|entry| entry.kind == "started").count()
}

/// What a full disk costs.
async fn costs_what_would_change(
    appliance: &mut Appliance,
    restarts: usize,
    fill: impl Fn(&Appliance),
    make_room: impl Fn(&Appliance),
) {
    let keys = keyset(appliance).await;
    let (signs, spare) = (active(&keys), standby(&keys).kid.clone());
    let starts = starts_on_record(appliance).await;
    signs_with(appliance, &signs, 1).await;

    fill(appliance);
    signs_with(appliance, &signs, 2).await;
    // More than once: the first error is not the last word.
    suspend_is_refused(appliance, &spare).await;
    suspend_is_refused(appliance, &spare).await;
    signs_with(appliance, &signs, 3).await;
    for _ in 0..restarts {
        appliance.kill_server().await;
        signs_with(appliance, &signs, 4).await;
        suspend_is_refused(appliance, &spare).await;
    }
    assert_eq!(standby(&keyset(appliance).await).kid, spare, "nothing of it was done");
    eventually("it is an alarm", async || {
        let alarms = appliance.status().await.issuers.remove(0).alarms;
        alarms.iter().any(|alarm| alarm.contains("the store: ")).then_some(())
    })
    .await;

    make_room(appliance);
    let told = appliance.custodian().suspend(ISSUER, &spare, "a test").await.unwrap();
    let stopped = told.keyset.unwrap().keys.into_iter().find(|key| key.kid == spare).unwrap();
    assert_eq!(stopped.state(), KeyState::Suspended);
    signs_with(appliance, &signs, 5).await;
    eventually("the alarm is over", async || {
        let alarms = appliance.status().await.issuers.remove(0).alarms;
        (!alarms.iter().any(|alarm| alarm.contains("the store: "))).then_some(())
    })
    .await;
    if restarts != 0 {
        eventually("the last start is on record", async || {
            (starts_on_record(appliance).await == starts + 1).then_some(())
        })
        .await;
    }
    // It is the same store: nothing of it is a copy (I8).
    appliance.kill_server().await;
    signs_with(appliance, &signs, 6).await;
}

/// Nothing of the file can be written, not even where it has been before.
#[tokio::test]
async fn i8_a_store_that_cannot_be_written_stops_no_key_and_heals_without_a_restart() {
    let builder = Appliance::softhsm().with_issuer(quick()).faulty_store();
    let mut appliance = builder.start_initialised().await;
    costs_what_would_change(
        &mut appliance,
        0,
        |appliance| appliance.store().fill().unwrap(),
        |appliance| appliance.store().make_room().unwrap(),
    )
    .await;
}

/// A server that starts meanwhile comes up too. Only root can mount a disk; the test above needs none.
#[tokio::test]
async fn i8_a_disk_that_is_really_full_stops_no_key_and_heals_without_a_restart() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut appliance = Appliance::softhsm().with_issuer(quick()).prepare();
    let disk = Disk::mount(&appliance.file("state/server"), 8192);
    appliance.start().await;
    appliance.init(ISSUER).await;
    costs_what_would_change(&mut appliance, 2, |_| disk.fill(), |_| disk.make_room()).await;
    appliance.stop().await;
}
