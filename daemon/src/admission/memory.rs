//! What requests and answers occupy in memory, counted for each caller (I9): a caller that fills its
//! room is refused and takes none from others.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Inadmissible;
use crate::{config::Config, identity::Caller};

/// What a call occupies beside its bytes: tasks and a stream. 11 KiB were measured, unoptimised.
const CALL: usize = 16 * 1024;

/// The room of each caller that the configuration knows, and one that all others share.
#[derive(Debug)]
pub struct Memory {
    known: HashMap<Caller, Arc<Semaphore>>,
    others: Arc<Semaphore>,
}

/// Room taken by one call, until the last of it is dropped.
#[derive(Debug)]
pub struct Occupied {
    room: Arc<Semaphore>,
    taken: OwnedSemaphorePermit,
}

impl Memory {
    /// Room as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let room = || Arc::new(Semaphore::new(config.limits.max_caller_bytes));
        let callers = config.grants.iter().flat_map(|grant| &grant.to);
        Self { known: callers.map(|caller| (caller.clone(), room())).collect(), others: room() }
    }

    /// Room for a call whose request so far has `bytes`.
    ///
    /// # Errors
    /// [`Inadmissible::Overloaded`] where the caller's room is full.
    pub fn enter(&self, caller: Option<&Caller>, bytes: usize) -> Result<Occupied, Inadmissible> {
        let room = caller.and_then(|caller| self.known.get(caller)).unwrap_or(&self.others);
        Ok(Occupied { room: Arc::clone(room), taken: take(room, CALL + bytes)? })
    }
}

impl Occupied {
    /// Takes room for `bytes` more.
    ///
    /// # Errors
    /// [`Inadmissible::Overloaded`] where the caller's room is full.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Inadmissible> {
        self.taken.merge(take(&self.room, bytes)?);
        Ok(())
    }
}

fn take(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Inadmissible> {
    let full = |_| Inadmissible::overloaded();
    let bytes = u32::try_from(bytes).map_err(|_| Inadmissible::overloaded())?;
    Arc::clone(room).try_acquire_many_owned(bytes).map_err(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: usize) -> Memory {
        let room = || Arc::new(Semaphore::new(bytes));
        let known = [1, 2].map(|uid| (Caller::Unix(uid), room()));
        Memory { known: known.into_iter().collect(), others: room() }
    }

    #[test]
    fn i9_a_caller_fills_its_own_room_only() {
        let memory = memory(10 * CALL);
        let (one, two) = (Caller::Unix(1), Caller::Unix(2));
        let mut first = memory.enter(Some(&one), CALL).expect("room");
        first.grow(8 * CALL).expect("room");
        assert_eq!(first.grow(1), Err(Inadmissible::overloaded()));
        assert!(memory.enter(Some(&one), 0).is_err(), "its room is full");
        memory.enter(Some(&two), 0).expect("room of its own");
        memory.enter(None, 0).expect("the others' room");
        drop(first);
        memory.enter(Some(&one), 9 * CALL).expect("room again");
    }

    #[test]
    fn i9_whoever_is_not_known_shares_one_room() {
        let memory = memory(2 * CALL);
        let _first = memory.enter(Some(&Caller::Unix(3)), 0).expect("room");
        let _second = memory.enter(None, 0).expect("room");
        assert!(memory.enter(Some(&Caller::Unix(4)), 0).is_err());
        assert!(memory.enter(None, usize::MAX / 2).is_err());
    }
}
