//! The worker's loop: reads the wire, hands batches to one thread per session, and ends when the
//! wire does.
//!
//! ```text
//!  reader (main thread) ──batch with a known key──────────► queue ──► signer threads, one session each
//!      │                                                     ▲              │
//!      └──anything else──► manager thread (owns the device) ─┘              └──► wire, any order
//! ```
//!
//! The reader never calls the device, so that the end of the wire is noticed at once even while a
//! vendor library hangs.

mod attest;
mod batch;
mod examine;
mod exit;
mod keys;
mod manager;
mod queue;
mod signer;

use std::{
    fs::File,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, TryLockError, atomic::AtomicU32, mpsc},
    thread,
};

use prost::Message as _;
use rustix::{io::Errno, net::SendFlags};

use crate::{
    device::{Device, DeviceError, Remedy},
    finding::Finding,
    harden,
    serve::{batch::Batch, keys::KeyTable, manager::Manager, queue::Queue, signer::Signer},
    setup::Setup,
    watch,
    wire::{
        Answer, Ask, BUILD, FrameError, FromWorker, Kept, LastWords, MAX_FRAME, MAX_SETUP,
        OVERLOADED, PulseTaken, Refused, ServerHello, ToWorker, WorkerHello, read_frame,
        write_frame,
    },
};

pub use exit::WorkerExit;

/// Bound on what waits for the manager (I9). An honest server asks for little: keys are made and shown
/// one at a time, and batches wait here only for a key that was not met yet.
const MAX_ASKS: usize = 16;

/// The main function of every worker: takes the wire from standard input, reads its [`Setup`],
/// opens the device with `open` and serves until the wire ends; then
/// ends the process, with a status that the launcher acts on.
///
/// `open` logs in at most once, through [`login::Ledger`](crate::login::Ledger), and notes what it finds
/// on the way, for the doctor.
pub fn run(
    open: impl FnOnce(&Setup, &mut Vec<Finding>) -> Result<Box<dyn Device>, DeviceError>,
) -> ! {
    init_log();
    exit::on_panic();
    let outcome = harden::protect()
        .and_then(|()| harden::die_with_maker_of(std::io::stdin()))
        .map_err(|error| WorkerExit::Unprotected(error.to_string()))
        .and_then(|()| serve(open));
    let exit = match outcome {
        Ok(never) => match never {},
        Err(exit) => exit,
    };
    exit.log();
    exit::leave(&exit)
}

fn init_log() {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
}

/// The write half of the wire; a frame goes out whole.
#[derive(Clone)]
struct Replies(Arc<Mutex<File>>);

impl Replies {
    /// Sends one answer. A wire that fails is noticed by the reader too: nothing is lost by silence.
    fn send(&self, id: u64, answer: Answer) {
        let body = FromWorker { id, answer: Some(answer) }.encode_to_vec();
        let mut wire = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = write_frame(&mut *wire, &body) {
            tracing::warn!(%error, "an answer could not be sent");
        }
    }

    /// Says why the worker ends.
    fn last_words(&self, error: &DeviceError) {
        self.send(0, last_words(error));
    }

    /// Says why the worker ends, if that can be said without waiting: if nobody else holds the wire, and it has room.
    /// Whether there is no use in trying again.
    fn last_words_if_free(&self, error: &DeviceError) -> bool {
        let wire = match self.0.try_lock() {
            Ok(wire) => wire,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let body = FromWorker { id: 0, answer: Some(last_words(error)) }.encode_to_vec();
        let mut frame = Vec::new();
        write_frame(&mut frame, &body).is_err()
            || rustix::net::send(&*wire, &frame, SendFlags::DONTWAIT) != Err(Errno::AGAIN)
    }

    fn refuse(&self, id: u64, reason: &str, detail: impl Into<String>) {
        self.send(
            id,
            Answer::Refused(Refused { reason: reason.to_owned(), detail: detail.into() }),
        );
    }
}

fn last_words(error: &DeviceError) -> Answer {
    let why = Refused { reason: error.cause.as_str().into(), detail: error.detail.clone() };
    Answer::LastWords(LastWords { why, parked: error.remedy == Remedy::Park })
}

enum Never {}

fn serve(
    open: impl FnOnce(&Setup, &mut Vec<Finding>) -> Result<Box<dyn Device>, DeviceError>,
) -> Result<Never, WorkerExit> {
    let mut wire = File::from(
        std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| WorkerExit::Wire(e.to_string()))?,
    );
    exit::with_the_wire(wire.try_clone().map_err(|e| WorkerExit::Wire(e.to_string()))?);
    let replies = wire.try_clone().map_err(|e| WorkerExit::Wire(e.to_string()))?;
    let replies = Replies(Arc::new(Mutex::new(replies)));
    let mut buffer = Vec::new();
    read_frame(&mut wire, MAX_SETUP, &mut buffer).map_err(WorkerExit::from)?;
    let setup: Setup =
        serde_json::from_slice(&buffer).map_err(|error| WorkerExit::Setup(error.to_string()))?;

    let kept = match expect_hello(&mut wire, &mut buffer) {
        Ok(hello) => hello.kept.into_iter().filter_map(Kept::into_key).collect(),
        Err(exit) => {
            if matches!(exit, WorkerExit::Build(_)) {
                // So that the other side can name the mismatch too.
                let hello = WorkerHello { build: BUILD.to_owned(), ..WorkerHello::default() };
                replies.send(0, Answer::Hello(hello));
            }
            return Err(exit);
        }
    };
    exit::with_a_hung_call(setup.device.call_timeout, replies.clone());
    let name = setup.device.name.to_string();
    let mut seen = Vec::new();
    let opened = open_all(&setup, &mut seen, open).and_then(|(mut device, sessions)| {
        device.know(kept);
        let (manager, keys, hello) = Manager::new(device, setup)?;
        Ok((manager, keys, hello, sessions))
    });
    let (mut manager, keys, mut hello, sessions) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            seen.push(Finding::of_error(&error));
            let findings = examine::encode(seen, &name);
            replies.send(0, Answer::Hello(WorkerHello { findings, ..unusable(&error) }));
            return Err(WorkerExit::Device(error));
        }
    };
    hello.sessions = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
    hello.findings = examine::encode(seen, &name);

    let queue = Arc::new(Queue::default());
    let busy = Arc::new(AtomicU32::new(0));
    let mut signing = Vec::new();
    for session in sessions {
        let signer = Signer::new(session, manager.device(), replies.clone(), Arc::clone(&busy));
        let queue = Arc::clone(&queue);
        let signer = thread::Builder::new()
            .name("signer".into())
            .spawn(move || signer.run(&queue))
            .map_err(|error| WorkerExit::Wire(error.to_string()))?;
        signing.push(signer);
    }
    replies.send(0, Answer::Hello(hello));

    let (asks, asked) = mpsc::sync_channel(MAX_ASKS);
    let reader =
        Reader { wire, buffer, keys, queue: Arc::clone(&queue), asks, replies: replies.clone() };
    let managing = thread::Builder::new()
        .name("manager".into())
        .spawn(move || manager.run(&asked, &queue, &replies))
        .map_err(|error| WorkerExit::Wire(error.to_string()))?;
    let exit = reader.run();
    // The wire is gone: nobody waits for an answer. Sessions are closed in order, and then the
    // library, if they let us within the limit that `with_the_wire` sets.
    for thread in signing.into_iter().chain([managing]) {
        let _ended = thread.join();
    }
    Err(exit)
}

fn expect_hello(wire: &mut File, buffer: &mut Vec<u8>) -> Result<ServerHello, WorkerExit> {
    read_frame(wire, MAX_FRAME, buffer).map_err(WorkerExit::from)?;
    match ToWorker::read(std::mem::take(buffer).into()) {
        Ok(ToWorker { ask: Some(Ask::Hello(hello)), .. }) if hello.build == BUILD => Ok(hello),
        Ok(ToWorker { ask: Some(Ask::Hello(hello)), .. }) => Err(WorkerExit::Build(hello.build)),
        _ => Err(WorkerExit::Wire("the server's first message is no hello".into())),
    }
}

type Opened = (Box<dyn Device>, Vec<Box<dyn crate::device::Session>>);

/// Opens the device and all its sessions: every one before any is used.
fn open_all(
    setup: &Setup,
    seen: &mut Vec<Finding>,
    open: impl FnOnce(&Setup, &mut Vec<Finding>) -> Result<Box<dyn Device>, DeviceError>,
) -> Result<Opened, DeviceError> {
    let mut device = open(setup, seen)?;
    let wanted = setup.device.sessions;
    let count = device.max_sessions().map_or(wanted, |limit| wanted.min(limit));
    if count < wanted {
        tracing::warn!(wanted, count, "the device allows fewer sessions than configured");
    }
    let sessions = (0..count.max(1)).map(|_| device.open_session()).collect::<Result<_, _>>()?;
    Ok((device, sessions))
}

fn unusable(error: &DeviceError) -> WorkerHello {
    WorkerHello {
        build: BUILD.to_owned(),
        unusable: Some(Refused {
            reason: error.cause.as_str().into(),
            detail: error.detail.clone(),
        }),
        parked: error.remedy == Remedy::Park,
        ..WorkerHello::default()
    }
}

struct Reader {
    wire: File,
    buffer: Vec<u8>,
    keys: Arc<KeyTable>,
    queue: Arc<Queue>,
    asks: mpsc::SyncSender<(u64, Ask)>,
    replies: Replies,
}

impl Reader {
    /// Reads until the wire ends; the answer is why it did.
    fn run(mut self) -> WorkerExit {
        let exit = loop {
            match self.next() {
                Ok(()) => {}
                Err(exit) => break exit,
            }
        };
        self.queue.close();
        exit
    }

    fn next(&mut self) -> Result<(), WorkerExit> {
        read_frame(&mut self.wire, MAX_FRAME, &mut self.buffer)?;
        let frame = std::mem::take(&mut self.buffer);
        let ToWorker { id, ask } = ToWorker::read(bytes::Bytes::from(frame))
            .map_err(|error| WorkerExit::Wire(error.to_string()))?;
        match ask {
            Some(Ask::Sign(sign)) => match self.keys.get(&sign) {
                Some(Ok(key)) => {
                    if let Err(full) = self.queue.push(Batch::new(id, sign, key)) {
                        self.replies.send(id, Answer::Refused(full.into()));
                    }
                }
                Some(Err(refused)) => self.replies.send(id, Answer::Refused(refused)),
                None => self.ask(id, Ask::Sign(sign)),
            },
            Some(Ask::Pulse(_)) => {
                let longest_call_ms = u64::try_from(watch::longest().as_millis());
                let longest_call_ms = longest_call_ms.unwrap_or(u64::MAX);
                self.replies.send(id, Answer::Pulse(PulseTaken { longest_call_ms }));
            }
            Some(Ask::Hello(_)) => return Err(WorkerExit::Wire("a second hello".into())),
            Some(ask) => self.ask(id, ask),
            None => return Err(WorkerExit::Wire("a message of an unknown kind".into())),
        }
        Ok(())
    }

    /// Hands over what the device has to be asked for. The manager lives as long as this reader.
    fn ask(&self, id: u64, ask: Ask) {
        if self.asks.try_send((id, ask)).is_err() {
            self.replies.refuse(id, OVERLOADED, "too much is waiting for the device");
        }
    }
}

impl From<FrameError> for WorkerExit {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Closed => Self::WireClosed,
            other => Self::Wire(other.to_string()),
        }
    }
}
