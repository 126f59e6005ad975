//! The queue between reader and signers: batches in order of arrival, handed out item by item, so
//! that every session has work while there is any.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{
    device::Cause,
    serve::batch::Batch,
    wire::{OVERLOADED, Refused},
};

/// Bound on waiting items (I9). The server's own bound is per issuer, and several issuers may share
/// a device.
const MAX_WAITING: usize = 64 * 1024;

/// Bound on the bytes of batches that wait (I9).
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotQueued {
    #[error("a batch without items")]
    Empty,
    #[error("too many items are waiting for the device")]
    Full,
}

impl From<NotQueued> for Refused {
    fn from(not: NotQueued) -> Self {
        let reason = match not {
            NotQueued::Empty => Cause::Malformed.as_str(),
            NotQueued::Full => OVERLOADED,
        };
        Self { reason: reason.into(), detail: not.to_string() }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    batches: VecDeque<(Arc<Batch>, usize)>,
    waiting: usize,
    waiting_bytes: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a batch.
    pub(super) fn push(&self, batch: Batch) -> Result<(), NotQueued> {
        let items = batch.len();
        if items == 0 {
            return Err(NotQueued::Empty);
        }
        let mut state = self.lock();
        let bytes = batch.bytes();
        if state.waiting + items > MAX_WAITING || state.waiting_bytes + bytes > MAX_WAITING_BYTES {
            return Err(NotQueued::Full);
        }
        state.waiting += items;
        state.waiting_bytes += bytes;
        state.batches.push_back((Arc::new(batch), 0));
        drop(state);
        if items == 1 {
            self.ready.notify_one();
        } else {
            self.ready.notify_all();
        }
        Ok(())
    }

    /// The next item; `None` once the queue was closed.
    pub(super) fn pop(&self) -> Option<(Arc<Batch>, usize)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some((batch, next)) = state.batches.front_mut() {
                let item = *next;
                *next += 1;
                let batch = Arc::clone(batch);
                if *next == batch.len() {
                    state.batches.pop_front();
                    state.waiting_bytes -= batch.bytes();
                }
                state.waiting -= 1;
                return Some((batch, item));
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all signers after the item that they are at.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }
}
