//! Carries out the steps of a [`plan`](super::plan): each change of the keyset is one
//! compare-and-swap, each call of a device lies between two of them.
//!
//! A [`Keeper`] never waits for a device: it hands out [`Call`]s and takes what came of them, so that
//! a custodian's act is carried out at once, whatever a device is busy with.

mod answers;
mod call;
mod custody;
mod desk;
mod order;
mod precaution;
mod trouble;
mod writing;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mintwarden_worker::{IssuerName, device::KeyHandle};

pub use call::{Answer, Call, KeyOps, KeyOpsError, Readiness, What};
pub use custody::{Heard, Request};
use desk::Desk;
pub use order::OrderError;
use trouble::Troubles;

use super::{
    Key, Keyset, Pairs, Phase, Policy, View,
    alarm::{Alarm, alarms},
    change::{self, Context},
    plan::{Act, Step, plan, timing},
};
use crate::{
    clock::{Clock, Now, Timekeeper, Tolerance},
    record::Event,
    store::{Change, Store, StoreError},
};

/// How often a device is asked what it shows, while its worker stays the same.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// Steps at a stretch; the next tick goes on.
const MAX_STEPS: usize = 256;

/// Sees each keyset as soon as it is stored, and before anything is counted for it.
pub type Show = Box<dyn Fn(&Keyset) + Send>;

/// Keeps the keyset of one issuer.
pub struct Keeper<S, C> {
    issuer: IssuerName,
    policy: Policy,
    pairs: Pairs,
    store: S,
    clock: C,
    show: Show,
    keyset: Option<Keyset>,
    desk: Desk,
    time: Timekeeper,
    view: View,
    /// Devices with a call under way.
    busy: BTreeSet<String>,
    /// By device: the start of its worker that was asked for its keys last, and when.
    looked: BTreeMap<String, (u64, Duration)>,
    troubles: Troubles,
    /// Whether the JWK Set was served at the last tick.
    serving: bool,
}

impl<S: Store, C: Clock> Keeper<S, C> {
    /// Loads the issuer's keyset, and takes over what the configuration says of its timing before
    /// anything is signed under it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(
        issuer: IssuerName,
        policy: Policy,
        pairs: Pairs,
        store: S,
        clock: C,
        show: Show,
    ) -> Result<Self, StoreError> {
        let keyset = store.load(&issuer).await?;
        let desk = Desk::new(store.proposals(&issuer).await?);
        let tolerance = Tolerance {
            skew: policy.skew,
            settle: policy.settle(),
            gap: (policy.maturity() / 10).clamp(Duration::from_secs(1), Duration::from_secs(5)),
        };
        let time = Timekeeper::start(
            keyset.as_ref().map(|keyset| &keyset.clock),
            clock.reading(),
            clock.boot_id(),
            tolerance,
        );
        let mut keeper = Self {
            issuer,
            policy,
            pairs,
            store,
            clock,
            show,
            keyset: None,
            desk,
            time,
            view: View::default(),
            busy: BTreeSet::new(),
            looked: BTreeMap::new(),
            troubles: Troubles::default(),
            serving: false,
        };
        if let Some(mut keyset) = keyset {
            let now = keeper.time.now();
            if keyset.phase == Phase::Published
                && timing::needs_adoption(&keyset, &now, &keeper.policy)
            {
                let clock = keeper.time.checkpoint();
                let cx = Context { now: &now, clock: &clock, policy: &keeper.policy };
                let next = change::carry_out(&keyset, &Act::AdoptTimings, cx);
                keeper
                    .store
                    .compare_and_swap(Change::of_keyset(Some(keyset.version), &next))
                    .await?;
                keyset = next;
            }
            (keeper.show)(&keyset);
            keeper.keyset = Some(keyset);
        }
        Ok(keeper)
    }

    /// The keyset as stored; `None` before `init`.
    #[must_use]
    pub fn keyset(&self) -> Option<&Keyset> {
        self.keyset.as_ref()
    }

    /// The present, as of the last tick.
    #[must_use]
    pub fn now(&self) -> Now {
        self.time.now()
    }

    /// What the devices show.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What is wanted.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Everything that a person should look at.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        let now = self.time.now();
        let known = self.keyset.iter().flat_map(|k| alarms(k, &now, &self.policy, &self.view));
        known.chain(self.troubles.alarms()).collect()
    }

    /// What the plan waits for, where that is a device or the store that failed.
    #[must_use]
    pub fn trouble(&self, ops: &impl KeyOps) -> Option<String> {
        let down = |device: &String| match ops.readiness(device) {
            Readiness::Down(why) => Some(format!("device {device}: {why}")),
            _ => None,
        };
        self.troubles.first().or_else(|| self.policy.devices.iter().find_map(down))
    }

    /// The devices that matter to the issuer: those it is configured for, and those with keys.
    #[must_use]
    pub fn devices(&self) -> BTreeSet<String> {
        let keys = self.keyset.iter().flat_map(|keyset| &keyset.keys);
        let keys = keys.filter(|key| key.is_live()).map(|key| &key.device);
        let lost = |device: &&String| !self.policy.lost_devices.contains(device);
        self.policy.devices.iter().chain(keys).filter(lost).cloned().collect()
    }

    /// Lets time pass: reads the clocks and the state of the devices. `serving`: whether the JWK Set
    /// is there for verifiers.
    pub fn tick(&mut self, serving: bool, ops: &impl KeyOps) {
        // Where nothing is published, verifiers are told nothing: that is no time served (I4).
        let published = self.keyset.as_ref().is_some_and(|keyset| keyset.phase == Phase::Published);
        let serving = serving && published;
        self.time.advance(self.clock.reading(), serving && self.serving);
        self.serving = serving;
        for device in self.devices() {
            self.view.set_usable(&device, ops.readiness(&device).start().is_some());
        }
    }

    /// Stores credit and clocks, so that a restart does not lose them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoint(&mut self) -> Result<(), StoreError> {
        let Some(keyset) = &self.keyset else { return Ok(()) };
        let next = keyset.at(self.time.checkpoint());
        self.write(next.into()).await
    }

    /// How much credit a crash may cost.
    #[must_use]
    pub fn checkpoint_every(&self) -> Duration {
        (self.policy.maturity() / 20).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    fn is_checkpoint_due(&self) -> bool {
        let now = self.time.checkpoint();
        self.keyset.as_ref().is_some_and(|keyset| {
            let stored = &keyset.clock;
            now.served.saturating_sub(stored.served) >= self.checkpoint_every()
                || now.offset != stored.offset
                || now.boot_id != stored.boot_id
        })
    }

    /// Carries out what needs only the store, and begins what needs a device: the calls to make now.
    pub async fn work(&mut self, ops: &impl KeyOps) -> Vec<Call> {
        if self.troubles.store_waits(self.boot()) {
            return vec![];
        }
        let mut calls = Vec::new();
        match self.steps(ops, &mut calls).await {
            Ok(()) => self.troubles.store_is_well(),
            Err(error) => self.store_failed(&error).await,
        }
        calls
    }

    async fn steps(&mut self, ops: &impl KeyOps, calls: &mut Vec<Call>) -> Result<(), StoreError> {
        if self.is_checkpoint_due() {
            self.checkpoint().await?;
        }
        self.settle().await?;
        calls.extend(self.looks(ops));
        for _ in 0..MAX_STEPS {
            let Some(Step { act, reason }) = self.next_step() else { break };
            let Some(keyset) = &self.keyset else { break };
            tracing::info!(issuer = %self.issuer, revision = keyset.revision, ?act, reason, "keyset step");
            match act {
                Act::Generate { device, algorithm } => {
                    // What cannot come to anything is no attempt: it leaves nothing behind.
                    if let Some(lacking) = ops.lacking(&device, &self.issuer) {
                        self.troubles.failed(&device, &lacking, self.boot());
                        continue;
                    }
                    let handle = fresh_handle(keyset, ops.handle_bytes(&device));
                    let at = self.time.now().moment.wall.seconds();
                    let intent = Key::intended(&device, handle.clone(), algorithm, at);
                    let step = stepped("generate", vec![intent.name()], reason);
                    self.swap(|keyset, cx| (change::intend(keyset, intent, cx), step)).await?;
                    calls.push(self.begin(device, What::Generate(algorithm, handle)));
                }
                Act::Settle { device, handle } => {
                    calls.push(self.begin(device, What::Find(handle)));
                }
                Act::Destroy { device, handle } => {
                    calls.push(self.begin(device, What::Destroy(handle)));
                }
                act => {
                    let key = |handle: &KeyHandle| keyset.by_handle(handle).map(Key::name);
                    let keys = act.handles().into_iter().filter_map(key).collect();
                    let step = stepped(act.name(), keys, reason);
                    self.swap(|keyset, cx| (change::carry_out(keyset, &act, cx), step)).await?;
                }
            }
        }
        Ok(())
    }

    /// Every step changes the state that the next plan is made from, so only the first is taken that
    /// does not wait for a device.
    fn next_step(&self) -> Option<Step> {
        let keyset = self.keyset.as_ref()?;
        let steps = plan(keyset, &self.time.now(), &self.policy, &self.view);
        steps.into_iter().find(|step| step.act.device().is_none_or(|device| self.is_free(device)))
    }

    fn is_free(&self, device: &str) -> bool {
        !self.busy.contains(device) && !self.troubles.waits(device, self.boot())
    }

    fn boot(&self) -> Duration {
        self.clock.reading().boot
    }

    fn begin(&mut self, device: String, what: What) -> Call {
        self.busy.insert(device.clone());
        Call { device, what }
    }

    /// Asks each device that came back, or was not asked for long, what it shows.
    fn looks(&mut self, ops: &impl KeyOps) -> Vec<Call> {
        let boot = self.boot();
        let due = |device: &String| {
            let start = ops.readiness(device).start()?;
            let fresh = self.looked.get(device).is_some_and(|(before, at)| {
                *before == start && boot.saturating_sub(*at) < LOOK_EVERY
            });
            (!fresh && self.is_free(device)).then(|| (device.clone(), start))
        };
        let due: Vec<_> = self.devices().iter().filter_map(due).collect();
        let look = |(device, start): (String, u64)| {
            self.looked.insert(device.clone(), (start, boot));
            self.begin(device, What::List)
        };
        due.into_iter().map(look).collect()
    }
}

/// A step of the plan, for the record.
fn stepped(step: &str, keys: Vec<String>, reason: String) -> Event {
    Event::Stepped { step: step.to_owned(), keys, reason }
}

/// A random handle that the keyset does not name. Where handles are short, other keysets of the same
/// device may have it: a device never replaces a key, and the next attempt takes another handle.
fn fresh_handle(keyset: &Keyset, bytes: usize) -> KeyHandle {
    let mut id = vec![0; bytes];
    loop {
        aws_lc_rs::rand::fill(&mut id).expect("the system's random generator works");
        let handle = KeyHandle::new(id.clone());
        let used = keyset.keys.iter().map(|key| &key.handle);
        let mut used = used.chain(keyset.leftovers.iter().map(|leftover| &leftover.handle));
        // All zeros or all ones mean "any" to some devices.
        let reserved = [0, u8::MAX].iter().any(|byte| id.iter().all(|other| other == byte));
        if !reserved && !used.any(|other| *other == handle) {
            return handle;
        }
    }
}

#[cfg(test)]
mod tests;
