//! Watches a worker that has work: whether a call of its device has been running for long, and whether
//! the worker itself still answers.
//!
//! A hung call is the worker's own to end (`device_call_timeout`); here it is only noticed early, so
//! that batches can turn to another device. A worker that does not even say how its calls are getting
//! on is stopped or starved, and is discarded; so is one that does, and never answers a request: what
//! was admitted with it would be held for ever.

use std::time::{Duration, Instant};

use mintwarden_worker::wire::{Answer, Ask, Pulse};

use super::wire::{Lost, Wire};
use crate::clock::{self, Deadline};

/// A call that runs so long has stalled, where `device_call_timeout` is not short itself.
const STALL: Duration = Duration::from_secs(1);
/// How much longer than a call of its device a worker may say nothing.
const GRACE: Duration = Duration::from_secs(5);

/// How long is waited for a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For one call of its device: `device_call_timeout`.
    pub(super) call: Duration,
    /// For what the worker does before a request's turn comes: making keys, showing them.
    pub(super) turn: Duration,
}

/// Watches until the worker is silent for too long, or owes an answer for too long; the answer is what
/// to say then.
pub(super) async fn watch_over(wire: &Wire, patience: Patience) -> &'static str {
    let call_timeout = patience.call;
    let stall = STALL.min(call_timeout / 4);
    let mut silent_since: Option<Instant> = None;
    loop {
        tokio::time::sleep(stall / 2).await;
        if wire.open_requests() == 0 {
            wire.set_stalled(false);
            silent_since = None;
            continue;
        }
        // It drops what is not of use any more, so that an answer is due soon after the deadline.
        if wire.is_owing(call_timeout + patience.turn) {
            return "the worker leaves a request unanswered";
        }
        match wire.ask(Ask::Pulse(Pulse {}), None, Deadline::within(stall)).await {
            Ok(Answer::Pulse(pulse)) => {
                wire.set_stalled(Duration::from_millis(pulse.longest_call_ms) >= stall);
                silent_since = None;
            }
            Ok(_) => return "another answer than the one asked for",
            Err(Lost::Deadline) => {
                wire.set_stalled(true);
                // From now on: a server that stood still may have left its answer unread.
                let since = *silent_since.get_or_insert_with(clock::monotonic);
                if clock::monotonic() >= since + call_timeout + GRACE {
                    return "the worker does not answer";
                }
            }
            // Its end is noticed by who reads it.
            Err(Lost::Wire) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mintwarden_worker::wire::{
        BUILD, FromWorker, List, PulseTaken, ServerHello, ToWorker, WorkerHello,
    };
    use prost::Message as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
    };

    use super::*;
    use crate::workers::{
        State,
        state::Shared,
        wire::{End, serve},
    };

    async fn next(socket: &mut UnixStream) -> Option<ToWorker> {
        let mut frame = vec![0; socket.read_u32().await.ok()? as usize];
        socket.read_exact(&mut frame).await.ok()?;
        ToWorker::decode(&*frame).ok()
    }

    /// A worker that says how well it is, and does nothing.
    async fn idle(mut socket: UnixStream) {
        while let Some(ToWorker { id, ask }) = next(&mut socket).await {
            let answer = match ask {
                Some(Ask::Hello(_)) => {
                    Answer::Hello(WorkerHello { build: BUILD.into(), ..WorkerHello::default() })
                }
                Some(Ask::Pulse(_)) => Answer::Pulse(PulseTaken { longest_call_ms: 0 }),
                _ => continue,
            };
            let frame = FromWorker { id, answer: Some(answer) }.encode_to_vec();
            let size = u32::try_from(frame.len()).expect("small");
            let sent = [&size.to_be_bytes()[..], &frame].concat();
            if socket.write_all(&sent).await.is_err() {
                return;
            }
        }
    }

    #[tokio::test]
    async fn i9_a_worker_that_answers_pulses_and_no_request_is_discarded() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let idle = tokio::spawn(idle(theirs));
        let state = Arc::new(Shared::default());
        let served = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            // Long enough that a slow machine's pulse is no silence.
            let patience = Patience { call: Duration::from_secs(1), turn: Duration::ZERO };
            serve(ours, 1, "a", ServerHello::default(), patience, &served).await
        });
        let wait = Deadline::within(Duration::from_secs(60));
        let ready = state.ready(wait).await.expect("it said hello");
        let list = Ask::List(List::default());
        let asked = ready.wire.ask(list, None, Deadline::within(Duration::from_millis(1))).await;
        assert_eq!(asked.err(), Some(Lost::Deadline));
        let ended = tokio::time::timeout_at(wait.instant().into(), serving).await;
        assert_eq!(ended.expect("it ends").expect("no panic"), End::Silent);
        assert_eq!(ready.wire.open_requests(), 0, "what it held is given back");
        assert!(!matches!(state.get(), State::Ready(_)));
        idle.await.expect("its wire has ended");
    }
}
