//! What became of an act whose circumstances have changed, or that one person says again and again.

use std::time::Duration;

use mintwarden_worker::device::KeyHandle;

use super::{CustodianAct, Fallback};
use crate::keyset::{
    Key, KeyState, Policy, Wish, WishedFor,
    precaution::Precaution,
    sim::{Mishap, policy, world::World},
};

/// R + P + S, and a tick or two.
const MATURE: Duration = Duration::from_secs(117);

fn active(world: &World) -> Option<Key> {
    world.keyset().active("a").map(|(key, _)| key.clone())
}

fn kid(key: &Key) -> String {
    key.kid().expect("it is made").to_string()
}

fn standby(world: &World) -> Key {
    world.keyset().keys.iter().find(|key| key.is_standby()).expect("a standby").clone()
}

fn now(world: &World, handle: &KeyHandle) -> Key {
    world.keyset().by_handle(handle).expect("it is on record").clone()
}

/// A world in which a standby was to be activated, and waits: its device makes no standby after it.
fn waiting() -> (World, Key, Key) {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    world.devices.with("a", |sim| sim.mishap = Some(Mishap::Defect));
    let (signs, next) = (active(&world).expect("it signs"), standby(&world));
    let activate = CustodianAct::Activate { kid: kid(&next), danger_immature: false };
    world.order(&activate).expect("it is mature");
    world.run(Duration::from_secs(30));
    assert_eq!(active(&world), Some(now(&world, &signs.handle)), "it waits");
    assert!(now(&world, &next.handle).wish.is_some());
    (world, signs, next)
}

#[test]
fn i4_the_brake_activates_no_standby_that_was_asked_for_before_it() {
    let (mut world, signs, next) = waiting();
    world.order(&CustodianAct::Suspend { kid: kid(&signs) }).expect("it signs");
    world.run(Duration::from_secs(300));
    assert_eq!(active(&world), None);
    assert_eq!(now(&world, &next.handle).state, KeyState::PreActive);
}

#[test]
fn i2_a_precaution_activates_no_standby_that_was_asked_for_before_it() {
    let (mut world, signs, next) = waiting();
    world.precaution(&Precaution::SuspendWrongSigner(signs.kid().expect("made").clone()));
    world.run(Duration::from_secs(300));
    assert_eq!(active(&world), None);
    assert_eq!(now(&world, &next.handle).state, KeyState::PreActive);
}

#[test]
fn a_key_that_is_resumed_goes_on_whatever_was_asked_for_before() {
    let (mut world, signs, next) = waiting();
    world.order(&CustodianAct::Suspend { kid: kid(&signs) }).expect("it signs");
    world.order(&CustodianAct::Resume { kid: kid(&signs) }).expect("it is suspended");
    assert_eq!(now(&world, &next.handle).wish, None);
    assert_eq!(active(&world).map(|key| key.handle), Some(signs.handle));
}

#[test]
fn an_activation_cancels_no_destruction() {
    // The older of two standbys goes on being mature.
    let mut world = World::initialised(Policy { standbys: 2, ..policy(&["a"]) });
    world.run(MATURE);
    let old = active(&world).expect("it signs");
    world.order(&CustodianAct::Rotate { device: None }).expect("an active key");
    world.run(Duration::from_secs(5));
    world.devices.with("a", |sim| sim.down = true);
    world.order(&CustodianAct::Destroy { kid: kid(&old) }).expect("it does not sign");
    let activate = CustodianAct::Activate { kid: kid(&standby(&world)), danger_immature: false };
    world.order(&activate).expect("it is mature");
    let wish = now(&world, &old.handle).wish;
    assert!(matches!(wish, Some(Wish { what: WishedFor::Destruction, .. })), "{wish:?}");
}

#[test]
fn i9_suspending_standbys_again_and_again_fills_neither_device_nor_set() {
    let mut world = World::initialised(policy(&["a"]));
    for _ in 0..10 {
        world.run(Duration::from_secs(5));
        let suspended = world.keyset().keys.iter().find(|key| key.is_standby()).cloned();
        let Some(standby) = suspended else { break };
        world.order(&CustodianAct::Suspend { kid: kid(&standby) }).expect("a standby");
    }
    let keys = world.keyset().keys.len();
    assert_eq!(keys, 4, "the active key, and three standbys that are suspended");
}

#[test]
fn a_suspended_key_whose_place_was_taken_holds_up_no_successor() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let first = active(&world).expect("it signs");
    world.order(&CustodianAct::Suspend { kid: kid(&first) }).expect("it signs");
    let second = standby(&world);
    let activate = CustodianAct::Activate { kid: kid(&second), danger_immature: false };
    world.order(&activate).expect("it is mature");
    world.run(Duration::from_secs(5));
    assert_eq!(active(&world).map(|key| key.handle), Some(second.handle.clone()));
    let revoke = CustodianAct::Revoke { kid: kid(&second), fallback: Some(Fallback::Wait) };
    world.order(&revoke).expect("it waits for the next");
    world.run(MATURE + MATURE);
    assert!(active(&world).is_some(), "the next one is mature");
}
