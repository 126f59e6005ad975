//! What custodians ask for.

use super::*;

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
