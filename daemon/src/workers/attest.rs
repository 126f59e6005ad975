//! Evidence of where a key lives, as the device's worker writes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mintwarden_attestation::{Challenge, Evidence};
use mintwarden_worker::{
    IssuerName,
    device::KeyHandle,
    wire::{Answer, Ask, Attest},
};

use super::Workers;
use crate::{clock, keyset::apply::KeyOpsError};

/// Held by the one request for evidence that a device is answering (I9): a TPM makes keys for it, which takes
/// seconds in which it signs nothing.
pub(super) type Turn = Arc<tokio::sync::Mutex<Rest>>;

/// A device rests so many times as long as it gave evidence: who may ask for evidence cannot keep it from signing.
const REST: u32 = 4;
/// The longest rest that one answer can cost.
const MAX_REST: Duration = Duration::from_secs(300);
/// So much rest may be owed while evidence is given: both answers that a credential takes, and some more of a fast device.
const MAY_OWE: Duration = Duration::from_secs(120);

/// How long a device owes its signers rest from giving evidence.
#[derive(Debug, Default)]
pub(super) struct Rest {
    owed_until: Option<Instant>,
}

impl Rest {
    /// How long nobody is given evidence any more.
    fn left(&self, now: Instant) -> Option<Duration> {
        let owed = self.owed_until?.saturating_duration_since(now);
        owed.checked_sub(MAY_OWE).filter(|left| !left.is_zero())
    }

    fn worked(&mut self, from: Instant, until: Instant) {
        let took = until.saturating_duration_since(from);
        // What was owed before was not paid off meanwhile.
        let owed = self.owed_until.map_or(until, |owed| (owed + took).max(until));
        self.owed_until = Some(owed + (took * REST).min(MAX_REST));
    }
}

/// Why there is no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The device is giving evidence to somebody else.
    #[error("the device is giving evidence to somebody else")]
    UnderWay,
    /// It has given much of late, and signs first.
    #[error("the device has given evidence for long and signs first; it gives more in {left:.0?}")]
    Resting {
        /// Until it gives evidence again.
        left: Duration,
    },
    /// It gives none.
    #[error(transparent)]
    Device(#[from] KeyOpsError),
}

impl Workers {
    /// Asks a device for evidence of where a key of `issuer` lives. The device is not asked for another before it has
    /// answered, whether or not this future is still there.
    ///
    /// # Errors
    /// [`AttestError`].
    pub async fn attest(
        self: &Arc<Self>,
        device: &str,
        issuer: &IssuerName,
        handle: &KeyHandle,
        challenge: &Challenge,
    ) -> Result<Bytes, AttestError> {
        let turn = self.get(device).map(|worker| Arc::clone(&worker.attesting)).unwrap_or_default();
        let mut turn = turn.try_lock_owned().map_err(|_| AttestError::UnderWay)?;
        if let Some(left) = turn.left(clock::monotonic()) {
            return Err(AttestError::Resting { left });
        }
        let ask = Ask::Attest(Attest {
            issuer: issuer.to_string(),
            handle: Bytes::copy_from_slice(handle.as_bytes()),
            challenge: challenge.to_json().into(),
        });
        let (workers, device) = (Arc::clone(self), device.to_owned());
        let answer = tokio::spawn(async move {
            let begun = clock::monotonic();
            let evidence = workers.manage(&device, ask, evidence).await;
            turn.worked(begun, clock::monotonic());
            drop(turn);
            evidence
        });
        answer
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            .map_err(Into::into)
    }
}

/// What a worker may answer: evidence within its bound. What it proves, the appliance is not the one to say.
fn evidence(answer: Answer, _keys: &super::Keys) -> Option<Bytes> {
    match answer {
        Answer::Attested(attested) if attested.evidence.len() <= Evidence::MAX => {
            Some(attested.evidence)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_a_device_signs_most_of_the_time_however_often_it_is_asked_for_evidence() {
        let begin = clock::monotonic();
        let (hour, each) = (Duration::from_secs(3600), Duration::from_secs(2));
        let (mut rest, mut now, mut worked) = (Rest::default(), begin, Duration::ZERO);
        assert_eq!(rest.left(now), None);
        let mut at_once = 0;
        while now < begin + hour {
            if let Some(left) = rest.left(now) {
                now += left;
            } else {
                at_once += u32::from(now == begin + each * at_once);
                rest.worked(now, now + each);
                (now, worked) = (now + each, worked + each);
            }
        }
        assert!((2..20).contains(&at_once), "a credential takes two: {at_once}");
        assert!(worked < hour / 4, "{worked:?} of an hour");
        // One that takes for ever does not lock evidence out for ever.
        rest.worked(now, now + hour);
        let left = rest.left(now + hour).expect("it has to sign");
        assert!(left <= MAX_REST + MAY_OWE, "{left:?}");
        assert_eq!(rest.left(now + hour + left), None);
    }
}
