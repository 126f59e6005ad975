//! Admission (I9): a batch is let in whole or refused at once; nothing piles up.

mod memory;

use std::{collections::HashMap, sync::Arc, time::Duration};

use mintwarden_worker::IssuerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use memory::{Memory, Occupied};

use crate::config::{Config, fixed};

/// When a refused caller may come back: about the time that a full house takes to empty.
const COME_BACK: Duration = Duration::from_millis(100);

/// The room that there is for requests.
#[derive(Debug)]
pub struct Admission {
    items: HashMap<IssuerName, Room>,
    bytes: Room,
}

#[derive(Debug)]
struct Room {
    size: usize,
    left: Arc<Semaphore>,
}

impl Room {
    fn new(size: usize) -> Self {
        Self { size, left: Arc::new(Semaphore::new(size)) }
    }

    fn take(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(count).ok()?;
        Arc::clone(&self.left).try_acquire_many_owned(count).ok()
    }

    fn taken(&self) -> usize {
        self.size.saturating_sub(self.left.available_permits())
    }
}

/// Room taken by one batch, until this is dropped.
#[derive(Debug)]
pub struct Permit {
    _items: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// Why a batch is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Inadmissible {
    /// No items.
    #[error("the batch is empty")]
    Empty,
    /// Too many items.
    #[error("the batch has {0} items; at most {max} are allowed", max = fixed::MAX_BATCH_ITEMS)]
    TooManyItems(usize),
    /// Too many bytes.
    #[error("the batch has {0} bytes of claims; at most {max} are allowed", max = fixed::MAX_BATCH_BYTES)]
    TooManyBytes(usize),
    /// The house is full.
    #[error("too much is under way")]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
}

impl Inadmissible {
    /// The house is full.
    #[must_use]
    pub const fn overloaded() -> Self {
        Self::Overloaded { retry_after: COME_BACK }
    }
}

impl Admission {
    /// Room as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let items = || Room::new(config.limits.max_inflight_items);
        Self {
            items: config.issuers.iter().map(|issuer| (issuer.name().clone(), items())).collect(),
            bytes: Room::new(config.limits.max_inflight_bytes),
        }
    }

    /// Items of an issuer under way.
    #[must_use]
    pub fn in_flight(&self, issuer: &IssuerName) -> usize {
        self.items.get(issuer).map_or(0, Room::taken)
    }

    /// Bytes of claims under way.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes.taken()
    }

    /// Lets a batch in.
    ///
    /// # Errors
    /// [`Inadmissible`], at once.
    pub fn admit<C: AsRef<[u8]>>(
        &self,
        issuer: &IssuerName,
        claims: &[C],
    ) -> Result<Permit, Inadmissible> {
        let (items, bytes) = (claims.len(), claims.iter().map(|c| c.as_ref().len()).sum());
        if items == 0 {
            return Err(Inadmissible::Empty);
        }
        if items > fixed::MAX_BATCH_ITEMS {
            return Err(Inadmissible::TooManyItems(items));
        }
        if bytes > fixed::MAX_BATCH_BYTES {
            return Err(Inadmissible::TooManyBytes(bytes));
        }
        let full = Inadmissible::overloaded;
        let take = |room: &Room, count| room.take(count).ok_or_else(full);
        let room = self.items.get(issuer).ok_or_else(full)?;
        Ok(Permit { _items: take(room, items)?, _bytes: take(&self.bytes, bytes)? })
    }
}
