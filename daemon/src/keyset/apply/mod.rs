//! Carries out the steps of a [`plan`](super::plan): each change of the keyset is one
//! compare-and-swap, each call of a device lies between two of them.
//!
//! A [`Keeper`] never waits for a device: it hands out [`Call`]s and takes what came of them, so that
//! a custodian's act is carried out at once, whatever a device is busy with.

mod call;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mintwarden_worker::{
    IssuerName,
    device::{DeviceKey, KeyHandle},
    jwk::PublicJwk,
};

pub use call::{Answer, Call, KeyOps, KeyOpsError, Readiness, What};
use trouble::Troubles;

use super::{
    Key, Keyset, Pairs, Phase, Policy, View,
    act::{self, CustodianAct, Refusal},
    alarm::{Alarm, alarms},
    change::{self, Context},
    plan::{Act, Step, obstacle, plan, timing},
};
use crate::{
    clock::{Checkpoint, Clock, Now, Timekeeper, Tolerance},
    store::{Store, StoreError},
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

/// Why a custodian's act was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed; whether the act was stored is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A device could not be asked.
    #[error(transparent)]
    Device(#[from] KeyOpsError),
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
                keeper.store.compare_and_swap(Some(keyset.version), &next).await?;
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
        self.write(next).await
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
                    self.swap(|keyset, cx| change::intend(keyset, intent, cx)).await?;
                    calls.push(self.begin(device, What::Generate(algorithm, handle)));
                }
                Act::Settle { device, handle } => {
                    calls.push(self.begin(device, What::Find(handle)));
                }
                Act::Destroy { device, handle } => {
                    calls.push(self.begin(device, What::Destroy(handle)));
                }
                act => self.swap(|keyset, cx| change::carry_out(keyset, &act, cx)).await?,
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

    /// Takes what came of a call.
    pub async fn finish(&mut self, call: &Call, outcome: Result<Answer, KeyOpsError>) {
        self.busy.remove(&call.device);
        let stored = match outcome {
            Ok(answer) => {
                self.troubles.is_well(&call.device);
                self.take(&call.device, answer).await
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, %error, ?call, "a device could not do its part");
                self.looked.remove(&call.device);
                self.troubles.failed(&call.device, &error, self.clock.reading().boot);
                Ok(())
            }
        };
        if let Err(error) = stored {
            self.store_failed(&error).await;
        }
    }

    async fn take(&mut self, device: &str, answer: Answer) -> Result<(), StoreError> {
        match answer {
            Answer::Key(handle, mut found) => {
                if let Some(found) = &mut found {
                    self.claim(&handle, found);
                }
                if let Some(found) = &found {
                    self.view.made(device, found);
                }
                // What was intended may have been recovered or revoked meanwhile.
                let open = self.by_handle(&handle).is_some_and(|key| key.made.is_none());
                if !open {
                    return Ok(());
                }
                let mut given_up = None;
                self.swap(|keyset, cx| {
                    let (next, why) = change::adopt(keyset, &handle, found, cx);
                    given_up = why;
                    next
                })
                .await?;
                if let Some(reason) = given_up {
                    tracing::error!(issuer = %self.issuer, device, ?handle, reason, "a key pair was given up");
                }
                Ok(())
            }
            Answer::Listed(keys) => {
                self.view.listed(device, &keys);
                Ok(())
            }
            Answer::Gone(handle, was_there) => {
                self.view.gone(device, &handle);
                if !was_there {
                    tracing::error!(issuer = %self.issuer, device, ?handle, "a key to be destroyed was not there");
                }
                self.swap(|keyset, cx| change::destroyed(keyset, &handle, !was_there, cx)).await
            }
        }
    }

    /// A pair that another key has, of whichever issuer, has a defect: a token would verify as another
    /// issuer's.
    fn claim(&self, handle: &KeyHandle, found: &mut DeviceKey) {
        let Some(public) = found.public.as_ref().filter(|_| found.defects.is_empty()) else {
            return;
        };
        if let Err(other) = self.pairs.claim(&public.kid(), &self.issuer, handle) {
            found.defects.push(format!(
                "the device gave the same key twice: issuer {other} has it already; its random \
                 generator may be broken"
            ));
        }
    }

    fn by_handle(&self, handle: &KeyHandle) -> Option<&Key> {
        self.keyset.as_ref()?.by_handle(handle)
    }

    /// Carries out a custodian's act, in one compare-and-swap. What it leaves to do is the plan's.
    ///
    /// # Errors
    /// [`OrderError`]; nothing has changed, unless the store failed.
    pub async fn order(
        &mut self,
        act: &CustodianAct,
        reason: &str,
        ops: &impl KeyOps,
    ) -> Result<(), OrderError> {
        let shown = match act {
            CustodianAct::Recover { .. } => self.look_everywhere(ops).await?,
            _ => vec![],
        };
        let now = self.time.advance(self.clock.reading(), self.serving);
        let clock = self.time.checkpoint();
        let cx = Context { now: &now, clock: &clock, policy: &self.policy };
        let keyset = self.keyset.as_ref();
        let next = match act {
            CustodianAct::Init => act::init(keyset, &self.issuer, cx)?,
            CustodianAct::Recover { danger_immature } => {
                act::recover(keyset, &self.issuer, &shown, *danger_immature, cx)?
            }
            act => act::decide(keyset, act, reason, cx)?,
        };
        self.troubles.forget();
        if let Err(error) = self.write(next).await {
            self.store_failed(&error).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Why the first keys are not made although a custodian said `init`: a device holds keys of the
    /// issuer already, so that it has published before.
    #[must_use]
    pub fn init_refused(&self) -> Option<Refusal> {
        let keyset = self.keyset.as_ref().filter(|k| k.phase == Phase::Initialising)?;
        let (device, _) = self.view.unnamed(keyset).next()?;
        Some(Refusal::KeysInDevice(device.to_owned()))
    }

    /// Why no key is made until a person acts.
    #[must_use]
    pub fn given_up(&self) -> Option<String> {
        let keyset = self.keyset.as_ref()?;
        self.policy.devices.iter().find_map(|device| obstacle(keyset, device))
    }

    /// Whether no other key is of the same pair: what verifies as two issuers' is not recovered.
    fn is_its_own(&self, key: &DeviceKey) -> bool {
        let kid = key.public.as_ref().map(PublicJwk::kid);
        let claimed = kid.map(|kid| self.pairs.claim(&kid, &self.issuer, &key.handle));
        claimed.is_none_or(|claimed| claimed.is_ok())
    }

    async fn look_everywhere(
        &mut self,
        ops: &impl KeyOps,
    ) -> Result<Vec<(String, Vec<DeviceKey>)>, KeyOpsError> {
        let mut shown = Vec::new();
        for device in self.devices() {
            let mut keys = ops.list(&device, &self.issuer).await?;
            self.view.set_usable(&device, true);
            self.view.listed(&device, &keys);
            keys.retain(|key| self.is_its_own(key));
            shown.push((device, keys));
        }
        Ok(shown)
    }

    async fn swap(
        &mut self,
        change: impl FnOnce(&Keyset, Context<'_>) -> Keyset,
    ) -> Result<(), StoreError> {
        self.time.advance(self.clock.reading(), self.serving);
        let Some(keyset) = &self.keyset else { return Ok(()) };
        let (now, clock): (Now, Checkpoint) = (self.time.now(), self.time.checkpoint());
        let cx = Context { now: &now, clock: &clock, policy: &self.policy };
        let next = change(keyset, cx);
        self.write(next).await
    }

    async fn write(&mut self, next: Keyset) -> Result<(), StoreError> {
        let expected = self.keyset.as_ref().map(|keyset| keyset.version);
        let began = self.boot();
        self.store.compare_and_swap(expected, &next).await?;
        (self.show)(&next);
        let before = self.keyset.replace(next);
        // What was just published is counted from here on, not from when it was written.
        self.time.skip(self.clock.reading());
        if self.boot().saturating_sub(began) > change::STOP_MARGIN {
            self.prolong_stops(before).await?;
        }
        Ok(())
    }

    /// A store that took its time let keys sign for longer than their records say (I5).
    async fn prolong_stops(&mut self, before: Option<Keyset>) -> Result<(), StoreError> {
        let (Some(before), Some(keyset)) = (before, &self.keyset) else { return Ok(()) };
        let (now, clock) = (self.time.now(), self.time.checkpoint());
        let cx = Context { now: &now, clock: &clock, policy: &self.policy };
        let Some(next) = change::prolong_stops(&before, keyset, cx) else { return Ok(()) };
        self.store.compare_and_swap(Some(keyset.version), &next).await?;
        (self.show)(&next);
        self.keyset = Some(next);
        Ok(())
    }

    /// Whatever happened, requests see what is stored, never what was only intended.
    async fn store_failed(&mut self, error: &StoreError) {
        tracing::error!(issuer = %self.issuer, %error, "the keyset could not be written");
        self.troubles.store_failed(error, self.boot());
        if let Ok(stored) = self.store.load(&self.issuer).await {
            stored.iter().for_each(|keyset| (self.show)(keyset));
            self.keyset = stored.or(self.keyset.take());
        }
    }
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
