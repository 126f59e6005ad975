//! Keys are made: what a crash, a defect and a full device cost.

use super::*;

#[test]
fn i6_init_makes_an_active_key_and_its_standby_in_each_device() {
    let world = World::initialised(policy(&["a", "b"]));
    assert_eq!((count(&world, KeyState::Active), count(&world, KeyState::PreActive)), (2, 2));
    assert_eq!(world.keyset().published().count(), 4);
}

#[test]
fn i8_a_power_cut_at_every_store_write_of_init_is_continued_by_the_same_plan() {
    // Four keys at two writes each, and the publication.
    for after in 0..9 {
        for stored in [false, true] {
            let mut world = World::new(policy(&["a", "b"]));
            world.order(&CustodianAct::Init).expect("the intent is stored");
            world.store.cut(Some(Cut { after, stored, unreadable: false }));
            world.run(seconds(1));
            world.crash();
            world.store.cut(None);
            world.start();
            world.run(seconds(3));
            let keyset = world.keyset();
            assert_eq!(keyset.published().count(), 4, "write {after}: no key more, no key less");
            assert_eq!(keyset.leftovers.len() + 4, made(&world).max(4), "write {after}");
            assert!(keyset.leftovers.len() <= 1, "only the pair that was never asked for");
        }
    }
}

#[test]
fn i1_a_pair_with_a_defect_is_never_adopted_and_attempts_are_bounded() {
    let mut world = World::new(policy(&["a"]));
    world.devices.with("a", |sim| sim.mishap = Some(Mishap::Defect));
    world.order(&CustodianAct::Init).expect("nothing was published");
    world.run(seconds(50));
    let keyset = world.keyset();
    assert_eq!((keyset.published().count(), keyset.leftovers.len()), (0, 5));
    assert!(keyset.leftovers.iter().all(|left| left.reason.contains("CKA_EXTRACTABLE")));
    let stopped = |alarm: &Alarm| matches!(alarm, Alarm::GenerationStopped { .. });
    assert!(world.keeper().alarms().iter().any(stopped), "{:?}", world.keeper().alarms());
    // A restart makes no further attempt; a custodian does.
    world.crash();
    world.start();
    world.run(HOUR / 60);
    assert_eq!(made(&world), 5);
    world.devices.with("a", |sim| sim.mishap = None);
    world.order(&CustodianAct::Init).expect("more attempts");
    world.run(seconds(5));
    assert_eq!(world.keyset().published().count(), 2);
}

#[test]
fn i3_a_pair_that_another_issuer_has_is_never_adopted_not_even_when_it_is_settled() {
    let kids = |world: &World| -> Vec<_> {
        world.keyset().published().map(|(_, made)| made.kid.clone()).collect()
    };
    for mishap in [None, Some(Mishap::After)] {
        // Every world's devices make the same keys: a broken random generator.
        let first = World::initialised(policy(&["a"]));
        let mut second = World::new(policy(&["a"]));
        second.crash();
        second.pairs = first.pairs.clone();
        second.start();
        second.devices.with("a", |sim| sim.mishap = mishap);
        second.order(&CustodianAct::Init).expect("nothing was published");
        second.run(seconds(50));
        let keyset = second.keyset();
        let twice = |left: &&Leftover| left.reason.contains("payments-tts has it already");
        assert_eq!(keyset.leftovers.iter().filter(twice).count(), 2, "{:?}", keyset.leftovers);
        assert_eq!(keyset.published().count(), 2);
        assert!(kids(&second).iter().all(|kid| !kids(&first).contains(kid)), "{mishap:?}");
    }
}

#[test]
fn i9_a_full_device_makes_keys_again_once_a_custodian_has_destroyed_old_ones() {
    let often = Policy { rotate_every: seconds(115), destroy_after: 24 * HOUR, ..policy(&["a"]) };
    let mut world = World::initialised(often);
    world.run_by(3 * HOUR, seconds(2));
    let full = |alarm: &Alarm| {
        matches!(alarm, Alarm::GenerationStopped { why: Obstacle::Full { keys: 64, .. }, .. })
    };
    assert!(world.keeper().alarms().iter().any(full), "{:?}", world.keeper().alarms());
    let signed = world.signed;
    world.run(seconds(10));
    assert!(world.signed > signed, "the old key goes on");
    let keyset = world.keyset();
    let old = keyset.keys.iter().filter(|key| key.state == KeyState::Deactivated);
    for key in old.take(10) {
        world.order(&CustodianAct::Destroy { kid: key.name() }).expect("the remedy it names");
    }
    world.run(MATURE);
    assert_ne!(active(&world), keyset.active("a").expect("it signed").1.kid.to_string());
    assert!(!world.keeper().alarms().iter().any(full));
}

#[test]
fn a_device_in_which_no_key_can_be_made_keeps_no_other_from_rotating() {
    let mut world = World::initialised(policy(&["a", "b"]));
    world.run(MATURE);
    world.devices.with("a", |sim| sim.mishap = Some(Mishap::Defect));
    let signs = |world: &World, device| world.keyset().active(device).map(|(key, _)| key.name());
    let mut in_b = BTreeSet::new();
    for _ in 0..20 {
        world.run(seconds(100));
        in_b.extend(signs(&world, "b"));
        assert!(signs(&world, "a").is_some(), "its old key goes on");
    }
    assert!(in_b.len() >= 4, "{in_b:?}");
    let alarms = world.keeper().alarms();
    let stopped = alarms.iter().filter_map(|alarm| match alarm {
        Alarm::GenerationStopped { device, .. } => Some(device.clone()),
        _ => None,
    });
    assert_eq!(stopped.collect::<BTreeSet<_>>(), ["a".to_owned()].into());
    assert_eq!(world.keyset().failed_attempts("a"), Keyset::ATTEMPTS);
}

/// It is refused and stored, and nobody can read it for hours: the old key signs on, and what was published with its
/// end is not served.
#[test]
fn a_late_generation_lets_the_old_key_go_on() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(200));
    let first = active(&world);
    world.devices.with("a", |sim| sim.mishap = Some(Mishap::Before));
    world.slow = true;
    let signed = world.signed;
    world.run(seconds(600));
    assert_eq!(active(&world), first);
    assert!(world.signed > signed + 1000, "it signs all the while");
    world.slow = false;
    world.run(seconds(200));
    assert_ne!(active(&world), first);
}

#[test]
fn handles_are_as_long_as_the_device_keeps_them_and_never_used_twice() {
    let mut world = World::new(policy(&["a"]));
    world.devices.with("a", |sim| sim.handle_bytes = Some(2));
    world.order(&CustodianAct::Init).expect("nothing was published");
    world.run(seconds(1));
    let keyset = world.keyset();
    assert_eq!(keyset.published().count(), 2);
    assert!(keyset.keys.iter().all(|key| key.handle.as_bytes().len() == 2));
    // With one byte there are 254 handles; fewer are free the more there are keys.
    let one = |byte| Key { handle: KeyHandle::new(vec![byte]), ..keyset.keys[0].clone() };
    let crowded = Keyset { keys: (1..=253).map(one).collect(), ..keyset.clone() };
    assert_eq!(fresh_handle(&crowded, 1), KeyHandle::new(vec![254]));
}
