//! Keys that signed wrong. A signature that does not verify is never released; once costs the worker
//! that made it, and again, by a fresh worker, suspends the key.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use mintwarden_worker::jwk::Kid;
use tokio::sync::Notify;

/// The active keys of an issuer that are under suspicion. A condemned one signs no more from that
/// instant on; that it is suspended is then stored in the keyset. A first wrong signature is kept in
/// memory alone: a server that is started again begins anew, and releases nothing wrong either.
#[derive(Debug, Default)]
pub struct Suspects {
    /// How many there are: nearly always none, and then nothing is locked.
    count: AtomicUsize,
    keys: Mutex<BTreeMap<Kid, Suspicion>>,
    condemned: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    /// Its last signatures, by this worker process of its device, were wrong.
    Once { start: u64 },
    /// Those of the next process were, too.
    Condemned,
}

/// What a wrong signature means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A fresh worker gets another chance.
    Again,
    /// The key is to be suspended.
    Suspend,
}

impl Suspects {
    fn keys(&self) -> MutexGuard<'_, BTreeMap<Kid, Suspicion>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<Kid, Suspicion>) -> T) -> T {
        let mut keys = self.keys();
        let result = change(&mut keys);
        self.count.store(keys.len(), Ordering::Release);
        result
    }

    fn none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// The key's signatures by the `start`-th worker process of its device were wrong.
    pub(super) fn wrong(&self, kid: &Kid, start: u64) -> Verdict {
        let verdict = self.change(|keys| match keys.get(kid) {
            // Batches of one process that were under way together tell no more than the first.
            Some(Suspicion::Once { start: before }) if *before >= start => Verdict::Again,
            Some(_) => {
                keys.insert(kid.clone(), Suspicion::Condemned);
                Verdict::Suspend
            }
            None => {
                keys.insert(kid.clone(), Suspicion::Once { start });
                Verdict::Again
            }
        });
        if verdict == Verdict::Suspend {
            self.condemned.notify_one();
        }
        verdict
    }

    /// The key's signatures by the `start`-th worker process of its device were right.
    pub(super) fn right(&self, kid: &Kid, start: u64) {
        if self.none() {
            return;
        }
        self.change(|keys| {
            // What the process that signed wrong also signed right proves nothing.
            let cleared = |suspicion: &Suspicion| matches!(suspicion, Suspicion::Once { start: before } if *before < start);
            if keys.get(kid).is_some_and(cleared) {
                keys.remove(kid);
            }
        });
    }

    /// Whether the key may not sign any more, though the keyset may not say so yet.
    #[must_use]
    pub fn is_condemned(&self, kid: &Kid) -> bool {
        !self.none() && self.keys().get(kid) == Some(&Suspicion::Condemned)
    }

    /// The keys that are to be suspended.
    pub(super) fn condemned(&self) -> Vec<Kid> {
        if self.none() {
            return vec![];
        }
        let keys = self.keys();
        let condemned = keys.iter().filter(|(_, suspicion)| **suspicion == Suspicion::Condemned);
        condemned.map(|(kid, _)| kid.clone()).collect()
    }

    /// Returns when a key was condemned since the last time.
    pub(super) async fn until_condemned(&self) {
        self.condemned.notified().await;
    }

    /// Forgets all but these keys: a suspicion lasts as long as its key is active.
    pub(super) fn retain(&self, active: impl Fn(&Kid) -> bool) {
        if !self.none() {
            self.change(|keys| keys.retain(|kid, _| active(kid)));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use mintwarden_worker::jwk::PublicJwk;

    use super::*;

    fn kid() -> Kid {
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                      "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
        serde_json::from_str::<PublicJwk>(jwk).expect("a key").kid()
    }

    #[test]
    fn twice_in_a_row_by_two_processes_condemns() {
        let (suspects, kid) = (Suspects::default(), kid());
        assert_eq!(suspects.wrong(&kid, 1), Verdict::Again);
        assert_eq!(suspects.wrong(&kid, 1), Verdict::Again, "the same process");
        suspects.right(&kid, 1);
        assert!(!suspects.is_condemned(&kid));
        assert!(suspects.until_condemned().now_or_never().is_none());
        assert_eq!(suspects.wrong(&kid, 2), Verdict::Suspend);
        assert!(suspects.is_condemned(&kid));
        suspects.right(&kid, 3);
        assert_eq!(suspects.condemned(), std::slice::from_ref(&kid), "nothing takes it back");
        assert!(suspects.until_condemned().now_or_never().is_some(), "it is told");
        suspects.retain(|_| false);
        assert!(!suspects.is_condemned(&kid), "the keyset says it by now");
        assert_eq!(suspects.wrong(&kid, 4), Verdict::Again, "resumed, it begins anew");
    }

    #[test]
    fn a_fresh_process_that_signs_right_clears_the_key() {
        let (suspects, kid) = (Suspects::default(), kid());
        suspects.wrong(&kid, 1);
        suspects.right(&kid, 2);
        assert_eq!(suspects.wrong(&kid, 2), Verdict::Again, "not in a row");
        assert!(suspects.condemned().is_empty());
    }
}
