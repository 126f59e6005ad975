//! Acts of custodians: decided and stored before anything else is done.

use mintwarden_worker::{device::DeviceKey, jwk::PublicJwk};

use super::{Keeper, KeyOps, KeyOpsError};
use crate::{
    clock::Clock,
    keyset::{
        Keyset, Phase,
        act::{self, CustodianAct, Refusal},
        change::Context,
        plan::Obstacle,
        proposal::ProposalRefusal,
    },
    store::{Store, StoreError},
};

/// Why a custodian's act was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was said about a proposal is refused.
    #[error(transparent)]
    Proposal(#[from] ProposalRefusal),
    /// The store failed; whether the act was stored is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A device could not be asked.
    #[error(transparent)]
    Device(#[from] KeyOpsError),
}

impl<S: Store, C: Clock> Keeper<S, C> {
    /// Carries out an act, whoever asks for it: for tests of what acts do.
    ///
    /// # Errors
    /// [`OrderError`]; nothing has changed, unless the store failed.
    #[cfg(test)]
    pub async fn order(
        &mut self,
        act: &CustodianAct,
        reason: &str,
        ops: &impl KeyOps,
    ) -> Result<(), OrderError> {
        let next = self.decide(act, reason, ops).await?;
        if let Err(error) = self.carry_out(next.into()).await {
            self.store_failed(&error).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// What an act makes of the keyset. Nothing is stored yet.
    pub(super) async fn decide(
        &mut self,
        act: &CustodianAct,
        reason: &str,
        ops: &impl KeyOps,
    ) -> Result<Keyset, OrderError> {
        let shown = match act {
            // Devices may hang: only a keyset that could be recovered has them asked.
            CustodianAct::Recover { .. } if !self.is_sound() => self.look_everywhere(ops).await?,
            _ => vec![],
        };
        self.advance();
        let (now, clock) = (self.time.now(), self.time.checkpoint());
        let cx = Context { now: &now, clock: &clock, policy: &self.policy };
        let keyset = self.keyset.as_ref();
        Ok(match act {
            CustodianAct::Init => act::init(keyset, &self.issuer, cx)?,
            CustodianAct::Recover { danger_immature } => {
                act::recover(keyset, &self.issuer, &shown, *danger_immature, cx)?
            }
            act => act::decide(keyset, act, reason, cx)?,
        })
    }

    /// Why the first keys are not made although a custodian said `init`: a device holds keys of the
    /// issuer already, so that it has published before.
    #[must_use]
    pub fn init_refused(&self) -> Option<Refusal> {
        let keyset = self.keyset.as_ref().filter(|k| k.phase == Phase::Initialising)?;
        let (device, _) = self.view.unnamed(keyset).next()?;
        Some(Refusal::KeysInDevice(device.to_owned()))
    }

    /// Why no key is made until a person acts.
    #[must_use]
    pub fn given_up(&self) -> Option<Obstacle> {
        let keyset = self.keyset.as_ref()?;
        self.policy.devices.iter().find_map(|device| Obstacle::of(keyset, device))
    }

    /// Whether there is nothing to recover, whatever devices show.
    fn is_sound(&self) -> bool {
        self.keyset.as_ref().is_some_and(|keyset| keyset.phase == Phase::Published)
    }

    /// Whether no other key is of the same pair: what verifies as two issuers' is not recovered.
    fn is_its_own(&self, key: &DeviceKey) -> bool {
        let kid = key.public.as_ref().map(PublicJwk::kid);
        let claimed = kid.map(|kid| self.pairs.claim(&kid, &self.issuer, &key.handle));
        claimed.is_none_or(|claimed| claimed.is_ok())
    }

    async fn look_everywhere(
        &mut self,
        ops: &impl KeyOps,
    ) -> Result<Vec<(String, Vec<DeviceKey>)>, KeyOpsError> {
        let mut shown = Vec::new();
        for device in self.devices() {
            let mut keys = ops.list(&device, &self.issuer).await?;
            self.view.set_usable(&device, true);
            self.view.listed(&device, &keys);
            let recorded = |key: &DeviceKey| {
                self.keyset.as_ref().is_some_and(|keyset| keyset.names(&device, &key.handle))
            };
            keys.retain(|key| !recorded(key) || self.is_its_own(key));
            for key in keys.iter_mut().filter(|key| !recorded(key)) {
                self.claim(key);
            }
            shown.push((device, keys));
        }
        Ok(shown)
    }
}
