//! Format 1: keys that never rotated. What it does not say is taken at its worst: standbys begin to
//! mature anew, active keys may have signed tokens of the longest life there is.

use mintwarden_worker::{Algorithm, IssuerName, device::KeyHandle};
use serde::Deserialize;

use crate::{
    clock::{Checkpoint, Moment, UnixTime},
    config::MAX_TOKEN_LIFETIME,
    keyset::{self, KeyState, MadeKey, Maturity, Phase, Signatures},
    store::format::format2,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keyset {
    issuer: IssuerName,
    revision: u64,
    phase: Phase,
    keys: Vec<Key>,
    leftovers: Vec<format2::Leftover>,
    leftovers_allowed: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    device: String,
    handle: KeyHandle,
    state: KeyState,
    algorithm: Algorithm,
    created_at: UnixTime,
    changed_at: UnixTime,
    made: Option<MadeKey>,
}

impl From<Keyset> for keyset::Keyset {
    fn from(old: Keyset) -> Self {
        let published = old.phase == Phase::Published;
        let keys = old.keys.into_iter().map(|key| key.now(published)).collect();
        Self {
            issuer: old.issuer,
            version: old.revision,
            revision: old.revision,
            phase: old.phase,
            clock: Checkpoint::default(),
            // The configuration's, however long, is taken over at the start.
            maturity: Maturity { wait: std::time::Duration::ZERO, lowering: None },
            keys,
            leftovers: format2::leftovers(old.leftovers, old.leftovers_allowed),
        }
    }
}

impl Key {
    fn now(self, published: bool) -> keyset::Key {
        let since = Moment { wall: self.changed_at.into(), served: std::time::Duration::ZERO };
        let active = self.state == KeyState::Active;
        keyset::Key {
            state: self.state,
            changed_at: self.changed_at,
            published: (published && self.made.is_some()).then_some(since),
            mature: active,
            activated: active.then_some(since),
            signatures: active
                .then_some(Signatures { max_lifetime: MAX_TOKEN_LIFETIME, stopped: None }),
            made: self.made,
            ..keyset::Key::intended(&self.device, self.handle, self.algorithm, self.created_at)
        }
    }
}
