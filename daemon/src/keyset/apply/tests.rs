//! `apply` against a store and a device that can fail between any two calls. The real store and the
//! real device have their tests in `store` and in the integration tests.

use std::sync::Mutex;

use mintwarden_worker::jwk::PublicJwk;

use super::*;

/// A store in memory, and how many more changes it takes before it fails.
struct Memory {
    stored: Mutex<Option<Keyset>>,
    fuel: Mutex<usize>,
}

impl Store for Memory {
    async fn load(&self, _issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        Ok(self.stored.lock().expect("unpoisoned").clone())
    }

    async fn compare_and_swap(
        &self,
        expected: Option<u64>,
        next: &Keyset,
    ) -> Result<(), StoreError> {
        let mut stored = self.stored.lock().expect("unpoisoned");
        let revision = stored.as_ref().map(|keyset| keyset.revision);
        if revision != expected {
            return Err(StoreError::Conflict {
                issuer: next.issuer.clone(),
                expected,
                stored: revision,
            });
        }
        burn(&self.fuel).map_err(|()| StoreError::Failed("power cut".into()))?;
        *stored = Some(next.clone());
        Ok(())
    }
}

fn burn(fuel: &Mutex<usize>) -> Result<(), ()> {
    let mut fuel = fuel.lock().expect("unpoisoned");
    *fuel = fuel.checked_sub(1).ok_or(())?;
    Ok(())
}

/// A device that makes real keys, and fails before or after making one.
#[derive(Default)]
struct Bench {
    keys: Mutex<Vec<DeviceKey>>,
    fail_before: Mutex<usize>,
    fail_after: Mutex<usize>,
    defect: Option<&'static str>,
    handle_bytes: Option<usize>,
}

fn hit(count: &Mutex<usize>) -> bool {
    burn(count).is_ok()
}

fn fresh_key(issuer: &IssuerName, handle: &KeyHandle) -> DeviceKey {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).expect("the same key");
    DeviceKey {
        handle: handle.clone(),
        issuer: Some(issuer.clone()),
        public: PublicJwk::from_sec1(pair.public_key().as_ref()).ok(),
        defects: vec![],
        unproven: vec![],
    }
}

impl KeyOps for Bench {
    fn handle_bytes(&self, _device: &str) -> usize {
        self.handle_bytes.unwrap_or(KeyHandle::RANDOM_LEN)
    }

    fn lacking(&self, _device: &str, _issuer: &IssuerName) -> Option<KeyOpsError> {
        None
    }

    async fn generate(
        &self,
        device: &str,
        issuer: &IssuerName,
        handle: &KeyHandle,
    ) -> Result<DeviceKey, KeyOpsError> {
        let lost = || KeyOpsError {
            device: device.into(),
            reason: "WORKER_LOST".into(),
            detail: "killed".into(),
        };
        if hit(&self.fail_before) {
            return Err(lost());
        }
        let mut key = fresh_key(issuer, handle);
        key.defects.extend(self.defect.map(str::to_owned));
        self.keys.lock().expect("unpoisoned").push(key.clone());
        if hit(&self.fail_after) { Err(lost()) } else { Ok(key) }
    }

    async fn find(
        &self,
        _device: &str,
        handle: &KeyHandle,
    ) -> Result<Option<DeviceKey>, KeyOpsError> {
        let keys = self.keys.lock().expect("unpoisoned");
        Ok(keys.iter().find(|key| key.handle == *handle).cloned())
    }
}

fn issuer() -> IssuerName {
    IssuerName::parse("payments-tts").expect("a name")
}

fn policy() -> Policy {
    Policy { devices: vec!["a".into(), "b".into()], standbys: 1, algorithm: Algorithm::ES256 }
}

fn memory(fuel: usize) -> Memory {
    Memory { stored: Mutex::new(Some(Keyset::initialising(issuer()))), fuel: Mutex::new(fuel) }
}

/// Runs the plan from what is stored, as a restarted server does, until it ends well.
async fn until_done(store: &Memory, bench: &Bench) -> Keyset {
    for _ in 0..20 {
        let stored = store.load(&issuer()).await.expect("loads").expect("stored");
        if let Ok(keyset) = apply(stored, &policy(), store, bench).await {
            return keyset;
        }
        *store.fuel.lock().expect("unpoisoned") = usize::MAX;
    }
    panic!("the plan does not come to its end");
}

fn assert_complete(keyset: &Keyset) {
    assert_eq!(keyset.phase, Phase::Published);
    for device in ["a", "b"] {
        let states: Vec<_> =
            keyset.keys.iter().filter(|key| key.device == device).map(|key| key.state).collect();
        assert_eq!(states, [KeyState::Active, KeyState::PreActive], "{device}");
    }
    assert_eq!(keyset.published().count(), 4, "no key more, no key less");
}

#[tokio::test]
async fn i8_a_power_cut_at_every_store_write_is_continued_by_the_same_plan() {
    // Four keys at two writes each, and the publication.
    for fuel in 0..9 {
        let (store, bench) = (memory(fuel), Bench::default());
        let stored = store.load(&issuer()).await.expect("loads").expect("stored");
        let cut = apply(stored, &policy(), &store, &bench).await;
        assert!(cut.is_err(), "write {fuel} fails");
        let now = store.load(&issuer()).await.expect("loads").expect("stored");
        assert_eq!(now.published().count(), 0, "nothing is published half-way");
        let keyset = until_done(&store, &bench).await;
        assert_complete(&keyset);
        // A cut after the pair was made and before that was stored costs no second pair.
        assert_eq!(keyset.leftovers, [], "write {fuel}");
        assert_eq!(bench.keys.lock().expect("unpoisoned").len(), 4);
    }
}

#[tokio::test]
async fn i8_a_worker_killed_before_or_after_it_made_a_pair_costs_no_published_key() {
    let bench = Bench { fail_after: Mutex::new(1), ..Bench::default() };
    let store = memory(usize::MAX);
    assert_complete(&until_done(&store, &bench).await);
    assert_eq!(
        bench.keys.lock().expect("unpoisoned").len(),
        4,
        "the pair was adopted, not made again"
    );

    let bench = Bench { fail_before: Mutex::new(1), ..Bench::default() };
    let store = memory(usize::MAX);
    let keyset = until_done(&store, &bench).await;
    assert_complete(&keyset);
    // I7: what may have been left behind is remembered, under a handle that is never used again.
    assert_eq!(keyset.leftovers.len(), 1);
    assert!(keyset.keys.iter().all(|key| key.handle != keyset.leftovers[0].handle));
}

#[tokio::test]
async fn i1_a_pair_with_a_defect_is_never_adopted_and_attempts_are_bounded() {
    let bench = Bench { defect: Some("CKA_EXTRACTABLE is true"), ..Bench::default() };
    let store = memory(usize::MAX);
    let stored = store.load(&issuer()).await.expect("loads").expect("stored");
    let error = apply(stored, &policy(), &store, &bench).await.expect_err("given up");
    assert!(
        matches!(&error, ApplyError::GivenUp(5, last) if last.contains("CKA_EXTRACTABLE")),
        "{error}"
    );
    let now = store.load(&issuer()).await.expect("loads").expect("stored");
    assert_eq!(now.published().count(), 0);
    assert_eq!(now.leftovers.len(), 5);
    // A hundred restarts make no further attempt.
    let again = apply(now, &policy(), &store, &bench).await;
    assert!(matches!(again, Err(ApplyError::GivenUp(5, _))));
    assert_eq!(bench.keys.lock().expect("unpoisoned").len(), 5);
}

#[tokio::test]
async fn i8_somebody_elses_change_stops_the_plan() {
    let (store, bench) = (memory(usize::MAX), Bench::default());
    let stale = Keyset::initialising(issuer());
    let newer = stale.succeed(|_| {});
    store.compare_and_swap(Some(1), &newer).await.expect("stored");
    let error = apply(stale, &policy(), &store, &bench).await.expect_err("stale");
    assert!(matches!(error, ApplyError::Store(StoreError::Conflict { .. })), "{error}");
    assert_eq!(bench.keys.lock().expect("unpoisoned").len(), 0, "no key without a recorded intent");
}

#[tokio::test]
async fn handles_are_as_long_as_the_device_keeps_them_and_never_used_twice() {
    let bench = Bench { handle_bytes: Some(2), ..Bench::default() };
    let store = memory(usize::MAX);
    let keyset = until_done(&store, &bench).await;
    assert_complete(&keyset);
    assert!(keyset.keys.iter().all(|key| key.handle.as_bytes().len() == 2));
    // With one byte there are 254 handles; fewer are free the more there are keys.
    let mut crowded = keyset.clone();
    let one = |byte| Key { handle: KeyHandle::new(vec![byte]), ..keyset.keys[0].clone() };
    crowded.keys = (1..=253).map(one).collect();
    assert_eq!(fresh_handle(&crowded, 1), KeyHandle::new(vec![254]));
}
