//! How fast a device signs, and what it still has to do: a batch that cannot be signed within its
//! deadline is refused at once, with the time that it would take, instead of filling a slow device with work
//! that nobody waits for in the end (I9).
//!
//! The rate is measured by the worker, batch by batch, for each kind of key by itself ([`Rate`]). It can only cost
//! what the worker could refuse anyway: the calls of its own device. A rate that is not known yet, or was measured
//! long ago, counts in favour of the batch. While nothing else waits, a batch that the device signs in one go is
//! never refused, and once a minute none is, so that there is always something to measure.

mod queue;
mod rate;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub(super) use rate::Sample;

use mintwarden_worker::{Algorithm, algorithm::RsaBits, jwk::PublicJwk};

use self::{
    queue::{Ahead, time_until_done},
    rate::Rate,
};
use crate::{admission::Lane, clock};

/// Beyond so many open batches, turns are not looked at: what is ahead is all of it.
const MAX_LOOKED_AT: usize = 1024;

/// A batch would take longer than the time that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device would need {takes:.1?} for it")]
pub struct TooSlow {
    /// When it would be done, from now on, with what others have waiting.
    pub takes: Duration,
    /// How long it has to wait for others, until it could be done in the time that it was given; `None`
    /// where it could not even be done alone.
    pub retry_after: Option<Duration>,
    /// How many payloads could be signed in that time now, with a fifth of it to spare.
    pub fits: usize,
}

/// What decides how long a device takes for a signature. There are few, so that what is kept for each is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyKind {
    algorithm: Algorithm,
    rsa_bits: Option<RsaBits>,
}

impl From<&PublicJwk> for KeyKind {
    fn from(key: &PublicJwk) -> Self {
        Self { algorithm: key.algorithm(), rsa_bits: key.rsa_bits() }
    }
}

/// The pace of one device.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    kinds: HashMap<KeyKind, OfKind>,
    next: u64,
    open: HashMap<u64, Open>,
}

/// What is known of one kind of key.
#[derive(Debug, Default)]
struct OfKind {
    rate: Rate,
    /// Payloads of all that is open.
    items: usize,
}

/// A batch that asks for its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks {
    pub(super) lane: Lane,
    pub(super) kind: KeyKind,
    pub(super) items: usize,
    /// The time until its deadline.
    pub(super) left: Duration,
    /// Sessions that the device has.
    pub(super) sessions: u32,
}

/// A batch that the device's worker has not answered.
#[derive(Debug)]
struct Open {
    lane: Lane,
    kind: KeyKind,
    items: usize,
    begun: Instant,
    /// When it should be done, and when the rest of it is dropped.
    done: Instant,
    dropped: Instant,
}

/// A batch that a device has to do, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    pace: Arc<Pace>,
    id: u64,
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a batch.
    ///
    /// # Errors
    /// [`TooSlow`], where it would not be done by its deadline.
    pub(super) fn enter(self: &Arc<Self>, asks: Asks) -> Result<UnderWay, TooSlow> {
        self.enter_at(clock::monotonic(), asks)
    }

    fn enter_at(self: &Arc<Self>, now: Instant, asks: Asks) -> Result<UnderWay, TooSlow> {
        let mut state = self.state();
        let takes = state.takes(now, asks)?;
        let id = state.next;
        state.next += 1;
        let Asks { lane, kind, items, left, .. } = asks;
        let of_kind = state.kinds.entry(kind).or_default();
        of_kind.items += items;
        of_kind.rate.tried(now);
        let open = Open { lane, kind, items, begun: now, done: now + takes, dropped: now + left };
        state.open.insert(id, open);
        Ok(UnderWay { pace: Arc::clone(self), id })
    }

    /// Learns from what a batch took.
    pub(super) fn learn(&self, kind: KeyKind, sample: Sample) {
        self.state().kinds.entry(kind).or_default().rate.learn(sample, clock::monotonic());
    }

    /// Signatures a second that the device gives with all its sessions, as far as measured: with the slowest
    /// kind of key, where it has several.
    pub(super) fn per_second(&self) -> Option<f64> {
        let state = self.state();
        let measured = state.kinds.values().filter_map(|of_kind| of_kind.rate.measured());
        measured.min_by(f64::total_cmp)
    }
}

impl State {
    /// How long a batch takes; refuses it where that is too long.
    fn takes(&self, now: Instant, asks: Asks) -> Result<Duration, TooSlow> {
        let Asks { lane, items, left, .. } = asks;
        let Some(of_kind) = self.kinds.get(&asks.kind) else { return Ok(Duration::ZERO) };
        let Some(rate) = of_kind.rate.at(now) else { return Ok(Duration::ZERO) };
        let time = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(FOREVER).min(FOREVER);
        let alone = count(items) / rate;
        let waiting = self.kinds.iter().map(|(kind, of)| count(of.items) * self.each(*kind, now));
        let all = time(alone + waiting.sum::<f64>());
        let measures = items <= asks.sessions as usize || of_kind.rate.is_untried(now);
        if all <= left || (self.open.is_empty() && measures) || self.open.len() > MAX_LOOKED_AT {
            return Ok(all);
        }
        let ahead = self.ahead(now);
        let done = |items: usize| {
            let own = Ahead { lane, items: count(items), each: 1.0 / rate };
            time(time_until_done(&ahead, own))
        };
        let takes = done(items);
        // Not later by anything: an answer after the deadline is of no use to anybody, not even in part.
        if takes <= left {
            return Ok(takes);
        }
        Err(TooSlow {
            takes,
            retry_after: (time(alone) <= left).then(|| takes - left),
            fits: largest(items, |items| done(items) <= left - left / 5),
        })
    }

    /// Seconds for a signature with a key of this kind; none where that is not known.
    fn each(&self, kind: KeyKind, now: Instant) -> f64 {
        let rate = self.kinds.get(&kind).and_then(|of_kind| of_kind.rate.at(now));
        rate.map_or(0.0, |rate| 1.0 / rate)
    }

    /// What is left to do of all that is open, as far as can be told from here.
    fn ahead(&self, now: Instant) -> Vec<Ahead> {
        let left = |open: &Open| {
            let (whole, past) = (open.done - open.begun, now - open.begun);
            let part = 1.0 - past.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE);
            // One that is late has at least one payload to go, unless nobody waits for it any more.
            let items = if now < open.dropped { (part * count(open.items)).max(1.0) } else { 0.0 };
            Ahead { lane: open.lane, items, each: self.each(open.kind, now) }
        };
        self.open.values().map(left).collect()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        if let Some(open) = state.open.remove(&self.id) {
            state.kinds.entry(open.kind).or_default().items -= open.items;
        }
    }
}

/// Longer than anybody waits; a time that can be added to any other.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn count(items: usize) -> f64 {
    // At most some thousands: exact.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = items as f64;
    count
}

/// The largest number below `most` for which `fits` holds, as it does for all smaller ones; 0 where for
/// none.
fn largest(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fitting, mut beyond) = (0, most);
    while beyond - fitting > 1 {
        let middle = fitting.midpoint(beyond);
        *(if fits(middle) { &mut fitting } else { &mut beyond }) = middle;
    }
    fitting
}

#[cfg(test)]
mod tests;
