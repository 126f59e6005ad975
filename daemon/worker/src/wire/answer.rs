//! What a worker answers.

use bytes::Bytes;
use prost::Message as _;

use super::bounds::{MAX_ITEMS, MAX_KEYS, MessageError, at_most};
use crate::{
    Algorithm, KeySpec,
    algorithm::RsaBits,
    device::{Support, Verdict},
};

/// A frame from worker to server.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromWorker {
    /// The id of the request; 0 in the hello.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The answer.
    #[prost(oneof = "Answer", tags = "2, 3, 4, 5, 6, 7, 20, 21, 30, 40")]
    pub answer: Option<Answer>,
}

impl FromWorker {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`MessageError`], also for more than [`MAX_ITEMS`] outcomes or a device's worth of keys.
    pub fn read(frame: Bytes) -> Result<Self, MessageError> {
        at_most(MAX_KEYS, "lacking mechanisms", &frame, &[2, 6])?;
        at_most(MAX_KEYS, "keys", &frame, &[2, 7])?;
        at_most(MAX_KEYS, "unproven attributes", &frame, &[2, 8])?;
        at_most(MAX_KEYS, "kinds of key", &frame, &[2, 9])?;
        at_most(MAX_ITEMS, "items", &frame, &[3, 3])?;
        for [answer, keys] in [[4, 1], [30, 2]] {
            at_most(MAX_KEYS, "keys", &frame, &[answer, keys])?;
            at_most(MAX_KEYS, "defects", &frame, &[answer, keys, 4])?;
            at_most(MAX_KEYS, "unproven attributes", &frame, &[answer, keys, 5])?;
        }
        Self::decode(frame).map_err(|_| MessageError::Malformed)
    }
}

/// What a worker answers.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Answer {
    /// The first message: whether the device is usable.
    #[prost(message, tag = "2")]
    Hello(WorkerHello),
    /// A signed batch.
    #[prost(message, tag = "3")]
    Signed(Signed),
    /// Keys: the answer to `Generate` (exactly one) and to `List`.
    #[prost(message, tag = "4")]
    Listed(Listed),
    /// The device answered.
    #[prost(message, tag = "5")]
    Probed(Probed),
    /// The request as a whole failed.
    #[prost(message, tag = "6")]
    Refused(Refused),
    /// What a doctor wants to know.
    #[prost(message, tag = "30")]
    Examined(Examined),
    /// A key pair is not there any more.
    #[prost(message, tag = "7")]
    Destroyed(Destroyed),
    /// Where a key lives.
    #[prost(message, tag = "40")]
    Attested(Attested),
    /// How the device's calls are getting on.
    #[prost(message, tag = "20")]
    Pulse(PulseTaken),
    /// Not asked for, with id 0: why the worker ends now.
    #[prost(message, tag = "21")]
    LastWords(LastWords),
}

/// The worker's hello.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkerHello {
    /// [`BUILD`](super::BUILD).
    #[prost(string, tag = "1")]
    pub build: String,
    /// Absent: the device is ready. Present: it is not, the worker ends after this message.
    #[prost(message, optional, tag = "2")]
    pub unusable: Option<Refused>,
    /// Whether nothing may be tried again without an operator.
    #[prost(bool, tag = "3")]
    pub parked: bool,
    /// What the device says of itself, for people.
    #[prost(string, tag = "4")]
    pub description: String,
    /// How many sessions sign in parallel.
    #[prost(uint32, tag = "5")]
    pub sessions: u32,
    /// Issuers whose keys the device cannot make.
    #[prost(message, repeated, tag = "6")]
    pub lacking: Vec<Lacking>,
    /// All keys with a Mintwarden label, and which of them must not be used (I1).
    #[prost(message, repeated, tag = "7")]
    pub keys: Vec<KeyFitness>,
    /// What the device does not show of good keys and its configuration excuses, for people.
    #[prost(string, repeated, tag = "8")]
    pub unproven: Vec<String>,
    /// Which kinds of key the device can make and use: each of them once.
    #[prost(message, repeated, tag = "9")]
    pub support: Vec<SupportReport>,
    /// What was found on the way, also of a device that is not usable: a JSON array of
    /// [`Finding`](crate::finding::Finding)s.
    #[prost(string, tag = "30")]
    pub findings: String,
}

/// An issuer whose keys the device cannot make.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Lacking {
    /// The issuer.
    #[prost(string, tag = "1")]
    pub issuer: String,
    /// What is missing, for people.
    #[prost(string, tag = "2")]
    pub missing: String,
}

/// Whether a key may sign.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyFitness {
    /// Its handle.
    #[prost(bytes = "bytes", tag = "1")]
    pub handle: Bytes,
    /// Why it must not be used; absent for a good key.
    #[prost(message, optional, tag = "2")]
    pub unfit: Option<Refused>,
}

/// Whether the device can make and use keys of one kind.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SupportReport {
    /// JWS algorithm.
    #[prost(string, tag = "1")]
    pub algorithm: String,
    /// Size of an RSA key; 0 for others.
    #[prost(uint32, tag = "2")]
    pub rsa_bits: u32,
    /// What makes the pair, in the device's own words.
    #[prost(string, tag = "3")]
    pub generates: String,
    /// What signs.
    #[prost(string, tag = "4")]
    pub signs: String,
    /// Whether the device hashes.
    #[prost(bool, tag = "5")]
    pub hashes: bool,
    /// What is missing; empty where nothing is.
    #[prost(string, tag = "6")]
    pub missing: String,
}

impl From<Verdict> for SupportReport {
    fn from(verdict: Verdict) -> Self {
        let report = Self {
            algorithm: verdict.key.algorithm().to_string(),
            rsa_bits: verdict.key.rsa_bits().map_or(0, u32::from),
            ..Self::default()
        };
        match verdict.outcome {
            Ok(Support { generates, signs, hashes, .. }) => {
                Self { generates, signs, hashes, ..report }
            }
            Err(missing) => Self { missing, ..report },
        }
    }
}

impl SupportReport {
    /// The verdict, if it is about a key that can be asked for.
    #[must_use]
    pub fn into_verdict(self) -> Option<Verdict> {
        let bits =
            (self.rsa_bits != 0).then(|| RsaBits::try_from(self.rsa_bits)).transpose().ok()?;
        let key = KeySpec::new(Algorithm::from_name(&self.algorithm)?, bits).ok()?;
        let Self { generates, signs, hashes, missing, .. } = self;
        let outcome = if missing.is_empty() {
            Ok(Support { key, generates, signs, hashes })
        } else {
            Err(missing)
        };
        Some(Verdict { key, outcome })
    }
}

/// A signed batch.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Signed {
    /// The thumbprint of the key that signed, from the device's own public key (I3).
    #[prost(string, tag = "1")]
    pub kid: String,
    /// The protected header, base64url.
    #[prost(string, tag = "2")]
    pub protected_header: String,
    /// One per payload, in the order of the request.
    #[prost(message, repeated, tag = "3")]
    pub items: Vec<SignItem>,
    /// How long the batch waited for its first item's turn, microseconds.
    #[prost(uint64, tag = "4")]
    pub queued_us: u64,
    /// How long the device took over the signatures, all together, microseconds.
    #[prost(uint64, tag = "5")]
    pub device_us: u64,
    /// How many sessions were signing when each signature was begun, its own among them: the sum over
    /// the signatures.
    #[prost(uint64, tag = "6")]
    pub sessions_busy: u64,
}

/// One item of a batch.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SignItem {
    /// What became of it.
    #[prost(oneof = "SignOutcome", tags = "1, 2, 3, 4")]
    pub outcome: Option<SignOutcome>,
}

/// What became of one item.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum SignOutcome {
    /// Signed.
    #[prost(message, tag = "1")]
    Signature(Signature),
    /// The profile refuses it.
    #[prost(message, tag = "2")]
    Refusal(Refusal),
    /// Its time was over before its turn came.
    #[prost(message, tag = "3")]
    Expired(Expired),
    /// The device cannot sign it with this key; the device itself is well.
    #[prost(message, tag = "4")]
    Failed(Refused),
}

/// A signature, with the facts that the server records.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Signature {
    /// The raw JWS signature.
    #[prost(bytes = "bytes", tag = "1")]
    pub signature: Bytes,
    /// SHA-256 of the complete token.
    #[prost(bytes = "bytes", tag = "2")]
    pub token_sha256: Bytes,
    /// Facts of the payload.
    #[prost(message, required, tag = "3")]
    pub facts: Facts,
}

/// The few facts of a payload that the server records.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Facts {
    /// The `txn` claim.
    #[prost(string, tag = "1")]
    pub txn: String,
    /// The `req_wl` claim.
    #[prost(string, tag = "2")]
    pub req_wl: String,
    /// The `exp` claim.
    #[prost(int64, tag = "3")]
    pub exp: i64,
    /// Delegation depth.
    #[prost(uint32, tag = "4")]
    pub delegation_depth: u32,
}

/// A payload that the profile refuses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refusal {
    /// Stable reason.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// The claim at fault, where it is one.
    #[prost(string, tag = "2")]
    pub claim: String,
    /// The rule that it broke.
    #[prost(string, tag = "3")]
    pub rule: String,
    /// One sentence for a person.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// The item's time was over.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Expired {}

/// Keys as the device shows them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listed {
    /// The keys.
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<KeyReport>,
}

/// One key as the device shows it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyReport {
    /// Its handle.
    #[prost(bytes = "bytes", tag = "1")]
    pub handle: Bytes,
    /// The issuer in its label; empty where it names none.
    #[prost(string, tag = "2")]
    pub issuer: String,
    /// The public key with its algorithm, a JWK in JSON; empty where not readable.
    #[prost(string, tag = "3")]
    pub public: String,
    /// Why it must not be used; empty for a good key.
    #[prost(string, repeated, tag = "4")]
    pub defects: Vec<String>,
    /// What the device does not show and its configuration excuses, for people.
    #[prost(string, repeated, tag = "5")]
    pub unproven: Vec<String>,
    /// The key, as the device gave it out; empty where the device stores it.
    #[prost(bytes = "bytes", tag = "6")]
    pub wrapped: Bytes,
}

/// The device answered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Probed {}

/// The pair is not in the device any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Destroyed {
    /// Whether it had been.
    #[prost(bool, tag = "1")]
    pub was_there: bool,
}

/// Where a key lives.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attested {
    /// A JSON document ([`Evidence`](mintwarden_attestation::Evidence)).
    #[prost(bytes = "bytes", tag = "1")]
    pub evidence: Bytes,
}

/// How the device's calls are getting on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PulseTaken {
    /// How long the longest call under way has been running, in milliseconds.
    #[prost(uint64, tag = "1")]
    pub longest_call_ms: u64,
}

/// Why a worker ends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LastWords {
    /// The cause, a [`Cause`](crate::device::Cause), and its detail.
    #[prost(message, required, tag = "1")]
    pub why: Refused,
    /// Whether nothing may be tried again without an operator.
    #[prost(bool, tag = "2")]
    pub parked: bool,
}

/// What a doctor wants to know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Examined {
    /// A JSON array of [`Finding`](crate::finding::Finding)s.
    #[prost(string, tag = "1")]
    pub findings: String,
    /// All keys with a Mintwarden label.
    #[prost(message, repeated, tag = "2")]
    pub keys: Vec<KeyReport>,
}

/// A request that failed as a whole.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// Stable reason: a [`Cause`](crate::device::Cause), or `UNKNOWN_ISSUER`, `WRONG_ISSUER`.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// For the log and the operator.
    #[prost(string, tag = "2")]
    pub detail: String,
}
