//! `apply` against a simulated store and devices that can fail between any two calls. The real store
//! and the real device have their tests in `store` and in the integration tests.

use std::{collections::BTreeSet, time::Duration};

use mintwarden_worker::device::KeyHandle;

use super::fresh_handle;
use crate::keyset::{
    Destruction, Key, KeyState, Keyset, Leftover, Phase, Policy,
    act::{CustodianAct, Fallback, Refusal},
    alarm::Alarm,
    apply::OrderError,
    plan::Obstacle,
    sim::{Cut, Mishap, policy, world::World},
};

const HOUR: Duration = Duration::from_secs(3600);
/// R + P + S, and a tick or two.
const MATURE: Duration = Duration::from_secs(117);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn count(world: &World, state: KeyState) -> usize {
    world.keyset().keys.iter().filter(|key| key.state == state).count()
}

fn active(world: &World) -> String {
    let keyset = world.keyset();
    keyset.active("a").expect("a key signs").1.kid.to_string()
}

fn standby(world: &World) -> String {
    let keyset = world.keyset();
    keyset.keys.iter().find(|key| key.is_standby()).expect("a standby").name()
}

fn made(world: &World) -> usize {
    world.devices.lock().made
}

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
fn i8_no_key_of_a_store_that_was_put_back_signs_on_after_recover() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let (copy, old) = (world.keyset(), active(&world));
    world.put_back(Some(&copy));
    world.start();
    world.order(&CustodianAct::Recover { danger_immature: false }).expect("put back");
    assert_eq!(count(&world, KeyState::Active), 0);
    let key = world.keyset().by_kid(&old).expect("on record").clone();
    assert_eq!((key.state, key.is_published()), (KeyState::Deactivated, true));
    world.run(MATURE + seconds(5));
    assert_ne!(active(&world), old);
}

#[test]
fn a_revoked_key_is_unpublished_and_its_mature_standby_signs_in_one_step() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let (kid, next) = (active(&world), standby(&world));
    world
        .order(&CustodianAct::Revoke { kid: kid.clone(), fallback: None })
        .expect("a mature standby");
    assert_eq!(active(&world), next);
    let keyset = world.keyset();
    let revoked = keyset.by_kid(&kid).expect("it stays on record");
    assert!(!revoked.is_published());
    assert_eq!(revoked.destruction, Some(Destruction::Destroyed));
    // Its successor has a standby at once, and may be revoked when that is mature.
    assert_eq!(keyset.published().count(), 2);
    let again = CustodianAct::Revoke { kid: next, fallback: None };
    let refused = world.order(&again).expect_err("the standby is young");
    let OrderError::Refused(Refusal::NoMatureStandby { left: Some(left) }) = refused else {
        panic!("{refused}");
    };
    assert!(left <= seconds(115) && left > seconds(110), "{left:?}");
    world.run(MATURE);
    world.order(&again).expect("twice in a row");
    world.run(MATURE);
    world.assert_well();
}

#[test]
fn without_a_mature_standby_the_custodian_chooses() {
    let mut world = World::initialised(policy(&["a"]));
    let kid = active(&world);
    let revoke = |fallback| CustodianAct::Revoke { kid: kid.clone(), fallback };
    assert!(world.order(&revoke(None)).is_err());
    world.order(&revoke(Some(Fallback::Wait))).expect("chosen");
    let signed = world.signed;
    world.run(seconds(100));
    assert_eq!(world.signed, signed, "nothing signs until the standby is mature");
    world.run(seconds(30));
    assert!(world.signed > signed);

    let mut world = World::initialised(policy(&["a"]));
    let (kid, next) = (active(&world), standby(&world));
    let fallback = Some(Fallback::DangerImmature);
    world.order(&CustodianAct::Revoke { kid, fallback }).expect("chosen");
    assert_eq!(active(&world), next);
}

#[test]
fn acts_that_do_not_fit_are_refused() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(15));
    let (kid, next) = (active(&world), standby(&world));
    let mut refused = |act: CustodianAct| match world.order(&act) {
        Err(OrderError::Refused(refusal)) => refusal,
        other => panic!("{act:?}: {other:?}"),
    };
    let activate = |kid: &str| CustodianAct::Activate { kid: kid.into(), danger_immature: false };
    let young = refused(activate(&next));
    assert!(
        matches!(young, Refusal::Immature { left } if left > seconds(90) && left < seconds(105)),
        "{young}"
    );
    assert!(matches!(refused(activate(&kid)), Refusal::WrongState { .. }));
    assert_eq!(refused(CustodianAct::Destroy { kid: kid.clone() }).reason(), "WRONG_STATE");
    assert_eq!(refused(CustodianAct::Resume { kid }).reason(), "WRONG_STATE");
    let unknown = CustodianAct::Revoke { kid: "abc".into(), fallback: None };
    assert_eq!(refused(unknown).reason(), "UNKNOWN_KEY");
    assert_eq!(refused(CustodianAct::Init).reason(), "ALREADY_INITIALISED");
    let recover = CustodianAct::Recover { danger_immature: false };
    assert_eq!(refused(recover).reason(), "NOTHING_TO_RECOVER");
    let elsewhere = CustodianAct::Rotate { device: Some("b".into()) };
    assert_eq!(refused(elsewhere).reason(), "NO_ACTIVE_KEY");
}

#[test]
fn a_suspended_key_does_not_sign_and_is_not_replaced_by_itself() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let kid = active(&world);
    world.order(&CustodianAct::Suspend { kid: kid.clone() }).expect("active");
    let signed = world.signed;
    world.run(seconds(100));
    assert_eq!(world.signed, signed);
    assert!(world.keyset().by_kid(&kid).expect("there").is_published());
    world.order(&CustodianAct::Resume { kid: kid.clone() }).expect("suspended");
    assert_eq!(active(&world), kid);
    // Its age went on all the while.
    world.run(seconds(90));
    assert_ne!(active(&world), kid);
    world.run(HOUR);
    world.assert_well();
}

#[test]
fn custodians_rotate_and_activate_ahead_of_time() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(MATURE);
    let next = standby(&world);
    world.order(&CustodianAct::Rotate { device: None }).expect("an active key");
    assert_eq!(active(&world), next);
    let young = standby(&world);
    world
        .order(&CustodianAct::Activate { kid: young.clone(), danger_immature: true })
        .expect("said to be dangerous");
    assert_eq!(active(&world), young);
    world.run(MATURE);
    let old = standby(&world);
    world
        .order(&CustodianAct::Activate { kid: old.clone(), danger_immature: false })
        .expect("mature");
    assert_eq!(active(&world), old);
    world.run(seconds(300));
    world.assert_well();
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
fn i8_an_emptied_store_is_recovered_by_a_custodian_only() {
    let mut world = World::initialised(policy(&["a"]));
    world.run(seconds(20));
    let old: Vec<_> = world.keyset().published().map(|(_, made)| made.kid.to_string()).collect();
    let mut emptied = World::new(policy(&["a"]));
    std::mem::swap(&mut *emptied.devices.lock(), &mut *world.devices.lock());
    emptied.run(seconds(10));
    assert!(emptied.store.stored().is_none(), "nothing happens by itself");
    emptied.order(&CustodianAct::Init).expect("it is begun");
    emptied.run(seconds(10));
    assert_eq!(emptied.keyset().published().count(), 0);
    assert!(matches!(emptied.keeper().init_refused(), Some(Refusal::KeysInDevice(_))));
    emptied.order(&CustodianAct::Recover { danger_immature: false }).expect("keys in the device");
    let keyset = emptied.keyset();
    assert!(old.iter().all(|kid| {
        let key = keyset.by_kid(kid).expect("known again");
        key.state == KeyState::Deactivated && key.is_published()
    }));
    assert!(keyset.active("a").is_none());
    emptied.run(MATURE + seconds(10));
    let active = active(&emptied);
    assert!(!old.contains(&active), "a new key signs, once it is mature");
    assert_eq!(emptied.keyset().phase, Phase::Published);
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
