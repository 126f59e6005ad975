//! A batch under way: items are signed by whichever session is free, the last one answers.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    clock,
    serve::keys::Key,
    wire::{Answer, Sign, SignItem, SignOutcome, Signed},
};

pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) key: Arc<Key>,
    /// Which of the issuer's callers asks.
    pub(super) caller: u32,
    claims: Vec<Bytes>,
    arrived: Instant,
    expires: Instant,
    queued: OnceLock<Duration>,
    outcomes: Mutex<Outcomes>,
}

struct Outcomes {
    items: Vec<SignItem>,
    open: usize,
    effort: Effort,
}

/// What signatures cost the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effort {
    /// Time in the device's calls.
    pub(super) took: Duration,
    /// Sessions that were signing when each was begun, its own among them.
    pub(super) sessions: u32,
}

impl Batch {
    pub(super) fn new(id: u64, sign: Sign, key: Arc<Key>) -> Self {
        let arrived = clock::monotonic();
        let expires = arrived + Duration::from_millis(sign.within_ms.into());
        let open = sign.claims.len();
        let items = vec![SignItem::default(); open];
        let outcomes = Mutex::new(Outcomes { items, open, effort: Effort::default() });
        let (caller, queued) = (sign.caller, OnceLock::new());
        Self { id, key, caller, claims: sign.claims, arrived, expires, queued, outcomes }
    }

    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    /// Bytes of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.claims.iter().map(Bytes::len).sum()
    }

    pub(super) fn payload(&self, item: usize) -> &[u8] {
        &self.claims[item]
    }

    /// An item's turn has come: whether somebody still waits for the answer.
    pub(super) fn turn_has_come(&self) -> bool {
        let now = clock::monotonic();
        self.queued.get_or_init(|| now - self.arrived);
        now < self.expires
    }

    /// Settles one item, which the queue hands out once, with what it cost. The answer to the batch, if
    /// that was the last.
    pub(super) fn settle(
        &self,
        item: usize,
        outcome: SignOutcome,
        effort: Effort,
    ) -> Option<Answer> {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.items[item].outcome = Some(outcome);
        outcomes.open -= 1;
        outcomes.effort.took += effort.took;
        outcomes.effort.sessions = outcomes.effort.sessions.saturating_add(effort.sessions);
        if outcomes.open > 0 {
            return None;
        }
        Some(Answer::Signed(Signed {
            kid: self.key.kid.to_string(),
            protected_header: self.key.header.encoded().to_owned(),
            items: std::mem::take(&mut outcomes.items),
            queued_us: self.queued.get().copied().map_or(0, micros),
            device_us: micros(outcomes.effort.took),
            sessions_busy: outcomes.effort.sessions.into(),
        }))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
