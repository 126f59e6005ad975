//! What is said of a batch when it is over: one line in the log, and metrics. No token content.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::{Batch, Outcome, SignError, SignedBatch};
use crate::{
    clock::Stopwatch,
    telemetry::metrics::{self, Stage},
};

/// One batch's account. A caller that hangs up closes it too.
pub(super) struct Account<'a> {
    batch: &'a Batch,
    metrics: Option<&'a metrics::Issuer>,
    device: String,
    watch: Stopwatch,
    total: Stopwatch,
    queue: Duration,
    signing: Duration,
    verify: Duration,
    closed: bool,
}

impl<'a> Account<'a> {
    pub(super) fn open(batch: &'a Batch, metrics: Option<&'a metrics::Issuer>) -> Self {
        let account = Self {
            batch,
            metrics,
            device: String::new(),
            watch: Stopwatch::start(),
            total: Stopwatch::start(),
            queue: Duration::ZERO,
            signing: Duration::ZERO,
            verify: Duration::ZERO,
            closed: false,
        };
        account.count(|metrics| metrics.arrived(batch.claims.len()));
        account
    }

    fn count(&self, count: impl FnOnce(&metrics::Issuer)) {
        if let Some(metrics) = self.metrics {
            count(metrics);
        }
    }

    /// It is admitted, and this device is to sign it: once for each attempt.
    pub(super) fn taken_to(&mut self, device: &str) {
        let admit = self.watch.lap();
        if self.device.is_empty() {
            self.count(|metrics| metrics.passed(Stage::Admit, admit));
        }
        device.clone_into(&mut self.device);
    }

    /// The worker has answered. `queued`: how long, by its own word, the batch had waited for its turn.
    pub(super) fn signed(&mut self, queued: Duration) {
        let wire = self.watch.lap();
        self.queue = queued.min(wire);
        self.signing = wire - self.queue;
        self.count(|metrics| {
            metrics.passed(Stage::Queue, self.queue);
            metrics.passed(Stage::Device, self.signing);
        });
    }

    pub(super) fn verified(&mut self) {
        self.verify = self.watch.lap();
        self.count(|metrics| metrics.passed(Stage::Verify, self.verify));
    }

    pub(super) fn close(mut self, outcome: &Result<SignedBatch, SignError>) {
        self.closed = true;
        let total = self.total.lap();
        let Batch { issuer, claims, caller, .. } = self.batch;
        let (issuer, items) = (issuer.config.name(), claims.len());
        let (queue_us, device_us) = (micros(self.queue), micros(self.signing));
        let (verify_us, total_us) = (micros(self.verify), micros(total));
        match outcome {
            Ok(signed) => {
                self.count(|metrics| {
                    metrics.passed(Stage::Total, total);
                    self.released(metrics, &signed.outcomes);
                });
                let (released, refusals) = count(&signed.outcomes);
                let kid = &signed.kid;
                tracing::info!(target: "batch", %issuer, %kid, %caller, items, released, refusals, queue_us, device_us, verify_us, total_us);
            }
            Err(error) => {
                let reason = error.reason();
                self.count(|metrics| metrics.failed(reason, items));
                tracing::warn!(target: "batch", %issuer, %caller, items, released = 0, reason, %error, queue_us, device_us, verify_us, total_us);
            }
        }
    }

    fn released(&self, metrics: &metrics::Issuer, outcomes: &[Outcome]) {
        let mut released = 0;
        for outcome in outcomes {
            match outcome {
                Outcome::Signature(signature) => {
                    released += 1;
                    metrics.released_payload(&signature.facts);
                }
                Outcome::Refused(refusal) => metrics.refused(&refusal.rule),
                Outcome::Expired => metrics.expired(),
            }
        }
        metrics.released(&self.device, released);
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !self.closed {
            let Batch { issuer, claims, caller, .. } = self.batch;
            let (issuer, items) = (issuer.config.name(), claims.len());
            let waited_us = micros(self.total.lap());
            self.count(|metrics| metrics.given_up(items));
            tracing::warn!(target: "batch", %issuer, %caller, items, released = 0, reason = "CALLER_GONE", waited_us);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Signatures, and refusals by claim and rule, e.g. `exp/lifetime=2`.
fn count(outcomes: &[Outcome]) -> (usize, String) {
    let mut refusals: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut released = 0;
    for outcome in outcomes {
        match outcome {
            Outcome::Signature(_) => released += 1,
            Outcome::Refused(refusal) => {
                *refusals.entry((&refusal.claim, &refusal.rule)).or_default() += 1;
            }
            Outcome::Expired => *refusals.entry(("", "expired")).or_default() += 1,
        }
    }
    let text = refusals.iter().fold(String::new(), |mut text, ((claim, rule), count)| {
        let space = if text.is_empty() { "" } else { " " };
        let _infallible = write!(text, "{space}{claim}/{rule}={count}");
        text
    });
    (released, text)
}
