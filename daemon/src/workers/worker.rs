//! One device's worker, whatever process it is now, and what it signs.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mintwarden_hsm_config::device::Device;
use mintwarden_worker::{
    IssuerName,
    device::KeptKey,
    wire::{Answer, Ask, BUILD, Kept, ServerHello, Sign, Signed},
};

use super::{
    Fault, KEY_OPERATION, KeyKind, NotResumed, Said, State, UNASKED, WorkerError, attest,
    order::Order,
    pace::{self, Asks, Pace, Sample},
    pulse::Patience,
    ready::Lease,
    state, wire,
};
use crate::{
    admission::Permit,
    clock::{self, Deadline},
    launcher::control::Upward,
};

/// The worker of one device.
#[derive(Debug)]
pub struct Worker {
    /// The device.
    pub device: String,
    /// Length of the handle of a new key, in bytes.
    pub(super) handle_bytes: usize,
    /// `device_call_timeout`.
    call_timeout: Duration,
    launcher: Upward,
    order: Order,
    pub(super) state: state::Shared,
    /// What keysets keep of keys that the device does not store.
    kept: Mutex<BTreeMap<IssuerName, Vec<KeptKey>>>,
    pub(super) attesting: attest::Turn,
    /// How fast it signs: the device, whatever process serves it.
    pace: Arc<Pace>,
}

impl Worker {
    pub(super) fn new(device: &Device, launcher: Upward) -> Self {
        Self {
            device: device.name.to_string(),
            handle_bytes: device.handle_bytes(),
            call_timeout: device.call_timeout,
            launcher,
            order: Order::default(),
            state: state::Shared::default(),
            kept: Mutex::default(),
            attesting: attest::Turn::default(),
            pace: Arc::default(),
        }
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, BTreeMap<IssuerName, Vec<KeptKey>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Takes the server's end of a fresh wire, that of the device's `start`-th worker, and serves it until
    /// it ends; then the worker has to. The wire before it has ended by then.
    ///
    /// # Errors
    /// The socket's, if it cannot be used.
    pub fn attach(self: &Arc<Self>, start: u64, socket: OwnedFd) -> std::io::Result<()> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(socket)?;
        let (worker, place) = (Arc::clone(self), self.order.next());
        tokio::spawn(async move {
            place.comes(|| worker.state.cut("a fresh worker takes its place")).await;
            let patience = Patience { call: worker.call_timeout, turn: KEY_OPERATION };
            let kept = worker.kept().values().flatten().cloned().map(Kept::from).collect();
            let hello = ServerHello { build: BUILD.into(), kept };
            let (device, state) = (&worker.device, &worker.state);
            let end = wire::serve(socket, start, device, hello, patience, state).await;
            worker.launcher.discard(&worker.device, start, end == wire::End::Silent);
        });
        Ok(())
    }

    /// How many worker processes this server has met.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.state.starts()
    }

    /// What went wrong with the device last; it may be well since.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.state.fault()
    }

    /// How often what went wrong, by [`cause`].
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.state.faults()
    }

    /// Signatures a second that the device gives with all its sessions, as far as measured: with the slowest
    /// kind of key, where it has several; how that is known, docs/devices.md says.
    #[must_use]
    pub fn signatures_per_second(&self) -> Option<f64> {
        self.pace.per_second()
    }

    /// Has the launcher start a parked device's worker again, forgetting its pending login: an operator's word.
    ///
    /// # Errors
    /// [`NotResumed`]; then nothing has changed.
    pub fn resume(&self) -> Result<(), NotResumed> {
        self.state.resume(|start, number| self.launcher.resume(&self.device, start, number))
    }

    /// Notes what the launcher says of the worker's end, after what the worker said itself.
    pub fn said(self: &Arc<Self>, said: Said) {
        let (worker, place) = (Arc::clone(self), self.order.next());
        tokio::spawn(async move {
            place.comes(|| worker.state.cut("its worker is gone")).await;
            worker.state.said(said);
        });
    }

    /// Has a batch checked and signed by the worker that serves now, or the next one to come. Signing
    /// twice does no harm, and nothing of an attempt that was given up can be released any more.
    ///
    /// `kind` is that of the key. `elsewhere` says whether another device would take the batch: then it is not left waiting here
    /// for a start or for a call that has been running for long.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn sign(
        &self,
        sign: &Sign,
        kind: KeyKind,
        permit: &Arc<Permit>,
        deadline: Deadline,
        elsewhere: &(dyn Fn() -> bool + Sync),
    ) -> Result<SignedOnWire<'_>, WorkerError> {
        let lease = self.state.lease(deadline, elsewhere).await?;
        let ready = Arc::clone(&lease.ready);
        let left = deadline.left().ok_or(WorkerError::Deadline)?;
        let within_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let lane = permit.lane();
        let (items, sessions) = (sign.claims.len(), ready.sessions);
        let under_way = self.pace.enter(Asks { lane, kind, items, left, sessions })?;
        let held = Held { _permit: Arc::clone(permit), _under_way: under_way };
        let ask = Ask::Sign(Sign { within_ms, caller: lane.caller, ..sign.clone() });
        let asked = clock::monotonic();
        let answer = tokio::select! {
            biased;
            answer = ready.wire.ask(ask, Some(held), deadline) => {
                answer.map_err(|lost| lost.of(&ready.wire))?
            }
            () = ready.stuck(elsewhere) => return Err(WorkerError::Elsewhere),
        };
        match answer {
            Answer::Signed(signed) => {
                ready.note_signed(&sign.handle, &signed);
                let answered_in = clock::monotonic() - asked;
                Ok(SignedOnWire {
                    signed,
                    source: Source { worker: self, lease, kind, answered_in },
                })
            }
            Answer::Refused(refused) => {
                ready.note_refused(&sign.handle, &refused);
                Err(WorkerError::Refused(refused.into()))
            }
            _ => {
                self.state.distrusted(&ready.wire, UNASKED);
                Err(WorkerError::Broken(UNASKED))
            }
        }
    }
}

/// What a request holds until its worker has answered, whatever becomes of who asked (I9).
#[derive(Debug)]
pub(super) struct Held {
    _permit: Arc<Permit>,
    _under_way: pace::UnderWay,
}

/// A worker's answer to a batch, not yet believed.
#[derive(Debug)]
pub struct SignedOnWire<'a> {
    /// What it says.
    pub signed: Signed,
    /// Who said it.
    pub source: Source<'a>,
}

/// What a batch cost its device, by the worker's word.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Time in the device's calls, of all signatures together.
    pub took: Duration,
    /// How many sessions were signing when each was begun: the sum.
    pub sessions_busy: u64,
}

impl From<&Signed> for Effort {
    fn from(signed: &Signed) -> Self {
        let took = Duration::from_micros(signed.device_us);
        Self { took, sessions_busy: signed.sessions_busy }
    }
}

/// The worker process that gave an answer.
#[derive(Debug)]
pub struct Source<'a> {
    worker: &'a Worker,
    lease: Lease,
    kind: KeyKind,
    answered_in: Duration,
}

impl Source<'_> {
    /// Tells the process from those before and after it.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.lease.ready.wire.start
    }

    /// Discards the worker.
    pub fn distrust(&self, why: &'static str) {
        self.worker.state.distrusted(&self.lease.ready.wire, why);
    }

    /// Notes that what it signed was right.
    pub fn proved(&self) {
        let Self { worker, lease, .. } = self;
        if worker.state.proved(&lease.ready) {
            worker.launcher.proved(&worker.device, lease.ready.wire.start);
        }
    }

    /// Learns from `effort` that so many signatures, all of them right, took.
    pub fn learn(&self, signatures: usize, effort: Effort) {
        let sample = Sample {
            signatures: u32::try_from(signatures).unwrap_or(u32::MAX),
            took: effort.took,
            sessions_busy: effort.sessions_busy,
            sessions: self.lease.ready.sessions,
            answered_in: self.answered_in,
        };
        self.worker.pace.learn(self.kind, sample);
    }
}
