//! Processor time.

use std::{fs, io, ops::Sub, path::Path, process, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::error::{BenchError, system};

/// The processes of one appliance. They stay the same throughout a benchmark; one that was restarted
/// shows as an error at the next reading.
#[derive(Clone, Debug)]
pub struct Processes {
    launcher: u32,
    server: u32,
    worker: u32,
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
    /// The launcher with this process ID and its children.
    ///
    /// # Errors
    /// [`BenchError::System`] if there are not exactly a server and a worker.
    pub fn of(launcher: u32) -> Result<Self, BenchError> {
        let children = children(launcher).map_err(system("/proc"))?;
        let named = |name: &str| match children
            .iter()
            .filter(|child| child.name == name)
            .collect::<Vec<_>>()[..]
        {
            [child] => Ok(child.id),
            _ => Err(system(format!("the children of process {launcher}"))(io::Error::other(
                format!("expected one called {name}, found {children:?}"),
            ))),
        };
        // The kernel keeps 15 bytes of a name.
        Ok(Self { launcher, server: named("mintwarden")?, worker: named("mintwarden-pkcs")? })
    }

    /// Their process IDs: launcher, server, worker.
    #[must_use]
    pub fn ids(&self) -> [u32; 3] {
        [self.launcher, self.server, self.worker]
    }

    /// The processor time that they and this process have taken so far.
    ///
    /// # Errors
    /// [`BenchError::System`] if one of them is gone.
    pub fn cpu(&self) -> Result<CpuTimes, BenchError> {
        let of = |id: u32| Stat::read(id).map(|stat| stat.cpu);
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

#[derive(Debug)]
struct Child {
    id: u32,
    name: String,
}

fn children(parent: u32) -> io::Result<Vec<Child>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since.
        let Ok(stat) = Stat::read(id) else { continue };
        if stat.parent == parent && id != process::id() {
            children.push(Child { id, name: stat.name });
        }
    }
    Ok(children)
}

/// What is of use here of `/proc/PID/stat`, see proc(5).
#[derive(Debug, PartialEq)]
struct Stat {
    name: String,
    parent: u32,
    cpu: Duration,
}

impl Stat {
    fn read(id: u32) -> Result<Self, BenchError> {
        let path = Path::new("/proc").join(id.to_string()).join("stat");
        let text = fs::read_to_string(&path).map_err(system(path.display().to_string()))?;
        Self::parse(&text, rustix::param::clock_ticks_per_second())
            .ok_or_else(|| system(path.display().to_string())(io::ErrorKind::InvalidData.into()))
    }

    fn parse(text: &str, ticks_per_second: u64) -> Option<Self> {
        // The name is in parentheses, and may have some itself.
        let (head, tail) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        // From field 4, the parent, to 14 and 15: user and system time.
        let user: u64 = fields.nth(9)?.parse().ok()?;
        let kernel: u64 = fields.next()?.parse().ok()?;
        let tick = Duration::from_secs(1) / u32::try_from(ticks_per_second).ok()?;
        let cpu = tick.checked_mul(u32::try_from(user + kernel).ok()?)?;
        Some(Self { name: name.to_owned(), parent, cpu })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn reads_a_line_of_proc() {
        let line =
            "4711 (a (b) c) S 42 4711 4711 0 -1 4194304 97 0 0 0 250 150 0 0 20 0 5 0 1234 0";
        let expected = Stat { name: "a (b) c".to_owned(), parent: 42, cpu: Duration::from_secs(4) };
        assert_eq!(Stat::parse(line, 100), Some(expected));
        assert_eq!(Stat::parse("4711 (a) S 42", 100), None);
        assert_eq!(Stat::parse("", 100), None);
    }

    #[test]
    fn both_ways_to_read_this_process_agree() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {}
        let (precise, ticks) = (own(), Stat::read(process::id()).expect("it is there").cpu);
        assert!(precise.abs_diff(ticks) < Duration::from_millis(50), "{precise:?} {ticks:?}");
    }
}
