//! Everything together: one appliance, its devices, and verifiers that keep what they read for as long
//! as they may.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use mintwarden_worker::jwk::Kid;

use super::{Devices, Memory, SimClock, issuer};
use crate::keyset::{
    Key, KeyState, Keyset, Pairs, Phase, Policy, WishedFor,
    act::CustodianAct,
    alarm::past_sign_until,
    apply::{Call, Keeper, OrderError},
    start,
};

/// How finely time goes.
const TICK: Duration = Duration::from_millis(500);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("short")
}

/// The simulated futures never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing in the simulation waits")
}

/// A verifier of tokens.
#[derive(Debug)]
struct Verifier {
    /// The `kid`s of the JWK Set that it keeps; absent before it first met a token.
    cache: Option<BTreeSet<Kid>>,
    /// How long it keeps a set, as a part of R in percent.
    keeps: u64,
    /// How far its clock is off, as a part of S in percent.
    skew: i64,
    /// How old the set is that its nearest node serves, as a part of P in percent; and how long it
    /// waits to ask again after a failure.
    lag: u64,
    asks_at: u64,
}

/// A token that was released.
#[derive(Clone, Debug)]
struct Token {
    kid: Kid,
    expires: u64,
}

/// The world. Times are milliseconds of the truth.
pub(in crate::keyset) struct World {
    pub(in crate::keyset) clock: SimClock,
    pub(in crate::keyset) devices: Devices,
    pub(in crate::keyset) store: Memory,
    pub(in crate::keyset) policy: Policy,
    /// Of all issuers of the server.
    pub(in crate::keyset) pairs: Pairs,
    keeper: Option<Keeper<Memory, SimClock>>,
    /// What requests see.
    shown: Arc<Mutex<Option<Keyset>>>,
    calls: Vec<Call>,
    /// Device calls do not come to their end.
    pub(in crate::keyset) slow: bool,
    /// Sets that were served, with the time since when; for nodes that lag behind.
    sets: Vec<(u64, BTreeSet<Kid>)>,
    verifiers: Vec<Verifier>,
    tokens: Vec<Token>,
    /// Keys that custodians let go: revoked, or activated immature.
    excused: BTreeSet<Kid>,
    /// The longest that verifiers really keep a set: the longest R of late.
    refresh: Vec<(u64, Duration)>,
    pub(in crate::keyset) signed: usize,
}

/// What has to hold of every write (I6, I7, I8).
fn watch(
    policy: &Policy,
    devices: &Devices,
) -> impl Fn(Option<&Keyset>, &Keyset) + Send + Sync + use<> {
    let (standbys, devices) = (policy.standbys, devices.clone());
    move |before, after| {
        for device in after.keys.iter().map(|key| &key.device).collect::<BTreeSet<_>>() {
            let of = |state| {
                let mine = after.keys.iter().filter(|key| key.device == *device);
                mine.filter(move |key| key.state == state).count()
            };
            assert!(of(KeyState::Active) <= 1, "two active keys in {device}");
            let live = after.keys.iter().filter(|key| key.device == *device && key.is_live());
            assert!(live.count() <= Policy::MAX_KEYS, "the number of keys is bounded");
        }
        let Some(before) = before else { return };
        assert_eq!(after.version, before.version + 1);
        assert!(after.revision >= before.revision);
        for key in &before.keys {
            let gone = after.by_handle(&key.handle).is_none();
            let may_go = matches!(key.state, KeyState::Destroyed | KeyState::Generating);
            assert!(!gone || may_go, "I7: a record of a {:?} key vanished", key.state);
        }
        i6(before, after, standbys, &devices);
    }
}

/// A scheduled change of the active key publishes its standbys with it.
fn i6(before: &Keyset, after: &Keyset, wanted: usize, devices: &Devices) {
    if before.phase != Phase::Published {
        return;
    }
    let state = |keyset: &Keyset, key: &Key| keyset.by_handle(&key.handle).map(|key| key.state);
    for successor in &after.keys {
        let was = state(before, successor);
        if successor.state != KeyState::Active || was != Some(KeyState::PreActive) {
            continue;
        }
        let mine = || after.keys.iter().filter(|key| key.device == successor.device);
        let holds = |key: &Key| devices.with(&key.device, |sim| sim.keys.contains_key(&key.handle));
        let scheduled = mine().any(|key| {
            let deactivated = key.state == KeyState::Deactivated;
            deactivated && state(before, key) == Some(KeyState::Active) && holds(key)
        });
        let standbys = mine().filter(|key| key.is_standby()).count();
        assert!(!scheduled || standbys >= wanted, "I6: no standby was published");
    }
}

impl World {
    /// A world without keys; the appliance runs.
    pub(in crate::keyset) fn new(policy: Policy) -> Self {
        let devices = Devices::default();
        let store = Memory::new(None, Box::new(watch(&policy, &devices)));
        let verifier = |(keeps, skew, lag)| Verifier { cache: None, keeps, skew, lag, asks_at: 0 };
        let kinds = [(100, 100, 0), (100, -100, 100), (60, 0, 100), (10, 50, 30)];
        let mut world = Self {
            clock: SimClock::new(),
            devices,
            store,
            refresh: vec![(0, policy.verifier_refresh)],
            policy,
            pairs: Pairs::default(),
            keeper: None,
            shown: Arc::default(),
            calls: vec![],
            slow: false,
            sets: vec![(0, BTreeSet::new())],
            verifiers: kinds.map(verifier).into(),
            tokens: vec![],
            excused: BTreeSet::new(),
            signed: 0,
        };
        // The devices' keys have no sense of time: any start of the world is as good.
        world.clock.advance(Duration::from_secs(1000));
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

    pub(in crate::keyset) fn keeper(&self) -> &Keeper<Memory, SimClock> {
        self.keeper.as_ref().expect("the appliance runs")
    }

    /// Starts the appliance; a store that fails lets it end again.
    pub(in crate::keyset) fn start(&mut self) {
        let shown = Arc::clone(&self.shown);
        let show = Box::new(move |keyset: &Keyset| {
            *shown.lock().expect("unpoisoned") = Some(keyset.clone());
        });
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let (policy, pairs) = (self.policy.clone(), self.pairs.clone());
        let opened = now(Keeper::open(issuer(), policy, pairs, store, clock, show));
        self.keeper = opened.ok();
        if let Some(keeper) = &mut self.keeper {
            keeper.tick(true, &self.devices);
        }
    }

    /// The process is gone, and what it had asked of devices with it.
    pub(in crate::keyset) fn crash(&mut self) {
        self.keeper = None;
        self.calls.clear();
        *self.shown.lock().expect("unpoisoned") = None;
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
        self.refresh.push((self.clock.truth(), policy.verifier_refresh));
        self.policy = policy;
    }

    /// A custodian's act; calls of devices that it needs are made.
    pub(in crate::keyset) fn order(&mut self, act: &CustodianAct) -> Result<(), OrderError> {
        let before = self.shown.lock().expect("unpoisoned").clone();
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        let done = now(keeper.order(act, "a test", &self.devices));
        // What the store says has failed may be stored all the same.
        if !matches!(done, Err(OrderError::Refused(_))) {
            self.excuse(act, before.as_ref());
        }
        self.work();
        done
    }

    fn excuse(&mut self, act: &CustodianAct, before: Option<&Keyset>) {
        match act {
            CustodianAct::Revoke { kid, .. }
            | CustodianAct::Activate { kid, danger_immature: true } => {
                let key = before.and_then(|keyset| keyset.by_kid(kid));
                self.excused.extend(key.and_then(Key::kid).cloned());
            }
            _ => {}
        }
        if let CustodianAct::Revoke { .. } = act {
            let before = |key: &Key| before.and_then(|keyset| keyset.by_handle(&key.handle));
            let now = self.keyset();
            let immature = now.keys.iter().filter(|key| {
                key.state == KeyState::Active
                    && !key.mature
                    && before(key).is_some_and(|key| key.state == KeyState::PreActive)
            });
            self.excused.extend(immature.filter_map(Key::kid).cloned());
        }
    }

    /// Lets the appliance do what it can now.
    pub(in crate::keyset) fn work(&mut self) {
        for _ in 0..100 {
            let Some(keeper) = &mut self.keeper else { return };
            self.calls.extend(now(keeper.work(&self.devices)));
            if self.slow || self.calls.is_empty() {
                return;
            }
            let call = self.calls.remove(0);
            let answer = now(call.make(&issuer(), &self.devices));
            now(keeper.finish(&call, answer));
        }
        panic!("the plan does not come to rest");
    }

    /// Lets time pass.
    pub(in crate::keyset) fn run(&mut self, time: Duration) {
        let end = self.clock.truth() + millis(time);
        while self.clock.truth() < end {
            self.clock.advance(TICK);
            if let Some(keeper) = &mut self.keeper {
                keeper.tick(true, &self.devices);
                self.work();
            }
            self.serve();
            self.ask();
            self.sign();
            self.verify();
        }
    }

    /// The set that the appliance serves now.
    fn serve(&mut self) {
        let shown = self.shown.lock().expect("unpoisoned");
        let Some(keyset) = shown.as_ref().filter(|keyset| keyset.phase == Phase::Published) else {
            return;
        };
        let set: BTreeSet<_> = keyset.published().map(|(_, made)| made.kid.clone()).collect();
        if self.sets.last().is_none_or(|(_, last)| *last != set) {
            self.sets.push((self.clock.truth(), set));
        }
    }

    fn is_served(&self) -> bool {
        let shown = self.shown.lock().expect("unpoisoned");
        self.keeper.is_some() && shown.as_ref().is_some_and(|k| k.phase == Phase::Published)
    }

    /// The longest that a verifier may keep what it reads now: a shorter R holds for it at once, the
    /// longer one it has read under until it asks again.
    fn refresh(&self) -> Duration {
        self.refresh.last().expect("the first R").1
    }

    fn ask(&mut self) {
        let truth = self.clock.truth();
        let (served, refresh) = (self.is_served(), self.refresh());
        let propagation = millis(self.policy.propagation);
        let sets = &self.sets;
        for verifier in self.verifiers.iter_mut().filter(|v| v.cache.is_some()) {
            if truth < verifier.asks_at {
                continue;
            }
            if served {
                let as_of = truth - propagation * verifier.lag / 100;
                let seen = sets.iter().rev().find(|(since, _)| *since <= as_of);
                verifier.cache = Some(seen.unwrap_or(&sets[0]).1.clone());
                verifier.asks_at = truth + millis(refresh) * verifier.keeps / 100;
            } else {
                verifier.asks_at = truth + propagation * verifier.lag / 100;
            }
        }
    }

    /// Every device that can, signs.
    fn sign(&mut self) {
        let shown = self.shown.lock().expect("unpoisoned").clone();
        let Some(keyset) = shown.filter(|_| self.keeper.is_some()) else { return };
        let clocks = self.clock.lock();
        let (truth, wrong_by) = (clocks.truth, clocks.wrong_by);
        drop(clocks);
        let wall = crate::clock::Clock::reading(&self.clock).wall.seconds();
        for (key, made) in keyset.published().filter(|(key, _)| key.state == KeyState::Active) {
            let there = self
                .devices
                .with(&key.device, |sim| !sim.down && sim.keys.contains_key(&key.handle));
            if !there || past_sign_until(key.activated, wall, &self.policy) {
                continue;
            }
            self.signed += 1;
            // By a clock that is wrong, a token is not valid when it is released.
            if wrong_by == 0 && !self.excused.contains(&made.kid) {
                let lifetime = millis(self.policy.max_token_lifetime);
                self.tokens.push(Token { kid: made.kid.clone(), expires: truth + lifetime });
            }
        }
        // As many as can make a difference: the youngest of each key.
        let mut youngest: BTreeMap<Kid, u64> = BTreeMap::new();
        for token in self.tokens.drain(..) {
            let expires = youngest.entry(token.kid).or_default();
            *expires = token.expires.max(*expires);
        }
        self.tokens.extend(youngest.into_iter().map(|(kid, expires)| Token { kid, expires }));
    }

    /// No token that was valid when released fails at any verifier.
    fn verify(&mut self) {
        let truth = self.clock.truth();
        let skew = i64::try_from(self.policy.skew.as_millis()).expect("short");
        self.tokens.retain(|token| {
            token.expires + 2 * skew.unsigned_abs() > truth && !self.excused.contains(&token.kid)
        });
        let refresh = self.refresh();
        let current = self.is_served().then(|| self.sets.last().expect("the first").1.clone());
        for verifier in &mut self.verifiers {
            let clock = truth.saturating_add_signed(skew * verifier.skew / 100);
            for token in self.tokens.iter().filter(|token| clock < token.expires) {
                if verifier.cache.is_none() {
                    // It has never met the issuer: it asks now, or cannot verify anything yet.
                    let Some(current) = &current else { continue };
                    verifier.cache = Some(current.clone());
                    verifier.asks_at = truth + millis(refresh) * verifier.keeps / 100;
                }
                let known = verifier.cache.as_ref().is_some_and(|kids| kids.contains(&token.kid));
                assert!(known, "at {truth}: {verifier:?} refuses a token of {}", token.kid);
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
            let held = mine().any(Key::is_held);
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
            let published = mine().filter(|key| key.is_published()).count();
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
