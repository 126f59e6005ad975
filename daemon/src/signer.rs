//! The hot path: one batch of claims in, signatures out.

mod account;
mod attempts;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mintwarden_worker::{
    claims::Rule,
    jwk::{Kid, PublicJwk},
    jws::{self, ProtectedHeader},
    wire::{OVERLOADED, Refusal, Sign, SignOutcome, Signature, Signed},
};

use self::{
    account::Account,
    attempts::{Attempts, Setback},
};
use crate::{
    admission::{Admission, Inadmissible, Permit},
    clock::Deadline,
    identity::Caller,
    keyset::{
        Key, MadeKey,
        live::{Idle, LiveIssuer, Snapshot},
    },
    telemetry::metrics::Metrics,
    workers::{Effort, Ready, Reason, SignedOnWire, State, TooSlow, WorkerError, Workers},
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
    /// The raw JWS signature, and the facts of what it signs.
    Signature(Signature),
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
    /// None of the issuer's devices would have signed it by its deadline.
    #[error("the deadline is too short: {0}")]
    TooSlow(TooSlow),
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
    admission: Arc<Admission>,
    workers: Arc<Workers>,
    metrics: Arc<Metrics>,
}

impl Signer {
    /// A signer over these workers.
    #[must_use]
    pub fn new(admission: Arc<Admission>, workers: Arc<Workers>, metrics: Arc<Metrics>) -> Self {
        Self { admission, workers, metrics }
    }

    /// The room that there is.
    #[must_use]
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Admits a batch, has it checked and signed, verifies what came back, and releases it.
    ///
    /// # Errors
    /// [`SignError`], where nothing of the batch was signed. Single refusals are outcomes.
    pub async fn sign(&self, batch: Batch) -> Result<SignedBatch, SignError> {
        let metrics = self.metrics.signing.of(batch.issuer.config.name());
        let mut account = Account::open(&batch, metrics);
        let outcome = self.sign_accounted(&batch, &mut account).await;
        account.close(&outcome);
        outcome
    }

    async fn sign_accounted(
        &self,
        batch: &Batch,
        account: &mut Account<'_>,
    ) -> Result<SignedBatch, SignError> {
        let Batch { issuer, caller, claims, .. } = batch;
        let permit = self.admission.admit(issuer.config.name(), caller, claims)?;
        // Held by every open request too, whatever becomes of its attempt (I9).
        let permit = Arc::new(permit);
        let mut attempts = Attempts::default();
        loop {
            let snapshot = batch.issuer.snapshot().ok_or(SignError::NotInitialised)?;
            let chosen = self.choose(&batch.issuer, &snapshot, &attempts);
            let (key, made) = chosen.map_err(|error| attempts.give_up(error))?;
            let others = || self.other_takes_it(&batch.issuer, &snapshot, key, &attempts);
            match self.attempt(batch, key, made, &permit, &others, account).await {
                Ok(verified) => {
                    still_active(&batch.issuer, key, made)?;
                    // Here stands the audit log: nothing below this line happens before its record
                    // is durable.
                    return Ok(release(verified, made));
                }
                Err(setback) => {
                    tracing::warn!(target: "batch", device = key.device, ?setback, "an attempt failed");
                    attempts.note(&key.device, setback)?;
                }
            }
        }
    }

    /// Has a batch signed by one key, and verifies what comes back.
    async fn attempt(
        &self,
        batch: &Batch,
        key: &Key,
        made: &MadeKey,
        permit: &Arc<Permit>,
        others: &(dyn Fn() -> bool + Sync),
        account: &mut Account<'_>,
    ) -> Result<Verified, Setback> {
        let worker = self.workers.get(&key.device);
        let worker = worker.ok_or_else(|| Setback::Refused(no_device()))?;
        account.taken_to(&key.device);
        let SignedOnWire { signed, source } = worker
            .sign(&ask(batch, key), (&made.jwk).into(), permit, batch.deadline, others)
            .await?;
        account.signed(Duration::from_micros(signed.queued_us));
        let effort = Effort::from(&signed);
        let verified = verify(signed, made, &batch.claims).await;
        account.verified();
        match verified {
            Ok(verified) => {
                let signatures = verified.signatures();
                if signatures > 0 {
                    source.proved();
                    source.learn(signatures, effort);
                    batch.issuer.signed_right(&made.kid, source.start());
                }
                Ok(verified)
            }
            Err(SignError::Untrue(why)) => {
                source.distrust(why);
                let (device, kid) = (&key.device, &made.kid);
                let verdict = batch.issuer.signed_wrong(device, kid, source.start());
                tracing::error!(device, %kid, why, ?verdict, "an answer of the device is wrong");
                Err(Setback::Untrue(SignError::Untrue(why)))
            }
            Err(refused) => Err(Setback::Refused(refused)),
        }
    }

    /// The active key of the first usable device that holds it, in the issuer's order (DESIGN.md
    /// "Rotation timing" 7); if there is none, of the first that may come back by itself.
    fn choose<'a>(
        &self,
        issuer: &LiveIssuer,
        snapshot: &'a Snapshot,
        attempts: &Attempts,
    ) -> Result<(&'a Key, &'a MadeKey), SignError> {
        let mut second = None;
        let mut last = None;
        for (device, active) in candidates(issuer, snapshot, attempts) {
            let active = match active {
                Ok(active) => active,
                Err(idle) => {
                    last = unavailable(idle).or(last);
                    continue;
                }
            };
            match self.workers.get(device).map(|worker| worker.state()) {
                Some(State::Ready(ready)) if fits(&ready, active.0) => return Ok(active),
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

    /// Whether another device than the key's would take the batch at once.
    fn other_takes_it(
        &self,
        issuer: &LiveIssuer,
        snapshot: &Snapshot,
        key: &Key,
        attempts: &Attempts,
    ) -> bool {
        let mut others = candidates(issuer, snapshot, attempts);
        others.any(|(device, active)| {
            let Ok((other, _)) = active else { return false };
            device != key.device
                && match self.workers.get(device).map(|worker| worker.state()) {
                    Some(State::Ready(ready)) => fits(&ready, other),
                    _ => false,
                }
        })
    }
}

/// The devices that may be asked, in the issuer's order, with the key that signs there or why there is
/// none.
fn candidates<'i, 'a: 'i>(
    issuer: &'i LiveIssuer,
    snapshot: &'a Snapshot,
    attempts: &'i Attempts,
) -> impl Iterator<Item = (&'i str, Result<(&'a Key, &'a MadeKey), Idle>)> {
    let devices = issuer.signing_devices(snapshot).filter(|device| attempts.allow(device));
    devices.map(|device| (device.as_str(), issuer.signs(snapshot, device)))
}

/// Why a device without a key that may sign is of no use; `None` where it has nothing to do with it.
fn unavailable(idle: Idle) -> Option<Reason> {
    let detail = match idle {
        Idle::NoActiveKey => return None,
        Idle::Suspended => "the key is suspended until a custodian resumes it",
        Idle::PastSignUntil => "the key has reached sign_until",
    };
    Some(Reason::new(idle.reason(), detail).needs_a_custodian())
}

/// Whether the worker would sign with the key at once.
fn fits(ready: &Ready, key: &Key) -> bool {
    ready.takes_more() && ready.keys.unfit(&key.handle).is_none()
}

fn no_device() -> SignError {
    let detail = "the issuer has no key that may sign in a configured device";
    SignError::Unavailable(Reason::new("NO_ACTIVE_KEY", detail))
}

fn ask(batch: &Batch, key: &Key) -> Sign {
    Sign {
        issuer: batch.issuer.config.name().to_string(),
        handle: Bytes::copy_from_slice(key.handle.as_bytes()),
        claims: batch.claims.clone(),
        // Set for each wire.
        within_ms: 0,
        caller: 0,
    }
}

/// A batch in which every signature verified under the published key (I2).
struct Verified {
    outcomes: Vec<Outcome>,
}

impl Verified {
    /// How many signatures there were to verify.
    fn signatures(&self) -> usize {
        let outcomes = self.outcomes.iter();
        outcomes.filter(|outcome| matches!(outcome, Outcome::Signature(_))).count()
    }
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
                Ok(Outcome::Signature(signature))
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
            WorkerError::TooSlow(slow) => Self::TooSlow(slow),
            WorkerError::Unavailable(reason)
            | WorkerError::Refused(reason)
            | WorkerError::Lost(reason) => Self::Unavailable(reason),
            // Never the last word: it is said only where another device takes the batch.
            WorkerError::Elsewhere => Self::Deadline,
            WorkerError::Broken(why) => Self::Untrue(why),
        }
    }
}

impl SignError {
    /// All stable reasons.
    pub const REASONS: [&'static str; 10] = [
        "NOT_INITIALISED",
        "BATCH_EMPTY",
        "TOO_MANY_ITEMS",
        "TOO_MANY_BYTES",
        "OVERLOADED",
        "DEADLINE_EXCEEDED",
        "DEVICE_TOO_SLOW",
        "DEVICE_UNAVAILABLE",
        "KEY_CHANGED",
        "DEVICE_FAULT",
    ];

    /// The stable reason, one of [`REASONS`](Self::REASONS).
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotInitialised => "NOT_INITIALISED",
            Self::Inadmissible(Inadmissible::Empty) => "BATCH_EMPTY",
            Self::Inadmissible(Inadmissible::TooManyItems(_)) => "TOO_MANY_ITEMS",
            Self::Inadmissible(Inadmissible::TooManyBytes(_)) => "TOO_MANY_BYTES",
            Self::Inadmissible(Inadmissible::Overloaded { .. }) => "OVERLOADED",
            Self::Deadline => "DEADLINE_EXCEEDED",
            Self::TooSlow(_) => "DEVICE_TOO_SLOW",
            Self::Unavailable(_) => "DEVICE_UNAVAILABLE",
            Self::KeyChanged => "KEY_CHANGED",
            Self::Untrue(_) => "DEVICE_FAULT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed() {
        let reason = Reason::new("X", "");
        let all = [
            SignError::NotInitialised,
            Inadmissible::Empty.into(),
            Inadmissible::TooManyItems(1).into(),
            Inadmissible::TooManyBytes(1).into(),
            Inadmissible::overloaded().into(),
            SignError::Deadline,
            SignError::TooSlow(TooSlow { takes: Duration::ZERO, retry_after: None, fits: 0 }),
            SignError::Unavailable(reason),
            SignError::KeyChanged,
            SignError::Untrue("x"),
        ];
        assert_eq!(all.map(|error| error.reason()), SignError::REASONS);
    }
}
