//! The queue between reader and signers: batches handed out item by item, so that every session has
//! work while there is any. Those of one issuer in order of arrival; issuers take turns, so that one
//! whose callers ask for much keeps no other one waiting (I9).

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{
    IssuerName,
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
    /// Of issuers that have something waiting; the first has its turn.
    lanes: VecDeque<Lane>,
    waiting: usize,
    waiting_bytes: usize,
    closed: bool,
}

/// What waits of one issuer: never nothing.
struct Lane {
    issuer: IssuerName,
    /// Each with its next item.
    batches: VecDeque<(Arc<Batch>, usize)>,
}

impl State {
    fn append(&mut self, batch: Batch) {
        let issuer = &batch.key.profile.issuer;
        let lane = self.lanes.iter().position(|lane| lane.issuer == *issuer);
        let lane = lane.unwrap_or_else(|| {
            let lane = Lane { issuer: issuer.clone(), batches: VecDeque::new() };
            self.lanes.push_back(lane);
            self.lanes.len() - 1
        });
        self.waiting += batch.len();
        self.waiting_bytes += batch.bytes();
        self.lanes[lane].batches.push_back((Arc::new(batch), 0));
    }

    fn next(&mut self) -> Option<(Arc<Batch>, usize)> {
        let mut lane = self.lanes.pop_front()?;
        let (batch, next) = lane.batches.front_mut()?;
        let (batch, item) = (Arc::clone(batch), *next);
        *next += 1;
        if *next == batch.len() {
            lane.batches.pop_front();
            self.waiting_bytes -= batch.bytes();
        }
        self.waiting -= 1;
        if !lane.batches.is_empty() {
            self.lanes.push_back(lane);
        }
        Some((batch, item))
    }
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
        state.append(batch);
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
            if let Some(next) = state.next() {
                return Some(next);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{serve::keys::tests::key, wire::Sign};

    fn batch(id: u64, issuer: &str, items: usize) -> Batch {
        let claims = vec!["{}".into(); items];
        Batch::new(id, Sign { claims, ..Sign::default() }, key(issuer))
    }

    #[test]
    fn i9_issuers_take_turns_and_each_is_served_in_order() {
        let queue = Queue::default();
        for (id, issuer, items) in [(1, "a", 3), (2, "a", 2), (3, "b", 2), (4, "c", 1)] {
            queue.push(batch(id, issuer, items)).expect("room");
        }
        let next = || queue.pop().map(|(batch, item)| (batch.id, item)).expect("an item");
        let order: Vec<_> = (0..8).map(|_| next()).collect();
        let expected = [(1, 0), (3, 0), (4, 0), (1, 1), (3, 1), (1, 2), (2, 0), (2, 1)];
        assert_eq!(order, expected);
        let state = queue.lock();
        assert_eq!((state.lanes.len(), state.waiting, state.waiting_bytes), (0, 0, 0));
    }
}
