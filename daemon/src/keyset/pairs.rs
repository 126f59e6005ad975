//! Which key pair is whose, across all keysets: a device whose random generator is broken may give one
//! pair to two issuers, and then the tokens of each would verify as the other's.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use mintwarden_worker::{IssuerName, device::KeyHandle, jwk::Kid};

use super::Keyset;

/// The pairs that all issuers of this server have, or had since it started.
#[derive(Clone, Debug, Default)]
pub struct Pairs(Arc<Mutex<HashMap<Kid, Owner>>>);

type Owner = (IssuerName, KeyHandle);

impl Pairs {
    /// Notes all pairs of a stored keyset: before any steward starts, so that none adopts a pair of one
    /// whose keyset is read later.
    pub fn note(&self, keyset: &Keyset) {
        for key in &keyset.keys {
            let Some(kid) = key.kid() else { continue };
            if let Err(other) = self.claim(kid, &keyset.issuer, &key.handle) {
                let issuer = &keyset.issuer;
                tracing::error!(%issuer, %kid, %other, "two issuers have the same key: revoke it");
            }
        }
    }

    /// Claims a pair for the key of `issuer` under `handle`, once or again.
    ///
    /// # Errors
    /// The issuer whose key it is already.
    pub(super) fn claim(
        &self,
        kid: &Kid,
        issuer: &IssuerName,
        handle: &KeyHandle,
    ) -> Result<(), IssuerName> {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match owners.entry(kid.clone()) {
            Entry::Vacant(free) => {
                free.insert((issuer.clone(), handle.clone()));
                Ok(())
            }
            Entry::Occupied(owner) => match owner.get() {
                (other, of) if other == issuer && of == handle => Ok(()),
                (other, _) => Err(other.clone()),
            },
        }
    }
}
