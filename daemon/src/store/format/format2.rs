//! Format 2: failed attempts were counted for an issuer and not for each of its devices.

use mintwarden_worker::{IssuerName, device::KeyHandle};
use serde::Deserialize;

use crate::{
    clock::{Checkpoint, UnixTime},
    keyset::{self, Key, Maturity, Phase},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keyset {
    issuer: IssuerName,
    version: u64,
    revision: u64,
    phase: Phase,
    clock: Checkpoint,
    maturity: Maturity,
    keys: Vec<Key>,
    leftovers: Vec<Leftover>,
    leftovers_allowed: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leftover {
    device: String,
    handle: KeyHandle,
    reason: String,
    at: UnixTime,
}

impl From<Keyset> for keyset::Keyset {
    fn from(old: Keyset) -> Self {
        Self {
            issuer: old.issuer,
            version: old.version,
            revision: old.revision,
            phase: old.phase,
            clock: old.clock,
            maturity: old.maturity,
            keys: old.keys,
            leftovers: leftovers(old.leftovers, old.leftovers_allowed),
        }
    }
}

/// The last ones, of those that were allowed, still count.
pub(super) fn leftovers(old: Vec<Leftover>, allowed: usize) -> Vec<keyset::Leftover> {
    let settled = allowed.saturating_sub(keyset::Keyset::ATTEMPTS);
    let now = |(place, Leftover { device, handle, reason, at })| keyset::Leftover {
        device,
        handle,
        reason,
        at,
        settled: place < settled,
    };
    old.into_iter().enumerate().map(now).collect()
}
