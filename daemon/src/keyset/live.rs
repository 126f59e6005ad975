//! The keyset that requests see: a snapshot that is replaced as a whole.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::{Key, Keyset, MadeKey, Policy, View, alarm};
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
    jwks: watch::Sender<Option<Jwks>>,
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

impl LiveIssuer {
    /// An issuer whose keyset is not loaded yet.
    #[must_use]
    pub fn new(config: config::Issuer) -> Self {
        Self {
            policy: Policy::from(&config),
            config,
            snapshot: ArcSwapOption::empty(),
            report: ArcSwapOption::empty(),
            jwks: watch::Sender::new(None),
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

    /// Its JWK Set, whenever it changes.
    #[must_use]
    pub fn watch_jwks(&self) -> watch::Receiver<Option<Jwks>> {
        self.jwks.subscribe()
    }

    /// The key that may sign in `device` now: active, and not past `sign_until`. Whether the device
    /// holds it, its worker knows.
    #[must_use]
    pub fn signs<'a>(
        &self,
        snapshot: &'a Snapshot,
        device: &str,
    ) -> Option<(&'a Key, &'a MadeKey)> {
        let (key, made) = snapshot.keyset.active(device)?;
        let past = alarm::past_sign_until(key.activated, clock::wall(), &self.policy);
        (!past).then_some((key, made))
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
        self.jwks.send_if_modified(|now| {
            let changed = now.as_ref().map(|j| &j.etag) != jwks.as_ref().map(|j| &j.etag);
            *now = jwks;
            changed
        });
    }

    pub(super) fn set_report(&self, report: Report) {
        self.report.store(Some(Arc::new(report)));
    }
}
