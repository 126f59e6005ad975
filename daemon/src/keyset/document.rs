//! The document itself.

use mintwarden_worker::{
    Algorithm, IssuerName,
    device::KeyHandle,
    jwk::{Kid, PublicJwk},
};
use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;

/// All keys of one issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyset {
    /// The issuer.
    pub issuer: IssuerName,
    /// Grows by one with every change; what compare-and-swap compares.
    pub revision: u64,
    /// How far the issuer has come.
    pub phase: Phase,
    /// Its keys, oldest first.
    pub keys: Vec<Key>,
    /// What failed attempts may have left in a device: never used, never deleted by us (I7).
    pub leftovers: Vec<Leftover>,
    /// No further attempt is made once there are so many leftovers; a custodian's `init` raises it.
    pub leftovers_allowed: usize,
}

/// How far an issuer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A custodian said `init`; its first keys are being made and none is published.
    Initialising,
    /// Its keys are published, and it signs.
    Published,
}

/// One key of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The device that holds it.
    pub device: String,
    /// What finds it there.
    pub handle: KeyHandle,
    /// Its state.
    pub state: KeyState,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// When its making was decided.
    pub created_at: UnixTime,
    /// When its state last changed.
    pub changed_at: UnixTime,
    /// Its public half, from the moment that the device showed a complete pair.
    pub made: Option<MadeKey>,
}

/// The public half of a key that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PublicJwk", into = "PublicJwk")]
pub struct MadeKey {
    /// The thumbprint of `jwk`.
    pub kid: Kid,
    /// The public key.
    pub jwk: PublicJwk,
}

impl From<PublicJwk> for MadeKey {
    fn from(jwk: PublicJwk) -> Self {
        Self { kid: jwk.kid(), jwk }
    }
}

impl From<MadeKey> for PublicJwk {
    fn from(made: MadeKey) -> Self {
        made.jwk
    }
}

/// Key states in the terms of NIST SP 800-57 part 1 section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// Between the recorded intent and creation in the device.
    Generating,
    /// The standby: published once the keyset is, does not sign.
    PreActive,
    /// Published, signs.
    Active,
}

impl KeyState {
    /// The state's word, e.g. `pre-active`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generating => "generating",
            Self::PreActive => "pre-active",
            Self::Active => "active",
        }
    }
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
}

impl Keyset {
    /// Failed attempts that one `init` may cost before a person has to look.
    pub const ATTEMPTS: usize = 5;

    /// The keyset of an issuer that a custodian has just said `init` for.
    #[must_use]
    pub fn initialising(issuer: IssuerName) -> Self {
        Self {
            issuer,
            revision: 1,
            phase: Phase::Initialising,
            keys: vec![],
            leftovers: vec![],
            leftovers_allowed: Self::ATTEMPTS,
        }
    }

    /// The keys that verifiers may see, in the order of the document.
    pub fn published(&self) -> impl Iterator<Item = (&Key, &MadeKey)> {
        let published = self.phase == Phase::Published;
        self.keys
            .iter()
            .filter(move |key| published && key.state != KeyState::Generating)
            .filter_map(|key| Some((key, key.made.as_ref()?)))
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

    /// The successor of this document: the same with `change` made and the next revision.
    #[must_use]
    pub fn succeed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next.revision = self.revision + 1;
        next
    }
}
