//! The example TTS under concurrent exchanges, beside the appliance alone: what joining calls into batches comes
//! to behind a real service.

use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use mintwarden_tests::{
    Appliance, ISSUER,
    domain::{self, Domain},
};
use tokio::{
    task::{JoinSet, block_in_place},
    time::sleep,
};

use crate::{
    cpu::Processes,
    error::{BenchError, system},
    load::{self, Shape},
    options::Timing,
    programs,
    statistics::{Latencies, median},
};

/// One in this many answers is verified afterwards.
const SAMPLE_EVERY: usize = 64;

/// How much of it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Requesters that exchange one token after another.
    #[arg(long, default_value_t = 64, value_name = "N")]
    tasks: usize,
    /// Length of each measurement.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u32,
    /// How often, appliance alone and TTS in turn; medians are reported.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
}

/// Measures, and says what came of it.
///
/// # Errors
/// [`BenchError`].
///
/// # Panics
/// If appliance or TTS cannot be started, or an exchange fails.
pub async fn run(arguments: &Arguments) -> Result<(), BenchError> {
    block_in_place(programs::make)?;
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let mut domain = Domain::around(&appliance).await;
    let issuer = appliance.builder(appliance.tts()).connect().await?.issuer(ISSUER);
    let (processes, verifier) = (Processes::of(&appliance), appliance.verifier(ISSUER).await);
    let second = Duration::from_secs(1);
    let timing =
        Timing { warm_up: second, measure: arguments.seconds * second, rounds: 1, starts: 0 };
    let shape = Shape::Joined { tasks: arguments.tasks };
    let (mut alone, mut behind, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        alone.push(load::run(&issuer, shape, &timing, &processes).await?.rate());
        let exchanges = exchanges(&domain, arguments.tasks, &timing).await?;
        for token in &exchanges.sample {
            verifier.verify(token).map_err(BenchError::Token)?;
        }
        behind.push(exchanges.rate);
        latencies.push(exchanges.latencies);
    }
    let said = domain.tts.stop().await;
    appliance.stop().await;
    let [p50, p99] = [|l: &Latencies| l.p50, |l: &Latencies| l.p99]
        .map(|of| median(latencies.iter().map(of)) / 1000.0);
    let batches =
        said.lines().find_map(|line| line.split_once("signed ")).map_or("", |(_, rest)| rest);
    say(&format!("appliance alone, {shape}: {:.0} tokens/s", median(alone)))?;
    say(&format!(
        "TTS, {} requesters over mutual TLS: {:.0} exchanges/s, p50 {p50:.1} ms, p99 {p99:.1} ms",
        arguments.tasks,
        median(behind)
    ))?;
    say(&format!("the TTS's client in all rounds: {batches}"))
}

struct Exchanges {
    rate: f64,
    latencies: Latencies,
    sample: Vec<String>,
}

async fn exchanges(
    domain: &Domain,
    tasks: usize,
    timing: &Timing,
) -> Result<Exchanges, BenchError> {
    let (client, form) = (domain.https(domain.gateway()), domain.form().encode());
    let url = domain.tts.url("/token");
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut requesters = JoinSet::new();
    for _ in 0..tasks {
        let request = client.post(&url).body(form.clone());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let (stop, done) = (stop.clone(), done.clone());
        requesters.spawn(async move {
            let (mut durations, mut sample) = (Vec::new(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let request = request.try_clone().expect("the body is in memory");
                let token = domain::answer(request).await.token();
                if durations.len().is_multiple_of(SAMPLE_EVERY) {
                    sample.push(token);
                }
                durations.push(begun.elapsed());
                done.fetch_add(1, Ordering::Relaxed);
            }
            (durations, sample)
        });
    }
    sleep(timing.warm_up).await;
    let reading = || (done.load(Ordering::Relaxed), Instant::now());
    let start = reading();
    sleep(timing.measure).await;
    let end = reading();
    stop.store(true, Ordering::Relaxed);
    let (mut durations, mut sample) = (Vec::new(), Vec::new());
    while let Some(joined) = requesters.join_next().await {
        let (took, tokens) = joined?;
        durations.extend(took);
        sample.extend(tokens);
    }
    let latencies = Latencies::of(durations).ok_or(BenchError::Nothing(timing.measure))?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let count = (end.0 - start.0) as f64;
    Ok(Exchanges { rate: count / (end.1 - start.1).as_secs_f64(), latencies, sample })
}

fn say(text: &str) -> Result<(), BenchError> {
    writeln!(io::stdout(), "{text}").map_err(system("standard output"))
}
