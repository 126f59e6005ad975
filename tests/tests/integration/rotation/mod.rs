//! Keys that rotate by themselves while everything that can be killed is killed: no token that was valid
//! when it was released fails, no key is lost, none is doubled (I4 to I8).

mod clocks;
mod crashes;
mod kills;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mintwarden_client::api::{Key, KeyState};
use mintwarden_tests::{Appliance, ISSUER, PATIENCE};

use crate::custodian::keyset;

/// Keys that have a private half, by what the keyset says.
fn live(keys: &[Key]) -> impl Iterator<Item = &Key> {
    let dead = [KeyState::Destroyed, KeyState::Compromised, KeyState::Generating];
    keys.iter().filter(move |key| !dead.contains(&key.state()))
}

fn with_state(keys: &[Key], state: KeyState) -> impl Iterator<Item = &Key> {
    keys.iter().filter(move |key| key.state() == state)
}

/// One key signs, its standby is mature, and there is no other, nor one on its way.
fn steady(keys: &[Key]) -> bool {
    let mature = with_state(keys, KeyState::PreActive).filter(|key| key.mature).count();
    let active = with_state(keys, KeyState::Active).count();
    let destroyed = with_state(keys, KeyState::Destroyed).count();
    (active, mature, keys.len()) == (1, 1, 2 + destroyed)
}

/// Waits until no key is lost and none is doubled: what is published, what the device holds and what the
/// keyset says are the same. What a verifier may read of it may be a moment old; keys are at rest.
async fn tidy(appliance: &Appliance, what: &str) -> Vec<Key> {
    let limit = Instant::now() + PATIENCE;
    loop {
        let before = keyset(appliance).await;
        let differs = difference(appliance, &before.keys).await;
        if keyset(appliance).await.revision == before.revision && differs.is_none() {
            return before.keys;
        }
        let differs = differs.unwrap_or_default();
        assert!(Instant::now() < limit, "{what}: {differs}: {:?}", before.keys);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn difference(appliance: &Appliance, keys: &[Key]) -> Option<String> {
    let kids: BTreeSet<_> = keys.iter().map(|key| key.kid.as_str()).collect();
    if kids.len() != keys.len() {
        return Some("a key is there twice".into());
    }
    let published = appliance.verifier(ISSUER).await.kids();
    let says: BTreeSet<_> =
        keys.iter().filter(|key| key.published).map(|key| key.kid.clone()).collect();
    if published != says {
        return Some(format!("{published:?} are published"));
    }
    // A worker that is killed in making a key leaves a half at worst, which is an alarm and stays (I7).
    let objects = appliance.token().objects();
    let ids: BTreeSet<_> = objects.iter().map(|object| object.id.clone()).collect();
    let whole = |id: &&Vec<u8>| objects.iter().filter(|object| object.id == **id).count() == 2;
    let (pairs, live) = (ids.iter().filter(whole).count(), live(keys).count());
    let alarms = appliance.status().await.issuers.remove(0).alarms;
    let left = alarms.iter().filter(|alarm| alarm.contains("may hold an unused object")).count();
    let halves = ids.len() - pairs;
    (pairs != live || halves > left)
        .then(|| format!("{pairs} pairs and {halves} halves are in the device, {live} are in use"))
}
