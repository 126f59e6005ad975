//! The keyset that requests see: a snapshot that is replaced as a whole.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use mintwarden_worker::jwk::Kid;
use tokio::sync::watch;

use super::{
    Key, KeyState, Keyset, MadeKey, Policy, View, alarm,
    proposal::{Proposals, Quorum},
    suspects::{Suspects, Verdict},
};
use crate::{
    clock::{self, Now},
    config,
    jwks::Jwks,
};

/// An issuer as requests see it.
#[derive(Debug)]
pub struct LiveIssuer {
    /// Its configuration.
    pub config: config::Issuer,
    policy: Policy,
    snapshot: ArcSwapOption<Snapshot>,
    report: ArcSwapOption<Report>,
    quorum: Quorum,
    proposals: ArcSwap<Proposals>,
    jwks: watch::Sender<Option<Jwks>>,
    suspects: Suspects,
}

/// A keyset, and what is rendered from it.
#[derive(Debug)]
pub struct Snapshot {
    /// The keyset as stored.
    pub keyset: Keyset,
    /// Its JWK Set, once published.
    pub jwks: Option<Jwks>,
}

/// How an issuer's keys are, as its steward saw it last.
#[derive(Debug)]
pub struct Report {
    /// When.
    pub now: Now,
    /// What the devices showed.
    pub view: View,
    /// What a person should look at.
    pub alarms: Vec<alarm::Alarm>,
}

/// Why no key of an issuer may sign in a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// None is active there.
    NoActiveKey,
    /// The one that signed is suspended.
    Suspended,
    /// It has reached `sign_until`.
    PastSignUntil,
}

impl Idle {
    /// The stable reason.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoActiveKey => "NO_ACTIVE_KEY",
            Self::Suspended => "KEY_SUSPENDED",
            Self::PastSignUntil => "PAST_SIGN_UNTIL",
        }
    }
}

impl LiveIssuer {
    /// An issuer whose keyset is not loaded yet, and who decides about it.
    #[must_use]
    pub fn new(config: config::Issuer, quorum: Quorum) -> Self {
        Self {
            proposals: ArcSwap::from_pointee(Proposals::none(config.name().clone())),
            quorum,
            policy: Policy::from(&config),
            config,
            snapshot: ArcSwapOption::empty(),
            report: ArcSwapOption::empty(),
            jwks: watch::Sender::new(None),
            suspects: Suspects::default(),
        }
    }

    /// What the configuration wants of its keys.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The keyset now; `None` before `init`.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// How its keys are; `None` until its steward has looked.
    #[must_use]
    pub fn report(&self) -> Option<Arc<Report>> {
        self.report.load_full()
    }

    /// Who has to agree to acts on it.
    #[must_use]
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// What is proposed, and what was.
    #[must_use]
    pub fn proposals(&self) -> Arc<Proposals> {
        self.proposals.load_full()
    }

    /// Its JWK Set, whenever it changes.
    #[must_use]
    pub fn watch_jwks(&self) -> watch::Receiver<Option<Jwks>> {
        self.jwks.subscribe()
    }

    /// The key that may sign in `device` now: active, not condemned, and not past `sign_until`. Whether
    /// the device holds it, its worker knows.
    ///
    /// # Errors
    /// [`Idle`]: why there is none.
    pub fn signs<'a>(
        &self,
        snapshot: &'a Snapshot,
        device: &str,
    ) -> Result<(&'a Key, &'a MadeKey), Idle> {
        let Some((key, made)) = snapshot.keyset.active(device) else {
            let keyset = &snapshot.keyset;
            let held = |key: &Key| key.device == device && keyset.holds_a_place(key);
            let held = keyset.keys.iter().any(held);
            return Err(if held { Idle::Suspended } else { Idle::NoActiveKey });
        };
        if self.suspects.is_condemned(&made.kid) {
            return Err(Idle::Suspended);
        }
        if alarm::past_sign_until(key.activated, clock::wall(), &self.policy) {
            return Err(Idle::PastSignUntil);
        }
        Ok((key, made))
    }

    /// Notes that signatures by an active key did not verify, made by the `start`-th worker process of
    /// its device. Twice in a row suspends the key: at once here, and then in the keyset.
    pub fn signed_wrong(&self, device: &str, kid: &Kid, start: u64) -> Verdict {
        match self.snapshot() {
            Some(now) if now.keyset.is_active(device, kid) => self.suspects.wrong(kid, start),
            // What was under way when it was stopped says nothing new.
            _ => Verdict::Again,
        }
    }

    /// Notes that signatures by a key did verify, made by the `start`-th worker process of its device.
    pub fn signed_right(&self, kid: &Kid, start: u64) {
        self.suspects.right(kid, start);
    }

    /// The keys that signed wrong.
    pub(super) fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// The devices whose keys may sign, in order of preference: those configured, then those that are
    /// on their way out.
    pub fn signing_devices<'a>(
        &'a self,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = &'a String> {
        let configured = &self.config.devices;
        let others = snapshot.keyset.keys.iter().map(|key| &key.device);
        configured.iter().chain(others.filter(|device| !configured.contains(device)))
    }

    /// Shows a keyset to all requests from now on. Only after it is stored.
    pub(super) fn show(&self, keyset: &Keyset) {
        let jwks = Jwks::render(keyset, self.config.jwks_max_age);
        let snapshot = Snapshot { keyset: keyset.clone(), jwks: jwks.clone() };
        self.snapshot.store(Some(Arc::new(snapshot)));
        // From here on it is the keyset that says of a condemned key that it is suspended.
        let active = |(key, _): &(&Key, &MadeKey)| key.state == KeyState::Active;
        let active: Vec<&Kid> =
            keyset.published().filter(active).map(|(_, made)| &made.kid).collect();
        self.suspects.retain(|kid| active.contains(&kid));
        self.jwks.send_if_modified(|now| {
            let changed = now.as_ref().map(|j| &j.etag) != jwks.as_ref().map(|j| &j.etag);
            *now = jwks;
            changed
        });
    }

    pub(super) fn show_proposals(&self, proposals: &Proposals) {
        if **self.proposals.load() != *proposals {
            self.proposals.store(Arc::new(proposals.clone()));
        }
    }

    pub(super) fn set_report(&self, report: Report) {
        self.report.store(Some(Arc::new(report)));
    }
}
