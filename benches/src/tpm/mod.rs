//! A TPM: the appliance beside a raw loop of tss-esapi with the same kind of session, on the same swtpm.
//!
//! A swtpm serves one at a time, so the appliance is stopped while the raw loop runs.

pub mod raw;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use mintwarden_tests::{Appliance, ISSUER, TPM, claims};
use tokio::task::block_in_place;

use self::raw::Work;
use crate::{
    cpu::Processes,
    error::{BenchError, system},
    load::{self, Shape},
    options::Timing,
    programs,
    statistics::median,
};

/// DESIGN.md's budget, at batches of 16.
const TARGET: f64 = 0.98;

/// What a caller waits for a batch of a TPM that is slowed down.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How often, raw and product in turn; medians are reported.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Length of each measurement of a TPM that is not slowed down, in seconds.
    #[arg(long, default_value_t = 4, value_name = "SECONDS")]
    seconds: u32,
    /// Leave out the TPM that is slowed down to 20 ms and to 200 ms a command.
    #[arg(long)]
    fast: bool,
}

/// One load on one TPM.
struct Case {
    delay: Duration,
    shape: Shape,
    timing: Timing,
    target: Option<f64>,
}

/// What came of it, in signatures a second.
struct Figures {
    plain: f64,
    raw: f64,
    product: f64,
    ratio: f64,
}

/// Measures, and says what came of it.
///
/// # Errors
/// [`BenchError`].
///
/// # Panics
/// If the appliance cannot be provisioned or started.
pub async fn run(arguments: &Arguments) -> Result<(), BenchError> {
    block_in_place(programs::make)?;
    let mut table = Table::new();
    let headings = ["WHAT", "PRODUCT", "RAW", "RATIO", "TARGET", "PLAIN SIGN"];
    table.load_style(NOTHING).set_header(headings);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    for case in cases(arguments) {
        let figures = measure(&case).await?;
        table.add_row([
            what(&case),
            format!("{:.1}/s", figures.product),
            format!("{:.1}/s", figures.raw),
            format!("{:.3}", figures.ratio),
            case.target.map_or_else(String::new, |target| format!("≥ {target}")),
            format!("{:.1}/s", figures.plain),
        ]);
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    let text = format!(
        "swtpm, ES256, one salted HMAC session with parameter encryption; {} rounds\n{}{}",
        arguments.rounds,
        if cfg!(debug_assertions) { "THIS IS NOT AN OPTIMISED BUILD\n" } else { "" },
        lines.join("\n")
    );
    writeln!(io::stdout(), "{text}").map_err(system("standard output"))
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let second = Duration::from_secs(1);
    let case = |millis, size, seconds, target| Case {
        delay: Duration::from_millis(millis),
        shape: Shape::Batches { size, in_flight: load::IN_FLIGHT },
        timing: Timing {
            warm_up: second,
            measure: seconds * second,
            rounds: arguments.rounds.max(1),
            starts: 0,
        },
        target,
    };
    let fast = arguments.seconds.max(1);
    let mut cases =
        vec![case(0, 1, fast, None), case(0, 16, fast, Some(TARGET)), case(0, 64, fast, None)];
    if !arguments.fast {
        // Small ones, since a batch counts when all of it is there.
        cases.extend([case(20, 4, 10, None), case(200, 1, 20, None)]);
    }
    cases
}

fn what(case: &Case) -> String {
    match case.delay {
        Duration::ZERO => case.shape.to_string(),
        delay => format!("{}, {} ms a command", case.shape, delay.as_millis()),
    }
}

/// Raw and product in turn: each product measurement is held against the mean of the raw ones beside it.
async fn measure(case: &Case) -> Result<Figures, BenchError> {
    let slowed = !case.delay.is_zero();
    let builder = if slowed { Appliance::swtpm().faulty() } else { Appliance::swtpm() };
    let mut appliance = builder.start_initialised().await;
    let verifier = appliance.verifier(ISSUER).await;
    appliance.stop().await;
    if slowed {
        appliance.tpm().relay().delay(case.delay);
    }
    let tcti = appliance.tpm().tcti();
    let raw = |work| block_in_place(|| raw::measure(&tcti, work, &case.timing));
    let mut plain = Vec::new();
    let (mut raws, mut products, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = raw(Work::SignAndVerify)?;
    for _ in 0..case.timing.rounds {
        appliance.start().await;
        appliance.until_device(TPM, mintwarden_client::api::DeviceState::Ready).await;
        let client = appliance.builder(appliance.tts()).timeout(PATIENCE).connect().await?;
        let issuer = client.issuer(ISSUER);
        issuer.sign(claims::trade(0)).await?;
        let processes = Processes::of(&appliance);
        let loaded = load::run(&issuer, case.shape, &case.timing, &processes).await?;
        for token in &loaded.sample {
            verifier.verify(token).map_err(BenchError::Token)?;
        }
        appliance.stop().await;
        let after = raw(Work::SignAndVerify)?;
        plain.push(raw(Work::Sign)?);
        let beside = f64::midpoint(before, after);
        raws.push(beside);
        products.push(loaded.rate());
        ratios.push(loaded.rate() / beside);
        before = after;
    }
    Ok(Figures {
        plain: median(plain),
        raw: median(raws),
        product: median(products),
        ratio: median(ratios),
    })
}
