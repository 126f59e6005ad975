//! Time that has passed at the most: for what must not live longer than it was given, whatever is done
//! to the clocks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Reading, WallTime, millis};

/// How much time has passed since it began to count: never less than really did, as far as the
/// machine can know. Credit for waits is counted the other way round: [`Moment`](super::Moment).
///
/// While the machine runs, the monotonic clock counts, and setting the wall clock changes nothing.
/// Over a restart of the machine only the wall clock is left: what it shows counts, and where it went
/// back, nobody knows how long it was, so that every limit is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lapse {
    /// What has passed in all.
    #[serde(with = "millis")]
    pub elapsed: Duration,
    #[serde(with = "millis")]
    boot: Duration,
    boot_id: String,
    wall: WallTime,
}

impl Lapse {
    /// What counts where the wall clock went back over a restart of the machine: longer than any limit.
    const UNKNOWN: Duration = Duration::from_secs(366 * 24 * 3600);
    /// So much a clock that is kept right may go back over a restart: nothing has passed.
    const SLACK: Duration = Duration::from_secs(60);

    /// Begins to count.
    #[must_use]
    pub fn start(reading: Reading, boot_id: String) -> Self {
        Self { elapsed: Duration::ZERO, boot: reading.boot, boot_id, wall: reading.wall }
    }

    /// The wall clock when it was last counted.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        self.wall
    }

    /// The same, by these clocks.
    #[must_use]
    pub fn at(&self, reading: Reading, boot_id: &str) -> Self {
        let same_start = self.boot_id == boot_id && !boot_id.is_empty();
        let passed = if same_start {
            reading.boot.saturating_sub(self.boot)
        } else if reading.wall.plus(Self::SLACK) < self.wall {
            Self::UNKNOWN
        } else {
            reading.wall.since(self.wall)
        };
        let elapsed = self.elapsed.saturating_add(passed);
        Self { elapsed, ..Self::start(reading, boot_id.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, boot: u64) -> Reading {
        Reading { wall: WallTime(wall * 1000), boot: Duration::from_secs(boot) }
    }

    fn elapsed(lapse: &Lapse) -> u64 {
        lapse.elapsed.as_secs()
    }

    #[test]
    fn i11_setting_the_wall_clock_changes_nothing_while_the_machine_runs() {
        let mut lapse = Lapse::start(at(10_000, 100), "b".into());
        for (wall, boot) in [(10_010, 110), (3000, 120), (90_000, 130), (10_040, 140)] {
            lapse = lapse.at(at(wall, boot), "b");
            assert_eq!(elapsed(&lapse), boot - 100);
        }
    }

    #[test]
    fn i11_downtime_counts_and_a_clock_that_went_back_over_a_restart_ends_every_limit() {
        let lapse = Lapse::start(at(10_000, 100), "b".into());
        assert_eq!(elapsed(&lapse.at(at(10_500, 5), "c")), 500);
        assert_eq!(elapsed(&lapse.at(at(9_950, 5), "c")), 0, "as clocks that are kept right do");
        assert!(lapse.at(at(9_000, 5), "c").elapsed >= Lapse::UNKNOWN);
        // Where the kernel does not name its start, nothing says that it is the same one.
        let nameless = Lapse::start(at(10_000, 100), String::new());
        assert!(nameless.at(at(9_000, 200), "").elapsed >= Lapse::UNKNOWN);
        // It survives being stored.
        let stored = serde_json::to_string(&lapse).expect("JSON");
        assert_eq!(serde_json::from_str::<Lapse>(&stored).expect("and back"), lapse);
    }
}
