//! The hot path: one batch of claims in, signatures out.

mod account;
mod attempts;
mod choice;
mod error;
mod verify;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mintwarden_worker::{
    jwk::Kid,
    jws::ProtectedHeader,
    wire::{Refusal, Sign, Signature},
};

use self::{
    account::Account,
    attempts::{Attempts, Setback},
    choice::no_device,
    verify::{Verified, verify},
};
use crate::{
    admission::{Admission, Permit},
    clock::Deadline,
    identity::Caller,
    keyset::{Key, MadeKey, live::LiveIssuer},
    telemetry::metrics::Metrics,
    workers::{Effort, SignedOnWire, Workers},
};

pub use self::error::SignError;

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
