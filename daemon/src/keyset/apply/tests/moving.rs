//! Keys change, and devices, without a gap.

use super::*;

#[test]
fn i4_keys_rotate_by_themselves_and_every_token_verifies() {
    let mut world = World::initialised(policy(&["a"]));
    let first = active(&world);
    world.run(seconds(290));
    assert_eq!(active(&world), first, "not before its time");
    world.run(seconds(20));
    let second = active(&world);
    assert_ne!(second, first);
    assert_eq!(count(&world, KeyState::Deactivated), 1);
    assert_eq!(world.keyset().published().count(), 3, "what the first signed is still valid");
    world.run(seconds(70));
    assert_eq!(world.keyset().published().count(), 2);
    world.run(seconds(60));
    assert_eq!(count(&world, KeyState::Destroyed), 1);
    world.run(HOUR * 2);
    world.assert_well();
    assert!(made(&world) >= 24, "{} keys in two hours", made(&world));
    assert!(world.keyset().keys.len() <= 40, "records of destroyed keys are bounded");
    assert_eq!(world.devices.with("a", |sim| sim.keys.len()), 2, "old private keys are destroyed");
}

#[test]
fn i5_a_key_stays_published_for_the_longest_lifetime_under_which_it_signed() {
    let mut world =
        World::initialised(Policy { max_token_lifetime: seconds(600), ..policy(&["a"]) });
    let first = active(&world);
    world.run(seconds(290));
    world.stop();
    world.configure(policy(&["a"]));
    world.start();
    world.run(seconds(500));
    assert_ne!(active(&world), first);
    assert!(world.keyset().by_kid(&first).is_some_and(Key::is_published));
    world.run(seconds(150));
    assert!(!world.keyset().by_kid(&first).is_some_and(Key::is_published));
}

#[test]
fn a_mature_standby_that_its_device_has_lost_is_not_activated_by_the_schedule() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(200));
    let (first, lost) = (active(&world), standby(&world));
    world.devices.with("a", |sim| sim.starts += 1);
    let handle = world.keyset().by_kid(&lost).expect("on record").handle.clone();
    world.devices.with("a", |sim| sim.keys.remove(&handle));
    // The next one is made at once, and mature after the old key's time.
    world.run(seconds(105));
    assert_eq!(active(&world), first);
    world.run(seconds(30));
    assert!(![first, lost].contains(&active(&world)));
}

#[test]
fn i7_a_key_that_its_device_lost_is_replaced_and_stays_on_record() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let lost = active(&world);
    let handle = world.keyset().by_kid(&lost).expect("there").handle.clone();
    world.devices.with("a", |sim| {
        sim.keys.remove(&handle);
        sim.starts += 1;
    });
    world.run(seconds(2));
    assert_ne!(active(&world), lost);
    let keyset = world.keyset();
    assert!(keyset.by_kid(&lost).expect("on record").is_published(), "what it signed is valid");
    world.run(seconds(300));
    let keyset = world.keyset();
    assert_eq!(keyset.by_kid(&lost).expect("on record").destruction, Some(Destruction::Absent));
    let absent = |alarm: &Alarm| matches!(alarm, Alarm::DestroyedElsewhere { .. });
    assert!(world.keeper().alarms().iter().any(absent));
}

#[test]
fn an_issuer_moves_to_another_device_without_a_gap() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(30));
    // Too early: the new device has no key yet.
    assert!(!world.fits(&policy(&["b"])));
    world.stop();
    world.configure(policy(&["b", "a"]));
    world.start();
    world.run(MATURE + seconds(5));
    assert!(world.keyset().active("b").is_some() && world.keyset().active("a").is_some());
    assert!(world.fits(&policy(&["b"])));
    world.stop();
    world.configure(policy(&["b"]));
    world.start();
    world.run(HOUR);
    world.assert_well();
    assert!(world.keyset().active("a").is_none());
    assert_eq!(world.devices.with("a", |sim| sim.keys.len()), 0, "nothing is left there");
}
