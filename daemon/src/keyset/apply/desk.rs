//! What a keeper has beside the keyset: proposals, who decides them, and what the record gets to know.

use std::time::Duration;

use super::Keeper;
use crate::{
    clock::{Checkpoint, Clock, Lapse, Now, Reading},
    keyset::{
        Keyset, Policy,
        change::Context,
        proposal::{Present, Proposals, Quorum},
    },
    record::{Book, Event},
    store::{Store, StoreError},
};

/// How much of what has passed a crash may lose, while a proposal is open.
const CHECKPOINT: Duration = Duration::from_secs(60);

/// The proposals as stored, and who decides them.
pub(super) struct Desk {
    pub(super) quorum: Quorum,
    pub(super) book: Book,
    pub(super) proposals: Proposals,
}

/// What is to be written together.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) keyset: Option<Keyset>,
    pub(super) proposals: Option<Proposals>,
    pub(super) events: Vec<Event>,
}

impl From<Keyset> for Draft {
    fn from(next: Keyset) -> Self {
        Self { keyset: Some(next), ..Self::default() }
    }
}

/// The present, in each shape in which it is needed.
pub(super) struct Clocks {
    pub(super) reading: Reading,
    pub(super) now: Now,
    pub(super) clock: Checkpoint,
    lapse: Lapse,
}

impl Clocks {
    pub(super) fn present<'a>(
        &'a self,
        keyset: Option<&'a Keyset>,
        policy: &'a Policy,
        quorum: &'a Quorum,
    ) -> Present<'a> {
        let cx = Context { now: &self.now, clock: &self.clock, policy };
        Present { keyset, cx, wall: self.reading.wall, lapse: &self.lapse, quorum }
    }
}

impl Desk {
    pub(super) fn new(proposals: Proposals) -> Self {
        Self { quorum: Quorum::default(), book: Book::of_digest(""), proposals }
    }

    /// The proposals to be written: those of a draft, or those that are there where time or the keyset
    /// has ended some of them.
    pub(super) fn settled(
        &self,
        draft: Option<Proposals>,
        events: &mut Vec<Event>,
        present: Present<'_>,
    ) -> Option<Proposals> {
        if draft.is_none() && !self.is_due(present) {
            return None;
        }
        let mut next = draft.unwrap_or_else(|| self.proposals.clone());
        events.extend(next.settle(present));
        next.version = self.proposals.version + 1;
        next.lapse = present.lapse.clone();
        Some(next)
    }

    fn is_due(&self, present: Present<'_>) -> bool {
        let passed = present.lapse.elapsed.saturating_sub(self.proposals.lapse.elapsed);
        !self.proposals.open.is_empty()
            && (passed >= CHECKPOINT || !self.proposals.is_settled(present))
    }
}

impl<S: Store, C: Clock> Keeper<S, C> {
    /// The same keeper with those who decide its proposals, and for a record. Without, nobody does.
    #[must_use]
    pub fn staffed(mut self, quorum: Quorum, book: Book) -> Self {
        self.desk = Desk { quorum, book, ..self.desk };
        self
    }

    /// The proposals as stored.
    #[must_use]
    pub fn proposals(&self) -> &Proposals {
        &self.desk.proposals
    }

    /// The present, as of the last time that the clocks of waits were advanced.
    pub(super) fn clocks(&self) -> Clocks {
        let (reading, boot_id) = (self.clock.reading(), self.clock.boot_id());
        let lapse = match &self.desk.proposals {
            Proposals { version: 0, .. } => Lapse::start(reading, boot_id),
            proposals => proposals.lapse.at(reading, &boot_id),
        };
        Clocks { reading, now: self.time.now(), clock: self.time.checkpoint(), lapse }
    }

    /// Ends the proposals that are over.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
        if self.desk.proposals.open.is_empty() {
            return Ok(());
        }
        let clocks = self.clocks();
        let present = clocks.present(self.keyset.as_ref(), &self.policy, &self.desk.quorum);
        if self.desk.is_due(present) { self.write(Draft::default()).await } else { Ok(()) }
    }
}
