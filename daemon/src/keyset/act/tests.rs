//! Acts in odd circumstances, each found by the model test (`sim::model`).

use std::time::Duration;

use mintwarden_worker::device::KeyHandle;

use super::{CustodianAct, Fallback};
use crate::{
    clock::UnixTime,
    keyset::{
        Key, KeyState, Keyset, Leftover, Phase, Policy,
        sim::{Mishap, policy, world::World},
    },
};

/// R + P + S, and a tick or two.
const MATURE: Duration = Duration::from_secs(117);
const RECOVER: CustodianAct = CustodianAct::Recover { danger_immature: false };

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn active(world: &World) -> Key {
    world.keyset().active("a").expect("a key signs").0.clone()
}

fn kid(key: &Key) -> String {
    key.kid().expect("it is made").to_string()
}

/// The key as it is now.
fn now(world: &World, key: &Key) -> Key {
    world.keyset().by_handle(&key.handle).expect("it is on record").clone()
}

#[test]
fn i5_recover_takes_nothing_back_that_a_lost_device_signed() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(10));
    let signed = active(&world);
    let copy = world.keyset();
    world.put_back(Some(&copy));
    let mut lost = policy(&["b"]);
    lost.lost_devices = vec!["a".into()];
    world.configure(lost);
    world.start();
    world.order(&RECOVER).expect("it was put back");
    assert_eq!(now(&world, &signed).state, KeyState::Deactivated);
    assert!(now(&world, &signed).is_published(), "nobody says that it was revoked");
    world.run(MATURE);
    world.assert_well();
}

#[test]
fn i5_recover_publishes_what_was_being_made_when_the_copy_was_made() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    world.slow = true;
    world.order(&CustodianAct::Rotate { device: None }).expect("an active key");
    let copy = world.keyset();
    let being_made = |key: &&Key| key.state == KeyState::Generating;
    let intent = copy.keys.iter().find(being_made).expect("the next standby").clone();
    world.slow = false;
    world.run(seconds(310));
    assert_eq!(active(&world).handle, intent.handle, "it has come to sign since");
    world.put_back(Some(&copy));
    world.start();
    world.order(&RECOVER).expect("it was put back");
    assert_eq!(now(&world, &intent).state, KeyState::Deactivated);
    assert!(now(&world, &intent).is_published());
    world.run(seconds(30));
}

#[test]
fn i1_recover_publishes_no_pair_with_a_defect_and_comes_to_its_end() {
    let mut world = World::new(policy(&["a"]));
    world.devices.with("a", |sim| sim.mishap = Some(Mishap::Defect));
    world.order(&CustodianAct::Init).expect("nothing was published");
    world.run(seconds(1));
    world.devices.with("a", |sim| sim.mishap = None);
    world.run(seconds(5));
    let spoilt = world.keyset().leftovers;
    assert!(!spoilt.is_empty());
    world.put_back(None);
    world.start();
    world.order(&CustodianAct::Recover { danger_immature: true }).expect("keys in the device");
    world.run(seconds(5));
    let keyset = world.keyset();
    assert_eq!(keyset.phase, Phase::Published);
    let named = |keyset: &Keyset| keyset.leftovers.iter().map(|l| l.handle.clone()).collect();
    let handles: Vec<_> = named(&keyset);
    assert!(spoilt.iter().all(|left| handles.contains(&left.handle)), "{:?}", keyset.leftovers);
    assert!(!keyset.keys.iter().any(|key| handles.contains(&key.handle)));
}

#[test]
fn rotate_allows_more_attempts_where_no_key_signs() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    world.put_back(None);
    world.devices.with("a", |sim| sim.mishap = Some(Mishap::Defect));
    world.start();
    world.order(&RECOVER).expect("keys in the device");
    world.run(seconds(60));
    let keyset = world.keyset();
    assert!(keyset.active("a").is_none() && keyset.leftovers.len() == Keyset::ATTEMPTS);
    world.devices.with("a", |sim| sim.mishap = None);
    world.order(&CustodianAct::Rotate { device: None }).expect("what the alarm names");
    world.run(MATURE);
    world.assert_well();
}

#[test]
fn i9_the_leftovers_of_a_lifetime_are_no_end_of_making_keys() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let leftover = |n: u8| Leftover {
        device: "a".into(),
        handle: KeyHandle::new(vec![n; 16]),
        reason: "the device shows no object of it".into(),
        at: UnixTime(0),
        settled: false,
    };
    world.crash();
    let leftovers = (1..=64).map(leftover).collect();
    world.store.put(Some(Keyset { leftovers, ..world.keyset() }));
    world.start();
    let (made, before) = (world.devices.lock().made, active(&world));
    world.run(Duration::from_secs(400));
    assert_eq!(world.devices.lock().made, made, "nobody has looked at them");
    assert_eq!(active(&world).handle, before.handle, "without a standby it goes on (I6)");
    world.order(&CustodianAct::Rotate { device: None }).expect("what the alarm names");
    world.run(MATURE);
    assert_ne!(active(&world).handle, before.handle);
    // Further attempts that fail take the place of the oldest.
    world.devices.with("a", |sim| sim.mishap = Some(Mishap::Defect));
    world.run(Duration::from_secs(600));
    let leftovers = world.keyset().leftovers;
    assert_eq!(leftovers.len(), Policy::MAX_LEFTOVERS);
    assert_eq!(leftovers.iter().filter(|left| !left.settled).count(), Keyset::ATTEMPTS);
    world.devices.with("a", |sim| sim.mishap = None);
    world.order(&CustodianAct::Rotate { device: None }).expect("what the alarm names");
    world.run(MATURE);
    world.assert_well();
}

#[test]
fn a_held_key_that_is_revoked_leaves_its_successor_alone() {
    let mut world = World::initialised(policy(&["a"]));
    let held = active(&world);
    world.order(&CustodianAct::Suspend { kid: kid(&held) }).expect("active");
    let standby = world.keyset().keys.iter().find(|key| key.is_standby()).expect("one").clone();
    let activate = CustodianAct::Activate { kid: kid(&standby), danger_immature: true };
    world.order(&activate).expect("said to be dangerous");
    world.run(MATURE);
    assert_eq!(active(&world).handle, standby.handle);
    // By now there is a mature standby, which nobody asked for.
    let fallback = Some(Fallback::DangerImmature);
    world.order(&CustodianAct::Revoke { kid: kid(&held), fallback }).expect("suspended");
    assert_eq!(active(&world).handle, standby.handle, "one key signs, and it is the same");
}

#[test]
fn a_standby_that_its_device_has_lost_is_not_activated() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let (signs, keyset) = (active(&world), world.keyset());
    let standby = keyset.keys.iter().find(|key| key.is_standby()).expect("a standby");
    let pair = world.devices.with("a", |sim| {
        sim.starts += 1;
        sim.keys.remove(&standby.handle).expect("it was there")
    });
    world.run(seconds(2));
    let activate = CustodianAct::Activate { kid: kid(standby), danger_immature: false };
    world.order(&activate).expect("it is mature");
    world.run(seconds(10));
    assert_eq!(active(&world).handle, signs.handle, "nothing takes its place");
    // As soon as it is shown again, what the custodian wants is done.
    world.devices.with("a", |sim| {
        sim.starts += 1;
        sim.keys.insert(standby.handle.clone(), pair);
    });
    world.run(seconds(2));
    assert_eq!(active(&world).handle, standby.handle);
}

#[test]
fn i4_nothing_is_served_while_nothing_is_published() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(10));
    let copy = world.keyset();
    world.put_back(Some(&copy));
    world.start();
    let before = world.keeper().now().moment.served;
    world.run(seconds(60));
    assert_eq!(world.keeper().now().moment.served, before);
    assert_eq!(world.keeper().now().uninterrupted, Duration::ZERO);
}
