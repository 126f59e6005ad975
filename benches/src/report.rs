//! What the findings say about DESIGN.md's budget.

use std::time::Duration;

use serde::Serialize;

use crate::{
    load::{Loaded, Shape},
    run::{Compared, Findings, Round, SHAPES},
    statistics::median,
};

/// All lines: the budget, and what explains it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The budget, line by line.
    pub budget: Vec<Line>,
    /// Each load: rate, and where its processor time goes.
    pub loads: Vec<LoadLine>,
    /// How many processors other programs kept busy meanwhile: what is much above none is noise.
    pub others: f64,
}

/// One figure.
#[derive(Debug, PartialEq, Serialize)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// The product's figure.
    pub measured: Quantity,
    /// The raw loop's, where there is one.
    pub raw: Option<Quantity>,
    /// What the target is for: their ratio or difference, or the product's figure itself.
    pub figure: Quantity,
    /// The budget, where it has one for this.
    pub target: Option<Target>,
    /// Whether the budget is met.
    pub met: Option<bool>,
}

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "unit", content = "value", rename_all = "snake_case")]
pub enum Quantity {
    /// Signatures or tokens a second.
    PerSecond(f64),
    /// Of the raw loop's.
    Ratio(f64),
    /// Microseconds.
    Micros(f64),
    /// Milliseconds.
    Millis(f64),
    /// Mebibytes.
    Mebibytes(f64),
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "bound", content = "than", rename_all = "snake_case")]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// One load; all processor times in microseconds a token.
#[derive(Debug, Serialize)]
pub struct LoadLine {
    /// How it was put on.
    pub shape: Shape,
    /// Tokens a second.
    pub rate: f64,
    /// Of the raw loop with verification.
    pub ratio: f64,
    /// What that would be by processor time: where other programs compete for the processors, rates also
    /// tell who got more of them.
    pub by_cpu: f64,
    /// All of it.
    pub cpu: f64,
    /// The raw loop's, with verification.
    pub raw_cpu: f64,
    /// The worker's, without the device: less plain `C_Sign`.
    pub worker: f64,
    /// The server's, without verification: less the difference between the two raw loops.
    pub server: f64,
    /// The launcher's.
    pub launcher: f64,
    /// The client's.
    pub client: f64,
}

impl Quantity {
    fn number(self) -> f64 {
        match self {
            Self::PerSecond(number)
            | Self::Ratio(number)
            | Self::Micros(number)
            | Self::Millis(number)
            | Self::Mebibytes(number) => number,
        }
    }
}

impl Target {
    fn met_by(self, number: f64) -> bool {
        match self {
            Self::AtLeast(bound) => number >= bound,
            Self::AtMost(bound) => number <= bound,
        }
    }
}

impl Line {
    fn new(
        what: impl Into<String>,
        measured: Quantity,
        raw: Option<Quantity>,
        figure: Quantity,
        target: Option<Target>,
    ) -> Self {
        let met = target.map(|target| target.met_by(figure.number()));
        Self { what: what.into(), measured, raw, figure, target, met }
    }

    fn absolute(what: &str, measured: Quantity, target: Option<Target>) -> Self {
        Self::new(what, measured, None, measured, target)
    }
}

impl Report {
    /// Medians over the rounds.
    #[must_use]
    pub fn new(findings: &Findings) -> Self {
        let rounds = &findings.rounds;
        let loads: Vec<LoadLine> =
            (0..SHAPES.len()).map(|place| LoadLine::new(rounds, place)).collect();
        let mut budget = vec![plain(rounds)];
        budget.extend((0..SHAPES.len()).map(|place| throughput(rounds, place)));
        budget.extend(idle(rounds));
        budget.extend((0..SHAPES.len()).filter_map(|place| processor_time(rounds, place)));
        budget.extend(memory(findings));
        let starts = findings.starts.iter().map(Duration::as_secs_f64);
        budget.push(Line::absolute(
            "start to first signature, existing keys",
            Quantity::Millis(median(starts) * 1e3),
            Some(Target::AtMost(300.0)),
        ));
        let others = rounds.iter().flat_map(|round| &round.loads).map(|load| {
            let Loaded { others, elapsed, .. } = &load.product;
            others.as_secs_f64() / elapsed.as_secs_f64()
        });
        Self { budget, loads, others: median(others) }
    }
}

fn over<'a>(
    rounds: &'a [Round],
    place: usize,
    figure: impl Fn(&'a Round, &'a Compared) -> f64,
) -> f64 {
    median(rounds.iter().map(|round| figure(round, &round.loads[place])))
}

/// The budget for the throughput of a load.
fn ratio_target(shape: Shape) -> Option<Target> {
    match shape {
        Shape::Batches { size: 64 | 256, .. } => Some(Target::AtLeast(0.95)),
        Shape::Batches { .. } => None,
        Shape::Joined { .. } => Some(Target::AtLeast(0.90)),
    }
}

fn plain(rounds: &[Round]) -> Line {
    let plain = median(rounds.iter().map(|round| round.plain.rate));
    let raw = over(rounds, 0, |_, load| load.raw.rate);
    let ratio = over(rounds, 0, |round, load| round.plain.rate / load.raw.rate);
    let (plain, raw) = (Quantity::PerSecond(plain), Quantity::PerSecond(raw));
    Line::new("plain C_Sign, for comparison", plain, Some(raw), Quantity::Ratio(ratio), None)
}

fn throughput(rounds: &[Round], place: usize) -> Line {
    let shape = SHAPES[place];
    let rate = over(rounds, place, |_, load| load.product.rate());
    let raw = over(rounds, place, |_, load| load.raw.rate);
    let ratio = over(rounds, place, |_, load| load.product.rate() / load.raw.rate);
    let (rate, raw) = (Quantity::PerSecond(rate), Quantity::PerSecond(raw));
    Line::new(shape.to_string(), rate, Some(raw), Quantity::Ratio(ratio), ratio_target(shape))
}

fn idle(rounds: &[Round]) -> [Line; 2] {
    let line = |what: &str, of: fn(&crate::statistics::Latencies) -> f64, target| {
        let all =
            |figure: &dyn Fn(&Round) -> f64| Quantity::Micros(median(rounds.iter().map(figure)));
        Line::new(
            what,
            all(&|round| of(&round.idle.product)),
            Some(all(&|round| of(&round.idle.raw))),
            all(&|round| of(&round.idle.product) - of(&round.idle.raw)),
            target,
        )
    };
    [
        line("one idle call, p50 above raw", |l| l.p50, Some(Target::AtMost(250.0))),
        line("one idle call, p99 above raw", |l| l.p99, None),
    ]
}

/// Beside each throughput that has a target.
fn processor_time(rounds: &[Round], place: usize) -> Option<Line> {
    let shape = SHAPES[place];
    ratio_target(shape)?;
    let total = |load: &Compared| load.product.cpu_per_token(|cpu| cpu.total());
    let all = over(rounds, place, |_, load| total(load));
    let raw = over(rounds, place, |_, load| load.raw.cpu);
    let outside = over(rounds, place, |_, load| total(load) - load.raw.cpu);
    Some(Line::new(
        format!("CPU per token outside device and verification: {shape}"),
        Quantity::Micros(all),
        Some(Quantity::Micros(raw)),
        Quantity::Micros(outside),
        Some(Target::AtMost(10.0)),
    ))
}

fn memory(findings: &Findings) -> Vec<Line> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let mebibytes = |kib: u64| Quantity::Mebibytes(kib as f64 / 1024.0);
    let memory = &findings.memory;
    let mut lines = vec![Line::absolute(
        "resident memory under full load, all processes (sum of RSS)",
        mebibytes(memory.rss),
        Some(Target::AtMost(48.0)),
    )];
    let shared_once = "the same, pages that they share counted once (sum of PSS)";
    lines.extend(memory.pss.map(|pss| Line::absolute(shared_once, mebibytes(pss), None)));
    lines.push(Line::absolute("the highest ever (sum of peak RSS)", mebibytes(memory.peak), None));
    lines
}

impl LoadLine {
    fn new(rounds: &[Round], place: usize) -> Self {
        let verification = |round: &Round, load: &Compared| load.raw.cpu - round.plain.cpu;
        Self {
            shape: SHAPES[place],
            rate: over(rounds, place, |_, load| load.product.rate()),
            ratio: over(rounds, place, |_, load| load.product.rate() / load.raw.rate),
            by_cpu: over(rounds, place, |_, load| {
                load.raw.cpu / load.product.cpu_per_token(|cpu| cpu.total())
            }),
            cpu: over(rounds, place, |_, load| load.product.cpu_per_token(|cpu| cpu.total())),
            raw_cpu: over(rounds, place, |_, load| load.raw.cpu),
            worker: over(rounds, place, |round, load| {
                load.product.cpu_per_token(|cpu| cpu.worker) - round.plain.cpu
            }),
            server: over(rounds, place, |round, load| {
                load.product.cpu_per_token(|cpu| cpu.server) - verification(round, load)
            }),
            launcher: over(rounds, place, |_, load| load.product.cpu_per_token(|cpu| cpu.launcher)),
            client: over(rounds, place, |_, load| load.product.cpu_per_token(|cpu| cpu.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::CpuTimes,
        memory::Memory,
        options::Options,
        raw::Raw,
        run::{Idle, Machine},
        statistics::Latencies,
    };

    fn raw(rate: f64, cpu: f64) -> Raw {
        Raw { rate, cpu, latencies: None }
    }

    /// A round in which the product does `tokens` where the raw loop does 1000 in its second.
    fn round(tokens: u64) -> Round {
        let cpu = CpuTimes {
            launcher: Duration::ZERO,
            server: Duration::from_millis(300),
            worker: Duration::from_millis(600),
            client: Duration::from_millis(100),
        };
        let load = |shape| Compared {
            shape,
            product: Loaded {
                tokens,
                elapsed: Duration::from_secs(1),
                cpu,
                others: Duration::from_millis(500),
                sample: Vec::new(),
            },
            raw: raw(1000.0, 800.0),
        };
        let latencies = |p50| Latencies { count: 1, p50, p99: 2.0 * p50 };
        Round {
            plain: raw(2000.0, 550.0),
            loads: SHAPES.into_iter().map(load).collect(),
            idle: Idle { product: latencies(500.0), raw: latencies(200.0) },
        }
    }

    fn findings(rounds: Vec<Round>) -> Findings {
        let options = <Options as clap::Parser>::parse_from(["mintwarden-benches"]);
        Findings {
            machine: Machine { processors: 2, sessions: 4, optimised: true },
            timing: options.timing(),
            rounds,
            memory: Memory { rss: 40 * 1024, peak: 50 * 1024, pss: None },
            starts: [100, 900, 200].map(Duration::from_millis).to_vec(),
            verified: 1,
        }
    }

    fn line<'a>(report: &'a Report, what: &str) -> &'a Line {
        report.budget.iter().find(|line| line.what.starts_with(what)).expect("the line is there")
    }

    #[test]
    fn targets_are_held_against_the_median_round() {
        let report = Report::new(&findings(vec![round(100), round(960), round(990)]));
        let batch = line(&report, "SignBatch of 64");
        assert_eq!(batch.figure, Quantity::Ratio(0.96));
        assert_eq!((batch.target, batch.met), (Some(Target::AtLeast(0.95)), Some(true)));
        assert_eq!(line(&report, "SignBatch of 16").met, None);
        assert_eq!(line(&report, "single sign()").met, Some(true));
        assert_eq!(line(&report, "start to first").figure, Quantity::Millis(200.0));
    }

    #[test]
    fn differences_are_to_the_raw_loop() {
        let report = Report::new(&findings(vec![round(1000)]));
        let idle = line(&report, "one idle call, p50");
        assert_eq!((idle.figure, idle.met), (Quantity::Micros(300.0), Some(false)));
        let cpu = line(&report, "CPU per token");
        let Quantity::Micros(outside) = cpu.figure else { panic!("{cpu:?}") };
        assert!((outside - 200.0).abs() < 1e-6, "1000 µs less 800 µs: {cpu:?}");
        let load = &report.loads[0];
        assert!((load.worker - 50.0).abs() < 1e-6 && (load.server - 50.0).abs() < 1e-6);
        assert!((load.client - 100.0).abs() < 1e-6);
        assert!((load.by_cpu - 0.8).abs() < 1e-6);
        assert!((report.others - 0.5).abs() < 1e-6);
    }

    #[test]
    fn memory_that_may_not_be_seen_has_no_line() {
        let report = Report::new(&findings(vec![round(1)]));
        assert_eq!(line(&report, "resident memory").met, Some(true));
        assert!(report.budget.iter().all(|line| !line.what.contains("PSS")));
    }
}
