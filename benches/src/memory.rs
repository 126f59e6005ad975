//! Resident memory.

use std::{fs, io, path::Path};

use serde::Serialize;

use crate::error::{BenchError, system};

/// What several processes occupy together, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Sum of resident set sizes: pages that processes share count once for each.
    pub rss: u64,
    /// Sum of the highest resident set sizes so far.
    pub peak: u64,
    /// Sum of proportional set sizes: pages that processes share count once. `None` where this user
    /// may not see it: the processes protect themselves from being looked into.
    pub pss: Option<u64>,
}

impl Memory {
    /// Of the processes with these IDs, now.
    ///
    /// # Errors
    /// [`BenchError::System`] if one of them is gone.
    pub fn of(ids: &[i32]) -> Result<Self, BenchError> {
        let mut sum = Self { rss: 0, peak: 0, pss: Some(0) };
        for id in ids {
            let directory = Path::new("/proc").join(id.to_string());
            let status = directory.join("status");
            let what = status.display().to_string();
            let text = fs::read_to_string(&status).map_err(system(what.clone()))?;
            let field = |name| kib(&text, name).ok_or(io::ErrorKind::InvalidData.into());
            sum.rss += field("VmRSS").map_err(system(what.clone()))?;
            sum.peak += field("VmHWM").map_err(system(what))?;
            let rollup = fs::read_to_string(directory.join("smaps_rollup")).ok();
            sum.pss = sum.pss.zip(rollup.and_then(|text| kib(&text, "Pss"))).map(|(a, b)| a + b);
        }
        Ok(sum)
    }

    /// The higher of two readings, each figure for itself.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            rss: self.rss.max(other.rss),
            peak: self.peak.max(other.peak),
            pss: self.pss.max(other.pss),
        }
    }
}

/// A field of `/proc/PID/status` or `/proc/PID/smaps_rollup`, in KiB.
fn kib(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| *field == name)
        .and_then(|(_, value)| value.trim().strip_suffix(" kB")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_by_their_whole_name() {
        let text = "Name:\tx\nVmHWM:\t   12 kB\nVmRSS:\t    9 kB\nThreads:\t3\n";
        assert_eq!(kib(text, "VmRSS"), Some(9));
        assert_eq!(kib(text, "RSS"), None);
        assert_eq!(kib(text, "Threads"), None);
    }

    #[test]
    fn this_process_occupies_something() {
        let id = i32::try_from(std::process::id()).expect("process IDs fit");
        let memory = Memory::of(&[id]).expect("it is there");
        assert!(memory.rss > 0 && memory.peak >= memory.rss);
        assert!(Memory::of(&[i32::MAX]).is_err());
    }
}
