//! What a worker is doing, and waiting for it to be ready.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mintwarden_worker::{
    finding::Finding,
    wire::{LastWords, WorkerHello},
};
use tokio::sync::watch;

use super::{
    Reason, WorkerError,
    breaker::Breaker,
    examine,
    ready::{Lease, Ready},
    reason::{Fault, WORKER_LOST, WORKERS, cause},
    wire::Wire,
};
use crate::{
    clock::{self, Deadline},
    launcher::control::WORKER_PARKED,
};

/// From this wait on, callers are told instead of being kept waiting.
const TELL: Duration = Duration::from_secs(1);
/// How often a batch that waits for a start looks whether another device would take it.
const LOOK_ELSEWHERE: Duration = Duration::from_millis(20);

/// What a worker is doing.
#[derive(Clone, Debug, Default)]
pub enum State {
    /// It is starting, or about to be started: worth waiting for.
    #[default]
    Starting,
    /// It serves.
    Ready(Arc<Ready>),
    /// It failed, and waits for its next start.
    Down(Reason),
    /// It is not started again without an operator.
    Parked(Reason),
    /// The server is shutting down.
    Closed,
}

/// The state of one device's worker. Only its latest wire may change it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    states: watch::Sender<State>,
    latest: Mutex<Latest>,
    starts: AtomicU64,
}

/// The latest worker, and the record of those before it.
#[derive(Debug, Default)]
struct Latest {
    wire: Option<Arc<Wire>>,
    /// What the worker found when it opened the device.
    seen: Vec<Finding>,
    breaker: Breaker,
    fault: Option<Fault>,
    /// Which start of the worker is parked, or was last.
    parked: u64,
    /// How often an operator had it resumed.
    resumed: u64,
    /// How often what went wrong, by cause.
    faults: BTreeMap<&'static str, u64>,
}

/// What the launcher says of a worker that ended.
#[derive(Clone, Debug)]
pub enum Said {
    /// It is not started again without an operator.
    Parked {
        /// Why.
        why: Reason,
        /// Which start of the worker it was.
        start: u64,
        /// How many resumptions the launcher had heard of when it said so.
        heard: u64,
    },
    /// It is started again at this instant.
    Ended(Reason, Instant),
}

/// Why a device is not tried again.
#[derive(Debug, thiserror::Error)]
pub enum NotResumed {
    /// It is not parked.
    #[error("the device is not parked")]
    NotParked,
    /// The launcher cannot be asked.
    #[error("the launcher cannot be asked: {0}")]
    NotAsked(#[source] io::Error),
}

impl Latest {
    /// Records what went wrong.
    fn record(&mut self, why: Reason) {
        *self.faults.entry(cause(&why.reason)).or_default() += 1;
        self.fault = Some(Fault::now(why));
    }

    /// Why it ends, where that is known.
    fn words(&self) -> Option<&Reason> {
        self.wire.as_ref().and_then(|wire| wire.words())
    }

    fn is(&self, wire: &Arc<Wire>) -> bool {
        self.wire.as_ref().is_some_and(|latest| Arc::ptr_eq(latest, wire))
    }
}

impl Shared {
    pub(super) fn get(&self) -> State {
        self.states.borrow().clone()
    }

    /// How many worker processes there were.
    pub(super) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// What went wrong last.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.latest().fault.clone()
    }

    /// How often what went wrong: those of the worker always, those of the device once they happened.
    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        let mut faults = BTreeMap::from(WORKERS.map(|cause| (cause, 0)));
        faults.extend(&self.latest().faults);
        faults
    }

    /// The worker, as soon as it serves. Does not wait for what needs an operator or has failed.
    pub(super) async fn ready(&self, deadline: Deadline) -> Result<Arc<Ready>, WorkerError> {
        let mut states = self.states.subscribe();
        loop {
            if let Some(settled) = settled(&states.borrow_and_update()) {
                return settled;
            }
            let changed =
                tokio::time::timeout_at(deadline.instant().into(), states.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(WorkerError::Deadline);
            }
        }
    }

    /// A place for a batch, as [`ready`](Self::ready). Does not wait for one that is on trial, nor
    /// longer than there is nothing `elsewhere`.
    pub(super) async fn lease(
        &self,
        deadline: Deadline,
        elsewhere: &(dyn Fn() -> bool + Sync),
    ) -> Result<Lease, WorkerError> {
        let waits = async {
            while !elsewhere() {
                tokio::time::sleep(LOOK_ELSEWHERE).await;
            }
        };
        let ready = tokio::select! {
            biased;
            ready = self.ready(deadline) => ready?,
            () = waits => return Err(WorkerError::Elsewhere),
        };
        ready.lease().ok_or_else(|| {
            let fault = self.fault().map(|fault| fault.reason);
            WorkerError::Unavailable(fault.unwrap_or_else(Reason::worker_lost))
        })
    }

    /// A fresh wire takes the place of the one before it, which has ended.
    pub(super) fn begin(&self, wire: &Arc<Wire>) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.latest().wire = Some(Arc::clone(wire));
    }

    /// Cuts the wire that there is.
    pub(super) fn cut(&self, why: &'static str) {
        if let Some(wire) = &self.latest().wire {
            wire.cut(why);
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, by: &Arc<Wire>, state: State) {
        let latest = self.latest();
        if latest.is(by) {
            self.change(|now| (!matches!(now, State::Closed)).then_some(state));
        }
    }

    fn change(&self, change: impl FnOnce(&State) -> Option<State>) {
        self.states.send_if_modified(|now| match change(now) {
            Some(next) => {
                *now = next;
                true
            }
            None => false,
        });
    }

    /// What the latest worker found when it opened its device.
    pub(super) fn seen(&self) -> Vec<Finding> {
        self.latest().seen.clone()
    }

    pub(super) fn hello(&self, hello: WorkerHello, wire: &Arc<Wire>) {
        let mut latest = self.latest();
        if latest.is(wire) {
            latest.seen = examine::decode(&hello.findings);
        }
        drop(latest);
        let state = match &hello.unusable {
            None => {
                let on_trial = self.latest().breaker.is_open();
                State::Ready(Arc::new(Ready::new(hello, wire, on_trial)))
            }
            Some(refused) => {
                let reason = Reason::from(refused.clone());
                self.say(wire, reason.clone());
                if hello.parked {
                    self.note_parked(wire);
                    State::Parked(reason.needs_an_operator())
                } else {
                    State::Down(reason)
                }
            }
        };
        self.set(wire, state);
    }

    /// The worker says why it ends.
    pub(super) fn last_words(&self, words: LastWords, wire: &Arc<Wire>) {
        if wire.words().is_some() {
            return; // The server has found it out before.
        }
        let reason = Reason::from(words.why);
        self.say(wire, reason.clone());
        if words.parked {
            self.note_parked(wire);
            self.set(wire, State::Parked(reason.needs_an_operator()));
        } else if matches!(self.get(), State::Starting) {
            self.set(wire, State::Down(reason)); // It never served.
        }
    }

    pub(super) fn failed(&self, wire: &Arc<Wire>, reason: &str, detail: String) {
        let reason = Reason::new(reason, detail);
        self.say(wire, reason.clone());
        self.set(wire, State::Down(reason));
    }

    fn note_parked(&self, wire: &Arc<Wire>) {
        let mut latest = self.latest();
        if latest.is(wire) {
            latest.parked = wire.start;
        }
    }

    fn say(&self, wire: &Arc<Wire>, why: Reason) {
        let mut latest = self.latest();
        if latest.is(wire) && wire.words().is_none() {
            latest.record(why.clone());
            wire.note_words(why);
        }
    }

    /// The server itself found the worker out: it is to be discarded, and asked nothing from here on.
    pub(super) fn distrusted(&self, wire: &Arc<Wire>, why: &'static str) {
        self.say(wire, Reason::new("DEVICE_FAULT", why));
        self.change(|now| match now {
            State::Ready(ready) if Arc::ptr_eq(&ready.wire, wire) => Some(State::Starting),
            _ => None,
        });
        wire.cut(why);
    }

    /// What it signed was right; whether that is news.
    pub(super) fn proved(&self, ready: &Ready) -> bool {
        let news = ready.wire.note_proved();
        if news {
            let mut latest = self.latest();
            if latest.is(&ready.wire) {
                latest.breaker.proved();
                ready.proved();
            }
        }
        news
    }

    /// The launcher says that the worker ended. Where the worker said why itself, that counts.
    pub(super) fn said(&self, said: Said) {
        let mut latest = self.latest();
        match said {
            // Said before it heard that the device is resumed.
            Said::Parked { heard, .. } if heard < latest.resumed => {}
            Said::Parked { why, start, .. } => {
                let words = latest.words().filter(|_| why.reason == WORKER_PARKED);
                let reason = words.cloned().unwrap_or(why).needs_an_operator();
                self.change(|now| match now {
                    State::Starting | State::Down(_) => {
                        latest.parked = start;
                        Some(State::Parked(reason))
                    }
                    _ => None,
                });
            }
            Said::Ended(reason, next) => {
                if latest.words().is_none() {
                    // The launcher knows how it ended, and not only that it did.
                    latest.record(reason.clone());
                }
                let told = next >= clock::monotonic() + TELL || latest.breaker.is_open();
                let why = latest.words().cloned().unwrap_or(reason);
                self.change(|now| match now {
                    State::Starting if told => Some(State::Down(why.until(next))),
                    State::Down(known) if known.reason == WORKER_LOST => {
                        Some(State::Down(why.until(next)))
                    }
                    State::Down(known) => Some(State::Down(known.clone().until(next))),
                    _ => None,
                });
            }
        }
    }

    /// The wire ended. Only a worker that served is expected back at once, and not if too many ended
    /// before it: whether that is so now.
    pub(super) fn lost(&self, wire: &Arc<Wire>) -> bool {
        let mut latest = self.latest();
        if !latest.is(wire) {
            return false;
        }
        latest.breaker.ended();
        let why = wire.words().cloned().unwrap_or_else(Reason::worker_lost);
        if wire.words().is_none() {
            latest.fault = Some(Fault::now(why.clone()));
        }
        let open = latest.breaker.is_open();
        self.change(|now| match now {
            State::Ready(_) | State::Starting if open => Some(State::Down(why)),
            State::Ready(_) => Some(State::Starting),
            _ => None,
        });
        open
    }

    /// It is to be tried again, if it is parked: `ask` gets the start that is, and this request's number.
    /// Under the lock, which it may not wait in: requests go out in the order of their numbers.
    pub(super) fn resume(
        &self,
        ask: impl FnOnce(u64, u64) -> io::Result<()>,
    ) -> Result<(), NotResumed> {
        let mut latest = self.latest();
        if !matches!(self.get(), State::Parked(_)) {
            return Err(NotResumed::NotParked);
        }
        let number = latest.resumed + 1;
        ask(latest.parked, number).map_err(NotResumed::NotAsked)?;
        latest.resumed = number;
        self.change(|now| matches!(now, State::Parked(_)).then_some(State::Starting));
        Ok(())
    }

    pub(super) fn close(&self) {
        if let State::Ready(ready) = self.states.send_replace(State::Closed) {
            ready.wire.cut("shutting down");
        }
    }
}

/// What waiting for a worker has come to; `None` while it is worth waiting.
fn settled(state: &State) -> Option<Result<Arc<Ready>, WorkerError>> {
    match state {
        State::Starting => None,
        State::Ready(ready) => Some(Ok(Arc::clone(ready))),
        State::Down(reason) | State::Parked(reason) => {
            Some(Err(WorkerError::Unavailable(reason.clone())))
        }
        State::Closed => Some(Err(WorkerError::Unavailable(Reason::worker_lost()))),
    }
}
