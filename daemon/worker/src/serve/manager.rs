//! The manager thread: everything that is rare, beside the signing threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use bytes::Bytes;

use crate::{
    IssuerName, KeySpec,
    claims::Profile,
    device::{Cause, Description, Device, DeviceError, DeviceKey, KeyHandle, Remedy, Verdict},
    serve::{
        Replies, attest,
        batch::Batch,
        examine, exit,
        keys::{self, KeyTable},
        queue::Queue,
    },
    setup::Setup,
    wire::{
        Answer, Ask, Attest, BUILD, Destroy, Destroyed, Examined, Generate, KeyFitness, KeyReport,
        Lacking, List, Listed, Probed, Refused, Sign, WorkerHello,
    },
};

/// Bound on the keys of one issuer in the device (I9): a broken server must not be able to fill it. Counted
/// in the device, so that no restart begins anew.
const MAX_KEYS: usize = 128;

type Shared = Arc<Mutex<Box<dyn Device>>>;

pub(super) struct Manager {
    device: Shared,
    keys: Arc<KeyTable>,
    setup: Setup,
}

impl Manager {
    /// Takes the device over and looks at its keys (I1, at every start): good ones are ready to
    /// sign, and the hello tells what became of each.
    pub(super) fn new(
        mut device: Box<dyn Device>,
        setup: Setup,
    ) -> Result<(Self, Arc<KeyTable>, WorkerHello), DeviceError> {
        let keys = Arc::new(KeyTable::new(&setup.profiles));
        // Issuers that the device cannot serve are told, and cost the others nothing.
        let lacking = |profile: &Profile| {
            let missing = device.supports(profile.key).err()?.detail;
            Some(Lacking { issuer: profile.issuer.to_string(), missing })
        };
        let mut hello = WorkerHello {
            build: BUILD.to_owned(),
            description: description(&device.describe()),
            lacking: setup.profiles.iter().filter_map(lacking).collect(),
            ..WorkerHello::default()
        };
        let verdict = |key| Verdict { key, outcome: device.supports(key).map_err(|e| e.detail) };
        hello.support = KeySpec::all().map(|key| verdict(key).into()).collect();
        for found in device.list()? {
            let unfit = keys.admit(&found).err();
            if unfit.is_none() && !found.unproven.is_empty() {
                let told = found.unproven.join("; ");
                hello.unproven.push(format!("key {:?}: {told}", found.handle));
            }
            let handle = Bytes::copy_from_slice(found.handle.as_bytes());
            hello.keys.push(KeyFitness { handle, unfit });
        }
        let device = Arc::new(Mutex::new(device));
        let manager = Self { device, keys: Arc::clone(&keys), setup };
        Ok((manager, keys, hello))
    }

    pub(super) fn device(&self) -> Shared {
        Arc::clone(&self.device)
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Device>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves until the reader ends.
    pub(super) fn run(
        &mut self,
        asked: &mpsc::Receiver<(u64, Ask)>,
        queue: &Queue,
        replies: &Replies,
    ) {
        while let Ok((id, ask)) = asked.recv() {
            let signing = matches!(ask, Ask::Sign(_));
            let answer = match ask {
                Ask::Sign(sign) => match self.resolve(id, sign, queue) {
                    Ok(()) => continue,
                    Err(failed) => Err(failed),
                },
                Ask::Generate(generate) => self.generate(&generate),
                Ask::List(list) => self.list(&list),
                Ask::Destroy(destroy) => self.destroy(&destroy),
                Ask::Probe(_) => self.probe(),
                Ask::Examine(_) => self.examine(),
                Ask::Attest(attest) => self.attest(&attest),
                Ask::Hello(_) | Ask::Pulse(_) => unreachable!("the reader deals with it"),
            };
            match answer {
                Ok(answer) => replies.send(id, answer),
                Err(Failed::Refused(refused)) => replies.send(id, Answer::Refused(refused)),
                Err(Failed::Device(error)) => {
                    let ends = matches!(error.remedy, Remedy::Restart | Remedy::Park);
                    // A batch without an answer is put on the next wire; anything else never is.
                    if !(ends && signing) {
                        replies.refuse(id, error.cause.as_str(), error.detail.clone());
                    }
                    if ends {
                        exit::restart(&error, replies);
                    }
                }
            }
        }
    }

    /// Looks a key up that was not met yet, and queues the batch that asked for it.
    fn resolve(&self, id: u64, sign: Sign, queue: &Queue) -> Result<(), Failed> {
        let found = self.found(&KeyHandle::new(sign.handle.to_vec()))?;
        let key = self.keys.admit(&found)?;
        keys::made_for(&sign.issuer, key.profile.issuer.as_str())?;
        Ok(queue.push(Batch::new(id, sign, key)).map_err(Refused::from)?)
    }

    /// The key with this handle, as the device shows it now.
    fn found(&self, handle: &KeyHandle) -> Result<DeviceKey, Failed> {
        let found = self.twice(|device| device.find(handle))?;
        let absent = || Refused {
            reason: Cause::KeyAbsent.as_str().into(),
            detail: format!("the device shows no key {handle:?}"),
        };
        Ok(found.ok_or_else(absent)?)
    }

    /// Does what only looks, once more if the device allows it: a session that was lost is opened
    /// again at the next call.
    ///
    /// # Errors
    /// Of the second time; one that a second time should have mended needs a fresh process.
    fn twice<T>(
        &self,
        look: impl Fn(&mut dyn Device) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let mends = |error: &DeviceError| matches!(error.remedy, Remedy::Retry | Remedy::Reopen);
        match look(&mut **self.lock()) {
            Err(first) if mends(&first) => {
                tracing::warn!(cause = %first.cause, detail = first.detail, "a look at the device failed");
            }
            other => return other,
        }
        look(&mut **self.lock()).map_err(|second| {
            let remedy = if mends(&second) { Remedy::Restart } else { second.remedy };
            DeviceError { remedy, ..second }
        })
    }

    fn generate(&self, generate: &Generate) -> Result<Answer, Failed> {
        let profile = self.keys.profile(&generate.issuer)?;
        let handle = KeyHandle::new(generate.handle.to_vec());
        if handle.as_bytes().len() != self.setup.device.handle_bytes() {
            return Err(Failed::Refused(Refused {
                reason: Cause::Malformed.as_str().into(),
                detail: format!("a fresh handle has {} bytes", self.setup.device.handle_bytes()),
            }));
        }
        let mut device = self.lock();
        room_for_one_more(&device.list()?, &profile.issuer)?;
        let mut made = device.generate(&profile.issuer, profile.key, &handle)?;
        drop(device);
        made.defects.extend(not_as_asked(&made, profile.key));
        Ok(Answer::Listed(Listed { keys: self.shown(&[made]) }))
    }

    fn list(&self, list: &List) -> Result<Answer, Failed> {
        let found = if list.handle.is_empty() {
            self.twice(|device| device.list())?
        } else {
            let handle = KeyHandle::new(list.handle.to_vec());
            self.twice(|device| device.find(&handle))?.into_iter().collect()
        };
        Ok(Answer::Listed(Listed { keys: self.shown(&found) }))
    }

    /// Reports keys as the device shows them now. One with a defect is not used any more (I1).
    fn shown(&self, found: &[DeviceKey]) -> Vec<KeyReport> {
        let look = |key: &DeviceKey| {
            let _admitted = self.keys.admit(key);
            report(key)
        };
        found.iter().map(look).collect()
    }

    fn destroy(&self, destroy: &Destroy) -> Result<Answer, Failed> {
        let issuer = IssuerName::parse(&destroy.issuer).map_err(|error| Refused {
            reason: Cause::Malformed.as_str().into(),
            detail: error.to_string(),
        })?;
        let handle = KeyHandle::new(destroy.handle.to_vec());
        // First: whatever comes of it, the key does not sign any more.
        self.keys.forget(&handle);
        let was_there = self.lock().destroy(&issuer, &handle)?;
        Ok(Answer::Destroyed(Destroyed { was_there }))
    }

    fn probe(&self) -> Result<Answer, Failed> {
        self.twice(|device| device.probe())?;
        Ok(Answer::Probed(Probed {}))
    }

    fn attest(&self, ask: &Attest) -> Result<Answer, Failed> {
        let challenge = attest::challenge(ask)?;
        let found = self.found(&KeyHandle::new(ask.handle.to_vec()))?;
        let key = self.keys.admit(&found)?;
        keys::made_for(&ask.issuer, key.profile.issuer.as_str())?;
        let residence = self.lock().attest(&found, &challenge)?;
        Ok(attest::answer(challenge, &key.profile.issuer, residence)?)
    }

    fn examine(&self) -> Result<Answer, Failed> {
        let profiles = &self.setup.profiles;
        let findings = self.twice(|device| examine::examine(device, profiles))?;
        let findings = examine::encode(findings, self.setup.device.name.as_str());
        let keys = self.shown(&self.twice(|device| device.list())?);
        Ok(Answer::Examined(Examined { findings, keys }))
    }
}

fn description(d: &Description) -> String {
    let named = |what, value: &str| (!value.is_empty()).then(|| format!("{what} {value}"));
    let make = format!("{} {}", d.manufacturer, d.model);
    let label = (!d.label.is_empty()).then(|| format!("label {:?}", d.label));
    let parts = [Some(make), named("serial", &d.serial), label, Some(d.library.clone())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Whether the device made another key than the one that it was asked for.
fn not_as_asked(made: &DeviceKey, asked: KeySpec) -> Option<String> {
    let public = made.public.as_ref()?;
    let is_asked = public.algorithm() == asked.algorithm() && public.rsa_bits() == asked.rsa_bits();
    (!is_asked).then(|| format!("the device did not make the key that was asked for: {asked}"))
}

fn report(key: &DeviceKey) -> KeyReport {
    KeyReport {
        handle: Bytes::copy_from_slice(key.handle.as_bytes()),
        issuer: key.issuer.as_ref().map(ToString::to_string).unwrap_or_default(),
        public: key.public.as_ref().and_then(|p| serde_json::to_string(p).ok()).unwrap_or_default(),
        defects: key.defects.clone(),
        unproven: key.unproven.clone(),
        wrapped: key
            .wrapped
            .as_ref()
            .map(|wrapped| Bytes::copy_from_slice(wrapped.as_bytes()))
            .unwrap_or_default(),
    }
}

/// Refuses a key beyond [`MAX_KEYS`] of the issuer among those that the device shows.
fn room_for_one_more(shown: &[DeviceKey], issuer: &IssuerName) -> Result<(), Refused> {
    let count = shown.iter().filter(|key| key.issuer.as_ref() == Some(issuer)).count();
    if count < MAX_KEYS {
        return Ok(());
    }
    Err(Refused {
        reason: Cause::OutOfResources.as_str().into(),
        detail: format!("the device has {count} keys of the issuer; at most {MAX_KEYS} are made"),
    })
}

enum Failed {
    Refused(Refused),
    Device(DeviceError),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<DeviceError> for Failed {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_the_keys_of_an_issuer_are_counted_in_the_device() {
        let name = |name| IssuerName::parse(name).expect("a name");
        let key = |issuer| DeviceKey {
            handle: KeyHandle::new(vec![1; 16]),
            issuer,
            public: None,
            defects: vec!["half a pair takes room too".into()],
            wrapped: None,
            unproven: vec![],
        };
        let mut shown = vec![key(Some(name("a"))); MAX_KEYS - 1];
        shown.extend(vec![key(Some(name("b"))); MAX_KEYS]);
        shown.push(key(None));
        assert_eq!(room_for_one_more(&shown, &name("a")), Ok(()));
        let full = room_for_one_more(&shown, &name("b")).expect_err("its room is full");
        assert_eq!(full.reason, "OUT_OF_RESOURCES");
        shown.push(key(Some(name("a"))));
        assert!(room_for_one_more(&shown, &name("a")).is_err());
        assert_eq!(room_for_one_more(&shown, &name("c")), Ok(()));
    }
}
