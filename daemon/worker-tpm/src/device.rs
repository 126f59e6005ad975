//! A TPM as a [`Device`].

mod bound;
mod generate;
mod look;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mintwarden_attestation::{Challenge, Residence, TpmEvidence};
use mintwarden_hsm_config::device::{self as config, DeviceKind};
use mintwarden_worker::{
    Algorithm, IssuerName, KeySpec,
    device::{
        self, Cause, Description, Device, DeviceError, DeviceKey, KeptKey, KeyHandle, Remedy,
        Support,
    },
    finding::Finding,
    label::Label,
    login::Ledger,
    setup::Setup,
};

use crate::{
    attest,
    connection::{Connection, Proof},
    destroyed::Destroyed,
    examine::{self, State},
    fault::fault,
    kept::Kept,
    parent::Parent,
    pcr::{Pcrs, Way},
    properties::Properties,
    secret::DeviceSecret,
    session::SigningSession,
    support::Supported,
    wrapped::TpmKey,
};

/// A TPM that this process uses.
#[derive(Debug)]
pub struct TpmDevice {
    tpm: Arc<Mutex<Tpm>>,
    resume: bool,
}

/// The one connection, and the keys that are kept for it.
#[derive(Debug)]
pub(crate) struct Tpm {
    config: config::Tpm,
    /// What issuers' keys here sign with.
    algorithms: Vec<Algorithm>,
    secret: DeviceSecret,
    ledger: Ledger,
    parent: Parent,
    /// `None` after an error that cost it; opened again at the next use.
    connection: Option<Connection>,
    properties: Properties,
    supported: Supported,
    kept: Kept,
    /// Those of the keyset and the worker's own.
    keys: BTreeMap<KeyHandle, KeptKey>,
    destroyed: Destroyed,
    /// Keys that have taken their authorisation value.
    proven: HashSet<KeyHandle>,
    /// The state of the machine that keys are bound to, where the configuration says so.
    pcrs: Option<Pcrs>,
    /// How the policies of keys that are bound to one were satisfied last.
    ways: HashMap<KeyHandle, Way>,
}

impl TpmDevice {
    /// Reads the device secret, opens the way to the TPM, and finds or makes the storage key. Whether the
    /// secret is the right one, only keys can tell: that is seen when they are listed.
    ///
    /// # Errors
    /// - [`Cause::PinUnavailable`], [`Cause::StateUnusable`], [`Cause::TpmUnreachable`];
    /// - [`Cause::LoginPending`]: the TPM refused the secret before (I10);
    /// - [`Cause::ParentMismatch`], [`Cause::PcrMismatch`], [`Cause::PcrUnusable`];
    /// - others as the TPM gives them.
    pub fn open(setup: &Setup, seen: &mut Vec<Finding>) -> Result<Self, DeviceError> {
        let DeviceKind::Tpm(config) = &setup.device.kind else {
            let detail = format!("device {} is no TPM", setup.device.name);
            return Err(DeviceError::new(Cause::TpmUnreachable, Remedy::Park, detail));
        };
        let ledger = Ledger::open(&setup.state_dir, setup.device.name.clone())?;
        let destroyed = Destroyed::open(&setup.state_dir)?;
        let mut kept = Kept::open(&setup.state_dir)?;
        // Where the power went in between.
        kept.remove_all(|handle| destroyed.contains(handle))?;
        let secret = DeviceSecret::read(&config.secret)?;
        ledger.begin_uncounted(secret.as_pin(), setup.resume)?;
        let mut parent = Parent::open(&setup.device.name, &setup.state_dir)?;
        let mut connection = Connection::open(config, &mut parent, setup.resume)?;
        let properties = Properties::read(connection.context())?;
        let algorithms: Vec<_> =
            setup.profiles.iter().map(|profile| profile.key.algorithm()).collect();
        seen.extend(examine::identity(&properties, &algorithms));
        let supported = Supported::read(connection.context())?;
        for profile in &setup.profiles {
            seen.push(Finding::of_support(&profile.issuer, &supported.support(profile.key)));
        }
        let pcrs = config.pcrs.as_ref();
        let pcrs = pcrs.map(|pcrs| Pcrs::open(pcrs, &setup.device.name, &setup.state_dir));
        let mut tpm = Tpm {
            config: config.clone(),
            algorithms,
            secret,
            ledger,
            parent,
            connection: Some(connection),
            properties,
            supported,
            keys: kept.with(vec![]),
            kept,
            destroyed,
            proven: HashSet::new(),
            pcrs: pcrs.transpose()?,
            ways: HashMap::new(),
        };
        tpm.accept_state(setup.resume)?;
        seen.extend(tpm.pcr_findings()?);
        Ok(Self { tpm: Arc::new(Mutex::new(tpm)), resume: setup.resume })
    }

    fn lock(&self) -> MutexGuard<'_, Tpm> {
        self.tpm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for TpmDevice {
    fn describe(&self) -> Description {
        self.lock().properties.describe()
    }

    fn max_sessions(&self) -> Option<usize> {
        Some(1)
    }

    fn open_session(&mut self) -> Result<Box<dyn device::Session>, DeviceError> {
        self.lock().connection()?;
        Ok(Box::new(SigningSession::new(Arc::clone(&self.tpm))))
    }

    fn supports(&self, key: KeySpec) -> Result<Support, DeviceError> {
        self.lock().supported.support(key)
    }

    fn know(&mut self, kept: Vec<KeptKey>) {
        let mut tpm = self.lock();
        tpm.keys = tpm.kept.with(kept);
    }

    fn generate(
        &mut self,
        issuer: &IssuerName,
        key: KeySpec,
        id: &KeyHandle,
    ) -> Result<DeviceKey, DeviceError> {
        let label = Label { issuer: issuer.clone(), algorithm: key.algorithm() };
        self.lock().generate(label, key, id)
    }

    fn list(&mut self) -> Result<Vec<DeviceKey>, DeviceError> {
        let handles: Vec<_> = {
            let mut tpm = self.lock();
            tpm.look_anew()?;
            tpm.keys.keys().cloned().collect()
        };
        let mut keys = Vec::new();
        let (mut proven, mut refused) = (0_usize, 0_usize);
        for handle in handles {
            // Signers have their turn between two keys.
            let found = self.lock().find(&handle)?;
            let Some((key, proof)) = found else { continue };
            proven += usize::from(proof == Some(Proof::Right));
            refused += usize::from(proof == Some(Proof::Refused));
            keys.push(key);
        }
        // One key that refuses is a record that lies. If none accepts, it is the secret that is wrong.
        let wrong = (refused > 0 && proven == 0).then(|| {
            format!(
                "the TPM refuses the authorisation values of all {refused} keys that load: the device \
                 secret is not the one that they were made with (was it replaced for good, with all keys of before \
                 given up, take the worker's copies of them away: see docs/devices.md)"
            )
        });
        if wrong.is_some() || proven > 0 {
            let tpm = self.lock();
            tpm.ledger.end_uncounted(tpm.secret.as_pin(), wrong.as_deref())?;
        } else if self.resume {
            tracing::warn!("no key is there to tell whether the device secret is the right one");
        }
        Ok(keys)
    }

    fn find(&mut self, handle: &KeyHandle) -> Result<Option<DeviceKey>, DeviceError> {
        let mut tpm = self.lock();
        tpm.accept_state(false)?;
        Ok(tpm.find(handle)?.map(|(key, _)| key))
    }

    fn examine(&mut self) -> Result<Vec<Finding>, DeviceError> {
        let mut tpm = self.lock();
        let connection = tpm.connection()?;
        let own = connection.loaded();
        let context = connection.context();
        let (properties, state) = (Properties::read(context)?, State::read(context)?);
        let mut findings = examine::identity(&properties, &tpm.algorithms);
        findings.extend(state.findings(tpm.config.tcti.is_managed(), own));
        findings.extend(tpm.pcr_findings()?);
        Ok(findings)
    }

    fn destroy(&mut self, issuer: &IssuerName, id: &KeyHandle) -> Result<bool, DeviceError> {
        self.lock().destroy(issuer, id)
    }

    fn attest(&mut self, key: &DeviceKey, challenge: &Challenge) -> Result<Residence, DeviceError> {
        let evidence = self.lock().attest(&key.handle, challenge)?;
        Ok(Residence::Tpm(Box::new(evidence)))
    }

    fn probe(&mut self) -> Result<(), DeviceError> {
        let mut tpm = self.lock();
        tpm.using(|connection| Properties::read(connection.context())).map(|_| ())
    }
}

impl Tpm {
    /// The connection, opened again if it was lost.
    fn connection(&mut self) -> Result<&mut Connection, DeviceError> {
        if self.connection.is_none() {
            tracing::warn!("the connection to the TPM is made anew");
            self.proven.clear();
            self.ways.clear();
            // What fails now needs a fresh process, not another connection.
            let opened = Connection::open(&self.config, &mut self.parent, false);
            let opened = opened.map_err(|error| DeviceError {
                remedy: if error.remedy == Remedy::Reopen { Remedy::Restart } else { error.remedy },
                ..error
            })?;
            return Ok(self.connection.insert(opened));
        }
        Ok(self.connection.as_mut().expect("it was looked at above"))
    }

    /// Does something with the connection, and gives it up after an error that calls for it. A refused
    /// authorisation is recorded, so that no restart tries it again (I10).
    fn using<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let outcome = work(self.connection()?);
        match &outcome {
            Err(error) if error.remedy == Remedy::Reopen => self.connection = None,
            Err(error) if error.cause == Cause::LoginFailed => {
                self.ledger.end_uncounted(self.secret.as_pin(), Some(&error.detail))?;
            }
            _ => {}
        }
        outcome
    }

    pub(crate) fn sign(
        &mut self,
        handle: &KeyHandle,
        algorithm: Algorithm,
        digest: &[u8],
    ) -> Result<Vec<u8>, DeviceError> {
        let key = self.usable(handle)?;
        if key.label.algorithm != algorithm {
            let made = key.label.algorithm;
            let detail = format!("key {handle:?}: it was made for {made}, not {algorithm}");
            return Err(DeviceError::new(Cause::KeyUnusable, Remedy::Refuse, detail));
        }
        if let Some(policy) = &key.policy {
            return self.sign_bound(handle, &key, policy, digest);
        }
        let auth = self.secret.authorisation(handle, &key.label);
        let length = key.jwk.signature_len();
        self.using(|connection| {
            let loaded = connection.load(handle, &key, &auth);
            let loaded = loaded.map_err(|error| fault("loading a key", &error))?;
            connection.sign(loaded, algorithm, digest, length)
        })
    }

    fn attest(
        &mut self,
        handle: &KeyHandle,
        challenge: &Challenge,
    ) -> Result<TpmEvidence, DeviceError> {
        let key = self.usable(handle)?;
        let auth = self.secret.authorisation(handle, &key.label);
        self.using(|connection| {
            let loaded = connection.load(handle, &key, &auth);
            let loaded = loaded.map_err(|error| fault("loading a key", &error))?;
            attest::evidence(connection, handle, loaded, challenge)
        })
    }

    /// A key that is kept and was not destroyed.
    fn usable(&self, handle: &KeyHandle) -> Result<TpmKey, DeviceError> {
        let refuse = |cause, problem: &str| {
            DeviceError::new(cause, Remedy::Refuse, format!("key {handle:?}: {problem}"))
        };
        let key = self.key(handle).map_err(|problem| refuse(Cause::KeyUnusable, &problem))?;
        key.ok_or_else(|| refuse(Cause::KeyAbsent, "no such key is kept"))
    }

    fn key(&self, handle: &KeyHandle) -> Result<Option<TpmKey>, String> {
        match self.keys.get(handle) {
            Some(_) if self.destroyed.contains(handle) => Ok(None),
            Some(kept) => TpmKey::decode(&kept.wrapped).map(Some),
            None => Ok(None),
        }
    }

    fn destroy(&mut self, issuer: &IssuerName, id: &KeyHandle) -> Result<bool, DeviceError> {
        let was_there = match self.key(id) {
            Ok(None) => false,
            Ok(Some(key)) if key.label.issuer != *issuer => {
                let detail = format!("key {id:?} was made for another issuer; it is left alone");
                return Err(DeviceError::new(Cause::KeyUnusable, Remedy::Refuse, detail));
            }
            Ok(Some(_)) | Err(_) => true,
        };
        // Of others nothing is here, and whoever asks could fill the record with them.
        if self.keys.contains_key(id) {
            self.destroyed.add(id)?;
            self.kept.remove(id)?;
        }
        self.keys.remove(id);
        self.proven.remove(id);
        self.ways.remove(id);
        if let Some(connection) = &mut self.connection {
            connection.unload(id)?;
        }
        Ok(was_there)
    }
}
