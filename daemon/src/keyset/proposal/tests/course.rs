//! Each rule by itself.

use std::time::Duration;

use super::world::{HOUR, IDENTITIES, World};
use crate::{
    config::Approvals,
    keyset::{
        KeyState, Phase,
        act::{CustodianAct, Fallback},
        proposal::{Approved, Ending, ProposalId, ProposalRefusal, Proposals, Quorum},
    },
};

fn revoke(world: &World, key: usize) -> CustodianAct {
    CustodianAct::Revoke { kid: world.kid(key), fallback: None }
}

fn enough(approved: Result<Approved, ProposalRefusal>) -> bool {
    matches!(approved, Ok(Approved::Enough(_)))
}

#[test]
fn the_last_of_as_many_persons_as_needed_completes_a_proposal() {
    let mut world = World::new(3);
    let id = world.propose("ada.example", &revoke(&world, 0)).expect("proposed");
    assert_eq!(world.approve("bob.example", &id), Ok(Approved::Waits));
    assert!(enough(world.approve("cleo.example", &id)));
}

#[test]
fn a_person_counts_once_whatever_the_identity() {
    let mut world = World::new(3);
    let id = world.propose("ada.example", &revoke(&world, 0)).expect("proposed");
    for identity in ["ada.example", "ada2.example"] {
        let refused = world.approve(identity, &id);
        assert_eq!(refused, Err(ProposalRefusal::AlreadyApproved("ada".into())));
    }
    assert_eq!(world.approve("bob2.example", &id), Ok(Approved::Waits));
    assert!(world.approve("bob.example", &id).is_err());
}

#[test]
fn who_is_no_custodian_any_more_has_no_word_and_does_not_count() {
    let mut world = World::new(2);
    let id = world.propose("ada.example", &revoke(&world, 0)).expect("proposed");
    world.configure(&["bob.example", "cleo.example", "dan.example"], 2);
    let stranger = Err(ProposalRefusal::NotACustodian);
    assert_eq!(world.approve("ada.example", &id), stranger);
    assert_eq!(world.reject("ada.example", &id), Err(ProposalRefusal::NotACustodian));
    assert!(world.propose("ada.example", &revoke(&world, 3)).is_err());
    assert_eq!(world.approve("bob.example", &id), Ok(Approved::Waits), "Ada does not count");
    assert!(enough(world.approve("cleo.example", &id)));
    // A person whose identity was taken away can say it again by the other one.
    let id = world.propose("bob.example", &revoke(&world, 3)).expect("proposed");
    world.configure(&["bob2.example", "cleo.example"], 2);
    assert_eq!(world.approve("bob2.example", &id), Ok(Approved::Waits));
    assert!(enough(world.approve("cleo.example", &id)));
}

#[test]
fn as_many_have_to_agree_as_the_configuration_says_at_the_end() {
    let mut world = World::new(2);
    let id = world.propose("ada.example", &revoke(&world, 0)).expect("proposed");
    world.configure(&IDENTITIES, 3);
    assert_eq!(world.approve("bob.example", &id), Ok(Approved::Waits));
    assert!(enough(world.approve("cleo.example", &id)));
}

#[test]
fn i11_a_proposal_ends_in_time_whatever_is_done_to_the_clock() {
    let (day, minute) = (24 * HOUR, Duration::from_secs(60));
    let expired = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(2);
        let id = world.propose("ada.example", &revoke(&world, 0)).expect("proposed");
        world.pass(HOUR);
        world.settle();
        change(&mut world);
        let approved = world.approve("bob.example", &id);
        let is = approved == Err(ProposalRefusal::Expired);
        assert!(is || enough(approved.clone()), "{approved:?}");
        is
    };
    assert!(!expired(&|world| world.pass(day - HOUR - minute)));
    assert!(expired(&|world| world.pass(day - HOUR)));
    let hours = |hours: i64| hours * 3_600_000;
    assert!(expired(&|world| world.wall += hours(23)), "a step forward may end it early");
    assert!(!expired(&|world| world.wall -= hours(5)));
    assert!(expired(&|world| {
        world.wall -= hours(5);
        world.pass(day - HOUR);
    }));
    let restart = |world: &mut World, off: i64| {
        world.starts += 1;
        world.boot = minute;
        world.wall += off;
    };
    assert!(!expired(&|world| restart(world, hours(22))));
    assert!(expired(&|world| restart(world, hours(23))));
    assert!(expired(&|world| restart(world, hours(-2))), "nobody knows how long it was");
}

#[test]
fn a_proposal_is_void_once_what_it_is_about_has_changed() {
    let voided = |act: &dyn Fn(&World) -> CustodianAct, change: &dyn Fn(&mut World)| {
        let mut world = World::new(2);
        let id = world.propose("ada.example", &act(&world)).expect("proposed");
        change(&mut world);
        match world.approve("bob.example", &id) {
            Err(ProposalRefusal::Void(why)) => {
                let ending = Ending::Void { why };
                assert_eq!(world.proposals.closed(&id).map(|closed| &closed.ending), Some(&ending));
                true
            }
            other => {
                assert!(enough(other.clone()), "{other:?}");
                false
            }
        }
    };
    let suspend = |key| move |world: &mut World| world.change(key, KeyState::Suspended);
    let of = |key| move |world: &World| revoke(world, key);
    assert!(voided(&of(0), &|world| world.change(0, KeyState::Compromised)), "the key itself");
    assert!(!voided(&of(0), &suspend(0)), "it is stopped first, and is to be revoked all the same");
    assert!(!voided(&of(0), &suspend(3)), "the active key of another device");
    assert!(!voided(&of(0), &suspend(1)), "another standby is there");
    assert!(voided(&of(0), &|world| {
        suspend(1)(world);
        suspend(2)(world);
    }));
    let rotated = |world: &mut World| {
        world.change(0, KeyState::Deactivated);
        world.change(1, KeyState::Active);
    };
    assert!(!voided(&of(0), &rotated), "the schedule stopped it");
    let activate =
        |world: &World| CustodianAct::Activate { kid: world.kid(2), danger_immature: false };
    assert!(voided(&activate, &rotated), "it was to replace another one");
    assert!(!voided(&activate, &suspend(3)));
    let rotate = |device: Option<&'static str>| {
        move |_: &World| CustodianAct::Rotate { device: device.map(str::to_owned) }
    };
    assert!(voided(&rotate(Some("a")), &rotated) && voided(&rotate(None), &rotated));
    assert!(!voided(&rotate(Some("b")), &rotated), "a scheduled step elsewhere");
    let resume = |world: &World| CustodianAct::Resume { kid: world.kid(4) };
    assert!(voided(&resume, &|world| world.change(5, KeyState::Active)), "its place is taken");
    assert!(!voided(&resume, &rotated));
    let destroy = |world: &World| CustodianAct::Destroy { kid: world.kid(5) };
    assert!(voided(&destroy, &|world| world.change(5, KeyState::Compromised)));
    assert!(!voided(&destroy, &rotated));
    let phase = |world: &mut World| {
        world.keyset.as_mut().expect("keys").phase = Phase::Restored;
    };
    assert!(voided(&of(0), &phase));
    // A state that changed and changed back was another one in between.
    assert!(voided(&of(0), &|world| {
        world.change(0, KeyState::Compromised);
        world.settle();
        world.change(0, KeyState::Active);
    }));
}

#[test]
fn an_issuer_without_keys_has_proposals_too() {
    let mut world = World::new(2);
    let keys = world.keyset.take();
    let id = world.propose("ada.example", &CustodianAct::Init).expect("proposed");
    assert!(enough(world.approve("bob.example", &id)));
    world.keyset = keys;
    let void = world.approve("cleo.example", &id).expect_err("there are keys by now");
    assert_eq!(void.reason(), "PROPOSAL_VOID");
}

#[test]
fn one_custodian_rejects_and_a_closed_proposal_stays_closed() {
    let mut world = World::new(2);
    for who in ["ada2.example", "dan.example"] {
        let id = world.propose("ada.example", &revoke(&world, 0)).expect("proposed");
        world.reject(who, &id).expect("any custodian, the proposer too");
        assert_eq!(
            world.approve("bob.example", &id),
            Err(ProposalRefusal::Closed("it was rejected"))
        );
        assert!(world.reject("bob.example", &id).is_err());
    }
    let unknown = ProposalId::random();
    let refused = world.approve("bob.example", &unknown);
    assert_eq!(refused, Err(ProposalRefusal::Unknown(unknown)));
}

#[test]
fn i9_proposals_are_bounded_and_the_same_is_not_proposed_twice() {
    let mut world = World::new(2);
    let act = revoke(&world, 0);
    let id = world.propose("ada.example", &act).expect("proposed");
    let same = world.propose("bob.example", &act);
    assert_eq!(same, Err(ProposalRefusal::AlreadyProposed(id)));
    let mut acts = (0..).map(|n| CustodianAct::Rotate { device: Some(format!("device-{n}")) });
    for _ in 1..Proposals::MAX_OF_PERSON {
        world.propose("ada2.example", &acts.next().expect("endless")).expect("proposed");
    }
    let whose = |refused: Result<_, ProposalRefusal>| match refused {
        Err(ProposalRefusal::TooMany { whose, .. }) => whose,
        other => panic!("{other:?}"),
    };
    let act = acts.next().expect("endless");
    assert_eq!(whose(world.propose("ada.example", &act)), "ada");
    for who in ["bob.example", "cleo.example", "dan.example"] {
        for _ in 0..Proposals::MAX_OF_PERSON {
            world.propose(who, &acts.next().expect("endless")).expect("proposed");
        }
    }
    assert_eq!(world.proposals.open.len(), Proposals::MAX_OPEN);
    assert_eq!(whose(world.propose("dan.example", &act)), "the issuer");
    for round in 0..2 * Proposals::MAX_CLOSED {
        let first = world.proposals.open[0].id.clone();
        world.reject("bob.example", &first).expect("open");
        let act = acts.next().expect("endless");
        world.propose(["ada.example", "bob.example"][round % 2], &act).ok();
        if world.proposals.open.len() < 2 {
            break;
        }
    }
    assert!(world.proposals.closed.len() <= Proposals::MAX_CLOSED);
}

#[test]
fn an_act_that_is_more_than_one_thing_needs_the_most_of_its_parts() {
    let approvals = Approvals {
        init: 2,
        recover: 3,
        rotate: 4,
        activate: 5,
        activate_immature: 7,
        resume: 6,
        revoke: 8,
        destroy: 9,
        ..Approvals::default()
    };
    let quorum = Quorum { approvals, ..Quorum::default() };
    let kid = || "k".to_owned();
    let revoke = |fallback| CustodianAct::Revoke { kid: kid(), fallback };
    let activate = |danger_immature| CustodianAct::Activate { kid: kid(), danger_immature };
    for (act, needed) in [
        (CustodianAct::Init, 2),
        (CustodianAct::Recover { danger_immature: false }, 3),
        (CustodianAct::Recover { danger_immature: true }, 7),
        (CustodianAct::Rotate { device: None }, 4),
        (activate(false), 5),
        (activate(true), 7),
        (CustodianAct::Suspend { kid: kid() }, 1),
        (CustodianAct::Resume { kid: kid() }, 6),
        (revoke(None), 8),
        (revoke(Some(Fallback::Wait)), 8),
        (revoke(Some(Fallback::DangerImmature)), 8),
        (CustodianAct::Destroy { kid: kid() }, 9),
    ] {
        assert_eq!(quorum.needed(&act), needed, "{act:?}");
    }
    let lower = Approvals { revoke: 1, ..quorum.approvals };
    let quorum = Quorum { approvals: lower, ..Quorum::default() };
    assert_eq!(quorum.needed(&revoke(Some(Fallback::DangerImmature))), 7);
}

#[test]
fn a_restored_document_has_nothing_to_approve() {
    let mut world = World::new(2);
    let id = world.propose("ada.example", &revoke(&world, 0)).expect("proposed");
    world.proposals = world.proposals.clone().restored();
    assert_eq!(world.approve("bob.example", &id).expect_err("void").reason(), "PROPOSAL_VOID");
}
