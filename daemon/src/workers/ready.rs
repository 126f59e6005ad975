//! A worker that serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mintwarden_worker::{
    device::Verdict,
    wire::{Lacking, Refused, SignOutcome, Signed, SupportReport, WorkerHello},
};

use super::{Reason, fitness, fitness::Keys, wire::Wire};

/// How often a batch that is stuck looks for another device.
const LOOK_ELSEWHERE: Duration = Duration::from_millis(50);

/// A worker that serves.
#[derive(Debug)]
pub struct Ready {
    pub(super) wire: Arc<Wire>,
    /// What the device says of itself.
    pub description: String,
    /// Sessions that sign in parallel.
    pub sessions: u32,
    /// Issuers whose keys the device cannot make, with what is missing.
    pub lacking: Vec<Lacking>,
    /// The keys in the device, and which of them must not be used (I1).
    pub keys: Keys,
    /// What the device does not show of good keys, and its configuration excuses.
    pub unproven: Vec<String>,
    /// Which kinds of key it can make and use.
    pub support: Vec<Verdict>,
    trial: AtomicU8,
}

/// No trial: as many batches at a time as there are.
const OPEN: u8 = 0;
/// One batch at a time, and there is none.
const ON_TRIAL: u8 = 1;
/// One batch at a time, and it is under way.
const TRIED: u8 = 2;

impl Ready {
    pub(super) fn new(hello: WorkerHello, wire: &Arc<Wire>, on_trial: bool) -> Self {
        Self {
            wire: Arc::clone(wire),
            description: hello.description,
            sessions: hello.sessions,
            lacking: hello.lacking,
            keys: Keys::new(hello.keys),
            unproven: hello.unproven,
            support: hello.support.into_iter().filter_map(SupportReport::into_verdict).collect(),
            trial: AtomicU8::new(if on_trial { ON_TRIAL } else { OPEN }),
        }
    }

    /// Whether it would take a batch now, and no call of the device has been running for long.
    #[must_use]
    pub fn takes_more(&self) -> bool {
        self.trial.load(Ordering::Relaxed) != TRIED && !self.wire.is_stalled()
    }

    /// Takes the place for a batch. `None` where it is on trial, and tried already.
    pub(super) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let tried = |trial| match trial {
            OPEN => Some(OPEN),
            ON_TRIAL => Some(TRIED),
            _ => None,
        };
        let before = self.trial.fetch_update(Ordering::AcqRel, Ordering::Acquire, tried).ok()?;
        Some(Lease { ready: Arc::clone(self), trial: before == ON_TRIAL })
    }

    /// Ends the trial: what it signed was right.
    pub(super) fn proved(&self) {
        self.trial.store(OPEN, Ordering::Release);
    }

    /// Waits until a call of the device has been running for long and there is another device to turn
    /// to.
    pub(super) async fn stuck(&self, elsewhere: &(dyn Fn() -> bool + Sync)) {
        loop {
            self.wire.stalls().await;
            if elsewhere() {
                return;
            }
            tokio::time::sleep(LOOK_ELSEWHERE).await;
        }
    }

    /// Requests that the worker has not answered.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.wire.open_requests()
    }

    /// Notes what a signed batch says of its key, where it says something against it.
    pub(super) fn note_signed(&self, handle: &Bytes, signed: &Signed) {
        let failed = signed.items.iter().find_map(|item| match &item.outcome {
            Some(SignOutcome::Failed(failed)) => Some(failed),
            _ => None,
        });
        if let Some(failed) = failed {
            self.note_refused(handle, failed);
        }
    }

    pub(super) fn note_refused(&self, handle: &Bytes, refused: &Refused) {
        if fitness::concerns_key(&refused.reason) {
            self.keys.note(handle, Some(Reason::from(refused.clone())));
        }
    }
}

/// The place of one batch.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) ready: Arc<Ready>,
    trial: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.trial {
            let place = &self.ready.trial;
            // Not where the trial has ended meanwhile.
            let _ended =
                place.compare_exchange(TRIED, ON_TRIAL, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}
