//! The server process, under the names that every Prometheus client gives.

use std::fs;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use super::{Labels, counters, gauges};
use crate::clock::UnixTime;

#[derive(Debug)]
pub(super) struct Process {
    pub(super) started_at: UnixTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            gauges(&mut encoder, name, help, value.map(|value| (Labels::new(), value)))
        };
        gauge(
            "process_resident_memory_bytes",
            "Resident memory of the server process",
            resident(),
        )?;
        gauge("process_open_fds", "Open descriptors of the server process", open_descriptors())?;
        gauge(
            "process_max_fds",
            "Most descriptors that the server process may have open",
            Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)),
        )?;
        gauge(
            "process_start_time_seconds",
            "When the server process started",
            u64::try_from(self.started_at.0).ok(),
        )?;
        counters(
            &mut encoder,
            "process_cpu_seconds",
            "Processor time that the server process has used",
            cpu_seconds().map(|seconds| (Labels::new(), seconds)),
        )
    }
}

/// proc(5), `/proc/PID/statm`: the second field, in pages.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(page_size() as u64)
}

/// All but the one that is open to look.
fn open_descriptors() -> Option<u64> {
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)).ok()
}

/// proc(5), `/proc/PID/stat`: utime and stime, in clock ticks.
#[expect(clippy::cast_precision_loss, reason = "ticks of a process fit")]
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let ticks = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / clock_ticks_per_second() as f64)
}
