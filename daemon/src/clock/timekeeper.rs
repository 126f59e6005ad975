//! Time as waiting needs it (I4, I11): credit on the monotonic clock for what was really served, the
//! wall clock beside it, and whether the two agree.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Peaks, Reading, WallTime, millis};

/// A point in time by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// By the wall clock.
    pub wall: WallTime,
    /// By the credit of an issuer: how long its JWK Set had been served until then, in all.
    #[serde(with = "millis")]
    pub served: Duration,
}

impl Moment {
    /// How long the wait from `earlier` to this point counts: the lesser of what both clocks say.
    #[must_use]
    pub fn waited(self, earlier: Self) -> Duration {
        self.wall.since(earlier.wall).min(self.served.saturating_sub(earlier.served))
    }
}

/// Whether wall clock and monotonic clock have gone together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They have.
    Agree,
    /// The wall clock was stepped: by this many milliseconds, forward where positive. Whatever waits
    /// stands still.
    Stepped(i64),
}

/// The present, as a plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By both clocks.
    pub moment: Moment,
    /// The latest time that the wall clock has shown since any other: what was signed then expires after
    /// it, even if the clock was set back since.
    pub peaks: Peaks,
    /// How long has been served without an interruption.
    pub uninterrupted: Duration,
    /// Whether the clocks agree.
    pub agreement: Agreement,
}

/// What survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Credit so far.
    #[serde(with = "millis")]
    pub served: Duration,
    /// The wall clock then.
    pub wall: WallTime,
    /// The latest that it has ever shown.
    pub latest: WallTime,
    /// The same, for any time since when. Absent in documents of earlier builds.
    #[serde(default)]
    pub peaks: Peaks,
    /// The start of the machine that `offset` is of ([`boot_id`](super::boot_id)).
    pub boot_id: String,
    /// The believed difference of wall clock and monotonic clock, milliseconds.
    pub offset: i64,
}

/// What a [`Timekeeper`] tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// S: by how much the clocks may differ.
    pub skew: Duration,
    /// For how long a step of the wall clock has to hold before it is believed.
    pub settle: Duration,
    /// A longer time between two readings was not served: the process or the machine stood still.
    pub gap: Duration,
}

/// Counts credit. One for each issuer; fed with readings at short intervals.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    tolerance: Tolerance,
    boot_id: String,
    last: Reading,
    served: Duration,
    uninterrupted: Duration,
    peaks: Peaks,
    /// The believed offset of the wall clock to the monotonic one.
    offset: i64,
    /// An offset that is not believed yet, and since when it has held.
    stepped: Option<(i64, Duration)>,
}

fn offset(reading: Reading) -> i64 {
    let boot = i64::try_from(reading.boot.as_millis()).unwrap_or(i64::MAX);
    reading.wall.0.saturating_sub(boot)
}

impl Timekeeper {
    /// Goes on from `before`, at the start of a process.
    #[must_use]
    pub fn start(
        before: Option<&Checkpoint>,
        reading: Reading,
        boot_id: String,
        tolerance: Tolerance,
    ) -> Self {
        let believed = match before {
            None => offset(reading),
            Some(before) if before.boot_id == boot_id && !boot_id.is_empty() => before.offset,
            // Another start of the machine: a clock that went forward cannot be told from a long
            // rest, one that went back can.
            Some(before) => offset(reading)
                .max(offset(reading).saturating_add(before.wall.0.saturating_sub(reading.wall.0))),
        };
        let before = before.cloned().unwrap_or_default();
        let mut peaks = before.peaks;
        if peaks == Peaks::default() {
            peaks.note(Moment { wall: before.latest, served: before.served });
        }
        let mut keeper = Self {
            tolerance,
            boot_id,
            last: reading,
            served: before.served,
            uninterrupted: Duration::ZERO,
            peaks,
            offset: believed,
            stepped: None,
        };
        keeper.see(reading);
        keeper
    }

    /// Takes the next reading. `served`: whether the JWK Set was there for verifiers since the last.
    pub fn advance(&mut self, reading: Reading, served: bool) -> Now {
        let elapsed = reading.boot.saturating_sub(self.last.boot);
        if served && elapsed <= self.tolerance.gap {
            self.served += elapsed;
            self.uninterrupted += elapsed;
        } else {
            self.uninterrupted = Duration::ZERO;
        }
        self.see(reading);
        self.now()
    }

    /// Takes a reading without counting the time since the last one, e.g. while a change of the JWK
    /// Set was on its way to those who serve it.
    pub fn skip(&mut self, reading: Reading) -> Now {
        self.see(reading);
        self.now()
    }

    /// Takes credit back: what was served after `served` was reached, was not what it was taken for.
    pub fn set_back(&mut self, served: Duration) {
        self.served = self.served.min(served);
        self.uninterrupted = Duration::ZERO;
    }

    /// The present as of the last reading.
    #[must_use]
    pub fn now(&self) -> Now {
        let agreement = match self.stepped {
            None => Agreement::Agree,
            Some((to, _)) => Agreement::Stepped(to.saturating_sub(self.offset)),
        };
        Now {
            moment: Moment { wall: self.last.wall, served: self.served },
            peaks: self.peaks,
            uninterrupted: self.uninterrupted,
            agreement,
        }
    }

    /// What has to survive a restart, as of the last reading.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            served: self.served,
            wall: self.last.wall,
            latest: self.peaks.since(Duration::ZERO),
            peaks: self.peaks,
            boot_id: self.boot_id.clone(),
            offset: self.offset,
        }
    }

    fn see(&mut self, reading: Reading) {
        self.last = reading;
        self.peaks.note(Moment { wall: reading.wall, served: self.served });
        self.compare(reading);
    }

    fn compare(&mut self, reading: Reading) {
        let skew = self.tolerance.skew.as_millis();
        let near = |a: i64, b: i64| u128::from(a.abs_diff(b)) <= skew;
        let seen = offset(reading);
        self.stepped = match self.stepped {
            _ if near(seen, self.offset) => None,
            Some((to, since)) if near(seen, to) => {
                if reading.boot.saturating_sub(since) >= self.tolerance.settle {
                    self.offset = seen;
                    None
                } else {
                    Some((to, since))
                }
            }
            _ => Some((seen, reading.boot)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance {
        skew: Duration::from_secs(30),
        settle: Duration::from_secs(600),
        gap: Duration::from_secs(5),
    };

    fn at(wall: i64, boot: u64) -> Reading {
        Reading { wall: WallTime(wall * 1000), boot: Duration::from_secs(boot) }
    }

    fn keeper(before: Option<&Checkpoint>, reading: Reading, boot: &str) -> Timekeeper {
        Timekeeper::start(before, reading, boot.into(), TOLERANCE)
    }

    fn seconds(duration: Duration) -> u64 {
        duration.as_secs()
    }

    #[test]
    fn i4_only_what_was_served_counts() {
        let mut keeper = keeper(None, at(1000, 100), "b");
        assert_eq!(seconds(keeper.advance(at(1003, 103), true).moment.served), 3);
        let now = keeper.advance(at(1006, 106), false);
        assert_eq!((seconds(now.moment.served), seconds(now.uninterrupted)), (3, 0));
        // The process stood still: nobody was answered, whatever it believed.
        let now = keeper.advance(at(1106, 206), true);
        assert_eq!((seconds(now.moment.served), seconds(now.uninterrupted)), (3, 0));
        let now = keeper.advance(at(1110, 210), true);
        assert_eq!((seconds(now.moment.served), seconds(now.uninterrupted)), (7, 4));
        assert_eq!(now.agreement, Agreement::Agree);
    }

    #[test]
    fn i4_credit_survives_a_restart_and_downtime_adds_none() {
        let mut first = keeper(None, at(1000, 100), "b");
        first.advance(at(1004, 104), true);
        let mut second = keeper(Some(&first.checkpoint()), at(9000, 8100), "b");
        let now = second.advance(at(9002, 8102), true);
        assert_eq!((seconds(now.moment.served), seconds(now.uninterrupted)), (6, 2));
        assert_eq!(now.agreement, Agreement::Agree);
    }

    #[test]
    fn i11_a_step_of_the_wall_clock_is_seen_either_way() {
        for step in [3600, -3600] {
            let mut keeper = keeper(None, at(10_000, 100), "b");
            let now = keeper.advance(at(10_001 + step, 101), true);
            assert_eq!(now.agreement, Agreement::Stepped(step * 1000));
            // Set right again.
            assert_eq!(keeper.advance(at(10_002, 102), true).agreement, Agreement::Agree);
        }
    }

    #[test]
    fn i11_small_differences_add_up() {
        let mut keeper = keeper(None, at(1000, 100), "b");
        assert_eq!(keeper.advance(at(1025, 101), true).agreement, Agreement::Agree);
        assert_eq!(keeper.advance(at(1050, 102), true).agreement, Agreement::Stepped(48_000));
    }

    #[test]
    fn i11_a_step_is_believed_once_it_has_held() {
        let mut keeper = keeper(None, at(1000, 100), "b");
        keeper.advance(at(5000, 101), true);
        assert_ne!(keeper.advance(at(5599, 700), true).agreement, Agreement::Agree);
        // Another step begins the wait again.
        keeper.advance(at(9000, 701), true);
        assert_ne!(keeper.advance(at(9001, 702), true).agreement, Agreement::Agree);
        assert_eq!(keeper.advance(at(9600, 1301), true).agreement, Agreement::Agree);
    }

    #[test]
    fn i11_a_step_while_stopped_is_seen() {
        let before = keeper(None, at(10_000, 100), "b").checkpoint();
        for (wall, agrees) in [(10_050, true), (17_000, false), (3000, false)] {
            let now = keeper(Some(&before), at(wall, 150), "b").now();
            assert_eq!(now.agreement == Agreement::Agree, agrees, "{wall}");
        }
        // The machine was started anew: only a clock that went back can be told.
        for (wall, agrees) in [(99_000, true), (9990, true), (9000, false)] {
            let now = keeper(Some(&before), at(wall, 5), "c").now();
            assert_eq!(now.agreement == Agreement::Agree, agrees, "{wall}");
        }
    }

    #[test]
    fn i5_the_latest_wall_time_is_remembered() {
        let mut first = keeper(None, at(1000, 100), "b");
        first.advance(at(9000, 101), true);
        let now = first.advance(at(1002, 102), true);
        assert_eq!(now.peaks.since(Duration::ZERO), WallTime(9_000_000));
        let again = keeper(Some(&first.checkpoint()), at(1003, 103), "b");
        assert_eq!(again.now().peaks.since(Duration::ZERO), WallTime(9_000_000));
        // What began after it was set back has not seen it.
        let since = again.now().moment.served;
        assert_eq!(again.now().peaks.since(since), WallTime(1_003_000));
        let earlier = Checkpoint { peaks: Peaks::default(), ..first.checkpoint() };
        let again = keeper(Some(&earlier), at(1003, 103), "b");
        assert_eq!(again.now().peaks.since(since), WallTime(9_000_000), "nobody noted since when");
    }

    #[test]
    fn i4_credit_that_is_taken_back_counts_no_more() {
        let mut keeper = keeper(None, at(1000, 100), "b");
        keeper.advance(at(1004, 104), true);
        keeper.set_back(Duration::from_secs(1));
        let now = keeper.advance(at(1006, 106), true);
        assert_eq!((seconds(now.moment.served), seconds(now.uninterrupted)), (3, 2));
        keeper.set_back(Duration::from_secs(100));
        assert_eq!(seconds(keeper.now().moment.served), 3, "none is given");
    }

    #[test]
    fn a_wait_counts_what_both_clocks_say() {
        let moment = |wall: i64, served| Moment {
            wall: WallTime(wall * 1000),
            served: Duration::from_secs(served),
        };
        assert_eq!(seconds(moment(100, 50).waited(moment(90, 10))), 10);
        assert_eq!(seconds(moment(100, 12).waited(moment(10, 10))), 2);
        assert_eq!(seconds(moment(80, 50).waited(moment(90, 10))), 0);
    }
}
