//! What a worker is doing, and waiting for it to be ready.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mintwarden_worker::{
    device::Verdict,
    wire::{Lacking, Refused, SupportReport, WorkerHello},
};
use tokio::sync::watch;

use super::{WorkerError, fitness::Keys, wire::Wire, words};
use crate::clock::Deadline;

/// Why a device is not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable reason.
    pub reason: String,
    /// For the log and the operator.
    pub detail: String,
}

impl Reason {
    pub(super) fn worker_lost() -> Self {
        Self { reason: "WORKER_LOST".into(), detail: "the worker ended".into() }
    }
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        let Refused { reason, detail } = words::refused(refused);
        Self { reason, detail }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

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

/// A worker that serves.
#[derive(Debug)]
pub struct Ready {
    pub(super) wire: Arc<Wire>,
    /// What the device says of itself.
    pub description: String,
    /// Sessions that sign in parallel.
    pub sessions: u32,
    /// Issuers whose keys the device cannot make, with what is missing.
    pub lacking: Vec<Lacking>,
    /// The keys in the device, and which of them must not be used (I1).
    pub keys: Keys,
    /// What the device does not show of good keys, and its configuration excuses.
    pub unproven: Vec<String>,
    /// Which kinds of key it can make and use.
    pub support: Vec<Verdict>,
}

/// The state of one device's worker. Only its latest wire may change it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    states: watch::Sender<State>,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    wire: Option<Arc<Wire>>,
    ended: bool,
    /// What the launcher said of the worker's end before its last words were read.
    parked: Option<Reason>,
}

impl Latest {
    fn is(&self, wire: &Arc<Wire>) -> bool {
        self.wire.as_ref().is_some_and(|latest| Arc::ptr_eq(latest, wire))
    }
}

impl Shared {
    pub(super) fn get(&self) -> State {
        self.states.borrow().clone()
    }

    /// The worker, as soon as it serves. Does not wait for what needs an operator or has failed.
    pub(super) async fn ready(&self, deadline: Deadline) -> Result<Arc<Ready>, WorkerError> {
        let mut states = self.states.subscribe();
        loop {
            match &*states.borrow_and_update() {
                State::Ready(ready) => return Ok(Arc::clone(ready)),
                State::Down(reason) | State::Parked(reason) => {
                    return Err(WorkerError::Unavailable(reason.clone()));
                }
                State::Closed => return Err(WorkerError::Unavailable(Reason::worker_lost())),
                State::Starting => {}
            }
            let changed =
                tokio::time::timeout_at(deadline.instant().into(), states.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(WorkerError::Deadline);
            }
        }
    }

    /// A fresh wire takes the place of the one before it, which is cut.
    pub(super) fn begin(&self, wire: &Arc<Wire>) {
        let latest = Latest { wire: Some(Arc::clone(wire)), ..Latest::default() };
        let before = std::mem::replace(&mut *self.latest(), latest);
        if let Some(before) = before.wire {
            before.cut("a fresh worker took its place");
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, by: &Arc<Wire>, state: State) {
        let latest = self.latest();
        if !latest.is(by) {
            return;
        }
        self.states.send_if_modified(|now| {
            let open = !matches!(now, State::Closed);
            if open {
                *now = state;
            }
            open
        });
    }

    pub(super) fn hello(&self, hello: WorkerHello, wire: &Arc<Wire>) {
        let state = match hello.unusable {
            None => State::Ready(Arc::new(Ready {
                wire: Arc::clone(wire),
                description: hello.description,
                sessions: hello.sessions,
                lacking: hello.lacking,
                keys: Keys::new(hello.keys),
                unproven: hello.unproven,
                support: hello
                    .support
                    .into_iter()
                    .filter_map(SupportReport::into_verdict)
                    .collect(),
            })),
            Some(refused) if hello.parked => State::Parked(refused.into()),
            Some(refused) => State::Down(refused.into()),
        };
        self.set(wire, state);
    }

    pub(super) fn failed(&self, wire: &Arc<Wire>, reason: &str, detail: String) {
        self.set(wire, State::Down(Reason { reason: reason.into(), detail }));
    }

    /// The launcher says that the worker ended and stays away. The worker's own last words come
    /// first: they say why.
    pub(super) fn parked(&self, reason: Reason) {
        let mut latest = self.latest();
        if latest.wire.is_some() && !latest.ended {
            latest.parked = Some(reason);
        } else {
            self.park(reason);
        }
    }

    /// Takes the launcher's word where the worker said nothing of the kind itself.
    fn park(&self, reason: Reason) {
        self.states.send_if_modified(|now| {
            let ended = matches!(now, State::Starting | State::Down(_));
            if ended {
                *now = State::Parked(reason);
            }
            ended
        });
    }

    /// The wire ended. Only a worker that served is expected back at once.
    pub(super) fn lost(&self, wire: &Arc<Wire>) {
        self.states.send_if_modified(|now| {
            let served = matches!(now, State::Ready(ready) if Arc::ptr_eq(&ready.wire, wire));
            if served {
                *now = State::Starting;
            }
            served
        });
        let mut latest = self.latest();
        if latest.is(wire) {
            latest.ended = true;
            if let Some(reason) = latest.parked.take() {
                self.park(reason);
            }
        }
    }

    pub(super) fn delayed(&self, reason: Reason) {
        self.states.send_if_modified(|now| {
            let waiting = matches!(now, State::Starting);
            if waiting {
                *now = State::Down(reason);
            }
            waiting
        });
    }

    pub(super) fn resuming(&self) {
        self.states.send_if_modified(|now| {
            let parked = matches!(now, State::Parked(_));
            if parked {
                *now = State::Starting;
            }
            parked
        });
    }

    pub(super) fn close(&self) {
        if let State::Ready(ready) = self.states.send_replace(State::Closed) {
            ready.wire.cut("shutting down");
        }
    }
}
