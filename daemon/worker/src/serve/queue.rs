//! The queue between reader and signers: batches handed out item by item, so that every session has
//! work while there is any. Issuers take turns, and of each its callers, so that whoever asks for much
//! keeps nobody else waiting (I9); those of one caller come in order of arrival.

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
    issuers: Turns<IssuerName, Turns<u32, Lane>>,
    waiting: usize,
    waiting_bytes: usize,
    closed: bool,
}

/// What waits of one caller: batches, each with its next item.
type Lane = VecDeque<(Arc<Batch>, usize)>;

/// Those that take turns: the first has its turn. Each has something that waits.
struct Turns<K, T>(VecDeque<(K, T)>);

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: PartialEq + Clone, T: Default> Turns<K, T> {
    /// What waits of one, who is the last in turn if nothing did.
    fn of(&mut self, who: &K) -> &mut T {
        let place = self.0.iter().position(|(known, _)| known == who).unwrap_or_else(|| {
            self.0.push_back((who.clone(), T::default()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    /// Gives the first its turn; who has nothing left after it is out.
    fn next<R>(&mut self, turn: impl FnOnce(&mut T) -> (R, Left)) -> Option<R> {
        let (who, mut waits) = self.0.pop_front()?;
        let (result, left) = turn(&mut waits);
        if left == Left::Some {
            self.0.push_back((who, waits));
        }
        Some(result)
    }

    fn left(&self) -> Left {
        if self.0.is_empty() { Left::Nothing } else { Left::Some }
    }
}

/// Whether something still waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Some,
    Nothing,
}

/// The next item of a caller's first batch, and whether that was the batch's last.
fn next_of(lane: &mut Lane) -> (Option<(Arc<Batch>, usize, bool)>, Left) {
    let Some((batch, next)) = lane.front_mut() else { return (None, Left::Nothing) };
    let (batch, item) = (Arc::clone(batch), *next);
    *next += 1;
    let last = *next == batch.len();
    if last {
        lane.pop_front();
    }
    let left = if lane.is_empty() { Left::Nothing } else { Left::Some };
    (Some((batch, item, last)), left)
}

impl State {
    fn append(&mut self, batch: Batch) {
        self.waiting += batch.len();
        self.waiting_bytes += batch.bytes();
        let batch = Arc::new(batch);
        self.issuers.of(&batch.key.profile.issuer).of(&batch.caller).push_back((batch.clone(), 0));
    }

    fn next(&mut self) -> Option<(Arc<Batch>, usize)> {
        let next = self.issuers.next(|callers| {
            let next = callers.next(next_of);
            (next.flatten(), callers.left())
        });
        let (batch, item, last) = next.flatten()?;
        self.waiting -= 1;
        if last {
            self.waiting_bytes -= batch.bytes();
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

    fn batch(id: u64, issuer: &str, caller: u32, items: usize) -> Batch {
        let claims = vec!["{}".into(); items];
        Batch::new(id, Sign { claims, caller, ..Sign::default() }, key(issuer))
    }

    fn order(queue: &Queue, items: usize) -> Vec<(u64, usize)> {
        let next = || queue.pop().map(|(batch, item)| (batch.id, item)).expect("an item");
        let order = (0..items).map(|_| next()).collect();
        let state = queue.lock();
        assert_eq!((state.issuers.0.len(), state.waiting, state.waiting_bytes), (0, 0, 0));
        order
    }

    #[test]
    fn i9_issuers_take_turns_and_each_is_served_in_order() {
        let queue = Queue::default();
        for (id, issuer, items) in [(1, "a", 3), (2, "a", 2), (3, "b", 2), (4, "c", 1)] {
            queue.push(batch(id, issuer, 0, items)).expect("room");
        }
        let expected = [(1, 0), (3, 0), (4, 0), (1, 1), (3, 1), (1, 2), (2, 0), (2, 1)];
        assert_eq!(order(&queue, 8), expected);
    }

    #[test]
    fn i9_callers_take_turns_within_their_issuers_turns() {
        let queue = Queue::default();
        for (id, issuer, caller, items) in [(1, "a", 7, 4), (2, "a", 8, 1), (3, "b", 7, 3)] {
            queue.push(batch(id, issuer, caller, items)).expect("room");
        }
        queue.push(batch(4, "a", 8, 1)).expect("room");
        let a_b_a_b = [(1, 0), (3, 0), (2, 0), (3, 1), (1, 1), (3, 2), (4, 0), (1, 2), (1, 3)];
        assert_eq!(order(&queue, 9), a_b_a_b);
    }
}
