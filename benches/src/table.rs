//! The report as text.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use crate::{
    report::{Quantity, Report, Target},
    run::Findings,
};

/// Findings and report, for people.
pub struct Text<'a> {
    /// What was measured.
    pub findings: &'a Findings,
    /// What it says.
    pub report: &'a Report,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { machine, timing, verified, .. } = self.findings;
        writeln!(
            f,
            "{} processors, of which other programs kept {:.1} busy; SoftHSM2 ES256, {} sessions; \
             {} rounds of {} s",
            machine.processors,
            self.report.others,
            machine.sessions,
            timing.rounds,
            timing.measure.as_secs_f64(),
        )?;
        if !machine.optimised {
            writeln!(f, "THIS IS NOT AN OPTIMISED BUILD: the figures mean nothing")?;
        }
        writeln!(
            f,
            "{verified} of the tokens verified with jsonwebtoken from the published JWKS\n"
        )?;
        writeln!(f, "{}\n", trimmed(&budget(self.report)))?;
        writeln!(
            f,
            "CPU time by token, in µs; worker without C_Sign, server without verification:\n"
        )?;
        writeln!(f, "{}", trimmed(&loads(self.report)))
    }
}

pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn budget(report: &Report) -> Table {
    let mut table = table(&["WHAT", "MEASURED", "RAW", "FIGURE", "TARGET", "MET"]);
    for line in &report.budget {
        table.add_row([
            line.what.clone(),
            line.measured.to_string(),
            line.raw.map_or_else(String::new, |raw| raw.to_string()),
            line.figure.to_string(),
            line.target.map_or_else(String::new, |target| target.to_string()),
            line.met.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
        ]);
    }
    table
}

fn loads(report: &Report) -> Table {
    let headings = [
        "LOAD", "TOKENS/S", "OF RAW", "BY CPU", "CPU", "RAW", "WORKER", "SERVER", "LAUNCHER",
        "CLIENT",
    ];
    let mut table = table(&headings);
    for load in &report.loads {
        let mut row = vec![
            load.shape.to_string(),
            format!("{:.0}", load.rate),
            format!("{:.3}", load.ratio),
            format!("{:.3}", load.by_cpu),
        ];
        let times = [load.cpu, load.raw_cpu, load.worker, load.server, load.launcher, load.client];
        row.extend(times.map(|micros| format!("{micros:.1}")));
        table.add_row(row);
    }
    table
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(number) => write!(f, "{number:.0}/s"),
            Self::Ratio(number) => write!(f, "{number:.3}"),
            Self::Micros(number) => write!(f, "{number:.1} µs"),
            Self::Millis(number) => write!(f, "{number:.0} ms"),
            Self::Mebibytes(number) => write!(f, "{number:.1} MiB"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}
