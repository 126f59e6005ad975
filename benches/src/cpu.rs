//! Processor time.

use std::{fs, io, ops::Sub, time::Duration};

use mintwarden_tests::{Appliance, Role};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::error::{BenchError, system};

/// The processes of one appliance with one device. They stay the same throughout a benchmark; one that
/// was restarted shows as an error at the next reading.
#[derive(Clone, Copy, Debug)]
pub struct Processes {
    /// The launcher's process ID.
    pub launcher: i32,
    /// The server's.
    pub server: i32,
    /// The worker's.
    pub worker: i32,
}

/// Processor time, user and system, of everything that takes part in the product's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CpuTimes {
    /// The launcher.
    pub launcher: Duration,
    /// The server.
    pub server: Duration,
    /// The one worker.
    pub worker: Duration,
    /// This process, with the client library.
    pub client: Duration,
}

impl Processes {
    /// Of this appliance, which has to be running.
    #[must_use]
    pub fn of(appliance: &Appliance) -> Self {
        let id = |role| appliance.process(role).pid;
        Self { launcher: id(Role::Launcher), server: id(Role::Server), worker: id(Role::Worker) }
    }

    /// Launcher, server, worker.
    #[must_use]
    pub fn ids(&self) -> [i32; 3] {
        [self.launcher, self.server, self.worker]
    }

    /// The processor time that they and this process have taken so far.
    ///
    /// # Errors
    /// [`BenchError::System`] if one of them is gone.
    pub fn cpu(&self) -> Result<CpuTimes, BenchError> {
        Ok(CpuTimes {
            launcher: of(self.launcher)?,
            server: of(self.server)?,
            worker: of(self.worker)?,
            client: own(),
        })
    }
}

impl CpuTimes {
    /// All together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.launcher + self.server + self.worker + self.client
    }
}

impl Sub for CpuTimes {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            launcher: self.launcher.saturating_sub(earlier.launcher),
            server: self.server.saturating_sub(earlier.server),
            worker: self.worker.saturating_sub(earlier.worker),
            client: self.client.saturating_sub(earlier.client),
        }
    }
}

/// The processor time that this process has taken so far.
#[must_use]
pub fn own() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

/// The processor time that everything on this machine has taken so far; what the hypervisor gave to
/// other machines counts as taken.
///
/// # Errors
/// [`BenchError::System`].
pub fn machine() -> Result<Duration, BenchError> {
    let path = "/proc/stat";
    let text = fs::read_to_string(path).map_err(system(path))?;
    busy(&text, rustix::param::clock_ticks_per_second())
        .ok_or_else(|| system(path)(io::ErrorKind::InvalidData.into()))
}

/// The processor time that the process with this ID has taken so far, in whole clock ticks.
fn of(id: i32) -> Result<Duration, BenchError> {
    let path = format!("/proc/{id}/stat");
    let text = fs::read_to_string(&path).map_err(system(path.clone()))?;
    parse(&text, rustix::param::clock_ticks_per_second())
        .ok_or_else(|| system(path)(io::ErrorKind::InvalidData.into()))
}

/// User and system time of `/proc/PID/stat`, fields 14 and 15 of proc(5).
fn parse(text: &str, ticks_per_second: u64) -> Option<Duration> {
    // Field 2, the name, is in parentheses, and may have some itself.
    let (_, from_field_3) = text.rsplit_once(')')?;
    let mut fields = from_field_3.split_ascii_whitespace();
    let user: u64 = fields.nth(14 - 3)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    ticks(user + system, ticks_per_second)
}

/// All of the first line of `/proc/stat` (proc(5)) but idle, waiting, and guests, who are counted as
/// users already.
fn busy(text: &str, ticks_per_second: u64) -> Option<Duration> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let fields: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, irq, soft_irq, steal, ..] = fields[..] else {
        return None;
    };
    ticks(user + nice + system + irq + soft_irq + steal, ticks_per_second)
}

fn ticks(count: u64, per_second: u64) -> Option<Duration> {
    Some(Duration::from_millis(count.checked_mul(1000)? / per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn reads_a_line_of_proc() {
        let line =
            "4711 (a (b) c) S 42 4711 4711 0 -1 4194304 97 0 0 0 250 150 0 0 20 0 5 0 1234 0";
        assert_eq!(parse(line, 100), Some(Duration::from_secs(4)));
        assert_eq!(parse("4711 (a) S 42", 100), None);
        assert_eq!(parse("", 100), None);
    }

    #[test]
    fn reads_the_machine_s_line() {
        let text = "cpu  100 20 30 4000 500 6 7 37 90 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy(text, 100), Some(Duration::from_secs(2)));
        assert_eq!(busy("cpu  1 2 3", 100), None);
        assert!(machine().expect("it is there") > own());
    }

    #[test]
    fn both_ways_to_read_this_process_agree() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {}
        let id = i32::try_from(std::process::id()).expect("process IDs fit");
        let (precise, ticks) = (own(), of(id).expect("it is there"));
        assert!(precise.abs_diff(ticks) < Duration::from_millis(50), "{precise:?} {ticks:?}");
    }
}
