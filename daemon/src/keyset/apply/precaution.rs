//! What the appliance does of its own accord: stored before anything else is done, too.

use super::{Keeper, desk::Draft, stepped};
use crate::{
    clock::Clock,
    keyset::{
        change::Context,
        precaution::{Precaution, decide},
    },
    store::Store,
};

impl<S: Store, C: Clock> Keeper<S, C> {
    /// Takes a precaution, in one compare-and-swap. Where the store fails it has to be taken again.
    pub async fn take_precaution(&mut self, taken: &Precaution) {
        if self.troubles.store_waits(self.boot()) {
            return;
        }
        let now = self.time.advance(self.clock.reading(), self.serving);
        let clock = self.time.checkpoint();
        let cx = Context { now: &now, clock: &clock, policy: &self.policy };
        let next = self.keyset.as_ref().and_then(|keyset| decide(keyset, taken, cx));
        let Some(next) = next else { return };
        tracing::error!(issuer = %self.issuer, revision = next.revision, precaution = %taken, "a precaution");
        let Precaution::SuspendWrongSigner(kid) = taken;
        let event = stepped("suspend", vec![kid.to_string()], taken.to_string());
        match self.write(Draft { events: vec![event], ..Draft::from(next) }).await {
            Ok(()) => self.troubles.store_is_well(),
            Err(error) => self.store_failed(&error).await,
        }
    }
}
