//! The order of the measurements.
//!
//! Raw and product take turns, so that what else the machine does hits both: each product
//! measurement is held against the mean of the raw ones before and after it, and medians are taken
//! over rounds of such pairs.

use std::{thread, time::Duration};

use mintwarden_client::{Issuer, Token};
use mintwarden_tests::{Appliance, ISSUER, Verifier, claims};
use serde::Serialize;
use tokio::{task::block_in_place, time::sleep};

use crate::{
    cpu::Processes,
    error::BenchError,
    load::{self, IN_FLIGHT, Load, Loaded, Shape},
    memory::Memory,
    options::Timing,
    programs,
    raw::{Raw, RawLoop, Work, sessions},
    start,
    statistics::Latencies,
};

/// The loads that are put on, in order.
pub const SHAPES: [Shape; 5] = [
    Shape::Batches { size: 1, in_flight: IN_FLIGHT },
    Shape::Batches { size: 16, in_flight: IN_FLIGHT },
    Shape::Batches { size: 64, in_flight: IN_FLIGHT },
    Shape::Batches { size: 256, in_flight: IN_FLIGHT },
    Shape::Joined { tasks: 64 },
];

/// What memory is read under: the most that the budget's loads have in hand.
const FULL_LOAD: Shape = Shape::Batches { size: 256, in_flight: IN_FLIGHT };

const READ_MEMORY_EVERY: Duration = Duration::from_millis(100);

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// The machine.
    pub machine: Machine,
    /// How it was measured.
    pub timing: Timing,
    /// Round by round.
    pub rounds: Vec<Round>,
    /// The appliance's processes under full load.
    pub memory: Memory,
    /// Start to first signature, each time.
    pub starts: Vec<Duration>,
    /// How many tokens were verified by an independent library.
    pub verified: usize,
}

/// What the figures were measured on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub processors: usize,
    /// Sessions with the device, of the appliance as of the raw loop.
    pub sessions: usize,
    /// Whether this is an optimised build. The figures of another mean nothing.
    pub optimised: bool,
}

/// One round: every measurement once.
#[derive(Debug, Serialize)]
pub struct Round {
    /// Plain `C_Sign` with all sessions.
    pub plain: Raw,
    /// The loads of [`SHAPES`].
    pub loads: Vec<Compared>,
    /// One call at a time.
    pub idle: Idle,
}

/// A load beside the raw loop.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// How it was put on.
    pub shape: Shape,
    /// What came of it.
    pub product: Loaded,
    /// The raw loop, with verification, before and after.
    pub raw: Raw,
}

/// Single calls beside single raw signatures.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// From the caller's side, through everything.
    pub product: Latencies,
    /// `C_Sign` and verification.
    pub raw: Latencies,
}

/// Measures everything.
///
/// # Errors
/// [`BenchError`] if something could not be measured; never for what was measured.
///
/// # Panics
/// If the appliance cannot be provisioned or started.
pub async fn run(timing: Timing) -> Result<Findings, BenchError> {
    block_in_place(programs::make)?;
    let machine = Machine::look();
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let mut raw = RawLoop::start(&appliance.file("raw"))?;
    let issuer = appliance.builder(appliance.tts()).connect().await?.issuer(ISSUER);
    issuer.sign(claims::trade(0)).await?;
    let (processes, verifier) = (Processes::of(&appliance), appliance.verifier(ISSUER).await);

    let (mut rounds, mut verified) = (Vec::new(), 0);
    for number in 1..=timing.rounds {
        say(&format!("round {number} of {}", timing.rounds));
        let (round, tokens) = round(&timing, &mut raw, &issuer, &processes).await?;
        rounds.push(round);
        verified += verify(&verifier, &tokens)?;
    }
    say("memory");
    let memory = memory(&timing, &issuer, &processes).await?;
    appliance.stop().await;

    say("start to first signature");
    let mut starts = Vec::new();
    for _ in 0..timing.starts {
        starts.push(start::first_signature(&mut appliance).await?);
    }
    Ok(Findings { machine, timing, rounds, memory, starts, verified })
}

async fn round(
    timing: &Timing,
    raw: &mut RawLoop,
    issuer: &Issuer,
    processes: &Processes,
) -> Result<(Round, Vec<Token>), BenchError> {
    let mut measure = |work| block_in_place(|| raw.measure(work, timing));
    say("  plain C_Sign");
    let plain = measure(Work::Sign)?;
    let mut before = measure(Work::SignAndVerify)?;
    let (mut loads, mut tokens) = (Vec::new(), Vec::new());
    for shape in SHAPES {
        say(&format!("  {shape}"));
        let mut product = load::run(issuer, shape, timing, processes).await?;
        let after = measure(Work::SignAndVerify)?;
        tokens.append(&mut product.sample);
        loads.push(Compared { shape, product, raw: Raw::between(&before, &after) });
        before = after;
    }
    say("  one call at a time");
    let before = measure(Work::OneByOne)?;
    let product = load::one_by_one(issuer, timing).await?;
    let after = measure(Work::OneByOne)?;
    let missing = || BenchError::Raw("it timed no single operations".to_owned());
    let raw = Raw::between(&before, &after).latencies.ok_or_else(missing)?;
    Ok((Round { plain, loads, idle: Idle { product, raw } }, tokens))
}

/// Whether these are good tokens, by an independent library; how many they are.
fn verify(verifier: &Verifier, tokens: &[Token]) -> Result<usize, BenchError> {
    tokens
        .iter()
        .try_for_each(|token| verifier.verify(token).map(drop).map_err(BenchError::Token))?;
    Ok(tokens.len())
}

/// The most that is seen under full load, when all other loads have left their mark.
async fn memory(
    timing: &Timing,
    issuer: &Issuer,
    processes: &Processes,
) -> Result<Memory, BenchError> {
    let load = Load::start(issuer, FULL_LOAD);
    let mut most = Memory::of(&processes.ids())?;
    let mut left = timing.measure;
    while !left.is_zero() {
        sleep(READ_MEMORY_EVERY).await;
        left = left.saturating_sub(READ_MEMORY_EVERY);
        most = most.max(Memory::of(&processes.ids())?);
    }
    load.stop().await?;
    Ok(most)
}

impl Machine {
    fn look() -> Self {
        Self {
            processors: thread::available_parallelism().map_or(1, usize::from),
            sessions: sessions(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress, for whoever waits")]
fn say(text: &str) {
    eprintln!("{text}");
}
