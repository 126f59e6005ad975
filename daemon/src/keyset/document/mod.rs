//! The document itself.

mod key;

use std::time::Duration;

use mintwarden_worker::{IssuerName, device::KeyHandle, jwk::Kid};
use serde::{Deserialize, Serialize};

use super::Policy;
use crate::clock::{Checkpoint, Moment, Now, UnixTime, millis};

pub use key::{Destruction, Key, KeyState, MadeKey, Signatures, Suspension, Wish, WishedFor};

/// All keys of one issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyset {
    /// The issuer.
    pub issuer: IssuerName,
    /// Grows by one with every write; what compare-and-swap compares.
    pub version: u64,
    /// Grows by one with every change of a key; checkpoints of the clock leave it as it is.
    pub revision: u64,
    /// How far the issuer has come.
    pub phase: Phase,
    /// Credit and clocks at the last write (I4, I11).
    pub clock: Checkpoint,
    /// How long a key has to be served before every verifier knows it.
    pub maturity: Maturity,
    /// Its keys, oldest first.
    pub keys: Vec<Key>,
    /// What failed attempts may have left in a device: never used, never deleted by us (I7).
    pub leftovers: Vec<Leftover>,
}

/// How far an issuer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A custodian said `init`; its first keys are being made and none is published.
    Initialising,
    /// Its keys are published, and it signs.
    Published,
    /// The store was put back from a copy: what happened since is unknown, so nothing is signed and
    /// nothing published until a custodian says `recover` (I8).
    Restored,
}

/// R + P + S as it is in force. A longer one counts at once, a shorter one only when the longer has
/// passed: until then verifiers may still keep what they read under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maturity {
    /// What counts.
    #[serde(with = "millis")]
    pub wait: Duration,
    /// A shorter one that the configuration asks for.
    pub lowering: Option<Lowering>,
}

/// A shorter wait that does not count yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lowering {
    /// The wait asked for.
    #[serde(with = "millis")]
    pub to: Duration,
    /// Since when.
    pub since: Moment,
}

/// An attempt that did not give a good key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leftover {
    /// The device.
    pub device: String,
    /// The handle that the attempt used.
    pub handle: KeyHandle,
    /// What is wrong with it.
    pub reason: String,
    /// When it was given up.
    pub at: UnixTime,
    /// Whether it keeps no further attempt from being made any more: a key was made in its device since, or
    /// a custodian said `init` or `rotate`.
    pub settled: bool,
}

impl Phase {
    /// The phase in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialising => "being initialised",
            Self::Published => "published",
            Self::Restored => "restored from a copy",
        }
    }
}

impl Keyset {
    /// Failed attempts in a row in one device before a person has to look.
    pub const ATTEMPTS: usize = 5;

    /// The first document of an issuer.
    #[must_use]
    pub fn new(issuer: IssuerName, phase: Phase, wait: Duration, clock: Checkpoint) -> Self {
        Self {
            issuer,
            version: 1,
            revision: 1,
            phase,
            clock,
            maturity: Maturity { wait, lowering: None },
            keys: vec![],
            leftovers: vec![],
        }
    }

    /// The keys that verifiers may see, in the order of the document.
    pub fn published(&self) -> impl Iterator<Item = (&Key, &MadeKey)> {
        let published = self.phase == Phase::Published;
        self.keys
            .iter()
            .filter(move |key| published && key.is_published())
            .filter_map(|key| Some((key, key.made.as_ref()?)))
    }

    /// Whether a key was suspended while it signed and no other has come to sign in its device since: nothing
    /// takes its place by itself.
    #[must_use]
    pub fn holds_a_place(&self, key: &Key) -> bool {
        let since = |key: &Key| key.activated.map(|at| (at.served, at.wall));
        let later = |other: &Key| other.device == key.device && since(other) > since(key);
        key.is_held() && !self.keys.iter().any(later)
    }

    /// The key that signs in `device`.
    #[must_use]
    pub fn active(&self, device: &str) -> Option<(&Key, &MadeKey)> {
        self.published().find(|(key, _)| key.state == KeyState::Active && key.device == device)
    }

    /// Whether `kid` is the key that signs in `device`.
    #[must_use]
    pub fn is_active(&self, device: &str, kid: &Kid) -> bool {
        self.active(device).is_some_and(|(_, made)| made.kid == *kid)
    }

    /// The key with this `kid`.
    #[must_use]
    pub fn by_kid(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid().is_some_and(|made| made.as_str() == kid))
    }

    /// The key with this handle.
    #[must_use]
    pub fn by_handle(&self, handle: &KeyHandle) -> Option<&Key> {
        self.keys.iter().find(|key| key.handle == *handle)
    }

    pub(super) fn by_handle_mut(&mut self, handle: &KeyHandle) -> Option<&mut Key> {
        self.keys.iter_mut().find(|key| key.handle == *handle)
    }

    /// Whether the document names this handle of a device, as a key or as a leftover.
    #[must_use]
    pub fn names(&self, device: &str, handle: &KeyHandle) -> bool {
        let keys = self.keys.iter().map(|key| (&key.device, &key.handle));
        let leftovers = self.leftovers.iter().map(|left| (&left.device, &left.handle));
        keys.chain(leftovers).any(|named| named == (&device.to_owned(), handle))
    }

    /// The attempts in a row that came to nothing in `device`.
    pub(super) fn failed_attempts(&self, device: &str) -> usize {
        let failed = |left: &&Leftover| left.device == device && !left.settled;
        self.leftovers.iter().filter(failed).count()
    }

    /// Allows more attempts at keys in `device`.
    pub(super) fn settle_attempts(&mut self, device: &str) {
        let of_device = self.leftovers.iter_mut().filter(|left| left.device == device);
        of_device.for_each(|left| left.settled = true);
    }

    /// Allows more attempts at keys in all devices, since a custodian says so.
    pub(super) fn allow_more_attempts(&mut self) {
        self.leftovers.iter_mut().for_each(|left| left.settled = true);
    }

    /// Notes what an attempt that failed may have left. Where as many are on record as are kept, the oldest that is
    /// settled gives way (I9): what it left in a device is then an object that no record names, which is an alarm
    /// too (I7).
    pub(super) fn leave(&mut self, leftover: Leftover) {
        if self.leftovers.len() >= Policy::MAX_LEFTOVERS {
            let oldest = self.leftovers.iter().position(|left| left.settled);
            self.leftovers.remove(oldest.unwrap_or(0));
        }
        self.leftovers.push(leftover);
    }

    /// The successor of this document: the same with `change` made, by the clocks as they are.
    #[must_use]
    pub fn succeed(&self, clock: Checkpoint, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.at(clock);
        change(&mut next);
        next.revision = self.revision + 1;
        next
    }

    /// The same document by the clocks as they are: credit is kept, nothing else changes.
    #[must_use]
    pub fn at(&self, clock: Checkpoint) -> Self {
        Self { version: self.version + 1, clock, ..self.clone() }
    }
}

impl Now {
    /// The last possible moment of a signature by a key that is being stopped and has signed since `since`
    /// at the earliest: the latest that the wall clock has shown since, and `margin` (I5).
    #[must_use]
    pub fn stop(&self, since: Option<Moment>, margin: Duration) -> Moment {
        let latest = self.peaks.since(since.map_or(Duration::ZERO, |since| since.served));
        Moment { wall: latest.plus(margin), served: self.moment.served + margin }
    }
}
