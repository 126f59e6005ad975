//! A load while calls of the device hang: workers are killed and started again under it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mintwarden_client::{Issuer, api::DeviceState};
use mintwarden_tests::{Appliance, DEVICE, claims, faulty::Rule};
use tokio::{task::JoinSet, time::sleep};

use super::{add, failed};
use crate::{error::BenchError, load::Shape, options::Timing, statistics::Latencies};

/// What callers give a batch: time for several workers to be lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How much longer is measured than without hangs: they come and go in cycles.
const LONGER: u32 = 10;

/// What came of it.
pub(super) struct Survived {
    /// Tokens a second.
    pub(super) rate: f64,
    /// Batches that came back whole, timed from the caller's side.
    pub(super) batches: Latencies,
    /// Batches that came to nothing.
    pub(super) failed: u64,
    /// Calls that hung.
    pub(super) hung: u64,
    /// Workers that were started again.
    pub(super) restarts: u64,
    /// The time that counted.
    pub(super) elapsed: Duration,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    tokens: AtomicU64,
    failed: AtomicU64,
}

/// Puts batches on while `hangs` is in force.
pub(super) async fn survive(
    appliance: &Appliance,
    issuer: &Issuer,
    shape: Shape,
    timing: &Timing,
    hangs: Rule,
) -> Result<Survived, BenchError> {
    let Shape::Batches { size, in_flight } = shape else {
        return Err(BenchError::Raw("hangs are measured with batches".to_owned()));
    };
    let starts = async || appliance.until_device(DEVICE, DeviceState::Ready).await.starts;
    let before = starts().await;
    let (shared, mut tasks) = (Arc::new(Shared::default()), JoinSet::new());
    for _ in 0..in_flight {
        tasks.spawn(batches(issuer.clone(), size, Arc::clone(&shared)));
    }
    sleep(timing.warm_up).await;
    let hangs = add(appliance.faulty(), hangs)?;
    let (tokens, start) = (shared.tokens.load(Ordering::Relaxed), Instant::now());
    sleep(LONGER * timing.measure).await;
    let (tokens, elapsed) = (shared.tokens.load(Ordering::Relaxed) - tokens, start.elapsed());
    shared.stop.store(true, Ordering::Relaxed);
    let mut durations = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        durations.extend(joined?);
    }
    let hung = appliance.faulty().remove(hangs).map_err(failed)?;
    let batches = Latencies::of(durations).ok_or(BenchError::Nothing(elapsed))?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let rate = tokens as f64 / elapsed.as_secs_f64();
    let failed = shared.failed.load(Ordering::Relaxed);
    Ok(Survived { rate, batches, failed, hung, restarts: starts().await - before, elapsed })
}

/// How long each took.
async fn batches(issuer: Issuer, size: usize, shared: Arc<Shared>) -> Vec<Duration> {
    let claims: Vec<_> = (0..size as u64).map(|n| claims::trade(n).to_json()).collect();
    let mut durations = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let signed = issuer.sign_batch(claims.clone()).await;
        match signed.and_then(|batch| batch.tokens.into_iter().collect::<Result<Vec<_>, _>>()) {
            Ok(tokens) => {
                shared.tokens.fetch_add(tokens.len() as u64, Ordering::Relaxed);
                durations.push(begun.elapsed());
            }
            Err(_) => {
                shared.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    durations
}
