//! The server's end of the wires: one [`Worker`] per device, whatever process is behind it now.

mod fitness;
mod state;
mod wire;
mod words;

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mintwarden_hsm_config::device::Device;
use mintwarden_worker::{
    IssuerName,
    device::{Cause, DeviceKey, KeyHandle},
    jwk::PublicJwk,
    wire::{Answer, Ask, Generate, KeyReport, List, Refused, Sign, SignOutcome, Signed},
};

pub use fitness::Keys;
pub use state::{Ready, Reason, State};

use crate::{
    admission::Permit,
    clock::Deadline,
    keyset::apply::{KeyOps, KeyOpsError},
};

/// How long making or showing a key may take: HSMs make RSA keys in tens of seconds.
const KEY_OPERATION: Duration = Duration::from_secs(120);

/// How often one batch is put on another wire after it lost one.
const MAX_WIRES: usize = 3;

/// All workers, by device.
#[derive(Debug)]
pub struct Workers {
    workers: HashMap<String, Arc<Worker>>,
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
    /// The worker answered what was not asked; its wire was cut.
    #[error("the worker broke the protocol: {0}")]
    Broken(&'static str),
}

impl Workers {
    /// Workers for these devices, none of them there yet.
    #[must_use]
    pub fn new(devices: &[Device]) -> Self {
        let worker = |device: &Device| (device.name.to_string(), Arc::new(Worker::new(device)));
        Self { workers: devices.iter().map(worker).collect() }
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

    /// Cuts all wires: the workers end.
    pub fn close(&self) {
        self.workers.values().for_each(|worker| worker.state.close());
    }

    async fn show(&self, device: &str, ask: Ask) -> Result<Vec<DeviceKey>, KeyOpsError> {
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
        let handle = match &ask {
            Ask::Generate(Generate { handle, .. }) | Ask::List(List { handle }) => handle.clone(),
            _ => Bytes::new(),
        };
        match ready.wire.ask(ask, None, deadline).await {
            Ok(Answer::Listed(listed)) => {
                ready.keys.note_shown(&handle, &listed);
                Ok(listed.keys.into_iter().map(device_key).collect())
            }
            Ok(Answer::Refused(refused)) => {
                let refused = words::refused(refused);
                Err(failed(&refused.reason, refused.detail))
            }
            Ok(_) => {
                ready.wire.cut("another answer than the one asked for");
                Err(failed("WORKER_BROKEN", "it answered what was not asked".into()))
            }
            Err(error) => Err(failed(error.reason(), error.to_string())),
        }
    }
}

impl WorkerError {
    /// The stable reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) => &reason.reason,
            Self::Deadline => "DEADLINE_EXCEEDED",
            Self::Broken(_) => "WORKER_BROKEN",
        }
    }

    /// What there is to say beside the reason.
    fn detail(&self) -> String {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) => reason.detail.clone(),
            Self::Deadline | Self::Broken(_) => self.to_string(),
        }
    }
}

impl From<wire::Lost> for WorkerError {
    fn from(lost: wire::Lost) -> Self {
        match lost {
            wire::Lost::Wire => Self::Unavailable(Reason::worker_lost()),
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
fn device_key(report: KeyReport) -> DeviceKey {
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

    async fn generate(
        &self,
        device: &str,
        issuer: &IssuerName,
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
}

/// The worker of one device.
#[derive(Debug)]
pub struct Worker {
    /// The device.
    pub device: String,
    /// Length of the handle of a new key, in bytes.
    handle_bytes: usize,
    state: state::Shared,
    starts: AtomicU64,
}

impl Worker {
    fn new(device: &Device) -> Self {
        Self {
            device: device.name.to_string(),
            handle_bytes: device.handle_bytes(),
            state: state::Shared::default(),
            starts: AtomicU64::new(0),
        }
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Takes the server's end of a fresh wire and serves it until it ends.
    ///
    /// # Errors
    /// The socket's, if it cannot be used.
    pub fn attach(self: &Arc<Self>, socket: OwnedFd) -> std::io::Result<()> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(socket)?;
        self.starts.fetch_add(1, Ordering::Relaxed);
        let worker = Arc::clone(self);
        tokio::spawn(async move { wire::serve(socket, &worker.device, &worker.state).await });
        Ok(())
    }

    /// How many worker processes this server has met.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Notes that an operator has asked for a parked device to be tried again.
    pub fn resuming(&self) {
        self.state.resuming();
    }

    /// Notes that the launcher does not start the worker again without an operator.
    pub fn parked(&self, reason: Reason) {
        self.state.parked(reason);
    }

    /// Notes that the launcher waits before it starts the worker again.
    pub fn delayed(&self, reason: Reason) {
        self.state.delayed(reason);
    }

    /// Has a batch checked and signed. A batch whose worker ends under it is put on the next wire,
    /// as long as its deadline allows: signing twice does no harm, and nothing of the first attempt
    /// can be released any more.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn sign(
        &self,
        mut sign: Sign,
        permit: Permit,
        deadline: Deadline,
    ) -> Result<SignedOnWire, WorkerError> {
        let permit = Arc::new(permit);
        let mut last = WorkerError::Unavailable(Reason::worker_lost());
        for _ in 0..MAX_WIRES {
            let ready = self.state.ready(deadline).await?;
            let left = deadline.left().ok_or(WorkerError::Deadline)?;
            sign.within_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            let ask = Ask::Sign(sign.clone());
            let answer = ready.wire.ask(ask, Some(Arc::clone(&permit)), deadline).await;
            match answer.map_err(WorkerError::from) {
                Ok(Answer::Signed(signed)) => {
                    ready.note_signed(&sign.handle, &signed);
                    return Ok(SignedOnWire { signed, source: Source(ready), permit });
                }
                Ok(Answer::Refused(refused)) => {
                    ready.note_refused(&sign.handle, &refused);
                    return Err(WorkerError::Refused(refused.into()));
                }
                Ok(_) => {
                    ready.wire.cut("another answer than the one asked for");
                    return Err(WorkerError::Broken("another answer than the one asked for"));
                }
                Err(WorkerError::Deadline) => return Err(WorkerError::Deadline),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Ready {
    /// Requests that the worker has not answered.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.wire.open_requests()
    }

    /// Notes what a signed batch says of its key, where it says something against it.
    fn note_signed(&self, handle: &Bytes, signed: &Signed) {
        let failed = signed.items.iter().find_map(|item| match &item.outcome {
            Some(SignOutcome::Failed(failed)) => Some(failed),
            _ => None,
        });
        if let Some(failed) = failed {
            self.note_refused(handle, failed);
        }
    }

    fn note_refused(&self, handle: &Bytes, refused: &Refused) {
        if fitness::concerns_key(&refused.reason) {
            self.keys.note(handle, Some(refused.clone().into()));
        }
    }
}

/// A worker's answer to a batch, not yet believed.
#[derive(Debug)]
pub struct SignedOnWire {
    /// What it says.
    pub signed: Signed,
    /// Who said it.
    pub source: Source,
    /// The batch's room, to be kept until it is released: verifying is work too (I9).
    pub permit: Arc<Permit>,
}

/// The worker process that gave an answer.
#[derive(Debug)]
pub struct Source(Arc<Ready>);

impl Source {
    /// Discards the worker.
    pub fn distrust(&self, why: &'static str) {
        self.0.wire.cut(why);
    }
}
