use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest;

use super::{VerifiedToken, VerifyError};
use crate::clock;

/// The SHA-256 of a `txn`: a remembered transaction costs the same however long its name is.
type TxnHash = [u8; 32];

/// Remembers transactions until their tokens have expired, so that each is used once.
///
/// It sees what passes through this process only: several instances of a workload need a store that they
/// share. A replacement token has the `txn` of the one that it replaces, so it counts as the same.
///
/// Memory is bounded, about 160 bytes for each transaction: beyond the bound a token is refused. None is forgotten
/// before its time, or an attacker could make room for a replay.
pub struct SingleUse {
    capacity: usize,
    /// How long after `exp` the verifier still believes a token, seconds.
    leeway: u64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    transactions: HashSet<TxnHash>,
    by_expiry: BTreeSet<(u64, TxnHash)>,
}

impl SingleUse {
    /// Remembers at most so many transactions at a time; `leeway` is the verifier's.
    pub fn new(capacity: usize, leeway: std::time::Duration) -> Self {
        Self { capacity, leeway: leeway.as_secs(), seen: Mutex::default() }
    }

    /// Uses up the token's transaction. Ask last: a request that is refused for something else has not used it.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Replayed`] where it was used before; [`VerifyError::SingleUseFull`] where there is no
    /// room to remember it; [`VerifyError::ClaimMissing`] or [`VerifyError::ClaimMalformed`] for `txn`.
    pub fn use_up(&self, token: &VerifiedToken) -> Result<(), VerifyError> {
        self.use_up_at(token.text("txn")?, token.expires_at(), clock::numeric_date())
    }

    fn use_up_at(&self, txn: &str, expires_at: u64, now: u64) -> Result<(), VerifyError> {
        let txn = hash(txn);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget_expired(now);
        if seen.transactions.contains(&txn) {
            return Err(VerifyError::Replayed);
        }
        if seen.transactions.len() >= self.capacity {
            return Err(VerifyError::SingleUseFull(self.capacity));
        }
        seen.transactions.insert(txn);
        // A fraction of `exp` was cut off: one second more.
        seen.by_expiry.insert((expires_at.saturating_add(self.leeway).saturating_add(1), txn));
        Ok(())
    }
}

impl Seen {
    fn forget_expired(&mut self, now: u64) {
        while let Some(&(until, txn)) = self.by_expiry.first()
            && until <= now
        {
            self.by_expiry.pop_first();
            self.transactions.remove(&txn);
        }
    }
}

fn hash(txn: &str) -> TxnHash {
    let mut hash = TxnHash::default();
    hash.copy_from_slice(digest::digest(&digest::SHA256, txn.as_bytes()).as_ref());
    hash
}

impl fmt::Debug for SingleUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleUse").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_transaction_is_used_once_until_its_token_has_expired() {
        let single_use = SingleUse::new(10, Duration::from_secs(5));
        single_use.use_up_at("t-1", 100, 50).unwrap();
        single_use.use_up_at("t-2", 100, 50).unwrap();
        for now in [50, 100, 104, 105] {
            assert_eq!(single_use.use_up_at("t-1", 100, now), Err(VerifyError::Replayed), "{now}");
        }
        single_use.use_up_at("t-1", 200, 106).unwrap();
    }

    #[test]
    fn a_longer_replacement_of_the_same_transaction_is_the_same() {
        let single_use = SingleUse::new(10, Duration::ZERO);
        single_use.use_up_at("t-1", 100, 50).unwrap();
        assert_eq!(single_use.use_up_at("t-1", 300, 60), Err(VerifyError::Replayed));
    }

    #[test]
    fn i9_memory_is_bounded_and_nothing_is_forgotten_to_make_room() {
        let single_use = SingleUse::new(3, Duration::ZERO);
        for txn in ["a", "b", "c"] {
            single_use.use_up_at(txn, 100, 50).unwrap();
        }
        assert_eq!(single_use.use_up_at("d", 100, 50), Err(VerifyError::SingleUseFull(3)));
        assert_eq!(single_use.use_up_at("a", 100, 50), Err(VerifyError::Replayed));
        single_use.use_up_at("d", 300, 101).unwrap();
        assert_eq!(single_use.seen.lock().unwrap().transactions.len(), 1);
        assert_eq!(single_use.seen.lock().unwrap().by_expiry.len(), 1);
    }
}
