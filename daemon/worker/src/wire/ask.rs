//! What a server asks. Messages are derived from Rust and not from a `.proto`: both ends are ours and of one
//! build.

use bytes::Bytes;
use prost::Message as _;

use super::bounds::{MAX_ITEMS, MAX_KEYS, MessageError, at_most};
use crate::device::{KeptKey, KeyHandle, WrappedKey};

/// A frame from server to worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToWorker {
    /// Chosen by the server, never reused on one wire; 0 in the hello.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is asked.
    #[prost(oneof = "Ask", tags = "2, 3, 4, 5, 6, 7, 20, 30, 40")]
    pub ask: Option<Ask>,
}

impl ToWorker {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`MessageError`], also for a batch of more than [`MAX_ITEMS`] or more keys than a device has.
    pub fn read(frame: Bytes) -> Result<Self, MessageError> {
        at_most(MAX_ITEMS, "items", &frame, &[3, 3])?;
        at_most(MAX_KEYS, "keys", &frame, &[2, 2])?;
        Self::decode(frame).map_err(|_| MessageError::Malformed)
    }
}

/// What a server asks of a worker.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Ask {
    /// The first message.
    #[prost(message, tag = "2")]
    Hello(ServerHello),
    /// Check and sign a batch.
    #[prost(message, tag = "3")]
    Sign(Sign),
    /// Make a key pair.
    #[prost(message, tag = "4")]
    Generate(Generate),
    /// Show the keys.
    #[prost(message, tag = "5")]
    List(List),
    /// Touch the device.
    #[prost(message, tag = "6")]
    Probe(Probe),
    /// Tell everything that a doctor wants to know.
    #[prost(message, tag = "30")]
    Examine(Examine),
    /// Destroy a key pair.
    #[prost(message, tag = "7")]
    Destroy(Destroy),
    /// Show where a key lives.
    #[prost(message, tag = "40")]
    Attest(Attest),
    /// Say how the device's calls are getting on, without calling it.
    #[prost(message, tag = "20")]
    Pulse(Pulse),
}

/// The server's hello.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerHello {
    /// [`BUILD`](super::BUILD).
    #[prost(string, tag = "1")]
    pub build: String,
    /// What keysets keep of keys that the device does not store.
    #[prost(message, repeated, tag = "2")]
    pub kept: Vec<Kept>,
}

/// What a keyset keeps of a key that its device does not store.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Kept {
    /// Its handle.
    #[prost(bytes = "bytes", tag = "1")]
    pub handle: Bytes,
    /// The key, as the device gave it out.
    #[prost(bytes = "bytes", tag = "2")]
    pub wrapped: Bytes,
}

impl From<KeptKey> for Kept {
    fn from(kept: KeptKey) -> Self {
        let copy = Bytes::copy_from_slice;
        Self { handle: copy(kept.handle.as_bytes()), wrapped: copy(kept.wrapped.as_bytes()) }
    }
}

impl Kept {
    /// The key, if it can be one.
    #[must_use]
    pub fn into_key(self) -> Option<KeptKey> {
        let wrapped = WrappedKey::new(self.wrapped.into())?;
        Some(KeptKey { handle: KeyHandle::new(self.handle.into()), wrapped })
    }
}

/// A batch for one key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sign {
    /// The issuer whose profile applies.
    #[prost(string, tag = "1")]
    pub issuer: String,
    /// The handle of the key that signs all of it.
    #[prost(bytes = "bytes", tag = "2")]
    pub handle: Bytes,
    /// Payloads.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub claims: Vec<Bytes>,
    /// How long an answer is of use, in milliseconds from arrival; what waits longer is dropped.
    #[prost(uint32, tag = "4")]
    pub within_ms: u32,
    /// Which of the issuer's callers asks, by a number that says nothing else: callers take turns.
    #[prost(uint32, tag = "5")]
    pub caller: u32,
}

/// Asks for a key pair.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Generate {
    /// The issuer that it is for.
    #[prost(string, tag = "1")]
    pub issuer: String,
    /// The fresh random handle that it gets.
    #[prost(bytes = "bytes", tag = "2")]
    pub handle: Bytes,
}

/// Asks for all keys, or for those with one handle.
#[derive(Clone, PartialEq, prost::Message)]
pub struct List {
    /// The one handle; empty for all.
    #[prost(bytes = "bytes", tag = "1")]
    pub handle: Bytes,
}

/// Asks for the end of a key pair.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Destroy {
    /// The issuer that it was made for; a pair of another one is left alone.
    #[prost(string, tag = "1")]
    pub issuer: String,
    /// Its handle.
    #[prost(bytes = "bytes", tag = "2")]
    pub handle: Bytes,
}

/// Asks for evidence of where a key lives.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attest {
    /// The issuer that it was made for; a pair of another one is not shown.
    #[prost(string, tag = "1")]
    pub issuer: String,
    /// Its handle.
    #[prost(bytes = "bytes", tag = "2")]
    pub handle: Bytes,
    /// The challenge, a JSON document ([`Challenge`](mintwarden_attestation::Challenge)).
    #[prost(bytes = "bytes", tag = "3")]
    pub challenge: Bytes,
}

/// Asks whether the device answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Probe {}

/// Asks for everything that a doctor wants to know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Examine {}

/// Asks how the device's calls are getting on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pulse {}
