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

/// The keys under suspicion. Kept in memory: a server that is started again begins anew, and finds out
/// anew before it releases anything.
#[derive(Debug, Default)]
pub struct Suspects {
    /// How many there are: nearly always none, and then nothing is locked.
    count: AtomicUsize,
    keys: Mutex<BTreeMap<String, Suspicion>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Suspicion {
    /// Its last signatures, by this worker process of the device, were wrong.
    Once { device: String, start: u64 },
    /// Those of the next process were, too.
    Suspended { device: String },
}

/// What a wrong signature means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A fresh worker gets another chance.
    Again,
    /// The key is suspended.
    Suspended,
}

impl Suspects {
    fn keys(&self) -> MutexGuard<'_, BTreeMap<String, Suspicion>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// The key's signatures by the `start`-th worker process of the device were wrong.
    pub fn wrong(&self, kid: &Kid, device: &str, start: u64) -> Verdict {
        let mut keys = self.keys();
        let device = device.to_owned();
        let next = match keys.get(kid.as_str()) {
            Some(Suspicion::Suspended { .. }) => return Verdict::Suspended,
            // Batches of one process that were under way together tell no more than the first.
            Some(Suspicion::Once { start: before, .. }) if *before >= start => {
                return Verdict::Again;
            }
            Some(Suspicion::Once { .. }) => Suspicion::Suspended { device },
            None => Suspicion::Once { device, start },
        };
        let verdict = match next {
            Suspicion::Once { .. } => Verdict::Again,
            Suspicion::Suspended { .. } => Verdict::Suspended,
        };
        keys.insert(kid.to_string(), next);
        self.count.store(keys.len(), Ordering::Release);
        verdict
    }

    /// The key's signatures by the `start`-th worker process of its device were right.
    pub fn right(&self, kid: &Kid, start: u64) {
        if self.none() {
            return;
        }
        let mut keys = self.keys();
        // What the process that signed wrong also signed right proves nothing.
        if let Some(Suspicion::Once { start: before, .. }) = keys.get(kid.as_str())
            && *before < start
        {
            keys.remove(kid.as_str());
            self.count.store(keys.len(), Ordering::Release);
        }
    }

    /// Whether the key may not sign.
    #[must_use]
    pub fn is_suspended(&self, kid: &Kid) -> bool {
        !self.none() && matches!(self.keys().get(kid.as_str()), Some(Suspicion::Suspended { .. }))
    }

    /// The suspended keys among these, with their devices.
    pub fn suspended<'a>(&self, kids: impl Iterator<Item = &'a Kid>) -> Vec<(String, String)> {
        if self.none() {
            return vec![];
        }
        let keys = self.keys();
        let suspended = kids.filter_map(|kid| match keys.get(kid.as_str()) {
            Some(Suspicion::Suspended { device }) => Some((kid.to_string(), device.clone())),
            _ => None,
        });
        suspended.collect()
    }
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::jwk::PublicJwk;

    use super::*;

    fn kid() -> Kid {
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                      "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
        serde_json::from_str::<PublicJwk>(jwk).expect("a key").kid()
    }

    #[test]
    fn twice_in_a_row_by_two_processes_suspends() {
        let (suspects, kid) = (Suspects::default(), kid());
        assert_eq!(suspects.wrong(&kid, "a", 1), Verdict::Again);
        assert_eq!(suspects.wrong(&kid, "a", 1), Verdict::Again, "the same process");
        suspects.right(&kid, 1);
        assert!(!suspects.is_suspended(&kid));
        assert_eq!(suspects.wrong(&kid, "a", 2), Verdict::Suspended);
        assert!(suspects.is_suspended(&kid));
        suspects.right(&kid, 3);
        assert!(suspects.is_suspended(&kid), "only an operator takes it back");
        assert_eq!(suspects.suspended([&kid].into_iter()), [(kid.to_string(), "a".to_owned())]);
    }

    #[test]
    fn a_fresh_process_that_signs_right_clears_the_key() {
        let (suspects, kid) = (Suspects::default(), kid());
        suspects.wrong(&kid, "a", 1);
        suspects.right(&kid, 2);
        assert_eq!(suspects.wrong(&kid, "a", 2), Verdict::Again, "not in a row");
        assert!(suspects.suspended([&kid].into_iter()).is_empty());
    }
}
