//! Room that callers share: what is under way of all together, and how much of it may be one's.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::identity::Caller;

/// How much of a room of `size` one of so many callers may hold.
#[must_use]
pub(crate) const fn share(size: usize, callers: usize) -> usize {
    if callers > 1 { size / 2 } else { size }
}

/// Room for all, and how much of it is left to each caller.
#[derive(Debug)]
pub(super) struct Room {
    size: usize,
    left: Arc<Semaphore>,
    shares: HashMap<Caller, Share>,
}

/// What is left to one caller.
#[derive(Debug)]
struct Share {
    /// Tells the callers of this room from each other.
    number: u32,
    left: Arc<Semaphore>,
}

/// Room taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    /// Whose share it is of.
    pub(super) caller: u32,
    _of_all: OwnedSemaphorePermit,
    _of_share: OwnedSemaphorePermit,
}

impl Room {
    /// Room of `size` for these callers, and for nobody else.
    pub(super) fn new(size: usize, callers: &HashSet<&Caller>) -> Self {
        let room = |size| Arc::new(Semaphore::new(size));
        let left = share(size, callers.len());
        let share = |(number, caller): (u32, &&Caller)| {
            ((*caller).clone(), Share { number, left: room(left) })
        };
        Self { size, left: room(size), shares: (0..).zip(callers).map(share).collect() }
    }

    /// Takes `count` of it, unless that is more than is left of all or of the caller's share.
    pub(super) fn take(&self, caller: &Caller, count: usize) -> Option<Taken> {
        let count = u32::try_from(count).ok()?;
        let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(count).ok();
        let share = self.shares.get(caller)?;
        let caller = share.number;
        Some(Taken { caller, _of_share: take(&share.left)?, _of_all: take(&self.left)? })
    }

    pub(super) fn taken(&self) -> usize {
        self.size.saturating_sub(self.left.available_permits())
    }
}
