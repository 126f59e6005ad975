//! What attestation needs of a connection: primary keys of the endorsement hierarchy, and policy sessions, each
//! flushed whatever becomes of their use.

use std::time::Duration;

use mintwarden_worker::{
    device::{Cause, DeviceError, KeyHandle, Remedy},
    watch,
};
use tss_esapi::{
    Context, Error,
    constants::SessionType,
    handles::{KeyHandle as Loaded, ObjectHandle, SessionHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::Hierarchy,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{Digest, EncryptedSecret, IdObject, Public, SymmetricDefinition},
};

use super::{Connection, salted};
use crate::{
    command,
    fault::{describe, fault, is_refused},
};

impl Connection {
    /// The storage key.
    pub(crate) fn parent(&self) -> Loaded {
        self.parent
    }

    /// Gives a command that takes the authorisation value of a loaded key, by the salted session, and the empty one of
    /// a second key.
    pub(crate) fn authorised<T>(
        &mut self,
        doing: &str,
        mut work: impl FnMut(&mut Context) -> Result<T, Error>,
    ) -> Result<T, DeviceError> {
        let sessions = (Some(self.session), Some(AuthSession::Password), None);
        command::run(self.context(), doing, |context| {
            context.execute_with_sessions(sessions, &mut work)
        })
    }

    /// Makes a primary key of the endorsement hierarchy, whose authorisation value is empty, does something with
    /// it, and flushes it. Keys give up their places for it, but for the one that is `needed`; `patience` is
    /// what the making may take beyond the bound on other calls.
    pub(crate) fn with_endorsement_primary<T>(
        &mut self,
        doing: &str,
        patience: Duration,
        needed: Option<&KeyHandle>,
        template: &Public,
        work: impl FnOnce(&mut Self, Loaded) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let created = watch::call_with_patience(patience, || {
            self.with_room(needed, |context| {
                context.execute_with_session(Some(AuthSession::Password), |context| {
                    let template = template.clone();
                    context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
                })
            })
        });
        let primary = created.map_err(|error| endorsement_fault(doing, &error))?.key_handle;
        let done = work(self, primary);
        self.flushing(primary.into(), done)
    }

    /// Begins a policy session, does something with it, and flushes it.
    pub(crate) fn with_policy_session<T>(
        &mut self,
        work: impl FnOnce(&mut Self, PolicySession) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let doing = "beginning a policy session";
        let session = command::run(self.context(), doing, |context| {
            context.execute_without_session(|context| {
                let (aes, sha256) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
                context.start_auth_session(None, None, None, SessionType::Policy, aes, sha256)
            })
        })?;
        let session = session.ok_or_else(|| {
            DeviceError::new(Cause::Malformed, Remedy::Restart, format!("{doing}: there is none"))
        })?;
        self.in_session(session, work)
    }

    /// The same, with a session whose key nobody on the way to the TPM can know, and with encrypted parameters.
    pub(crate) fn with_salted_policy_session<T>(
        &mut self,
        work: impl FnOnce(&mut Self, PolicySession) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let parent = self.parent;
        let session = salted(self.context(), parent, SessionType::Policy)?;
        self.in_session(session, work)
    }

    fn in_session<T>(
        &mut self,
        session: AuthSession,
        work: impl FnOnce(&mut Self, PolicySession) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let doing = "beginning a policy session";
        let policy = PolicySession::try_from(session).map_err(|error| fault(doing, &error));
        let done = policy.and_then(|policy| work(self, policy));
        self.flushing(SessionHandle::from(session).into(), done)
    }

    /// Satisfies an endorsement key's policy, that of the TCG EK Credential Profile: the endorsement hierarchy's
    /// authorisation value, which is empty.
    pub(crate) fn satisfy_endorsement(&mut self, policy: PolicySession) -> Result<(), DeviceError> {
        let satisfied = command::raw(self.context(), |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                let endorsement = tss_esapi::handles::AuthHandle::Endorsement;
                let (nonce, digest) = (Default::default(), Default::default());
                context.policy_secret(policy, endorsement, nonce, digest, Default::default(), None)
            })
        });
        let doing = "satisfying the endorsement key's policy";
        satisfied.map(|_| ()).map_err(|error| endorsement_fault(doing, &error))
    }

    /// TPM2_ActivateCredential: what a credential holds that is for the endorsement key `ek` and the name of `ak`.
    pub(crate) fn activate(
        &mut self,
        ak: Loaded,
        ek: Loaded,
        policy: PolicySession,
        credential: &IdObject,
        secret: &EncryptedSecret,
    ) -> Result<Digest, Error> {
        let sessions = (Some(AuthSession::Password), Some(AuthSession::from(policy)), None);
        command::raw(self.context(), |context| {
            context.execute_with_sessions(sessions, |context| {
                context.activate_credential(ak, ek, credential.clone(), secret.clone())
            })
        })
    }

    /// What was done, once the object or session is flushed.
    pub(super) fn flushing<T>(
        &mut self,
        object: ObjectHandle,
        done: Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let flushed =
            command::run(self.context(), "flushing what was needed for a while", |context| {
                context.flush_context(object)
            });
        let done = done?;
        flushed.map(|()| done)
    }
}

/// As [`fault`], but that somebody gave the endorsement hierarchy an authorisation value says nothing of the device
/// secret: keys go on to sign.
fn endorsement_fault(doing: &str, error: &Error) -> DeviceError {
    if !is_refused(error) {
        return fault(doing, error);
    }
    let detail = format!(
        "{doing}: {}: the endorsement hierarchy has an authorisation value, which Mintwarden does not ask for; \
         without it there is no attestation",
        describe(error)
    );
    DeviceError::new(Cause::MechanismMissing, Remedy::Refuse, detail)
}
