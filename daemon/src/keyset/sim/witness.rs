//! What really happened, counted by the truth and not by the appliance; every write of the store is held
//! against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use mintwarden_worker::{device::KeyHandle, jwk::Kid};

use super::{Devices, SimClock, millis, verifiers::Kids};
use crate::keyset::{
    Destruction, Key, KeyState, Keyset, Phase, Policy, WishedFor,
    act::{CustodianAct, Fallback},
};

/// Sees what happens, shared by the world and its store.
#[derive(Clone)]
pub(super) struct Witness(Arc<Mutex<Seen>>);

pub(super) struct Seen {
    clock: SimClock,
    devices: Devices,
    pub(super) policy: Policy,
    /// What the custodian has just said.
    pub(super) order: Option<CustodianAct>,
    /// Keys that their devices did not show when the appliance last looked.
    pub(super) lost: BTreeSet<KeyHandle>,
    /// For how long each key was served to verifiers.
    served: BTreeMap<Kid, Duration>,
    /// The same of the issuer as a whole, and of late without an interruption.
    served_in_all: Duration,
    uninterrupted: Duration,
    /// When the youngest token of each key expires, by the truth.
    expires: BTreeMap<Kid, u64>,
    /// The configured R + P + S, and what had been served when it came.
    asked: (Duration, Duration),
    /// Whether verifiers have ever been told a set.
    has_published: bool,
    /// Keys that custodians let go: revoked, or activated immature.
    pub(super) excused: BTreeSet<Kid>,
}

impl Witness {
    pub(super) fn new(clock: SimClock, devices: Devices, policy: Policy) -> Self {
        let asked = (policy.maturity(), Duration::ZERO);
        Self(Arc::new(Mutex::new(Seen {
            clock,
            devices,
            policy,
            order: None,
            lost: BTreeSet::new(),
            served: BTreeMap::new(),
            served_in_all: Duration::ZERO,
            uninterrupted: Duration::ZERO,
            expires: BTreeMap::new(),
            asked,
            has_published: false,
            excused: BTreeSet::new(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("unpoisoned")
    }

    /// What the store tells of each write.
    pub(super) fn watch(&self) -> impl Fn(Option<&Keyset>, &Keyset) + Send + Sync + use<> {
        let witness = self.clone();
        move |before, after| witness.lock().written(before, after)
    }
}

impl Seen {
    /// Time has passed; `served` is the set that verifiers could read all the while.
    pub(super) fn passed(&mut self, time: Duration, served: Option<&Kids>) {
        let Some(kids) = served else {
            self.uninterrupted = Duration::ZERO;
            return;
        };
        self.has_published = true;
        self.served_in_all += time;
        self.uninterrupted += time;
        for kid in kids.iter() {
            match self.served.get_mut(kid) {
                Some(served) => *served += time,
                None => drop(self.served.insert(kid.clone(), time)),
            }
        }
    }

    pub(super) fn signed(&mut self, kid: &Kid) {
        let expires = self.clock.truth() + millis(self.policy.max_token_lifetime);
        match self.expires.get_mut(kid) {
            Some(youngest) => *youngest = expires.max(*youngest),
            None => drop(self.expires.insert(kid.clone(), expires)),
        }
    }

    pub(super) fn configured(&mut self, policy: &Policy) {
        if policy.maturity() != self.asked.0 {
            self.asked = (policy.maturity(), self.served_in_all);
        }
        self.policy = policy.clone();
    }

    fn holds(&self, key: &Key) -> bool {
        self.devices.with(&key.device, |sim| sim.keys.contains_key(&key.handle))
    }

    /// What has to hold of every write.
    fn written(&mut self, before: Option<&Keyset>, after: &Keyset) {
        bounded(after);
        let Some(before) = before else {
            self.first_write(after);
            return;
        };
        assert_eq!(after.version, before.version + 1, "I8: one compare-and-swap");
        let changed = (&before.keys, before.phase) != (&after.keys, after.phase);
        assert!(after.revision >= before.revision + u64::from(changed), "the revision grows");
        self.phase(before, after);
        self.timing(before, after);
        for old in &before.keys {
            match after.by_handle(&old.handle) {
                Some(new) => self.key(old, new, before, after),
                None => {
                    let may_go = matches!(old.state, KeyState::Destroyed | KeyState::Generating);
                    assert!(may_go, "I7: the record of a {:?} key vanished", old.state);
                }
            }
        }
        self.standbys(before, after);
    }

    /// An empty store: a custodian has said something, and nothing signs at once (I8).
    fn first_write(&self, after: &Keyset) {
        let init = matches!(self.order, Some(CustodianAct::Init));
        let recover = matches!(self.order, Some(CustodianAct::Recover { .. }));
        assert!(init || recover, "I8: nobody asked for a keyset");
        assert!(
            !after.keys.iter().any(|key| key.state == KeyState::Active),
            "I8: it signs at once"
        );
    }

    fn phase(&mut self, before: &Keyset, after: &Keyset) {
        let recover = matches!(self.order, Some(CustodianAct::Recover { .. }));
        let stays = before.phase == after.phase;
        let fits = match before.phase {
            Phase::Initialising => true,
            Phase::Published => after.phase == Phase::Published,
            Phase::Restored => stays || recover,
        };
        assert!(fits, "I8: {:?} became {:?}", before.phase, after.phase);
        let active = after.keys.iter().any(|key| key.state == KeyState::Active);
        assert!(before.phase != Phase::Restored || stays || !active, "I8: a key of a copy signs");
        if before.phase == Phase::Initialising && !stays && self.has_published {
            // A custodian said so, against what verifiers keep.
            let active = after.keys.iter().filter(|key| key.state == KeyState::Active);
            self.excused.extend(active.filter_map(Key::kid).cloned());
        }
    }

    /// A longer R + P + S counts at once, a shorter one when the longer has passed.
    fn timing(&self, before: &Keyset, after: &Keyset) {
        let (old, new) = (before.maturity.wait, after.maturity.wait);
        if new < old {
            let (asked, since) = self.asked;
            let passed = self.served_in_all - since;
            assert!(new == asked && passed >= old, "I4: {old:?} became {new:?} after {passed:?}");
        }
    }

    fn key(&mut self, old: &Key, new: &Key, before: &Keyset, after: &Keyset) {
        use KeyState::{
            Active, Compromised, Deactivated, Destroyed, Generating, PreActive, Suspended,
        };
        let fits = old.state == new.state
            || match old.state {
                Generating => matches!(new.state, PreActive | Deactivated | Compromised),
                PreActive => matches!(new.state, Active | Suspended | Deactivated | Compromised),
                Active => matches!(new.state, Suspended | Deactivated | Compromised),
                Suspended => matches!(new.state, PreActive | Active | Deactivated | Compromised),
                Deactivated => matches!(new.state, Compromised | Destroyed),
                Compromised => new.state == Destroyed,
                Destroyed => false,
            };
        assert!(fits, "a key that is {:?} became {:?}", old.state, new.state);
        assert!(!old.mature || new.mature, "I4: once mature, always mature");
        assert!(old.made.is_none() || old.made == new.made, "I3: a key has one pair");
        assert!(
            old.unpublished.is_none() || old.unpublished == new.unpublished,
            "what was taken back is not published again"
        );
        if new.mature && !old.mature {
            self.i4_served(new, before, "matured");
        }
        match (old.state, new.state) {
            (PreActive, Active) => self.activated(old, new, before, after),
            (state, Compromised) if state != Compromised => self.compromised(old, new),
            (state, Destroyed) if state != Destroyed => self.destroyed(old, new),
            _ => {}
        }
        if old.is_published() && !new.is_published() && new.state != Compromised {
            if new.state == Destroyed && self.revokes(new) {
                self.excused.extend(new.kid().cloned());
            } else {
                self.i5_unpublished(new);
            }
        }
    }

    /// I4: it was really served for as long as the keyset says.
    fn i4_served(&self, key: &Key, before: &Keyset, what: &str) {
        let kid = key.kid().expect("it was made");
        let served = self.served.get(kid).copied().unwrap_or_default();
        let wait = before.maturity.wait;
        assert!(served >= wait, "I4: {kid} {what} after {served:?} of {wait:?}");
        let (settled, settles) = (self.uninterrupted, self.policy.propagation + self.policy.skew);
        assert!(settled >= settles, "I4: {kid} {what} {settled:?} after an interruption");
    }

    fn activated(&mut self, old: &Key, new: &Key, before: &Keyset, after: &Keyset) {
        let first = before.phase == Phase::Initialising && after.phase == Phase::Published;
        if old.mature || first {
            return;
        }
        let wished = old.wish.as_ref().map(|wish| wish.what);
        let danger = wished == Some(WishedFor::DangerImmatureActivation)
            || matches!(
                self.order,
                Some(CustodianAct::Revoke { fallback: Some(Fallback::DangerImmature), .. })
            );
        if danger {
            self.excused.extend(new.kid().cloned());
        } else {
            self.i4_served(new, before, "was activated");
        }
    }

    /// What custodians revoke, and what a device does not hold any more of an older store.
    fn compromised(&mut self, old: &Key, new: &Key) {
        let fits = match self.order {
            Some(CustodianAct::Revoke { .. }) => true,
            Some(CustodianAct::Recover { .. }) => {
                !self.holds(old) || !old.kid().or(new.kid()).is_some_and(|k| self.has_signed(k))
            }
            _ => false,
        };
        assert!(fits, "I5: nobody revoked {}", old.name());
        self.excused.extend(new.kid().cloned());
    }

    /// Whether a custodian has just revoked this very key.
    fn revokes(&self, key: &Key) -> bool {
        let named = self.order.as_ref().filter(|act| matches!(act, CustodianAct::Revoke { .. }));
        named.and_then(CustodianAct::kid) == key.kid().map(Kid::as_str)
    }

    fn has_signed(&self, kid: &Kid) -> bool {
        self.expires.contains_key(kid)
    }

    /// A private key goes after its public key, unless a custodian wants it earlier or it went by
    /// itself.
    fn destroyed(&self, old: &Key, new: &Key) {
        let wished = old.wish.as_ref().is_some_and(|wish| wish.what == WishedFor::Destruction);
        let lost = self.policy.lost_devices.contains(&old.device);
        match new.destruction {
            Some(Destruction::DeviceLost) => assert!(lost, "{} is not lost", old.device),
            Some(_) => assert!(!self.holds(old), "I7: {} is still there", old.name()),
            None => panic!("nobody says what became of {}", old.name()),
        }
        assert!(wished || !old.is_published(), "{} was destroyed while published", old.name());
    }

    /// I5: nothing that it signed is valid any more, by any clock.
    fn i5_unpublished(&self, key: &Key) {
        let Some(expires) = key.kid().and_then(|kid| self.expires.get(kid)) else { return };
        let (until, truth) = (expires + millis(self.policy.skew), self.clock.truth());
        assert!(truth >= until, "I5: {} unpublished {} ms early", key.name(), until - truth);
    }

    /// I6: a scheduled change of the active key publishes its standbys with it.
    fn standbys(&self, before: &Keyset, after: &Keyset) {
        if before.phase != Phase::Published {
            return;
        }
        let state = |keyset: &Keyset, key: &Key| keyset.by_handle(&key.handle).map(|k| k.state);
        for successor in &after.keys {
            let was = state(before, successor);
            if successor.state != KeyState::Active || was != Some(KeyState::PreActive) {
                continue;
            }
            let mine = || after.keys.iter().filter(|key| key.device == successor.device);
            let scheduled = mine().any(|key| {
                let deactivated = key.state == KeyState::Deactivated;
                deactivated
                    && state(before, key) == Some(KeyState::Active)
                    && !self.lost.contains(&key.handle)
            });
            let standbys = mine().filter(|key| key.is_standby()).count();
            let wanted = self.policy.standbys;
            assert!(!scheduled || standbys >= wanted, "I6: {standbys} of {wanted} standbys");
        }
    }
}

/// One active key a device, a bounded number in all (I9), each with a pair of its own.
fn bounded(after: &Keyset) {
    let mut kids = BTreeSet::new();
    for kid in after.keys.iter().filter_map(Key::kid) {
        assert!(kids.insert(kid), "I3: two keys are of the pair {kid}");
    }
    for device in after.keys.iter().map(|key| &key.device).collect::<BTreeSet<_>>() {
        let of = |meant: &dyn Fn(&Key) -> bool| {
            after.keys.iter().filter(|key| key.device == *device && meant(key)).count()
        };
        assert!(of(&|key| key.state == KeyState::Active) <= 1, "two active keys in {device}");
        assert!(of(&|key| key.state == KeyState::Generating) <= 1, "two intents in {device}");
        assert!(of(&Key::is_live) <= Policy::MAX_KEYS, "the number of keys is bounded");
    }
}
