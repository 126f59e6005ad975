//! The latest that the wall clock has shown since some time: it may have been set back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Moment, WallTime};

/// So many are told from each other. Each but the last is a time at which the clock was set back.
const KEPT: usize = 4;

/// What the wall clock has shown at its latest, for each time since when it is asked.
///
/// Each of these moments is later by the credit than the one before it, and earlier by the wall clock: the
/// clock was set back in between. Of a clock that always went forward there is one, the present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Peaks([Option<Moment>; KEPT]);

impl Peaks {
    /// The clocks were seen at `seen`, later than before by the credit. Where the clock was set back more
    /// often than is kept, what it showed counts for longer than it did, never for less.
    pub(super) fn note(&mut self, seen: Moment) {
        let higher = self.0.iter().flatten().take_while(|peak| peak.wall > seen.wall).count();
        self.0[higher.min(KEPT)..].fill(None);
        match self.0.get_mut(higher) {
            Some(free) => *free = Some(seen),
            None => {
                let [.., Some(last)] = &mut self.0 else { return };
                last.served = seen.served;
            }
        }
    }

    /// The latest since this credit was reached.
    #[must_use]
    pub fn since(&self, served: Duration) -> WallTime {
        let since = self.0.iter().flatten().find(|peak| peak.served >= served);
        since.or(self.0.iter().flatten().last()).map_or_else(WallTime::default, |peak| peak.wall)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment(wall: i64, served: u64) -> Moment {
        Moment { wall: WallTime(wall), served: Duration::from_millis(served) }
    }

    proptest! {
        /// Against all readings that there were.
        #[test]
        fn i5_what_the_clock_has_shown_is_never_said_to_be_less(
            seen in prop::collection::vec((-1000_i64..1000, 0_u64..3), 1..40),
        ) {
            let (mut peaks, mut all, mut served) = (Peaks::default(), vec![], 0);
            for (wall, more) in seen {
                served += more;
                peaks.note(moment(wall, served));
                all.push((served, wall));
            }
            let set_back = all.windows(2).filter(|pair| pair[1].1 < pair[0].1).count();
            for since in 0..=served {
                let shown = all.iter().filter(|(at, _)| *at >= since).map(|(_, wall)| *wall).max();
                let (said, shown) = (peaks.since(Duration::from_millis(since)).0, shown.unwrap());
                prop_assert!(said >= shown, "{said} for {shown} since {since}");
                prop_assert!(set_back >= KEPT || said == shown, "{said} for {shown} since {since}");
            }
        }
    }
}
