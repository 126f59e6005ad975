//! Who comes in: a bounded number of connections, and before them a bounded number of newcomers, of which
//! the oldest gives way. Peers that begin a handshake and never end it so keep nobody out (I9).

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Bound on connections whose peer is not known yet, or that wait for room.
const MAX_NEWCOMERS: usize = 512;

/// The door of one listener.
#[derive(Clone)]
pub(super) struct Door {
    room: Arc<Semaphore>,
    newcomers: Arc<Mutex<Newcomers>>,
}

#[derive(Default)]
struct Newcomers {
    next: u64,
    give_way: BTreeMap<u64, Arc<Notify>>,
}

/// A connection that is not let in yet.
pub(super) struct Newcomer {
    door: Door,
    id: u64,
    give_way: Arc<Notify>,
}

/// A connection that was let in, until this is dropped.
pub(super) struct LetIn {
    _room: OwnedSemaphorePermit,
}

impl Door {
    pub(super) fn new(max_connections: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(max_connections)), newcomers: Arc::default() }
    }

    fn newcomers(&self) -> MutexGuard<'_, Newcomers> {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more newcomer. Beyond the bound the oldest one is told to go.
    pub(super) fn come(&self) -> Newcomer {
        let mut newcomers = self.newcomers();
        if newcomers.give_way.len() >= MAX_NEWCOMERS
            && let Some((_, oldest)) = newcomers.give_way.pop_first()
        {
            oldest.notify_one();
        }
        let (id, give_way) = (newcomers.next, Arc::new(Notify::new()));
        newcomers.next += 1;
        newcomers.give_way.insert(id, Arc::clone(&give_way));
        Newcomer { door: self.clone(), id, give_way }
    }
}

impl Newcomer {
    /// Waits for `handshake`, unless the newcomer has to give way or `limit` passes.
    pub(super) async fn shaking<T>(
        &self,
        limit: Duration,
        handshake: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        tokio::select! {
            shaken = tokio::time::timeout(limit, handshake) => {
                shaken.map_err(|_| PutOut::TooLong)?
            }
            () = self.give_way.notified() => Err(PutOut::GaveWay.into()),
        }
    }

    /// Lets it in once there is room, which may take `limit`.
    pub(super) async fn enter(self, limit: Duration) -> io::Result<LetIn> {
        let room = Arc::clone(&self.door.room);
        let room = async { room.acquire_owned().await.map_err(io::Error::other) };
        let late = |error: io::Error| match PutOut::of(&error) {
            Some(PutOut::TooLong) => PutOut::NoRoom.into(),
            _ => error,
        };
        Ok(LetIn { _room: self.shaking(limit, room).await.map_err(late)? })
    }
}

/// Why a newcomer was put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PutOut {
    #[error("the TLS handshake took too long")]
    TooLong,
    #[error("it gave way to newer connections")]
    GaveWay,
    #[error("there was no room for one more connection")]
    NoRoom,
}

impl PutOut {
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).copied()
    }
}

impl From<PutOut> for io::Error {
    fn from(why: PutOut) -> Self {
        Self::new(io::ErrorKind::TimedOut, why)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.door.newcomers().give_way.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn i9_the_oldest_newcomer_gives_way_to_the_newest() {
        let door = Door::new(1);
        let first = door.come();
        let others: Vec<_> = (1..MAX_NEWCOMERS).map(|_| door.come()).collect();
        first.shaking(LONG, async { Ok(()) }).await.expect("there is room for all so far");
        let last = door.come();
        let gone = first.shaking(LONG, pending::<io::Result<()>>()).await.expect_err("it goes");
        assert!(gone.to_string().contains("gave way"), "{gone}");
        last.enter(LONG).await.expect("whoever ends its handshake comes in");
        assert_eq!(door.newcomers().give_way.len(), others.len());
    }

    #[tokio::test]
    async fn i9_no_more_connections_come_in_than_there_is_room_for() {
        let door = Door::new(1);
        let first = door.come().enter(LONG).await.expect("room");
        let soon = Duration::from_millis(1);
        let refused = door.come().enter(soon).await.err().expect("no room");
        assert!(refused.to_string().contains("no room"), "{refused}");
        let (second, ()) = tokio::join!(door.come().enter(LONG), async { drop(first) });
        second.expect("room");
        assert!(door.newcomers().give_way.is_empty());
    }
}
