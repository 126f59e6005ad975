//! What the launcher says of a device, one after the other.
//!
//! The launcher tells of a worker's end, and hands over the wire of the next one, when the process is
//! gone. Its wire may not have been read to the end by then, and what was written there last is why it ended:
//! so whatever is said next waits until that wire has ended.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// How long the wire of a process that is gone may take to end. Nothing more is written to it, so that reading the
/// rest takes no time, unless a process that the vendor library started has the other end too.
const REST: Duration = Duration::from_millis(100);

/// The order of what the launcher says of one device.
#[derive(Debug)]
pub(super) struct Order(Mutex<CancellationToken>);

/// The place of one thing that it said, which is done with when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    before: CancellationToken,
    done: CancellationToken,
}

impl Default for Order {
    fn default() -> Self {
        let nothing_before = CancellationToken::new();
        nothing_before.cancel();
        Self(Mutex::new(nothing_before))
    }
}

impl Order {
    /// The next place.
    pub(super) fn next(&self) -> Place {
        let done = CancellationToken::new();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Place { before: mem::replace(&mut *last, done.clone()), done }
    }
}

impl Place {
    /// Waits for what was said before; `overdue` is to end that where it does not end by itself.
    pub(super) async fn comes(&self, overdue: impl FnOnce()) {
        if tokio::time::timeout(REST, self.before.cancelled()).await.is_err() {
            overdue();
            self.before.cancelled().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.done.cancel();
    }
}
