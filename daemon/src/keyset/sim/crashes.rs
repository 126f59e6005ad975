//! One full rotation and one revocation, killed at every write of the store and at every call of a device
//! that they make: enumerated, not sampled. What has to hold meanwhile is seen by `sim::witness` and
//! `sim::verifiers`; here is what has to hold of the whole.

use std::time::Duration;

use super::{
    Cut, Mishap, policy, seconds,
    world::{Doom, World},
};
use crate::keyset::{Key, KeyState, act::CustodianAct};

const DEVICE: &str = "a";
const TICK: Duration = Duration::from_millis(500);
/// The same where only the end of it matters.
const COARSE: Duration = Duration::from_millis(2500);
/// When the course is given up.
const LIMIT: Duration = Duration::from_secs(2000);

/// What is killed, and when.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// The server, at a write of the store, which is stored or not.
    AtWrite { stored: bool },
    /// The server, while a device is called, which carries it out or not.
    InCall { done: bool },
    /// The worker, before or after the device did what it was called for.
    Worker(Mishap),
}

const KILLS: [Kill; 6] = [
    Kill::AtWrite { stored: false },
    Kill::AtWrite { stored: true },
    Kill::InCall { done: false },
    Kill::InCall { done: true },
    Kill::Worker(Mishap::Before),
    Kill::Worker(Mishap::After),
];

impl Kill {
    /// Kills at the write or call after `n` others.
    fn prepare(self, world: &mut World, n: usize) {
        match self {
            Self::AtWrite { stored } => {
                world.store.cut(Some(Cut { after: n, stored, unreadable: false }));
                world.doom = Some(Doom::AtTheCut);
            }
            Self::InCall { done } => world.doom = Some(Doom::InCall { after: n, done }),
            Self::Worker(mishap) => world.devices.with(DEVICE, |sim| {
                sim.mishap = Some(mishap);
                sim.mishap_after = n;
            }),
        }
    }

    fn has_happened(self, world: &World) -> bool {
        match self {
            Self::Worker(_) => world.devices.with(DEVICE, |sim| sim.mishap.is_none()),
            Self::AtWrite { .. } | Self::InCall { .. } => world.doom.is_none(),
        }
    }

    /// Takes back what has not happened.
    fn call_off(world: &mut World) {
        world.doom = None;
        world.store.cut(None);
        world.devices.with(DEVICE, |sim| sim.mishap = None);
    }
}

/// What a course begins with, and how its old key ends.
struct Course {
    /// Said by a custodian, again where the server was killed before it was stored.
    act: Option<fn(String) -> CustodianAct>,
    /// For how long the server stays away after it was killed.
    downtime: Duration,
}

impl Course {
    fn prepared(&self) -> World {
        let mut world = World::initialised(policy(&[DEVICE]));
        world.run_by(seconds(250), COARSE);
        world
    }

    /// Goes through it from a mature standby to the end of the old key, without a moment in which the
    /// appliance runs and nothing signs. The number of keys that were made for it.
    fn run(&self, world: &mut World) -> usize {
        let begun = world.clock.truth();
        let made = world.devices.lock().made;
        let first = world.keyset().active(DEVICE).expect("a key signs").0.handle.clone();
        let old = |world: &World| world.keyset().by_handle(&first).cloned();
        loop {
            let goes_on = |key: &Key| key.state == KeyState::Active;
            if let Some(act) = self.act
                && let Some(key) = old(world).filter(goes_on)
            {
                let _killed = world.order(&act(key.name()));
            }
            if !world.runs() {
                world.run(self.downtime);
                world.start();
                continue;
            }
            let ended = old(world).is_none_or(|key| key.state == KeyState::Destroyed);
            let keyset = world.keyset();
            let standby = keyset.keys.iter().any(Key::is_standby);
            if ended && standby {
                return world.devices.lock().made - made;
            }
            let signed = world.signed;
            world.run_by(TICK, TICK);
            assert!(!world.runs() || world.signed > signed, "a gap: nothing signs");
            let passed = Duration::from_millis(world.clock.truth() - begun);
            assert!(passed < LIMIT, "the old key does not come to its end: {keyset:?}");
        }
    }

    /// No key is lost or doubled: the device holds what the keyset has in use, and nothing else.
    fn assert_tidy(&self, world: &mut World, what: &str) {
        let keyset = world.keyset();
        let held: Vec<_> = world.devices.with(DEVICE, |sim| sim.keys.keys().cloned().collect());
        let in_use = |key: &&Key| matches!(key.state, KeyState::Active | KeyState::PreActive);
        let used: Vec<_> = keyset.keys.iter().filter(in_use).collect();
        assert_eq!(used.len(), 2, "{what}: {used:?}");
        assert_eq!(held.len(), 2, "{what}: the device holds {held:?}");
        assert!(used.iter().all(|key| held.contains(&key.handle)), "{what}: a key is lost");
        assert_eq!(keyset.published().count(), 2, "{what}: no key more, no key less");
        // An intent that no device ever heard of leaves its record.
        assert!(keyset.leftovers.len() <= 1, "{what}: {:?}", keyset.leftovers);
        world.run_by(seconds(400), COARSE);
        world.assert_well();
    }

    /// Kills at each of its writes and calls; how many there were of each.
    fn enumerate(&self) -> Vec<usize> {
        let mut quiet = self.prepared();
        let wanted = self.run(&mut quiet);
        self.assert_tidy(&mut quiet, "undisturbed");
        let mut all = vec![];
        for kill in KILLS {
            let mut n = 0;
            loop {
                let what = format!("{kill:?} {n}, then {:?} away", self.downtime);
                let mut world = self.prepared();
                kill.prepare(&mut world, n);
                let made = self.run(&mut world);
                let happened = kill.has_happened(&world);
                Kill::call_off(&mut world);
                assert_eq!(made, wanted, "{what}: keys were made");
                self.assert_tidy(&mut world, &what);
                if !happened {
                    break;
                }
                n += 1;
            }
            all.push(n);
        }
        all
    }
}

/// At once, and after verifiers have all lost what they kept.
const DOWNTIMES: [Duration; 2] = [Duration::ZERO, seconds(120)];

#[test]
fn i8_a_kill_at_every_write_and_call_of_a_rotation_leaves_no_gap_and_no_key_too_many() {
    for downtime in DOWNTIMES {
        let killed = Course { act: None, downtime }.enumerate();
        eprintln!("rotation, {downtime:?} away: killed {killed:?} times at {KILLS:?}");
        // Intent and adoption of the next standby, the change itself, unpublishing, destruction.
        assert!(killed[..2].iter().all(|writes| *writes >= 5), "{killed:?}");
        assert!(killed[2..].iter().all(|calls| *calls >= 2), "{killed:?}");
    }
}

#[test]
fn i8_a_kill_at_every_write_and_call_of_a_revocation_leaves_no_gap_and_no_key_too_many() {
    for downtime in DOWNTIMES {
        let act = |kid| CustodianAct::Revoke { kid, fallback: None };
        let killed = Course { act: Some(act), downtime }.enumerate();
        eprintln!("revocation, {downtime:?} away: killed {killed:?} times at {KILLS:?}");
        assert!(killed[..2].iter().all(|writes| *writes >= 4), "{killed:?}");
        assert!(killed[2..].iter().all(|calls| *calls >= 2), "{killed:?}");
    }
}
