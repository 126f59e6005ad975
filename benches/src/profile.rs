//! One load alone, for a profiler to look at: raw loops in between would only be in the way.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use mintwarden_tests::{Appliance, ISSUER};

use crate::{
    cpu::Processes,
    error::{BenchError, system},
    load::{self, Shape},
    options::Timing,
    programs,
};

/// Which load, and for how long.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Tokens in each batch, four in flight.
    #[arg(long, default_value_t = 64, value_name = "SIZE")]
    batch: usize,
    /// Single calls from this many tasks, in place of batches.
    #[arg(long, conflicts_with = "batch", value_name = "TASKS")]
    joined: Option<usize>,
    /// How long.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    seconds: u32,
}

/// Puts the load on: says which processes there are, and in the end what they did.
///
/// # Errors
/// [`BenchError`].
///
/// # Panics
/// If the appliance cannot be provisioned or started.
pub async fn run(arguments: &Arguments) -> Result<(), BenchError> {
    tokio::task::block_in_place(programs::make)?;
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let issuer = appliance.builder(appliance.tts()).connect().await?.issuer(ISSUER);
    let processes = Processes::of(&appliance);
    let Processes { launcher, server, worker } = processes;
    let client = std::process::id();
    say(&format!("launcher={launcher} server={server} worker={worker} client={client}"))?;
    let shape = match arguments.joined {
        Some(tasks) => Shape::Joined { tasks },
        None => Shape::Batches { size: arguments.batch, in_flight: load::IN_FLIGHT },
    };
    let second = Duration::from_secs(1);
    let timing =
        Timing { warm_up: second, measure: arguments.seconds * second, rounds: 1, starts: 0 };
    let loaded = load::run(&issuer, shape, &timing, &processes).await?;
    appliance.stop().await;
    say(&format!(
        "{shape}: {:.0} tokens/s; CPU by token: server {:.1} µs, worker {:.1} µs, client {:.1} µs",
        loaded.rate(),
        loaded.cpu_per_token(|cpu| cpu.server),
        loaded.cpu_per_token(|cpu| cpu.worker),
        loaded.cpu_per_token(|cpu| cpu.client),
    ))
}

fn say(text: &str) -> Result<(), BenchError> {
    writeln!(io::stdout(), "{text}").map_err(system("standard output"))
}
