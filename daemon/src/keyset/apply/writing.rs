//! How a keyset is written: one compare-and-swap, shown to requests once it is stored.

use super::{Keeper, desk::Draft};
use crate::{
    clock::{Checkpoint, Clock, Now},
    keyset::{
        Keyset,
        change::{self, Context},
    },
    record::{Entry, Event},
    store::{Change, Store, StoreError},
};

impl<S: Store, C: Clock> Keeper<S, C> {
    /// Reads the clocks of waits.
    pub(super) fn advance(&mut self) {
        self.time.advance(self.clock.reading(), self.serving);
    }

    /// Writes what a step makes of the keyset, and what the record gets to know of it.
    pub(super) async fn swap(
        &mut self,
        change: impl FnOnce(&Keyset, Context<'_>) -> (Keyset, Event),
    ) -> Result<(), StoreError> {
        self.advance();
        let Some(keyset) = &self.keyset else { return Ok(()) };
        let (now, clock): (Now, Checkpoint) = (self.time.now(), self.time.checkpoint());
        let cx = Context { now: &now, clock: &clock, policy: &self.policy };
        let (next, event) = change(keyset, cx);
        self.write(Draft { events: vec![event], ..Draft::from(next) }).await
    }

    /// Writes a draft in one transaction, with the end of every proposal that it makes void.
    pub(super) async fn write(&mut self, draft: Draft) -> Result<(), StoreError> {
        let Draft { keyset, proposals, mut events } = draft;
        let clocks = self.clocks();
        let present = keyset.as_ref().or(self.keyset.as_ref());
        let present = clocks.present(present, &self.policy, &self.desk.quorum);
        let proposals = self.desk.settled(proposals, &mut events, present);
        let note = |event| self.desk.book.entry(clocks.reading, Some(&self.issuer), event);
        let entries: Vec<_> = events.into_iter().map(note).collect();
        let expected = self.keyset.as_ref().map(|keyset| keyset.version);
        let began = self.boot();
        let change = Change {
            issuer: &self.issuer,
            keyset: keyset.as_ref().map(|next| (expected, next)),
            proposals: proposals.as_ref().map(|next| (self.desk.proposals.version, next)),
            entries: &entries,
        };
        self.store.compare_and_swap(change).await?;
        if let Some(proposals) = proposals {
            self.desk.proposals = proposals;
        }
        let Some(next) = keyset else { return Ok(()) };
        (self.show)(&next);
        let before = self.keyset.replace(next);
        // What was just published is counted from here on, not from when it was written.
        self.time.skip(self.clock.reading());
        if self.boot().saturating_sub(began) > change::STOP_MARGIN {
            self.prolong_stops(before).await?;
        }
        Ok(())
    }

    /// Adds to the record alone.
    pub(super) async fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let change = Change { issuer: &self.issuer, keyset: None, proposals: None, entries };
        self.store.compare_and_swap(change).await
    }

    /// A store that took its time let keys sign for longer than their records say (I5).
    async fn prolong_stops(&mut self, before: Option<Keyset>) -> Result<(), StoreError> {
        let (Some(before), Some(keyset)) = (before, &self.keyset) else { return Ok(()) };
        let (now, clock) = (self.time.now(), self.time.checkpoint());
        let cx = Context { now: &now, clock: &clock, policy: &self.policy };
        let Some(next) = change::prolong_stops(&before, keyset, cx) else { return Ok(()) };
        self.store.compare_and_swap(Change::of_keyset(Some(keyset.version), &next)).await?;
        (self.show)(&next);
        self.keyset = Some(next);
        Ok(())
    }

    /// Shows what is stored. Where it is another document than the one before, requests have seen that until now: the
    /// keys that it stops signed on (I5), and what it publishes was not served (I4).
    async fn take_over(&mut self, stored: Keyset) {
        (self.show)(&stored);
        let served = stored.clock.served;
        let version = stored.version;
        let before = self.keyset.replace(stored);
        if before.as_ref().is_some_and(|before| before.version == version) {
            return;
        }
        tracing::warn!(issuer = %self.issuer, version, "a write that was refused is stored all the same");
        self.time.set_back(served);
        self.time.skip(self.clock.reading());
        if let Err(error) = self.prolong_stops(before).await {
            tracing::error!(issuer = %self.issuer, %error, "what a key signed meanwhile is not on record");
        }
    }

    /// Whatever happened, requests see what is stored, never what was only intended. A write that was refused may
    /// be stored all the same, and be seen only once the store can be read again.
    pub(super) async fn store_failed(&mut self, error: &StoreError) {
        tracing::error!(issuer = %self.issuer, %error, "the keyset could not be written");
        self.troubles.store_failed(error, self.boot());
        if let Ok(Some(stored)) = self.store.load(&self.issuer).await {
            self.take_over(stored).await;
        }
        if let Ok(stored) = self.store.proposals(&self.issuer).await {
            self.desk.proposals = stored;
        }
    }
}
