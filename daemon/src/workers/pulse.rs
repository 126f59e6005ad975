//! Watches a worker that has work: whether a call of its device has been running for long, and whether
//! the worker itself still answers.
//!
//! A hung call is the worker's own to end (`device_call_timeout`); here it is only noticed early, so
//! that batches can turn to another device. A worker that does not even say how its calls are getting
//! on is stopped or starved, and is discarded.

use std::time::{Duration, Instant};

use mintwarden_worker::wire::{Answer, Ask, Pulse};

use super::wire::{Lost, Wire};
use crate::clock::{self, Deadline};

/// A call that runs so long has stalled, where `device_call_timeout` is not short itself.
const STALL: Duration = Duration::from_secs(1);
/// How much longer than a call of its device a worker may say nothing.
const GRACE: Duration = Duration::from_secs(5);

/// Watches until the worker is silent for too long; the answer is what to say then.
pub(super) async fn watch_over(wire: &Wire, call_timeout: Duration) -> &'static str {
    let stall = STALL.min(call_timeout / 4);
    let mut silent_since: Option<Instant> = None;
    loop {
        tokio::time::sleep(stall / 2).await;
        if !wire.is_busy() {
            wire.set_stalled(false);
            silent_since = None;
            continue;
        }
        let asked = clock::monotonic();
        match wire.ask(Ask::Pulse(Pulse {}), None, Deadline::within(stall)).await {
            Ok(Answer::Pulse(pulse)) => {
                wire.set_stalled(Duration::from_millis(pulse.longest_call_ms) >= stall);
                silent_since = None;
            }
            Ok(_) => return "another answer than the one asked for",
            Err(Lost::Deadline) => {
                wire.set_stalled(true);
                let since = *silent_since.get_or_insert(asked);
                if clock::monotonic() >= since + call_timeout + GRACE {
                    return "the worker does not answer";
                }
            }
            // Its end is noticed by who reads it.
            Err(Lost::Wire) => std::future::pending().await,
        }
    }
}
