//! What a kind of device has to do: the traits [`Device`] and [`Session`].
//!
//! Both are blocking and object-safe. The worker's loop owns threads, queueing and chunking; an
//! implementation only translates calls, checks what comes back, and classifies errors by
//! [`Remedy`].

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mintwarden_attestation::{Challenge, Residence};
use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer as _, value::StrDeserializer},
};

use crate::{
    Algorithm, IssuerName, algorithm::KeySpec, finding::Finding, jwk::PublicJwk, jws::SigningInput,
};

/// A signing device with an authenticated connection: one PKCS#11 token or one TPM.
pub trait Device: Send {
    /// What the device says of itself.
    fn describe(&self) -> Description;

    /// How many signing sessions it allows at once; `None` where it states no limit.
    fn max_sessions(&self) -> Option<usize>;

    /// Opens one more session. All are opened before any is used, and kept (SoftHSM 2.6.1 races on
    /// opening and closing).
    ///
    /// # Errors
    /// [`DeviceError`] as the device gives it.
    fn open_session(&mut self) -> Result<Box<dyn Session>, DeviceError>;

    /// How such keys are made and used here.
    ///
    /// # Errors
    /// [`Cause::MechanismMissing`], naming what would do and what there is.
    fn supports(&self, key: KeySpec) -> Result<Support, DeviceError>;

    /// Generates a key pair inside the device for `issuer` under the fresh random `id`: sensitive,
    /// not extractable, labelled with the issuer's name and the algorithm. Returns it as [`Device::list`] would, read
    /// back from the device and checked (I1). Never replaces: an `id` in use is an error.
    ///
    /// # Errors
    /// [`DeviceError`]; whether the pair exists is then unknown, and only a look-up tells.
    fn generate(
        &mut self,
        issuer: &IssuerName,
        key: KeySpec,
        id: &KeyHandle,
    ) -> Result<DeviceKey, DeviceError>;

    /// Takes over what the keyset keeps of keys that the device does not store itself: from then on
    /// they are shown as if it did. A device that stores its keys needs none of it.
    fn know(&mut self, kept: Vec<KeptKey>) {
        drop(kept);
    }

    /// All keys that carry a Mintwarden label, complete or not, with what is wrong with each.
    ///
    /// # Errors
    /// [`DeviceError`] as the device gives it.
    fn list(&mut self) -> Result<Vec<DeviceKey>, DeviceError>;

    /// The one key with this handle, `None` where the device shows no object with it.
    ///
    /// # Errors
    /// [`DeviceError`] as the device gives it.
    fn find(&mut self, handle: &KeyHandle) -> Result<Option<DeviceKey>, DeviceError>;

    /// What there is to say about the device itself, looked at anew. Keys, mechanisms and login are
    /// told beside it.
    ///
    /// # Errors
    /// [`DeviceError`] as the device gives it.
    fn examine(&mut self) -> Result<Vec<Finding>, DeviceError>;

    /// Destroys the pair with this handle, private half first: only objects that carry the issuer's
    /// label, and none at all where one carries another. `false` where the device shows no object with
    /// it. A key that the device does not store is forgotten, and gone when its keyset forgets it too.
    ///
    /// # Errors
    /// [`DeviceError`]; what is left is then unknown, and the same call may be made again.
    fn destroy(&mut self, issuer: &IssuerName, id: &KeyHandle) -> Result<bool, DeviceError>;

    /// What shows where a key lives, as an answer to `challenge`. The key is a good one, as
    /// [`Device::find`] shows it now. Nothing that the key itself could sign: it signs tokens only.
    ///
    /// # Errors
    /// [`Cause::MechanismMissing`] where the device has no such thing, [`Cause::ChallengeRefused`] for a
    /// credential that is not for this device, or as the device gives it.
    fn attest(&mut self, key: &DeviceKey, challenge: &Challenge) -> Result<Residence, DeviceError>;

    /// Touches the device, cheaply: it answers and the login still holds.
    ///
    /// # Errors
    /// [`DeviceError`] as the device gives it.
    fn probe(&mut self) -> Result<(), DeviceError>;
}

/// One session of a device, used by one thread.
pub trait Session: Send {
    /// Signs with the private key under `handle`, which must be of `algorithm`.
    ///
    /// The answer is the raw JWS signature: R‖S at fixed width for ECDSA (RFC 7518 section 3.4), as
    /// long as the modulus for RSA. Of `input` the session takes the digest or the message, as the
    /// device wants it.
    ///
    /// # Errors
    /// [`DeviceError`] as the device gives it.
    fn sign(
        &mut self,
        handle: &KeyHandle,
        algorithm: Algorithm,
        input: &SigningInput,
    ) -> Result<Vec<u8>, DeviceError>;
}

/// What a device says of itself; each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Who made the device (`CK_TOKEN_INFO.manufacturerID`).
    pub manufacturer: String,
    /// Its model (`CK_TOKEN_INFO.model`).
    pub model: String,
    /// Its serial number (`CK_TOKEN_INFO.serialNumber`).
    pub serial: String,
    /// Its label (`CK_TOKEN_INFO.label`).
    pub label: String,
    /// The library that reaches it, with its version (`CK_INFO`).
    pub library: String,
}

/// How a device makes and uses keys of one kind, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Support {
    /// The key.
    pub key: KeySpec,
    /// What makes the pair, e.g. `CKM_EC_KEY_PAIR_GEN`.
    pub generates: String,
    /// What signs, e.g. `CKM_ECDSA`.
    pub signs: String,
    /// Whether the device hashes the message itself.
    pub hashes: bool,
}

/// Whether a device can make and use keys of one kind, and how or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The key.
    pub key: KeySpec,
    /// How, or what is missing.
    pub outcome: Result<Support, String>,
}

/// What names a key to its device: opaque to everyone else. For PKCS#11 the `CKA_ID`; a TPM's keys are bound
/// to it by their authorisation value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHandle(Vec<u8>);

impl KeyHandle {
    /// Bytes of a fresh random id, where the device allows as many.
    pub const RANDOM_LEN: usize = 16;

    /// Wraps the bytes of a handle.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The handle's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for KeyHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().take(32).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A private key as a device gave it out to be kept elsewhere: encrypted by the device, which alone can use
/// it. Opaque to everyone else. For a TPM the public and the private area.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WrappedKey(Vec<u8>);

impl WrappedKey {
    /// Longest one, in bytes: an RSA key of 4096 bits takes some two thousand.
    pub const MAX_LEN: usize = 8 * 1024;

    /// Wraps the bytes that a device gave; `None` if there are none, or too many.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (1..=Self::MAX_LEN).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for WrappedKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let bytes = BASE64.decode(text).ok().and_then(Self::new);
        bytes.ok_or("a wrapped key is 1 to 8192 bytes in base64url")
    }
}

impl From<WrappedKey> for String {
    fn from(wrapped: WrappedKey) -> Self {
        BASE64.encode(wrapped.0)
    }
}

impl std::fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WrappedKey({} bytes)", self.0.len())
    }
}

/// What a keyset keeps of a key that its device does not store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// Its handle.
    pub handle: KeyHandle,
    /// The key, as its device gave it out. Whoever keeps it is not believed: the device can tell whether
    /// it is one of its own.
    pub wrapped: WrappedKey,
}

/// A key as the device shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// Its handle.
    pub handle: KeyHandle,
    /// The issuer that it was made for: from its label (I3). `None` where the label names none.
    pub issuer: Option<IssuerName>,
    /// Its public key and algorithm, where readable.
    pub public: Option<PublicJwk>,
    /// Why it must not be used; empty for a good key. Half a pair, a second object with the same
    /// id, an attribute that breaks I1.
    pub defects: Vec<String>,
    /// The key itself, where the device does not store it: its keyset has to keep it.
    pub wrapped: Option<WrappedKey>,
    /// What would show I1 and the device does not show, where its configuration excuses that; empty
    /// for a device that shows everything.
    pub unproven: Vec<String>,
}

/// An error of the device or of the library that reaches it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct DeviceError {
    /// What happened, as a stable word.
    pub cause: Cause,
    /// What the caller can do about it.
    pub remedy: Remedy,
    /// What the library said, for the log and the operator. No secrets.
    pub detail: String,
}

impl DeviceError {
    /// An error of this cause, with the remedy that it has ([`Cause::remedy`]).
    #[must_use]
    pub fn of(cause: Cause, detail: impl Into<String>) -> Self {
        Self::new(cause, cause.remedy(), detail)
    }

    /// An error of this cause, about which something else can be done than usual.
    #[must_use]
    pub fn new(cause: Cause, remedy: Remedy, detail: impl Into<String>) -> Self {
        Self { cause, remedy, detail: detail.into() }
    }
}

/// What went wrong in a device, as a stable word for metrics, status and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Cause {
    /// The module cannot be loaded or is not a PKCS#11 library.
    ModuleUnusable,
    /// No PKCS#11 token has the configured label or serial number.
    TokenAbsent,
    /// The way to the TPM cannot be opened, or nothing answers there.
    TpmUnreachable,
    /// More than one PKCS#11 token has the configured label.
    TokenAmbiguous,
    /// The PIN or device secret could not be read from its source.
    PinUnavailable,
    /// A login did not clearly succeed; it is not repeated (I10).
    LoginFailed,
    /// An earlier login did not clearly succeed; this start made no attempt (I10).
    LoginPending,
    /// The record of logins cannot be written, so none was attempted (I10).
    StateUnusable,
    /// The device lacks a mechanism.
    MechanismMissing,
    /// The session is closed, invalid or not logged in.
    SessionLost,
    /// The session has an operation under way that it should not have.
    OperationActive,
    /// The device or its library reports a failure, or is gone.
    DeviceFailed,
    /// The device has no room for more sessions or objects.
    OutOfResources,
    /// No usable key has the handle.
    KeyAbsent,
    /// A key exists but breaks I1 or I3, or is half a pair.
    KeyUnusable,
    /// The credential of a challenge is not for this device, or was tampered with.
    ChallengeRefused,
    /// The TPM's storage key is another one than was accepted: the TPM was cleared or replaced, or something answers in
    /// its place.
    ParentMismatch,
    /// The machine is in another state than the one that keys are bound to: its PCRs differ, and nobody signed that off.
    PcrMismatch,
    /// The PCRs, the authority that signs states off, or the record of the accepted state cannot be read.
    PcrUnusable,
    /// What came back does not have the shape that the standard asks for.
    Malformed,
    /// A call ran past `device_call_timeout`.
    CallTimeout,
}

impl Cause {
    /// The cause with this stable word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let word: StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
        Self::deserialize(word).ok()
    }

    /// What can be done about it, of whatever kind the device is, unless whoever found it knows better. What a vendor
    /// library returns is classified beside it, in the module `fault` of its kind of device.
    #[must_use]
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::SessionLost | Self::OperationActive => Remedy::Reopen,
            // The first four come back by themselves, and a later start may look again; of the rest the
            // device, its library or this process's view of them is broken.
            Self::TokenAbsent
            | Self::TpmUnreachable
            | Self::PinUnavailable
            | Self::StateUnusable
            | Self::DeviceFailed
            | Self::OutOfResources
            | Self::Malformed
            | Self::CallTimeout => Remedy::Restart,
            // The same file, name or state fails in the same way until somebody acts; and I10.
            Self::ModuleUnusable
            | Self::TokenAmbiguous
            | Self::LoginFailed
            | Self::LoginPending
            | Self::ParentMismatch
            | Self::PcrMismatch
            | Self::PcrUnusable => Remedy::Park,
            Self::MechanismMissing
            | Self::KeyAbsent
            | Self::KeyUnusable
            | Self::ChallengeRefused => Remedy::Refuse,
        }
    }

    /// The stable word, e.g. `TOKEN_ABSENT`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModuleUnusable => "MODULE_UNUSABLE",
            Self::TokenAbsent => "TOKEN_ABSENT",
            Self::TpmUnreachable => "TPM_UNREACHABLE",
            Self::TokenAmbiguous => "TOKEN_AMBIGUOUS",
            Self::PinUnavailable => "PIN_UNAVAILABLE",
            Self::LoginFailed => "LOGIN_FAILED",
            Self::LoginPending => "LOGIN_PENDING",
            Self::StateUnusable => "STATE_UNUSABLE",
            Self::MechanismMissing => "MECHANISM_MISSING",
            Self::SessionLost => "SESSION_LOST",
            Self::OperationActive => "OPERATION_ACTIVE",
            Self::DeviceFailed => "DEVICE_FAILED",
            Self::OutOfResources => "OUT_OF_RESOURCES",
            Self::KeyAbsent => "KEY_ABSENT",
            Self::KeyUnusable => "KEY_UNUSABLE",
            Self::ChallengeRefused => "CHALLENGE_REFUSED",
            Self::ParentMismatch => "PARENT_MISMATCH",
            Self::PcrMismatch => "PCR_MISMATCH",
            Self::PcrUnusable => "PCR_UNUSABLE",
            Self::Malformed => "MALFORMED",
            Self::CallTimeout => "CALL_TIMEOUT",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can be done about a [`DeviceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The same call may be made again on the same session.
    Retry,
    /// The session is to be discarded and another one opened.
    Reopen,
    /// The process is to be started afresh.
    Restart,
    /// Nothing may be tried again without an operator.
    Park,
    /// The call itself cannot succeed; the device is well.
    Refuse,
}
