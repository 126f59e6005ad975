//! Everything together: one appliance, its devices, its verifiers, and a witness of what really happened.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;

use super::{
    Devices, Memory, SimClock, issuer, millis,
    verifiers::{Kids, Verifiers},
    witness::Witness,
};
use crate::{
    clock::Clock as _,
    config::MAX_TOKEN_LIFETIME,
    keyset::{
        Key, KeyState, Keyset, Pairs, Phase, Policy, WishedFor,
        act::CustodianAct,
        alarm::past_sign_until,
        apply::{Call, Keeper, OrderError},
        change,
        precaution::Precaution,
        start,
    },
};

/// How finely time goes where nothing else is said.
const TICK: Duration = Duration::from_millis(500);

/// The simulated futures never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing in the simulation waits")
}

/// What requests see: the keyset as stored, and its JWK Set where it is published.
#[derive(Clone)]
struct Shown {
    keyset: Arc<Keyset>,
    served: Option<Kids>,
}

impl Shown {
    fn new(keyset: &Keyset) -> Self {
        let kids = || keyset.published().map(|(_, made)| made.kid.clone()).collect();
        let served = (keyset.phase == Phase::Published).then(|| Kids::new(kids()));
        Self { keyset: Arc::new(keyset.clone()), served }
    }
}

/// The world. Times are milliseconds of the truth.
pub(in crate::keyset) struct World {
    pub(in crate::keyset) clock: SimClock,
    pub(in crate::keyset) devices: Devices,
    pub(in crate::keyset) store: Memory,
    pub(in crate::keyset) policy: Policy,
    /// Of all issuers of the server.
    pub(in crate::keyset) pairs: Pairs,
    pub(in crate::keyset) verifiers: Verifiers,
    keeper: Option<Keeper<Memory, SimClock>>,
    shown: Arc<Mutex<Option<Shown>>>,
    calls: Vec<Call>,
    /// Device calls do not come to their end.
    pub(in crate::keyset) slow: bool,
    /// The process stands still.
    stalled: bool,
    /// What ends the process, beside what a test does to it.
    pub(in crate::keyset) doom: Option<Doom>,
    witness: Witness,
    pub(in crate::keyset) signed: usize,
}

/// Where the process is killed.
#[derive(Clone, Copy, Debug)]
pub(in crate::keyset) enum Doom {
    /// At the write of the store that is cut.
    AtTheCut,
    /// At a call of a device, after so many others; the device carries it out or not.
    InCall { after: usize, done: bool },
}

impl World {
    /// A world without keys; the appliance runs.
    pub(in crate::keyset) fn new(policy: Policy) -> Self {
        let (clock, devices) = (SimClock::new(), Devices::default());
        // The devices' keys have no sense of time: any start of the world is as good.
        clock.advance(Duration::from_secs(1000));
        let witness = Witness::new(clock.clone(), devices.clone(), policy.clone());
        let mut world = Self {
            verifiers: Verifiers::new(clock.clone()),
            clock,
            devices,
            store: Memory::new(None, Box::new(witness.watch())),
            policy,
            pairs: Pairs::default(),
            keeper: None,
            shown: Arc::default(),
            calls: vec![],
            slow: false,
            stalled: false,
            doom: None,
            witness,
            signed: 0,
        };
        world.start();
        world
    }

    /// One whose first keys are published.
    pub(in crate::keyset) fn initialised(policy: Policy) -> Self {
        let mut world = Self::new(policy);
        world.order(&CustodianAct::Init).expect("nothing was published");
        world.run(Duration::from_secs(2));
        assert_eq!(world.keyset().phase, Phase::Published);
        world
    }

    pub(in crate::keyset) fn keyset(&self) -> Keyset {
        self.store.stored().expect("it was initialised")
    }

    /// Whether the appliance runs.
    pub(in crate::keyset) fn runs(&self) -> bool {
        self.keeper.is_some()
    }

    pub(in crate::keyset) fn keeper(&self) -> &Keeper<Memory, SimClock> {
        self.keeper.as_ref().expect("the appliance runs")
    }

    /// Starts the appliance; a store that fails lets it end again.
    pub(in crate::keyset) fn start(&mut self) {
        let shown = Arc::clone(&self.shown);
        let show = Box::new(move |keyset: &Keyset| {
            *shown.lock().expect("unpoisoned") = Some(Shown::new(keyset));
        });
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let (policy, pairs) = (self.policy.clone(), self.pairs.clone());
        let opened = now(Keeper::open(issuer(), policy, pairs, store, clock, show));
        self.keeper = opened.ok();
        if let Some(keeper) = &mut self.keeper {
            keeper.tick(true, &self.devices);
        }
        self.serve();
    }

    /// Nodes see a set as soon as it is there.
    fn serve(&mut self) -> Option<Shown> {
        let shown = self.shown();
        if let Some(set) = shown.as_ref().and_then(|shown| shown.served.as_ref()) {
            self.verifiers.serve(set);
        }
        shown
    }

    /// The process is gone, and what it had asked of devices with it.
    pub(in crate::keyset) fn crash(&mut self) {
        self.keeper = None;
        self.calls.clear();
        *self.shown.lock().expect("unpoisoned") = None;
    }

    /// Crashes while a device is called, which carries out what it was asked for.
    pub(in crate::keyset) fn crash_in_call(&mut self) {
        for call in std::mem::take(&mut self.calls) {
            let _nobody_hears = now(call.make(&issuer(), &self.devices));
        }
        self.crash();
    }

    /// Ends the appliance in good order.
    pub(in crate::keyset) fn stop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            let _lost = now(keeper.checkpoint());
        }
        self.crash();
    }

    /// Whether the appliance would start with this policy.
    pub(in crate::keyset) fn fits(&self, policy: &Policy) -> bool {
        let all = ["a", "b"].map(str::to_owned).into();
        self.store.stored().is_none_or(|keyset| start::check(&keyset, policy, &all).is_ok())
    }

    /// Another configuration, from the next start on. Verifiers go by it at once, and may still keep
    /// what they have read.
    pub(in crate::keyset) fn configure(&mut self, policy: Policy) {
        self.witness.lock().configured(&policy);
        self.policy = policy;
    }

    /// The store is put back from an older copy, or emptied, while the appliance is stopped.
    pub(in crate::keyset) fn put_back(&mut self, copy: Option<&Keyset>) {
        self.crash();
        self.store.put(copy.map(change::restored));
        self.verifiers.forget_longer_than(&self.policy);
    }

    /// A custodian's act; calls of devices that it needs are made.
    pub(in crate::keyset) fn order(&mut self, act: &CustodianAct) -> Result<(), OrderError> {
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        self.witness.lock().order = Some(act.clone());
        let done = now(keeper.order(act, "a test", &self.devices));
        if matches!(act, CustodianAct::Init | CustodianAct::Recover { .. }) {
            self.excuse_what_is_lost();
        }
        if !self.is_killed_at_the_cut() {
            self.work();
        }
        self.serve();
        self.witness.lock().order = None;
        done
    }

    /// Takes a precaution of the appliance's own.
    pub(in crate::keyset) fn precaution(&mut self, precaution: &Precaution) {
        if let Some(keeper) = &mut self.keeper {
            now(keeper.take_precaution(precaution));
        }
    }

    /// Public keys that stood in the store alone: nobody can know them any more.
    fn excuse_what_is_lost(&self) {
        let Some(keyset) = self.store.stored() else { return };
        let known = |kid: &_| keyset.keys.iter().any(|key| key.kid() == Some(kid));
        let held = self.devices.kids(&self.policy.devices);
        let lost = self.verifiers.met().filter(|kid| !known(kid) && !held.contains(kid));
        self.witness.lock().excused.extend(lost.cloned());
    }

    /// Lets the appliance do what it can now.
    pub(in crate::keyset) fn work(&mut self) {
        for _ in 0..100 {
            let Some(keeper) = &mut self.keeper else { return };
            if let Some(keyset) = keeper.keyset() {
                let view = keeper.view();
                let lost = keyset.keys.iter().filter(|key| view.loss(key).is_some());
                self.witness.lock().lost = lost.map(|key| key.handle.clone()).collect();
            }
            self.calls.extend(now(keeper.work(&self.devices)));
            if self.is_killed_at_the_cut() || self.slow || self.calls.is_empty() {
                return;
            }
            let call = self.calls.remove(0);
            if self.is_killed_in(&call) {
                return;
            }
            let answer = now(call.make(&issuer(), &self.devices));
            if let Some(keeper) = &mut self.keeper {
                now(keeper.finish(&call, answer));
            }
            if self.is_killed_at_the_cut() {
                return;
            }
        }
        panic!("the plan does not come to rest");
    }

    fn is_killed_at_the_cut(&mut self) -> bool {
        let killed = matches!(self.doom, Some(Doom::AtTheCut)) && self.store.has_cut();
        if killed {
            self.doom = None;
            self.crash();
            self.store.cut(None);
        }
        killed
    }

    fn is_killed_in(&mut self, call: &Call) -> bool {
        let Some(Doom::InCall { after, done }) = &mut self.doom else { return false };
        if let Some(left) = after.checked_sub(1) {
            *after = left;
            return false;
        }
        if *done {
            let _nobody_hears = now(call.make(&issuer(), &self.devices));
        }
        self.doom = None;
        self.crash();
        true
    }

    /// Lets time pass.
    pub(in crate::keyset) fn run(&mut self, time: Duration) {
        self.run_by(time, TICK);
    }

    /// Lets time pass, in steps as long as `tick`.
    pub(in crate::keyset) fn run_by(&mut self, time: Duration, tick: Duration) {
        let end = self.clock.truth() + millis(time);
        while self.clock.truth() < end {
            let before = self.shown();
            self.clock.advance(tick);
            let served = before.as_ref().and_then(|shown| shown.served.as_ref());
            self.witness.lock().passed(tick, served.filter(|_| !self.stalled));
            if !self.stalled
                && let Some(keeper) = &mut self.keeper
            {
                keeper.tick(true, &self.devices);
                self.work();
            }
            let shown = self.serve().filter(|_| !self.stalled);
            if let Some(shown) = &shown {
                self.sign(&shown.keyset);
            }
            let served = shown.as_ref().and_then(|shown| shown.served.as_ref());
            self.verifiers.verify(served, &self.policy, &self.witness.lock().excused);
        }
    }

    /// The process stands still for a while.
    pub(in crate::keyset) fn stall(&mut self, time: Duration) {
        self.stalled = true;
        self.run(time);
        self.stalled = false;
    }

    fn shown(&self) -> Option<Shown> {
        let shown = self.shown.lock().expect("unpoisoned");
        shown.clone().filter(|_| self.keeper.is_some())
    }

    /// Every device that can, signs.
    fn sign(&mut self, keyset: &Keyset) {
        let (wall, wrong_by) = (self.clock.reading().wall.seconds(), self.clock.lock().wrong_by);
        let mut witness = self.witness.lock();
        for (key, made) in keyset.published().filter(|(key, _)| key.state == KeyState::Active) {
            let there = self
                .devices
                .with(&key.device, |sim| !sim.down && sim.keys.contains_key(&key.handle));
            if !there || past_sign_until(key.activated, wall, &self.policy) {
                continue;
            }
            self.signed += 1;
            witness.signed(&made.kid);
            // By a clock that is wrong, a token is not valid when it is released.
            let wrong = u128::from(wrong_by.unsigned_abs()) > self.policy.skew.as_millis();
            if !wrong && !witness.excused.contains(&made.kid) {
                self.verifiers.released(&made.kid, wrong_by, &self.policy);
            }
        }
    }

    /// Everything works again, for long enough: what has to be true then.
    pub(in crate::keyset) fn heal(&mut self) {
        self.slow = false;
        self.store.cut(None);
        self.devices.lock().devices.values_mut().for_each(|sim| {
            sim.down = false;
            sim.mishap = None;
        });
        if self.keeper.is_none() {
            self.start();
        }
    }

    /// Each device has its active key and its standbys, and those are mature that had the time.
    pub(in crate::keyset) fn assert_well(&self) {
        let keyset = self.keyset();
        let (now, view) = (self.keeper().now(), self.keeper().view());
        let long = keyset.maturity.wait + Duration::from_secs(2);
        for device in &self.policy.devices {
            let mine = || keyset.keys.iter().filter(|key| key.device == *device);
            let held = mine().any(|key| keyset.holds_a_place(key));
            let standbys = || mine().filter(|key| key.is_standby() && view.loss(key).is_none());
            let overdue = |key: &Key| {
                !key.mature && key.published.is_some_and(|since| now.moment.waited(since) > long)
            };
            assert!(
                standbys().count() >= self.policy.standbys && !standbys().any(overdue),
                "{device} lacks mature standbys: {:?}",
                self.keeper().alarms()
            );
            assert!(
                held || keyset.active(device).is_some(),
                "no active key in {device}: {:?}",
                self.keeper().alarms()
            );
            // What was recovered is published for a day: nobody knows what it signed.
            let known = |key: &Key| {
                key.signatures.is_none_or(|signed| signed.max_lifetime < MAX_TOKEN_LIFETIME)
            };
            let published = mine().filter(|key| key.is_published() && known(key)).count();
            assert!(published < 16, "{device} has {published} published keys");
        }
        let waiting = keyset.keys.iter().filter_map(|key| key.wish.as_ref());
        assert!(!waiting.clone().any(|w| w.what != WishedFor::Destruction), "a wish is left");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(keyset) = self.store.stored_whatever_happened()
        {
            for key in &keyset.keys {
                eprintln!(
                    "{} {} {:?} published {:?} mature {} activated {:?} signatures {:?} unpublished {:?}",
                    key.device,
                    key.name(),
                    key.state,
                    key.published,
                    key.mature,
                    key.activated,
                    key.signatures,
                    key.unpublished
                );
            }
            eprintln!("{:?} {:?}", keyset.clock, keyset.maturity);
        }
    }
}
