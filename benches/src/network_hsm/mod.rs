//! An emulated network HSM: each `C_Sign` takes its time, counted from its start, and many sessions wait side by side.
//! The appliance beside a raw loop on the same module, then with calls that never come back.
//!
//! The signatures are still SoftHSM2's, made on the processors that the appliance and its caller work on too. With few
//! of them and the budget's 2 ms and 32 sessions it is the processors that set the pace, of the raw loop as well; a
//! longer latency leaves them room, as a real network HSM would, and shows what the appliance keeps of a device's pace.
//! Both are measured, and each line says how much of what the latency allows was reached.

mod hanging;
mod text;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use mintwarden_client::Issuer;
use mintwarden_tests::{
    Appliance, ISSUER, Token,
    faulty::{Applied, Faulty, Function, on},
    programs,
};
use tokio::task::block_in_place;

use self::{
    hanging::{Survived, survive},
    text::Text,
};
use crate::{
    cpu::Processes,
    error::{BenchError, system},
    load::{self, IN_FLIGHT, Loaded, Shape},
    options::Timing,
    programs as built,
    raw::{Raw, RawLoop, Work},
};

/// Tokens in each batch, as the budget has them.
const BATCHES: [usize; 2] = [64, 256];
/// With which probability a call hangs, and what luck the n-th call has.
const HANGS: (f64, u64) = (0.001, 0x6e65_7477_6f72_6b21);

/// Which HSM, and how much of it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What each `C_Sign` takes, in milliseconds; may be given several times.
    #[arg(long, default_values_t = [2.0, 10.0], value_name = "MS")]
    latency: Vec<f64>,
    /// Sessions, of the appliance as of the raw loop.
    #[arg(long, default_value_t = 32, value_name = "N")]
    sessions: u32,
    /// How often each measurement is made, raw and product in turn; medians are reported.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Length of each measurement.
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    seconds: u32,
    /// `device_call_timeout` of the appliance.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    call_timeout: u64,
    /// Batches in flight where calls hang: each hang holds up one.
    #[arg(long, default_value_t = 32, value_name = "N")]
    in_flight: usize,
}

/// What was measured with one latency.
struct Findings {
    latency: Duration,
    /// For each of [`BATCHES`], round by round.
    batches: Vec<(Shape, Vec<(Loaded, Raw)>)>,
    /// With calls that hang; the raw loop's rate is that without them.
    hanging: (Shape, Survived),
}

/// Measures, and says what came of it.
///
/// # Errors
/// [`BenchError`].
///
/// # Panics
/// If the appliance cannot be provisioned or started.
pub async fn run(arguments: &Arguments) -> Result<(), BenchError> {
    block_in_place(built::make)?;
    let mut hsm = Hsm::start(arguments).await?;
    let mut found = Vec::new();
    for millis in &arguments.latency {
        let latency = Duration::try_from_secs_f64(millis / 1e3).unwrap_or_default();
        found.push(hsm.measure(arguments, latency).await?);
    }
    hsm.appliance.stop().await;
    write!(io::stdout(), "{}", Text { arguments, found: &found }).map_err(system("standard output"))
}

/// An appliance and a raw loop, each with a PKCS#11 token of its own behind the same module.
struct Hsm {
    appliance: Appliance,
    issuer: Issuer,
    raw: RawLoop,
    raw_faulty: Faulty,
}

impl Hsm {
    async fn start(arguments: &Arguments) -> Result<Self, BenchError> {
        let (sessions, timeout) = (arguments.sessions, arguments.call_timeout);
        let appliance = Appliance::softhsm().faulty().with(move |config| {
            let device = config["device"][0].as_table_mut().expect("made by the fixture");
            device.insert("sessions".into(), i64::from(sessions).into());
            device.insert("device_call_timeout".into(), format!("{timeout}ms").into());
        });
        let appliance = appliance.start_initialised().await;
        let directory = appliance.file("raw");
        let token = Token::provision(&directory, "raw");
        let raw_faulty =
            Faulty::listen(&directory).map_err(|error| BenchError::Raw(error.to_string()))?;
        let environment = raw_faulty.environment(&token.soft_hsm().module);
        let module = programs::path(programs::FAULTY_PKCS11);
        let raw = RawLoop::on(&token, &module, sessions as usize, environment)?;
        let issuer = appliance.builder(appliance.tts()).timeout(hanging::PATIENCE);
        let issuer = issuer.connect().await?.issuer(ISSUER);
        Ok(Self { appliance, issuer, raw, raw_faulty })
    }

    async fn measure(
        &mut self,
        arguments: &Arguments,
        latency: Duration,
    ) -> Result<Findings, BenchError> {
        let slow = || on(Function::C_Sign).takes(latency);
        let rules = [add(&self.raw_faulty, slow())?, add(self.appliance.faulty(), slow())?];
        let timing = timing(arguments);
        let mut batches: Vec<_> =
            BATCHES.map(|size| (Shape::Batches { size, in_flight: IN_FLIGHT }, Vec::new())).into();
        for round in 1..=arguments.rounds {
            say(&format!("{latency:?}, round {round} of {}", arguments.rounds));
            let mut before = self.raw(&timing)?;
            for (shape, rounds) in &mut batches {
                let processes = Processes::of(&self.appliance);
                let product = load::run(&self.issuer, *shape, &timing, &processes).await?;
                let after = self.raw(&timing)?;
                rounds.push((product, Raw::between(&before, &after)));
                before = after;
            }
        }
        say(&format!("{latency:?}, with calls that hang"));
        let shape = Shape::Batches { size: BATCHES[0], in_flight: arguments.in_flight };
        let hangs = on(Function::C_Sign).with_probability(HANGS.0, HANGS.1).blocks();
        let hanging = survive(&self.appliance, &self.issuer, shape, &timing, hangs).await?;
        let [raw, product] = rules;
        self.raw_faulty.remove(raw).map_err(failed)?;
        self.appliance.faulty().remove(product).map_err(failed)?;
        Ok(Findings { latency, batches, hanging: (shape, hanging) })
    }

    fn raw(&mut self, timing: &Timing) -> Result<Raw, BenchError> {
        block_in_place(|| self.raw.measure(Work::SignAndVerify, timing))
    }
}

fn timing(arguments: &Arguments) -> Timing {
    let second = Duration::from_secs(1);
    let measure = arguments.seconds * second;
    Timing { warm_up: second, measure, rounds: arguments.rounds, starts: 0 }
}

fn add(faulty: &Faulty, rule: mintwarden_tests::faulty::Rule) -> Result<Applied, BenchError> {
    faulty.add(rule).map_err(failed)
}

fn failed(error: mintwarden_tests::faulty::Error) -> BenchError {
    BenchError::Raw(error.to_string())
}

#[expect(clippy::print_stderr, reason = "progress, for whoever waits")]
fn say(text: &str) {
    eprintln!("{text}");
}
