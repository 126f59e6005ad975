//! One key of an issuer, and what its waits count from.

use std::{fmt, time::Duration};

use mintwarden_worker::{
    Algorithm,
    device::{KeptKey, KeyHandle, WrappedKey},
    jwk::{Kid, PublicJwk},
};
use serde::{Deserialize, Serialize};

use crate::clock::{Moment, UnixTime, millis};

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
    /// The private key, where its device does not store it: encrypted by the device and of use to it
    /// alone. Absent for all others, and once it is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped: Option<WrappedKey>,
    /// Since when it is in the JWK Set; its credit counts from here (I4).
    pub published: Option<Moment>,
    /// Whether it has been served for long enough. Once so, always so.
    pub mature: bool,
    /// Since when it signs, or when it last began to.
    pub activated: Option<Moment>,
    /// What it may have signed; absent if it never was active.
    pub signatures: Option<Signatures>,
    /// Since when it is not in the JWK Set any more, or since when it never will be.
    pub unpublished: Option<Moment>,
    /// What became of its private key, once it is `destroyed`.
    pub destruction: Option<Destruction>,
    /// What a custodian wants of it and the plan has still to do.
    pub wish: Option<Wish>,
    /// Why it is `suspended`; absent in any other state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<Suspension>,
}

/// What bounds the life of everything that a key has signed (I5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signatures {
    /// The longest L that was in force while it signed.
    #[serde(with = "millis")]
    pub max_lifetime: Duration,
    /// When it last stopped signing; absent while it is active.
    pub stopped: Option<Moment>,
}

/// What became of a private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destruction {
    /// It was destroyed in the device.
    Destroyed,
    /// It was to be destroyed, and the device did not show it: an alarm, since somebody else has
    /// deleted it, or it never was there (I7).
    Absent,
    /// The configuration says that its device is lost.
    DeviceLost,
}

/// Why a key is `suspended`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspension {
    /// A custodian said so, for this reason.
    Custodian(String),
    /// The appliance did it: two worker processes in a row signed with it what does not verify (I2).
    WrongSignatures,
}

impl Suspension {
    /// Who did it, and where that was the appliance, why; a custodian's reason is not for everybody.
    #[must_use]
    pub const fn in_public(&self) -> &'static str {
        match self {
            Self::Custodian(_) => "suspended by a custodian",
            Self::WrongSignatures => {
                "suspended by the appliance, since signatures by two worker processes in a row did \
                 not verify"
            }
        }
    }
}

impl fmt::Display for Suspension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.in_public())?;
        match self {
            Self::Custodian(reason) if !reason.is_empty() => write!(f, ": {reason}"),
            _ => Ok(()),
        }
    }
}

/// What a custodian wants of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// What.
    pub what: WishedFor,
    /// Why, as the custodian said it.
    pub reason: String,
}

/// The wishes that take more than one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WishedFor {
    /// An active key: rotate now.
    Rotation,
    /// A mature standby: let it be the next active key, now.
    Activation,
    /// A standby: the same, mature or not (I4).
    DangerImmatureActivation,
    /// A deactivated key: destroy its private key without waiting.
    Destruction,
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
    /// The standby: made, published before it is needed, does not sign.
    PreActive,
    /// Published, signs.
    Active,
    /// Published, does not sign, can be resumed.
    Suspended,
    /// Never signs again. Published as long as something that it signed may live.
    Deactivated,
    /// Unpublished at once; its private key is to be destroyed.
    Compromised,
    /// Its private key is gone.
    Destroyed,
}

impl KeyState {
    /// The state's word, e.g. `pre-active`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generating => "generating",
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }
}

impl Key {
    /// The intent to make a key.
    #[must_use]
    pub fn intended(device: &str, handle: KeyHandle, algorithm: Algorithm, now: UnixTime) -> Self {
        Self {
            device: device.to_owned(),
            handle,
            state: KeyState::Generating,
            algorithm,
            created_at: now,
            changed_at: now,
            made: None,
            wrapped: None,
            published: None,
            mature: false,
            activated: None,
            signatures: None,
            unpublished: None,
            destruction: None,
            wish: None,
            suspension: None,
        }
    }

    /// Its `kid`, once it is made.
    #[must_use]
    pub fn kid(&self) -> Option<&Kid> {
        self.made.as_ref().map(|made| &made.kid)
    }

    /// What its device has to be given to use it, where it does not store it.
    #[must_use]
    pub fn kept(&self) -> Option<KeptKey> {
        let wrapped = self.wrapped.clone()?;
        Some(KeptKey { handle: self.handle.clone(), wrapped })
    }

    /// Its `kid`, or its handle where it has none yet: for the log.
    #[must_use]
    pub fn name(&self) -> String {
        self.kid().map_or_else(|| format!("{:?}", self.handle), ToString::to_string)
    }

    /// Whether it is in the JWK Set of a published keyset.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.published.is_some() && self.unpublished.is_none()
    }

    /// Whether it is a standby that verifiers can see.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.state == KeyState::PreActive && self.is_published()
    }

    /// Whether it is a standby that was made and is not published yet.
    #[must_use]
    pub fn is_spare(&self) -> bool {
        self.state == KeyState::PreActive && self.published.is_none()
    }

    /// Whether a private key may exist in the device.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state != KeyState::Destroyed
    }

    /// Whether it was suspended while it signed.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state == KeyState::Suspended && self.activated.is_some()
    }
}
