//! The load generator: signs through the client library, over mTLS.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mintwarden_client::{Bytes, Issuer, Token};
use mintwarden_tests::claims;
use serde::Serialize;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    cpu::{self, CpuTimes, Processes},
    error::BenchError,
    options::Timing,
    statistics::Latencies,
};

/// One in this many answers has its first token looked at afterwards.
const SAMPLE_EVERY: u64 = 64;

/// Bound on the tokens that each task keeps to be looked at.
const SAMPLES: usize = 16;

/// Batches in flight, as the budget has it.
pub const IN_FLIGHT: usize = 4;

/// How the load is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `sign_batch`.
    Batches {
        /// Tokens in each.
        size: usize,
        /// Batches in flight at a time.
        in_flight: usize,
    },
    /// Single `sign` calls that the client joins.
    Joined {
        /// Tasks that call, one after another.
        tasks: usize,
    },
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batches { size, in_flight } => {
                write!(f, "SignBatch of {size}, mTLS, {in_flight} in flight")
            }
            Self::Joined { tasks } => write!(f, "single sign() from {tasks} tasks, mTLS"),
        }
    }
}

/// What came of a load within the time that counted.
#[derive(Debug, Serialize)]
pub struct Loaded {
    /// Tokens released.
    pub tokens: u64,
    /// The time that counted.
    pub elapsed: Duration,
    /// Processor time taken.
    pub cpu: CpuTimes,
    /// Processor time that all else on the machine took meanwhile.
    pub others: Duration,
    /// Some of the tokens, also from the warm-up, to be verified.
    #[serde(skip)]
    pub sample: Vec<Token>,
}

impl Loaded {
    /// Tokens a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        count(self.tokens) / self.elapsed.as_secs_f64()
    }

    /// Processor time for each token, in microseconds, of the processes that `part` picks.
    #[must_use]
    pub fn cpu_per_token(&self, part: impl FnOnce(&CpuTimes) -> Duration) -> f64 {
        part(&self.cpu).as_secs_f64() * 1e6 / count(self.tokens)
    }
}

/// Puts a load on, and counts once it is warm.
///
/// # Errors
/// [`BenchError::Client`] for the first call that fails: there is no reason for one to.
pub async fn run(
    issuer: &Issuer,
    shape: Shape,
    timing: &Timing,
    processes: &Processes,
) -> Result<Loaded, BenchError> {
    let load = Load::start(issuer, shape);
    sleep(timing.warm_up).await;
    let reading = || {
        let (cpu, machine) = (processes.cpu()?, cpu::machine()?);
        Ok::<_, BenchError>((load.tokens(), Instant::now(), cpu, machine))
    };
    let start = reading()?;
    sleep(timing.measure).await;
    let end = reading()?;
    let sample = load.stop().await?;
    let (tokens, elapsed, cpu) = (end.0 - start.0, end.1 - start.1, end.2 - start.2);
    if tokens == 0 {
        return Err(BenchError::Nothing(elapsed));
    }
    let others = (end.3 - start.3).saturating_sub(cpu.total());
    Ok(Loaded { tokens, elapsed, cpu, others, sample })
}

/// A load that is being put on.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<Vec<Token>, BenchError>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    tokens: AtomicU64,
}

impl Load {
    /// Starts it.
    #[must_use]
    pub fn start(issuer: &Issuer, shape: Shape) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        match shape {
            Shape::Batches { size, in_flight } => {
                for task in 0..in_flight {
                    let numbers = task * size..(task + 1) * size;
                    let claims = numbers.map(|n| claims::trade(n as u64).to_json()).collect();
                    tasks.spawn(batches(issuer.clone(), claims, Arc::clone(&shared)));
                }
            }
            Shape::Joined { tasks: callers } => {
                for caller in 0..callers {
                    let claims = claims::trade(caller as u64).to_json();
                    tasks.spawn(singles(issuer.clone(), claims, Arc::clone(&shared)));
                }
            }
        }
        Self { shared, tasks }
    }

    /// Tokens so far.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.shared.tokens.load(Ordering::Relaxed)
    }

    /// Ends it. Some of its tokens.
    ///
    /// # Errors
    /// [`BenchError::Client`] if a call failed.
    pub async fn stop(mut self) -> Result<Vec<Token>, BenchError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut sample = Vec::new();
        while let Some(joined) = self.tasks.join_next().await {
            let tokens = joined??;
            sample.extend(tokens);
        }
        Ok(sample)
    }
}

async fn batches(
    issuer: Issuer,
    claims: Vec<Bytes>,
    shared: Arc<Shared>,
) -> Result<Vec<Token>, BenchError> {
    let (mut sample, mut answers) = (Vec::new(), 0);
    while !shared.stop.load(Ordering::Relaxed) {
        let batch = issuer.sign_batch(claims.clone()).await?;
        let tokens = batch.tokens.into_iter().collect::<Result<Vec<_>, _>>()?;
        shared.tokens.fetch_add(tokens.len() as u64, Ordering::Relaxed);
        keep(&mut sample, &mut answers, tokens.into_iter().next());
    }
    Ok(sample)
}

async fn singles(
    issuer: Issuer,
    claims: Bytes,
    shared: Arc<Shared>,
) -> Result<Vec<Token>, BenchError> {
    let (mut sample, mut answers) = (Vec::new(), 0);
    while !shared.stop.load(Ordering::Relaxed) {
        let token = issuer.sign(claims.clone()).await?;
        shared.tokens.fetch_add(1, Ordering::Relaxed);
        keep(&mut sample, &mut answers, Some(token));
    }
    Ok(sample)
}

fn keep(sample: &mut Vec<Token>, answers: &mut u64, token: Option<Token>) {
    if answers.is_multiple_of(SAMPLE_EVERY) && sample.len() < SAMPLES {
        sample.extend(token);
    }
    *answers += 1;
}

/// One call at a time, each timed from the caller's side.
///
/// # Errors
/// [`BenchError::Client`] for the first call that fails.
pub async fn one_by_one(issuer: &Issuer, timing: &Timing) -> Result<Latencies, BenchError> {
    let issuer = issuer.clone();
    let (warm_up, measure) = (timing.warm_up, timing.measure);
    // On a task, as a server's handlers are; not on the thread that blocks on all of this.
    let calls = tokio::spawn(async move {
        let claims = claims::trade(0).to_json();
        let start = Instant::now();
        let mut durations = Vec::new();
        while start.elapsed() < warm_up + measure {
            let before = Instant::now();
            issuer.sign(claims.clone()).await?;
            if before - start >= warm_up {
                durations.push(before.elapsed());
            }
        }
        Ok::<_, BenchError>(durations)
    });
    Latencies::of(calls.await??).ok_or(BenchError::Nothing(measure))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(tokens: u64) -> f64 {
    tokens as f64
}
