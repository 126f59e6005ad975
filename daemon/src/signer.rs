//! The hot path: one batch of claims in, signatures out.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use mintwarden_worker::{
    claims::Rule,
    jwk::{Kid, PublicJwk},
    jws::{self, ProtectedHeader},
    wire::{OVERLOADED, Refusal, Sign, SignOutcome, Signature, Signed},
};

use crate::{
    admission::{Admission, Inadmissible},
    clock::{Deadline, Stopwatch},
    identity::Caller,
    keyset::{
        Key, MadeKey,
        live::{LiveIssuer, Snapshot},
    },
    workers::{Reason, SignedOnWire, State, WorkerError, Workers},
};

/// Bound on the name of a claim in a refusal, bytes; the sentence around it may be as long again.
const MAX_CLAIM: usize = 1024;

/// Above this many signatures, verification leaves the async threads.
const VERIFY_INLINE: usize = 8;

/// A batch as it reaches the signer: its caller may use the issuer.
#[derive(Debug)]
pub struct Batch {
    /// The issuer.
    pub issuer: Arc<LiveIssuer>,
    /// Payloads, as received.
    pub claims: Vec<Bytes>,
    /// Who asks.
    pub caller: Caller,
    /// Until when an answer is of use.
    pub deadline: Deadline,
}

/// A batch whose signatures may be released.
#[derive(Debug)]
pub struct SignedBatch {
    /// The key that signed.
    pub kid: Kid,
    /// The protected header, base64url.
    pub protected_header: String,
    /// One outcome per payload, in order.
    pub outcomes: Vec<Outcome>,
}

/// What became of one payload.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The raw JWS signature.
    Signature(Bytes),
    /// The profile refuses it.
    Refused(Refusal),
    /// Its time was over before its turn came.
    Expired,
}

/// Why nothing of a batch was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// No custodian has said `init` yet, or its keys are still being made.
    #[error("the issuer is not initialised")]
    NotInitialised,
    /// The batch is not let in.
    #[error(transparent)]
    Inadmissible(#[from] Inadmissible),
    /// Time was over.
    #[error("the deadline passed")]
    Deadline,
    /// None of the issuer's devices is usable now.
    #[error("no device of the issuer is usable: {0}")]
    Unavailable(Reason),
    /// The key stopped being active while it signed (I2).
    #[error("the key changed while it signed; ask again")]
    KeyChanged,
    /// A worker answered with what cannot be released; it was discarded.
    #[error("the device answered with signatures that cannot be released: {0}")]
    Untrue(&'static str),
}

/// Signs batches.
#[derive(Debug)]
pub struct Signer {
    admission: Admission,
    workers: Arc<Workers>,
}

impl Signer {
    /// A signer over these workers.
    #[must_use]
    pub fn new(admission: Admission, workers: Arc<Workers>) -> Self {
        Self { admission, workers }
    }

    /// Admits a batch, has it checked and signed, verifies what came back, and releases it.
    ///
    /// # Errors
    /// [`SignError`], where nothing of the batch was signed. Single refusals are outcomes.
    pub async fn sign(&self, batch: Batch) -> Result<SignedBatch, SignError> {
        let mut log = BatchLog::start(&batch);
        let outcome = self.sign_logged(&batch, &mut log).await;
        log.finish(&outcome);
        outcome
    }

    async fn sign_logged(
        &self,
        batch: &Batch,
        log: &mut BatchLog,
    ) -> Result<SignedBatch, SignError> {
        let permit = self.admission.admit(batch.issuer.config.name(), &batch.claims)?;
        let snapshot = batch.issuer.snapshot().ok_or(SignError::NotInitialised)?;
        let (key, made) = self.choose(&batch.issuer, &snapshot)?;
        let worker = self.workers.get(&key.device).ok_or_else(no_device)?;
        let SignedOnWire { signed, source, permit: _until_release } =
            worker.sign(ask(batch, key), permit, batch.deadline).await?;
        log.signed();
        let verified = verify(signed, made, &batch.claims).await;
        log.verified();
        let verified = verified.inspect_err(|error| {
            if let SignError::Untrue(why) = error {
                source.distrust(why);
            }
        })?;
        still_active(&batch.issuer, key, made)?;
        // Here stands the audit log: nothing below this line happens before its record is durable.
        Ok(release(verified, made))
    }

    /// The active key of the first usable device that holds it, in the issuer's order (DESIGN.md
    /// "Rotation timing" 7); if there is none, of the first that may come back by itself.
    fn choose<'a>(
        &self,
        issuer: &LiveIssuer,
        snapshot: &'a Snapshot,
    ) -> Result<(&'a Key, &'a MadeKey), SignError> {
        let mut second = None;
        let mut last = None;
        for device in &issuer.config.devices {
            let Some(active) = snapshot.keyset.active(device) else { continue };
            match self.workers.get(device).map(|worker| worker.state()) {
                Some(State::Ready(ready)) if ready.keys.unfit(&active.0.handle).is_none() => {
                    return Ok(active);
                }
                // A key that was not there may be now: the worker looks before it refuses.
                Some(State::Ready(_) | State::Starting) => second = second.or(Some(active)),
                Some(State::Down(reason) | State::Parked(reason)) => last = Some(reason),
                Some(State::Closed) | None => {}
            }
        }
        match (second, last) {
            (Some(active), _) => Ok(active),
            (None, Some(reason)) => Err(SignError::Unavailable(reason)),
            (None, None) if snapshot.jwks.is_none() => Err(SignError::NotInitialised),
            (None, None) => Err(no_device()),
        }
    }
}

fn no_device() -> SignError {
    let detail = "the issuer has no active key in a configured device".to_owned();
    SignError::Unavailable(Reason { reason: "NO_ACTIVE_KEY".into(), detail })
}

fn ask(batch: &Batch, key: &Key) -> Sign {
    Sign {
        issuer: batch.issuer.config.name().to_string(),
        handle: Bytes::copy_from_slice(key.handle.as_bytes()),
        claims: batch.claims.clone(),
        within_ms: 0, // set for each wire
    }
}

/// A batch in which every signature verified under the published key (I2).
struct Verified {
    outcomes: Vec<Outcome>,
}

async fn verify(signed: Signed, made: &MadeKey, claims: &[Bytes]) -> Result<Verified, SignError> {
    if claims.len() <= VERIFY_INLINE {
        return verify_blocking(signed, made, claims);
    }
    let (made, claims) = (made.clone(), claims.to_vec());
    tokio::task::spawn_blocking(move || verify_blocking(signed, &made, &claims))
        .await
        .unwrap_or(Err(SignError::Untrue("verification did not end")))
}

/// Believes nothing: counts, key, header and each signature are checked against what was asked.
fn verify_blocking(
    signed: Signed,
    made: &MadeKey,
    claims: &[Bytes],
) -> Result<Verified, SignError> {
    let header = ProtectedHeader::new(made.jwk.algorithm(), &made.kid);
    if signed.kid != made.kid.as_str() || signed.protected_header != header.encoded() {
        return Err(SignError::Untrue("another key signed"));
    }
    if signed.items.len() != claims.len() {
        return Err(SignError::Untrue("another number of items"));
    }
    let verify_one =
        |(item, payload): (mintwarden_worker::wire::SignItem, &Bytes)| match item.outcome {
            Some(SignOutcome::Signature(signature)) => {
                verify_signature(&made.jwk, header.encoded(), payload, &signature)?;
                Ok(Outcome::Signature(signature.signature))
            }
            Some(SignOutcome::Refusal(refusal)) => known(refusal).map(Outcome::Refused),
            Some(SignOutcome::Expired(_)) => Ok(Outcome::Expired),
            Some(SignOutcome::Failed(failed)) => Err(SignError::Unavailable(failed.into())),
            None => Err(SignError::Untrue("an item without outcome")),
        };
    let outcomes =
        signed.items.into_iter().zip(claims).map(verify_one).collect::<Result<_, _>>()?;
    Ok(Verified { outcomes })
}

/// A refusal by a rule of the profile: callers, logs and metrics see no words of a worker's own.
fn known(refusal: Refusal) -> Result<Refusal, SignError> {
    let rule = Rule::from_word(&refusal.rule);
    let bounded = refusal.claim.len() <= MAX_CLAIM && refusal.message.len() <= 2 * MAX_CLAIM;
    if bounded && rule.is_some_and(|rule| rule.reason() == refusal.reason) {
        Ok(refusal)
    } else {
        Err(SignError::Untrue("a refusal by no rule"))
    }
}

fn verify_signature(
    jwk: &PublicJwk,
    header: &str,
    payload: &[u8],
    signature: &Signature,
) -> Result<(), SignError> {
    if jwk.verifies(&jws::signing_input(header, payload), &signature.signature) {
        Ok(())
    } else {
        Err(SignError::Untrue("a signature does not verify under the published key"))
    }
}

/// I2: the key is active at release as it was when it signed.
fn still_active(issuer: &LiveIssuer, key: &Key, made: &MadeKey) -> Result<(), SignError> {
    match issuer.snapshot() {
        Some(now) if now.keyset.is_active(&key.device, &made.kid) => Ok(()),
        _ => Err(SignError::KeyChanged),
    }
}

fn release(verified: Verified, made: &MadeKey) -> SignedBatch {
    let protected_header =
        ProtectedHeader::new(made.jwk.algorithm(), &made.kid).encoded().to_owned();
    SignedBatch { kid: made.kid.clone(), protected_header, outcomes: verified.outcomes }
}

impl From<WorkerError> for SignError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Deadline => Self::Deadline,
            WorkerError::Refused(reason) if reason.reason == OVERLOADED => {
                Self::Inadmissible(Inadmissible::overloaded())
            }
            WorkerError::Unavailable(reason) | WorkerError::Refused(reason) => {
                Self::Unavailable(reason)
            }
            WorkerError::Broken(why) => Self::Untrue(why),
        }
    }
}

impl SignError {
    /// The stable reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotInitialised => "NOT_INITIALISED",
            Self::Inadmissible(Inadmissible::Empty) => "BATCH_EMPTY",
            Self::Inadmissible(Inadmissible::TooManyItems(_)) => "TOO_MANY_ITEMS",
            Self::Inadmissible(Inadmissible::TooManyBytes(_)) => "TOO_MANY_BYTES",
            Self::Inadmissible(Inadmissible::Overloaded { .. }) => "OVERLOADED",
            Self::Deadline => "DEADLINE_EXCEEDED",
            Self::Unavailable(_) => "DEVICE_UNAVAILABLE",
            Self::KeyChanged => "KEY_CHANGED",
            Self::Untrue(_) => "DEVICE_FAULT",
        }
    }
}

/// One line per batch; no token content. Also for a batch whose caller hung up.
struct BatchLog {
    issuer: Arc<LiveIssuer>,
    caller: Caller,
    items: usize,
    watch: Stopwatch,
    device: Duration,
    verify: Duration,
    finished: bool,
}

impl BatchLog {
    fn start(batch: &Batch) -> Self {
        Self {
            issuer: Arc::clone(&batch.issuer),
            caller: batch.caller.clone(),
            items: batch.claims.len(),
            watch: Stopwatch::start(),
            device: Duration::ZERO,
            verify: Duration::ZERO,
            finished: false,
        }
    }

    fn signed(&mut self) {
        self.device = self.watch.lap();
    }

    fn verified(&mut self) {
        self.verify = self.watch.lap();
    }

    fn finish(mut self, outcome: &Result<SignedBatch, SignError>) {
        self.finished = true;
        let (issuer, caller, items) = (self.issuer.config.name(), &self.caller, self.items);
        let (device_us, verify_us) = (micros(self.device), micros(self.verify));
        match outcome {
            Ok(signed) => {
                let (released, refusals) = count(&signed.outcomes);
                let kid = &signed.kid;
                tracing::info!(target: "batch", %issuer, %kid, %caller, items, released, refusals, device_us, verify_us);
            }
            Err(error) => {
                let reason = error.reason();
                tracing::warn!(target: "batch", %issuer, %caller, items, released = 0, reason, %error, device_us, verify_us);
            }
        }
    }
}

impl Drop for BatchLog {
    fn drop(&mut self) {
        if !self.finished {
            let (issuer, caller, items) = (self.issuer.config.name(), &self.caller, self.items);
            let waited_us = micros(self.watch.lap());
            tracing::warn!(target: "batch", %issuer, %caller, items, released = 0, reason = "CALLER_GONE", waited_us);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Signatures, and refusals by claim and rule, e.g. `exp/lifetime=2`.
fn count(outcomes: &[Outcome]) -> (usize, String) {
    let mut refusals: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut released = 0;
    for outcome in outcomes {
        match outcome {
            Outcome::Signature(_) => released += 1,
            Outcome::Refused(refusal) => {
                *refusals.entry((&refusal.claim, &refusal.rule)).or_default() += 1;
            }
            Outcome::Expired => *refusals.entry(("", "expired")).or_default() += 1,
        }
    }
    let text = refusals.iter().fold(String::new(), |mut text, ((claim, rule), count)| {
        let space = if text.is_empty() { "" } else { " " };
        let _infallible = write!(text, "{space}{claim}/{rule}={count}");
        text
    });
    (released, text)
}
