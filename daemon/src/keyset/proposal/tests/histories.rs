//! Any history of words, key changes, clocks and configurations: an act is done only when as many
//! distinct persons as needed, custodians all, agreed to what is still the case, in time, and once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::world::{HOUR, IDENTITIES, World};
use crate::{
    keyset::{
        KeyState,
        act::CustodianAct,
        proposal::{Approved, Ending, ProposalId, Proposals},
    },
    record::Event,
};

#[derive(Clone, Debug)]
enum Step {
    Propose {
        who: usize,
        act: usize,
    },
    Approve {
        who: usize,
        which: usize,
    },
    Reject {
        who: usize,
        which: usize,
    },
    Change {
        key: usize,
        state: KeyState,
    },
    Pass {
        minutes: u64,
    },
    SetClock {
        minutes: i64,
    },
    /// The machine is off; its clock is right afterwards, ahead, or went back further than the time
    /// that it was off.
    Restart {
        minutes: u32,
        ahead: u32,
        back: bool,
    },
    Configure {
        granted: u8,
        needed: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    use KeyState::{Active, Deactivated, PreActive, Suspended};
    let who = 0..IDENTITIES.len();
    let state = prop_oneof![Just(Active), Just(Deactivated), Just(PreActive), Just(Suspended)];
    prop_oneof![
        5 => (who.clone(), 0..8_usize).prop_map(|(who, act)| Step::Propose { who, act }),
        8 => (who.clone(), 0..6_usize).prop_map(|(who, which)| Step::Approve { who, which }),
        1 => (who, 0..6_usize).prop_map(|(who, which)| Step::Reject { who, which }),
        2 => (0..6_usize, state).prop_map(|(key, state)| Step::Change { key, state }),
        2 => (0..900_u64).prop_map(|minutes| Step::Pass { minutes }),
        1 => (-3000..3000_i64).prop_map(|minutes| Step::SetClock { minutes }),
        1 => (0..900_u32, 0..600_u32, any::<bool>())
            .prop_map(|(minutes, ahead, back)| Step::Restart { minutes, ahead, back }),
        2 => (1..64_u8, 1..4_usize)
            .prop_map(|(granted, needed)| Step::Configure { granted, needed }),
    ]
}

fn act(world: &World, number: usize) -> CustodianAct {
    let kid = |key| world.kid(key);
    match number {
        0 => CustodianAct::Revoke { kid: kid(0), fallback: None },
        1 => CustodianAct::Revoke { kid: kid(3), fallback: None },
        2 => CustodianAct::Activate { kid: kid(1), danger_immature: false },
        3 => CustodianAct::Activate { kid: kid(2), danger_immature: true },
        4 => CustodianAct::Resume { kid: kid(4) },
        5 => CustodianAct::Destroy { kid: kid(5) },
        6 => CustodianAct::Rotate { device: Some("b".into()) },
        _ => CustodianAct::Rotate { device: None },
    }
}

/// What is known of a proposal by other means than the document's.
struct Witness {
    act: CustodianAct,
    born: Duration,
    yes: BTreeSet<(&'static str, &'static str)>,
    changed: bool,
    over: bool,
}

fn person(identity: &'static str) -> &'static str {
    identity.split(['.', '2']).next().expect("a name")
}

struct Run {
    world: World,
    truth: Duration,
    clocks_are_right: bool,
    granted: BTreeSet<&'static str>,
    needed: usize,
    witnesses: BTreeMap<ProposalId, Witness>,
    ids: Vec<ProposalId>,
    done: usize,
}

impl Run {
    fn new() -> Self {
        Self {
            world: World::new(2),
            truth: Duration::ZERO,
            clocks_are_right: true,
            granted: IDENTITIES.into_iter().collect(),
            needed: 2,
            witnesses: BTreeMap::new(),
            ids: vec![],
            done: 0,
        }
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    /// Changes a key's state: proposals about it, or about who signs in its device, are over.
    fn change(&mut self, number: usize, state: KeyState) {
        let keys = &self.world.keyset.as_ref().expect("keys").keys;
        let (before, device) = (keys[number].state, keys[number].device.clone());
        let taken = keys.iter().any(|key| key.device == device && key.state == KeyState::Active);
        if before == state || (state == KeyState::Active && taken) {
            return;
        }
        self.world.change(number, state);
        let kid = self.world.kid(number);
        // A key that has signed is to be revoked as much when it is stopped.
        let has_signed = self.world.keyset.as_ref().expect("keys").keys[number].activated.is_some();
        let is_in_use =
            |state| matches!(state, KeyState::Active | KeyState::Suspended | KeyState::Deactivated);
        let is_only_stopped = has_signed && is_in_use(before) && is_in_use(state);
        let signs_differently = (before == KeyState::Active) != (state == KeyState::Active);
        for witness in self.witnesses.values_mut() {
            let looks_at = match &witness.act {
                CustodianAct::Rotate { device: None } => true,
                CustodianAct::Rotate { device: Some(of) } => *of == device,
                CustodianAct::Activate { .. } => device == "a",
                CustodianAct::Resume { .. } => device == "c",
                _ => false,
            };
            let revokes = matches!(witness.act, CustodianAct::Revoke { .. });
            let about = witness.act.kid() == Some(&*kid) && !(revokes && is_only_stopped);
            witness.changed |= about || (looks_at && signs_differently);
        }
        self.world.settle();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Propose { who, act: number } => {
                let who = IDENTITIES[who];
                let act = act(&self.world, number);
                if let Ok(id) = self.world.propose(who, &act) {
                    assert!(self.granted.contains(who), "a stranger proposed");
                    let yes = BTreeSet::from([(person(who), who)]);
                    let (born, changed, over) = (self.truth, false, false);
                    let witness = Witness { act, born, yes, changed, over };
                    self.witnesses.insert(id.clone(), witness);
                    self.ids.push(id);
                }
            }
            Step::Approve { who, which } => self.approve(IDENTITIES[who], which),
            Step::Reject { who, which } => {
                let Some(id) = self.recent(which) else { return };
                if self.world.reject(IDENTITIES[who], &id).is_ok() {
                    assert!(self.granted.contains(IDENTITIES[who]), "a stranger rejected");
                    self.witnesses.get_mut(&id).expect("proposed").over = true;
                }
            }
            Step::Change { key, state } => self.change(key, state),
            Step::Pass { minutes } => {
                self.truth += Self::minutes(minutes);
                self.world.pass(Self::minutes(minutes));
            }
            Step::SetClock { minutes } => {
                self.clocks_are_right &= minutes == 0;
                self.world.wall += minutes * 60_000;
            }
            Step::Restart { minutes, ahead, back } => {
                self.clocks_are_right &= ahead == 0 && !back;
                self.truth += Self::minutes(minutes.into());
                self.world.starts += 1;
                self.world.boot = Duration::from_secs(30);
                let shown = i64::from(minutes) + i64::from(ahead);
                let shown = if back { -2 - i64::from(ahead) } else { shown };
                self.world.wall += shown * 60_000;
            }
            Step::Configure { granted, needed } => {
                let granted: Vec<_> = (0..6)
                    .filter(|bit| granted & (1 << bit) != 0)
                    .map(|bit| IDENTITIES[bit])
                    .collect();
                let persons: BTreeSet<_> = granted.iter().map(|id| person(id)).collect();
                self.needed = needed.min(persons.len());
                self.world.configure(&granted, self.needed);
                self.granted = granted.into_iter().collect();
            }
        }
        // As the appliance does, at least once a minute.
        self.world.settle();
    }

    fn recent(&self, which: usize) -> Option<ProposalId> {
        self.ids.iter().rev().nth(which).cloned()
    }

    fn approve(&mut self, who: &'static str, which: usize) {
        let Some(id) = self.recent(which) else { return };
        let approved = self.world.approve(who, &id);
        let witness = self.witnesses.get_mut(&id).expect("proposed");
        let counts = |yes: &BTreeSet<(&'static str, &'static str)>| {
            let granted = yes.iter().filter(|(_, identity)| self.granted.contains(identity));
            granted.map(|(person, _)| *person).collect::<BTreeSet<_>>()
        };
        let said_before = counts(&witness.yes).contains(person(who));
        let in_time = self.truth - witness.born < 24 * HOUR;
        if approved.is_ok() {
            assert!(self.granted.contains(who), "a stranger approved");
            assert!(!said_before, "a person counted twice");
            assert!(in_time, "it was over");
            assert!(!witness.changed, "its key had changed");
            assert!(!witness.over, "it was decided before");
            witness.yes.retain(|(said, _)| *said != person(who));
            witness.yes.insert((person(who), who));
        }
        let agreed = counts(&witness.yes).len();
        match approved {
            Ok(Approved::Enough(proposal)) => {
                assert!(agreed >= self.needed, "{agreed} of {} agreed", self.needed);
                assert_eq!(proposal.act, witness.act);
                witness.over = true;
                self.done += 1;
                let at = crate::clock::WallTime(self.world.wall);
                let carried_out = Ending::CarriedOut {};
                self.world.proposals.close(&id, carried_out, at);
                if let Some(kid) = proposal.act.kid() {
                    let keyset = self.world.keyset.as_ref().expect("keys");
                    let key = keyset.keys.iter().position(|key| key.name() == kid).expect("known");
                    self.change(key, KeyState::Destroyed);
                }
            }
            Ok(Approved::Waits) => assert!(agreed < self.needed, "{agreed} had agreed"),
            Err(refusal) => {
                // And nobody is kept from it without a reason.
                let reason = refusal.reason();
                let fits = match reason {
                    "NO_GRANT" => !self.granted.contains(who),
                    "ALREADY_APPROVED" => said_before,
                    "PROPOSAL_EXPIRED" => !in_time || !self.clocks_are_right,
                    "PROPOSAL_CLOSED" => witness.over,
                    "PROPOSAL_VOID" | "UNKNOWN_PROPOSAL" => true,
                    other => panic!("{other}"),
                };
                assert!(fits, "{reason} of {who}");
            }
        }
    }

    fn assert_bounded(&self) {
        let proposals = &self.world.proposals;
        assert!(proposals.open.len() <= Proposals::MAX_OPEN);
        assert!(proposals.closed.len() <= Proposals::MAX_CLOSED);
        for proposal in &proposals.open {
            assert!(proposals.closed(&proposal.id).is_none(), "open and closed");
        }
        // The record tells of each beginning once, and of at most one end without a person.
        let mut begun = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for event in &self.world.record {
            match event {
                Event::Proposed { proposal, .. } => assert!(begun.insert(proposal)),
                Event::Rejected { proposal, .. } | Event::Closed { proposal, .. } => {
                    assert!(begun.contains(proposal) && ended.insert(proposal));
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn an_act_needs_distinct_persons_who_agree_to_what_is_the_case(
        steps in vec(step(), 1..60)
    ) {
        let mut run = Run::new();
        for step in steps {
            run.take(step);
        }
        run.assert_bounded();
    }
}
