//! The only place in the server that reads time (invariant I11). What a worker needs of it lives in
//! the worker's own crate, which both build on.

mod lapse;
pub mod millis;
mod peaks;
mod timekeeper;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub use lapse::Lapse;
pub use mintwarden_worker::clock::{UnixTime, monotonic, wall};
pub use peaks::Peaks;
pub use timekeeper::{Agreement, Checkpoint, Moment, Now, Timekeeper, Tolerance};

/// Wall-clock time as milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// How much later this is than `earlier`; zero where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This time plus `duration`; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The whole seconds of it.
    #[must_use]
    pub fn seconds(self) -> UnixTime {
        UnixTime(self.0.div_euclid(1000))
    }
}

impl From<UnixTime> for WallTime {
    fn from(time: UnixTime) -> Self {
        Self(time.0.saturating_mul(1000))
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: WallTime,
    /// Time since the machine started, sleep included (`CLOCK_BOOTTIME`). Nobody can set it.
    pub boot: Duration,
}

/// Reads clocks: those of the system, or in tests simulated ones.
pub trait Clock: Send + Sync {
    /// Both clocks now.
    fn reading(&self) -> Reading;

    /// What names the present start of the machine; see [`boot_id`].
    fn boot_id(&self) -> String;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn reading(&self) -> Reading {
        reading()
    }

    fn boot_id(&self) -> String {
        boot_id()
    }
}

/// Reads both clocks.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where time is read")]
pub fn reading() -> Reading {
    let boot = clock_gettime(ClockId::Boottime);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Reading {
        wall: WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        boot: Duration::new(
            u64::try_from(boot.tv_sec).unwrap_or(0),
            u32::try_from(boot.tv_nsec).unwrap_or(0),
        ),
    }
}

/// What names the machine's present start: `CLOCK_BOOTTIME` of two processes can be compared only
/// where it is the same. Empty where the kernel does not say, which equals no other.
#[must_use]
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Measures how long the stages of a request take.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[must_use]
    pub fn start() -> Self {
        Self(monotonic())
    }

    /// Time since the start or the last lap.
    pub fn lap(&mut self) -> Duration {
        let now = monotonic();
        let lap = now - self.0;
        self.0 = now;
        lap
    }
}

/// The instant by which an answer is of use.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `within` from now.
    #[must_use]
    pub fn within(within: Duration) -> Self {
        Self(monotonic() + within)
    }

    /// What is left; `None` once it is over.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(monotonic()).filter(|left| !left.is_zero())
    }

    /// The instant, for timers.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }
}
