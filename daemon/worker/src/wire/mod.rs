//! The wire between server and worker: length-delimited protobuf over a unix stream socket, the
//! worker's standard input.
//!
//! A frame is a 4-byte big-endian length and that many bytes. The first frame to the worker is the
//! launcher's [`Setup`](crate::setup::Setup) in JSON; all others are [`ToWorker`] and
//! [`FromWorker`]. Both sides say hello first and refuse another build. Answers carry the id of
//! their request and come in any order.
//!
//! Neither side trusts the other: a frame over [`MAX_FRAME`] or one that does not decode ends the
//! wire, and every answer is checked by the server against what it asked. What a message repeats is
//! counted before it is decoded.

mod answer;
mod ask;
mod bounds;
mod frame;

pub use answer::{
    Answer, Attested, Destroyed, Examined, Expired, Facts, FromWorker, KeyFitness, KeyReport,
    Lacking, LastWords, Listed, Probed, PulseTaken, Refusal, Refused, SignItem, SignOutcome,
    Signature, Signed, SupportReport, WorkerHello,
};
pub use ask::{
    Ask, Attest, Destroy, Examine, Generate, Kept, List, Probe, Pulse, ServerHello, Sign, ToWorker,
};
pub use bounds::{MAX_ITEMS, MessageError, occurrences};
pub use frame::{FrameError, MAX_FRAME, MAX_SETUP, read_frame, write_frame};

/// The reason of a request that was refused because too much is waiting; worth trying again.
pub const OVERLOADED: &str = "OVERLOADED";

/// Names the build: equal in two binaries if, and only if, they were built from the same sources of
/// this crate.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("MINTWARDEN_WIRE_BUILD"));
