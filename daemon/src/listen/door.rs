//! Who comes in: a bounded number of connections, and before them a bounded number of newcomers, of which
//! the oldest gives way. Peers that begin a handshake and never end it so keep nobody out (I9).
//!
//! In a full house somebody gives way too: a peer without a grant, or the caller that has the most
//! connections. Peers that hold on to theirs so keep nobody else out.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::identity::Caller;

/// Bound on connections whose peer is not known yet, or that wait for room.
const MAX_NEWCOMERS: usize = 512;

/// Bound on newcomers that were told to go and have not gone yet. They go at once; on a busy machine that is
/// when their turn comes.
const MAX_LEAVING: usize = 16;

/// The door of one listener.
#[derive(Clone)]
pub(super) struct Door {
    room: Arc<Semaphore>,
    places: Arc<Semaphore>,
    newcomers: Arc<Mutex<Newcomers>>,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Newcomers {
    next: u64,
    give_way: BTreeMap<u64, Arc<Notify>>,
}

/// Who is inside and was not told to go: by the caller, or `None` for all that have no grant, and in order
/// of their coming.
#[derive(Default)]
struct Inside {
    next: u64,
    guests: HashMap<Option<Caller>, BTreeMap<u64, Arc<Notify>>>,
}

/// A place before the door, for one newcomer.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A connection that is not let in yet.
pub(super) struct Newcomer {
    _place: Place,
    door: Door,
    id: u64,
    give_way: Arc<Notify>,
}

/// A connection that was let in, until this is dropped.
pub(super) struct LetIn {
    _room: OwnedSemaphorePermit,
    inside: Arc<Mutex<Inside>>,
    caller: Option<Caller>,
    id: u64,
    give_way: Arc<Notify>,
}

impl Door {
    pub(super) fn new(max_connections: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(max_connections)),
            places: Arc::new(Semaphore::new(MAX_NEWCOMERS + MAX_LEAVING)),
            newcomers: Arc::default(),
            inside: Arc::default(),
        }
    }

    fn newcomers(&self) -> MutexGuard<'_, Newcomers> {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place for one more newcomer: at most until one that was told to go has gone.
    pub(super) async fn place(&self) -> Place {
        let permit = Arc::clone(&self.places).acquire_owned().await;
        Place { _permit: permit.expect("nobody closes it") }
    }

    /// One more newcomer. Beyond the bound the oldest one is told to go.
    pub(super) fn come(&self, place: Place) -> Newcomer {
        let mut newcomers = self.newcomers();
        if newcomers.give_way.len() >= MAX_NEWCOMERS
            && let Some((_, oldest)) = newcomers.give_way.pop_first()
        {
            oldest.notify_one();
        }
        let (id, give_way) = (newcomers.next, Arc::new(Notify::new()));
        newcomers.next += 1;
        newcomers.give_way.insert(id, Arc::clone(&give_way));
        Newcomer { _place: place, door: self.clone(), id, give_way }
    }
}

impl Inside {
    fn of(inside: &Mutex<Self>) -> MutexGuard<'_, Self> {
        inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has somebody go for a newcomer: a peer without a grant, or else one of the caller that has the
    /// most, if that leaves it no fewer than the newcomer's caller then has.
    fn make_room(&mut self, newcomer: Option<&Caller>) {
        let count = |caller: &Option<Caller>| self.guests.get(caller).map_or(0, BTreeMap::len);
        let fair = count(&newcomer.cloned()) + 1;
        let most = self.guests.iter().map(|(caller, own)| (own.len(), caller));
        let most = most.max_by_key(|(count, _)| *count).filter(|(count, _)| *count > fair);
        let from = if count(&None) > 0 { Some(None) } else { most.map(|(_, from)| from.clone()) };
        if let Some(from) = from {
            self.oldest(&from).into_iter().for_each(|oldest| oldest.notify_one());
        }
    }

    fn oldest(&mut self, of: &Option<Caller>) -> Option<Arc<Notify>> {
        let (id, _) = self.guests.get(of)?.first_key_value()?;
        self.leave(of, *id)
    }

    fn leave(&mut self, caller: &Option<Caller>, id: u64) -> Option<Arc<Notify>> {
        let own = self.guests.get_mut(caller)?;
        let left = own.remove(&id);
        if own.is_empty() {
            self.guests.remove(caller);
        }
        left
    }
}

impl LetIn {
    fn new(room: OwnedSemaphorePermit, door: &Door, caller: Option<Caller>) -> Self {
        let give_way = Arc::new(Notify::new());
        let mut inside = Inside::of(&door.inside);
        let id = inside.next;
        inside.next += 1;
        inside.guests.entry(caller.clone()).or_default().insert(id, Arc::clone(&give_way));
        Self { _room: room, inside: Arc::clone(&door.inside), caller, id, give_way }
    }

    /// Waits until it has to go, so that another comes in.
    pub(super) async fn gives_way(&self) {
        self.give_way.notified().await;
    }
}

impl Drop for LetIn {
    fn drop(&mut self) {
        Inside::of(&self.inside).leave(&self.caller, self.id);
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

    /// Lets it in once there is room, which may take `limit`. `caller`: who it is, if it has a grant.
    pub(super) async fn enter(self, caller: Option<Caller>, limit: Duration) -> io::Result<LetIn> {
        let room = Arc::clone(&self.door.room);
        if room.available_permits() == 0 {
            Inside::of(&self.door.inside).make_room(caller.as_ref());
        }
        let room = async { room.acquire_owned().await.map_err(io::Error::other) };
        let late = |error: io::Error| match PutOut::of(&error) {
            Some(PutOut::TooLong) => PutOut::NoRoom.into(),
            _ => error,
        };
        let room = self.shaking(limit, room).await.map_err(late)?;
        Ok(LetIn::new(room, &self.door, caller))
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

    use futures_util::FutureExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    async fn comes(door: &Door) -> Newcomer {
        door.come(door.place().await)
    }

    #[tokio::test]
    async fn i9_the_oldest_newcomer_gives_way_to_the_newest() {
        let door = Door::new(1);
        let first = comes(&door).await;
        let mut others = vec![];
        for _ in 1..MAX_NEWCOMERS {
            others.push(comes(&door).await);
        }
        first.shaking(LONG, async { Ok(()) }).await.expect("there is room for all so far");
        let last = comes(&door).await;
        let gone = first.shaking(LONG, pending::<io::Result<()>>()).await.expect_err("it goes");
        assert!(gone.to_string().contains("gave way"), "{gone}");
        last.enter(None, LONG).await.expect("whoever ends its handshake comes in");
        assert_eq!(door.newcomers().give_way.len(), others.len());
    }

    #[tokio::test]
    async fn i9_nobody_comes_while_too_many_that_were_told_to_go_are_still_there() {
        let door = Door::new(1);
        let mut there = vec![];
        for _ in 0..MAX_NEWCOMERS + MAX_LEAVING {
            there.push(comes(&door).await);
        }
        assert!(door.place().now_or_never().is_none());
        drop(there.remove(0));
        assert!(door.place().now_or_never().is_some());
    }

    #[tokio::test]
    async fn i9_no_more_connections_come_in_than_there_is_room_for() {
        let door = Door::new(1);
        let tts = Some(Caller::Unix(1));
        let first = comes(&door).await.enter(tts.clone(), LONG).await.expect("room");
        let soon = Duration::from_millis(1);
        let refused = comes(&door).await.enter(tts.clone(), soon).await.err().expect("no room");
        assert!(refused.to_string().contains("no room"), "{refused}");
        let (second, ()) = tokio::join!(comes(&door).await.enter(tts, LONG), async { drop(first) });
        second.expect("room");
        assert!(door.newcomers().give_way.is_empty());
    }

    async fn full_of(callers: &[Option<u32>]) -> (Door, Vec<LetIn>) {
        let door = Door::new(callers.len());
        let mut inside = vec![];
        for caller in callers {
            let caller = caller.map(Caller::Unix);
            inside.push(comes(&door).await.enter(caller, LONG).await.expect("room"));
        }
        (door, inside)
    }

    /// Who of a full house goes when `caller` comes.
    async fn goes(inside: &[Option<u32>], caller: Option<u32>) -> Option<usize> {
        let (door, mut inside) = full_of(inside).await;
        let mut come = Box::pin(comes(&door).await.enter(caller.map(Caller::Unix), LONG));
        assert!(come.as_mut().now_or_never().is_none(), "the house is full");
        let gone = inside.iter().position(|guest| guest.gives_way().now_or_never().is_some());
        if let Some(gone) = gone {
            drop(inside.remove(gone));
            come.await.expect("there is room now");
        }
        gone
    }

    #[tokio::test]
    async fn i9_peers_without_a_grant_give_way_oldest_first() {
        assert_eq!(goes(&[Some(1), None, None], Some(2)).await, Some(1));
        assert_eq!(goes(&[Some(1), None, None], Some(1)).await, Some(1), "whoever comes");
        assert_eq!(goes(&[None, None], None).await, Some(0), "also for each other");
    }

    #[tokio::test]
    async fn i9_a_caller_that_fills_the_house_gives_way_to_others() {
        let full = [Some(1), Some(2), Some(1), Some(1)];
        assert_eq!(goes(&full, Some(3)).await, Some(0));
        assert_eq!(goes(&full, Some(2)).await, Some(0));
        assert_eq!(goes(&full, None).await, Some(0), "health is for anyone");
        assert_eq!(goes(&full, Some(1)).await, None, "it has enough");
        assert_eq!(goes(&[Some(1), Some(2)], Some(3)).await, None, "no one has too many");
    }

    #[tokio::test]
    async fn whoever_was_told_to_go_is_not_told_again_and_nobody_is_kept_in_mind() {
        let (door, inside) = full_of(&[None, None]).await;
        for _ in 0..3 {
            let mut come = Box::pin(comes(&door).await.enter(None, LONG));
            assert!(come.as_mut().now_or_never().is_none());
        }
        assert!(Inside::of(&door.inside).guests.is_empty(), "all were told");
        drop(inside);
        drop(comes(&door).await.enter(None, LONG).await.expect("room"));
        assert!(Inside::of(&door.inside).guests.is_empty());
    }
}
