//! When a batch is done where others wait too: the worker lets issuers take turns, and of each issuer
//! its callers, one payload at a turn.

use std::collections::HashMap;

use crate::admission::Lane;

/// What is left to do of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub(super) lane: Lane,
    /// Payloads; a part of one is under way.
    pub(super) items: f64,
    /// Seconds that each takes.
    pub(super) each: f64,
}

/// What is left to do of several.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    items: f64,
    seconds: f64,
}

impl Work {
    fn and(self, other: Self) -> Self {
        Self { items: self.items + other.items, seconds: self.seconds + other.seconds }
    }

    /// What so many turns do of it.
    fn within(self, turns: f64) -> Self {
        if self.items <= turns {
            return self;
        }
        Self { items: turns, seconds: self.seconds * turns / self.items }
    }
}

impl From<Ahead> for Work {
    fn from(Ahead { items, each, .. }: Ahead) -> Self {
        Self { items, seconds: items * each }
    }
}

/// How many seconds the device signs until the last payload of a further batch.
///
/// Who takes turns with somebody that has `n` to do has had `n` turns when that one is done, or had
/// nothing left to do before.
pub(super) fn time_until_done(ahead: &[Ahead], batch: Ahead) -> f64 {
    let mut issuers: HashMap<u32, HashMap<u32, Work>> = HashMap::new();
    for ahead in ahead {
        let callers = issuers.entry(ahead.lane.issuer).or_default();
        let work = callers.entry(ahead.lane.caller).or_default();
        *work = work.and((*ahead).into());
    }
    let lane = batch.lane;
    let mut ours = issuers.remove(&lane.issuer).unwrap_or_default();
    let own = ours.remove(&lane.caller).unwrap_or_default().and(batch.into());
    let others = ours.values().map(|work| work.within(own.items));
    let of_issuer = others.fold(own, Work::and);
    let of_others = issuers.values().map(|callers| {
        callers.values().copied().fold(Work::default(), Work::and).within(of_issuer.items)
    });
    of_others.fold(of_issuer, Work::and).seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_what_is_ahead_counts_as_far_as_it_takes_turns() {
        let lane = |issuer, caller| Lane { issuer, caller };
        let ahead = |issuer, caller, items| Ahead { lane: lane(issuer, caller), items, each: 1.0 };
        for (what, waits, expected) in [
            ("nothing", vec![], 2.0),
            ("the caller's own, in order of arrival", vec![ahead(0, 0, 100.0)], 102.0),
            ("another caller's, in turns", vec![ahead(0, 1, 100.0)], 4.0),
            ("one that has less to do", vec![ahead(0, 1, 1.0)], 3.0),
            ("two others", vec![ahead(0, 1, 100.0), ahead(0, 2, 100.0)], 6.0),
            ("several batches of one", vec![ahead(0, 1, 1.0), ahead(0, 1, 0.5)], 3.5),
            ("another issuer's", vec![ahead(1, 0, 100.0)], 4.0),
            ("another issuer's callers", vec![ahead(1, 0, 50.0), ahead(1, 1, 50.0)], 4.0),
            ("both", vec![ahead(0, 1, 100.0), ahead(1, 0, 100.0)], 8.0),
        ] {
            let done = time_until_done(&waits, ahead(0, 0, 2.0));
            assert!((done - expected).abs() < 1e-9, "{what}: {done}");
        }
    }
    #[test]
    fn i9_a_turn_takes_as_long_as_the_key_of_who_has_it() {
        let lane = |issuer, caller| Lane { issuer, caller };
        let slow = Ahead { lane: lane(1, 0), items: 100.0, each: 0.3 };
        let fast = Ahead { lane: lane(0, 0), items: 2.0, each: 0.05 };
        let done = time_until_done(&[slow], fast);
        assert!((done - 0.7).abs() < 1e-9, "two turns of each: {done}");
    }
}
