//! How a worker ends: a typed exit status that the launcher acts on.

use std::{fs::File, thread, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Signal, getpid, kill_process},
};

use super::Replies;
use crate::{
    clock,
    device::{Cause, DeviceError, Remedy},
    watch,
    wire::BUILD,
};

/// How long a vendor library may take to close its sessions once the wire is gone.
const CLOSING_LIMIT: Duration = Duration::from_secs(2);

/// How long a worker that hangs waits for its turn to say so.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(200);

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerExit {
    /// The server closed the wire: the ordinary end.
    #[error("the wire was closed")]
    WireClosed,
    /// The wire failed or carried nonsense.
    #[error("wire: {0}")]
    Wire(String),
    /// The server is of another build.
    #[error("the server is of build {0}, this worker of build {BUILD}: install both together")]
    Build(String),
    /// The launcher's set-up does not parse.
    #[error("set-up: {0}")]
    Setup(String),
    /// The process could not be protected from inspection.
    #[error("cannot protect the process: {0}")]
    Unprotected(String),
    /// The device cannot be used.
    #[error("device: {0}")]
    Device(DeviceError),
}

impl WorkerExit {
    /// Exit status of a worker that must not be started again without an operator
    /// (`EX_NOPERM` of sysexits).
    pub const PARKED: u8 = 77;
    /// Exit status of a worker and a server that do not fit together (`EX_PROTOCOL`).
    pub const MISMATCH: u8 = 76;
    /// Exit status of a worker whose device has no room for it (`EX_TEMPFAIL`): it may still count the
    /// sessions of the worker before, and takes its time to forget them.
    pub const EXHAUSTED: u8 = 75;
    /// Exit status of a worker whose device or wire failed (`EX_UNAVAILABLE`).
    pub const FAILED: u8 = 69;

    fn status(&self) -> u8 {
        match self {
            Self::WireClosed => 0,
            Self::Device(error) if error.remedy == Remedy::Park => Self::PARKED,
            Self::Device(error) if error.cause == Cause::OutOfResources => Self::EXHAUSTED,
            Self::Build(_) => Self::MISMATCH,
            _ => Self::FAILED,
        }
    }

    pub(super) fn log(&self) {
        match self {
            Self::WireClosed => tracing::info!("worker ends: the wire was closed"),
            other => tracing::error!(error = %other, "worker ends"),
        }
    }
}

/// Ends the process soon after its wire, whatever else it is doing: also while a vendor library hangs
/// in opening the device or in closing it.
pub(super) fn with_the_wire(wire: File) {
    let watch = move || {
        let mut watched = [PollFd::new(&wire, PollFlags::RDHUP)];
        // Any other error is an end too: a wire that cannot be watched is none.
        while let Ok(0) | Err(Errno::INTR) = poll(&mut watched, None) {}
        thread::sleep(CLOSING_LIMIT);
        kill_self();
    };
    if thread::Builder::new().name("wire".into()).spawn(watch).is_err() {
        kill_self();
    }
}

/// Ends the process at a panic of any thread: one that went on without its signers would look well
/// and answer nothing. The message is not logged, since it may quote what was being worked on.
pub(super) fn on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "worker ends: it panicked");
        kill_self();
    }));
}

/// Ends the process with the typed status of `exit`, and without the exit handlers of exit(3): those
/// of a vendor library would run while other threads are inside it, and a crash or a hang in one would
/// take the status from the launcher.
#[expect(clippy::disallowed_methods, reason = "the worker is done")]
pub(super) fn leave(exit: &WorkerExit) -> ! {
    signal_hook::low_level::exit(exit.status().into())
}

/// Ends the process by SIGKILL if it still runs after [`CLOSING_LIMIT`]: nobody may read the wire.
fn within_limit() {
    let spawned = thread::Builder::new().name("closing".into()).spawn(|| {
        thread::sleep(CLOSING_LIMIT);
        kill_self();
    });
    if spawned.is_err() {
        kill_self();
    }
}

fn kill_self() {
    // Cannot fail for the process itself, and there is nobody left to tell.
    let _sent = kill_process(getpid(), Signal::KILL);
}

/// Ends the process now because the device needs a fresh one ([`Remedy::Restart`]) or an operator
/// ([`Remedy::Park`]), and tells the server why. No clean-up: the library that would do it is the one
/// that failed.
pub(super) fn restart(error: &DeviceError, replies: &Replies) -> ! {
    tracing::error!(cause = %error.cause, detail = error.detail, "worker ends: the device needs a fresh process");
    within_limit();
    replies.last_words(error);
    leave(&WorkerExit::Device(error.clone()));
}

/// Ends the process by SIGKILL when a call of the vendor library runs longer than `limit`.
pub(super) fn with_a_hung_call(limit: Duration, replies: Replies) {
    let look_again = (limit / 8).clamp(Duration::from_millis(5), Duration::from_millis(250));
    let look = move || {
        while watch::longest_unexcused() <= limit {
            thread::sleep(look_again);
        }
        let detail = format!("a call of the vendor library ran longer than {limit:?}");
        let error = DeviceError::of(Cause::CallTimeout, detail);
        tracing::error!(cause = %error.cause, detail = error.detail, "worker ends: it hangs");
        // The words may not be heard: the thread that hangs may hold the wire, or nobody reads it.
        let until = clock::monotonic() + LAST_WORDS_LIMIT;
        while !replies.last_words_if_free(&error) && clock::monotonic() < until {
            thread::sleep(Duration::from_millis(1));
        }
        kill_self();
    };
    if thread::Builder::new().name("watch".into()).spawn(look).is_err() {
        kill_self();
    }
}
