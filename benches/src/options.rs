//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::{network_hsm, profile, raw::child, tpm, tts};

/// Measures the appliance beside raw loops on the same kind of device, and prints the budget.
#[derive(Debug, Parser)]
#[command(name = "mintwarden-benches", version, args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Short and rough: slices of one second, one round.
    #[arg(long)]
    pub quick: bool,
    /// How often each measurement is made, raw and product in turn; medians are reported.
    #[arg(long, default_value_t = 7, conflicts_with = "quick", value_name = "N")]
    pub rounds: usize,
    /// Length of each measurement, in seconds.
    #[arg(long, default_value_t = 2.0, conflicts_with = "quick", value_name = "SECONDS")]
    pub measure: f64,
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Something else.
    #[command(subcommand)]
    pub role: Option<Role>,
}

/// What else this program does.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// The raw loop; started by this program, never by hand.
    #[command(hide = true)]
    Raw(child::Arguments),
    /// Put one load on an appliance of its own, for a profiler to look at.
    Profile(profile::Arguments),
    /// Concurrent exchanges at the example TTS, beside the appliance alone.
    Tts(tts::Arguments),
    /// An emulated network HSM, beside a raw loop on the same; then with calls that hang.
    NetworkHsm(network_hsm::Arguments),
    /// A TPM (swtpm), beside a raw loop on the same one; also slowed down.
    Tpm(tpm::Arguments),
    /// The raw loop on a TPM; started by this program, never by hand.
    #[command(hide = true)]
    TpmRaw(tpm::raw::Arguments),
}

/// How long things are measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timing {
    /// Under load, but not counted.
    pub warm_up: Duration,
    /// Counted.
    pub measure: Duration,
    /// How often.
    pub rounds: usize,
    /// How often the appliance is started.
    pub starts: usize,
}

impl Options {
    /// How long things are measured.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let second = Duration::from_secs(1);
        if self.quick {
            return Timing { warm_up: second / 4, measure: second, rounds: 1, starts: 3 };
        }
        let measure = Duration::try_from_secs_f64(self.measure).unwrap_or(2 * second);
        Timing { warm_up: measure.min(second / 2), measure, rounds: self.rounds.max(1), starts: 9 }
    }
}
