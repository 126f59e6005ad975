use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use mintwarden_worker::{
    Algorithm, IssuerName,
    algorithm::KeyType,
    device::{DeviceKey, KeyHandle},
    jwk::{Kid, PublicJwk},
};

use crate::keyset::apply::{KeyOps, KeyOpsError, Readiness};

/// What goes wrong with a device, for its next call if nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keyset) enum Mishap {
    /// It is lost before the device did anything.
    Before,
    /// It is lost after the device did it.
    After,
    /// Every pair that it makes has a defect, until it is mended.
    Defect,
    /// Every pair that it makes is the one that it made before, until it is mended.
    Twin,
}

impl Mishap {
    /// Whether it is about the pairs that are made, and stays.
    fn spoils(self) -> bool {
        matches!(self, Self::Defect | Self::Twin)
    }
}

/// Devices that make real public keys.
#[derive(Clone, Default)]
pub(in crate::keyset) struct Devices(Arc<Mutex<Inner>>);

#[derive(Default)]
pub(in crate::keyset) struct Inner {
    pub(in crate::keyset) devices: BTreeMap<String, Sim>,
    /// How many keys were ever made.
    pub(in crate::keyset) made: usize,
}

/// One device.
#[derive(Default)]
pub(in crate::keyset) struct Sim {
    pub(in crate::keyset) down: bool,
    pub(in crate::keyset) starts: u64,
    pub(in crate::keyset) keys: BTreeMap<KeyHandle, DeviceKey>,
    pub(in crate::keyset) mishap: Option<Mishap>,
    /// So many calls go well before the mishap.
    pub(in crate::keyset) mishap_after: usize,
    /// Keys that it does not show for now.
    away: BTreeMap<KeyHandle, DeviceKey>,
    /// How long its handles are, where that is not usual.
    pub(in crate::keyset) handle_bytes: Option<usize>,
    /// Handles of the pairs that were destroyed on demand.
    pub(in crate::keyset) destroyed: Vec<KeyHandle>,
}

/// Making a key is slow; every world has the same ones.
fn public(number: usize, algorithm: Algorithm) -> PublicJwk {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };
    static KEYS: Mutex<Vec<PublicJwk>> = Mutex::new(vec![]);
    if algorithm.key_type() == KeyType::Rsa {
        // Any odd number of that size will do: nothing is verified with it.
        let mut modulus = [0xff; 256];
        modulus[1..9].copy_from_slice(&number.to_be_bytes());
        return PublicJwk::from_rsa(algorithm, &modulus, &[1, 0, 1]).expect("a public key");
    }
    let mut keys = KEYS.lock().expect("unpoisoned");
    while keys.len() <= number {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).expect("the same key");
        keys.push(PublicJwk::from_sec1(pair.public_key().as_ref()).expect("a public key"));
    }
    keys[number].clone()
}

impl Devices {
    pub(in crate::keyset) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("unpoisoned")
    }

    /// Changes one device.
    pub(in crate::keyset) fn with<T>(&self, device: &str, change: impl FnOnce(&mut Sim) -> T) -> T {
        change(self.lock().devices.entry(device.to_owned()).or_default())
    }

    /// All pairs that these devices show.
    pub(super) fn kids(&self, devices: &[String]) -> BTreeSet<Kid> {
        let inner = self.lock();
        let shown = devices.iter().filter_map(|device| inner.devices.get(device));
        let pairs = shown.flat_map(|sim| sim.keys.values()).filter_map(|key| key.public.as_ref());
        pairs.map(PublicJwk::kid).collect()
    }

    /// The device does not show its keys any more, or shows them again.
    pub(in crate::keyset) fn show(&self, device: &str, shown: bool) {
        self.with(device, |sim| {
            let (from, to) = match shown {
                false => (&mut sim.keys, &mut sim.away),
                true => (&mut sim.away, &mut sim.keys),
            };
            to.append(from);
            sim.starts += 1;
        });
    }

    fn call<T>(
        &self,
        device: &str,
        makes: bool,
        work: impl FnOnce(&mut Inner, Option<Mishap>) -> T,
    ) -> Result<T, KeyOpsError> {
        let lost = |reason: &str| KeyOpsError {
            device: device.into(),
            reason: reason.into(),
            detail: "simulated".into(),
        };
        let mut inner = self.lock();
        let sim = inner.devices.entry(device.to_owned()).or_default();
        if sim.down {
            return Err(lost("DEVICE_DOWN"));
        }
        let mut mishap = sim.mishap.filter(|mishap| makes || !mishap.spoils());
        if mishap.is_some_and(|mishap| !mishap.spoils()) {
            match sim.mishap_after.checked_sub(1) {
                Some(left) => {
                    sim.mishap_after = left;
                    mishap = None;
                }
                None => {
                    sim.mishap = None;
                    sim.starts += 1;
                }
            }
        }
        if mishap == Some(Mishap::Before) {
            return Err(lost("WORKER_LOST"));
        }
        let done = work(&mut inner, mishap);
        if mishap == Some(Mishap::After) { Err(lost("WORKER_LOST")) } else { Ok(done) }
    }
}

impl Inner {
    fn sim(&mut self, device: &str) -> &mut Sim {
        self.devices.get_mut(device).expect("called just now")
    }
}

impl KeyOps for Devices {
    fn readiness(&self, device: &str) -> Readiness {
        self.with(device, |sim| match sim.down {
            false => Readiness::Ready(sim.starts),
            true => Readiness::Down("simulated".into()),
        })
    }

    fn handle_bytes(&self, device: &str) -> usize {
        self.with(device, |sim| sim.handle_bytes.unwrap_or(KeyHandle::RANDOM_LEN))
    }

    fn lacking(&self, _device: &str, _issuer: &IssuerName) -> Option<KeyOpsError> {
        None
    }

    async fn generate(
        &self,
        device: &str,
        issuer: &IssuerName,
        algorithm: Algorithm,
        handle: &KeyHandle,
    ) -> Result<DeviceKey, KeyOpsError> {
        self.call(device, true, |inner, mishap| {
            let defect = (mishap == Some(Mishap::Defect)).then(|| "CKA_EXTRACTABLE is true".into());
            let twin = mishap == Some(Mishap::Twin);
            let number = inner.made.saturating_sub(usize::from(twin));
            let key = DeviceKey {
                handle: handle.clone(),
                issuer: Some(issuer.clone()),
                public: Some(public(number, algorithm)),
                defects: defect.into_iter().collect(),
                wrapped: None,
                unproven: vec![],
            };
            inner.made += usize::from(!twin);
            let before = inner.sim(device).keys.insert(handle.clone(), key.clone());
            assert_eq!(before, None, "creating never replaces (I7)");
            key
        })
    }

    async fn find(
        &self,
        device: &str,
        handle: &KeyHandle,
    ) -> Result<Option<DeviceKey>, KeyOpsError> {
        self.call(device, false, |inner, _| inner.sim(device).keys.get(handle).cloned())
    }

    async fn list(
        &self,
        device: &str,
        _issuer: &IssuerName,
    ) -> Result<Vec<DeviceKey>, KeyOpsError> {
        self.call(device, false, |inner, _| inner.sim(device).keys.values().cloned().collect())
    }

    async fn destroy(
        &self,
        device: &str,
        _issuer: &IssuerName,
        handle: &KeyHandle,
    ) -> Result<bool, KeyOpsError> {
        self.call(device, false, |inner, _| {
            let sim = inner.sim(device);
            sim.destroyed.push(handle.clone());
            sim.keys.remove(handle).is_some()
        })
    }
}
