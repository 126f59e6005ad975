//! One wire: requests out, answers in, in any order.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use mintwarden_worker::{
    device::KeyHandle,
    wire::{
        Answer, Ask, BUILD, FromWorker, LastWords, MAX_FRAME, MessageError, Refused, ServerHello,
        ToWorker, WorkerHello,
    },
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    Reason,
    pulse::{self, Patience},
    state::Shared,
    words,
    worker::Held,
};
use crate::clock::{self, Deadline};

/// How long a device may take from the start of its worker to its login.
const HELLO: Duration = Duration::from_secs(120);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    #[error("the worker ended")]
    Wire,
    #[error("the deadline passed")]
    Deadline,
}

/// How a wire ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its worker can be expected to end by itself.
    Ordinary,
    /// Its worker does not answer.
    Silent,
}

/// The open requests of one wire, and the way to make more.
#[derive(Debug)]
pub(super) struct Wire {
    /// Which start of the device's worker is at its other end, by the launcher's count.
    pub(super) start: u64,
    frames: mpsc::UnboundedSender<Bytes>,
    open: Mutex<Open>,
    next: AtomicU64,
    cut: CancellationToken,
    /// Whether a call of the device has been running for long.
    stalled: watch::Sender<bool>,
    /// Whether it has signed and what it signed was right.
    proved: AtomicBool,
    /// Why its worker ends, as the worker said or the server found out.
    words: OnceLock<Reason>,
}

/// Requests without an answer. `None` once the wire has ended.
type Open = Option<HashMap<u64, Waiting>>;

#[derive(Debug)]
struct Waiting {
    /// Held until the worker is done with the request, even if the caller is long gone: what is
    /// admitted is what the worker really has to do (I9). First, so that the room is there when the caller hears.
    held: Option<Held>,
    answer: oneshot::Sender<Answer>,
    pulse: bool,
    deadline: Deadline,
}

impl Wire {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests other than for the pulse that wait for their answers.
    pub(super) fn open_requests(&self) -> usize {
        let open = self.open();
        open.as_ref().map_or(0, |open| open.values().filter(|waiting| !waiting.pulse).count())
    }

    /// Asks, and waits for the answer until the deadline.
    pub(super) async fn ask(
        &self,
        ask: Ask,
        held: Option<Held>,
        deadline: Deadline,
    ) -> Result<Answer, Lost> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let pulse = matches!(ask, Ask::Pulse(_));
        let frame = encode(&ToWorker { id, ask: Some(ask) });
        let waiting = Waiting { held, answer, pulse, deadline };
        self.open().as_mut().ok_or(Lost::Wire)?.insert(id, waiting);
        self.frames.send(frame).map_err(|_| Lost::Wire)?;
        match tokio::time::timeout_at(deadline.instant().into(), answered).await {
            Ok(answer) => answer.map_err(|_| Lost::Wire),
            Err(_) => Err(Lost::Deadline),
        }
    }

    /// Whether a request has been without an answer for `patience` since its deadline. What it holds
    /// (I9), the end of the wire gives back.
    pub(super) fn is_owing(&self, patience: Duration) -> bool {
        let over = |waiting: &Waiting| {
            clock::monotonic().saturating_duration_since(waiting.deadline.instant()) >= patience
        };
        self.open().as_ref().is_some_and(|open| open.values().any(over))
    }

    pub(super) fn is_stalled(&self) -> bool {
        *self.stalled.borrow()
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        self.stalled.send_if_modified(|now| std::mem::replace(now, stalled) != stalled);
    }

    /// Waits until a call of the device has been running for long.
    pub(super) async fn stalls(&self) {
        let mut stalled = self.stalled.subscribe();
        // The sender lives as long as this wire.
        let _stalled = stalled.wait_for(|stalled| *stalled).await;
    }

    /// Notes that what it signed was right; whether that is news.
    pub(super) fn note_proved(&self) -> bool {
        !self.proved.load(Ordering::Relaxed) && !self.proved.swap(true, Ordering::Relaxed)
    }

    /// Notes why its worker ends; what is known first counts.
    pub(super) fn note_words(&self, why: Reason) {
        let _known_already = self.words.set(why);
    }

    /// Why its worker ends, where that is known.
    pub(super) fn words(&self) -> Option<&Reason> {
        self.words.get()
    }

    /// Ends the wire, and with it the worker.
    pub(super) fn cut(&self, why: &'static str) {
        if !self.cut.is_cancelled() {
            tracing::warn!(why, "a worker's wire is cut");
            self.cut.cancel();
        }
    }

    fn answer(&self, frame: FromWorker) -> Result<(), &'static str> {
        let answer = frame.answer.ok_or("an answer of an unknown kind")?;
        let waiting = self.open().as_mut().and_then(|open| open.remove(&frame.id));
        let Waiting { answer: caller, held, .. } =
            waiting.ok_or("an answer to what was not asked")?;
        // Before its answer: who asks again right after it finds the room that it had.
        drop(held);
        // The caller may be gone.
        let _gone = caller.send(answer);
        Ok(())
    }
}

/// Serves one wire until it ends, and keeps the worker's state true meanwhile.
pub(super) async fn serve(
    socket: UnixStream,
    start: u64,
    device: &str,
    hello: ServerHello,
    patience: Patience,
    state: &Shared,
) -> End {
    let (read, write) = socket.into_split();
    let (frames, outgoing) = mpsc::unbounded_channel();
    let wire = Arc::new(Wire {
        start,
        frames,
        open: Mutex::new(Some(HashMap::new())),
        next: AtomicU64::new(1),
        cut: CancellationToken::new(),
        stalled: watch::Sender::new(false),
        proved: AtomicBool::new(false),
        words: OnceLock::new(),
    });
    state.begin(&wire);
    let hello = ToWorker { id: 0, ask: Some(Ask::Hello(hello)) };
    // The receiver is alive: it is moved into the writer just below.
    let _sent = wire.frames.send(encode(&hello));
    let writer = tokio::spawn(write_all(write, outgoing));
    let (end, ended) = tokio::select! {
        ended = read_all(read, &wire, device, state) => (End::Ordinary, ended),
        silent = pulse::watch_over(&wire, patience) => {
            state.failed(&wire, "WORKER_SILENT", silent.into());
            (End::Silent, silent)
        }
        () = cut(&wire) => (End::Ordinary, "it was cut"),
    };
    tracing::info!(device, ended, "a worker's wire ended");
    if state.lost(&wire) {
        tracing::error!(
            device,
            "workers keep ending without having signed: callers are told at once"
        );
    }
    // Every open request ends with `Lost::Wire`, and no new one can begin.
    wire.open().take();
    writer.abort();
    end
}

/// Waits until the wire is cut, and what is known to have come before that has been read: the last words are why a
/// worker ended. Not by the order of the `select!`: a worker that never stops talking might not be cut then.
async fn cut(wire: &Wire) {
    wire.cut.cancelled().await;
    tokio::task::yield_now().await;
}

async fn write_all(mut socket: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if socket.write_all(&frame).await.is_err() {
            return; // The reader notices the end of the wire too.
        }
    }
}

async fn read_all(
    socket: OwnedReadHalf,
    wire: &Arc<Wire>,
    device: &str,
    state: &Shared,
) -> &'static str {
    let mut socket = BufReader::with_capacity(64 * 1024, socket);
    let hello = match tokio::time::timeout(HELLO, read_hello(&mut socket)).await {
        Ok(Ok(Ok(hello))) => words::hello(hello),
        Ok(Ok(Err(last))) => return ends(device, state, wire, last),
        Ok(Err(why)) => {
            state.failed(wire, "WORKER_LOST", format!("no hello: {why}"));
            return why;
        }
        Err(_) => {
            state.failed(wire, "WORKER_SILENT", "the device was not opened in time".into());
            return "no hello in time";
        }
    };
    if hello.build != BUILD {
        let detail = format!(
            "the worker is of build {:?}, this server of {BUILD}: install both together",
            words::cut(hello.build)
        );
        state.failed(wire, "BUILD_MISMATCH", detail);
        return "a worker of another build";
    }
    for lacking in &hello.lacking {
        let (issuer, missing) = (&lacking.issuer, &lacking.missing);
        tracing::error!(device, issuer, missing, "the device cannot make an issuer's keys");
    }
    for key in &hello.keys {
        if let Some(unfit) = &key.unfit {
            let (handle, defect) = (KeyHandle::new(key.handle.to_vec()), &unfit.detail);
            tracing::error!(device, ?handle, defect, "a key in the device must not be used (I1)");
        }
    }
    match &hello.unusable {
        None => tracing::info!(
            device,
            description = hello.description,
            sessions = hello.sessions,
            "device ready"
        ),
        Some(why) => tracing::error!(
            device,
            reason = why.reason,
            detail = why.detail,
            parked = hello.parked,
            "device not usable"
        ),
    }
    let usable = hello.unusable.is_none();
    state.hello(hello, wire);
    if !usable {
        return "the device is not usable";
    }
    loop {
        let frame = match read_frame(&mut socket).await {
            Ok(FromWorker { answer: Some(Answer::LastWords(words)), .. }) => {
                return ends(device, state, wire, words);
            }
            Ok(frame) => frame,
            Err(why) => return why,
        };
        if let Err(why) = wire.answer(frame) {
            return why;
        }
    }
}

/// The worker's first message, which may be its last.
async fn read_hello(
    socket: &mut BufReader<OwnedReadHalf>,
) -> Result<Result<WorkerHello, LastWords>, &'static str> {
    match read_frame(socket).await?.answer {
        Some(Answer::Hello(hello)) => Ok(Ok(hello)),
        Some(Answer::LastWords(words)) => Ok(Err(words)),
        _ => Err("the worker's first message is no hello"),
    }
}

fn ends(device: &str, state: &Shared, wire: &Arc<Wire>, last: LastWords) -> &'static str {
    let last = LastWords { why: words::refused(last.why), ..last };
    let Refused { reason, detail } = &last.why;
    tracing::error!(device, reason, detail, "a worker says why it ends");
    state.last_words(last, wire);
    "the worker said that it ends"
}

async fn read_frame(socket: &mut BufReader<OwnedReadHalf>) -> Result<FromWorker, &'static str> {
    let size = socket.read_u32().await.map_err(|_| "it was closed")? as usize;
    if size > MAX_FRAME {
        return Err("a frame beyond the bound");
    }
    // Grown as bytes arrive: a length that lies costs no memory.
    let mut frame = BytesMut::with_capacity(size.min(64 * 1024));
    let mut rest = socket.take(size as u64);
    while frame.len() < size {
        match rest.read_buf(&mut frame).await {
            Ok(0) | Err(_) => return Err("it ended inside a frame"),
            Ok(_) => {}
        }
    }
    FromWorker::read(frame.freeze()).map_err(|error| match error {
        MessageError::TooMany { .. } => "a frame with more in it than it may have",
        _ => "a frame that does not decode",
    })
}

fn encode(message: &ToWorker) -> Bytes {
    let size = message.encoded_len();
    let mut frame = BytesMut::with_capacity(4 + size);
    // A batch is bounded far below 4 GiB before it gets here.
    frame.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    message.encode(&mut frame).expect("a BytesMut grows as needed");
    frame.freeze()
}
