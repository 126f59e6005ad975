//! What clocks, downtime and slow writes do to the time that keys have served.

use super::*;

#[test]
fn i4_downtime_is_not_served_time() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(50));
    world.stop();
    world.clock.advance(HOUR);
    world.start();
    // The active key is old by now; its standby was served for 50 seconds.
    world.run(seconds(30));
    assert_eq!(count(&world, KeyState::Deactivated), 0);
    let late = |alarm: &Alarm| matches!(alarm, Alarm::LateStandby { left: Some(_), .. });
    assert!(world.keeper().alarms().iter().any(late), "{:?}", world.keeper().alarms());
    world.run(seconds(40));
    assert_eq!(count(&world, KeyState::Deactivated), 1);
}

#[test]
fn i8_a_crash_costs_no_more_credit_than_since_the_last_checkpoint() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(60));
    let before = world.keeper().now().moment.served;
    world.crash();
    world.start();
    let lost = before - world.keeper().now().moment.served;
    assert!(lost <= world.keeper().checkpoint_every() + seconds(1), "{lost:?}");
}

#[test]
fn i11_a_clock_that_is_stepped_activates_nothing_early() {
    for step in [4 * 3_600_000, -4 * 3_600_000] {
        for stopped in [false, true] {
            let mut world = World::initialised(policy(&["a"]));
            let first = active(&world);
            world.run(seconds(10));
            if stopped {
                world.stop();
            }
            world.clock.lock().wrong_by = step;
            if stopped {
                world.start();
            }
            world.run(seconds(100));
            assert_eq!(active(&world), first, "{step} {stopped}");
            let disagree = |alarm: &Alarm| matches!(alarm, Alarm::ClocksDisagree { .. });
            assert!(world.keeper().alarms().iter().any(disagree));
            // Set right: everything goes on.
            world.clock.lock().wrong_by = 0;
            world.run(seconds(400));
            assert_ne!(active(&world), first);
            assert!(!world.keeper().alarms().iter().any(disagree));
        }
    }
}

#[test]
fn i11_a_step_that_has_not_held_makes_no_key_old() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let first = active(&world);
    world.clock.lock().wrong_by = 4 * 3_600_000;
    // It is believed after R + P + S.
    world.run(seconds(110));
    assert_eq!(active(&world), first, "though its standby is mature");
    world.run(seconds(10));
    assert_ne!(active(&world), first);
}

#[test]
fn i5_a_write_that_is_seen_late_was_not_in_force_before() {
    for after in 0..8 {
        let mut world = World::initialised(policy(&["a"]));
        world.run(MATURE);
        let first = active(&world);
        world.store.cut(Some(Cut { after, stored: true, unreadable: true }));
        world.order(&CustodianAct::Rotate { device: None }).ok();
        world.run(Duration::from_secs(7200));
        world.store.cut(None);
        // Long enough for the store to be tried again, and for whatever would be too early.
        world.run(Duration::from_secs(1200));
        world.assert_well();
        assert_ne!(active(&world), first, "{after}");
    }
}

/// Requests see a change once it is stored: until then the old key signs, and a new one is not served.
#[test]
fn i5_the_time_that_a_write_takes_is_signed_in_and_not_served() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let first = active(&world);
    let (served, time) = (world.keeper().now().moment.served, seconds(3));
    world.store.takes(&world.clock, time);
    world.order(&CustodianAct::Rotate { device: None }).expect("an active key");
    let keyset = world.keyset();
    let (second, _) = keyset.active("a").expect("its successor signs");
    let began = second.activated.expect("it was activated").wall;
    let signed = keyset.by_kid(&first).and_then(|key| key.signatures).expect("it has signed");
    let stopped = signed.stopped.expect("it is stopped").wall;
    assert!(stopped.since(began) >= time, "it signed on while its end was written");
    assert_eq!(world.keeper().now().moment.served, served);
}

#[test]
fn i5_a_clock_that_ran_years_ahead_for_a_moment_keeps_the_key_that_signed_by_it_and_no_other() {
    const YEARS: i64 = 10 * 365 * 24 * 3_600_000;
    for stopped in [false, true] {
        let mut world = World::initialised(policy(&["a"]));
        world.run(MATURE);
        let first = active(&world);
        world.clock.lock().wrong_by = YEARS;
        world.run(seconds(10));
        if stopped {
            world.stop();
        }
        world.clock.lock().wrong_by = 0;
        if stopped {
            world.start();
        }
        world.run(seconds(3000));
        world.assert_well();
        let keyset = world.keyset();
        assert!(keyset.by_kid(&first).is_some_and(Key::is_published), "its tokens may live on");
        let old: Vec<_> =
            keyset.keys.iter().filter(|key| key.state == KeyState::Deactivated).collect();
        assert!(old.len() <= 3, "{old:?}");
        assert!(keyset.keys.iter().filter(|key| key.state == KeyState::Destroyed).count() >= 3);
    }
}
