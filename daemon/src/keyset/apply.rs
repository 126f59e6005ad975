//! Carries out the steps of a [`plan`](super::plan): each change of the keyset is one
//! compare-and-swap, each call of a device lies between two of them.

use mintwarden_worker::{
    Algorithm, IssuerName,
    device::{DeviceKey, KeyHandle},
};

use super::{
    Key, KeyState, Keyset, Leftover, MadeKey, Phase,
    plan::{Act, Policy, Step, plan},
};
use crate::{
    clock,
    store::{Store, StoreError},
};

/// What keys need of devices.
pub trait KeyOps: Send + Sync {
    /// Length of the handle of a new key in `device`, in bytes: not all devices keep long ones.
    fn handle_bytes(&self, device: &str) -> usize;

    /// Why `device` is known not to be able to make keys for `issuer`; `None` where it can, or does not
    /// say.
    fn lacking(&self, device: &str, issuer: &IssuerName) -> Option<KeyOpsError>;

    /// Makes a key pair for `issuer` under `handle`, and shows it as the device does.
    fn generate(
        &self,
        device: &str,
        issuer: &IssuerName,
        handle: &KeyHandle,
    ) -> impl Future<Output = Result<DeviceKey, KeyOpsError>> + Send;

    /// Shows the key under `handle`; `None` if the device has no object with it.
    fn find(
        &self,
        device: &str,
        handle: &KeyHandle,
    ) -> impl Future<Output = Result<Option<DeviceKey>, KeyOpsError>> + Send;
}

/// Why a device could not make or show a key. Whether a pair exists is then unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {device}: {reason}: {detail}")]
pub struct KeyOpsError {
    /// The device.
    pub device: String,
    /// Stable reason.
    pub reason: String,
    /// For the log and the operator.
    pub detail: String,
}

/// Why a plan could not be carried to its end. The keyset is as the last step left it, and the same
/// plan continues from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The store failed, or somebody else changed the keyset.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A device could not do its part.
    #[error(transparent)]
    Device(#[from] KeyOpsError),
    /// Too many attempts at a key came to nothing.
    #[error("{0} attempts at a key came to nothing; the last: {1}")]
    GivenUp(usize, String),
}

/// Carries out the plan for `keyset` until there is nothing to do; returns the keyset as stored.
///
/// # Errors
/// [`ApplyError`]. Stopping half-way is safe at any point.
pub async fn apply(
    mut keyset: Keyset,
    policy: &Policy,
    store: &impl Store,
    ops: &impl KeyOps,
) -> Result<Keyset, ApplyError> {
    // Every step changes the state that the next plan is made from, so only the first is taken.
    while let Some(step) = plan(&keyset, policy).into_iter().next() {
        let Step { act, reason } = step;
        tracing::info!(issuer = %keyset.issuer, revision = keyset.revision, ?act, reason, "keyset step");
        keyset = match act {
            Act::Settle { device, handle } => settle(keyset, &device, &handle, store, ops).await?,
            Act::Generate { device, algorithm } => {
                generate(keyset, &device, algorithm, store, ops).await?
            }
            Act::PublishFirst => publish_first(keyset, policy, store).await?,
        };
    }
    Ok(keyset)
}

async fn swap(
    store: &impl Store,
    old: &Keyset,
    change: impl FnOnce(&mut Keyset),
) -> Result<Keyset, ApplyError> {
    let next = old.succeed(change);
    store.compare_and_swap(Some(old.revision), &next).await?;
    Ok(next)
}

async fn generate(
    keyset: Keyset,
    device: &str,
    algorithm: Algorithm,
    store: &impl Store,
    ops: &impl KeyOps,
) -> Result<Keyset, ApplyError> {
    if keyset.leftovers.len() >= keyset.leftovers_allowed {
        let last = keyset.leftovers.last().map(|last| last.reason.clone()).unwrap_or_default();
        return Err(ApplyError::GivenUp(keyset.leftovers.len(), last));
    }
    // What cannot come to anything is no attempt: it leaves nothing behind.
    if let Some(lacking) = ops.lacking(device, &keyset.issuer) {
        return Err(lacking.into());
    }
    let handle = fresh_handle(&keyset, ops.handle_bytes(device));
    let now = clock::wall();
    let keyset = swap(store, &keyset, |next| {
        next.keys.push(Key {
            device: device.to_owned(),
            handle: handle.clone(),
            state: KeyState::Generating,
            algorithm,
            created_at: now,
            changed_at: now,
            made: None,
        });
    })
    .await?;
    let found = ops.generate(device, &keyset.issuer, &handle).await?;
    adopt(keyset, device, &handle, Some(found), store).await
}

async fn settle(
    keyset: Keyset,
    device: &str,
    handle: &KeyHandle,
    store: &impl Store,
    ops: &impl KeyOps,
) -> Result<Keyset, ApplyError> {
    let found = ops.find(device, handle).await?;
    adopt(keyset, device, handle, found, store).await
}

/// Adopts a complete, single pair with the right attributes; anything else is given up and kept as a
/// leftover, for the next attempt takes a fresh handle.
async fn adopt(
    keyset: Keyset,
    device: &str,
    handle: &KeyHandle,
    found: Option<DeviceKey>,
    store: &impl Store,
) -> Result<Keyset, ApplyError> {
    let made = fit(&keyset, handle, found);
    if let Err(reason) = &made {
        tracing::error!(issuer = %keyset.issuer, device, ?handle, reason, "a key pair was given up");
    }
    let now = clock::wall();
    swap(store, &keyset, |next| match made {
        Ok(made) => {
            for key in next.keys.iter_mut().filter(|key| key.handle == *handle) {
                key.made = Some(made.clone());
                key.state = KeyState::PreActive;
                key.changed_at = now;
            }
        }
        Err(reason) => {
            next.keys.retain(|key| key.handle != *handle);
            let (device, handle) = (device.to_owned(), handle.clone());
            next.leftovers.push(Leftover { device, handle, reason, at: now });
        }
    })
    .await
}

fn fit(keyset: &Keyset, handle: &KeyHandle, found: Option<DeviceKey>) -> Result<MadeKey, String> {
    let found = found.ok_or("the device shows no object of it")?;
    if !found.defects.is_empty() {
        return Err(found.defects.join("; "));
    }
    if found.handle != *handle || found.issuer.as_ref() != Some(&keyset.issuer) {
        return Err("the device shows another key than the one asked for".into());
    }
    let public = found.public.ok_or("its public key cannot be read")?;
    let asked = keyset.keys.iter().find(|key| key.handle == *handle);
    if asked.is_some_and(|key| key.algorithm != public.algorithm()) {
        return Err("the device shows a key for another algorithm than the one asked for".into());
    }
    let made = MadeKey::from(public);
    if keyset.keys.iter().any(|key| key.made.as_ref().is_some_and(|other| other.kid == made.kid)) {
        return Err("the device gave the same key twice".into());
    }
    Ok(made)
}

async fn publish_first(
    keyset: Keyset,
    policy: &Policy,
    store: &impl Store,
) -> Result<Keyset, ApplyError> {
    let now = clock::wall();
    swap(store, &keyset, |next| {
        next.phase = Phase::Published;
        for device in &policy.devices {
            if let Some(first) = next.keys.iter_mut().find(|key| key.device == *device) {
                first.state = KeyState::Active;
                first.changed_at = now;
            }
        }
    })
    .await
}

/// A random handle that the keyset has not used yet. Where handles are short, other keysets of the same
/// device may have: a device never replaces a key, and the next attempt takes another handle.
fn fresh_handle(keyset: &Keyset, bytes: usize) -> KeyHandle {
    let mut id = vec![0; bytes];
    loop {
        aws_lc_rs::rand::fill(&mut id).expect("the system's random generator works");
        let handle = KeyHandle::new(id.clone());
        let used = keyset.keys.iter().map(|key| &key.handle);
        let mut used = used.chain(keyset.leftovers.iter().map(|leftover| &leftover.handle));
        // All zeros or all ones mean "any" to some devices.
        let reserved = [0, u8::MAX].iter().any(|byte| id.iter().all(|other| other == byte));
        if !reserved && !used.any(|other| *other == handle) {
            return handle;
        }
    }
}

#[cfg(test)]
mod tests;
