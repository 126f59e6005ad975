//! What was measured, for people.

use std::fmt;

use super::{Arguments, Findings, HANGS};
use crate::{
    load::Loaded,
    raw::Raw,
    statistics::median,
    table::{table, trimmed},
};

/// The budget: of the raw loop's rate.
const TARGET: f64 = 0.98;

/// The report.
pub(super) struct Text<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) found: &'a [Findings],
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arguments { sessions, rounds, seconds, call_timeout, .. } = self.arguments;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        writeln!(
            f,
            "{processors} processors; SoftHSM2 ES256 behind faulty-pkcs11, {sessions} sessions; raw: C_Sign and \
             verification; {rounds} rounds of {seconds} s; target: {TARGET} of raw"
        )?;
        if cfg!(debug_assertions) {
            writeln!(f, "THIS IS NOT AN OPTIMISED BUILD: the figures mean nothing")?;
        }
        writeln!(f)?;
        let mut batches = table(&[
            "C_SIGN TAKES",
            "LOAD",
            "TOKENS/S",
            "RAW",
            "OF RAW",
            "MET",
            "RAW OF MOST",
            "CPU/TOKEN",
            "RAW",
            "OTHERS BUSY",
        ]);
        for found in self.found {
            for (shape, rounds) in &found.batches {
                let over = |of: &dyn Fn(&Loaded, &Raw) -> f64| {
                    median(rounds.iter().map(|(product, raw)| of(product, raw)))
                };
                let ratio = over(&|product, raw| product.rate() / raw.rate);
                let raw = over(&|_, raw| raw.rate);
                let busy =
                    |product: &Loaded| product.others.as_secs_f64() / product.elapsed.as_secs_f64();
                batches.add_row([
                    format!("{:?}", found.latency),
                    shape.to_string(),
                    format!("{:.0}", over(&|product, _| product.rate())),
                    format!("{raw:.0}"),
                    format!("{ratio:.3}"),
                    if ratio >= TARGET { "yes" } else { "NO" }.to_owned(),
                    // All that the latency allows.
                    format!("{:.2}", raw * found.latency.as_secs_f64() / f64::from(*sessions)),
                    format!(
                        "{:.1} µs",
                        over(&|product, _| product.cpu_per_token(|cpu| cpu.total()))
                    ),
                    format!("{:.1} µs", over(&|_, raw| raw.cpu)),
                    format!("{:.1}", over(&|product, _| busy(product))),
                ]);
            }
        }
        writeln!(f, "{}\n", trimmed(&batches))?;
        writeln!(
            f,
            "One call in {:.0} hangs for ever; device_call_timeout {call_timeout} ms; raw without hangs, which it does not \
             survive:\n",
            1.0 / HANGS.0
        )?;
        let mut hanging = table(&[
            "C_SIGN TAKES",
            "LOAD",
            "TOKENS/S",
            "RAW",
            "OF RAW",
            "SECONDS",
            "HUNG",
            "RESTARTS",
            "BATCHES FAILED",
            "P50",
            "P99",
        ]);
        for found in self.found {
            let (shape, survived) = &found.hanging;
            let raw = found.batches.iter().flat_map(|(_, rounds)| rounds);
            let raw = median(raw.map(|(_, raw)| raw.rate));
            hanging.add_row([
                format!("{:?}", found.latency),
                shape.to_string(),
                format!("{:.0}", survived.rate),
                format!("{raw:.0}"),
                format!("{:.3}", survived.rate / raw),
                format!("{:.0}", survived.elapsed.as_secs_f64()),
                survived.hung.to_string(),
                survived.restarts.to_string(),
                format!(
                    "{} of {}",
                    survived.failed,
                    survived.failed + survived.batches.count as u64
                ),
                format!("{:.0} ms", survived.batches.p50 / 1e3),
                format!("{:.0} ms", survived.batches.p99 / 1e3),
            ]);
        }
        writeln!(f, "{}", trimmed(&hanging))
    }
}
