//! The server's end of the wires: one [`Worker`] per device, whatever process is behind it now.

mod breaker;
pub(crate) mod examine;
mod fitness;
mod pulse;
mod ready;
mod reason;
mod state;
mod suspects;
mod wire;
mod words;

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use mintwarden_hsm_config::device::Device;
use mintwarden_worker::{
    Algorithm, IssuerName,
    device::{Cause, DeviceKey, KeyHandle},
    jwk::PublicJwk,
    wire::{Answer, Ask, Destroy, Generate, KeyReport, List, Sign, Signed},
};

pub use fitness::Keys;
pub use ready::Ready;
pub use reason::{Fault, Reason, cause};
pub use state::{Said, State};
pub use suspects::Suspects;

use self::{pulse::Patience, ready::Lease};
use crate::{
    admission::Permit,
    clock::Deadline,
    keyset::apply::{KeyOps, KeyOpsError, Readiness},
    launcher::control::Upward,
};

/// How long making or showing a key may take: HSMs make RSA keys in tens of seconds.
const KEY_OPERATION: Duration = Duration::from_secs(120);

const UNASKED: &str = "another answer than the one asked for";

/// All workers, by device.
#[derive(Debug)]
pub struct Workers {
    workers: HashMap<String, Arc<Worker>>,
    suspects: Suspects,
}

/// Why a worker did not answer a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The device is not usable now.
    #[error("{0}")]
    Unavailable(Reason),
    /// Time was over.
    #[error("the deadline passed")]
    Deadline,
    /// The worker refuses the request as a whole.
    #[error("{0}")]
    Refused(Reason),
    /// The worker ended under the request.
    #[error("{0}")]
    Lost(Reason),
    /// Another device is better placed.
    #[error("another device takes it")]
    Elsewhere,
    /// The worker answered what was not asked; its wire was cut.
    #[error("the worker broke the protocol: {0}")]
    Broken(&'static str),
}

impl Workers {
    /// Workers for these devices, none of them there yet.
    #[must_use]
    pub fn new(devices: &[Device], launcher: &Upward) -> Self {
        let worker = |device: &Device| {
            (device.name.to_string(), Arc::new(Worker::new(device, launcher.clone())))
        };
        Self { workers: devices.iter().map(worker).collect(), suspects: Suspects::default() }
    }

    /// The worker of a device.
    #[must_use]
    pub fn get(&self, device: &str) -> Option<&Arc<Worker>> {
        self.workers.get(device)
    }

    /// All workers, by the names of their devices.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        let mut workers: Vec<_> = self.workers.values().map(|worker| &**worker).collect();
        workers.sort_by(|a, b| a.device.cmp(&b.device));
        workers.into_iter()
    }

    /// Keys that signed wrong.
    #[must_use]
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// Cuts all wires: the workers end.
    pub fn close(&self) {
        self.workers.values().for_each(|worker| worker.state.close());
    }

    /// Asks a device what takes its time, once.
    async fn manage<T>(
        &self,
        device: &str,
        ask: Ask,
        expected: impl FnOnce(Answer, &Keys) -> Option<T>,
    ) -> Result<T, KeyOpsError> {
        let failed = |reason: &str, detail: String| KeyOpsError {
            device: device.to_owned(),
            reason: reason.to_owned(),
            detail,
        };
        let worker =
            self.get(device).ok_or_else(|| failed("UNKNOWN_DEVICE", "not configured".into()))?;
        let deadline = Deadline::within(KEY_OPERATION);
        // Never asked twice: whether a lost request did something, only a look-up tells.
        let ready =
            worker.state.ready(deadline).await.map_err(|e| failed(e.reason(), e.detail()))?;
        match ready.wire.ask(ask, None, deadline).await {
            Ok(Answer::Refused(refused)) => {
                let refused = words::refused(refused);
                Err(failed(&refused.reason, refused.detail))
            }
            Ok(answer) => expected(answer, &ready.keys).ok_or_else(|| {
                ready.wire.cut(UNASKED);
                failed("WORKER_BROKEN", "it answered what was not asked".into())
            }),
            Err(error) => Err(failed(error.reason(), error.to_string())),
        }
    }

    async fn show(&self, device: &str, ask: Ask) -> Result<Vec<DeviceKey>, KeyOpsError> {
        let handle = match &ask {
            Ask::Generate(Generate { handle, .. }) | Ask::List(List { handle }) => handle.clone(),
            _ => Bytes::new(),
        };
        self.manage(device, ask, |answer, keys| match answer {
            Answer::Listed(listed) => {
                keys.note_shown(&handle, &listed);
                Some(listed.keys.into_iter().map(device_key).collect())
            }
            _ => None,
        })
        .await
    }
}

impl WorkerError {
    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) | Self::Lost(reason) => {
                &reason.reason
            }
            Self::Elsewhere => "DEVICE_STALLED",
            Self::Deadline => "DEADLINE_EXCEEDED",
            Self::Broken(_) => "WORKER_BROKEN",
        }
    }

    /// What there is to say beside the reason.
    fn detail(&self) -> String {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) | Self::Lost(reason) => {
                reason.detail.clone()
            }
            Self::Deadline | Self::Broken(_) | Self::Elsewhere => self.to_string(),
        }
    }
}

impl From<wire::Lost> for WorkerError {
    fn from(lost: wire::Lost) -> Self {
        match lost {
            wire::Lost::Wire => Self::Lost(Reason::worker_lost()),
            wire::Lost::Deadline => Self::Deadline,
        }
    }
}

impl wire::Lost {
    fn reason(self) -> &'static str {
        match self {
            Self::Wire => "WORKER_LOST",
            Self::Deadline => "DEADLINE_EXCEEDED",
        }
    }
}

/// A key as a worker reports it. Its public key is parsed again: the worker is not trusted either.
pub(crate) fn device_key(report: KeyReport) -> DeviceKey {
    DeviceKey {
        handle: KeyHandle::new(report.handle.to_vec()),
        issuer: IssuerName::parse(&report.issuer).ok(),
        public: serde_json::from_str::<PublicJwk>(&report.public).ok(),
        defects: words::defects(report.defects),
        unproven: words::defects(report.unproven),
    }
}

impl KeyOps for Workers {
    fn handle_bytes(&self, device: &str) -> usize {
        self.get(device).map_or(KeyHandle::RANDOM_LEN, |worker| worker.handle_bytes)
    }

    fn lacking(&self, device: &str, issuer: &IssuerName) -> Option<KeyOpsError> {
        let State::Ready(ready) = self.get(device)?.state() else { return None };
        let lacking = ready.lacking.iter().find(|lacking| lacking.issuer == issuer.as_str())?;
        Some(KeyOpsError {
            device: device.to_owned(),
            reason: Cause::MechanismMissing.as_str().into(),
            detail: lacking.missing.clone(),
        })
    }

    fn readiness(&self, device: &str) -> Readiness {
        let Some(worker) = self.get(device) else {
            return Readiness::Down("it is not configured".into());
        };
        match worker.state() {
            State::Ready(_) => Readiness::Ready(worker.starts()),
            State::Starting => Readiness::Starting,
            State::Down(reason) | State::Parked(reason) => Readiness::Down(reason.to_string()),
            State::Closed => Readiness::Down("the server is shutting down".into()),
        }
    }

    async fn generate(
        &self,
        device: &str,
        issuer: &IssuerName,
        // The worker has it from its own configuration: a broken server chooses none (I12).
        _algorithm: Algorithm,
        handle: &KeyHandle,
    ) -> Result<DeviceKey, KeyOpsError> {
        let handle = Bytes::copy_from_slice(handle.as_bytes());
        let ask = Ask::Generate(Generate { issuer: issuer.to_string(), handle });
        let mut keys = self.show(device, ask).await?;
        match (keys.pop(), keys.is_empty()) {
            (Some(key), true) => Ok(key),
            _ => Err(KeyOpsError {
                device: device.to_owned(),
                reason: "WORKER_BROKEN".into(),
                detail: "it did not show exactly one new key".into(),
            }),
        }
    }

    async fn find(
        &self,
        device: &str,
        handle: &KeyHandle,
    ) -> Result<Option<DeviceKey>, KeyOpsError> {
        let ask = Ask::List(List { handle: Bytes::copy_from_slice(handle.as_bytes()) });
        Ok(self.show(device, ask).await?.into_iter().next())
    }

    async fn list(&self, device: &str, issuer: &IssuerName) -> Result<Vec<DeviceKey>, KeyOpsError> {
        let mut keys = self.show(device, Ask::List(List { handle: Bytes::new() })).await?;
        keys.retain(|key| key.issuer.as_ref() == Some(issuer));
        Ok(keys)
    }

    async fn destroy(
        &self,
        device: &str,
        issuer: &IssuerName,
        handle: &KeyHandle,
    ) -> Result<bool, KeyOpsError> {
        let handle = Bytes::copy_from_slice(handle.as_bytes());
        let ask = Ask::Destroy(Destroy { issuer: issuer.to_string(), handle });
        self.manage(device, ask, |answer, _| match answer {
            Answer::Destroyed(destroyed) => Some(destroyed.was_there),
            _ => None,
        })
        .await
    }
}

/// The worker of one device.
#[derive(Debug)]
pub struct Worker {
    /// The device.
    pub device: String,
    /// Length of the handle of a new key, in bytes.
    handle_bytes: usize,
    /// `device_call_timeout`.
    call_timeout: Duration,
    launcher: Upward,
    state: state::Shared,
}

impl Worker {
    fn new(device: &Device, launcher: Upward) -> Self {
        Self {
            device: device.name.to_string(),
            handle_bytes: device.handle_bytes(),
            call_timeout: device.call_timeout,
            launcher,
            state: state::Shared::default(),
        }
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Takes the server's end of a fresh wire, that of the device's `start`-th worker, and serves it until
    /// it ends; then the worker has to.
    ///
    /// # Errors
    /// The socket's, if it cannot be used.
    pub fn attach(self: &Arc<Self>, start: u64, socket: OwnedFd) -> std::io::Result<()> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(socket)?;
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            let patience = Patience { call: worker.call_timeout, turn: KEY_OPERATION };
            let end = wire::serve(socket, start, &worker.device, patience, &worker.state).await;
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

    /// Notes that an operator has asked for a parked device to be tried again.
    pub fn resuming(&self) {
        self.state.resuming();
    }

    /// Notes what the launcher says of the worker's end.
    pub fn said(&self, said: Said) {
        self.state.said(said);
    }

    /// Has a batch checked and signed by the worker that serves now, or the next one to come. Signing
    /// twice does no harm, and nothing of an attempt that was given up can be released any more.
    ///
    /// `elsewhere` says whether another device would take the batch: then it is not left waiting here
    /// for a start or for a call that has been running for long.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn sign(
        &self,
        sign: &Sign,
        permit: &Arc<Permit>,
        deadline: Deadline,
        elsewhere: &(dyn Fn() -> bool + Sync),
    ) -> Result<SignedOnWire<'_>, WorkerError> {
        let lease = self.state.lease(deadline, elsewhere).await?;
        let ready = Arc::clone(&lease.ready);
        let left = deadline.left().ok_or(WorkerError::Deadline)?;
        let within_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let ask = Ask::Sign(Sign { within_ms, ..sign.clone() });
        let answer = tokio::select! {
            biased;
            answer = ready.wire.ask(ask, Some(Arc::clone(permit)), deadline) => answer?,
            () = ready.stuck(elsewhere) => return Err(WorkerError::Elsewhere),
        };
        match answer {
            Answer::Signed(signed) => {
                ready.note_signed(&sign.handle, &signed);
                Ok(SignedOnWire { signed, source: Source { worker: self, lease } })
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

/// A worker's answer to a batch, not yet believed.
#[derive(Debug)]
pub struct SignedOnWire<'a> {
    /// What it says.
    pub signed: Signed,
    /// Who said it.
    pub source: Source<'a>,
}

/// The worker process that gave an answer.
#[derive(Debug)]
pub struct Source<'a> {
    worker: &'a Worker,
    lease: Lease,
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
        let Self { worker, lease } = self;
        if worker.state.proved(&lease.ready) {
            worker.launcher.proved(&worker.device, lease.ready.wire.start);
        }
    }
}
