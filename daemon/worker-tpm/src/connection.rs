//! The one connection to the TPM: an ESYS context, its storage key, its session, and what is loaded.

mod attesting;
mod policy;

use std::collections::VecDeque;

use mintwarden_hsm_config::device::{PersistentHandle, Tpm};
use mintwarden_worker::{
    Algorithm,
    device::{Cause, DeviceError, KeyHandle, Remedy},
    watch,
};
use tss_esapi::{
    Context, Error,
    attributes::SessionAttributesBuilder,
    constants::{SessionType, response_code::Tss2ResponseCodeKind as Rc},
    handles::{KeyHandle as Loaded, PersistentTpmHandle, SessionHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::Hierarchy,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        Auth, CreateKeyResult, Digest, HashcheckTicket, Nonce, Public, Signature, SignatureScheme,
        SymmetricDefinition,
    },
};

use self::policy::Verified;
pub(crate) use self::policy::{Attempt, Bound};
use crate::{
    command, exclusive,
    fault::{describe, fault, is_full, is_refused, tpm_code},
    parent::Parent,
    tcti, template,
    wrapped::TpmKey,
};

/// Issuers' keys that stay loaded. With the storage key this is what the smallest TPM has room for (three
/// objects, PC Client profile); where it has less, fewer stay.
const MAX_LOADED: usize = 2;

/// A connection. Dropped, it flushes all that it has loaded.
pub(crate) struct Connection {
    /// Before the context is closed, everything in it is flushed: see `Drop`.
    context: Option<Context>,
    parent: Loaded,
    parent_name: Vec<u8>,
    session: AuthSession,
    /// The one used last at the end.
    loaded: VecDeque<(KeyHandle, Loaded)>,
    /// The sign-off of a state that the TPM has verified last.
    verified: Option<Verified>,
}

/// What became of trying an authorisation value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It is the key's.
    Right,
    /// It is not.
    Refused,
}

impl Connection {
    /// Opens the way to the TPM, makes or finds the storage key, and begins the session if it is the accepted
    /// one. `resume`: a custodian said `device resume`.
    pub(crate) fn open(
        config: &Tpm,
        accepted: &mut Parent,
        resume: bool,
    ) -> Result<Self, DeviceError> {
        Self::begin(config, accepted, resume).map_err(|error| match error.cause {
            Cause::TpmUnreachable => DeviceError { detail: unreachable(config, &error), ..error },
            _ => error,
        })
    }

    fn begin(config: &Tpm, accepted: &mut Parent, resume: bool) -> Result<Self, DeviceError> {
        let name_conf = tcti::name_conf(&config.tcti)?;
        let context = watch::call(|| Context::new(name_conf));
        let mut context =
            context.map_err(|error| DeviceError::of(Cause::TpmUnreachable, describe(&error)))?;
        if config.exclusive {
            let flushed = exclusive::flush(&mut context)?;
            if flushed > 0 {
                tracing::info!(flushed, "the TPM had objects or sessions of an earlier use");
            }
        }
        let (parent, parent_name) = match config.parent {
            Some(handle) => persistent_parent(&mut context, handle)?,
            None => primary(&mut context)?,
        };
        accepted.accept(config.parent, &parent_name, resume)?;
        let session = salted(&mut context, parent, SessionType::Hmac)?;
        let (context, loaded) = (Some(context), VecDeque::new());
        Ok(Self { context, parent, parent_name, session, loaded, verified: None })
    }

    /// The name of the storage key.
    pub(crate) fn parent_name(&self) -> &[u8] {
        &self.parent_name
    }

    /// How many objects are loaded here: the storage key, and issuers' keys.
    pub(crate) fn loaded(&self) -> u32 {
        u32::try_from(1 + self.loaded.len()).unwrap_or(u32::MAX)
    }

    /// The context, for commands that need no authorisation.
    pub(crate) fn context(&mut self) -> &mut Context {
        self.context.as_mut().expect("it is taken when this is dropped")
    }

    /// Makes a key under the storage key. Its authorisation value travels encrypted.
    pub(crate) fn create(
        &mut self,
        template: &Public,
        auth: &Auth,
    ) -> Result<CreateKeyResult, Error> {
        let (parent, session) = (self.parent, self.session);
        self.with_room(None, |context| {
            context.execute_with_session(Some(session), |context| {
                let (template, auth) = (template.clone(), Some(auth.clone()));
                context.create(parent, template, auth, None, None, None)
            })
        })
    }

    /// A key, loaded and ready for its authorisation value to be proven by use.
    pub(crate) fn load(
        &mut self,
        handle: &KeyHandle,
        key: &TpmKey,
        auth: &Auth,
    ) -> Result<Loaded, Error> {
        if let Some(at) = self.loaded.iter().position(|(known, _)| known == handle) {
            let entry = self.loaded.remove(at).expect("it was found there");
            let loaded = entry.1;
            self.loaded.push_back(entry);
            return Ok(loaded);
        }
        while self.loaded.len() >= MAX_LOADED {
            self.unload_oldest(None)?;
        }
        let (private, public) = key.areas()?;
        let (parent, session) = (self.parent, self.session);
        let loaded = self.with_room(None, |context| {
            context.execute_with_session(Some(session), |context| {
                context.load(parent, private.clone(), public.clone())
            })
        })?;
        self.loaded.push_back((handle.clone(), loaded));
        self.context().tr_set_auth(loaded.into(), auth.clone())?;
        Ok(loaded)
    }

    /// The public area as the TPM shows it.
    pub(crate) fn read_public(&mut self, loaded: Loaded) -> Result<Public, Error> {
        command::raw(self.context(), |context| {
            context.execute_without_session(|context| context.read_public(loaded))
        })
        .map(|(public, ..)| public)
    }

    /// Shows the TPM that the authorisation value is the key's, without any signature: by a policy that is
    /// never used (`TPM2_PolicySecret` in a trial session).
    pub(crate) fn prove(&mut self, handle: &KeyHandle, loaded: Loaded) -> Result<Proof, Error> {
        let session = self.session;
        let trial = self.with_room(Some(handle), |context| {
            context.execute_without_session(|context| {
                context.start_auth_session(
                    None,
                    None,
                    None,
                    SessionType::Trial,
                    SymmetricDefinition::AES_128_CFB,
                    template::NAME_ALGORITHM,
                )
            })
        })?;
        let trial =
            trial.ok_or(Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm))?;
        let policy = PolicySession::try_from(trial)?;
        let proven = command::raw(self.context(), |context| {
            context.execute_with_session(Some(session), |context| {
                let (nonce, digest) = (Nonce::default(), Digest::default());
                let object = tss_esapi::handles::ObjectHandle::from(loaded);
                context.policy_secret(policy, object.into(), nonce.clone(), digest, nonce, None)
            })
        });
        let flushed = command::raw(self.context(), |context| {
            context.flush_context(SessionHandle::from(trial).into())
        });
        match proven {
            Ok(_) => flushed.map(|()| Proof::Right),
            Err(error) if is_refused(&error) => flushed.map(|()| Proof::Refused),
            Err(error) => Err(error),
        }
    }

    /// Signs a digest with a key; the scheme is the key's own.
    pub(crate) fn sign(
        &mut self,
        loaded: Loaded,
        algorithm: Algorithm,
        digest: &[u8],
        length: usize,
    ) -> Result<Vec<u8>, DeviceError> {
        let session = self.session;
        let digest = Digest::try_from(digest).map_err(|error| fault("signing", &error))?;
        let signature = command::run(self.context(), "signing", |context| {
            let ticket = unchecked_hash()?;
            context.execute_with_session(Some(session), |context| {
                context.sign(loaded, digest.clone(), SignatureScheme::Null, ticket)
            })
        })?;
        raw_signature(&signature, algorithm, length)
    }

    /// Gives a key's place up.
    pub(crate) fn unload(&mut self, handle: &KeyHandle) -> Result<(), DeviceError> {
        let Some(at) = self.loaded.iter().position(|(known, _)| known == handle) else {
            return Ok(());
        };
        let (_, loaded) = self.loaded.remove(at).expect("it was found there");
        command::run(self.context(), "unloading a key", |context| {
            context.flush_context(loaded.into())
        })
    }

    /// Does what needs room for one more object or session, giving up the places of keys that are not
    /// needed for it, the one used longest ago first.
    fn with_room<T>(
        &mut self,
        needed: Option<&KeyHandle>,
        mut work: impl FnMut(&mut Context) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            match command::raw(self.context(), &mut work) {
                Err(error) if is_full(&error) => {
                    if !self.unload_oldest(needed)? {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    /// `false` if there is none to unload.
    fn unload_oldest(&mut self, needed: Option<&KeyHandle>) -> Result<bool, Error> {
        let oldest = self.loaded.iter().position(|(handle, _)| Some(handle) != needed);
        let Some((_, loaded)) = oldest.and_then(|at| self.loaded.remove(at)) else {
            return Ok(false);
        };
        command::raw(self.context(), |context| context.flush_context(loaded.into()))?;
        Ok(true)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Flushes objects and sessions, each a command.
        let context = self.context.take();
        watch::call(|| drop(context));
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}

fn unreachable(config: &Tpm, why: &DeviceError) -> String {
    format!(
        "tcti = \"{}\" cannot be opened: {}; see that the TPM is there, that its access broker or swtpm \
         runs, and that the workers' user may use it (group tss for /dev/tpmrm0)",
        config.tcti, why.detail
    )
}

/// The storage key that is made from the template.
fn primary(context: &mut Context) -> Result<(Loaded, Vec<u8>), DeviceError> {
    let doing = "making the storage primary key";
    let template = template::storage_primary().map_err(|error| fault(doing, &error))?;
    let created = command::raw(context, |context| {
        // The owner's authorisation value is empty, so that there is nothing to protect on the way.
        context.execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(Hierarchy::Owner, template.clone(), None, None, None, None)
        })
    });
    let created = created.map_err(|error| {
        if is_refused(&error) {
            let detail = format!(
                "{doing}: {}: the owner hierarchy has an authorisation value, which Mintwarden does not \
                 ask for; have its owner make a persistent storage key and name it as `parent`",
                describe(&error)
            );
            return DeviceError::new(Cause::LoginFailed, Remedy::Park, detail);
        }
        fault(doing, &error)
    })?;
    let name = name(context, created.key_handle)?;
    Ok((created.key_handle, name))
}

/// The storage key that is there.
fn persistent_parent(
    context: &mut Context,
    handle: PersistentHandle,
) -> Result<(Loaded, Vec<u8>), DeviceError> {
    let parent = PersistentTpmHandle::new(handle.value())
        .and_then(|handle| {
            command::raw(context, |context| {
                context.execute_without_session(|context| {
                    context.tr_from_tpm_public(TpmHandle::Persistent(handle))
                })
            })
        })
        .map_err(|error| match tpm_code(&error) {
            Some(Rc::Handle | Rc::Value) => {
                let detail = format!(
                    "parent = \"{handle}\" is not there: {}; `tpm2_getcap handles-persistent` lists what is",
                    describe(&error)
                );
                DeviceError::new(Cause::TokenAbsent, Remedy::Park, detail)
            }
            _ => fault("looking for the parent", &error),
        })?;
    let parent = Loaded::from(parent);
    let (public, ..) = command::run(context, "reading the parent", |context| {
        context.execute_without_session(|context| context.read_public(parent))
    })?;
    let attributes = public.object_attributes();
    let is_storage_key = attributes.restricted() && attributes.decrypt();
    if !(is_storage_key && attributes.fixed_tpm() && attributes.no_da()) {
        let detail = format!(
            "parent = \"{handle}\" is of no use: a storage key is restricted and decrypts, is fixed to its \
             TPM, and has noDA, so that wrong authorisation values of others cannot lock it"
        );
        return Err(DeviceError::new(Cause::TokenAbsent, Remedy::Park, detail));
    }
    let name = name(context, parent)?;
    Ok((parent, name))
}

fn name(context: &mut Context, key: Loaded) -> Result<Vec<u8>, DeviceError> {
    let name = context.tr_get_name(key.into());
    name.map(|name| name.value().to_vec()).map_err(|error| fault("naming the storage key", &error))
}

/// A session whose key nobody on the way to the TPM can know: its salt is encrypted for the storage key
/// (TPM 2.0 part 1 section 19.6), which is the accepted one. Parameters travel encrypted.
fn salted(
    context: &mut Context,
    parent: Loaded,
    kind: SessionType,
) -> Result<AuthSession, DeviceError> {
    let doing = "beginning a session";
    let session = command::run(context, doing, |context| {
        context.execute_without_session(|context| {
            context.start_auth_session(
                Some(parent),
                None,
                None,
                kind,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
        })
    });
    let session = session?.ok_or_else(|| {
        DeviceError::new(Cause::Malformed, Remedy::Restart, format!("{doing}: there is none"))
    })?;
    // libtss2 leaves off what a command has no parameter for.
    let (attributes, mask) = SessionAttributesBuilder::new()
        .with_continue_session(true)
        .with_decrypt(true)
        .with_encrypt(true)
        .build();
    context
        .tr_sess_set_attributes(session, attributes, mask)
        .map_err(|error| fault(doing, &error))?;
    Ok(session)
}

/// Of a digest that the TPM did not make itself.
fn unchecked_hash() -> Result<HashcheckTicket, Error> {
    HashcheckTicket::try_from(tss_esapi::tss2_esys::TPMT_TK_HASHCHECK {
        tag: tss_esapi::constants::tss::TPM2_ST_HASHCHECK,
        hierarchy: tss_esapi::constants::tss::TPM2_RH_NULL,
        digest: Default::default(),
    })
}

/// The raw JWS signature: R‖S at fixed width for ECDSA (RFC 7518 section 3.4), as long as the modulus for
/// RSA. A TPM may leave leading zeros out.
fn raw_signature(
    signature: &Signature,
    algorithm: Algorithm,
    length: usize,
) -> Result<Vec<u8>, DeviceError> {
    let malformed = || {
        let detail = format!("the TPM gave a signature that is none for {algorithm}");
        DeviceError::new(Cause::Malformed, Remedy::Restart, detail)
    };
    let padded = |bytes: &[u8], width: usize| {
        let zeros = width.checked_sub(bytes.len())?;
        Some([&vec![0; zeros][..], bytes].concat())
    };
    let raw = match signature {
        Signature::EcDsa(ecc) => {
            let half = |bytes: &[u8]| padded(bytes, length / 2);
            half(ecc.signature_r().value())
                .zip(half(ecc.signature_s().value()))
                .map(|(r, s)| [r, s].concat())
        }
        Signature::RsaSsa(rsa) | Signature::RsaPss(rsa) => padded(rsa.signature().value(), length),
        _ => None,
    };
    raw.ok_or_else(malformed)
}

/// Whether the TPM says that it cannot use a blob: it is another TPM's, its owner hierarchy was cleared
/// since, or it is damaged.
pub(crate) fn is_foreign(error: &Error) -> bool {
    tpm_code(error).is_some()
        && matches!(fault("", error).remedy, Remedy::Refuse)
        && !is_refused(error)
}
