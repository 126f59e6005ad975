//! The keys that a worker has met: header and handle from one place (I3).

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    claims::Profile,
    device::{Cause, DeviceKey, KeyHandle},
    jwk::{Kid, PublicJwk},
    jws::ProtectedHeader,
    wire::{Refused, Sign},
};

/// A key that may sign, with everything that is bound to it.
pub(super) struct Key {
    pub(super) handle: KeyHandle,
    pub(super) public: PublicJwk,
    pub(super) kid: Kid,
    pub(super) header: ProtectedHeader,
    pub(super) profile: Arc<Profile>,
    /// Whether the device has shown it with a defect since, or another key in its place.
    unfit: AtomicBool,
}

impl Key {
    /// Whether a batch that waits may still be signed with it (I1).
    pub(super) fn still_fits(&self) -> bool {
        !self.unfit.load(Ordering::Acquire)
    }

    fn is_same(&self, known: &Self) -> bool {
        self.header.encoded() == known.header.encoded()
            && self.profile.issuer == known.profile.issuer
    }
}

/// Profiles by issuer, and the good keys met so far.
pub(super) struct KeyTable {
    profiles: HashMap<String, Arc<Profile>>,
    keys: RwLock<HashMap<KeyHandle, Arc<Key>>>,
}

impl KeyTable {
    pub(super) fn new(profiles: &[Profile]) -> Self {
        let profiles = profiles
            .iter()
            .map(|profile| (profile.issuer.as_str().to_owned(), Arc::new(profile.clone())))
            .collect();
        Self { profiles, keys: RwLock::default() }
    }

    /// The profile of an issuer that this worker serves.
    pub(super) fn profile(&self, issuer: &str) -> Result<&Arc<Profile>, Refused> {
        self.profiles.get(issuer).ok_or_else(|| Refused {
            reason: "UNKNOWN_ISSUER".into(),
            detail: "the configuration gives this device no such issuer".into(),
        })
    }

    /// The key for a request, `None` if it was not met yet.
    pub(super) fn get(&self, sign: &Sign) -> Option<Result<Arc<Key>, Refused>> {
        if let Err(refused) = self.profile(&sign.issuer) {
            return Some(Err(refused));
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(&KeyHandle::new(sign.handle.to_vec()))?;
        Some(made_for(&sign.issuer, key.profile.issuer.as_str()).map(|()| Arc::clone(key)))
    }

    /// Takes in a key as the device shows it, if it may sign. One that may not is dropped, though it
    /// was shown well before: nothing is signed with it any more, waiting batches included.
    ///
    /// # Errors
    /// Why it may not: a defect (I1), a label of no issuer (I3).
    pub(super) fn admit(&self, found: &DeviceKey) -> Result<Arc<Key>, Refused> {
        let key = self.examine(found);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(key), Some(known)) = (&key, keys.get(&found.handle))
            && key.is_same(known)
        {
            return Ok(Arc::clone(known));
        }
        if let Some(dropped) = keys.remove(&found.handle) {
            dropped.unfit.store(true, Ordering::Release);
            let (handle, defect) = (&found.handle, key.as_ref().err().map(|r| &r.detail));
            tracing::error!(?handle, defect, "a key must not be used any more (I1)");
        }
        let key = Arc::new(key?);
        keys.insert(key.handle.clone(), Arc::clone(&key));
        Ok(key)
    }

    fn examine(&self, found: &DeviceKey) -> Result<Key, Refused> {
        let unusable =
            |detail: String| Refused { reason: Cause::KeyUnusable.as_str().into(), detail };
        if !found.defects.is_empty() {
            return Err(unusable(found.defects.join("; ")));
        }
        let (Some(issuer), Some(public)) = (&found.issuer, &found.public) else {
            return Err(unusable(
                "its label names no issuer, or its public key is unreadable".into(),
            ));
        };
        let profile = self.profile(issuer.as_str())?;
        // A key keeps the algorithm that it was made for: the issuer's configuration is about the
        // next ones, and the old ones sign until those have taken over.
        let kid = public.kid();
        Ok(Key {
            handle: found.handle.clone(),
            header: ProtectedHeader::new(public.algorithm(), &kid),
            public: public.clone(),
            kid,
            profile: Arc::clone(profile),
            unfit: AtomicBool::new(false),
        })
    }

    /// Lets a key not sign any more, until it is looked up again.
    pub(super) fn forget(&self, handle: &KeyHandle) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.remove(handle);
    }
}

/// I3: a key signs only under the profile of the issuer that it was made for.
pub(super) fn made_for(asked: &str, label: &str) -> Result<(), Refused> {
    if asked == label {
        return Ok(());
    }
    Err(Refused {
        reason: "WRONG_ISSUER".into(),
        detail: format!("the key was made for issuer {label}, the request is for another"),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Algorithm, IssuerName};

    fn profile(issuer: &str) -> Profile {
        Profile {
            issuer: IssuerName::parse(issuer).expect("a name"),
            iss: "https://tts.example".into(),
            key: Algorithm::ES256.into(),
            audience: vec!["a".into()],
            required: vec![],
            max_token_lifetime: Duration::from_secs(300),
            skew: Duration::from_secs(30),
            max_claims_bytes: 4096,
            max_act_depth: 8,
            req_wl: vec![],
        }
    }

    fn found(issuer: &str) -> DeviceKey {
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                      "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
        DeviceKey {
            handle: KeyHandle::new(vec![1; 16]),
            issuer: IssuerName::parse(issuer).ok(),
            public: serde_json::from_str::<PublicJwk>(jwk).ok(),
            defects: vec![],
            wrapped: None,
            unproven: vec![],
        }
    }

    /// A key of the issuer.
    pub(in crate::serve) fn key(issuer: &str) -> Arc<Key> {
        KeyTable::new(&[profile(issuer)]).admit(&found(issuer)).expect("a good key")
    }

    fn sign(issuer: &str) -> Sign {
        Sign { issuer: issuer.into(), handle: vec![1; 16].into(), ..Sign::default() }
    }

    #[test]
    fn i3_a_key_of_one_issuer_does_not_sign_for_another() {
        let table = KeyTable::new(&[profile("a"), profile("b")]);
        table.admit(&found("a")).expect("a good key");
        assert!(table.get(&sign("a")).expect("met").is_ok());
        let refused = table.get(&sign("b")).expect("met").err().expect("refused");
        assert_eq!(refused.reason, "WRONG_ISSUER");
        let refused = table.get(&sign("c")).expect("no such issuer").err().expect("refused");
        assert_eq!(refused.reason, "UNKNOWN_ISSUER");
    }

    #[test]
    fn i1_a_key_with_a_defect_is_not_admitted() {
        let table = KeyTable::new(&[profile("a")]);
        let key = DeviceKey { defects: vec!["CKA_EXTRACTABLE is true".into()], ..found("a") };
        let refused = table.admit(&key).err().expect("refused");
        assert_eq!(refused.reason, "KEY_UNUSABLE");
        assert!(refused.detail.contains("CKA_EXTRACTABLE"));
        assert!(table.get(&sign("a")).is_none());
    }

    #[test]
    fn i1_a_key_that_is_shown_with_a_defect_later_signs_no_more() {
        let table = KeyTable::new(&[profile("a")]);
        let key = table.admit(&found("a")).expect("a good key");
        // Shown well again: what waits for it is signed.
        table.admit(&found("a")).expect("still good");
        assert!(key.still_fits());
        let key = table.get(&sign("a")).expect("met").expect("of the issuer");
        let extractable =
            DeviceKey { defects: vec!["CKA_EXTRACTABLE is true".into()], ..found("a") };
        assert!(table.admit(&extractable).is_err());
        assert!(table.get(&sign("a")).is_none(), "the next batch has it looked up again");
        assert!(!key.still_fits(), "nor does a batch that waits");
    }

    #[test]
    fn i3_a_key_whose_label_names_no_issuer_is_not_admitted() {
        let table = KeyTable::new(&[profile("a")]);
        assert!(table.admit(&DeviceKey { issuer: None, ..found("a") }).is_err());
        assert!(table.admit(&found("unknown")).is_err());
    }
}
