//! One signing thread: claims → header → device, with one session of its own.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;

use crate::{
    clock,
    device::{Cause, Device, DeviceError, Remedy, Session},
    jws::SigningInput,
    serve::{
        Replies,
        batch::{Batch, Effort},
        exit,
        keys::Key,
        queue::Queue,
    },
    watch,
    wire::{Expired, Facts, Refusal, Refused, SignOutcome, Signature},
};

pub(super) struct Signer {
    session: Box<dyn Session>,
    device: Arc<Mutex<Box<dyn Device>>>,
    replies: Replies,
    /// How many sessions of the device are signing.
    busy: Arc<AtomicU32>,
}

impl Signer {
    pub(super) fn new(
        session: Box<dyn Session>,
        device: Arc<Mutex<Box<dyn Device>>>,
        replies: Replies,
        busy: Arc<AtomicU32>,
    ) -> Self {
        Self { session, device, replies, busy }
    }

    pub(super) fn run(mut self, queue: &Queue) {
        while let Some((batch, item)) = queue.pop() {
            let mut effort = Effort::default();
            let outcome = if batch.turn_has_come() {
                self.sign(&batch.key, &batch, item, &mut effort)
            } else {
                SignOutcome::Expired(Expired {})
            };
            if let Some(answer) = batch.settle(item, outcome, effort) {
                self.replies.send(batch.id, answer);
            }
        }
    }

    fn sign(&mut self, key: &Key, batch: &Batch, item: usize, effort: &mut Effort) -> SignOutcome {
        let claims = match key.profile.check(batch.payload(item), clock::wall()) {
            Ok(claims) => claims,
            Err(refusal) => {
                return SignOutcome::Refusal(Refusal {
                    reason: refusal.reason().into(),
                    claim: refusal.claim().unwrap_or_default().into(),
                    rule: refusal.rule().as_str().into(),
                    message: refusal.to_string(),
                });
            }
        };
        if !key.still_fits() {
            return SignOutcome::Failed(Refused {
                reason: Cause::KeyUnusable.as_str().into(),
                detail: "the device shows it with a defect, or another key in its place".into(),
            });
        }
        let input = key.header.begin(claims.payload());
        let signature = match self.sign_input(key, &input, effort) {
            Ok(signature) => signature,
            Err(error) => {
                return SignOutcome::Failed(Refused {
                    reason: error.cause.as_str().into(),
                    detail: error.detail,
                });
            }
        };
        let token_sha256 = Bytes::copy_from_slice(input.token_digest(&signature).as_ref());
        let facts = claims.into_facts();
        SignOutcome::Signature(Signature {
            signature: signature.into(),
            token_sha256,
            facts: Facts {
                txn: facts.txn,
                req_wl: facts.req_wl,
                exp: facts.exp.0,
                delegation_depth: u32::try_from(facts.delegation_depth).unwrap_or(u32::MAX),
            },
        })
    }

    /// Signs, once more if the device allows it.
    ///
    /// # Errors
    /// Only what this key cannot be helped out of. What needs a fresh process ends this one: the
    /// server queues again what was in flight.
    fn sign_input(
        &mut self,
        key: &Key,
        input: &SigningInput,
        effort: &mut Effort,
    ) -> Result<Vec<u8>, DeviceError> {
        let first = match self.sign_once(key, input, effort) {
            Ok(signature) => return Ok(signature),
            Err(error) => error,
        };
        tracing::warn!(cause = %first.cause, detail = first.detail, "a signature failed");
        let second = match self.mend(&first) {
            Ok(()) => match self.sign_once(key, input, effort) {
                Ok(signature) => return Ok(signature),
                Err(error) => error,
            },
            Err(error) => error,
        };
        match second.remedy {
            Remedy::Refuse => Err(second),
            _ => exit::restart(&second, &self.replies),
        }
    }

    fn sign_once(
        &mut self,
        key: &Key,
        input: &SigningInput,
        effort: &mut Effort,
    ) -> Result<Vec<u8>, DeviceError> {
        let algorithm = key.public.algorithm();
        let sessions = self.busy.fetch_add(1, Ordering::Relaxed) + 1;
        let begun = clock::monotonic();
        let signature = self.session.sign(&key.handle, algorithm, input);
        let took = clock::monotonic() - begun;
        self.busy.fetch_sub(1, Ordering::Relaxed);
        let signature = signature?;
        *effort = Effort { took, sessions };
        let (length, expected) = (signature.len(), key.public.signature_len());
        if length == expected {
            return Ok(signature);
        }
        let detail = format!("the device gave {length} bytes where {algorithm} has {expected}");
        Err(DeviceError::of(Cause::Malformed, detail))
    }

    fn mend(&mut self, error: &DeviceError) -> Result<(), DeviceError> {
        match error.remedy {
            Remedy::Retry => Ok(()),
            Remedy::Reopen => {
                let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
                let lost = std::mem::replace(&mut self.session, device.open_session()?);
                drop(device);
                // Closing it is a call too.
                watch::call(|| drop(lost));
                Ok(())
            }
            Remedy::Restart | Remedy::Park | Remedy::Refuse => Err(error.clone()),
        }
    }
}
