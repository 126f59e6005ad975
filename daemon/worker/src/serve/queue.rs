//! The queue between reader and signers: batches in order of arrival, handed out item by item, so
//! that every session has work while there is any.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::serve::{batch::Batch, exit::WorkerExit};

/// Bound on waiting items (I9). The server keeps well below it; beyond it the server is broken.
const MAX_WAITING: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    batches: VecDeque<(Arc<Batch>, usize)>,
    waiting: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a batch.
    pub(super) fn push(&self, batch: Batch) -> Result<(), WorkerExit> {
        let items = batch.len();
        if items == 0 {
            return Err(WorkerExit::Wire("a batch without items".into()));
        }
        let mut state = self.lock();
        state.waiting += items;
        if state.waiting > MAX_WAITING {
            return Err(WorkerExit::Wire(format!("{} items are waiting", state.waiting)));
        }
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
