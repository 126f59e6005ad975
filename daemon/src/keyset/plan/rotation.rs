//! Active keys and standbys of one device (DESIGN.md "Rotation timing" 1, 2, 6; I4, I6).

use mintwarden_worker::device::KeyHandle;

use super::{
    Act, Obstacle, Step,
    timing::{self, is_mature},
};
use crate::{
    clock::Now,
    keyset::{Key, KeyState, Keyset, Policy, View, Wish, WishedFor},
};

/// How many suspended standbys of a device are made up for by new ones (I9).
const SUSPENDED_STANDBYS: usize = 2;

/// Whether a key may be made in a device now: it answers, no attempt is open, and there is room (I9).
pub(super) fn may_generate(keyset: &Keyset, view: &View, device: &str) -> bool {
    let open =
        keyset.keys.iter().any(|key| key.device == device && key.state == KeyState::Generating);
    view.usable(device) && !open && Obstacle::of(keyset, device).is_none()
}

/// The keys of one device by what they are for.
struct Standing<'a> {
    keyset: &'a Keyset,
    now: &'a Now,
    policy: &'a Policy,
    view: &'a View,
    device: &'a str,
    active: Option<&'a Key>,
    standbys: Vec<&'a Key>,
    spares: Vec<&'a Key>,
}

/// Why the active key is to be replaced.
struct Due {
    reason: String,
    /// It cannot sign: nothing is waited for.
    urgent: bool,
    /// Only a key that the configuration asks for is better.
    fit_only: bool,
}

pub(super) fn of_device(
    keyset: &Keyset,
    now: &Now,
    policy: &Policy,
    view: &View,
    device: &str,
) -> Vec<Step> {
    let keys = || keyset.keys.iter().filter(|key| key.device == device);
    let standing = Standing {
        keyset,
        now,
        policy,
        view,
        device,
        active: keys().find(|key| key.state == KeyState::Active),
        standbys: keys().filter(|key| key.is_standby()).collect(),
        spares: keys().filter(|key| key.is_spare()).collect(),
    };
    let held = keys().any(|key| keyset.holds_a_place(key));
    standing.steps(held)
}

/// Why the active key of a device is to be replaced now, in words; `None` while it is not.
#[must_use]
pub(in crate::keyset) fn why_rotation_is_due(
    keyset: &Keyset,
    now: &Now,
    policy: &Policy,
    view: &View,
    active: &Key,
) -> Option<String> {
    why_due(keyset, now, policy, view, active).map(|due| due.reason)
}

fn why_due(keyset: &Keyset, now: &Now, policy: &Policy, view: &View, active: &Key) -> Option<Due> {
    let due = |reason: String| Due { reason, urgent: false, fit_only: false };
    if let Some(loss) = view.loss(active) {
        return Some(Due { urgent: true, ..due(format!("the active key is lost: {loss}")) });
    }
    if let Some(wish) = asked_for(keyset, view, active) {
        return Some(due(format!("a custodian asked for it: {}", wish.reason)));
    }
    if !policy.wants(active) {
        let reason = format!("the configuration asks for {}", policy.wanted());
        return Some(Due { fit_only: true, ..due(reason) });
    }
    if !timing::frozen(now) && timing::age(active, now) >= policy.rotate_every {
        let every = humantime::format_duration(policy.rotate_every);
        return Some(due(format!("the active key is {every} old")));
    }
    None
}

/// What a custodian has said by which an active key is to be replaced.
#[must_use]
pub(in crate::keyset) fn asked_for<'a>(
    keyset: &'a Keyset,
    view: &View,
    active: &'a Key,
) -> Option<&'a Wish> {
    let own = active.wish.as_ref().filter(|wish| wish.what == WishedFor::Rotation);
    own.or_else(|| wished_for(keyset, view, &active.device)?.wish.as_ref())
}

/// The standby of a device that a custodian wants to be active, if the device shows it.
fn wished_for<'a>(keyset: &'a Keyset, view: &View, device: &str) -> Option<&'a Key> {
    let wished = |key: &&Key| key.device == device && key.is_standby() && key.wish.is_some();
    keyset.keys.iter().find(wished).filter(|key| view.loss(key).is_none())
}

impl<'a> Standing<'a> {
    fn steps(&self, held: bool) -> Vec<Step> {
        let due = match self.active {
            Some(active) => why_due(self.keyset, self.now, self.policy, self.view, active),
            None => self.why_first(held),
        };
        let candidate = due.as_ref().and_then(|due| Some((due, self.candidate(due)?)));
        match candidate {
            Some((due, candidate)) => {
                vec![self.rotate(due, candidate)].into_iter().flatten().collect()
            }
            None => [self.keep_standbys(), self.withdraw()].concat(),
        }
    }

    /// A device without an active key gets one, unless a custodian holds it.
    fn why_first(&self, held: bool) -> Option<Due> {
        let wished =
            wished_for(self.keyset, self.view, self.device).and_then(|key| key.wish.as_ref());
        let reason = match wished {
            Some(wish) => format!("a custodian asked for it: {}", wish.reason),
            None if held => return None,
            None => format!("no key signs in {}", self.device),
        };
        Some(Due { reason, urgent: true, fit_only: false })
    }

    fn usable(&self, key: &Key) -> bool {
        self.view.loss(key).is_none()
    }

    fn fit(&self, key: &Key) -> bool {
        self.policy.wants(key) && self.usable(key)
    }

    /// The standby that takes over: the one that a custodian named, or the oldest mature one.
    fn candidate(&self, due: &Due) -> Option<&'a Key> {
        let mature = |key: &&Key| is_mature(key, self.keyset, self.now, self.policy);
        let wished = wished_for(self.keyset, self.view, self.device).filter(|key| {
            mature(key)
                || key.wish.as_ref().is_some_and(|w| w.what == WishedFor::DangerImmatureActivation)
        });
        let usable = || self.standbys.iter().copied().filter(|key| self.usable(key)).filter(mature);
        let fit = usable().find(|key| self.fit(key));
        wished.or(fit).or_else(|| usable().next().filter(|_| !due.fit_only))
    }

    fn rotate(&self, due: &Due, candidate: &Key) -> Option<Step> {
        let rest =
            self.standbys.iter().filter(|key| self.fit(key) && key.handle != candidate.handle);
        let lacking = self.policy.standbys.saturating_sub(rest.count());
        let publish: Vec<KeyHandle> = self.fit_spares().take(lacking).collect();
        if publish.len() < lacking && !due.urgent {
            return self.generate(&due.reason);
        }
        let act = Act::Rotate {
            publish,
            activate: candidate.handle.clone(),
            deactivate: self.active.map(|key| key.handle.clone()),
        };
        Some(Step::new(act, due.reason.clone()))
    }

    /// As many standbys as the configuration wants; one more where none is active yet. Standbys that were
    /// suspended are made up for, but not without end: one person may suspend.
    fn keep_standbys(&self) -> Vec<Step> {
        let suspended = self.keyset.keys.iter().filter(|key| {
            key.device == self.device && key.state == KeyState::Suspended && key.activated.is_none()
        });
        let not_made_up_for = suspended.count().saturating_sub(SUSPENDED_STANDBYS);
        let have = self.standbys.iter().filter(|key| self.fit(key)).count() + not_made_up_for;
        let wanted = self.policy.standbys + usize::from(self.active.is_none());
        if have >= wanted {
            return vec![];
        }
        let reason = format!("{} has {have} of {wanted} standbys", self.device);
        match self.fit_spares().next() {
            Some(spare) => vec![Step::new(Act::Publish(spare), reason)],
            None => self.generate(&reason).into_iter().collect(),
        }
    }

    fn fit_spares(&self) -> impl Iterator<Item = KeyHandle> {
        self.spares.iter().filter(|key| self.fit(key)).map(|key| key.handle.clone())
    }

    fn generate(&self, reason: &str) -> Option<Step> {
        may_generate(self.keyset, self.view, self.device).then(|| {
            let device = self.device.to_owned();
            let act = Act::Generate { device, algorithm: self.policy.algorithm };
            Step::new(act, reason)
        })
    }

    /// Standbys of another algorithm or size go once the configured one is in full use.
    fn withdraw(&self) -> Vec<Step> {
        let settled = self.active.is_some_and(|key| self.policy.wants(key))
            && self.standbys.iter().filter(|key| self.fit(key)).count() >= self.policy.standbys;
        if !settled {
            return vec![];
        }
        let others = self.standbys.iter().chain(&self.spares);
        let others = others.filter(|key| !self.policy.wants(key));
        let retire = |key: &&Key| {
            let reason = format!("the configuration asks for {}", self.policy.wanted());
            Step::new(Act::Retire(key.handle.clone()), reason)
        };
        others.map(retire).collect()
    }
}
